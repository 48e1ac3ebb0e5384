use crate::daemon::{Daemon, made};

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
