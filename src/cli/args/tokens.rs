use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::changes::function_argument;
use super::key_argument;
use crate::key::{FunctionName, KeyRef};

/// Where a token is read from. There is no flag for the token itself: arguments can be seen by every user of the host.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TokenSource {
    /// The file that holds the token; '-' is standard input [default: standard input, or a hidden prompt on a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `identify`
#[derive(Debug, Clone, Args)]
pub(crate) struct Identify {
    #[command(flatten)]
    pub(crate) token: TokenSource,
}

/// `explain`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward explain --key acme/web --function leads.insert --ip 203.0.113.9
  doorward explain --function leads.insert --token-file ./token")]
pub(crate) struct Explain {
    /// The key whose newest secret is taken: its id, or account/name
    #[arg(value_name = "KEY", value_parser = key_argument, conflicts_with = "token_file")]
    pub(crate) positional: Option<KeyRef>,
    /// The same, as a flag
    #[arg(long, value_parser = key_argument, conflicts_with_all = ["positional", "token_file"])]
    pub(crate) key: Option<KeyRef>,
    /// What would be called
    #[arg(long, value_parser = function_argument)]
    pub(crate) function: FunctionName,
    /// From which address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) token: TokenSource,
}

/// `verify`
#[derive(Debug, Clone, Args)]
#[command(
    group = ArgGroup::new("what").args(["function", "jsonl"]).required(true),
    after_help = "Examples:
  doorward verify --function leads.insert --ip 203.0.113.9 --token-file ./token
  doorward verify --jsonl --summary < requests.jsonl > verdicts.jsonl

A line of --jsonl is {\"token\": ..., \"function\": ..., \"ip\": ...}; ip may be absent.
Exit code: 0 for ok, 1 for any other verdict, 64 and up for errors."
)]
pub(crate) struct Verify {
    /// What is called
    #[arg(long, value_parser = function_argument)]
    pub(crate) function: Option<FunctionName>,
    /// From which address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "jsonl")]
    pub(crate) ip: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) token: TokenSource,
    /// Reads requests from standard input, one a line, and prints one verdict object a line, in order
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) jsonl: bool,
    /// With --jsonl: at most so many requests per second
    #[arg(long, value_name = "N", requires = "jsonl", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// With --jsonl: verdict counts and latency percentiles on stderr at the end
    #[arg(long, requires = "jsonl")]
    pub(crate) summary: bool,
}
