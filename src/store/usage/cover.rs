//! Which minutes were counted in at all: so that nothing can be told from unknown.

use rocksdb::WriteBatch;

use super::read::UsageMoment;
use super::{COVERED, Step, UsageBatch, instant, minute_of};
use crate::key::Instant;
use crate::store::{Family, Store, StoreError, record};

/// Bytes of a row: its letter and the hour.
const ROW_BYTES: usize = 1 + 4;

impl Store {
    /// As [`UsageMoment::covered`], of now.
    pub fn usage_covered(&self, since: Instant, until: Instant) -> Result<Vec<(Instant, Instant)>, StoreError> {
        self.usage()?.covered(since, until)
    }

    /// As [`UsageMoment::begun`], of now.
    pub fn usage_begun(&self) -> Result<Option<Instant>, StoreError> {
        self.usage()?.begun()
    }
}

impl UsageMoment<'_> {
    /// From when to when verifies were counted, within `since` and `until`, in order and apart. A minute is covered as a whole when the daemon
    /// counted in any part of it; what is not covered is unknown, not nothing.
    pub fn covered(&self, since: Instant, until: Instant) -> Result<Vec<(Instant, Instant)>, StoreError> {
        let (first, last) = (minute_of(since) / 60, minute_of(until) / 60);
        let mut covered: Vec<(Instant, Instant)> = Vec::new();
        self.0.each_row_from(&covered_row(first), |row, value| {
            let hour = row.last_chunk().filter(|_| row.len() == ROW_BYTES).map(|hour| u64::from(u32::from_be_bytes(*hour)));
            let Some(hour) = hour.filter(|_| row[0] == COVERED) else { return Ok(false) };
            let minutes: u64 = record::decode(Family::Usage, row, value)?;
            for minute in (0..60).filter(|minute| minutes >> minute & 1 == 1) {
                let begin = instant(hour * 60 + minute).max(since);
                let end = instant(hour * 60 + minute + 1).min(until);
                match covered.last_mut() {
                    _ if begin >= end => {}
                    Some((_, before)) if *before == begin => *before = end,
                    _ => covered.push((begin, end)),
                }
            }
            Ok(hour < last)
        })?;
        Ok(covered)
    }

    /// The first minute that is known to be covered, if any is.
    pub fn begun(&self) -> Result<Option<Instant>, StoreError> {
        let mut begun = None;
        self.0.each_row_from(&covered_row(0), |row, value| {
            let hour = row.last_chunk().filter(|_| row.len() == ROW_BYTES && row[0] == COVERED);
            if let Some(hour) = hour.map(|hour| u64::from(u32::from_be_bytes(*hour))) {
                let minutes: u64 = record::decode(Family::Usage, row, value)?;
                begun = Some(instant(hour * 60 + u64::from(minutes.trailing_zeros().min(59))));
            }
            Ok(false)
        })?;
        Ok(begun)
    }
}

impl Store {
    /// Adds the minutes that a batch tells of: those that it says were covered, and those of its rows.
    pub(super) fn add_covered(&self, usage: &UsageBatch, batch: &mut WriteBatch) {
        let mut minutes: Vec<u64> = Vec::new();
        let mut latest = None;
        for row in usage.rows.iter().filter(|row| row.count > 0) {
            // Nearly all rows are of the same minute as the one before.
            if latest.replace(row.minute) != Some(row.minute) && !minutes.contains(&row.minute.into()) {
                minutes.push(row.minute.into());
            }
        }
        if let Some((since, until)) = usage.covered {
            minutes.extend(minute_of(since)..=minute_of(until));
        }
        minutes.sort_unstable();
        for of_hour in minutes.chunk_by(|a, b| a / 60 == b / 60) {
            let bits = of_hour.iter().fold(0u64, |bits, minute| bits | 1 << (minute % 60));
            batch.merge_cf(self.family(Family::Usage), covered_row(of_hour[0] / 60), record::encode(&bits));
        }
    }
}

/// The row of an hour.
pub(super) fn covered_row(hour: u64) -> [u8; ROW_BYTES] {
    let mut row = [COVERED; ROW_BYTES];
    row[1..].copy_from_slice(&u32::try_from(hour).unwrap_or(u32::MAX).to_be_bytes());
    row
}

/// Joins the minutes of an hour. What cannot be read is left out.
pub(super) fn merge<'a>(row: &[u8], values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let minutes = values.filter_map(|value| record::decode::<u64>(Family::Usage, row, value).ok());
    record::encode(&minutes.fold(0, |all, minutes| all | minutes))
}

const _: () = assert!(Step::Hour.minutes() <= u64::BITS as u64);
