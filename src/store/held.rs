use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Store;
use crate::key::{Key, KeyId};

/// Keys that are read otherwise than the files have them, until the store is opened again: what was asked of them took effect, but the disk refused it.
#[derive(Default)]
pub(super) struct Held(Mutex<Arc<HeldKeys>>);

/// They as they were at a moment.
pub(super) type HeldKeys = BTreeMap<KeyId, Arc<Key>>;

impl Held {
    pub(super) fn now(&self) -> Arc<HeldKeys> {
        self.0.lock().clone()
    }
}

impl Store {
    /// From now on these keys are read so, with the same account and name as the files have; nothing is written.
    pub fn hold(&self, keys: impl IntoIterator<Item = Arc<Key>>) {
        let mut held = self.0.held.0.lock();
        Arc::make_mut(&mut held).extend(keys.into_iter().map(|key| (key.id, key)));
    }

    /// How many keys are held so.
    pub fn held(&self) -> usize {
        self.0.held.0.lock().len()
    }

    /// Whether this one is.
    pub fn holds(&self, id: KeyId) -> bool {
        self.0.held.0.lock().contains_key(&id)
    }
}
