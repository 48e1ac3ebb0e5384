use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SecretView;
use crate::key::{Country, Instant, KeyId, Network};

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
