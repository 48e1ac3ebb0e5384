use bincode::{Decode, Encode};
use rocksdb::WriteBatch;

use super::{Family, Head, PepperMarks, Remembered, Store, StoreError, record};
use crate::key::Instant;

pub(super) const HEAD: &[u8] = b"head";
pub(super) const PEPPERS: &[u8] = b"peppers";
pub(super) const STORE_ID: &[u8] = b"store_id";
pub(super) const TIME_FLOOR: &[u8] = b"time_floor";
pub(super) const TIME_FLOOR_BOOT: &[u8] = b"time_floor_boot";
pub(super) const USAGE_ROLLED: &[u8] = b"usage_rolled";
pub(super) const USAGE_WRITTEN: &[u8] = b"usage_written";
pub(super) const REQUEST: &[u8] = b"request/";

/// The moment behind which time may not run, and where the boot clock stood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeFloor {
    /// The moment.
    pub at: Instant,
    /// That boot's id and its clock in milliseconds: a later start in the same boot knows how much time has passed since. None where it was not written.
    pub boot: Option<([u8; 16], u64)>,
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
