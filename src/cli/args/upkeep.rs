use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// `check`
#[derive(Debug, Clone, Args)]
#[command(
    group = ArgGroup::new("offline").args(["config", "data_dir"]),
    after_help = "Examples:
  doorward check                                     the daemon that runs
  doorward check --data-dir /srv/doorward            a store that none uses
  doorward check --head >> /mnt/elsewhere/heads      notes the history's end
  doorward check --against /mnt/elsewhere/heads      was it cut off since?

It reads every row with its checksum, holds keys, names, history and index against one another, and verifies the MACs of
the history's chain. Exit code: 0 when nothing is wrong, 1 when something is damaged."
)]
pub(crate) struct Check {
    /// Looks at the store of the daemon with this configuration, which must not run
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The same, by the directory of the store
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only prints the end of the history, SEQUENCE:MAC
    #[arg(long, conflicts_with_all = ["against", "acknowledge", "believe_clock"])]
    pub(crate) head: bool,
    /// The history must still hold these heads: SEQUENCE:MAC, or a file with one a line ('-' is standard input); may be repeated
    #[arg(long, value_name = "HEAD")]
    pub(crate) against: Vec<String>,
    /// With --config or --data-dir: the pepper, if it is elsewhere
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// With --config or --data-dir: the pepper before it, while secrets need it [default: as the configuration says, or 'pepper.previous' in the data directory, if it is there]
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub(crate) previous_pepper_file: Option<PathBuf>,
    /// With --config or --data-dir: without the pepper. The MACs of the history are not verified then
    #[arg(long, requires = "offline", conflicts_with_all = ["pepper_file", "previous_pepper_file"])]
    pub(crate) no_pepper: bool,
    /// With --config or --data-dir: if all else is well, writes the file 'acknowledged' anew, which says where the history ends
    #[arg(long, requires = "offline", conflicts_with = "no_pepper")]
    pub(crate) acknowledge: bool,
    /// With --config or --data-dir: if nothing is wrong, lets time go on from what the wall clock shows now, after it was far ahead by mistake for so
    /// long that it was believed. Keys and secrets that ended in between are good again until they end
    #[arg(long, requires = "offline", conflicts_with = "no_pepper")]
    pub(crate) believe_clock: bool,
}

/// `backup`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward backup /mnt/backup/doorward --keep 30      from a timer, each night
  doorward backup /mnt/backup/doorward --list

It is taken while the daemon runs, and verified: every file is read again and every record looked at. Tables that the backup
before has too are shared with it. The pepper is not in it: keep its copy apart. Run it as root, or as the daemon's user.")]
pub(crate) struct Backup {
    /// The directory of backups; it is made if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Removes all but the newest N afterwards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Only lists the backups that are there
    #[arg(long, conflicts_with_all = ["keep", "no_verify"])]
    pub(crate) list: bool,
    /// Does not read again what was copied
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// `restore`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward restore /mnt/backup/doorward --data-dir /var/lib/doorward
  doorward restore /mnt/backup/doorward --id 12 --data-dir ./look

The directory must be missing, or empty but for the peppers. What was changed after the backup was taken is not in it:
keys revoked since are good again.")]
pub(crate) struct Restore {
    /// The directory of backups
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Which backup [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) id: Option<u32>,
    /// Where the store is to be: the data_dir of the daemon that will use it
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The pepper, to verify the MACs of the history with [default: 'pepper' in the data directory, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// The pepper before it, while secrets need it [default: 'pepper.previous' in the data directory, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) previous_pepper_file: Option<PathBuf>,
}
