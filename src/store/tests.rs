use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;
use crate::key::{Instant, Key, KeyId, Settings};

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

fn files_of_kind(directory: &TempDir, kind: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect();
    files.sort();
    files
}

/// Changes a byte in the middle.
fn harm(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Cause: RocksDB read the log up to the damage, wrote that into tables, and removed the log; then the store was refused, without a name, and the next who looked found no damage.
#[test]
fn a_store_refused_for_its_log_names_it_and_stays_as_it_is() {
    let (directory, store) = store();
    for sequence in 1..=20 {
        let head = Head { sequence, mac: [sequence as u8; 32] };
        let mut changes = store.changes(0);
        changes.set_head(head);
        changes.commit().unwrap();
        store.acknowledge(head).unwrap();
    }
    drop(store);
    let log = files_of_kind(&directory, "log").pop().unwrap();
    let whole = std::fs::read(&log).unwrap();
    harm(&log);
    for _ in 0..2 {
        let Err(error) = Store::open(directory.path(), StoreOptions::default()) else { panic!("a store that lost changes was opened") };
        assert!(
            error.to_string().ends_with(&format!("; {} is damaged or missing: look at the disk, and restore a backup", log.display())),
            "{error}"
        );
    }
    std::fs::remove_file(&log).unwrap();
    let Err(error) = Store::open(directory.path(), StoreOptions::default()) else { panic!("a store without its log was opened") };
    assert!(error.to_string().ends_with("; its log is missing: look at the disk, and restore a backup"), "{error}");
    // Cause: RocksDB began another log, and the one that was put back was older than that and not read any more.
    std::fs::write(&log, whole).unwrap();
    assert_eq!(Store::open(directory.path(), StoreOptions::default()).unwrap().head().unwrap().sequence, 20);
}

#[test]
fn every_file_that_is_damaged_is_named() {
    let (directory, store) = store();
    for number in 1..=3 {
        put(&store, &[(None, &key(number, "acme", &format!("k{number}")))]);
        if number < 3 {
            store.write_out();
        }
    }
    drop(store);
    let mut damaged = files_of_kind(&directory, "sst");
    assert_eq!(damaged.len(), 2);
    damaged.extend(files_of_kind(&directory, "log"));
    damaged.iter().for_each(|file| harm(file));
    let current = directory.path().join("CURRENT");
    std::fs::write(&current, "MANIFEST-987654\n").unwrap();
    damaged.push(current);
    damaged.sort();
    let before: Vec<_> = damaged.iter().map(|file| std::fs::read(file).unwrap()).collect();
    // Each once, and as the directory was named.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    for way in [directory.path().to_owned(), up.join(directory.path().strip_prefix("/").unwrap())] {
        let Err(StoreError::Open { damage, .. }) = Store::open(&way, StoreOptions::default()) else { panic!("a damaged store was opened") };
        let named = damaged.iter().map(|file| way.join(file.file_name().unwrap())).collect();
        assert_eq!(damage, Some(Damage::Files(named)));
    }
    assert_eq!(damaged.iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>(), before);
}

#[test]
fn a_store_keeps_its_id() {
    let (directory, store) = store();
    let id = store.store_id().unwrap();
    assert_ne!(id, [0; 16]);
    assert_eq!(reopen(&directory, store).unwrap().store_id().unwrap(), id);
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
