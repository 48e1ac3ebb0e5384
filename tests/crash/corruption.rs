//! Every file of a small store with one byte changed, cut short, emptied or removed: the store is opened as the daemon opens it, and shows exactly what was
//! acknowledged, or is refused with that very file named. Where a read fails later, the error names it, too; nothing is ever read wrongly.
//! Usage is there to the last count, too, or the store says that some is lost, and by which file. So does the check.
//!
//! `DOORWARD_FLIPS` says how many bytes are tried (0: every one; `make corruption`), `DOORWARD_FLIP_SEED` which.
//!
//! Planted to see it fail: without `check_witness` in `Store::open` (a log cut short loses changes in silence), and with `create_if_missing(true)` whatever the
//! directory holds (a removed CURRENT gives an empty store); without `framing::faults` (a record's kind changed in the log: it is still being opened after a minute);
//! without `note_synced` (the log's last byte changed: usage is lost in silence); and with IDENTITY named in place of the file that was found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use doorward::catalog::change::{Change, Patch, Reply, Request, Target};
use doorward::catalog::check::{self, CheckOptions};
use doorward::catalog::{Catalog, CatalogOptions, Time};
use doorward::digest::{Pepper, Peppers};
use doorward::index::Index;
use doorward::key::history::Actor;
use doorward::key::{Function, FunctionId, Instant as Moment, Key, KeyId, KeyRef, Settings, Span, Verdict};
use doorward::store::{CountRow, Counted, Head, Recorded, Step, Store, StoreError, StoreOptions, UsageBatch};

use crate::{Dice, folder, number, seed};

const NOW: Moment = Moment(1_800_000_000_000);
/// What a store of a few kilobytes never takes, whatever else the machine does.
const ENDLESS: Duration = Duration::from_secs(60);
/// Of a log that is not there nothing tells the number.
const LOG_IS_GONE: [&str; 2] = ["its log is missing", "or a log after it is missing"];

/// All that was acknowledged.
#[derive(Debug, Clone, PartialEq)]
struct State {
    head: Head,
    keys: Vec<Key>,
    functions: Vec<(Function, Option<Moment>)>,
    entries: Vec<Recorded>,
    remembered: bool,
    usage: Vec<CountRow>,
}

/// How a damaged store behaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It shows exactly what was acknowledged.
    Exact,
    /// It is refused at the start.
    Refused,
    /// It was opened, and a part of the history or of the usage cannot be read, which is said.
    Unreadable,
    /// It was opened, and says that usage is lost; all else is as it was.
    LostUsage,
}

/// One file damaged in one way.
struct Damage<'f> {
    name: &'f str,
    what: String,
    harm: Harm,
}

enum Harm {
    Removed,
    Cut(usize),
    Longer,
    /// The byte there, and which bit of it.
    Flipped(usize, u8),
}

impl Damage<'_> {
    /// What is left of the file, if anything.
    fn done_to(&self, whole: &[u8]) -> Option<Vec<u8>> {
        match self.harm {
            Harm::Removed => None,
            Harm::Cut(end) => Some(whole[..end].to_vec()),
            Harm::Longer => Some([whole, &[0x41][..]].concat()),
            Harm::Flipped(at, bit) => {
                let mut damaged = whole.to_vec();
                damaged[at] ^= 1 << bit;
                Some(damaged)
            }
        }
    }
}

#[test]
fn a_damaged_store_is_exact_or_refused() {
    let base = tempfile::tempdir().expect("a folder");
    let state = build(base.path());
    let files = files(base.path());
    let total: usize = files.values().map(Vec::len).sum();
    let begun = Instant::now();
    let damages = damages(&files, &mut Dice(seed("DOORWARD_FLIP_SEED")), number("DOORWARD_FLIPS", 250));
    let tally = try_all(&files, &damages, &state);
    println!("{total} bytes in {} files, {} ways to damage one, in {:.0} s", files.len(), damages.len(), begun.elapsed().as_secs_f64());
    for ((kind, outcome), count) in &tally {
        println!("{kind:>14}: {count:>6} {outcome:?}");
    }
    assert!(tally.iter().any(|((_, outcome), _)| *outcome == Outcome::Refused));
}

/// What is tried: each file removed, emptied, cut and longer, and so many bytes changed (0: every one).
fn damages<'f>(files: &'f BTreeMap<String, Vec<u8>>, dice: &mut Dice, wanted: u64) -> Vec<Damage<'f>> {
    let mut damages = Vec::new();
    for (name, whole) in files {
        let mut add = |what: String, harm: Harm| damages.push(Damage { name, what, harm });
        add("removed".to_owned(), Harm::Removed);
        add("emptied".to_owned(), Harm::Cut(0));
        for _ in 0..8 {
            let end = dice.below(whole.len() as u64) as usize;
            add(format!("cut at {end}"), Harm::Cut(end));
        }
        add("without its last byte".to_owned(), Harm::Cut(whole.len().saturating_sub(1)));
        add("with a byte more".to_owned(), Harm::Longer);
    }
    // RocksDB's text logs, options and identity say nothing that is read at a start: a byte here and there of them.
    let is_read = |name: &str| ["tables", "log", "MANIFEST", "CURRENT", "acknowledged"].contains(&kind(name).as_str());
    let step = |name: &str| if is_read(name) { 1 } else { 211 };
    let all = files.iter().flat_map(|(name, whole)| (0..whole.len()).step_by(step(name)).map(move |at| (name, at)));
    let mut flips: Vec<_> = all.collect();
    if wanted > 0 {
        flips = (0..wanted).map(|_| flips[dice.below(flips.len() as u64) as usize]).collect();
    }
    let flip = |(name, at, bit): (&'f String, usize, u8)| Damage {
        name,
        what: format!("byte {at} changed, bit {bit}"),
        harm: Harm::Flipped(at, bit),
    };
    damages.extend(flips.into_iter().map(|(name, at)| (name, at, dice.below(8) as u8)).map(flip));
    // RocksDB goes round in a circle at some kinds of records.
    let framed = files.iter().filter(|(name, _)| ["log", "MANIFEST"].contains(&kind(name).as_str()));
    let kinds = framed.flat_map(|(name, whole)| kinds_of_records(whole).into_iter().map(move |at| (name, at)));
    damages.extend(kinds.flat_map(|(name, at)| (0..8).map(move |bit| (name, at, bit))).map(flip));
    damages
}

/// Where the records of a log or manifest have their kinds: in the last byte of their headers.
fn kinds_of_records(file: &[u8]) -> Vec<usize> {
    let mut kinds = Vec::new();
    for (number, block) in file.chunks(32 << 10).enumerate() {
        let mut at = 0;
        while let Some(header) = block.get(at..at + 7) {
            kinds.push((number << 15) + at + 6);
            at += 7 + usize::from(u16::from_le_bytes([header[4], header[5]]));
        }
    }
    kinds
}

/// Tries them in several threads: half of an attempt is waiting for RocksDB's own. One that does not come to an end ends all, with its name.
fn try_all(files: &BTreeMap<String, Vec<u8>>, damages: &[Damage<'_>], state: &State) -> BTreeMap<(String, Outcome), u64> {
    let (next, under_way) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = 2 * thread::available_parallelism().map_or(1, |cores| cores.get());
    let work = || {
        let mut tally = BTreeMap::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(damage) = damages.get(number) else { return tally };
            let Damage { name, what, .. } = damage;
            under_way.lock().expect("a list").insert(number, Instant::now());
            let outcome = attempt(files, name, damage.done_to(&files[*name]).as_deref(), state);
            under_way.lock().expect("a list").remove(&number);
            let outcome = outcome.unwrap_or_else(|wrong| {
                // The others need not go on.
                next.store(damages.len(), Ordering::Relaxed);
                panic!("{name}, {what}: {wrong}")
            });
            *tally.entry((kind(name), outcome)).or_default() += 1;
        }
    };
    let tallies: Vec<BTreeMap<_, u64>> = thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        while working.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            let lost = under_way.lock().expect("a list").iter().find(|(_, begun)| begun.elapsed() > ENDLESS).map(|(number, _)| *number);
            if let Some(Damage { name, what, .. }) = lost.map(|number| &damages[number]) {
                // A thread that goes round in a circle cannot be ended in another way.
                eprintln!("{name}, {what}: still being opened or read after {} s", ENDLESS.as_secs());
                std::process::exit(1);
            }
        }
        working.into_iter().map(|thread| thread.join().expect("nothing is read wrongly")).collect()
    });
    let mut whole = BTreeMap::new();
    tallies.into_iter().flatten().for_each(|(what, count)| *whole.entry(what).or_default() += count);
    whole
}

/// Opens the store with one file damaged as a daemon would. An error is a wrong answer.
fn attempt(files: &BTreeMap<String, Vec<u8>>, damaged: &str, bytes: Option<&[u8]>, state: &State) -> Result<Outcome, String> {
    let folder = folder();
    for (name, whole) in files {
        let bytes = if name == damaged { bytes } else { Some(&whole[..]) };
        // The text logs are most of the bytes, and nothing reads them: they are there where one of them is what is damaged.
        if let Some(bytes) = bytes.filter(|_| name == damaged || kind(name) != "LOG") {
            fs::write(folder.path().join(name), bytes).expect("a file");
        }
    }
    let path = folder.path().join(damaged);
    let named = |error: String| {
        let is_gone = bytes.is_none() && kind(damaged) == "log";
        let is_named = if is_gone { LOG_IS_GONE.iter().any(|said| error.contains(said)) } else { names(&error, &path) };
        if is_named { Ok(()) } else { Err(format!("the file is not named: {error}")) }
    };
    // A look that changes nothing: exact, or with faults.
    match Store::open_to_read(folder.path(), little_memory()) {
        Err(error) => named(error.to_string())?,
        Ok(store) => {
            let options = CheckOptions { peppers: Some(&peppers()), against: &[state.head], now: NOW };
            let report = check::check(&store, &options, &mut |_| true).map_err(|error| error.to_string())?;
            if !report.is_clean() {
                named(report.parts.iter().flat_map(|part| &part.faults).map(|fault| format!("{fault}\n")).collect())?;
            } else if read(&store).as_ref() != Ok(state) {
                let found = read(&store).map_or_else(|error| error, |found| difference(&found, state));
                return Err(format!("the check finds nothing, but {found}"));
            }
        }
    }
    let store = match Store::open(folder.path(), little_memory()) {
        Ok(store) => store,
        Err(error) => return named(error.to_string()).map(|()| Outcome::Refused),
    };
    let index = Arc::new(Index::new());
    let lost_usage = store.lost_usage().map(ToString::to_string);
    let catalog = match Catalog::open(store.clone(), Arc::clone(&index), peppers(), || Time::certain(NOW), CatalogOptions::default()) {
        Ok(catalog) => catalog,
        Err(error) => return named(error.to_string()).map(|()| Outcome::Refused),
    };
    if let Some(key) = state.keys.iter().find(|key| !index.shows(key)) {
        return Err(format!("{} is verified otherwise than it was acknowledged", key.id));
    }
    if index.secrets() != state.keys.iter().map(|key| key.secrets.len()).sum::<usize>() {
        return Err("there are other secrets than were acknowledged".to_owned());
    }
    match read(catalog.store()) {
        Ok(found) if found == *state && lost_usage.is_none() => Ok(Outcome::Exact),
        Ok(found) if found.usage != state.usage && without_usage(&found) == without_usage(state) => {
            named(lost_usage.unwrap_or_else(|| "usage is lost".to_owned())).map(|()| Outcome::LostUsage)
        }
        Ok(found) => Err(difference(&found, state)),
        Err(error) => named(error).map(|()| Outcome::Unreadable),
    }
}

/// Whether what is said of a damaged store names this very file: as RocksDB does where it reads, or as the store does, and then no other beside it.
fn names(said: &str, file: &Path) -> bool {
    let said_of = |what: &str| said.contains(&format!("{} {what}", file.display()));
    match said.contains("damaged or missing") {
        true => said_of("is damaged or missing"),
        false => said_of("is missing") || said_of("lacks its end") || said_of("offset"),
    }
}

/// Most of the time of an attempt would be the kernel's, for memory that so small a store does not need.
fn little_memory() -> StoreOptions {
    StoreOptions { write_buffer_bytes: 2 << 20, block_cache_bytes: 1 << 20 }
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
        usage: usage_rows(store).map_err(error)?,
    })
}

fn without_usage(state: &State) -> State {
    State { usage: Vec::new(), ..state.clone() }
}

fn difference(found: &State, state: &State) -> String {
    let counts = |state: &State| {
        (state.head.sequence, state.keys.len(), state.functions.len(), state.entries.len(), state.remembered, state.usage.len())
    };
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
        let catalog = Catalog::open(store.clone(), Arc::new(Index::new()), peppers(), || Time::certain(NOW), CatalogOptions::default())
            .expect("a catalog");
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
            // The last of all is no change.
            let batch = UsageBatch { rows: vec![counted(n as u8, age * 6 + n)], ..UsageBatch::default() };
            store.write_usage(&batch, true).expect("usage");
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

/// Verifies of a key in one of the last minutes.
fn counted(key: u8, minute: i64) -> Counted {
    let at = Moment(NOW.0 - (60 - minute) * 60_000);
    Counted {
        key: KeyId([key; 16]),
        minute: (at.0 / 60_000) as u32,
        version: 1,
        function: FunctionId(1),
        verdict: Verdict::Ok,
        country: None,
        count: 1,
        last_at: at,
        last_address: Some([10, 0, key, 1].into()),
        missed_networks: false,
    }
}

fn usage_rows(store: &Store) -> Result<Vec<CountRow>, StoreError> {
    store.usage_counts(None, Moment(0), Moment(2 * NOW.0), Step::Minute).collect()
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
