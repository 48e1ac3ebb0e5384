//! Keys that wake, and secrets that should be gone.

use super::{DAY_MS, Finding, Frame, Kind, Limits, OldSecret, Severity, Usage, begins, clock, command, counted};
use crate::key::{Instant, Key, Span};

/// A secret that retires so soon and is still in use wants to be seen to now.
const RETIRES_SOON_MS: i64 = 2 * DAY_MS;

pub(super) fn look(key: &Key, usage: &Usage, frame: &Frame, limits: &Limits, found: &mut Vec<Finding>) {
    dormant(key, usage, frame, limits, found);
    for old in &usage.old_secrets {
        old_secret(key, old, frame, found);
    }
}

/// A key whose first use in the time in question comes long after the one before it. Time in which was not counted is not idle.
fn dormant(key: &Key, usage: &Usage, frame: &Frame, limits: &Limits, found: &mut Vec<Finding>) {
    let is_used = |place: usize| {
        usage.ok.get(place).is_some_and(|count| *count > 0)
            || usage.denials.iter().any(|(_, series)| series.get(place).is_some_and(|count| *count > 0))
    };
    let since = frame.place(frame.since);
    let places = frame.covered.len();
    let Some(woke) = (since..places).find(|place| is_used(*place)) else { return };
    let before = (0..woke).rev().find(|place| is_used(*place));
    let (last, idle_from) = match (before, usage.used_before) {
        (Some(place), _) => (Some(begins(frame.from + place as u32)), place + 1),
        (None, Some(at)) => (Some(at), 0),
        (None, None) => (None, frame.place(super::hour(key.created_at))),
    };
    let minutes: i64 = frame.covered.get(idle_from..woke).unwrap_or_default().iter().map(|minutes| i64::from(*minutes)).sum();
    // Before the frame nothing is known of gaps in the counting; what came before was long ago.
    let outside = match (before, usage.used_before) {
        (None, Some(at)) => begins(frame.from).since(at).0.max(0),
        (None, None) => begins(frame.from).since(key.created_at).0.max(0),
        (Some(_), _) => 0,
    };
    let idle = Span(minutes * 60_000 + outside);
    if idle < limits.dormant_after {
        return;
    }
    let count: u64 = (woke..places).map(|place| usage.ok.get(place).copied().unwrap_or_default()).sum();
    let at = begins(frame.from + woke as u32);
    let days = idle.0 / DAY_MS;
    let before = match last {
        Some(last) => format!("used before on {}, then idle for {days} days", day(last)),
        None => format!("made on {}, and never used in {days} days", day(key.created_at)),
    };
    let evidence = format!("used again in the hour from {}, {} answered 'ok' since; {before}", clock(at), counted(count, "request"));
    let evidence = if last.is_none() { evidence.replacen("used again", "first used", 1) } else { evidence };
    let command = command("disable", key, &[]);
    found.push(Finding { kind: Kind::Dormant, severity: Severity::Warning, at, seen: days as u64, expected: 0, evidence, command });
}

fn old_secret(key: &Key, old: &OldSecret, frame: &Frame, found: &mut Vec<Finding>) {
    let Some(secret) = key.secrets.iter().find(|secret| secret.version == old.version) else { return };
    let newest = key.newest().map_or(0, |secret| secret.version);
    let at = begins(old.last);
    let last = format!("last in the hour from {}", clock(at));
    let good = secret.is_good(frame.now);
    let (severity, evidence, command) = if good {
        // What came before it was replaced is nothing unusual.
        let replaced_at = key.secrets.iter().filter(|other| other.version > old.version).map(|other| other.created_at).min();
        if old.ok == 0 || replaced_at.is_none_or(|at| old.used_at < at) {
            return;
        }
        let (left, until) = match secret.retires_at {
            Some(retires_at) => (retires_at.since(frame.now).0, format!("it retires on {}", clock(retires_at))),
            None => (i64::MAX, "it does not retire".to_owned()),
        };
        let severity = if left < RETIRES_SOON_MS { Severity::Warning } else { Severity::Info };
        let text = format!("secret {} is replaced by {newest} and was used since, {last}; {until}", old.version);
        (severity, text, command("rotate", key, &["--finish"]))
    } else {
        if old.refused == 0 {
            return;
        }
        let word = if secret.revoked_at.is_some() { "is revoked" } else { "has retired" };
        let text = format!("secret {} {word} and was presented {}, {last}; it was refused", old.version, times(old.refused));
        (Severity::Warning, text, command("usage", key, &["--by", "secret,verdict,hour"]))
    };
    let seen = if good { old.ok } else { old.refused };
    found.push(Finding { kind: Kind::OldSecret, severity, at, seen, expected: 0, evidence, command });
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn day(at: Instant) -> String {
    at.to_string().chars().take(10).collect()
}
