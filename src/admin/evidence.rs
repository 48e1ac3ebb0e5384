//! What the store knows of a key's usage, as the rooms that judge it take it.

use std::collections::{BTreeMap, HashMap};

use crate::advise::{Called, Evidence};
use crate::key::{Function, FunctionId, Instant, Key, Span, Verdict};
use crate::store::{CountRow, CountryRow, RECENT_NETWORKS, Step, Store, StoreError};

/// Entries of a key's history that are searched for the latest change of a list.
const ENTRIES: usize = 100;
const MINUTE_MS: i64 = 60_000;

/// The registered functions by number.
pub(super) struct Catalog(HashMap<FunctionId, Function>);

impl Catalog {
    /// As it is now.
    pub(super) fn read(store: &Store) -> Result<Catalog, StoreError> {
        Ok(Catalog(store.functions()?.into_iter().map(|function| (function.id, function)).collect()))
    }
}

/// All that is known of the usage of one key. Secrets that are good no more are told of as far back as `lately`.
pub(super) fn of_key(store: &Store, key: &Key, catalog: &Catalog, now: Instant, lately: Span) -> Result<Evidence, StoreError> {
    let (since, until) = (Instant(0), now.plus(Span(MINUTE_MS)));
    let mut evidence = blank(store, key)?;
    for row in store.usage_counts(Some(key.id), since, until, Step::Hour) {
        add_count(&mut evidence, &row?, catalog, Instant(now.0.saturating_sub(lately.0)));
    }
    for row in store.usage_countries(Some(key.id), since, until, Step::Day) {
        let CountryRow { country, count, .. } = row?;
        *evidence.countries.entry(country).or_default() += count;
    }
    Ok(evidence)
}

/// What is known of a key without its counts.
fn blank(store: &Store, key: &Key) -> Result<Evidence, StoreError> {
    let networks = store.recent_networks(key.id)?;
    let last_uses = store.last_uses(key.id)?;
    let [grants_since, networks_since, countries_since] = lists_since(store, key)?;
    Ok(Evidence {
        since: key.created_at,
        functions: BTreeMap::new(),
        unnamed: 0,
        verifies: 0,
        countries: BTreeMap::new(),
        // Where there is room for another, none was ever forgotten.
        networks_whole: networks.len() < RECENT_NETWORKS,
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

/// When grants, networks and countries became what they are: at their latest change that the key's history tells of, else with the key.
fn lists_since(store: &Store, key: &Key) -> Result<[Instant; 3], StoreError> {
    let mut since = [key.created_at; 3];
    // The first revision is that of the key as it was made.
    if key.revision > 1 {
        let entries = store.history(Some(key.id), None, ENTRIES)?;
        for (at, field) in since.iter_mut().zip(["grants", "networks", "countries"]) {
            let changed = |entry: &&crate::key::history::Entry| entry.changes.iter().any(|change| change.field == field);
            *at = entries.iter().find(changed).map_or(key.created_at, |entry| entry.at);
        }
    }
    Ok(since)
}
