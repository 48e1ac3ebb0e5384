//! A caller is remembered however rare it is beside others.

use std::collections::BTreeSet;

use super::*;
use crate::key::{Network, limits};

fn from(number: u64, address: &str, at: i64) -> Event<'static> {
    Event { address: Some(address.parse().unwrap()), at: Instant(at), ..event(number) }
}

/// The networks that rows tell of, by key.
fn networks(rows: &[Row]) -> BTreeSet<(KeyId, Network)> {
    rows.iter().filter_map(|row| Some((row.key, Network::around(row.last_address?)))).collect()
}

fn expected<'a>(events: impl Iterator<Item = &'a Event<'static>>) -> BTreeSet<(KeyId, Network)> {
    events.filter(|event| event.key != KeyId::NONE).filter_map(|event| Some((event.key, Network::around(event.address?)))).collect()
}

#[test]
fn a_rare_caller_beside_a_busy_one_is_told() {
    let usage = Usage::new();
    let busy = |at| from(1, "192.0.2.7", at);
    let rare = [
        from(1, "198.51.100.1", 1_500),
        // The same network, and one that looks alike in its first bytes.
        from(1, "198.51.100.200", 1_501),
        from(1, "198.51.101.200", 1_502),
        // Drained later than what came after it.
        from(1, "203.0.113.5", 10),
        from(1, "2001:db8:1:2::3", 1_503),
        from(1, "2001:db8:1:4::3", 1_504),
        from(1, "2001:db8:2:2::3", 1_505),
        // Its first bytes are those of an IPv4 address that comes, too.
        from(1, "c633:6400:0::1", 1_506),
        // Of another row of the same key, and without an address.
        Event { function: FunctionId(9), ..from(1, "10.1.1.1", 1_507) },
        Event { address: None, ..busy(1_508) },
        from(2, "10.2.2.2", 1_600),
    ];
    let mut events: Vec<Event<'_>> = Vec::new();
    for (number, rare) in rare.into_iter().enumerate() {
        events.extend([busy(1_400), rare, busy(2_000 + number as i64), busy(2_000)]);
    }
    for (number, event) in events.iter().enumerate() {
        usage.count(0, event);
        if number % 5 == 0 {
            usage.drain();
        }
    }
    let rows = take_all(&usage, 3);
    assert_eq!(networks(&rows), expected(events.iter()));
    assert!(rows.iter().all(|row| !row.missed_networks), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), events.len() as u64, "and what tells of a network counts nothing");
    let rare = rows.iter().find(|row| row.count == 0 && row.last_address == "203.0.113.5".parse().ok()).unwrap();
    assert_eq!((rare.key, rare.last_at, rare.minute), (event(1).key, Instant(10), 0));
}

#[test]
fn each_ten_minutes_tell_of_their_own_networks() {
    let usage = Usage::new();
    for minute in [0, 9, 10, 21] {
        for address in ["192.0.2.1", "198.51.100.1", "192.0.2.1"] {
            usage.count(0, &from(1, address, minute * 60_000 + 5));
        }
    }
    let rows = take_all(&usage, 100);
    let told: Vec<u32> =
        rows.iter().filter(|row| row.last_address == "198.51.100.1".parse().ok()).map(|row| row.minute / MINUTES_TOGETHER).collect();
    assert_eq!(told, [0, 1, 2]);
}

/// Tokens that no key has are of no key, wherever they come from.
#[test]
fn what_nobody_has_takes_no_rows_for_its_networks() {
    let usage = Usage::new();
    for number in 0..1_000u32 {
        let address = IpAddr::from((number << 8).to_be_bytes());
        usage.count(0, &Event { key: KeyId::NONE, version: 0, verdict: Verdict::Unknown, address: Some(address), ..event(1) });
    }
    let rows = take_all(&usage, 100);
    assert_eq!((rows.len(), rows[0].count), (1, 1_000));
}

#[test]
fn a_key_from_everywhere_takes_few_rows_and_says_that_some_are_missing() {
    let usage = Usage::new();
    for number in 0..1_000u32 {
        usage.count(0, &Event { address: Some(IpAddr::from((number << 8).to_be_bytes())), ..event(1) });
        usage.count(0, &Event { at: Instant(2_000), ..event(2) });
    }
    let rows = take_all(&usage, 100);
    assert_eq!(rows.len(), limits::NETWORKS_REMEMBERED + 2);
    let missed = |number: u64| rows.iter().filter(|row| row.key == event(number).key && row.count > 0).any(|row| row.missed_networks);
    assert_eq!((missed(1), missed(2)), (true, false));
    // The next table has room again.
    usage.count(0, &from(1, "192.0.2.1", 1));
    usage.count(0, &from(1, "198.51.100.1", 2));
    let rows = take_all(&usage, 100);
    assert_eq!((rows.len(), rows.iter().any(|row| row.missed_networks)), (2, false));
}

/// Counts come first where there is little room; what is left out is said.
#[test]
fn a_crowded_table_takes_no_networks_and_says_so() {
    let usage = Usage::in_memory(256);
    (0..160).for_each(|number| usage.count(0, &event(number)));
    usage.drain();
    usage.count(0, &from(3, "198.51.100.1", 5_000));
    let rows = take_all(&usage, 500);
    assert_eq!((rows.len(), usage.figures().folded, usage.figures().lost), (160, 0, 0));
    let missed: Vec<KeyId> = rows.iter().filter(|row| row.missed_networks).map(|row| row.key).collect();
    assert_eq!(missed, [event(3).key]);
}

/// Enough of them that the table grows in the middle; whatever step a kill comes before, the next process has all networks of what it counts.
#[test]
fn a_kill_at_any_step_forgets_no_network() {
    let directory = tempfile::tempdir().unwrap();
    let usage = open(directory.path(), Written::default());
    let events: Vec<Event<'_>> =
        (0..600u64).map(|number| from(1 + number % 20, &format!("10.0.{}.1", number * 7 % 31), 1_000 + number as i64)).collect();
    let all: BTreeSet<_> = expected(events.iter());
    events.iter().for_each(|event| usage.count(0, event));
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let at_step = {
        let (path, all, counted) = (directory.path().to_owned(), all.clone(), std::sync::Arc::clone(&tried));
        move || {
            // Each step takes a copy of the files: some of them are enough.
            let step = counted.fetch_add(1, Ordering::Relaxed);
            if step % 23 == 0 || (700..720).contains(&step) {
                let found = found_after_a_kill(&path, Written::default());
                assert!(networks(&found) == all, "step {step}");
                assert_eq!(found.iter().map(|row| row.count).sum::<u64>(), 600, "step {step}");
            }
        }
    };
    usage.drainer.lock().at_step = Some(Box::new(at_step));
    usage.drain();
    usage.drainer.lock().at_step = None;
    assert!(tried.load(Ordering::Relaxed) > 2_000);
    let rows = take_all(&usage, 50);
    assert_eq!(networks(&rows), all);
    assert!(usage.figures().bytes > 0 && rows.len() > live::FEWEST / 8 * 5, "it has grown");
    assert!(rows.iter().all(|row| !row.missed_networks));
}
