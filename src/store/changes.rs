use rocksdb::WriteBatch;

use super::functions::StoredFunction;
use super::keys::{LIVE, TOMBSTONE, name_row};
use super::{Family, Head, Remembered, Store, StoreError, history, meta, record};
use crate::key::history::Subject;
use crate::key::{Function, Instant, Key};

/// What one synchronous write is to change: all of it, or nothing.
pub struct Changes<'s> {
    store: &'s Store,
    batch: WriteBatch,
}

impl Store {
    /// Begins a write of about so many bytes.
    pub fn changes(&self, bytes: usize) -> Changes<'_> {
        Changes { store: self, batch: WriteBatch::with_capacity_bytes(bytes) }
    }
}

impl Changes<'_> {
    /// Puts keys, each with what the store holds of it so far, and keeps `names` in step.
    pub fn put_keys<'k>(&mut self, keys: impl Iterator<Item = (Option<&'k Key>, &'k Key)> + Clone) {
        let names = self.store.family(Family::Names);
        // A name that one key gives up may be another's in the same write, so all are given up before any is taken.
        for before in keys.clone().filter_map(|(before, _)| before) {
            self.batch.delete_cf(names, row_of(before).0);
        }
        for (_, after) in keys {
            let (row, value) = row_of(after);
            self.batch.put_cf(names, row, value);
            self.batch.put_cf(self.store.family(Family::Keys), after.id.0, record::encode(after));
        }
    }

    /// Puts a function; with the moment of its removal, a removed one.
    pub fn put_function(&mut self, function: &Function, removed_at: Option<Instant>) {
        let stored = StoredFunction { function: function.clone(), removed_at };
        self.batch.put_cf(self.store.family(Family::Functions), function.id.0.to_be_bytes(), record::encode(&stored));
    }

    /// Appends an entry's record to the history, and to that of what it is about.
    pub fn put_entry(&mut self, sequence: u64, subject: &Subject, record: &[u8]) {
        let history = self.store.family(Family::History);
        self.batch.put_cf(history, history::entry_row(sequence), record);
        self.batch.put_cf(history, history::subject_row(subject, sequence), []);
    }

    /// Remembers a request id.
    pub fn remember(&mut self, request_id: &str, remembered: &Remembered) {
        self.batch.put_cf(self.store.family(Family::Meta), meta::request_row(request_id), record::encode(remembered));
    }

    /// Moves the end of the chain.
    pub fn set_head(&mut self, head: Head) {
        self.batch.put_cf(self.store.family(Family::Meta), meta::HEAD, record::encode(&head));
    }

    /// Writes and syncs it all. When it returns, all is durable.
    ///
    /// # Errors
    /// The disk refuses. Whether the changes are there after a restart is then not known.
    pub fn commit(self) -> Result<(), StoreError> {
        self.store.write(self.batch, true)
    }
}

/// A key's row in `names`: by its name while it lives, by its name and id as a tombstone.
fn row_of(key: &Key) -> (Vec<u8>, Vec<u8>) {
    let settings = &key.settings;
    match key.deleted_at {
        None => (name_row(LIVE, &settings.account, &settings.name), key.id.0.to_vec()),
        Some(at) => {
            let mut row = name_row(TOMBSTONE, &settings.account, &settings.name);
            row.push(0);
            row.extend_from_slice(&key.id.0);
            (row, at.0.to_be_bytes().to_vec())
        }
    }
}
