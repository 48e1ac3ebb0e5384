use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keys::beside_settings;
use crate::key::{Instant, KeyId, Settings};

/// One line of an import or export.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "LineFields")]
pub struct KeyLine {
    /// The key's id, in an export with digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<KeyId>,
    /// Its settings.
    #[serde(flatten)]
    pub settings: Settings,
    /// A token made elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The SHA-256 of a token made elsewhere, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_sha256: Option<String>,
    /// Every secret, in an export with digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretLine>>,
    /// When it was deleted, in an export with digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Instant>,
}

/// A secret in an export with digests.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretLine {
    /// Counts from 1.
    pub version: u16,
    /// HMAC-SHA-256(pepper, SHA-256(token)), 64 hexadecimal digits.
    pub digest: String,
    /// Which pepper, 16 hexadecimal digits.
    pub pepper_id: String,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub created_at: Instant,
    /// RFC 3339.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub retires_at: Option<Instant>,
    /// RFC 3339.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Instant>,
}

/// What became of an import. A refused batch changes nothing; the batches before it stay.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImportView {
    /// Keys imported.
    pub imported: u64,
    /// For lines that asked for a token to be made: where each landed, in the order of the lines.
    pub generated: Vec<GeneratedView>,
}

/// A token made during an import.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct GeneratedView {
    /// The key's id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// Its account.
    pub account: String,
    /// Its name.
    pub name: String,
    /// The token, told this once.
    pub token: String,
}

/// `Debug` goes to logs, and the token must not.
impl fmt::Debug for GeneratedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedView").field("id", &self.id).finish_non_exhaustive()
    }
}

/// `Debug` goes to logs, and neither token nor digest must.
impl fmt::Debug for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLine").field("id", &self.id).field("settings", &self.settings).finish_non_exhaustive()
    }
}

beside_settings! {
    /// One line of an import or export: a key's settings, with `token`, `token_sha256`, `secrets`, or none of the three.
    #[schema(as = KeyLine)]
    LineFields {
        /// The key's id, in an export with digests.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        id: Option<KeyId>,
        /// A token made elsewhere, at most 250 bytes.
        #[serde(default)]
        token: Option<String>,
        /// The SHA-256 of a token made elsewhere, 64 hexadecimal digits.
        #[serde(default)]
        token_sha256: Option<String>,
        /// Every secret, in an export with digests.
        #[serde(default)]
        secrets: Option<Vec<SecretLine>>,
        /// When it was deleted, in an export with digests.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        deleted_at: Option<Instant>,
    }
}

impl From<LineFields> for KeyLine {
    fn from(mut fields: LineFields) -> KeyLine {
        let settings = fields.take_settings();
        KeyLine {
            id: fields.id,
            settings,
            token: fields.token,
            token_sha256: fields.token_sha256,
            secrets: fields.secrets,
            deleted_at: fields.deleted_at,
        }
    }
}
