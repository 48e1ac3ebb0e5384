use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Store;
use crate::key::{Instant, Key, KeyId, Shut};

/// Keys that are read otherwise than the files have them, until the store is opened again: what was asked of them took effect, but the disk refused it.
#[derive(Default)]
pub(super) struct Held(Mutex<Arc<HeldKeys>>);

/// They as they were at a moment.
#[derive(Default, Clone)]
pub(super) struct HeldKeys {
    whole: BTreeMap<KeyId, Arc<Key>>,
    /// Shut while they could not be read.
    unread: BTreeMap<KeyId, Vec<Shut>>,
}

impl Held {
    pub(super) fn now(&self) -> Arc<HeldKeys> {
        self.0.lock().clone()
    }
}

impl HeldKeys {
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.unread.is_empty()
    }

    /// The key, if all of it is held.
    pub(super) fn whole(&self, id: KeyId) -> Option<Key> {
        self.whole.get(&id).map(|key| Key::clone(key))
    }

    /// What becomes of a key that the files have.
    pub(super) fn over(&self, mut key: Key) -> Key {
        if let Some(whole) = self.whole(key.id) {
            return whole;
        }
        self.unread.get(&key.id).into_iter().flatten().for_each(|shut| shut.key(&mut key));
        key
    }

    /// When the key was deleted, if that is held.
    pub(super) fn deleted_at(&self, id: KeyId) -> Option<Instant> {
        let whole = self.whole.get(&id).and_then(|key| key.deleted_at);
        let unread = self.unread.get(&id).into_iter().flatten().find_map(|shut| match shut {
            Shut::Deleted(at) => Some(*at),
            _ => None,
        });
        whole.or(unread)
    }
}

impl Store {
    /// From now on these keys are read so, with the same account and name as the files have; nothing is written.
    pub fn hold(&self, keys: impl IntoIterator<Item = Arc<Key>>) {
        let mut held = self.0.held.0.lock();
        Arc::make_mut(&mut held).whole.extend(keys.into_iter().map(|key| (key.id, key)));
    }

    /// The same of a key that cannot be read: once it can, it is read as shut.
    pub fn hold_shut(&self, id: KeyId, shut: Shut) {
        let mut held = self.0.held.0.lock();
        Arc::make_mut(&mut held).unread.entry(id).or_default().push(shut);
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        let held = self.0.held.now();
        held.whole.keys().chain(held.unread.keys()).collect::<BTreeSet<_>>().len()
    }

    /// Whether this one is.
    pub fn holds(&self, id: KeyId) -> bool {
        self.holds_unread(id) || self.0.held.0.lock().whole.contains_key(&id)
    }

    /// Whether this one was shut while it could not be read.
    pub fn holds_unread(&self, id: KeyId) -> bool {
        self.0.held.0.lock().unread.contains_key(&id)
    }
}
