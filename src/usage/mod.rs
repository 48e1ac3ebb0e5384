//! Counts every verify, on the path and off the disk: never waits for another thread's work, never allocates, never fails.
//!
//! There are a few lanes. A counter takes the lane that it is given or, where that is held at this moment, the next; so threads with lanes of
//! their own share no cache line. Each lane has two tables: one that is counted in, and a spare that [`Usage::drain`] exchanges it for and then
//! empties at leisure. What has been counted since the last drain is lost when the process is killed.

mod denials;
mod drained;
mod lane;
mod table;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

pub use denials::Denial;
pub use drained::{Count, Drained, LastUse};
use lane::Lane;
use table::Slot;

/// Lanes: more than the threads that count at the same moment on any host this is for. With both their tables they are 48 MiB of zero pages,
/// of which the kernel gives only what is written to.
const LANES: usize = 12;
/// Times that a counter looks at a held lane again before it lets another thread run.
const SPINS: usize = 1_000;

/// The counters.
pub struct Usage {
    lanes: [Lane; LANES],
    /// Whether a table is so full that the next drain should come early.
    crowded: AtomicBool,
    /// The thread in [`Usage::wait`], to be woken when that happens.
    waiter: Mutex<Option<Thread>>,
    /// One drain at a time: whoever holds this owns every lane's spare table.
    draining: Mutex<()>,
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
    /// Counters at zero.
    pub fn new() -> Usage {
        // The seam for counters that survive SIGKILL: tables in mapped files, headed by store id, boot id and epoch, would be made here.
        Usage {
            lanes: std::array::from_fn(|_| Lane::new()),
            crowded: AtomicBool::new(false),
            waiter: Mutex::new(None),
            draining: Mutex::new(()),
        }
    }

    /// Counts one verify. `lane` may be any number; threads that give different ones do not meet.
    pub fn count(&self, lane: usize, event: &Event<'_>) {
        self.hold(lane).count(event);
    }

    /// Takes a lane for as long as the result lives, to count many verifies at once. `lane` may be any number; threads that give different ones
    /// do not meet.
    ///
    /// Only when every lane with room is held at this very moment does it spin for its own.
    pub fn hold(&self, lane: usize) -> Held<'_> {
        let home = lane % LANES;
        for lane in self.lanes[home..].iter().chain(&self.lanes[..home]) {
            if lane.has_room()
                && let Some(lane) = lane.try_hold()
            {
                return Held { usage: self, lane };
            }
        }
        self.ask_for_drain();
        Held { usage: self, lane: self.take(&self.lanes[home]) }
    }

    /// Verifies since the start by the verdict's number, exact even for those that found no room in a table.
    pub fn totals(&self) -> [u64; Verdict::ALL.len()] {
        let mut totals = [0; Verdict::ALL.len()];
        for lane in &self.lanes {
            let held = self.take(lane);
            totals.iter_mut().zip(held.totals()).for_each(|(total, count)| *total += count);
        }
        totals
    }

    /// The latest denials, newest first. The latest 256 are all there; before these, some may be missing.
    pub fn denials(&self) -> Vec<Denial> {
        let mut copies = Vec::new();
        for lane in &self.lanes {
            // Room first: nothing is allocated while a lane is held.
            copies.reserve(denials::KEPT);
            self.take(lane).copy_denials(&mut copies);
        }
        copies.sort_by_key(|kept| std::cmp::Reverse(kept.at()));
        copies.iter().map(denials::Kept::denial).collect()
    }

    /// Takes out what was counted since the last drain. Counting goes on meanwhile.
    pub fn drain(&self) -> Drained {
        let _draining = self.draining.lock();
        self.crowded.store(false, Ordering::Release);
        let mut drained = Drained::default();
        for lane in &self.lanes {
            let exchanged = self.take(lane).exchange();
            drained.folded += exchanged.folded;
            drained.lost += exchanged.lost;
            // SAFETY: the table is the lane's spare since the exchange, and `draining` is held.
            unsafe { lane.empty_spare(|slot| drained.take(slot)) };
        }
        drained
    }

    /// Waits for the time given, or until a table is so full that a drain should come early, or until the thread is unparked otherwise.
    pub fn wait(&self, time: Duration) {
        *self.waiter.lock() = Some(thread::current());
        if !self.is_crowded() {
            thread::park_timeout(time);
        }
    }

    /// Whether a table is so full that a drain should come early.
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// The one system call on the path, once for each time that a table fills.
    #[cold]
    fn ask_for_drain(&self) {
        if !self.crowded.swap(true, Ordering::AcqRel)
            && let Some(waiter) = self.waiter.try_lock()
            && let Some(thread) = &*waiter
        {
            thread.unpark();
        }
    }

    fn take<'a>(&self, lane: &'a Lane) -> lane::Held<'a> {
        loop {
            for _ in 0..SPINS {
                if let Some(held) = lane.try_hold() {
                    return held;
                }
                std::hint::spin_loop();
            }
            thread::yield_now();
        }
    }
}

/// A lane that this thread holds, and counts in.
pub struct Held<'a> {
    usage: &'a Usage,
    lane: lane::Held<'a>,
}

impl Held<'_> {
    /// Counts one verify.
    pub fn count(&mut self, event: &Event<'_>) {
        if self.lane.count(&Slot::row(event), event) {
            self.usage.ask_for_drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event<'static> {
        let mut key = [0; 16];
        key[8..].copy_from_slice(&number.to_be_bytes());
        Event {
            key: KeyId(key),
            version: 1,
            function: FunctionId::FIRST,
            verdict: Verdict::Ok,
            country: Some(Country(*b"DE")),
            address: Some("192.0.2.7".parse().unwrap()),
            at: Instant(1_000 + number as i64),
            function_name: "leads.insert",
        }
    }

    #[test]
    fn nothing_is_lost_while_threads_count_and_another_drains() {
        const THREADS: usize = 8;
        const EVENTS: u64 = 100_000;
        let usage = Usage::new();
        let mut sum = Drained::default();
        std::thread::scope(|scope| {
            let counting: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let usage = &usage;
                    // Two threads to a lane, so that they meet.
                    scope.spawn(move || (0..EVENTS).for_each(|i| usage.count(thread / 2, &event(i % 1_000))))
                })
                .collect();
            while !counting.iter().all(|thread| thread.is_finished()) {
                sum.absorb(usage.drain());
            }
        });
        sum.absorb(usage.drain());
        assert_eq!(sum.counts.len(), 1_000);
        assert!(sum.counts.values().all(|&count| count == THREADS as u64 * EVENTS / 1_000));
        assert_eq!(sum.countries.values().sum::<u64>(), THREADS as u64 * EVENTS);
        assert_eq!((sum.folded, sum.lost), (0, 0));
        assert_eq!(usage.totals()[Verdict::Ok as usize], THREADS as u64 * EVENTS);
        assert!(usage.drain().is_empty());
    }

    #[test]
    fn full_counters_fold_and_then_lose_but_know_how_many() {
        let usage = Usage::new();
        let events = 600_000;
        (0..events).for_each(|number| usage.count(0, &event(number)));
        let drained = usage.drain();
        assert!(drained.folded > 0 && drained.lost > 0, "{} {}", drained.folded, drained.lost);
        assert_eq!(drained.counts.values().sum::<u64>() + drained.lost, events);
        let folded: u64 = drained.counts.iter().filter(|(row, _)| row.function == FunctionId::OTHER).map(|(_, count)| count).sum();
        assert_eq!(folded, drained.folded);
        assert_eq!(usage.totals()[0], events);
        // Room again.
        usage.count(0, &event(events));
        assert_eq!((usage.drain().counts.len(), usage.drain().lost), (1, 0));
    }

    #[test]
    fn a_filling_table_asks_for_a_drain() {
        let usage = Usage::new();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| usage.wait(Duration::from_secs(60)));
            while usage.waiter.lock().is_none() {
                thread::yield_now();
            }
            (0..30_000).for_each(|number| usage.count(0, &event(number)));
            waiter.join().unwrap();
        });
        assert_eq!(usage.drain().counts.len(), 30_000);
        assert!(!usage.crowded.load(Ordering::Relaxed));
    }

    #[test]
    fn a_drain_tells_of_dimensions_last_uses_and_networks() {
        let usage = Usage::new();
        let later = Event { at: Instant(9_000), address: Some("198.51.100.1".parse().unwrap()), country: None, ..event(1) };
        let nobodys = Event { key: KeyId::NONE, version: 0, verdict: Verdict::Unknown, function: FunctionId::UNREGISTERED, ..event(0) };
        for (lane, event) in [(0, &event(1)), (1, &later), (2, &event(1)), (3, &nobodys)] {
            usage.count(lane, event);
        }
        let drained = usage.drain();
        let row = Count { key: event(1).key, version: 1, function: FunctionId::FIRST, verdict: Verdict::Ok };
        assert_eq!(drained.counts[&row], 3);
        assert_eq!(drained.countries[&(row.key, Some(Country(*b"DE")))], 2);
        assert_eq!(drained.countries[&(row.key, None)], 1);
        assert_eq!(drained.last_uses.len(), 1);
        assert_eq!(drained.last_uses[&(row.key, 1)], LastUse { at: Instant(9_000), address: later.address, country: None });
        let networks: Vec<_> = drained.networks.keys().map(|(key, network)| (*key == row.key, network.to_string())).collect();
        assert_eq!(networks.len(), 2);
        assert!(networks.contains(&(true, "192.0.2.0/24".to_owned())) && networks.contains(&(true, "198.51.100.0/24".to_owned())));
    }

    #[test]
    fn the_latest_denials_are_kept_with_the_name_that_was_called() {
        let usage = Usage::new();
        let name = "x".repeat(128);
        for number in 0..1_000 {
            let denied = Event { verdict: Verdict::FunctionDenied, function_name: &name, ..event(number) };
            usage.count(3, &denied);
            usage.count(3, &event(number));
        }
        let denials = usage.denials();
        assert_eq!(denials.len(), denials::KEPT);
        let latest: Vec<_> = denials.iter().map(|denial| denial.at.0).collect();
        assert_eq!(latest, (2_000 - denials::KEPT as i64..2_000).rev().collect::<Vec<_>>());
        assert_eq!(
            (denials[0].function.as_str(), denials[0].verdict, denials[0].key),
            (name.as_str(), Verdict::FunctionDenied, event(999).key)
        );
        assert_eq!(denials[0].address, Some("192.0.2.7".parse().unwrap()));
    }
}
