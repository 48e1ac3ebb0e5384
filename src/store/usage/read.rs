//! Reading counts: which rows tell of a span of time, and what they say.

use std::rc::Rc;
use std::vec;

use rocksdb::{DBPinnableSlice, SnapshotWithThreadMode};

use super::{CountRow, CountryRow, DAY, Kept, Marks, NO_COUNTRY, ROW_BYTES, Step, instant, minute_of, usage_error, usage_row};
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};
use crate::record::block::{Block, Blocks};
use crate::store::{Family, Store, StoreError, meta, record};

/// Usage as the store had it at one moment, whatever is written, added up or removed meanwhile. A flush of more rows than go into one write is there with those that were
/// written by then.
#[derive(Clone)]
pub struct UsageMoment<'s>(pub(super) Rc<Reader<'s>>);

impl<'s> UsageMoment<'s> {
    /// As [`Store::usage_counts`].
    pub fn counts(&self, only: Option<KeyId>, since: Instant, until: Instant, step: Step) -> CountRows<'s> {
        CountRows(Rows::new(Ok(self.clone()), only, (since, until), step, counts_of))
    }

    /// As [`Store::usage_countries`].
    pub fn countries(&self, only: Option<KeyId>, since: Instant, until: Instant, step: Step) -> CountryRows<'s> {
        CountryRows(Rows::new(Ok(self.clone()), only, (since, until), step, countries_of))
    }

    /// As [`Store::usage_kept`].
    pub fn kept(&self) -> Kept {
        self.0.marks.told()
    }
}

impl Store {
    /// Usage as it is now, for what is read in more than one go.
    pub fn usage(&self) -> Result<UsageMoment<'_>, StoreError> {
        Ok(UsageMoment(Rc::new(Reader::new(self)?)))
    }

    /// Counts of one key or of all (`KeyId::NONE` included), from the minute of `since` to the last that begins before `until`; the rows of a key stand
    /// together, in the order of time.
    ///
    /// `step` is the coarsest unit that is of use. A row is of the coarsest unit up to it that lies in the span as a whole: so the same verifies make the same rows,
    /// however far they are rolled up. Where units so fine are not kept any more ([`Store::usage_kept`]), rows are of coarser ones that begin
    /// within the span, undivided.
    pub fn usage_counts(&self, only: Option<KeyId>, since: Instant, until: Instant, step: Step) -> CountRows<'_> {
        CountRows(Rows::new(self.usage(), only, (since, until), step, counts_of))
    }

    /// Counts by country, as `usage_counts`.
    pub fn usage_countries(&self, only: Option<KeyId>, since: Instant, until: Instant, step: Step) -> CountryRows<'_> {
        CountryRows(Rows::new(self.usage(), only, (since, until), step, countries_of))
    }

    /// As `usage_counts`, of all keys of one bucket ([`KeyId::bucket`]): 256 calls tell of every key, in memory for a 256th.
    pub fn usage_series(&self, bucket: u8, since: Instant, until: Instant, step: Step) -> Result<Vec<CountRow>, StoreError> {
        let reader = Reader::new(self)?;
        counts_of(&reader, bucket, None, &Plan::new(&reader.marks, bucket, (since, until), step))
    }

    /// As `usage_series`, by country.
    pub fn usage_country_series(&self, bucket: u8, since: Instant, until: Instant, step: Step) -> Result<Vec<CountryRow>, StoreError> {
        let reader = Reader::new(self)?;
        countries_of(&reader, bucket, None, &Plan::new(&reader.marks, bucket, (since, until), step))
    }
}

impl Store {
    /// Hands over what a bucket ([`KeyId::bucket`]) counted, as it stands there: neither in order nor joined, so a key and a unit may come more than once. Rows of a key
    /// within one row of the store come one behind the other. Units are as those of `usage_counts`.
    pub fn each_usage(
        &self,
        bucket: u8,
        (since, until): (Instant, Instant),
        step: Step,
        mut count: impl FnMut(CountRow),
        mut country: impl FnMut(CountryRow),
    ) -> Result<(), StoreError> {
        let reader = Reader::new(self)?;
        let plan = Plan::new(&reader.marks, bucket, (since, until), step);
        counts_into(&reader, bucket, None, &plan, &mut count)?;
        countries_into(&reader, bucket, None, &plan, &mut country)
    }
}

/// Counts by unit.
pub struct CountRows<'s>(Rows<'s, CountRow>);

/// Counts by unit and country.
pub struct CountryRows<'s>(Rows<'s, CountryRow>);

impl Iterator for CountRows<'_> {
    type Item = Result<CountRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl Iterator for CountryRows<'_> {
    type Item = Result<CountryRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

type OfBucket<T> = fn(&Reader<'_>, u8, Option<KeyId>, &Plan) -> Result<Vec<T>, StoreError>;

/// Rows bucket by bucket, all of one moment.
struct Rows<'s, T> {
    /// What is read from; the error until it was told.
    usage: Option<Result<UsageMoment<'s>, StoreError>>,
    only: Option<KeyId>,
    span: (Instant, Instant),
    step: Step,
    read: OfBucket<T>,
    buckets: std::ops::RangeInclusive<u8>,
    found: vec::IntoIter<T>,
}

impl<'s, T> Rows<'s, T> {
    fn new(
        usage: Result<UsageMoment<'s>, StoreError>,
        only: Option<KeyId>,
        span: (Instant, Instant),
        step: Step,
        read: OfBucket<T>,
    ) -> Rows<'s, T> {
        let buckets = only.map_or(0..=u8::MAX, |key| key.bucket()..=key.bucket());
        Rows { usage: Some(usage), only, span, step, read, buckets, found: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Option<Result<T, StoreError>> {
        loop {
            if let Some(row) = self.found.next() {
                return Some(Ok(row));
            }
            if let Some(Err(error)) = self.usage.take_if(|usage| usage.is_err()) {
                return Some(Err(error));
            }
            let Some(Ok(UsageMoment(reader))) = &self.usage else { return None };
            let bucket = self.buckets.next()?;
            match (self.read)(reader, bucket, self.only, &Plan::new(&reader.marks, bucket, self.span, self.step)) {
                Ok(rows) => self.found = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn counts_of(reader: &Reader<'_>, bucket: u8, only: Option<KeyId>, plan: &Plan) -> Result<Vec<CountRow>, StoreError> {
    let mut rows: Vec<CountRow> = Vec::new();
    counts_into(reader, bucket, only, plan, &mut |row| rows.push(row))?;
    // Stable, since that finds what is in order already: the rows that were read.
    rows.sort_by_key(|row| (row.key, row.at, row.version, row.function, row.verdict));
    rows.dedup_by(|later, kept| {
        let same = CountRow { count: 0, ..*later } == CountRow { count: 0, ..*kept };
        if same {
            kept.count = kept.count.saturating_add(later.count);
        }
        same
    });
    Ok(rows)
}

fn countries_of(reader: &Reader<'_>, bucket: u8, only: Option<KeyId>, plan: &Plan) -> Result<Vec<CountryRow>, StoreError> {
    let mut rows: Vec<CountryRow> = Vec::new();
    countries_into(reader, bucket, only, plan, &mut |row| rows.push(row))?;
    rows.sort_by_key(|row| (row.key, row.at, row.country));
    rows.dedup_by(|later, kept| {
        let same = (later.key, later.at, later.country) == (kept.key, kept.at, kept.country);
        if same {
            kept.count = kept.count.saturating_add(later.count);
        }
        same
    });
    Ok(rows)
}

/// Hands over counts as they stand in the rows.
fn counts_into(
    reader: &Reader<'_>,
    bucket: u8,
    only: Option<KeyId>,
    plan: &Plan,
    take: &mut impl FnMut(CountRow),
) -> Result<(), StoreError> {
    for &(tier, from, to) in &plan.segments {
        reader.each_block(tier, bucket, (from, to), only, |base, block| {
            let mut known = true;
            block.each_count(|place, count| {
                let minute = base + u64::from(place.unit) * tier.minutes();
                if (from..to).contains(&minute) {
                    let verdict = Verdict::from_number(place.verdict);
                    known &= verdict.is_some();
                    if let Some(verdict) = verdict {
                        let (at, version, function) = (instant(plan.unit_of(minute)), place.version, FunctionId(place.function));
                        take(CountRow { key: block.key, at, version, function, verdict, count });
                    }
                }
            })?;
            known.then_some(())
        })?;
    }
    Ok(())
}

/// As `counts_into`, by country.
fn countries_into(
    reader: &Reader<'_>,
    bucket: u8,
    only: Option<KeyId>,
    plan: &Plan,
    take: &mut impl FnMut(CountryRow),
) -> Result<(), StoreError> {
    for &(tier, from, to) in &plan.segments {
        reader.each_block(tier, bucket, (from, to), only, |base, block| {
            block.each_country(|(unit, code), count| {
                let minute = base + u64::from(unit) * tier.minutes();
                if (from..to).contains(&minute) {
                    let country = (code != NO_COUNTRY).then_some(Country(code));
                    take(CountryRow { key: block.key, at: instant(plan.unit_of(minute)), country, count });
                }
            })
        })?;
    }
    Ok(())
}

/// Which rows are read for a span of a bucket, and of which unit that is counted which they make.
struct Plan {
    /// Units of a tier that begin between two minutes. No moment is in two of them.
    segments: Vec<(Step, u64, u64)>,
    since: u64,
    until: u64,
    step: Step,
}

impl Plan {
    fn new(marks: &Marks, bucket: u8, (since, until): (Instant, Instant), step: Step) -> Plan {
        let until_ms = until.0.max(0);
        let until = minute_of(until) + u64::from(until_ms % super::MINUTE_MS != 0);
        let mut plan = Plan { segments: Vec::new(), since: minute_of(since), until, step };
        plan.add(marks, bucket, Step::Day, (plan.since, plan.until));
        plan
    }

    /// Whole units of this tier that are rolled up and kept, if they are of use; the rest in finer ones.
    fn add(&mut self, marks: &Marks, bucket: u8, tier: Step, (since, until): (u64, u64)) {
        if since >= until {
            return;
        }
        let (finer, rolled) = match tier {
            Step::Day => (Step::Hour, marks.days.end(bucket)),
            Step::Hour => (Step::Minute, marks.hours.end(bucket)),
            Step::Minute => return self.add_minutes(marks, (since, until)),
        };
        let unit = tier.minutes();
        let first = since.next_multiple_of(unit).max(marks.kept(tier));
        let last = (until / unit * unit).min(rolled * unit);
        if tier > self.step || first >= last {
            return self.add(marks, bucket, finer, (since, until));
        }
        self.segments.push((tier, first, last));
        self.add(marks, bucket, finer, (since, first.min(until)));
        self.add(marks, bucket, finer, (last, until));
    }

    /// Minutes, where they are kept; before that, hours that begin in the span, and before these, days.
    fn add_minutes(&mut self, marks: &Marks, (since, until): (u64, u64)) {
        let mut until = until;
        for tier in [Step::Minute, Step::Hour, Step::Day] {
            let first = since.next_multiple_of(tier.minutes()).max(marks.kept(tier));
            if first < until {
                self.segments.push((tier, first, until));
            }
            until = until.min(marks.kept(tier));
        }
    }

    /// The beginning of the unit that what happened in this minute counts in: the coarsest up to the step that lies in the span.
    fn unit_of(&self, minute: u64) -> u64 {
        for step in [Step::Day, Step::Hour] {
            let unit = step.minutes();
            let begin = minute / unit * unit;
            if step <= self.step && begin >= self.since && begin + unit <= self.until {
                return begin;
            }
        }
        minute
    }
}

/// Periods without a row of a bucket after which it is looked for the next one with a row of any.
const LEAP: u32 = 64;

/// Reads usage as of one moment.
pub(super) struct Reader<'s> {
    store: &'s Store,
    snapshot: SnapshotWithThreadMode<'s, rocksdb::DB>,
    pub(super) marks: Marks,
}

impl<'s> Reader<'s> {
    pub(super) fn new(store: &'s Store) -> Result<Reader<'s>, StoreError> {
        let reader = Reader { store, snapshot: store.0.db.snapshot(), marks: Marks::default() };
        let marks = reader.get_from(Family::Meta, meta::USAGE_ROLLED)?;
        let marks = marks.map(|marks| record::decode(Family::Meta, meta::USAGE_ROLLED, &marks)).transpose()?.unwrap_or_default();
        Ok(Reader { marks, ..reader })
    }

    pub(super) fn get(&self, row: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.get_from(Family::Usage, row)
    }

    fn get_from(&self, family: Family, row: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.snapshot.get_pinned_cf(self.store.family(family), row).map_err(|error| self.store.cannot_read("cannot read the store", error))
    }

    /// Hands over each row that begins so.
    pub(super) fn each_row(&self, prefix: &[u8], mut with: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.each_row_from(prefix, |row, value| if row.starts_with(prefix) { with(row, value).map(|()| true) } else { Ok(false) })
    }

    /// Hands over each row from this one on, until it is told that it is enough.
    pub(super) fn each_row_from(
        &self,
        first: &[u8],
        mut with: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = self.snapshot.raw_iterator_cf(self.store.family(Family::Usage));
        rows.seek(first);
        while let Some((row, value)) = rows.item() {
            if !with(row, value)? {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.store.cannot_read("cannot read the usage", error))
    }

    /// Hands over the blocks of a bucket, of one key or of all, from rows that have to do with the time between two minutes; with the minute in which a row begins. A
    /// block of which it says nothing is damaged.
    pub(super) fn each_block(
        &self,
        tier: Step,
        bucket: u8,
        (from, to): (u64, u64),
        only: Option<KeyId>,
        mut with: impl FnMut(u64, &Block<'_>) -> Option<()>,
    ) -> Result<(), StoreError> {
        let mut next = from / tier.span();
        let mut missed = 0;
        while next * tier.span() < to && next <= u32::MAX.into() {
            if self.each_block_of_period(tier, (next, bucket), only, &mut with)? {
                (next, missed) = (next + 1, 0);
            } else if missed < LEAP {
                (next, missed) = (next + 1, missed + 1);
            } else {
                let Some(period) = self.first_period(tier, next + 1)? else { break };
                (next, missed) = (period, 0);
            }
        }
        Ok(())
    }

    /// Hands over the blocks of a bucket from one row; tells whether there is one. It is asked for by its name, since an iterator that comes to rest on the row of
    /// another bucket joins all that was written to that one since the last compaction.
    fn each_block_of_period(
        &self,
        tier: Step,
        (period, bucket): (u64, u8),
        only: Option<KeyId>,
        with: &mut impl FnMut(u64, &Block<'_>) -> Option<()>,
    ) -> Result<bool, StoreError> {
        let mut row = usage_row(tier, period, bucket);
        for part in 0..=u8::MAX {
            row[ROW_BYTES - 1] = part;
            let Some(value) = self.get(&row)? else { return Ok(part > 0) };
            each_block_of(&value, only, |block| with(period * tier.span(), block)).ok_or_else(|| usage_error(&row))?;
        }
        Ok(true)
    }

    /// The first period of a tier, from this one on, of which there is any row.
    pub(super) fn first_period(&self, tier: Step, from: u64) -> Result<Option<u64>, StoreError> {
        let mut rows = self.snapshot.raw_iterator_cf(self.store.family(Family::Usage));
        rows.seek(usage_row(tier, from, 0));
        rows.status().map_err(|error| self.store.cannot_read("cannot read the usage", error))?;
        Ok(rows.key().and_then(|row| place(tier, row)).map(|(period, _)| period))
    }
}

/// The period and the bucket of a row, if it is one of this tier.
fn place(tier: Step, row: &[u8]) -> Option<(u64, u8)> {
    let row: &[u8; ROW_BYTES] = row.try_into().ok()?;
    (row[0] == tier.letter()).then(|| (u32::from_be_bytes(std::array::from_fn(|i| row[1 + i])).into(), row[5]))
}

fn each_block_of(row: &[u8], only: Option<KeyId>, mut with: impl FnMut(&Block<'_>) -> Option<()>) -> Option<()> {
    let mut blocks = Blocks::new(row)?;
    while let Some(block) = blocks.next_block().ok()? {
        match only.map_or(std::cmp::Ordering::Equal, |only| block.key.cmp(&only)) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => with(&block)?,
            std::cmp::Ordering::Greater => break,
        }
    }
    Some(())
}

const _: () = assert!(DAY == Step::Hour.span() && Step::Hour.minutes().is_multiple_of(Step::Minute.span()));
