use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::take::held_against;
use super::{BackupError, Backups, Progress, Record, copy, io_error};
use crate::catalog::check::{self, CheckError, CheckOptions, CheckReport};
use crate::digest::Peppers;
use crate::key::Instant;
use crate::store::{Store, StoreOptions, give_to_owner_of, make_directory};

/// What a directory may hold in which a store is restored.
const MAY_BE_THERE: [&str; 5] = ["pepper", "pepper.previous", "lock", "lost+found", "db.part"];

/// A restoration.
pub struct Restore<'a> {
    /// Which backup; the newest, if absent.
    pub id: Option<u32>,
    /// Where to: a directory that is missing, or empty but for the peppers.
    pub data_dir: &'a Path,
    /// Checks the MACs of the history, and that the secrets are of these peppers.
    pub peppers: Option<&'a Peppers>,
    /// The present moment.
    pub now: Instant,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// From which backup.
    pub record: Record,
    /// Where the store is now.
    pub path: PathBuf,
    /// What a look at everything in it found: nothing wrong.
    pub report: CheckReport,
}

impl Backups {
    /// Copies a backup into a directory, holds every file against its record, and looks at everything in it before it is put in its place.
    ///
    /// # Errors
    /// Nothing was restored: the directory is not empty, the backup is damaged, the pepper is another, or the system refuses.
    pub fn restore(&self, restore: &Restore, progress: &mut Progress) -> Result<Restored, BackupError> {
        let record = self.find(restore.id)?;
        let data_dir = restore.data_dir;
        make_directory(data_dir, 0o700).map_err(io_error("cannot make", data_dir))?;
        let _held = hold(data_dir)?;
        check_empty(data_dir)?;
        if let Some(peppers) = restore.peppers {
            check_pepper(peppers, &record)?;
        }
        let part = data_dir.join("db.part");
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("cannot remove", &part)(error)),
            _ => (),
        }
        let outcome = self.copy_back(&record, &part, progress).and_then(|()| look(&part, restore, &record, progress));
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                // What cannot be removed either is removed by the next try.
                let _ = fs::remove_dir_all(&part);
                return Err(error);
            }
        };
        give_to_owner_of(data_dir, &part).map_err(io_error("cannot give to the owner of the directory", &part))?;
        let path = data_dir.join("db");
        fs::rename(&part, &path).and_then(|()| copy::sync_directory(data_dir)).map_err(io_error("cannot finish", &path))?;
        Ok(Restored { record, path, report })
    }

    fn copy_back(&self, record: &Record, part: &Path, progress: &mut Progress) -> Result<(), BackupError> {
        DirBuilder::new().mode(0o700).create(part).map_err(io_error("cannot make", part))?;
        let from = self.directory(record.id).join("db");
        let (total, mut done) = (record.bytes(), 0);
        for file in &record.files {
            let (source, target) = (from.join(&file.name), part.join(&file.name));
            let copied = copy::copy(&source, &target, |bytes| {
                done += bytes;
                progress("copy", done, total);
            });
            let copied = copied.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => BackupError::Damaged { path: source.clone(), reason: "it is missing".to_owned() },
                _ => io_error("cannot copy", &source)(error),
            })?;
            held_against(&source, file, copied)?;
        }
        copy::sync_directory(part).map_err(io_error("cannot sync", part))
    }
}

/// Locks the directory if a daemon ever used it.
fn hold(data_dir: &Path) -> Result<Option<File>, BackupError> {
    let Ok(lock) = File::open(data_dir.join("lock")) else { return Ok(None) };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(_) => Err(BackupError::NotEmpty { path: data_dir.to_owned(), found: "a running daemon".to_owned() }),
    }
}

fn check_empty(data_dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(data_dir).map_err(io_error("cannot read", data_dir))? {
        let name = entry.map_err(io_error("cannot read", data_dir))?.file_name();
        let name = name.to_string_lossy();
        if !MAY_BE_THERE.contains(&&*name) {
            return Err(BackupError::NotEmpty { path: data_dir.to_owned(), found: name.into_owned() });
        }
    }
    Ok(())
}

fn check_pepper(peppers: &Peppers, record: &Record) -> Result<(), BackupError> {
    let given: Vec<String> =
        [Some(&peppers.current), peppers.previous.as_ref()].into_iter().flatten().map(|pepper| pepper.id().to_string()).collect();
    if given.contains(&record.pepper_id) {
        return Ok(());
    }
    let needed = match &record.previous_pepper_id {
        Some(previous) => format!("{} and, as the previous one, {previous}: give them", record.pepper_id),
        None => format!("{}: give that one", record.pepper_id),
    };
    let given = given.join(" and ");
    Err(BackupError::Pepper(format!(
        "the pepper given is {given}, but the secrets of this backup need {needed}, from where a copy is kept"
    )))
}

fn look(part: &Path, restore: &Restore, record: &Record, progress: &mut Progress) -> Result<CheckReport, BackupError> {
    let store = Store::open_to_read(part, StoreOptions::default())?;
    let head = record.head.parse().map_err(|reason| BackupError::Damaged { path: part.to_owned(), reason })?;
    let options = CheckOptions { peppers: restore.peppers, against: &[head], now: restore.now };
    let report = check::check(&store, &options, &mut |at| {
        progress(at.part, at.done, at.about);
        true
    });
    match report {
        Ok(report) if report.is_clean() => Ok(report),
        Ok(report) => match report.lacks_only() {
            Some(lacking) => Err(BackupError::Pepper(format!("{lacking}, with --previous-pepper-file FILE"))),
            None => Err(BackupError::Unwell(Box::new(report))),
        },
        Err(CheckError::Store(error)) => Err(error.into()),
        Err(CheckError::Stopped) => Err(BackupError::Stopped),
    }
}
