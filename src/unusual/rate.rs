//! Whether an hour or a day had far more or far fewer requests than the same of the days before.

use super::scale::{Scale, median};
use super::{DAY, Finding, Frame, Kind, Limits, Severity, Usage, begins, clock, command, counted, words};
use crate::key::{Key, Verdict};

/// Days after which the same day of the week comes again.
const WEEK: usize = 7;
/// A source that is often far below must be so many times as far below as on the second of its worst days before.
const HABIT: f64 = 2.0;
/// A count that is so many times the second of the largest of the days before is not told by how the source scatters: it never scattered so far.
const OUTGROWN: u64 = 5;
/// Bins that say together how a source scatters; fewer do not.
const FITTED: usize = 14;
/// A whole day must be so many times as much, or as little, as the second of the largest, or smallest, days before: where requests come in a few
/// heaps, days differ more than a median and a deviation can tell.
const DAY_FACTOR: u64 = 2;
/// What has only moved by an hour is not much more than the second of the largest of the hour beside it: less than so many times, over so many.
const MOVED: (u64, u64) = (3, 2);
/// Weeks from which on the same day of the week says what a source does by habit on it.
const WEEKS: usize = 3;
/// Hours by which a job may come earlier or later than usual.
const MARGIN: usize = 2;
/// Days of the last week below which it does not say how much the source does by now.
const FEW_DAYS: usize = 3;
/// Times as much as expected from which a surge is critical, and requests.
const CRITICAL: (u64, u64) = (10, 1_000);

/// More, or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    /// Whether a count is so many times another, and differs by so many.
    fn deviates(self, seen: f64, expected: f64, limits: &Limits) -> bool {
        let (factor, least) = (f64::from(limits.factor), limits.min_count as f64);
        match self {
            Way::Up => seen >= factor * expected && seen - expected >= least,
            Way::Down => seen * factor <= expected && expected - seen >= least,
        }
    }
}

/// A time in question that deviates.
#[derive(Debug, Clone, Copy)]
struct Deviation {
    place: usize,
    seen: u64,
    expected: f64,
    score: f64,
}

/// Surges and drops of what was answered with `ok`, and surges of denials.
pub(super) fn look(key: Option<&Key>, usage: &Usage, frame: &Frame, begin: u32, limits: &Limits, found: &mut Vec<Finding>) {
    let hours = Bins::of_hours(frame, begin);
    let days = Bins::of_days(frame, begin);
    // That a deleted key is not answered with `ok` any more is as it should be.
    let ways: &[Way] = if key.is_some_and(|key| key.deleted_at.is_some()) { &[] } else { &[Way::Up, Way::Down] };
    for &way in ways {
        if let Some(finding) = worst(&usage.ok, [&hours, &days], way, limits) {
            found.push(rate(key, &finding, way, limits));
        }
    }
    for (verdict, series) in &usage.denials {
        if matches!(verdict, Verdict::Ok | Verdict::Retired | Verdict::Revoked) {
            continue;
        }
        if let Some(finding) = worst(series, [&hours, &days], Way::Up, limits) {
            found.push(denials(key, *verdict, &finding));
        }
    }
}

/// What is told of the places that deviate: the worst of them, and how many there are.
struct Told<'b> {
    bins: &'b Bins,
    worst: Deviation,
    first: usize,
    count: usize,
    compared: usize,
}

/// The worst hour, or where no hour deviates the worst day: what is spread thinly over a day shows only there.
fn worst<'b>(series: &[u64], bins: [&'b Bins; 2], way: Way, limits: &Limits) -> Option<Told<'b>> {
    bins.into_iter().find_map(|bins| {
        let sums = bins.sums(series);
        let deviating = bins.deviating(&sums, &bins.wide(series), way, limits);
        let worst = *deviating.iter().max_by(|a, b| a.score.total_cmp(&b.score))?;
        let first = deviating.iter().map(|deviation| deviation.place).min()?;
        Some(Told { bins, worst, first, count: deviating.len(), compared: bins.before(worst.place, limits.history_days).count() })
    })
}

fn rate(key: Option<&Key>, told: &Told<'_>, way: Way, limits: &Limits) -> Finding {
    let Deviation { seen, expected, .. } = told.worst;
    let expected = expected.round() as u64;
    let (kind, severity) = match way {
        Way::Up if seen >= CRITICAL.1 && seen >= expected.max(1).saturating_mul(CRITICAL.0) => (Kind::Surge, Severity::Critical),
        Way::Up => (Kind::Surge, Severity::Warning),
        Way::Down => (Kind::Drop, Severity::Info),
    };
    let command = match (key, way) {
        (Some(key), Way::Up) => command("disable", key, &[]),
        (Some(key), Way::Down) => command("usage", key, &["--last", &format!("{}d", limits.min_days), "--by", "hour"]),
        (None, _) => words(&["doorward", "denials"]),
    };
    let evidence = told.sentence(&counted(seen, "request"), expected);
    Finding { kind, severity, at: told.at(), seen, expected, evidence, command }
}

fn denials(key: Option<&Key>, verdict: Verdict, told: &Told<'_>) -> Finding {
    let Deviation { seen, expected, .. } = told.worst;
    let expected = expected.round() as u64;
    let severity =
        if seen >= CRITICAL.1 && seen >= expected.max(1).saturating_mul(CRITICAL.0) { Severity::Critical } else { Severity::Warning };
    let command = match key {
        Some(key) => command("usage", key, &["--by", "function,verdict,hour"]),
        None => words(&["doorward", "denials"]),
    };
    let evidence = told.sentence(&format!("{seen} times '{verdict}'"), expected);
    Finding { kind: Kind::Denials, severity, at: told.at(), seen, expected, evidence, command }
}

impl Told<'_> {
    fn at(&self) -> crate::key::Instant {
        begins(self.bins.begin_of(self.first))
    }

    fn sentence(&self, what: &str, expected: u64) -> String {
        let from = clock(begins(self.bins.begin_of(self.worst.place)));
        let (unit, same) = if self.bins.hours == 1 { ("hour", "the same hour of ") } else { ("day", "") };
        let also = match self.count - 1 {
            0 => String::new(),
            others => format!(", and {} more like it", counted(others as u64, unit)),
        };
        let (days, away) = (self.compared, self.worst.score);
        format!("{what} in the {unit} from {from}; {same}the {days} days before had {expected} (median), {away:.0} deviations away{also}")
    }
}

/// A series in bins of an hour, or of 24 hours that end with the last whole hour.
struct Bins {
    /// Hours of a bin.
    hours: u32,
    /// The hour of the first bin.
    from: u32,
    /// Bins of a day.
    of_day: usize,
    /// Places of the first hour of a series that is in the first bin.
    skip: usize,
    /// The first bin with use, and the first in question.
    begin: usize,
    since: usize,
    /// Whether was counted in all of each bin.
    whole: Vec<bool>,
    /// Whether the last bin is not over.
    is_open: bool,
}

impl Bins {
    fn of_hours(frame: &Frame, begin: u32) -> Bins {
        let last = frame.last();
        let whole = (frame.from..=last).map(|hour| hour < last && frame.is_whole(hour)).collect();
        let (begin, since) = (frame.place(begin), frame.place(frame.since));
        Bins { hours: 1, from: frame.from, of_day: DAY as usize, skip: 0, begin, since, whole, is_open: true }
    }

    fn of_days(frame: &Frame, begin: u32) -> Bins {
        let hours = frame.last().saturating_sub(frame.from);
        let skip = hours % DAY;
        let from = frame.from + skip;
        let bins = hours / DAY;
        let is_whole = |bin: u32| (0..DAY).filter(|hour| frame.is_whole(from + bin * DAY + hour)).count() + 1 >= DAY as usize;
        let bin_of = |hour: u32| hour.saturating_sub(from).div_ceil(DAY) as usize;
        // A time in question of less than a day is judged with the day that it ends.
        let since = bin_of(frame.since).min((bins as usize).saturating_sub(1));
        let whole = (0..bins).map(is_whole).collect();
        Bins { hours: DAY, from, of_day: 1, skip: skip as usize, begin: bin_of(begin), since, whole, is_open: false }
    }

    fn begin_of(&self, bin: usize) -> u32 {
        self.from + bin as u32 * self.hours
    }

    fn sums(&self, series: &[u64]) -> Vec<u64> {
        let rest = series.get(self.skip..).unwrap_or_default();
        let mut sums: Vec<u64> = rest.chunks(self.hours as usize).map(|hours| hours.iter().sum()).collect();
        sums.resize(self.whole.len(), 0);
        sums
    }

    /// The same of bins that begin and end two hours earlier and later: there is what has only moved out of a day.
    fn wide(&self, series: &[u64]) -> Vec<u64> {
        let margin = if self.of_day == 1 { MARGIN } else { 0 };
        let begin = |bin: usize| self.skip + bin * self.hours as usize;
        let hours = |bin: usize| begin(bin).saturating_sub(margin)..(begin(bin + 1) + margin).min(series.len());
        (0..self.whole.len()).map(|bin| series.get(hours(bin)).unwrap_or_default().iter().sum()).collect()
    }

    /// The same bin of the days before that can be compared with, the latest first.
    fn before(&self, bin: usize, days: u32) -> impl Iterator<Item = usize> {
        (1..=days as usize)
            .map_while(move |day| bin.checked_sub(day * self.of_day))
            .take_while(|at| *at >= self.begin)
            .filter(|at| self.whole[*at])
    }

    /// The same bin of the other weeks, before and (within the history) after it.
    fn same_day_of_week(&self, bin: usize, end: usize, days: u32) -> impl Iterator<Item = usize> {
        let (week, most) = (WEEK * self.of_day, days as usize / WEEK);
        let before = (1..=most).map_while(move |weeks| bin.checked_sub(weeks * week)).take_while(|at| *at >= self.begin);
        let after = (1..=most).map(move |weeks| bin + weeks * week).take_while(move |at| *at < end);
        before.chain(after).filter(|at| self.whole[*at])
    }

    /// The bins in question that deviate.
    fn deviating(&self, sums: &[u64], wide: &[u64], way: Way, limits: &Limits) -> Vec<Deviation> {
        let is_fewer = |bin: usize| {
            let mut before: Vec<f64> = self.before(bin, limits.history_days).map(|at| wide[at] as f64).collect();
            wide[bin] as f64 * f64::from(limits.factor) <= median(&mut before)
        };
        let candidates: Vec<(usize, f64)> = (self.since..sums.len())
            .filter_map(|bin| self.candidate(sums, bin, way, limits))
            .filter(|(bin, _)| way == Way::Up || is_fewer(*bin))
            .collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        let History { scale, score: threshold, least, most, outgrown } = self.history(sums, way, limits);
        let scored = candidates.into_iter().filter_map(|(place, expected)| {
            let seen = sums[place];
            let score = if way == Way::Up && seen >= outgrown {
                Scale::POISSON.at(seen as f64) - Scale::POISSON.at(expected)
            } else {
                self.score(sums, place, self.since.min(place), scale, way, limits)?.nearer
            };
            (score >= threshold && (least..=most).contains(&seen)).then_some(Deviation { place, seen, expected, score })
        });
        scored.collect()
    }

    /// A bin that is so many times as large, or as small, as what was expected; with that. Most bins end here, before anything is computed of them.
    fn candidate(&self, sums: &[u64], bin: usize, way: Way, limits: &Limits) -> Option<(usize, f64)> {
        let is_open = self.is_open && bin + 1 == sums.len();
        // More than expected is more, even if the hour is not over; fewer may be because of that.
        if way == Way::Down && (is_open || !self.whole[bin]) || way == Way::Up && sums[bin] < limits.min_count {
            return None;
        }
        let mut values = Vec::with_capacity(limits.history_days as usize);
        let mut expected_of = |bins: &mut dyn Iterator<Item = usize>| {
            values.clear();
            values.extend(bins.map(|at| sums[at] as f64));
            (values.len(), median(&mut values))
        };
        let (days, expected) = expected_of(&mut self.before(bin, limits.history_days));
        if days < limits.min_days as usize {
            return None;
        }
        let seen = sums[bin] as f64;
        let deviates = |expected: f64| way.deviates(seen, expected, limits);
        let mut all = deviates(expected);
        if let Some(yesterday) = bin.checked_sub(self.of_day).filter(|at| way == Way::Down && self.whole[*at]) {
            // A key that is used no more stops once.
            all = all && deviates(sums[yesterday] as f64);
        }
        let (weeks, of_week) = expected_of(&mut self.same_day_of_week(bin, self.since.min(bin), limits.history_days));
        all = all && (weeks == 0 || deviates(of_week));
        // A source that does more for some days, or grows, is compared with what it does by now.
        let (recent, of_late) = expected_of(&mut self.before(bin, WEEK as u32));
        all = all && (recent < FEW_DAYS || deviates(of_late));
        if self.of_day > 1 && all {
            // What comes an hour earlier or later than usual has only moved: a job that starts about the hour, or summer time.
            for near in [bin.wrapping_sub(1), bin + 1] {
                let (days, expected) = expected_of(&mut self.before(near, limits.history_days));
                // What another day of the week has each week in that hour has not moved into this one.
                let of_other_day =
                    |at: usize| !(near - at).is_multiple_of(WEEK * self.of_day) && self.is_weekly(sums, at, self.since.min(bin), limits);
                let second = second_largest(self.before(near, limits.history_days).filter(|at| !of_other_day(*at)).map(|at| sums[at]));
                let is_more = way == Way::Down || sums[bin].saturating_mul(MOVED.1) > second.saturating_mul(MOVED.0);
                all = all && (days < limits.min_days as usize || deviates(expected) && is_more);
            }
        }
        all.then_some((bin, expected))
    }

    /// By how many deviations a bin is away from the others.
    fn score(&self, sums: &[u64], bin: usize, end: usize, scale: Scale, way: Way, limits: &Limits) -> Option<Score> {
        let others: Vec<f64> = if bin < end {
            // Of the history itself: as compared with all of it.
            let slot = bin % self.of_day;
            (0..end)
                .skip(slot)
                .step_by(self.of_day)
                .filter(|at| *at >= self.begin && *at != bin && self.whole[*at])
                .map(|at| sums[at] as f64)
                .collect()
        } else {
            self.before(bin, limits.history_days).map(|at| sums[at] as f64).collect()
        };
        let of_week: Vec<f64> = self.same_day_of_week(bin, end, limits.history_days).map(|at| sums[at] as f64).collect();
        let late = if bin < end { 0 } else { WEEK as u32 };
        let of_late: Vec<f64> = self.before(bin, late).map(|at| sums[at] as f64).collect();
        let away = |values: &[f64], spread: f64| {
            let middle = median(&mut values.to_vec());
            // A median of few values is itself uncertain: its variance is π/2 of that of a mean (Laplace).
            let uncertain = (1.0 + std::f64::consts::FRAC_PI_2 / values.len() as f64).sqrt();
            (scale.at(sums[bin] as f64) - scale.at(middle)) / (spread * uncertain)
        };
        if others.is_empty() {
            return None;
        }
        let spread = scale.spread(&others);
        let towards = |score: f64| if way == Way::Up { score } else { -score };
        let of_all = towards(away(&others, spread));
        let nearer = if of_week.is_empty() { of_all } else { of_all.min(towards(away(&of_week, 1.0))) };
        let nearer = if of_late.len() < FEW_DAYS { nearer } else { nearer.min(towards(away(&of_late, 1.0))) };
        Some(Score { of_all, nearer, is_weekly: self.is_weekly(sums, bin, end, limits) })
    }

    /// Whether a bin is about as much as on the same day of each other week, where these are enough to tell: what comes each week says nothing of the other days.
    fn is_weekly(&self, sums: &[u64], bin: usize, end: usize, limits: &Limits) -> bool {
        let weeks = self.same_day_of_week(bin, end, limits.history_days);
        let is_alike = |other: usize| sums[bin] < sums[other].saturating_mul(limits.factor.into());
        let (count, alike) = weeks.fold((0, true), |(count, alike), other| (count + 1, alike && is_alike(other)));
        count >= WEEKS && alike
    }

    /// How the source scatters, and from which score on a bin is unusual for it.
    fn history(&self, sums: &[u64], way: Way, limits: &Limits) -> History {
        let end = self.since.min(sums.len());
        // All that is known, which may be more than what is compared with: what came a month ago, and the month before, is a habit.
        let begin = self.begin.min(end);
        let mut pairs = Vec::new();
        let mut values = Vec::new();
        for slot in begin..end.min(begin + self.of_day) {
            let bins = || (slot..end).step_by(self.of_day).filter(|at| self.whole[*at]);
            values.clear();
            values.extend(bins().map(|at| sums[at] as f64));
            let middle = median(&mut values);
            for bin in bins() {
                values.clear();
                values.extend(self.same_day_of_week(bin, end, limits.history_days).map(|at| sums[at] as f64));
                let (seen, of_week) = (sums[bin] as f64, median(&mut values));
                let of_week = if values.is_empty() { middle } else { of_week };
                // As with scores, the nearer counts.
                let nearer = if (Scale::POISSON.at(seen) - Scale::POISSON.at(of_week)).abs()
                    < (Scale::POISSON.at(seen) - Scale::POISSON.at(middle)).abs()
                {
                    of_week
                } else {
                    middle
                };
                // A source that is silent at this hour says nothing of how it scatters when it is not.
                if nearer >= 1.0 {
                    pairs.push((seen, nearer));
                }
            }
        }
        let scale = if pairs.len() < FITTED { Scale::POISSON } else { Scale::fit(&pairs) };
        let deviations = f64::from(limits.deviations);
        // Of each day the worst score, and the largest count among those that deviate.
        let mut scores = Vec::new();
        let mut counts = Vec::new();
        let mut peaks = Vec::new();
        for day in (begin..end).step_by(self.of_day) {
            let (mut worst, mut largest, mut peak) = (f64::NEG_INFINITY, 0, 0u64);
            for bin in (day..end.min(day + self.of_day)).filter(|at| self.whole[*at]) {
                let Some(score) = self.score(sums, bin, end, scale, way, limits) else { continue };
                worst = worst.max(score.nearer);
                largest = if score.of_all >= deviations && !score.is_weekly { sums[bin].max(largest) } else { largest };
                peak = peak.max(sums[bin]);
            }
            peaks.push(peak);
            scores.push(worst);
            counts.push(largest);
        }
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        counts.sort_unstable_by(|a, b| b.cmp(a));
        peaks.sort_unstable_by(|a, b| b.cmp(a));
        // The worst day may have been unusual itself. A source that deviates on two days does so by habit.
        let outgrown = peaks.get(1).map_or(u64::MAX, |peak| peak.saturating_mul(OUTGROWN));
        let mut history = History { scale, score: deviations, least: 0, most: u64::MAX, outgrown };
        match way {
            Way::Up => history.least = counts.get(1).map_or(0, |count| count.saturating_mul(limits.factor.into())),
            Way::Down if scores.get(1).is_some_and(|habit| *habit >= deviations) => history.score = scores[1] * HABIT,
            Way::Down => {}
        }
        if self.of_day == 1 {
            // A surge need not be larger than what comes each week on its day.
            let is_weekly = |at: usize| {
                let score = self.score(sums, at, end, scale, way, limits);
                way == Way::Up && score.is_some_and(|score| score.of_all >= deviations && score.is_weekly)
            };
            let mut days: Vec<u64> = (begin..end).filter(|at| self.whole[*at] && !is_weekly(*at)).map(|at| sums[at]).collect();
            days.sort_unstable();
            match way {
                Way::Up => history.least = history.least.max(days.iter().rev().nth(1).copied().unwrap_or_default() * DAY_FACTOR),
                Way::Down => history.most = days.get(1).copied().unwrap_or_default() / DAY_FACTOR,
            }
        }
        history
    }
}

/// By how many deviations a bin is away.
struct Score {
    /// From all days.
    of_all: f64,
    /// From the nearest of all days, the same day of other weeks, and the last days.
    nearer: f64,
    /// Whether it is as on the same day of each other week, where these are enough to tell.
    is_weekly: bool,
}

/// The largest number but for one.
fn second_largest(numbers: impl Iterator<Item = u64>) -> u64 {
    let (_, second) = numbers.fold((0, 0), |(first, second), number| (number.max(first), number.min(first).max(second)));
    second
}

/// What a source does by itself.
struct History {
    scale: Scale,
    /// From which score on a bin is unusual for it …
    score: f64,
    /// … and from which count on, and up to which.
    least: u64,
    most: u64,
    /// From this count on it is whatever its score on that scale.
    outgrown: u64,
}
