//! Counts every verify, on the path and off the disk: never waits for another thread's work, never allocates, never fails.
//!
//! There are a few lanes. A counter takes the lane that it is given or, where that is held at this moment, the next; so threads with lanes of
//! their own share no cache line. Counting writes the event to the lane's ring, nothing more. [`Usage::drain`] moves events from the rings into the
//! rows of a table, and [`Usage::freeze`] takes that table out, to be written, and puts an empty one in its place.
//!
//! Rings and tables lie in mapped files, so that the next process finds what a killed one had not written: each event once, in a ring, in a row or
//! in the store. (See `log` for the step from ring to row; the step from row to store is one write batch, which carries [`Written`].)

mod denials;
mod drainer;
mod files;
mod frozen;
mod guesses;
mod lane;
mod live;
mod log;
mod mapped;
mod networks;
mod slot;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

pub use denials::Denial;
pub use files::CountersError;
use frozen::Ordered;
pub use frozen::{Frozen, MINUTES_TOGETHER, Row, Written};
pub use guesses::{GUESSERS, Guesser, Guesses};
pub use lane::Held;
pub use log::Owner;

use drainer::Drainer;
use lane::Lane;
use live::Live;
use log::{LANES, Log};

/// Times that a counter looks at a held lane again before it lets another thread run.
const SPINS: usize = 1_000;
/// Owner of counters that no other process finds.
const NOBODY: Owner = Owner { store: [0; 16], boot: [0; 16] };

/// The counters.
pub struct Usage {
    lanes: [Lane; LANES],
    log: Log,
    /// Where the files are, if there are any.
    directory: Option<PathBuf>,
    drainer: Mutex<Drainer>,
    /// Memory for the order of the next table that is written.
    order: Mutex<Vec<Ordered>>,
    /// Whether a ring is so full that the drainer should come early.
    asked: AtomicBool,
    /// The thread in [`Usage::wait`], to be woken when that happens.
    waiter: Mutex<Option<Thread>>,
}

/// How full the counters are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows that are counted in.
    pub rows: usize,
    /// Rows that there may be before functions fold.
    pub most_rows: usize,
    /// Bytes of rings and tables.
    pub bytes: usize,
    /// Verifies counted, but under [`FunctionId::OTHER`] or in an earlier minute, because the table was full.
    pub folded: u64,
    /// Verifies that found no room.
    pub lost: u64,
}

/// One verify, as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Whose token it was; [`KeyId::NONE`] for one that no key has.
    pub key: KeyId,
    /// Which of the key's secrets; 0 with [`KeyId::NONE`].
    pub version: u16,
    /// What was called.
    pub function: FunctionId,
    /// What was answered.
    pub verdict: Verdict,
    /// The country of the address.
    pub country: Option<Country>,
    /// The caller's canonical address.
    pub address: Option<IpAddr>,
    /// When.
    pub at: Instant,
    /// The name that was called, registered or not. Kept for denials only.
    pub function_name: &'a str,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage::new()
    }
}

impl Usage {
    /// Counters at zero in memory of this process alone, which end with it.
    ///
    /// # Panics
    /// The system has no memory.
    pub fn new() -> Usage {
        Usage::in_memory(live::MOST)
    }

    fn in_memory(most: usize) -> Usage {
        let table = |generation| Live::create(None, NOBODY, live::FEWEST.min(most), generation).expect("memory for the counters");
        let log = Log::anonymous().expect("memory for the counters");
        log.set_generation(1);
        let drainer = Drainer::new(None, NOBODY, (table(1), Some(table(0)), None), most);
        Usage::of(log, drainer, None)
    }

    /// Counters in files in this directory, which is made if need be. What a killed process left there is taken over, if it is this owner's;
    /// otherwise it is set aside. `written` is what the store has of it.
    ///
    /// # Errors
    /// The directory is not usable, or its file system has no room for the files. (They are allocated in full.)
    pub fn open(directory: &Path, owner: Owner, written: Written) -> Result<Usage, CountersError> {
        Usage::open_within(directory, owner, written, live::MOST)
    }

    fn open_within(directory: &Path, owner: Owner, written: Written, most: usize) -> Result<Usage, CountersError> {
        let (log, drainer) = files::open(directory, owner, written, most)?;
        Ok(Usage::of(log, drainer, Some(directory.to_owned())))
    }

    fn of(log: Log, drainer: Drainer, directory: Option<PathBuf>) -> Usage {
        Usage {
            lanes: std::array::from_fn(|_| Lane::new()),
            log,
            directory,
            drainer: Mutex::new(drainer),
            order: Mutex::default(),
            asked: AtomicBool::new(false),
            waiter: Mutex::new(None),
        }
    }

    /// Counts one verify. `lane` may be any number; threads that give different ones do not meet.
    pub fn count(&self, lane: usize, event: &Event<'_>) {
        self.hold(lane).count(event);
    }

    /// Takes a lane for as long as the result lives, to count many verifies at once. `lane` may be any number; threads that give different ones
    /// do not meet.
    ///
    /// Only when every lane with room is held at this very moment does it spin for its own; a lane is held for some hundred nanoseconds, or for
    /// as long as the kernel takes the processor from whoever holds it.
    #[inline]
    pub fn hold(&self, lane: usize) -> Held<'_> {
        let home = lane % LANES;
        if let Some(mut held) = Held::try_new(self, home)
            && held.has_room()
        {
            return held;
        }
        self.hold_another(home)
    }

    #[cold]
    fn hold_another(&self, home: usize) -> Held<'_> {
        self.hold_with_room(home).unwrap_or_else(|| self.take(home))
    }

    /// A lane with room, other than this one.
    fn hold_with_room(&self, not: usize) -> Option<Held<'_>> {
        (1..LANES).filter_map(|after| Held::try_new(self, (not + after) % LANES)).find_map(|mut held| held.has_room().then_some(held))
    }

    /// Verifies since the start by the verdict's number, exact even for those that found no room.
    pub fn totals(&self) -> [u64; Verdict::ALL.len()] {
        let mut totals = [0; Verdict::ALL.len()];
        for lane in 0..LANES {
            totals.iter_mut().zip(self.take(lane).totals()).for_each(|(total, count)| *total += count);
        }
        totals
    }

    /// The latest denials, newest first. The latest 256 are all there; before these, some may be missing.
    pub fn denials(&self) -> Vec<Denial> {
        let mut copies = Vec::new();
        for lane in 0..LANES {
            // Room first: nothing is allocated while a lane is held.
            copies.reserve(denials::KEPT);
            self.take(lane).copy_denials(&mut copies);
        }
        copies.sort_by_key(|kept| std::cmp::Reverse(kept.at()));
        copies.iter().map(denials::Kept::denial).collect()
    }

    /// Moves what is in the rings into rows. Counting goes on meanwhile.
    pub fn drain(&self) {
        let mut drainer = self.drainer.lock();
        self.asked.store(false, Ordering::Release);
        drainer.drain(&self.log);
    }

    /// Moves what is in the rings into rows, and takes these out to be written. None if there is nothing, or if what was taken out before is not
    /// given back yet. First comes what a killed process had taken out.
    pub fn freeze(&self) -> Option<Frozen> {
        let mut frozen = {
            let mut drainer = self.drainer.lock();
            self.asked.store(false, Ordering::Release);
            drainer.drain(&self.log);
            drainer.freeze(&self.log)?
        };
        frozen.sort(std::mem::take(&mut self.order.lock()));
        Some(frozen)
    }

    /// Unknown and malformed tokens of the latest hours by network, if any were drained since this was asked last. They are known to this process alone.
    pub fn guesses(&self) -> Vec<Guesses> {
        self.drainer.lock().guesses.take()
    }

    /// Takes back a table of which every row is written, and empties it.
    ///
    /// # Panics
    /// Rows are not written.
    pub fn give_back(&self, frozen: Frozen) {
        assert_eq!(frozen.left(), 0, "a table is emptied when it is written");
        let (mut table, order) = frozen.into_parts();
        let had = table.rows();
        table.clear(|| {});
        let mut drainer = self.drainer.lock();
        drainer.fit(&mut table, had);
        if order.capacity() <= 2 * table.places() {
            *self.order.lock() = order;
        }
        drainer.spare = Some(table);
    }

    /// Waits for the time given, or until a ring is so full that [`Usage::drain`] should come early, or until the thread is unparked otherwise.
    pub fn wait(&self, time: Duration) {
        *self.waiter.lock() = Some(thread::current());
        if !self.asked.load(Ordering::Acquire) {
            thread::park_timeout(time);
        }
    }

    /// Whether so many rows are counted in that they should be written early.
    pub fn is_crowded(&self) -> bool {
        self.drainer.lock().is_crowded()
    }

    /// How full the counters are.
    pub fn figures(&self) -> Figures {
        let mut lost = self.lanes.iter().map(Lane::lost).sum();
        let drainer = self.drainer.lock();
        let (folded, lost_in_rows) = drainer.inexact();
        lost += lost_in_rows;
        let (rows, most_rows) = (drainer.live.rows(), drainer.most / 4 * 3);
        let bytes = self.log.bytes() + drainer.live.bytes() + drainer.spare.as_ref().map_or(0, Live::bytes);
        Figures { rows, most_rows, bytes, folded, lost }
    }

    /// Removes the files if nothing is left in them that is not written. Nothing may be counted any more.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn close(&self) -> Result<(), CountersError> {
        match &self.directory {
            Some(directory) if self.drainer.lock().is_empty(&self.log) => files::remove_all(directory),
            _ => Ok(()),
        }
    }

    /// The one system call on the path, at most once for each time that a ring is half full.
    #[cold]
    fn ask_for_drain(&self) {
        if !self.asked.load(Ordering::Relaxed)
            && !self.asked.swap(true, Ordering::AcqRel)
            && let Some(waiter) = self.waiter.try_lock()
            && let Some(thread) = &*waiter
        {
            thread.unpark();
        }
    }

    fn take(&self, lane: usize) -> Held<'_> {
        loop {
            for _ in 0..SPINS {
                if let Some(held) = Held::try_new(self, lane) {
                    return held;
                }
                std::hint::spin_loop();
            }
            thread::yield_now();
        }
    }
}

/// The kernel's number for this start of the machine; zeros where it does not tell.
pub fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).map_or([0; 16], uuid::Uuid::into_bytes)
}
