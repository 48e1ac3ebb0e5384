use std::collections::hash_map::Entry;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};

use super::By;
use super::counted::Reading;
use super::periods::Periods;
use crate::admin::problem::{Failure, Word};
use crate::key::{Country, FunctionId, KeyId, Verdict};
use crate::store::{CountRow, CountryRow, UsageMoment};

/// How long one report may count.
const COUNT_TIME: Duration = Duration::from_secs(10);
/// Rows of one report.
pub(super) const ROWS: usize = 100_000;
/// Keys of an account that are read one by one. More are picked from a reading of all.
const SINGLE_KEYS: usize = 32;

/// One combination of values. The order of the fields is that of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    pub(super) period: Option<usize>,
    pub(super) key: Option<Who>,
    pub(super) version: Option<u16>,
    pub(super) function: Option<FunctionId>,
    pub(super) verdict: Option<Verdict>,
    pub(super) country: Option<Option<Country>>,
}

/// Whose verifies they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// This key's, or `KeyId::NONE`'s.
    Key(KeyId),
    /// Those of all keys that are not among the first.
    Others,
}

/// Verifies, and how many of them were denied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) denied: u64,
}

/// Whose usage is read.
pub(super) enum Whose {
    All,
    One(KeyId),
    These(AHashSet<KeyId>),
}

/// Adds up rows of the store.
pub(super) struct Counting<'r> {
    pub(super) usage: &'r UsageMoment<'r>,
    pub(super) whose: &'r Whose,
    pub(super) reading: &'r Reading,
    pub(super) begun: std::time::Instant,
}

/// The keys with most verifies, and how many others there are.
pub(super) struct Top {
    pub(super) first: Vec<KeyId>,
    pub(super) others: u64,
}

impl Sum {
    fn add(&mut self, count: u64, denied: bool) {
        self.count = self.count.saturating_add(count);
        self.denied = self.denied.saturating_add(if denied { count } else { 0 });
    }
}

impl Counting<'_> {
    /// The sums of each combination of the dimensions, and that of all.
    pub(super) fn groups(&self, by: By, periods: Option<&Periods>, top: Option<&Top>) -> Result<(Vec<(Group, Sum)>, Sum), Failure> {
        let mut sums: AHashMap<Group, Sum> = AHashMap::new();
        let mut total = Sum::default();
        let first: Option<AHashSet<KeyId>> = top.map(|top| top.first.iter().copied().collect());
        let who = |key: KeyId| match &first {
            Some(first) if key != KeyId::NONE && !first.contains(&key) => Who::Others,
            _ => Who::Key(key),
        };
        self.each(by.country, |row| {
            let group = Group {
                period: periods.map(|periods| periods.holding(row.place)),
                key: by.key.then(|| who(row.key)),
                version: by.secret.then_some(row.version),
                function: by.function.then_some(row.function),
                verdict: by.verdict.then_some(row.verdict),
                country: by.country.then_some(row.country),
            };
            total.add(row.count, row.verdict != Verdict::Ok);
            let rows = sums.len();
            match sums.entry(group) {
                Entry::Occupied(mut sum) => sum.get_mut().add(row.count, row.verdict != Verdict::Ok),
                Entry::Vacant(_) if rows >= ROWS => return Err(too_many_rows()),
                Entry::Vacant(place) => place.insert(Sum::default()).add(row.count, row.verdict != Verdict::Ok),
            }
            Ok(())
        })?;
        let mut groups: Vec<(Group, Sum)> = sums.into_iter().collect();
        groups.sort_unstable_by_key(|(group, _)| *group);
        if let Some(top) = top {
            let ranks: AHashMap<KeyId, usize> = top.first.iter().enumerate().map(|(rank, key)| (*key, rank)).collect();
            let rank = |group: &Group| match group.key {
                Some(Who::Key(KeyId::NONE)) => ranks.len(),
                Some(Who::Key(key)) => ranks.get(&key).copied().unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            groups.sort_by_key(|(group, _)| rank(group));
        }
        Ok((groups, total))
    }

    /// The keys with most verifies, most first; those of equal numbers by their ids. Tokens that no key has are nobody's.
    pub(super) fn top(&self, most: usize) -> Result<Top, Failure> {
        let mut sums: AHashMap<KeyId, u64> = AHashMap::new();
        // Rows of a key stand together.
        let (mut last, mut run) = (KeyId::NONE, 0u64);
        self.each(false, |row| {
            if row.key != last {
                if last != KeyId::NONE {
                    *sums.entry(last).or_default() += run;
                }
                (last, run) = (row.key, 0);
            }
            run = run.saturating_add(row.count);
            Ok(())
        })?;
        if last != KeyId::NONE {
            *sums.entry(last).or_default() += run;
        }
        let mut keys: Vec<(std::cmp::Reverse<u64>, KeyId)> = sums.into_iter().map(|(key, count)| (std::cmp::Reverse(count), key)).collect();
        let others = keys.len().saturating_sub(most);
        if others > 0 {
            keys.select_nth_unstable(most);
            keys.truncate(most);
        }
        keys.sort_unstable();
        Ok(Top { first: keys.into_iter().map(|(_, key)| key).collect(), others: others as u64 })
    }
}

/// What a report takes of a row of the store.
struct Counted {
    key: KeyId,
    place: i64,
    version: u16,
    function: FunctionId,
    verdict: Verdict,
    country: Option<Country>,
    count: u64,
}

impl Counting<'_> {
    /// Shows each row of the report's time; with countries, or else with all the rest.
    fn each(&self, countries: bool, mut take: impl FnMut(Counted) -> Result<(), Failure>) -> Result<(), Failure> {
        let one = |key: KeyId| vec![Some(key)];
        let (keys, wanted) = match self.whose {
            Whose::All => (vec![None], None),
            Whose::One(key) => (one(*key), None),
            Whose::These(keys) if keys.len() <= SINGLE_KEYS => {
                let mut keys: Vec<Option<KeyId>> = keys.iter().copied().map(Some).collect();
                keys.sort_unstable();
                (keys, None)
            }
            Whose::These(keys) => (vec![None], Some(keys)),
        };
        let mut read = 0u64;
        let mut row = |counted: Counted| -> Result<(), Failure> {
            read += 1;
            if read.is_multiple_of(4_096) && self.begun.elapsed() > COUNT_TIME {
                return Err(too_long());
            }
            if wanted.is_some_and(|wanted| !wanted.contains(&counted.key)) { Ok(()) } else { take(counted) }
        };
        let (since, until, step) = (self.reading.since, self.reading.until, self.reading.step);
        for only in keys {
            if countries {
                for found in self.usage.countries(only, since, until, step) {
                    let CountryRow { key, at, country, count } = found?;
                    let Some(place) = self.reading.place(at) else { continue };
                    let (version, function, verdict) = (0, FunctionId::OTHER, Verdict::Ok);
                    row(Counted { key, place, version, function, verdict, country, count })?;
                }
            } else {
                for found in self.usage.counts(only, since, until, step) {
                    let CountRow { key, at, version, function, verdict, count } = found?;
                    let Some(place) = self.reading.place(at) else { continue };
                    row(Counted { key, place, version, function, verdict, country: None, count })?;
                }
            }
        }
        Ok(())
    }
}

/// What can be asked for instead of a report that is too large.
pub(super) fn too_many_rows() -> Failure {
    let detail = format!("by: the report would have more than {ROWS} rows; ask for fewer dimensions, a shorter time, or one key");
    Failure::new(Word::Limit, detail).with_field("by")
}

fn too_long() -> Failure {
    let detail = format!("since: counting took more than {} s; ask for a shorter time, or one key", COUNT_TIME.as_secs());
    Failure::new(Word::Limit, detail).with_field("since")
}
