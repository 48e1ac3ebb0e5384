use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Event;
use super::denials::{Kept, Latest};
use super::table::{CROWDED, Counted, Slot, Table};
use crate::key::Verdict;

/// Tables, totals and denials of those who count here, one at a time. (Aligned to two cache lines, which processors fetch together.)
#[repr(align(128))]
pub(super) struct Lane {
    held: AtomicBool,
    /// Rows in the table that is counted in. Written by who holds the lane, read by all.
    rows: AtomicUsize,
    /// Belongs to who holds the lane.
    state: UnsafeCell<State>,
    /// The one at `state.active` belongs to who holds the lane, the other to who drains.
    tables: [UnsafeCell<Table>; 2],
}

struct State {
    active: usize,
    totals: [u64; Verdict::ALL.len()],
    since_exchange: Exchanged,
    denials: Latest,
}

/// What was counted inexactly until the tables were exchanged.
#[derive(Default)]
pub(super) struct Exchanged {
    pub(super) folded: u64,
    pub(super) lost: u64,
}

// SAFETY: `state` and the active table are reached only through `Held`, of which there is one at a time; the spare only in `empty_spare`.
unsafe impl Sync for Lane {}

impl Lane {
    pub(super) fn new() -> Lane {
        Lane {
            held: AtomicBool::new(false),
            rows: AtomicUsize::new(0),
            state: UnsafeCell::new(State {
                active: 0,
                totals: [0; Verdict::ALL.len()],
                since_exchange: Exchanged::default(),
                denials: Latest::new(),
            }),
            tables: [UnsafeCell::new(Table::new()), UnsafeCell::new(Table::new())],
        }
    }

    /// Whether the table is not crowded, as far as can be seen from outside.
    pub(super) fn has_room(&self) -> bool {
        self.rows.load(Ordering::Relaxed) < CROWDED
    }

    /// The lane, unless someone holds it.
    pub(super) fn try_hold(&self) -> Option<Held<'_>> {
        let free = !self.held.load(Ordering::Relaxed);
        (free && self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()).then(|| Held { lane: self })
    }

    /// Gives every row of the spare table and empties it.
    ///
    /// # Safety
    /// One thread at a time, and nobody exchanges the tables meanwhile.
    pub(super) unsafe fn empty_spare(&self, take: impl FnMut(&Slot)) {
        let spare = 1 - self.active();
        // SAFETY: the caller is alone in draining, and whoever counts uses the other table.
        unsafe { &mut *self.tables[spare].get() }.empty(take);
    }

    fn active(&self) -> usize {
        // SAFETY: written only in an exchange, by the thread that drains; whoever else asks holds the lane, which an exchange needs.
        unsafe { (*self.state.get()).active }
    }
}

/// A lane that this thread holds.
pub(super) struct Held<'a> {
    lane: &'a Lane,
}

impl Held<'_> {
    /// Counts an event in its row. Whether the table became crowded by it.
    pub(super) fn count(&mut self, row: &Slot, event: &Event<'_>) -> bool {
        // SAFETY: the lane is held.
        let state = unsafe { &mut *self.lane.state.get() };
        // SAFETY: the lane is held, and this is its active table.
        let table = unsafe { &mut *self.lane.tables[state.active].get() };
        state.totals[event.verdict as usize] += 1;
        if event.verdict != Verdict::Ok {
            state.denials.keep(event);
        }
        match table.count(row) {
            Counted::Exactly => {}
            Counted::Folded => state.since_exchange.folded += 1,
            Counted::Lost => state.since_exchange.lost += 1,
        }
        let before = self.lane.rows.load(Ordering::Relaxed);
        if table.rows() != before {
            self.lane.rows.store(table.rows(), Ordering::Relaxed);
        }
        before < CROWDED && table.rows() >= CROWDED
    }

    /// Makes the spare table, which is empty, the active one.
    pub(super) fn exchange(&mut self) -> Exchanged {
        // SAFETY: the lane is held.
        let state = unsafe { &mut *self.lane.state.get() };
        state.active = 1 - state.active;
        self.lane.rows.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.since_exchange)
    }

    pub(super) fn totals(&self) -> [u64; Verdict::ALL.len()] {
        // SAFETY: the lane is held.
        unsafe { (*self.lane.state.get()).totals }
    }

    pub(super) fn copy_denials(&self, copies: &mut Vec<Kept>) {
        // SAFETY: the lane is held.
        unsafe { &*self.lane.state.get() }.denials.copy(copies);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lane.held.store(false, Ordering::Release);
    }
}
