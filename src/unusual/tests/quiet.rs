//! What is told of traffic in which nothing is unusual: next to nothing.

use std::collections::BTreeMap;

use super::traffic::{Dice, Life, Shape, frame};
use super::{MONDAY, key};
use crate::unusual::{Limits, judge};

/// Requests an hour, about.
const LEVELS: [f64; 4] = [3.0, 20.0, 200.0, 3_000.0];
/// Days of history, and days that are judged, each as a timer at its end would.
const HISTORY: u32 = 28;
const DAYS: u32 = 28;

/// By default few, so that `make test` is quick; `DOORWARD_KEY_DAYS=50000` draws so many. The measured figures are in `docs/unusual.md`.
#[test]
fn at_most_one_finding_in_a_thousand_key_days_is_false() {
    let wanted = std::env::var("DOORWARD_KEY_DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(6_000u32);
    let seed: u64 = std::env::var("DOORWARD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let each = wanted.div_ceil(DAYS * (Shape::ALL.len() * LEVELS.len()) as u32).max(1);
    let (key, limits) = (key(), Limits::default());
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let mut days_of_shape = 0;
    for shape in Shape::ALL {
        days_of_shape = 0;
        for (number, level) in LEVELS.into_iter().enumerate().flat_map(|level| std::iter::repeat_n(level, each as usize)) {
            let mut dice = Dice::new(seed << 32 | (shape as u64) << 24 | (number as u64) << 16 | u64::from(days_of_shape));
            let life = Life::draw(shape, level, (HISTORY + DAYS + 1) * 24 + 1, &mut dice);
            for day in 0..DAYS {
                let frame = frame(MONDAY + day * 24, HISTORY);
                let usage = life.usage(&frame, day * 24);
                days_of_shape += 1;
                for finding in judge(Some(&key), &usage, &frame, &limits).findings {
                    let text = format!("{level}/h day {day}: {}", finding.evidence);
                    found.entry((shape, finding.kind)).or_default().push(text);
                }
            }
        }
    }
    let total = days_of_shape * Shape::ALL.len() as u32;
    let all: usize = found.values().map(Vec::len).sum();
    println!("{all} findings in {total} key-days, {days_of_shape} of each shape");
    for ((shape, kind), texts) in &found {
        println!("{shape:?} {kind:?}: {}", texts.len());
        texts.iter().take(4).for_each(|text| println!("    {text}"));
    }
    assert!(all as u32 * 1_000 <= total.max(1_000), "{found:#?}");
}
