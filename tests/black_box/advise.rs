use serde_json::Value;

use crate::daemon::{COMMAND, Daemon, eventually, made, text, texts, verdict};

/// The advice of a kind for a key; `Null` if there is none.
fn advice(daemon: &Daemon, key: &str, kind: &str) -> Value {
    let list = daemon.json(&["advise", key])["advice"].clone();
    list.as_array().expect("a list").iter().find(|advice| advice["kind"] == kind).cloned().unwrap_or_default()
}

#[test]
fn advice_is_applied_once_through_the_ordinary_edit_and_refuses_nothing_that_was_used() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/the web's", &["--grant", "leads.*,status.read,leads.purge", "--country", "DE,US,FR"]);
    let mut client = daemon.client();
    for (function, times) in [("leads.insert", 4), ("leads.list", 2)] {
        for _ in 0..times {
            assert_eq!(verdict(&mut client, &made.token, function, Some("198.51.100.7")).as_str(), "ok");
        }
    }
    verdict(&mut client, &made.token, "status.gone", Some("198.51.100.7"));
    let key = "acme/the web's";
    eventually("all is flushed", || daemon.json(&["usage", key])["total"] == 7);

    let unused = advice(&daemon, key, "unused_grant");
    assert_eq!(text(&unused["command"]), "doorward edit 'acme/the web'\\''s' --remove-grant=leads.purge,status.read");
    let wide = advice(&daemon, key, "wide_grant");
    assert!(text(&wide["evidence"]).starts_with("leads.*: 6 calls in "), "{wide}");
    assert_eq!(text(&advice(&daemon, key, "unused_country")["command"]), "doorward edit 'acme/the web'\\''s' --remove-country=FR,US");
    assert_eq!(text(&advice(&daemon, key, "any_network")["command"]), "doorward edit 'acme/the web'\\''s' --add-network=198.51.100.0/24");
    assert!(text(&advice(&daemon, key, "no_expiry")["command"]).ends_with(" --expires 365d"));

    let before = daemon.json(&["show", key])["revision"].as_u64().expect("a revision");
    daemon.run(&["advise", key, "--apply"]).refused(64, &["Apply this to 1 key?", "--yes"]);
    let applied = daemon.json(&["advise", key, "--apply", "--yes", "--as", "auditor"]);
    let now = &applied["changed"][0];
    assert_eq!(texts(&now["grants"]), ["leads.insert", "leads.list"]);
    let no_networks: Vec<String> = Vec::new();
    assert_eq!(
        (texts(&now["countries"]), texts(&now["networks"])),
        (vec!["DE".to_owned()], no_networks),
        "networks are for a person to decide"
    );
    assert_eq!(now["revision"].as_u64(), Some(before + 1), "one change");
    assert_eq!(now["expires_at"], Value::Null, "that is for a person to decide");
    let entry = &daemon.json(&["history", key])["entries"][0];
    assert_eq!((text(&entry["action"]), text(&entry["actor"]["as"])), ("edit".to_owned(), "auditor".to_owned()));
    for function in ["leads.insert", "leads.list"] {
        assert_eq!(verdict(&mut client, &made.token, function, Some("198.51.100.7")).as_str(), "ok");
    }
    assert_eq!(verdict(&mut client, &made.token, "status.read", Some("198.51.100.7")).as_str(), "function_denied");
    let again = daemon.json(&["advise", key, "--apply", "--yes"]);
    assert_eq!(again["changed"], serde_json::json!([]), "nothing is left to tighten");
}

#[test]
fn a_command_that_was_advised_does_what_it_says() {
    let daemon = Daemon::start();
    let made = made(&daemon.json(&["create", "--account=-x; touch pwned", "--name=$(id) 'y'", "--grant", "leads.*"]));
    verdict(&mut daemon.client(), &made.token, "leads.list", Some("198.51.100.7"));
    eventually("it is flushed", || daemon.json(&["usage", &made.id])["total"] == 1);
    let command = text(&advice(&daemon, &made.id, "wide_grant")["command"]);
    let (bin, run) = (std::path::Path::new(COMMAND).parent().expect("a folder"), daemon.run_dir());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(&command).env("PATH", path).env("DOORWARD_RUN_DIR", run).current_dir(daemon.home());
    let output = shell.output().expect("a shell");
    assert!(output.status.success(), "{command}: {output:?}");
    assert_eq!(texts(&daemon.json(&["show", &made.id])["grants"]), ["leads.list"]);
}

#[test]
fn keys_are_chosen_and_kinds_too() {
    let daemon = Daemon::start();
    daemon.create("acme/a", &["--grant", "leads.list"]);
    daemon.create("bolt/b", &["--grant", "leads.list", "--expires", "20d"]);
    let kinds = |args: &[&str]| {
        let list = daemon.json(args);
        let found = list["advice"].as_array().expect("a list").iter().map(|advice| (text(&advice["key"]), text(&advice["kind"])));
        found.collect::<Vec<_>>()
    };
    let pair = |key: &str, kind: &str| (key.to_owned(), kind.to_owned());
    // That neither was ever used is no news yet.
    assert_eq!(kinds(&["advise"]), [pair("acme/a", "no_expiry"), pair("bolt/b", "expiring")]);
    assert_eq!(kinds(&["advise", "--account", "bolt"]), [pair("bolt/b", "expiring")]);
    assert_eq!(kinds(&["advise", "--account", "bolt", "--only", "no_expiry"]), []);
    assert_eq!(kinds(&["advise", "--min-history", "1d"]), []);
    let cut = daemon.json(&["advise", "--limit", "1"]);
    assert_eq!((cut["advice"].as_array().map(Vec::len), cut["total"].as_u64(), cut["keys"].as_u64()), (Some(1), Some(2), Some(2)));
    daemon.run(&["advise", "nobody/here"]).refused(66, &["nobody/here"]);
}
