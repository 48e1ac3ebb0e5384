//! What is durable: keys, functions, history, usage and a few values of the store's own, in RocksDB.
//!
//! This is the only room that names RocksDB. Column families, keys and records are described in `docs/storage.md`.

mod changes;
mod functions;
mod history;
mod keys;
mod meta;
mod options;
mod record;
#[cfg(test)]
mod tests;
mod usage;
mod witness;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use thiserror::Error;

pub use changes::{Changes, PutKey, encode_key};
#[cfg(test)]
pub(crate) use history::entry_record;
pub use history::{MAC_BYTES, Recorded, encode_entry, encode_entry_body};
pub(crate) use keys::KeyRange;
pub use keys::Keys;
pub use meta::{Head, PepperMarks, Remembered};
pub use options::StoreOptions;
pub use usage::{CountRow, CountRows, CountryRow, CountryRows, LastUse, NetworkUse, RECENT_NETWORKS, UsageBatch, UsageMark};

use witness::Witness;

/// The column families, by noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Key id → key.
    Keys,
    /// Account and name → key id; and the same for tombstones.
    Names,
    /// Function number → function, removed ones included.
    Functions,
    /// Sequence → entry; and the sequences of each key and of each function.
    History,
    /// Counts, last uses, recent networks.
    Usage,
    /// The store's own values, and the request ids of 30 days.
    Meta,
}

impl Family {
    const ALL: [Family; 6] = [Family::Keys, Family::Names, Family::Functions, Family::History, Family::Usage, Family::Meta];

    fn name(self) -> &'static str {
        match self {
            Family::Keys => "keys",
            Family::Names => "names",
            Family::Functions => "functions",
            Family::History => "history",
            Family::Usage => "usage",
            Family::Meta => "meta",
        }
    }
}

/// The store cannot be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The directory cannot be made or opened, is in use by another process, or holds files that RocksDB refuses.
    #[error("cannot open the store in {path}: {reason}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// RocksDB's or the system's words.
        reason: String,
    },
    /// The store lost changes that had been acknowledged.
    #[error(
        "the store in {path} ends at change {found}, but change {acknowledged} was acknowledged: changes are missing, so it is not opened; \
         restore a backup, or look into the disk before anything else"
    )]
    Behind {
        /// The directory.
        path: PathBuf,
        /// The last change that the store has.
        found: u64,
        /// The last change whose asker was told that it is durable.
        acknowledged: u64,
    },
    /// RocksDB or the system refused to read or write.
    #[error("{doing}: {reason}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// RocksDB's or the system's words.
        reason: String,
    },
    /// A record that cannot be read.
    #[error("column family '{family}', key {key}: {reason}")]
    Record {
        /// The column family.
        family: &'static str,
        /// The record's key in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: DB,
    path: PathBuf,
    witness: Mutex<Witness>,
    #[cfg(test)]
    failing: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    syncs: std::sync::atomic::AtomicU64,
}

impl Store {
    /// Opens the store in a directory, and makes both when they do not exist. One process at a time (RocksDB's `LOCK`).
    ///
    /// # Errors
    /// The directory is not usable or in use; its files are damaged; or acknowledged changes are missing.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let open_error = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| open_error(error.to_string()))?;
        let (database, families) = options::rocksdb_options(&options);
        let db = DB::open_cf_descriptors(&database, path, families).map_err(|error| open_error(error.into_string()))?;
        let witness = Witness::open(path).map_err(|error| open_error(error.to_string()))?;
        let store = Store(Arc::new(Inner {
            db,
            path: path.to_owned(),
            witness: Mutex::new(witness),
            #[cfg(test)]
            failing: Default::default(),
            #[cfg(test)]
            syncs: Default::default(),
        }));
        store.check_witness()?;
        Ok(store)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Bytes of all files in the directory, the write-ahead log included. A file that RocksDB removes meanwhile is not counted.
    pub fn bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.path()).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
    }

    /// Errors of RocksDB's own background work since the store was opened: any is a reason to look at the disk.
    pub fn background_errors(&self) -> u64 {
        self.0.db.property_int_value(rocksdb::properties::BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
    }

    /// Notes in the witness file how far changes are acknowledged: to be called after their commit, before their answers.
    pub fn acknowledge(&self, head: Head) -> Result<(), StoreError> {
        let noted = self.0.witness.lock().note(head);
        noted.map_err(|error| StoreError::Disk { doing: "cannot write the witness file", reason: error.to_string() })
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.0.db.cf_handle(family.name()).expect("the store was opened with every column family")
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, StoreError> {
        self.0.db.get_pinned_cf(self.family(family), key).map_err(|error| disk_error("cannot read the store", error))
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            if self.0.failing.load(Ordering::Relaxed) {
                return Err(StoreError::Disk { doing: "cannot write the store", reason: "a test said so".to_owned() });
            }
            self.0.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.0.db.write_opt(batch, &options).map_err(|error| disk_error("cannot write the store", error))
    }

    fn check_witness(&self) -> Result<(), StoreError> {
        let head = self.head()?;
        let Some(acknowledged) = self.0.witness.lock().acknowledged() else {
            if head.sequence > 0 {
                tracing::warn!(
                    changes = head.sequence,
                    "the store's file 'acknowledged' is missing or damaged: whether its last changes are all there cannot be told this time"
                );
            }
            return Ok(());
        };
        let entry_mac = if acknowledged.sequence == head.sequence {
            Some(head.mac)
        } else {
            self.entry(acknowledged.sequence)?.map(|recorded| recorded.entry.mac)
        };
        if head.sequence < acknowledged.sequence || entry_mac != Some(acknowledged.mac) {
            let path = self.0.path.clone();
            return Err(StoreError::Behind { path, found: head.sequence, acknowledged: acknowledged.sequence });
        }
        Ok(())
    }

    /// Makes every write fail, or no more.
    #[cfg(test)]
    pub(crate) fn fail_writes(&self, failing: bool) {
        self.0.failing.store(failing, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes the keys that are in memory to a table file.
    #[cfg(test)]
    pub(crate) fn write_out(&self) {
        self.0.db.flush_cf(self.family(Family::Keys)).unwrap();
    }

    /// Synchronous writes so far.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn disk_error(doing: &'static str, error: rocksdb::Error) -> StoreError {
    StoreError::Disk { doing, reason: error.into_string() }
}
