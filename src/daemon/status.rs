//! The figures that the admin socket shows of rooms that it does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admin::Latency;
use crate::admin::wire::{FlushStatus, VerifyStatus};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::flush::Flush;
use crate::key::Verdict;
use crate::verify::Door;
use crate::verify_socket::{End, Refusal, VerifySocket};

/// A way to the figures of the verify socket.
pub(super) fn verify(socket: &VerifySocket, door: &Arc<Door>, flush: &Arc<Flush>) -> Arc<dyn Fn() -> VerifyStatus + Send + Sync> {
    let (figures, door, flush) = (socket.figures(), Arc::clone(door), Arc::clone(flush));
    Arc::new(move || {
        let figures = figures();
        let totals = door.usage.totals();
        let verdicts = Verdict::ALL.into_iter().zip(totals).filter(|(_, count)| *count > 0);
        VerifyStatus {
            connections: figures.connections,
            max_connections: figures.max_connections,
            accepted: figures.accepted,
            most_connections: figures.most_connections,
            refused: figures.refused.iter().sum(),
            refused_by: by_name(Refusal::ALL.map(Refusal::as_str), figures.refused),
            ended: by_name(End::ALL.map(End::as_str), figures.ended),
            protocol_errors: figures.protocol_errors,
            held_back: figures.held_back,
            verifies: totals.iter().sum(),
            per_second: flush.status().per_second,
            verdicts: verdicts.map(|(verdict, count)| (verdict.to_string(), count)).collect(),
        }
    })
}

/// A way to how long the verify socket took to serve.
pub(super) fn latency(socket: &VerifySocket) -> Arc<dyn Fn() -> Latency + Send + Sync> {
    let figures = socket.figures();
    Arc::new(move || {
        let latency = figures().latency;
        Latency { buckets: latency.buckets, total_seconds: latency.total_seconds }
    })
}

fn by_name<const N: usize>(names: [&str; N], counts: [u64; N]) -> BTreeMap<String, u64> {
    names.into_iter().map(str::to_owned).zip(counts).collect()
}

/// A way to the figures of the flush.
pub(super) fn flush(flush: &Arc<Flush>) -> Arc<dyn Fn() -> FlushStatus + Send + Sync> {
    let flush = Arc::clone(flush);
    Arc::new(move || {
        let status = flush.status();
        FlushStatus {
            interval_ms: status.interval_ms,
            last_at: status.last_at,
            last_us: status.last_us,
            last_rows: status.last_rows,
            lag_ms: status.lag_ms,
            rows: status.rows,
            most_rows: status.most_rows,
            rows_written: status.rows_written,
            failures: status.failures,
            failing: status.failing,
            folded: status.folded,
            lost: status.lost,
        }
    })
}

/// A way to the line that `systemctl status` shows: what is verified, and what is wrong. It may wait where the store does.
pub(super) fn line(
    socket: &VerifySocket,
    door: &Arc<Door>,
    catalog: &Arc<Catalog>,
    clock: &Arc<Clock>,
    flush: &Arc<Flush>,
    troubles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
) -> impl Fn() -> String + Send + 'static {
    let (figures, door, catalog, clock, flush) =
        (socket.figures(), Arc::clone(door), Arc::clone(catalog), Arc::clone(clock), Arc::clone(flush));
    move || {
        let mut wrong = troubles();
        wrong.extend(catalog.refusing().map(|reason| format!("changes are refused until a restart: {reason}")));
        wrong.extend(clock.warning());
        let flush = flush.status();
        wrong.extend(flush.failing.map(|reason| format!("usage cannot be written, and is kept: {reason}")));
        if flush.lost > 0 {
            wrong.push(format!("{} verifies were not counted", flush.lost));
        }
        let (secrets, connections) = (door.index.secrets(), figures().connections);
        let doing = format!("verifying {secrets} secrets over {connections} connections");
        if wrong.is_empty() { doing } else { format!("{doing}; degraded: {}", wrong.join("; ")) }
    }
}
