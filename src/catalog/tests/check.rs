use super::*;
use crate::catalog::Head;
use crate::catalog::check::{CheckReport, Part};

fn faults(report: &CheckReport) -> Vec<String> {
    let of = |part: &Part| part.faults.iter().map(|fault| format!("{}: {fault}", part.name)).collect::<Vec<_>>();
    report.parts.iter().flat_map(of).collect()
}

fn checked(house: &House, against: &[Head]) -> Vec<String> {
    faults(&house.catalog.check(against, &mut |_| true).unwrap())
}

/// A key that lives, one that has two secrets, one that is deleted; a function.
fn filled() -> (House, [KeyId; 3]) {
    let house = House::new();
    house.function("leads.insert");
    let ids = ["a", "b", "c"].map(|name| house.create("acme", name).key.id);
    house.made(rotate(ids[1], DAY));
    house.changed(delete(ids[2]));
    (house, ids)
}

/// The check is shown each thing that it must catch.
#[test]
fn each_planted_fault_is_found() {
    let (house, [a, b, c]) = filled();
    let store = house.catalog.store();
    assert_eq!(checked(&house, &[]), [""; 0]);
    let row = |family: &'static str, row: &[u8]| (family, row.to_vec());
    let record = |id: KeyId, change: fn(&mut Key)| {
        let mut key = house.stored(id);
        change(&mut key);
        let mut bytes = Vec::new();
        crate::store::encode_key(&mut bytes, &key);
        Some(bytes)
    };
    let entry = |n: u64| [&b"E"[..], &n.to_be_bytes()].concat();
    let of_key = |id: KeyId, n: u64| [&b"K"[..], &id.0, &n.to_be_bytes()].concat();
    let recorded = |n: u64| store.entry(n).unwrap().unwrap();
    let head = |sequence: u64| {
        let mut bytes = vec![1, sequence as u8];
        bytes.extend_from_slice(&recorded(sequence).entry.mac);
        Some(bytes)
    };
    let forged = {
        let mut recorded = recorded(3);
        recorded.entry.actor.uid = 0;
        Some(crate::store::entry_record(&recorded.entry))
    };
    type Plant<'a> = ((&'a str, Vec<u8>), Option<Vec<u8>>, &'a [&'a str]);
    let plants: Vec<Plant> = vec![
        (row("keys", &a.0), Some(vec![1, 2, 3]), &["keys: column family 'keys'"]),
        (row("keys", &a.0), None, &["keys: the history has an entry of key_"]),
        (row("keys", &a.0), record(a, |key| key.revision = 7), &["is at revision 7, but the history has 1 entries of it"]),
        (row("keys", &a.0), record(b, |_| ()), &["stands in another key's row"]),
        (row("keys", &b.0), record(b, |key| key.secrets.truncate(0)), &["not numbered from 1", "index: "]),
        (row("keys", &b.0), record(b, |key| key.secrets[1].revoked_at = Some(NOW)), &["index: key_", "is verified otherwise"]),
        (row("keys", &c.0), record(c, |key| key.deleted_at = None), &["is not found by its name", "leads to no key", "index: key_"]),
        (row("keys", &a.0), record(a, |key| key.settings.grants = vec!["x.y".parse().unwrap()]), &["grants x.y, which is not registered"]),
        (row("names", b"Lacme\0a"), None, &["(acme/a) is not found by its name"]),
        (row("names", b"Lacme\0a"), Some(b.0.to_vec()), &["(acme/a) is not found by its name", "'acme/a' leads to no key"]),
        (row("names", b"Lacme\0x"), Some(a.0.to_vec()), &["the name 'acme/x' leads to no key"]),
        (row("names", b"Xacme\0x"), Some(a.0.to_vec()), &["is neither a key's name nor a tombstone's"]),
        (row("functions", &[0, 9]), Some(vec![1]), &["functions: column family 'functions'"]),
        (row("history", &entry(3)), None, &["entry 4 follows entry 2"]),
        (row("history", &entry(6)), None, &["the head of the history is entry 6, but the last entry that is there is 5"]),
        (row("history", &entry(3)), Some(vec![9]), &["format 9"]),
        (row("history", &entry(3)), forged, &["chain: "]),
        (row("history", &of_key(a, 2)), None, &["entry 2 is not found from key_", "but the history has 0 entries of it"]),
        (row("history", &of_key(a, 5)), Some(vec![]), &["do not belong together"]),
        (row("meta", b"head"), head(5), &["the head of the history is entry 5, but the last entry that is there is 6"]),
        (row("meta", b"peppers"), Some(vec![1; 40]), &["meta: ", "pepper: "]),
        (row("meta", b"request/x"), Some(vec![1]), &["meta: column family 'meta'"]),
    ];
    for ((family, row), value, expected) in plants {
        let before = store.row(family, &row);
        store.plant(family, &row, value.as_deref());
        let found = checked(&house, &[]);
        for words in expected {
            assert!(found.iter().any(|fault| fault.contains(words)), "'{words}' of a plant in {family} is not in {found:#?}");
        }
        store.plant(family, &row, before.as_deref());
        assert_eq!(checked(&house, &[]), [""; 0], "{expected:?}");
    }
}

#[test]
fn a_noted_head_must_still_be_there() {
    let (house, _) = filled();
    let head = house.catalog.store().head().unwrap();
    let none = Head::default();
    assert_eq!(checked(&house, &[head, none]), [""; 0]);
    house.create("acme", "later");
    assert_eq!(checked(&house, &[head]), [""; 0]);
    let ahead = Head { sequence: head.sequence + 2, mac: head.mac };
    let other = Head { sequence: head.sequence, mac: [7; 32] };
    let found = checked(&house, &[ahead, other]);
    assert!(found.len() == 2 && found[0].contains("it was cut off") && found[1].contains("written anew"), "{found:?}");
    assert_eq!(head.to_string().parse(), Ok(head));
}

#[test]
fn a_check_goes_on_while_changes_are_made() {
    let (house, _) = filled();
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for n in 0..200 {
                let id = house.create("busy", &n.to_string()).key.id;
                house.changed(Change::Switch { target: one(id), enabled: false });
            }
        });
        let mut checks = 0;
        while !changes.is_finished() || checks == 0 {
            assert_eq!(checked(&house, &[]), [""; 0]);
            checks += 1;
        }
    });
}

#[test]
fn a_check_that_is_told_to_stop_stops() {
    let (house, _) = filled();
    assert!(house.catalog.check(&[], &mut |_| false).is_err());
}
