use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use tempfile::TempDir;

mod networks;

use super::log::RING;
use super::*;

const OWNER: Owner = Owner { store: [1; 16], boot: [2; 16] };
const MOST: usize = 1 << 12;

fn event(number: u64) -> Event<'static> {
    let mut key = [0; 16];
    key[8..].copy_from_slice(&number.to_be_bytes());
    Event {
        key: KeyId(key),
        version: 1,
        function: FunctionId::FIRST,
        verdict: Verdict::Ok,
        country: Some(Country(*b"DE")),
        address: Some("192.0.2.7".parse().unwrap()),
        at: Instant(1_000 + number as i64),
        function_name: "leads.insert",
    }
}

/// Takes out everything, as a flush does; in batches of this many rows.
fn take_all(usage: &Usage, most: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(mut frozen) = usage.freeze() {
        while frozen.left() > 0 {
            let begun = rows.len();
            rows.extend(frozen.next(most));
            frozen.were_written(rows.len() - begun);
        }
        usage.give_back(frozen);
    }
    rows
}

fn by_key(rows: &[Row]) -> BTreeMap<KeyId, u64> {
    let mut sums = BTreeMap::new();
    rows.iter().for_each(|row| *sums.entry(row.key).or_default() += row.count);
    sums
}

fn open(directory: &Path, written: Written) -> Usage {
    Usage::open_within(directory, OWNER, written, MOST).unwrap()
}

#[test]
fn nothing_is_lost_while_threads_count_and_another_drains() {
    const THREADS: usize = 8;
    const EVENTS: u64 = 100_000;
    let usage = Usage::new();
    let mut rows = Vec::new();
    thread::scope(|scope| {
        let counting: Vec<_> = (0..THREADS)
            .map(|thread| {
                let usage = &usage;
                // Two threads to a lane, so that they meet; and batches of all sizes.
                scope.spawn(move || {
                    let mut numbers = 0..EVENTS;
                    for batch in (0..100).cycle() {
                        let mut held = usage.hold(thread / 2);
                        let counted = numbers.by_ref().take(batch).map(|number| held.count(&event(number % 1_000))).count();
                        if counted < batch {
                            return;
                        }
                    }
                })
            })
            .collect();
        while !counting.iter().all(|thread| thread.is_finished()) {
            rows.extend(take_all(&usage, 100));
        }
    });
    rows.extend(take_all(&usage, 100));
    let figures = usage.figures();
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>() + figures.lost, THREADS as u64 * EVENTS);
    assert_eq!((usage.totals()[Verdict::Ok as usize], figures.folded), (THREADS as u64 * EVENTS, 0));
    if figures.lost == 0 {
        let sums = by_key(&rows);
        assert_eq!(sums.len(), 1_000);
        assert!(sums.values().all(|&count| count == THREADS as u64 * EVENTS / 1_000));
    }
    assert!(usage.freeze().is_none());
}

#[test]
fn a_ring_goes_round_and_round() {
    let usage = Usage::new();
    let rounds = 50;
    for round in 0..rounds {
        (0..RING as u64 / 2 - 1).for_each(|number| usage.count(5, &event(number % 10 + round)));
        usage.drain();
    }
    let sum: u64 = take_all(&usage, 7).iter().map(|row| row.count).sum();
    assert_eq!((sum, usage.figures().lost), (rounds * (RING as u64 / 2 - 1), 0));
}

#[test]
fn full_rings_lose_what_comes_and_know_how_much() {
    let usage = Usage::new();
    let places = (RING * LANES) as u64;
    (0..places + 10).for_each(|_| usage.count(3, &event(1)));
    assert_eq!((usage.figures().lost, usage.totals()[0]), (10, places + 10));
    usage.drain();
    usage.hold(3).count(&event(1));
    assert_eq!((by_key(&take_all(&usage, 9))[&event(1).key], usage.figures().lost), (places + 1, 10));
}

#[test]
fn a_full_table_folds_and_then_loses_but_knows_how_many() {
    let usage = Usage::in_memory(MOST);
    let events = 3 * MOST as u64;
    (0..events).for_each(|number| usage.count(0, &event(number)));
    usage.drain();
    let figures = usage.figures();
    let rows = take_all(&usage, 100);
    assert!(figures.folded > 0 && figures.lost > 0, "{figures:?}");
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>() + figures.lost, events);
    let folded: u64 = rows.iter().filter(|row| row.function == FunctionId::OTHER && row.country.is_none()).map(|row| row.count).sum();
    assert_eq!(folded, figures.folded);
    assert_eq!(usage.totals()[0], events);
    // Room again.
    usage.count(0, &event(events));
    assert_eq!((take_all(&usage, 9).len(), usage.figures()), (1, Figures { rows: 0, bytes: usage.figures().bytes, ..figures }));
}

#[test]
fn a_full_table_counts_a_known_row_in_its_earlier_minute_rather_than_not() {
    let usage = Usage::in_memory(256);
    (0..192).for_each(|number| usage.count(0, &Event { at: Instant(60_000), ..event(number) }));
    usage.drain();
    usage.count(0, &Event { at: Instant(120_000), ..event(3) });
    let rows = take_all(&usage, 500);
    assert_eq!((rows.len(), usage.figures().folded), (192, 1));
    assert!(rows.iter().any(|row| (row.key, row.minute, row.count, row.last_at) == (event(3).key, 1, 2, Instant(120_000))));
}

#[test]
fn every_event_has_the_minute_of_its_own_time() {
    let usage = Usage::new();
    for (lane, ms) in [(0, 119_999), (0, 120_000), (1, 60_000), (2, 179_999), (1, 180_000), (1, -5)] {
        usage.count(lane, &Event { at: Instant(ms), ..event(1) });
    }
    let minutes: Vec<_> = take_all(&usage, 9).iter().map(|row| (row.minute, row.count)).collect();
    assert_eq!(minutes, [(0, 1), (1, 2), (2, 2), (3, 1)]);
}

#[test]
fn a_filling_ring_asks_for_a_drain() {
    let usage = Usage::new();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| usage.wait(Duration::from_secs(60)));
        while usage.waiter.lock().is_none() {
            thread::yield_now();
        }
        let begun = std::time::Instant::now();
        (0..RING as u64 / 2 + 2).for_each(|number| usage.count(0, &event(number)));
        waiter.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
    });
    assert_eq!(take_all(&usage, 1_000).len(), RING / 2 + 2);
}

#[test]
fn rows_tell_of_dimensions_and_of_the_last_use() {
    let usage = Usage::new();
    let later = Event { at: Instant(9_000), address: Some("198.51.100.1".parse().unwrap()), ..event(1) };
    let elsewhere = Event { country: None, address: Some("2001:db8::1".parse().unwrap()), ..event(1) };
    let nobodys = Event { key: KeyId::NONE, version: 0, verdict: Verdict::Unknown, function: FunctionId::UNREGISTERED, ..event(0) };
    for (lane, event) in [(0, &event(1)), (1, &later), (2, &event(1)), (3, &nobodys), (3, &elsewhere)] {
        usage.count(lane, event);
    }
    let rows = take_all(&usage, 9);
    let told: Vec<_> = rows
        .iter()
        .filter(|row| row.count > 0)
        .map(|row| (row.key, row.version, row.verdict, row.country, row.count, row.last_at, row.last_address))
        .collect();
    let key = event(1).key;
    assert_eq!(
        told,
        [
            (KeyId::NONE, 0, Verdict::Unknown, Some(Country(*b"DE")), 1, Instant(1_000), event(0).address),
            (key, 1, Verdict::Ok, None, 1, Instant(1_001), elsewhere.address),
            (key, 1, Verdict::Ok, Some(Country(*b"DE")), 3, Instant(9_000), later.address),
        ]
    );
}

#[test]
fn the_latest_denials_are_kept_with_the_name_that_was_called() {
    let usage = Usage::new();
    let name = "x".repeat(128);
    for number in 0..1_000 {
        let denied = Event { verdict: Verdict::FunctionDenied, function_name: &name, ..event(number) };
        usage.count(3, &denied);
        usage.count(3, &event(number));
    }
    let denials = usage.denials();
    assert_eq!(denials.len(), denials::KEPT);
    let latest: Vec<_> = denials.iter().map(|denial| denial.at.0).collect();
    assert_eq!(latest, (2_000 - denials::KEPT as i64..2_000).rev().collect::<Vec<_>>());
    assert_eq!(
        (denials[0].function.as_str(), denials[0].verdict, denials[0].key),
        (name.as_str(), Verdict::FunctionDenied, event(999).key)
    );
    assert_eq!(denials[0].address, Some("192.0.2.7".parse().unwrap()));
}

#[test]
fn tables_grow_with_what_is_counted_and_shrink_again() {
    let directory = tempfile::tempdir().unwrap();
    let usage = open(directory.path(), Written::default());
    let small = usage.figures().bytes;
    for round in 0..4 {
        (0..2_000).for_each(|number| usage.count(0, &event(number)));
        assert_eq!(take_all(&usage, 100).len(), 2_000, "{round}");
    }
    assert!(usage.figures().bytes > small);
    let large = usage.figures().bytes;
    for written in 0..drainer::ROOMY + 4 {
        usage.count(0, &event(1));
        take_all(&usage, 100);
        assert!(written >= drainer::ROOMY || usage.figures().bytes == large, "a load that comes again soon finds its table");
    }
    assert_eq!(usage.figures().bytes, small);
    usage.close().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Copies the files as a kill at this moment would leave them, and takes out of them what the next process finds.
fn found_after_a_kill(directory: &Path, written: Written) -> Vec<Row> {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    take_all(&open(copy.path(), written), 100)
}

#[test]
fn a_kill_at_any_step_of_the_drainer_loses_nothing_and_counts_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let usage = open(directory.path(), Written::default());
    // So many rows that the table grows, runs of one row, and rows that more than one lane counts.
    let numbers: Vec<u64> = (0..158).chain([7, 7, 7, 200, 201, 7, 202, 202]).collect();
    (0..150).for_each(|number| usage.count(0, &event(number)));
    usage.drain();
    let mut expected: BTreeMap<KeyId, u64> = (0..150).map(|number| (event(number).key, 1)).collect();
    for number in &numbers[148..] {
        usage.count((number % 3) as usize, &event(*number));
        *expected.entry(event(*number).key).or_default() += 1;
    }
    // An event that is counted, but was not published, is not there: nobody was told of it.
    let mut held = usage.hold(1);
    held.count(&event(500));
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let at_step = {
        let (path, expected, tried) = (directory.path().to_owned(), expected.clone(), std::sync::Arc::clone(&tried));
        move || {
            assert_eq!(by_key(&found_after_a_kill(&path, Written::default())), expected, "step {tried:?}");
            tried.fetch_add(1, Ordering::Relaxed);
        }
    };
    usage.drainer.lock().at_step = Some(Box::new(at_step));
    // The last two steps are those of the freeze.
    let frozen = usage.freeze().unwrap();
    assert_eq!(usage.drainer.lock().live.rows(), 0);
    assert!(frozen.live.places() > live::FEWEST, "it has grown");
    assert!(tried.load(Ordering::Relaxed) > 4 * 10 + 2 + 2);
}

/// The row is torn in the middle of being set: the noted row is set again.
#[test]
fn a_row_that_a_kill_left_half_set_is_set_again() {
    let directory = tempfile::tempdir().unwrap();
    let usage = open(directory.path(), Written::default());
    usage.count(0, &event(1));
    usage.drain();
    usage.count(0, &event(1));
    let (path, step) = (directory.path().to_owned(), Rc::new(RefCell::new(0)));
    let mut drainer = usage.drainer.lock();
    let place = drainer.live.taken()[0];
    let row = drainer.live.place(place);
    let mut becomes = *drainer.live.row(place);
    becomes.count = 2;
    let counted = Rc::clone(&step);
    let at_step = move || {
        *counted.borrow_mut() += 1;
        if *counted.borrow() == 2 {
            // SAFETY: the drainer's lock is held, and the row is in its table.
            unsafe { row.write(slot::Slot::FREE) };
            assert_eq!(by_key(&found_after_a_kill(&path, Written::default())), [(event(1).key, 2)].into());
        }
    };
    // SAFETY: the drainer's lock is held, and the row is in its table.
    unsafe { usage.log.move_into(row, place, &becomes, log::Run { lane: 0, from: 1, events: 1 }, at_step) };
    assert_eq!(*step.borrow(), 4);
    drainer.at_step = None;
}

#[test]
fn rows_are_written_once_whatever_the_kill_comes_between() {
    let directory = tempfile::tempdir().unwrap();
    let usage = open(directory.path(), Written::default());
    let first: Vec<u64> = (0..40).collect();
    first.iter().for_each(|number| usage.count(0, &event(*number)));
    let mut frozen = usage.freeze().unwrap();
    // These are counted while the others are written.
    (30..60).for_each(|number| usage.count(2, &event(number)));
    usage.drain();
    (60..65).for_each(|number| usage.count(2, &event(number)));
    let mut expected: BTreeMap<KeyId, u64> = BTreeMap::new();
    first.into_iter().chain(30..65).for_each(|number| *expected.entry(event(number).key).or_default() += 1);

    let mut stored = Vec::new();
    let mut mark = Written::default();
    loop {
        let found = found_after_a_kill(directory.path(), mark);
        assert_eq!(by_key(&[stored.clone(), found].concat()), expected, "{mark:?}");
        if frozen.left() == 0 {
            break;
        }
        let rows: Vec<Row> = frozen.next(7).collect();
        (mark, stored) = (frozen.after(rows.len()), [stored, rows.clone()].concat());
        frozen.were_written(rows.len());
    }
    // And while it is emptied, since the store has all of it.
    frozen.live.clear(|| {
        assert_eq!(by_key(&[stored.clone(), found_after_a_kill(directory.path(), mark)].concat()), expected);
    });
    usage.give_back(frozen);
    let second = usage.freeze().unwrap();
    assert_eq!(second.after(0), Written { generation: mark.generation + 1, rows: 0 });
    assert_eq!(by_key(&[stored, found_after_a_kill(directory.path(), mark)].concat()), expected);
}

fn left_behind(directory: &TempDir) -> Vec<String> {
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("foreign")).collect();
    names.sort();
    names
}

#[test]
fn files_that_cannot_be_relied_on_are_set_aside_and_few_of_them_kept() {
    let directory = tempfile::tempdir().unwrap();
    let begin = |owner, written| Usage::open_within(directory.path(), owner, written, MOST).unwrap();
    let count = |usage: &Usage| {
        usage.count(0, &event(1));
        usage.drain();
    };
    count(&begin(OWNER, Written::default()));
    let other_boot = begin(Owner { boot: [9; 16], ..OWNER }, Written::default());
    assert!(other_boot.freeze().is_none());
    assert_eq!(left_behind(&directory), ["foreign-1"]);
    assert!(fs::metadata(directory.path().join("foreign-1/live-1")).is_ok());
    drop(other_boot);
    let other_store = begin(Owner { store: [9; 16], ..OWNER }, Written::default());
    count(&other_store);
    drop(other_store);
    // A store that has more than the files say is not theirs any more.
    assert!(begin(Owner { store: [9; 16], ..OWNER }, Written { generation: 5, rows: 1 }).freeze().is_none());
    assert_eq!(left_behind(&directory), ["foreign-2", "foreign-3"]);
    // A damaged log, a missing table.
    fs::write(directory.path().join("log"), [7; 5_000]).unwrap();
    count(&begin(OWNER, Written::default()));
    fs::remove_file(directory.path().join("live-1")).unwrap();
    assert!(begin(OWNER, Written::default()).freeze().is_none());
    fs::write(directory.path().join("log"), []).unwrap();
    assert!(begin(OWNER, Written::default()).freeze().is_none());
    assert_eq!(left_behind(&directory).len(), 2);
    // Rows of which no table would say so; something that is no file; a file that claims more than there can be.
    count(&begin(OWNER, Written::default()));
    let live = ["live-0", "live-1"].map(|name| directory.path().join(name));
    for table in &live {
        let mut bytes = fs::read(table).unwrap();
        bytes[4_096..8_192].fill(0xf7);
        fs::write(table, bytes).unwrap();
    }
    assert!(begin(OWNER, Written::default()).freeze().is_none());
    fs::remove_file(directory.path().join("log")).unwrap();
    fs::create_dir(directory.path().join("log")).unwrap();
    assert!(begin(OWNER, Written::default()).freeze().is_none());
    fs::File::options().write(true).open(directory.path().join("log")).unwrap().set_len(1 << 40).unwrap();
    assert!(begin(OWNER, Written::default()).freeze().is_none());
}

#[test]
fn a_directory_is_for_this_user_alone_and_no_link() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("counters");
    drop(open(&directory, Written::default()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("log")), mode(&directory.join("live-0"))), (0o700, 0o600, 0o600));
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    let refused = |path: &Path| Usage::open(path, OWNER, Written::default()).err().unwrap().to_string();
    assert!(refused(&link).contains("link"));
    fs::write(home.path().join("file"), []).unwrap();
    assert!(refused(&home.path().join("file")).contains("file"));
}
