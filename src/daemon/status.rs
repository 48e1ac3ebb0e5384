//! The figures that the admin socket shows of rooms that it does not know.

use std::sync::Arc;

use crate::admin::wire::{FlushStatus, VerifyStatus};
use crate::flush::Flush;
use crate::key::Verdict;
use crate::verify::Door;
use crate::verify_socket::VerifySocket;

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
            refused: figures.refused,
            protocol_errors: figures.protocol_errors,
            verifies: totals.iter().sum(),
            per_second: flush.status().per_second,
            verdicts: verdicts.map(|(verdict, count)| (verdict.to_string(), count)).collect(),
        }
    })
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
            failures: status.failures,
            failing: status.failing,
            folded: status.folded,
            lost: status.lost,
        }
    })
}
