//! The documents that the admin API takes and gives. The command reads the same types, so the two cannot drift apart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::catalog::change::{Patch, Selection};
use crate::key::history::{Action, Actor};
use crate::key::{Country, FunctionName, Grant, Instant, KeyId, Network, Span, State, UnknownCountry};

/// A key as the interfaces show it: everything but its tokens and digests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// `key_` and 32 hexadecimal digits.
    #[schema(value_type = String, example = "key_019abc00000070008000000000000000")]
    pub id: KeyId,
    /// Unique within its account among keys that are not deleted.
    pub name: String,
    /// Whose key it is.
    pub account: String,
    /// Free text.
    pub description: String,
    /// Free names and values.
    pub tags: BTreeMap<String, String>,
    /// Where it stands now, in a word.
    #[schema(value_type = String, example = "active")]
    pub state: State,
    /// Switched on or off.
    pub enabled: bool,
    /// RFC 3339, or null.
    #[schema(value_type = Option<String>)]
    pub not_before: Option<Instant>,
    /// RFC 3339, or null.
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Instant>,
    /// Exact names, prefixes with a `*` behind, or `*`.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
    /// CIDR; empty means any address.
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// ISO 3166-1 alpha-2; empty means any country.
    #[schema(value_type = Vec<String>)]
    pub countries: Vec<Country>,
    /// `deny` or `allow`.
    #[schema(value_type = String)]
    pub unknown_country: UnknownCountry,
    /// Every secret, oldest first.
    pub secrets: Vec<SecretView>,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub created_at: Instant,
    /// RFC 3339, on a deleted key.
    #[schema(value_type = Option<String>)]
    pub deleted_at: Option<Instant>,
    /// Counts the changes; also the `ETag`.
    pub revision: u64,
}

/// One version of a key's secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Counts from 1.
    pub version: u16,
    /// `current`, `retiring`, `retired` or `revoked`.
    pub state: SecretState,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub created_at: Instant,
    /// RFC 3339, on a secret that was rotated.
    #[schema(value_type = Option<String>)]
    pub retires_at: Option<Instant>,
    /// RFC 3339, on a revoked secret.
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Instant>,
    /// The latest verify that presented it, whatever the verdict. Only where one key is shown.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Instant>,
    /// From which address.
    #[schema(value_type = Option<String>)]
    pub last_address: Option<IpAddr>,
    /// From which country.
    #[schema(value_type = Option<String>)]
    pub last_country: Option<Country>,
}

/// Where a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretState {
    /// Good, and not being replaced.
    Current,
    /// Rotated; good until it retires.
    Retiring,
    /// Rotated, and its overlap is over.
    Retired,
    /// Revoked.
    Revoked,
}

/// A page of keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyPage {
    /// In order of creation.
    pub keys: Vec<KeyView>,
    /// What to give as `after` for the next page; null on the last.
    pub next: Option<String>,
}

/// What `create` takes: the settings of section 'key', with a request id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateBody {
    /// The settings.
    #[serde(flatten)]
    pub settings: crate::key::Settings,
    /// Makes a repeat answer as the first did, without the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What `copy` takes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyBody {
    /// The new key's name.
    pub name: String,
    /// The new key's account, if it is another.
    #[serde(default)]
    pub account: Option<String>,
}

/// What `rotate` takes: at most one of `overlap`, `extend`, `finish` and `cancel`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateBody {
    /// Make a new secret; the old one stays good for this span (such as `7d`). Absent: none, the old one retires at once.
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Span>,
    /// Extend the overlap until this span from now.
    #[schema(value_type = Option<String>)]
    pub extend: Option<Span>,
    /// Retire the old secret now.
    pub finish: bool,
    /// Revoke the new secret and restore the old one.
    pub cancel: bool,
    /// Makes a repeat answer as the first did, without the token.
    pub request_id: Option<String>,
}

/// What `revoke` takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevokeBody {
    /// Which secret; the newest, if absent.
    pub version: Option<u16>,
}

/// A key or a secret that was made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MadeView {
    /// The key's id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// The token, told this once. Absent on a repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Which version of the key's secret it is.
    pub version: u16,
    /// This request had been answered before.
    pub replayed: bool,
    /// The key as it is now.
    pub key: KeyView,
}

/// A change of many keys at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkBody {
    /// Which keys.
    pub select: Selection,
    /// What to do: `enable`, `disable`, or `edit` with a patch.
    pub action: BulkAction,
    /// The patch of an `edit`.
    #[serde(default)]
    pub patch: Option<Patch>,
}

/// What a bulk change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Switch on.
    Enable,
    /// Switch off.
    Disable,
    /// Change settings.
    Edit,
}

/// What a bulk change did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BulkView {
    /// The keys that changed; those that were already so are not among them.
    #[schema(value_type = Vec<String>)]
    pub changed: Vec<KeyId>,
}

/// One line of an import or export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyLine {
    /// The key's id, in an export with digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<KeyId>,
    /// Its settings.
    #[serde(flatten)]
    pub settings: crate::key::Settings,
    /// A token made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The SHA-256 of a token made elsewhere, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_sha256: Option<String>,
    /// Every secret, in an export with digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretLine>>,
}

/// A secret in an export with digests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretLine {
    /// Counts from 1.
    pub version: u16,
    /// HMAC-SHA-256(pepper, SHA-256(token)), 64 hexadecimal digits.
    pub digest: String,
    /// Which pepper, 16 hexadecimal digits.
    pub pepper_id: String,
    /// RFC 3339.
    pub created_at: Instant,
    /// RFC 3339.
    #[serde(default)]
    pub retires_at: Option<Instant>,
    /// RFC 3339.
    #[serde(default)]
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
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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

/// Usage: rows of counts, and what is known of each secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Counted from this moment.
    #[schema(value_type = String)]
    pub since: Instant,
    /// To this one.
    #[schema(value_type = String)]
    pub until: Instant,
    /// All verifies in that time.
    pub total: u64,
    /// One row for each combination of the dimensions asked for.
    pub rows: Vec<UsageRow>,
    /// The last use of each secret, where one key was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretView>,
    /// The networks that the key was used from lately, where one key was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<RecentNetwork>,
}

/// A count, with the dimensions that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    /// The key; for tokens that no key has, null.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// The function, `(unregistered)` or `(other)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The version of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// The country, or `(unknown)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The beginning of the minute, hour or day.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Instant>,
    /// Verifies.
    pub count: u64,
}

/// A network that a key was used from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecentNetwork {
    /// A /24 of IPv4 or a /48 of IPv6.
    #[schema(value_type = String)]
    pub network: Network,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub last_used_at: Instant,
}

/// One of the latest denials.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DenialView {
    /// RFC 3339.
    #[schema(value_type = String)]
    pub at: Instant,
    /// Why.
    pub verdict: String,
    /// Whose key it was, if any.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// `account/name` of that key.
    pub key: Option<String>,
    /// Which of its secrets.
    pub version: Option<u16>,
    /// What was called.
    pub function: String,
    /// From where.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// And from which country.
    #[schema(value_type = Option<String>)]
    pub country: Option<Country>,
}

/// The latest denials, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DenialList {
    /// Newest first.
    pub denials: Vec<DenialView>,
}

/// What the country database says of an address.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CountryView {
    /// The canonical address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Null where the database does not place it.
    #[schema(value_type = Option<String>)]
    pub country: Option<Country>,
    /// Whether a database is loaded at all.
    pub database: bool,
}

/// What `identify` takes.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentifyBody {
    /// The token.
    pub token: String,
}

/// Whose token it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IdentifyView {
    /// Whether the text reads as a token: its form and check digits.
    pub reads_as_token: bool,
    /// Which secret of the key, if it is one's.
    pub version: Option<u16>,
    /// The key, if it is one's.
    pub key: Option<KeyView>,
}

/// What `explain` takes: a token or a key, and the rest of a request.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    /// A token …
    #[serde(default)]
    pub token: Option<String>,
    /// … or a key, by id or `account/name`, whose newest secret is taken.
    #[serde(default)]
    pub key: Option<String>,
    /// What would be called.
    pub function: String,
    /// From where.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
}

/// Every check of a verdict.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// The verdict.
    pub verdict: String,
    /// The checks in their order; the first that fails names the verdict.
    pub checks: Vec<CheckView>,
    /// The key, if there is one.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// The secret.
    pub version: Option<u16>,
    /// Where the address is.
    #[schema(value_type = Option<String>)]
    pub country: Option<Country>,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// The verdict that it gives when it fails.
    pub verdict: String,
    /// Whether it passes.
    pub passes: bool,
    /// What was compared, in words.
    pub because: String,
}

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
    /// The most that are allowed.
    pub max_connections: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections refused since the start, because there were too many.
    pub refused: u64,
    /// Frames that broke the protocol since the start.
    pub protocol_errors: u64,
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
    /// Bytes on disk, as RocksDB counts its files.
    pub bytes: u64,
    /// The pepper's id.
    pub pepper_id: String,
    /// The previous pepper's id, while one is kept.
    pub previous_pepper_id: Option<String>,
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
    /// Flushes that failed since the start; their counts are kept for the next.
    pub failures: u64,
    /// Verifies whose function was folded into `(other)`, because the counters were full.
    pub folded: u64,
    /// Verifies that found no room at all and were not counted.
    pub lost: u64,
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
}
