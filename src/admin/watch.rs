//! Series of usage from the store, as the room that judges them takes them.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap;

use crate::key::{Instant, Key, KeyId, Verdict};
use crate::store::{CountRow, CountryRow, KeyUses, Step, Store, StoreError};
use crate::unusual::{Frame, Guesser, OldSecret, Seen, Usage, hour};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const MINUTE_MS: i64 = 60_000;
/// A bucket for each value of a byte: see [`KeyId::bucket`].
const BUCKETS: std::ops::RangeInclusive<u8> = 0..=u8::MAX;

/// Which keys.
pub(super) enum Keys {
    All,
    These(BTreeSet<KeyId>),
}

/// The frame around the time from `since` to `now`, with so many days before it as far as their hours are kept, and with what was counted in it.
pub(super) fn frame(store: &Store, since: Instant, now: Instant, days: u32) -> Result<Frame, StoreError> {
    let last = hour(now);
    // A day that is not kept by the hour would look as if all of it had been in one.
    let kept = hour(Instant(store.usage_kept().hours_since.0.saturating_add(HOUR_MS - 1))).min(last);
    let since = hour(since).max(kept);
    let from = since.saturating_sub(days * 24).max(kept);
    let mut covered = vec![0u8; (last + 1 - from) as usize];
    for (begin, end) in store.usage_covered(begins(from), now)? {
        let mut at = begin.0 - begin.0.rem_euclid(MINUTE_MS);
        while at < end.0 {
            let next = (at - at.rem_euclid(HOUR_MS) + HOUR_MS).min(end.0);
            let minutes = ((next - at + MINUTE_MS - 1) / MINUTE_MS) as u8;
            if let Some(place) = covered.get_mut((hour(Instant(at)) - from) as usize) {
                *place = place.saturating_add(minutes);
            }
            at = next;
        }
    }
    Ok(Frame { from, since, now, covered })
}

/// What one key, or nobody's tokens, have in the frame.
#[derive(Default)]
struct Gathered {
    usage: Usage,
    denials: BTreeMap<Verdict, Vec<u64>>,
    /// By version, in the time in question: answered with `ok`, refused as old, and the last hour.
    secrets: BTreeMap<u16, (u64, u64, u32)>,
    /// By version, the last use that is known to the moment.
    last: BTreeMap<u16, Instant>,
}

impl Gathered {
    fn count(&mut self, row: &CountRow, frame: &Frame) {
        let (at, hours) = (hour(row.at), frame.covered.len());
        let Some(place) = at.checked_sub(frame.from).map(|place| place as usize).filter(|place| *place < hours) else { return };
        let series = if row.verdict == Verdict::Ok { &mut self.usage.ok } else { self.denials.entry(row.verdict).or_default() };
        series.resize(hours, 0);
        series[place] = series[place].saturating_add(row.count);
        if at >= frame.since {
            let (ok, refused, last) = self.secrets.entry(row.version).or_default();
            match row.verdict {
                Verdict::Ok => *ok += row.count,
                Verdict::Retired | Verdict::Revoked => *refused += row.count,
                _ => return,
            }
            *last = at.max(*last);
        }
    }

    fn place(&mut self, row: &CountryRow, frame: &Frame) {
        let at = hour(row.at);
        if (frame.from..frame.from + frame.covered.len() as u32).contains(&at) {
            self.usage.countries.push((at, row.country, row.count));
        }
    }

    fn uses(&mut self, uses: KeyUses) {
        self.last = uses.last.iter().map(|last| (last.version, last.at)).collect();
        let usage = &mut self.usage;
        usage.networks_forgotten = uses.forgotten;
        usage.networks =
            uses.networks.iter().map(|used| Seen { network: used.network, first_at: used.first_at, last_at: used.at }).collect();
        usage.spreads = uses.spreads.iter().map(|&(day, networks)| (day.into(), networks.into())).collect();
    }

    /// Whether there is anything to judge: a use in the frame.
    fn is_used(&self) -> bool {
        !self.usage.ok.is_empty() || !self.denials.is_empty()
    }

    fn finish(mut self, frame: &Frame) -> Usage {
        self.usage.ok.resize(frame.covered.len(), 0);
        self.usage.denials = self.denials.into_iter().collect();
        let old = self.secrets.into_iter().filter(|(_, (ok, refused, _))| ok + refused > 0);
        let last_used = |version: u16, hour| self.last.get(&version).copied().unwrap_or(begins(hour));
        let old = old.map(|(version, (ok, refused, last))| OldSecret { version, ok, refused, last, used_at: last_used(version, last) });
        self.usage.old_secrets = old.collect();
        self.usage
    }
}

/// Hands over the usage of each key that was used in the frame, deleted ones included, and (for all keys) that of tokens that no key has, with `None`.
pub(super) fn each(store: &Store, keys: &Keys, frame: &Frame, mut with: impl FnMut(Option<&Key>, &Usage)) -> Result<(), StoreError> {
    for bucket in BUCKETS {
        if let Keys::These(keys) = keys
            && !keys.iter().any(|key| key.bucket() == bucket)
        {
            continue;
        }
        let mut found = gather(store, keys, frame, bucket)?;
        for uses in store.uses_of_bucket(bucket)? {
            if let Some(gathered) = found.get_mut(&uses.key) {
                gathered.uses(uses);
            }
        }
        for (id, gathered) in found.into_iter().filter(|(_, gathered)| gathered.is_used()) {
            let mut usage = gathered.finish(frame);
            if id == KeyId::NONE {
                with(None, &usage);
            } else if let Some(key) = store.key(id)? {
                if key.created_at < begins(frame.from) && !was_used(&usage, frame) {
                    usage.used_before = used_before(store, id, begins(frame.from))?;
                }
                with(Some(&key), &usage);
            }
        }
    }
    Ok(())
}

/// The usage of one key; none where it was not used in the frame.
pub(super) fn of_key(store: &Store, key: &Key, frame: &Frame) -> Result<Option<Usage>, StoreError> {
    let mut found = None;
    each(store, &Keys::These(BTreeSet::from([key.id])), frame, |_, usage| found = Some(usage.clone()))?;
    Ok(found)
}

/// What the wanted keys of a bucket counted in the frame, by key.
fn gather(store: &Store, keys: &Keys, frame: &Frame, bucket: u8) -> Result<BTreeMap<KeyId, Gathered>, StoreError> {
    let span = (begins(frame.from), Instant(frame.now.0.saturating_add(HOUR_MS)));
    if let Keys::These(keys) = keys {
        let mut found: BTreeMap<KeyId, Gathered> = BTreeMap::new();
        for &id in keys.iter().filter(|id| id.bucket() == bucket) {
            for row in store.usage_counts(Some(id), span.0, span.1, Step::Hour) {
                found.entry(id).or_default().count(&row?, frame);
            }
            for row in store.usage_countries(Some(id), span.0, span.1, Step::Hour) {
                found.entry(id).or_default().place(&row?, frame);
            }
        }
        return Ok(found);
    }
    // Rows of a key come one behind the other, so it is looked up once for them.
    let mut all = Places::default();
    let mut countries = Places::default();
    store.each_usage(bucket, span, Step::Hour, |row| all.of(row.key).count(&row, frame), |row| countries.of(row.key).place(&row, frame))?;
    let mut found: BTreeMap<KeyId, Gathered> = all.gathered.into_iter().collect();
    for (id, gathered) in countries.gathered {
        found.entry(id).or_default().usage.countries = gathered.usage.countries;
    }
    Ok(found)
}

/// What is gathered of the keys of a bucket.
#[derive(Default)]
struct Places {
    gathered: Vec<(KeyId, Gathered)>,
    places: AHashMap<KeyId, usize>,
    last: usize,
}

impl Places {
    fn of(&mut self, key: KeyId) -> &mut Gathered {
        if self.gathered.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = *self.places.entry(key).or_insert(self.gathered.len());
            if self.last == self.gathered.len() {
                self.gathered.push((key, Gathered::default()));
            }
        }
        &mut self.gathered[self.last].1
    }
}

/// Whether the key was used in the history of the frame.
fn was_used(usage: &Usage, frame: &Frame) -> bool {
    let since = (frame.since - frame.from) as usize;
    let any = |series: &Vec<u64>| series.iter().take(since).any(|count| *count > 0);
    any(&usage.ok) || usage.denials.iter().any(|(_, series)| any(series))
}

/// The end of the last hour before a moment in which a key was used; of the last day, where hours are not kept any more. It may have been used as late as that.
fn used_before(store: &Store, key: KeyId, before: Instant) -> Result<Option<Instant>, StoreError> {
    let mut last = None;
    for row in store.usage_counts(Some(key), Instant(0), before, Step::Hour) {
        last = last.max(Some(row?.at));
    }
    let hours_since = store.usage_kept().hours_since;
    Ok(last.map(|at| {
        let unit = if at >= hours_since { HOUR_MS } else { DAY_MS };
        Instant((at.0 + unit).min(before.0) - 1)
    }))
}

/// Who sent tokens that nobody has, in the frame. The counts of an hour in which the daemon was started again add up, and so do their errors.
pub(super) fn guessers(store: &Store, frame: &Frame) -> Result<Vec<Guesser>, StoreError> {
    let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for guesses in store.guesses(begins(frame.from), frame.now)? {
        for (network, count, error) in guesses.networks {
            let (counts, errors) = sums.entry((guesses.hour, network)).or_default();
            *counts = counts.saturating_add(count);
            *errors = errors.saturating_add(error);
        }
    }
    Ok(sums.into_iter().map(|((hour, network), (count, error))| Guesser { hour, network, count, error }).collect())
}

fn begins(hour: u32) -> Instant {
    Instant(i64::from(hour) * HOUR_MS)
}
