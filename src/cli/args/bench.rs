use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::bench::{LEAST_ROUNDS, Scenario};

/// `bench`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward bench
  doorward bench --keys 1000000 --scenario pinned pipelined --json
  doorward bench --run-dir /run/doorward --tokens requests.jsonl

Without --tokens it starts a daemon of its own on a temporary folder and leaves nothing behind. With --tokens it asks the daemon
at --run-dir or --verify-socket what the file says, a line {\"token\": ..., \"function\": ..., \"ip\": ...} each, and changes no key.
Run it on an otherwise idle machine. Exit code: 70 when a verdict was wrong.")]
pub(crate) struct Bench {
    /// How many keys the daemon has [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with = "tokens")]
    pub(crate) keys: Option<u64>,
    /// What to measure [default: all]
    #[arg(long, value_name = "NAME", num_args = 1.., value_enum)]
    pub(crate) scenario: Vec<Scenario>,
    /// Seconds for each scenario, all its rounds and baselines together
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How often each server has its turn in a scenario; the medians of the rounds are told
    #[arg(long, value_name = "N", default_value_t = LEAST_ROUNDS as u64, value_parser = clap::value_parser!(u64).range(LEAST_ROUNDS as u64..=10_000))]
    pub(crate) rounds: u64,
    /// Requests a second in 'many', 'changes' and 'open-loop' [default: half of what 8 connections reach]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Chooses keys by Zipf's law with exponent 0.99, instead of each as likely as another
    #[arg(long, conflicts_with = "tokens")]
    pub(crate) zipf: bool,
    /// Another country database than the small one inside
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub(crate) country_db: Option<PathBuf>,
    /// Asks a daemon that runs what this file says; '-' is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

impl Bench {
    /// The scenarios that were asked for, each once, in the order of the help.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|scenario| self.scenario.is_empty() || self.scenario.contains(scenario)).collect()
    }
}

/// `bench-echo`
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchEcho {
    /// Where to listen
    #[arg(value_name = "SOCKET")]
    pub(crate) socket: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, such as 10 or 0.5".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("expected 0.1 to 86400 seconds".to_owned()) }
}
