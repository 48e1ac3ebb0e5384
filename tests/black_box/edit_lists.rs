use crate::daemon::{Daemon, texts};

#[test]
fn lists_are_set_added_to_and_taken_from() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "leads.insert"]);
    let edit = |flags: &str| daemon.json(&[vec!["edit", "acme/web"], flags.split(' ').collect()].concat());

    assert_eq!(texts(&edit("--add-grant leads.list,status.read")["grants"]), ["leads.insert", "leads.list", "status.read"]);
    assert_eq!(texts(&edit("--remove-grant leads.insert")["grants"]), ["leads.list", "status.read"]);
    assert_eq!(texts(&edit("--grant leads.*")["grants"]), ["leads.*"]);
    assert_eq!(texts(&edit("--add-network 10.1.2.3/8 --add-network ::ffff:192.0.2.0/120")["networks"]), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(texts(&edit("--remove-network 10.0.0.0/8")["networks"]), ["192.0.2.0/24"]);
    assert_eq!(texts(&edit("--network any")["networks"]), [""; 0]);
    assert_eq!(texts(&edit("--country de,fr,DE")["countries"]), ["DE", "FR"]);
    assert_eq!(texts(&edit("--remove-country fr --add-country at")["countries"]), ["AT", "DE"]);
    assert_eq!(edit("--add-tag a=1 --add-tag b=2")["tags"], serde_json::json!({"a": "1", "b": "2"}));
    assert_eq!(edit("--remove-tag a --add-tag b=3")["tags"], serde_json::json!({"b": "3"}));
}

#[test]
fn taking_away_what_is_not_there_is_refused() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "leads.insert"]);
    daemon.run(&["edit", "acme/web", "--remove-grant", "leads.list"]).refused(65, &["leads.list"]);
    daemon.run(&["edit", "acme/web", "--remove-network", "10.0.0.0/8"]).refused(65, &["10.0.0.0/8"]);
    assert_eq!(daemon.json(&["show", "acme/web"])["revision"], 1);
}

#[test]
fn an_edit_decides_the_next_verify() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.insert"]).token;
    let steps = [
        ("--network 10.0.0.0/8", "address_denied"),
        ("--network any --country FR", "country_denied"),
        ("--country any --not-before 1h", "not_yet_valid"),
        ("--not-before never --grant status.read", "function_denied"),
        ("--grant leads.*", "ok"),
    ];
    for (flags, verdict) in steps {
        daemon.json(&[vec!["edit", "acme/web"], flags.split(' ').collect()].concat());
        assert_eq!(daemon.verdict(&token, "leads.insert", Some("198.51.100.7")), verdict, "{flags}");
    }
}

#[test]
fn a_new_name_and_account_keep_the_id() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["edit", "acme/web", "--name", "site", "--account", "bolt"]);
    assert_eq!(daemon.json(&["show", "bolt/site"])["id"], made.id.as_str());
    daemon.run(&["show", "acme/web"]).refused(66, &["acme/web"]);
    assert_eq!(daemon.verify(&made.token, "leads.list", None)["account"], "bolt");
    daemon.create("acme/web", &["--grant", "*"]);
    daemon.run(&["edit", "bolt/site", "--name", "web", "--account", "acme"]).refused(73, &["acme/web"]);
}
