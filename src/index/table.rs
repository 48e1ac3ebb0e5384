use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned};

use super::slot::{Fields, Slot, words};

/// An open-addressed table in shards that grow one by one, so that growing needs little memory beside and stops the writer only briefly.
///
/// Nothing is ever removed: a deleted key's secrets stay, to be refused by name. So there are no tombstones, and a probe ends at the first empty slot.
pub(super) struct Table {
    shards: [Atomic<Shard>; SHARDS],
    len: AtomicUsize,
    capacity: AtomicUsize,
}

struct Shard {
    slots: Box<[Slot]>,
    /// Only the writer looks at this.
    taken: AtomicUsize,
}

const SHARDS: usize = 64;
const FIRST_SLOTS: usize = 16;

/// Where the search for a digest ended.
enum Place<'s> {
    Taken(&'s Slot),
    Empty(&'s Slot),
}

impl Table {
    pub(super) fn new() -> Table {
        let shards = std::array::from_fn(|_| Atomic::new(Shard::new(FIRST_SLOTS)));
        Table { shards, len: AtomicUsize::new(0), capacity: AtomicUsize::new(SHARDS * FIRST_SLOTS) }
    }

    pub(super) fn find(&self, digest: &[u8; 32], guard: &Guard) -> Option<Fields> {
        let digest = words(digest);
        match self.shard(digest, guard).place(digest) {
            Place::Taken(slot) => Some(slot.read()),
            Place::Empty(_) => None,
        }
    }

    /// Inserts or changes a secret and returns what it replaced. Only one thread at a time calls this.
    pub(super) fn put(&self, digest: &[u8; 32], fields: &Fields, guard: &Guard) -> Option<Fields> {
        let digest = words(digest);
        let shard = self.shard(digest, guard);
        if let Place::Taken(slot) = shard.place(digest) {
            let replaced = slot.read();
            slot.write(fields);
            return Some(replaced);
        }
        let shard = if shard.is_full() { self.grow(digest, guard) } else { shard };
        if let Place::Empty(slot) = shard.place(digest) {
            slot.take(digest, fields);
        }
        shard.taken.fetch_add(1, Ordering::Relaxed);
        self.len.fetch_add(1, Ordering::Relaxed);
        None
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) * size_of::<Slot>()
    }

    fn shard<'g>(&self, digest: [u64; 2], guard: &'g Guard) -> &'g Shard {
        let number = (digest[0] >> 58) as usize;
        let shard = self.shards[number].load(Ordering::Acquire, guard);
        // SAFETY: a shard's pointer is never null, and one that was replaced is freed only after every guard of its time is dropped.
        unsafe { shard.deref() }
    }

    /// Replaces the digest's shard by a larger copy. Readers that are in the old one finish there.
    fn grow<'g>(&self, digest: [u64; 2], guard: &'g Guard) -> &'g Shard {
        let old = self.shard(digest, guard);
        let grown = Shard::new(old.slots.len() + old.slots.len() / 2);
        for slot in old.slots.iter().filter(|slot| slot.digest()[0] != 0) {
            if let Place::Empty(place) = grown.place(slot.digest()) {
                place.take(slot.digest(), &slot.read());
            }
        }
        grown.taken.store(old.taken.load(Ordering::Relaxed), Ordering::Relaxed);
        self.capacity.fetch_add(grown.slots.len() - old.slots.len(), Ordering::Relaxed);
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
            drop(unsafe { std::mem::take(shard).try_into_owned() });
        }
    }
}

impl Shard {
    fn new(slots: usize) -> Shard {
        Shard { slots: (0..slots).map(|_| Slot::default()).collect(), taken: AtomicUsize::new(0) }
    }

    /// At most four fifths are taken: with linear probing a hit then looks at 3 slots on average (Knuth, volume 3, 6.4), and they are neighbours.
    fn is_full(&self) -> bool {
        (self.taken.load(Ordering::Relaxed) + 1) * 5 > self.slots.len() * 4
    }

    fn place(&self, digest: [u64; 2]) -> Place<'_> {
        let slots = self.slots.len();
        let mut at = ((u128::from(digest[1]) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            let there = slot.digest();
            if there == digest {
                return Place::Taken(slot);
            }
            if there[0] == 0 {
                return Place::Empty(slot);
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}
