//! Tokens that nobody has, from where they come.

use super::{Finding, Kind, Limits, Severity, begins, clock, words};
use crate::key::Network;

/// Times the limit from which guessing is critical.
const CRITICAL: u64 = 10;
/// Hours of the days before in which a network sent about as much, from which on that is how it is.
const HABIT_HOURS: usize = 48;

/// A network in an hour, as a Space-Saving sketch knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesser {
    /// The hour.
    pub hour: u32,
    /// A /24 or /48.
    pub network: Network,
    /// Unknown and malformed tokens: so many or fewer …
    pub count: u64,
    /// … by at most so many.
    pub error: u64,
}

impl Guesser {
    /// So many at least.
    fn sure(&self) -> u64 {
        self.count.saturating_sub(self.error)
    }
}

/// Networks that sent many tokens that nobody has, within an hour from `since` on. One that did so for long, and by about as much, is told of with less weight.
pub fn guessing(guessers: &[Guesser], since: u32, limits: &Limits) -> Vec<Finding> {
    let mut by_network: Vec<&Guesser> = guessers.iter().filter(|guesser| guesser.sure() >= limits.guesses).collect();
    by_network.sort_by_key(|guesser| (guesser.network, guesser.hour));
    let mut found = Vec::new();
    for of_network in by_network.chunk_by(|a, b| a.network == b.network) {
        let (before, now): (Vec<&Guesser>, Vec<&Guesser>) = of_network.iter().copied().partition(|guesser| guesser.hour < since);
        let Some(worst) = now.iter().max_by_key(|guesser| guesser.sure()) else { continue };
        let seen = worst.sure();
        let alike = before.iter().filter(|guesser| guesser.sure().saturating_mul(u64::from(limits.factor)) >= seen).count();
        let severity = match seen {
            _ if alike >= HABIT_HOURS => Severity::Info,
            _ if seen >= limits.guesses.saturating_mul(CRITICAL) => Severity::Critical,
            _ => Severity::Warning,
        };
        let at = begins(now.iter().map(|guesser| guesser.hour).min().unwrap_or(worst.hour));
        let total: u64 = now.iter().map(|guesser| guesser.sure()).sum();
        let habit = if alike == 0 { String::new() } else { format!("; about as many in {alike} hours before") };
        let also = if now.len() > 1 { format!(", {total} in {} hours", now.len()) } else { String::new() };
        let evidence =
            format!("{seen} tokens that no key has, from {} in the hour from {}{also}{habit}", worst.network, clock(begins(worst.hour)));
        found.push(Finding { kind: Kind::Guessing, severity, at, seen, expected: 0, evidence, command: words(&["doorward", "denials"]) });
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.seen));
    found
}
