//! Every file of a small store with one byte changed, cut short, emptied or removed: the store is opened as the daemon opens it, and shows exactly what was
//! acknowledged, or is refused with the file or the directory named. Where a read fails later, the error names what cannot be read; nothing is ever read wrongly.
//!
//! `DOORWARD_FLIPS` says how many bytes are tried (0: every one; `make corruption`), `DOORWARD_FLIP_SEED` which.
//!
//! Planted to see it fail: without `check_witness` in `Store::open` (a log cut short loses changes in silence), and with `create_if_missing(true)` whatever the
//! directory holds (a removed CURRENT gives an empty store).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use doorward::catalog::change::{Change, Patch, Reply, Request, Target};
use doorward::catalog::check::{self, CheckOptions};
use doorward::catalog::{Catalog, CatalogOptions, Time};
use doorward::digest::{Pepper, Peppers};
use doorward::index::Index;
use doorward::key::history::Actor;
use doorward::key::{Function, Instant, Key, KeyRef, Settings, Span};
use doorward::store::{Head, Recorded, Store, StoreOptions};

use crate::{Dice, folder, number, seed};

const NOW: Instant = Instant(1_800_000_000_000);

/// All that was acknowledged.
#[derive(Debug, Clone, PartialEq)]
struct State {
    head: Head,
    keys: Vec<Key>,
    functions: Vec<(Function, Option<Instant>)>,
    entries: Vec<Recorded>,
    remembered: bool,
}

/// How a damaged store behaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It shows exactly what was acknowledged.
    Exact,
    /// It is refused at the start.
    Refused,
    /// It was opened, and a part of the history cannot be read, which is said.
    Unreadable,
}

#[test]
fn a_damaged_store_is_exact_or_refused() {
    let base = tempfile::tempdir().expect("a folder");
    let state = build(base.path());
    let files = files(base.path());
    let total: usize = files.values().map(Vec::len).sum();
    let mut dice = Dice(seed("DOORWARD_FLIP_SEED"));
    let wanted = number("DOORWARD_FLIPS", 250);
    let mut tally: BTreeMap<(String, Outcome), u64> = BTreeMap::new();
    let mut try_one = |damage: &str, name: &str, bytes: Option<&[u8]>| {
        let outcome = attempt(&files, name, bytes, &state).unwrap_or_else(|wrong| panic!("{name}, {damage}: {wrong}"));
        *tally.entry((kind(name), outcome)).or_default() += 1;
    };
    for (name, whole) in &files {
        try_one("removed", name, None);
        try_one("emptied", name, Some(&[]));
        for _ in 0..8 {
            let end = dice.below(whole.len() as u64) as usize;
            try_one(&format!("cut at {end}"), name, Some(&whole[..end]));
        }
        let end = whole.len().saturating_sub(1);
        try_one("without its last byte", name, Some(&whole[..end]));
        try_one("with a byte more", name, Some(&[whole, &[0x41][..]].concat()));
    }
    // RocksDB's text logs, options and identity say nothing that is read at a start: a byte here and there of them.
    let is_read = |name: &str| ["tables", "log", "MANIFEST", "CURRENT", "acknowledged"].contains(&kind(name).as_str());
    let step = |name: &str| if is_read(name) { 1 } else { 211 };
    let all = files.iter().flat_map(|(name, whole)| (0..whole.len()).step_by(step(name)).map(move |at| (name, whole, at)));
    let mut flips: Vec<_> = all.collect();
    if wanted > 0 {
        flips = (0..wanted).map(|_| flips[dice.below(flips.len() as u64) as usize]).collect();
    }
    for (name, whole, at) in flips {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << dice.below(8);
        try_one(&format!("byte {at} changed"), name, Some(&damaged));
    }
    println!("{total} bytes in {} files", files.len());
    for ((kind, outcome), count) in &tally {
        println!("{kind:>14}: {count:>6} {outcome:?}");
    }
    assert!(tally.iter().any(|((_, outcome), _)| *outcome == Outcome::Refused));
}

/// Opens the store with one file damaged as a daemon would. An error is a wrong answer.
fn attempt(files: &BTreeMap<String, Vec<u8>>, damaged: &str, bytes: Option<&[u8]>, state: &State) -> Result<Outcome, String> {
    let folder = folder();
    for (name, whole) in files {
        let bytes = if name == damaged { bytes } else { Some(&whole[..]) };
        if let Some(bytes) = bytes {
            fs::write(folder.path().join(name), bytes).expect("a file");
        }
    }
    // A look that changes nothing: exact, or with faults.
    if let Ok(store) = Store::open_to_read(folder.path(), StoreOptions::default()) {
        let options = CheckOptions { peppers: Some(&peppers()), against: &[state.head], now: NOW };
        let report = check::check(&store, &options, &mut |_| true).map_err(|error| error.to_string())?;
        if report.is_clean() && read(&store).as_ref() != Ok(state) {
            return Err(format!(
                "the check finds nothing, but {}",
                read(&store).map_or_else(|error| error, |found| difference(&found, state))
            ));
        }
    }
    let named = |error: String| {
        let place = folder.path().display().to_string();
        if error.contains(&place) || error.contains("column family") || error.contains("restore a backup") {
            Ok(error)
        } else {
            Err(format!("refused without a name: {error}"))
        }
    };
    let store = match Store::open(folder.path(), StoreOptions::default()) {
        Ok(store) => store,
        Err(error) => return named(error.to_string()).map(|_| Outcome::Refused),
    };
    let index = Arc::new(Index::new());
    let catalog = match Catalog::open(store.clone(), Arc::clone(&index), peppers(), || Time::certain(NOW), CatalogOptions::default()) {
        Ok(catalog) => catalog,
        Err(error) => return named(error.to_string()).map(|_| Outcome::Refused),
    };
    if let Some(key) = state.keys.iter().find(|key| !index.shows(key)) {
        return Err(format!("{} is verified otherwise than it was acknowledged", key.id));
    }
    if index.secrets() != state.keys.iter().map(|key| key.secrets.len()).sum::<usize>() {
        return Err("there are other secrets than were acknowledged".to_owned());
    }
    match read(catalog.store()) {
        Ok(found) if found == *state => Ok(Outcome::Exact),
        Ok(found) => Err(difference(&found, state)),
        Err(error) => named(error).map(|_| Outcome::Unreadable),
    }
}

/// All that a store shows.
fn read(store: &Store) -> Result<State, String> {
    let mut entries = Vec::new();
    store.each_entry(1..=u64::MAX, |recorded| entries.push(recorded)).map_err(|error| error.to_string())?;
    let error = |error: doorward::store::StoreError| error.to_string();
    Ok(State {
        head: store.head().map_err(error)?,
        keys: store.keys(None).collect::<Result<_, _>>().map_err(error)?,
        functions: store.functions_ever().map_err(error)?,
        entries,
        remembered: store.remembered("request-1").map_err(error)?.is_some(),
    })
}

fn difference(found: &State, state: &State) -> String {
    let counts = |state: &State| (state.head.sequence, state.keys.len(), state.functions.len(), state.entries.len(), state.remembered);
    let keys = found.keys.iter().filter(|key| !state.keys.contains(key)).count();
    format!("it shows {:?} instead of {:?}, {keys} keys otherwise", counts(found), counts(state))
}

/// A store with tables of two ages and a log, as a killed daemon leaves it.
fn build(path: &Path) -> State {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut state = None;
    let live = tempfile::tempdir().expect("a folder");
    for age in 0..3 {
        let store = Store::open(live.path(), StoreOptions::default()).expect("a store");
        let catalog =
            Catalog::open(store, Arc::new(Index::new()), peppers(), || Time::certain(NOW), CatalogOptions::default()).expect("a catalog");
        let change = |change: Change| {
            let actor = Actor { uid: 7, user: None, on_behalf_of: None };
            runtime.block_on(catalog.change(Request { actor, change })).expect("a change")
        };
        for n in 0..6 {
            change(Change::FunctionAdd { name: format!("f{age}.{n}").parse().expect("a name"), restricted: n % 2 == 0 });
            let request_id = Some(format!("request-{}", age * 10 + n));
            let Reply::Made(made) = change(Change::Create { settings: Settings::new("acme", &format!("k{age}-{n}")), request_id }) else {
                panic!("a key is made")
            };
            let key = KeyRef::Id(made.key.id);
            let patch = Patch { description: Some(format!("of age {age}")), ..Patch::default() };
            change(Change::Edit { target: Target::One { key: key.clone(), revision: None }, patch: Box::new(patch) });
            change(Change::Rotate { key: key.clone(), revision: None, overlap: Span(1_000 * n), request_id: None });
            match n {
                1 | 2 => drop(change(Change::Revoke { key, revision: None, version: None })),
                3 => drop(change(Change::Delete { key, revision: None })),
                4 => drop(change(Change::Switch { target: Target::One { key, revision: None }, enabled: false })),
                _ => (),
            }
        }
        if age == 2 {
            // As a kill leaves it: while it is open.
            for (name, bytes) in files(live.path()) {
                fs::write(path.join(name), bytes).expect("a file");
            }
            state = read(catalog.store()).ok();
        }
    }
    state.expect("a state")
}

fn peppers() -> Peppers {
    Peppers { current: Pepper::from_bytes([5; 32]), previous: None }
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))).collect()
}

/// Files by what they are.
fn kind(name: &str) -> String {
    let stem = name.split('-').next().unwrap_or(name);
    match name.rsplit_once('.') {
        Some((_, "sst")) => "tables".to_owned(),
        Some((_, "log")) => "log".to_owned(),
        _ => stem.split('.').next().unwrap_or(stem).to_owned(),
    }
}
