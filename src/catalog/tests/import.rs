use super::*;
use crate::catalog::change::{ImportRun, Imported, ImportedKey, ImportedSecrets};
use crate::digest::token_sha256;
use crate::key::{Secret, Token};

const GOOD: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

fn key(name: &str, secrets: ImportedSecrets) -> ImportedKey {
    ImportedKey { id: None, settings: Settings::new("acme", name), secrets, deleted_at: None, allow_weak: false }
}

fn token(text: &[u8]) -> ImportedSecrets {
    ImportedSecrets::Token(Token::from_bytes(text).unwrap())
}

fn import(house: &House, keys: Vec<ImportedKey>) -> Result<Vec<Imported>, ChangeError> {
    let request = house.catalog.prepare_import(actor(), keys, ImportRun::default().turn());
    match house.change(request.change)? {
        Reply::Imported(made) => Ok(made),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_digests_and_new_tokens_are_imported() {
    let house = House::new();
    let mut expired = key("expired", ImportedSecrets::TokenSha256(token_sha256(b"other")));
    expired.settings.expires_at = Some(Instant(1));
    let made = import(&house, vec![key("web", token(GOOD)), expired, key("new", ImportedSecrets::Generate)]).unwrap();
    assert_eq!(made.iter().map(|made| made.token.is_some()).collect::<Vec<_>>(), [false, false, true]);
    for known in [GOOD, b"other", made[2].token.as_ref().unwrap().expose()] {
        assert!(house.standing(known).is_some());
    }
    assert_eq!(house.latest(made[1].key.id).action, Action::Import);
    assert_eq!(house.catalog.counts().keys, 3);
    house.check_chain();
}

#[test]
fn a_batch_is_imported_whole_or_not_at_all() {
    let house = House::new();
    let weak = || key("weak", token(b"secret"));
    let refused = import(&house, vec![key("web", token(GOOD)), weak()]).unwrap_err();
    assert!(matches!(&refused, ChangeError::Import { position: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("--allow-weak") && !refused.to_string().contains("secret "), "{refused}");
    assert_eq!((house.catalog.sequence(), house.standing(GOOD)), (0, None));
    let mut allowed = weak();
    allowed.allow_weak = true;
    import(&house, vec![allowed]).unwrap();
    let same_name = import(&house, vec![key("web", token(GOOD)), key("web", ImportedSecrets::Generate)]).unwrap_err();
    assert_eq!(same_name.field(), Some("name"));
}

#[test]
fn a_token_is_one_keys_only() {
    let house = House::new();
    let twice = import(&house, vec![key("a", token(GOOD)), key("b", ImportedSecrets::TokenSha256(token_sha256(GOOD)))]).unwrap_err();
    assert_eq!(twice.field(), Some("token"));
    let first = import(&house, vec![key("a", token(GOOD))]).unwrap().remove(0).key;
    house.changed(delete(first.id));
    let again = import(&house, vec![key("b", token(GOOD))]).unwrap_err().to_string();
    assert!(again.contains(&first.id.to_string()), "{again}");
    let digest: String = first.secrets[0].digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!again.contains(&digest[..8]) && !again.contains("abcdef"));
}

#[test]
fn an_export_with_digests_comes_back_as_it_was() {
    let house = House::new();
    let first = house.create("acme", "web");
    let second = house.made(rotate(first.key.id, DAY)).key;
    let other = House::new();
    let exported = || ImportedKey {
        id: Some(second.id),
        settings: second.settings.clone(),
        secrets: ImportedSecrets::Secrets(second.secrets.clone()),
        deleted_at: None,
        allow_weak: false,
    };
    let made = import(&other, vec![exported()]).unwrap().remove(0);
    assert_eq!((made.key.id, &made.key.secrets), (second.id, &second.secrets));
    assert!(other.standing(first.token.unwrap().expose()).is_some());
    assert!(
        matches!(import(&other, vec![exported()]).unwrap_err(), ChangeError::Import { cause, .. } if *cause == ChangeError::IdTaken(second.id))
    );
    let broken = |break_it: fn(&mut Vec<Secret>)| {
        let mut secrets = second.secrets.clone();
        break_it(&mut secrets);
        import(&house, vec![key("broken", ImportedSecrets::Secrets(secrets))]).unwrap_err().field()
    };
    assert_eq!(broken(|secrets| secrets.clear()), Some("secrets"));
    assert_eq!(broken(|secrets| secrets[1].version = 3), Some("secrets"));
    assert_eq!(broken(|secrets| secrets[0].pepper = pepper(9).id()), Some("secrets"));
}

/// The index finds secrets by a part of their digest: one that differs only elsewhere must not come in, not in the same batch either.
#[test]
fn digests_that_the_index_cannot_tell_apart_are_one() {
    let house = House::new();
    let secret = house.create("acme", "web").key.secrets[0].clone();
    let like = |last: u8, first: u8| {
        let mut digest = secret.digest;
        (digest[31], digest[0]) = (digest[31] ^ last, digest[0] ^ first);
        Secret { digest, ..secret.clone() }
    };
    let one = |name: &str, secret| key(name, ImportedSecrets::Secrets(vec![secret]));
    assert!(import(&house, vec![one("a", like(1, 0))]).is_err(), "as one that is there");
    assert!(import(&house, vec![one("a", like(0, 1)), one("b", like(1, 1))]).is_err(), "as another of its batch");
    let twice = vec![like(0, 1), Secret { version: 2, ..like(1, 1) }];
    assert!(import(&house, vec![key("a", ImportedSecrets::Secrets(twice))]).is_err(), "as another of its key");
    assert!(import(&house, vec![one("a", like(0, 1)), one("b", like(0, 2))]).is_ok());
}

#[test]
fn a_batch_has_a_limit() {
    let house = House::new();
    let keys = (0..1001).map(|i| key(&format!("k{i}"), ImportedSecrets::Generate)).collect();
    assert_eq!(import(&house, keys).unwrap_err().field(), Some("keys"));
}

/// Asks for changes one behind the other, and only then waits for the answers.
fn ask_all(house: &House, requests: Vec<Request>) -> Vec<Result<Reply, ChangeError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(house.catalog.ask(request).await.unwrap());
        }
        let mut replies = Vec::new();
        for answer in answers {
            replies.push(answer.wait().await);
        }
        replies
    })
}

#[test]
fn the_first_key_that_is_refused_is_named_whatever_refuses_it() {
    let house = House::new();
    house.create("acme", "taken");
    let taken = || key("taken", token(GOOD));
    let weak = || key("weak", token(b"secret"));
    let unregistered = || {
        let mut key = key("unregistered", ImportedSecrets::Generate);
        key.settings.grants = vec!["no.such".parse().unwrap()];
        key
    };
    let good = || key("good", ImportedSecrets::Generate);
    for (keys, position, field) in [
        (vec![taken(), weak()], 0, "name"),
        (vec![weak(), taken()], 0, "token"),
        (vec![good(), unregistered(), weak()], 1, "grants"),
        (vec![good(), weak(), unregistered()], 1, "token"),
        (vec![good(), good(), weak()], 1, "name"),
    ] {
        let refused = import(&house, keys).unwrap_err();
        assert!(matches!(&refused, ChangeError::Import { position: at, .. } if *at == position), "{refused}");
        assert_eq!(refused.field(), Some(field), "{refused}");
    }
    assert_eq!(house.catalog.counts().keys, 1);
}

/// Cause: batches are asked for before the answers of those before them are known.
#[test]
fn batches_behind_a_refused_one_are_refused_too() {
    let house = House::new();
    let run = ImportRun::default();
    let batch = |run: &ImportRun, names: &[&str]| {
        let keys = names.iter().map(|name| key(name, ImportedSecrets::Generate)).collect();
        house.catalog.prepare_import(actor(), keys, run.turn())
    };
    let other = ImportRun::default();
    let requests = vec![batch(&run, &["a"]), batch(&run, &["b", "a"]), batch(&run, &["c"]), batch(&other, &["d"]), batch(&run, &["e"])];
    let replies = ask_all(&house, requests);
    assert!(matches!(&replies[0], Ok(Reply::Imported(keys)) if keys.len() == 1));
    assert!(matches!(&replies[1], Err(ChangeError::Import { position: 1, .. })));
    assert_eq!(replies[2].as_ref().unwrap_err(), &ChangeError::ImportOver);
    assert!(replies[3].is_ok());
    assert_eq!(replies[4].as_ref().unwrap_err(), &ChangeError::ImportOver);
    assert_eq!((house.catalog.counts().keys, house.catalog.sequence()), (2, 2));
    house.check_chain();
}

/// Cause: records are made ahead, and a change that shares a write with the import must not be lost to them.
#[test]
fn a_key_that_is_changed_in_the_write_of_its_import_is_stored_as_changed() {
    let house = House::new();
    let run = ImportRun::default();
    let many = (0..1_000).map(|i| key(&format!("many-{i}"), ImportedSecrets::Generate)).collect();
    let mut requests = vec![house.catalog.prepare_import(actor(), many, run.turn())];
    // These wait together while the thousand are written.
    requests.push(house.catalog.prepare_import(actor(), vec![key("web", token(GOOD))], run.turn()));
    let web = || KeyRef::Name { account: "acme".to_owned(), name: "web".to_owned() };
    let target = Target::One { key: web(), revision: None };
    requests.push(Request { actor: actor(), change: Change::Switch { target, enabled: false } });
    let replies = ask_all(&house, requests);
    let Ok(Reply::Changed(changed)) = &replies[2] else { panic!("{replies:?}") };
    assert_eq!((changed.revision, changed.settings.enabled), (2, false));
    assert_eq!(&house.stored(changed.id), changed);
    assert!(house.standing(GOOD).unwrap().2);
    let house = house.reopen();
    assert_eq!(house.catalog.counts().disabled, 1);
    house.check_chain();
}

#[test]
fn ids_are_in_the_order_of_the_turns() {
    let house = House::new();
    let run = ImportRun::default();
    let (first, second) = (run.turn(), run.turn());
    let prepare = |name: &str, turn| house.catalog.prepare_import(actor(), vec![key(name, ImportedSecrets::Generate)], turn);
    let later = prepare("second", second);
    let replies = ask_all(&house, vec![prepare("first", first), later]);
    assert!(replies.iter().all(Result::is_ok));
    let names: Vec<String> = house.catalog.store().keys(None).map(|key| key.unwrap().settings.name).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn a_large_store_is_read_whole_by_ranges() {
    let house = House::new();
    for part in 0..3 {
        let keys = (0..1_000).map(|i| key(&format!("{part}-{i}"), ImportedSecrets::Generate)).collect();
        import(&house, keys).unwrap();
        house.catalog.store().write_out();
    }
    house.create("acme", "in the log");
    assert_eq!(house.catalog.store().key_ranges().unwrap().len(), 4);
    let house = house.reopen();
    assert_eq!((house.catalog.counts().keys, house.index.secrets()), (3_001, 3_001));
}
