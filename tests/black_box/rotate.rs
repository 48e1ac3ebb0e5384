use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, made, text};

#[test]
fn without_overlap_the_old_secret_retires_at_once() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "*"]);
    let new = made(&daemon.json(&["rotate", "acme/web"]));
    assert_eq!(new.id, old.id, "rotation never changes the id");
    assert_eq!(daemon.verdict(&old.token, "leads.list", None), "retired");
    assert_eq!(daemon.verify(&new.token, "leads.list", None)["version"], 2);
}

#[test]
fn with_overlap_both_are_good_and_the_old_one_says_that_it_retires() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "*"]);
    let new = made(&daemon.json(&["rotate", "acme/web", "--overlap", "7d"]));
    let answer = daemon.verify(&old.token, "leads.list", None);
    assert_eq!((text(&answer["verdict"]), &answer["retiring"], &answer["version"]), ("ok".into(), &true.into(), &1.into()));
    assert!(answer["retires_at"].is_string(), "{answer}");
    let answer = daemon.verify(&new.token, "leads.list", None);
    assert_eq!((text(&answer["verdict"]), &answer["retiring"]), ("ok".into(), &false.into()));
    assert!(answer["retires_at"].is_null());
}

#[test]
fn an_overlap_ends_by_itself() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "*"]);
    daemon.json(&["rotate", "acme/web", "--overlap", "1s"]);
    assert_eq!(daemon.verdict(&old.token, "leads.list", None), "ok");
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(daemon.verdict(&old.token, "leads.list", None), "retired");
    for flags in [&["--extend", "1d"][..], &["--finish"], &["--cancel"]] {
        daemon.run(&[&["rotate", "acme/web"], flags].concat()).refused(65, &["retire"]);
    }
}

#[test]
fn extend_finish_and_cancel() {
    let daemon = Daemon::start();
    let first = daemon.create("acme/web", &["--grant", "*"]);
    let retires = |secret: usize| daemon.json(&["show", "acme/web"])["secrets"][secret]["retires_at"].clone();

    let second = made(&daemon.json(&["rotate", "acme/web", "--overlap", "1h"]));
    let before = text(&retires(0));
    daemon.json(&["rotate", "acme/web", "--extend", "7d"]);
    assert!(text(&retires(0)) > before, "extended");
    daemon.json(&["rotate", "acme/web", "--finish"]);
    assert_eq!(daemon.verdict(&first.token, "leads.list", None), "retired");
    assert_eq!(daemon.verdict(&second.token, "leads.list", None), "ok");

    let third = made(&daemon.json(&["rotate", "acme/web", "--overlap", "1h"]));
    daemon.json(&["rotate", "acme/web", "--cancel"]);
    assert_eq!(daemon.verdict(&third.token, "leads.list", None), "revoked");
    let answer = daemon.verify(&second.token, "leads.list", None);
    assert_eq!((text(&answer["verdict"]), &answer["retiring"]), ("ok".into(), &false.into()), "the old one is current again");
    assert_eq!(daemon.verdict(&first.token, "leads.list", None), "retired", "what had retired before stays so");
}

#[test]
fn an_overlap_is_capped_by_the_expiry() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*", "--expires", "1d"]);
    daemon.json(&["rotate", "acme/web", "--overlap", "30d"]);
    let key = daemon.json(&["show", "acme/web"]);
    assert_eq!(key["secrets"][0]["retires_at"], key["expires_at"]);
}

#[test]
fn a_repeat_under_a_request_id_makes_no_second_secret() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    let first = daemon.json(&["rotate", "acme/web", "--overlap", "1d", "--request-id", "r-1"]);
    let again = daemon.json(&["rotate", "acme/web", "--overlap", "1d", "--request-id", "r-1"]);
    assert_eq!((&again["id"], &again["version"], &again["replayed"]), (&first["id"], &2.into(), &true.into()));
    assert!(again.get("token").is_none_or(|token| token.is_null()));
    assert_eq!(daemon.verdict(&text(&first["token"]), "leads.list", None), "ok");
    assert_eq!(daemon.json(&["show", "acme/web"])["secrets"].as_array().expect("secrets").len(), 2);
}

#[test]
fn deleted_and_expired_keys_refuse() {
    let daemon = Daemon::start();
    daemon.create("acme/brief", &["--grant", "*", "--expires", "1s"]);
    let gone = daemon.create("acme/gone", &["--grant", "*"]);
    daemon.json(&["delete", "acme/gone"]);
    daemon.run(&["rotate", &gone.id]).refused(65, &["deleted"]);
    thread::sleep(Duration::from_millis(1_100));
    daemon.run(&["rotate", "acme/brief"]).refused(65, &["expired"]);
}
