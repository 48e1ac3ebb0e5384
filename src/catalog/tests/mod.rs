//! The rules of every change, on a real store.

mod cancel;
mod check;
mod durability;
mod import;
mod lifecycle;
mod peppers;
mod rotation;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

use super::change::{Change, Made, Patch, Reply, Request, Selection, Target};
use super::{Catalog, CatalogError, CatalogOptions, ChangeError, Time};
use crate::digest::{Pepper, Peppers};
use crate::index::Index;
use crate::key::history::{Action, Actor, Entry};
use crate::key::{Instant, Key, KeyId, KeyRef, Settings, Span};
use crate::store::{Store, StoreOptions};

pub(super) const NOW: Instant = Instant(1_800_000_000_000);
pub(super) const DAY: Span = Span(86_400_000);

/// A catalog on a store in a directory of its own, with a clock that stands where it is put.
pub(super) struct House {
    pub(super) catalog: Catalog,
    pub(super) index: Arc<Index>,
    clock: Arc<AtomicI64>,
    pub(super) directory: TempDir,
}

pub(super) fn actor() -> Actor {
    Actor { uid: 1000, user: Some("ada".to_owned()), on_behalf_of: None }
}

pub(super) fn pepper(byte: u8) -> Pepper {
    Pepper::from_bytes([byte; 32])
}

pub(super) fn open(path: &Path, peppers: Peppers, clock: &Arc<AtomicI64>) -> Result<(Catalog, Arc<Index>), CatalogError> {
    let clock = clock.clone();
    open_with(path, peppers, move || Time::certain(Instant(clock.load(Ordering::Relaxed))))
}

pub(super) fn open_with(
    path: &Path,
    peppers: Peppers,
    time: impl Fn() -> Time + Send + Sync + 'static,
) -> Result<(Catalog, Arc<Index>), CatalogError> {
    let store = Store::open(path, StoreOptions::default())?;
    let index = Arc::new(Index::new());
    Ok((Catalog::open(store, index.clone(), peppers, time, CatalogOptions::default())?, index))
}

impl House {
    pub(super) fn new() -> House {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(NOW.0));
        let (catalog, index) = open(directory.path(), Peppers { current: pepper(1), previous: None }, &clock).unwrap();
        House { catalog, index, clock, directory }
    }

    /// Stops it, opens it again with these peppers, and tells what came of it.
    pub(super) fn try_reopen(self, peppers: Peppers) -> Result<House, (TempDir, Arc<AtomicI64>, CatalogError)> {
        let House { catalog, index, clock, directory } = self;
        drop((catalog, index));
        match open(directory.path(), peppers, &clock) {
            Ok((catalog, index)) => Ok(House { catalog, index, clock, directory }),
            Err(error) => Err((directory, clock, error)),
        }
    }

    pub(super) fn reopen(self) -> House {
        self.try_reopen(Peppers { current: pepper(1), previous: None }).map_err(|(_, _, error)| error).unwrap()
    }

    pub(super) fn now(&self) -> Instant {
        Instant(self.clock.load(Ordering::Relaxed))
    }

    pub(super) fn pass(&self, span: Span) {
        self.clock.fetch_add(span.0, Ordering::Relaxed);
    }

    pub(super) fn change(&self, change: Change) -> Result<Reply, ChangeError> {
        self.change_as(actor(), change)
    }

    pub(super) fn change_as(&self, actor: Actor, change: Change) -> Result<Reply, ChangeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.catalog.change(Request { actor, change }))
    }

    pub(super) fn made(&self, change: Change) -> Made {
        match self.change(change).unwrap() {
            Reply::Made(made) => made,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn changed(&self, change: Change) -> Key {
        match self.change(change).unwrap() {
            Reply::Changed(key) => key,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn changed_many(&self, change: Change) -> Vec<KeyId> {
        match self.change(change).unwrap() {
            Reply::ChangedMany(keys) => keys,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn create(&self, account: &str, name: &str) -> Made {
        self.made(create(Settings::new(account, name)))
    }

    pub(super) fn function(&self, name: &str) {
        self.change(Change::FunctionAdd { name: name.parse().unwrap(), restricted: false }).unwrap();
    }

    pub(super) fn stored(&self, id: KeyId) -> Key {
        self.catalog.store().key(id).unwrap().unwrap()
    }

    pub(super) fn history(&self, id: KeyId) -> Vec<Entry> {
        self.catalog.store().history(Some(id), None, 1000).unwrap()
    }

    pub(super) fn latest(&self, id: KeyId) -> Entry {
        self.history(id).remove(0)
    }

    /// How a verify would find the token's key: deleted, revoked, disabled, retired.
    pub(super) fn standing(&self, token: &[u8]) -> Option<(bool, bool, bool, Option<Instant>)> {
        let pin = self.index.pin();
        let found = self.index.find(&pepper(1).digest_token(token), &pin)?;
        let standing = found.standing;
        Some((standing.deleted, standing.revoked, standing.disabled, standing.retires_at))
    }

    pub(super) fn check_chain(&self) {
        let sequence = self.catalog.sequence();
        let report = self.catalog.verify_chain(1..=u64::MAX).unwrap();
        assert_eq!((report.verified, report.faults.len()), (sequence, 0), "{report:?}");
    }
}

pub(super) fn create(settings: Settings) -> Change {
    Change::Create { settings, request_id: None }
}

pub(super) fn of(id: KeyId) -> KeyRef {
    KeyRef::Id(id)
}

pub(super) fn one(id: KeyId) -> Target {
    Target::One { key: of(id), revision: None }
}

pub(super) fn edit(id: KeyId, patch: Patch) -> Change {
    Change::Edit { target: one(id), patch: Box::new(patch) }
}

pub(super) fn account(account: &str) -> Target {
    Target::Many(Selection { account: Some(account.to_owned()), tag: None })
}

pub(super) fn delete(id: KeyId) -> Change {
    Change::Delete { key: of(id), revision: None }
}

pub(super) fn rotate(id: KeyId, overlap: Span) -> Change {
    Change::Rotate { key: of(id), revision: None, overlap, request_id: None }
}

pub(super) fn fields(entry: &Entry) -> Vec<(&str, Option<&str>, Option<&str>)> {
    entry.changes.iter().map(|change| (change.field.as_str(), change.before.as_deref(), change.after.as_deref())).collect()
}

pub(super) fn actions(entries: &[Entry]) -> Vec<Action> {
    entries.iter().rev().map(|entry| entry.action).collect()
}
