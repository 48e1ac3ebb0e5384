//! What is durable: keys, functions, history, usage and a few values of the store's own, in RocksDB.
//!
//! This is the only room that names RocksDB. Column families, keys and records are described in `docs/storage.md`.

mod changes;
pub mod check;
mod checkpoint;
mod damage;
mod directory;
mod framing;
mod functions;
mod guesses;
mod held;
mod history;
mod keys;
mod meta;
mod options;
mod record;
#[cfg(test)]
mod tests;
mod usage;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use thiserror::Error;

pub use changes::{Changes, PutKey, encode_key};
pub use checkpoint::Checkpoint;
pub use damage::Damage;
pub use directory::{give_to_owner_of, make_directory};
pub use guesses::GUESSES_KEPT;
pub use history::Recorded;
#[cfg(test)]
pub(crate) use history::entry_record;
pub(crate) use keys::KeyRange;
pub use keys::Keys;
pub use meta::TimeFloor;
pub use options::StoreOptions;
pub use usage::{
    CountRow, CountRows, Counted, CountryRow, CountryRows, Keep, Kept, KeyUses, LastUse, MINUTES_IN_A_ROW, NetworkUse, Step, UsageBatch,
    UsageMark, UsageMoment,
};

pub use crate::record::{Head, HourOfGuesses, MAC_BYTES, PepperMarks, Remembered, encode_entry, encode_entry_body};

use directory::Holds;
use framing::Fault;
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
    #[error("cannot open the store in {path}: {reason}{}", damage.as_ref().map_or_else(String::new, advice))]
    Open {
        /// The directory.
        path: PathBuf,
        /// RocksDB's or the system's words.
        reason: String,
        /// Which files, if that is why.
        damage: Option<Damage>,
    },
    /// The file that says which changes were acknowledged is missing or damaged.
    #[error(
        "{file} is missing or damaged: it says which change was the last to be acknowledged, and without it nobody can tell whether the store in \
         {path}, which ends at change {found}, still has them all, so it is not opened; put the file back, or restore a backup, or, if that is the \
         right end, look at everything and write the file anew with 'doorward check --acknowledge'",
        file = path.join(witness::FILE).display()
    )]
    NoWitness {
        /// The directory.
        path: PathBuf,
        /// The last change that the store has.
        found: u64,
    },
    /// The store lost changes that had been acknowledged.
    #[error(
        "the store in {path} ends at change {found}, but change {acknowledged} was acknowledged: changes are missing, so it is not opened{}",
        advice(damage)
    )]
    Behind {
        /// The directory.
        path: PathBuf,
        /// The last change that the store has.
        found: u64,
        /// The last change whose asker was told that it is durable.
        acknowledged: u64,
        /// Where the others were.
        damage: Damage,
    },
    /// A checkpoint is still being copied.
    #[error("the checkpoint in {0} is still needed: another backup is under way, or was broken off less than 30 seconds ago")]
    CheckpointHeld(PathBuf),
    /// RocksDB or the system refused to read or write.
    #[error("{doing}: {reason}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// RocksDB's or the system's words.
        reason: String,
    },
    /// A write failed before; the store is read, but not written, until it is opened again.
    #[error("nothing is written to the store until doorward is restarted, since a write failed: {0}")]
    Frozen(String),
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
    /// Of the files that hold what was written last, as they were before the store was opened.
    end_damage: Damage,
    /// Why nothing is written any more.
    frozen: Mutex<Option<String>>,
    held: held::Held,
    failed_reads: AtomicU64,
    /// Held while a checkpoint is made or removed.
    checkpointing: Mutex<()>,
    books: usage::Books,
    #[cfg(test)]
    failing: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    unreadable: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    syncs: AtomicU64,
}

impl Store {
    /// Opens the store in a directory, and makes both when they do not exist. One process at a time (RocksDB's `LOCK`).
    ///
    /// # Errors
    /// The directory is not usable or in use; its files are damaged or missing; or acknowledged changes are missing.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let system_error = |error: std::io::Error| cannot_open(path, error.to_string(), None);
        make_directory(path, 0o700).map_err(system_error)?;
        let holds = directory::holds(path).map_err(system_error)?;
        if holds == Holds::Remains {
            let damage = Damage::Files(vec![path.join("CURRENT")]);
            return Err(cannot_open(path, "Corruption: its file CURRENT is missing".to_owned(), Some(damage)));
        }
        let witness = Witness::open_to_read(path).map_err(system_error)?;
        let end_damage = look_before(path, &witness)?;
        if witness.acknowledged().is_some() && !matches!(end_damage, Damage::LogEnd(Some(_))) {
            // RocksDB would go on without what is behind the damage and remove it, or would begin another log, so that the one that is missing could not be put back. A
            // store that is refused for that stays as it is.
            Store::open_to_read(path, options.clone())?.check_witness()?;
        }
        let (mut database, families) = options::rocksdb_options(&options);
        database.create_if_missing(holds == Holds::Nothing);
        let db = DB::open_cf_descriptors(&database, path, families).map_err(|error| refused(path, error))?;
        let store = Store::of(db, path, Witness::open(path).map_err(system_error)?, end_damage);
        let head = store.check_witness()?;
        store.vouch(head)?;
        store.open_books()?;
        Ok(store)
    }

    /// Whether a directory holds nothing of a store, or is not there: [`Store::open`] would begin an empty one.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn is_missing(path: &Path) -> std::io::Result<bool> {
        match directory::holds(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            holds => Ok(holds? == Holds::Nothing),
        }
    }

    /// Opens the store in a directory as its files are, to be read: nothing in the directory is changed, and what is behind is not refused,
    /// so that it can be looked at ([`Store::check`]). Families of rows that the store lacks, since an older doorward made it, are empty.
    ///
    /// # Errors
    /// There is no store, or its files are damaged or missing.
    pub fn open_to_read(path: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let witness = Witness::open_to_read(path).map_err(|error| cannot_open(path, error.to_string(), None))?;
        let end_damage = look_before(path, &witness)?;
        let (mut database, families) = options::rocksdb_options(&options);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        let there = DB::list_cf(&database, path).map_err(|error| refused(path, error))?;
        let families = families.into_iter().filter(|family| there.iter().any(|name| name == family.name()));
        let opened = DB::open_cf_descriptors_read_only(&database, path, families, false);
        Ok(Store::of(opened.map_err(|error| refused(path, error))?, path, witness, end_damage))
    }

    /// Writes the file `acknowledged` anew for a store that nobody has open: the store's end is taken for the right one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn acknowledge_anew(path: &Path, head: Head) -> Result<(), StoreError> {
        let mut witness = Witness::open(path).map_err(witness_error)?;
        // Both halves, so that neither says anything else; nor is more usage waited for than there is.
        witness.note_synced(0).and_then(|()| witness.note(head)).and_then(|()| witness.note(head)).map_err(witness_error)
    }

    fn of(db: DB, path: &Path, witness: Witness, end_damage: Damage) -> Store {
        Store(Arc::new(Inner {
            db,
            path: path.to_owned(),
            witness: Mutex::new(witness),
            end_damage,
            frozen: Mutex::new(None),
            held: Default::default(),
            failed_reads: AtomicU64::new(0),
            checkpointing: Mutex::new(()),
            books: usage::Books::default(),
            #[cfg(test)]
            failing: Default::default(),
            #[cfg(test)]
            unreadable: Default::default(),
            #[cfg(test)]
            syncs: Default::default(),
        }))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What is damaged, if usage that was in the store is not there any more: a log or manifest was read up to the damage. Asked before anything is written. (Of
    /// changes none is ever missing: then the store is not opened.)
    pub fn lost_usage(&self) -> Option<&Damage> {
        let is_lost = self.0.witness.lock().synced().is_some_and(|synced| self.0.db.latest_sequence_number() < synced);
        is_lost.then_some(&self.0.end_damage)
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

    /// Reads that failed since the store was opened: any is a reason to look at the disk.
    pub fn failed_reads(&self) -> u64 {
        self.0.failed_reads.load(Ordering::Relaxed)
    }

    /// Notes in the witness file how far changes are acknowledged: to be called after their commit, before their answers.
    pub fn acknowledge(&self, head: Head) -> Result<(), StoreError> {
        self.0.witness.lock().note(head).map_err(witness_error)
    }

    /// Why nothing is written any more until the store is opened again, if a write failed.
    pub fn frozen(&self) -> Option<String> {
        self.0.frozen.lock().clone()
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.0.db.cf_handle(family.name()).expect("the store was opened with every column family")
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, StoreError> {
        let Some(family) = self.0.db.cf_handle(family.name()) else { return Ok(None) };
        #[cfg(test)]
        if self.0.unreadable.load(Ordering::Relaxed) {
            return Err(StoreError::Disk { doing: "cannot read the store", reason: "a test said so".to_owned() });
        }
        self.0.db.get_pinned_cf(family, key).map_err(|error| self.cannot_read("cannot read the store", error))
    }

    fn cannot_read(&self, doing: &'static str, error: rocksdb::Error) -> StoreError {
        self.0.failed_reads.fetch_add(1, Ordering::Relaxed);
        disk_error(doing, error)
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        #[cfg(test)]
        {
            if self.0.failing.load(Ordering::Relaxed) {
                return Err(StoreError::Disk { doing: "cannot write the store", reason: "a test said so".to_owned() });
            }
            self.0.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
        }
        self.check_frozen()?;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.0.db.write_opt(batch, &options).map_err(|error| {
            let error = disk_error("cannot write the store", error);
            self.freeze(&error);
            error
        })
    }

    fn check_frozen(&self) -> Result<(), StoreError> {
        self.frozen().map_or(Ok(()), |reason| Err(StoreError::Frozen(reason)))
    }

    /// After a write that failed nothing more is written: nobody knows what of it is in the log. RocksDB would go on once there is room again, write out what is in
    /// memory, and keep that log for the families of rows that had nothing in memory: after a restart they, and only they, would have the write that failed.
    fn freeze(&self, error: &StoreError) {
        self.0.db.cancel_all_background_work(false);
        self.0.frozen.lock().get_or_insert_with(|| error.to_string());
    }

    /// The store's last change; refuses one that is behind what was acknowledged.
    fn check_witness(&self) -> Result<Head, StoreError> {
        let head = self.head()?;
        let acknowledged = self.0.witness.lock().acknowledged();
        let path = || self.0.path.clone();
        match acknowledged {
            None if head.sequence > 0 => return Err(StoreError::NoWitness { path: path(), found: head.sequence }),
            None => (),
            Some(acknowledged) => {
                let mac = match acknowledged.sequence {
                    0 => Some([0; 32]),
                    sequence if sequence == head.sequence => Some(head.mac),
                    sequence => self.entry(sequence)?.map(|recorded| recorded.entry.mac),
                };
                if head.sequence < acknowledged.sequence || mac != Some(acknowledged.mac) {
                    let damage = self.0.end_damage.clone();
                    return Err(StoreError::Behind { path: path(), found: head.sequence, acknowledged: acknowledged.sequence, damage });
                }
            }
        }
        Ok(head)
    }

    /// Begins to vouch for the store's manifest.
    fn vouch(&self, head: Head) -> Result<(), StoreError> {
        let mut witness = self.0.witness.lock();
        witness.watch_manifest(&self.0.path).map_err(witness_error)?;
        // From the first start on the file says something, so that one that says nothing is one that was lost.
        witness.note(head).map_err(witness_error)
    }

    /// Puts or removes a row behind everybody's back.
    #[cfg(test)]
    pub(crate) fn plant(&self, family: &str, row: &[u8], value: Option<&[u8]>) {
        let family = self.0.db.cf_handle(family).unwrap();
        match value {
            Some(value) => self.0.db.put_cf(family, row, value).unwrap(),
            None => self.0.db.delete_cf(family, row).unwrap(),
        }
    }

    /// A row as it is.
    #[cfg(test)]
    pub(crate) fn row(&self, family: &str, row: &[u8]) -> Option<Vec<u8>> {
        self.0.db.get_cf(self.0.db.cf_handle(family).unwrap(), row).unwrap()
    }

    /// Makes every write fail, or no more.
    #[cfg(test)]
    pub(crate) fn fail_writes(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::Relaxed);
    }

    /// Makes every row that is asked for by its name unreadable, or no more.
    #[cfg(test)]
    pub(crate) fn fail_reads(&self, failing: bool) {
        self.0.unreadable.store(failing, Ordering::Relaxed);
    }

    /// Writes the keys that are in memory to a table file.
    #[cfg(test)]
    pub(crate) fn write_out(&self) {
        self.0.db.flush_cf(self.family(Family::Keys)).unwrap();
    }

    /// Synchronous writes so far.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Relaxed)
    }
}

/// Refuses files that RocksDB reads first for what it would not see itself, or not come to an end with; tells what else is wrong with them.
fn look_before(path: &Path, witness: &Witness) -> Result<Damage, StoreError> {
    let system_error = |error: std::io::Error| cannot_open(path, error.to_string(), None);
    if let Some((manifest, reason)) = witness.manifest_fault(path).map_err(system_error)? {
        return Err(cannot_open(path, reason, Some(Damage::Files(vec![manifest]))));
    }
    let faults = framing::faults(path).map_err(system_error)?;
    for (file, fault) in &faults {
        if let Fault::Endless(at) = fault {
            let reason = format!("Corruption: {} has a record at byte {at} that is of no kind which is written to it", file.display());
            return Err(cannot_open(path, reason, Some(Damage::Files(vec![file.clone()]))));
        }
    }
    damage::of_end(path, faults).map_err(system_error)
}

/// RocksDB does not open the store.
fn refused(path: &Path, error: rocksdb::Error) -> StoreError {
    let reason = error.into_string();
    let is_damaged = ["Corruption", "No such file", "Invalid argument"].iter().any(|word| reason.contains(word));
    let damage = is_damaged.then(|| damage::of_refused(path, &reason));
    cannot_open(path, reason, damage)
}

fn cannot_open(path: &Path, reason: String, damage: Option<Damage>) -> StoreError {
    StoreError::Open { path: path.to_owned(), reason, damage }
}

/// What to do about files that are not as they should be.
fn advice(damage: &Damage) -> String {
    format!("; {damage}: look at the disk, and restore a backup")
}

fn witness_error(error: std::io::Error) -> StoreError {
    StoreError::Disk { doing: "cannot write the file 'acknowledged'", reason: error.to_string() }
}

fn disk_error(doing: &'static str, error: rocksdb::Error) -> StoreError {
    StoreError::Disk { doing, reason: error.into_string() }
}
