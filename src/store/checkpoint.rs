use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rocksdb::checkpoint::Checkpoint as RocksCheckpoint;
use rustix::fs::{FlockOperation, flock};

use super::{Head, Store, StoreError, StoreOptions, disk_error};

/// The directory of a checkpoint, beside that of the store.
const DIRECTORY: &str = "checkpoint";
/// How long a checkpoint is left alone though nobody has locked it: whoever asked for it comes soon.
const GRACE: Duration = Duration::from_secs(30);

/// The store as it was at one moment, in files of its own: links to the tables, copies of the rest. Whoever copies it holds a lock (`flock`) on its directory, so that
/// it is not taken away meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its directory: a store of its own, with the file `acknowledged`.
    pub path: PathBuf,
    /// The end of its history.
    pub head: Head,
}

impl Store {
    /// Makes a checkpoint beside the store, in place of an earlier one that nobody copies any more. What is in memory is written to tables before;
    /// changes and verifies go on.
    ///
    /// # Errors
    /// An earlier one is being copied, or the disk refuses, or did before: then what is in memory cannot be written.
    pub fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.check_frozen()?;
        let path = self.checkpoint_path();
        let making = self.0.checkpointing.try_lock();
        if making.is_none() || is_held(&path) {
            return Err(StoreError::CheckpointHeld(path));
        }
        self.remove_checkpoint(&path)?;
        let made = RocksCheckpoint::new(&self.0.db).and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(&path, 0));
        made.map_err(|error| disk_error("cannot make a checkpoint", error))?;
        // Its log is read for the head, and nothing is written but the second place, which a store with changes must have.
        let head = Store::open_to_read(&path, StoreOptions::default())?.head()?;
        Store::acknowledge_anew(&path, head)?;
        Ok(Checkpoint { path, head })
    }

    /// Removes a checkpoint that nobody needs any more; tells whether there is none left.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn drop_checkpoint(&self) -> Result<bool, StoreError> {
        let path = self.checkpoint_path();
        let making = self.0.checkpointing.try_lock();
        if making.is_none() || is_locked(&path) {
            return Ok(false);
        }
        self.remove_checkpoint(&path)?;
        Ok(true)
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.0.path.with_file_name(DIRECTORY)
    }

    fn remove_checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        for path in [path.to_owned(), path.with_extension("tmp")] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Disk {
                        doing: "cannot remove an old checkpoint",
                        reason: format!("{}: {error}", path.display()),
                    });
                }
                _ => (),
            }
        }
        Ok(())
    }
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|directory| flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Whether somebody copies it, or may be about to.
fn is_held(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|made| SystemTime::now().duration_since(made).ok());
    is_locked(path) || age.is_some_and(|age| age < GRACE && path.join("CURRENT").exists())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Backups that were begun and broken off, one after the other, had the daemon make checkpoints at once: each took away what another was making, and the log said that the
    /// store was damaged.
    #[test]
    fn one_checkpoint_is_made_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db"), StoreOptions::default()).unwrap();
        let made: Vec<_> = thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| store.checkpoint())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
        assert!(made.iter().all(|made| matches!(made, Ok(_) | Err(StoreError::CheckpointHeld(_)))), "{made:?}");
    }
}
