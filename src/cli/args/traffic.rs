use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use jiff::civil::DateTime;

use super::{Actor, key_argument};
use crate::advise::Kind;
use crate::key::{Instant, InstantError, KeyRef, Span, When, shown};
use crate::unusual::Severity;

/// `usage`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward usage                              all keys, the last 24 hours
  doorward usage --top 20 --last 7d           the 20 keys that are used most
  doorward usage --top 20 --by verdict        and what they were answered
  doorward usage acme/web --last 7d           one key, and who used its secrets
  doorward usage acme/web --by hour --local   over time, by your own clock
  doorward usage --account acme --by function,verdict --json
  doorward usage --by day --since 2026-01-01 --until 2027-01-01 --csv > 2026.csv")]
pub(crate) struct Usage {
    /// Of this key: its id, or account/name [default: of all]
    #[arg(value_parser = key_argument)]
    pub(crate) key: Option<KeyRef>,
    /// Of the keys of this account
    #[arg(long, conflicts_with = "key")]
    pub(crate) account: Option<String>,
    /// The N keys that are used most, and all others together
    #[arg(long, value_name = "N", conflicts_with = "key", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) top: Option<u16>,
    /// Over this span until now
    #[arg(long, value_name = "SPAN", default_value = "24h", conflicts_with_all = ["since", "until"])]
    pub(crate) last: Span,
    /// From this moment: RFC 3339, a date, a date and time such as 2026-11-23T09:30, or a span ago
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
    /// To this moment, likewise; a date means its beginning
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Moment>,
    /// By these dimensions; country goes with key, minute, hour and day alone
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', value_parser = DIMENSIONS)]
    pub(crate) by: Vec<String>,
    /// Hours, days and times by this machine's time zone, or $TZ, instead of UTC
    #[arg(long)]
    pub(crate) local: bool,
    /// Comma-separated values (RFC 4180), with the field names of --json
    #[arg(long)]
    pub(crate) csv: bool,
}

const DIMENSIONS: [&str; 8] = ["function", "verdict", "secret", "country", "minute", "hour", "day", "key"];

/// A moment of the past as a person writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// With its offset.
    At(Instant),
    /// So long ago.
    Ago(Span),
    /// What the clock showed, in UTC or in the reader's time zone.
    Clock(DateTime),
}

impl FromStr for Moment {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Moment, InstantError> {
        if let Ok(instant) = text.parse() {
            return Ok(Moment::At(instant));
        }
        if let Ok(span) = text.parse() {
            return Ok(Moment::Ago(span));
        }
        // What has a zone behind it would be read without it.
        let clock = text.bytes().all(|b| b.is_ascii_digit() || b"-: .T".contains(&b)).then(|| text.parse().ok()).flatten();
        clock.map(Moment::Clock).ok_or_else(|| InstantError::When(shown(text)))
    }
}

/// `unusual`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward unusual                           the last 24 hours, against 4 weeks
  doorward unusual --since 7d --severity warning
  doorward unusual acme/web --json

Exit code: 0 when there is nothing, or nothing graver than 'info'; 1 when there is a warning or worse.")]
pub(crate) struct Unusual {
    /// Of this key: its id, or account/name [default: of all, and of tokens that no key has]
    #[arg(value_parser = key_argument)]
    pub(crate) key: Option<KeyRef>,
    /// Of the keys of this account
    #[arg(long, conflicts_with = "key")]
    pub(crate) account: Option<String>,
    /// From this moment: RFC 3339, a date, or a span ago; at most 31 days
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = when_argument)]
    pub(crate) since: String,
    /// Only findings at least as grave [default: info]
    #[arg(long, value_name = "SEVERITY", value_parser = clap::builder::PossibleValuesParser::new(Severity::ALL.map(Severity::as_str)))]
    pub(crate) severity: Option<String>,
    /// At most so many findings [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
}

/// A moment that the daemon reads: a span is so long ago.
fn when_argument(text: &str) -> Result<String, String> {
    text.parse::<When>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `advise`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward advise                            every key
  doorward advise acme/web
  doorward advise --only unused_grant,wide_grant --min-history 90d
  doorward advise --account acme --apply     shows changes, asks, makes them

Advice with a 'doorward edit --remove-...' or '--add-...' is what --apply applies; the rest is for a person to decide.
Nothing is suggested that would refuse what was answered 'ok' in the usage that is kept.")]
pub(crate) struct Advise {
    /// For this key: its id, or account/name [default: every key]
    #[arg(value_parser = key_argument)]
    pub(crate) key: Option<KeyRef>,
    /// For the keys of this account
    #[arg(long, conflicts_with = "key")]
    pub(crate) account: Option<String>,
    /// Only these kinds of advice; may be repeated
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
    pub(crate) only: Vec<String>,
    /// Only advice that looked at so long a time or longer
    #[arg(long, value_name = "SPAN")]
    pub(crate) min_history: Option<Span>,
    /// At most so many pieces of advice [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
    /// Makes the changes, each key in one, after a confirmation
    #[arg(long)]
    pub(crate) apply: bool,
    /// Makes them without asking
    #[arg(long, requires = "apply")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `denials`
#[derive(Debug, Clone, Args)]
pub(crate) struct Denials {
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// `country`
#[derive(Debug, Clone, Args)]
pub(crate) struct Country {
    /// An IPv4 or IPv6 address
    pub(crate) address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_the_past_is_any_of_four_forms() {
        let read = |text: &str| text.parse::<Moment>();
        assert_eq!(read("2026-11-23T09:30:00+01:00").unwrap(), Moment::At("2026-11-23T08:30:00Z".parse().unwrap()));
        assert_eq!(read("7d").unwrap(), Moment::Ago(Span(7 * 86_400_000)));
        for (text, clock) in [
            ("2026-11-23", "2026-11-23T00:00:00"),
            ("2026-11-23T09:30", "2026-11-23T09:30:00"),
            ("2026-11-23 09:30", "2026-11-23T09:30:00"),
        ] {
            assert_eq!(read(text).unwrap(), Moment::Clock(clock.parse().unwrap()));
        }
        for bad in ["yesterday", "", "2026-13-01", "2026-11-23T09:30[Europe/Berlin]", "12"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
