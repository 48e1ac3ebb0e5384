use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ImportView;
use crate::key::Instant;

/// Whether all is well, and the figures that say so.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// `ok`, or `degraded`.
    pub health: String,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub started_at: Instant,
    /// Keys by what is known without looking at the clock.
    pub keys: KeyCounts,
    /// The functions catalog.
    pub functions: FunctionCounts,
    /// The verify socket.
    pub verify: VerifyStatus,
    /// The country database; null without one.
    pub country_db: Option<CountryDbStatus>,
    /// The store.
    pub store: StoreStatus,
    /// The flush of usage counters.
    pub flush: FlushStatus,
    /// The admin socket.
    #[serde(default)]
    pub admin: AdminStatus,
}

/// Keys and secrets.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct KeyCounts {
    /// Not deleted.
    pub keys: u64,
    /// Of these, switched off.
    pub disabled: u64,
    /// Tombstones.
    pub deleted: u64,
    /// Secrets in the index.
    pub secrets: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
}

/// Functions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct FunctionCounts {
    /// Registered.
    pub registered: u64,
    /// Of these, restricted.
    pub restricted: u64,
    /// Whether strict mode is on.
    pub strict: bool,
}

/// The verify socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct VerifyStatus {
    /// Open connections.
    pub connections: u64,
    /// The most that were open at a time.
    #[serde(default)]
    pub most_connections: u64,
    /// The most that are allowed.
    pub max_connections: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections refused since the start.
    pub refused: u64,
    /// The same by reason: `limit`, `descriptors`, `threads`, `forbidden`.
    #[serde(default)]
    pub refused_by: BTreeMap<String, u64>,
    /// Connections that ended since the start, by reason.
    #[serde(default)]
    pub ended: BTreeMap<String, u64>,
    /// Frames that broke the protocol since the start.
    pub protocol_errors: u64,
    /// Tokens since the start whose answers were held back, because none of their sender's belongs to a key.
    #[serde(default)]
    pub held_back: u64,
    /// Verifies since the start.
    pub verifies: u64,
    /// Verifies in the last whole second.
    pub per_second: u64,
    /// Verifies since the start by verdict.
    pub verdicts: BTreeMap<String, u64>,
}

/// The country database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CountryDbStatus {
    /// Its file.
    pub path: String,
    /// What it calls itself.
    pub database_type: String,
    /// When it was built, as it says itself.
    #[schema(value_type = String)]
    pub built_at: Instant,
    /// When it was loaded.
    #[schema(value_type = String)]
    pub loaded_at: Instant,
    /// Ranges of addresses in memory.
    pub ranges: u64,
}

/// The store.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// Its directory.
    pub path: String,
    /// Changes so far.
    pub sequence: u64,
    /// Why changes are refused, if they are.
    pub refusing_changes: Option<String>,
    /// Keys that are revoked, disabled or deleted in memory only, since the disk refused that.
    #[serde(default)]
    pub in_memory_only: u64,
    /// Bytes on disk: all files in that directory.
    pub bytes: u64,
    /// The pepper's id.
    pub pepper_id: String,
    /// The previous pepper's id, while one is kept.
    pub previous_pepper_id: Option<String>,
    /// Secrets that may still be good and are under another pepper than the current one.
    pub other_pepper_secrets: u64,
}

/// The flush of usage counters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct FlushStatus {
    /// How often.
    pub interval_ms: u64,
    /// When the last one ended well.
    #[schema(value_type = Option<String>)]
    pub last_at: Option<Instant>,
    /// How long it took.
    pub last_us: u64,
    /// Rows written by it.
    pub last_rows: u64,
    /// How long ago the oldest verify may have been counted that is not in the store, in milliseconds.
    #[serde(default)]
    pub lag_ms: u64,
    /// Rows of the counters that are not being written yet.
    #[serde(default)]
    pub rows: u64,
    /// Rows from which functions are folded.
    #[serde(default)]
    pub most_rows: u64,
    /// Rows written since the start.
    #[serde(default)]
    pub rows_written: u64,
    /// Flushes that failed since the start; their counts are kept for the next.
    pub failures: u64,
    /// Why the last one failed, if it did.
    pub failing: Option<String>,
    /// Verifies whose function was folded into `(other)` or that count in an earlier minute, because the counters were full.
    pub folded: u64,
    /// Verifies that found no room at all and were not counted.
    pub lost: u64,
}

/// The admin socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct AdminStatus {
    /// Open connections, this one included.
    pub connections: u64,
    /// The most that are allowed.
    pub max_connections: u64,
    /// Requests refused since the start, because the peer may not do that.
    pub forbidden: u64,
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:doorward:problem:` and a stable word.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, in general.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What it is this time, and what to do.
    pub detail: String,
    /// The field that is wrong, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The line of an import that is wrong, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What an import had done before the error: those keys stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportView>,
}
