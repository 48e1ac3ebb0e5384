//! Adding minutes up to hours, hours to days, and removing what is older than it is to be kept. One bucket of one unit at a time.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use super::cover::covered_row;
use super::read::Reader;
use super::{DAY, Ledger, Parts, Progress, Step, minute_of, usage_row};
use crate::key::{Instant, KeyId, Span};
use crate::record::StoredUses;
use crate::record::block::{OfKey, Place, Writer};
use crate::store::{Family, Store, StoreError};

/// How long after its end an hour or a day is added up. What comes still later is added to both when it comes.
const GRACE: u64 = 1;
const BUCKETS: u16 = 256;

/// How long each unit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Minutes.
    pub minutes: Span,
    /// Hours; for as long as minutes, if that is longer.
    pub hours: Span,
    /// Days, likewise.
    pub days: Span,
}

impl Default for Keep {
    /// 48 hours, 90 days, 5 years of 365 days.
    fn default() -> Keep {
        let day = 86_400_000;
        Keep { minutes: Span(2 * day), hours: Span(90 * day), days: Span(5 * 365 * day) }
    }
}

impl Store {
    /// Adds up the next bucket of an hour or of a day that is over; tells whether there may be more to do. `now` is a moment that time certainly has reached:
    /// units that end later are left alone, whatever is counted in them.
    ///
    /// # Errors
    /// The store cannot be read or written; then nothing has changed.
    pub fn roll_usage(&self, now: Instant) -> Result<bool, StoreError> {
        let mut ledger = self.0.books.ledger.lock();
        let over = minute_of(now).saturating_sub(GRACE);
        if self.roll(&mut ledger, Step::Hour, over / Step::Hour.minutes())? {
            return Ok(true);
        }
        let days = (over / DAY).min(ledger.marks.hours.unit * Step::Hour.minutes() / DAY);
        self.roll(&mut ledger, Step::Day, days)
    }

    fn roll(&self, ledger: &mut Ledger, tier: Step, over: u64) -> Result<bool, StoreError> {
        let finer = if tier == Step::Day { Step::Hour } else { Step::Minute };
        let before = if tier == Step::Day { ledger.marks.days } else { ledger.marks.hours };
        if before.unit >= over {
            return Ok(false);
        }
        let reader = Reader::new(self)?;
        if before.bucket == 0 {
            // Leaps over units without any rows, however many they are.
            let first = reader.first_period(finer, before.unit * tier.minutes() / finer.span())?;
            let unit = first.map_or(over, |period| period * finer.span() / tier.minutes()).min(over);
            if unit > before.unit {
                self.advance(ledger, tier, Progress { unit, bucket: 0 });
                return Ok(unit < over);
            }
        }
        let bucket = before.bucket as u8;
        let mut batch = WriteBatch::default();
        self.add_unit(&reader, tier, finer, (before.unit, bucket), &mut batch)?;
        let after = before.bucket + 1;
        let after = if after == BUCKETS { Progress { unit: before.unit + 1, bucket: 0 } } else { Progress { bucket: after, ..before } };
        let marks = ledger.marks;
        self.advance(ledger, tier, after);
        if !batch.is_empty()
            && let Err(error) = self.write_with_marks(ledger, batch, false)
        {
            ledger.marks = marks;
            return Err(error);
        }
        Ok(true)
    }

    /// Moves a mark. Where that is all that happened it is written with the next batch: units without rows may be looked at again after a kill.
    fn advance(&self, ledger: &mut Ledger, tier: Step, progress: Progress) {
        match tier {
            Step::Day => ledger.marks.days = progress,
            Step::Hour | Step::Minute => ledger.marks.hours = progress,
        }
        ledger.unwritten = true;
    }

    /// Adds what a bucket has in finer rows of one unit to the unit's row, and the uses in rows of minutes to those of the keys.
    fn add_unit(
        &self,
        reader: &Reader<'_>,
        tier: Step,
        finer: Step,
        (unit, bucket): (u64, u8),
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let (from, to) = (unit * tier.minutes(), (unit + 1) * tier.minutes());
        let within = (unit % tier.units()) as u16;
        let mut keys: BTreeMap<KeyId, (OfKey, StoredUses)> = BTreeMap::new();
        let mut of_block = OfKey::default();
        reader.each_block(finer, bucket, (from, to), None, |base, block| {
            of_block.clear();
            of_block.read(block)?;
            let (of_key, uses) = keys.entry(block.key).or_default();
            let is_within = |at: u16| (from..to).contains(&(base + u64::from(at) * finer.minutes()));
            let counts = of_block.counts.iter().filter(|(place, _)| is_within(place.unit));
            of_key.counts.extend(counts.map(|&(place, count)| (Place { unit: within, ..place }, count)));
            let countries = of_block.countries.iter().filter(|((at, _), _)| is_within(*at));
            of_key.countries.extend(countries.map(|&((_, code), count)| ((within, code), count)));
            of_key.join();
            if block.has_uses() {
                uses.add(StoredUses::of(&of_block, base));
            }
            Some(())
        })?;
        let mut writer = Writer::new(256);
        let mut parts = Parts::new(self, tier, bucket, from, batch);
        for (key, (of_key, _)) in &keys {
            parts.add(&mut writer, *key, of_key);
        }
        parts.end(&mut writer);
        for (key, (_, uses)) in keys.iter().filter(|(_, (_, uses))| *uses != StoredUses::default()) {
            super::uses::write(uses, self, *key, batch);
        }
        Ok(())
    }

    /// Removes what is older than it is to be kept, where it is added up in coarser units. `now` is a moment that time certainly has reached.
    ///
    /// # Errors
    /// The store cannot be read or written; then nothing has changed.
    pub fn expire_usage(&self, now: Instant, keep: &Keep) -> Result<(), StoreError> {
        let mut ledger = self.0.books.ledger.lock();
        let marks = ledger.marks;
        let before = |span: Span| minute_of(Instant(now.0.saturating_sub(span.0)));
        // A coarser unit is kept at least as long as the finer one: so each moment is told by the finest that is left.
        let minutes = before(keep.minutes).min(marks.hours.unit * Step::Hour.minutes()) / Step::Hour.minutes() * Step::Hour.minutes();
        let minutes = minutes.max(marks.kept(Step::Minute));
        let hours = before(keep.hours).min(minutes).min(marks.days.unit * DAY) / DAY * DAY;
        let hours = hours.max(marks.kept(Step::Hour));
        let days = before(keep.days).min(hours) / Step::Day.span() * Step::Day.span();
        let kept = [minutes, hours, days.max(marks.kept(Step::Day))];
        if kept == marks.kept {
            return Ok(());
        }
        let reader = Reader::new(self)?;
        let mut batch = WriteBatch::default();
        for (tier, until) in [Step::Minute, Step::Hour, Step::Day].into_iter().zip(kept) {
            let until = until / tier.span();
            if reader.first_period(tier, 0)?.is_some_and(|first| first < until) {
                batch.delete_range_cf(self.family(Family::Usage), usage_row(tier, 0, 0), usage_row(tier, until, 0));
            }
        }
        if kept[2] > marks.kept(Step::Day) {
            batch.delete_range_cf(self.family(Family::Usage), covered_row(0), covered_row(kept[2] / Step::Hour.minutes()));
        }
        ledger.marks.kept = kept;
        ledger.unwritten = true;
        if let Err(error) = self.write_with_marks(&mut ledger, batch, false) {
            ledger.marks = marks;
            return Err(error);
        }
        *self.0.books.kept.lock() = ledger.marks.told();
        Ok(())
    }
}
