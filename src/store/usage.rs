use std::net::IpAddr;

use bincode::{Decode, Encode};
use rocksdb::{DBRawIterator, MergeOperands, WriteBatch};

use super::{Family, Store, StoreError, disk_error, meta, record};
use crate::key::{Country, FunctionId, Instant, KeyId, Network, Verdict};

/// Networks remembered for one key: enough to see where it lives, bounded for a key that roams.
pub const RECENT_NETWORKS: usize = 16;

/// In `usage`: verifies by key, minute, version, function and verdict.
const COUNT: u8 = b'M';
/// In `usage`: verifies by key, hour and country.
const COUNTRY: u8 = b'C';
/// In `usage`: the last use by key and version.
const LAST_USE: u8 = b'L';
/// In `usage`: the recent networks of a key.
const NETWORKS: u8 = b'N';

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
/// Stands for an address that no database placed.
const NO_COUNTRY: [u8; 2] = [0; 2];

/// What one flush adds. Rows of `KeyId::NONE` count tokens that no key has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageBatch {
    /// Verifies to add.
    pub counts: Vec<CountRow>,
    /// Verifies by country to add.
    pub countries: Vec<CountryRow>,
    /// Last uses; the later of each and what is stored stays.
    pub last_uses: Vec<LastUse>,
    /// Networks that were used; the newest 16 of a key stay.
    pub networks: Vec<NetworkUse>,
    /// The moment behind which time may not run after a restart.
    pub time_floor: Option<Instant>,
}

/// Verifies within one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRow {
    /// Of this key.
    pub key: KeyId,
    /// Minutes since 1970-01-01T00:00:00Z.
    pub minute: u32,
    /// With this version of its secret; 0 for `KeyId::NONE`.
    pub version: u16,
    /// Of this function.
    pub function: FunctionId,
    /// With this verdict.
    pub verdict: Verdict,
    /// How many.
    pub count: u64,
}

/// Verifies within one hour by country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryRow {
    /// Of this key.
    pub key: KeyId,
    /// Hours since 1970-01-01T00:00:00Z.
    pub hour: u32,
    /// From this country; none where there was no address or the database does not place it.
    pub country: Option<Country>,
    /// How many.
    pub count: u64,
}

/// The last verify with a secret, whatever its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// The key.
    pub key: KeyId,
    /// The version of its secret.
    pub version: u16,
    /// When.
    pub at: Instant,
    /// From where.
    pub address: Option<IpAddr>,
    /// From which country.
    pub country: Option<Country>,
}

/// A network that a key was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkUse {
    /// The key.
    pub key: KeyId,
    /// A /24 of IPv4 or a /48 of IPv6.
    pub network: Network,
    /// When it was used last.
    pub at: Instant,
}

#[derive(Encode, Decode)]
struct StoredUse {
    at: Instant,
    address: Option<IpAddr>,
    country: Option<Country>,
}

impl Store {
    /// Adds what one flush counted. Nothing is read: RocksDB merges the rows. Synced only if asked, so that a power failure loses
    /// at most what was added since the last sync, and the death of the process nothing.
    pub fn write_usage(&self, usage: &UsageBatch, sync: bool) -> Result<(), StoreError> {
        let family = self.family(Family::Usage);
        let mut batch = WriteBatch::default();
        for row in &usage.counts {
            batch.merge_cf(family, count_row(row), record::encode(&row.count));
        }
        for row in &usage.countries {
            batch.merge_cf(family, country_row(row), record::encode(&row.count));
        }
        for last in &usage.last_uses {
            let row = [&[LAST_USE][..], &last.key.0, &last.version.to_be_bytes()].concat();
            batch.merge_cf(family, row, record::encode(&StoredUse { at: last.at, address: last.address, country: last.country }));
        }
        for network in &usage.networks {
            batch.merge_cf(family, network_row(network.key), record::encode(&vec![(network.at, network.network)]));
        }
        if let Some(floor) = usage.time_floor {
            batch.put_cf(self.family(Family::Meta), meta::TIME_FLOOR, record::encode(&floor));
        }
        if batch.is_empty() && !sync { Ok(()) } else { self.write(batch, sync) }
    }

    /// Counts by minute, of one key or of all (`KeyId::NONE` included), from the minute of `since` to the last that begins before
    /// `until`; by key, then by minute.
    pub fn usage_counts(&self, key: Option<KeyId>, since: Instant, until: Instant) -> CountRows<'_> {
        CountRows(self.periods(COUNT, MINUTE_MS, key, since, until))
    }

    /// Counts by hour and country, as `usage_counts`.
    pub fn usage_countries(&self, key: Option<KeyId>, since: Instant, until: Instant) -> CountryRows<'_> {
        CountryRows(self.periods(COUNTRY, HOUR_MS, key, since, until))
    }

    /// The last use of each of a key's secrets that was ever used, by version.
    pub fn last_uses(&self, key: KeyId) -> Result<Vec<LastUse>, StoreError> {
        let prefix = [&[LAST_USE][..], &key.0].concat();
        let mut uses = Vec::new();
        self.each_row(Family::Usage, &prefix, |row, value| {
            let version = row[prefix.len()..].try_into().map_err(|_| usage_error(row))?;
            let StoredUse { at, address, country } = record::decode(Family::Usage, row, value)?;
            uses.push(LastUse { key, version: u16::from_be_bytes(version), at, address, country });
            Ok(())
        })?;
        Ok(uses)
    }

    /// The networks that a key was used from, newest first; at most 16.
    pub fn recent_networks(&self, key: KeyId) -> Result<Vec<NetworkUse>, StoreError> {
        let row = network_row(key);
        let Some(value) = self.get(Family::Usage, &row)? else { return Ok(Vec::new()) };
        let networks: Vec<(Instant, Network)> = record::decode(Family::Usage, &row, &value)?;
        Ok(networks.into_iter().map(|(at, network)| NetworkUse { key, network, at }).collect())
    }

    fn periods(&self, kind: u8, unit_ms: i64, only: Option<KeyId>, since: Instant, until: Instant) -> Periods<'_> {
        let period = |ms: i64| u32::try_from(ms.max(0) / unit_ms).unwrap_or(u32::MAX);
        let until_ms = until.0.max(0).saturating_add(unit_ms - 1);
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::Usage));
        let since = period(since.0);
        rows.seek(period_row(kind, only.unwrap_or(KeyId::NONE), since));
        Periods { rows, kind, only, since, until: period(until_ms), done: false }
    }
}

/// Counts by minute.
pub struct CountRows<'s>(Periods<'s>);

/// Counts by hour and country.
pub struct CountryRows<'s>(Periods<'s>);

impl Iterator for CountRows<'_> {
    type Item = Result<CountRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|key, minute, row, tail, value| {
            let [v0, v1, f0, f1, verdict] = tail.try_into().map_err(|_| usage_error(row))?;
            let verdict = Verdict::from_number(verdict).ok_or_else(|| usage_error(row))?;
            let (version, function) = (u16::from_be_bytes([v0, v1]), FunctionId(u16::from_be_bytes([f0, f1])));
            Ok(CountRow { key, minute, version, function, verdict, count: record::decode(Family::Usage, row, value)? })
        })
    }
}

impl Iterator for CountryRows<'_> {
    type Item = Result<CountryRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|key, hour, row, tail, value| {
            let code: [u8; 2] = tail.try_into().map_err(|_| usage_error(row))?;
            let country = (code != NO_COUNTRY).then_some(Country(code));
            Ok(CountryRow { key, hour, country, count: record::decode(Family::Usage, row, value)? })
        })
    }
}

/// Rows of one kind whose key begins with a key id and a period. What lies outside the periods asked for is leapt over key by key.
struct Periods<'s> {
    rows: DBRawIterator<'s>,
    kind: u8,
    only: Option<KeyId>,
    since: u32,
    until: u32,
    done: bool,
}

/// Bytes of a row's kind, key id and period.
const PERIOD_ROW_BYTES: usize = 1 + 16 + 4;

impl Periods<'_> {
    fn step<T>(&mut self, read: impl Fn(KeyId, u32, &[u8], &[u8], &[u8]) -> Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        while !self.done {
            let Some((row, value)) = self.rows.item() else {
                self.done = true;
                return self.rows.status().err().map(|error| Err(disk_error("cannot read the usage", error)));
            };
            if row.first() != Some(&self.kind) {
                break;
            }
            let Some((head, tail)) = row.split_at_checked(PERIOD_ROW_BYTES) else {
                self.done = true;
                return Some(Err(usage_error(row)));
            };
            let key = KeyId(std::array::from_fn(|i| head[1 + i]));
            let period = u32::from_be_bytes(std::array::from_fn(|i| head[17 + i]));
            if self.only.is_some_and(|only| only != key) {
                break;
            }
            if period < self.since {
                self.rows.seek(period_row(self.kind, key, self.since));
            } else if period >= self.until {
                let Some(next) = u128::from_be_bytes(key.0).checked_add(1).filter(|_| self.only.is_none()) else { break };
                self.rows.seek(period_row(self.kind, KeyId(next.to_be_bytes()), self.since));
            } else {
                let read = read(key, period, row, tail, value);
                self.rows.next();
                return Some(read);
            }
        }
        self.done = true;
        None
    }
}

fn period_row(kind: u8, key: KeyId, period: u32) -> Vec<u8> {
    [&[kind][..], &key.0, &period.to_be_bytes()].concat()
}

fn count_row(row: &CountRow) -> Vec<u8> {
    let mut bytes = period_row(COUNT, row.key, row.minute);
    bytes.extend_from_slice(&row.version.to_be_bytes());
    bytes.extend_from_slice(&row.function.0.to_be_bytes());
    bytes.push(row.verdict as u8);
    bytes
}

fn country_row(row: &CountryRow) -> Vec<u8> {
    let mut bytes = period_row(COUNTRY, row.key, row.hour);
    bytes.extend_from_slice(&row.country.map_or(NO_COUNTRY, |country| country.0));
    bytes
}

fn network_row(key: KeyId) -> Vec<u8> {
    [&[NETWORKS][..], &key.0].concat()
}

fn usage_error(row: &[u8]) -> StoreError {
    record::record_error(Family::Usage, row, "this is not a usage row".to_owned())
}

/// Joins rows: counts add up, of last uses the later stays, of networks the newest 16. An operand that cannot be read is left out,
/// since an error here would stop RocksDB's compactions, and with them every change, for the sake of a counter.
pub(super) fn merge(row: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let values = existing.into_iter().chain(operands);
    match row.first() {
        Some(&COUNT | &COUNTRY) => {
            let counts = values.filter_map(|value| record::decode::<u64>(Family::Usage, row, value).ok());
            Some(record::encode(&counts.fold(0, u64::saturating_add)))
        }
        Some(&LAST_USE) => {
            let uses = values.filter_map(|value| record::decode::<StoredUse>(Family::Usage, row, value).ok());
            uses.max_by_key(|last| last.at).map(|last| record::encode(&last))
        }
        Some(&NETWORKS) => {
            let lists = values.filter_map(|value| record::decode::<Vec<(Instant, Network)>>(Family::Usage, row, value).ok());
            let mut networks: Vec<(Instant, Network)> = lists.flatten().collect();
            networks.sort_unstable_by(|a, b| b.cmp(a));
            let mut newest: Vec<(Instant, Network)> = Vec::with_capacity(RECENT_NETWORKS);
            for (at, network) in networks {
                if newest.len() < RECENT_NETWORKS && newest.iter().all(|(_, kept)| *kept != network) {
                    newest.push((at, network));
                }
            }
            Some(record::encode(&newest))
        }
        _ => values.last().map(<[u8]>::to_vec),
    }
}
