use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;
use crate::key::{Country, FunctionId, Instant, Key, KeyId, Settings, Verdict};

const MINUTE: i64 = 60_000;

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    (directory, store)
}

fn reopen(directory: &TempDir, store: Store) -> Result<Store, StoreError> {
    drop(store);
    Store::open(directory.path(), StoreOptions::default())
}

fn key(number: u8, account: &str, name: &str) -> Key {
    Key {
        id: KeyId([number; 16]),
        settings: Settings::new(account, name),
        secrets: Vec::new(),
        created_at: Instant(1),
        deleted_at: None,
        revision: 1,
    }
}

fn put(store: &Store, keys: &[(Option<&Key>, &Key)]) {
    let mut changes = store.changes(0);
    changes.put_keys(keys.iter().map(|(before, after)| PutKey { before: *before, after, record: None }));
    changes.commit().unwrap();
}

fn ids(keys: impl Iterator<Item = Result<Key, StoreError>>) -> Vec<u8> {
    keys.map(|key| key.unwrap().id.0[0]).collect()
}

#[test]
fn a_store_is_opened_once() {
    let (directory, _store) = store();
    assert!(matches!(Store::open(directory.path(), StoreOptions::default()), Err(StoreError::Open { .. })));
}

#[test]
fn keys_are_paged_in_the_order_of_their_ids() {
    let (_directory, store) = store();
    let keys = [key(3, "acme", "a"), key(1, "other", "a"), key(2, "acme", "b")];
    put(&store, &keys.each_ref().map(|key| (None, key)));
    assert_eq!(ids(store.keys(None)), [1, 2, 3]);
    assert_eq!(ids(store.keys(Some(KeyId([1; 16])))), [2, 3]);
    assert_eq!(ids(store.keys_of_account("acme", None).unwrap()), [2, 3]);
    assert_eq!(ids(store.keys_of_account("acme", Some(KeyId([2; 16]))).unwrap()), [3]);
    assert_eq!(ids(store.keys_of_account("acm", None).unwrap()), [0u8; 0]);
}

#[test]
fn a_name_may_pass_from_one_key_to_another_in_one_write() {
    let (_directory, store) = store();
    let (old, new) = (key(2, "acme", "a"), key(1, "acme", "b"));
    put(&store, &[(None, &old), (None, &new)]);
    let renamed = key(2, "acme", "c");
    let taken = key(1, "acme", "a");
    put(&store, &[(Some(&new), &taken), (Some(&old), &renamed)]);
    let found = ["a", "b", "c"].map(|name| store.find("acme", name).unwrap().map(|id| id.0[0]));
    assert_eq!(found, [Some(1), None, Some(2)]);
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let (_directory, store) = store();
    for (record, reason) in [(&[2u8, 0][..], "format 2"), (&[][..], "empty"), (&[1, 7][..], ""), (&[1; 300][..], "")] {
        let mut batch = WriteBatch::default();
        batch.put_cf(store.family(Family::Keys), [0xab; 16], record);
        store.write(batch, false).unwrap();
        let error = store.key(KeyId([0xab; 16])).unwrap_err().to_string();
        assert!(error.contains("'keys'") && error.contains("abab") && error.contains(reason), "{error}");
        assert!(store.keys(None).next().unwrap().is_err());
    }
}

/// Cause: RocksDB's recovery stops at the first damaged record of its log, and opens without what stood behind it.
#[test]
fn a_store_behind_what_was_acknowledged_is_not_opened() {
    let (directory, store) = store();
    let heads = [1u8, 2].map(|n| Head { sequence: u64::from(n), mac: [n; 32] });
    let mut changes = store.changes(0);
    changes.set_head(heads[0]);
    changes.commit().unwrap();
    store.acknowledge(heads[0]).unwrap();
    let store = reopen(&directory, store).unwrap();
    store.acknowledge(heads[1]).unwrap();
    let Err(error) = reopen(&directory, store) else { panic!("a store that lost change 2 was opened") };
    assert!(matches!(error, StoreError::Behind { found: 1, acknowledged: 2, .. }), "{error}");
    // A torn write of the newest slot leaves the one before it.
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("acknowledged")).unwrap();
    for slot in [0, 4096] {
        let mut sequence = [0u8; 8];
        std::fs::File::open(directory.path().join("acknowledged")).unwrap().read_exact_at(&mut sequence, slot + 8).unwrap();
        if sequence[0] == 2 {
            file.write_all_at(&[0xff], slot + 20).unwrap();
        }
    }
    Store::open(directory.path(), StoreOptions::default()).unwrap();
}

#[test]
fn a_store_keeps_its_id() {
    let (directory, store) = store();
    let id = store.store_id().unwrap();
    assert_ne!(id, [0; 16]);
    assert_eq!(reopen(&directory, store).unwrap().store_id().unwrap(), id);
}

fn count(key: u8, minute: u32, count: u64) -> CountRow {
    CountRow { key: KeyId([key; 16]), minute, version: 1, function: FunctionId(2), verdict: Verdict::Ok, count }
}

fn counts(store: &Store, key: Option<u8>, since: i64, until: i64) -> Vec<(u8, u32, u64)> {
    let rows = store.usage_counts(key.map(|key| KeyId([key; 16])), Instant(since), Instant(until));
    rows.map(|row| row.map(|row| (row.key.0[0], row.minute, row.count)).unwrap()).collect()
}

#[test]
fn counts_add_up_over_flushes_and_restarts() {
    let (directory, mut store) = store();
    for minute in [10, 11, 10] {
        let usage = UsageBatch { counts: vec![count(0, minute, 1), count(5, minute, 2), count(255, minute, 3)], ..Default::default() };
        store.write_usage(&usage, false).unwrap();
        store = reopen(&directory, store).unwrap();
    }
    assert_eq!(counts(&store, None, 0, i64::MAX), [(0, 10, 2), (0, 11, 1), (5, 10, 4), (5, 11, 2), (255, 10, 6), (255, 11, 3)]);
    assert_eq!(counts(&store, None, 11 * MINUTE, 12 * MINUTE), [(0, 11, 1), (5, 11, 2), (255, 11, 3)]);
    assert_eq!(counts(&store, Some(5), 0, 11 * MINUTE), [(5, 10, 4)]);
    assert_eq!(counts(&store, Some(5), 10 * MINUTE + 1, 11 * MINUTE + 1), [(5, 10, 4), (5, 11, 2)]);
    assert_eq!(counts(&store, Some(0), 0, i64::MAX), [(0, 10, 2), (0, 11, 1)]);
    assert!(counts(&store, Some(9), 0, i64::MAX).is_empty());
}

#[test]
fn countries_are_counted_by_minute_and_told_by_whole_hours() {
    let (_directory, store) = store();
    let row = |country, count| CountryRow { key: KeyId([1; 16]), minute: 7 * 60 + 5, country, count };
    let usage = UsageBatch { countries: vec![row(None, 1), row(Some(Country(*b"DE")), 2)], ..Default::default() };
    store.write_usage(&usage, false).unwrap();
    store.write_usage(&usage, true).unwrap();
    let rows: Vec<CountryRow> = store.usage_countries(None, Instant(0), Instant(i64::MAX)).map(Result::unwrap).collect();
    assert_eq!(rows, [row(None, 2), row(Some(Country(*b"DE")), 4)]);
    let told = |since: i64, until: i64| store.usage_countries(None, Instant(since * MINUTE), Instant(until * MINUTE)).count();
    assert_eq!([told(7 * 60 + 30, 7 * 60 + 31), told(7 * 60, 7 * 60 + 1), told(6 * 60, 7 * 60), told(8 * 60, 9 * 60)], [2, 2, 0, 0]);
}

#[test]
fn the_later_use_and_the_newest_networks_stay() {
    let (directory, store) = store();
    let id = KeyId([1; 16]);
    let last = |at, version| LastUse { key: id, version, at: Instant(at), address: Some("192.0.2.1".parse().unwrap()), country: None };
    let network = |at: i64, n: i64| NetworkUse { key: id, network: format!("10.0.{n}.0/24").parse().unwrap(), at: Instant(at) };
    for flush in [vec![last(5, 1), last(1, 2)], vec![last(3, 1)], vec![last(2, 2)]] {
        store.write_usage(&UsageBatch { last_uses: flush, time_floor: Some(Instant(9)), ..Default::default() }, false).unwrap();
    }
    for n in 0..20 {
        store.write_usage(&UsageBatch { networks: vec![network(n, n), network(100 - n, 30)], ..Default::default() }, false).unwrap();
    }
    let store = reopen(&directory, store).unwrap();
    assert_eq!(store.last_uses(id).unwrap(), [last(5, 1), last(2, 2)]);
    assert_eq!(store.time_floor().unwrap(), Some(Instant(9)));
    let mut newest = vec![network(100, 30)];
    newest.extend((5..20).rev().map(|n| network(n, n)));
    assert_eq!(store.recent_networks(id).unwrap(), newest);
    assert_eq!(store.last_uses(KeyId([2; 16])).unwrap(), []);
}

#[test]
fn history_is_paged_newest_first() {
    use crate::key::history::{Action, Actor, Entry, FieldChange, Subject};
    let (_directory, store) = store();
    let actor = Actor { uid: 0, user: None, on_behalf_of: None };
    let mut changes = store.changes(0);
    for sequence in 1..=300 {
        let subject = match sequence % 3 {
            0 => Subject::Key(KeyId([1; 16])),
            1 => Subject::Key(KeyId([2; 16])),
            _ => Subject::Function("leads".parse().unwrap()),
        };
        let (action, at) = (Action::Edit, Instant(1_800_000_000_000));
        let entry = Entry {
            sequence,
            at,
            actor: actor.clone(),
            action,
            subject,
            changes: vec![FieldChange { field: "name".to_owned(), before: None, after: Some("\"web\"".to_owned()) }],
            pepper: crate::key::PepperId([0; 8]),
            mac: [0; 32],
        };
        let record = entry_record(&entry);
        let (mut body, mut in_parts) = (Vec::new(), b"what was there before".to_vec());
        encode_entry_body(&mut body, &entry.actor, action, &entry.subject, &entry.changes, entry.pepper);
        encode_entry(&mut in_parts, sequence, at, &body);
        assert_eq!(in_parts, record);
        changes.put_entry(sequence, &record);
        changes.put_subject(sequence, &entry.subject);
    }
    changes.commit().unwrap();
    let sequences = |entries: Vec<Entry>| entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(store.history(None, None, 3).unwrap()), [300, 299, 298]);
    assert_eq!(sequences(store.history(None, Some(3), 9).unwrap()), [2, 1]);
    assert_eq!(sequences(store.history(None, Some(0), 9).unwrap()), [0u64; 0]);
    assert_eq!(sequences(store.history(Some(KeyId([1; 16])), Some(300), 2).unwrap()), [297, 294]);
    assert_eq!(sequences(store.function_history(&"leads".parse().unwrap(), None, 2).unwrap()), [299, 296]);
    assert_eq!(sequences(store.function_history(&"lead".parse().unwrap(), None, 2).unwrap()), [0u64; 0]);
}
