use std::collections::hash_map::Entry as Slot;

use ahash::AHashMap;

use crate::key::history::{Action, Actor, FieldChange, Subject};
use crate::key::{Function, FunctionName, Instant, Key, KeyId};
use crate::store::Remembered;

/// Changes that are made but not yet durable: what a later change of the same write already sees.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) keys: AHashMap<KeyId, DraftKey>,
    /// By `draft_name`: who has the name now, if anyone.
    pub(super) names: AHashMap<String, Option<KeyId>>,
    pub(super) digests: AHashMap<[u8; 32], KeyId>,
    pub(super) functions: AHashMap<FunctionName, DraftFunction>,
    pub(super) requests: AHashMap<String, Remembered>,
    pub(super) entries: Vec<DraftEntry>,
}

/// A key with what the store has of it.
pub(super) struct DraftKey {
    pub(super) stored: Option<Key>,
    pub(super) now: Key,
}

/// A function that is or was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftFunction {
    pub(super) function: Function,
    pub(super) removed_at: Option<Instant>,
}

/// An entry that has no sequence yet.
pub(super) struct DraftEntry {
    pub(super) at: Instant,
    pub(super) actor: Actor,
    pub(super) action: Action,
    pub(super) subject: Subject,
    pub(super) changes: Vec<FieldChange>,
}

/// An account and a name as one text: neither holds a control character, so a zero separates them.
pub(super) fn draft_name(account: &str, name: &str) -> String {
    [account, "\0", name].concat()
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.functions.is_empty() && self.requests.is_empty() && self.entries.is_empty()
    }

    /// Takes over what one whole change drafted.
    pub(super) fn absorb(&mut self, step: Draft) {
        for (id, drafted) in step.keys {
            match self.keys.entry(id) {
                Slot::Occupied(mut known) => known.get_mut().now = drafted.now,
                Slot::Vacant(free) => {
                    free.insert(drafted);
                }
            }
        }
        self.names.extend(step.names);
        self.digests.extend(step.digests);
        self.functions.extend(step.functions);
        self.requests.extend(step.requests);
        self.entries.extend(step.entries);
    }
}
