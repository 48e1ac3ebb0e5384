use super::*;
use crate::catalog::change::{ImportRun, ImportedKey, ImportedSecrets, Overlap};
use crate::key::{Secret, State};

fn peppers(current: u8, previous: Option<u8>) -> Peppers {
    Peppers { current: pepper(current), previous: previous.map(pepper) }
}

#[test]
fn a_store_is_opened_with_its_own_pepper_only() {
    let house = House::new();
    house.create("acme", "web");
    let Err((directory, clock, error)) = house.try_reopen(peppers(2, None)) else { panic!("another pepper was taken") };
    let text = error.to_string();
    assert!(text.contains(&pepper(1).id().to_string()) && text.contains("give the pepper"), "{text}");
    open(directory.path(), peppers(1, None), &clock).unwrap();
}

#[test]
fn a_store_without_a_change_adopts_any_pepper() {
    let house = House::new().try_reopen(peppers(2, None)).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.pepper(), pepper(2).id());
    house.create("acme", "web");
    assert!(house.try_reopen(peppers(1, None)).is_err());
}

#[test]
fn peppers_are_rotated_and_the_previous_one_kept_while_it_is_needed() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    let house = house.try_reopen(peppers(2, Some(1))).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.previous_pepper(), Some(pepper(1).id()));
    let made = house.made(rotate(id, Span(0)));
    assert_eq!(made.key.secrets.iter().map(|secret| secret.pepper).collect::<Vec<_>>(), [pepper(1).id(), pepper(2).id()]);
    let other = house.create("acme", "other").key.id;
    house.check_chain();
    let house = house.try_reopen(peppers(2, Some(1))).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.previous_pepper(), None, "the only secret that needed it has retired");
    let house = house.try_reopen(peppers(2, None)).map_err(|(_, _, error)| error).unwrap();
    let report = house.catalog.verify_chain(1..=u64::MAX).unwrap();
    assert_eq!((report.verified, report.other_pepper, report.faults.len()), (2, 1, 0));
    house.changed(delete(other));
    let Err((_, _, error)) = house.try_reopen(peppers(3, None)) else { panic!() };
    assert!(matches!(error, CatalogError::WrongPepper { .. }));
}

#[test]
fn a_previous_pepper_that_is_needed_must_be_given() {
    let house = House::new();
    house.create("acme", "web");
    let house = house.try_reopen(peppers(2, Some(1))).map_err(|(_, _, error)| error).unwrap();
    let Err((directory, clock, error)) = house.try_reopen(peppers(2, None)) else { panic!("a needed pepper was not missed") };
    assert_eq!(error, CatalogError::PepperNeeded { pepper: pepper(1).id(), secrets: 1 });
    open(directory.path(), peppers(2, Some(1)), &clock).unwrap();
}

fn import(catalog: &Catalog, name: &str, secrets: Vec<Secret>) -> Result<Key, ChangeError> {
    let secrets = ImportedSecrets::Secrets(secrets);
    let key = ImportedKey { id: None, settings: Settings::new("acme", name), secrets, deleted_at: None, allow_weak: false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(catalog.change(catalog.prepare_import(actor(), vec![key], ImportRun::default().turn())))? {
        Reply::Imported(mut imported) => Ok((*imported.remove(0).key).clone()),
        other => panic!("{other:?}"),
    }
}

fn secret(version: u16, pepper_byte: u8, retires_at: Option<Instant>, revoked_at: Option<Instant>) -> Secret {
    let pepper = pepper(pepper_byte);
    Secret {
        version,
        digest: pepper.digest_token(&[version as u8, pepper_byte]),
        pepper: pepper.id(),
        created_at: NOW,
        retires_at,
        revoked_at,
    }
}

/// Cause: keys never drop old secrets, so after a change of peppers no export with digests could be imported, not under the same pepper either.
#[test]
fn a_secret_of_an_unknown_pepper_is_taken_once_it_is_never_good_again() {
    let house = House::new();
    for (retires_at, revoked_at) in [(None, None), (Some(Instant(NOW.0 + 1)), None)] {
        let refused = import(&house.catalog, "good", vec![secret(1, 9, retires_at, revoked_at)]).unwrap_err();
        assert!(refused.field() == Some("secrets") && refused.to_string().contains(&pepper(9).id().to_string()), "{refused}");
    }
    let kept = [secret(1, 9, Some(NOW), None), secret(2, 8, Some(Instant(NOW.0 + 1)), Some(NOW)), secret(3, 1, None, None)];
    let key = import(&house.catalog, "moved", kept.to_vec()).unwrap();
    assert_eq!(key.secrets, kept);
    let over = import(&house.catalog, "over", vec![secret(1, 7, None, Some(NOW))]).unwrap();
    assert_eq!((key.state(NOW), over.state(NOW)), (State::Active, State::Revoked));
    assert!(house.standing(&[3, 1]).is_some(), "the one under the store's pepper is found");
    assert_eq!((house.catalog.standings(&[]).other_pepper, house.catalog.previous_pepper()), (0, None));
    // What is over stays so.
    for overlap in [Overlap::Extend(DAY), Overlap::Cancel] {
        assert!(house.change(Change::Overlap { key: of(key.id), revision: None, overlap }).is_err());
    }
    let house = house.reopen();
    assert!(house.catalog.check(&[], &mut |_| true).unwrap().is_clean());
    assert_eq!(house.made(rotate(over.id, Span(0))).key.secrets[0], over.secrets[0]);
    house.check_chain();
}

/// What is retired by a wall clock that may be ahead by mistake is good again once that is set right.
#[test]
fn a_secret_of_an_unknown_pepper_is_retired_by_what_is_certain() {
    let directory = tempfile::tempdir().unwrap();
    let time = || Time { now: Instant(NOW.0 + DAY.0), floor: NOW };
    let (catalog, _) = open_with(directory.path(), peppers(1, None), time).unwrap();
    assert!(import(&catalog, "by the present", vec![secret(1, 9, Some(Instant(NOW.0 + 1)), None)]).is_err());
    import(&catalog, "by the floor", vec![secret(1, 9, Some(NOW), None)]).unwrap();
}

/// Cause: a previous pepper that no secret needed at the start was forgotten, though an import may bring secrets that need it.
#[test]
fn a_previous_pepper_that_an_import_brings_to_be_needed_is_told() {
    let house = House::new().try_reopen(peppers(2, Some(1))).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.previous_pepper(), None);
    let id = import(&house.catalog, "old", vec![secret(1, 1, None, None)]).unwrap().id;
    assert_eq!(house.catalog.previous_pepper(), Some(pepper(1).id()));
    let house = house.try_reopen(peppers(2, Some(1))).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.previous_pepper(), Some(pepper(1).id()), "after a start, too");
    house.made(rotate(id, Span(0)));
    let house = house.try_reopen(peppers(2, None)).map_err(|(_, _, error)| error).unwrap();
    assert_eq!(house.catalog.previous_pepper(), None);
}
