//! What the store knows of a key's usage, as the rooms that judge it take it.

use std::collections::{BTreeMap, HashMap};

use crate::advise::{Called, Evidence};
use crate::key::{Function, FunctionId, Instant, Key, KeyId, Span, Verdict};
use crate::store::{CountRow, CountryRow, KeyUses, Step, Store, StoreError};

/// Entries of a key's history that are read at a time, until the latest change of each list is found.
const ENTRIES: usize = 100;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// How far back usage is looked at: a year, and some days more for what is done once a year.
const LOOKED_AT_MS: i64 = 400 * DAY_MS;

/// The registered functions by number.
pub(super) struct Catalog(HashMap<FunctionId, Function>);

impl Catalog {
    /// As it is now.
    pub(super) fn read(store: &Store) -> Result<Catalog, StoreError> {
        Ok(Catalog(store.functions()?.into_iter().map(|function| (function.id, function)).collect()))
    }
}

/// All that is known of the usage of one key in the last 400 days. Secrets that are good no more are told of as far back as `lately`.
pub(super) fn of_key(store: &Store, key: &Key, catalog: &Catalog, now: Instant, lately: Span) -> Result<Evidence, StoreError> {
    let (since, until) = span(store, now)?;
    let mut evidence = blank(store, key, store.uses(key.id)?, since)?;
    for row in store.usage_counts(Some(key.id), since, until, Step::Hour) {
        add_count(&mut evidence, &row?, catalog, Instant(now.0.saturating_sub(lately.0)));
    }
    for row in store.usage_countries(Some(key.id), since, until, Step::Day) {
        let CountryRow { country, count, .. } = row?;
        *evidence.countries.entry(country).or_default() += count;
    }
    Ok(evidence)
}

/// The same of each of these keys that is not deleted, in the order of their buckets: what is of one bucket is read together, so that time and memory
/// are those of all keys once, and of a 256th of them.
pub(super) fn of_each(
    store: &Store,
    ids: impl Iterator<Item = Result<KeyId, StoreError>>,
    catalog: &Catalog,
    (now, lately): (Instant, Span),
    mut with: impl FnMut(&Key, &Evidence),
) -> Result<(), StoreError> {
    let (since, until) = span(store, now)?;
    let lately = Instant(now.0.saturating_sub(lately.0));
    let mut buckets: Vec<Vec<KeyId>> = vec![Vec::new(); 256];
    for id in ids {
        let id = id?;
        buckets[usize::from(id.bucket())].push(id);
    }
    for (bucket, ids) in (0..=u8::MAX).zip(buckets).filter(|(_, ids)| !ids.is_empty()) {
        let mut uses: HashMap<KeyId, KeyUses> = store.uses_of_bucket(bucket)?.into_iter().map(|uses| (uses.key, uses)).collect();
        let mut found: HashMap<KeyId, (Key, Evidence)> = HashMap::with_capacity(ids.len());
        for &id in &ids {
            if let Some(key) = store.key(id)?.filter(|key| key.deleted_at.is_none()) {
                let uses = uses.remove(&id).unwrap_or(KeyUses {
                    key: id,
                    last: Vec::new(),
                    networks: Vec::new(),
                    forgotten: None,
                    spreads: Vec::new(),
                });
                let evidence = blank(store, &key, uses, since)?;
                found.insert(id, (key, evidence));
            }
        }
        for row in store.usage_series(bucket, since, until, Step::Day)? {
            if let Some((_, evidence)) = found.get_mut(&row.key) {
                add_count(evidence, &row, catalog, lately);
            }
        }
        for row in store.usage_country_series(bucket, since, until, Step::Day)? {
            if let Some((_, evidence)) = found.get_mut(&row.key) {
                *evidence.countries.entry(row.country).or_default() += row.count;
            }
        }
        ids.iter().filter_map(|id| found.get(id)).for_each(|(key, evidence)| with(key, evidence));
    }
    Ok(())
}

/// From when to when usage is looked at: 400 days, or as long as there was counted and is kept.
fn span(store: &Store, now: Instant) -> Result<(Instant, Instant), StoreError> {
    let since = (now.0 - LOOKED_AT_MS).max(0);
    let begun = store.usage_begun()?.unwrap_or(now).min(now);
    let since = Instant(since - since % DAY_MS).max(begun).max(store.usage_kept().days_since);
    Ok((since, now.plus(Span(MINUTE_MS))))
}

/// What is known of a key without its counts.
fn blank(store: &Store, key: &Key, uses: KeyUses, since: Instant) -> Result<Evidence, StoreError> {
    let (networks, last_uses) = (uses.networks, uses.last);
    let ([grants_since, networks_since, countries_since], known) = lists_since(store, key)?;
    let looked_at = key.created_at.max(since).max(known);
    Ok(Evidence {
        since: looked_at,
        functions: BTreeMap::new(),
        unnamed: 0,
        verifies: 0,
        countries: BTreeMap::new(),
        networks_whole: uses.forgotten.is_none_or(|at| at < looked_at.max(networks_since)),
        networks: networks.into_iter().map(|used| (used.network, used.at)).collect(),
        last_uses: last_uses.into_iter().map(|last| (last.version, last.at)).collect(),
        refused: BTreeMap::new(),
        grants_since,
        networks_since,
        countries_since,
    })
}

fn add_count(evidence: &mut Evidence, row: &CountRow, catalog: &Catalog, lately: Instant) {
    evidence.verifies += row.count;
    match (row.verdict, catalog.0.get(&row.function)) {
        (Verdict::Ok, Some(function)) => {
            let called = evidence.functions.entry(function.name.clone()).or_insert(Called { count: 0, restricted: function.restricted });
            called.count += row.count;
        }
        (Verdict::Ok, None) => evidence.unnamed += row.count,
        (Verdict::Retired | Verdict::Revoked, _) if row.at >= lately => {
            *evidence.refused.entry(row.version).or_default() += row.count;
        }
        _ => {}
    }
}

/// When grants, networks and countries became what they are, and since when the key is known here: with the first entry of its history, which is later than
/// its making where it was imported.
fn lists_since(store: &Store, key: &Key) -> Result<([Instant; 3], Instant), StoreError> {
    let mut since = [None; 3];
    let (mut before, mut known) = (None, key.created_at);
    loop {
        let entries = store.history(Some(key.id), before, ENTRIES)?;
        for entry in &entries {
            for (at, field) in since.iter_mut().zip(["grants", "networks", "countries"]) {
                if at.is_none() && entry.changes.iter().any(|change| change.field == field) {
                    *at = Some(entry.at);
                }
            }
            known = entry.at;
        }
        // A list that was never changed became what it is with the first entry.
        match entries.last().filter(|_| entries.len() == ENTRIES) {
            Some(last) => before = Some(last.sequence),
            None => return Ok((since.map(|at| at.unwrap_or(known)), known)),
        }
    }
}
