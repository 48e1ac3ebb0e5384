//! What was counted: rows of minutes, hours and days that each hold many keys, and the uses of each key.
//!
//! A row is of a *bucket* of the keys ([`KeyId::bucket`]), and spans several units. The time comes first in its name: so what is compacted is what is
//! new, and what is too old goes in one range. `docs/storage.md` describes the rows, and how they are rolled up.

mod cover;
#[cfg(test)]
mod measure;
mod read;
mod roll;
#[cfg(test)]
mod tests;
mod uses;

use std::net::IpAddr;

use bincode::{Decode, Encode};
use parking_lot::Mutex;
use rocksdb::{MergeOperands, WriteBatch};

use super::guesses::GUESSES;
use super::{Family, Store, StoreError, TimeFloor, meta, record};
use crate::key::{Country, FunctionId, Instant, KeyId, Network, Verdict};
use crate::record::block::{OfKey, Place, Use, Writer};
use crate::record::uses::{DAY, MINUTE_MS, NO_COUNTRY};
use crate::record::{HourOfGuesses, StoredUses, check_blocks, merge_blocks, merge_uses};

pub use read::{CountRows, CountryRows, UsageMoment};
pub use roll::Keep;
pub use uses::KeyUses;

/// In `usage`: last uses and recent networks of a key.
const USES: u8 = b'U';
/// In `usage`: minutes that were counted in.
const COVERED: u8 = b'C';

/// Bytes from which a row that is written is followed by another of the same bucket and time, so that no row of very many keys grows without bound.
const PART_BYTES: usize = 1 << 20;

/// A unit in which usage is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
}

impl Step {
    /// Minutes in it.
    pub const fn minutes(self) -> u64 {
        match self {
            Step::Minute => 1,
            Step::Hour => 60,
            Step::Day => DAY,
        }
    }

    /// Units that one row spans. Those of finer rows are whole in one unit of the coarser, or the other way round.
    const fn units(self) -> u64 {
        match self {
            Step::Minute => 10,
            Step::Hour => 24,
            Step::Day => 32,
        }
    }

    /// Minutes that one row spans.
    const fn span(self) -> u64 {
        self.units() * self.minutes()
    }

    const fn letter(self) -> u8 {
        match self {
            Step::Minute => b'M',
            Step::Hour => b'H',
            Step::Day => b'D',
        }
    }
}

/// What one flush adds. Rows that come by bucket, then by [`MINUTES_IN_A_ROW`] minutes, then by key are written as they come; others are sorted first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageBatch {
    /// What was counted. Rows of `KeyId::NONE` are of tokens that no key has.
    pub rows: Vec<Counted>,
    /// From which moment to which verifies were counted, whether there were any or not.
    pub covered: Option<(Instant, Instant)>,
    /// The moment behind which time may not run after a restart.
    pub time_floor: Option<TimeFloor>,
    /// How far the counters are written with this.
    pub written: Option<UsageMark>,
}

/// Minutes of a row in the store, by which rows of a batch should be in order.
pub const MINUTES_IN_A_ROW: u32 = Step::Minute.units() as u32;

/// Verifies of one kind within one minute; or, with a count of 0, only that a key was used from a network, in the ten minutes that this one is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
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
    /// From this country; none where there was no address or the database does not place it.
    pub country: Option<Country>,
    /// How many.
    pub count: u64,
    /// When the last of them was.
    pub last_at: Instant,
    /// From where the last of them came.
    pub last_address: Option<IpAddr>,
    /// Whether some came from other networks that no row tells of.
    pub missed_networks: bool,
}

/// How far the counters are written: in the same batch as the rows, so that none is ever written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct UsageMark {
    /// The generation of their table.
    pub generation: u64,
    /// Rows of it that are written.
    pub rows: u64,
}

/// Verifies within one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRow {
    /// Of this key.
    pub key: KeyId,
    /// The beginning of the unit.
    pub at: Instant,
    /// With this version of its secret; 0 for `KeyId::NONE`.
    pub version: u16,
    /// Of this function.
    pub function: FunctionId,
    /// With this verdict.
    pub verdict: Verdict,
    /// How many.
    pub count: u64,
}

/// Verifies within one unit by country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryRow {
    /// Of this key.
    pub key: KeyId,
    /// The beginning of the unit.
    pub at: Instant,
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
    /// When it was used for the first time, as far as is remembered: to ten minutes.
    pub first_at: Instant,
    /// When it was used last.
    pub at: Instant,
}

/// From when on each unit is kept; what is older was removed, or is only there in coarser units. A coarser unit is never kept shorter than a finer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Minutes, from the beginning of an hour.
    pub minutes_since: Instant,
    /// Hours, from the beginning of a day.
    pub hours_since: Instant,
    /// Days.
    pub days_since: Instant,
}

/// How far minutes are added up to hours and these to days, and what is still kept. Written in the same batch as what it tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
struct Marks {
    hours: Progress,
    days: Progress,
    /// From which minute on minutes are kept, hours and days; each not before the next.
    kept: [u64; 3],
}

impl Marks {
    fn kept(&self, step: Step) -> u64 {
        self.kept[step as usize]
    }

    fn told(&self) -> Kept {
        let [minutes_since, hours_since, days_since] = self.kept.map(instant);
        Kept { minutes_since, hours_since, days_since }
    }
}

/// All units before this one are done, and of this one all buckets before this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
struct Progress {
    unit: u64,
    bucket: u16,
}

impl Progress {
    /// The first unit of a bucket that is not done.
    fn end(self, bucket: u8) -> u64 {
        self.unit + u64::from(u16::from(bucket) < self.bucket)
    }
}

/// What the one who writes usage holds.
#[derive(Default)]
pub(super) struct Ledger {
    marks: Marks,
    /// Whether the store has other marks than these.
    unwritten: bool,
}

/// The ledger as the store has it.
pub(super) struct Books {
    ledger: Mutex<Ledger>,
    /// A copy of what the ledger says of what is kept: it may be held for as long as the disk takes.
    kept: Mutex<Kept>,
}

impl Default for Books {
    fn default() -> Books {
        Books { ledger: Mutex::default(), kept: Mutex::new(Marks::default().told()) }
    }
}

impl Store {
    /// Takes over what the store has of the marks: once, when it is opened.
    pub(super) fn open_books(&self) -> Result<(), StoreError> {
        let marks: Marks = self.meta(meta::USAGE_ROLLED)?.unwrap_or_default();
        *self.0.books.kept.lock() = marks.told();
        *self.0.books.ledger.lock() = Ledger { marks, unwritten: false };
        Ok(())
    }

    /// Adds what one flush counted, all or nothing. Nothing is read: RocksDB merges the rows. What belongs to an hour or a day that is rolled up already
    /// is added there, too. Synced only if asked, so that a power failure loses at most what was added since the last sync, and the
    /// death of the process nothing.
    pub fn write_usage(&self, usage: &UsageBatch, sync: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut ledger = self.0.books.ledger.lock();
        let order = |row: &Counted| (row.key.bucket(), row.minute / MINUTES_IN_A_ROW, row.key);
        if usage.rows.is_sorted_by_key(order) {
            self.add_rows(&usage.rows, &ledger.marks, &mut batch);
        } else {
            let mut rows = usage.rows.clone();
            rows.sort_by_key(order);
            self.add_rows(&rows, &ledger.marks, &mut batch);
        }
        self.add_covered(usage, &mut batch);
        if let Some(floor) = usage.time_floor {
            batch.put_cf(self.family(Family::Meta), meta::TIME_FLOOR, record::encode(&floor.at));
            if let Some(boot) = floor.boot {
                batch.put_cf(self.family(Family::Meta), meta::TIME_FLOOR_BOOT, record::encode(&boot));
            }
        }
        if let Some(written) = usage.written {
            batch.put_cf(self.family(Family::Meta), meta::USAGE_WRITTEN, record::encode(&written));
        }
        if batch.is_empty() && !sync {
            return Ok(());
        }
        self.write_with_marks(&mut ledger, batch, sync)
    }

    /// Writes a batch, and the marks with it if the store has others.
    fn write_with_marks(&self, ledger: &mut Ledger, mut batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        if ledger.unwritten {
            batch.put_cf(self.family(Family::Meta), meta::USAGE_ROLLED, record::encode(&ledger.marks));
        }
        let through = self.0.db.latest_sequence_number() + batch.len() as u64;
        self.write(batch, sync)?;
        ledger.unwritten = false;
        if sync {
            // The rows are written whatever becomes of this: where it fails, what was noted before is still true.
            let _ = self.0.witness.lock().note_synced(through);
        }
        Ok(())
    }

    fn add_rows(&self, mut rows: &[Counted], marks: &Marks, batch: &mut WriteBatch) {
        let mut of_key = OfKey::default();
        let mut writer = Writer::new(256);
        let place = |row: &Counted| (row.key.bucket(), row.minute / MINUTES_IN_A_ROW);
        while let Some(first) = rows.first() {
            let (bucket, period) = place(first);
            let rows = split_off(&mut rows, |row| place(row) == (bucket, period));
            let minute = u64::from(period) * Step::Minute.span();
            if minute >= marks.kept(Step::Minute) {
                self.add_period(Step::Minute, bucket, minute, rows, (&mut of_key, &mut writer), batch);
            }
            if minute / Step::Hour.minutes() >= marks.hours.end(bucket) {
                continue;
            }
            self.add_uses(rows, minute, &mut of_key, batch);
            if minute >= marks.kept(Step::Hour) {
                self.add_period(Step::Hour, bucket, minute, rows, (&mut of_key, &mut writer), batch);
            }
            if minute / DAY < marks.days.end(bucket) && minute >= marks.kept(Step::Day) {
                self.add_period(Step::Day, bucket, minute, rows, (&mut of_key, &mut writer), batch);
            }
        }
    }

    /// Adds rows of one bucket, by key, to the row of this tier in which this minute is.
    fn add_period(
        &self,
        tier: Step,
        bucket: u8,
        minute: u64,
        mut rows: &[Counted],
        (of_key, writer): (&mut OfKey, &mut Writer),
        batch: &mut WriteBatch,
    ) {
        let mut parts = Parts::new(self, tier, bucket, minute, batch);
        while let Some(key) = rows.first().map(|row| row.key) {
            fill(of_key, split_off(&mut rows, |row| row.key == key), tier, tier == Step::Minute && key != KeyId::NONE);
            if !of_key.is_empty() {
                parts.add(writer, key, of_key);
            }
        }
        parts.end(writer);
    }

    fn add_uses(&self, mut rows: &[Counted], minute: u64, of_key: &mut OfKey, batch: &mut WriteBatch) {
        while let Some(key) = rows.first().map(|row| row.key) {
            let rows = split_off(&mut rows, |row| row.key == key);
            if key != KeyId::NONE {
                fill(of_key, rows, Step::Minute, true);
                uses::write(&StoredUses::of(of_key, minute), self, key, batch);
            }
        }
    }

    /// How far the counters are written; none if they never were.
    pub fn usage_written(&self) -> Result<Option<UsageMark>, StoreError> {
        self.meta(meta::USAGE_WRITTEN)
    }

    /// From when on each unit is kept.
    pub fn usage_kept(&self) -> Kept {
        *self.0.books.kept.lock()
    }
}

/// Writes the keys of a row of one tier, bucket and time: in more than one, where they are very many.
struct Parts<'a> {
    store: &'a Store,
    row: [u8; ROW_BYTES],
    batch: &'a mut WriteBatch,
}

impl<'a> Parts<'a> {
    fn new(store: &'a Store, tier: Step, bucket: u8, minute: u64, batch: &'a mut WriteBatch) -> Parts<'a> {
        Parts { store, row: usage_row(tier, minute / tier.span(), bucket), batch }
    }

    fn add(&mut self, writer: &mut Writer, key: KeyId, of_key: &OfKey) {
        writer.add(key, of_key);
        if writer.bytes() >= PART_BYTES {
            self.end(writer);
        }
    }

    fn end(&mut self, writer: &mut Writer) {
        if !writer.is_empty() {
            self.batch.merge_cf(self.store.family(Family::Usage), self.row, writer.row());
            writer.clear();
            self.row[ROW_BYTES - 1] = self.row[ROW_BYTES - 1].saturating_add(1);
        }
    }
}

/// What rows of one key have for a row of this tier.
fn fill(of_key: &mut OfKey, rows: &[Counted], tier: Step, with_uses: bool) {
    of_key.clear();
    let begin = rows.first().map_or(0, |row| i64::from(row.minute / MINUTES_IN_A_ROW * MINUTES_IN_A_ROW) * MINUTE_MS);
    for row in rows {
        let at = row.last_at.0.saturating_sub(begin);
        if row.count == 0 {
            of_key.networks.extend(row.last_address.filter(|_| with_uses).map(|address| (Instant(at), Network::around(address))));
            continue;
        }
        let unit = (u64::from(row.minute) / tier.minutes() % tier.units()) as u16;
        let place = Place { unit, function: row.function.0, version: row.version, verdict: row.verdict as u8 };
        of_key.counts.push((place, row.count));
        let country = row.country.map_or(NO_COUNTRY, |country| country.0);
        of_key.countries.push(((unit, country), row.count));
        if with_uses {
            of_key.forgotten = of_key.forgotten.max(row.missed_networks.then_some(at));
            of_key.uses.push(Use { version: row.version, at, address: row.last_address, country });
        }
    }
    of_key.join();
}

/// Bytes of a row's letter, period, bucket and part.
const ROW_BYTES: usize = 1 + 4 + 1 + 1;

fn usage_row(tier: Step, period: u64, bucket: u8) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    row[0] = tier.letter();
    row[1..5].copy_from_slice(&u32::try_from(period).unwrap_or(u32::MAX).to_be_bytes());
    row[5] = bucket;
    row
}

/// Takes from a slice the rows at its beginning that belong together.
fn split_off<'a, T>(rows: &mut &'a [T], together: impl Fn(&T) -> bool) -> &'a [T] {
    let length = rows.iter().position(|row| !together(row)).unwrap_or(rows.len());
    let (taken, rest) = rows.split_at(length);
    *rows = rest;
    taken
}

/// The minute in which a moment lies.
fn minute_of(at: Instant) -> u64 {
    (at.0.max(0) / MINUTE_MS) as u64
}

fn instant(minute: u64) -> Instant {
    Instant(i64::try_from(minute).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS))
}

fn usage_error(row: &[u8]) -> StoreError {
    record::record_error(Family::Usage, row, "this is not a usage row".to_owned())
}

/// Whether a row of the usage can be read whole. Rows of other letters are not looked into.
pub(super) fn check_row(row: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let Some(&letter) = row.first() else { return Err(usage_error(row)) };
    match letter {
        b'M' | b'H' | b'D' => (row.len() == ROW_BYTES && check_blocks(value)).then_some(()).ok_or_else(|| usage_error(row)),
        USES => uses::read(row, value).map(drop),
        COVERED => record::decode::<u64>(Family::Usage, row, value).map(drop),
        GUESSES => record::decode::<HourOfGuesses>(Family::Usage, row, value).map(drop),
        _ => Ok(()),
    }
}

/// Whether the marks can be read.
pub(super) fn check_marks(value: &[u8]) -> Result<(), StoreError> {
    record::decode::<Marks>(Family::Meta, meta::USAGE_ROLLED, value).map(drop)
}

/// Joins rows: counts add up, of last uses the later stays, of networks the newest. What of an operand cannot be read is left out,
/// since an error here would stop RocksDB's compactions, and with them every change, for the sake of a counter.
pub(super) fn merge(row: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let values = existing.into_iter().chain(operands);
    match row.first() {
        Some(b'M' | b'H' | b'D') => Some(merge_blocks(values)),
        Some(&USES) => Some(merge_uses(values)),
        Some(&COVERED) => Some(cover::merge(row, values)),
        _ => values.last().map(<[u8]>::to_vec),
    }
}
