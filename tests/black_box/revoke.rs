use crate::daemon::{Daemon, made};

#[test]
fn the_newest_secret_is_revoked_unless_another_is_named() {
    let daemon = Daemon::start();
    let first = daemon.create("acme/web", &["--grant", "*"]);
    let second = made(&daemon.json(&["rotate", "acme/web", "--overlap", "1d"]));
    daemon.json(&["revoke", "acme/web", "--version", "1"]);
    assert_eq!(daemon.verdict(&first.token, "leads.list", None), "revoked");
    assert_eq!(daemon.verdict(&second.token, "leads.list", None), "ok");
    daemon.json(&["revoke", "acme/web"]);
    assert_eq!(daemon.verdict(&second.token, "leads.list", None), "revoked");
    assert_eq!(daemon.json(&["show", "acme/web"])["state"], "revoked");
}

#[test]
fn a_revoked_key_lives_on_with_a_new_secret() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["revoke", "acme/web"]);
    let new = made(&daemon.json(&["rotate", "acme/web"]));
    assert_eq!(daemon.verdict(&new.token, "leads.list", None), "ok");
    assert_eq!(daemon.verdict(&old.token, "leads.list", None), "revoked", "revoked is for good");
}

#[test]
fn a_version_that_the_key_never_had_is_refused() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    let ran = daemon.run(&["revoke", "acme/web", "--version", "7"]);
    assert!(ran.code >= 64, "{ran:?}");
    assert!(ran.stderr.contains('7'), "{ran:?}");
}
