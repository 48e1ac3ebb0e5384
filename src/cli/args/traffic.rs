use std::net::IpAddr;

use clap::Args;

use super::key_argument;
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
