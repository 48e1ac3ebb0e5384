use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::denials::{Kept, Latest};
use super::log::RING;
use super::slot::Slot;
use super::{Event, Usage};
use crate::key::Verdict;

/// What belongs to those who count in one lane, one at a time, beside its ring in the log. (Aligned to two cache lines, which processors fetch
/// together.)
#[repr(align(128))]
pub(super) struct Lane {
    held: AtomicBool,
    /// Events that found every ring full.
    lost: AtomicU64,
    /// Belongs to who holds the lane.
    state: UnsafeCell<State>,
}

struct State {
    /// Up to which position the ring had room when that was looked at last.
    limit: u64,
    totals: [u64; Verdict::ALL.len()],
    denials: Latest,
}

// SAFETY: `state` is reached only by who has set `held`.
unsafe impl Sync for Lane {}

impl Lane {
    pub(super) fn new() -> Lane {
        let state = State { limit: 0, totals: [0; Verdict::ALL.len()], denials: Latest::new() };
        Lane { held: AtomicBool::new(false), lost: AtomicU64::new(0), state: UnsafeCell::new(state) }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn try_hold(&self) -> bool {
        !self.held.load(Ordering::Relaxed) && self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// So many places ahead of an event the memory for a later one is asked for: by the time it is written, it is there. A write that has to wait for its memory keeps all later
/// ones from the caches, and who reads these again in other pieces waits with them.
const AHEAD: usize = 16;

/// Asks for memory to write to; a hint, where the processor takes one.
#[inline]
fn expect_to_write(place: *const Slot) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address, which changes neither memory nor flags. Processors without it do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// A lane that this thread holds, to count in. What was counted is seen by others when this is dropped, and from then on a killed process has not
/// lost it: so drop it before anybody is told of what was counted.
pub struct Held<'a> {
    usage: &'a Usage,
    number: usize,
    ring: *mut Slot,
    /// Where the next event goes.
    end: u64,
    /// Up to where the ring has room.
    limit: u64,
}

impl<'a> Held<'a> {
    /// The lane, unless someone holds it.
    pub(super) fn try_new(usage: &'a Usage, number: usize) -> Option<Held<'a>> {
        let lane = &usage.lanes[number];
        lane.try_hold().then(|| {
            // SAFETY: the lane is held.
            let limit = unsafe { (*lane.state.get()).limit };
            Held { usage, number, ring: usage.log.ring(number), end: usage.log.end(number).load(Ordering::Relaxed), limit }
        })
    }

    /// Counts one verify: written to the lane's ring, nothing more. A ring that is full is exchanged for another lane's; an event that finds all of
    /// them full is counted as lost.
    #[inline]
    pub fn count(&mut self, event: &Event<'_>) {
        if self.end >= self.limit && !self.find_room() {
            self.usage.lanes[self.number].lost.fetch_add(1, Ordering::Relaxed);
        } else {
            // SAFETY: the lane is held, and `limit` says that this place is drained.
            unsafe { self.ring.add(self.end as usize % RING).write(Slot::event(event)) };
            expect_to_write(self.ring.wrapping_add((self.end as usize + AHEAD) % RING));
            self.end += 1;
        }
        let state = self.state();
        state.totals[event.verdict as usize] += 1;
        if event.verdict != Verdict::Ok {
            state.denials.keep(event);
        }
    }

    /// Whether the ring has room for one event.
    pub(super) fn has_room(&mut self) -> bool {
        if self.end >= self.limit {
            self.look_again();
        }
        self.end < self.limit
    }

    pub(super) fn totals(&mut self) -> [u64; Verdict::ALL.len()] {
        self.state().totals
    }

    pub(super) fn copy_denials(&mut self, copies: &mut Vec<Kept>) {
        self.state().denials.copy(copies);
    }

    fn look_again(&mut self) {
        self.limit = self.usage.log.drained(self.number).load(Ordering::Acquire) + RING as u64;
    }

    #[cold]
    fn find_room(&mut self) -> bool {
        if self.has_room() {
            return true;
        }
        self.usage.ask_for_drain();
        if let Some(other) = self.usage.hold_with_room(self.number) {
            *self = other;
            return true;
        }
        false
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: the lane is held.
        unsafe { &mut *self.usage.lanes[self.number].state.get() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let end = self.usage.log.end(self.number);
        if end.load(Ordering::Relaxed) != self.end {
            end.store(self.end, Ordering::Release);
            // Past the middle the drainer is woken, so that it has the other half's time to come.
            if self.end + RING as u64 / 2 > self.limit {
                self.look_again();
                if self.end + RING as u64 / 2 > self.limit {
                    self.usage.ask_for_drain();
                }
            }
        }
        self.state().limit = self.limit;
        self.usage.lanes[self.number].held.store(false, Ordering::Release);
    }
}
