use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::key::{Span, limits};
use crate::store::{Damage, StoreOptions};

const MINUTE: i64 = MINUTE_MS;
const HOUR: i64 = 60 * MINUTE;

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    (directory, store)
}

fn reopen(directory: &TempDir, store: Store) -> Store {
    drop(store);
    Store::open(directory.path(), StoreOptions::default()).unwrap()
}

/// A verify of a key in a minute, from an address of its own network.
fn counted(key: u8, minute: u32, count: u64) -> Counted {
    Counted {
        key: KeyId([key; 16]),
        minute,
        version: 1,
        function: FunctionId(2),
        verdict: Verdict::Ok,
        country: Some(Country(*b"DE")),
        count,
        last_at: Instant(i64::from(minute) * MINUTE + 1),
        last_address: Some([10, 0, key, 1].into()),
        missed_networks: false,
    }
}

fn write(store: &Store, rows: Vec<Counted>) {
    store.write_usage(&UsageBatch { rows, ..Default::default() }, false).unwrap();
}

/// Key, minute and count of each row, by key.
fn counts(store: &Store, key: Option<u8>, (since, until): (i64, i64), step: Step) -> Vec<(u8, i64, u64)> {
    let rows = store.usage_counts(key.map(|key| KeyId([key; 16])), Instant(since), Instant(until), step);
    let mut rows: Vec<_> = rows.map(|row| row.map(|row| (row.key.0[0], row.at.0 / MINUTE, row.count)).unwrap()).collect();
    rows.sort_unstable();
    rows
}

pub(super) fn roll(store: &Store, now: i64) {
    while store.roll_usage(Instant(now)).unwrap() {}
}

#[test]
fn counts_add_up_over_flushes_and_restarts() {
    let (directory, mut store) = store();
    for minute in [10, 11, 10] {
        write(&store, vec![counted(0, minute, 1), counted(5, minute, 2), counted(255, minute, 3)]);
        store = reopen(&directory, store);
    }
    let all = (0, i64::MAX);
    assert_eq!(counts(&store, None, all, Step::Minute), [(0, 10, 2), (0, 11, 1), (5, 10, 4), (5, 11, 2), (255, 10, 6), (255, 11, 3)]);
    assert_eq!(counts(&store, None, (11 * MINUTE, 12 * MINUTE), Step::Day), [(0, 11, 1), (5, 11, 2), (255, 11, 3)]);
    assert_eq!(counts(&store, Some(5), (0, 11 * MINUTE), Step::Minute), [(5, 10, 4)]);
    assert_eq!(counts(&store, Some(5), (10 * MINUTE + 1, 11 * MINUTE + 1), Step::Hour), [(5, 10, 4), (5, 11, 2)]);
    assert_eq!(counts(&store, Some(0), all, Step::Hour), [(0, 0, 3)]);
    assert!(counts(&store, Some(9), all, Step::Minute).is_empty());
}

/// A row to which each flush adds something is joined when it is read: once, not once more for each bucket that has nothing.
#[test]
fn a_report_of_all_keys_joins_a_row_once() {
    let (_directory, store) = store();
    for _ in 0..600 {
        write(&store, vec![counted(5, 10, 1)]);
    }
    let took = |key: Option<u8>| {
        let read = |_| {
            let begun = std::time::Instant::now();
            assert_eq!(counts(&store, key, (0, 20 * MINUTE), Step::Minute), [(5, 10, 600)]);
            begun.elapsed()
        };
        (0..5).map(read).min().unwrap()
    };
    let (one, all) = (took(Some(5)), took(None));
    assert!(all < one * 40, "{all:?} for all keys, {one:?} for the only one");
}

/// Units without rows of a bucket, fewer and more than are asked for one by one, beside another bucket that has some.
#[test]
fn rows_are_found_behind_any_gap() {
    let (_directory, store) = store();
    for period in [0, 1, 63, 64, 65, 66, 130, 131, 400, 5_000, 5_064, 5_130] {
        write(&store, vec![counted(5, period * 10, 1)]);
    }
    for period in [300, 5_065, 6_000] {
        write(&store, vec![counted(9, period * 10, 1)]);
    }
    let all = (0, i64::MAX);
    assert_eq!(counts(&store, Some(5), all, Step::Minute).len(), 12);
    assert_eq!(counts(&store, Some(9), all, Step::Minute), [(9, 3_000, 1), (9, 50_650, 1), (9, 60_000, 1)]);
    assert_eq!(counts(&store, Some(9), (3_001 * MINUTE, 60_000 * MINUTE), Step::Minute), [(9, 50_650, 1)]);
    assert_eq!(counts(&store, None, all, Step::Minute).len(), 15);
}

#[test]
fn a_span_is_told_in_the_coarsest_units_that_lie_in_it() {
    let (_directory, store) = store();
    let minutes = [1_439, 1_440, 1_500, 2_879, 2_880, 2_939, 2_940, 2_941];
    write(&store, minutes.map(|minute| counted(7, minute, 1)).into());
    let span = (1_439 * MINUTE, 2_941 * MINUTE);
    let expected = [(7, 1_439, 1), (7, 1_440, 3), (7, 2_880, 2), (7, 2_940, 1)];
    assert_eq!(counts(&store, Some(7), span, Step::Day), expected);
    roll(&store, 40 * HOUR);
    assert_eq!(counts(&store, Some(7), span, Step::Day), expected, "half of it rolled up");
    roll(&store, 1_000 * HOUR);
    assert_eq!(counts(&store, Some(7), span, Step::Day), expected, "and all");
    let hours = [(7, 1_439, 1), (7, 1_440, 1), (7, 1_500, 1), (7, 2_820, 1), (7, 2_880, 2), (7, 2_940, 1)];
    assert_eq!(counts(&store, Some(7), span, Step::Hour), hours);
    let rows: Vec<_> = store.usage_countries(None, Instant(span.0), Instant(span.1), Step::Day).map(|row| row.unwrap().count).collect();
    assert_eq!(rows, [1, 3, 2, 1]);
}

#[test]
fn what_is_past_its_time_is_told_in_coarser_units_undivided() {
    let (directory, store) = store();
    let day = DAY as u32;
    write(&store, [30, 90, day + 5, 40 * day, 40 * day + 61].map(|minute| counted(7, minute, 1)).into());
    let keep = Keep { minutes: Span(2 * HOUR), hours: Span(48 * HOUR), days: Span(35 * 24 * HOUR) };
    let now = i64::from(40 * day) * MINUTE + 4 * HOUR;
    store.expire_usage(Instant(now), &keep).unwrap();
    assert_eq!(store.usage_kept().minutes_since, Instant(0), "nothing is rolled up, so nothing goes");
    roll(&store, now);
    store.expire_usage(Instant(now), &keep).unwrap();
    let kept = store.usage_kept();
    assert_eq!(kept.minutes_since, Instant(now - 2 * HOUR));
    assert_eq!(kept.hours_since, Instant(38 * 24 * HOUR));
    assert_eq!(kept.days_since, Instant(0), "a row of days goes as a whole");
    let store = reopen(&directory, store);
    assert_eq!(store.usage_kept(), kept);
    let all = (0, i64::MAX);
    assert_eq!(counts(&store, Some(7), all, Step::Minute), [(7, 0, 2), (7, 1_440, 1), (7, 57_600, 1), (7, 57_660, 1)]);
    let within = |since: i64, until: i64| counts(&store, Some(7), (since * MINUTE, until * MINUTE), Step::Minute);
    assert_eq!(within(1, 1_440), [], "a day that begins before is not divided");
    assert_eq!(within(0, 1), [(7, 0, 2)], "and neither is one that ends later");
    assert_eq!(within(57_600, 57_601), [(7, 57_600, 1)]);
    let later = now + 40 * 24 * HOUR;
    roll(&store, later);
    store.expire_usage(Instant(later), &keep).unwrap();
    assert_eq!(store.usage_kept().days_since, Instant(32 * 24 * HOUR));
    assert_eq!(counts(&store, Some(7), all, Step::Minute), [(7, 57_600, 2)]);
    assert_eq!(store.usage_covered(Instant(0), Instant(i64::MAX)).unwrap().len(), 2);
}

/// A report reads more than once: what is written, added up or removed in between must be in all of it or in none.
#[test]
fn a_moment_stays_as_it_was() {
    let (_directory, store) = store();
    let day = DAY as u32;
    let write_covered = |minute: u32| {
        let (since, until) = (Instant(i64::from(minute) * MINUTE), Instant(i64::from(minute) * MINUTE + 1));
        store
            .write_usage(&UsageBatch { rows: vec![counted(7, minute, 1)], covered: Some((since, until)), ..UsageBatch::default() }, false)
            .unwrap();
    };
    [30, 90, day + 5].into_iter().for_each(write_covered);
    let told = |usage: &UsageMoment<'_>| {
        let counts: Vec<CountRow> = usage.counts(None, Instant(0), Instant(i64::MAX), Step::Minute).map(Result::unwrap).collect();
        let countries: Vec<CountryRow> = usage.countries(None, Instant(0), Instant(i64::MAX), Step::Minute).map(Result::unwrap).collect();
        let covered = usage.covered(Instant(0), Instant(i64::MAX)).unwrap();
        (counts, countries, covered, usage.begun().unwrap(), usage.kept(), usage.uses(KeyId([7; 16])).unwrap())
    };
    let usage = store.usage().unwrap();
    let before = told(&usage);
    assert_eq!((before.0.len(), before.2.len(), before.3), (3, 3, Some(Instant(30 * MINUTE))));
    write_covered(40 * day);
    let now = i64::from(40 * day) * MINUTE + 4 * HOUR;
    roll(&store, now);
    store.expire_usage(Instant(now), &Keep { minutes: Span(2 * HOUR), hours: Span(48 * HOUR), days: Span(35 * 24 * HOUR) }).unwrap();
    assert_eq!(told(&usage), before);
    let after = told(&store.usage().unwrap());
    assert!(after.0 != before.0 && after.1 != before.1 && after.2 != before.2 && after.4 != before.4 && after.5 != before.5, "{after:?}");
}

#[test]
fn hours_without_rows_are_leapt_over() {
    let (_directory, store) = store();
    write(&store, vec![counted(7, 100, 1), counted(7, 4_000_000_000, 1)]);
    let far = i64::from(u32::MAX) * MINUTE;
    let mut calls = 0;
    while store.roll_usage(Instant(far)).unwrap() {
        calls += 1;
        assert!(calls < 3_000, "two hours and two days of 256 buckets, and some leaps");
    }
    assert_eq!(counts(&store, Some(7), (0, far), Step::Day).len(), 2);
}

#[test]
fn the_later_use_and_the_newest_networks_stay() {
    let (directory, mut store) = store();
    let id = KeyId([1; 16]);
    let used = |at: i64, version: u16, n: u8| Counted {
        version,
        last_at: Instant(at),
        last_address: Some([10, 0, n, 9].into()),
        ..counted(1, (at / MINUTE) as u32, 1)
    };
    let minute = |minute: i64| minute * MINUTE;
    write(&store, vec![used(5, 1, 1), used(1, 2, 2)]);
    write(&store, vec![used(3, 1, 3)]);
    for step in 0..80 {
        write(&store, vec![used(minute(step * 7) + 10, 2, step as u8 + 10), used(minute(step * 7) + 9, 2, 30)]);
        if step == 12 {
            roll(&store, 2 * HOUR);
            store = reopen(&directory, store);
        }
    }
    let told = |store: &Store| store.uses(id).unwrap().last.iter().map(|last| (last.version, last.at.0)).collect::<Vec<_>>();
    assert_eq!(told(&store), [(1, 5), (2, minute(553) + 10)]);
    let mut newest = vec![(89, minute(553) + 10), (30, minute(553) + 9)];
    newest.extend((26..89).rev().filter(|n| *n != 30).map(|n| (n, minute((n - 10) * 7) + 10)));
    assert_eq!(newest.len(), limits::NETWORKS_REMEMBERED);
    // Of the others the one that was used last.
    let forgotten = |store: &Store| store.uses(id).unwrap().forgotten;
    assert_eq!(forgotten(&store), Some(Instant(minute(15 * 7) + 10)));
    let networks = |store: &Store| {
        let networks = store.uses(id).unwrap().networks;
        networks.iter().map(|used| (used.network, used.at.0)).collect::<Vec<_>>()
    };
    let expected: Vec<(Network, i64)> = newest.iter().map(|(n, at)| (format!("10.0.{n}.0/24").parse().unwrap(), *at)).collect();
    assert_eq!(networks(&store), expected);
    roll(&store, 100 * HOUR);
    assert_eq!((told(&store), networks(&store)), (vec![(1, 5), (2, minute(553) + 10)], expected));
    assert_eq!(forgotten(&store), Some(Instant(minute(15 * 7) + 10)));
    let of_bucket = store.uses_of_bucket(id.bucket()).unwrap();
    assert_eq!((of_bucket.len(), &of_bucket[0].last), (1, &store.uses(id).unwrap().last));
    assert_eq!(store.uses(KeyId([2; 16])).unwrap().last, []);
}

/// A row that only tells of a network counts nothing and covers nothing; one that could not tell of all networks says so.
#[test]
fn networks_are_remembered_without_being_counted() {
    let (directory, mut store) = store();
    let seen = |minute: u32, n: u8| Counted {
        count: 0,
        version: 0,
        function: FunctionId::OTHER,
        country: None,
        last_address: Some([10, 1, n, 1].into()),
        ..counted(5, minute, 0)
    };
    let id = KeyId([5; 16]);
    write(&store, vec![seen(70, 1), counted(5, 71, 3), seen(70, 2), counted(6, 71, 1)]);
    // Of a key alone, of an hour that is rolled up, and of nobody's tokens.
    write(&store, vec![seen(90, 3), Counted { key: KeyId::NONE, ..seen(90, 4) }]);
    let told = |store: &Store| {
        let uses = store.uses(id).unwrap();
        let mut networks: Vec<String> = uses.networks.iter().map(|used| used.network.to_string()).collect();
        networks.sort();
        (networks, uses.forgotten, uses.last.len(), uses.spreads)
    };
    let networks = ["10.0.5.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"].map(str::to_owned);
    assert_eq!(told(&store), (networks.to_vec(), None, 1, vec![(0, 3)]));
    roll(&store, 3 * HOUR);
    store = reopen(&directory, store);
    assert_eq!(told(&store), (networks.to_vec(), None, 1, vec![(0, 3)]));
    write(&store, vec![seen(95, 5)]);
    assert_eq!(told(&store).0.len(), 5, "of an hour that is rolled up");
    assert_eq!(counts(&store, None, (0, 10 * HOUR), Step::Hour), [(5, 60, 3), (6, 60, 1)]);
    assert_eq!(store.usage_covered(Instant(0), Instant(10 * HOUR)).unwrap(), [(Instant(71 * MINUTE), Instant(72 * MINUTE))]);
    assert_eq!(store.uses(KeyId::NONE).unwrap().networks, []);
    let missed = |minute: u32| Counted { missed_networks: true, ..counted(5, minute, 1) };
    write(&store, vec![missed(200)]);
    assert_eq!(told(&store).1, Some(Instant(200 * MINUTE + 1)));
    write(&store, vec![counted(5, 201, 1)]);
    roll(&store, 5 * HOUR);
    assert_eq!(told(&store).1, Some(Instant(200 * MINUTE + 1)));
}

/// What was written before it was known which networks are missing: any that were used until then may be.
#[test]
fn uses_of_the_first_format_are_read() {
    let (_directory, store) = store();
    let id = KeyId([1; 16]);
    let of_old = crate::record::uses::of_the_first_format(&[("10.0.9.0/24", 5), ("10.0.2.0/24", 9)]);
    let mut batch = WriteBatch::default();
    batch.merge_cf(store.family(Family::Usage), uses::uses_row(id), &of_old);
    store.write(batch, false).unwrap();
    check_row(&uses::uses_row(id), &of_old).unwrap();
    let told = |store: &Store| {
        let uses = store.uses(id).unwrap();
        (uses.networks.len(), uses.forgotten)
    };
    assert_eq!(told(&store), (2, Some(Instant(9))));
    write(&store, vec![counted(1, 10, 1)]);
    roll(&store, 2 * HOUR);
    assert_eq!(told(&store), (3, Some(Instant(9))));
    assert_eq!(store.uses_of_bucket(id.bucket()).unwrap()[0].networks.len(), 3);
}

#[test]
fn minutes_are_covered_that_were_counted_in() {
    let (directory, store) = store();
    let minutes = |since: i64, until: i64| (Instant(since * MINUTE), Instant(until * MINUTE));
    let covered =
        |since: i64, until: i64| UsageBatch { covered: Some((Instant(since * MINUTE), Instant(until * MINUTE + 5))), ..Default::default() };
    store.write_usage(&covered(58, 61), false).unwrap();
    store.write_usage(&covered(60, 62), false).unwrap();
    write(&store, vec![counted(1, 64, 1), counted(2, 64, 1), counted(2, 63, 1), counted(3, 200, 1)]);
    let store = reopen(&directory, store);
    let told = |(since, until)| store.usage_covered(since, until).unwrap();
    assert_eq!(told(minutes(0, 1_000)), [minutes(58, 65), minutes(200, 201)]);
    assert_eq!(told((Instant(60 * MINUTE + 7), Instant(61 * MINUTE + 9))), [(Instant(60 * MINUTE + 7), Instant(61 * MINUTE + 9))]);
    assert_eq!(told(minutes(65, 200)), []);
}

/// An operand that cannot be read stops neither RocksDB nor what is readable; a stored row that cannot be read is named.
#[test]
fn damaged_rows_are_left_out_or_named() {
    let (_directory, store) = store();
    write(&store, vec![counted(1, 5, 1)]);
    let row = usage_row(Step::Minute, 0, KeyId([1; 16]).bucket());
    for damaged in [&[][..], &[9, 9], &[1, 0, 7], &[1; 40]] {
        let mut batch = WriteBatch::default();
        batch.merge_cf(store.family(Family::Usage), row, damaged);
        store.write(batch, false).unwrap();
    }
    write(&store, vec![counted(1, 5, 1)]);
    assert_eq!(counts(&store, None, (0, HOUR), Step::Minute), [(1, 5, 2)]);
    let mut batch = WriteBatch::default();
    batch.put_cf(store.family(Family::Usage), row, [1, 0, 7]);
    store.write(batch, false).unwrap();
    let error = store.usage_counts(None, Instant(0), Instant(HOUR), Step::Minute).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("'usage'") && error.contains("4d00000000"), "{error}");
}

/// What a model knows: by key, minute, version, function, verdict, country.
type Model = BTreeMap<(u8, u32, u16, u16, u8, Option<Country>), u64>;

#[derive(Debug, Clone)]
enum Deed {
    /// Rows of a flush: key, minutes before the latest, kind.
    Write(Vec<(u8, u32, u8)>),
    /// Time passes.
    Pass(u32),
    /// So many steps of rolling up.
    Roll(u16),
    Expire,
    Refuse(Vec<(u8, u32, u8)>),
    Reopen,
}

fn rows() -> impl Strategy<Value = Vec<(u8, u32, u8)>> {
    let back = prop_oneof![6 => 0u32..30, 2 => 0u32..3_000, 1 => 0u32..30_000];
    prop::collection::vec((0u8..5, back, 0u8..24), 0..12)
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => rows().prop_map(Deed::Write),
        4 => prop_oneof![0u32..90, 0u32..4_000].prop_map(Deed::Pass),
        4 => (0u16..700).prop_map(Deed::Roll),
        2 => Just(Deed::Expire),
        1 => rows().prop_map(Deed::Refuse),
        1 => Just(Deed::Reopen),
    ]
}

fn of_kind(key: u8, minute: u32, kind: u8) -> Counted {
    let country = [None, Some(Country(*b"DE")), Some(Country(*b"FR"))][usize::from(kind % 3)];
    let verdict = if kind.is_multiple_of(2) { Verdict::Ok } else { Verdict::Expired };
    let (version, function) = (u16::from(kind / 12) + 1, FunctionId(u16::from(kind / 6) * 300 + 2));
    let key_id = if key == 0 { KeyId::NONE } else { KeyId([key; 16]) };
    Counted { key: key_id, version, function, verdict, country, ..counted(key, minute, u64::from(kind) + 1) }
}

/// What a report of the model would have: by the beginning of the unit, as `Store::usage_counts` promises it where all is kept.
fn unit(minute: u32, (since, until): (u32, u32), step: Step) -> i64 {
    let coarsest = [Step::Day, Step::Hour, Step::Minute].into_iter().find(|unit| {
        let begin = minute / unit.minutes() as u32 * unit.minutes() as u32;
        *unit <= step && begin >= since && begin + unit.minutes() as u32 <= until
    });
    let unit = coarsest.unwrap().minutes() as u32;
    i64::from(minute / unit * unit) * MINUTE
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is written, when it is rolled up, what comes late and where the daemon dies: sums are those of a plain map.
    #[test]
    fn sums_are_those_of_a_plain_map(deeds in prop::collection::vec(deed(), 1..40), span in (0u32..40_000, 1u32..40_000), retention in any::<bool>()) {
        let (directory, mut store) = store();
        let mut model = Model::new();
        let mut now = 30_000;
        // Rows before this were removed from the model and the store alike.
        for deed in deeds {
            match deed {
                Deed::Write(rows) => {
                    let rows: Vec<_> = rows.into_iter().map(|(key, back, kind)| of_kind(key, now - back, kind)).collect();
                    for row in &rows {
                        let key = if row.key == KeyId::NONE { 0 } else { row.key.0[0] };
                        *model.entry((key, row.minute, row.version, row.function.0, row.verdict as u8, row.country)).or_default() += row.count;
                    }
                    write(&store, rows);
                }
                Deed::Pass(minutes) => now += minutes,
                Deed::Roll(steps) => {
                    for _ in 0..steps {
                        store.roll_usage(Instant(i64::from(now) * MINUTE)).unwrap();
                    }
                }
                Deed::Expire if retention => {
                    let keep = Keep { minutes: Span(2 * HOUR), hours: Span(48 * HOUR), days: Span(36_500 * 24 * HOUR) };
                    store.expire_usage(Instant(i64::from(now) * MINUTE), &keep).unwrap();
                }
                Deed::Expire => {}
                Deed::Refuse(rows) => {
                    store.fail_writes(true);
                    let rows: Vec<_> = rows.into_iter().map(|(key, back, kind)| of_kind(key, now - back, kind)).collect();
                    prop_assert_eq!(store.write_usage(&UsageBatch { rows, time_floor: Some(TimeFloor { at: Instant(1), boot: None }), ..Default::default() }, false).is_err(), true);
                    let _ = store.roll_usage(Instant(i64::from(now) * MINUTE));
                    store.fail_writes(false);
                }
                Deed::Reopen => store = reopen(&directory, store),
            }
        }
        let number = |key: KeyId| if key == KeyId::NONE { 0 } else { key.0[0] };
        // Without retention to the minute in any span; with it in whole days, which divide nothing.
        let (mut since, mut until) = (span.0, span.0 + span.1);
        if retention {
            (since, until) = (since / 1_440 * 1_440, until.next_multiple_of(1_440));
        }
        let (from, to) = (Instant(i64::from(since) * MINUTE), Instant(i64::from(until) * MINUTE));
        for step in [Step::Minute, Step::Hour, Step::Day] {
            let whole_days = |at: i64| if retention { at / (24 * HOUR) * 24 * HOUR } else { at };
            let (mut expected, mut by_country) = (BTreeMap::new(), BTreeMap::new());
            for (&(key, minute, version, function, verdict, country), count) in model.iter().filter(|(place, _)| (since..until).contains(&place.1)) {
                let at = whole_days(unit(minute, (since, until), step));
                *expected.entry((key, at, version, function, verdict)).or_insert(0) += count;
                *by_country.entry((key, at, country)).or_insert(0) += count;
            }
            let mut found = BTreeMap::new();
            let mut series: Vec<CountRow> = Vec::new();
            let mut rows: Vec<CountRow> = Vec::new();
            for row in store.usage_counts(None, from, to, step) {
                let row = row.unwrap();
                *found.entry((number(row.key), whole_days(row.at.0), row.version, row.function.0, row.verdict as u8)).or_insert(0) += row.count;
                rows.push(row);
            }
            prop_assert_eq!(&found, &expected);
            for bucket in 0..=255 {
                series.extend(store.usage_series(bucket, from, to, step).unwrap());
            }
            prop_assert_eq!(&series, &rows);
            for key in 0..5 {
                let id = if key == 0 { KeyId::NONE } else { KeyId([key; 16]) };
                let of_key: Vec<CountRow> = store.usage_counts(Some(id), from, to, step).map(Result::unwrap).collect();
                let of_all: Vec<CountRow> = rows.iter().copied().filter(|row| row.key == id).collect();
                prop_assert_eq!(of_key, of_all);
            }
            let mut found = BTreeMap::new();
            for row in store.usage_countries(None, from, to, step) {
                let row = row.unwrap();
                *found.entry((number(row.key), whole_days(row.at.0), row.country)).or_insert(0) += row.count;
            }
            prop_assert_eq!(found, by_country);
        }
        // The last use of each version, wherever it stands by now.
        for key in 1..5 {
            let mut expected = BTreeMap::new();
            for &(_, minute, version, ..) in model.keys().filter(|place| place.0 == key) {
                let last = expected.entry(version).or_insert(0);
                *last = minute.max(*last);
            }
            let found: BTreeMap<u16, u32> = store.uses(KeyId([key; 16])).unwrap().last.iter().map(|last| (last.version, (last.at.0 / MINUTE) as u32)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

/// The log is damaged behind the last change, where only usage is.
#[test]
fn a_store_that_lost_usage_says_so() {
    let (directory, store) = store();
    let count = |store: &Store, minute| {
        let rows = vec![counted(1, minute, 1)];
        store.write_usage(&UsageBatch { rows, ..UsageBatch::default() }, true).unwrap();
    };
    (1..=3).for_each(|minute| count(&store, minute));
    let store = reopen(&directory, store);
    assert_eq!(store.lost_usage(), None);
    (4..=6).for_each(|minute| count(&store, minute));
    drop(store);
    let logs = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let whole = std::fs::read(&log).unwrap();
    for at in [whole.len() - 1, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&log, damaged).unwrap();
        let store = Store::open_to_read(directory.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.lost_usage(), Some(&Damage::Files(vec![log.clone()])), "{at}");
    }
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.lost_usage(), Some(&Damage::Files(vec![log])));
    (4..=6).for_each(|minute| count(&store, minute));
    assert_eq!(store.lost_usage(), None);
}
