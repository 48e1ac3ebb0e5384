//! An allocator that wipes what is given back, so that no token stays in memory that nobody uses any more: HTTP bodies, JSON texts, buffers of sockets and
//! pipes, whoever's code they belong to.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

/// Larger pieces are not wiped: the index and the tables of the counters, which hold digests and counts. No buffer that a token goes through is so large.
const LARGEST_WIPED: usize = 4 << 20;

/// That allocator, over another one.
pub struct Wiping<A>(
    /// Where memory comes from.
    pub A,
);

/// Overwrites a piece that is about to be given back.
///
/// # Safety
/// `memory` is valid for writes of `bytes` bytes.
unsafe fn wipe(memory: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_bytes(memory, 0, bytes) };
    // What follows is given the pointer, in another crate: so the writes are not left out as useless.
    compiler_fence(Ordering::SeqCst);
}

// SAFETY: all memory is the inner allocator's, asked for and given back with the same layouts.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the inner allocator's.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory is the caller's until it is given back.
        unsafe {
            if layout.size() <= LARGEST_WIPED {
                wipe(memory, layout.size());
            }
            self.0.dealloc(memory, layout);
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if layout.size() > LARGEST_WIPED {
            // SAFETY: the caller's promise is the inner allocator's.
            return unsafe { self.0.realloc(memory, layout, bytes) };
        }
        // The inner allocator would leave a copy behind where it moves a piece.
        // SAFETY: the caller promises that `bytes` fits this alignment; old and new are different pieces, and what is copied fits both.
        unsafe {
            let new = self.0.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(memory, new, layout.size().min(bytes));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// What was in pieces when they came back.
        static RETURNED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }

    /// Looks at what it is given back.
    struct Looking;

    // SAFETY: all is the system allocator's.
    unsafe impl GlobalAlloc for Looking {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: the piece is valid until it is given back.
            unsafe {
                let bytes = std::slice::from_raw_parts(memory, layout.size()).to_vec();
                RETURNED.with_borrow_mut(|returned| returned.push(bytes));
                System.dealloc(memory, layout);
            }
        }
    }

    #[test]
    fn what_is_given_back_or_moved_is_wiped_and_what_is_kept_is_not() {
        let allocator = Wiping(Looking);
        let layout = Layout::from_size_align(8, 1).unwrap();
        // SAFETY: pieces of this allocator, within their sizes.
        unsafe {
            let first = allocator.alloc(layout);
            ptr::copy_nonoverlapping(b"a secret".as_ptr(), first, 8);
            let grown = allocator.realloc(first, layout, 100);
            assert_eq!(std::slice::from_raw_parts(grown, 8), b"a secret");
            let shrunk = allocator.realloc(grown, Layout::from_size_align(100, 1).unwrap(), 4);
            assert_eq!(std::slice::from_raw_parts(shrunk, 4), b"a se");
            allocator.dealloc(shrunk, Layout::from_size_align(4, 1).unwrap());
        }
        let returned = RETURNED.take();
        assert_eq!(returned.iter().map(Vec::len).collect::<Vec<_>>(), [8, 100, 4]);
        assert!(returned[0] == [0; 8] && returned[1][..8] == [0; 8] && returned[2] == [0; 4], "{returned:?}");
    }
}
