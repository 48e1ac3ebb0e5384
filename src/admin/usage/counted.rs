//! Which rows of the store a report takes, in the coarsest unit that it can use, and of which time nothing is known.

use super::periods::{MINUTE_MS, Periods, Unit};
use crate::key::Instant;
use crate::store::{Kept, Step, StoreError, UsageMoment};

/// What is read for a report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The store's rows from here.
    pub(super) since: Instant,
    /// To here.
    pub(super) until: Instant,
    /// The coarsest unit that the report can use.
    pub(super) step: Step,
    /// From here the report is exact. Before it, units are kept only whole that are longer than what the report cuts.
    pub(super) exact_since: Option<Instant>,
    /// What is counted lies from here.
    low: i64,
    /// To here.
    high: i64,
    kept: Kept,
}

impl Reading {
    /// Of `since` to `until`, cut into these periods, or into none. A unit longer than the periods tells nothing of them: its time is unknown.
    pub(super) fn of(kept: Kept, periods: Option<&Periods>, (since, until): (Instant, Instant)) -> Reading {
        let known = known(&kept, periods.map_or(Unit::Day, |periods| periods.unit));
        let step = match periods {
            None => Step::Day,
            Some(periods) if periods.unit == Unit::Day && periods.are_whole(Unit::Day) => Step::Day,
            Some(periods) if periods.unit != Unit::Minute && periods.are_whole(Unit::Hour) => Step::Hour,
            Some(_) => Step::Minute,
        };
        let low = floor(since.0.max(known.0), MINUTE_MS);
        let high = ceil(until.0, MINUTE_MS);
        let needed = match step {
            Step::Minute => kept.minutes_since,
            Step::Hour => kept.hours_since,
            Step::Day => kept.days_since,
        };
        let edge = unit_at(&kept, low).ms();
        let inexact = [(low < needed.0).then_some(needed.0), (low % edge != 0).then_some(ceil(low, edge))];
        Reading {
            since: Instant(floor(low, edge)),
            until: Instant(ceil(high, unit_at(&kept, high.saturating_sub(1)).ms())),
            step,
            exact_since: inexact.into_iter().flatten().max().map(|exact| Instant(exact.min(high))),
            low,
            high,
            kept,
        }
    }

    /// The moment by which a row is counted: its beginning, or the middle of a unit that nothing shorter is kept of; none outside the report's time.
    pub(super) fn place(&self, at: Instant) -> Option<i64> {
        let place = match unit_at(&self.kept, at.0) {
            Unit::Minute => at.0,
            unit => at.0 + unit.ms() / 2,
        };
        (self.low..self.high).contains(&place).then_some(place)
    }

    /// The parts of the report's time, up to `now`, in which it is not known what was counted.
    pub(super) fn unknown(
        &self,
        (asked_since, asked_until): (Instant, Instant),
        covered: &[(Instant, Instant)],
        now: Instant,
    ) -> Vec<(Instant, Instant)> {
        let end = asked_until.0.min(now.0);
        let mut unknown = Vec::new();
        let mut at = asked_since.0;
        for &(since, until) in covered {
            let since = since.0.max(self.low);
            if until.0 <= since || since >= end {
                continue;
            }
            if since > at {
                unknown.push((Instant(at), Instant(since)));
            }
            at = at.max(until.0);
        }
        if at < end {
            unknown.push((Instant(at), Instant(end)));
        }
        unknown
    }
}

/// From when on counts by this unit are kept.
pub(super) fn known(kept: &Kept, unit: Unit) -> Instant {
    match unit {
        Unit::Minute => kept.minutes_since,
        Unit::Hour => kept.hours_since,
        Unit::Day => kept.days_since,
    }
}

/// When was counted: what the store says, and since this daemon's start, since what was counted a moment ago may not be flushed yet.
pub(super) fn covered(
    usage: &UsageMoment<'_>,
    (since, until): (Instant, Instant),
    started_at: Instant,
) -> Result<Vec<(Instant, Instant)>, StoreError> {
    let mut covered = usage.covered(since, until)?;
    let begun = Instant(floor(started_at.0, MINUTE_MS));
    let before = covered.partition_point(|(_, until)| *until < begun);
    let since = covered.get(before).map_or(begun, |(since, _)| begun.min(*since));
    covered.truncate(before);
    covered.push((since, Instant(i64::MAX)));
    Ok(covered)
}

/// The shortest unit that is kept of this moment.
fn unit_at(kept: &Kept, at: i64) -> Unit {
    if at >= kept.minutes_since.0 {
        Unit::Minute
    } else if at >= kept.hours_since.0 {
        Unit::Hour
    } else {
        Unit::Day
    }
}

fn floor(at: i64, ms: i64) -> i64 {
    at - at.rem_euclid(ms)
}

fn ceil(at: i64, ms: i64) -> i64 {
    floor(at.saturating_add(ms - 1), ms)
}

#[cfg(test)]
mod tests {
    use super::super::periods::Zone;
    use super::*;
    use crate::store::{Store, StoreOptions, UsageBatch};

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    /// Minutes are kept from day 100 on, hours from day 50, days from day 10.
    const KEPT: Kept = Kept { minutes_since: Instant(100 * DAY), hours_since: Instant(50 * DAY), days_since: Instant(10 * DAY) };

    fn reading(unit: Option<Unit>, zone: &str, since: i64, until: i64) -> Reading {
        let span = (Instant(since), Instant(until));
        let periods = unit.map(|unit| Periods::of(unit, Zone::read(zone).unwrap(), span, 100_000).unwrap());
        Reading::of(KEPT, periods.as_ref(), span)
    }

    #[test]
    fn the_coarsest_unit_that_cuts_right_is_read() {
        let step = |unit, zone| reading(unit, zone, 101 * DAY, 103 * DAY).step;
        assert_eq!(step(None, "UTC"), Step::Day);
        assert_eq!(step(Some(Unit::Day), "UTC"), Step::Day);
        assert_eq!(step(Some(Unit::Day), "-05:00"), Step::Hour);
        assert_eq!(step(Some(Unit::Day), "+05:30"), Step::Minute);
        assert_eq!(step(Some(Unit::Hour), "+05:00"), Step::Hour);
        assert_eq!(step(Some(Unit::Hour), "+05:45"), Step::Minute);
        assert_eq!(step(Some(Unit::Minute), "UTC"), Step::Minute);
    }

    #[test]
    fn what_is_kept_in_longer_units_is_counted_by_its_middle_and_told() {
        // From minutes: exact, by whole minutes.
        let minutes = reading(None, "UTC", 101 * DAY + 90_000, 103 * DAY + 1);
        assert_eq!((minutes.since.0, minutes.until.0, minutes.exact_since), (101 * DAY + 60_000, 103 * DAY + 60_000, None));
        // Begins within an hour that is kept whole: that hour's middle is before.
        let hours = reading(None, "UTC", 60 * DAY + HOUR * 3 / 4, 103 * DAY);
        assert_eq!((hours.since.0, hours.exact_since), (60 * DAY, Some(Instant(60 * DAY + HOUR))));
        assert_eq!((hours.place(Instant(60 * DAY)), hours.place(Instant(60 * DAY + HOUR))), (None, Some(60 * DAY + HOUR * 3 / 2)));
        // Local days that begin within such hours: exact where minutes are kept.
        assert_eq!(reading(Some(Unit::Day), "+05:30", 60 * DAY, 103 * DAY).exact_since, Some(KEPT.minutes_since));
        assert_eq!(reading(Some(Unit::Day), "+05:00", 60 * DAY, 103 * DAY).exact_since, None);
        assert_eq!(reading(Some(Unit::Day), "+05:00", 20 * DAY, 103 * DAY).exact_since, Some(KEPT.hours_since));
        // Minutes of a time in which none is kept: nothing is counted there.
        let by_minute = reading(Some(Unit::Minute), "UTC", 99 * DAY, 101 * DAY);
        assert_eq!((by_minute.since, by_minute.place(Instant(99 * DAY)), by_minute.exact_since), (KEPT.minutes_since, None, None));
    }

    #[test]
    fn since_its_start_the_daemon_counts() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let write = |since: i64, until: i64| {
            let covered = Some((Instant(since), Instant(until)));
            store.write_usage(&UsageBatch { covered, ..UsageBatch::default() }, false).unwrap();
        };
        let always = Instant(i64::MAX);
        let told = |start: i64| covered(&store.usage().unwrap(), (Instant(0), Instant(DAY)), Instant(start)).unwrap();
        assert_eq!(told(HOUR + 1), [(Instant(HOUR), always)]);
        write(HOUR, HOUR + 59_999);
        write(3 * HOUR, 3 * HOUR + 59_999);
        assert_eq!(told(3 * HOUR), [(Instant(HOUR), Instant(HOUR + 60_000)), (Instant(3 * HOUR), always)]);
        assert_eq!(told(3 * HOUR + 60_000).len(), 2, "it went on without a gap");
        assert_eq!(told(4 * HOUR).len(), 3);
        assert_eq!(told(0), [(Instant(0), always)]);
    }

    #[test]
    fn what_was_not_covered_or_not_kept_is_unknown() {
        let days = reading(None, "UTC", 5 * DAY, 103 * DAY);
        let day = |day: i64| Instant(day * DAY);
        let covered = [(day(3), day(20)), (day(22), day(23)), (day(101), day(104))];
        assert_eq!(days.unknown((day(5), day(103)), &covered, day(200)), [(day(5), day(10)), (day(20), day(22)), (day(23), day(101))]);
        assert_eq!(days.unknown((day(5), day(103)), &[], day(200)), [(day(5), day(103))]);
        assert_eq!(
            days.unknown((day(5), day(103)), &[(day(0), day(50))], day(52)),
            [(day(5), day(10)), (day(50), day(52))],
            "what is to come is not unknown"
        );
        let minutes = reading(Some(Unit::Minute), "UTC", 99 * DAY, 103 * DAY);
        assert_eq!(minutes.unknown((day(99), day(103)), &[(day(0), day(200))], day(200)), [(day(99), day(100))]);
    }
}
