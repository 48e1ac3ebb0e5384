use super::*;
use crate::catalog::change::{ImportRun, Imported, ImportedKey, ImportedSecrets};
use crate::digest::token_sha256;
use crate::key::{Secret, Token};

const GOOD: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

fn key(name: &str, secrets: ImportedSecrets) -> ImportedKey {
    ImportedKey { id: None, settings: Settings::new("acme", name), secrets, allow_weak: false }
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

#[test]
fn a_batch_has_a_limit() {
    let house = House::new();
    let keys = (0..1001).map(|i| key(&format!("k{i}"), ImportedSecrets::Generate)).collect();
    assert_eq!(import(&house, keys).unwrap_err().field(), Some("keys"));
}
