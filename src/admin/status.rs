//! Whether all is well, and the figures that say so.

use axum::Json;

use super::ask::Ask;
use super::health::{StoreFailures, troubles};
use super::problem::Failure;
use super::routes::ReadProblems;
use super::wire::{CountryDbStatus, FunctionCounts, KeyCounts, StatusView, StoreStatus};

/// Whether all is well, and the figures that say so.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "get_status", tag = "daemon",
    responses((status = 200, description = "The daemon, its sockets, its store and its country database", body = StatusView), ReadProblems)
)]
pub(super) async fn status(ask: Ask) -> Result<Json<StatusView>, Failure> {
    let state = &ask.shared.state;
    let (bytes, path, failures) =
        ask.read(|store| Ok((store.bytes(), store.path().display().to_string(), StoreFailures::of(store)))).await?;
    let counts = state.catalog.counts();
    let index = &state.door.index;
    let refusing_changes = state.catalog.refusing();
    let verify = (state.verify_status)();
    let flush = (state.flush_status)();
    let country_db = state.door.geo.describe().map(|database| CountryDbStatus {
        path: database.path.display().to_string(),
        database_type: database.database_type,
        built_at: database.built_at,
        loaded_at: database.loaded_at,
        ranges: database.ranges as u64,
    });
    let problems: Vec<String> = troubles(state, &flush, &failures).into_iter().map(|trouble| trouble.sentence).collect();
    Ok(Json(StatusView {
        health: if problems.is_empty() { "ok" } else { "degraded" }.to_owned(),
        problems,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: state.started_at,
        keys: KeyCounts {
            keys: counts.keys,
            disabled: counts.disabled,
            deleted: counts.deleted,
            secrets: index.secrets() as u64,
            index_bytes: index.bytes() as u64,
        },
        functions: FunctionCounts { registered: counts.functions, restricted: counts.restricted, strict: index.strict() },
        verify,
        country_db,
        store: StoreStatus {
            path,
            sequence: state.catalog.sequence(),
            refusing_changes,
            in_memory_only: failures.held,
            bytes,
            pepper_id: state.catalog.pepper().to_string(),
            previous_pepper_id: state.catalog.previous_pepper().map(|pepper| pepper.to_string()),
            other_pepper_secrets: state.catalog.standings(&[]).other_pepper,
        },
        flush,
        admin: ask.shared.counters.status(),
    }))
}
