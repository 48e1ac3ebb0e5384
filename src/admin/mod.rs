//! The admin socket: HTTP/1.1 and JSON for those who change, list and audit keys. `docs/admin-api.md` describes it.
//!
//! ```text
//! accept → peer (kernel) → gate (authority) → handler → catalog (changes) or store (looks) → JSON
//! ```

mod access;
mod advise;
mod arrivals;
mod ask;
mod body;
mod catalog;
mod check;
mod checkpoint;
mod denials;
mod evidence;
mod export;
mod health;
mod import;
mod keys;
mod list;
mod metrics;
mod pace;
mod places;
mod problem;
mod routes;
mod searches;
mod server;
mod stall;
mod status;
#[cfg(test)]
mod tests;
mod trace;
mod unusual;
mod usage;
mod view;
mod watch;

use std::sync::Arc;

use parking_lot::RwLock;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::key::Instant;
use crate::verify::Door;
use crate::wire::{FlushStatus, VerifyStatus};

pub use access::{Access, Authority, Peer};
pub use body::{BODY_BYTES, ON_BEHALF_OF};
pub use catalog::read_functions;
pub use export::write_keys;
pub use metrics::Latency;
pub use problem::{TYPE_PREFIX, Word};
pub use routes::openapi;
pub use server::serve;

pub use crate::wire;

/// By which limits usage is judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// For `advise`.
    pub advise: crate::advise::Limits,
    /// For `unusual`.
    pub unusual: crate::unusual::Limits,
}

/// What the daemon hands in.
#[derive(Clone)]
pub struct AdminState {
    /// Makes changes, and gives the store for looks.
    pub catalog: Arc<Catalog>,
    /// The verify path's parts, for `identify`, `explain`, `denials` and countries.
    pub door: Arc<Door>,
    /// The time that verdicts go by.
    pub clock: Arc<Clock>,
    /// Who may do what. Each request asks anew, so a reload holds at once.
    pub access: Arc<RwLock<Access>>,
    /// By which limits usage is judged. Each request asks anew.
    pub judgement: Arc<RwLock<Judgement>>,
    /// When the daemon started.
    pub started_at: Instant,
    /// Figures of the verify socket.
    pub verify_status: Arc<dyn Fn() -> VerifyStatus + Send + Sync>,
    /// How long the verify socket took to serve.
    pub latency: Arc<dyn Fn() -> Latency + Send + Sync>,
    /// Figures of the flush.
    pub flush_status: Arc<dyn Fn() -> FlushStatus + Send + Sync>,
    /// What else the daemon knows to be wrong, a sentence each, such as a configuration that could not be reloaded.
    pub troubles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}
