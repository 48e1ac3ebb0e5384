//! Directories, each locked for one daemon.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::store::make_directory;

/// A directory that no other daemon uses while this lives.
pub(super) struct Locked {
    lock: File,
}

/// What the locked file of a directory says in which a store was made.
const HAD_A_STORE: &[u8] =
    b"A store was made here, in db. Where it is missing doorward does not begin another, unless this file is removed.\n";

/// Why a directory or a socket cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Another daemon has it.
    #[error("{0} is in use by another doorward: stop it first, or name another directory")]
    InUse(PathBuf),
    /// It cannot be made, opened or changed.
    #[error("{path}: {error}")]
    Io {
        /// What cannot.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Locked {
    /// Makes the directory if need be (with this mode) and locks a file in it.
    pub(super) fn open(path: &Path, mode: u32) -> Result<Locked, DirectoryError> {
        make(path, mode)?;
        let file = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&file);
        Locked::hold(path, lock.map_err(|error| DirectoryError::Io { path: file, error })?)
    }

    /// Makes a directory that is this user's alone, and locks it itself: nothing has to be written for it, and nobody else can open it to do the same.
    pub(super) fn open_private(path: &Path) -> Result<Locked, DirectoryError> {
        make(path, 0o700)?;
        let io_error = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
        let directory = File::open(path).map_err(io_error)?;
        directory.set_permissions(Permissions::from_mode(0o700)).map_err(io_error)?;
        Locked::hold(path, directory)
    }

    /// Locks a directory that is only looked at, if a daemon ever used it; changes nothing in it.
    pub(super) fn look(path: &Path) -> Result<Option<Locked>, DirectoryError> {
        let lock_path = path.join("lock");
        let lock = match File::open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DirectoryError::Io { path: lock_path, error }),
        };
        Locked::hold(path, lock).map(Some)
    }

    /// Whether a store was made in the directory before.
    pub(super) fn had_store(&self) -> io::Result<bool> {
        Ok(self.lock.metadata()?.len() > 0)
    }

    /// Has on the disk that a store was made in the directory.
    pub(super) fn note_store(&self) -> io::Result<()> {
        if self.had_store()? {
            return Ok(());
        }
        (&self.lock).write_all(HAD_A_STORE)?;
        self.lock.sync_all()
    }

    fn hold(path: &Path, lock: File) -> Result<Locked, DirectoryError> {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked { lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse(path.to_owned())),
            Err(error) => Err(DirectoryError::Io { path: path.to_owned(), error: error.into() }),
        }
    }
}

/// Makes a directory with this mode, unless it is there.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let io_error = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
    if path.exists() { Ok(()) } else { make_directory(path, mode).map_err(io_error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_daemon_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        for (name, private) in [("data", false), ("counters", true)] {
            let path = &directory.path().join(name);
            let open = |path: &Path| if private { Locked::open_private(path) } else { Locked::open(path, 0o755) };
            let held = open(path).unwrap();
            assert!(matches!(open(path), Err(DirectoryError::InUse(_))));
            drop(held);
            assert!(open(path).is_ok());
        }
    }
}
