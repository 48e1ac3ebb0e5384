//! The single writer: commits a change to the store, then publishes it to the index, then answers.
//!
//! Changes come from many askers and are made by one thread, each on top of those before it. All that wait while a write is being
//! synced go into the next, so that concurrent changes share a sync. What a change must obey is said in `docs/storage.md`.

mod chain;
pub mod change;
pub mod check;
mod difference;
mod draft;
mod emergency;
mod error;
mod import;
mod ledger;
mod load;
mod patch;
mod pepper;
mod prepare;
mod registry;
mod replay;
mod rotation;
mod settings;
mod step;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use chain::{ChainReport, verify_chain};
pub use error::{ChangeError, ChangeFault};
pub use ledger::Standings;

use chain::ChainKey;
use change::{Change, ImportTurn, ImportedKey, Reply, Request};
use draft::DraftFunction;
use ledger::Ledger;
use prepare::Preparer;
use registry::Registry;
use writer::{Job, Shared, Writer};

use crate::digest::{Pepper, Peppers};
use crate::index::Index;
use crate::key::history::{Action, Actor};
use crate::key::{Function, Instant, Key, KeyId, PepperId, Span, TokenError, check_prefix};
use crate::store::{Store, StoreError};

pub use crate::store::Head;

/// Changes that may wait for the writer; whoever comes then waits for room.
const WAITING_CHANGES: usize = 1024;

/// What of the catalog is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogOptions {
    /// What new tokens begin with.
    pub token_prefix: String,
    /// How long a deleted key can be undeleted.
    pub undelete: Span,
}

impl Default for CatalogOptions {
    fn default() -> CatalogOptions {
        CatalogOptions { token_prefix: "dw".to_owned(), undelete: Span(30 * 86_400_000) }
    }
}

/// Keys and functions, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that are not deleted.
    pub keys: u64,
    /// Of these, switched off.
    pub disabled: u64,
    /// Tombstones.
    pub deleted: u64,
    /// Registered functions.
    pub functions: u64,
    /// Of these, restricted.
    pub restricted: u64,
}

/// The catalog cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token prefix breaks its grammar.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store was written with another pepper.
    #[error(
        "the pepper given is {given}, but the store was written with {stored}: give the pepper that belongs to this store; to change \
         peppers, give the new one as the current and {stored} as the previous"
    )]
    WrongPepper {
        /// The one given as the current.
        given: PepperId,
        /// The one that the store needs.
        stored: PepperId,
    },
    /// The store has a history but no fingerprint of a pepper.
    #[error("the store has keys but does not say with which pepper they were made: it is damaged; restore a backup")]
    NoPepperMarks,
    /// Secrets need a pepper that was not given.
    #[error("{secrets} secrets that are still good need the pepper {pepper}, which was not given: give it as the previous pepper")]
    PepperNeeded {
        /// The pepper.
        pepper: PepperId,
        /// How many secrets.
        secrets: u64,
    },
    /// Two stored keys have the same token.
    #[error("{key} and {holder} have the same token: the store is damaged; restore a backup")]
    SharedToken {
        /// One of them.
        key: KeyId,
        /// The other.
        holder: KeyId,
    },
    /// The chain's head is not its last entry.
    #[error(
        "the history in {store} does not end as the store says (change {change}): the store is damaged; look at it with 'doorward check', and restore a backup",
        store = .0.display(),
        change = .1
    )]
    HeadAstray(std::path::PathBuf, u64),
    /// Keys or entries are older than the history's end, or missing.
    #[error(
        "keys and functions in {store} were changed {found} times, but the history ends at change {sequence}: the store is damaged; look at it with \
         'doorward check', and restore a backup",
        store = store.display()
    )]
    Astray {
        /// The store's directory.
        store: std::path::PathBuf,
        /// The revisions of all keys, and the entries of functions.
        found: u64,
        /// The end of the history.
        sequence: u64,
    },
    /// A thread ended early, or could not be started.
    #[error("a thread of the catalog could not do its work")]
    Panicked,
}

/// The time, as the catalog is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The present, by which changes are judged and dated.
    pub now: Instant,
    /// What has been reached for certain: behind `now` while that may be a mistake of the wall clock's. What is forgotten with time goes by it.
    pub floor: Instant,
}

impl Time {
    /// A present that is certain.
    pub fn certain(now: Instant) -> Time {
        Time { now, floor: now }
    }
}

/// The catalog of keys and functions.
pub struct Catalog {
    store: Store,
    index: Arc<Index>,
    peppers: Peppers,
    previous_pepper: Option<PepperId>,
    shared: Arc<Shared>,
    time: Arc<dyn Fn() -> Time + Send + Sync>,
    askers: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What will become of a change that was asked for.
pub struct Answer(oneshot::Receiver<Result<Reply, ChangeError>>);

impl Answer {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Catalog::change`].
    pub async fn wait(self) -> Result<Reply, ChangeError> {
        self.0.await.map_err(|_| ChangeError::Stopping)?
    }
}

impl Catalog {
    /// Checks that the peppers are the store's, publishes all functions and keys to the index, and starts the writer. `time` tells
    /// the time by which changes are judged and dated.
    ///
    /// # Errors
    /// The store cannot be read, is damaged, or needs a pepper that was not given.
    pub fn open(
        store: Store,
        index: Arc<Index>,
        peppers: Peppers,
        time: impl Fn() -> Time + Send + Sync + 'static,
        options: CatalogOptions,
    ) -> Result<Catalog, CatalogError> {
        check_prefix(&options.token_prefix)?;
        let marks = pepper::check(&store, &peppers)?;
        let head = checked_head(&store)?;
        let mut registry = Registry::default();
        for (function, removed_at) in store.functions_ever()? {
            registry.put(DraftFunction { function, removed_at });
        }
        let registered = registry.registered();
        index.publish_functions(&registered);
        let time: Arc<dyn Fn() -> Time + Send + Sync> = Arc::new(time);
        let started = time();
        let mut loaded = load::load(&store, &index, peppers.current.id(), started)?;
        loaded.counts.count_functions(&registered);
        check_history(&store, head, loaded.revisions)?;
        let marks = pepper::settle(&store, &peppers, marks, &loaded.needs)?;
        writer::forget_old_requests(&store, started.floor);
        let shared = Arc::new(Shared {
            options: Mutex::new(Arc::new(options)),
            counts: Mutex::new(loaded.counts),
            ledger: Mutex::new(Ledger::from(loaded.census)),
            changes: std::array::from_fn(|_| AtomicU64::new(0)),
            refusing: Mutex::new(None),
            sequence: AtomicU64::new(head.sequence),
        });
        let writer = Writer {
            store: store.clone(),
            index: Arc::clone(&index),
            chain: ChainKey::new(&peppers.current),
            peppers: peppers.clone(),
            registry,
            head,
            shared: shared.clone(),
            time: time.clone(),
            swept_at: started.floor,
        };
        let (askers, waiting) = mpsc::channel(WAITING_CHANGES);
        let thread = std::thread::Builder::new().name("catalog".to_owned()).spawn(move || writer.run(waiting));
        Ok(Catalog {
            store,
            index,
            peppers,
            previous_pepper: marks.previous.as_ref().map(pepper::id_of),
            shared,
            time,
            askers: Mutex::new(Some(askers)),
            writer: Mutex::new(Some(thread.map_err(|_| CatalogError::Panicked)?)),
        })
    }

    /// Makes a change. When it returns `Ok`, the change is durable, and every verify that begins now sees it.
    ///
    /// # Errors
    /// The change was not made; except `EffectiveNotDurable`, which says what it did, and `Stopping`, after which a change that was
    /// already on its way may have been made.
    pub async fn change(&self, request: Request) -> Result<Reply, ChangeError> {
        self.ask(request).await?.wait().await
    }

    /// Asks for a change without waiting for the answer. Changes are made in the order in which they are asked for.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn ask(&self, request: Request) -> Result<Answer, ChangeError> {
        let askers = self.askers.lock().clone().ok_or(ChangeError::Stopping)?;
        let (reply, answer) = oneshot::channel();
        askers.send(Job { request, reply }).await.map_err(|_| ChangeError::Stopping)?;
        Ok(Answer(answer))
    }

    /// Makes a batch of an import ready for the writer, on the caller's thread: what takes the time of an import is done here. A key that breaks a rule is
    /// refused when the request is made, after those before it were looked at.
    pub fn prepare_import(&self, actor: Actor, keys: Vec<ImportedKey>, turn: ImportTurn) -> Request {
        let options = self.shared.options.lock().clone();
        let preparer = Preparer { peppers: &self.peppers, token_prefix: &options.token_prefix, actor: &actor, time: (self.time)() };
        let batch = preparer.prepare(keys, turn);
        Request { actor, change: Change::Import(batch) }
    }

    /// The store, to read.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many keys and functions there are.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock()
    }

    /// How many keys stand where at this moment, and how many will expire within each of these spans.
    pub fn standings(&self, within: &[Span]) -> Standings {
        self.shared.ledger.lock().standings((self.time)().now, within)
    }

    /// Changes that became durable since the start, by action, in the order of [`Action::ALL`]. A change of many keys is one for each.
    pub fn changes(&self) -> [u64; Action::ALL.len()] {
        self.shared.changes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The last change's place in the history.
    pub fn sequence(&self) -> u64 {
        self.shared.sequence.load(Ordering::Relaxed)
    }

    /// Why changes are refused until the daemon is restarted, if they are: a write failed, of a change or of usage.
    pub fn refusing(&self) -> Option<String> {
        self.shared.refusing.lock().clone().or_else(|| self.store.frozen())
    }

    /// The pepper that new secrets are made under.
    pub fn pepper(&self) -> PepperId {
        self.peppers.current.id()
    }

    /// The pepper that secrets need besides the current one, or needed at the start. An import may bring the first that does.
    pub fn previous_pepper(&self) -> Option<PepperId> {
        let given = || self.peppers.previous.as_ref().map(Pepper::id);
        self.previous_pepper.or_else(|| given().filter(|_| self.standings(&[]).other_pepper > 0))
    }

    /// Checks the entries of a range of the history against its chain.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn verify_chain(&self, range: std::ops::RangeInclusive<u64>) -> Result<ChainReport, StoreError> {
        verify_chain(&self.store, &self.peppers, range)
    }

    /// Takes no more changes, and returns when those that wait are made and answered. Blocks.
    pub fn stop(&self) {
        drop(self.askers.lock().take());
        let writer = self.writer.lock().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the catalog's writer ended in a panic");
        }
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Counts {
    fn add(&mut self, key: &Key) {
        if key.deleted_at.is_some() {
            self.deleted += 1;
        } else {
            self.keys += 1;
            self.disabled += u64::from(!key.settings.enabled);
        }
    }

    fn replace(&mut self, before: Option<&Key>, after: &Key) {
        if let Some(before) = before {
            self.remove(before);
        }
        self.add(after);
    }

    fn remove(&mut self, key: &Key) {
        if key.deleted_at.is_some() {
            self.deleted -= 1;
        } else {
            self.keys -= 1;
            self.disabled -= u64::from(!key.settings.enabled);
        }
    }

    fn join(&mut self, other: &Counts) {
        self.keys += other.keys;
        self.disabled += other.disabled;
        self.deleted += other.deleted;
    }

    fn count_functions(&mut self, registered: &[Function]) {
        self.functions = registered.len() as u64;
        self.restricted = registered.iter().filter(|function| function.restricted).count() as u64;
    }
}

/// Every change makes one entry, of a key or a function, and a key's revision counts its own: so a key whose record is missing, or older than the history's end, is found
/// out without reading the history.
fn check_history(store: &Store, head: Head, revisions: u64) -> Result<(), CatalogError> {
    let found = revisions.saturating_add(store.function_entries()?);
    let astray = || CatalogError::Astray { store: store.path().to_owned(), found, sequence: head.sequence };
    if found == head.sequence { Ok(()) } else { Err(astray()) }
}

/// The head, if the last entry is the one that it names.
fn checked_head(store: &Store) -> Result<Head, CatalogError> {
    let head = store.head()?;
    let last = store.entry(head.sequence)?.map_or([0; 32], |recorded| recorded.entry.mac);
    if last == head.mac { Ok(head) } else { Err(CatalogError::HeadAstray(store.path().to_owned(), head.sequence)) }
}
