//! The latest denials, from memory.

use std::collections::HashMap;

use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{Ask, Asked};
use super::list::page_limit;
use super::problem::Failure;
use super::routes::ReadProblems;
use super::wire::{DenialList, DenialView};
use crate::key::{KeyId, without_tokens};
use crate::store::Store;

/// What `GET /v1/denials` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DenialsQuery {
    /// Entries: 1 to 1000, by default 100. The daemon keeps some hundreds.
    limit: Option<usize>,
}

/// The latest denials, with reasons, newest first.
#[utoipa::path(
    get, path = "/v1/denials", operation_id = "list_denials", tag = "usage", params(DenialsQuery),
    responses((status = 200, description = "From memory: those since the daemon's start", body = DenialList), ReadProblems)
)]
pub(super) async fn denials(ask: Ask, Asked(query): Asked<DenialsQuery>) -> Result<Json<DenialList>, Failure> {
    let limit = page_limit(query.limit)?;
    let mut denials = ask.shared.state.door.usage.denials();
    denials.truncate(limit);
    let read = move |store: &Store| {
        let mut names: HashMap<KeyId, Option<String>> = HashMap::new();
        for denial in &denials {
            if denial.key != KeyId::NONE && !names.contains_key(&denial.key) {
                let key = store.key(denial.key)?;
                names.insert(denial.key, key.map(|key| format!("{}/{}", key.settings.account, key.settings.name)));
            }
        }
        let view = denials.into_iter().map(|denial| {
            let known = denial.key != KeyId::NONE;
            DenialView {
                at: denial.at,
                verdict: denial.verdict.as_str().to_owned(),
                key_id: known.then_some(denial.key),
                key: names.get(&denial.key).cloned().flatten(),
                version: known.then_some(denial.version),
                // A web server may send a token where the function belongs: the grammar would take it.
                function: without_tokens(&denial.function).into_owned(),
                address: denial.address,
                country: denial.country,
            }
        });
        Ok(view.collect())
    };
    ask.read(read).await.map(|denials| Json(DenialList { denials }))
}
