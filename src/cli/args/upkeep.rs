use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// `check`
#[derive(Debug, Clone, Args)]
#[command(
    group = ArgGroup::new("offline").args(["config", "data_dir"]),
    after_help = "Examples:
  doorward check                                        the store and the index of the daemon that runs
  doorward check --config /etc/doorward/doorward.toml   a store that no daemon uses
  doorward check --head >> /mnt/elsewhere/heads         notes the end of the history, to be kept elsewhere
  doorward check --against /mnt/elsewhere/heads         was the history cut off or written anew since?

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
    #[arg(long, conflicts_with_all = ["against", "acknowledge"])]
    pub(crate) head: bool,
    /// The history must still hold these heads: SEQUENCE:MAC, or a file with one a line ('-' is standard input); may be repeated
    #[arg(long, value_name = "HEAD")]
    pub(crate) against: Vec<String>,
    /// With --config or --data-dir: the pepper, if it is elsewhere
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// With --config or --data-dir: without the pepper. The MACs of the history are not verified then
    #[arg(long, requires = "offline", conflicts_with = "pepper_file")]
    pub(crate) no_pepper: bool,
    /// With --config or --data-dir: if all else is well, writes the file 'acknowledged' anew, which says where the history ends
    #[arg(long, requires = "offline", conflicts_with = "no_pepper")]
    pub(crate) acknowledge: bool,
}
