use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::key::{Instant, KeyId};

/// What was unusual.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UnusualView {
    /// The time in question begins here: with an hour.
    #[schema(value_type = String)]
    pub since: Instant,
    /// And ends here.
    #[schema(value_type = String)]
    pub until: Instant,
    /// It is compared with the time from here on, as far as was counted then.
    #[schema(value_type = String)]
    pub history_since: Instant,
    /// The gravest first, and of these the latest.
    pub findings: Vec<FindingView>,
    /// All that was found: more than `findings` has where `limit` cut it.
    pub total: u64,
    /// Keys that were used and judged.
    pub keys: u64,
    /// Keys of which neither rates nor denials nor places were judged, since they have too little history.
    pub too_young: TooYoung,
    /// Keys that were used on too few days to tell what is new: neither countries nor networks were judged.
    #[serde(default)]
    pub too_seldom: TooYoung,
}

/// Something unusual.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    /// The key; null for tokens that no key has.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// Its `account/name`.
    pub key: Option<String>,
    /// What kind, in a word.
    #[schema(example = "surge")]
    pub kind: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// When it began.
    #[schema(value_type = String)]
    pub at: Instant,
    /// What was seen: requests, networks, days or tokens, as `evidence` says.
    pub seen: u64,
    /// What was expected of the same.
    pub expected: u64,
    /// What was seen and what was expected, in a sentence.
    pub evidence: String,
    /// The command that acts on it, quoted for a shell.
    pub command: String,
}

/// Keys with too little history.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct TooYoung {
    /// How many.
    pub count: u64,
    /// Days that are needed.
    pub min_days: u32,
    /// The first thousand of them.
    pub keys: Vec<YoungKey>,
}

/// A key with too little history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct YoungKey {
    /// The key.
    #[schema(value_type = String)]
    pub key_id: KeyId,
    /// Its `account/name`.
    pub key: String,
    /// Days from its first use to the time in question; in `too_seldom`, days on which it was used.
    pub days: u32,
}
