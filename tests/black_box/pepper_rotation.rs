use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::{Daemon, made, text};

const BASE: &str = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n";

/// Writes the configuration anew; it holds from the next start on.
fn configure(daemon: &Daemon, more: &str) {
    let home = daemon.home().display().to_string();
    fs::write(daemon.home().join("doorward.toml"), format!("{BASE}{more}").replace("{home}", &home)).expect("the configuration");
}

/// From one pepper to the next, as docs/guides/change-the-pepper.md tells it.
#[test]
fn the_pepper_is_changed_from_start_to_end() {
    let mut daemon = Daemon::start_configured(BASE);
    daemon.json(&["functions", "add", "leads.list"]);
    let [a, b, gone] = ["a", "b", "gone"].map(|name| daemon.create(&format!("acme/{name}"), &["--grant", "*"]));
    daemon.json(&["revoke", "acme/gone"]);
    let old = text(&daemon.json(&["status"])["store"]["pepper_id"]);
    daemon.terminate();

    let pepper = daemon.home().join("pepper.new");
    fs::write(&pepper, [9; 32]).expect("a pepper");
    fs::set_permissions(&pepper, fs::Permissions::from_mode(0o600)).expect("its mode");
    configure(&daemon, "pepper_file = \"{home}/pepper.new\"\n");
    let (code, log) = daemon.fail_to_start();
    assert!(code == 78 && log.contains(&old), "the new one alone: {log}");

    let both = "pepper_file = \"{home}/pepper.new\"\nprevious_pepper_file = \"{home}/data/pepper\"\n";
    configure(&daemon, both);
    daemon.start_again();
    let status = daemon.json(&["status"]);
    assert_eq!(text(&status["store"]["previous_pepper_id"]), old);
    assert_ne!(text(&status["store"]["pepper_id"]), old);
    let verdict = |daemon: &Daemon, token: &str| daemon.verdict(token, "leads.list", None);
    assert_eq!([&a, &b, &gone].map(|made| verdict(&daemon, &made.token)), ["ok", "ok", "revoked"], "old tokens stay good");
    let c = daemon.create("acme/c", &["--grant", "*"]);
    // Secrets move to the new pepper by rotation: nobody but their holders knows the tokens.
    let new_a = made(&daemon.json(&["rotate", "acme/a"]));
    let new_b = made(&daemon.json(&["rotate", "acme/b", "--overlap", "7d"]));
    assert_eq!([&a, &b, &c, &new_a, &new_b].map(|made| verdict(&daemon, &made.token)), ["retired", "ok", "ok", "ok", "ok"]);
    assert_eq!(daemon.json(&["check"])["clean"], true);
    daemon.terminate();

    configure(&daemon, "pepper_file = \"{home}/pepper.new\"\n");
    let (code, log) = daemon.fail_to_start();
    assert!(code == 78 && log.contains("1 secrets that are still good need") && log.contains(&old), "too early: {log}");

    configure(&daemon, both);
    daemon.start_again();
    daemon.json(&["rotate", "acme/b", "--finish"]);
    daemon.restart();
    assert!(daemon.json(&["status"])["store"]["previous_pepper_id"].is_null(), "no secret needs it any more");
    daemon.terminate();
    configure(&daemon, "pepper_file = \"{home}/pepper.new\"\n");
    daemon.start_again();
    assert_eq!([&c, &new_a, &new_b].map(|made| verdict(&daemon, &made.token)), ["ok", "ok", "ok"]);
    for ended in [&a, &b, &gone] {
        assert_ne!(verdict(&daemon, &ended.token), "ok");
    }
    let report = daemon.json(&["check"]);
    assert_eq!(report["clean"], true, "{report}");
    let chain = report["parts"].as_array().expect("parts").iter().find(|part| part["part"] == "chain").expect("the chain");
    assert!(text(&chain["note"]).contains("under an earlier pepper"), "{chain}");
}
