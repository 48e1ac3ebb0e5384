//! Every limit of a field, in one place. `docs/limits.md` is checked against this list by a test.

use thiserror::Error;

use super::shown;

/// Bytes in a name: it is shown in tables and used as `account/name` in scripts.
pub const NAME_BYTES: usize = 100;
/// Bytes in an account: it travels in every verify response, whose lengths are single bytes.
pub const ACCOUNT_BYTES: usize = 100;
/// Bytes in a description.
pub const DESCRIPTION_BYTES: usize = 1_000;
/// Tags on one key.
pub const TAGS: usize = 50;
/// Bytes in a tag's name.
pub const TAG_NAME_BYTES: usize = 50;
/// Bytes in a tag's value.
pub const TAG_VALUE_BYTES: usize = 200;
/// Grants on one key: exact grants are found by binary search, prefixes are tried one by one.
pub const GRANTS: usize = 500;
/// Networks on one key.
pub const NETWORKS: usize = 1_000;
/// Countries on one key: every code that ISO 3166-1 could ever assign fits.
pub const COUNTRIES: usize = 676;
/// Networks (/24, /48) from which one key is remembered to have been used: those used last.
pub const NETWORKS_REMEMBERED: usize = 64;
/// Secrets that one key may ever have had: weekly rotation for 19 years. A key past it is copied.
pub const SECRETS: usize = 1_000;
/// Bytes in a function's name.
pub const FUNCTION_BYTES: usize = 128;
/// Functions ever registered in one catalog: each has a number of its own for good.
pub const FUNCTIONS: usize = 65_000;
/// Bytes in a token: the longest length that is a single byte on the wire.
pub const TOKEN_BYTES: usize = 250;
/// Bytes in a token's prefix.
pub const TOKEN_PREFIX_BYTES: usize = 16;
/// Bytes in a request id (the caller's own, for `create` and `rotate`).
pub const REQUEST_ID_BYTES: usize = 100;
/// Milliseconds for which a request id is remembered (30 days).
pub const REQUEST_ID_MS: i64 = 30 * 86_400_000;
/// Keys in one batch of an import, which is one write.
pub const IMPORT_KEYS: usize = 1_000;
/// Tokens that one request to import makes: all of them are in its answer, and so in memory until its end.
pub const GENERATED_TOKENS: usize = 100_000;
/// Keys that one change by account or tag may touch: it is one write, held in memory until it is durable.
pub const BULK_KEYS: usize = 100_000;
/// Bytes in the `--as` of a change.
pub const ACTOR_BYTES: usize = 100;
/// Milliseconds of the latest instant that a key may carry: 9999-12-30T22:00:00Z, the last that `jiff` can write in every time zone.
pub const INSTANT_MS: i64 = 253_402_207_200_000;
/// Milliseconds of the longest span that is accepted (a hundred years).
pub const SPAN_MS: i64 = 100 * 366 * 86_400_000;

/// A value that is longer, larger or more than its limit. The message names the field, the value and the limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {value} is over the limit of {limit}")]
pub struct LimitError {
    /// The field as the interfaces name it.
    pub field: &'static str,
    /// What was given: a length, a count, or the value itself.
    pub value: String,
    /// The limit with its unit.
    pub limit: String,
}

/// Refuses a text of more than `limit` bytes.
pub fn check_bytes(field: &'static str, text: &str, limit: usize) -> Result<(), LimitError> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(LimitError { field, value: format!("'{}' ({} bytes)", shown(text), text.len()), limit: format!("{limit} bytes") })
}

/// Refuses a list of more than `limit` entries.
pub fn check_count(field: &'static str, count: usize, limit: usize) -> Result<(), LimitError> {
    if count <= limit {
        return Ok(());
    }
    Err(LimitError { field, value: count.to_string(), limit: format!("{limit} entries") })
}
