//! Minutes, hours and days as a clock on the wall shows them, in UTC or in a time zone.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::super::problem::Failure;
use crate::key::{Instant, shown};

pub(super) const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// Characters of the longest name of a time zone that is looked up; the longest there is has 32.
const NAME_CHARS: usize = 64;

/// What a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Minute,
    Hour,
    Day,
}

impl Unit {
    /// Milliseconds, but for hours and days in which clocks are changed.
    pub(super) fn ms(self) -> i64 {
        match self {
            Unit::Minute => MINUTE_MS,
            Unit::Hour => HOUR_MS,
            Unit::Day => DAY_MS,
        }
    }
}

/// A time zone.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) name: String,
    rules: TimeZone,
}

impl Zone {
    pub(super) fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// `Europe/Berlin`, `+05:30` or `UTC`.
    pub(super) fn read(text: &str) -> Result<Zone, Failure> {
        if text == "UTC" {
            return Ok(Zone::utc());
        }
        let offset = read_offset(text).map(TimeZone::fixed);
        let named = || {
            let plain = text.len() <= NAME_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-+".contains(&b));
            plain.then(|| TimeZone::get(text).ok()).flatten()
        };
        let rules = offset.or_else(named).ok_or_else(|| {
            let text = shown(text);
            let expected =
                "expected a name of the daemon's time zone database (package tzdata) such as Europe/Berlin, or an offset such as +05:30";
            Failure::invalid("zone", format!("zone: '{text}' is no time zone; {expected}"))
        })?;
        Ok(Zone { name: rules.iana_name().unwrap_or(text).to_owned(), rules })
    }

    /// Where the period that holds this moment begins.
    pub(super) fn begin(&self, unit: Unit, at: i64) -> i64 {
        match unit {
            Unit::Minute => at - at.rem_euclid(MINUTE_MS),
            Unit::Hour => {
                let offset = self.offset_ms(at);
                let begin = at - (at + offset).rem_euclid(HOUR_MS);
                // Clocks that are changed within an hour, by half of one, begin another.
                let changed = (self.offset_ms(begin) != offset).then(|| self.rules.preceding(stamp(at.saturating_add(1))).next()).flatten();
                changed.map_or(begin, |change| begin.max(change.timestamp().as_millisecond()))
            }
            Unit::Day => {
                let day = stamp(at).to_zoned_datetime(self.rules.clone()).start_of_day();
                day.map_or(at - at.rem_euclid(DAY_MS), |day| day.timestamp().as_millisecond())
            }
        }
    }

    /// Where the one behind it begins. Days in which clocks are changed have 23 or 25 hours.
    fn next(&self, unit: Unit, begin: i64) -> i64 {
        let next = match unit {
            Unit::Minute => begin + MINUTE_MS,
            Unit::Hour => {
                let offset = self.offset_ms(begin);
                let end = begin - (begin + offset).rem_euclid(HOUR_MS) + HOUR_MS;
                let changed = (self.offset_ms(end - 1) != offset).then(|| self.rules.following(stamp(begin)).next()).flatten();
                changed.map_or(end, |change| end.min(change.timestamp().as_millisecond()))
            }
            Unit::Day => {
                let day = stamp(begin).to_zoned_datetime(self.rules.clone());
                let next = day.tomorrow().and_then(|next| next.start_of_day());
                next.map_or(begin + DAY_MS, |next| next.timestamp().as_millisecond())
            }
        };
        // A calendar that skipped a day may answer with the same one.
        if next > begin { next } else { begin + unit.ms() }
    }

    /// A moment in RFC 3339, with the offset of the zone.
    pub(super) fn written(&self, at: i64) -> String {
        stamp(at).to_zoned_datetime(self.rules.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    fn offset_ms(&self, at: i64) -> i64 {
        i64::from(self.rules.to_offset(stamp(at)).seconds()) * 1_000
    }
}

fn stamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `+05:30`
fn read_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = if sign == "+" { 1 } else { (sign == "-").then_some(-1)? };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, below: i32| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten().filter(|number| *number < below)
    };
    Offset::from_seconds(sign * (number(hours, 24)? * 3_600 + number(minutes, 60)? * 60)).ok()
}

/// The periods of a time, in order.
#[derive(Debug)]
pub(super) struct Periods {
    pub(super) unit: Unit,
    pub(super) zone: Zone,
    /// Where each begins, and where the last ends.
    bounds: Vec<i64>,
}

impl Periods {
    /// Those from the one that holds `since` to the last that begins before `until`; none if they are more than `most`.
    pub(super) fn of(unit: Unit, zone: Zone, (since, until): (Instant, Instant), most: usize) -> Option<Periods> {
        let mut bounds = vec![zone.begin(unit, since.0)];
        while let Some(&last) = bounds.last().filter(|last| **last < until.0) {
            if bounds.len() > most {
                return None;
            }
            bounds.push(zone.next(unit, last));
        }
        Some(Periods { unit, zone, bounds })
    }

    /// Which one holds this moment.
    pub(super) fn holding(&self, at: i64) -> usize {
        self.bounds.partition_point(|begin| *begin <= at).saturating_sub(1).min(self.bounds.len().saturating_sub(2))
    }

    /// Each with its beginning and end.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, i64, i64)> {
        self.bounds.windows(2).enumerate().map(|(at, bounds)| (at, bounds[0], bounds[1]))
    }

    pub(super) fn begin(&self, at: usize) -> Instant {
        Instant(self.bounds.get(at).copied().unwrap_or_default().max(0))
    }

    /// Whether all of them begin and end with such a unit of UTC.
    pub(super) fn are_whole(&self, unit: Unit) -> bool {
        self.bounds.iter().all(|begin| begin.rem_euclid(unit.ms()) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().unwrap()
    }

    fn written(zone: &str, unit: Unit, since: &str, until: &str) -> Vec<String> {
        let periods = Periods::of(unit, Zone::read(zone).unwrap(), (at(since), at(until)), 1_000).unwrap();
        periods.each().map(|(_, begin, end)| format!("{} {}", periods.zone.written(begin), (end - begin) / MINUTE_MS)).collect()
    }

    #[test]
    fn days_begin_at_local_midnight_and_have_the_hours_that_they_have() {
        let berlin = written("Europe/Berlin", Unit::Day, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        let days = ["2026-03-28T00:00:00+01:00 1440", "2026-03-29T00:00:00+01:00 1380", "2026-03-30T00:00:00+02:00 1440"];
        assert_eq!(berlin, days);
        let autumn = written("Europe/Berlin", Unit::Day, "2026-10-25T12:00:00Z", "2026-10-25T13:00:00Z");
        assert_eq!(autumn, ["2026-10-25T00:00:00+02:00 1500"]);
        let kolkata = written("Asia/Kolkata", Unit::Day, "2026-10-25T18:29:00Z", "2026-10-25T18:31:00Z");
        assert_eq!(kolkata, ["2026-10-25T00:00:00+05:30 1440", "2026-10-26T00:00:00+05:30 1440"]);
        // Clocks of Beirut are changed at midnight: the day begins at one.
        let beirut = written("Asia/Beirut", Unit::Day, "2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z");
        assert_eq!(beirut, ["2026-03-29T01:00:00+03:00 1380"]);
        // Samoa had no 30 December 2011.
        let apia = written("Pacific/Apia", Unit::Day, "2011-12-29T12:00:00Z", "2011-12-30T12:00:00Z");
        assert_eq!(apia, ["2011-12-29T00:00:00-10:00 1440", "2011-12-31T00:00:00+14:00 1440"]);
    }

    #[test]
    fn hours_are_those_of_the_local_clock() {
        let kathmandu = written("Asia/Kathmandu", Unit::Hour, "2026-10-25T18:29:00Z", "2026-10-25T19:16:00Z");
        assert_eq!(
            kathmandu,
            ["2026-10-26T00:00:00+05:45 60", "2026-10-26T01:00:00+05:45 60"],
            "an hour begins at a quarter past one of UTC"
        );
        let offset = written("-03:30", Unit::Hour, "2026-10-25T18:29:00Z", "2026-10-25T18:31:00Z");
        assert_eq!(offset, ["2026-10-25T14:00:00-03:30 60", "2026-10-25T15:00:00-03:30 60"]);
        // Two o'clock comes twice, and each is an hour of its own.
        let berlin = written("Europe/Berlin", Unit::Hour, "2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z");
        assert_eq!(berlin, ["2026-10-25T02:00:00+02:00 60", "2026-10-25T02:00:00+01:00 60"]);
        // Lord Howe's clocks go back by half an hour, at two: half past one comes twice.
        let howe = written("Australia/Lord_Howe", Unit::Hour, "2026-04-04T14:30:00Z", "2026-04-04T15:40:00Z");
        assert_eq!(howe, ["2026-04-05T01:00:00+11:00 60", "2026-04-05T01:30:00+10:30 30", "2026-04-05T02:00:00+10:30 60"]);
    }

    /// Whatever the zone: periods follow each other without a gap, each holds its moments, and those that are cut from any moment are the same.
    #[test]
    fn periods_follow_each_other_in_every_zone() {
        for name in
            ["UTC", "+14:00", "-00:45", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca"]
        {
            let zone = Zone::read(name).unwrap();
            for unit in [Unit::Minute, Unit::Hour, Unit::Day] {
                let since = at("2026-03-01T10:11:12Z").0;
                let span = unit.ms() * 800;
                let periods = Periods::of(unit, zone.clone(), (Instant(since), Instant(since + span)), 1_000).unwrap();
                for (number, begin, end) in periods.each() {
                    assert!(begin < end, "{name} {unit:?}");
                    for moment in [begin, begin + (end - begin) / 2, end - 1] {
                        assert_eq!(
                            (periods.holding(moment), zone.begin(unit, moment)),
                            (number, begin),
                            "{name} {unit:?} {}",
                            zone.written(moment)
                        );
                    }
                }
            }
        }
        assert!(Periods::of(Unit::Minute, Zone::utc(), (Instant(0), Instant(DAY_MS)), 100).is_none());
    }

    #[test]
    fn a_zone_is_a_name_or_an_offset() {
        assert_eq!(Zone::read("europe/berlin").unwrap().name, "Europe/Berlin");
        assert_eq!(Zone::read("+05:30").unwrap().name, "+05:30");
        for bad in ["", "Middle/Earth", "+5:30", "+24:00", "05:30", "+05:60", "../../etc/passwd", "Europe/Berlin\n", &"a".repeat(65)] {
            assert_eq!(Zone::read(bad).unwrap_err().problem().field.as_deref(), Some("zone"), "{bad}");
        }
    }
}
