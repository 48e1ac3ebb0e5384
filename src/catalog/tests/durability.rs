use super::*;
use crate::catalog::change::Overlap;
use crate::key::State;

#[test]
fn everything_is_there_after_a_restart() {
    let house = House::new();
    let made = house.create("acme", "web");
    let off = house.create("acme", "off").key.id;
    house.changed(Change::Switch { target: one(off), enabled: false });
    house.changed(delete(house.create("acme", "gone").key.id));
    let (counts, sequence) = (house.catalog.counts(), house.catalog.sequence());
    let house = house.reopen();
    assert_eq!((house.catalog.counts(), house.catalog.sequence()), (counts, sequence));
    assert_eq!(house.standing(made.token.unwrap().expose()), Some((false, false, false, None)));
    house.create("acme", "later");
    house.check_chain();
}

/// Cause: changes of one write must see each other, take sequences in turn, and share a sync.
#[test]
fn concurrent_changes_share_syncs_and_lose_nothing() {
    let house = House::new();
    let shared = house.create("acme", "shared").key.id;
    let before = house.catalog.store().syncs();
    let threads = 8;
    let each = 50;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let house = &house;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for i in 0..each {
                        let change = match i % 2 {
                            0 => create(Settings::new("acme", &format!("{thread}-{i}"))),
                            _ => {
                                let mut patch = Patch::default();
                                patch.add_tags.insert(format!("t{thread}"), i.to_string());
                                edit(shared, patch)
                            }
                        };
                        house.catalog.change(Request { actor: actor(), change }).await.unwrap();
                    }
                });
            });
        }
    });
    let changes = (threads * each) as u64;
    let syncs = house.catalog.store().syncs() - before;
    assert_eq!(house.catalog.sequence(), changes + 1);
    assert!(syncs < changes, "{changes} changes took {syncs} syncs");
    let key = house.stored(shared);
    assert_eq!((key.revision, key.settings.tags.len()), (1 + changes / 2, threads));
    assert_eq!(house.catalog.counts().keys, 1 + changes / 2);
    house.check_chain();
}

#[test]
fn a_failed_write_refuses_changes_but_still_shuts_doors() {
    let house = House::new();
    let made: Vec<Made> = ["a", "b", "c", "d"].iter().map(|name| house.create("acme", name)).collect();
    let ids: Vec<KeyId> = made.iter().map(|made| made.key.id).collect();
    let standing = |i: usize| house.standing(made[i].token.as_ref().unwrap().expose()).unwrap();
    house.catalog.store().fail_writes(true);
    let revoke = Change::Revoke { key: of(ids[0]), revision: None, version: None };
    assert!(matches!(house.change(revoke), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(standing(0).1);
    house.catalog.store().fail_writes(false);
    assert!(house.catalog.refusing().is_some());
    let created = house.change(create(Settings::new("acme", "new")));
    assert!(matches!(created, Err(ChangeError::Refusing(_))), "refused until restart, though the disk is well again");
    assert!(matches!(house.change(delete(ids[1])), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(matches!(house.change(delete(ids[1])), Err(ChangeError::Deleted { .. })));
    let off = || house.change(Change::Switch { target: account("acme"), enabled: false });
    assert!(matches!(off(), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(matches!(off(), Err(ChangeError::EffectiveNotDurable(_))));
    let on = house.change(Change::Switch { target: one(ids[2]), enabled: true });
    assert!(matches!(on, Err(ChangeError::Refusing(_))));
    assert!(standing(1).0 && standing(2).2 && standing(3).2);
    let counts = house.catalog.counts();
    assert_eq!((counts.keys, counts.disabled, counts.deleted), (3, 3, 1));
    // What holds in memory only was taken for a damaged index, and whoever was on duty was told to restore a backup.
    let checked = house.catalog.check(&[], &mut |_| true).unwrap();
    let notes: Vec<_> = checked.parts.iter().filter_map(|part| part.note.as_deref()).collect();
    assert!(checked.is_clean() && notes.iter().any(|note| note.starts_with("4 keys are")), "{checked:?}");
    let finish = Change::Overlap { key: of(ids[2]), revision: None, overlap: Overlap::Finish };
    assert!(matches!(house.change(finish), Err(ChangeError::Refusing(_))));
    // Whoever reads the store sees what holds, too: an export that was taken now, to go on elsewhere, would else open what is shut.
    let store = house.catalog.store();
    let read: Vec<Key> = store.keys(None).map(|key| key.unwrap()).collect();
    assert!(ids.iter().zip(&read).all(|(id, key)| *key == house.stored(*id)), "{read:?}");
    assert!(read[0].secrets[0].revoked_at.is_some() && read[1].deleted_at.is_some() && !read[2].settings.enabled);
    assert_eq!((store.held(), store.find("acme", "b"), store.find_deleted("acme", "b")), (4, Ok(None), Ok(Some(ids[1]))));
    assert_eq!(store.find("acme", "c"), Ok(Some(ids[2])));
    let house = house.reopen();
    assert!(ids.iter().all(|id| house.stored(*id).state(house.now()) == State::Active), "what was not durable is gone");
    assert_eq!((house.catalog.refusing(), house.catalog.sequence()), (None, 4));
    house.create("acme", "new");
    house.check_chain();
}

/// A disk that cannot be read: what is to be shut was answered with an error, and stayed open.
#[test]
fn what_cannot_be_read_can_be_shut_by_its_id() {
    let house = House::new();
    let made: Vec<Made> = ["a", "b", "c"].iter().map(|name| house.create("acme", name)).collect();
    let ids: Vec<KeyId> = made.iter().map(|made| made.key.id).collect();
    let rotated = house.made(rotate(ids[0], Span(60_000)));
    let standing = |made: &Made| house.standing(made.token.as_ref().unwrap().expose()).unwrap();
    let revoke = |key, version| house.change(Change::Revoke { key, revision: None, version });
    house.catalog.store().fail_reads(true);
    let by_name = KeyRef::Name { account: "acme".into(), name: "a".into() };
    assert!(matches!(revoke(by_name.clone(), None), Err(ChangeError::Unread { .. })));
    assert!(matches!(house.change(create(Settings::new("acme", "new"))), Err(ChangeError::Store(_))));
    assert_eq!(house.catalog.refusing(), None, "nothing holds in memory only");
    assert!(matches!(revoke(of(KeyId([9; 16])), None), Err(ChangeError::NoKey(_))));
    assert!(matches!(revoke(of(ids[0]), Some(3)), Err(ChangeError::NoVersion { newest: 2, .. })));
    assert!(!standing(&rotated).1 && !standing(&made[0]).1);
    assert!(matches!(revoke(of(ids[0]), None), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(standing(&rotated).1 && !standing(&made[0]).1);
    assert!(matches!(revoke(of(ids[0]), Some(1)), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(standing(&made[0]).1);
    assert!(matches!(house.change(delete(ids[1])), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(matches!(house.change(Change::Switch { target: one(ids[2]), enabled: false }), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(standing(&made[1]).0 && standing(&made[2]).2);
    assert!(matches!(house.change(create(Settings::new("acme", "new"))), Err(ChangeError::Refusing(_))));
    // It can be read again: whoever reads it sees it shut, and another change of the same key opens nothing.
    house.catalog.store().fail_reads(false);
    assert!(house.stored(ids[0]).secrets.iter().all(|secret| secret.revoked_at.is_some()));
    let store = house.catalog.store();
    assert_eq!((store.find("acme", "b"), store.find_deleted("acme", "b"), store.held()), (Ok(None), Ok(Some(ids[1])), 3));
    assert!(house.catalog.check(&[], &mut |_| true).unwrap().is_clean());
    let target = Target::One { key: by_name, revision: None };
    assert!(matches!(house.change(Change::Switch { target, enabled: false }), Err(ChangeError::EffectiveNotDurable(_))));
    assert!(standing(&rotated) == (false, true, true, None) && standing(&made[0]).1);
    assert!(house.stored(ids[0]).secrets.iter().all(|secret| secret.revoked_at.is_some()));
    assert!(house.stored(ids[1]).deleted_at.is_some() && !house.stored(ids[2]).settings.enabled);
    assert!(house.catalog.check(&[], &mut |_| true).unwrap().is_clean());
}

#[test]
fn a_changed_entry_breaks_the_chain() {
    let house = House::new();
    (0..5).for_each(|i| drop(house.create("acme", &i.to_string())));
    house.check_chain();
    let store = house.catalog.store();
    let mut entry = store.entry(3).unwrap().unwrap().entry;
    entry.actor.uid = 0;
    let mut changes = store.changes(0);
    changes.put_entry(3, &crate::store::entry_record(&entry));
    changes.commit().unwrap();
    let report = house.catalog.verify_chain(1..=u64::MAX).unwrap();
    assert_eq!((report.verified, report.faults.len()), (4, 1), "{report:?}");
    assert!(report.faults[0].contains("entry 3"));
    assert_eq!(house.catalog.verify_chain(4..=5).unwrap().verified, 2);
}

#[test]
fn a_stopped_catalog_takes_no_changes() {
    let house = House::new();
    house.catalog.stop();
    assert_eq!(house.change(create(Settings::new("acme", "web"))).unwrap_err(), ChangeError::Stopping);
}
