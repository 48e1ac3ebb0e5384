use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::key::Instant;
use crate::record::Head;

/// The end of the history: to be kept elsewhere, and held against the store later.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// `sequence:mac`, the form that `check --against` takes.
    pub head: String,
    /// The last entry's number; 0 before the first.
    pub sequence: u64,
    /// Its MAC, 64 hexadecimal digits.
    pub mac: String,
}

/// The store's files as they were at one moment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// Their directory, on the daemon's host.
    pub path: String,
    /// The end of the history in it, `sequence:mac`.
    pub head: String,
    /// Which store, 32 hexadecimal digits.
    pub store_id: String,
    /// Which pepper its secrets need.
    pub pepper_id: String,
    /// And the one before, while some need it.
    pub previous_pepper_id: Option<String>,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub made_at: Instant,
}

/// What a check found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckReportView {
    /// Whether nothing is wrong.
    pub clean: bool,
    /// The store's directory.
    pub store: String,
    /// The end of the history, as `check --against` takes it.
    pub head: String,
    /// What was looked at.
    pub parts: Vec<CheckPartView>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A part of a check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckPartView {
    /// What it is, in a word.
    pub part: String,
    /// How much was looked at.
    pub checked: u64,
    /// What is counted.
    pub unit: String,
    /// What is wrong, a sentence each; at most 100.
    pub faults: Vec<String>,
    /// How many faults more there are.
    pub more_faults: u64,
    /// What the reader should know besides.
    pub note: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How far a check has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// The part that is looked at.
    pub part: String,
    /// Rows of it so far.
    pub done: u64,
    /// About how many there are.
    pub about: u64,
}

/// A line of a running check: progress, and last of all the report.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckLine {
    /// How far it has come.
    Progress(ProgressView),
    /// What it found. The last line.
    Report(CheckReportView),
}

impl From<Head> for HeadView {
    fn from(head: Head) -> HeadView {
        let text = head.to_string();
        let mac = text.split_once(':').map_or("", |(_, mac)| mac).to_owned();
        HeadView { sequence: head.sequence, mac, head: text }
    }
}
