use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::daemon::{Daemon, Ran, run_in, text};

/// `check` on a store that no daemon uses.
fn offline(daemon: &Daemon, flags: &[&str]) -> Ran {
    let data = daemon.home().join("data").display().to_string();
    run_in(&daemon.run_dir(), &[&["check", "--data-dir", &data], flags].concat(), "")
}

/// A store with a bit of everything.
fn filled() -> Daemon {
    let daemon = Daemon::start();
    for name in ["a", "b", "c", "d"] {
        daemon.create(&format!("acme/{name}"), &["--grant", "leads.*"]);
    }
    daemon.json(&["rotate", "acme/a", "--overlap", "7d"]);
    daemon.json(&["revoke", "acme/b"]);
    daemon.json(&["delete", "acme/c"]);
    daemon.json(&["edit", "acme/d", "--grant", "leads.list", "--name", "e"]);
    daemon
}

fn faults(report: &Value) -> Vec<String> {
    let parts = report["parts"].as_array().expect("parts");
    let faults = |part: &Value| part["faults"].as_array().expect("faults").iter().map(text).collect::<Vec<_>>();
    parts.iter().flat_map(|part| faults(part).into_iter().map(|fault| format!("{}: {fault}", text(&part["part"])))).collect()
}

fn checked(report: &Value, part: &str) -> u64 {
    let parts = report["parts"].as_array().expect("parts");
    let found = parts.iter().find(|found| found["part"] == part).unwrap_or_else(|| panic!("{part} in {report}"));
    found["checked"].as_u64().expect("a number")
}

#[test]
fn a_store_that_is_well_is_said_to_be() {
    let mut daemon = filled();
    let online = daemon.json(&["check"]);
    assert_eq!((online["clean"].as_bool(), faults(&online)), (Some(true), vec![]));
    // 4 functions, 4 creations, 4 changes.
    let counts = ["keys", "names", "functions", "history", "history by subject", "chain", "index"].map(|part| checked(&online, part));
    assert_eq!(counts, [4, 4, 4, 12, 12, 12, 5]);
    offline(&daemon, &[]).refused(75, &["in use by another doorward"]);
    daemon.terminate();
    let before = files(&daemon.home().join("data"));
    let ran = offline(&daemon, &["--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    assert_eq!((text(&report["head"]), checked(&report, "chain")), (text(&online["head"]), 12));
    assert_eq!(files(&daemon.home().join("data")), before, "a look changes nothing");
    let shown = offline(&daemon, &[]).stdout;
    assert!(shown.starts_with("clean: true\n") && shown.contains("\nkeys\t4\tkeys\t0\t"), "{shown}");
}

#[test]
fn a_history_that_was_cut_off_is_found_out_by_a_noted_head() {
    let mut daemon = filled();
    let heads = daemon.home().join("heads");
    let noted = daemon.run(&["check", "--head"]).stdout;
    assert!(noted.starts_with("12:") && noted.len() == 68, "{noted}");
    fs::write(&heads, &noted).expect("the heads");
    daemon.json(&["disable", "acme/a"]);
    let heads = heads.display().to_string();
    assert_eq!(daemon.run(&["check", "--against", &heads]).code, 0, "a history that went on still has it");
    let forged = noted.trim().replace(':', ":00")[..67].to_owned();
    let ran = daemon.run(&["check", "--json", "--against", &forged]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(faults(&ran.json())[0].contains("entry 12 is another"), "{ran:?}");

    // Another history in the same place: an older state of everything, its `acknowledged` included.
    let later = daemon.run(&["check", "--head"]).stdout;
    daemon.terminate();
    let again = Daemon::start();
    let ran = again.run(&["check", "--json", "--against", later.trim()]);
    assert_eq!(ran.code, 1);
    assert!(faults(&ran.json())[0].contains("the history ends at entry 4, but it had 13"), "{ran:?}");
    let log = again.log();
    assert!(log.contains("the history is not the one whose head was noted") && !log.contains("is damaged"), "{log}");
    assert_eq!(offline(&daemon, &["--against", later.trim(), "--against", &heads]).code, 0);
}

#[test]
fn a_missing_second_place_is_a_refusal_until_it_is_said_aloud() {
    let mut daemon = filled();
    daemon.terminate();
    let second = daemon.home().join("data/db/acknowledged");
    fs::remove_file(&second).expect("the file");
    let (code, log) = daemon.fail_to_start();
    assert_eq!(code, 74, "{log}");
    assert!(log.contains("acknowledged is missing or damaged") && log.contains("check --acknowledge"), "{log}");
    let ran = offline(&daemon, &["--json"]);
    assert_eq!((ran.code, faults(&ran.json()).len()), (1, 1), "{ran:?}");
    let ran = offline(&daemon, &["--acknowledge"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    daemon.start_again();
    assert_eq!(daemon.json(&["check"])["clean"], true);
}

#[test]
fn a_damaged_table_is_named() {
    let mut daemon = filled();
    // A start writes what is in the log to tables; a store that was only ever written to has none.
    daemon.restart();
    daemon.terminate();
    let tables: Vec<PathBuf> = files(&daemon.home().join("data/db"))
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    assert!(!tables.is_empty());
    for table in tables {
        let whole = fs::read(&table).expect("a table");
        let mut damaged = whole.clone();
        damaged[10] ^= 1;
        fs::write(&table, &damaged).expect("a table");
        let ran = offline(&daemon, &["--json"]);
        assert_eq!(ran.code, 1, "{}: {ran:?}", table.display());
        let name = table.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(faults(&ran.json()).iter().any(|fault| fault.contains(&name)), "{name}: {ran:?}");
        fs::write(&table, &whole).expect("a table");
    }
    fs::remove_file(daemon.home().join("data/db/CURRENT")).expect("CURRENT");
    let ran = offline(&daemon, &["--json"]);
    assert!(ran.code == 1 && faults(&ran.json())[0].contains("CURRENT"), "{ran:?}");
    let (code, log) = daemon.fail_to_start();
    assert!(code == 74 && log.contains("CURRENT"), "{log}");
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let mut daemon = filled();
    daemon.terminate();
    run_in(&daemon.run_dir(), &["check", "--data-dir", "/nonexistent"], "").refused(66, &["there is no store in /nonexistent"]);
    offline(&daemon, &["--against", "x"]).refused(66, &["x"]);
    fs::rename(daemon.home().join("data/pepper"), daemon.home().join("pepper")).expect("the pepper");
    offline(&daemon, &[]).refused(78, &["pepper", "--no-pepper"]);
    let ran = offline(&daemon, &["--no-pepper"]);
    assert!(ran.code == 0 && ran.stdout.contains("the MACs of 12 entries were not checked"), "{ran:?}");
    let elsewhere = daemon.home().join("pepper").display().to_string();
    assert_eq!(offline(&daemon, &["--pepper-file", &elsewhere]).code, 0);
    fs::write(daemon.home().join("pepper"), [7; 32]).expect("another pepper");
    let ran = offline(&daemon, &["--pepper-file", &elsewhere, "--json"]);
    assert!(ran.code == 1 && faults(&ran.json()).iter().any(|fault| fault.contains("pepper")), "{ran:?}");
}

/// Every file below a folder, with its contents.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}
