//! What taking back a rotation restores: what stood before that rotation, whatever was done before it and since.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::catalog::change::{ImportRun, ImportedKey, ImportedSecrets, Overlap};

const HOUR: Span = Span(3_600_000);

#[derive(Debug, Clone, Copy)]
enum Act {
    Rotate(Span),
    Extend(Span),
    Finish,
    Cancel,
    Revoke(u16),
    Edit,
    ExpireIn(Span),
    DeleteAndUndelete,
    Pass(Span),
}
use Act::{Cancel, DeleteAndUndelete, Edit, ExpireIn, Extend, Finish, Pass, Revoke, Rotate};

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    NoRotation,
    Refused,
}

fn act(house: &House, id: KeyId, act: Act) -> End {
    let change = |change| match house.change(change) {
        Ok(_) => End::Done,
        Err(ChangeError::NoRotation { .. }) => End::NoRotation,
        Err(_) => End::Refused,
    };
    let overlap = |overlap| change(Change::Overlap { key: of(id), revision: None, overlap });
    match act {
        Rotate(span) => change(rotate(id, span)),
        Extend(span) => overlap(Overlap::Extend(span)),
        Finish => overlap(Overlap::Finish),
        Cancel => overlap(Overlap::Cancel),
        Revoke(version) => change(Change::Revoke { key: of(id), revision: None, version: Some(version) }),
        Edit => change(edit(id, Patch { description: Some(house.stored(id).revision.to_string()), ..Patch::default() })),
        ExpireIn(span) => change(edit(id, Patch { expires_at: Some(Some(house.now().plus(span))), ..Patch::default() })),
        DeleteAndUndelete => {
            change(delete(id));
            change(Change::Undelete { key: of(id), revision: None })
        }
        Pass(span) => {
            house.pass(span);
            End::Done
        }
    }
}

/// Of each secret, when it retires, and whether it is revoked.
type Stood = Vec<(Option<Instant>, bool)>;

fn secrets(key: &Key) -> Stood {
    key.secrets.iter().map(|secret| (secret.retires_at, secret.revoked_at.is_some())).collect()
}

/// Each line is a sequence, how its last act ends, and what the secrets then have: hours after the beginning, none for never, and `R` for revoked.
///
/// The first was the fault: the second rotation leaves the retirement of secret 1 as it is, and its history entry does not name it. The first rotation's entry was
/// taken for it, in which secret 1 was current: it was then good for ever.
#[test]
fn what_a_cancelled_rotation_leaves() {
    let day = |days: i64| Span(days * DAY.0);
    let lines: [(&str, &[Act], End, &str); 16] = [
        ("a shorter overlap stays as it was", &[Rotate(HOUR), Revoke(2), Rotate(day(7)), Cancel], End::Done, "1 R R"),
        ("also where it was extended since", &[Rotate(HOUR), Revoke(2), Rotate(day(7)), Extend(day(9)), Cancel], End::Done, "1 R R"),
        ("what it was extended to before stays", &[Rotate(HOUR), Extend(day(1)), Revoke(2), Rotate(day(7)), Cancel], End::Done, "24 R R"),
        ("one extended is current again", &[Rotate(HOUR), Extend(day(7)), Extend(day(9)), Cancel], End::Done, "never R"),
        ("with edits in between", &[Rotate(HOUR), Edit, ExpireIn(day(9)), Edit, DeleteAndUndelete, Cancel], End::Done, "never R"),
        ("the second of two", &[Rotate(HOUR), Rotate(day(7)), Cancel], End::Done, "1 never R"),
        ("and not the first, too", &[Rotate(HOUR), Rotate(day(7)), Cancel, Cancel], End::NoRotation, "1 never R"),
        ("nor when the second secret is revoked", &[Rotate(HOUR), Rotate(day(7)), Cancel, Revoke(2), Cancel], End::NoRotation, "1 R R"),
        ("what it replaced is revoked since", &[Rotate(HOUR), Rotate(day(7)), Revoke(2), Cancel], End::NoRotation, "1 R:168 never"),
        ("a new secret that is revoked already", &[Rotate(HOUR), Revoke(2), Cancel], End::Done, "never R"),
        ("twice", &[Rotate(HOUR), Revoke(2), Rotate(day(7)), Cancel, Cancel], End::NoRotation, "1 R R"),
        ("twice, extended in between", &[Rotate(HOUR), Revoke(2), Rotate(HOUR), Cancel, Extend(day(2)), Cancel], End::NoRotation, "48 R R"),
        ("rotated anew", &[Rotate(HOUR), Cancel, Rotate(day(1)), Cancel], End::Done, "never R R"),
        ("finished", &[Rotate(HOUR), Finish, Cancel], End::NoRotation, "0 never"),
        ("after it has retired", &[Rotate(HOUR), Pass(HOUR), Cancel], End::NoRotation, "1 never"),
        (
            "what would have retired by now is not current again",
            &[Rotate(HOUR), Revoke(2), Rotate(day(7)), Extend(day(7)), Pass(HOUR), Cancel],
            End::NoRotation,
            "168 R never",
        ),
    ];
    for (name, acts, end, left) in lines {
        let house = House::new();
        let id = house.create("acme", "web").key.id;
        let ended = acts.iter().map(|one| act(&house, id, *one)).last();
        assert_eq!(ended, Some(end), "{name}");
        let shown = secrets(&house.stored(id)).into_iter().map(|(retires_at, revoked)| match (retires_at, revoked) {
            (None, false) => "never".to_owned(),
            (None, true) => "R".to_owned(),
            (Some(at), revoked) => format!("{}{}", if revoked { "R:" } else { "" }, at.since(NOW).0 / HOUR.0),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), left, "{name}");
        // A start reads what was written, and not what was in memory.
        let before = house.stored(id);
        assert_eq!(house.reopen().stored(id), before, "{name}");
    }
}

/// The rotation and what takes it back wait for the writer together: it is found among what is not written yet, too.
#[test]
fn a_rotation_of_the_same_write_is_taken_back() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    house.made(rotate(id, HOUR));
    let overlap = |overlap| Change::Overlap { key: of(id), revision: None, overlap };
    let revoke = Change::Revoke { key: of(id), revision: None, version: Some(2) };
    let changes = [revoke, rotate(id, Span(7 * DAY.0)), overlap(Overlap::Extend(DAY)), overlap(Overlap::Cancel)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut answers = Vec::new();
        for change in changes {
            answers.push(house.catalog.ask(Request { actor: actor(), change }).await.unwrap());
        }
        for answer in answers {
            answer.wait().await.unwrap();
        }
    });
    assert_eq!(secrets(&house.stored(id)), [(Some(NOW.plus(HOUR)), false), (None, true), (None, true)]);
}

/// A copy has a secret of its own. A key that was rotated before it was imported has no entry of that rotation: it was taken for one of a secret that never retires.
#[test]
fn a_copy_and_an_import_know_only_their_own_rotations() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    house.made(rotate(id, HOUR));
    let copy = house.made(Change::Copy { from: of(id), name: "copy".to_owned(), account: None }).key.id;
    assert_eq!(act(&house, copy, Cancel), End::NoRotation);
    let other = House::new();
    let rotated = house.stored(id);
    let imported = ImportedKey {
        id: Some(id),
        settings: rotated.settings.clone(),
        secrets: ImportedSecrets::Secrets(rotated.secrets.clone()),
        deleted_at: None,
        allow_weak: false,
    };
    other.change(other.catalog.prepare_import(actor(), vec![imported], ImportRun::default().turn()).change).unwrap();
    assert_eq!(act(&other, id, Cancel), End::NoRotation);
    assert_eq!(other.stored(id).secrets, rotated.secrets);
    for (one, end) in [(Revoke(2), End::Done), (Rotate(DAY), End::Done), (Cancel, End::Done), (Cancel, End::NoRotation)] {
        assert_eq!(act(&other, id, one), end, "{one:?}");
    }
    assert_eq!(secrets(&other.stored(id)), [(Some(NOW.plus(HOUR)), false), (None, true), (None, true)]);
}

/// The history of a key is read in pages: the rotation may be on a later one.
#[test]
fn a_rotation_far_back_is_found() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    for one in [Rotate(HOUR), Revoke(2), Rotate(DAY)] {
        assert_eq!(act(&house, id, one), End::Done);
    }
    (0..120).for_each(|_| assert_eq!(act(&house, id, Edit), End::Done));
    assert_eq!(act(&house, id, Cancel), End::Done);
    assert_eq!(secrets(&house.stored(id)), [(Some(NOW.plus(HOUR)), false), (None, true), (None, true)]);
}

/// What a cancel must restore: what stood before the latest rotation, as long as that is neither taken back nor over. `None` where it must be refused.
fn due(key: &Key, stood: Option<&Stood>, now: Instant) -> Option<Stood> {
    let old = key.secrets.iter().rposition(|secret| secret.revoked_at.is_none() && secret.version < key.secrets.len() as u16)?;
    let still = |at: Option<Instant>| at.is_none_or(|at| at > now);
    let (retires_at, stood) = (key.secrets[old].retires_at, stood?);
    // What is to come back is what was replaced, and no older one.
    if stood.iter().rposition(|(_, revoked)| !revoked) != Some(old) {
        return None;
    }
    (retires_at.is_some() && still(retires_at) && still(stood[old].0)).then(|| stood.clone())
}

/// Whatever the sequence: a cancel is made exactly where the rotation still stands, and then each secret that is not revoked has what it had before that rotation.
#[test]
fn a_cancel_restores_what_stood_before_its_rotation() {
    let span = prop_oneof![Just(Span(0)), (1..200i64).prop_map(|hours| Span(hours * HOUR.0))];
    let one = prop_oneof![
        4 => span.clone().prop_map(Rotate),
        2 => span.prop_map(Extend),
        1 => Just(Finish),
        4 => Just(Cancel),
        3 => (1..6u16).prop_map(Revoke),
        1 => Just(Edit),
        1 => Just(DeleteAndUndelete),
        2 => (1..30i64).prop_map(|hours| Pass(Span(hours * HOUR.0))),
    ];
    let house = House::new();
    let (keys, cancelled, refused) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |cell: &Cell<usize>| cell.replace(cell.get() + 1);
    let mut runner = TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() });
    let run = runner.run(&proptest::collection::vec(one, 2..14), |acts| {
        let id = house.create("acme", &format!("key-{}", count(&keys))).key.id;
        let mut stood: Option<Stood> = None;
        for one in acts {
            let before = house.stored(id);
            let due = due(&before, stood.as_ref(), house.now());
            let end = act(&house, id, one);
            let after = secrets(&house.stored(id));
            match (one, due) {
                (Rotate(_), _) if end == End::Done => stood = Some(secrets(&before)),
                (Cancel, Some(due)) => {
                    prop_assert_eq!(end, End::Done);
                    prop_assert!(after.last().is_some_and(|(_, revoked)| *revoked));
                    for (after, due) in after.iter().zip(&due).filter(|((_, revoked), _)| !revoked) {
                        prop_assert_eq!(after, due);
                    }
                    stood = None;
                    count(&cancelled);
                }
                (Cancel, None) => {
                    prop_assert_eq!((end, after), (End::NoRotation, secrets(&before)));
                    count(&refused);
                }
                _ => {}
            }
        }
        Ok(())
    });
    run.unwrap();
    assert!(cancelled.get() > 50 && refused.get() > 50, "{cancelled:?} and {refused:?} tell little");
}
