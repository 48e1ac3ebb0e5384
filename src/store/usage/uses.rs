//! Last uses and recent networks of keys: those of hours that are rolled up in a row for each key, the later ones in the rows of minutes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use bincode::{Decode, Encode};
use rocksdb::WriteBatch;

use super::block::OfKey;
use super::read::Reader;
use super::{LastUse, NetworkUse, Step, USES};
use crate::key::{Country, Instant, KeyId, Network, limits};
use crate::store::{Family, Store, StoreError, record};

/// Days whose spread is remembered: what is judged at most, and what it is compared with.
const SPREAD_DAYS: usize = 60;

/// What is stored of the uses of a key: the last of each version, and the networks, newest first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct StoredUses {
    last: Vec<(u16, StoredUse)>,
    networks: Vec<StoredNetwork>,
    /// By day (since 1970-01-01): the most networks in one row of minutes. The latest 60.
    spreads: Vec<(u16, u8)>,
    /// Networks that were used up to this moment may be missing.
    forgotten: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
struct StoredNetwork {
    last_at: Instant,
    first_at: Instant,
    network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
struct StoredUse {
    at: Instant,
    address: Option<IpAddr>,
    country: Option<Country>,
}

/// The same before it was known which networks are missing.
#[derive(Encode, Decode)]
struct FirstUses {
    last: Vec<(u16, StoredUse)>,
    networks: Vec<StoredNetwork>,
    spreads: Vec<(u16, u8)>,
}

/// How a key was used last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUses {
    /// The key.
    pub key: KeyId,
    /// The last use of each of its secrets that was ever used, by version.
    pub last: Vec<LastUse>,
    /// The networks that it was used from, newest first; at most [`limits::NETWORKS_REMEMBERED`].
    pub networks: Vec<NetworkUse>,
    /// All networks that were used later than this are among them. None where all are that ever were.
    pub forgotten: Option<Instant>,
    /// By day (since 1970-01-01): the most networks, up to as many, that it was used from within ten minutes of the clock. The latest 60 days of use.
    pub spreads: Vec<(u16, u8)>,
}

impl Store {
    /// The last use of each of a key's secrets that was ever used, by version.
    pub fn last_uses(&self, key: KeyId) -> Result<Vec<LastUse>, StoreError> {
        Ok(self.uses(key)?.last)
    }

    /// The networks that a key was used from, newest first; at most [`limits::NETWORKS_REMEMBERED`].
    pub fn recent_networks(&self, key: KeyId) -> Result<Vec<NetworkUse>, StoreError> {
        Ok(self.uses(key)?.networks)
    }

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
        Ok(uses.into_iter().map(|(key, uses)| uses.told(key)).collect())
    }

    /// How a key was used last.
    pub fn uses(&self, key: KeyId) -> Result<KeyUses, StoreError> {
        let reader = Reader::new(self)?;
        let row = uses_row(key);
        let mut uses = BTreeMap::new();
        if let Some(value) = reader.get(&row)? {
            uses.insert(key, read(&row, &value)?);
        }
        later_uses(&reader, key.bucket(), Some(key), &mut uses)?;
        Ok(uses.remove(&key).unwrap_or_default().told(key))
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

impl StoredUses {
    /// What a row that begins at this minute has of a key.
    pub(super) fn of(of_key: &OfKey, minute: u64) -> StoredUses {
        let base = i64::try_from(minute).unwrap_or(i64::MAX).saturating_mul(super::MINUTE_MS);
        let at = |ms: i64| Instant(base.saturating_add(ms));
        let last = of_key.uses.iter().map(|last| {
            let country = (last.country != super::NO_COUNTRY).then_some(Country(last.country));
            (last.version, StoredUse { at: at(last.at), address: last.address, country })
        });
        let last = last.collect();
        let (networks, forgotten) = of_key.all_networks();
        let stored = |(ms, network): (Instant, Network)| StoredNetwork { last_at: at(ms.0), first_at: at(ms.0), network };
        let networks: Vec<StoredNetwork> = networks.into_iter().map(stored).collect();
        let day = u16::try_from(minute / super::DAY).unwrap_or(u16::MAX);
        let spreads = if networks.is_empty() { Vec::new() } else { vec![(day, networks.len() as u8)] };
        StoredUses { last, networks, spreads, forgotten: forgotten.map(|ms| at(ms.0)) }
    }

    pub(super) fn add(&mut self, other: StoredUses) {
        self.last.extend(other.last);
        self.networks.extend(other.networks);
        self.spreads.extend(other.spreads);
        self.forgotten = self.forgotten.max(other.forgotten);
        self.join();
    }

    /// Of each version only the last use stays, of the networks the newest.
    fn join(&mut self) {
        self.last.sort_by_key(|(version, last)| (*version, Reverse(*last)));
        self.last.dedup_by_key(|(version, _)| *version);
        // Of a network the first use and the last.
        self.networks.sort_unstable_by_key(|used| (used.network, used.first_at, used.last_at));
        self.networks.dedup_by(|later, kept| {
            let same = later.network == kept.network;
            if same {
                kept.last_at = kept.last_at.max(later.last_at);
            }
            same
        });
        self.networks.sort_unstable_by(|a, b| b.cmp(a));
        self.forgotten = self.forgotten.max(self.networks.get(limits::NETWORKS_REMEMBERED).map(|used| used.last_at));
        self.networks.truncate(limits::NETWORKS_REMEMBERED);
        self.spreads.sort_unstable_by(|a, b| b.cmp(a));
        self.spreads.dedup_by_key(|(day, _)| *day);
        self.spreads.truncate(SPREAD_DAYS);
    }

    fn told(self, key: KeyId) -> KeyUses {
        let last = self.last.into_iter();
        let last = last.map(|(version, StoredUse { at, address, country })| LastUse { key, version, at, address, country }).collect();
        let networks = self.networks.into_iter();
        let networks = networks.map(|StoredNetwork { last_at: at, first_at, network }| NetworkUse { key, network, first_at, at }).collect();
        KeyUses { key, last, networks, forgotten: self.forgotten, spreads: self.spreads }
    }

    /// Adds this to what is stored of a key.
    pub(super) fn write(&self, store: &Store, key: KeyId, batch: &mut WriteBatch) {
        batch.merge_cf(store.family(Family::Usage), uses_row(key), record::encode(self));
    }
}

/// Keeps the newest networks, each with the time when it was used last, newest first; tells when the last of the others was used.
pub(super) fn newest(networks: &mut Vec<(Instant, Network)>) -> Option<Instant> {
    networks.sort_unstable_by_key(|&(at, network)| (network, Reverse(at)));
    networks.dedup_by_key(|(_, network)| *network);
    networks.sort_unstable_by(|a, b| b.cmp(a));
    let forgotten = networks.get(limits::NETWORKS_REMEMBERED).map(|(at, _)| *at);
    networks.truncate(limits::NETWORKS_REMEMBERED);
    forgotten
}

/// What is stored of the uses of a key, in either format: the second is longer.
pub(super) fn read(row: &[u8], value: &[u8]) -> Result<StoredUses, StoreError> {
    record::decode(Family::Usage, row, value).or_else(|error| {
        let Ok(FirstUses { last, networks, spreads }) = record::decode(Family::Usage, row, value) else { return Err(error) };
        let forgotten = networks.iter().map(|used| used.last_at).max();
        Ok(StoredUses { last, networks, spreads, forgotten })
    })
}

/// A row of the first format with these networks.
#[cfg(test)]
pub(super) fn of_the_first_format(networks: &[(&str, i64)]) -> Vec<u8> {
    let stored = |&(text, at): &(&str, i64)| StoredNetwork { last_at: Instant(at), first_at: Instant(at), network: text.parse().unwrap() };
    record::encode(&FirstUses { last: Vec::new(), networks: networks.iter().map(stored).collect(), spreads: Vec::new() })
}

/// Joins rows of a key's uses. What cannot be read is left out.
pub(super) fn merge<'a>(row: &[u8], values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut all = StoredUses::default();
    for stored in values.filter_map(|value| read(row, value).ok()) {
        all.last.extend(stored.last);
        all.networks.extend(stored.networks);
        all.spreads.extend(stored.spreads);
        all.forgotten = all.forgotten.max(stored.forgotten);
    }
    all.join();
    record::encode(&all)
}

pub(super) fn uses_row(key: KeyId) -> [u8; 18] {
    let mut row = [USES; 18];
    row[1] = key.bucket();
    row[2..].copy_from_slice(&key.0);
    row
}
