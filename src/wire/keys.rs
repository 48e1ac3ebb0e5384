use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::key::{Country, Grant, Instant, KeyId, Network, Patch, Selection, Settings, Span, State, UnknownCountry};

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
#[serde(from = "CreateFields")]
pub struct CreateBody {
    /// The settings.
    #[serde(flatten)]
    pub settings: Settings,
    /// Makes a repeat answer as the first did, without the token.
    #[serde(skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Serialize, Deserialize, ToSchema)]
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

/// `Debug` goes to logs, and the token must not.
impl fmt::Debug for MadeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeView")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

/// Declares a body that holds a key's settings beside fields of its own, all on one level, and refuses any other field.
/// (Serde's `flatten` and `deny_unknown_fields` exclude each other.)
macro_rules! beside_settings {
    ($(#[$meta:meta])* $body:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$meta])*
        pub struct $body {
            /// Unique within its account among keys that are not deleted. At most 100 bytes.
            name: String,
            /// Whose key it is: a customer, a system, a team; never a person. At most 100 bytes, no `/`.
            account: String,
            /// Free text, at most 1,000 bytes.
            #[serde(default)]
            description: String,
            /// Free names and values, at most 50.
            #[serde(default)]
            tags: std::collections::BTreeMap<String, String>,
            /// Switched on (which it is, if this is absent) or off.
            #[serde(default)]
            enabled: Option<bool>,
            /// RFC 3339: not good before this moment.
            #[serde(default)]
            #[schema(value_type = Option<String>)]
            not_before: Option<crate::key::Instant>,
            /// RFC 3339: not good from this moment on.
            #[serde(default)]
            #[schema(value_type = Option<String>)]
            expires_at: Option<crate::key::Instant>,
            /// Functions it may call: exact names, prefixes with a `*` behind, or `*`. At most 500.
            #[serde(default)]
            #[schema(value_type = Vec<String>)]
            grants: Vec<crate::key::Grant>,
            /// CIDR; empty means any address. At most 1,000.
            #[serde(default)]
            #[schema(value_type = Vec<String>)]
            networks: Vec<crate::key::Network>,
            /// ISO 3166-1 alpha-2; empty means any country.
            #[serde(default)]
            #[schema(value_type = Vec<String>)]
            countries: Vec<crate::key::Country>,
            /// `deny` (the default) or `allow`: what becomes of an address that the country database does not place.
            #[serde(default)]
            #[schema(value_type = String)]
            unknown_country: crate::key::UnknownCountry,
            $($(#[$field_meta])* $field: $type,)*
        }

        impl $body {
            fn take_settings(&mut self) -> crate::key::Settings {
                use std::mem::take;
                crate::key::Settings {
                    name: take(&mut self.name),
                    account: take(&mut self.account),
                    description: take(&mut self.description),
                    tags: take(&mut self.tags),
                    enabled: self.enabled.unwrap_or(true),
                    not_before: self.not_before,
                    expires_at: self.expires_at,
                    grants: take(&mut self.grants),
                    networks: take(&mut self.networks),
                    countries: take(&mut self.countries),
                    unknown_country: self.unknown_country,
                }
            }
        }
    };
}
pub(super) use beside_settings;

beside_settings! {
    /// What `create` takes: the settings of a key, and a request id.
    #[schema(as = CreateBody)]
    CreateFields {
        /// Makes a repeat answer as the first did, without the token. At most 100 bytes.
        #[serde(default)]
        request_id: Option<String>,
    }
}

impl From<CreateFields> for CreateBody {
    fn from(mut fields: CreateFields) -> CreateBody {
        CreateBody { settings: fields.take_settings(), request_id: fields.request_id }
    }
}

/// New values for some settings. A field that is absent stays as it is; `null` clears an instant.
/// (The schema of [`Patch`], which lives below this room and does not know of OpenAPI.)
#[derive(ToSchema)]
#[schema(as = Patch)]
#[allow(dead_code, reason = "read by the schema's derive alone")]
pub struct PatchFields {
    /// A new name.
    name: Option<String>,
    /// A new account.
    account: Option<String>,
    /// A new description.
    description: Option<String>,
    /// Switched on or off.
    enabled: Option<bool>,
    /// A new instant, or none.
    not_before: Option<String>,
    /// A new instant, or none.
    expires_at: Option<String>,
    /// All the grants.
    grants: Option<Vec<String>>,
    /// Grants to add.
    add_grants: Option<Vec<String>>,
    /// Grants to take away; one that is not there is refused.
    remove_grants: Option<Vec<String>>,
    /// All the networks.
    networks: Option<Vec<String>>,
    /// Networks to add.
    add_networks: Option<Vec<String>>,
    /// Networks to take away; one that is not there is refused.
    remove_networks: Option<Vec<String>>,
    /// All the countries.
    countries: Option<Vec<String>>,
    /// Countries to add.
    add_countries: Option<Vec<String>>,
    /// Countries to take away; one that is not there is refused.
    remove_countries: Option<Vec<String>>,
    /// What becomes of an address that the country database does not place.
    unknown_country: Option<String>,
    /// All the tags.
    tags: Option<BTreeMap<String, String>>,
    /// Tags to add or to give another value.
    add_tags: Option<BTreeMap<String, String>>,
    /// Names of tags to take away; one that is not there is refused.
    remove_tags: Option<Vec<String>>,
}

/// A choice of keys by account and tag; at least one of the two is named. (The schema of [`Selection`].)
#[derive(ToSchema)]
#[schema(as = Selection)]
#[allow(dead_code, reason = "read by the schema's derive alone")]
struct SelectionFields {
    /// Of this account.
    account: Option<String>,
    /// With this tag, written `name=value`.
    tag: Option<String>,
}

/// A change of many keys at once. (The schema of [`BulkBody`].)
#[derive(ToSchema)]
#[schema(as = BulkBody)]
#[allow(dead_code, reason = "read by the schema's derive alone")]
pub struct BulkFields {
    /// Which keys.
    select: SelectionFields,
    /// What to do.
    action: BulkAction,
    /// The patch of an `edit`.
    patch: Option<PatchFields>,
}
