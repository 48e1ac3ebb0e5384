//! Which files of a store that is refused are damaged. RocksDB's words often name another one, or none: so each kind of file is shown to be damaged by what it itself says.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};

use super::framing;

/// What of a store is damaged, as far as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// These files.
    Files(Vec<PathBuf>),
    /// These files, and perhaps others, which could not be looked at.
    FilesAtLeast(Box<(Vec<PathBuf>, String)>),
    /// The log that was the newest ended too early, or one after it is gone: what was written last is missing, and each record that is there is as it was written.
    LogEnd(Option<PathBuf>),
    /// None of its files can be shown to be damaged.
    Unseen,
    /// They could not be looked at.
    Unexamined(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Files(files) => write!(f, "{}", told(files)),
            Damage::FilesAtLeast(found) => {
                let (files, reason) = &**found;
                write!(f, "{} (and perhaps others, which could not all be looked at: {reason})", told(files))
            }
            Damage::LogEnd(Some(log)) => write!(f, "{} lacks its end, or a log after it is missing", log.display()),
            Damage::LogEnd(None) => write!(f, "its log is missing"),
            Damage::Unseen => write!(f, "none of its files can be shown to be damaged"),
            Damage::Unexamined(reason) => write!(f, "which of its files is damaged could not be looked for ({reason})"),
        }
    }
}

fn told(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    format!("{} {} damaged or missing", names.join(", "), if files.len() == 1 { "is" } else { "are" })
}

/// What is damaged in a store that RocksDB refuses with these words. Reads every file; changes none.
pub(super) fn of_refused(directory: &Path, words: &str) -> Damage {
    let looks = [
        framing::faults(directory).map(of_faults),
        wrong_name_of_manifest(directory),
        damaged_tables(directory),
        Ok(named_tables(directory, words)),
    ];
    let mut damaged = Vec::new();
    let mut hindered = None;
    for look in looks {
        match look {
            Ok(files) => damaged.extend(files),
            Err(error) => hindered = hindered.or(Some(error)),
        }
    }
    damaged.sort();
    damaged.dedup();
    match hindered {
        Some(error) if damaged.is_empty() => Damage::Unexamined(error.to_string()),
        Some(error) => Damage::FilesAtLeast(Box::new((damaged, error.to_string()))),
        None if damaged.is_empty() => Damage::Unseen,
        None => Damage::Files(damaged),
    }
}

/// What of the logs and manifests makes the end of what was written be missing: to be asked before RocksDB opens the store to write, which removes logs.
pub(super) fn of_end(directory: &Path, faults: Vec<(PathBuf, framing::Fault)>) -> io::Result<Damage> {
    if !faults.is_empty() {
        return Ok(Damage::Files(of_faults(faults)));
    }
    Ok(Damage::LogEnd(files(directory, |name| name.ends_with(".log"))?.pop()))
}

fn of_faults(faults: Vec<(PathBuf, framing::Fault)>) -> Vec<PathBuf> {
    faults.into_iter().map(|(file, _)| file).collect()
}

/// The tables that RocksDB's words name: one that is missing, or has another size than the manifest says.
fn named_tables(directory: &Path, words: &str) -> Vec<PathBuf> {
    let named = words.split(|c: char| c.is_whitespace() || ",;:'\"()".contains(c)).map(|word| directory.join(file_name(word)));
    named.filter(|file| file.extension().is_some_and(|extension| extension == "sst")).collect()
}

/// CURRENT names the manifest, and nothing else. Where it names one that is not there, CURRENT is wrong if another is there; if none is, the manifest is missing.
fn wrong_name_of_manifest(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let current = directory.join("CURRENT");
    let text = fs::read(&current).unwrap_or_default();
    let manifests = files(directory, |name| name.starts_with("MANIFEST-"))?;
    let named = str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')).filter(|name| {
        name.strip_prefix("MANIFEST-").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Ok(match named.map(|name| directory.join(name)) {
        Some(manifest) if manifests.contains(&manifest) => Vec::new(),
        Some(manifest) if manifests.is_empty() => vec![manifest],
        _ => vec![current],
    })
}

/// The tables that RocksDB cannot read. Its repair reads each table of a directory, checksums included, and moves those that it cannot read into `lost`; here, it is links that it moves, in
/// a directory of their own. It reads all but the filters, and RocksDB goes on without a filter that is damaged, so no store is refused for one.
fn damaged_tables(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let scratch = tempfile::tempdir()?;
    for table in files(directory, |name| name.ends_with(".sst"))? {
        symlink(std::path::absolute(&table)?, scratch.path().join(table.file_name().unwrap_or_default()))?;
    }
    DB::repair(&Options::default(), scratch.path()).map_err(|error| io::Error::other(error.into_string()))?;
    let lost = scratch.path().join("lost");
    let lost = if lost.is_dir() { files(&lost, |name| name.ends_with(".sst"))? } else { Vec::new() };
    Ok(lost.into_iter().map(|table| directory.join(table.file_name().unwrap_or_default())).collect())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The files whose names are so, in order: RocksDB's numbers have six digits or more.
fn files(directory: &Path, is_so: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_so) {
            found.push(entry.path());
        }
    }
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(found)
}
