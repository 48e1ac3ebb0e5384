//! A look at everything that the store and the index hold, while both are in use.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as Watch};

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{error, info};
use utoipa::IntoParams;

use super::ask::{Ask, Asked};
use super::export::JSON_LINES;
use super::problem::{Failure, Word};
use super::routes::{ChangeProblems, ReadProblems};
use super::wire::{CheckLine, CheckPartView, CheckReportView, HeadView, ProgressView};
use crate::catalog::Head;
use crate::catalog::check::{CheckReport, Part, Progress};

/// How often progress is told.
const BETWEEN_LINES: Duration = Duration::from_millis(200);

/// What the check takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct CheckQuery {
    /// Heads that were noted earlier, `sequence:mac` each, with commas between: the history must still hold them.
    against: Option<String>,
}

/// The end of the history, to be kept elsewhere: a history that was cut off or written anew is found out by it.
#[utoipa::path(
    get, path = "/v1/history-head", operation_id = "get_history_head", tag = "history",
    responses((status = 200, description = "The number and MAC of the last entry", body = HeadView), ReadProblems)
)]
pub(super) async fn head(ask: Ask) -> Result<Json<HeadView>, Failure> {
    ask.read(|store| Ok(HeadView::from(store.head()?))).await.map(Json)
}

/// Reads every row of the store with its checksum, holds its parts and the index against one another, and verifies the history's chain. One at a time;
/// it reads the whole store, so it needs full authority.
#[utoipa::path(
    post, path = "/v1/check", operation_id = "check_store", tag = "daemon", params(CheckQuery),
    responses((status = 200, description = "JSON lines: progress, and the report last of all. A check that breaks off ends without it", body = CheckLine, content_type = "application/jsonl"), ChangeProblems)
)]
pub(super) async fn check(ask: Ask, Asked(query): Asked<CheckQuery>) -> Result<Response, Failure> {
    let heads = query.against.iter().flat_map(|heads| heads.split(',')).filter(|head| !head.is_empty());
    let against: Vec<Head> = heads.map(str::parse).collect::<Result<_, _>>().map_err(|error: String| Failure::invalid("against", error))?;
    let Ok(place) = Arc::clone(&ask.shared.checking).try_acquire_owned() else {
        return Err(Failure::new(Word::Conflict, "another check is under way: wait for its end"));
    };
    let (lines, body) = mpsc::channel(4);
    let catalog = Arc::clone(&ask.shared.state.catalog);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut told = Watch::now();
        let report = catalog.check(&against, &mut |progress| {
            if told.elapsed() < BETWEEN_LINES {
                return !lines.is_closed();
            }
            told = Watch::now();
            // A reader that is slow misses progress, and nothing else.
            !matches!(lines.try_send(line(&CheckLine::Progress(progress.into()))), Err(mpsc::error::TrySendError::Closed(_)))
        });
        match report {
            Ok(report) => {
                let faults: usize = report.parts.iter().map(|part| part.faults.len()).sum();
                if report.is_clean() {
                    info!(took_ms = report.took.as_millis() as u64, "checked: nothing is wrong");
                } else if report.is_only_another_history() {
                    error!(faults, "checked: the history is not the one whose head was noted");
                } else {
                    error!(faults, "checked: the store or the index is damaged");
                }
                // Whoever hung up does not miss it.
                let _ = lines.blocking_send(line(&CheckLine::Report(CheckReportView::from(report))));
            }
            Err(error) => info!(%error, "a check ended early"),
        }
    });
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], Body::new(Lines(body))).into_response())
}

fn line(line: &CheckLine) -> Bytes {
    // Writing to memory does not fail, and a line has no value that JSON cannot say.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// A body of lines as they are made.
struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> ProgressView {
        ProgressView { part: progress.part.to_owned(), done: progress.done, about: progress.about }
    }
}

impl From<CheckReport> for CheckReportView {
    fn from(report: CheckReport) -> CheckReportView {
        CheckReportView {
            clean: report.is_clean(),
            store: report.store.display().to_string(),
            head: report.head.to_string(),
            took_ms: report.took.as_millis() as u64,
            parts: report.parts.into_iter().map(CheckPartView::from).collect(),
        }
    }
}

impl From<Part> for CheckPartView {
    fn from(part: Part) -> CheckPartView {
        CheckPartView {
            part: part.name.to_owned(),
            checked: part.checked,
            unit: part.unit.to_owned(),
            faults: part.faults,
            more_faults: part.more_faults,
            note: part.note,
            took_ms: part.took.as_millis() as u64,
        }
    }
}
