use serde_json::{Value, json};

use crate::daemon::{Daemon, text};

fn entries(page: &Value) -> Vec<Value> {
    page["entries"].as_array().expect("entries").clone()
}

fn change(entry: &Value, field: &str) -> (Value, Value) {
    let changes = entry["changes"].as_array().expect("changes");
    let found = changes.iter().find(|change| change["field"] == field).unwrap_or_else(|| panic!("no {field} in {entry}"));
    (found["before"].clone(), found["after"].clone())
}

#[test]
fn every_change_leaves_an_entry_with_before_and_after() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "leads.insert"]);
    daemon.json(&["edit", "acme/web", "--add-grant", "leads.list", "--expires", "2999-01-01", "--description", "new"]);
    daemon.json(&["disable", "acme/web"]);
    daemon.json(&["enable", "acme/web"]);
    daemon.json(&["rotate", "acme/web", "--overlap", "1d"]);
    daemon.json(&["rotate", "acme/web", "--extend", "2d"]);
    daemon.json(&["rotate", "acme/web", "--finish"]);
    daemon.json(&["rotate", "acme/web", "--overlap", "1d"]);
    daemon.json(&["rotate", "acme/web", "--cancel"]);
    daemon.json(&["revoke", "acme/web", "--version", "2"]);
    daemon.json(&["delete", "acme/web"]);
    daemon.json(&["undelete", "acme/web"]);

    let history = entries(&daemon.json(&["history", "acme/web"]));
    let actions: Vec<String> = history.iter().rev().map(|entry| text(&entry["action"])).collect();
    let expected = "create edit disable enable rotate rotate_extend rotate_finish rotate rotate_cancel revoke delete undelete";
    assert_eq!(actions.join(" "), expected);
    let edit = &history[history.len() - 2];
    assert_eq!(change(edit, "grants"), (json!(["leads.insert"]), json!(["leads.insert", "leads.list"])));
    assert_eq!(change(edit, "expires_at"), (Value::Null, json!("2999-01-01T00:00:00Z")));
    assert_eq!(change(edit, "description"), (json!(""), json!("new")));
    let fields: Vec<_> = edit["changes"].as_array().expect("changes").iter().map(|change| text(&change["field"])).collect();
    assert!(!fields.contains(&"name".to_owned()), "only what changed: {fields:?}");
    assert_eq!(change(&history[history.len() - 3], "enabled"), (json!(true), json!(false)));
    let (before, after) = change(&history[history.len() - 5], "secrets.1.retires_at");
    assert!(before.is_null() && after.is_string(), "the rotation says what became of the old secret");
}

#[test]
fn sequences_have_no_gap_and_entries_are_chained() {
    let daemon = Daemon::start();
    for n in 0..5 {
        daemon.create(&format!("acme/k{n}"), &["--grant", "*"]);
    }
    let history = entries(&daemon.json(&["history"]));
    let sequences: Vec<u64> = history.iter().map(|entry| entry["sequence"].as_u64().expect("a number")).collect();
    let newest = sequences[0];
    assert_eq!(sequences, (1..=newest).rev().collect::<Vec<_>>());
    let macs: std::collections::BTreeSet<String> = history.iter().map(|entry| text(&entry["mac"])).collect();
    assert_eq!(macs.len(), history.len());
    assert!(macs.iter().all(|mac| mac.len() == 64));
}

#[test]
fn the_actor_is_the_kernels_and_whom_he_says_he_acts_for() {
    let daemon = Daemon::start();
    daemon.json(&["create", "--account", "acme", "--name", "web", "--grant", "*", "--as", "Ada Lovelace, ticket 47 – ü"]);
    daemon.json(&["disable", "acme/web"]);
    let history = entries(&daemon.json(&["history", "acme/web"]));
    let uid = String::from_utf8(std::process::Command::new("id").arg("-u").output().expect("id").stdout).expect("a number");
    for entry in &history {
        assert_eq!(entry["actor"]["uid"].to_string(), uid.trim());
    }
    assert_eq!(history[1]["actor"]["as"], "Ada Lovelace, ticket 47 – ü");
    assert!(history[0]["actor"]["as"].is_null());
}

#[test]
fn history_is_paged_newest_first() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    for _ in 0..4 {
        daemon.json(&["disable", "acme/web"]);
        daemon.json(&["enable", "acme/web"]);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let cursor: Option<String> = before.map(|before: u64| before.to_string());
        let mut args = vec!["history", "acme/web", "--limit", "4"];
        args.extend(cursor.as_deref().map(|cursor| ["--before", cursor]).into_iter().flatten());
        let page = daemon.json(&args);
        seen.extend(entries(&page).iter().map(|entry| entry["sequence"].as_u64().expect("a number")));
        before = page["next"].as_u64();
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 9);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
}

#[test]
fn what_changes_nothing_leaves_no_entry() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    let before = daemon.json(&["history"])["entries"].as_array().expect("entries").len();
    daemon.json(&["enable", "acme/web"]);
    assert_eq!(daemon.json(&["show", "acme/web"])["revision"], 1, "it was on already");
    assert_eq!(daemon.json(&["history"])["entries"].as_array().expect("entries").len(), before);
}
