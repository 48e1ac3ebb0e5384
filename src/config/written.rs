use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{AdminSocket, Config, ConfigError, Log, LogFormat, Metrics, UsageKept, VerifySocket};
use crate::advise;
use crate::key::{Span, check_prefix, limits, without_tokens};
use crate::unusual;

/// Bytes of the longest `run_dir`: the kernel takes 107 for the path of a socket, and `/verify.sock` stands behind it.
const RUN_DIR_BYTES: usize = 107 - "/verify.sock".len();
/// The shortest and the longest time between two flushes, in milliseconds.
const FLUSH_INTERVAL_MS: (i64, i64) = (100, 60_000);
/// The most connections that may be allowed: each may need a thread, of which the kernel gives a process about so many.
const CONNECTIONS: i64 = 16_384;

/// How long a connection may be stuck or idle, in milliseconds.
const STUCK_MS: (i64, i64) = (1_000, 3_600_000);
const IDLE_MS: (i64, i64) = (1_000, 365 * 86_400_000);

/// The longest that a thread may look for a request without sleeping, in microseconds.
const SPIN_US: i64 = 1_000;

/// Ages of keys and secrets: a day, and the longest span there is.
const LONG_MS: (i64, i64) = (86_400_000, limits::SPAN_MS);
const HOUR_MS: i64 = 3_600_000;

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) country_db: Option<PathBuf>,
    pub(super) pepper_file: Option<PathBuf>,
    pub(super) previous_pepper_file: Option<PathBuf>,
    pub(super) token_prefix: Option<String>,
    pub(super) strict: Option<bool>,
    pub(super) undelete_for: Option<String>,
    pub(super) flush_interval: Option<String>,
    pub(super) usage: WrittenUsage,
    pub(super) log: WrittenLog,
    pub(super) verify: WrittenVerify,
    pub(super) admin: WrittenAdmin,
    pub(super) advise: WrittenAdvise,
    pub(super) unusual: WrittenUnusual,
    pub(super) metrics: WrittenMetrics,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenUsage {
    keep_minutes: Option<String>,
    keep_hours: Option<String>,
    keep_days: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenLog {
    level: Option<String>,
    format: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenVerify {
    mode: Option<String>,
    group: Option<String>,
    users: Vec<String>,
    max_connections: Option<i64>,
    spin_us: Option<i64>,
    stuck_timeout: Option<String>,
    idle_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenAdmin {
    mode: Option<String>,
    group: Option<String>,
    full_users: Vec<String>,
    full_groups: Vec<String>,
    read_users: Vec<String>,
    read_groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenAdvise {
    idle_after: Option<String>,
    rotate_after: Option<String>,
    expiring_within: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenMetrics {
    listen: Option<String>,
    beyond_loopback: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenUnusual {
    history_days: Option<i64>,
    min_days: Option<i64>,
    deviations: Option<i64>,
    factor: Option<i64>,
    min_count: Option<i64>,
    dormant_after: Option<String>,
    networks_at_once: Option<i64>,
    guesses: Option<i64>,
}

impl Written {
    pub(super) fn resolve(self, check: &Check, credentials: Option<&Path>) -> Result<Config, ConfigError> {
        let credential = |name| credentials.map(|directory| directory.join(name)).filter(|file| file.is_file());
        let data_dir = check.path("data_dir", self.data_dir)?.unwrap_or_else(|| "/var/lib/doorward".into());
        let run_dir = check.path("run_dir", self.run_dir)?.unwrap_or_else(|| "/run/doorward".into());
        if run_dir.as_os_str().len() > RUN_DIR_BYTES {
            return Err(check.refused("run_dir", format!("\"{}\"", run_dir.display()), format!("a path of at most {RUN_DIR_BYTES} bytes")));
        }
        let pepper_file = check.path("pepper_file", self.pepper_file)?;
        let previous_pepper_file = check.path("previous_pepper_file", self.previous_pepper_file)?;
        let token_prefix = self.token_prefix.unwrap_or_else(|| "dw".to_owned());
        if check_prefix(&token_prefix).is_err() {
            return Err(check.refused("token_prefix", format!("\"{token_prefix}\""), "1 to 16 of a-z 0-9 _"));
        }
        Ok(Config {
            country_db: check.path("country_db", self.country_db)?,
            pepper_file: credential("pepper").or(pepper_file).unwrap_or_else(|| data_dir.join("pepper")),
            previous_pepper_file: credential("previous_pepper").or(previous_pepper_file),
            data_dir,
            run_dir,
            token_prefix,
            strict: self.strict.unwrap_or(true),
            undelete_for: check.span("undelete_for", self.undelete_for, "30d", (0, i64::MAX))?,
            flush_interval: check.span("flush_interval", self.flush_interval, "1s", FLUSH_INTERVAL_MS)?,
            usage: self.usage.resolve(check)?,
            log: self.log.resolve(check)?,
            verify: self.verify.resolve(check)?,
            admin: self.admin.resolve(check)?,
            advise: self.advise.resolve(check)?,
            unusual: self.unusual.resolve(check)?,
            metrics: self.metrics.resolve(check)?,
        })
    }
}

impl WrittenUsage {
    fn resolve(self, check: &Check) -> Result<UsageKept, ConfigError> {
        // Two at least of what they are added up to, so that there is one that is over; days are removed a row at a time, which is 32.
        let least = |units: i64| (units * HOUR_MS, limits::SPAN_MS);
        Ok(UsageKept {
            keep_minutes: check.span("usage.keep_minutes", self.keep_minutes, "48h", least(2))?,
            keep_hours: check.span("usage.keep_hours", self.keep_hours, "90d", least(2 * 24))?,
            keep_days: check.span("usage.keep_days", self.keep_days, "1825d", least(2 * 24))?,
        })
    }
}

impl WrittenLog {
    fn resolve(self, check: &Check) -> Result<Log, ConfigError> {
        let level = self.level.as_deref().unwrap_or("info");
        let format = self.format.as_deref().unwrap_or("auto");
        let levels = ["error", "warn", "info", "debug", "trace"];
        let parsed = levels.contains(&level).then(|| level.parse().ok()).flatten();
        Ok(Log {
            level: parsed.ok_or_else(|| check.refused("log.level", format!("\"{level}\""), "error, warn, info, debug or trace"))?,
            format: match format {
                "auto" => LogFormat::Auto,
                "plain" => LogFormat::Plain,
                _ => return Err(check.refused("log.format", format!("\"{format}\""), "auto or plain")),
            },
        })
    }
}

impl WrittenVerify {
    fn resolve(self, check: &Check) -> Result<VerifySocket, ConfigError> {
        let connections = self.max_connections.unwrap_or(1024);
        if !(1..=CONNECTIONS).contains(&connections) {
            return Err(check.refused("verify.max_connections", connections, format!("1 to {CONNECTIONS}")));
        }
        let spin_us = self.spin_us.unwrap_or(0);
        if !(0..=SPIN_US).contains(&spin_us) {
            return Err(check.refused("verify.spin_us", spin_us, format!("0 to {SPIN_US}")));
        }
        Ok(VerifySocket {
            mode: check.mode("verify.mode", self.mode)?,
            group: self.group.map(|group| check.name("verify.group", group)).transpose()?,
            users: check.names("verify.users", self.users)?,
            max_connections: connections as usize,
            spin: Duration::from_micros(spin_us as u64),
            stuck_timeout: check.span("verify.stuck_timeout", self.stuck_timeout, "10s", STUCK_MS)?,
            idle_timeout: self.idle_timeout.map(|text| check.span("verify.idle_timeout", Some(text), "", IDLE_MS)).transpose()?,
        })
    }
}

impl WrittenAdmin {
    fn resolve(self, check: &Check) -> Result<AdminSocket, ConfigError> {
        Ok(AdminSocket {
            mode: check.mode("admin.mode", self.mode)?,
            group: self.group.map(|group| check.name("admin.group", group)).transpose()?,
            full_users: check.names("admin.full_users", self.full_users)?,
            full_groups: check.names("admin.full_groups", self.full_groups)?,
            read_users: check.names("admin.read_users", self.read_users)?,
            read_groups: check.names("admin.read_groups", self.read_groups)?,
        })
    }
}

impl WrittenUnusual {
    fn resolve(self, check: &Check) -> Result<unusual::Limits, ConfigError> {
        let defaults = unusual::Limits::default();
        let number = |key, given: Option<i64>, default: u32, least: u32, most: u32| {
            let number = given.unwrap_or(default.into());
            let fits = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
            fits.ok_or_else(|| check.refused(key, number, format!("{least} to {most}")))
        };
        let count = |key, given: Option<i64>, default: u64| match given {
            None => Ok(default),
            Some(count) => u64::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| check.refused(key, count, "at least 1")),
        };
        let most_networks = u32::try_from(limits::NETWORKS_REMEMBERED).unwrap_or(u32::MAX);
        Ok(unusual::Limits {
            history_days: number("unusual.history_days", self.history_days, defaults.history_days, 7, 60)?,
            min_days: number("unusual.min_days", self.min_days, defaults.min_days, 2, 60)?,
            deviations: number("unusual.deviations", self.deviations, defaults.deviations, 2, 100)?,
            factor: number("unusual.factor", self.factor, defaults.factor, 2, 1_000)?,
            min_count: count("unusual.min_count", self.min_count, defaults.min_count)?,
            dormant_after: check.span("unusual.dormant_after", self.dormant_after, "30d", LONG_MS)?,
            networks_at_once: number("unusual.networks_at_once", self.networks_at_once, defaults.networks_at_once, 2, most_networks)?,
            guesses: count("unusual.guesses", self.guesses, defaults.guesses)?,
        })
    }
}

impl WrittenAdvise {
    fn resolve(self, check: &Check) -> Result<advise::Limits, ConfigError> {
        Ok(advise::Limits {
            idle_after: check.span("advise.idle_after", self.idle_after, "30d", LONG_MS)?,
            rotate_after: check.span("advise.rotate_after", self.rotate_after, "365d", LONG_MS)?,
            expiring_within: check.span("advise.expiring_within", self.expiring_within, "30d", LONG_MS)?,
        })
    }
}

impl WrittenMetrics {
    fn resolve(self, check: &Check) -> Result<Metrics, ConfigError> {
        let beyond_loopback = self.beyond_loopback;
        let address = |text: String| {
            let address: Option<SocketAddr> = text.parse().ok();
            let allowed = "a loopback address and a port, such as 127.0.0.1:9464; or any address, with metrics.beyond_loopback";
            let fits = address.filter(|address| beyond_loopback || address.ip().to_canonical().is_loopback());
            fits.ok_or_else(|| check.refused("metrics.listen", format!("\"{text}\""), allowed))
        };
        Ok(Metrics { listen: self.listen.map(address).transpose()?, beyond_loopback })
    }
}

/// Refuses values in the name of the place where they were found.
pub(super) struct Check {
    pub(super) place: String,
}

impl Check {
    pub(super) fn refused(&self, key: &'static str, value: impl Display, allowed: impl Display) -> ConfigError {
        ConfigError::Value {
            place: self.place.clone(),
            key,
            value: without_tokens(&value.to_string()).into_owned(),
            allowed: allowed.to_string(),
        }
    }

    fn path(&self, key: &'static str, path: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
        match path {
            Some(path) if !path.is_absolute() => Err(self.refused(key, format!("\"{}\"", path.display()), "an absolute path")),
            path => Ok(path),
        }
    }

    fn span(&self, key: &'static str, text: Option<String>, default: &str, (least, most): (i64, i64)) -> Result<Span, ConfigError> {
        let text = text.as_deref().unwrap_or(default);
        let refused = |allowed: String| self.refused(key, format!("\"{text}\""), allowed);
        let span: Span = text.parse().map_err(|_| refused("a span such as 30d, 12h or 500ms".to_owned()))?;
        let fits = (least..=most).contains(&span.0);
        if fits { Ok(span) } else { Err(refused(format!("a span from {} to {}", Span(least), Span(most)))) }
    }

    fn mode(&self, key: &'static str, text: Option<String>) -> Result<u32, ConfigError> {
        let text = text.as_deref().unwrap_or("0660");
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| (0o600..=0o777).contains(mode));
        mode.ok_or_else(|| self.refused(key, format!("\"{text}\""), "an octal mode from \"0600\" to \"0777\""))
    }

    fn names(&self, key: &'static str, names: Vec<String>) -> Result<Vec<String>, ConfigError> {
        names.into_iter().map(|name| self.name(key, name)).collect()
    }

    fn name(&self, key: &'static str, name: String) -> Result<String, ConfigError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@$".contains(&byte);
        let fits = (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain);
        if fits { Ok(name) } else { Err(self.refused(key, format!("\"{name}\""), "the name or number of a user or group")) }
    }
}
