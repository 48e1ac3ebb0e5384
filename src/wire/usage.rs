use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SecretView;
use crate::key::{Country, Instant, KeyId, Network};

/// Usage: rows of counts, of which time nothing is known, and what is known of each secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Counted from this moment.
    #[schema(value_type = String)]
    pub since: Instant,
    /// To this one.
    #[schema(value_type = String)]
    pub until: Instant,
    /// Up to here everything that was counted is in the report: `until`, or where the last flush that is done began.
    #[schema(value_type = String)]
    pub counted_until: Instant,
    /// Hours and days are those of this time zone: a name, an offset such as `+05:30`, or `UTC`.
    pub zone: String,
    /// All verifies in that time.
    pub total: u64,
    /// Those of them with another verdict than `ok`. Not told with `country`: countries are counted apart from verdicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<u64>,
    /// One row for each combination of the dimensions asked for. Where `minute`, `hour` or `day` is the only one, also a row of zero for each period without a verify.
    pub rows: Vec<UsageRow>,
    /// When it is not known what was counted: the daemon did not run, or it is not kept any more (in units as short as the report's).
    pub unknown: Vec<Interval>,
    /// The periods that lie wholly in such a time, and therefore have no row. Told where `minute`, `hour` or `day` is the only dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_periods: Vec<Period>,
    /// There where the whole report is not exact: it is from here. What lies before is kept in longer units than those it was to be cut into; each was counted
    /// in whole where its middle is.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_since: Option<Instant>,
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
    /// The key. Absent for tokens that no key has, and for the others of `top`.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// `account/name` of the key, `(no key)` for tokens that no key has, `(others)` for all keys behind the first of `top`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The function, `(unregistered)` or `(other)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The version of the secret. Absent for tokens that no key has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// The country, or `(unknown)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The beginning of the minute, hour or day.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Instant>,
    /// The same in the time zone that was asked for, with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Verifies.
    pub count: u64,
    /// Those of them with another verdict than `ok`. Not told with `verdict` and `country`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<u64>,
    /// How many keys the row `(others)` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// From this moment.
    #[schema(value_type = String)]
    pub since: Instant,
    /// To this one.
    #[schema(value_type = String)]
    pub until: Instant,
}

/// A minute, an hour or a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// Its beginning.
    #[schema(value_type = String)]
    pub at: Instant,
    /// The same in the time zone that was asked for, with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
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
