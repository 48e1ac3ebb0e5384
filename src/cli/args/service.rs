use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `serve`. Its `--run-dir` is the one of every verb.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward serve --config /etc/doorward/doorward.toml
  doorward serve --data-dir ./data --run-dir ./run --country-db ./country.mmdb

SIGHUP loads the country database and the reloadable settings again; SIGTERM stops it cleanly.")]
pub(crate) struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir", conflicts_with_all = ["data_dir", "country_db"])]
    pub(crate) config: Option<PathBuf>,
    /// Without a configuration file: the directory of the store
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Without a configuration file: the country database
    #[arg(long, value_name = "FILE")]
    pub(crate) country_db: Option<PathBuf>,
}

/// `check-config`
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckConfig {
    /// The configuration file
    #[arg(value_name = "FILE", required_unless_present = "config")]
    pub(crate) file: Option<PathBuf>,
    /// The same, as 'serve' takes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,
}

/// `completions`
#[derive(Debug, Clone, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: Shell,
}

/// `man`
#[derive(Debug, Clone, Args)]
pub(crate) struct Man {
    /// Where to write them
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
