//! The two directories, each locked for one daemon, and the sockets in the second.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::store::make_directory;

/// A directory that no other daemon uses while this lives.
pub(super) struct Locked {
    path: PathBuf,
    _lock: File,
}

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
    /// Makes the directory if need be (with this mode) and locks it.
    pub(super) fn open(path: &Path, mode: u32) -> Result<Locked, DirectoryError> {
        let io_error = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
        if !path.exists() {
            make_directory(path, mode).map_err(io_error)?;
        }
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        Locked::hold(path, lock.map_err(|error| DirectoryError::Io { path: lock_path, error })?)
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

    fn hold(path: &Path, lock: File) -> Result<Locked, DirectoryError> {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse(path.to_owned())),
            Err(error) => Err(DirectoryError::Io { path: path.to_owned(), error: error.into() }),
        }
    }

    /// Binds a socket in the directory with this mode and group. What a killed daemon left there is replaced; its lock is gone, so nobody listens.
    pub(super) fn bind(&self, name: &str, mode: u32, group: Option<u32>) -> Result<UnixListener, DirectoryError> {
        let path = self.path.join(name);
        let io_error = |error: io::Error| DirectoryError::Io { path: path.clone(), error };
        // Bound under another name until mode and group are right, so that nobody connects too early or is refused in between.
        let unfinished = self.path.join(format!("{name}.new"));
        remove(&unfinished).map_err(io_error)?;
        let listener = UnixListener::bind(&unfinished).map_err(io_error)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(mode)).map_err(io_error)?;
        if group.is_some() {
            chown(&unfinished, None, group).map_err(io_error)?;
        }
        fs::rename(&unfinished, &path).map_err(io_error)?;
        Ok(listener)
    }

    /// Takes a socket away again.
    pub(super) fn unlink(&self, name: &str) {
        if let Err(error) = remove(&self.path.join(name)) {
            tracing::warn!(socket = name, %error, "a socket could not be removed");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_directory_has_one_daemon_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let held = Locked::open(&path, 0o755).unwrap();
        assert!(matches!(Locked::open(&path, 0o755), Err(DirectoryError::InUse(_))));
        drop(held);
        assert!(Locked::open(&path, 0o755).is_ok());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let locked = Locked::open(directory.path(), 0o755).unwrap();
        drop(locked.bind("verify.sock", 0o600, None).unwrap());
        let path = directory.path().join("verify.sock");
        assert!(UnixStream::connect(&path).is_err());
        let _listener = locked.bind("verify.sock", 0o660, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
}
