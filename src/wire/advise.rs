use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PatchFields;
use crate::key::{Instant, KeyId, Patch};

/// What could be tightened.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdviceList {
    /// By key, in order of creation; of one key the most pressing first.
    pub advice: Vec<AdviceView>,
    /// All that was found: more than `advice` has where `limit` cut it.
    pub total: u64,
    /// Keys that were looked at.
    pub keys: u64,
}

/// One thing that could be tightened or wants a look.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdviceView {
    /// The key.
    #[schema(value_type = String)]
    pub key_id: KeyId,
    /// Its `account/name`.
    pub key: String,
    /// Its revision, to guard the change with.
    pub revision: u64,
    /// What kind of advice, in a word.
    #[schema(example = "unused_grant")]
    pub kind: String,
    /// What was seen, in a sentence with its figures.
    pub evidence: String,
    /// From when on that was looked at.
    #[schema(value_type = String)]
    pub since: Instant,
    /// The command that acts on it, quoted for a shell.
    pub command: String,
    /// The change that the command makes, as `PATCH /v1/keys/{key}` takes it; null where a person has to decide.
    #[schema(value_type = Option<PatchFields>)]
    pub edit: Option<Patch>,
}
