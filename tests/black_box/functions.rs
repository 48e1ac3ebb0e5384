use crate::daemon::{Daemon, text};

#[test]
fn the_catalog_is_listed_changed_and_remembered() {
    let daemon = Daemon::start();
    daemon.json(&["functions", "add", "mail.send", "--as", "Ada"]);
    daemon.json(&["functions", "restrict", "mail.send"]);
    daemon.json(&["functions", "unrestrict", "mail.send"]);
    let list = daemon.json(&["functions", "list"]);
    let names: Vec<String> = list["functions"].as_array().expect("functions").iter().map(|function| text(&function["name"])).collect();
    assert_eq!(names, ["leads.insert", "leads.list", "leads.purge", "mail.send", "status.read"]);
    assert_eq!(list["strict"], true);
    daemon.json(&["functions", "remove", "mail.send"]);
    let history = daemon.json(&["history", "--function", "mail.send"]);
    let actions: Vec<String> = history["entries"].as_array().expect("entries").iter().map(|entry| text(&entry["action"])).collect();
    assert_eq!(actions, ["function_remove", "function_unrestrict", "function_restrict", "function_add"]);
    assert_eq!(history["entries"][3]["actor"]["as"], "Ada");
}

#[test]
fn restricting_takes_a_function_from_every_wildcard_at_once() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/all", &["--grant", "*"]).token;
    let by_name = daemon.create("acme/named", &["--grant", "leads.list"]).token;
    daemon.json(&["functions", "restrict", "leads.list"]);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "function_restricted");
    assert_eq!(daemon.verdict(&by_name, "leads.list", None), "ok");
    daemon.json(&["functions", "unrestrict", "leads.list"]);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
}

#[test]
fn what_is_restricted_or_granted_by_name_is_not_removed_in_passing() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.list", "--grant", "leads.insert"]).token;
    assert!(daemon.run(&["functions", "remove", "leads.purge"]).code >= 64, "restricted");
    daemon.run(&["functions", "remove", "leads.list"]).refused(65, &["leads.list"]);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
    daemon.json(&["functions", "remove", "leads.list", "--with-grants", "--yes"]);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "function_unknown");
    assert_eq!(daemon.json(&["show", "acme/web"])["grants"], serde_json::json!(["leads.insert"]));
}

#[test]
fn a_function_is_registered_once_and_granted_only_then() {
    let daemon = Daemon::start();
    daemon.run(&["functions", "add", "leads.list"]).refused(73, &["leads.list"]);
    let ran = daemon.run(&["create", "--account", "acme", "--name", "x", "--grant", "nobody.registered"]);
    ran.refused(65, &["nobody.registered"]);
    for verb in ["restrict", "unrestrict", "remove"] {
        daemon.run(&["functions", verb, "nobody.registered"]).refused(66, &["nobody.registered"]);
    }
}

/// Where the pepper is lost no daemon starts, and the catalog is what a new store has to be given.
#[test]
fn the_catalog_of_a_store_that_no_daemon_uses_is_listed_without_its_pepper() {
    let mut daemon = Daemon::start();
    let data = daemon.home().join("data");
    let list = ["functions", "list", "--data-dir", data.to_str().expect("a path")];
    daemon.run(&list).refused(75, &["in use"]);
    let online = daemon.json(&["functions", "list"])["functions"].clone();
    daemon.terminate();
    std::fs::remove_file(data.join("pepper")).expect("the pepper");
    assert_eq!(daemon.json(&list)["functions"], online);
    let table = daemon.run(&list).stdout;
    assert!(table.lines().any(|line| line.starts_with("leads.purge\trestricted\t")), "{table}");
    assert!(table.lines().any(|line| line.starts_with("leads.list\t-\t")), "{table}");
    daemon.run(&["functions", "list", "--data-dir", "/nonexistent"]).refused(66, &["/nonexistent"]);
}
