use std::net::IpAddr;

use clap::Args;

use super::{Actor, key_argument};
use crate::advise::Kind;
use crate::key::{KeyRef, Span, When};

/// `usage`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward usage                              all keys, the last 24 hours
  doorward usage acme/web --last 7d           one key, and the last use of each of its secrets
  doorward usage --account acme --json --by function,verdict")]
pub(crate) struct Usage {
    /// Of this key: its id, or account/name [default: of all]
    #[arg(value_parser = key_argument)]
    pub(crate) key: Option<KeyRef>,
    /// Of the keys of this account
    #[arg(long, conflicts_with = "key")]
    pub(crate) account: Option<String>,
    /// Over this span until now
    #[arg(long, value_name = "SPAN", default_value = "24h", conflicts_with_all = ["since", "until"])]
    pub(crate) last: Span,
    /// From this moment: RFC 3339 or a date
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// To this moment: RFC 3339 or a date
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// One table by these dimensions: function, verdict, secret, country, minute, hour, day, key
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', value_parser = DIMENSIONS)]
    pub(crate) by: Vec<String>,
}

const DIMENSIONS: [&str; 8] = ["function", "verdict", "secret", "country", "minute", "hour", "day", "key"];

/// `advise`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward advise                                        every key
  doorward advise acme/web
  doorward advise --only unused_grant,wide_grant --min-history 90d
  doorward advise --account acme --apply                 shows the changes, asks, makes them

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
