use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use ahash::AHashMap;
use crossbeam_epoch::Guard;
use parking_lot::Mutex;

/// Keeps equal values once and gives each a number, which a reader resolves without a lock.
///
/// A value that no slot holds any more is freed, and its number given to another, once every reader that could have seen the number has let go.
pub(super) struct Interner<T> {
    segments: Box<[AtomicPtr<Segment<T>>]>,
    state: Mutex<State<T>>,
    free: Arc<Mutex<Vec<u32>>>,
}

type Segment<T> = [AtomicPtr<T>; SEGMENT];

struct State<T> {
    numbers: AHashMap<Arc<T>, u32>,
    holders: Vec<u32>,
}

const SEGMENT: usize = 4_096;
/// Enough for 268 million values.
const SEGMENTS: usize = 65_536;

impl<T: Eq + Hash + Send + Sync + 'static> Interner<T> {
    pub(super) fn new() -> Interner<T> {
        Interner {
            segments: (0..SEGMENTS).map(|_| AtomicPtr::default()).collect(),
            state: Mutex::new(State { numbers: AHashMap::new(), holders: Vec::new() }),
            free: Arc::default(),
        }
    }

    /// The value of a number that a slot held while `guard` was pinned.
    pub(super) fn get<'g>(&self, number: u32, _guard: &'g Guard) -> &'g T {
        let number = number as usize;
        let segment = self.segments[number / SEGMENT].load(Ordering::Acquire);
        // SAFETY: a slot only ever shows numbers whose segment and value were stored before it, and neither is freed while the guard that
        // was pinned before the slot was read lives: `release` defers it.
        unsafe { &*(&*segment)[number % SEGMENT].load(Ordering::Acquire) }
    }

    /// The number of a value, held once for the caller, who releases it.
    pub(super) fn intern(&self, value: T, _guard: &Guard) -> u32 {
        let state = &mut *self.state.lock();
        if let Some(&number) = state.numbers.get(&value) {
            state.holders[number as usize] += 1;
            return number;
        }
        let reused = self.free.lock().pop();
        let number = reused.unwrap_or_else(|| {
            state.holders.push(0);
            (state.holders.len() - 1) as u32
        });
        let value = Arc::new(value);
        self.place(number).store(Arc::as_ptr(&value).cast_mut(), Ordering::Release);
        state.numbers.insert(value, number);
        state.holders[number as usize] = 1;
        number
    }

    /// Holds a number once more.
    pub(super) fn hold(&self, number: u32) {
        self.state.lock().holders[number as usize] += 1;
    }

    /// Lets go of a number; the last to do so frees it.
    pub(super) fn release(&self, number: u32, guard: &Guard) {
        let state = &mut *self.state.lock();
        let holders = &mut state.holders[number as usize];
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        let value = self.get(number, guard);
        let Some((value, _)) = state.numbers.remove_entry(value) else { return };
        let free = Arc::clone(&self.free);
        guard.defer(move || {
            drop(value);
            free.lock().push(number);
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().numbers.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let state = self.state.lock();
        let per_value = size_of::<T>() + 2 * size_of::<usize>() + size_of::<(Arc<T>, u32)>() + size_of::<usize>() + size_of::<u32>();
        state.holders.len() * per_value
    }

    fn place(&self, number: u32) -> &AtomicPtr<T> {
        let number = number as usize;
        let segment = &self.segments[number / SEGMENT];
        if segment.load(Ordering::Relaxed).is_null() {
            let fresh: Box<Segment<T>> = Box::new(std::array::from_fn(|_| AtomicPtr::default()));
            segment.store(Box::into_raw(fresh), Ordering::Release);
        }
        // SAFETY: segments are only freed by `drop`.
        unsafe { &(&*segment.load(Ordering::Relaxed))[number % SEGMENT] }
    }
}

impl<T> Drop for Interner<T> {
    fn drop(&mut self) {
        for segment in self.segments.iter().map(|segment| segment.load(Ordering::Relaxed)).filter(|segment| !segment.is_null()) {
            // SAFETY: made by `Box::into_raw` in `place`, and `&mut self` proves that no reader is left.
            drop(unsafe { Box::from_raw(segment) });
        }
    }
}
