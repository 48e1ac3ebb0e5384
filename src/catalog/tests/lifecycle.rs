use super::*;
use crate::key::Grant;

fn patch(make: impl FnOnce(&mut Patch)) -> Patch {
    let mut patch = Patch::default();
    make(&mut patch);
    patch
}

fn grants(names: &[&str]) -> Vec<Grant> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn a_created_key_is_stored_found_and_in_the_history() {
    let house = House::new();
    house.function("leads.insert");
    let mut settings = Settings::new("acme", "web");
    settings.grants = grants(&["leads.insert", "leads.*"]);
    settings.expires_at = Some(NOW.plus(DAY));
    let made = house.made(create(settings));
    let token = made.token.unwrap();
    assert!(!made.replayed && made.version == 1 && made.key.revision == 1);
    assert_eq!(house.stored(made.key.id), made.key);
    assert_eq!(house.standing(token.expose()), Some((false, false, false, None)));
    assert_eq!(house.catalog.store().find("acme", "web").unwrap(), Some(made.key.id));
    let entry = house.latest(made.key.id);
    let expires = format!("\"{}\"", NOW.plus(DAY));
    assert_eq!((entry.sequence, entry.action, entry.at), (2, Action::Create, NOW));
    assert_eq!(
        fields(&entry),
        [
            ("name", None, Some("\"web\"")),
            ("account", None, Some("\"acme\"")),
            ("expires_at", None, Some(expires.as_str())),
            ("grants", None, Some("[\"leads.insert\",\"leads.*\"]")),
            ("secrets.1.created_at", None, Some(format!("\"{NOW}\"").as_str())),
        ]
    );
    let history = format!("{entry:?}");
    assert!(!history.contains(token.expose_text().unwrap()));
    house.check_chain();
}

#[test]
fn what_cannot_be_created_changes_nothing() {
    let house = House::new();
    house.create("acme", "web");
    let past = {
        let mut s = Settings::new("acme", "a");
        s.expires_at = Some(NOW);
        s
    };
    let unregistered = {
        let mut s = Settings::new("acme", "a");
        s.grants = grants(&["no.such"]);
        s
    };
    for (settings, field) in [
        (past, "expires_at"),
        (unregistered, "grants"),
        (Settings::new("acme", "web"), "name"),
        (Settings::new("acme", ""), "name"),
        (Settings::new("a/b", "x"), "account"),
    ] {
        assert_eq!(house.change(create(settings)).unwrap_err().field(), Some(field));
    }
    let error = house
        .change(create({
            let mut s = Settings::new("acme", "a");
            s.grants = grants(&["no.such"]);
            s
        }))
        .unwrap_err();
    assert!(error.to_string().contains("doorward functions add no.such"), "{error}");
    let mut loud = actor();
    loud.on_behalf_of = Some("x".repeat(101));
    assert_eq!(house.change_as(loud, create(Settings::new("acme", "b"))).unwrap_err().field(), Some("as"));
    assert_eq!((house.catalog.sequence(), house.catalog.counts().keys), (1, 1));
}

#[test]
fn an_edit_writes_before_and_after_and_a_no_op_writes_nothing() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    let edited = house.changed(edit(
        id,
        patch(|p| {
            p.description = Some("the site".to_owned());
            p.add_networks = vec!["10.0.0.0/8".parse().unwrap()];
        }),
    ));
    assert_eq!(edited.revision, 2);
    assert_eq!(
        fields(&house.latest(id)),
        [("description", Some("\"\""), Some("\"the site\"")), ("networks", Some("[]"), Some("[\"10.0.0.0/8\"]"))]
    );
    let again = house.changed(edit(id, patch(|p| p.description = Some("the site".to_owned()))));
    assert_eq!((again.revision, house.history(id).len()), (2, 2));
    let on = Change::Switch { target: one(id), enabled: true };
    assert_eq!(house.changed(on).revision, 2);
    let missing = house.change(edit(id, patch(|p| p.remove_networks = vec!["192.0.2.0/24".parse().unwrap()])));
    assert_eq!(missing.unwrap_err().field(), Some("networks"));
    let past = house.change(edit(id, patch(|p| p.expires_at = Some(Some(Instant(1))))));
    assert_eq!(past.unwrap_err().field(), Some("expires_at"));
}

#[test]
fn an_expired_key_can_be_edited_but_not_into_the_past() {
    let house = House::new();
    let mut settings = Settings::new("acme", "web");
    settings.expires_at = Some(NOW.plus(DAY));
    let id = house.made(create(settings)).key.id;
    house.pass(Span(2 * DAY.0));
    assert_eq!(house.changed(edit(id, patch(|p| p.description = Some("old".to_owned())))).revision, 2);
    let copy = Change::Copy { from: of(id), name: "copy".to_owned(), account: None };
    assert!(matches!(house.change(copy), Err(ChangeError::PastExpiry { .. })));
    assert_eq!(house.changed(edit(id, patch(|p| p.expires_at = Some(None)))).settings.expires_at, None);
}

#[test]
fn a_stale_revision_is_refused() {
    let house = House::new();
    let id = house.create("acme", "web").key.id;
    let target = Target::One { key: of(id), revision: Some(1) };
    house.changed(Change::Switch { target: target.clone(), enabled: false });
    let stale = house.change(Change::Switch { target, enabled: true }).unwrap_err();
    assert_eq!(stale, ChangeError::Revision { key: id, expected: 1, actual: 2 });
    assert!(matches!(house.change(Change::Delete { key: of(id), revision: Some(1) }), Err(ChangeError::Revision { .. })));
    assert!(matches!(house.change(Change::Revoke { key: of(id), revision: Some(9), version: None }), Err(ChangeError::Revision { .. })));
}

#[test]
fn a_deleted_key_frees_its_name_and_comes_back_in_time() {
    let house = House::new();
    let made = house.create("acme", "web");
    let (id, token) = (made.key.id, made.token.unwrap());
    let by_name: KeyRef = "acme/web".parse().unwrap();
    house.changed(Change::Delete { key: by_name.clone(), revision: None });
    assert_eq!(house.standing(token.expose()), Some((true, false, false, None)));
    assert!(matches!(house.change(edit(id, Patch::default())), Err(ChangeError::Deleted { .. })));
    assert!(matches!(house.change(Change::Delete { key: by_name.clone(), revision: None }), Err(ChangeError::Deleted { .. })));
    assert!(matches!(house.change(rotate(id, DAY)), Err(ChangeError::Deleted { .. })));
    let undelete = || Change::Undelete { key: by_name.clone(), revision: None };
    let other = house.create("acme", "web").key.id;
    assert_eq!((house.catalog.counts().keys, house.catalog.counts().deleted), (1, 1));
    assert!(matches!(house.change(undelete()), Err(ChangeError::NameTaken { key, .. }) if key == other));
    house.changed(edit(other, patch(|p| p.name = Some("other".to_owned()))));
    assert_eq!(house.changed(undelete()).id, id);
    assert_eq!(house.standing(token.expose()), Some((false, false, false, None)));
    assert!(matches!(house.change(undelete()), Err(ChangeError::NotDeleted(_))));
    assert_eq!(house.catalog.store().find("acme", "web").unwrap(), Some(id));
    assert_eq!(actions(&house.history(id)), [Action::Create, Action::Delete, Action::Undelete]);
    house.changed(delete(id));
    house.pass(Span(30 * DAY.0));
    assert!(matches!(house.change(undelete()), Err(ChangeError::DeletedTooLongAgo { .. })));
    assert_eq!(house.catalog.store().find_deleted("acme", "web").unwrap(), Some(id));
    assert_eq!(house.catalog.store().find("acme", "web").unwrap(), None);
    house.check_chain();
}

#[test]
fn undelete_by_name_takes_the_key_that_was_deleted_last() {
    let house = House::new();
    let first = house.create("acme", "web").key.id;
    house.changed(delete(first));
    house.pass(DAY);
    let second = house.create("acme", "web").key.id;
    house.changed(delete(second));
    let back = house.changed(Change::Undelete { key: "acme/web".parse().unwrap(), revision: None });
    assert_eq!(back.id, second);
}

#[test]
fn names_are_unique_within_an_account() {
    let house = House::new();
    let a = house.create("acme", "a").key.id;
    house.create("acme", "b");
    house.create("other", "a");
    let taken = house.change(edit(a, patch(|p| p.name = Some("b".to_owned()))));
    assert!(matches!(taken, Err(ChangeError::NameTaken { .. })));
    assert!(matches!(house.change(edit(a, patch(|p| p.account = Some("other".to_owned())))), Err(ChangeError::NameTaken { .. })));
    house.changed(edit(a, patch(|p| p.name = Some("c".to_owned()))));
    assert_eq!(house.create("acme", "a").key.settings.name, "a");
    let all_the_same = Change::Edit { target: account("acme"), patch: Box::new(patch(|p| p.name = Some("same".to_owned()))) };
    assert!(matches!(house.change(all_the_same), Err(ChangeError::OnKey { .. })));
    assert_eq!(house.catalog.store().find("acme", "same").unwrap(), None);
}

#[test]
fn a_bulk_change_is_for_all_or_none_and_skips_what_is_already_so() {
    let house = House::new();
    let ids: Vec<KeyId> = ["a", "b", "c"].map(|name| house.create("acme", name).key.id).into();
    house.create("other", "a");
    house.changed(Change::Switch { target: one(ids[1]), enabled: false });
    let off = house.changed_many(Change::Switch { target: account("acme"), enabled: false });
    assert_eq!(off, [ids[0], ids[2]]);
    assert_eq!(house.catalog.counts().disabled, 3);
    let tagged = Box::new(patch(|p| {
        p.add_tags.insert("env".to_owned(), "live".to_owned());
    }));
    assert_eq!(house.changed_many(Change::Edit { target: account("acme"), patch: tagged }).len(), 3);
    let by_tag = Target::Many(Selection { account: None, tag: Some("env=live".to_owned()) });
    assert_eq!(house.changed_many(Change::Switch { target: by_tag, enabled: true }), ids);
    let none = Target::Many(Selection::default());
    assert_eq!(house.change(Change::Switch { target: none, enabled: true }).unwrap_err().field(), Some("select"));
    let bad = Target::Many(Selection { account: None, tag: Some("env".to_owned()) });
    assert_eq!(house.change(Change::Switch { target: bad, enabled: true }).unwrap_err().field(), Some("tag"));
}

#[test]
fn functions_obey_the_catalog() {
    let house = House::new();
    let name = |text: &str| text.parse::<crate::key::FunctionName>().unwrap();
    let add = |text: &str, restricted| house.change(Change::FunctionAdd { name: name(text), restricted });
    let remove = |text: &str, with_grants| house.change(Change::FunctionRemove { name: name(text), with_grants });
    add("leads.insert", false).unwrap();
    assert!(matches!(add("leads.insert", true), Err(ChangeError::FunctionExists(_))));
    let restrict = |restricted| house.change(Change::FunctionRestrict { name: name("leads.insert"), restricted }).unwrap();
    restrict(true);
    let before = house.catalog.sequence();
    restrict(true);
    assert_eq!(house.catalog.sequence(), before);
    assert!(house.index.called("leads.insert", &house.index.pin()).restricted);
    assert!(matches!(remove("leads.insert", true), Err(ChangeError::FunctionRestricted(_))));
    restrict(false);
    let mut settings = Settings::new("acme", "web");
    settings.grants = grants(&["leads.insert", "x.*"]);
    let key = house.made(create(settings.clone())).key.id;
    settings.name = "gone".to_owned();
    let gone = house.made(create(settings)).key.id;
    house.changed(delete(gone));
    assert!(matches!(remove("leads.insert", false), Err(ChangeError::FunctionGranted { keys: 2, .. })));
    let Ok(Reply::Function { keys, function }) = remove("leads.insert", true) else { panic!() };
    assert_eq!(keys, [key, gone]);
    assert_eq!(house.stored(key).settings.grants, grants(&["x.*"]));
    assert_eq!(house.stored(key).revision, 2);
    assert_eq!(fields(&house.latest(key)), [("grants", Some("[\"leads.insert\",\"x.*\"]"), Some("[\"x.*\"]"))]);
    assert_eq!(house.index.called("leads.insert", &house.index.pin()).id, None);
    assert!(matches!(remove("leads.insert", false), Err(ChangeError::NoFunction(_))));
    let history = house.catalog.store().function_history(&name("leads.insert"), None, 10).unwrap();
    assert_eq!(actions(&history), [Action::FunctionAdd, Action::FunctionRestrict, Action::FunctionUnrestrict, Action::FunctionRemove]);
    assert_eq!(fields(&history[0]), [("restricted", Some("false"), None)]);
    add("other", false).unwrap();
    let Ok(Reply::Function { function: back, .. }) = add("leads.insert", false) else { panic!() };
    assert_eq!(back.id, function.id);
    house.changed(Change::Undelete { key: of(gone), revision: None });
    let house = house.reopen();
    let registered = house.catalog.store().functions().unwrap();
    assert_eq!(registered.iter().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["leads.insert", "other"]);
    assert_ne!(registered[0].id, registered[1].id);
}

#[test]
fn a_request_id_is_answered_once() {
    let house = House::new();
    let mut settings = Settings::new("acme", "web");
    settings.expires_at = Some(NOW.plus(DAY));
    let request = |settings: &Settings| Change::Create { settings: settings.clone(), request_id: Some("r1".to_owned()) };
    let first = house.made(request(&settings));
    house.pass(Span(60_000));
    // A span from now is a later instant at the second try.
    settings.expires_at = Some(house.now().plus(DAY));
    let again = house.made(request(&settings));
    assert!(again.replayed && again.token.is_none() && first.token.is_some());
    assert_eq!((again.key.id, again.version), (first.key.id, 1));
    settings.expires_at = Some(NOW.plus(Span(3 * DAY.0)));
    assert!(matches!(house.change(request(&settings)), Err(ChangeError::RequestIdReused(_))));
    settings.expires_at = None;
    assert!(matches!(house.change(request(&settings)), Err(ChangeError::RequestIdReused(_))));
    let rotate = |overlap, id: &str| {
        let revision = Some(1);
        house.change(Change::Rotate { key: of(first.key.id), revision, overlap, request_id: Some(id.to_owned()) })
    };
    assert!(matches!(rotate(DAY, "r1"), Err(ChangeError::RequestIdReused(_))));
    let Ok(Reply::Made(rotated)) = rotate(DAY, "r2") else { panic!() };
    let Ok(Reply::Made(replayed)) = rotate(DAY, "r2") else { panic!("a repeat comes with the old revision") };
    assert_eq!((rotated.version, replayed.version, replayed.replayed), (2, 2, true));
    assert!(matches!(rotate(Span(1), "r2"), Err(ChangeError::RequestIdReused(_))));
    assert_eq!(rotate(DAY, &"x".repeat(101)).unwrap_err().field(), Some("request_id"));
    house.pass(Span(31 * DAY.0));
    let house = house.reopen();
    assert_eq!(house.catalog.store().remembered("r1").unwrap(), None);
    assert_eq!(house.catalog.sequence(), 2);
}
