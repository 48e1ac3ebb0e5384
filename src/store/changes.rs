use rocksdb::{ColumnFamily, WriteBatch};

use super::keys::name_row_of;
use super::{Family, Head, Remembered, Store, StoreError, history, meta, record};
use crate::key::history::Subject;
use crate::key::{Function, Instant, Key};
use crate::record::StoredFunction;

/// What one synchronous write is to change: all of it, or nothing.
pub struct Changes<'s> {
    store: &'s Store,
    keys: &'s ColumnFamily,
    names: &'s ColumnFamily,
    history: &'s ColumnFamily,
    batch: WriteBatch,
}

/// A key to put.
#[derive(Clone, Copy)]
pub struct PutKey<'k> {
    /// As the store holds it so far.
    pub before: Option<&'k Key>,
    /// As it is to be.
    pub after: &'k Key,
    /// The record of `after`, where it was made ahead ([`encode_key`]).
    pub record: Option<&'k [u8]>,
}

/// Appends a key's record to `bytes`.
pub fn encode_key(bytes: &mut Vec<u8>, key: &Key) {
    record::encode_into(bytes, key);
}

impl Store {
    /// Begins a write of about so many bytes.
    pub fn changes(&self, bytes: usize) -> Changes<'_> {
        Changes {
            store: self,
            keys: self.family(Family::Keys),
            names: self.family(Family::Names),
            history: self.family(Family::History),
            batch: WriteBatch::with_capacity_bytes(bytes),
        }
    }
}

impl Changes<'_> {
    /// Puts keys, and keeps `names` in step. Keys in the order of their ids are put fastest: RocksDB finds the place of each beside that of the one before.
    pub fn put_keys<'k>(&mut self, keys: impl Iterator<Item = PutKey<'k>> + Clone) {
        // A name that one key gives up may be another's in the same write, so all are given up before any is taken.
        for before in keys.clone().filter_map(|put| put.before) {
            self.batch.delete_cf(self.names, name_row_of(before).0);
        }
        let mut made = Vec::new();
        for PutKey { after, record, .. } in keys {
            let (name, value) = name_row_of(after);
            self.batch.put_cf(self.names, name, value);
            let record = record.unwrap_or_else(|| {
                made.clear();
                encode_key(&mut made, after);
                &made
            });
            self.batch.put_cf(self.keys, after.id.0, record);
        }
    }

    /// Puts a function; with the moment of its removal, a removed one.
    pub fn put_function(&mut self, function: &Function, removed_at: Option<Instant>) {
        let stored = StoredFunction { function: function.clone(), removed_at };
        self.batch.put_cf(self.store.family(Family::Functions), function.id.0.to_be_bytes(), record::encode(&stored));
    }

    /// Appends an entry's record to the history.
    pub fn put_entry(&mut self, sequence: u64, record: &[u8]) {
        self.batch.put_cf(self.history, history::entry_row(sequence), record);
    }

    /// Notes what an entry is about, so that it is found from there. Of many entries, these are put after all records: in the order of their rows, as keys are.
    pub fn put_subject(&mut self, sequence: u64, subject: &Subject) {
        self.batch.put_cf(self.history, history::subject_row(subject, sequence), []);
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
