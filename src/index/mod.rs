//! The hashed in-memory index: from a token's digest to where its key stands, without a lock, for any number of readers.
//!
//! One writer publishes; readers pin the moment they look (epoch-based reclamation, `crossbeam-epoch`), so what they were shown stays in
//! memory until they let go. Readers write to no cache line that another thread reads, but when a token is noted, at its first sight, so that its tag
//! is enough from then on.

mod functions;
mod record;
mod shared;
mod sightings;
mod table;

use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::Guard;
use parking_lot::Mutex;
use thiserror::Error;

use crate::key::{Called, Function, Grant, Key, KeyId, Rules, Secret, Standing};

use functions::Functions;
use record::{Record, Unpublished};
use shared::Pool;
use sightings::{Sighting, Sightings};
use table::Table;

/// The first 128 bits of a digest: the most that RFC 2104 section 5 asks of a truncated HMAC-SHA-256.
type Words = [u64; 2];
/// What a token is recognised by: 128 bits that nobody outside of this process can compute.
pub type Tag = [u64; 2];
/// Bits of an address of the heap.
const ADDRESS_BITS: u32 = 48;

/// Every secret of every key, deleted and revoked ones included, so that each can be refused by its own verdict.
pub struct Index {
    table: Table,
    sightings: Sightings,
    functions: Functions,
    strict: AtomicBool,
    /// Publishing is one at a time; readers never wait for this.
    publishing: Mutex<Pool>,
}

/// Holds what a reader was shown in memory until it is dropped. Cheap; not to be kept across a blocking call.
pub struct Pin(Guard);

impl Pin {
    /// For what else is read at this moment.
    pub(crate) fn guard(&self) -> &Guard {
        &self.0
    }
}

/// A secret that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'p> {
    /// Its key.
    pub id: KeyId,
    /// Which of the key's secrets it is.
    pub version: u16,
    /// The key's account.
    pub account: &'p str,
    /// Where the secret and its key stand.
    pub standing: Standing,
    /// What the key allows.
    pub rules: &'p Rules,
}

/// A secret that was recognised: see [`Index::recognise`].
pub struct Recognised<'p> {
    sighting: Sighting,
    pin: &'p Pin,
}

/// What it takes to publish a key, but for the records of its secrets.
struct Prepared {
    id: KeyId,
    rules: Box<Rules>,
    /// How many there are.
    secrets: usize,
}

/// Another key already has a secret with this digest: the same token was imported twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("another key, {0}, already has this token")]
pub struct Duplicate(pub KeyId);

impl Default for Index {
    fn default() -> Index {
        Index::new()
    }
}

impl Index {
    /// An index without secrets and functions, in strict mode.
    pub fn new() -> Index {
        Index {
            table: Table::new(),
            sightings: Sightings::new(),
            functions: Functions::new(),
            strict: AtomicBool::new(true),
            publishing: Mutex::new(Pool::new()),
        }
    }

    /// Pins this moment.
    pub fn pin(&self) -> Pin {
        Pin(crossbeam_epoch::pin())
    }

    /// Finds a secret by the first 128 bits of its digest.
    pub fn find<'p>(&self, digest: &[u8; 32], pin: &'p Pin) -> Option<Found<'p>> {
        let record = self.table.find(found_by(digest), &pin.0)?;
        Some(Found {
            id: record.id(),
            version: record.version(),
            account: record.account(),
            standing: record.standing(),
            rules: record.rules(),
        })
    }

    /// Asks for the memory that [`Index::recognise`] will look at, so that it is there by then.
    #[inline]
    pub fn expect(&self, tag: Tag, pin: &Pin) {
        self.sightings.prefetch(tag, &pin.0);
    }

    /// Asks for the memory of the place that the tag is in, if that is not the first that [`Index::recognise`] will look at, of which the memory should be there.
    #[inline]
    pub fn expect_beyond(&self, tag: Tag, pin: &Pin) {
        self.sightings.prefetch_beyond(tag, &pin.0);
    }

    /// Asks for the memory where [`Index::find`] begins.
    pub fn expect_digest(&self, digest: &[u8; 32], pin: &Pin) {
        self.table.prefetch(found_by(digest), &pin.0);
    }

    /// Asks for the memory of the secret that [`Index::find`] will find. What [`Index::expect_digest`] asked for should be there.
    pub fn expect_secret(&self, digest: &[u8; 32], pin: &Pin) {
        self.table.prefetch_record(found_by(digest), &pin.0);
    }

    /// Finds a secret by the tag of its token, if that was noted before.
    #[inline]
    pub fn recognise<'p>(&self, tag: Tag, pin: &'p Pin) -> Option<Recognised<'p>> {
        self.sightings.find(tag, &pin.0).map(|sighting| Recognised { sighting, pin })
    }

    /// Notes the tag of the token whose digest this is, so that it is recognised from now on. Does nothing for a digest that no secret has, nor
    /// while another thread publishes or notes: the next time will do.
    pub fn note(&self, tag: Tag, digest: &[u8; 32], pin: &Pin) {
        let Some(_one_at_a_time) = self.publishing.try_lock() else { return };
        if let Some(record) = self.table.find(found_by(digest), &pin.0) {
            self.sightings.note(tag, record, &pin.0);
        }
    }

    /// What the catalog knows of a function's name.
    pub fn called<'n>(&self, name: &'n str, pin: &Pin) -> Called<'n> {
        self.functions.called(name, &pin.0)
    }

    /// Whether a function that is not registered is denied even to a wildcard.
    pub fn strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    /// Sets strict mode.
    pub fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Ordering::Relaxed);
    }

    /// Replaces the catalog. Keys that name a function are published after it.
    pub fn publish_functions(&self, functions: &[Function]) {
        let _one_at_a_time = self.publishing.lock();
        self.functions.replace(functions);
    }

    /// Shows every secret of the key to all readers as the key now is. When it returns, no reader that looks finds the old state.
    ///
    /// # Errors
    /// Another key has one of the secrets; then nothing was changed.
    pub fn publish(&self, key: &Key) -> Result<(), Duplicate> {
        self.publish_all([key]).map_err(|(_, duplicate)| duplicate)
    }

    /// As [`Index::publish`], for many keys, one behind the other, and faster: they wait together for the memory that they change.
    ///
    /// # Errors
    /// Another key has one of the secrets of the key returned; those before it are published.
    pub fn publish_all(&self, keys: impl IntoIterator<Item = impl Borrow<Key>>) -> Result<(), (KeyId, Duplicate)> {
        // Before the lock, so that a start prepares keys on several cores; and each key is let go of as soon as it is prepared.
        let (mut prepared, mut records) = (Vec::new(), Vec::new());
        for key in keys {
            prepared.push(self.prepare(key.borrow(), &mut records));
        }
        let guard = crossbeam_epoch::pin();
        let mut pool = self.publishing.lock();
        records.iter().for_each(|record| self.table.prefetch(record.digest(), &guard));
        let mut records = records.into_iter();
        for Prepared { id, rules, secrets } in prepared {
            self.own(id, &records.as_slice()[..secrets], &guard).map_err(|duplicate| (id, duplicate))?;
            for record in records.by_ref().take(secrets) {
                self.put(record.with(pool.take(&rules)), &mut pool, &guard);
            }
        }
        self.sightings.reserve(self.table.len(), &guard);
        Ok(())
    }

    /// Makes room for so many secrets in all, so that the table need not grow while they are published.
    pub fn reserve(&self, secrets: usize) {
        let guard = crossbeam_epoch::pin();
        let _one_at_a_time = self.publishing.lock();
        self.table.reserve(secrets, &guard);
    }

    /// Makes the records of a key's secrets, and says what else it takes to publish them.
    fn prepare(&self, key: &Key, records: &mut Vec<Unpublished>) -> Prepared {
        let account = &key.settings.account;
        let record =
            |secret: &Secret| Unpublished::make(found_by(&secret.digest), key.id, secret.version, &standing_of(key, secret), account);
        records.extend(key.secrets.iter().map(record));
        Prepared { id: key.id, rules: self.compile(key, &crossbeam_epoch::pin()), secrets: key.secrets.len() }
    }

    /// Whether none of the records' secrets is another key's.
    fn own(&self, id: KeyId, records: &[Unpublished], guard: &Guard) -> Result<(), Duplicate> {
        let others = records.iter().filter_map(|record| self.table.find(record.digest(), guard)).find(|record| record.id() != id);
        others.map_or(Ok(()), |other| Err(Duplicate(other.id())))
    }

    /// Shows the record in place of the one of the same secret.
    fn put(&self, record: Record<'static>, pool: &mut Pool, guard: &Guard) {
        let Some(replaced) = self.table.put(record, guard) else { return };
        self.sightings.replace(replaced, record, guard);
        pool.let_go(replaced.shared_rules(), guard);
        let address = replaced.address();
        // SAFETY: no reader that pins from now on can reach the replaced record, and only here was it replaced.
        unsafe { guard.defer_unchecked(move || Record::at(address).free()) };
    }

    /// Whether every reader finds each secret of the key as the key is.
    pub fn shows(&self, key: &Key) -> bool {
        let guard = crossbeam_epoch::pin();
        let rules = self.compile(key, &guard);
        key.secrets.iter().all(|secret| {
            self.table.find(found_by(&secret.digest), &guard).is_some_and(|record| {
                let place = (record.id(), record.version(), record.account());
                place == (key.id, secret.version, &*key.settings.account)
                    && record.standing() == standing_of(key, secret)
                    && *record.rules() == *rules
            })
        })
    }

    /// The versions of a key's secrets. Looks at every secret there is.
    pub fn versions(&self, id: KeyId) -> Vec<u16> {
        let guard = crossbeam_epoch::pin();
        self.table.records(&guard).filter(|record| record.id() == id).map(Record::version).collect()
    }

    /// Changes where the secrets of a key stand, each told by its version, when no more is known of the key. Looks at every secret there is.
    pub fn restrict(&self, id: KeyId, change: impl Fn(u16, &mut Standing)) {
        let guard = crossbeam_epoch::pin();
        let mut pool = self.publishing.lock();
        let records: Vec<Record<'_>> = self.table.records(&guard).filter(|record| record.id() == id).collect();
        for record in records {
            let mut standing = record.standing();
            change(record.version(), &mut standing);
            let changed = Unpublished::make(record.digest(), id, record.version(), &standing, record.account());
            self.put(changed.with(pool.take(record.rules())), &mut pool, &guard);
        }
    }

    /// How many secrets there are.
    pub fn secrets(&self) -> usize {
        self.table.len()
    }

    /// Bytes of memory, all told but for the allocator's own.
    pub fn bytes(&self) -> usize {
        let rules = self.publishing.lock().bytes();
        self.table.bytes() + rules + self.sightings.bytes(&crossbeam_epoch::pin())
    }

    /// A grant by a name that is not registered (any more) covers nothing.
    fn compile(&self, key: &Key, guard: &Guard) -> Box<Rules> {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for grant in &key.settings.grants {
            match grant {
                Grant::Exact(name) => exact.extend(self.functions.called(name.as_str(), guard).id),
                Grant::Prefix(prefix) => prefixes.push(prefix.as_str()),
            }
        }
        let settings = &key.settings;
        Rules::compile(exact, prefixes, &settings.networks, settings.countries.clone(), settings.unknown_country)
    }
}

impl Recognised<'_> {
    /// The secret.
    #[inline]
    pub fn found(&self) -> Found<'_> {
        self.sighting.found(&self.pin.0)
    }
}

fn standing_of(key: &Key, secret: &Secret) -> Standing {
    Standing {
        deleted: key.deleted_at.is_some(),
        revoked: secret.revoked_at.is_some(),
        disabled: !key.settings.enabled,
        not_before: key.settings.not_before,
        expires_at: key.settings.expires_at,
        retires_at: secret.retires_at,
    }
}

/// Whether two digests or tags are the same, in a time that says nothing of where they differ.
#[inline]
fn same(one: [u64; 2], other: [u64; 2]) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) == 0
}

/// The part of a digest by which a secret is found: two digests with the same one are the same to the index.
pub fn found_by(digest: &[u8; 32]) -> [u64; 2] {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
    [word(0), word(8)]
}

#[cfg(test)]
mod tests;
