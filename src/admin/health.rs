//! What is wrong, if anything: for `status`, and for `/metrics`.

use super::AdminState;
use super::wire::FlushStatus;
use crate::store::Store;

/// A problem, by what has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) with: With,
    /// For people.
    pub(super) sentence: String,
}

/// What a problem is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// The configuration: something of it, or the country database, does not hold.
    Configuration,
    /// Changes are refused.
    Changes,
    /// The wall clock is behind.
    Clock,
    /// RocksDB met with errors.
    Store,
    /// Usage is not written.
    Flush,
    /// Verifies were not counted.
    Counters,
}

impl With {
    pub(super) const ALL: [With; 6] = [With::Configuration, With::Changes, With::Clock, With::Store, With::Flush, With::Counters];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            With::Configuration => "configuration",
            With::Changes => "changes",
            With::Clock => "clock",
            With::Store => "store",
            With::Flush => "flush",
            With::Counters => "counters",
        }
    }
}

/// What the store met with since it was opened.
pub(super) struct StoreFailures {
    in_background: u64,
    of_reads: u64,
    /// Keys that stand otherwise than the files have them.
    pub(super) held: u64,
}

impl StoreFailures {
    pub(super) fn of(store: &Store) -> StoreFailures {
        StoreFailures { in_background: store.background_errors(), of_reads: store.failed_reads(), held: store.held() as u64 }
    }
}

/// Everything that is wrong.
pub(super) fn troubles(state: &AdminState, flush: &FlushStatus, store: &StoreFailures) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> =
        (state.troubles)().into_iter().map(|sentence| Trouble { with: With::Configuration, sentence }).collect();
    let mut add = |with, sentence: Option<String>| troubles.extend(sentence.map(|sentence| Trouble { with, sentence }));
    add(With::Changes, state.catalog.refusing().map(|reason| format!("changes are refused until a restart: {reason}")));
    add(With::Clock, state.clock.warning());
    let held = (store.held > 0).then(|| {
        format!(
            "{} keys are revoked, disabled or deleted in memory only, and the log says which: ask for it again after the restart",
            store.held
        )
    });
    add(With::Changes, held);
    let errors = (store.in_background > 0).then(|| {
        format!("RocksDB met with {} errors in the background: look at the disk and at LOG in the store's directory", store.in_background)
    });
    add(With::Store, errors);
    let reads = (store.of_reads > 0).then(|| format!("{} reads of the store failed: look at the disk", store.of_reads));
    add(With::Store, reads);
    let failing = flush.failing.as_ref();
    add(With::Flush, failing.map(|reason| format!("the last flush of usage failed; its counts are kept: {reason}")));
    let lost = (flush.lost > 0).then(|| format!("{} verifies found no room in the counters and were not counted", flush.lost));
    add(With::Counters, lost);
    troubles
}
