use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::chain::ChainKey;
use super::change::{Change, Reply, Request};
use super::draft::{Draft, DraftKey};
use super::emergency::{is_to_be_shut_unread, unread};
use super::error::ChangeError;
use super::ledger::Ledger;
use super::registry::Registry;
use super::step::{self, Ground};
use super::{CatalogOptions, Counts, Time};
use crate::digest::Peppers;
use crate::index::Index;
use crate::key::history::Action;
use crate::key::limits;
use crate::key::{Instant, Key};
use crate::store::{Head, Store, StoreError, encode_entry};

/// Changes that one write takes at most.
const WRITE_CHANGES: usize = 256;
/// Keys of imports that one write takes at most: together with the changes it bounds the memory of a write.
const WRITE_IMPORTED: usize = 4 * limits::IMPORT_KEYS;
/// About what a change takes in a write: its entry, its key and their rows. A write that need not grow is not copied.
const ENTRY_BYTES: usize = 1024;
/// Keys that are published to the index at once, as at a start.
const PUBLISHED_AT_ONCE: usize = 256;
/// How often request ids that are too old are forgotten.
const SWEEP_MS: i64 = 86_400_000;

/// A change that waits for the writer.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Result<Reply, ChangeError>>,
}

/// What the writer tells everyone.
pub(super) struct Shared {
    pub(super) options: Mutex<Arc<CatalogOptions>>,
    pub(super) counts: Mutex<Counts>,
    pub(super) ledger: Mutex<Ledger>,
    /// Durable ones, by action.
    pub(super) changes: [AtomicU64; Action::ALL.len()],
    pub(super) refusing: Mutex<Option<String>>,
    pub(super) sequence: AtomicU64,
}

/// The one thread that changes anything.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) index: Arc<Index>,
    pub(super) peppers: Peppers,
    pub(super) chain: ChainKey,
    pub(super) registry: Registry,
    pub(super) head: Head,
    pub(super) shared: Arc<Shared>,
    pub(super) time: Arc<dyn Fn() -> Time + Send + Sync>,
    pub(super) swept_at: Instant,
}

impl Writer {
    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut imported = imported_keys(&first);
            let mut jobs = vec![first];
            while jobs.len() < WRITE_CHANGES && imported < WRITE_IMPORTED {
                let Ok(job) = waiting.try_recv() else { break };
                imported += imported_keys(&job);
                jobs.push(job);
            }
            self.write(jobs);
            self.sweep();
        }
    }

    /// Makes all these changes with one synchronous write, publishes them, then answers.
    fn write(&mut self, mut jobs: Vec<Job>) {
        if self.shared.refusing.lock().is_some() {
            return self.refuse(jobs);
        }
        let mut draft = Draft::default();
        let mut replies = Vec::with_capacity(jobs.len());
        for job in &mut jobs {
            let made = self.make(&draft, &mut job.request);
            if let Err(ChangeError::Store(error)) = &made
                && is_to_be_shut_unread(&job.request.change)
            {
                self.poison(error.to_string());
                return self.refuse(jobs);
            }
            // A change is taken over whole, or leaves nothing behind.
            let made = made.map(|(reply, step)| {
                draft.absorb(step);
                reply
            });
            replies.push(made.map_err(|error| unread(error, &job.request.change)));
        }
        if !draft.is_empty() {
            match self.commit(&draft) {
                Ok(head) => self.publish(&draft, head),
                Err(error) => {
                    self.poison(match error {
                        StoreError::Frozen(reason) => reason,
                        error => error.to_string(),
                    });
                    return self.refuse(jobs);
                }
            }
        }
        // Before the answers, so that whoever gets an imported key is the last to have it, and frees it on a thread of its own.
        drop(draft);
        for (job, reply) in jobs.into_iter().zip(replies) {
            // Whoever asked may have gone; the change is made all the same.
            let _ = job.reply.send(reply);
        }
    }

    pub(super) fn make(&self, earlier: &Draft, request: &mut Request) -> Result<(Reply, Draft), ChangeError> {
        let options = self.shared.options.lock().clone();
        let ground = Ground {
            store: &self.store,
            index: &self.index,
            peppers: &self.peppers,
            pepper: self.chain.pepper(),
            registry: &self.registry,
            options: &options,
            time: (self.time)(),
        };
        step::make(&ground, earlier, request)
    }

    fn commit(&self, draft: &Draft) -> Result<Head, StoreError> {
        let mut changes = self.store.changes(draft.entries.len() * ENTRY_BYTES);
        let mut head = self.head;
        let mut record = Vec::with_capacity(ENTRY_BYTES);
        for entry in &draft.entries {
            let sequence = head.sequence + 1;
            encode_entry(&mut record, sequence, entry.at, entry.body.bytes());
            head = Head { sequence, mac: self.chain.seal(&head.mac, &mut record) };
            changes.put_entry(sequence, &record);
        }
        for (sequence, entry) in (self.head.sequence + 1..).zip(&draft.entries) {
            changes.put_subject(sequence, &entry.subject);
        }
        let mut keys: Vec<&DraftKey> = draft.keys.values().collect();
        keys.sort_unstable_by_key(|drafted| drafted.now.id);
        changes.put_keys(keys.iter().map(|drafted| drafted.put()));
        for function in draft.functions.values() {
            changes.put_function(&function.function, function.removed_at);
        }
        for (request_id, remembered) in &draft.requests {
            changes.remember(request_id, remembered);
        }
        changes.set_head(head);
        changes.commit()?;
        Ok(head)
    }

    fn publish(&mut self, draft: &Draft, head: Head) {
        self.head = head;
        self.shared.sequence.store(head.sequence, Ordering::Relaxed);
        // The changes are durable whatever becomes of the witness, so they are answered as such; but no more are taken, for
        // it could not vouch for them.
        if let Err(error) = self.store.acknowledge(head) {
            self.poison(error.to_string());
        }
        if !draft.functions.is_empty() {
            draft.functions.values().for_each(|function| self.registry.put(function.clone()));
            let registered = self.registry.registered();
            self.index.publish_functions(&registered);
            self.shared.counts.lock().count_functions(&registered);
        }
        for part in draft.keys.values().collect::<Vec<_>>().chunks(PUBLISHED_AT_ONCE) {
            if self.index.publish_all(part.iter().map(|drafted| &*drafted.now)).is_err() {
                // One by one, so that all but the one that is refused are shown.
                part.iter().for_each(|drafted| self.show(&drafted.now));
            }
        }
        self.shared.count(draft.keys.values().map(|drafted| (drafted.stored.as_ref(), &*drafted.now)));
        for entry in &draft.entries {
            self.shared.changes[entry.action as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn show(&self, key: &Key) {
        if let Err(duplicate) = self.index.publish(key) {
            self.poison(format!("{} is stored, but the index refuses it: {duplicate}", key.id));
        }
    }

    fn poison(&self, reason: String) {
        tracing::error!("changes are refused until doorward is restarted: {reason}");
        self.shared.refusing.lock().get_or_insert(reason);
    }

    /// Forgets old request ids, once a day.
    fn sweep(&mut self) {
        let floor = (self.time)().floor;
        if floor.since(self.swept_at).0 >= SWEEP_MS {
            self.swept_at = floor;
            forget_old_requests(&self.store, floor);
        }
    }
}

impl Shared {
    /// Counts keys as they now are, and no more as they were.
    pub(super) fn count<'k>(&self, keys: impl IntoIterator<Item = (Option<&'k Key>, &'k Key)>) {
        let (mut counts, mut ledger) = (self.counts.lock(), self.ledger.lock());
        for (before, after) in keys {
            counts.replace(before, after);
            ledger.replace(before, after);
        }
    }
}

/// A failure here costs nothing but room: ids that are too old are not looked at.
pub(super) fn forget_old_requests(store: &Store, now: Instant) {
    if let Err(error) = store.forget_requests(Instant(now.0 - limits::REQUEST_ID_MS)) {
        tracing::warn!("old request ids could not be forgotten: {error}");
    }
}

fn imported_keys(job: &Job) -> usize {
    match &job.request.change {
        Change::Import(batch) => batch.len(),
        _ => 0,
    }
}
