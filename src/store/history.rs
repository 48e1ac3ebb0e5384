use std::ops::RangeInclusive;

use super::{Family, Store, StoreError, record};
use crate::key::history::{Entry, Subject};
use crate::key::{FunctionName, KeyId};

/// In `history`: the entries, by sequence.
pub(super) const ENTRY: u8 = b'E';
/// In `history`: the sequences of a key's entries.
pub(super) const OF_KEY: u8 = b'K';
/// In `history`: the sequences of a function's entries.
pub(super) const OF_FUNCTION: u8 = b'F';

/// An entry, and the record in which it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The entry.
    pub entry: Entry,
    /// Its record; the MAC is its last 32 bytes, and made over the others.
    pub record: Vec<u8>,
}

/// The record of an entry.
#[cfg(test)]
pub(crate) fn entry_record(entry: &Entry) -> Vec<u8> {
    record::encode(entry)
}

impl Store {
    /// The latest entries before `before` (or the latest of all), newest first: of one key, or of everything.
    pub fn history(&self, key: Option<KeyId>, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match key {
            None => self.latest(&[ENTRY], before, limit),
            Some(id) => self.latest(&key_rows(id), before, limit),
        }
    }

    /// As `history`, of one function of the catalog.
    pub fn function_history(&self, function: &FunctionName, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.latest(&function_rows(function), before, limit)
    }

    /// The entry of this sequence.
    pub fn entry(&self, sequence: u64) -> Result<Option<Recorded>, StoreError> {
        let row = entry_row(sequence);
        let Some(record) = self.get(Family::History, &row)? else { return Ok(None) };
        Ok(Some(Recorded { entry: record::decode(Family::History, &row, &record)?, record: record.to_vec() }))
    }

    /// Shows the entries of a range in order, with their records. What is not there is not shown.
    pub fn each_entry(&self, range: RangeInclusive<u64>, mut visit: impl FnMut(Recorded)) -> Result<(), StoreError> {
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::History));
        rows.seek(entry_row(*range.start()));
        let last = entry_row(*range.end());
        while let Some((row, record)) = rows.item() {
            if row > last.as_slice() {
                break;
            }
            visit(Recorded { entry: record::decode(Family::History, row, record)?, record: record.to_vec() });
            rows.next();
        }
        rows.status().map_err(|error| self.cannot_read("cannot read the history", error))
    }

    /// How many entries there are of functions.
    pub fn function_entries(&self) -> Result<u64, StoreError> {
        let mut entries = 0;
        self.each_row(Family::History, &[OF_FUNCTION], |_, _| {
            entries += 1;
            Ok(())
        })?;
        Ok(entries)
    }

    /// Entries named by the rows under `prefix`, whose last 8 bytes are a sequence, newest first.
    fn latest(&self, prefix: &[u8], before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let Some(newest) = before.unwrap_or(u64::MAX).checked_sub(1) else { return Ok(Vec::new()) };
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::History));
        rows.seek_for_prev(with_sequence(prefix, newest));
        let mut entries = Vec::new();
        while let Some((row, _)) = rows.item() {
            if entries.len() == limit || !row.starts_with(prefix) || row.len() != prefix.len() + 8 {
                break;
            }
            let sequence = u64::from_be_bytes(row[prefix.len()..].try_into().expect("8 bytes were counted"));
            let recorded = self.entry(sequence)?;
            let missing = || record::record_error(Family::History, row, "the entry that this row names is missing".to_owned());
            entries.push(recorded.ok_or_else(missing)?.entry);
            rows.prev();
        }
        rows.status().map_err(|error| self.cannot_read("cannot read the history", error))?;
        Ok(entries)
    }
}

pub(super) fn entry_row(sequence: u64) -> [u8; 9] {
    let mut row = [ENTRY; 9];
    row[1..].copy_from_slice(&sequence.to_be_bytes());
    row
}

/// The row by which an entry is found from what it is about.
pub(super) fn subject_row(subject: &Subject, sequence: u64) -> Vec<u8> {
    match subject {
        Subject::Key(id) => with_sequence(&key_rows(*id), sequence),
        Subject::Function(name) => with_sequence(&function_rows(name), sequence),
    }
}

fn key_rows(id: KeyId) -> Vec<u8> {
    [&[OF_KEY][..], &id.0].concat()
}

/// A function's name holds no zero, so one ends it.
fn function_rows(name: &FunctionName) -> Vec<u8> {
    [&[OF_FUNCTION][..], name.as_str().as_bytes(), &[0]].concat()
}

fn with_sequence(prefix: &[u8], sequence: u64) -> Vec<u8> {
    [prefix, &sequence.to_be_bytes()].concat()
}
