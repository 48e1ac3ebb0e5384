//! The hashed in-memory index: from a token's digest to where its key stands, without a lock, for any number of readers.
//!
//! One writer publishes; readers pin the moment they look (epoch-based reclamation, `crossbeam-epoch`), so what they were shown stays in
//! memory until they let go. Readers write to no cache line that another thread reads.

mod functions;
mod record;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::Guard;
use parking_lot::Mutex;
use thiserror::Error;

use crate::key::{Called, Function, Grant, Key, KeyId, Rules, Standing};

use functions::Functions;
use record::{Record, Words};
use table::Table;

/// Every secret of every key, deleted and revoked ones included, so that each can be refused by its own verdict.
pub struct Index {
    table: Table,
    functions: Functions,
    strict: AtomicBool,
    /// Publishing is one at a time; readers never touch this.
    publishing: Mutex<()>,
}

/// Holds what a reader was shown in memory until it is dropped. Cheap; not to be kept across a blocking call.
pub struct Pin(Guard);

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
        Index { table: Table::new(), functions: Functions::new(), strict: AtomicBool::new(true), publishing: Mutex::new(()) }
    }

    /// Pins this moment.
    pub fn pin(&self) -> Pin {
        Pin(crossbeam_epoch::pin())
    }

    /// Finds a secret by the first 128 bits of its digest, the most that RFC 2104 section 5 asks of a truncated HMAC-SHA-256.
    pub fn find<'p>(&self, digest: &[u8; 32], pin: &'p Pin) -> Option<Found<'p>> {
        let record = self.table.find(words(digest), &pin.0)?;
        Some(Found {
            id: record.id(),
            version: record.version(),
            account: record.account(),
            standing: record.standing(),
            rules: record.rules(),
        })
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
        let guard = crossbeam_epoch::pin();
        // Before the lock, so that a start compiles on several cores.
        let rules = self.compile(key, &guard);
        let _one_at_a_time = self.publishing.lock();
        for secret in &key.secrets {
            if let Some(other) = self.table.find(words(&secret.digest), &guard).filter(|record| record.id() != key.id) {
                return Err(Duplicate(other.id()));
            }
        }
        for secret in &key.secrets {
            let standing = Standing {
                deleted: key.deleted_at.is_some(),
                revoked: secret.revoked_at.is_some(),
                disabled: !key.settings.enabled,
                not_before: key.settings.not_before,
                expires_at: key.settings.expires_at,
                retires_at: secret.retires_at,
            };
            let record = Record::make(words(&secret.digest), key.id, secret.version, &standing, &rules, &key.settings.account);
            self.table.put(record, &guard);
        }
        Ok(())
    }

    /// How many secrets there are.
    pub fn secrets(&self) -> usize {
        self.table.len()
    }

    /// Bytes of memory, all told but for the allocator's own.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// A grant by a name that is not registered (any more) covers nothing.
    fn compile(&self, key: &Key, guard: &Guard) -> Box<Rules> {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for grant in &key.settings.grants {
            match grant {
                Grant::Exact(name) => exact.extend(self.functions.called(name.as_str(), guard).id),
                Grant::Prefix(prefix) => prefixes.push(prefix.as_str().into()),
            }
        }
        let settings = &key.settings;
        Rules::compile(exact, prefixes, &settings.networks, settings.countries.clone(), settings.unknown_country)
    }
}

fn words(digest: &[u8; 32]) -> Words {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::key::{Instant, PepperId, Secret, Settings};

    fn key(number: u64) -> Key {
        let mut digest = [7; 32];
        // Spread as a real digest is, so that a test of many keys sees every shard.
        let spread = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        digest[..8].copy_from_slice(&spread.to_le_bytes());
        digest[8..16].copy_from_slice(&spread.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
        let created_at = Instant(1);
        let secret = Secret { version: 1, digest, pepper: PepperId([0; 8]), created_at, retires_at: None, revoked_at: None };
        let settings = Settings::new(&format!("account-{}", number % 100), "n");
        Key {
            id: KeyId((u128::from(number) + 1).to_be_bytes()),
            settings,
            secrets: vec![secret],
            created_at,
            deleted_at: None,
            revision: 1,
        }
    }

    #[test]
    fn every_published_secret_is_found_and_no_other() {
        let index = Index::new();
        for number in 0..100_000 {
            index.publish(&key(number)).unwrap();
        }
        let pin = index.pin();
        for number in 0..100_000 {
            let wanted = key(number);
            let found = index.find(&wanted.secrets[0].digest, &pin).unwrap();
            assert_eq!((found.id, found.account), (wanted.id, wanted.settings.account.as_str()));
        }
        assert!((100_000..110_000).all(|number| index.find(&key(number).secrets[0].digest, &pin).is_none()));
        assert_eq!(index.secrets(), 100_000);
    }

    #[test]
    fn a_change_replaces_every_field() {
        let index = Index::new();
        let mut changed = key(1);
        index.publish(&changed).unwrap();
        changed.settings.account = "other".into();
        changed.settings.enabled = false;
        changed.settings.not_before = Some(Instant(0));
        changed.settings.expires_at = Some(Instant(crate::key::limits::INSTANT_MS));
        changed.settings.networks = vec!["10.0.0.0/8".parse().unwrap()];
        changed.secrets[0].retires_at = Some(Instant(5));
        changed.secrets[0].revoked_at = Some(Instant(6));
        changed.deleted_at = Some(Instant(7));
        index.publish(&changed).unwrap();
        let pin = index.pin();
        let found = index.find(&changed.secrets[0].digest, &pin).unwrap();
        let standing = Standing {
            deleted: true,
            revoked: true,
            disabled: true,
            not_before: Some(Instant(0)),
            expires_at: Some(Instant(crate::key::limits::INSTANT_MS)),
            retires_at: Some(Instant(5)),
        };
        assert_eq!((found.standing, found.account, found.rules.has_networks()), (standing, "other", true));
    }

    #[test]
    fn what_was_replaced_is_not_counted() {
        let index = Index::new();
        let first = key(1);
        index.publish(&first).unwrap();
        let bytes = index.bytes();
        let mut longer = first.clone();
        longer.settings.networks = vec!["2001:db8::/32".parse().unwrap()];
        index.publish(&longer).unwrap();
        assert_eq!(index.bytes(), bytes + 32);
        index.publish(&first).unwrap();
        assert_eq!((index.bytes(), index.secrets()), (bytes, 1));
    }

    #[test]
    fn a_token_belongs_to_one_key() {
        let index = Index::new();
        index.publish(&key(1)).unwrap();
        let mut thief = key(2);
        thief.secrets.push(key(1).secrets[0].clone());
        assert_eq!(index.publish(&thief), Err(Duplicate(key(1).id)));
        assert!(index.find(&thief.secrets[0].digest, &index.pin()).is_none());
    }

    /// A reader must never see fields of two different states of a key, nor rules that were let go.
    #[test]
    fn readers_see_whole_states_while_the_writer_changes_them() {
        let index = Index::new();
        let states: Vec<Key> = (1..=4u8)
            .map(|state| {
                let mut key = key(1);
                key.settings.account = format!("account-{state}");
                key.settings.expires_at = Some(Instant(i64::from(state)));
                key.settings.networks = vec![format!("10.0.0.{state}").parse().unwrap()];
                key.secrets[0].retires_at = Some(Instant(i64::from(state)));
                key
            })
            .collect();
        index.publish(&states[0]).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let pin = index.pin();
                        let found = index.find(&states[0].secrets[0].digest, &pin).unwrap();
                        let state = found.standing.expires_at.unwrap().0;
                        assert_eq!(found.standing.retires_at.unwrap().0, state);
                        assert_eq!(found.account, format!("account-{state}"));
                        assert!(found.rules.covers_address(format!("10.0.0.{state}").parse().unwrap()));
                    }
                });
            }
            for round in 0..50_000 {
                index.publish(&states[round % 4]).unwrap();
                index.publish(&key(2 + round as u64)).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
