//! The functions catalog, and the history of keys and functions.

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{Ask, Asked, FunctionPath, KeyPath, find, unexpected};
use super::body;
use super::list::page_limit;
use super::problem::{Failure, Word};
use super::routes::{ChangeProblems, ReadProblems};
use super::view;
use super::wire::{FunctionBody, FunctionList, FunctionView, HistoryPage, RestrictBody};
use crate::catalog::change::{Change, Reply};
use crate::key::history::Entry;
use crate::store::{Store, StoreError};

/// What the histories take.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Entries before this sequence: the `next` of the page before.
    before: Option<u64>,
    /// Entries of the page: 1 to 1000, by default 100.
    limit: Option<usize>,
}

/// What the removal of a function takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Also take the grants by its name from every key that has one; without it such a function is not removed.
    with_grants: bool,
}

/// The history of everything, newest first.
#[utoipa::path(
    get, path = "/v1/history", operation_id = "get_history", tag = "history", params(HistoryQuery),
    responses((status = 200, description = "A page of entries", body = HistoryPage), ReadProblems)
)]
pub(super) async fn history(ask: Ask, Asked(query): Asked<HistoryQuery>) -> Result<Json<HistoryPage>, Failure> {
    let limit = page_limit(query.limit)?;
    ask.read(move |store| Ok(page(store.history(None, query.before, limit)?, limit))).await.map(Json)
}

/// The history of a key, newest first.
#[utoipa::path(
    get, path = "/v1/keys/{key}/history", operation_id = "get_key_history", tag = "history",
    params(("key" = String, Path, description = "An id, or `account%2Fname`"), HistoryQuery),
    responses((status = 200, description = "A page of entries", body = HistoryPage), ReadProblems)
)]
pub(super) async fn key_history(ask: Ask, KeyPath(key): KeyPath, Asked(query): Asked<HistoryQuery>) -> Result<Json<HistoryPage>, Failure> {
    let limit = page_limit(query.limit)?;
    let read = move |store: &_| {
        let key = find(store, &key)?;
        Ok(page(store.history(Some(key.id), query.before, limit)?, limit))
    };
    ask.read(read).await.map(Json)
}

/// The history of a function, registered or removed, newest first.
#[utoipa::path(
    get, path = "/v1/functions/{name}/history", operation_id = "get_function_history", tag = "history",
    params(("name" = String, Path, description = "The function, percent-encoded"), HistoryQuery),
    responses((status = 200, description = "A page of entries", body = HistoryPage), ReadProblems)
)]
pub(super) async fn function_history(
    ask: Ask,
    FunctionPath(name): FunctionPath,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Json<HistoryPage>, Failure> {
    let limit = page_limit(query.limit)?;
    let read = move |store: &crate::store::Store| {
        let entries = store.function_history(&name, query.before, limit)?;
        if entries.is_empty() && store.function_history(&name, None, 1)?.is_empty() {
            return Err(Failure::new(Word::NotFound, format!("there never was a function {name}")));
        }
        Ok(page(entries, limit))
    };
    ask.read(read).await.map(Json)
}

fn page(entries: Vec<Entry>, limit: usize) -> HistoryPage {
    let next = entries.last().filter(|last| entries.len() == limit && last.sequence > 1).map(|last| last.sequence);
    HistoryPage { entries: entries.into_iter().map(view::entry).collect(), next }
}

/// The functions catalog.
#[utoipa::path(
    get, path = "/v1/functions", operation_id = "list_functions", tag = "functions",
    responses((status = 200, description = "Every registered function, by name", body = FunctionList), ReadProblems)
)]
pub(super) async fn functions(ask: Ask) -> Result<Json<FunctionList>, Failure> {
    let strict = ask.shared.state.door.index.strict();
    let functions = ask.read(|store| Ok(read_functions(store)?)).await?;
    Ok(Json(FunctionList { strict, functions }))
}

/// Every registered function of a store, by name.
///
/// # Errors
/// The store cannot be read.
pub fn read_functions(store: &Store) -> Result<Vec<FunctionView>, StoreError> {
    Ok(store.functions()?.into_iter().map(|function| view::function(function, Vec::new())).collect())
}

/// Registers a function.
#[utoipa::path(
    post, path = "/v1/functions", operation_id = "add_function", tag = "functions", request_body = FunctionBody,
    params(("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")),
    responses((status = 201, description = "The function", body = FunctionView), ChangeProblems)
)]
pub(super) async fn add(ask: Ask, body: Body) -> Result<(StatusCode, Json<FunctionView>), Failure> {
    let FunctionBody { name, restricted } = body::json(body).await?;
    Ok((StatusCode::CREATED, change(&ask, Change::FunctionAdd { name, restricted }).await?))
}

/// Restricts a function, or lifts the restriction.
#[utoipa::path(
    patch, path = "/v1/functions/{name}", operation_id = "restrict_function", tag = "functions", request_body = RestrictBody,
    params(
        ("name" = String, Path, description = "The function, percent-encoded"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The function", body = FunctionView), ChangeProblems)
)]
pub(super) async fn restrict(ask: Ask, FunctionPath(name): FunctionPath, body: Body) -> Result<Json<FunctionView>, Failure> {
    let RestrictBody { restricted } = body::json(body).await?;
    change(&ask, Change::FunctionRestrict { name, restricted }).await
}

/// Removes a function. A restricted one is not removed; one that keys grant by name only with its grants.
#[utoipa::path(
    delete, path = "/v1/functions/{name}", operation_id = "remove_function", tag = "functions",
    params(
        ("name" = String, Path, description = "The function, percent-encoded"), RemoveQuery,
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The function as it was, and the keys that lost a grant", body = FunctionView), ChangeProblems)
)]
pub(super) async fn remove(
    ask: Ask,
    FunctionPath(name): FunctionPath,
    Asked(query): Asked<RemoveQuery>,
) -> Result<Json<FunctionView>, Failure> {
    change(&ask, Change::FunctionRemove { name, with_grants: query.with_grants }).await
}

async fn change(ask: &Ask, change: Change) -> Result<Json<FunctionView>, Failure> {
    match ask.change(change).await? {
        Reply::Function { function, keys } => Ok(Json(view::function(function, keys))),
        other => Err(unexpected(&other)),
    }
}
