use crate::daemon::{Daemon, made};

#[test]
fn a_copy_has_the_same_settings_and_a_secret_of_its_own() {
    let daemon = Daemon::start();
    let original = daemon.create("acme/web", &["--grant", "leads.*", "--country", "DE", "--tag", "a=b", "--description", "Lead form"]);
    let copy = made(&daemon.json(&["copy", "acme/web", "--name", "web-2"]));
    assert_ne!((&copy.id, &copy.token), (&original.id, &original.token));
    let (first, second) = (daemon.json(&["show", "acme/web"]), daemon.json(&["show", "acme/web-2"]));
    for field in ["account", "grants", "countries", "networks", "tags", "description", "expires_at", "unknown_country", "enabled"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    daemon.json(&["disable", "acme/web"]);
    assert_eq!(daemon.verdict(&original.token, "leads.list", Some("198.51.100.7")), "disabled");
    assert_eq!(daemon.verdict(&copy.token, "leads.list", Some("198.51.100.7")), "ok");
}

#[test]
fn a_copy_may_go_to_another_account_but_not_onto_a_name_that_is_taken() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["copy", "acme/web", "--name", "web", "--account", "bolt"]);
    assert_eq!(daemon.json(&["show", "bolt/web"])["account"], "bolt");
    daemon.run(&["copy", "acme/web", "--name", "web"]).refused(73, &["acme/web"]);
    daemon.run(&["copy", "acme/nobody", "--name", "x"]).refused(66, &["acme/nobody"]);
}
