//! Carries what was counted to the store: every interval, when the counters fill, and a last time at the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{self, Duration};

use parking_lot::Mutex;
use tracing::{error, info};

use crate::clock::Clock;
use crate::key::{Instant, Span};
use crate::store::{CountRow, CountryRow, LastUse, NetworkUse, Store, StoreError, UsageBatch};
use crate::usage::{Drained, Usage};

/// Counts that are kept while the store refuses them, over all minutes: about 200 MB with what belongs to them. What is more is lost, and said to be.
const ROWS_KEPT: usize = 1_000_000;
/// Milliseconds after which the time's floor is written even if nothing was counted. A disk may sleep in between.
const FLOOR_MS: i64 = 60_000;
const MINUTE_MS: i64 = 60_000;
/// Rows that are written at a time. More would keep the thread too long from counters that fill.
const ROWS_WRITTEN: usize = 1 << 16;

/// The thread that flushes.
pub struct Flush {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

struct Shared {
    stopping: AtomicBool,
    status: Mutex<Status>,
}

/// What `status` tells of the flush.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// How often.
    pub interval_ms: u64,
    /// When the last one ended well, even if there was nothing to write.
    pub last_at: Option<Instant>,
    /// How long the last one that wrote took, in microseconds.
    pub last_us: u64,
    /// Rows written by it.
    pub last_rows: u64,
    /// Flushes that failed since the start; their counts are kept for the next.
    pub failures: u64,
    /// Why the last one failed, if it did.
    pub failing: Option<String>,
    /// Verifies whose function was folded into `(other)`, because the counters were full.
    pub folded: u64,
    /// Verifies that found no room at all and were not counted.
    pub lost: u64,
    /// Verifies a second, over the last second or, where the interval is longer, over the last interval.
    pub per_second: u64,
}

impl Flush {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(usage: Arc<Usage>, store: Store, clock: Arc<Clock>, interval: Span) -> io::Result<Flush> {
        let interval_ms = interval.0.max(1);
        let status = Status { interval_ms: interval_ms as u64, ..Status::default() };
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), status: Mutex::new(status) });
        let now = clock.now();
        let worker = Worker {
            rate: Rate { since: time::Instant::now(), verifies: usage.totals().iter().sum() },
            usage,
            store,
            clock,
            interval_ms,
            shared: Arc::clone(&shared),
            kept: BTreeMap::new(),
            rows: UsageBatch::default(),
            drained_at: now,
            floor_written_at: None,
        };
        let thread = thread::Builder::new().name("flush".to_owned()).spawn(move || worker.run())?;
        Ok(Flush { shared, thread: Mutex::new(Some(thread)) })
    }

    /// How it goes.
    pub fn status(&self) -> Status {
        self.shared.status.lock().clone()
    }

    /// Flushes a last time and ends the thread. Does nothing the second time.
    ///
    /// # Errors
    /// The store refused: what was counted since the flush before is lost.
    pub fn stop(&self) -> Result<(), StoreError> {
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        self.shared.stopping.store(true, Ordering::Release);
        thread.thread().unpark();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            error!("the last flush failed, and what was counted since the one before is lost: {error}");
        }
    }
}

/// What the thread owns.
struct Worker {
    usage: Arc<Usage>,
    store: Store,
    clock: Arc<Clock>,
    interval_ms: i64,
    shared: Arc<Shared>,
    /// What was drained and is not yet made into rows, by minute.
    kept: BTreeMap<u32, Drained>,
    /// Rows that the store does not have yet. Between two flushes there are some only if the store refused them.
    rows: UsageBatch,
    drained_at: Instant,
    floor_written_at: Option<Instant>,
    rate: Rate,
}

/// From when and from which total the next rate is taken.
struct Rate {
    since: time::Instant,
    verifies: u64,
}

impl Worker {
    fn run(mut self) -> Result<(), StoreError> {
        loop {
            let due = next(self.clock.now(), self.interval_ms);
            let mut stopping = self.shared.stopping.load(Ordering::Acquire);
            if !stopping {
                self.usage.wait(due);
                stopping = self.shared.stopping.load(Ordering::Acquire);
            }
            let flushed = self.flush(stopping);
            self.take_rate();
            if stopping {
                return flushed;
            }
            if flushed.is_err() {
                // The counters may be asking to be drained all the time now: the disk gets its rest.
                thread::park_timeout(Duration::from_millis(self.interval_ms.min(1_000) as u64));
            }
        }
    }

    fn flush(&mut self, last: bool) -> Result<(), StoreError> {
        self.drain();
        let begun = time::Instant::now();
        let now = self.clock.now();
        // Asked for even when it is not written: the clock wants to be watched.
        let floor = self.clock.floor();
        let floor_is_due = self.floor_written_at.is_none_or(|at| now.since(at).0 >= FLOOR_MS);
        if self.kept.is_empty() && count(&self.rows) == 0 && !floor_is_due && !last {
            self.shared.status.lock().last_at = Some(now);
            return Ok(());
        }
        let mut written = self.write(floor);
        while last && written.is_ok() && !self.kept.is_empty() {
            written = self.write(floor);
        }
        let mut status = self.shared.status.lock();
        match &written {
            Ok(rows) => {
                if status.failing.take().is_some() {
                    info!("usage is written to the store again");
                }
                status.last_at = Some(now);
                status.last_us = begun.elapsed().as_micros() as u64;
                status.last_rows = *rows as u64;
                self.floor_written_at = Some(now);
            }
            Err(error) => {
                status.failures += 1;
                if status.failing.replace(error.to_string()).is_none() {
                    error!("usage cannot be written to the store; it is kept in memory and tried again: {error}");
                }
            }
        }
        written.map(|_| ())
    }

    /// Writes what was drained so far, and drains in between if the counters fill meanwhile; that stays for the next time, so that equal rows
    /// add up in memory while the disk is behind. How many rows were written.
    fn write(&mut self, floor: Instant) -> Result<usize, StoreError> {
        let mut written = 0;
        into_rows(std::mem::take(&mut self.kept), &mut self.rows);
        loop {
            let mut batch = take_rows(&mut self.rows, ROWS_WRITTEN);
            batch.time_floor = Some(floor);
            // One sync at the end is enough for all: it reaches back to the first.
            let last = count(&self.rows) == 0;
            if let Err(error) = self.store.write_usage(&batch, last) {
                put_back(&mut self.rows, batch);
                return Err(error);
            }
            written += count(&batch);
            if last {
                return Ok(written);
            }
            if self.usage.is_crowded() {
                self.drain();
            }
        }
    }

    /// Takes what was counted, for the minute in which its counting began: intervals end with the minute, so it is the minute in which it ended.
    fn drain(&mut self) {
        let mut drained = self.usage.drain();
        let now = self.clock.now();
        let began = self.drained_at.max(Instant(now.0 - self.interval_ms));
        self.drained_at = now;
        let minute = u32::try_from(began.0 / MINUTE_MS).unwrap_or_default();
        let (folded, mut lost) = (std::mem::take(&mut drained.folded), std::mem::take(&mut drained.lost));
        if !drained.is_empty() {
            let others: usize = self.kept.iter().filter(|(at, _)| **at != minute).map(|(_, kept)| kept.counts.len()).sum();
            let kept = self.kept.entry(minute).or_default();
            kept.absorb_within(drained, ROWS_KEPT.saturating_sub(others + self.rows.counts.len()));
            lost += std::mem::take(&mut kept.lost);
        }
        let mut status = self.shared.status.lock();
        status.folded += folded;
        status.lost += lost;
    }

    fn take_rate(&mut self) {
        let elapsed_ms = self.rate.since.elapsed().as_millis();
        // Flushes that come early are too short to take a rate from. (A whole second is sometimes woken from a moment early.)
        if elapsed_ms < 900 {
            return;
        }
        let verifies: u64 = self.usage.totals().iter().sum();
        let per_second = u128::from(verifies.saturating_sub(self.rate.verifies)) * 1_000 / elapsed_ms;
        self.shared.status.lock().per_second = per_second as u64;
        self.rate = Rate { since: time::Instant::now(), verifies };
    }
}

/// The time until the next flush: whole intervals of the wall clock, and at every full minute.
fn next(now: Instant, interval_ms: i64) -> Duration {
    let rest = |unit: i64| unit - now.0.rem_euclid(unit);
    Duration::from_millis(rest(interval_ms).min(rest(MINUTE_MS)) as u64)
}

/// Makes rows of what was drained.
fn into_rows(kept: BTreeMap<u32, Drained>, rows: &mut UsageBatch) {
    for (minute, drained) in kept {
        let hour = minute / 60;
        rows.counts.extend(drained.counts.into_iter().map(|(of, count)| CountRow {
            key: of.key,
            minute,
            version: of.version,
            function: of.function,
            verdict: of.verdict,
            count,
        }));
        rows.countries.extend(drained.countries.into_iter().map(|((key, country), count)| CountryRow { key, hour, country, count }));
        rows.last_uses.extend(drained.last_uses.into_iter().map(|((key, version), last)| LastUse {
            key,
            version,
            at: last.at,
            address: last.address,
            country: last.country,
        }));
        rows.networks.extend(drained.networks.into_iter().map(|((key, network), at)| NetworkUse { key, network, at }));
    }
}

fn count(rows: &UsageBatch) -> usize {
    rows.counts.len() + rows.countries.len() + rows.last_uses.len() + rows.networks.len()
}

fn take_rows(rows: &mut UsageBatch, most: usize) -> UsageBatch {
    fn take<T>(rows: &mut Vec<T>, room: &mut usize) -> Vec<T> {
        let taken = rows.split_off(rows.len().saturating_sub(*room));
        *room -= taken.len();
        taken
    }
    let mut room = most;
    UsageBatch {
        counts: take(&mut rows.counts, &mut room),
        countries: take(&mut rows.countries, &mut room),
        last_uses: take(&mut rows.last_uses, &mut room),
        networks: take(&mut rows.networks, &mut room),
        time_floor: None,
    }
}

fn put_back(rows: &mut UsageBatch, refused: UsageBatch) {
    rows.counts.extend(refused.counts);
    rows.countries.extend(refused.countries);
    rows.last_uses.extend(refused.last_uses);
    rows.networks.extend(refused.networks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Country, FunctionId, KeyId, Verdict};
    use crate::store::StoreOptions;
    use crate::usage::Event;

    struct Running {
        usage: Arc<Usage>,
        store: Store,
        flush: Flush,
        started_at: Instant,
        _directory: tempfile::TempDir,
    }

    fn start(interval: &str) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let (usage, clock) = (Arc::new(Usage::new()), Arc::new(Clock::start(Instant(0))));
        let started_at = clock.now();
        let flush = Flush::start(Arc::clone(&usage), store.clone(), clock, interval.parse().unwrap()).unwrap();
        Running { usage, store, flush, started_at, _directory: directory }
    }

    const KEY: KeyId = KeyId([7; 16]);

    impl Running {
        fn count(&self, times: usize) {
            let event = Event {
                key: KEY,
                version: 2,
                function: FunctionId::FIRST,
                verdict: Verdict::Ok,
                country: Some(Country(*b"DE")),
                address: Some("192.0.2.7".parse().unwrap()),
                at: self.started_at,
                function_name: "leads.insert",
            };
            (0..times).for_each(|_| self.usage.count(0, &event));
        }

        fn stored(&self) -> u64 {
            let day = Span(86_400_000);
            let rows = self.store.usage_counts(Some(KEY), Instant(self.started_at.0 - day.0), self.started_at.plus(day));
            rows.map(|row| row.unwrap().count).sum()
        }

        fn wait_for(&self, what: impl Fn(&Status) -> bool) -> Status {
            for _ in 0..1_000 {
                let status = self.flush.status();
                if what(&status) {
                    return status;
                }
                thread::sleep(Duration::from_millis(10));
            }
            panic!("{:?}", self.flush.status());
        }
    }

    #[test]
    fn what_is_counted_is_stored_each_interval_and_at_the_end() {
        let running = start("100ms");
        running.count(1_000);
        running.wait_for(|status| status.last_rows == 4);
        assert_eq!(running.stored(), 1_000);
        running.count(234);
        running.flush.stop().unwrap();
        assert_eq!(running.stored(), 1_234);
        let last = running.store.last_uses(KEY).unwrap();
        assert_eq!((last.len(), last[0].version, last[0].country), (1, 2, Some(Country(*b"DE"))));
        assert_eq!(running.store.recent_networks(KEY).unwrap()[0].network.to_string(), "192.0.2.0/24");
        assert!(running.store.time_floor().unwrap().unwrap() >= running.started_at);
        running.flush.stop().unwrap();
    }

    #[test]
    fn the_end_does_not_wait_for_the_interval() {
        let running = start("60s");
        running.count(5);
        let begun = time::Instant::now();
        running.flush.stop().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(running.stored(), 5);
    }

    #[test]
    fn what_the_store_refuses_is_kept_and_counted_once() {
        let running = start("100ms");
        running.wait_for(|status| status.last_at.is_some());
        running.store.fail_writes(true);
        running.count(10);
        let status = running.wait_for(|status| status.failures >= 2);
        assert!(status.failing.is_some());
        running.count(10);
        running.store.fail_writes(false);
        running.wait_for(|status| status.failing.is_none());
        running.flush.stop().unwrap();
        assert_eq!((running.stored(), running.flush.status().lost), (20, 0));
    }

    /// More rows than are written at a time, and more than a lane holds.
    #[test]
    fn every_verify_of_many_keys_is_stored_or_known_to_be_lost() {
        const KEYS: u64 = 150_000;
        let running = start("100ms");
        for number in 0..KEYS {
            let mut key = [0; 16];
            key[8..].copy_from_slice(&(number + 1).to_be_bytes());
            let event = Event {
                key: KeyId(key),
                version: 1,
                function: FunctionId::FIRST,
                verdict: Verdict::Ok,
                country: None,
                address: None,
                at: running.started_at,
                function_name: "leads.insert",
            };
            running.usage.count(0, &event);
        }
        running.flush.stop().unwrap();
        let rows = running.store.usage_counts(None, Instant(0), running.started_at.plus(Span(86_400_000)));
        let stored: u64 = rows.map(|row| row.unwrap().count).sum();
        assert_eq!(stored + running.flush.status().lost, KEYS);
        assert!(stored > KEYS / 2);
    }

    #[test]
    fn a_last_flush_that_fails_is_an_error() {
        let running = start("60s");
        running.count(1);
        running.store.fail_writes(true);
        assert!(running.flush.stop().is_err());
    }

    #[test]
    fn flushes_come_at_whole_intervals_and_at_every_minute() {
        for (now, interval_ms, due) in
            [(0, 1_000, 1_000), (1_999, 1_000, 1), (59_500, 7_000, 500), (6_000, 7_000, 1_000), (61_000, 100, 100)]
        {
            assert_eq!(next(Instant(now), interval_ms), Duration::from_millis(due), "{now}");
        }
    }
}
