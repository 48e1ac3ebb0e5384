//! Last uses and recent networks of keys: those of hours that are rolled up in a row for each key, the later ones in the rows of minutes.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use super::read::{Reader, UsageMoment};
use super::{LastUse, NetworkUse, Step, USES};
use crate::key::{Instant, KeyId};
use crate::record::block::OfKey;
use crate::record::uses::{StoredNetwork, StoredUse};
use crate::record::{StoredUses, read_uses};
use crate::store::{Family, Store, StoreError, record};

/// How a key was used last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUses {
    /// The key.
    pub key: KeyId,
    /// The last use of each of its secrets that was ever used, by version.
    pub last: Vec<LastUse>,
    /// The networks that it was used from, newest first; at most [`NETWORKS_REMEMBERED`](crate::key::limits::NETWORKS_REMEMBERED).
    pub networks: Vec<NetworkUse>,
    /// All networks that were used later than this are among them. None where all are that ever were.
    pub forgotten: Option<Instant>,
    /// By day (since 1970-01-01): the most networks, up to as many, that it was used from within ten minutes of the clock. The latest 60 days of use.
    pub spreads: Vec<(u16, u8)>,
}

impl Store {
    /// Last uses and networks of all keys of a bucket ([`KeyId::bucket`]) that were ever used, by key: 256 calls tell them of every key.
    pub fn uses_of_bucket(&self, bucket: u8) -> Result<Vec<KeyUses>, StoreError> {
        let mut uses = BTreeMap::new();
        let reader = Reader::new(self)?;
        reader.each_row(&[USES, bucket], |row, value| {
            let key = row.last_chunk().filter(|_| row.len() == uses_row(KeyId::NONE).len()).ok_or_else(|| super::usage_error(row))?;
            uses.insert(KeyId(*key), read(row, value)?);
            Ok(())
        })?;
        later_uses(&reader, bucket, None, &mut uses)?;
        Ok(uses.into_iter().map(|(key, uses)| told(uses, key)).collect())
    }

    /// How a key was used last.
    pub fn uses(&self, key: KeyId) -> Result<KeyUses, StoreError> {
        self.usage()?.uses(key)
    }
}

impl UsageMoment<'_> {
    /// As [`Store::uses`].
    pub fn uses(&self, key: KeyId) -> Result<KeyUses, StoreError> {
        let reader = &*self.0;
        let row = uses_row(key);
        let mut uses = BTreeMap::new();
        if let Some(value) = reader.get(&row)? {
            uses.insert(key, read(&row, &value)?);
        }
        later_uses(reader, key.bucket(), Some(key), &mut uses)?;
        Ok(told(uses.remove(&key).unwrap_or_default(), key))
    }
}

/// Adds the uses that are in rows of minutes alone.
fn later_uses(reader: &Reader<'_>, bucket: u8, only: Option<KeyId>, uses: &mut BTreeMap<KeyId, StoredUses>) -> Result<(), StoreError> {
    let from = reader.marks.hours.end(bucket) * Step::Hour.minutes();
    let mut of_key = OfKey::default();
    reader.each_block(Step::Minute, bucket, (from, u64::MAX), only, |base, block| {
        if block.has_uses() {
            of_key.clear();
            of_key.read(block)?;
            let of_key = StoredUses::of(&of_key, base);
            uses.entry(block.key).or_default().add(of_key);
        }
        Some(())
    })
}

/// What is stored of a key, with its name.
fn told(uses: StoredUses, key: KeyId) -> KeyUses {
    let last = uses.last.into_iter();
    let last = last.map(|(version, StoredUse { at, address, country })| LastUse { key, version, at, address, country }).collect();
    let networks = uses.networks.into_iter();
    let networks = networks.map(|StoredNetwork { last_at: at, first_at, network }| NetworkUse { key, network, first_at, at }).collect();
    KeyUses { key, last, networks, forgotten: uses.forgotten, spreads: uses.spreads }
}

/// Adds this to what is stored of a key.
pub(super) fn write(uses: &StoredUses, store: &Store, key: KeyId, batch: &mut WriteBatch) {
    batch.merge_cf(store.family(Family::Usage), uses_row(key), record::encode(uses));
}

/// What is stored of the uses of a key; `row` is for the error.
pub(super) fn read(row: &[u8], value: &[u8]) -> Result<StoredUses, StoreError> {
    read_uses(value).map_err(|error| record::record_error(Family::Usage, row, error.to_string()))
}

pub(super) fn uses_row(key: KeyId) -> [u8; 18] {
    let mut row = [USES; 18];
    row[1] = key.bucket();
    row[2..].copy_from_slice(&key.0);
    row
}
