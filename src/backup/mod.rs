//! Backups: a directory of stores, each as it was at one moment, of which those after the first share with the one before what did not change.
//!
//! ```text
//! DIR/lock               held while a backup is made
//! DIR/000001/backup.json what it is of, and each file with its length and SHA-256
//! DIR/000001/db/         the store: a directory that RocksDB could open as it is
//! ```
//!
//! Tables never change once they are written, so a table that the backup before has too is linked, not copied. The pepper is never in a backup.

mod copy;
mod restore;
mod take;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::catalog::check::CheckReport;
use crate::key::Instant;
use crate::store::{StoreError, make_directory};

pub use restore::{Restore, Restored};
pub use take::{Source, Taken};

/// The format of `backup.json`.
const FORMAT: u32 = 1;
/// What it is called.
const RECORD: &str = "backup.json";
/// Bytes of the longest one that is read: a million files.
const RECORD_BYTES: u64 = 256 << 20;

/// A directory of backups, which no other process adds to or removes from while this lives.
pub struct Backups {
    path: PathBuf,
    _lock: Option<File>,
}

/// What a backup is, as its `backup.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format of this document.
    pub format: u32,
    /// Counts from 1 in its directory.
    pub id: u32,
    /// When it was taken.
    pub taken_at: Instant,
    /// By which version of doorward.
    pub doorward: String,
    /// Of which store.
    pub store_id: String,
    /// Which pepper its secrets need.
    pub pepper_id: String,
    /// And, while some need it, the one before.
    pub previous_pepper_id: Option<String>,
    /// The end of its history, `SEQUENCE:MAC`.
    pub head: String,
    /// Its files.
    pub files: Vec<FileRecord>,
    /// SHA-256 of this document as compact JSON with nothing here.
    pub seal: String,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in `db`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

impl Record {
    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// What its seal should be.
    fn sum(&self) -> String {
        let unsealed = Record { seal: String::new(), ..self.clone() };
        Sha256::digest(serde_json::to_vec(&unsealed).unwrap_or_default()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How far it has come: what is done, and bytes or rows of about how many.
pub type Progress<'p> = dyn FnMut(&'static str, u64, u64) + 'p;

/// A backup cannot be taken, read or restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The system refuses.
    #[error("{doing} {path}: {error}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Another backup is under way.
    #[error("{0} is in use by another backup: wait for its end")]
    InUse(PathBuf),
    /// There is none.
    #[error("there is no backup {} in {path}", id.map_or_else(|| "at all".to_owned(), |id| id.to_string()), path = path.display())]
    None {
        /// The directory.
        path: PathBuf,
        /// Which was asked for.
        id: Option<u32>,
    },
    /// A backup is not as it was made.
    #[error("{path} is damaged: {reason}; use another backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory holds backups of another store.
    #[error("{path} holds backups of another store ({theirs}, this one is {ours}): give each store a directory of its own", path = path.display())]
    AnotherStore {
        /// The directory.
        path: PathBuf,
        /// Of which store they are.
        theirs: String,
        /// This store.
        ours: String,
    },
    /// Where the store is to be restored, something is already.
    #[error("{path} is not empty: it holds '{found}'; a store is restored only where nothing is but its peppers (pepper, pepper.previous)", path = path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// The pepper does not fit.
    #[error("{0}")]
    Pepper(String),
    /// What was restored, or copied, is not well. It was taken away again.
    #[error("the store in it is damaged: {}", faults(.0))]
    Unwell(Box<CheckReport>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The check of it was stopped.
    #[error("stopped before the end")]
    Stopped,
}

fn faults(report: &CheckReport) -> String {
    let faults: Vec<String> =
        report.parts.iter().flat_map(|part| part.faults.iter().map(|fault| format!("{}: {fault}", part.name))).collect();
    faults.join("; ")
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |error| BackupError::Io { doing, path: path.to_owned(), error }
}

impl Backups {
    /// Opens a directory of backups to add to it, and makes it with mode 0700 if it is missing.
    ///
    /// # Errors
    /// The system refuses, or another process has it.
    pub fn open(path: &Path) -> Result<Backups, BackupError> {
        make_directory(path, 0o700).map_err(io_error("cannot make the directory of backups", path))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(io_error("cannot open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Backups { path: path.to_owned(), _lock: Some(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::InUse(path.to_owned())),
            Err(error) => Err(io_error("cannot lock", &lock_path)(error.into())),
        }
    }

    /// Opens a directory of backups to read it.
    pub fn open_to_read(path: &Path) -> Backups {
        Backups { path: path.to_owned(), _lock: None }
    }

    /// The backups, oldest first. One whose `backup.json` cannot be read is an error in its place.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Record, BackupError>>, BackupError> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error("cannot read", &self.path))? {
            let name = entry.map_err(io_error("cannot read", &self.path))?.file_name();
            ids.extend(name.to_str().filter(|name| name.len() >= 6).and_then(|name| name.parse::<u32>().ok()));
        }
        ids.sort_unstable();
        Ok(ids.into_iter().map(|id| self.record(id)).collect())
    }

    fn directory(&self, id: u32) -> PathBuf {
        self.path.join(format!("{id:06}"))
    }

    fn record(&self, id: u32) -> Result<Record, BackupError> {
        use std::io::Read;
        let path = self.directory(id).join(RECORD);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(RECORD_BYTES).read_to_end(&mut text));
        read.map_err(io_error("cannot read", &path))?;
        let damaged = |reason: String| BackupError::Damaged { path: path.clone(), reason };
        let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if record.format != FORMAT {
            return Err(damaged(format!("its format is {}, and this doorward reads {FORMAT}, so a newer one wrote it", record.format)));
        }
        let is_name = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if record.seal != record.sum() || record.id != id || record.files.is_empty() || record.files.iter().any(|file| !is_name(&file.name))
        {
            return Err(damaged("it is not what was written".to_owned()));
        }
        Ok(record)
    }

    /// The backup of this number, or the newest.
    fn find(&self, id: Option<u32>) -> Result<Record, BackupError> {
        let none = || BackupError::None { path: self.path.clone(), id };
        match id {
            Some(id) if self.directory(id).exists() => self.record(id),
            Some(_) => Err(none()),
            None => self.list()?.pop().ok_or_else(none)?,
        }
    }

    /// Removes all but the newest `keep` backups; tells which.
    ///
    /// # Errors
    /// The system refuses.
    pub fn keep(&self, keep: u32) -> Result<Vec<u32>, BackupError> {
        let mut ids: Vec<u32> = self.list()?.into_iter().filter_map(|record| record.ok().map(|record| record.id)).collect();
        ids.truncate(ids.len().saturating_sub(keep as usize));
        for &id in &ids {
            // Under another name first, so that no half of it is taken for a backup.
            let (path, leaving) = (self.directory(id), self.path.join(format!("{id:06}.old")));
            fs::rename(&path, &leaving).and_then(|()| fs::remove_dir_all(&leaving)).map_err(io_error("cannot remove", &path))?;
        }
        Ok(ids)
    }
}
