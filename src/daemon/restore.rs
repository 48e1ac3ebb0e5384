//! A backup as a store that a daemon can start on.

use std::path::{Path, PathBuf};

use super::pepper::{self, PepperError};
use crate::backup::{BackupError, Backups, Progress, Restore, Restored};
use crate::clock::Clock;
use crate::digest::Peppers;
use crate::key::Instant;

/// What is restored, and where to.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The directory of backups.
    pub backups: PathBuf,
    /// Which of them; the newest, if absent.
    pub id: Option<u32>,
    /// A directory that is missing, or empty but for the peppers.
    pub data_dir: PathBuf,
    /// The pepper, if it is not in that directory.
    pub pepper_file: Option<PathBuf>,
    /// The one before it, while secrets need it, if it is not in that directory.
    pub previous_pepper_file: Option<PathBuf>,
}

/// Restores a backup. With its pepper, given or found in the directory, the MACs of its history are verified too; tells whether that was so.
///
/// # Errors
/// Nothing was restored.
pub fn restore(options: &RestoreOptions, progress: &mut Progress) -> Result<(Restored, bool), BackupError> {
    let file = options.pepper_file.clone().or_else(|| pepper::beside(&options.data_dir, "pepper"));
    let previous = options.previous_pepper_file.clone().or_else(|| pepper::beside(&options.data_dir, pepper::PREVIOUS));
    let peppers = file.map(|file| peppers(&file, previous.as_deref())).transpose();
    let peppers = peppers.map_err(|error| BackupError::Pepper(error.to_string()))?;
    let now = Clock::start(Instant(0)).now();
    let restore = Restore { id: options.id, data_dir: &options.data_dir, peppers: peppers.as_ref(), now };
    let restored = Backups::open_to_read(&options.backups).restore(&restore, progress)?;
    Ok((restored, peppers.is_some()))
}

fn peppers(file: &Path, previous: Option<&Path>) -> Result<Peppers, PepperError> {
    pepper::find(file, previous, Path::new("of the backup"), None)
}
