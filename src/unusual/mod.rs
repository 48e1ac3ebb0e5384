//! What is unusual in a key's usage: findings from series of counts, each with what was seen, what was expected, and the command that acts on it.
//!
//! Pure: series, places and the present moment are arguments. `docs/unusual.md` says by which statistics it judges, and where they are from.
//!
//! ```text
//! counts by hour ──► rate: the same hour of the days before ──► surge, drop, denials
//! countries by day ► places: how often is something new here? ► new country, new network
//! uses ────────────► life: gaps, secrets ─────────────────────► dormant, old secret
//! sketch by hour ──► guesses ─────────────────────────────────► guessing
//! ```

mod guesses;
mod life;
mod places;
mod rate;
mod scale;
#[cfg(test)]
mod tests;

use crate::key::{Country, Instant, Key, Network, Span, Verdict};

pub use guesses::{Guesser, guessing};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Hours of a day.
const DAY: u32 = 24;

/// From where on something is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Days before the time in question that it is compared with.
    pub history_days: u32,
    /// Days of use below which nothing is compared.
    pub min_days: u32,
    /// Deviations from the median.
    pub deviations: u32,
    /// How many times as much, or as little.
    pub factor: u32,
    /// Requests in an hour or a day below which a surge is none.
    pub min_count: u64,
    /// A key that was not used for so long is dormant.
    pub dormant_after: Span,
    /// Networks within ten minutes.
    pub networks_at_once: u32,
    /// Unknown or malformed tokens from one network within an hour.
    pub guesses: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            history_days: 28,
            min_days: 7,
            deviations: 5,
            factor: 3,
            min_count: 20,
            dormant_after: Span(30 * DAY_MS),
            networks_at_once: 8,
            guesses: 100,
        }
    }
}

/// The time in question, and the time that it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The hour (since 1970-01-01T00:00:00Z) of the first place of every series. What is before the days that are compared with shows habits.
    pub from: u32,
    /// The first hour in question.
    pub since: u32,
    /// The present moment. Its hour, which is not over, is the last place of every series.
    pub now: Instant,
    /// Minutes of each hour from `from` on in which was counted.
    pub covered: Vec<u8>,
}

/// What is known of the usage of a key. Series have a place for each hour of the frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Verifies answered with `ok`.
    pub ok: Vec<u64>,
    /// Denials, by verdict.
    pub denials: Vec<(Verdict, Vec<u64>)>,
    /// Verifies with each secret that has been replaced, has retired or is revoked, within the time in question.
    pub old_secrets: Vec<OldSecret>,
    /// Verifies by country and hour, whatever the verdict.
    pub countries: Vec<(u32, Option<Country>, u64)>,
    /// The networks that are remembered.
    pub networks: Vec<Seen>,
    /// All that were used later than this are among them. None where all are that ever were.
    pub networks_forgotten: Option<Instant>,
    /// The most networks within ten minutes, by day (since 1970-01-01).
    pub spreads: Vec<(u32, u32)>,
    /// When the key was used last before the frame's `from`, or later, as far as is known.
    pub used_before: Option<Instant>,
}

/// A network that a key was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// A /24 or /48.
    pub network: Network,
    /// For the first time.
    pub first_at: Instant,
    /// For the last time.
    pub last_at: Instant,
}

/// Verifies with a secret that is not the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldSecret {
    /// Which.
    pub version: u16,
    /// Of these, answered with `ok`.
    pub ok: u64,
    /// Answered with `retired` or `revoked`.
    pub refused: u64,
    /// The hour of the last of them.
    pub last: u32,
    /// The last use of this secret, whatever its verdict; where it is not known, the beginning of that hour.
    pub used_at: Instant,
}

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Worth a look now.
    Critical,
}

impl Severity {
    /// Every severity, the least first.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// The word that every interface writes.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What kind of finding it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Unknown or malformed tokens from one network.
    Guessing,
    /// More requests than the same hour of the days before.
    Surge,
    /// Fewer.
    Drop,
    /// More denials of one verdict than before.
    Denials,
    /// The first use from a country.
    NewCountry,
    /// The first use from a network.
    NewNetwork,
    /// One key from many networks at once.
    ManyNetworks,
    /// A dormant key wakes.
    Dormant,
    /// A secret that was replaced, has retired or is revoked is still in use.
    OldSecret,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Guessing,
        Kind::Surge,
        Kind::Drop,
        Kind::Denials,
        Kind::NewCountry,
        Kind::NewNetwork,
        Kind::ManyNetworks,
        Kind::Dormant,
        Kind::OldSecret,
    ];

    /// Whether a longer history may show that it is nothing unusual.
    pub fn may_be_habit(self) -> bool {
        matches!(self, Kind::Surge | Kind::Drop | Kind::Denials | Kind::NewCountry | Kind::NewNetwork)
    }

    /// The word that every interface writes.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Guessing => "guessing",
            Kind::Surge => "surge",
            Kind::Drop => "drop",
            Kind::Denials => "denials",
            Kind::NewCountry => "new_country",
            Kind::NewNetwork => "new_network",
            Kind::ManyNetworks => "many_networks",
            Kind::Dormant => "dormant",
            Kind::OldSecret => "old_secret",
        }
    }
}

/// Something unusual.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// How grave.
    pub severity: Severity,
    /// When it began: the beginning of an hour where it is told by hours.
    pub at: Instant,
    /// What was seen: requests, networks or days, as the evidence says.
    pub seen: u64,
    /// What was expected of the same.
    pub expected: u64,
    /// What was seen and what was expected, in a sentence.
    pub evidence: String,
    /// The words of the command that acts on it.
    pub command: Vec<String>,
}

/// What was found of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// In the order of their kinds.
    pub findings: Vec<Finding>,
    /// Days from the first use to the time in question, if they are too few to compare with: then no rate, no denials and no place was judged.
    pub too_young: Option<u32>,
    /// Days before the time in question on which there was any use, if they are too few to tell a habit by: then no place was judged.
    pub too_seldom: Option<u32>,
}

/// Days of use below which no habit can be told.
pub const MIN_DAYS_OF_USE: u32 = 3;

/// What is unusual in the usage of a key; `None` for tokens that no key has, of which only rates are judged. Of a deleted key only denials are.
pub fn judge(key: Option<&Key>, usage: &Usage, frame: &Frame, limits: &Limits) -> Judgement {
    let mut findings = Vec::new();
    let is_deleted = key.is_some_and(|key| key.deleted_at.is_some());
    let living = key.filter(|_| !is_deleted);
    if let Some(key) = living {
        life::look(key, usage, frame, limits, &mut findings);
    }
    let begin = frame.first_use(usage);
    // Whoever guesses is not new: that nobody did is known from where on was counted.
    let begin = if key.is_none() { begin.map(|begin| frame.first_counted().unwrap_or(begin).min(begin)) } else { begin };
    let days = begin.map_or(0, |begin| frame.since.saturating_sub(begin) / DAY);
    let is_used = begin.is_some();
    let too_young = (is_used && days < limits.min_days).then_some(days);
    let mut too_seldom = None;
    if let Some(begin) = begin.filter(|_| too_young.is_none()) {
        rate::look(key, usage, frame, begin, limits, &mut findings);
        if let Some(key) = living {
            let days = frame.days_of_use(usage);
            if days < MIN_DAYS_OF_USE {
                too_seldom = Some(days);
            } else {
                places::look(key, usage, frame, begin, limits, &mut findings);
            }
        }
    }
    findings.sort_by_key(|finding| finding.kind);
    let too_young = too_young.filter(|_| !is_deleted);
    Judgement { findings, too_young, too_seldom }
}

impl Frame {
    /// The hour of the present moment.
    fn last(&self) -> u32 {
        hour(self.now)
    }

    /// The place of an hour in every series.
    fn place(&self, hour: u32) -> usize {
        hour.saturating_sub(self.from) as usize
    }

    /// Whether was counted in all of an hour, but for a few minutes.
    fn is_whole(&self, hour: u32) -> bool {
        self.covered.get(self.place(hour)).is_some_and(|minutes| *minutes >= WHOLE_MINUTES)
    }

    /// Days of UTC before the time in question on which there was any use.
    fn days_of_use(&self, usage: &Usage) -> u32 {
        let before = self.place(self.since);
        let series = || usage.denials.iter().map(|(_, series)| series).chain([&usage.ok]);
        let is_used = |place: usize| series().any(|series| series.get(place).is_some_and(|count| *count > 0));
        let mut days: Vec<u32> = (0..before).filter(|place| is_used(*place)).map(|place| (self.from + place as u32) / DAY).collect();
        days.dedup();
        days.len() as u32
    }

    /// The first hour in which was counted.
    fn first_counted(&self) -> Option<u32> {
        self.covered.iter().position(|minutes| *minutes > 0).map(|place| self.from + place as u32)
    }

    /// The first hour with a use. A series that begins with it is not full of zeros from before the key was there.
    fn first_use(&self, usage: &Usage) -> Option<u32> {
        if usage.used_before.is_some() {
            return Some(self.from);
        }
        let first = |series: &Vec<u64>| series.iter().position(|count| *count > 0);
        let place = usage.denials.iter().map(|(_, series)| series).chain([&usage.ok]).filter_map(first).min();
        place.map(|place| self.from + place as u32)
    }
}

/// Minutes of an hour in which must have been counted, so that its count can be compared.
const WHOLE_MINUTES: u8 = 55;

/// The hour of a moment.
pub fn hour(at: Instant) -> u32 {
    u32::try_from(at.0.max(0) / HOUR_MS).unwrap_or(u32::MAX)
}

/// The first moment of an hour.
fn begins(hour: u32) -> Instant {
    Instant(i64::from(hour) * HOUR_MS)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// `doorward VERB KEY FLAGS`
fn command(verb: &str, key: &Key, flags: &[&str]) -> Vec<String> {
    let mut command = words(&["doorward", verb, &key.argument()]);
    command.extend(words(flags));
    command
}

/// `2026-12-01 10:00 UTC`
fn clock(at: Instant) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// A count of a noun: `1 request`, `12 requests`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
