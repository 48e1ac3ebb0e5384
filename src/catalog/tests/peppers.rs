use super::*;

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
