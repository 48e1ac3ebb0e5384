use std::sync::atomic::AtomicBool;

use super::*;
use crate::key::{Instant, PepperId, Secret, Settings};

fn key(number: u64) -> Key {
    let mut digest = [7; 32];
    // Spread as a real digest is, so that a test of many keys sees every shard.
    let spread = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    digest[..8].copy_from_slice(&spread.to_le_bytes());
    digest[8..16].copy_from_slice(&spread.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
    let created_at = Instant(1);
    let secret = Secret { version: 1, digest, pepper: PepperId([0; 8]), created_at, retires_at: None, revoked_at: None };
    let settings = Settings::new(&format!("account-{}", number % 100), "n");
    Key { id: KeyId((u128::from(number) + 1).to_be_bytes()), settings, secrets: vec![secret], created_at, deleted_at: None, revision: 1 }
}

#[test]
fn every_published_secret_is_found_and_no_other() {
    let index = Index::new();
    for number in 0..100_000 {
        index.publish(&key(number)).unwrap();
    }
    let pin = index.pin();
    for number in 0..100_000 {
        let wanted = key(number);
        let found = index.find(&wanted.secrets[0].digest, &pin).unwrap();
        assert_eq!((found.id, found.account), (wanted.id, wanted.settings.account.as_str()));
    }
    assert!((100_000..110_000).all(|number| index.find(&key(number).secrets[0].digest, &pin).is_none()));
    assert_eq!(index.secrets(), 100_000);
}

#[test]
fn a_change_replaces_every_field() {
    let index = Index::new();
    let mut changed = key(1);
    index.publish(&changed).unwrap();
    changed.settings.account = "other".into();
    changed.settings.enabled = false;
    changed.settings.not_before = Some(Instant(0));
    changed.settings.expires_at = Some(Instant(crate::key::limits::INSTANT_MS));
    changed.settings.networks = vec!["10.0.0.0/8".parse().unwrap()];
    changed.secrets[0].retires_at = Some(Instant(5));
    changed.secrets[0].revoked_at = Some(Instant(6));
    changed.deleted_at = Some(Instant(7));
    index.publish(&changed).unwrap();
    let pin = index.pin();
    let found = index.find(&changed.secrets[0].digest, &pin).unwrap();
    let standing = Standing {
        deleted: true,
        revoked: true,
        disabled: true,
        not_before: Some(Instant(0)),
        expires_at: Some(Instant(crate::key::limits::INSTANT_MS)),
        retires_at: Some(Instant(5)),
    };
    assert_eq!((found.standing, found.account, found.rules.sections().has_networks()), (standing, "other", true));
}

#[test]
fn what_was_replaced_is_not_counted() {
    let index = Index::new();
    let first = key(1);
    index.publish(&first).unwrap();
    let bytes = index.bytes();
    let mut longer = first.clone();
    longer.settings.networks = vec!["2001:db8::/32".parse().unwrap()];
    index.publish(&longer).unwrap();
    assert!(index.bytes() > bytes);
    index.publish(&first).unwrap();
    assert_eq!((index.bytes(), index.secrets()), (bytes, 1));
}

#[test]
fn a_token_belongs_to_one_key() {
    let index = Index::new();
    index.publish(&key(1)).unwrap();
    let mut thief = key(2);
    thief.secrets.push(key(1).secrets[0].clone());
    assert_eq!(index.publish(&thief), Err(Duplicate(key(1).id)));
    assert!(index.find(&thief.secrets[0].digest, &index.pin()).is_none());
}

/// A reader must never see fields of two different states of a key, nor rules that were let go.
#[test]
fn readers_see_whole_states_while_the_writer_changes_them() {
    let index = Index::new();
    let states: Vec<Key> = (1..=4u8)
        .map(|state| {
            let mut key = key(1);
            key.settings.account = format!("account-{state}");
            key.settings.expires_at = Some(Instant(i64::from(state)));
            key.settings.networks = vec![format!("10.0.0.{state}").parse().unwrap()];
            key.secrets[0].retires_at = Some(Instant(i64::from(state)));
            key
        })
        .collect();
    index.publish(&states[0]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let pin = index.pin();
                    let found = index.find(&states[0].secrets[0].digest, &pin).unwrap();
                    let state = found.standing.expires_at.unwrap().0;
                    assert_eq!(found.standing.retires_at.unwrap().0, state);
                    assert_eq!(found.account, format!("account-{state}"));
                    assert!(found.rules.sections().covers_address(format!("10.0.0.{state}").parse().unwrap()));
                }
            });
        }
        for round in 0..50_000 {
            index.publish(&states[round % 4]).unwrap();
            index.publish(&key(2 + round as u64)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// The tag that a test gives to a key's token.
fn tag(number: u64) -> Tag {
    [number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15), number]
}

fn note(index: &Index, number: u64) {
    let pin = index.pin();
    index.note(tag(number), &key(number).secrets[0].digest, &pin);
}

#[test]
fn a_noted_token_is_recognised_as_what_its_digest_finds() {
    let index = Index::new();
    let mut keys: Vec<Key> = (0..5_000).map(key).collect();
    for (number, key) in keys.iter_mut().enumerate() {
        // From rules that fit a place to rules that do not.
        key.settings.networks = (0..number % 12).map(|n| format!("2001:db8:{n}::/48").parse().unwrap()).collect();
        key.settings.expires_at = (number % 3 == 0).then_some(Instant(number as i64));
        key.secrets[0].revoked_at = (number % 5 == 0).then_some(Instant(1));
        index.publish(key).unwrap();
    }
    // More than once, since what was noted is forgotten whenever more homes are taken into use.
    (0..15_000).for_each(|number| note(&index, number % 5_000));
    let pin = index.pin();
    let mut recognised = 0;
    for (number, key) in keys.iter().enumerate() {
        let Some(seen) = index.recognise(tag(number as u64), &pin) else { continue };
        let (seen, found) = (seen.found(), index.find(&key.secrets[0].digest, &pin).unwrap());
        assert_eq!((seen.id, seen.version, seen.account), (found.id, found.version, found.account));
        assert_eq!((seen.standing, seen.rules), (found.standing, found.rules));
        recognised += 1;
    }
    assert!(recognised > 4_800, "{recognised} of 5,000, although there is room for nearly all");
    assert!((5_000..6_000).all(|number| index.recognise(tag(number), &pin).is_none()));
}

#[test]
fn a_change_is_seen_by_who_recognises_and_forgetting_harms_nobody() {
    let index = Index::new();
    let mut changed = key(0);
    index.publish(&changed).unwrap();
    for round in 0..20_000u64 {
        note(&index, 0);
        changed.settings.enabled = !changed.settings.enabled;
        changed.settings.networks = (0..round % 9).map(|n| format!("10.0.{n}.0/24").parse().unwrap()).collect();
        index.publish(&changed).unwrap();
        // More and more secrets: homes rise, and memory is reserved anew.
        index.publish(&key(round + 1)).unwrap();
        note(&index, round + 1);
        let pin = index.pin();
        if let Some(seen) = index.recognise(tag(0), &pin) {
            let seen = seen.found();
            assert_eq!(seen.standing.disabled, !changed.settings.enabled, "round {round}");
            assert_eq!(seen.rules, index.find(&changed.secrets[0].digest, &pin).unwrap().rules);
        } else {
            note(&index, 0);
            assert!(index.recognise(tag(0), &pin).is_some(), "round {round}");
        }
    }
}

/// As `readers_see_whole_states_while_the_writer_changes_them`, for those who recognise, and who note what they did not.
#[test]
fn who_recognises_sees_whole_states_and_never_one_that_a_change_has_replaced() {
    use std::sync::atomic::AtomicU64;
    let index = Index::new();
    let state = |number: u64| {
        let mut key = key(1);
        key.settings.account = format!("account-{number}");
        key.settings.expires_at = Some(Instant(number as i64));
        key.settings.networks = (0..number % 20).map(|n| format!("10.0.{n}.0/24").parse().unwrap()).collect();
        key
    };
    index.publish(&state(1)).unwrap();
    let published = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut recognised = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let at_least = published.load(Ordering::SeqCst);
                    let pin = index.pin();
                    let Some(seen) = index.recognise(tag(1), &pin) else {
                        note(&index, 1);
                        continue;
                    };
                    let seen = seen.found();
                    let number = seen.standing.expires_at.unwrap().0 as u64;
                    assert!(number >= at_least, "state {number} after {at_least} was published");
                    assert_eq!(seen.account, format!("account-{number}"));
                    assert_eq!(seen.rules.sections().covers_address("10.0.0.1".parse().unwrap()), !number.is_multiple_of(20));
                    recognised += 1;
                }
                assert!(recognised > 1_000);
            });
        }
        for number in 2..50_000 {
            index.publish(&state(number)).unwrap();
            published.store(number, Ordering::SeqCst);
            index.publish(&key(number)).unwrap();
            note(&index, number);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn many_keys_are_published_as_one_by_one_would_be() {
    for reserved in [0, 5_000, 1_000_000] {
        let index = Index::new();
        index.publish(&key(0)).unwrap();
        index.reserve(reserved);
        let keys: Vec<Key> = (0..5_000).map(key).collect();
        index.publish_all(&keys).unwrap();
        let pin = index.pin();
        assert!(keys.iter().all(|key| index.find(&key.secrets[0].digest, &pin).is_some_and(|found| found.id == key.id)));
        assert_eq!(index.secrets(), 5_000);
        let mut thief = key(6_000);
        thief.secrets = key(7).secrets;
        let (before, behind) = (key(5_000), key(5_001));
        assert_eq!(index.publish_all([&before, &thief, &behind]), Err((thief.id, Duplicate(key(7).id))));
        assert!(index.find(&before.secrets[0].digest, &pin).is_some());
    }
}
