//! The store's files as they are at one moment, for whoever copies them: `doorward backup`.

use axum::Json;
use axum::http::StatusCode;

use super::ask::Ask;
use super::problem::{Failure, Word};
use super::routes::ChangeProblems;
use super::wire::CheckpointView;
use crate::store::StoreError;

/// Makes a checkpoint of the store: a directory beside it, of links to its tables and copies of the rest, for a backup to copy. Whoever copies it holds a shared
/// `flock` on the directory. One that nobody copies any more is replaced.
#[utoipa::path(
    post, path = "/v1/checkpoint", operation_id = "make_checkpoint", tag = "daemon",
    responses((status = 201, description = "Where it is, and what it is of", body = CheckpointView), ChangeProblems)
)]
pub(super) async fn make(ask: Ask) -> Result<(StatusCode, Json<CheckpointView>), Failure> {
    let (checkpoint, store_id) = ask
        .read(|store| {
            let made = store.checkpoint().map_err(|error| match error {
                StoreError::CheckpointHeld(_) => Failure::new(Word::Busy, error.to_string()),
                error => Failure::from(error),
            })?;
            Ok((made, store.store_id()?))
        })
        .await?;
    let catalog = &ask.shared.state.catalog;
    let view = CheckpointView {
        path: checkpoint.path.display().to_string(),
        head: checkpoint.head.to_string(),
        store_id: store_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        pepper_id: catalog.pepper().to_string(),
        previous_pepper_id: catalog.previous_pepper().map(|pepper| pepper.to_string()),
        made_at: ask.now(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Removes the checkpoint, if nobody copies it.
#[utoipa::path(
    delete, path = "/v1/checkpoint", operation_id = "remove_checkpoint", tag = "daemon",
    responses((status = 204, description = "There is none any more"), ChangeProblems)
)]
pub(super) async fn remove(ask: Ask) -> Result<StatusCode, Failure> {
    let dropped = ask.read(|store| Ok(store.drop_checkpoint()?)).await?;
    if dropped { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::new(Word::Busy, "the checkpoint is being copied")) }
}
