//! What the memory can do: reads of which each needs what the one before found.

use std::cell::Cell;
use std::hint::black_box;

use doorward::bench::population::Draw;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// So many pieces of a cache line, each of which says where to go on, in one random cycle through all.
pub(crate) struct Chase {
    map: *mut Line,
    lines: usize,
    next: Cell<u64>,
}

#[repr(align(64))]
struct Line(u64);

impl Chase {
    pub(crate) fn new(lines: usize, huge_pages: bool) -> Chase {
        let bytes = lines * size_of::<Line>();
        let advice = if huge_pages { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: a new mapping, and advice about it.
        let map: *mut Line = unsafe {
            let map = mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).expect("memory");
            madvise(map, bytes, advice).expect("advice that the kernel takes");
            map.cast()
        };
        // SAFETY: the mapping has so many lines, all zero.
        let order = unsafe { std::slice::from_raw_parts_mut(map, lines) };
        order.iter_mut().enumerate().for_each(|(at, line)| line.0 = at as u64);
        // One cycle through all (Sattolo, 'An algorithm to generate a random cyclic permutation', 1986).
        let mut draw = Draw::new(11);
        for at in (1..lines).rev() {
            let other = draw.below(at as u64) as usize;
            (order[at].0, order[other].0) = (order[other].0, order[at].0);
        }
        Chase { map, lines, next: Cell::new(0) }
    }

    /// Goes on by so many reads.
    pub(crate) fn walk(&self, reads: usize) {
        // SAFETY: the mapping has so many lines, and is no longer written to.
        let lines = unsafe { std::slice::from_raw_parts(self.map, self.lines) };
        let mut at = self.next.get();
        for _ in 0..reads {
            at = lines[at as usize].0;
        }
        self.next.set(black_box(at));
    }
}

impl Drop for Chase {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nobody else has it.
        let _ = unsafe { munmap(self.map.cast(), self.lines * size_of::<Line>()) };
    }
}
