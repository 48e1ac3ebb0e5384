//! Changes of keys, one or many, and one key shown.

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use super::ask::{Ask, KeyPath, find, show_view, unexpected};
use super::body;
use super::problem::Failure;
use super::routes::{ChangeProblems, ReadProblems};
use super::usage;
use super::wire::{
    BulkAction, BulkBody, BulkFields, BulkView, CopyBody, CreateBody, CreateFields, KeyView, MadeView, PatchFields, RevokeBody, RotateBody,
};
use crate::catalog::change::{Change, Overlap, Patch, Reply, Selection, Target};
use crate::key::Span;

/// Makes a key.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "keys", request_body = CreateFields,
    params(("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made, for the history; percent-encoded where it is not ASCII")),
    responses(
        (status = 201, description = "The key and its token, told this once", body = MadeView, headers(("ETag" = String, description = "The key's revision"))),
        (status = 200, description = "A repeat of this request id: the same key, without the token", body = MadeView),
        ChangeProblems
    )
)]
pub(super) async fn create(ask: Ask, body: Body) -> Result<Response, Failure> {
    let CreateBody { settings, request_id } = body::json(body).await?;
    ask.make(StatusCode::CREATED, Change::Create { settings, request_id }).await
}

/// Shows a key, with the last use of each secret. By name: the key that is not deleted, else the one that was deleted last.
#[utoipa::path(
    get, path = "/v1/keys/{key}", operation_id = "get_key", tag = "keys",
    params(("key" = String, Path, description = "An id, or `account/name` percent-encoded as one segment (`account%2Fname`)")),
    responses((status = 200, description = "The key", body = KeyView, headers(("ETag" = String, description = "The key's revision"))), ReadProblems)
)]
pub(super) async fn show(ask: Ask, KeyPath(key): KeyPath) -> Result<Response, Failure> {
    let now = ask.now();
    let view = ask
        .read(move |store| {
            let key = find(store, &key)?;
            Ok(usage::with_last_uses(&key, &store.uses(key.id)?, now))
        })
        .await?;
    Ok(show_view(StatusCode::OK, view))
}

/// Changes settings of a key.
#[utoipa::path(
    patch, path = "/v1/keys/{key}", operation_id = "edit_key", tag = "keys", request_body = PatchFields,
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes; another one refuses the change"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The key as it is now", body = KeyView, headers(("ETag" = String, description = "The key's revision"))), ChangeProblems)
)]
pub(super) async fn edit(ask: Ask, KeyPath(key): KeyPath, body: Body) -> Result<Response, Failure> {
    let patch: Patch = body::json(body).await?;
    let target = Target::One { key, revision: ask.revision()? };
    ask.change_key(Change::Edit { target, patch: Box::new(patch) }).await
}

/// Deletes a key. It leaves a tombstone, which `undelete` can bring back for a configured time.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", operation_id = "delete_key", tag = "keys",
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The tombstone", body = KeyView), ChangeProblems)
)]
pub(super) async fn delete(ask: Ask, KeyPath(key): KeyPath) -> Result<Response, Failure> {
    let revision = ask.revision()?;
    ask.change_key(Change::Delete { key, revision }).await
}

/// Brings a deleted key back. By name: the one that was deleted last.
#[utoipa::path(
    post, path = "/v1/keys/{key}/undelete", operation_id = "undelete_key", tag = "keys",
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The key", body = KeyView), ChangeProblems)
)]
pub(super) async fn undelete(ask: Ask, KeyPath(key): KeyPath) -> Result<Response, Failure> {
    let revision = ask.revision()?;
    ask.change_key(Change::Undelete { key, revision }).await
}

/// Switches a key on.
#[utoipa::path(
    post, path = "/v1/keys/{key}/enable", operation_id = "enable_key", tag = "keys",
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The key", body = KeyView), ChangeProblems)
)]
pub(super) async fn enable(ask: Ask, KeyPath(key): KeyPath) -> Result<Response, Failure> {
    let target = Target::One { key, revision: ask.revision()? };
    ask.change_key(Change::Switch { target, enabled: true }).await
}

/// Switches a key off.
#[utoipa::path(
    post, path = "/v1/keys/{key}/disable", operation_id = "disable_key", tag = "keys",
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The key", body = KeyView), ChangeProblems)
)]
pub(super) async fn disable(ask: Ask, KeyPath(key): KeyPath) -> Result<Response, Failure> {
    let target = Target::One { key, revision: ask.revision()? };
    ask.change_key(Change::Switch { target, enabled: false }).await
}

/// Makes a key with the settings of another, under a new name and with a secret of its own.
#[utoipa::path(
    post, path = "/v1/keys/{key}/copy", operation_id = "copy_key", tag = "keys", request_body = CopyBody,
    params(
        ("key" = String, Path, description = "The key to copy: an id, or `account%2Fname`"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 201, description = "The new key and its token, told this once", body = MadeView), ChangeProblems)
)]
pub(super) async fn copy(ask: Ask, KeyPath(from): KeyPath, body: Body) -> Result<Response, Failure> {
    let CopyBody { name, account } = body::json(body).await?;
    ask.make(StatusCode::CREATED, Change::Copy { from, name, account }).await
}

/// Makes a new secret current, or changes the overlap of the latest rotation.
#[utoipa::path(
    post, path = "/v1/keys/{key}/rotate", operation_id = "rotate_key", tag = "keys",
    request_body(content = RotateBody, description = "May be empty: a new secret, no overlap"),
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses(
        (status = 201, description = "The new secret, told this once", body = MadeView),
        (status = 200, description = "The key (`MadeView` on a repeat of this request id, without the token; `KeyView` after `extend`, `finish` or `cancel`)", body = KeyView),
        ChangeProblems
    )
)]
pub(super) async fn rotate(ask: Ask, KeyPath(key): KeyPath, body: Body) -> Result<Response, Failure> {
    let asked: RotateBody = body::json_or_empty(body).await?;
    let revision = ask.revision()?;
    match overlap(&asked)? {
        Some(overlap) => ask.change_key(Change::Overlap { key, revision, overlap }).await,
        None => {
            let overlap = asked.overlap.unwrap_or(Span(0));
            ask.make(StatusCode::CREATED, Change::Rotate { key, revision, overlap, request_id: asked.request_id }).await
        }
    }
}

/// What a rotation asks of the overlap of the one before; `None` where it asks for a new secret.
fn overlap(asked: &RotateBody) -> Result<Option<Overlap>, Failure> {
    let given =
        [("overlap", asked.overlap.is_some()), ("extend", asked.extend.is_some()), ("finish", asked.finish), ("cancel", asked.cancel)];
    let mut given = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return Err(Failure::invalid(
            second,
            format!("{second}: excludes {first}; give at most one of overlap, extend, finish and cancel"),
        ));
    }
    let overlap = match (asked.extend, asked.finish, asked.cancel) {
        (Some(span), _, _) => Overlap::Extend(span),
        (None, true, _) => Overlap::Finish,
        (None, false, true) => Overlap::Cancel,
        (None, false, false) => return Ok(None),
    };
    if asked.request_id.is_some() {
        return Err(Failure::invalid("request_id", "request_id: only for a rotation that makes a new secret"));
    }
    Ok(Some(overlap))
}

/// Revokes one secret for good.
#[utoipa::path(
    post, path = "/v1/keys/{key}/revoke", operation_id = "revoke_secret", tag = "keys",
    request_body(content = RevokeBody, description = "May be empty: the newest secret"),
    params(
        ("key" = String, Path, description = "An id, or `account%2Fname`"),
        ("If-Match" = Option<String>, Header, description = "The revision that you have seen, in quotes"),
        ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")
    ),
    responses((status = 200, description = "The key", body = KeyView), ChangeProblems)
)]
pub(super) async fn revoke(ask: Ask, KeyPath(key): KeyPath, body: Body) -> Result<Response, Failure> {
    let RevokeBody { version } = body::json_or_empty(body).await?;
    let revision = ask.revision()?;
    ask.change_key(Change::Revoke { key, revision, version }).await
}

/// Changes every key of an account, with a tag, or both: all of them or, when one refuses, none.
#[utoipa::path(
    post, path = "/v1/keys-bulk", operation_id = "change_keys", tag = "keys", request_body = BulkFields,
    params(("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")),
    responses((status = 200, description = "Which keys changed", body = BulkView), ChangeProblems)
)]
pub(super) async fn bulk(ask: Ask, body: Body) -> Result<Json<BulkView>, Failure> {
    let BulkBody { select, action, patch } = body::json(body).await?;
    if select == Selection::default() {
        return Err(Failure::invalid("select", "select: names neither account nor tag, and would mean every key"));
    }
    let target = Target::Many(select);
    let change = match (action, patch) {
        (BulkAction::Edit, Some(patch)) => Change::Edit { target, patch: Box::new(patch) },
        (BulkAction::Edit, None) => return Err(Failure::invalid("patch", "patch: is missing; an edit needs one")),
        (BulkAction::Enable | BulkAction::Disable, Some(_)) => {
            return Err(Failure::invalid("patch", "patch: only an edit takes one"));
        }
        (BulkAction::Enable, None) => Change::Switch { target, enabled: true },
        (BulkAction::Disable, None) => Change::Switch { target, enabled: false },
    };
    match ask.change(change).await? {
        Reply::ChangedMany(changed) => Ok(Json(BulkView { changed })),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_asks_for_one_thing() {
        let read = |text: &str| overlap(&serde_json::from_str(text).unwrap());
        assert!(read("{}").unwrap().is_none());
        assert!(read(r#"{"overlap":"7d","request_id":"r"}"#).unwrap().is_none());
        assert_eq!(read(r#"{"extend":"7d"}"#).unwrap(), Some(Overlap::Extend(Span(7 * 86_400_000))));
        assert_eq!(read(r#"{"finish":true}"#).unwrap(), Some(Overlap::Finish));
        assert_eq!(read(r#"{"cancel":true,"finish":false}"#).unwrap(), Some(Overlap::Cancel));
        for (bad, field) in [
            (r#"{"overlap":"7d","extend":"7d"}"#, "extend"),
            (r#"{"finish":true,"cancel":true}"#, "cancel"),
            (r#"{"overlap":"0s","finish":true}"#, "finish"),
            (r#"{"finish":true,"request_id":"r"}"#, "request_id"),
        ] {
            assert_eq!(read(bad).unwrap_err().problem().field.as_deref(), Some(field), "{bad}");
        }
    }
}
