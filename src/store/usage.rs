use std::net::IpAddr;

use bincode::{Decode, Encode};
use rocksdb::{DBRawIterator, MergeOperands, WriteBatch};

use super::{Family, Store, StoreError, disk_error, meta, record};
use crate::key::{Country, FunctionId, Instant, KeyId, Network, Verdict};

/// Networks remembered for one key: enough to see where it lives, bounded for a key that roams.
pub const RECENT_NETWORKS: usize = 16;

/// In `usage`: verifies by key and minute.
const MINUTE: u8 = b'M';
/// In `usage`: the last uses and recent networks of a key.
const USES: u8 = b'U';

const MINUTE_MS: i64 = 60_000;
/// Minutes of an hour.
const HOUR: u32 = 60;
/// Stands for an address that no database placed.
const NO_COUNTRY: [u8; 2] = [0; 2];
/// Functions, and versions, that share a row of a minute. They bound its length: 256 × 32 × 16 verdicts and 677 countries are less than a record may have.
const FUNCTIONS_IN_A_ROW: u16 = 256;
const VERSIONS_IN_A_ROW: u16 = 32;

/// What one flush adds. Rows of `KeyId::NONE` count tokens that no key has. Rows of one key, and of one minute, that stand together are written as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageBatch {
    /// Verifies to add.
    pub counts: Vec<CountRow>,
    /// The same verifies by country.
    pub countries: Vec<CountryRow>,
    /// Last uses; the later of each and what is stored stays.
    pub last_uses: Vec<LastUse>,
    /// Networks that were used; the newest 16 of a key stay.
    pub networks: Vec<NetworkUse>,
    /// The moment behind which time may not run after a restart.
    pub time_floor: Option<Instant>,
    /// How far the counters are written with this.
    pub written: Option<UsageMark>,
}

/// How far the counters are written: in the same batch as the rows, so that none is ever written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct UsageMark {
    /// The generation of their table.
    pub generation: u64,
    /// Rows of it that are written.
    pub rows: u64,
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

/// Verifies within one minute by country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryRow {
    /// Of this key.
    pub key: KeyId,
    /// Minutes since 1970-01-01T00:00:00Z.
    pub minute: u32,
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

/// What is stored of a minute of a key: verifies by version, function and verdict, and again by country. Each place of a list is there once, in order.
#[derive(Default, Encode, Decode)]
struct StoredMinute {
    counts: Vec<((u16, u16, u8), u64)>,
    countries: Vec<([u8; 2], u64)>,
}

/// What is stored of the uses of a key: the last of each version, and the networks, newest first.
#[derive(Default, Encode, Decode)]
struct StoredUses {
    last: Vec<(u16, StoredUse)>,
    networks: Vec<(Instant, Network)>,
}

#[derive(Clone, Copy, Encode, Decode)]
struct StoredUse {
    at: Instant,
    address: Option<IpAddr>,
    country: Option<Country>,
}

impl Store {
    /// Adds what one flush counted. Nothing is read: RocksDB merges the rows. Synced only if asked, so that a power failure loses
    /// at most what was added since the last sync, and the death of the process nothing.
    pub fn write_usage(&self, usage: &UsageBatch, sync: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        self.add_minutes(usage, &mut batch);
        self.add_uses(usage, &mut batch);
        if let Some(floor) = usage.time_floor {
            batch.put_cf(self.family(Family::Meta), meta::TIME_FLOOR, record::encode(&floor));
        }
        if let Some(written) = usage.written {
            batch.put_cf(self.family(Family::Meta), meta::USAGE_WRITTEN, record::encode(&written));
        }
        if batch.is_empty() && !sync { Ok(()) } else { self.write(batch, sync) }
    }

    fn add_minutes(&self, usage: &UsageBatch, batch: &mut WriteBatch) {
        let (mut counts, mut countries) = (&usage.counts[..], &usage.countries[..]);
        let mut record = Vec::new();
        loop {
            let (first, other) = (counts.first().map(|row| (row.key, row.minute)), countries.first().map(|row| (row.key, row.minute)));
            let Some((key, minute)) = first.into_iter().chain(other).min() else { return };
            let mut of_minute = StoredMinute::default();
            let places = split_off(&mut countries, |row| (row.key, row.minute) == (key, minute));
            of_minute.countries.extend(places.iter().map(|row| (row.country.map_or(NO_COUNTRY, |country| country.0), row.count)));
            let rows = split_off(&mut counts, |row| (row.key, row.minute) == (key, minute));
            let mut part = rows.first().map_or([0; 2], part_of);
            for row in rows {
                if part_of(row) != part {
                    self.add_minute(key, minute, part, std::mem::take(&mut of_minute), &mut record, batch);
                    part = part_of(row);
                }
                of_minute.counts.push(((row.version, row.function.0, row.verdict as u8), row.count));
            }
            self.add_minute(key, minute, part, of_minute, &mut record, batch);
        }
    }

    fn add_minute(&self, key: KeyId, minute: u32, part: [u8; 2], mut rows: StoredMinute, record: &mut Vec<u8>, batch: &mut WriteBatch) {
        add_up(&mut rows.counts);
        add_up(&mut rows.countries);
        record.clear();
        record::encode_into(record, &rows);
        let mut row = [0; PERIOD_ROW_BYTES + 2];
        row[..PERIOD_ROW_BYTES].copy_from_slice(&period_row(key, minute));
        row[PERIOD_ROW_BYTES..].copy_from_slice(&part);
        batch.merge_cf(self.family(Family::Usage), row, record);
    }

    fn add_uses(&self, usage: &UsageBatch, batch: &mut WriteBatch) {
        let (mut uses, mut networks) = (&usage.last_uses[..], &usage.networks[..]);
        let mut record = Vec::new();
        loop {
            let Some(key) = uses.first().map(|last| last.key).into_iter().chain(networks.first().map(|network| network.key)).min() else {
                return;
            };
            let last = split_off(&mut uses, |last| last.key == key).iter();
            let recent = split_off(&mut networks, |network| network.key == key).iter();
            let mut of_key = StoredUses {
                last: last.map(|last| (last.version, StoredUse { at: last.at, address: last.address, country: last.country })).collect(),
                networks: recent.map(|network| (network.at, network.network)).collect(),
            };
            of_key.join();
            record.clear();
            record::encode_into(&mut record, &of_key);
            batch.merge_cf(self.family(Family::Usage), uses_row(key), &record);
        }
    }

    /// How far the counters are written; none if they never were.
    pub fn usage_written(&self) -> Result<Option<UsageMark>, StoreError> {
        self.meta(meta::USAGE_WRITTEN)
    }

    /// Counts by minute, of one key or of all (`KeyId::NONE` included), from the minute of `since` to the last that begins before
    /// `until`; by key, then by minute.
    pub fn usage_counts(&self, key: Option<KeyId>, since: Instant, until: Instant) -> CountRows<'_> {
        let (since, until) = minutes(since, until);
        CountRows { periods: self.periods(key, since, until), found: Vec::new() }
    }

    /// Counts by country, as `usage_counts`, but of whole hours: from the hour of `since` to the last that begins before `until`.
    pub fn usage_countries(&self, key: Option<KeyId>, since: Instant, until: Instant) -> CountryRows<'_> {
        let (since, until) = minutes(since, until);
        let (since, until) = (since - since % HOUR, until.div_ceil(HOUR).saturating_mul(HOUR));
        CountryRows { periods: self.periods(key, since, until), found: Vec::new() }
    }

    /// The last use of each of a key's secrets that was ever used, by version.
    pub fn last_uses(&self, key: KeyId) -> Result<Vec<LastUse>, StoreError> {
        let uses = self.uses(key)?.last.into_iter();
        Ok(uses.map(|(version, StoredUse { at, address, country })| LastUse { key, version, at, address, country }).collect())
    }

    /// The networks that a key was used from, newest first; at most 16.
    pub fn recent_networks(&self, key: KeyId) -> Result<Vec<NetworkUse>, StoreError> {
        Ok(self.uses(key)?.networks.into_iter().map(|(at, network)| NetworkUse { key, network, at }).collect())
    }

    fn uses(&self, key: KeyId) -> Result<StoredUses, StoreError> {
        let row = uses_row(key);
        let Some(value) = self.get(Family::Usage, &row)? else { return Ok(StoredUses::default()) };
        record::decode(Family::Usage, &row, &value)
    }

    fn periods(&self, only: Option<KeyId>, since: u32, until: u32) -> Periods<'_> {
        let mut rows = self.0.db.raw_iterator_cf(self.family(Family::Usage));
        rows.seek(period_row(only.unwrap_or(KeyId::NONE), since));
        Periods { rows, only, since, until, done: false }
    }
}

/// From which minute to before which.
fn minutes(since: Instant, until: Instant) -> (u32, u32) {
    let minute = |ms: i64| u32::try_from(ms.max(0) / MINUTE_MS).unwrap_or(u32::MAX);
    (minute(since.0), minute(until.0.max(0).saturating_add(MINUTE_MS - 1)))
}

/// Counts by minute.
pub struct CountRows<'s> {
    periods: Periods<'s>,
    /// Of the row that was read last; the next one at the end.
    found: Vec<CountRow>,
}

/// Counts by minute and country.
pub struct CountryRows<'s> {
    periods: Periods<'s>,
    /// Of the row that was read last; the next one at the end.
    found: Vec<CountryRow>,
}

impl Iterator for CountRows<'_> {
    type Item = Result<CountRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.found.is_empty() {
            let found = self.periods.step(|key, minute, row, stored| {
                let counts = stored.counts.into_iter().rev().map(|((version, function, verdict), count)| {
                    let verdict = Verdict::from_number(verdict).ok_or_else(|| usage_error(row))?;
                    Ok(CountRow { key, minute, version, function: FunctionId(function), verdict, count })
                });
                counts.collect()
            })?;
            match found {
                Ok(rows) => self.found = rows,
                Err(error) => return Some(Err(error)),
            }
        }
        self.found.pop().map(Ok)
    }
}

impl Iterator for CountryRows<'_> {
    type Item = Result<CountryRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.found.is_empty() {
            let found = self.periods.step(|key, minute, _, stored| {
                let country = |code| (code != NO_COUNTRY).then_some(Country(code));
                let rows = stored.countries.into_iter().rev();
                Ok(rows.map(|(code, count)| CountryRow { key, minute, country: country(code), count }).collect())
            })?;
            match found {
                Ok(rows) => self.found = rows,
                Err(error) => return Some(Err(error)),
            }
        }
        self.found.pop().map(Ok)
    }
}

/// Rows of minutes. What lies outside the minutes asked for is leapt over key by key.
struct Periods<'s> {
    rows: DBRawIterator<'s>,
    only: Option<KeyId>,
    since: u32,
    until: u32,
    done: bool,
}

/// Bytes of a row's kind, key id and minute.
const PERIOD_ROW_BYTES: usize = 1 + 16 + 4;

impl Periods<'_> {
    fn step<T>(&mut self, read: impl Fn(KeyId, u32, &[u8], StoredMinute) -> Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        while !self.done {
            let Some((row, value)) = self.rows.item() else {
                self.done = true;
                return self.rows.status().err().map(|error| Err(disk_error("cannot read the usage", error)));
            };
            if row.first() != Some(&MINUTE) {
                break;
            }
            let Some((head, _)) = row.split_at_checked(PERIOD_ROW_BYTES) else {
                self.done = true;
                return Some(Err(usage_error(row)));
            };
            let key = KeyId(std::array::from_fn(|i| head[1 + i]));
            let minute = u32::from_be_bytes(std::array::from_fn(|i| head[17 + i]));
            if self.only.is_some_and(|only| only != key) {
                break;
            }
            if minute < self.since {
                self.rows.seek(period_row(key, self.since));
            } else if minute >= self.until {
                let Some(next) = u128::from_be_bytes(key.0).checked_add(1).filter(|_| self.only.is_none()) else { break };
                self.rows.seek(period_row(KeyId(next.to_be_bytes()), self.since));
            } else {
                let read = record::decode(Family::Usage, row, value).and_then(|stored| read(key, minute, row, stored));
                self.rows.next();
                return Some(read);
            }
        }
        self.done = true;
        None
    }
}

fn period_row(key: KeyId, minute: u32) -> [u8; PERIOD_ROW_BYTES] {
    let mut row = [MINUTE; PERIOD_ROW_BYTES];
    row[1..17].copy_from_slice(&key.0);
    row[17..].copy_from_slice(&minute.to_be_bytes());
    row
}

fn uses_row(key: KeyId) -> [u8; 17] {
    let mut row = [USES; 17];
    row[1..].copy_from_slice(&key.0);
    row
}

/// Which of the rows of its minute a count is in.
fn part_of(row: &CountRow) -> [u8; 2] {
    let part = |number: u16, share: u16| u8::try_from(number / share).unwrap_or(u8::MAX);
    [part(row.function.0, FUNCTIONS_IN_A_ROW), part(row.version, VERSIONS_IN_A_ROW)]
}

/// Takes from a slice the rows at its beginning that belong together.
fn split_off<'a, T>(rows: &mut &'a [T], together: impl Fn(&T) -> bool) -> &'a [T] {
    let length = rows.iter().position(|row| !together(row)).unwrap_or(rows.len());
    let (taken, rest) = rows.split_at(length);
    *rows = rest;
    taken
}

/// Makes each place of a list stand there once, with its sum, in order.
fn add_up<P: Ord + Copy>(counts: &mut Vec<(P, u64)>) {
    counts.sort_unstable_by_key(|(place, _)| *place);
    counts.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(later.1);
        }
        same
    });
}

impl StoredUses {
    /// Of each version only the last use stays, of the networks the newest.
    fn join(&mut self) {
        self.last.sort_by_key(|(version, last)| (*version, std::cmp::Reverse(last.at)));
        self.last.dedup_by_key(|(version, _)| *version);
        self.networks.sort_unstable_by(|a, b| b.cmp(a));
        let mut newest: Vec<(Instant, Network)> = Vec::with_capacity(RECENT_NETWORKS);
        for &(at, network) in &self.networks {
            if newest.len() < RECENT_NETWORKS && newest.iter().all(|(_, kept)| *kept != network) {
                newest.push((at, network));
            }
        }
        self.networks = newest;
    }
}

fn usage_error(row: &[u8]) -> StoreError {
    record::record_error(Family::Usage, row, "this is not a usage row".to_owned())
}

/// Joins rows: counts add up, of last uses the later stays, of networks the newest 16. An operand that cannot be read is left out,
/// since an error here would stop RocksDB's compactions, and with them every change, for the sake of a counter.
pub(super) fn merge(row: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let values = existing.into_iter().chain(operands);
    match row.first() {
        Some(&MINUTE) => {
            let mut sum = StoredMinute::default();
            for stored in values.filter_map(|value| record::decode::<StoredMinute>(Family::Usage, row, value).ok()) {
                sum.counts.extend(stored.counts);
                sum.countries.extend(stored.countries);
            }
            add_up(&mut sum.counts);
            add_up(&mut sum.countries);
            Some(record::encode(&sum))
        }
        Some(&USES) => {
            let mut all = StoredUses::default();
            for stored in values.filter_map(|value| record::decode::<StoredUses>(Family::Usage, row, value).ok()) {
                all.last.extend(stored.last);
                all.networks.extend(stored.networks);
            }
            all.join();
            Some(record::encode(&all))
        }
        _ => values.last().map(<[u8]>::to_vec),
    }
}
