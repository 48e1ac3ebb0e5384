use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::daemon::{Daemon, Ran, run_in, text};

fn backup(daemon: &Daemon, flags: &[&str]) -> Ran {
    daemon.run(&[&["backup", &directory(daemon)], flags].concat())
}

fn directory(daemon: &Daemon) -> String {
    daemon.home().join("backups").display().to_string()
}

fn restore(daemon: &Daemon, to: &Path, flags: &[&str]) -> Ran {
    run_in(&daemon.run_dir(), &[&["restore", &directory(daemon), "--data-dir", &to.display().to_string()], flags].concat(), "")
}

/// A daemon on what was restored, with the pepper of the old one.
fn start_on(daemon: &Daemon, id: &[&str]) -> Daemon {
    Daemon::start_prepared(|home| {
        let data = home.join("data");
        fs::create_dir(&data).expect("a directory");
        fs::copy(daemon.home().join("data/pepper"), data.join("pepper")).expect("the pepper");
        let ran = restore(daemon, &data, id);
        assert_eq!(ran.code, 0, "{ran:?}");
    })
}

fn export(daemon: &Daemon) -> String {
    daemon.run(&["export", "--jsonl", "--digests"]).stdout
}

#[test]
fn what_was_backed_up_comes_back() {
    let daemon = Daemon::start();
    let kept = daemon.create("acme/kept", &["--grant", "leads.*"]);
    let revoked = daemon.create("acme/revoked", &["--grant", "leads.*"]);
    daemon.json(&["revoke", "acme/revoked"]);
    let leaked = daemon.create("acme/leaked-later", &["--grant", "leads.*"]);
    let gone = daemon.create("acme/gone", &[]);
    daemon.json(&["delete", "acme/gone"]);
    let (then, history) = (export(&daemon), daemon.json(&["history", "--limit", "100"]));
    let first = daemon.json(&["backup", &directory(&daemon)]);
    assert_eq!((first["id"].as_u64(), first["verified"].as_bool(), first["sequence"].as_u64()), (Some(1), Some(true), Some(10)));
    assert_eq!(first["copied_bytes"], first["bytes"]);

    daemon.json(&["revoke", "acme/leaked-later"]);
    let later = daemon.create("acme/later", &["--grant", "leads.*"]);
    let second = daemon.json(&["backup", &directory(&daemon)]);
    assert_eq!(second["id"], 2);
    assert!(second["copied_bytes"].as_u64() < second["bytes"].as_u64(), "the tables of the first are shared: {second}");
    assert!(!daemon.home().join("data/checkpoint").exists(), "nothing is left beside the store");

    let old = start_on(&daemon, &["--id", "1"]);
    assert_eq!(export(&old), then);
    assert_eq!(old.json(&["history", "--limit", "100"]), history);
    assert_eq!(old.json(&["check"])["clean"], true);
    let verdict = |daemon: &Daemon, made: &crate::daemon::Made| daemon.verdict(&made.token, "leads.list", None);
    assert_eq!([&kept, &revoked, &gone].map(|made| verdict(&old, made)), ["ok", "revoked", "deleted"]);
    // What the command says aloud: a key that was revoked after the backup is good again, and one made after it is unknown.
    assert_eq!([&leaked, &later].map(|made| verdict(&old, made)), ["ok", "unknown"]);
    old.create("acme/after", &[]);
    let new = start_on(&daemon, &[]);
    assert_eq!([&leaked, &later].map(|made| verdict(&new, made)), ["revoked", "ok"]);
    assert_eq!(export(&new), export(&daemon));
}

#[test]
fn backups_are_for_their_owner_and_the_oldest_go() {
    let daemon = Daemon::start();
    for _ in 0..3 {
        daemon.create(&format!("acme/k{}", daemon.json(&["status"])["keys"]["keys"]), &[]);
        assert_eq!(backup(&daemon, &["--keep", "2"]).code, 0);
    }
    let list = daemon.json(&["backup", &directory(&daemon), "--list"]);
    let ids: Vec<u64> = list["backups"].as_array().expect("backups").iter().map(|backup| backup["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids, [2, 3]);
    for (path, mode) in tree(Path::new(&directory(&daemon))) {
        assert!(mode & 0o077 == 0, "{}: {mode:o}", path.display());
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!name.contains("pepper") && !name.ends_with(".part"), "{name}");
    }
    let shared = tree(Path::new(&directory(&daemon)))
        .into_iter()
        .filter(|(path, _)| fs::metadata(path).is_ok_and(|file| file.is_file() && file.nlink() > 1));
    assert!(shared.count() >= 2, "what did not change is there once");
    let shown = backup(&daemon, &["--list"]).stdout;
    assert!(shown.starts_with("ID\tTAKEN\tCHANGES\tSIZE\tPEPPER\n2\t"), "{shown}");
}

#[test]
fn changes_and_verifies_go_on_meanwhile() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "leads.*"]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut changes = 0;
            while !ended.load(Ordering::Relaxed) {
                daemon.json(&["edit", "acme/web", "--description", &changes.to_string()]);
                assert_eq!(daemon.verdict(&made.token, "leads.list", None), "ok");
                changes += 1;
            }
            changes
        });
        for id in 1..=5 {
            assert_eq!(daemon.json(&["backup", &directory(&daemon)])["id"], id);
        }
        ended.store(true, Ordering::Relaxed);
        assert!(changes.join().expect("changes") > 3);
    });
    for id in ["1", "3", "5"] {
        let restored = start_on(&daemon, &["--id", id]);
        assert_eq!(restored.json(&["check"])["clean"], true);
    }
}

/// Each file of a backup, damaged, cut and removed: nothing is restored, and the file is named.
#[test]
fn a_damaged_backup_is_not_restored() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "leads.*"]);
    backup(&daemon, &[]);
    let files: Vec<PathBuf> =
        tree(&Path::new(&directory(&daemon)).join("000001")).into_iter().map(|(path, _)| path).filter(|path| path.is_file()).collect();
    assert!(files.len() > 5, "{files:?}");
    let target = daemon.home().join("new");
    for file in files {
        let whole = fs::read(&file).expect("a file");
        if whole.is_empty() {
            continue;
        }
        let middle = whole.len() / 2;
        let mut flipped = whole.clone();
        flipped[middle] ^= 4;
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        for damaged in [Some(&flipped[..]), Some(&whole[..middle]), None] {
            match damaged {
                Some(bytes) => fs::write(&file, bytes).expect("a file"),
                None => fs::remove_file(&file).expect("a file"),
            }
            let ran = restore(&daemon, &target, &[]);
            assert!(ran.code >= 64 && ran.stderr.contains(&name), "{name}: {ran:?}");
            assert!(!target.join("db").exists() && !target.join("db.part").exists());
        }
        fs::write(&file, &whole).expect("a file");
    }
    assert_eq!(restore(&daemon, &target, &[]).code, 0);
}

/// A table that is shared with the backup before, and was damaged there, was shared on: each backup from then on failed, though the daemon was well.
#[test]
fn what_was_damaged_in_an_earlier_backup_is_copied_anew() {
    let daemon = Daemon::start();
    // More than the end of a table that two are told apart by.
    let lines: String =
        (0..2_000).map(|number| format!("{{\"account\":\"acme\",\"name\":\"k{number}\",\"token_sha256\":\"{number:064x}\"}}\n")).collect();
    assert_eq!(daemon.run_with_input(&["import", "-", "--jsonl", "--allow-weak"], &lines).code, 0);
    backup(&daemon, &[]);
    let tables = tree(&Path::new(&directory(&daemon)).join("000001")).into_iter().map(|(path, _)| path);
    let table = tables
        .filter(|path| path.extension().is_some_and(|is| is == "sst"))
        .max_by_key(|path| fs::metadata(path).map_or(0, |file| file.len()));
    let table = table.expect("a table");
    let mut bytes = fs::read(&table).expect("a table");
    assert!(bytes.len() > 16_384, "{}", bytes.len());
    bytes[5_000] ^= 1;
    fs::write(&table, bytes).expect("a table");
    let name = table.file_name().expect("a name").to_string_lossy().into_owned();
    let second = backup(&daemon, &["--json"]);
    assert!(second.code == 0 && second.stderr.contains(&name), "it says so: {second:?}");
    assert_eq!(second.json()["damaged_before"], serde_json::json!([name]));
    restore(&daemon, &daemon.home().join("one"), &["--id", "1"]).refused(65, &[&name, "damaged"]);
    let third = daemon.json(&["backup", &directory(&daemon)]);
    assert_eq!(third["damaged_before"], serde_json::json!([]));
    for id in ["2", "3"] {
        assert_eq!(restore(&daemon, &daemon.home().join(id), &["--id", id]).code, 0, "{id}");
    }
}

#[test]
fn nothing_is_written_over() {
    let daemon = Daemon::start();
    backup(&daemon, &[]);
    restore(&daemon, &daemon.home().join("data"), &[]).refused(73, &["is not empty", "data"]);
    let target = daemon.home().join("new");
    assert_eq!(restore(&daemon, &target, &[]).code, 0);
    restore(&daemon, &target, &[]).refused(73, &["holds 'db'"]);
    restore(&daemon, &daemon.home().join("other"), &["--id", "7"]).refused(66, &["no backup 7"]);
    let other = Daemon::start();
    other.run(&["backup", &directory(&daemon)]).refused(65, &["another store"]);
    let refused =
        restore(&daemon, &daemon.home().join("third"), &["--pepper-file", &other.home().join("data/pepper").display().to_string()]);
    refused.refused(78, &["the pepper given is", "need"]);
    run_in(&daemon.run_dir(), &["restore", "/nonexistent", "--data-dir", "/nonexistent/x"], "").refused(66, &["/nonexistent"]);
}

/// A store that was lost, or not restored to the end: the next start began an empty one in its place, said nothing, and denied every key.
#[test]
fn no_empty_store_is_begun_where_one_was_or_is_to_be() {
    let mut daemon = Daemon::start();
    daemon.create("acme/web", &[]);
    let data = daemon.home().join("data");
    let (store, away) = (data.join("db"), daemon.home().join("away"));
    daemon.kill9();
    fs::rename(&store, &away).expect("renamed");
    let refused = |daemon: &mut Daemon, words: &str| {
        let (code, log) = daemon.try_start().expect_err("a refusal");
        assert!(code == 74 && log.contains(words) && !store.join("CURRENT").exists(), "{code} {log}");
    };
    refused(&mut daemon, "there is no store in");
    fs::create_dir(&store).expect("a directory");
    refused(&mut daemon, "there is no store in");
    fs::create_dir(data.join("db.part")).expect("a directory");
    refused(&mut daemon, "a restoration that was broken off");
    fs::remove_dir(data.join("db.part")).expect("removed");
    fs::remove_dir(&store).expect("removed");
    fs::rename(&away, &store).expect("renamed");
    daemon.start_again();
    assert_eq!(daemon.json(&["status"])["keys"]["keys"], 1);
    // Whoever wants it empty says so.
    daemon.kill9();
    fs::remove_dir_all(&store).expect("removed");
    fs::remove_file(data.join("lock")).expect("removed");
    daemon.start_again();
    assert_eq!(daemon.json(&["status"])["keys"]["keys"], 0);
}

#[test]
fn a_backup_is_a_store_that_can_be_checked_where_it_lies() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &[]);
    let path = text(&daemon.json(&["backup", &directory(&daemon)])["path"]);
    let pepper = daemon.home().join("data/pepper").display().to_string();
    let report: Value = run_in(&daemon.run_dir(), &["check", "--data-dir", &path, "--pepper-file", &pepper, "--json"], "").json();
    assert_eq!(report["clean"], true, "{report}");
}

/// A backup that was broken off a moment ago, or is under way elsewhere, was told of as if it were the caller's mistake (65).
#[test]
fn a_backup_beside_another_is_asked_to_try_again() {
    let daemon = Daemon::start();
    let checkpoint = |method: &str, status: &str| {
        let mut admin = UnixStream::connect(daemon.run_dir().join("admin.sock")).expect("a connection");
        let request = format!("{method} /v1/checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        admin.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        admin.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    };
    checkpoint("POST", "201");
    backup(&daemon, &[]).refused(75, &["data/checkpoint is still needed"]);
    checkpoint("DELETE", "204");
    assert_eq!(backup(&daemon, &[]).code, 0);
}

/// Every path below a folder, itself included, with its mode.
fn tree(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mode = |path: &Path| fs::metadata(path).expect("a path").permissions().mode();
    let mut found = vec![(folder.to_owned(), mode(folder))];
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), mode(&path)));
        }
    }
    found
}
