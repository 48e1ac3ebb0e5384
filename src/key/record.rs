use std::collections::BTreeMap;
use std::fmt;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits::{self, LimitError};
use super::{Country, Grant, Instant, KeyId, Network, holds_token, shown};

/// A key: its settings, its secrets, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode)]
pub struct Key {
    /// Never changes: not by rotation, not by a new name.
    pub id: KeyId,
    /// What an admin sets and edits.
    pub settings: Settings,
    /// Every secret that the key ever had, oldest first; versions count from 1 without a gap.
    pub secrets: Vec<Secret>,
    /// When the key was made.
    pub created_at: Instant,
    /// Set on a deleted key; its history and usage stay.
    pub deleted_at: Option<Instant>,
    /// Counts the changes from 1; guards against lost updates.
    pub revision: u64,
}

/// What an admin sets and edits. Lists are kept sorted and without repeats.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Unique within its account among keys that are not deleted.
    pub name: String,
    /// Whose key it is: a customer, a system, a team; never a person.
    pub account: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Free names and values.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Switched on or off.
    #[serde(default = "switched_on")]
    pub enabled: bool,
    /// Not good before this moment.
    #[serde(default)]
    pub not_before: Option<Instant>,
    /// Not good from this moment on.
    #[serde(default)]
    pub expires_at: Option<Instant>,
    /// Which functions it may call.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// From which networks; empty means any address.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// From which countries; empty means any.
    #[serde(default)]
    pub countries: Vec<Country>,
    /// What becomes of an address that the country database does not place.
    #[serde(default)]
    pub unknown_country: UnknownCountry,
}

/// What becomes of an address that the country database does not place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownCountry {
    /// It is refused.
    #[default]
    Deny,
    /// It passes.
    Allow,
}

/// One version of a key's secret. Only the digest is kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Secret {
    /// Counts from 1.
    pub version: u16,
    /// HMAC-SHA-256(pepper, SHA-256(token)).
    pub digest: [u8; 32],
    /// Under which pepper.
    pub pepper: PepperId,
    /// When it was made.
    pub created_at: Instant,
    /// Set by rotation on the secret that it replaces: from this moment on it is retired.
    pub retires_at: Option<Instant>,
    /// When it was revoked, for good.
    pub revoked_at: Option<Instant>,
}

/// Names a pepper without telling it: the first 8 bytes of its fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PepperId(pub [u8; 8]);

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a key stands at a moment, in a word. The first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Deleted, and may be undeleted for a while.
    Deleted,
    /// Every secret is revoked or has retired.
    Revoked,
    /// Switched off.
    Disabled,
    /// Before its `not_before`.
    NotYetValid,
    /// Past its `expires_at`.
    Expired,
    /// None of these.
    Active,
}

impl State {
    /// Every state, in the order in which they are looked for.
    pub const ALL: [State; 6] = [State::Deleted, State::Revoked, State::Disabled, State::NotYetValid, State::Expired, State::Active];

    /// The name as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Deleted => "deleted",
            State::Revoked => "revoked",
            State::Disabled => "disabled",
            State::NotYetValid => "not_yet_valid",
            State::Expired => "expired",
            State::Active => "active",
        }
    }
}

/// A setting that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Over a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A field that must not be empty.
    #[error("{field}: must not be empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A character that would spoil tables, logs or `account/name`.
    #[error("{field}: '{value}' {reason}")]
    Text {
        /// The field.
        field: &'static str,
        /// What was given, without its control characters.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key would never be good.
    #[error("not_before: {not_before} is not before expires_at: {expires_at}")]
    NeverGood {
        /// As given.
        not_before: Instant,
        /// As given.
        expires_at: Instant,
    },
}

fn switched_on() -> bool {
    true
}

impl Settings {
    /// Settings with nothing granted: no functions, any network, any country, no expiry.
    pub fn new(account: &str, name: &str) -> Settings {
        Settings {
            name: name.to_owned(),
            account: account.to_owned(),
            description: String::new(),
            tags: BTreeMap::new(),
            enabled: true,
            not_before: None,
            expires_at: None,
            grants: Vec::new(),
            networks: Vec::new(),
            countries: Vec::new(),
            unknown_country: UnknownCountry::Deny,
        }
    }

    /// Sorts the lists, drops repeats, and checks every limit and rule that needs neither a clock nor the catalog.
    pub fn normalize(&mut self) -> Result<(), SettingsError> {
        check_label("name", &self.name, limits::NAME_BYTES)?;
        check_label("account", &self.account, limits::ACCOUNT_BYTES)?;
        if self.account.contains('/') {
            return Err(text_error("account", &self.account, "holds a '/', which separates account and name"));
        }
        limits::check_bytes("description", &self.description, limits::DESCRIPTION_BYTES)?;
        check_text("description", &self.description)?;
        limits::check_count("tags", self.tags.len(), limits::TAGS)?;
        for (name, value) in &self.tags {
            check_label("tags", name, limits::TAG_NAME_BYTES)?;
            if name.contains('=') {
                return Err(text_error("tags", name, "holds a '=', which separates a tag's name and value"));
            }
            limits::check_bytes("tags", value, limits::TAG_VALUE_BYTES)?;
            check_text("tags", value)?;
        }
        limits::check_count("grants", self.grants.len(), limits::GRANTS)?;
        limits::check_count("networks", self.networks.len(), limits::NETWORKS)?;
        limits::check_count("countries", self.countries.len(), limits::COUNTRIES)?;
        sort_and_dedup(&mut self.grants);
        sort_and_dedup(&mut self.networks);
        sort_and_dedup(&mut self.countries);
        match (self.not_before, self.expires_at) {
            (Some(not_before), Some(expires_at)) if not_before >= expires_at => Err(SettingsError::NeverGood { not_before, expires_at }),
            _ => Ok(()),
        }
    }
}

impl Secret {
    /// Neither revoked nor retired.
    pub fn is_good(&self, now: Instant) -> bool {
        self.revoked_at.is_none() && self.retires_at.is_none_or(|retires_at| now < retires_at)
    }
}

impl Key {
    /// The secret made last, which is the one to use.
    pub fn newest(&self) -> Option<&Secret> {
        self.secrets.last()
    }

    /// The key as an argument of a command: `account/name`, or the id where that would read as a flag, or may mean another key by now.
    pub fn argument(&self) -> String {
        let label = format!("{}/{}", self.settings.account, self.settings.name);
        if label.starts_with('-') || self.deleted_at.is_some() { self.id.to_string() } else { label }
    }

    /// Where the key stands at `now`.
    pub fn state(&self, now: Instant) -> State {
        let settings = &self.settings;
        if self.deleted_at.is_some() {
            State::Deleted
        } else if !self.secrets.iter().any(|secret| secret.is_good(now)) {
            State::Revoked
        } else if !settings.enabled {
            State::Disabled
        } else if settings.not_before.is_some_and(|not_before| now < not_before) {
            State::NotYetValid
        } else if settings.expires_at.is_some_and(|expires_at| now >= expires_at) {
            State::Expired
        } else {
            State::Active
        }
    }
}

/// A record that reads as a key over its limits is refused: what stands below relies on them.
impl<Context> Decode<Context> for Key {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Key, DecodeError> {
        let key = Key {
            id: Decode::decode(decoder)?,
            settings: Decode::decode(decoder)?,
            secrets: Decode::decode(decoder)?,
            created_at: Decode::decode(decoder)?,
            deleted_at: Decode::decode(decoder)?,
            revision: Decode::decode(decoder)?,
        };
        key.flaw().map_or(Ok(key), |flaw| Err(DecodeError::Other(flaw)))
    }
}

bincode::impl_borrow_decode!(Key);

impl Key {
    /// What no key is that was made within the limits.
    fn flaw(&self) -> Option<&'static str> {
        let Key { settings, secrets, .. } = self;
        let prefix_fits = |grant: &Grant| !matches!(grant, Grant::Prefix(prefix) if prefix.len() > limits::FUNCTION_BYTES);
        let in_range = |at: Instant| (0..=limits::INSTANT_MS).contains(&at.0);
        let mut instants = [settings.not_before, settings.expires_at].into_iter().chain(secrets.iter().map(|secret| secret.retires_at));
        if settings.account.len() > limits::ACCOUNT_BYTES {
            Some("the key's account is longer than one may be")
        } else if settings.grants.len() > limits::GRANTS || !settings.grants.iter().all(prefix_fits) {
            Some("the key has more or longer grants than one may have")
        } else if settings.networks.len() > limits::NETWORKS || settings.countries.len() > limits::COUNTRIES {
            Some("the key has more networks or countries than one may have")
        } else if !instants.all(|at| at.is_none_or(in_range)) {
            Some("the key has an instant that is before 1970 or after 9999")
        } else if !secrets.iter().map(|secret| usize::from(secret.version)).eq(1..=secrets.len()) {
            Some("the versions of the key's secrets do not count from 1")
        } else {
            None
        }
    }
}

fn sort_and_dedup<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

fn text_error(field: &'static str, value: &str, reason: &'static str) -> SettingsError {
    let value: String = value.chars().filter(|&c| !c.is_control() && !is_invisible(c)).collect();
    SettingsError::Text { field, value: shown(&value), reason }
}

/// Refuses what would spoil tables and logs, and tokens, which belong nowhere.
pub fn check_text(field: &'static str, text: &str) -> Result<(), SettingsError> {
    if text.chars().any(char::is_control) {
        return Err(text_error(field, text, "holds a control character"));
    }
    if text.chars().any(is_invisible) {
        return Err(text_error(field, text, "holds a character that is not seen, or turns the writing direction"));
    }
    if holds_token(text) { Err(text_error(field, text, "holds a token: it would be in the history for good")) } else { Ok(()) }
}

/// Format characters (Unicode's category Cf) by which two different names look the same, or a line is shown in another order than it is written.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn check_label(field: &'static str, text: &str, limit: usize) -> Result<(), SettingsError> {
    if text.is_empty() {
        return Err(SettingsError::Empty { field });
    }
    limits::check_bytes(field, text, limit)?;
    check_text(field, text)?;
    if text.trim() != text { Err(text_error(field, text, "begins or ends with white space")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_normalized() {
        let mut settings = Settings::new("acme", "web");
        settings.grants = ["b", "a", "b", "*"].map(|g| g.parse().unwrap()).to_vec();
        settings.normalize().unwrap();
        assert_eq!(settings.grants.iter().map(Grant::to_string).collect::<Vec<_>>(), ["a", "b", "*"]);
    }

    #[test]
    fn limits_name_field_value_and_limit() {
        let mut settings = Settings::new("acme", &"n".repeat(limits::NAME_BYTES + 1));
        let error = settings.normalize().unwrap_err().to_string();
        assert!(error.contains("name") && error.contains("101 bytes") && error.contains("100 bytes"), "{error}");
        for (account, name) in [("", "n"), ("a", ""), ("a/b", "n"), ("a", " n"), ("a", "n\n"), ("a\u{7}", "n")] {
            assert!(Settings::new(account, name).normalize().is_err(), "{account:?} {name:?}");
        }
        let mut settings = Settings::new("acme", "web");
        settings.not_before = Some(Instant(2));
        settings.expires_at = Some(Instant(2));
        assert!(settings.normalize().is_err());
    }
}
