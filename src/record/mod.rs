//! Records: what the store holds, as bytes. No I/O; `docs/storage.md` describes them to the byte.
//!
//! A record is the number of its format, then bincode's standard encoding; rows of many keys have an inside of their own ([`block`]). The bytes come from a disk, so
//! whatever they are, reading them neither panics nor takes memory without bound.

pub mod block;
mod guesses;
mod history;
mod meta;
pub mod uses;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};
use thiserror::Error;

use crate::key::{Function, Instant};

pub use block::{check as check_blocks, merge as merge_blocks};
pub use guesses::HourOfGuesses;
pub use history::{MAC_BYTES, encode_entry, encode_entry_body};
pub use meta::{Head, PepperMarks, Remembered};
pub use uses::{StoredUses, merge as merge_uses, read as read_uses};

/// The format of every record that is written now; the first byte of each.
pub const FORMAT: u8 = 1;
/// No record is longer: the largest key there can be (all limits reached) takes about 200 KiB, and an entry of its edit twice that.
const RECORD_BYTES: usize = 4 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<RECORD_BYTES>> = bincode::config::standard().with_limit::<RECORD_BYTES>();

/// Bytes that are not the record that they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// No byte at all.
    #[error("the record is empty")]
    Empty,
    /// Of a format that is not known here.
    #[error("the record is of format {0}; this doorward reads format {FORMAT}, so a newer one wrote it")]
    Format(u8),
    /// It ends before its bytes do.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
    /// What is wrong with it, in bincode's words.
    #[error("{0}")]
    Layout(String),
}

/// A function as it is stored: a removed one keeps its number and its name, so that old usage can be read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StoredFunction {
    /// The function.
    pub function: Function,
    /// When it was removed, if it was.
    pub removed_at: Option<Instant>,
}

/// A record: the format's number, then bincode's standard encoding.
pub fn encode(value: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    encode_into(&mut bytes, value);
    bytes
}

/// As `encode`, behind what `bytes` holds.
pub fn encode_into(bytes: &mut Vec<u8>, value: &impl Encode) {
    bytes.push(FORMAT);
    append(bytes, value);
}

/// Appends a value without the format's number: a part of a record.
pub(crate) fn append(bytes: &mut Vec<u8>, value: &impl Encode) {
    bincode::encode_into_std_write(value, bytes, bincode::config::standard()).expect("a Vec takes every byte");
}

/// Reads a record.
///
/// # Errors
/// The bytes are no record of this kind, or of a format that is not known here.
pub fn decode<T: Decode<()>>(record: &[u8]) -> Result<T, RecordError> {
    let (&format, body) = record.split_first().ok_or(RecordError::Empty)?;
    if format != FORMAT {
        return Err(RecordError::Format(format));
    }
    match bincode::decode_from_slice::<T, _>(body, CONFIG) {
        Ok((value, used)) if used == body.len() => Ok(value),
        Ok((_, used)) => Err(RecordError::Trailing(body.len() - used)),
        Err(cause) => Err(RecordError::Layout(cause.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Grant, Key, KeyId, Network, PepperId, Secret, Settings, limits};

    fn key() -> Key {
        let secret = |version| Secret {
            version,
            digest: [version as u8; 32],
            pepper: PepperId([0; 8]),
            created_at: Instant(1),
            retires_at: None,
            revoked_at: None,
        };
        let settings = Settings::new("acme", "web");
        Key { id: KeyId([1; 16]), settings, secrets: vec![secret(1), secret(2)], created_at: Instant(1), deleted_at: None, revision: 1 }
    }

    /// Found by the fuzz target `record_decode`: a record of a key over its limits was read, and what relies on them went wrong. Of an account of 300 bytes the index
    /// wrote 256 behind the memory that it had taken; a wildcard of 256 bytes became the empty one, which grants all; an instant before 1970 became another.
    #[test]
    fn a_key_over_its_limits_is_no_record() {
        assert_eq!(decode::<Key>(&encode(&key())), Ok(key()));
        let refused = |change: &dyn Fn(&mut Key)| {
            let mut key = key();
            change(&mut key);
            decode::<Key>(&encode(&key)).expect_err("refused").to_string()
        };
        assert!(refused(&|key| key.settings.account = "a".repeat(300)).contains("account"));
        assert!(refused(&|key| key.settings.grants = vec![Grant::Prefix("a".repeat(256))]).contains("grants"));
        assert!(refused(&|key| key.settings.grants = vec![Grant::Prefix(String::new()); limits::GRANTS + 1]).contains("grants"));
        assert!(refused(&|key| key.settings.networks = vec!["::/0".parse().unwrap(); limits::NETWORKS + 1]).contains("networks"));
        assert!(refused(&|key| key.settings.countries = vec!["DE".parse().unwrap(); limits::COUNTRIES + 1]).contains("countries"));
        assert!(refused(&|key| key.settings.not_before = Some(Instant(-1))).contains("instant"));
        assert!(refused(&|key| key.settings.expires_at = Some(Instant(limits::INSTANT_MS + 1))).contains("instant"));
        assert!(refused(&|key| key.secrets[0].retires_at = Some(Instant(i64::MIN))).contains("instant"));
        assert!(refused(&|key| key.secrets[1].version = 3).contains("versions"));
    }

    /// As above: host bits, or IPv4 within IPv6, which compares with no address.
    #[test]
    fn a_network_that_is_not_canonical_is_no_record() {
        for text in ["10.0.0.0/8", "2001:db8::/32", "::/0"] {
            let network: Network = text.parse().unwrap();
            assert_eq!(decode::<Network>(&encode(&network)), Ok(network));
        }
        let v6 = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(decode::<Network>(&encode(&(8u8, 4u8, [10u8, 0, 0, 1]))).is_err());
        assert!(decode::<Network>(&encode(&(32u8, 6u8, v6("2001:db8::1")))).is_err());
        assert!(decode::<Network>(&encode(&(120u8, 6u8, v6("::ffff:10.0.0.0")))).is_err());
        assert!(decode::<Network>(&encode(&(33u8, 4u8, [0u8; 4]))).is_err());
    }
}
