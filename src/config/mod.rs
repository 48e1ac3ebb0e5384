//! The configuration file: what may stand in it, what holds without it, and what of it can change while the daemon runs.

mod keys;
mod written;

use std::env;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::advise;
use crate::key::{Span, without_tokens};
use crate::regular_file;
use crate::unusual;

pub use keys::{KEYS, Row};
use written::{Check, Written};

/// Bytes of the largest configuration file that is read.
const FILE_BYTES: u64 = 1 << 20;
/// The configuration, with every value checked and every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Directory of the sockets.
    pub run_dir: PathBuf,
    /// Country database.
    pub country_db: Option<PathBuf>,
    /// File of the pepper.
    pub pepper_file: PathBuf,
    /// File of the pepper before it.
    pub previous_pepper_file: Option<PathBuf>,
    /// What new tokens begin with.
    pub token_prefix: String,
    /// Deny functions that are not registered.
    pub strict: bool,
    /// How long a deleted key can be brought back.
    pub undelete_for: Span,
    /// How often usage is written to disk.
    pub flush_interval: Span,
    /// How long usage is kept.
    pub usage: UsageKept,
    /// What is logged, and how.
    pub log: Log,
    /// The verify socket.
    pub verify: VerifySocket,
    /// The admin socket.
    pub admin: AdminSocket,
    /// From which age on `advise` tells something.
    pub advise: advise::Limits,
    /// From where on something is unusual.
    pub unusual: unusual::Limits,
    /// `/metrics` over TCP.
    pub metrics: Metrics,
}

/// How long usage is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageKept {
    /// By minute.
    pub keep_minutes: Span,
    /// By hour.
    pub keep_hours: Span,
    /// By day.
    pub keep_days: Span,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least severe messages that are logged.
    pub level: tracing::Level,
    /// How.
    pub format: LogFormat,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// With colour on a terminal, plain elsewhere.
    Auto,
    /// Never with colour.
    Plain,
}

/// The verify socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifySocket {
    /// Its file mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
    /// Users who may ask, besides root and the daemon's own; all whom the mode lets in where none is named.
    pub users: Vec<String>,
    /// Most connections at a time.
    pub max_connections: usize,
    /// How long a thread that serves connections looks for the next request before it sleeps.
    pub spin: Duration,
    /// How long a connection may be in the middle of a frame, or not take its answers.
    pub stuck_timeout: Span,
    /// How long a connection may be idle, if not for ever.
    pub idle_timeout: Option<Span>,
}

/// The admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSocket {
    /// Its file mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
    /// Users, besides root, who may do everything.
    pub full_users: Vec<String>,
    /// Groups whose members may do everything.
    pub full_groups: Vec<String>,
    /// Users who may read.
    pub read_users: Vec<String>,
    /// Groups whose members may read.
    pub read_groups: Vec<String>,
}

/// `/metrics` over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Where, if anywhere.
    pub listen: Option<SocketAddr>,
    /// Whether that may be another address than a loopback one.
    pub beyond_loopback: bool,
}

/// A configuration that is refused. The message names the file, and the key, its value and what is allowed, or the line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}: {reason}", path = path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A value that is not allowed.
    #[error("{place}: {key} = {value}: expected {allowed}")]
    Value {
        /// Which file, or the command line.
        place: String,
        /// Which key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Config {
    /// Reads and checks a file. Systemd credentials are looked for in `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, has a key that does not exist, or a value that is not allowed.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        regular_file::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_string(&mut text)).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB")));
        }
        Config::read(path, &text, credentials().as_deref())
    }

    /// The defaults, with these directories and this country database, which may be relative to the working directory.
    ///
    /// # Errors
    /// A path that is empty or, for `run_dir`, too long.
    pub fn for_directories(data_dir: &Path, run_dir: &Path, country_db: Option<&Path>) -> Result<Config, ConfigError> {
        let check = Check { place: "command line".to_owned() };
        let absolute =
            |key, path: &Path| std::path::absolute(path).map_err(|_| check.refused(key, format!("'{}'", path.display()), "a path"));
        let written = Written {
            data_dir: Some(absolute("data_dir", data_dir)?),
            run_dir: Some(absolute("run_dir", run_dir)?),
            country_db: country_db.map(|path| absolute("country_db", path)).transpose()?,
            ..Written::default()
        };
        written.resolve(&check, credentials().as_deref())
    }

    /// What holds after SIGHUP, and which keys have new values that only a restart applies.
    pub fn reload(&self, new: Config) -> (Config, Vec<&'static str>) {
        let mut result = self.clone();
        result.country_db.clone_from(&new.country_db);
        result.strict = new.strict;
        result.verify.users.clone_from(&new.verify.users);
        result.admin.full_users.clone_from(&new.admin.full_users);
        result.admin.full_groups.clone_from(&new.admin.full_groups);
        result.admin.read_users.clone_from(&new.admin.read_users);
        result.admin.read_groups.clone_from(&new.admin.read_groups);
        result.advise = new.advise;
        result.unusual = new.unusual;
        let differs = [
            ("data_dir", self.data_dir != new.data_dir),
            ("run_dir", self.run_dir != new.run_dir),
            ("pepper_file", self.pepper_file != new.pepper_file),
            ("previous_pepper_file", self.previous_pepper_file != new.previous_pepper_file),
            ("token_prefix", self.token_prefix != new.token_prefix),
            ("undelete_for", self.undelete_for != new.undelete_for),
            ("flush_interval", self.flush_interval != new.flush_interval),
            ("usage.keep_minutes", self.usage.keep_minutes != new.usage.keep_minutes),
            ("usage.keep_hours", self.usage.keep_hours != new.usage.keep_hours),
            ("usage.keep_days", self.usage.keep_days != new.usage.keep_days),
            ("log.level", self.log.level != new.log.level),
            ("log.format", self.log.format != new.log.format),
            ("verify.mode", self.verify.mode != new.verify.mode),
            ("verify.group", self.verify.group != new.verify.group),
            ("verify.max_connections", self.verify.max_connections != new.verify.max_connections),
            ("verify.spin_us", self.verify.spin != new.verify.spin),
            ("verify.stuck_timeout", self.verify.stuck_timeout != new.verify.stuck_timeout),
            ("verify.idle_timeout", self.verify.idle_timeout != new.verify.idle_timeout),
            ("admin.mode", self.admin.mode != new.admin.mode),
            ("admin.group", self.admin.group != new.admin.group),
            ("metrics.listen", self.metrics.listen != new.metrics.listen),
            ("metrics.beyond_loopback", self.metrics.beyond_loopback != new.metrics.beyond_loopback),
        ];
        (result, differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect())
    }

    fn read(path: &Path, text: &str, credentials: Option<&Path>) -> Result<Config, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: without_tokens(error.to_string().trim_end()).into_owned(),
        };
        let written: Written = toml::from_str(text).map_err(syntax)?;
        written.resolve(&Check { place: path.display().to_string() }, credentials)
    }
}

fn credentials() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::read(Path::new("/etc/doorward/doorward.toml"), text, None)
    }

    fn line(row: &Row, value: &str) -> String {
        match row.key.split_once('.') {
            Some((section, key)) => format!("[{section}]\n{key} = {value}\n"),
            None => format!("{} = {value}\n", row.key),
        }
    }

    /// Some defaults are words.
    fn is_value(row: &Row) -> bool {
        toml::from_str::<toml::Table>(&format!("x = {}", row.default)).is_ok()
    }

    #[test]
    fn every_key_is_taken_and_its_default_is_the_documented_one() {
        let defaults = read("").unwrap();
        for row in &KEYS {
            assert_ne!(read(&line(row, row.example)).unwrap(), defaults, "{}", row.key);
            if is_value(row) {
                assert_eq!(read(&line(row, row.default)).unwrap(), defaults, "{}", row.key);
            }
        }
        assert_eq!(
            (defaults.country_db, defaults.previous_pepper_file, defaults.verify.group, defaults.admin.group),
            (None, None, None, None)
        );
        assert_eq!(defaults.pepper_file, Path::new("/var/lib/doorward/pepper"));
    }

    #[test]
    fn the_table_has_every_key_that_is_read() {
        let mut read_keys = Vec::new();
        for section in ["", "usage", "log", "verify", "admin", "advise", "unusual", "metrics"] {
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            let error = read(&format!("{header}nonsense = 1")).unwrap_err().to_string();
            assert!(error.contains("/etc/doorward/doorward.toml") && error.contains("nonsense"), "{error}");
            let (_, expected) = error.split_once("expected one of").or(error.split_once("expected")).unwrap();
            let sections = ["usage", "log", "verify", "admin", "advise", "unusual", "metrics"];
            let names = expected.split('`').skip(1).step_by(2).filter(|name| !sections.contains(name));
            read_keys.extend(names.map(|name| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }));
        }
        assert_eq!(read_keys, KEYS.map(|row| row.key));
    }

    #[test]
    fn a_reload_applies_what_is_reloadable_and_names_the_rest() {
        let old = read("").unwrap();
        for row in &KEYS {
            let new = read(&line(row, row.example)).unwrap();
            let (result, restart) = old.reload(new.clone());
            if row.reloadable {
                assert_eq!((result, restart), (new, vec![]), "{}", row.key);
            } else {
                let also = restart.iter().filter(|key| **key != row.key && !(row.key == "data_dir" && **key == "pepper_file"));
                assert_eq!(also.count(), 0, "{}: {restart:?}", row.key);
                assert!(restart.contains(&row.key) && result == old, "{}", row.key);
            }
        }
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named_with_its_file_its_key_and_what_is() {
        for (key, value) in [
            ("data_dir", "\"lib\""),
            ("run_dir", "\"\""),
            ("country_db", "\"country.mmdb\""),
            ("token_prefix", "\"DW\""),
            ("undelete_for", "\"a month\""),
            ("flush_interval", "\"0s\""),
            ("flush_interval", "\"2h\""),
            ("usage.keep_minutes", "\"119m\""),
            ("usage.keep_hours", "\"47h\""),
            ("usage.keep_days", "\"for ever\""),
            ("log.level", "\"loud\""),
            ("log.format", "\"xml\""),
            ("verify.mode", "\"0999\""),
            ("verify.mode", "\"066\""),
            ("verify.max_connections", "0"),
            ("verify.max_connections", "-1"),
            ("verify.spin_us", "-1"),
            ("verify.spin_us", "1001"),
            ("verify.stuck_timeout", "\"999ms\""),
            ("verify.stuck_timeout", "\"2h\""),
            ("verify.idle_timeout", "\"0s\""),
            ("admin.group", "\"\""),
            ("verify.users", "[\"-1\"]"),
            ("admin.full_users", "[\"a b\"]"),
            ("advise.idle_after", "\"1h\""),
            ("advise.rotate_after", "\"x\""),
            ("advise.expiring_within", "\"0s\""),
            ("unusual.history_days", "6"),
            ("unusual.min_days", "61"),
            ("unusual.deviations", "1"),
            ("unusual.factor", "1"),
            ("unusual.min_count", "0"),
            ("unusual.dormant_after", "\"1h\""),
            ("unusual.networks_at_once", "65"),
            ("unusual.guesses", "-1"),
            ("metrics.listen", "\"9464\""),
            ("metrics.listen", "\"localhost:9464\""),
            ("metrics.listen", "\"192.0.2.1:9464\""),
            ("metrics.listen", "\"0.0.0.0:9464\""),
        ] {
            let row = KEYS.iter().find(|row| row.key == key).unwrap();
            let error = read(&line(row, value)).unwrap_err().to_string();
            let shown = value.trim_matches(['[', ']']);
            assert!(error.starts_with(&format!("/etc/doorward/doorward.toml: {key} = {shown}: expected ")), "{error}");
        }
        let error = read(&format!("run_dir = \"/{}\"", "x".repeat(95))).unwrap_err().to_string();
        assert!(error.contains("at most 95 bytes"), "{error}");
        assert!(read(&format!("run_dir = \"/{}\"", "x".repeat(94))).is_ok());
        let error = read("\nstrict = \"yes\"").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("strict"), "{error}");
    }

    #[test]
    fn a_credential_wins() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("pepper"), [0; 32]).unwrap();
        let config = Config::read(Path::new("x"), "pepper_file = \"/etc/pepper\"", Some(directory.path())).unwrap();
        assert_eq!(config.pepper_file, directory.path().join("pepper"));
        assert_eq!(config.previous_pepper_file, None);
    }

    #[test]
    fn directories_of_the_command_line_may_be_relative() {
        let config = Config::for_directories(Path::new("data"), Path::new("/run/d"), None).unwrap();
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("data"));
        assert!(Config::for_directories(Path::new(""), Path::new("/run/d"), None).is_err());
    }

    #[test]
    fn the_documentation_holds_the_table() {
        let mut table = String::from("| key | default | SIGHUP | meaning |\n| --- | --- | --- | --- |\n");
        for row in &KEYS {
            let default = if is_value(row) { format!("`{}`", row.default) } else { row.default.to_owned() };
            let reload = if row.reloadable { "applies it" } else { "restart" };
            table.push_str(&format!("| `{}` | {default} | {reload} | {} |\n", row.key, row.meaning));
        }
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
        assert!(page.contains(&table), "docs/configuration.md should hold:\n{table}");
    }
}
