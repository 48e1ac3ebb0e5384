//! The events of every lane that are not yet in a row, in rings; and what the drainer means to do next.

use std::cell::UnsafeCell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::mapped::Mapped;
use super::slot::Slot;

/// Lanes: more than the threads that count at the same moment on any host this is for.
pub(super) const LANES: usize = 12;
/// Events that a lane has places for: 1 MiB. A power of two.
pub(super) const RING: usize = 1 << 14;

const MAGIC: [u8; 8] = *b"DWEVENTS";
const FORMAT: u32 = 1;
const LANES_AT: usize = 4_096;
const RINGS_AT: usize = 8_192;
const RING_BYTES: usize = RING * size_of::<Slot>();
const BYTES: usize = RINGS_AT + LANES * RING_BYTES;

/// Whose counters these are. Files of another store, or from before the machine was started, say nothing that could be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// The store's own number.
    pub store: [u8; 16],
    /// The kernel's number for this start of the machine: files of an earlier one may hold pages of different moments.
    pub boot: [u8; 16],
}

#[repr(C)]
struct Head {
    magic: [u8; 8],
    format: u32,
    lanes: u32,
    ring: u64,
    owner: Owner,
    /// The generation of the table that is counted in.
    generation: AtomicU64,
    intent: Intent,
}

/// What a row will be once some events are in it. While the seal names the place up to which a lane is drained, this may have been half done, and
/// is to be done (again).
#[repr(C, align(64))]
struct Intent {
    row: UnsafeCell<Slot>,
    /// Position of the first event and number of the lane: see `seal`.
    seal: AtomicU64,
    place: AtomicU32,
    events: AtomicU32,
}

/// The two ends of a ring, apart, since one belongs to who counts and the other to who drains.
#[repr(C, align(128))]
struct Ends {
    end: AtomicU64,
    _apart: [u64; 15],
    drained: AtomicU64,
}

const _: () = assert!(size_of::<Head>() <= LANES_AT && LANES * size_of::<Ends>() <= RINGS_AT - LANES_AT);

/// Events of a lane, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) lane: usize,
    /// Position of the first.
    pub(super) from: u64,
    pub(super) events: u32,
}

/// The rings in their mapping. Who counts holds the lane, and who drains is alone: neither is seen to here.
pub(super) struct Log {
    mapped: Mapped,
}

impl Log {
    pub(super) fn anonymous() -> io::Result<Log> {
        Ok(Log { mapped: Mapped::anonymous(BYTES)? })
    }

    /// A new log in a file, empty, for a first table of this generation.
    pub(super) fn create(path: &Path, owner: Owner, generation: u64) -> io::Result<Log> {
        let log = Log { mapped: Mapped::create(path, BYTES)? };
        // SAFETY: the head lies in the mapping, which nobody else knows yet.
        unsafe {
            (*log.head_place()).magic = MAGIC;
            (*log.head_place()).format = FORMAT;
            (*log.head_place()).lanes = LANES as u32;
            (*log.head_place()).ring = RING as u64;
            (*log.head_place()).owner = owner;
        }
        log.set_generation(generation);
        Ok(log)
    }

    /// A log as it was left, or what is wrong with it.
    pub(super) fn open(path: &Path, owner: Owner) -> io::Result<Result<Log, &'static str>> {
        let log = Log { mapped: Mapped::open(path, BYTES)? };
        if log.mapped.bytes() != BYTES {
            return Ok(Err("it has another size"));
        }
        let head = log.head();
        if (head.magic, head.format, head.lanes, head.ring) != (MAGIC, FORMAT, LANES as u32, RING as u64) {
            return Ok(Err("it has another form"));
        }
        if head.owner.store != owner.store {
            return Ok(Err("it is another store's"));
        }
        if head.owner.boot != owner.boot {
            return Ok(Err("it is from before the machine was started"));
        }
        let ends = |lane| (log.drained(lane).load(Ordering::Acquire), log.end(lane).load(Ordering::Acquire));
        if (0..LANES).map(ends).any(|(drained, end)| end < drained || end - drained > RING as u64) {
            return Ok(Err("it is damaged"));
        }
        Ok(Ok(log))
    }

    pub(super) fn bytes(&self) -> usize {
        self.mapped.bytes()
    }

    pub(super) fn generation(&self) -> u64 {
        self.head().generation.load(Ordering::Acquire)
    }

    pub(super) fn set_generation(&self, generation: u64) {
        self.head().generation.store(generation, Ordering::Release);
    }

    /// Where a lane's next event goes; all before it are whole.
    pub(super) fn end(&self, lane: usize) -> &AtomicU64 {
        &self.ends(lane).end
    }

    /// The first of a lane's events that is not in a row; all before it are.
    pub(super) fn drained(&self, lane: usize) -> &AtomicU64 {
        &self.ends(lane).drained
    }

    /// Events of a lane that are not in a row.
    pub(super) fn waiting(&self, lane: usize) -> u64 {
        let drained = self.drained(lane).load(Ordering::Acquire);
        self.end(lane).load(Ordering::Acquire).saturating_sub(drained)
    }

    /// A lane's places for events; that of position `p` is `p % RING`.
    pub(super) fn ring(&self, lane: usize) -> *mut Slot {
        assert!(lane < LANES);
        self.mapped.place(RINGS_AT + lane * RING_BYTES)
    }

    /// Sets a row, and notes that the events which made it so are drained: both, or after a kill and [`Log::redo`] both.
    ///
    /// # Safety
    /// The caller alone drains, and `row` is the place of this number in the table that is counted in.
    pub(super) unsafe fn move_into(&self, row: *mut Slot, place: u32, becomes: &Slot, run: Run, mut step: impl FnMut()) {
        let Run { lane, from, events } = run;
        let intent = &self.head().intent;
        // Whatever kills the process does so between two instructions, and what was stored before that is in the mapping: nothing but the
        // compiler could put these steps into another order.
        // SAFETY: whoever drains is alone in touching the intent and the rows.
        unsafe { intent.row.get().write(*becomes) };
        intent.place.store(place, Ordering::Relaxed);
        intent.events.store(events, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        step();
        intent.seal.store(seal(lane, from), Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        step();
        // SAFETY: as the caller says.
        unsafe { row.write(*becomes) };
        compiler_fence(Ordering::SeqCst);
        step();
        self.drained(lane).store(from + u64::from(events), Ordering::Release);
        step();
    }

    /// Finishes what a kill interrupted. `row` gives the place of a number in the table that is counted in, if it has one.
    ///
    /// # Safety
    /// The caller alone drains.
    pub(super) unsafe fn redo(&self, row: impl FnOnce(u32) -> Option<*mut Slot>) {
        let intent = &self.head().intent;
        let sealed = intent.seal.load(Ordering::Acquire);
        let Some(lane) = (0..LANES).find(|&lane| sealed == seal(lane, self.drained(lane).load(Ordering::Acquire))) else { return };
        let (from, events) = (self.drained(lane).load(Ordering::Acquire), intent.events.load(Ordering::Relaxed));
        if u64::from(events) > self.waiting(lane) {
            return;
        }
        if let Some(row) = row(intent.place.load(Ordering::Relaxed)) {
            // SAFETY: the caller alone drains.
            unsafe { row.write(*intent.row.get()) };
            compiler_fence(Ordering::SeqCst);
            self.drained(lane).store(from + u64::from(events), Ordering::Release);
        }
    }

    fn head_place(&self) -> *mut Head {
        self.mapped.place(0)
    }

    fn head(&self) -> &Head {
        // SAFETY: within the mapping; any bytes are a value of it, and what changes is atomic or belongs to who drains.
        unsafe { &*self.head_place() }
    }

    fn ends(&self, lane: usize) -> &Ends {
        assert!(lane < LANES);
        // SAFETY: within the mapping; the two numbers are atomic.
        unsafe { &*self.mapped.place(LANES_AT + lane * size_of::<Ends>()) }
    }
}

/// One number for a lane and a position, so that it is stored at once; never 0, which an empty log has.
fn seal(lane: usize, position: u64) -> u64 {
    (position + 1) << 8 | lane as u64
}
