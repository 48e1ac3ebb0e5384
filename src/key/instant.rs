use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::{limits, shown};

/// A moment in UTC, in milliseconds since 1970-01-01T00:00:00Z. Written in RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Instant(pub i64);

/// A length of time in milliseconds, written as `30d`, `12h`, `1h30m`: units `w d h m s ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

/// A moment as a person writes it: RFC 3339, a date (its first moment in UTC), or a span from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This moment.
    At(Instant),
    /// So long after now.
    In(Span),
}

/// A text that is no moment or no span.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InstantError {
    /// Not RFC 3339, not a date, or outside the years 1970 to 9999.
    #[error("'{0}' is not a time: expected RFC 3339 such as 2027-01-31T12:00:00Z, between 1970 and 9999")]
    Instant(String),
    /// Not a span, or a longer one than a hundred years.
    #[error("'{0}' is not a span of time: expected a number and a unit (w d h m s ms), such as 30d or 12h, of at most 100 years")]
    Span(String),
    /// None of the three forms.
    #[error("'{0}' is not a time: expected RFC 3339 (2027-01-31T12:00:00Z), a date (2027-01-31) or a span (30d, 12h)")]
    When(String),
}

/// The units of a span, longest first, in milliseconds.
const UNITS: [(&str, i64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Instant {
    /// The moment `span` later, or the latest that can be written.
    pub fn plus(self, span: Span) -> Instant {
        Instant(self.0.saturating_add(span.0).min(limits::INSTANT_MS))
    }

    /// The span from `earlier` to this moment; negative when it is the other way round.
    pub fn since(self, earlier: Instant) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.clamp(0, limits::INSTANT_MS)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl When {
    /// The moment meant, given the present one.
    pub fn resolve(self, now: Instant) -> Instant {
        match self {
            When::At(instant) => instant,
            When::In(span) => now.plus(span),
        }
    }
}

impl FromStr for Instant {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Instant, InstantError> {
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| InstantError::Instant(shown(text)))?;
        let ms = timestamp.as_millisecond();
        if (0..=limits::INSTANT_MS).contains(&ms) { Ok(Instant(ms)) } else { Err(InstantError::Instant(shown(text))) }
    }
}

impl FromStr for Span {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Span, InstantError> {
        let error = || InstantError::Span(shown(text));
        let mut rest = text;
        let mut total = 0i64;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let unit = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
            let (unit, tail) = tail.split_at(unit);
            let (_, ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
            let number: i64 = number.parse().map_err(|_| error())?;
            total = number.checked_mul(ms).and_then(|part| total.checked_add(part)).ok_or_else(error)?;
            rest = tail;
        }
        if text.is_empty() || total > limits::SPAN_MS { Err(error()) } else { Ok(Span(total)) }
    }
}

impl FromStr for When {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<When, InstantError> {
        if let Ok(instant) = text.parse() {
            return Ok(When::At(instant));
        }
        if let Ok(span) = text.parse() {
            return Ok(When::In(span));
        }
        let is_date =
            text.len() == 10 && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
        let first_moment = is_date.then(|| format!("{text}T00:00:00Z").parse().ok()).flatten();
        first_moment.map(When::At).ok_or_else(|| InstantError::When(shown(text)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.timestamp().to_string())
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.unsigned_abs();
        let mut text = String::from(if self.0 < 0 { "-" } else { "" });
        for (unit, ms) in &UNITS[1..] {
            let number = rest / *ms as u64;
            rest %= *ms as u64;
            if number > 0 {
                text.push_str(&format!("{number}{unit}"));
            }
        }
        f.pad(if text.len() <= 1 { "0s" } else { &text })
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339() {
        let instant: Instant = "2027-01-31T13:00:00.25+01:00".parse().unwrap();
        assert_eq!(instant.to_string(), "2027-01-31T12:00:00.25Z");
        assert_eq!("1970-01-01T00:00:00Z".parse::<Instant>().unwrap(), Instant(0));
        assert_eq!(Instant(limits::INSTANT_MS).to_string(), "9999-12-30T22:00:00Z");
        for bad in ["", "now", "2027-01-31", "2027-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "-2027-01-01T00:00:00Z"] {
            assert!(bad.parse::<Instant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_units() {
        assert_eq!("30d".parse::<Span>().unwrap(), Span(30 * 86_400_000));
        assert_eq!("1h30m".parse::<Span>().unwrap().to_string(), "1h30m");
        assert_eq!("2w".parse::<Span>().unwrap().to_string(), "14d");
        assert_eq!("0s".parse::<Span>().unwrap().to_string(), "0s");
        for bad in ["", "d", "30", "30x", "-1d", "1.5h", "99999999999999999999d", "101w52000w", "1 d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn when_is_any_of_three_forms() {
        let now = Instant(1_000);
        assert_eq!("1970-01-02".parse::<When>().unwrap().resolve(now), Instant(86_400_000));
        assert_eq!("1s".parse::<When>().unwrap().resolve(now), Instant(2_000));
        assert_eq!("1970-01-01T00:00:03Z".parse::<When>().unwrap().resolve(now), Instant(3_000));
        for bad in ["tomorrow", "2027-13-01", "2027-1-1", "never"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
