use crate::daemon::{Daemon, eventually, made, text, verdict};

/// Tokens that nobody has, a hundred and fifty from one network and a few from another: the daemon writes them each minute, and when it stops.
#[test]
fn guessing_is_told_with_its_network_and_survives_a_restart() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.run(&["unusual"]).code, 0);
    let mut client = daemon.client();
    for number in 0..150 {
        verdict(&mut client, &format!("dw_guess{number}"), "leads.list", Some(&format!("203.0.113.{}", number % 200)));
    }
    for _ in 0..20 {
        verdict(&mut client, "nonsense", "leads.list", Some("198.51.100.7"));
    }
    drop(client);
    daemon.restart();
    let ran = daemon.run(&["unusual", "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let findings = ran.json()["findings"].as_array().expect("a list").clone();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((text(&findings[0]["kind"]), text(&findings[0]["severity"])), ("guessing".into(), "warning".into()));
    assert!(
        text(&findings[0]["evidence"]).starts_with("150 tokens that no key has, from 203.0.113.0/24 in the hour from "),
        "{findings:?}"
    );
    assert_eq!((&findings[0]["key_id"], text(&findings[0]["command"])), (&serde_json::Value::Null, "doorward denials".to_owned()));
    let told = daemon.run(&["unusual"]).stdout;
    assert!(told.starts_with("KEY\tSEVERITY\tKIND\tEVIDENCE\tCOMMAND\n(no key)\twarning\tguessing\t150 tokens"), "{told}");
    assert!(!told.contains("dw_guess"), "{told}");
    assert_eq!(daemon.run(&["unusual", "--severity", "critical"]).code, 0);
    daemon.run(&["unusual", "--since", "40d"]).refused(65, &["since", "31d"]);
}

#[test]
fn a_secret_that_is_replaced_is_told_as_long_as_it_is_used() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "leads.*"]);
    let new = made(&daemon.json(&["rotate", "acme/web", "--overlap", "7d"]));
    let mut client = daemon.client();
    verdict(&mut client, &old.token, "leads.list", Some("198.51.100.7"));
    verdict(&mut client, &new.token, "leads.list", Some("198.51.100.7"));
    eventually("all is flushed", || daemon.json(&["usage", "acme/web"])["total"] == 2);
    let ran = daemon.run(&["unusual", "acme/web", "--json"]);
    let view = ran.json();
    assert_eq!((ran.code, text(&view["findings"][0]["kind"])), (0, "old_secret".to_owned()), "it is within its overlap: {view}");
    assert_eq!(text(&view["findings"][0]["command"]), "doorward rotate acme/web --finish");
    assert_eq!((view["too_young"]["count"].as_u64(), text(&view["too_young"]["keys"][0]["key"])), (Some(1), "acme/web".to_owned()));
    daemon.json(&["rotate", "acme/web", "--finish"]);
    verdict(&mut client, &old.token, "leads.list", Some("198.51.100.7"));
    eventually("it is refused", || daemon.run(&["unusual", "acme/web"]).code == 1);
    let told = daemon.run(&["unusual"]);
    assert!(told.stdout.contains("warning\told_secret\tsecret 1 has retired and was presented once"), "{told:?}");
    assert!(told.stderr.contains("1 of 1 key was first used less than 7 days before"), "{told:?}");
}
