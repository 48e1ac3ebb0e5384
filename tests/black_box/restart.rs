use serde_json::Value;

use crate::daemon::{Daemon, made};

fn whole(daemon: &Daemon) -> Vec<Value> {
    let lists = [&["list", "--all"][..], &["list", "--deleted"], &["functions", "list"], &["history", "--limit", "1000"]];
    lists.map(|args| daemon.json(args)).to_vec()
}

#[test]
fn a_restart_keeps_everything() {
    let mut daemon = Daemon::start();
    let web = daemon.create("acme/web", &["--grant", "leads.*", "--network", "198.51.100.0/24", "--country", "DE", "--tag", "a=b"]);
    let web_2 = made(&daemon.json(&["rotate", "acme/web", "--overlap", "7d"]));
    let off = daemon.create("acme/off", &["--grant", "*", "--disabled"]);
    let gone = daemon.create("acme/gone", &["--grant", "*"]);
    daemon.json(&["delete", "acme/gone"]);
    let revoked = daemon.create("bolt/revoked", &["--grant", "*"]);
    daemon.json(&["revoke", "bolt/revoked"]);

    let ask =
        |daemon: &Daemon| [&web, &web_2, &off, &gone, &revoked].map(|key| daemon.verify(&key.token, "leads.list", Some("198.51.100.7")));
    let before = (whole(&daemon), ask(&daemon));
    daemon.restart();
    assert_eq!((whole(&daemon), ask(&daemon)), before);
    daemon.json(&["undelete", "acme/gone"]);
    assert_eq!(daemon.verdict(&gone.token, "leads.list", None), "ok");
}

#[test]
fn usage_survives_a_clean_stop() {
    let mut daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let mut client = daemon.client();
    for _ in 0..100 {
        crate::daemon::verdict(&mut client, &token, "leads.list", None);
    }
    drop(client);
    daemon.restart();
    assert_eq!(daemon.json(&["usage", "acme/web"])["total"], 100, "the last counts are flushed at the stop");
}

#[test]
fn a_store_without_its_pepper_is_refused_and_none_is_made() {
    let mut daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    daemon.terminate();
    let pepper = daemon.home().join("data/pepper");
    let bytes = std::fs::read(&pepper).expect("the pepper's file");
    std::fs::remove_file(&pepper).expect("it was there");
    let (code, log) = daemon.fail_to_start();
    assert!(code >= 64 && log.contains("pepper"), "{code}: {log}");
    assert!(!pepper.exists(), "none is made beside a store that has keys");
    let mut wrong = bytes.clone();
    wrong[3] ^= 1;
    let put = |bytes: &[u8]| {
        std::fs::write(&pepper, bytes).expect("a pepper");
        std::fs::set_permissions(&pepper, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    };
    put(&wrong);
    let (code, log) = daemon.fail_to_start();
    assert!(code >= 64 && log.contains("pepper"), "{code}: {log}");
    put(&bytes);
    daemon.start_again();
    assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
}

#[test]
fn two_daemons_never_share_a_store() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let second = daemon.second();
    assert!(second.code >= 64, "{second:?}");
    assert_eq!(daemon.verdict(&token, "leads.list", None), "ok", "the first goes on: {second:?}");
}
