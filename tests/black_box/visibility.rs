use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

use doorward::key::Verdict;

use crate::daemon::{Daemon, made, verdict};

/// Connections that verify without pause while the key is changed under them.
const CONNECTIONS: usize = 8;
/// Changes, each followed by at least one verify on each connection.
const TRIALS: usize = 300;

/// A verify that is sent after the reply to a change gets the new verdict, on every connection.
#[test]
fn after_the_reply_nobody_sees_the_old_verdict() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.*"]).token;
    // What holds since which trial: even numbers hold, odd ones mean that a change is under way.
    let epoch = AtomicU64::new(0);
    let expected = AtomicU8::new(Verdict::Ok as u8);
    let asked = [const { AtomicU64::new(0) }; CONNECTIONS];
    let steps: [(&[&str], Verdict); 6] = [
        (&["disable", "acme/web"], Verdict::Disabled),
        (&["enable", "acme/web"], Verdict::Ok),
        (&["edit", "acme/web", "--network", "10.0.0.0/8"], Verdict::AddressDenied),
        (&["edit", "acme/web", "--network", "any"], Verdict::Ok),
        (&["functions", "restrict", "leads.list"], Verdict::FunctionRestricted),
        (&["functions", "unrestrict", "leads.list"], Verdict::Ok),
    ];
    thread::scope(|scope| {
        let ask = |count| {
            let (daemon, token, epoch, expected): (&Daemon, &str, &AtomicU64, &AtomicU8) = (&daemon, &token, &epoch, &expected);
            scope.spawn(move || {
                let mut client = daemon.client();
                loop {
                    let before = epoch.load(Ordering::SeqCst);
                    let wanted = expected.load(Ordering::SeqCst);
                    let got = verdict(&mut client, token, "leads.list", Some("198.51.100.7"));
                    if before == u64::MAX {
                        break;
                    }
                    let settled = before.is_multiple_of(2) && epoch.load(Ordering::SeqCst) == before;
                    assert!(!settled || got as u8 == wanted, "at {before}: {got}, but {wanted} held before it was sent");
                    AtomicU64::fetch_add(count, 1, Ordering::SeqCst);
                }
            })
        };
        let askers: Vec<_> = asked.iter().map(ask).collect();
        for trial in 0..TRIALS {
            let (verb, verdict) = steps[trial % steps.len()];
            epoch.fetch_add(1, Ordering::SeqCst);
            daemon.json(verb);
            expected.store(verdict as u8, Ordering::SeqCst);
            epoch.fetch_add(1, Ordering::SeqCst);
            let goals: Vec<u64> = asked.iter().map(|count| count.load(Ordering::SeqCst) + 2).collect();
            while asked.iter().zip(&goals).any(|(count, goal)| count.load(Ordering::SeqCst) < *goal) {
                assert!(!askers.iter().any(|asker| asker.is_finished()), "a connection saw what it must not");
                thread::yield_now();
            }
        }
        epoch.store(u64::MAX, Ordering::SeqCst);
    });
}

/// The changes that a key does not come back from, on a connection that was open before.
#[test]
fn rotated_revoked_and_deleted_are_seen_at_once() {
    let daemon = Daemon::start();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
    let mut all = |token: &str, wanted: Verdict| {
        for client in &mut clients {
            assert_eq!(verdict(client, token, "leads.list", None), wanted);
        }
    };
    for n in 0..30 {
        let key = format!("acme/k{n}");
        let old = daemon.create(&key, &["--grant", "*"]).token;
        all(&old, Verdict::Ok);
        let new = made(&daemon.json(&["rotate", &key])).token;
        all(&old, Verdict::Retired);
        all(&new, Verdict::Ok);
        daemon.json(&["revoke", &key]);
        all(&new, Verdict::Revoked);
        daemon.json(&["delete", &key]);
        all(&new, Verdict::Deleted);
    }
}
