use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::key::history::{Action, Actor};
use crate::key::{FunctionName, Instant, KeyId};

/// A history entry.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Counts every change of the store from 1.
    pub sequence: u64,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub at: Instant,
    /// Who: `uid`, `user` and, if said, `as`.
    #[schema(value_type = Object)]
    pub actor: Actor,
    /// What was done.
    #[schema(value_type = String)]
    pub action: Action,
    /// To which key.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// Or to which function.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Field by field.
    pub changes: Vec<FieldChangeView>,
    /// The entry's link in the chain, 64 hexadecimal digits.
    pub mac: String,
}

/// A field before and after a change; null where it did not exist.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FieldChangeView {
    /// Its name.
    pub field: String,
    /// Its value before.
    pub before: serde_json::Value,
    /// Its value after.
    pub after: serde_json::Value,
}

/// A page of history, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistoryPage {
    /// The entries.
    pub entries: Vec<HistoryView>,
    /// What to give as `before` for the next page; null on the last.
    pub next: Option<u64>,
}

/// A function of the catalog.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FunctionView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: FunctionName,
    /// Never covered by a wildcard.
    pub restricted: bool,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub created_at: Instant,
    /// After a removal: the keys that lost a grant by name.
    #[schema(value_type = Vec<String>)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyId>,
}

/// The catalog.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FunctionList {
    /// Whether a function that is not registered is denied even to a wildcard.
    pub strict: bool,
    /// By name.
    pub functions: Vec<FunctionView>,
}

/// What `functions add` takes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionBody {
    /// Its name.
    #[schema(value_type = String)]
    pub name: FunctionName,
    /// Never covered by a wildcard.
    #[serde(default)]
    pub restricted: bool,
}

/// What `functions restrict` and `unrestrict` take.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestrictBody {
    /// Never covered by a wildcard.
    pub restricted: bool,
}
