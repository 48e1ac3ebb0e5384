//! Where the pepper comes from: a systemd credential, or a 0600 file of its own; made once, and never beside a store that has keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroize;

use crate::digest::{Pepper, Peppers};
use crate::regular_file;

/// Why there is no pepper to start with.
#[derive(Debug, Error)]
pub enum PepperError {
    /// The store exists, and its pepper does not.
    #[error(
        "the pepper {path} is missing, and the store {store} exists: without its pepper no key in it can be verified, so none is made; \
         put the pepper back (from the backup that holds it), or move the whole directory of the store away to begin a new one"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The store that needs it.
        store: PathBuf,
    },
    /// Not 32 bytes.
    #[error("the pepper {path} has {bytes} bytes, not 32: it is not a pepper")]
    Length {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// Others may read it.
    #[error("the pepper {path} has mode {mode:03o}: others than its owner may use it; run chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It may not be on a disk.
    #[error("the pepper {path} cannot be brought to the disk ({error}): until it is there, no store begins to need it")]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be read or written.
    #[error("the pepper {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

const PEPPER_BYTES: usize = 32;
/// The file of the previous pepper beside the current one's, as the guide to a change of peppers has it.
pub(super) const PREVIOUS: &str = "pepper.previous";

/// Reads the peppers; makes the current one if neither it nor the store exists.
///
/// A file in `credentials`, the service manager's directory, may have any mode: it answers for who can get there.
pub(super) fn load(file: &Path, previous: Option<&Path>, store: &Path, credentials: Option<&Path>) -> Result<Peppers, PepperError> {
    if !file.exists() && !store.exists() {
        let current = make(file)?;
        return Ok(Peppers { current, previous: previous.map(|path| read_from(path, credentials)).transpose()? });
    }
    find(file, previous, store, credentials)
}

/// A pepper's file in the directory of a store, if it is there.
pub(super) fn beside(data_dir: &Path, name: &str) -> Option<PathBuf> {
    Some(data_dir.join(name)).filter(|file| file.exists())
}

/// Reads the peppers of a store that exists.
pub(super) fn find(file: &Path, previous: Option<&Path>, store: &Path, credentials: Option<&Path>) -> Result<Peppers, PepperError> {
    if !file.exists() {
        return Err(PepperError::Missing { path: file.to_owned(), store: store.to_owned() });
    }
    let read = |path: &Path| read_from(path, credentials);
    Ok(Peppers { current: read(file)?, previous: previous.map(read).transpose()? })
}

/// Has a pepper and its name on the disk: whoever put it there may have left both to the kernel. What the service manager hands over is in memory, and what is no
/// regular file is on no disk either; nor is there anything to have there on a file system that is only read.
pub(super) fn sync(path: &Path, credentials: Option<&Path>) -> Result<(), PepperError> {
    if is_credential(path, credentials) || !path.is_file() {
        return Ok(());
    }
    let sync = || {
        let file = File::open(path)?;
        file.sync_all()?;
        // Where it is a link, the file that it leads to has a name, too.
        for name in [path, &fs::canonicalize(path)?] {
            match File::open(directory_of(name)) {
                // A directory that one may pass through, but not read.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => rustix::fs::syncfs(&file)?,
                directory => directory?.sync_all()?,
            }
        }
        Ok(())
    };
    match sync() {
        Err(error) if !is_not_for_syncing(&error) => Err(PepperError::Unsynced { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

/// What file systems answer that have nothing to write.
fn is_not_for_syncing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::ROFS, Errno::OPNOTSUPP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn is_credential(path: &Path, credentials: Option<&Path>) -> bool {
    credentials.is_some_and(|directory| path.starts_with(directory))
}

fn read_from(path: &Path, credentials: Option<&Path>) -> Result<Pepper, PepperError> {
    read(path, !is_credential(path, credentials))
}

fn read(path: &Path, private: bool) -> Result<Pepper, PepperError> {
    let io_error = |error| PepperError::Io { path: path.to_owned(), error };
    let mut file = regular_file::open(path).map_err(io_error)?;
    let mode = file.metadata().map_err(io_error)?.mode() & 0o777;
    if private && mode & 0o077 != 0 {
        return Err(PepperError::Mode { path: path.to_owned(), mode });
    }
    // One byte more than a pepper has, to see that there is no more.
    let mut bytes = [0; PEPPER_BYTES + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]).map_err(io_error)? {
            0 => break,
            read => filled += read,
        }
    }
    let pepper = match <[u8; PEPPER_BYTES]>::try_from(&bytes[..filled]) {
        Ok(pepper) => Ok(Pepper::from_bytes(pepper)),
        Err(_) => Err(PepperError::Length { path: path.to_owned(), bytes: file.metadata().map_or(filled, |m| m.len() as usize) }),
    };
    bytes.zeroize();
    pepper
}

/// Makes a pepper and has it on the disk before any key is made under it.
fn make(path: &Path) -> Result<Pepper, PepperError> {
    let mut bytes = [0; PEPPER_BYTES];
    let write = |bytes: &mut [u8; PEPPER_BYTES]| -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)?;
        // Under another name until it is whole, so that a kill leaves no half of a pepper.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let _ = fs::remove_file(&unfinished);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&unfinished, path)?;
        fs::remove_file(&unfinished)?;
        File::open(directory_of(path))?.sync_all()
    };
    let outcome = write(&mut bytes).map_err(|error| PepperError::Io { path: path.to_owned(), error });
    let pepper = outcome.map(|()| Pepper::from_bytes(bytes));
    bytes.zeroize();
    pepper
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pepper_is_made_once_and_never_beside_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let (file, store) = (directory.path().join("pepper"), directory.path().join("db"));
        let made = load(&file, None, &store, None).unwrap();
        // It was made under another name first, which was that of a pepper named so.
        for name in ["pepper.new", "pepper.unfinished"] {
            let named = directory.path().join(name);
            assert_eq!(load(&named, None, &store, None).unwrap().current.id(), find(&named, None, &store, None).unwrap().current.id());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing else is left");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::create_dir(&store).unwrap();
        assert_eq!(load(&file, None, &store, None).unwrap().current.id(), made.current.id());
        fs::remove_file(&file).unwrap();
        assert!(matches!(load(&file, None, &store, None), Err(PepperError::Missing { .. })));
        assert!(!file.exists());
    }

    #[test]
    fn what_is_on_no_disk_is_not_synced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pepper");
        // Opening it would wait for somebody who writes.
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        sync(&file, None).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, [1; 32]).unwrap();
        sync(&file, None).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        sync(&link, None).unwrap();
    }

    #[test]
    fn what_is_no_pepper_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (file, store) = (directory.path().join("pepper"), directory.path().join("db"));
        for length in [0, 31, 33, 4_096] {
            fs::write(&file, vec![1; length]).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load(&file, None, &store, None).unwrap_err();
            assert!(matches!(error, PepperError::Length { bytes, .. } if bytes == length), "{error}");
        }
        fs::write(&file, [1; 32]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&file, None, &store, None), Err(PepperError::Mode { mode: 0o640, .. })));
        assert!(load(&file, None, &store, Some(directory.path())).is_ok(), "a credential's mode is the service manager's to answer for");
    }
}
