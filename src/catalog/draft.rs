use std::collections::hash_map::Entry as Slot;
use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;

use crate::key::history::{Action, FieldChange, Subject};
use crate::key::{Function, FunctionName, Instant, Key, KeyId};
use crate::store::{PutKey, Remembered};

/// Changes that are made but not yet durable: what a later change of the same write already sees.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) keys: AHashMap<KeyId, DraftKey>,
    /// By `draft_name`: who has the name now, if anyone.
    pub(super) names: AHashMap<String, Option<KeyId>>,
    /// By what the index finds a secret by.
    pub(super) digests: AHashMap<[u64; 2], KeyId>,
    pub(super) functions: AHashMap<FunctionName, DraftFunction>,
    pub(super) requests: AHashMap<String, Remembered>,
    pub(super) entries: Vec<DraftEntry>,
}

/// A key with what the store has of it.
pub(super) struct DraftKey {
    pub(super) stored: Option<Key>,
    pub(super) now: Arc<Key>,
    /// The record of `now`, if it was made ahead.
    pub(super) record: Option<Piece>,
}

impl DraftKey {
    pub(super) fn put(&self) -> PutKey<'_> {
        PutKey { before: self.stored.as_ref(), after: &self.now, record: self.record.as_ref().map(Piece::bytes) }
    }
}

/// Some of the bytes that were encoded for a whole batch.
#[derive(Clone)]
pub(super) struct Piece {
    all: Arc<Vec<u8>>,
    range: Range<usize>,
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
    pub(super) action: Action,
    pub(super) subject: Subject,
    /// For changes that come later in the same write; empty of an import, of which none asks.
    pub(super) changes: Vec<FieldChange>,
    /// What of its record does not depend on its sequence.
    pub(super) body: Piece,
}

/// An account and a name as one text: neither holds a control character, so a zero separates them.
pub(super) fn draft_name(account: &str, name: &str) -> String {
    [account, "\0", name].concat()
}

impl Piece {
    pub(super) fn new(all: &Arc<Vec<u8>>, range: Range<usize>) -> Piece {
        Piece { all: all.clone(), range }
    }

    pub(super) fn whole(bytes: Vec<u8>) -> Piece {
        Piece { range: 0..bytes.len(), all: Arc::new(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.all[self.range.clone()]
    }
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.functions.is_empty() && self.requests.is_empty() && self.entries.is_empty()
    }

    /// Takes over what one whole change drafted.
    pub(super) fn absorb(&mut self, step: Draft) {
        if self.is_empty() {
            *self = step;
            return;
        }
        self.keys.reserve(step.keys.len());
        for (id, drafted) in step.keys {
            match self.keys.entry(id) {
                Slot::Occupied(mut known) => {
                    let known = known.get_mut();
                    (known.now, known.record) = (drafted.now, drafted.record);
                }
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
