use std::thread;

use crate::daemon::{Daemon, made, run_in};

/// SIGKILL as soon as the reply is there: the change and its history entry are there too.
#[test]
fn what_was_acknowledged_is_there_after_sigkill() {
    let mut daemon = Daemon::start();
    let mut token = daemon.create("acme/web", &["--grant", "leads.*"]).token;
    let steps: [(&[&str], &str, &str); 7] = [
        (&["disable", "acme/web"], "disable", "disabled"),
        (&["enable", "acme/web"], "enable", "ok"),
        (&["edit", "acme/web", "--grant", "status.read"], "edit", "function_denied"),
        (&["edit", "acme/web", "--grant", "leads.list"], "edit", "ok"),
        (&["rotate", "acme/web"], "rotate", "ok"),
        (&["revoke", "acme/web"], "revoke", "revoked"),
        (&["delete", "acme/web"], "delete", "deleted"),
    ];
    let id = daemon.json(&["show", "acme/web"])["id"].as_str().expect("an id").to_owned();
    for (verb, action, verdict) in steps {
        let reply = daemon.json(verb);
        daemon.kill9();
        if action == "rotate" {
            token = made(&reply).token;
        }
        daemon.start_again();
        assert_eq!(daemon.verdict(&token, "leads.list", None), verdict, "after {action}");
        assert_eq!(daemon.json(&["history", &id])["entries"][0]["action"], action);
    }
}

#[test]
fn a_created_key_and_a_function_survive_sigkill() {
    let mut daemon = Daemon::start();
    for n in 0..3 {
        let function = format!("new.f{n}");
        daemon.json(&["functions", "add", &function]);
        let token = daemon.create(&format!("acme/k{n}"), &["--grant", &function]).token;
        daemon.kill9();
        daemon.start_again();
        assert_eq!(daemon.verdict(&token, &function, None), "ok");
    }
}

/// SIGKILL in the middle of an import: every key that was seen is there, and no part of a batch.
#[test]
fn a_killed_import_leaves_whole_batches() {
    let mut daemon = Daemon::start();
    let total = 150_000;
    let lines: String =
        (0..total).map(|n| format!("{{\"name\":\"k{n}\",\"account\":\"acme\",\"token\":\"a-token-made-elsewhere-{n:06}\"}}\n")).collect();
    let run_dir = daemon.run_dir();
    let import = thread::spawn(move || run_in(&run_dir, &["import", "-", "--jsonl"], &lines));
    let keys = |daemon: &Daemon| daemon.json(&["status"])["keys"]["keys"].as_u64().expect("a count");
    let mut seen = 0;
    while seen < 3_000 {
        seen = keys(&daemon);
    }
    daemon.kill9();
    assert_ne!(import.join().expect("the import").code, 0);
    daemon.start_again();
    let kept = keys(&daemon);
    assert!(kept >= seen && kept < total && kept.is_multiple_of(1_000), "{seen} were seen, {kept} of {total} are there");
    // A token that nobody has, and that was not made here, reads as malformed.
    for (n, verdict) in [(0, "function_denied"), (kept - 1, "function_denied"), (kept, "malformed")] {
        assert_eq!(daemon.verdict(&format!("a-token-made-elsewhere-{n:06}"), "leads.list", None), verdict, "key {n} of {kept}");
    }
}
