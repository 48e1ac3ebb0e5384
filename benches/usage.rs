//! What counting costs: on the path, in the thread that moves events into rows, and in the one that writes rows to the store.
//!
//! `cargo bench --bench usage [-- --keys N | --write]`: keys for the steps of the first two kinds, by default a million; or only what is written. Files lie in `TMPDIR`.

use std::path::Path;
use std::time::{Duration, Instant as Moment};

use doorward::key::{Country, FunctionId, Instant, KeyId, Verdict};
use doorward::store::{Counted, Store, StoreOptions, UsageBatch};
use doorward::usage::{Event, Frozen, Held, Owner, Usage, Written};

/// Events between two drains: less than half a ring.
const BATCH: u64 = 8_000;
const ROUNDS: usize = 9;
/// Flushes that are written.
const WRITTEN: usize = 5;
/// How long RocksDB has after each to do its part.
const SETTLE: Duration = Duration::from_millis(2_500);
/// Keys of the rows that are written.
const KEYS_WRITTEN: u64 = 1_000_000;
/// Rows in a batch, as the flush writes them.
const ROWS_WRITTEN: usize = 16_384;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let named = arguments.iter().position(|argument| argument == "--keys").and_then(|at| arguments.get(at + 1));
    let keys = named.map_or(1_000_000, |number| number.parse().expect("--keys is a number"));
    println!("{:48} median   (least – most)", "");
    if arguments.iter().any(|argument| argument == "--write") {
        return write();
    }
    for (name, keys) in [("one key", 1), ("uniform", keys)] {
        let directory = tempfile::tempdir().expect("a folder");
        let usage = open(directory.path());
        let mut count = Vec::new();
        let mut drain = Vec::new();
        let (mut number, mut longest) = (0, Duration::ZERO);
        // All keys have their rows when the rounds begin.
        for round in 0..=ROUNDS {
            let (mut counting, mut draining) = (Duration::ZERO, Duration::ZERO);
            let events = if round == 0 { 8 * keys.max(BATCH) } else { 1_000 * BATCH };
            for _ in 0..events / BATCH {
                let mut events = Vec::with_capacity(BATCH as usize);
                for _ in 0..BATCH {
                    number += 1;
                    events.push(event(mixed(number) % keys));
                }
                counting += timed(|| {
                    // As a connection does: the lane is held for some requests at a time.
                    for events in events.chunks(32) {
                        let mut held: Held<'_> = usage.hold(0);
                        events.iter().for_each(|event| held.count(event));
                    }
                });
                let drained = timed(|| usage.drain());
                draining += drained;
                longest = longest.max(if round == 0 { drained } else { Duration::ZERO });
            }
            if round > 0 {
                count.push(counting.as_nanos() as f64 / events as f64);
                drain.push(draining.as_nanos() as f64 / events as f64);
            }
        }
        tell(&format!("count an event, {name}"), "ns", count);
        tell(&format!("drain an event, {name} ({} rows)", usage.figures().rows), "ns", drain);
        println!("the longest drain while the table grew: {:.1} ms", longest.as_secs_f64() * 1e3);
        assert_eq!((usage.figures().lost, usage.figures().folded), (0, 0), "the figures would be of something else");
    }
    write();
}

/// A flush of many keys, each in a row or two, again and again: so rows of earlier flushes are there to be merged with.
fn write() {
    let home = tempfile::tempdir().expect("a folder");
    let store = Store::open(&home.path().join("db"), StoreOptions::default()).expect("a store");
    let usage = open(&home.path().join("counters"));
    let (mut sorting, mut writing, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WRITTEN as u64 {
        for number in 0..KEYS_WRITTEN {
            usage.count(0, &Event { at: Instant(1_700_000_000_000 + 1_000 * round as i64), ..event(number) });
            if number % BATCH == 0 {
                usage.drain();
            }
        }
        let mut frozen = None;
        sorting.push(timed(|| frozen = usage.freeze()).as_micros() as f64 / KEYS_WRITTEN as f64);
        let mut frozen: Frozen = frozen.expect("rows");
        let busy_before = process_time();
        let took = timed(|| {
            while frozen.left() > 0 {
                let rows = frozen.whole(ROWS_WRITTEN);
                store.write_usage(&batch(&frozen, rows), rows == frozen.left()).expect("written");
                frozen.were_written(rows);
            }
        });
        // What RocksDB does with it in the background is a part of it.
        std::thread::sleep(SETTLE);
        busy.push((process_time() - busy_before).as_nanos() as f64 / 1e3 / KEYS_WRITTEN as f64);
        writing.push(took.as_micros() as f64 / KEYS_WRITTEN as f64);
        usage.give_back(frozen);
    }
    tell(&format!("freeze and sort, a row of {KEYS_WRITTEN}"), "µs", sorting);
    tell(&format!("write, a row of {KEYS_WRITTEN} keys"), "µs", writing);
    tell("the same, processor time of all threads", "µs", busy);
}

fn open(directory: &Path) -> Usage {
    Usage::open(directory, Owner { store: [1; 16], boot: [1; 16] }, Written::default()).expect("counters")
}

fn event(number: u64) -> Event<'static> {
    Event {
        // As of keys made within a few hours: the time first, then what is random.
        key: KeyId((u128::from(0x018f_0000_0000_u64 + number * 10) << 80 | u128::from(mixed(number))).to_be_bytes()),
        version: 1,
        function: FunctionId(FunctionId::FIRST.0 + (number % 7) as u16),
        verdict: Verdict::Ok,
        country: Some(Country(*b"DE")),
        address: Some([10, (number >> 16) as u8, (number >> 8) as u8, number as u8].into()),
        at: Instant(1_700_000_000_000),
        function_name: "leads.insert",
    }
}

/// The same number for the same, spread over all.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
}

fn batch(frozen: &Frozen, rows: usize) -> UsageBatch {
    let counted = frozen.next(rows).map(|row| Counted {
        key: row.key,
        minute: row.minute,
        version: row.version,
        function: row.function,
        verdict: row.verdict,
        country: row.country,
        count: row.count,
        last_at: row.last_at,
        last_address: row.last_address,
        missed_networks: row.missed_networks,
    });
    UsageBatch { rows: counted.collect(), ..UsageBatch::default() }
}

/// Processor time of all threads.
fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timed(what: impl FnOnce()) -> Duration {
    let begun = Moment::now();
    what();
    begun.elapsed()
}

fn tell(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    println!("{what:48} {:6.2} {unit}  ({:.2} – {:.2})", figures[figures.len() / 2], figures[0], figures[figures.len() - 1]);
}
