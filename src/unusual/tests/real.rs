//! Real traffic, from a log in the form that web servers write (common or combined, as plain text), which `DOORWARD_ACCESS_LOG` names: callers whose
//! addresses have the same hash modulo 40 stand for a key. Its days are drawn again and again, hour by hour of the day, from those of the log.

use std::collections::BTreeMap;

use super::traffic::{Dice, frame};
use super::{MONDAY, key};
use crate::unusual::{Judgement, Kind, Limits, Usage, judge};

const KEYS: usize = 40;
const HISTORY: u32 = 28;
const DAYS: u32 = 28;

/// Requests by key, day of the log and hour of the day.
fn read(text: &str) -> Vec<Vec<[u64; 24]>> {
    let mut days: BTreeMap<&str, Vec<[u64; 24]>> = BTreeMap::new();
    for line in text.lines() {
        let Some((address, rest)) = line.split_once(' ') else { continue };
        let Some((day, time)) = rest.split_once('[').and_then(|(_, rest)| rest.split_once(':')) else { continue };
        let Ok(hour) = time.get(..2).unwrap_or_default().parse::<usize>() else { continue };
        let hash = address.bytes().fold(7usize, |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
        days.entry(day).or_insert_with(|| vec![[0; 24]; KEYS])[hash % KEYS][hour.min(23)] += 1;
    }
    (0..KEYS).map(|key| days.values().map(|day| day[key]).collect()).collect()
}

#[test]
fn real_traffic_is_calm_and_what_is_planted_is_found() {
    let Some(path) = std::env::var_os("DOORWARD_ACCESS_LOG") else {
        println!("DOORWARD_ACCESS_LOG names no log: nothing is tested");
        return;
    };
    let log = read(&std::fs::read_to_string(path).expect("a log as plain text"));
    let (key, limits) = (key(), Limits::default());
    let (mut told, mut key_days, mut planted, mut missed) = (Vec::new(), 0, 0, Vec::new());
    for (number, days) in log.iter().enumerate().filter(|(_, days)| days.iter().flatten().sum::<u64>() > 0) {
        let mut dice = Dice::new(number as u64 + 1);
        let hours = (0..(HISTORY + DAYS + 1) * 24 + 1).map(|at| days[dice.below(days.len() as u64) as usize][(at % 24) as usize]);
        let all: Vec<u64> = hours.collect();
        for day in 0..DAYS {
            let frame = frame(MONDAY + day * 24, HISTORY);
            let mut usage = Usage { ok: all[(day * 24) as usize..][..frame.covered.len()].to_vec(), ..Usage::default() };
            key_days += 1;
            let Judgement { findings, too_young, .. } = judge(Some(&key), &usage, &frame, &limits);
            told.extend(findings.iter().map(|finding| format!("key {number} day {day}: {}", finding.evidence)));
            if day % 7 == 0 && too_young.is_none() {
                let history = (HISTORY * 24) as usize;
                let largest = usage.ok[..history].iter().max().copied().unwrap_or_default();
                usage.ok[history + dice.below(24) as usize] += largest * 6 + 60;
                planted += 1;
                if !judge(Some(&key), &usage, &frame, &limits).findings.iter().any(|finding| finding.kind == Kind::Surge) {
                    missed.push((number, day));
                }
            }
        }
    }
    println!("{} findings in {key_days} key-days; {} of {planted} surges missed", told.len(), missed.len());
    assert!(missed.is_empty() && key_days > 500 && told.len() * 1_000 <= key_days.max(1_000), "{missed:?} {told:#?}");
}
