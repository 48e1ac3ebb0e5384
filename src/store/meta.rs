use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use rocksdb::WriteBatch;

use super::{Family, Store, StoreError, record};
use crate::key::{Instant, KeyId, shown};

pub(super) const HEAD: &[u8] = b"head";
pub(super) const PEPPERS: &[u8] = b"peppers";
pub(super) const STORE_ID: &[u8] = b"store_id";
pub(super) const TIME_FLOOR: &[u8] = b"time_floor";
pub(super) const TIME_FLOOR_BOOT: &[u8] = b"time_floor_boot";
pub(super) const USAGE_ROLLED: &[u8] = b"usage_rolled";
pub(super) const USAGE_WRITTEN: &[u8] = b"usage_written";
pub(super) const REQUEST: &[u8] = b"request/";

/// The end of the history's chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The last entry's sequence; 0 before the first.
    pub sequence: u64,
    /// The last entry's MAC; zeros before the first.
    pub mac: [u8; 32],
}

/// `SEQUENCE:MAC`, the MAC in hexadecimal.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sequence)?;
        self.mac.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Head, String> {
        let error = || format!("'{}' is no head of a history: expected SEQUENCE:MAC, the MAC of 64 hexadecimal digits", shown(text));
        let (sequence, digits) = text.split_once(':').ok_or_else(error)?;
        let sequence = sequence.parse().map_err(|_| error())?;
        let mut mac = [0; 32];
        if digits.len() != 2 * mac.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(error());
        }
        for (byte, at) in mac.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| error())?;
        }
        Ok(Head { sequence, mac })
    }
}

/// Which peppers the store was written with, by their fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PepperMarks {
    /// New secrets are made under this one.
    pub current: [u8; 32],
    /// The one before it, while a secret needs it.
    pub previous: Option<[u8; 32]>,
}

/// The moment behind which time may not run, and where the boot clock stood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeFloor {
    /// The moment.
    pub at: Instant,
    /// That boot's id and its clock in milliseconds: a later start in the same boot knows how much time has passed since. None where it was not written.
    pub boot: Option<([u8; 16], u64)>,
}

/// What a request id was used for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Remembered {
    /// SHA-256 of what was asked, but for its instants.
    pub asked: [u8; 32],
    /// The instants that were asked for, in milliseconds: a span from now moves with the clock between one try and the next.
    pub instants: Vec<Option<Instant>>,
    /// The key that was made or rotated.
    pub key: KeyId,
    /// The version of the secret that was made.
    pub version: u16,
    /// When.
    pub at: Instant,
}

impl Store {
    /// The end of the chain.
    pub fn head(&self) -> Result<Head, StoreError> {
        Ok(self.meta(HEAD)?.unwrap_or_default())
    }

    /// The fingerprints of the store's peppers; none in a store that was never used.
    pub fn pepper_marks(&self) -> Result<Option<PepperMarks>, StoreError> {
        self.meta(PEPPERS)
    }

    /// Sets the fingerprints of the store's peppers, durably.
    pub fn set_pepper_marks(&self, marks: &PepperMarks) -> Result<(), StoreError> {
        self.set_meta(PEPPERS, marks)
    }

    /// The store's own random number, made when it is first asked for: tells its counters and backups from another store's.
    pub fn store_id(&self) -> Result<[u8; 16], StoreError> {
        if let Some(id) = self.meta(STORE_ID)? {
            return Ok(id);
        }
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|error| StoreError::Disk { doing: "cannot make a store id", reason: error.to_string() })?;
        self.set_meta(STORE_ID, &id)?;
        Ok(id)
    }

    /// The moment behind which time may not run, as the last flush wrote it.
    pub fn time_floor(&self) -> Result<Option<TimeFloor>, StoreError> {
        let Some(at) = self.meta(TIME_FLOOR)? else { return Ok(None) };
        Ok(Some(TimeFloor { at, boot: self.meta(TIME_FLOOR_BOOT)? }))
    }

    /// What a request id was used for.
    pub fn remembered(&self, request_id: &str) -> Result<Option<Remembered>, StoreError> {
        self.meta(&request_row(request_id))
    }

    /// Forgets request ids used before `before`; tells how many. Not synced: one that comes back is forgotten again.
    pub fn forget_requests(&self, before: Instant) -> Result<usize, StoreError> {
        let mut batch = WriteBatch::default();
        self.each_row(Family::Meta, REQUEST, |row, value| {
            let remembered: Remembered = record::decode(Family::Meta, row, value)?;
            if remembered.at < before {
                batch.delete_cf(self.family(Family::Meta), row);
            }
            Ok(())
        })?;
        let forgotten = batch.len();
        if forgotten > 0 {
            self.write(batch, false)?;
        }
        Ok(forgotten)
    }

    pub(super) fn meta<T: Decode<()>>(&self, row: &[u8]) -> Result<Option<T>, StoreError> {
        let record = self.get(Family::Meta, row)?;
        record.map(|record| record::decode(Family::Meta, row, &record)).transpose()
    }

    fn set_meta(&self, row: &[u8], value: &impl Encode) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(Family::Meta), row, record::encode(value));
        self.write(batch, true)
    }
}

pub(super) fn request_row(request_id: &str) -> Vec<u8> {
    [REQUEST, request_id.as_bytes()].concat()
}
