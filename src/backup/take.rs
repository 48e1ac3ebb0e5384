use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{BackupError, Backups, FORMAT, FileRecord, Progress, RECORD, Record, copy, io_error};
use crate::catalog::check::{self, CheckError, CheckOptions};
use crate::key::Instant;
use crate::store::{Store, StoreOptions};

/// What is to be backed up: a checkpoint, and what it is of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The checkpoint's directory.
    pub path: PathBuf,
    /// The end of its history, `SEQUENCE:MAC`.
    pub head: String,
    /// Of which store.
    pub store_id: String,
    /// Which pepper its secrets need.
    pub pepper_id: String,
    /// And the one before.
    pub previous_pepper_id: Option<String>,
    /// When it was made.
    pub taken_at: Instant,
}

/// A backup that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// What it is.
    pub record: Record,
    /// Its directory.
    pub path: PathBuf,
    /// Bytes that were copied; the others it shares with the backup before.
    pub copied: u64,
    /// Tables that the backup before has too, but damaged: they were copied anew. No backup that shares them can be restored.
    pub damaged: Vec<String>,
}

/// What a copy of a checkpoint holds.
struct Filled {
    files: Vec<FileRecord>,
    copied: u64,
    /// Names of the files that are shared with the backup before.
    shared: HashSet<String>,
}

impl Backups {
    /// Copies a checkpoint. With `verify`, every file of it is read again and the store in it looked at, before it counts as a backup.
    ///
    /// # Errors
    /// Nothing was added: the system refuses, the directory is another store's, or what was copied is not well.
    pub fn take(&self, source: &Source, verify: bool, progress: &mut Progress) -> Result<Taken, BackupError> {
        self.sweep()?;
        let earlier = self.list()?.into_iter().filter_map(Result::ok).next_back();
        if let Some(earlier) = &earlier
            && earlier.store_id != source.store_id
        {
            let (theirs, ours) = (earlier.store_id.clone(), source.store_id.clone());
            return Err(BackupError::AnotherStore { path: self.path.clone(), theirs, ours });
        }
        // Held until all of it is copied, so that the daemon does not take it away.
        let held = File::open(&source.path).map_err(io_error("cannot read", &source.path))?;
        flock(&held, FlockOperation::NonBlockingLockShared).map_err(|error| io_error("cannot lock", &source.path)(error.into()))?;
        let id = self.list_ids()?.into_iter().max().unwrap_or(0) + 1;
        let part = self.path.join(format!("{id:06}.part"));
        let outcome = self.fill(&part, id, source, earlier.as_ref(), verify, progress);
        let mut taken = match outcome {
            Ok(taken) => taken,
            Err(error) => {
                // What cannot be removed either is removed by the next backup.
                let _ = fs::remove_dir_all(&part);
                return Err(error);
            }
        };
        taken.path = self.directory(id);
        let renamed = fs::rename(&part, &taken.path).and_then(|()| copy::sync_directory(&self.path));
        renamed.map_err(io_error("cannot finish", &taken.path))?;
        Ok(taken)
    }

    fn fill(
        &self,
        part: &Path,
        id: u32,
        source: &Source,
        earlier: Option<&Record>,
        verify: bool,
        progress: &mut Progress,
    ) -> Result<Taken, BackupError> {
        let db = part.join("db");
        DirBuilder::new().recursive(true).mode(0o700).create(&db).map_err(io_error("cannot make", &db))?;
        let Filled { files, copied, shared } = self.copy_files(&db, source, earlier, progress)?;
        copy::sync_directory(&db).map_err(io_error("cannot sync", &db))?;
        let mut record = Record {
            format: FORMAT,
            id,
            taken_at: source.taken_at,
            doorward: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: source.store_id.clone(),
            pepper_id: source.pepper_id.clone(),
            previous_pepper_id: source.previous_pepper_id.clone(),
            head: source.head.clone(),
            files,
            seal: String::new(),
        };
        record.seal = record.sum();
        let mut damaged = Vec::new();
        if verify {
            damaged = verify_files(&db, &record, &source.path, &shared, progress)?;
            look(&db, &record, source.taken_at, progress)?;
        }
        let path = part.join(RECORD);
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all())).map_err(io_error("cannot write", &path))?;
        copy::sync_directory(part).map_err(io_error("cannot sync", part))?;
        Ok(Taken { record, path: part.to_owned(), copied, damaged })
    }

    fn copy_files(&self, db: &Path, source: &Source, earlier: Option<&Record>, progress: &mut Progress) -> Result<Filled, BackupError> {
        let mut names = Vec::new();
        let mut total = 0;
        for entry in fs::read_dir(&source.path).map_err(io_error("cannot read", &source.path))? {
            let entry = entry.map_err(io_error("cannot read", &source.path))?;
            let is_text_log = entry.file_name().to_string_lossy().starts_with("LOG");
            let is_lock = entry.file_name() == "LOCK";
            if entry.metadata().is_ok_and(|file| file.is_file()) && !is_text_log && !is_lock {
                total += entry.metadata().map_or(0, |file| file.len());
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        let mut filled = Filled { files: Vec::new(), copied: 0, shared: HashSet::new() };
        let mut done = 0;
        for name in names {
            let (from, to) = (source.path.join(&name), db.join(&name));
            let known = earlier.and_then(|earlier| Some((earlier.id, earlier.files.iter().find(|file| file.name == name)?)));
            let known = known.map(|(id, file)| (self.directory(id).join("db").join(&name), file));
            // Where the file system has no links, it is copied.
            let shared =
                known.filter(|(path, file)| copy::is_same_table(&from, path, file)).filter(|(path, _)| fs::hard_link(path, &to).is_ok());
            if let Some((_, file)) = shared {
                done += file.bytes;
                filled.files.push(file.clone());
                filled.shared.insert(name);
                continue;
            }
            let (bytes, sha256) = copy::copy(&from, &to, |bytes| {
                done += bytes;
                progress("copy", done, total);
            })
            .map_err(io_error("cannot copy to", &to))?;
            filled.copied += bytes;
            filled.files.push(FileRecord { name, bytes, sha256 });
        }
        Ok(filled)
    }

    /// Removes what backups that were broken off left behind.
    fn sweep(&self) -> Result<(), BackupError> {
        for entry in fs::read_dir(&self.path).map_err(io_error("cannot read", &self.path))?.flatten() {
            let path = entry.path();
            let left = path.extension().is_some_and(|extension| extension == "part" || extension == "old");
            if left && path.is_dir() {
                fs::remove_dir_all(&path).map_err(io_error("cannot remove", &path))?;
            }
        }
        Ok(())
    }

    /// Numbers that are taken, by backups that cannot be read too.
    fn list_ids(&self) -> Result<Vec<u32>, BackupError> {
        let entries = fs::read_dir(&self.path).map_err(io_error("cannot read", &self.path))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }
}

/// Reads every file again, and holds it against what is recorded of it. One that is shared with an earlier backup, and was damaged there since, is copied from
/// the source once more; tells which. Left as it is, it would fail each backup from now on.
fn verify_files(
    db: &Path,
    record: &Record,
    source: &Path,
    shared: &HashSet<String>,
    progress: &mut Progress,
) -> Result<Vec<String>, BackupError> {
    let (total, mut done) = (record.bytes(), 0);
    let mut damaged = Vec::new();
    for file in &record.files {
        let path = db.join(&file.name);
        let found = copy::sum(&path, |bytes| {
            done += bytes;
            progress("verify", done, total);
        });
        let fits = found.map_err(io_error("cannot read", &path)).and_then(|found| held_against(&path, file, found));
        if let (Err(_), true) = (&fits, shared.contains(&file.name)) {
            fs::remove_file(&path).map_err(io_error("cannot remove", &path))?;
            copy::copy(&source.join(&file.name), &path, |_| ()).map_err(io_error("cannot copy to", &path))?;
            held_against(&path, file, copy::sum(&path, |_| ()).map_err(io_error("cannot read", &path))?)?;
            damaged.push(file.name.clone());
        } else {
            fits?;
        }
    }
    if !damaged.is_empty() {
        copy::sync_directory(db).map_err(io_error("cannot sync", db))?;
    }
    Ok(damaged)
}

pub(super) fn held_against(path: &Path, file: &FileRecord, (bytes, sha256): (u64, String)) -> Result<(), BackupError> {
    if (bytes, &sha256) == (file.bytes, &file.sha256) {
        return Ok(());
    }
    let reason = format!("it has {bytes} bytes with SHA-256 {sha256}, not {} with {}", file.bytes, file.sha256);
    Err(BackupError::Damaged { path: path.to_owned(), reason })
}

/// Opens the copy, and looks at everything in it but what needs the pepper.
fn look(db: &Path, record: &Record, now: Instant, progress: &mut Progress) -> Result<(), BackupError> {
    let store = Store::open_to_read(db, StoreOptions::default())?;
    let head = record.head.parse().map_err(|reason| BackupError::Damaged { path: db.to_owned(), reason })?;
    let options = CheckOptions { peppers: None, against: &[head], now };
    let report = check::check(&store, &options, &mut |at| {
        progress(at.part, at.done, at.about);
        true
    });
    match report {
        Ok(report) if report.is_clean() => Ok(()),
        Ok(report) => Err(BackupError::Unwell(Box::new(report))),
        Err(CheckError::Store(error)) => Err(error.into()),
        Err(CheckError::Stopped) => Err(BackupError::Stopped),
    }
}
