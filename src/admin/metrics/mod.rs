//! `/metrics`: what a monitoring system reads. Labels have fixed sets of values; no account, key, function or address is ever one.

mod listener;
mod process;
mod text;

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::ask::Ask;
use super::health::{StoreFailures, With, troubles};
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::server::Shared;
use crate::key::history::Action;
use crate::key::{Span, State, Verdict};

pub(super) use listener::listen;
use text::{Family, Format};

/// How long ahead expiries are counted, and what that is called.
const WITHIN: [(&str, Span); 3] = [("1d", Span(86_400_000)), ("7d", Span(7 * 86_400_000)), ("30d", Span(30 * 86_400_000))];

/// How long the verify socket took to serve.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latency {
    /// Upper bound in seconds, the last one infinite, and how many took so long, but longer than the bound before.
    pub buckets: Vec<(f64, u64)>,
    /// Seconds of all together.
    pub total_seconds: f64,
}

/// Figures for a monitoring system.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "daemon",
    params(("Accept" = Option<String>, Header, description = "`text/plain` preferred to `application/openmetrics-text`: Prometheus's older format")),
    responses(
        (status = 200, description = "OpenMetrics 1.0", body = String, content_type = "application/openmetrics-text"),
        ReadProblems
    )
)]
pub(super) async fn metrics(ask: Ask) -> Result<Response, Failure> {
    let accept = ask.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    Ok(([(header::CONTENT_TYPE, format.content_type())], page(&ask.shared, format).await?).into_response())
}

/// The page as of now, made on a thread that may wait for the disk.
async fn page(shared: &Arc<Shared>, format: Format) -> Result<String, Failure> {
    let shared = Arc::clone(shared);
    let made = tokio::task::spawn_blocking(move || format.page(families(&shared)));
    let failed = |_| Failure::new(Word::Internal, "the daemon failed on this request; its log says where");
    made.await.map_err(failed)?.map_err(|error| Failure::new(Word::Internal, error.to_string()))
}

fn families(shared: &Shared) -> Vec<Family> {
    let mut families = vec![Family::info("doorward_build", "The daemon's version.", "version", env!("CARGO_PKG_VERSION"))];
    families.extend(health(shared));
    families.extend(verify(shared));
    families.extend(keys(shared));
    families.extend(flush(shared));
    families.extend(store(shared));
    families.extend(admin(shared));
    families.extend(process::families(shared.state.started_at));
    families
}

fn health(shared: &Shared) -> Vec<Family> {
    let state = &shared.state;
    let troubles = troubles(state, &(state.flush_status)(), &StoreFailures::of(state.catalog.store()));
    let with = |with: With| troubles.iter().filter(|trouble| trouble.with == with).count() as u64;
    vec![
        Family::gauge("doorward_degraded", "1 if anything is wrong, as `doorward status` has it.", !troubles.is_empty()),
        Family::gauges(
            "doorward_problems",
            "What is wrong at this moment, by what has it.",
            "with",
            With::ALL.map(|which| (which.as_str(), with(which))),
        ),
    ]
}

fn verify(shared: &Shared) -> Vec<Family> {
    let verify = (shared.state.verify_status)();
    let latency = (shared.state.latency)();
    let verdicts = Verdict::ALL.map(|verdict| (verdict.as_str(), verify.verdicts.get(verdict.as_str()).copied().unwrap_or(0)));
    vec![
        Family::counters("doorward_verifies", "Verifies that were answered, by verdict.", "verdict", verdicts),
        Family::histogram(
            "doorward_verify_serving",
            "From the return of a read on the verify socket until its answers were written, however many requests it held. \
             One read in 16 is timed, and none that has a handshake.",
            latency.buckets,
            latency.total_seconds,
        )
        .seconds(),
        Family::gauge("doorward_verify_connections", "Open connections of the verify socket.", verify.connections),
        Family::gauge("doorward_verify_connections_most", "The most that were open at a time.", verify.most_connections),
        Family::gauge("doorward_verify_connections_limit", "The most that verify.max_connections allows.", verify.max_connections),
        Family::counter("doorward_verify_connections_accepted", "Connections accepted.", verify.accepted),
        Family::counters("doorward_verify_connections_refused", "Connections refused, by reason.", "reason", verify.refused_by),
        Family::counters("doorward_verify_connections_ended", "Connections that ended, by reason.", "reason", verify.ended),
        Family::counter("doorward_verify_protocol_errors", "Frames that broke the protocol.", verify.protocol_errors),
        Family::counter(
            "doorward_verify_held_back",
            "Tokens whose answers were held back, because none of their sender's belongs to a key.",
            verify.held_back,
        ),
    ]
}

fn keys(shared: &Shared) -> Vec<Family> {
    let state = &shared.state;
    let (catalog, index) = (&state.catalog, &state.door.index);
    let standings = catalog.standings(&WITHIN.map(|(_, span)| span));
    let counts = catalog.counts();
    let expiring = WITHIN.iter().map(|(name, _)| *name).zip(standings.expiring);
    let database = state.door.geo.describe();
    let built = database.as_ref().map(|database| database.built_at.0 as f64 / 1e3);
    vec![
        Family::gauges("doorward_keys", "Keys by state.", "state", State::ALL.map(|at| (at.as_str(), standings.keys[at as usize]))),
        Family::gauges("doorward_keys_expiring", "Keys that are good until they expire within this time.", "within", expiring),
        Family::gauge_if_any(
            "doorward_next_expiry_timestamp",
            "When the next key expires that is good until then, since 1970. No sample if none does.",
            standings.next_expiry.map(|at| at.0 as f64 / 1e3),
        )
        .seconds(),
        Family::gauge("doorward_secrets", "Secrets in the index, those of deleted keys and revoked ones included.", index.secrets() as u64),
        Family::gauge(
            "doorward_secrets_other_pepper",
            "Secrets that may still be good and are under another pepper than the current one: a change of peppers is over at 0.",
            standings.other_pepper,
        ),
        Family::gauge("doorward_index", "Memory of the index.", index.bytes() as u64).bytes(),
        Family::gauges(
            "doorward_functions",
            "Registered functions, by whether they are restricted.",
            "restricted",
            [("no", counts.functions - counts.restricted), ("yes", counts.restricted)],
        ),
        Family::gauge("doorward_strict", "1 if functions that are not registered are denied to wildcards, too.", index.strict()),
        Family::gauge_if_any(
            "doorward_country_db_built_timestamp",
            "When the country database was built, since 1970. No sample without one.",
            built,
        )
        .seconds(),
    ]
}

fn flush(shared: &Shared) -> Vec<Family> {
    let flush = (shared.state.flush_status)();
    let seconds = |milliseconds: u64| milliseconds as f64 / 1e3;
    vec![
        Family::gauge("doorward_usage_lag", "How long ago the oldest verify may have been counted that is not in the store.", {
            seconds(flush.lag_ms)
        })
        .seconds(),
        Family::gauge("doorward_usage_interval", "How often usage is written, as configured.", seconds(flush.interval_ms)).seconds(),
        Family::gauge("doorward_usage_flush", "How long the last flush took that wrote anything.", flush.last_us as f64 / 1e6).seconds(),
        Family::gauge("doorward_usage_rows", "Rows of the counters that are not being written yet.", flush.rows),
        Family::gauge("doorward_usage_rows_limit", "Rows from which functions are folded.", flush.most_rows),
        Family::counter("doorward_usage_rows_written", "Rows of usage that were written to the store.", flush.rows_written),
        Family::counter("doorward_usage_flush_failures", "Flushes that failed; their counts are kept for the next.", flush.failures),
        Family::gauge("doorward_usage_failing", "1 if the last flush failed.", flush.failing.is_some()),
        Family::counter(
            "doorward_usage_folded",
            "Verifies counted under (other) or in an earlier minute, because the counters were full.",
            flush.folded,
        ),
        Family::counter("doorward_usage_lost", "Verifies that found no room in the counters and were not counted.", flush.lost),
    ]
}

fn store(shared: &Shared) -> Vec<Family> {
    let catalog = &shared.state.catalog;
    let store = catalog.store();
    let changes = Action::ALL.map(Action::as_str).into_iter().zip(catalog.changes());
    vec![
        Family::gauge("doorward_store", "All files of the store.", store.bytes()).bytes(),
        Family::counter("doorward_store_failed_reads", "Reads of the store that failed.", store.failed_reads()),
        Family::gauge("doorward_store_in_memory_only", "Keys that are revoked, disabled or deleted in memory only.", store.held() as u64),
        Family::counter("doorward_store_background_errors", "Errors that RocksDB met with in the background.", store.background_errors()),
        Family::gauge("doorward_store_refusing_changes", "1 if changes are refused until a restart.", catalog.refusing().is_some()),
        Family::gauge("doorward_history_sequence", "Changes in the history, those of earlier starts included.", catalog.sequence()),
        Family::counters("doorward_changes", "Changes that became durable, by action; one for each key.", "action", changes),
    ]
}

fn admin(shared: &Shared) -> Vec<Family> {
    let (status, counters) = (shared.counters.status(), &shared.counters);
    vec![
        Family::gauge("doorward_admin_connections", "Open connections of the admin socket.", status.connections),
        Family::gauge("doorward_admin_connections_limit", "The most that are allowed.", status.max_connections),
        Family::counter(
            "doorward_admin_connections_refused",
            "Connections closed at once, because there were too many.",
            counters.crowded(),
        ),
        Family::counters(
            "doorward_admin_requests",
            "Requests answered, by outcome: ok, or the word of the problem.",
            "outcome",
            counters.outcomes(),
        ),
    ]
}
