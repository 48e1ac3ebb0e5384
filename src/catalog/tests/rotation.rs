use super::*;
use crate::catalog::change::Overlap;

fn overlap(house: &House, id: KeyId, overlap: Overlap) -> Result<Key, ChangeError> {
    match house.change(Change::Overlap { key: of(id), revision: None, overlap })? {
        Reply::Changed(key) => Ok(key),
        other => panic!("{other:?}"),
    }
}

fn retires(key: &Key) -> Vec<Option<Instant>> {
    key.secrets.iter().map(|secret| secret.retires_at).collect()
}

fn expiring(house: &House, span: Span) -> KeyId {
    let mut settings = Settings::new("acme", "web");
    settings.expires_at = Some(NOW.plus(span));
    house.made(create(settings)).key.id
}

#[test]
fn the_old_secret_stays_for_the_overlap() {
    let house = House::new();
    let first = house.create("acme", "web");
    let id = first.key.id;
    let second = house.made(rotate(id, DAY));
    assert_eq!((second.version, retires(&second.key)), (2, vec![Some(NOW.plus(DAY)), None]));
    assert_eq!(house.standing(first.token.unwrap().expose()), Some((false, false, false, Some(NOW.plus(DAY)))));
    assert_eq!(house.standing(second.token.unwrap().expose()), Some((false, false, false, None)));
    let after = format!("\"{}\"", NOW.plus(DAY));
    assert_eq!(
        fields(&house.latest(id)),
        [("secrets.1.retires_at", Some("null"), Some(after.as_str())), ("secrets.2.created_at", None, Some(format!("\"{NOW}\"").as_str()))]
    );
    let third = house.made(rotate(id, Span(0)));
    assert_eq!(retires(&third.key), [Some(NOW.plus(DAY)), Some(NOW), None]);
}

#[test]
fn the_overlap_ends_with_the_key() {
    let house = House::new();
    let id = expiring(&house, DAY);
    assert_eq!(retires(&house.made(rotate(id, Span(9 * DAY.0))).key)[0], Some(NOW.plus(DAY)));
    assert_eq!(retires(&overlap(&house, id, Overlap::Extend(Span(9 * DAY.0))).unwrap())[0], Some(NOW.plus(DAY)));
    house.pass(DAY);
    assert!(matches!(house.change(rotate(id, DAY)), Err(ChangeError::Expired { .. })));
    assert!(matches!(overlap(&house, id, Overlap::Finish), Err(ChangeError::Expired { .. })));
}

#[test]
fn an_overlap_is_only_ever_extended_and_only_before_it_is_over() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    assert!(matches!(overlap(&house, id, Overlap::Finish), Err(ChangeError::NoRotation { .. })));
    house.made(rotate(id, DAY));
    let extended = overlap(&house, id, Overlap::Extend(Span(2 * DAY.0))).unwrap();
    assert_eq!((retires(&extended)[0], extended.revision), (Some(NOW.plus(Span(2 * DAY.0))), 3));
    let shorter = overlap(&house, id, Overlap::Extend(Span(1))).unwrap();
    assert_eq!((retires(&shorter)[0], shorter.revision), (Some(NOW.plus(Span(2 * DAY.0))), 3));
    house.pass(Span(60_000));
    let finished = overlap(&house, id, Overlap::Finish).unwrap();
    assert_eq!(retires(&finished)[0], Some(house.now()));
    for late in [Overlap::Extend(DAY), Overlap::Finish, Overlap::Cancel] {
        assert!(matches!(overlap(&house, id, late), Err(ChangeError::NoRotation { .. })));
    }
    assert_eq!(actions(&house.history(id)), [Action::Create, Action::Rotate, Action::RotateExtend, Action::RotateFinish]);
}

#[test]
fn a_cancelled_rotation_leaves_the_old_secret_as_it_was() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    house.made(rotate(id, DAY));
    let cancelled = overlap(&house, id, Overlap::Cancel).unwrap();
    assert_eq!(retires(&cancelled), [None, None]);
    assert_eq!(cancelled.secrets[1].revoked_at, Some(NOW));
    assert!(matches!(overlap(&house, id, Overlap::Cancel), Err(ChangeError::NoRotation { .. })));
    // The next rotation replaces secret 1, which is current again, and not the revoked one.
    let third = house.made(rotate(id, DAY));
    assert_eq!((third.version, retires(&third.key)), (3, vec![Some(NOW.plus(DAY)), None, None]));
    house.changed(Change::Revoke { key: of(id), revision: None, version: Some(3) });
    let fourth = house.made(rotate(id, Span(DAY.0 / 2)));
    assert_eq!(retires(&fourth.key)[0], Some(NOW.plus(Span(DAY.0 / 2))));
    assert_eq!(retires(&overlap(&house, id, Overlap::Cancel).unwrap())[0], Some(NOW.plus(DAY)), "what it already had");
}

#[test]
fn one_secret_is_revoked_for_good() {
    let house = House::new();
    let first = house.create("acme", "web");
    let id = first.key.id;
    let second = house.made(rotate(id, DAY));
    let revoke = |version| house.change(Change::Revoke { key: of(id), revision: None, version });
    revoke(Some(1)).unwrap();
    let (first, second) = (first.token.unwrap(), second.token.unwrap());
    assert!(house.standing(first.expose()).unwrap().1 && !house.standing(second.expose()).unwrap().1);
    assert_eq!(fields(&house.latest(id)), [("secrets.1.revoked_at", Some("null"), Some(format!("\"{NOW}\"").as_str()))]);
    revoke(None).unwrap();
    assert!(house.standing(second.expose()).unwrap().1);
    let entries = house.history(id).len();
    revoke(None).unwrap();
    assert_eq!(house.history(id).len(), entries);
    assert!(matches!(revoke(Some(3)), Err(ChangeError::NoVersion { newest: 2, .. })));
}

/// A cancelled rotation leaves the newest secret revoked and the one before it current: a revoke that names neither must not seem to have worked.
#[test]
fn a_revoke_without_a_version_does_not_pass_over_a_good_secret() {
    let house = House::new();
    let first = house.create("acme", "web");
    let id = first.key.id;
    house.made(rotate(id, DAY));
    house.change(Change::Overlap { key: of(id), revision: None, overlap: Overlap::Cancel }).unwrap();
    let revoke = |version| house.change(Change::Revoke { key: of(id), revision: None, version });
    assert!(matches!(revoke(None), Err(ChangeError::NewestRevoked { good: 1, .. })));
    revoke(Some(1)).unwrap();
    revoke(None).unwrap();
    assert!(house.standing(first.token.unwrap().expose()).unwrap().1);
}
