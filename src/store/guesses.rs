//! Tokens that nobody has, by hour and network.

use rocksdb::WriteBatch;

use super::{Family, Store, StoreError, record};
use crate::key::{Instant, Span};
use crate::record::HourOfGuesses;

/// In `usage`: guesses of one hour, counted by one process.
pub(super) const GUESSES: u8 = b'G';
/// How long they are kept (90 days).
pub const GUESSES_KEPT: Span = Span(90 * 86_400_000);
const HOUR_MS: i64 = 3_600_000;
/// Bytes of a row: its letter, the hour, and the start of the process that counted.
const ROW_BYTES: usize = 1 + 4 + 8;

impl Store {
    /// Writes hours as the process that began at `started` has counted them so far, in the place of what it wrote of them before, and removes what is too old.
    /// Not synced.
    pub fn write_guesses(&self, started: Instant, hours: &[HourOfGuesses], now: Instant) -> Result<(), StoreError> {
        if hours.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for hour in hours {
            batch.put_cf(self.family(Family::Usage), row(hour.hour, started), record::encode(hour));
        }
        let first = u32::try_from(now.0.saturating_sub(GUESSES_KEPT.0).max(0) / HOUR_MS).unwrap_or(0);
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::Usage));
        rows.seek([GUESSES]);
        if rows.key().is_some_and(|oldest| oldest.first() == Some(&GUESSES) && oldest < &row(first, Instant(0))[..]) {
            batch.delete_range_cf(self.family(Family::Usage), &[GUESSES][..], &row(first, Instant(0))[..]);
        }
        self.write(batch, false)
    }

    /// Guesses from the hour of `since` to the one that `until` is in; more than one entry for an hour in which the daemon was started again.
    pub fn guesses(&self, since: Instant, until: Instant) -> Result<Vec<HourOfGuesses>, StoreError> {
        let hour = |at: Instant| u32::try_from(at.0.max(0) / HOUR_MS).unwrap_or(u32::MAX);
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::Usage));
        rows.seek(row(hour(since), Instant(0)));
        let mut found = Vec::new();
        while let Some((row, value)) = rows.item().filter(|(row, _)| row.first() == Some(&GUESSES)) {
            let hours: HourOfGuesses = record::decode(Family::Usage, row, value)?;
            if hours.hour > hour(until) {
                return Ok(found);
            }
            found.push(hours);
            rows.next();
        }
        rows.status().map_err(|error| self.cannot_read("cannot read the usage", error))?;
        Ok(found)
    }
}

fn row(hour: u32, started: Instant) -> [u8; ROW_BYTES] {
    let mut row = [GUESSES; ROW_BYTES];
    row[1..5].copy_from_slice(&hour.to_be_bytes());
    row[5..].copy_from_slice(&started.0.to_be_bytes());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn an_hour_is_written_again_by_one_process_and_beside_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let hour = |hour: u32, total: u64| HourOfGuesses { hour, total, networks: vec![("192.0.2.0/24".parse().unwrap(), total, 0)] };
        let at = |hour: u32| Instant(i64::from(hour) * HOUR_MS + 5);
        store.write_guesses(Instant(1), &[hour(10_000, 5), hour(10_001, 6)], at(10_001)).unwrap();
        store.write_guesses(Instant(1), &[hour(10_001, 9)], at(10_001)).unwrap();
        store.write_guesses(Instant(2), &[hour(10_001, 3)], at(10_001)).unwrap();
        let totals = |since, until| store.guesses(at(since), at(until)).unwrap().iter().map(|hour| hour.total).collect::<Vec<_>>();
        assert_eq!(totals(0, 20_000), [5, 9, 3]);
        assert_eq!((totals(10_001, 10_001), totals(9_000, 10_000)), (vec![9, 3], vec![5]));
        store.write_guesses(Instant(2), &[hour(10_001 + 90 * 24, 4)], at(10_001 + 90 * 24)).unwrap();
        assert_eq!(totals(0, 20_000), [9, 3, 4], "after 90 days they go");
    }
}
