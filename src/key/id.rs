use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::shown;

/// The stable name of a key: a UUIDv7 (RFC 9562), written `key_` and 32 lowercase hexadecimal digits. Never secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct KeyId(pub [u8; 16]);

/// What is written before the digits.
const PREFIX: &str = "key_";

/// A text that is not a key id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is not a key id: expected 'key_' and 32 lowercase hexadecimal digits")]
pub struct IdError(String);

/// Ids of keys that are made together: fresh, ordered, and counting from one that was generated, which costs one look at the clock and one at the system's
/// random numbers for all of them. (RFC 9562, 6.2, method 2: the random bits of the first are incremented.)
#[derive(Debug, Clone)]
pub struct KeyIds(u128);

/// Bits of an id that count within one set of [`KeyIds`]; the bits before them order the sets.
const COUNTING_BITS: u32 = 32;

impl KeyIds {
    /// A set behind every id that was generated before, and before every one that will be.
    pub fn generate() -> KeyIds {
        // The highest of the counting bits is cleared, so that two thousand million can be drawn before they run over.
        KeyIds(u128::from_be_bytes(KeyId::generate().0) & !(1 << (COUNTING_BITS - 1)))
    }

    /// The next one.
    pub fn draw(&mut self) -> KeyId {
        self.0 += 1;
        KeyId(self.0.to_be_bytes())
    }
}

impl KeyId {
    /// Stands in usage rows for tokens that no key has.
    pub const NONE: KeyId = KeyId([0; 16]);

    /// A fresh id, ordered by its time of creation.
    pub fn generate() -> KeyId {
        KeyId(uuid::Uuid::now_v7().into_bytes())
    }

    /// In which of 256 parts of all keys usage is kept: the same for ever, and spread evenly, even for ids that count up. 0 is that of
    /// [`KeyId::NONE`] alone.
    pub fn bucket(self) -> u8 {
        let number = u128::from_be_bytes(self.0);
        let mixed = ((number as u64) ^ (number >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self == KeyId::NONE { 0 } else { 1 + (((mixed >> 32) * 255) >> 32) as u8 }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<KeyId, IdError> {
        let error = || IdError(shown(text));
        let digits = text.strip_prefix(PREFIX).ok_or_else(error)?;
        let lowercase_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 32 || !digits.bytes().all(lowercase_hex) {
            return Err(error());
        }
        let number = u128::from_str_radix(digits, 16).map_err(|_| error())?;
        Ok(KeyId(number.to_be_bytes()))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = KeyId::generate();
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        assert_eq!(id.to_string().len(), 36);
    }

    #[test]
    fn ids_of_a_set_are_in_order_between_those_before_and_behind() {
        for _ in 0..1_000 {
            let before = KeyId::generate();
            let (mut first, mut second) = (KeyIds::generate(), KeyIds::generate());
            let behind = KeyId::generate();
            let drawn = [before, first.draw(), first.draw(), second.draw(), second.draw(), behind];
            assert!(drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
            assert!(drawn.iter().all(|id| uuid::Uuid::from_bytes(id.0).get_version_num() == 7));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in ["", "key_", "key_0", "KEY_00000000000000000000000000000000", "key_0000000000000000000000000000000G"] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
        let upper = KeyId([0xab; 16]).to_string().replace('a', "A");
        assert!(upper.parse::<KeyId>().is_err());
    }
}
