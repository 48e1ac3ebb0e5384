//! Traffic of shapes that the statistics were not made from, as keys live them: each is judged day by day as the daemon does, over four weeks and, where something was found, over
//! 89 days.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::traffic::{Dice, frame};
use super::{MONDAY, key};
use crate::key::{Country, Instant, Network, Verdict, limits::NETWORKS_REMEMBERED};
use crate::unusual::{Finding, Kind, Limits, Seen, Usage, begins, judge};

const LEVELS: [f64; 4] = [2.0, 15.0, 120.0, 2_500.0];
/// Days that are judged, and days before them.
const DAYS: u32 = 40;
const BEFORE: u32 = 89;

/// How a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Weekdays from eight to six, by a clock that is changed on one of the days.
    Office,
    /// A job each six hours, whose size scatters by 30 %.
    SixHourly,
    /// A job on Monday, Wednesday and Friday.
    ThreeDays,
    /// Daily, and a job of a hundred times as much once a month.
    Monthly,
    /// Daily, and four times as much on the last two days of a month.
    MonthEnd,
    /// Each day 1.5 % more.
    Up,
    /// Each day 2.5 % less.
    Down,
    /// New, and for a month more each day.
    New,
    /// A few requests a day.
    Few,
    /// The same number in each hour, but now and then one.
    Exact,
    /// Daily, and retries in storms of some hours each week.
    Storms,
    /// Weekends only.
    Weekends,
    /// Weekdays, with a peak at noon.
    Lunch,
    /// From one day on twice as much.
    Launched,
    /// Daily, and a job of a hundred times as much each Sunday.
    Sundays,
}

impl Way {
    const ALL: [Way; 15] = [
        Way::Office,
        Way::SixHourly,
        Way::ThreeDays,
        Way::Monthly,
        Way::MonthEnd,
        Way::Up,
        Way::Down,
        Way::New,
        Way::Few,
        Way::Exact,
        Way::Storms,
        Way::Weekends,
        Way::Lunch,
        Way::Launched,
        Way::Sundays,
    ];

    fn hours(self, level: f64, dice: &mut Dice) -> Vec<u64> {
        let (phase, changed, began) = (dice.below(24) as u32, 60 + dice.below(65) as u32, 64 + dice.below(50) as u32);
        let mut storm = 0;
        let mut hours = Vec::new();
        for at in 0..(BEFORE + DAYS + 2) * 24 {
            let (day, of_week) = (at / 24, at / 24 % 7);
            let clock = (at + phase + u32::from(day >= changed)) % 24;
            let daily = 0.02 + 0.98 * (0.5 + 0.5 * (TAU * (f64::from(clock) - 14.0) / 24.0).cos()).powi(2);
            let mut about = |by: f64| (by * dice.normal() - by * by / 2.0).exp();
            let of_month = (day + phase) % 30;
            let rate = match self {
                Way::Office if of_week < 5 && (8..18).contains(&clock) => level * about(0.25),
                Way::Office => level * 0.003,
                Way::SixHourly if clock % 6 == 0 => level * 20.0 * about(0.3),
                Way::ThreeDays if of_week % 2 == 0 && of_week < 6 && clock == 3 => level * 30.0 * about(0.1),
                Way::SixHourly | Way::ThreeDays => 0.0,
                Way::Monthly if of_month == 0 && clock == 4 => level * 100.0,
                Way::Monthly => level * daily * about(0.2),
                Way::MonthEnd => level * daily * about(0.2) * if of_month >= 28 { 4.0 } else { 1.0 },
                Way::Up => level * daily * about(0.2) * 1.015f64.powi(day as i32),
                Way::Down => level * daily * about(0.2) * 0.975f64.powi(day as i32),
                Way::New if day < began => 0.0,
                Way::New => level * daily * about(0.3) * (f64::from(day - began + 1) / 10.0).min(3.0),
                Way::Few => level.clamp(15.0, 60.0) / 480.0,
                Way::Exact => 0.0,
                Way::Storms if storm > 0 => level * 15.0,
                Way::Storms => level * daily * about(0.3),
                Way::Weekends if of_week >= 5 => level * daily * about(0.3),
                Way::Weekends => 0.01,
                Way::Lunch if of_week < 5 => level * (daily + if clock == 12 { 5.0 } else { 0.0 }) * about(0.3),
                Way::Lunch => level * 0.1 * daily,
                Way::Sundays if of_week == 6 && clock == 3 => level * 100.0 * about(0.2),
                Way::Sundays => level * daily * about(0.2),
                Way::Launched => level * daily * about(0.2) * if day >= began { 2.0 } else { 1.0 },
            };
            storm = if storm > 0 { storm - 1 } else { u32::from(dice.below(144) == 0) * (1 + dice.below(3) as u32) };
            hours.push(if self == Way::Exact { 60 - u64::from(dice.below(200) == 0) } else { dice.poisson(rate) });
        }
        hours
    }
}

/// All that a key did, by hour from `MONDAY` on.
struct Life {
    ok: Vec<u64>,
    denied: Vec<u64>,
    networks: Vec<(u32, u32)>,
}

impl Life {
    fn draw(way: Way, level: f64, dice: &mut Dice) -> Life {
        let all = way.hours(level, dice);
        let part = [0.0, 0.01, 0.08, 0.3][dice.below(4) as usize];
        let denied: Vec<u64> = all.iter().map(|count| dice.poisson(*count as f64 * part).min(*count)).collect();
        let roams = dice.below(4);
        let mut networks = Vec::new();
        for (at, count) in all.iter().enumerate().filter(|(_, count)| **count > 0) {
            let at = at as u32;
            networks.push((at, if roams == 3 { at / 144 } else { 1 }));
            match roams {
                // A few, and one of many beside them.
                1 => networks.extend((0..(*count).min(2)).map(|_| (at, dice.below(6) as u32))),
                2 => networks.push((at, 100 + dice.below(400) as u32)),
                _ => {}
            }
        }
        Life { ok: all.iter().zip(&denied).map(|(all, denied)| all - denied).collect(), denied, networks }
    }

    /// What is known of it on this day, with so many days before it.
    fn usage(&self, day: u32, back: u32) -> (Usage, crate::unusual::Frame) {
        let skip = (BEFORE + day - back) * 24;
        let frame = frame(MONDAY + skip, back);
        let hours = skip as usize..skip as usize + frame.covered.len();
        let cut = |series: &[u64]| {
            let mut cut = series[hours.clone()].to_vec();
            cut.iter_mut().next_back().iter_mut().for_each(|open| **open /= 2);
            cut
        };
        let (mut networks, mut forgotten): (Vec<Seen>, _) = (Vec::new(), None);
        for (at, number) in self.networks.iter().filter(|(at, _)| (*at as usize) < hours.end) {
            let (network, at): (Network, _) = (format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap(), begins(MONDAY + at));
            let known = networks.iter().position(|seen| seen.network == network).map(|place| networks.remove(place));
            networks.push(Seen { network, first_at: known.map_or(at, |seen| seen.first_at), last_at: at });
            if networks.len() > NETWORKS_REMEMBERED {
                forgotten = Some(networks.remove(0).last_at);
            }
        }
        let mut spreads: Vec<(u32, u32)> =
            self.networks.iter().filter(|(at, _)| (*at as usize) < hours.end).map(|(at, _)| ((MONDAY + at) / 24, 1)).collect();
        spreads.dedup();
        let used = |at: usize| self.ok[at] + self.denied[at] > 0;
        let countries = hours.clone().filter(|at| used(*at)).map(|at| (MONDAY + at as u32, Some(Country(*b"DE")), 1));
        let usage = Usage {
            ok: cut(&self.ok),
            denials: vec![(Verdict::FunctionDenied, cut(&self.denied))],
            countries: countries.collect(),
            networks,
            networks_forgotten: forgotten,
            spreads,
            used_before: (0..hours.start).rev().find(|at| used(*at)).map(|at| Instant(begins(MONDAY + at as u32 + 1).0 - 1)),
            ..Usage::default()
        };
        (usage, frame)
    }

    /// What is told on this day, after something was planted.
    fn told(&self, day: u32, plant: impl Fn(&mut Usage, usize)) -> Vec<Finding> {
        let mut key = key();
        let first = (0..self.ok.len()).find(|at| self.ok[*at] + self.denied[*at] > 0).unwrap_or_default();
        key.created_at = begins(MONDAY + first as u32);
        let mut found = Vec::new();
        for back in [28, BEFORE] {
            let (mut usage, frame) = self.usage(day, back);
            plant(&mut usage, (frame.since - frame.from) as usize);
            found = judge(Some(&key), &usage, &frame, &Limits::default()).findings;
            if !found.iter().any(|finding| finding.kind.may_be_habit()) {
                break;
            }
        }
        found
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn each(keys: u64, seed: u64, mut with: impl FnMut(Way, &str, &Life)) {
    for way in Way::ALL {
        for (level, key) in LEVELS.into_iter().flat_map(|level| (0..keys).map(move |key| (level, key))) {
            let mut dice = Dice::new(seed << 40 | (way as u64) << 32 | (level as u64) << 16 | key);
            with(way, &format!("{way:?} {level}/h #{key}"), &Life::draw(way, level, &mut dice));
        }
    }
}

/// `DOORWARD_KEYS` of each way and level, by default one, and `DOORWARD_SEED`.
#[test]
fn habits_are_no_findings() {
    let (mut days, mut found) = (0u32, BTreeMap::<_, Vec<String>>::new());
    each(number("DOORWARD_KEYS", 1), number("DOORWARD_SEED", 1), |way, name, life| {
        for day in 0..DAYS {
            days += 1;
            // A key that is used a few times a month wakes from time to time, which is told.
            for finding in life.told(day, |_, _| {}).into_iter().filter(|finding| way != Way::Few || finding.kind != Kind::Dormant) {
                found.entry(format!("{way:?} {:?}", finding.kind)).or_default().push(format!("{name} day {day}: {}", finding.evidence));
            }
        }
    });
    let all: usize = found.values().map(Vec::len).sum();
    println!("{all} findings in {days} key-days");
    for (what, texts) in &found {
        println!("{what}: {}", texts.len());
        texts.iter().take(3).for_each(|text| println!("    {text}"));
    }
    assert!(all as u32 * 1_000 <= days + 2_000, "{found:#?}");
}

/// Whatever a key does by habit: what it never did is found.
#[test]
fn what_is_planted_into_them_is_found() {
    let mut missed = Vec::new();
    each(number("DOORWARD_KEYS", 1), number("DOORWARD_SEED", 1), |_, name, life| {
        let day = 36;
        let largest = |series: &[u64]| series[..series.len() - 26].iter().copied().max().unwrap_or_default();
        let (ok, denied) = (largest(&life.ok), largest(&life.denied));
        let mut expect = |kind: Kind, plant: &dyn Fn(&mut Usage, usize)| {
            if !life.told(day, plant).iter().any(|finding| finding.kind == kind) {
                missed.push(format!("{name}: {kind:?}"));
            }
        };
        expect(Kind::Surge, &|usage, since| usage.ok[since + 7] += ok * 6 + 60);
        expect(Kind::Surge, &|usage, since| usage.ok[since + 20] += ok * 6 + 60);
        expect(Kind::Denials, &|usage, since| usage.denials[0].1[since + 3] += denied * 6 + 60);
        expect(Kind::Denials, &|usage, since| {
            let mut thin = vec![0; usage.ok.len()];
            thin[since..].fill(4);
            usage.denials.push((Verdict::AddressDenied, thin));
        });
        expect(Kind::NewCountry, &|usage, since| {
            let hour = usage.countries.iter().map(|(at, ..)| *at).max().unwrap_or_default();
            usage.countries.push((hour.max(MONDAY + (BEFORE + day) * 24), Some(Country(*b"BR")), 1 + since as u64 % 2));
        });
    });
    assert!(missed.is_empty(), "{} missed: {missed:#?}", missed.len());
}
