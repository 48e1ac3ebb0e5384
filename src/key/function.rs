use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::limits::{self, LimitError};
use super::{Instant, holds_token, shown};

/// The number of a registered function, given once and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FunctionId(pub u16);

impl FunctionId {
    /// Counts calls of names that are not registered.
    pub const UNREGISTERED: FunctionId = FunctionId(0);
    /// Counts calls that found no room of their own in the counters.
    pub const OTHER: FunctionId = FunctionId(1);
    /// The first number that a registered function gets.
    pub const FIRST: FunctionId = FunctionId(2);
}

/// A named operation of the web servers' API, as registered in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Function {
    /// Its number in counters and in compiled rules.
    pub id: FunctionId,
    /// Its name.
    pub name: FunctionName,
    /// A restricted function is never covered by a wildcard, only by its exact name.
    pub restricted: bool,
    /// When it was registered.
    pub created_at: Instant,
}

/// A function's name: 1 to 128 of `A-Z a-z 0-9 . _ : / -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FunctionName(String);

/// What a key may call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Grant {
    /// One function, which must be registered.
    Exact(FunctionName),
    /// Every function whose name begins with this text, which may be empty; written with a `*` behind it.
    Prefix(String),
}

/// A text that is neither a function's name nor a grant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// A character outside the grammar, or an empty name.
    #[error("'{0}' is not a function name: expected 1 to {max} of A-Z a-z 0-9 . _ : / -", max = limits::FUNCTION_BYTES)]
    Name(String),
    /// A wildcard anywhere but at the end.
    #[error("'{0}' is not a grant: a * may only stand at its end")]
    Wildcard(String),
    /// A token, where a name belongs.
    #[error("this is a token, not the name of a function")]
    Token,
    /// Longer than any function's name.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl FunctionName {
    /// Whether the bytes are a function's name. The verify path asks this of every request.
    pub fn is_valid(name: &[u8]) -> bool {
        !name.is_empty() && name.len() <= limits::FUNCTION_BYTES && name.iter().all(|&b| IN_NAME[b as usize])
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which bytes a function's name may hold.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};

impl FromStr for FunctionName {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<FunctionName, GrantError> {
        limits::check_bytes("function", text, limits::FUNCTION_BYTES)?;
        // The grammar would take one; a mistake must not put it into the catalog and its history.
        if holds_token(text) {
            return Err(GrantError::Token);
        }
        if FunctionName::is_valid(text.as_bytes()) { Ok(FunctionName(text.to_owned())) } else { Err(GrantError::Name(shown(text))) }
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Grant, GrantError> {
        limits::check_bytes("grants", text, limits::FUNCTION_BYTES + 1)?;
        let Some(prefix) = text.strip_suffix('*') else {
            if text.contains('*') {
                return Err(GrantError::Wildcard(shown(text)));
            }
            return Ok(Grant::Exact(text.parse()?));
        };
        if prefix.contains('*') {
            return Err(GrantError::Wildcard(shown(text)));
        }
        if holds_token(prefix) {
            return Err(GrantError::Token);
        }
        if prefix.is_empty() || FunctionName::is_valid(prefix.as_bytes()) {
            Ok(Grant::Prefix(prefix.to_owned()))
        } else {
            Err(GrantError::Name(shown(text)))
        }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Exact(name) => write!(f, "{name}"),
            Grant::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FunctionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FunctionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FunctionName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Grant, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_back_what_they_write() {
        for text in ["leads.insert", "leads.*", "*", "A/b:c-d_e.9"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_grammar_is_closed() {
        for bad in ["", " ", "a b", "a*b", "**", "a.**", "ä", "a\0", "a?"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad:?}");
        }
        let longest = "a".repeat(limits::FUNCTION_BYTES);
        assert!(longest.parse::<FunctionName>().is_ok());
        assert!(format!("{longest}a").parse::<FunctionName>().is_err());
        assert!(format!("{longest}*").parse::<Grant>().is_ok());
    }
}
