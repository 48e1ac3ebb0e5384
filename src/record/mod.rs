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
