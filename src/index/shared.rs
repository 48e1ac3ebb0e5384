use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::AHashSet;
use crossbeam_epoch::Guard;

use super::record::short;
use crate::key::Rules;

/// Rules in memory once, for however many records have the same.
#[derive(Clone, Copy)]
pub(super) struct SharedRules<'g> {
    block: NonNull<Block>,
    read_under: PhantomData<&'g ()>,
}

/// Before the bytes of the rules.
#[repr(C)]
struct Block {
    /// Records that have them. Only the publisher counts.
    users: AtomicU32,
    bytes: u32,
}

impl Block {
    /// Of the bytes behind it.
    fn len(&self) -> usize {
        self.bytes as usize
    }
}

/// All rules that records have, to be found by what they say. Only the publisher uses it.
pub(super) struct Pool {
    rules: AHashSet<SharedRules<'static>>,
    bytes: usize,
}

// SAFETY: the blocks belong to the pool; what it hands out is only read, but for the count, which the publisher alone changes.
unsafe impl Send for Pool {}

impl<'g> SharedRules<'g> {
    /// The rules at an address.
    ///
    /// # Safety
    /// [`SharedRules::address`] gave the address, and the rules are not freed while `'g` lasts.
    pub(super) unsafe fn at(address: u64) -> SharedRules<'g> {
        // SAFETY: an address of a block is not null.
        let block = unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address as usize)) };
        SharedRules { block, read_under: PhantomData }
    }

    pub(super) fn address(self) -> u64 {
        short(self.block.as_ptr().expose_provenance())
    }

    pub(super) fn rules(self) -> &'g Rules {
        // SAFETY: `make` wrote the block and so many bytes behind it, and nobody changes them while `'g` lasts.
        let bytes = unsafe { std::slice::from_raw_parts(self.block.as_ptr().add(1).cast::<u8>(), self.block().len()) };
        Rules::from_bytes(bytes)
    }

    fn block(self) -> &'g Block {
        // SAFETY: `make` wrote it, and nobody changes it while `'g` lasts, but for its one atomic.
        unsafe { self.block.as_ref() }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(size_of::<Block>() + bytes, align_of::<Block>()).expect("rules within their limits")
    }

    fn make(rules: &Rules) -> SharedRules<'static> {
        let bytes = rules.bytes();
        let layout = Self::layout(bytes.len());
        // SAFETY: the layout is not empty, and all of it is written: the block, then the bytes.
        unsafe {
            let Some(place) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            let block: NonNull<Block> = place.cast();
            block.write(Block { users: AtomicU32::new(0), bytes: bytes.len() as u32 });
            block.add(1).cast::<u8>().copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            SharedRules { block, read_under: PhantomData }
        }
    }

    /// # Safety
    /// Nobody reads the rules any more, and they are freed once.
    unsafe fn free(self) {
        let layout = Self::layout(self.block().len());
        // SAFETY: `make` allocated it by this layout.
        unsafe { dealloc(self.block.as_ptr().cast(), layout) }
    }
}

impl Pool {
    pub(super) fn new() -> Pool {
        Pool { rules: AHashSet::new(), bytes: 0 }
    }

    /// The rules for one more record.
    pub(super) fn take(&mut self, rules: &Rules) -> SharedRules<'static> {
        let shared = match self.rules.get(rules) {
            Some(shared) => *shared,
            None => {
                let made = SharedRules::make(rules);
                self.bytes += SharedRules::layout(rules.bytes().len()).size();
                self.rules.insert(made);
                made
            }
        };
        shared.block().users.fetch_add(1, Ordering::Relaxed);
        shared
    }

    /// A record lets go of its rules; they are freed after the last one's, once nobody reads them.
    pub(super) fn let_go(&mut self, shared: SharedRules<'_>, guard: &Guard) {
        if shared.block().users.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        self.rules.remove(shared.rules());
        self.bytes -= SharedRules::layout(shared.rules().bytes().len()).size();
        let address = shared.address();
        // SAFETY: no record has them any more that a reader that pins from now on can reach, and only here are they let go.
        unsafe { guard.defer_unchecked(move || SharedRules::at(address).free()) };
    }

    /// Bytes of memory, with the table that finds them (a pointer and a byte for each place, as `hashbrown` lays it out).
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.rules.capacity() * 8 / 7 * (size_of::<SharedRules<'_>>() + 1)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for shared in self.rules.drain() {
            // SAFETY: the pool goes together with the index, so no reader is left.
            unsafe { shared.free() };
        }
    }
}

impl Borrow<Rules> for SharedRules<'_> {
    fn borrow(&self) -> &Rules {
        self.rules()
    }
}

impl Hash for SharedRules<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rules().hash(state);
    }
}

impl PartialEq for SharedRules<'_> {
    fn eq(&self, other: &SharedRules<'_>) -> bool {
        self.rules() == other.rules()
    }
}

impl Eq for SharedRules<'_> {}
