//! Each write, sync, rename, … that a change makes fails in turn, and each that a start makes: no answer says done of what is not; after a failure changes are refused with the
//! reason, except that revoke, disable and delete hold in memory and say so; verifies go on, `status` is degraded; a restart has everything that was acknowledged, or
//! is refused with the file named. `disk.rs` makes them fail.
//!
//! `DOORWARD_FAULTS=1` tries every start's operation, and both errors, once and lasting, for each change.
//!
//! Planted to see it fail: in `Writer::write`, an error of `self.commit` taken for its success.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::admin::Admin;
use crate::daemon::{Daemon, Made};
use crate::disk::{self, Control};
use crate::{folder, number};

const CONFIG: &str = "data_dir = \"{home}/disk/data\"\nrun_dir = \"{home}/run\"\nflush_interval = \"1m\"\n";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Whether a change only takes access away.
const VERBS: [(&str, bool); 8] = [
    ("create", false),
    ("edit", false),
    ("rotate", false),
    ("enable", false),
    ("function", false),
    ("revoke", true),
    ("disable", true),
    ("delete", true),
];

fn start() -> Option<Daemon> {
    if disk::library().is_none() {
        println!("skipped: there is no C compiler (cc, clang, gcc) for the disk that fails");
        return None;
    }
    Some(Daemon::start_under(folder(), CONFIG, |home| {
        disk::prepare(home);
        disk::environment(home, false)
    }))
}

/// Asks for a change: the status and the word of the problem.
fn change(daemon: &Daemon, verb: &str, key: &str, turn: &str) -> (u16, String) {
    let mut admin = Admin::connect(&daemon.run_dir()).expect("a connection");
    let path = |rest: &str| format!("/v1/keys/acme%2F{key}{rest}");
    let none = Value::Null;
    let answer = match verb {
        "create" => admin.ask("POST", "/v1/keys", &json!({ "account": "acme", "name": turn })),
        "edit" => admin.ask("PATCH", &path(""), &json!({ "description": turn })),
        "rotate" => admin.ask("POST", &path("/rotate"), &none),
        "enable" => admin.ask("POST", &path("/enable"), &none),
        "function" => admin.ask("POST", "/v1/functions", &json!({ "name": turn })),
        "revoke" => admin.ask("POST", &path("/revoke"), &none),
        "disable" => admin.ask("POST", &path("/disable"), &none),
        "delete" => admin.ask("DELETE", &path(""), &none),
        other => panic!("{other}"),
    };
    let (status, document) = answer.expect("an answer");
    let word = document["type"].as_str().unwrap_or_default().trim_start_matches("urn:doorward:problem:").to_owned();
    (status, word)
}

#[test]
fn no_failing_operation_of_a_change_is_answered_as_done() {
    let Some(mut daemon) = start() else { return };
    let thorough = number("DOORWARD_FAULTS", 0) == 1;
    daemon.json(&["functions", "add", "leads.list"]);
    let bystander = daemon.create("acme/bystander", &["--grant", "*"]);
    let (mut turn, mut failures) = (0, 0);
    for (verb, shuts) in VERBS {
        let faults = [(EIO, false), (ENOSPC, true), (EIO, true), (ENOSPC, false)];
        let faults = if thorough { &faults[..] } else { &faults[turn % 3..turn % 3 + 1] };
        for &(error, lasting) in faults {
            for at in 1.. {
                turn += 1;
                if !attempt(&mut daemon, &bystander, (verb, shuts), (error, at, lasting), &format!("t{turn}")) {
                    assert!(at > 2, "{verb}: a change writes and syncs at least twice, but only {} operations were counted", at - 1);
                    break;
                }
                failures += 1;
            }
        }
    }
    println!("{failures} failures of an operation of a change, each handled");
}

/// Makes one change of which one operation fails. Whether there was such an operation.
fn attempt(daemon: &mut Daemon, bystander: &Made, (verb, shuts): (&str, bool), (error, at, lasting): (i32, u32, bool), turn: &str) -> bool {
    let key = format!("{turn}-key");
    let made = daemon.create(&format!("acme/{key}"), &["--grant", "*"]);
    let other = daemon.create(&format!("acme/{turn}-other"), &["--grant", "*"]);
    if verb == "enable" {
        daemon.json(&["disable", &made.id]);
    }
    let what = format!("{verb}, operation {at}, error {error}, lasting {lasting}");
    let control = Control::of(daemon.home());
    control.fail(error, at, lasting);
    let (status, word) = change(daemon, verb, &key, turn);
    let failed = control.mend();
    let done = (200..300).contains(&status);
    if failed == 0 {
        assert!(done, "{what}: {status} {word}");
        return false;
    }
    let verdict = |made: &Made| daemon.verdict(&made.token, "leads.list", None);
    let after = match verb {
        "revoke" => "revoked",
        "disable" => "disabled",
        "delete" => "deleted",
        _ => "ok",
    };
    match (done, shuts) {
        (true, _) => (),
        (false, true) => {
            assert_eq!((status, &*word), (500, "effective-not-durable"), "{what}");
            assert_eq!(verdict(&made), after, "{what}: in memory");
        }
        (false, false) => assert_eq!((status, &*word), (503, "refusing-changes"), "{what}"),
    }
    // The disk is well again, but nobody knows what it kept.
    assert_eq!(verdict(bystander), "ok", "{what}");
    let ran = daemon.run(&["status", "--json"]);
    assert_eq!((ran.code, &ran.json()["health"]), (1, &"degraded".into()), "{what}: {ran:?}");
    assert!(ran.json()["store"]["refusing_changes"].is_string(), "{what}: {ran:?}");
    assert_eq!(change(daemon, "create", "", &format!("{turn}-refused")), (503, "refusing-changes".to_owned()), "{what}");
    assert_eq!(change(daemon, "revoke", &format!("{turn}-other"), ""), (500, "effective-not-durable".to_owned()), "{what}");
    assert_eq!(verdict(&other), "revoked", "{what}");
    daemon.kill9();
    daemon.start_again();
    let verdict = |made: &Made| daemon.verdict(&made.token, "leads.list", None);
    assert_eq!(daemon.json(&["check"])["clean"], true, "{what}");
    assert_eq!((verdict(bystander), verdict(&other)), ("ok".to_owned(), "ok".to_owned()), "{what}: not durable was not durable");
    if done {
        let there = match verb {
            "create" => daemon.run(&["show", &format!("acme/{turn}")]).code == 0,
            "edit" => daemon.json(&["show", &made.id])["description"] == turn,
            "rotate" => daemon.json(&["show", &made.id])["secrets"].as_array().expect("secrets").len() == 2,
            "function" => daemon.run(&["functions", "list"]).stdout.contains(turn),
            _ => verdict(&made) == after,
        };
        assert!(there, "{what}: it was answered as done, and is not there after the restart");
    }
    true
}

#[test]
fn a_start_on_a_failing_disk_is_a_start_or_a_refusal() {
    let Some(mut daemon) = start() else { return };
    daemon.json(&["functions", "add", "leads.list"]);
    let good = daemon.create("acme/good", &["--grant", "*"]);
    let bad = daemon.create("acme/bad", &["--grant", "*"]);
    daemon.json(&["revoke", "acme/bad"]);
    daemon.kill9();
    let control = Control::of(daemon.home());
    let step = if number("DOORWARD_FAULTS", 0) == 1 { 1 } else { 9 };
    let (mut refused, mut started) = (0, 0);
    for (turn, at) in (1..).step_by(step).enumerate() {
        let (error, lasting) = ([EIO, ENOSPC][turn % 2], turn % 3 == 0);
        control.fail(error, at, lasting);
        let outcome = daemon.try_start();
        let failed = control.mend();
        match outcome {
            Ok(()) => {
                started += 1;
                daemon.kill9();
            }
            Err((code, log)) => {
                refused += 1;
                assert!([70, 73, 74, 78].contains(&code), "operation {at}: {code} {log}");
                assert!(log.contains("/disk/data") || log.contains("acknowledged"), "operation {at}: the place is not named: {log}");
                assert!(!log.contains("panicked"), "operation {at}: {log}");
            }
        }
        daemon.start_again();
        let verdicts = [&good, &bad].map(|made| daemon.verdict(&made.token, "leads.list", None));
        assert_eq!(verdicts, ["ok", "revoked"], "after operation {at} of a start failed");
        assert_eq!(daemon.json(&["check"])["clean"], true);
        daemon.kill9();
        if failed == 0 {
            break;
        }
    }
    println!("starts with a failing operation: {refused} refused, {started} started; each time all was there afterwards");
    assert!(refused > 3);
}

/// Keys that are in table files which cannot be read: nothing of them is in memory but what a verify needs.
#[test]
fn what_the_disk_does_not_give_can_still_be_shut() {
    let Some(mut daemon) = start() else { return };
    daemon.json(&["functions", "add", "leads.list"]);
    let keys: Vec<Made> = (0..4).map(|n| daemon.create(&format!("acme/k{n}"), &["--grant", "*"])).collect();
    let verdict = |daemon: &Daemon, at: usize| daemon.verdict(&keys[at].token, "leads.list", None);
    daemon.kill9();
    daemon.start_again();
    let control = Control::of(daemon.home());
    control.fail_reads(EIO);
    let ran = daemon.run(&["revoke", "acme/k0"]);
    assert!(ran.code == 75 && ran.stderr.contains("by its id"), "{ran:?}");
    let status = daemon.run(&["status", "--json"]);
    assert_eq!((status.code, &status.json()["health"]), (1, &"degraded".into()), "{status:?}");
    assert!(status.stdout.contains("reads of the store failed"), "{status:?}");
    for (at, verb, then) in [(0, "revoke", "revoked"), (1, "disable", "disabled"), (2, "delete", "deleted")] {
        let ran = daemon.run(&[verb, &keys[at].id]);
        assert!(ran.code == 74 && ran.stderr.contains("not durable"), "{verb}: {ran:?}");
        assert_eq!(verdict(&daemon, at), then);
    }
    assert_eq!(verdict(&daemon, 3), "ok");
    control.fail_reads(0);
    // Once it can be read again, whoever reads the store sees what is shut, and another change of such a key opens nothing.
    let exported = daemon.run(&["export", "--jsonl", "--digests"]).stdout;
    let shut = |line: &&str| ["\"revoked_at\":\"", "\"enabled\":false", "\"deleted_at\":\""].iter().any(|how| line.contains(how));
    assert!(exported.lines().count() == 4 && exported.lines().filter(shut).count() == 3, "{exported}");
    assert_eq!(daemon.run(&["disable", "acme/k0"]).code, 74);
    assert_eq!(verdict(&daemon, 0), "revoked");
    assert_eq!(daemon.run(&["revoke", "acme/k3"]).code, 74);
    assert_eq!(daemon.run(&["status", "--json"]).json()["store"]["in_memory_only"], 4);
    daemon.kill9();
    daemon.start_again();
    assert!((0..4).all(|at| verdict(&daemon, at) == "ok"), "not durable was not durable");
}

/// A file system of a few MiB that is full.
#[test]
fn a_full_disk_loses_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let mounted = Mounted::new(&home.path().join("small"));
    let Some(mounted) = mounted else {
        return println!("skipped: a small tmpfs cannot be mounted here");
    };
    let small = mounted.0.display().to_string();
    let mut daemon =
        Daemon::start_configured(&format!("data_dir = \"{small}/data\"\nrun_dir = \"{{home}}/run\"\nflush_interval = \"100ms\"\n"));
    daemon.json(&["functions", "add", "leads.list"]);
    let good = daemon.create("acme/good", &["--grant", "*"]);
    let ballast = mounted.0.join("ballast");
    // Until nothing more goes in.
    let full = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", ballast.display())).arg("bs=4k").output().expect("dd");
    assert!(!full.status.success(), "it does not fill");
    let mut made = vec![("good".to_owned(), good.clone())];
    let refused = (0..10_000).find_map(|n| {
        let name = format!("k{n}");
        let ran = daemon.run(&["create", "--account", "acme", "--name", &name, "--grant", "*", "--json"]);
        if ran.code != 0 {
            return Some(ran);
        }
        made.push((name, crate::daemon::made(&ran.json())));
        None
    });
    let refused = refused.expect("a full disk");
    refused.refused(75, &["No space left"]);
    assert_eq!(daemon.verdict(&good.token, "leads.list", None), "ok");
    let ran = daemon.run(&["revoke", "acme/good"]);
    assert!(ran.code == 74 && ran.stderr.contains("not durable"), "{ran:?}");
    assert_eq!(daemon.verdict(&good.token, "leads.list", None), "revoked");
    assert_eq!(daemon.run(&["status"]).code, 1);
    daemon.kill9();
    fs::remove_file(&ballast).expect("room");
    daemon.start_again();
    for (name, key) in &made {
        assert_eq!(daemon.verdict(&key.token, "leads.list", None), "ok", "{name}");
    }
    assert_eq!(daemon.json(&["check"])["clean"], true);
    daemon.create("acme/after", &[]);
    drop(daemon);
}

/// A small tmpfs, unmounted at the end.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(path: &Path) -> Option<Mounted> {
        fs::create_dir(path).ok()?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(path).output().ok()?;
        mounted.status.success().then(|| Mounted(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
