use std::sync::atomic::Ordering;

use ahash::AHashMap;
use crossbeam_epoch::{Atomic, Guard, Owned};

use crate::key::{Called, Function, FunctionId};

/// The catalog as the verify path sees it: replaced as a whole, since it is small and seldom changes.
pub(super) struct Functions(Atomic<AHashMap<Box<str>, (FunctionId, bool)>>);

impl Functions {
    pub(super) fn new() -> Functions {
        Functions(Atomic::new(AHashMap::new()))
    }

    pub(super) fn called<'n>(&self, name: &'n str, guard: &Guard) -> Called<'n> {
        let map = self.0.load(Ordering::Acquire, guard);
        // SAFETY: never null, and freed only after every guard of its time is dropped.
        match unsafe { map.deref() }.get(name) {
            Some(&(id, restricted)) => Called { name, id: Some(id), restricted },
            None => Called { name, id: None, restricted: false },
        }
    }

    pub(super) fn replace(&self, functions: &[Function]) {
        let map: AHashMap<Box<str>, _> = functions.iter().map(|f| (f.name.as_str().into(), (f.id, f.restricted))).collect();
        let guard = crossbeam_epoch::pin();
        let replaced = self.0.swap(Owned::new(map), Ordering::AcqRel, &guard);
        // SAFETY: no reader that pins from now on can reach the replaced map.
        unsafe { guard.defer_destroy(replaced) };
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        // SAFETY: `&mut self` proves that no reader is left.
        drop(unsafe { std::mem::take(&mut self.0).try_into_owned() });
    }
}
