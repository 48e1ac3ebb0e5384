use crate::daemon::Daemon;

#[test]
fn a_deleted_key_leaves_a_tombstone_and_comes_back() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["delete", "acme/web"]);
    assert_eq!(daemon.verdict(&made.token, "leads.list", None), "deleted");
    assert_eq!(daemon.json(&["list"])["keys"].as_array().expect("keys").len(), 0);
    let tombstones = daemon.json(&["list", "--deleted"]);
    assert_eq!(tombstones["keys"][0]["id"], made.id.as_str());
    assert!(tombstones["keys"][0]["deleted_at"].is_string());
    assert_eq!(daemon.json(&["history", &made.id])["entries"].as_array().expect("entries").len(), 2, "its history stays");

    daemon.json(&["undelete", &made.id]);
    assert_eq!(daemon.verdict(&made.token, "leads.list", None), "ok");
    daemon.json(&["delete", &made.id]);
    daemon.json(&["undelete", "acme/web"]);
    assert_eq!(daemon.verdict(&made.token, "leads.list", None), "ok");
}

#[test]
fn the_name_is_free_again_and_may_stand_in_the_way() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["delete", "acme/web"]);
    let new = daemon.create("acme/web", &["--grant", "*"]);
    daemon.run(&["undelete", &old.id]).refused(73, &["acme/web"]);
    assert_eq!(daemon.verdict(&old.token, "leads.list", None), "deleted");
    assert_eq!(daemon.verdict(&new.token, "leads.list", None), "ok");
}

#[test]
fn a_key_that_is_not_deleted_cannot_be_undeleted_and_a_deleted_one_not_changed() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "*"]);
    assert!(daemon.run(&["undelete", &made.id]).code >= 64);
    daemon.json(&["delete", &made.id]);
    for verb in [&["edit", &made.id, "--description", "x"][..], &["enable", &made.id], &["rotate", &made.id], &["delete", &made.id]] {
        let ran = daemon.run(verb);
        assert!(ran.code >= 64, "{verb:?}: {ran:?}");
    }
    assert_eq!(daemon.json(&["history", &made.id])["entries"].as_array().expect("entries").len(), 2, "what is refused leaves no entry");
}
