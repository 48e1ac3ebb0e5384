//! Traffic of stated shapes: the requests of a key in each hour, drawn from a seed.

use std::f64::consts::TAU;

use crate::key::{Instant, Verdict, limits};
use crate::unusual::{DAY, Frame, Seen, Usage, begins, hour};

/// How the rate of a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Shape {
    /// The same at all hours; hours scatter by 15 %.
    Steady,
    /// A hundredth at night of what it is at noon; hours scatter by 20 %.
    Daily,
    /// Daily, and a twentieth at the weekend.
    Weekly,
    /// Little, and in one hour of 25, at any time, 10 to 100 times as much (log-uniform).
    Bursty,
    /// Some sessions a week, of a few dozen requests each.
    Sparse,
    /// Daily, and each day 3 % more than the day before.
    Growing,
    /// A job of thousands of requests each night, whose start moves about the full hour, and nothing else.
    Nightly,
}

impl Shape {
    pub(super) const ALL: [Shape; 7] =
        [Shape::Steady, Shape::Daily, Shape::Weekly, Shape::Bursty, Shape::Sparse, Shape::Growing, Shape::Nightly];
}

/// Random numbers that the same seed gives again: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to but without 1.
    pub(super) fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.part() * end as f64) as u64
    }

    /// Of a standard normal distribution (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.part()).ln()).sqrt() * (TAU * self.part()).cos()
    }

    /// Of a Poisson distribution: by its product below 30, by the normal one above, where it is as good.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut number) = ((-mean).exp(), self.part(), 0);
        while product > limit {
            product *= self.part();
            number += 1;
        }
        number
    }
}

/// The requests of a key in each of so many hours, of which the first begins a Monday.
pub(super) fn hours(shape: Shape, level: f64, count: u32, dice: &mut Dice) -> Vec<u64> {
    let phase = dice.below(24) as f64;
    let start = dice.below(24) as u32;
    let mut left = 0.0;
    let mut rate = |at: u32| -> f64 {
        let scatter = |dice: &mut Dice, by: f64| (by * dice.normal() - by * by / 2.0).exp();
        let by_day = 0.01 + 0.99 * (0.5 + 0.5 * (TAU * (f64::from(at % DAY) - phase) / 24.0).cos()).powi(2);
        match shape {
            Shape::Steady => level * scatter(dice, 0.15),
            Shape::Daily => level * by_day * scatter(dice, 0.2),
            Shape::Weekly => level * by_day * scatter(dice, 0.2) * if at / DAY % 7 >= 5 { 0.05 } else { 1.0 },
            Shape::Bursty if dice.below(25) == 0 => level * 10f64.powf(1.0 + dice.part()),
            Shape::Bursty => level * scatter(dice, 0.2),
            Shape::Sparse if dice.below(60) == 0 => 10.0 + 30.0 * dice.part(),
            Shape::Sparse => 0.02,
            Shape::Growing => level * by_day * 1.03f64.powf(f64::from(at) / 24.0) * scatter(dice, 0.2),
            Shape::Nightly => {
                // It takes 20 minutes, and begins in the quarter before or behind the full hour.
                let of_now = left;
                left = 0.0;
                if at % DAY == start {
                    let before = (dice.part() * 1.5).min(1.0);
                    left = level * 60.0 * (1.0 - before);
                    of_now + level * 60.0 * before
                } else {
                    of_now
                }
            }
        }
    };
    let rates: Vec<f64> = (0..count).map(&mut rate).collect();
    rates.into_iter().map(|rate| dice.poisson(rate)).collect()
}

/// A frame of so many days before the last day, all counted. It ends half an hour after the last whole hour.
pub(super) fn frame(from: u32, days: u32) -> Frame {
    let hours = (days + 1) * DAY;
    let now = Instant(begins(from + hours).0 + 1_800_000);
    let mut covered = vec![60; hours as usize + 1];
    covered[hours as usize] = 30;
    Frame { from, since: hour(now) - DAY, now, covered }
}

/// All that is known of a key: its series, cut to the frame.
pub(super) struct Life {
    pub(super) ok: Vec<u64>,
    pub(super) denials: Vec<(Verdict, Vec<u64>)>,
    /// By hour: which of its countries.
    pub(super) countries: Vec<(u32, [u8; 2], u64)>,
    pub(super) networks: Vec<(u32, u32)>,
}

impl Life {
    /// A key with one to three countries, and one to four networks or, one key in four, a new one each fourth day.
    pub(super) fn draw(shape: Shape, level: f64, count: u32, dice: &mut Dice) -> Life {
        let ok = hours(shape, level, count, dice);
        let denied = ok.iter().map(|count| dice.poisson(0.02 * *count as f64)).collect();
        let places = 1 + dice.below(3);
        let (networks_at_home, roams) = (1 + dice.below(4) as u32, dice.below(4) == 0);
        let (mut countries, mut networks) = (Vec::new(), Vec::new());
        for (at, count) in ok.iter().enumerate().filter(|(_, count)| **count > 0) {
            let mut left = *count;
            for (code, share) in [(*b"DE", 0.7), (*b"AT", 0.25), (*b"FR", 1.0)].into_iter().take(places as usize) {
                let part = if places == 1 { left } else { ((left as f64 * share).round() as u64).min(left) };
                left -= part;
                if part > 0 {
                    countries.push((at as u32, code, part));
                }
            }
            let of_now = if roams { at as u32 / (4 * DAY) } else { dice.below(networks_at_home.into()) as u32 };
            networks.push((at as u32, of_now));
        }
        Life { ok, denials: vec![(Verdict::FunctionDenied, denied)], countries, networks }
    }

    /// What is known of it in a frame whose first hour is the `skip`th of its life. Hours are counted from there.
    pub(super) fn usage(&self, frame: &Frame, skip: u32) -> Usage {
        let length = frame.covered.len();
        let cut = |series: &[u64]| {
            let mut cut = series[skip as usize..].iter().take(length).copied().collect::<Vec<_>>();
            if let Some(last) = cut.last_mut().filter(|_| series.len() - skip as usize >= length) {
                *last /= 2;
            }
            cut.resize(length, 0);
            cut
        };
        let hours = skip..skip + length as u32;
        let countries = self.countries.iter().filter(|(at, ..)| hours.contains(at));
        let countries = countries.map(|&(at, code, count)| (frame.from + at - skip, Some(crate::key::Country(code)), count)).collect();
        let mut networks: Vec<Seen> = Vec::new();
        for &(at, number) in self.networks.iter().filter(|(at, _)| *at < hours.end) {
            let network = format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap();
            let at = Instant(begins(frame.from).0 + (i64::from(at) - i64::from(skip)) * 3_600_000 + 60_000);
            match networks.iter_mut().find(|seen| seen.network == network) {
                Some(seen) => seen.last_at = at,
                None => networks.push(Seen { network, first_at: at, last_at: at }),
            }
        }
        networks.sort_by_key(|seen| std::cmp::Reverse(seen.last_at));
        let networks_forgotten = networks.get(limits::NETWORKS_REMEMBERED).map(|seen| seen.last_at);
        networks.truncate(limits::NETWORKS_REMEMBERED);
        let mut spreads: Vec<(u32, u32)> = self.networks.iter().map(|(at, _)| ((frame.from + at - skip.min(*at)) / DAY, 1)).collect();
        spreads.dedup();
        Usage {
            ok: cut(&self.ok),
            denials: self.denials.iter().map(|(verdict, series)| (*verdict, cut(series))).collect(),
            countries,
            networks,
            networks_forgotten,
            spreads,
            used_before: (skip > 0 && self.ok[..skip as usize].iter().any(|count| *count > 0)).then(|| {
                let last = self.ok[..skip as usize].iter().rposition(|count| *count > 0).unwrap_or_default() as i64;
                Instant(begins(frame.from).0 + (last - i64::from(skip)) * 3_600_000)
            }),
            ..Usage::default()
        }
    }
}
