//! The directory of the counters: `log`, `live-0`, `live-1`, and what was set aside.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::{info, warn};

use super::drainer::Drainer;
use super::frozen::{Frozen, Written};
use super::live::{FEWEST, Live, UNFINISHED};
use super::log::{LANES, Log, Owner};

/// Sets of foreign files that are kept; the oldest goes for a new one.
const FOREIGN: usize = 2;

/// The counters' files cannot be made, mapped or removed.
#[derive(Debug, Error)]
#[error("the counters in {path}: {error}")]
pub struct CountersError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

fn told(path: &Path) -> impl FnOnce(io::Error) -> CountersError {
    let path = path.to_owned();
    move |error| CountersError { path, error }
}

pub(super) fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn live_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("live-{}", generation % 2))
}

/// Takes over what a killed process left, or begins anew. `written` is what the store says of it.
pub(super) fn open(directory: &Path, owner: Owner, written: Written, most: usize) -> Result<(Log, Drainer), CountersError> {
    prepare(directory).map_err(told(directory))?;
    let path = log_path(directory);
    let why = match Log::open(&path, owner) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return begin(directory, owner, written, most),
        // An empty file or a directory is nothing of ours.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => "it is no log",
        Err(error) => return Err(told(&path)(error)),
        Ok(Err(why)) => why,
        Ok(Ok(log)) => match take_over(directory, owner, written, most, &log)? {
            Ok(drainer) => return Ok((log, drainer)),
            Err(why) => why,
        },
    };
    let aside = set_aside(directory).map_err(told(directory))?;
    warn!(path = %aside.display(), why, "counters that a killed daemon left were set aside: they are not this store's or cannot be relied on");
    begin(directory, owner, written, most)
}

/// Makes the directory, for this user alone, and removes what was not finished in it.
fn prepare(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if !fs::symlink_metadata(directory)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is a link"));
    }
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    ["log.new", UNFINISHED].iter().try_for_each(|name| remove(&directory.join(name)))
}

/// New files. The log comes last and in one step: without it, tables say nothing.
fn begin(directory: &Path, owner: Owner, written: Written, most: usize) -> Result<(Log, Drainer), CountersError> {
    let generation = written.generation + 1;
    let table = |generation| {
        let path = live_path(directory, generation);
        Live::create(Some(&path), owner, FEWEST.min(most), generation).map_err(told(&path))
    };
    let (spare, live) = (table(written.generation)?, table(generation)?);
    let (unfinished, path) = (directory.join("log.new"), log_path(directory));
    let log = Log::create(&unfinished, owner, generation).map_err(told(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(told(&path))?;
    Ok((log, Drainer::new(Some(directory), owner, (live, Some(spare), None), most)))
}

/// The tables that belong to a log, or why they do not.
fn take_over(
    directory: &Path,
    owner: Owner,
    written: Written,
    most: usize,
    log: &Log,
) -> Result<Result<Drainer, &'static str>, CountersError> {
    let generation = log.generation();
    if generation <= written.generation {
        return Ok(Err("the store has more than it"));
    }
    let table = |generation| {
        let path = live_path(directory, generation);
        match Live::open(&path, owner) {
            Ok(table) => Ok(table),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(told(&path)(error)),
        }
    };
    let Some(mut live) = table(generation)?.filter(|live| live.generation() == generation) else {
        return Ok(Err("its table is missing or damaged"));
    };
    // SAFETY: nobody else drains yet.
    unsafe { log.redo(|place| ((place as usize) < live.places()).then(|| live.place(place))) };
    live.look_again();
    let before = generation - 1;
    let (mut spare, mut left) = (None, None);
    match table(before)? {
        Some(other) if other.generation() == before => {
            let known = if written.generation == before { written.rows } else { 0 };
            if written.generation <= before && other.rows() as u64 > known {
                left = Some(Frozen::new(other, known as usize));
            } else {
                spare = Some(other);
            }
        }
        // Killed in the middle of a freeze: this was to be the next, and is empty.
        Some(other) if other.generation() == generation + 1 && other.rows() == 0 => spare = Some(other),
        _ if written.generation < before => return Ok(Err("a table that was to be written is missing or damaged")),
        _ => {
            let path = live_path(directory, before);
            spare = Some(Live::create(Some(&path), owner, FEWEST.min(most), before).map_err(told(&path))?);
        }
    }
    if let Some(spare) = &mut spare {
        spare.clear(|| {});
    }
    let events: u64 = (0..LANES).map(|lane| log.waiting(lane)).sum();
    let rows = live.rows() + left.as_ref().map_or(0, |left| left.live.rows());
    if rows > 0 || events > 0 {
        info!(rows, events, "counts that a killed daemon had not written were taken over");
    }
    if let Some(left) = &mut left {
        left.sort(Vec::new());
    }
    Ok(Ok(Drainer::new(Some(directory), owner, (live, spare, left), most)))
}

/// Moves the files to a directory beside them.
fn set_aside(directory: &Path) -> io::Result<PathBuf> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("foreign-")).and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    while numbers.len() >= FOREIGN {
        fs::remove_dir_all(directory.join(format!("foreign-{}", numbers.remove(0))))?;
    }
    let aside = directory.join(format!("foreign-{next}"));
    DirBuilder::new().mode(0o700).create(&aside)?;
    for name in ["live-0", "live-1", "log"] {
        match fs::rename(directory.join(name), aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// Removes the files, in which nothing is left; the log first, since without it tables say nothing.
pub(super) fn remove_all(directory: &Path) -> Result<(), CountersError> {
    for name in ["log", "live-0", "live-1", UNFINISHED] {
        let path = directory.join(name);
        remove(&path).map_err(told(&path))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
