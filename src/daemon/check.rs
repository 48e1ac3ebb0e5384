//! A look at a store that no daemon uses.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{DirectoryError, Locked};
use super::{ServeError, pepper, time};
use crate::admin;
use crate::admin::wire::FunctionView;
use crate::catalog::Head;
use crate::catalog::check::{self, CheckError, CheckOptions, CheckReport, Part, Progress};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::digest::Peppers;
use crate::key::Instant;
use crate::store::{Store, StoreError, StoreOptions, TimeFloor, UsageBatch, give_to_owner_of};
use crate::usage;

/// Whose store is looked at.
#[derive(Debug, Clone)]
pub enum Whose {
    /// That of the daemon with this configuration.
    Config(PathBuf),
    /// The one in this directory, with the peppers beside it.
    Directory(PathBuf),
}

/// How a store is looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// Which store.
    pub whose: Whose,
    /// A pepper elsewhere than the configuration says.
    pub pepper_file: Option<PathBuf>,
    /// The same of the pepper before it.
    pub previous_pepper_file: Option<PathBuf>,
    /// Without a pepper: what needs it is not checked.
    pub no_pepper: bool,
    /// Heads that were noted earlier.
    pub against: Vec<Head>,
    /// Writes the file `acknowledged` anew if nothing else is wrong.
    pub acknowledge: bool,
    /// Lets time go on from what the wall clock shows, if nothing is wrong.
    pub believe_clock: bool,
}

/// Where a store is, and its pepper.
struct Place {
    data_dir: PathBuf,
    pepper_file: PathBuf,
    previous_pepper_file: Option<PathBuf>,
}

impl Look {
    fn place(&self) -> Result<Place, ServeError> {
        let mut place = match &self.whose {
            Whose::Config(file) => {
                let config = Config::load(file)?;
                Place { data_dir: config.data_dir, pepper_file: config.pepper_file, previous_pepper_file: config.previous_pepper_file }
            }
            Whose::Directory(data_dir) => {
                let previous_pepper_file = pepper::beside(data_dir, pepper::PREVIOUS);
                Place { data_dir: data_dir.clone(), pepper_file: data_dir.join("pepper"), previous_pepper_file }
            }
        };
        if let Some(file) = &self.pepper_file {
            place.pepper_file.clone_from(file);
        }
        if let Some(file) = &self.previous_pepper_file {
            place.previous_pepper_file = Some(file.clone());
        }
        Ok(place)
    }
}

/// Looks at everything in a store that no daemon uses. Nothing is changed, but for the file `acknowledged` and the time where that is asked for and all else is well.
///
/// # Errors
/// A daemon uses the store, there is none, it cannot be opened at all, or the pepper is missing.
pub fn check(look: &Look, progress: &mut dyn FnMut(Progress) -> bool) -> Result<CheckReport, ServeError> {
    let place = look.place()?;
    let _locked = Locked::look(&place.data_dir)?;
    let path = store_in(&place.data_dir)?;
    let peppers = if look.no_pepper { None } else { Some(peppers(&place, &path)?) };
    let store = match Store::open_to_read(&path, StoreOptions::default()) {
        Ok(store) => store,
        Err(error) => return Ok(unreadable(path, &error)),
    };
    let now = Clock::start(time::kept_floor(&store).unwrap_or(Instant(0))).now();
    let options = CheckOptions { peppers: peppers.as_ref(), against: &look.against, now };
    let mut report = match check::check(&store, &options, progress) {
        Ok(report) => report,
        Err(CheckError::Store(error)) => return Err(error.into()),
        Err(CheckError::Stopped) => return Err(ServeError::Stopped),
    };
    drop(store);
    if report.lacks.is_some() {
        tell_where_from(&place, &mut report);
    }
    if look.acknowledge {
        acknowledge(&path, &mut report)?;
    }
    if look.believe_clock {
        believe_clock(&path, &mut report)?;
    }
    if look.acknowledge || look.believe_clock {
        give_to_owner_of(&place.data_dir, &path).map_err(|error| DirectoryError::Io { path, error })?;
    }
    Ok(report)
}

/// The end of the history of a store that no daemon uses.
///
/// # Errors
/// As [`check()`].
pub fn head(look: &Look) -> Result<Head, ServeError> {
    let place = look.place()?;
    let _locked = Locked::look(&place.data_dir)?;
    Ok(Store::open_to_read(&store_in(&place.data_dir)?, StoreOptions::default())?.head()?)
}

/// Writes every key of a store that no daemon uses, without its pepper: as the import takes them. Within, whether `out` took them.
///
/// # Errors
/// A daemon uses the store, there is none, or it cannot be read.
pub fn export(data_dir: &Path, digests: bool, out: &mut dyn io::Write) -> Result<io::Result<()>, ServeError> {
    let _locked = Locked::look(data_dir)?;
    Ok(admin::write_keys(&Store::open_to_read(&store_in(data_dir)?, StoreOptions::default())?, digests, out)?)
}

/// The functions that are registered in a store that no daemon uses, without its pepper.
///
/// # Errors
/// As [`export()`].
pub fn functions(data_dir: &Path) -> Result<Vec<FunctionView>, ServeError> {
    let _locked = Locked::look(data_dir)?;
    Ok(admin::read_functions(&Store::open_to_read(&store_in(data_dir)?, StoreOptions::default())?)?)
}

/// The directory of the store in a data directory.
fn store_in(data_dir: &Path) -> Result<PathBuf, ServeError> {
    let path = data_dir.join("db");
    if path.is_dir() { Ok(path) } else { Err(ServeError::NoStore(data_dir.to_owned())) }
}

/// A store that cannot even be opened is damaged: the report says so and nothing else.
fn unreadable(path: PathBuf, error: &StoreError) -> CheckReport {
    let mut part = Part::new("files", "stores");
    part.fault(error.to_string());
    CheckReport { store: path, head: Head::default(), parts: vec![part], lacks: None, took: Duration::ZERO }
}

fn peppers(place: &Place, store: &Path) -> Result<Peppers, ServeError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    Ok(pepper::find(&place.pepper_file, place.previous_pepper_file.as_deref(), store, credentials.as_deref())?)
}

/// Which files the peppers were read from, of which one is another than the store needs, or missing.
fn tell_where_from(place: &Place, report: &mut CheckReport) {
    let files = [Some(&place.pepper_file), place.previous_pepper_file.as_ref()].into_iter().flatten();
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    let note = format!("read from {}; --pepper-file and --previous-pepper-file name others", files.join(" and "));
    report.parts.iter_mut().filter(|part| part.name == check::PEPPER).for_each(|part| part.note = Some(note.clone()));
}

fn believe_clock(path: &Path, report: &mut CheckReport) -> Result<(), ServeError> {
    let all_is_well = report.parts.iter().all(|part| part.faults.is_empty());
    let Some(part) = report.parts.iter_mut().find(|part| part.name == "meta") else { return Ok(()) };
    if !all_is_well {
        part.note = Some("time was not set, since other things are wrong".to_owned());
        return Ok(());
    }
    let now = clock::wall();
    let floor = TimeFloor { at: now, boot: Some((usage::boot_id(), clock::uptime())) };
    let store = Store::open(path, StoreOptions::default())?;
    let before = store.time_floor()?.map_or(Instant(0), |floor| floor.at);
    store.write_usage(&UsageBatch { time_floor: Some(floor), ..UsageBatch::default() }, true)?;
    part.note = Some(format!("time goes on from {now}; it had reached {before}"));
    Ok(())
}

fn acknowledge(path: &Path, report: &mut CheckReport) -> Result<(), ServeError> {
    let others_are_well = report.parts.iter().all(|part| part.name == "acknowledged" || part.faults.is_empty());
    if let Some(part) = report.parts.iter_mut().find(|part| part.name == "acknowledged") {
        if !others_are_well {
            part.note = Some("not written anew, since other things are wrong".to_owned());
        } else if !part.faults.is_empty() {
            Store::acknowledge_anew(path, report.head)?;
            part.note = Some(format!("{}; written anew: the history ends at entry {}", part.faults.join("; "), report.head.sequence));
            part.faults.clear();
        }
    }
    Ok(())
}
