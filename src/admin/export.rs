//! Every key as JSON lines, a page at a time, as fast as the peer reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tracing::warn;
use utoipa::IntoParams;

use super::access::Authority;
use super::ask::{Ask, Asked};
use super::problem::Failure;
use super::routes::{ReadProblems, forbidden};
use super::view;
use super::wire::LineFields;
use crate::key::{Key, KeyId};
use crate::store::{Store, StoreError};

/// Keys that are read at once. Between two pages nothing of the store is held, however slowly the peer reads.
const PAGE: usize = 1_000;
/// How long the peer may leave a page unread before the export is given up.
const READ_TIME: Duration = Duration::from_secs(60);
/// The media type of JSON lines.
pub(super) const JSON_LINES: &str = "application/jsonl";

/// What the export takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// With ids, every secret's digest, and deleted keys, for a store with the same pepper. Needs full authority.
    digests: bool,
}

/// Every key that is not deleted (with digests: every key), a JSON object a line, in the form that the import takes.
#[utoipa::path(
    get, path = "/v1/export", operation_id = "export_keys", tag = "transfer", params(ExportQuery),
    responses((status = 200, description = "JSON lines. An export that breaks off ends without the last chunk of HTTP's chunked encoding", body = LineFields, content_type = "application/jsonl"), ReadProblems)
)]
pub(super) async fn export(ask: Ask, Asked(query): Asked<ExportQuery>) -> Result<Response, Failure> {
    let authority = ask.shared.state.access.read().authority(&ask.peer);
    if query.digests && authority < Authority::Full {
        ask.shared.counters.forbid(&ask.peer, "GET /v1/export?digests=true");
        return Err(forbidden(&ask.peer, authority));
    }
    // One page ahead of the peer.
    let (pages, body) = mpsc::channel(1);
    tokio::spawn(produce(ask, query.digests, pages));
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], Body::new(Pages { pages: body, ended: false })).into_response())
}

/// Sends pages, and `None` behind the last. Without that the body breaks off, which is how HTTP says that this is not all: the status is
/// sent long before.
async fn produce(ask: Ask, digests: bool, pages: mpsc::Sender<Option<Bytes>>) {
    let mut after = None;
    loop {
        let page = tokio::select! {
            page = ask.search(move |store| read_page(store, after, digests)) => page,
            () = pages.closed() => return,
        };
        let Ok(page) = page else { return };
        if let Err(error) = pages.send_timeout(Some(page.lines), READ_TIME).await {
            // Who hung up is no fault of anybody's.
            if matches!(error, SendTimeoutError::Timeout(_))
                && let Some(before) = ask.shared.counters.complaints.take()
            {
                warn!(uid = ask.peer.uid, before, "admin socket: an export was given up, since nobody reads it");
            }
            return;
        }
        after = page.last;
        if after.is_none() {
            // Whoever hung up by now does not miss it.
            let _ = pages.send_timeout(None, READ_TIME).await;
            return;
        }
    }
}

/// Some lines, and the key that they end with, unless they are the last.
struct Page {
    lines: Bytes,
    last: Option<KeyId>,
}

fn read_page(store: &Store, after: Option<KeyId>, digests: bool) -> Result<Page, Failure> {
    let mut lines = Vec::new();
    let mut last = None;
    let mut count = 0;
    for key in store.keys(after).take(PAGE) {
        let key = key?;
        count += 1;
        last = Some(key.id);
        add_line(&mut lines, key, digests);
    }
    Ok(Page { lines: lines.into(), last: last.filter(|_| count == PAGE) })
}

fn add_line(lines: &mut Vec<u8>, key: Key, digests: bool) {
    // A tombstone without its secrets would come back as a key that lives.
    if key.deleted_at.is_none() || digests {
        // Writing to memory does not fail, and a key has no value that JSON cannot say.
        let _ = serde_json::to_writer(&mut *lines, &view::line(key, digests));
        lines.push(b'\n');
    }
}

/// Writes the same lines of a store that no daemon uses.
///
/// # Errors
/// The store cannot be read; or, within, `out` cannot be written.
pub fn write_keys(store: &Store, digests: bool, out: &mut dyn io::Write) -> Result<io::Result<()>, StoreError> {
    let mut lines = Vec::new();
    for key in store.keys(None) {
        lines.clear();
        add_line(&mut lines, key?, digests);
        if let Err(error) = out.write_all(&lines) {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

/// A body of pages.
struct Pages {
    pages: mpsc::Receiver<Option<Bytes>>,
    ended: bool,
}

impl HttpBody for Pages {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pages.poll_recv(context).map(|page| match page {
            Some(Some(lines)) => Some(Ok(Frame::data(lines))),
            Some(None) => {
                self.ended = true;
                None
            }
            None => Some(Err("the export broke off")),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// A body that ended like a whole one when its maker gave up would pass for a backup.
    #[tokio::test]
    async fn an_export_that_is_given_up_is_not_a_whole_one() {
        for whole in [true, false] {
            let (sender, pages) = mpsc::channel(2);
            sender.send(Some(Bytes::from_static(b"line\n"))).await.unwrap();
            if whole {
                sender.send(None).await.unwrap();
            }
            drop(sender);
            assert_eq!(Pages { pages, ended: false }.collect().await.is_ok(), whole);
        }
    }
}
