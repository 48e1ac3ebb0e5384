//! Anomalies planted into traffic of every shape: each is found.

use super::traffic::{Dice, Life, Shape, frame};
use super::{MONDAY, key};
use crate::key::{Country, Instant, Verdict};
use crate::unusual::{Frame, Kind, Limits, Seen, Usage, begins, judge};

const HISTORY: u32 = 28;
/// Keys of each shape and level.
const KEYS: u64 = 12;
const LEVELS: [f64; 3] = [5.0, 60.0, 900.0];

/// Plants something into the last day of keys of these shapes, and insists that it is found in each.
#[track_caller]
fn found_in(shapes: &[Shape], kind: Kind, mut plant: impl FnMut(&mut Usage, &mut Frame, &mut Dice)) {
    let mut missed = Vec::new();
    let mut planted = 0;
    for &shape in shapes {
        for (level, number) in LEVELS.into_iter().flat_map(|level| (0..KEYS).map(move |number| (level, number))) {
            let mut dice = Dice::new((0xa0 + shape as u64) << 24 | (level as u64) << 8 | number);
            let life = Life::draw(shape, level, (HISTORY + 1) * 24 + 1, &mut dice);
            let mut frame = frame(MONDAY, HISTORY);
            let mut usage = life.usage(&frame, 0);
            plant(&mut usage, &mut frame, &mut dice);
            planted += 1;
            let judgement = judge(Some(&key()), &usage, &frame, &Limits::default());
            if !judgement.findings.iter().any(|finding| finding.kind == kind) {
                missed.push(format!("{shape:?} {level}/h #{number}: {judgement:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{} of {planted} missed: {}", missed.len(), missed.join("\n"));
}

/// The place of the first hour in question.
fn since(frame: &Frame) -> usize {
    (frame.since - frame.from) as usize
}

/// The largest hour of the history.
fn largest(series: &[u64], frame: &Frame) -> u64 {
    series[..since(frame)].iter().copied().max().unwrap_or_default()
}

#[test]
fn a_surge_of_two_hours_beyond_all_that_there_was() {
    found_in(&Shape::ALL, Kind::Surge, |usage, frame, dice| {
        let at = since(frame) + dice.below(22) as usize;
        let height = largest(&usage.ok, frame) * 6 + 60;
        usage.ok[at] += height;
        usage.ok[at + 1] += height;
    });
}

/// Much for any day, and little beside a job that comes once a week.
#[test]
fn a_surge_that_is_less_than_the_job_of_each_week() {
    found_in(&[Shape::Steady, Shape::Daily, Shape::Growing], Kind::Surge, |usage, frame, dice| {
        let height = largest(&usage.ok, frame) * 6 + 60;
        (3..since(frame)).step_by(24).filter(|at| at / 24 % 7 == 3).for_each(|at| usage.ok[at] += height * (4 + dice.below(3)));
        let at = since(frame) + dice.below(20) as usize;
        (at..at + 4).for_each(|at| usage.ok[at] += height);
    });
}

/// As much as at any weekend, on a day of the week. It was taken for a weekend's hour that had moved to the hour beside it.
#[test]
fn a_weekend_in_the_week() {
    for (level, number) in [60.0, 900.0].into_iter().flat_map(|level| (0..30).map(move |number| (level, number))) {
        let mut dice = Dice::new(0xbe00 + number);
        let frame = frame(MONDAY, HISTORY);
        let at = since(&frame) + 3;
        // The day in question is a Monday: the weekends of this key are Thursdays and Fridays.
        let mut rate = |place: usize| if [3, 4].contains(&(place / 24 % 7)) { level * (0.1 * dice.normal()).exp() } else { level / 1e4 };
        let rates: Vec<f64> = (0..frame.covered.len()).map(&mut rate).collect();
        let mut ok: Vec<u64> = rates.into_iter().map(|rate| dice.poisson(rate)).collect();
        ok[at] = level as u64;
        let findings = judge(Some(&key()), &Usage { ok, ..Usage::default() }, &frame, &Limits::default()).findings;
        let surge = findings.iter().find(|finding| finding.kind == Kind::Surge);
        assert!(surge.is_some_and(|surge| surge.evidence.contains("in the hour from")), "{level}/h #{number}: {findings:?}");
    }
}

/// A night as busy as the day: no hour is larger than those that there were, but not at this time.
#[test]
fn a_day_in_the_night() {
    found_in(&[Shape::Daily, Shape::Weekly, Shape::Growing], Kind::Surge, |usage, frame, _| {
        let day = since(frame)..since(frame) + 24;
        let quietest = day.clone().min_by_key(|at| usage.ok[*at - 24] + usage.ok[*at - 168]).unwrap();
        let busiest = usage.ok[day.start - 168..day.start].iter().copied().max().unwrap().max(60);
        let hours = quietest.saturating_sub(2).max(day.start)..(quietest + 3).min(day.end);
        hours.for_each(|at| usage.ok[at] = busiest);
    });
}

/// Six times as much on the whole day: no single hour of a small key need stand out.
#[test]
fn a_day_of_six_times_as_much() {
    found_in(&[Shape::Steady, Shape::Daily, Shape::Weekly, Shape::Growing], Kind::Surge, |usage, frame, _| {
        usage.ok[since(frame)..].iter_mut().for_each(|count| *count = *count * 6 + 3);
    });
}

#[test]
fn a_key_that_falls_silent() {
    found_in(&[Shape::Steady, Shape::Daily, Shape::Growing], Kind::Drop, |usage, frame, _| {
        usage.ok[since(frame)..].fill(0);
    });
}

#[test]
fn denials_at_once_and_spread_thinly() {
    found_in(&Shape::ALL, Kind::Denials, |usage, frame, dice| {
        let denied = largest(&usage.denials[0].1, frame) * 6 + 60;
        usage.denials[0].1[since(frame) + dice.below(24) as usize] += denied;
    });
    found_in(&Shape::ALL, Kind::Denials, |usage, frame, _| {
        let mut thin = vec![0; usage.ok.len()];
        thin[since(frame)..].fill(4);
        usage.denials.push((Verdict::AddressDenied, thin));
    });
}

#[test]
fn a_country_and_a_network_that_are_new() {
    found_in(&Shape::ALL, Kind::NewCountry, |usage, frame, dice| {
        usage.countries.push((frame.since + dice.below(24) as u32, Some(Country(*b"BR")), 1 + dice.below(5)));
    });
    // Not where a new one comes each few days anyway.
    found_in(&Shape::ALL, Kind::NewNetwork, |usage, frame, dice| {
        let home = begins(frame.from);
        usage.networks.truncate(3);
        usage.networks.iter_mut().for_each(|seen| seen.first_at = home);
        let at = Instant(begins(frame.since).0 + dice.below(80_000_000) as i64);
        usage.networks.push(Seen { network: "203.0.113.0/24".parse().unwrap(), first_at: at, last_at: at });
        usage.networks_forgotten = None;
    });
}

#[test]
fn one_key_from_many_networks_at_once() {
    found_in(&Shape::ALL, Kind::ManyNetworks, |usage, frame, _| {
        let today = frame.since / 24;
        usage.spreads = (today - 20..today).map(|day| (day, 1 + day % 4)).collect();
        usage.spreads.push((today, 16));
    });
}

#[test]
fn a_dormant_key_that_wakes() {
    found_in(&Shape::ALL, Kind::Dormant, |usage, frame, dice| {
        let at = since(frame) + dice.below(24) as usize;
        usage.ok.fill(0);
        usage.denials.clear();
        usage.ok[at] = 1;
        usage.used_before = Some(Instant(begins(frame.from).0 - 10 * 86_400_000));
    });
}

/// Where the daemon was down, nothing is known: not that there were no requests.
#[test]
fn time_in_which_was_not_counted_is_unknown() {
    let mut dice = Dice::new(5);
    let life = Life::draw(Shape::Steady, 100.0, (HISTORY + 1) * 24 + 1, &mut dice);
    let mut frame = frame(MONDAY, HISTORY);
    let mut usage = life.usage(&frame, 0);
    let down = |usage: &mut Usage, frame: &mut Frame, hours: std::ops::Range<usize>| {
        usage.ok[hours.clone()].fill(0);
        usage.denials.iter_mut().for_each(|(_, series)| series[hours.clone()].fill(0));
        frame.covered[hours].fill(0);
    };
    let last = since(&frame);
    // Half of the history, and some hours of the last day.
    for day in (0..28).step_by(2) {
        down(&mut usage, &mut frame, day * 24..day * 24 + 20);
    }
    down(&mut usage, &mut frame, last + 3..last + 9);
    let found = |usage: &Usage, frame: &Frame| judge(Some(&key()), usage, frame, &Limits::default()).findings;
    assert_eq!(found(&usage, &frame), []);
    frame.covered[last + 3..last + 9].fill(60);
    assert_eq!(found(&usage, &frame).first().map(|finding| finding.kind), Some(Kind::Drop), "had it been counted, it would be told");
}
