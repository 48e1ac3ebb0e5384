//! The power fails at any moment under a mixed load of changes: what the disk (see `disk.rs`) may have kept is opened as a daemon opens it. Each change that was answered
//! before that moment is there; no key is older than it was last shown; and everything that is there belongs together. Or the store is refused; but a power failure alone
//! is no reason to refuse one.
//!
//! `DOORWARD_POWER_FAILURES` and `DOORWARD_POWER_SEED` choose how many moments are tried (`make crash`: 3,000).
//!
//! Planted to see it fail: `options.set_sync(false)` in `Store::write` (a change that was answered is missing: the file `acknowledged`, which is synced by itself, has the store
//! refused), and with it the sync in `Witness::note` taken out too (the change is missing in silence).

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use doorward::catalog::check::{self, CheckOptions};
use doorward::catalog::{Catalog, CatalogOptions, Time};
use doorward::digest::{Pepper, Peppers};
use doorward::index::Index;
use doorward::key::{Instant, Key, KeyRef};
use doorward::store::{Store, StoreOptions};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::disk::{self, Disk, Event};
use crate::worker::Worker;
use crate::{Dice, folder, number, seed};

const WORKERS: u64 = 4;
const CONFIG: &str = "data_dir = \"{home}/disk/data\"\nrun_dir = \"{home}/run\"\nflush_interval = \"100ms\"\n";

#[test]
fn what_was_acknowledged_outlives_a_power_failure() {
    if disk::library().is_none() {
        return println!("skipped: there is no C compiler (cc, clang, gcc) for the disk that loses its power");
    }
    let failures = number("DOORWARD_POWER_FAILURES", 120);
    let mut dice = Dice(seed("DOORWARD_POWER_SEED"));
    let (mut left, mut answered, mut behind) = (failures, 0, 0);
    while left > 0 {
        let these = left.min(400);
        let events = record(&mut dice);
        let outcome = replay(&events, these, &mut dice);
        answered += outcome.0;
        behind += outcome.1;
        left -= these;
    }
    println!(
        "{failures} power failures, {answered} answered changes held against them, all there; {behind} had unsynced changes that were lost"
    );
    assert!(answered > failures, "only {answered} answers");
}

/// Cause: whoever changes the pepper may leave it to the kernel, and the daemon had on the disk that the store needs the new one, but not the new one itself.
///
/// Planted to see it fail: `pepper::sync` left out of the start.
#[test]
fn a_store_never_needs_a_pepper_that_no_disk_holds() {
    if disk::library().is_none() {
        return println!("skipped: there is no C compiler (cc, clang, gcc) for the disk that loses its power");
    }
    let mut daemon = Daemon::start_under(folder(), CONFIG, |home| {
        disk::prepare(home);
        disk::environment(home, true)
    });
    daemon.create("acme/web", &[]);
    daemon.terminate();
    let home = daemon.home().to_owned();
    let journal = home.join("journal");
    let before = disk::events(&journal).len();
    let data = home.join("disk/data");
    let (old, new) = (std::fs::read(data.join("pepper")).expect("a pepper"), vec![9; 32]);
    let copied = put_in_its_place(&data, &old, &new);
    let config = format!("previous_pepper_file = \"{}\"\n{CONFIG}", data.join("pepper.previous").display());
    std::fs::write(home.join("doorward.toml"), config.replace("{home}", &home.display().to_string())).expect("the configuration");
    daemon.start_again();
    daemon.create("acme/later", &[]);
    daemon.terminate();

    let mut dice = Dice(seed("DOORWARD_POWER_SEED"));
    let events = disk::events(&journal);
    let mut disk = Disk::default();
    events[..before].iter().chain(&copied).for_each(|event| disk.apply(event));
    let (mut by_old, mut by_new) = (0, 0);
    for (moment, event) in events[before..].iter().enumerate() {
        disk.apply(event);
        let left = folder();
        disk.lose_power(left.path(), &mut dice);
        let data = left.path().join("data");
        let marks = Store::open(&data.join("db"), StoreOptions::default()).expect("a store").pepper_marks().expect("marks").expect("marks");
        if marks.current == Pepper::from_bytes([9; 32]).fingerprint() {
            let left = |name: &str| std::fs::read(data.join(name)).unwrap_or_default();
            assert_eq!((left("pepper"), left("pepper.previous")), (new.clone(), old.clone()), "event {moment}");
            by_new += 1;
        } else {
            by_old += 1;
        }
    }
    assert!(by_old > 10 && by_new > 10, "{by_old} {by_new}");
}

/// What an admin does who changes the pepper as the guide has it, but without its `sync`; and the same as the disk would have written it down.
fn put_in_its_place(data: &Path, old: &[u8], new: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    for (handle, name, bytes) in [(u64::MAX, "pepper.previous", old), (u64::MAX - 1, "pepper.new", new)] {
        std::fs::write(data.join(name), bytes).expect("a pepper");
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(0o600)).expect("its mode");
        events.extend([Event::Open(handle, format!("data/{name}"), true, false), Event::Write(handle, 0, bytes.to_vec())]);
    }
    std::fs::rename(data.join("pepper.new"), data.join("pepper")).expect("it in its place");
    events.push(Event::Rename("data/pepper.new".to_owned(), "data/pepper".to_owned()));
    events
}

/// A daemon under load from its first start on, with a restart in between; and what happened on its disk.
fn record(dice: &mut Dice) -> Vec<Event> {
    let mut daemon = Daemon::start_under(folder(), CONFIG, |home| {
        disk::prepare(home);
        disk::environment(home, true)
    });
    let run_dir = daemon.run_dir();
    daemon.json(&["functions", "add", "leads.list"]);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::new(number, Dice(dice.bits()))).collect();
    for _ in 0..2 {
        thread::scope(|scope| {
            for worker in &mut workers {
                let run_dir = &run_dir;
                scope.spawn(move || worker.work(run_dir));
            }
            thread::sleep(Duration::from_millis(250));
            // Not killed: what was done and what was written down would differ by what was under way.
            daemon.terminate();
        });
        daemon.start_again();
        for worker in &mut workers {
            worker.settle(&run_dir);
        }
    }
    daemon.kill9();
    disk::events(&daemon.home().join("journal"))
}

/// Lets the power fail at some of all moments. Tells how many answered changes were held against what was left, and how often something unsynced was lost.
fn replay(events: &[Event], failures: u64, dice: &mut Dice) -> (u64, u64) {
    let mut moments: Vec<usize> = (0..failures).map(|_| dice.below(events.len() as u64 + 1) as usize).collect();
    moments.sort_unstable();
    let (mut disk, mut shown, mut at) = (Disk::default(), HashMap::new(), 0);
    let (mut held, mut lost) = (0, 0);
    for moment in moments {
        for event in &events[at..moment] {
            disk.apply(event);
            if let Event::Answer(bytes) = event {
                note(&mut shown, bytes);
            }
        }
        at = moment;
        let folder = folder();
        disk.lose_power(folder.path(), dice);
        lost += u64::from(look(folder.path(), &shown, moment));
        held += shown.len() as u64;
    }
    (held, lost)
}

/// What an answer of the admin socket showed of a key: the latest revision that anybody knows of.
fn note(shown: &mut HashMap<String, Value>, answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    let Some(("HTTP/1.1 2", body)) = text.split_once("\r\n\r\n").map(|(head, body)| (head.get(..10).unwrap_or_default(), body)) else {
        return;
    };
    let Ok(document) = serde_json::from_str::<Value>(body) else { return };
    let key = if document["key"].is_object() { &document["key"] } else { &document };
    let (Some(id), Some(revision)) = (key["id"].as_str(), key["revision"].as_u64()) else { return };
    let known = shown.get(id).and_then(|known| known["revision"].as_u64()).unwrap_or(0);
    if revision > known {
        shown.insert(id.to_owned(), key.clone());
    }
}

/// Opens what is left, and holds it against what was answered. Whether changes were made that nobody was told of.
fn look(folder: &Path, shown: &HashMap<String, Value>, moment: usize) -> bool {
    let data = folder.join("data");
    let store = data.join("db");
    let Ok(pepper) = std::fs::read(data.join("pepper")) else {
        assert!(shown.is_empty() && !store.exists(), "event {moment}: the pepper of a store is lost");
        return false;
    };
    let peppers = Peppers { current: Pepper::from_bytes(pepper.try_into().expect("32 bytes")), previous: None };
    let now = Instant(4_000_000_000_000);
    let store = Store::open(&store, StoreOptions::default()).unwrap_or_else(|error| panic!("event {moment}: {error}"));
    let index = Arc::new(Index::new());
    let catalog = Catalog::open(store.clone(), Arc::clone(&index), peppers.clone(), move || Time::certain(now), CatalogOptions::default());
    let catalog = catalog.unwrap_or_else(|error| panic!("event {moment}: {error}"));
    for (id, view) in shown {
        let Ok(KeyRef::Id(id)) = id.parse() else { panic!("{id} is no id") };
        let key = store.key(id).expect("a key that can be read").unwrap_or_else(|| panic!("event {moment}: {id} was answered and is gone"));
        assert!(
            key.revision >= view["revision"].as_u64().expect("a revision"),
            "event {moment}: {id} is older than was answered: {key:?}, {view}"
        );
        assert!(
            key.revision > view["revision"].as_u64().expect("a revision") || is_as_shown(&key, view),
            "event {moment}: {key:?}, {view}"
        );
        assert!(index.shows(&key), "event {moment}: {id}");
    }
    let options = CheckOptions { peppers: Some(&peppers), against: &[], now };
    let report = check::check(&store, &options, &mut |_| true).expect("a report");
    assert!(report.is_clean(), "event {moment}: {report:#?}");
    let revisions: u64 = shown.values().map(|view| view["revision"].as_u64().expect("a revision")).sum();
    drop(catalog);
    report.head.sequence > revisions
}

fn is_as_shown(key: &Key, view: &Value) -> bool {
    let secrets = view["secrets"].as_array().expect("secrets");
    let alike = |(secret, shown): (&doorward::key::Secret, &Value)| {
        secret.revoked_at.is_some() == shown["revoked_at"].is_string() && secret.retires_at.is_some() == shown["retires_at"].is_string()
    };
    key.settings.description == view["description"].as_str().unwrap_or_default()
        && key.settings.enabled == view["enabled"]
        && key.deleted_at.is_some() == view["deleted_at"].is_string()
        && key.secrets.len() == secrets.len()
        && key.secrets.iter().zip(secrets).all(alike)
}
