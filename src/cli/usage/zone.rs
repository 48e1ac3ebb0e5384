//! Moments as the reader's clock shows them: UTC, or with `--local` the time zone of this machine or of `$TZ`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use crate::cli::args::traffic::Moment;
use crate::cli::exit::Failure;
use crate::key::{Instant, limits};

/// A time zone to show times in.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    rules: TimeZone,
    local: bool,
}

impl Zone {
    pub(crate) fn utc() -> Zone {
        Zone { rules: TimeZone::UTC, local: false }
    }

    /// That of this machine or of `$TZ`.
    pub(crate) fn local() -> Result<Zone, Failure> {
        let rules = TimeZone::try_system();
        let rules = rules.map_err(|error| {
            Failure::usage(format!("--local: this machine's time zone is not known ({error}); set TZ to one such as Europe/Berlin"))
        })?;
        Ok(Zone { rules, local: true })
    }

    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Zone {
        Zone { rules: TimeZone::get(name).unwrap(), local: true }
    }

    /// What the daemon is asked for: a name, or where there is none the offset, if that is the same all the time.
    pub(crate) fn asked(&self, since: Instant, until: Instant) -> Result<Option<String>, Failure> {
        if !self.local {
            return Ok(None);
        }
        if let Some(name) = self.rules.iana_name() {
            return Ok(Some(name.to_owned()));
        }
        if self.rules.following(stamp(since)).next().is_some_and(|change| change.timestamp() < stamp(until)) {
            let detail = "--local: this machine's time zone has no name, and its offset changes in that time; set TZ to a name such as Europe/Berlin";
            return Err(Failure::usage(detail));
        }
        Ok(Some(self.at(since).strftime("%:z").to_string()))
    }

    /// The moment that was meant.
    pub(crate) fn resolve(&self, moment: Moment, now: Instant) -> Result<Instant, Failure> {
        let ms = match moment {
            Moment::At(instant) => return Ok(instant),
            Moment::Ago(span) => now.0.saturating_sub(span.0).max(0),
            Moment::Clock(clock) => {
                self.clock_ms(clock).ok_or_else(|| Failure::usage(format!("{clock} is not a time that can be counted")))?
            }
        };
        Ok(Instant(ms))
    }

    fn clock_ms(&self, clock: DateTime) -> Option<i64> {
        let moment = clock.to_zoned_datetime(self.rules.clone()).ok()?;
        Some(moment.timestamp().as_millisecond()).filter(|ms| (0..=limits::INSTANT_MS).contains(ms))
    }

    pub(crate) fn at(&self, at: Instant) -> ZonedDateTime {
        stamp(at).to_zoned_datetime(self.rules.clone())
    }

    /// Where a period ends that begins here.
    pub(crate) fn end(&self, unit: &str, at: Instant) -> Instant {
        match unit {
            "minute" => Instant(at.0 + 60_000),
            "hour" => Instant(at.0 + 3_600_000),
            _ => {
                let next = self.at(at).tomorrow().and_then(|next| next.start_of_day());
                Instant(next.map_or(at.0 + 86_400_000, |next| next.timestamp().as_millisecond()))
            }
        }
    }

    /// `2026-12-01 10:00 UTC`, `2026-12-01 11:00 +01:00`
    pub(crate) fn moment(&self, at: Instant) -> String {
        let format = if self.local { "%Y-%m-%d %H:%M %:z" } else { "%Y-%m-%d %H:%M UTC" };
        self.at(at).strftime(format).to_string()
    }

    /// RFC 3339: in UTC, or with the offset.
    pub(crate) fn exact(&self, at: Instant) -> String {
        if self.local { self.at(at).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() } else { at.to_string() }
    }

    /// `, Europe/Berlin`, where that is known.
    pub(crate) fn suffix(&self) -> String {
        self.rules.iana_name().filter(|_| self.local).map(|name| format!(", {name}")).unwrap_or_default()
    }
}

fn stamp(at: Instant) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_readers_midnight() {
        let now = Instant(1_790_000_000_000);
        let midnight: Moment = "2026-07-01".parse().unwrap();
        assert_eq!(Zone::utc().resolve(midnight, now).unwrap().to_string(), "2026-07-01T00:00:00Z");
        let berlin = Zone::named("Europe/Berlin");
        assert_eq!(berlin.resolve(midnight, now).unwrap().to_string(), "2026-06-30T22:00:00Z");
        assert_eq!(berlin.resolve("2026-07-01T12:30".parse().unwrap(), now).unwrap().to_string(), "2026-07-01T10:30:00Z");
        assert_eq!(berlin.resolve("2026-07-01T12:30:00Z".parse().unwrap(), now).unwrap().to_string(), "2026-07-01T12:30:00Z");
        assert_eq!(berlin.resolve("1s".parse().unwrap(), now).unwrap(), Instant(now.0 - 1_000));
        assert!(berlin.resolve("1970-01-01".parse().unwrap(), now).is_err(), "before 1970 in UTC");
    }

    #[test]
    fn times_tell_their_offset() {
        let at: Instant = "2026-11-23T18:05:00Z".parse().unwrap();
        assert_eq!(Zone::utc().moment(at), "2026-11-23 18:05 UTC");
        assert_eq!(Zone::utc().exact(at), "2026-11-23T18:05:00Z");
        let kathmandu = Zone::named("Asia/Kathmandu");
        assert_eq!(kathmandu.moment(at), "2026-11-23 23:50 +05:45");
        assert_eq!(kathmandu.exact(at), "2026-11-23T23:50:00+05:45");
        assert_eq!(kathmandu.asked(at, at).unwrap().as_deref(), Some("Asia/Kathmandu"));
        let nameless = Zone { rules: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), local: true };
        assert_eq!(nameless.asked(at, at).unwrap().as_deref(), Some("+01:00"));
        assert!(nameless.asked(at, Instant(at.0 + 200 * 86_400_000)).is_err(), "summer comes in between");
    }
}
