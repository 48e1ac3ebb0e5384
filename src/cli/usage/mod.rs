//! `usage`: how often keys are used, as a page, a table, a drawing, JSON or comma-separated values.

mod chart;
mod csv;
mod names;
mod page;
mod series;
mod tables;
mod zone;

use super::args::traffic::Usage;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::screen::{Screen, now, print};
use crate::admin::wire::{Interval, UsageView};
use crate::key::Instant;
use zone::Zone;

/// What a script gets that names no dimension, and by hours, or by days where hours are not kept so long.
const DIMENSIONS: [&str; 2] = ["function", "verdict"];
/// Units of time, the finest first.
const UNITS: [&str; 3] = ["minute", "hour", "day"];

/// A report that is being made: what was asked for, and the way to ask the daemon.
struct Report<'r> {
    admin: &'r Admin,
    screen: &'r Screen,
    arguments: &'r Usage,
    zone: Zone,
    since: Instant,
    until: Instant,
}

/// `usage`
pub(crate) fn usage(admin: &Admin, screen: &Screen, arguments: &Usage) -> Result<Exit, Failure> {
    if arguments.csv && screen.json {
        return Err(Failure::usage("--csv and --json exclude each other"));
    }
    let now = now();
    let zone = if arguments.local { Zone::local()? } else { Zone::utc() };
    let until = arguments.until.map_or(Ok(now), |moment| zone.resolve(moment, now))?;
    // A day before what is to come would be to come itself.
    let last = Instant(until.min(now).0.saturating_sub(arguments.last.0).max(0));
    let since = arguments.since.map_or(Ok(last), |moment| zone.resolve(moment, now))?;
    let report = Report { admin, screen, arguments, zone, since, until };
    let top = arguments.top.map(usize::from);
    let named: Vec<&str> = arguments.by.iter().map(String::as_str).collect();
    if arguments.csv || screen.json {
        let (by, view) = if named.is_empty() && top.is_none() {
            let (unit, view) = report.over_time(&DIMENSIONS, &report.ask(&[], None)?, "hour")?;
            ([&DIMENSIONS[..], &[unit]].concat(), view)
        } else {
            let view = report.ask(&named, top)?;
            (named, view)
        };
        if screen.json {
            screen.print_json(&view)?;
        } else {
            let keys = top.map(|_| "key");
            print(&csv::csv(&view, &keys.into_iter().chain(by).collect::<Vec<_>>(), arguments.local))?;
            report.warn(&view);
        }
    } else if named.is_empty() && top.is_none() {
        print(&page::page(&report)?)?;
    } else {
        print(&tables::report(&report, &named, top)?)?;
    }
    Ok(Exit::Ok)
}

impl Report<'_> {
    /// The daemon's counts by these dimensions.
    fn ask(&self, by: &[&str], top: Option<usize>) -> Result<UsageView, Failure> {
        let arguments = self.arguments;
        self.admin.get(&with_query(
            "/v1/usage",
            &[
                ("key", arguments.key.as_ref().map(ToString::to_string)),
                ("account", arguments.account.clone()),
                ("since", Some(self.since.to_string())),
                ("until", Some(self.until.to_string())),
                ("by", Some(by.join(","))),
                ("top", top.map(|top| top.to_string())),
                ("zone", self.zone.asked(self.since, self.until)?),
            ],
        ))
    }

    /// The same as a whole report, over time: in units as fine as this, or the finest in which all of it is still kept.
    fn over_time(&self, others: &[&str], whole: &UsageView, finest: &'static str) -> Result<(&'static str, UsageView), Failure> {
        let units = UNITS.into_iter().skip_while(|unit| *unit != finest);
        let mut most: Option<(&'static str, UsageView)> = None;
        for unit in units {
            let view = self.ask(&[others, &[unit]].concat(), None)?;
            let is_all = view.total >= whole.total;
            if most.as_ref().is_none_or(|(_, most)| view.total > most.total) {
                most = Some((unit, view));
            }
            if is_all {
                break;
            }
        }
        Ok(most.expect("there is a coarsest unit"))
    }

    /// Tells beside a table for a program of what time nothing is known: a count in it may be of a part of its day or hour alone.
    fn warn(&self, view: &UsageView) {
        eprint!("{}", self.unknown(view));
    }

    /// The times of which nothing is known, a line each.
    fn unknown(&self, view: &UsageView) -> String {
        let line = |interval: &Interval| format!("unknown: {} to {}\n", self.zone.exact(interval.since), self.zone.exact(interval.until));
        view.unknown.iter().map(line).collect()
    }

    /// Whose usage it is.
    fn whose(&self) -> String {
        match (&self.arguments.key, &self.arguments.account) {
            (Some(key), _) => key.to_string(),
            (None, Some(account)) => format!("account {account}"),
            (None, None) => "all keys".to_owned(),
        }
    }
}

/// The seconds of a report of which something is known.
fn known_seconds(view: &UsageView, now: Instant) -> f64 {
    let unknown: i64 = view.unknown.iter().map(|interval| interval.until.since(interval.since).0).sum();
    let whole = view.until.min(now).since(view.since).0;
    whole.saturating_sub(unknown).max(0) as f64 / 1_000.0
}

/// A part of a whole, to a tenth of a hundredth.
fn share(part: u64, whole: u64) -> String {
    match (part, part as f64 * 100.0 / whole.max(1) as f64) {
        (1.., share) if share < 0.05 => "<0.1 %".to_owned(),
        (part, share) if share >= 99.95 && part < whole => ">99.9 %".to_owned(),
        (_, share) => format!("{share:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of nothing.
    pub(super) fn nothing() -> UsageView {
        UsageView {
            since: Instant(0),
            until: Instant(10_000),
            counted_until: Instant(10_000),
            zone: "UTC".into(),
            total: 0,
            denied: Some(0),
            rows: vec![],
            unknown: vec![],
            unknown_periods: vec![],
            exact_since: None,
            secrets: vec![],
            networks: vec![],
        }
    }

    #[test]
    fn a_rate_is_of_the_time_that_is_known() {
        let mut view = nothing();
        assert_eq!(known_seconds(&view, Instant(100_000)), 10.0);
        assert_eq!(known_seconds(&view, Instant(6_000)), 6.0, "what is to come does not count");
        view.unknown = vec![Interval { since: Instant(0), until: Instant(4_000) }];
        assert_eq!(known_seconds(&view, Instant(100_000)), 6.0);
    }

    #[test]
    fn a_share_is_not_rounded_to_none_or_all() {
        for (part, whole, text) in
            [(0, 9, "0.0 %"), (1, 100_000, "<0.1 %"), (1, 3, "33.3 %"), (99_999, 100_000, ">99.9 %"), (9, 9, "100.0 %"), (0, 0, "0.0 %")]
        {
            assert_eq!(share(part, whole), text);
        }
    }
}
