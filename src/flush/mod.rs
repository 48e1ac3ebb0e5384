//! Carries what was counted to the store: every interval, when the counters fill, and a last time at the end.
//!
//! Two threads, so that a disk that takes its time does not keep anybody from counting: one moves events into rows whenever a ring is half full, the
//! other writes the rows of a table in which nothing is counted any more. Each batch also says how far that table is written, so that after a
//! kill its other rows, and no others, are written. Between two flushes the second adds up minutes that are over to hours and days, and removes
//! what is older than it is to be kept.

#[cfg(test)]
mod tests;
mod upkeep;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{self, Duration};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tracing::{error, info};

use crate::clock::Clock;
use crate::key::{Instant, Span};
use crate::store::{Counted, Keep, MINUTES_IN_A_ROW, Store, StoreError, UsageBatch, UsageMark};
use crate::usage::{Frozen, MINUTES_TOGETHER, Row, Usage};

use upkeep::{MINUTE_MS, Upkeep};

/// Rows that are written at a time, which takes a few milliseconds.
const ROWS_WRITTEN: usize = 16_384;
/// How many times as long as it wrote the thread then rests, so that a long flush takes a quarter of a processor.
const REST: u32 = 3;
/// How many times the processor time of a flush passes from its beginning to that of the next, so that all flushes together take a tenth of a
/// processor: what is counted meanwhile adds up in the rows that are there. (Waiting for a slow disk does not put the next flush off.)
const SPACING: u32 = 10;
/// How long the thread that drains sleeps unless it is woken. A ring that fills wakes it.
const DRAIN_SLEEP: Duration = Duration::from_secs(10);

/// What is set about the flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushOptions {
    /// The time between two flushes.
    pub interval: Span,
    /// How long usage is kept.
    pub keep: Keep,
}

/// The threads that flush.
pub struct Flush {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    drain: JoinHandle<()>,
    write: JoinHandle<Result<(), StoreError>>,
}

struct Shared {
    usage: Arc<Usage>,
    clock: Arc<Clock>,
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
    /// How long the last one that wrote took, in microseconds, its rests included.
    pub last_us: u64,
    /// Rows written by it.
    pub last_rows: u64,
    /// Rows written since the start.
    pub rows_written: u64,
    /// How long ago the oldest verify may have been counted that is not in the store, in milliseconds.
    pub lag_ms: u64,
    /// Rows of the counters that are not being written yet.
    pub rows: u64,
    /// Rows from which functions are folded.
    pub most_rows: u64,
    /// Flushes that failed since the start; their counts are kept for the next.
    pub failures: u64,
    /// Why the last one failed, if it did.
    pub failing: Option<String>,
    /// Verifies whose function was folded into `(other)` or that count in an earlier minute, because the counters were full.
    pub folded: u64,
    /// Verifies that found no room at all and were not counted.
    pub lost: u64,
    /// Verifies a second, over the last second or, where the interval is longer, over the last interval.
    pub per_second: u64,
    /// Up to when all that was counted is in the store.
    through: Option<Instant>,
    /// Why usage is not added up or removed, if it is not.
    upkeep_failing: Option<String>,
}

impl Flush {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(usage: Arc<Usage>, store: Store, clock: Arc<Clock>, options: FlushOptions) -> io::Result<Flush> {
        let interval_ms = options.interval.0.max(1);
        let now = clock.now();
        let status = Status { interval_ms: interval_ms as u64, through: Some(now), ..Status::default() };
        let rate = Rate { since: time::Instant::now(), verifies: usage.totals().iter().sum() };
        let shared = Arc::new(Shared { usage, clock, stopping: AtomicBool::new(false), status: Mutex::new(status) });
        let upkeep = Upkeep::new(now, options.keep);
        let worker = Worker { shared: Arc::clone(&shared), store, interval_ms, refused: None, upkeep, rate };
        let write = thread::Builder::new().name("flush".to_owned()).spawn(move || worker.run())?;
        let (drained, writer) = (Arc::clone(&shared), write.thread().clone());
        let drain = thread::Builder::new().name("drain".to_owned()).spawn(move || drain(&drained, &writer));
        let flush = Flush { shared, threads: Mutex::new(None) };
        match drain {
            Ok(drain) => *flush.threads.lock() = Some(Threads { drain, write }),
            Err(error) => {
                flush.shared.stopping.store(true, Ordering::Release);
                write.thread().unpark();
                return Err(error);
            }
        }
        Ok(flush)
    }

    /// How it goes.
    pub fn status(&self) -> Status {
        let mut status = self.shared.status.lock().clone();
        let figures = self.shared.usage.figures();
        (status.rows, status.most_rows) = (figures.rows as u64, figures.most_rows as u64);
        (status.folded, status.lost) = (figures.folded, figures.lost);
        status.failing = status.failing.or_else(|| status.upkeep_failing.clone());
        status.lag_ms = status.through.map_or(0, |through| self.shared.clock.now().since(through).0.max(0)) as u64;
        status
    }

    /// Flushes a last time and ends the threads. Does nothing the second time.
    ///
    /// # Errors
    /// The store refused: what it does not have stays in the counters' files, if they have any, for the next start.
    pub fn stop(&self) -> Result<(), StoreError> {
        let Some(Threads { drain, write }) = self.threads.lock().take() else { return Ok(()) };
        self.shared.stopping.store(true, Ordering::Release);
        for thread in [drain.thread(), write.thread()] {
            thread.unpark();
        }
        drain.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        write.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            error!("the last flush failed: {error}");
        }
    }
}

/// What the first thread does.
fn drain(shared: &Shared, writer: &thread::Thread) {
    while !shared.stopping.load(Ordering::Acquire) {
        shared.usage.wait(DRAIN_SLEEP);
        shared.usage.drain();
        if shared.usage.is_crowded() {
            writer.unpark();
        }
    }
}

/// What the second thread owns.
struct Worker {
    shared: Arc<Shared>,
    store: Store,
    interval_ms: i64,
    /// A table that the store refused some rows of.
    refused: Option<Frozen>,
    upkeep: Upkeep,
    rate: Rate,
}

/// From when and from which total the next rate is taken.
struct Rate {
    since: time::Instant,
    verifies: u64,
}

impl Worker {
    fn run(mut self) -> Result<(), StoreError> {
        let mut not_before = time::Instant::now();
        loop {
            if !self.is_stopping() {
                let due = time::Instant::now() + next(self.shared.clock.now(), self.interval_ms);
                self.keep_up(due.max(not_before));
                self.wait(due.max(not_before));
            }
            let last = self.is_stopping();
            let (begun, worked) = (time::Instant::now(), thread_time());
            let flushed = self.flush(last);
            not_before = begun + (thread_time() - worked) * SPACING;
            self.take_rate();
            if last {
                return flushed;
            }
            if flushed.is_err() {
                // The counters may be crowded all the time now: the disk gets its rest.
                thread::park_timeout(Duration::from_millis(self.interval_ms.min(1_000) as u64));
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Waits until then, or until the counters are crowded, or until the end.
    fn wait(&self, due: time::Instant) {
        loop {
            let rest = due.saturating_duration_since(time::Instant::now());
            if rest.is_zero() || self.is_stopping() || self.shared.usage.is_crowded() {
                return;
            }
            thread::park_timeout(rest);
        }
    }

    fn flush(&mut self, last: bool) -> Result<(), StoreError> {
        let begun = time::Instant::now();
        let mut rows = 0;
        let mut through = self.shared.status.lock().through;
        let mut written = Ok(());
        loop {
            let is_new = self.refused.is_none();
            // Time first: what was counted before is in the rings.
            let now = self.shared.clock.now();
            let Some(mut frozen) = self.refused.take().or_else(|| self.shared.usage.freeze()) else {
                through = Some(now);
                break;
            };
            let before = frozen.left();
            written = self.write(&mut frozen, last);
            rows += before - frozen.left();
            if written.is_err() {
                self.refused = Some(frozen);
                break;
            }
            self.shared.usage.give_back(frozen);
            // What comes while a last flush is written is written, too; any other time it waits for the next.
            if is_new {
                through = Some(now);
                if !last {
                    break;
                }
            }
        }
        if written.is_ok() {
            written = self.note_time(last);
        }
        self.tell(written.as_ref().err(), rows, begun.elapsed(), through);
        if last
            && written.is_ok()
            && let Err(error) = self.shared.usage.close()
        {
            error!(%error, "counters of which nothing is left could not be removed");
        }
        written
    }

    /// Writes the rows of a table, batch by batch; one sync at the end is enough for all, since it reaches back to the first.
    fn write(&mut self, frozen: &mut Frozen, last: bool) -> Result<(), StoreError> {
        let mut batch = UsageBatch::default();
        while frozen.left() > 0 {
            let begun = time::Instant::now();
            let rows = frozen.whole(ROWS_WRITTEN);
            batch.rows.clear();
            batch.rows.extend(counted(frozen.next(rows), self.shared.clock.steady()));
            let after = frozen.after(rows);
            batch.written = Some(UsageMark { generation: after.generation, rows: after.rows });
            let is_last = rows == frozen.left();
            // What was counted may tell of keys that had expired: after a power failure the time is not before that.
            batch.time_floor = is_last.then(|| self.time_floor());
            self.store.write_usage(&batch, is_last)?;
            frozen.were_written(rows);
            if !last && frozen.left() > 0 {
                // Leaves the processor to those who verify; but not where what they count would soon find no row.
                self.wait(time::Instant::now() + begun.elapsed() * REST);
            }
        }
        Ok(())
    }

    fn tell(&self, refusal: Option<&StoreError>, rows: usize, took: Duration, through: Option<Instant>) {
        let mut status = self.shared.status.lock();
        status.through = through;
        status.rows_written += rows as u64;
        let Some(refusal) = refusal else {
            if status.failing.take().is_some() {
                info!("usage is written to the store again");
            }
            status.last_at = Some(self.shared.clock.now());
            if rows > 0 {
                status.last_us = took.as_micros() as u64;
                status.last_rows = rows as u64;
            }
            return;
        };
        status.failures += 1;
        if status.failing.replace(refusal.to_string()).is_none() {
            match self.store.frozen() {
                Some(reason) => {
                    error!("usage cannot be written to the store; it is kept; changes are refused until doorward is restarted: {reason}")
                }
                None => error!("usage cannot be written to the store; it is kept and tried again: {refusal}"),
            }
        }
    }

    fn take_rate(&mut self) {
        let elapsed_ms = self.rate.since.elapsed().as_millis();
        // Flushes that come early are too short to take a rate from. (A whole second is sometimes woken from a moment early.)
        if elapsed_ms < 900 {
            return;
        }
        let verifies: u64 = self.shared.usage.totals().iter().sum();
        let per_second = u128::from(verifies.saturating_sub(self.rate.verifies)) * 1_000 / elapsed_ms;
        self.shared.status.lock().per_second = per_second as u64;
        self.rate = Rate { since: time::Instant::now(), verifies };
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The time until the next flush: whole intervals of the wall clock.
fn next(now: Instant, interval_ms: i64) -> Duration {
    Duration::from_millis((interval_ms - now.0.rem_euclid(interval_ms)) as u64)
}

/// What the store is told of rows. None is of later than the present: what a wall clock that was ahead by mistake told of is of now.
fn counted(rows: impl Iterator<Item = Row>, present: Instant) -> impl Iterator<Item = Counted> {
    let this_minute = u32::try_from(present.0.div_euclid(MINUTE_MS)).unwrap_or(0);
    rows.map(move |row| {
        let Row { key, minute, version, function, verdict, country, count, last_at, last_address, missed_networks } = row;
        let last_at = if minute > this_minute { present } else { last_at };
        Counted { key, minute: minute.min(this_minute), version, function, verdict, country, count, last_at, last_address, missed_networks }
    })
}

/// Rows come as the store writes them: so none is sorted again.
const _: () = assert!(MINUTES_TOGETHER == MINUTES_IN_A_ROW);
