use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned};

use super::record::Record;
use super::{ADDRESS_BITS, Words, same};

/// An open-addressed table of the records' addresses, in shards that grow one by one, so that growing needs little memory beside and stops the
/// writer only briefly.
///
/// A slot is 8 bytes: 48 bits of address and 16 bits of the digest, so that a search reads one cache line here, and a record only when it is
/// (but for one time in 65,536) the one that is looked for. Nothing is ever removed: a deleted key's secrets stay, to be refused by name. So
/// there are no tombstones, and a search ends at the first empty slot.
pub(super) struct Table {
    shards: [Atomic<Shard>; SHARDS],
    records: AtomicUsize,
    slots: AtomicUsize,
    record_bytes: AtomicUsize,
}

struct Shard {
    slots: Box<[AtomicU64]>,
    /// Only the writer looks at this.
    taken: AtomicUsize,
}

const SHARDS: usize = 64;
const FIRST_SLOTS: usize = 16;

/// Where the search for a digest ended.
enum Place<'s, 'g> {
    Taken(&'s AtomicU64, Record<'g>),
    Empty(&'s AtomicU64),
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            shards: std::array::from_fn(|_| Atomic::new(Shard::new(FIRST_SLOTS))),
            records: AtomicUsize::new(0),
            slots: AtomicUsize::new(SHARDS * FIRST_SLOTS),
            record_bytes: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn find<'g>(&self, digest: Words, guard: &'g Guard) -> Option<Record<'g>> {
        match self.shard(digest, guard).place(digest) {
            Place::Taken(_, record) => Some(record),
            Place::Empty(_) => None,
        }
    }

    /// Asks for the memory of the slots where a search for the digest begins.
    pub(super) fn prefetch(&self, digest: Words, guard: &Guard) {
        let shard = self.shard(digest, guard);
        super::sightings::fetch(&shard.slots[shard.home(digest)]);
    }

    /// Asks for the memory of the record that the first slot of a search for the digest may stand for.
    pub(super) fn prefetch_record(&self, digest: Words, guard: &Guard) {
        let shard = self.shard(digest, guard);
        let slots = shard.slots[shard.home(digest)..].iter().map(|slot| slot.load(Ordering::Acquire));
        if let Some(slot) = slots.take_while(|slot| *slot != 0).find(|slot| slot >> ADDRESS_BITS == tag(digest)) {
            // SAFETY: it stands in the table, so it is not freed before the guard is dropped.
            unsafe { record(slot, guard) }.prefetch();
        }
    }

    /// All records, in no order.
    pub(super) fn records<'g>(&self, guard: &'g Guard) -> impl Iterator<Item = Record<'g>> {
        let shards = (0..SHARDS as u64).map(move |number| self.shard([number << 58, 0], guard));
        let slots = shards.flat_map(|shard| shard.slots.iter()).map(|slot| slot.load(Ordering::Acquire));
        // SAFETY: each stands in the table, so it is not freed before the guard is dropped.
        slots.filter(|slot| *slot != 0).map(move |slot| unsafe { record(slot, guard) })
    }

    /// Makes room for so many records in all. Only one thread at a time calls this.
    pub(super) fn reserve(&self, records: usize, guard: &Guard) {
        // Digests are spread evenly; a shard that gets more than its part grows.
        let slots = (records / SHARDS * 3 / 2).next_power_of_two();
        for number in 0..SHARDS as u64 {
            let digest = [number << 58, 0];
            while self.shard(digest, guard).slots.len() < slots {
                self.grow_to(digest, slots, guard);
            }
        }
    }

    /// Puts the record in. If there is one with its digest, that one gives place to it and is returned: readers may still have it. Only one
    /// thread at a time calls this.
    pub(super) fn put<'g>(&self, record: Record<'static>, guard: &'g Guard) -> Option<Record<'g>> {
        let digest = record.digest();
        self.record_bytes.fetch_add(record.bytes(), Ordering::Relaxed);
        let mut shard = self.shard(digest, guard);
        if let Place::Taken(slot, replaced) = shard.place(digest) {
            slot.store(entry(record), Ordering::Release);
            self.record_bytes.fetch_sub(replaced.bytes(), Ordering::Relaxed);
            return Some(replaced);
        }
        if shard.is_full() {
            shard = self.grow(digest, guard);
        }
        if let Place::Empty(slot) = shard.place(digest) {
            slot.store(entry(record), Ordering::Release);
        }
        shard.taken.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(1, Ordering::Relaxed);
        None
    }

    pub(super) fn len(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.load(Ordering::Relaxed) * size_of::<AtomicU64>() + self.record_bytes.load(Ordering::Relaxed)
    }

    #[inline]
    fn shard<'g>(&self, digest: Words, guard: &'g Guard) -> &'g Shard {
        let number = (digest[0] >> 58) as usize;
        let shard = self.shards[number].load(Ordering::Acquire, guard);
        // SAFETY: a shard's pointer is never null, and one that was replaced is freed only after every guard of its time is dropped.
        unsafe { shard.deref() }
    }

    /// Replaces the digest's shard by one of twice as many slots. Readers that are in the old one finish there.
    fn grow<'g>(&self, digest: Words, guard: &'g Guard) -> &'g Shard {
        self.grow_to(digest, self.shard(digest, guard).slots.len() * 2, guard)
    }

    fn grow_to<'g>(&self, digest: Words, slots: usize, guard: &'g Guard) -> &'g Shard {
        let old = self.shard(digest, guard);
        let grown = Shard::new(slots);
        for slot in old.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|slot| *slot != 0) {
            // SAFETY: it stands in the table, so it is not freed before this guard is dropped.
            let record = unsafe { record(slot, guard) };
            if let Place::Empty(place) = grown.place(record.digest()) {
                place.store(slot, Ordering::Relaxed);
            }
        }
        grown.taken.store(old.taken.load(Ordering::Relaxed), Ordering::Relaxed);
        self.slots.fetch_add(grown.slots.len() - old.slots.len(), Ordering::Relaxed);
        let number = (digest[0] >> 58) as usize;
        let replaced = self.shards[number].swap(Owned::new(grown), Ordering::AcqRel, guard);
        // SAFETY: no reader that pins from now on can reach the replaced shard.
        unsafe { guard.defer_destroy(replaced) };
        guard.flush();
        self.shard(digest, guard)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            // SAFETY: `&mut self` proves that no reader is left.
            let shard = unsafe { std::mem::take(shard).into_owned() };
            for slot in shard.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|slot| *slot != 0) {
                // SAFETY: likewise; and a record stands in one slot of one shard that is in use.
                unsafe { Record::at(address(slot)).free() };
            }
        }
    }
}

impl Shard {
    fn new(slots: usize) -> Shard {
        Shard { slots: (0..slots).map(|_| AtomicU64::new(0)).collect(), taken: AtomicUsize::new(0) }
    }

    /// At most three quarters are taken: with linear probing a hit then looks at 2.5 slots on average, a miss at 8.5 (Knuth, volume 3, 6.4), and 8
    /// are in a cache line.
    fn is_full(&self) -> bool {
        (self.taken.load(Ordering::Relaxed) + 1) * 4 > self.slots.len() * 3
    }

    #[inline]
    fn home(&self, digest: Words) -> usize {
        ((u128::from(digest[1]) * self.slots.len() as u128) >> 64) as usize
    }

    #[inline]
    fn place<'g>(&'g self, digest: Words) -> Place<'g, 'g> {
        let slots = self.slots.len();
        let mut at = self.home(digest);
        loop {
            let slot = &self.slots[at];
            let there = slot.load(Ordering::Acquire);
            if there == 0 {
                return Place::Empty(slot);
            }
            if there >> ADDRESS_BITS == tag(digest) {
                // SAFETY: who has a shard is pinned, and a record is not freed while anyone is who could have read its slot.
                let record = unsafe { Record::at(address(there)) };
                if same(record.digest(), digest) {
                    return Place::Taken(slot, record);
                }
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

fn tag(digest: Words) -> u64 {
    digest[0] & 0xffff
}

/// What stands in the slot of a record.
fn entry(record: Record<'_>) -> u64 {
    tag(record.digest()) << ADDRESS_BITS | record.address()
}

fn address(entry: u64) -> u64 {
    entry & ((1 << ADDRESS_BITS) - 1)
}

/// # Safety
/// The entry stood in the table while the guard was pinned.
unsafe fn record(entry: u64, _guard: &Guard) -> Record<'_> {
    // SAFETY: a record is freed only after every guard of the time of its replacement is dropped.
    unsafe { Record::at(address(entry)) }
}
