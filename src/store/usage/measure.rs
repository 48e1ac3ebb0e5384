//! What a month of many keys takes on disk, and how long its reports take. `cargo test --release --lib what_a_month_takes -- --ignored --nocapture`;
//! `DOORWARD_KEYS` says of how many keys, by default 100,000.

use std::time::{Duration, Instant as Watch};

use super::tests::roll;
use super::*;
use crate::key::Span;
use crate::store::StoreOptions;

const DAYS: u32 = 32;
const DAY_MINUTES: u32 = DAY as u32;

/// Ids as an import makes them: close together, counting up.
fn key(number: u64) -> KeyId {
    KeyId((0x0190_0000_0000_7000_8000_0000_0000_0000 + (u128::from(number / 1_000) << 80) + u128::from(number * 3)).to_be_bytes())
}

fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
}

/// Every key is used in twelve hours of each day, in one minute of each such hour (three in the last two days), with two functions, from one country.
fn hour(keys: &[KeyId], hour: u32) -> Vec<Counted> {
    let minutes = if hour / 24 + 2 >= DAYS { 3 } else { 1 };
    let mut rows = Vec::new();
    for (number, &key) in keys.iter().enumerate() {
        if (hour + number as u32) % 24 >= 12 {
            continue;
        }
        for nth in 0..minutes {
            let minute = hour * 60 + nth * 20 + (mixed(u64::from(hour) << 32 | number as u64) % 10) as u32;
            for function in 0..2 {
                rows.push(Counted {
                    key,
                    minute,
                    version: 1,
                    function: FunctionId(2 + (number % 40) as u16 + function),
                    verdict: Verdict::Ok,
                    country: Some(Country([b'A' + (number % 26) as u8; 2])),
                    count: 1 + mixed(u64::from(minute) ^ number as u64) % 300,
                    last_at: Instant(i64::from(minute) * MINUTE_MS + 30_000),
                    last_address: Some([10, (number >> 16) as u8, (number >> 8) as u8, number as u8].into()),
                    missed_networks: false,
                });
            }
        }
    }
    rows.sort_by_key(|row| (row.key.bucket(), row.minute / MINUTES_IN_A_ROW, row.key));
    rows
}

fn median(what: &str, mut measure: impl FnMut() -> usize) {
    let mut took: Vec<(Duration, usize)> = (0..9)
        .map(|_| {
            let begun = Watch::now();
            let rows = measure();
            (begun.elapsed(), rows)
        })
        .collect();
    took.sort();
    println!("{what}: {:.1} ms (least {:.1}, most {:.1}), {} rows", ms(took[4].0), ms(took[0].0), ms(took[8].0), took[4].1);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[test]
#[ignore = "a measurement of some minutes"]
fn what_a_month_takes() {
    let count: u64 = std::env::var("DOORWARD_KEYS").map_or(100_000, |keys| keys.parse().expect("DOORWARD_KEYS is a number"));
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let keys: Vec<KeyId> = (0..count).map(key).collect();
    let (mut written, mut rolling, mut longest, mut rows) = (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0);
    for at in 0..DAYS * 24 {
        let counted = hour(&keys, at);
        rows += counted.len();
        let begun = Watch::now();
        for rows in counted.chunks(16_384) {
            store.write_usage(&UsageBatch { rows: rows.to_vec(), ..Default::default() }, false).unwrap();
        }
        written += begun.elapsed();
        let begun = Watch::now();
        let now = Instant(i64::from(at) * 60 * MINUTE_MS + MINUTE_MS);
        loop {
            let slice = Watch::now();
            let more = store.roll_usage(now).unwrap();
            longest = longest.max(slice.elapsed());
            if !more {
                break;
            }
        }
        rolling += begun.elapsed();
        if at % 24 == 23 {
            store.expire_usage(now, &Keep { minutes: Span(48 * 60 * MINUTE_MS), ..Keep::default() }).unwrap();
        }
    }
    let end = i64::from(DAYS * DAY_MINUTES) * MINUTE_MS;
    println!(
        "{count} keys, {rows} rows: written in {:.1} s, added up in {:.1} s (one bucket {:.1} ms at most)",
        ms(written) / 1e3,
        ms(rolling) / 1e3,
        ms(longest)
    );
    let reports = |when: &str| {
        let (key, until) = (keys[keys.len() / 2], Instant(end));
        let month = Instant(end - 30 * 24 * 60 * MINUTE_MS + 7 * MINUTE_MS);
        let day = Instant(end - 24 * 60 * MINUTE_MS - 17 * MINUTE_MS);
        for step in [Step::Hour, Step::Day] {
            median(&format!("{when}: 30 days of one key, {step:?}"), || {
                store.usage_counts(Some(key), month, until, step).map(Result::unwrap).count()
            });
        }
        median(&format!("{when}: a day of all keys"), || store.usage_counts(None, day, until, Step::Day).map(Result::unwrap).count());
        median(&format!("{when}: last uses of one key"), || store.uses(key).unwrap().last.len());
    };
    reports("as it is");
    roll(&store, end + 2 * MINUTE_MS);
    store.0.db.compact_range_cf(store.family(Family::Usage), None::<&[u8]>, None::<&[u8]>);
    reports("compacted");
    let sizes = |letter: u8| {
        let (from, to) = ([letter], [letter + 1]);
        store.0.db.get_approximate_sizes_cf(store.family(Family::Usage), &[rocksdb::Range::new(&from, &to)])[0]
    };
    for (letter, days) in [(b'M', 2), (b'H', DAYS), (b'D', DAYS), (b'C', DAYS), (b'U', 1)] {
        let bytes = sizes(letter);
        println!("{}: {bytes} bytes, {:.2} a key and day of {days}", char::from(letter), bytes as f64 / count as f64 / f64::from(days));
    }
}
