use crate::daemon::Daemon;

#[test]
fn off_is_off_at_once_and_on_is_on() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    for _ in 0..3 {
        assert_eq!(daemon.json(&["disable", "acme/web"])["enabled"], false);
        assert_eq!(daemon.verdict(&token, "leads.list", None), "disabled");
        assert_eq!(daemon.json(&["enable", "acme/web"])["enabled"], true);
        assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
    }
}

#[test]
fn a_key_can_be_made_switched_off() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*", "--disabled"]).token;
    assert_eq!(daemon.verdict(&token, "leads.list", None), "disabled");
    assert_eq!(daemon.json(&["show", "acme/web"])["state"], "disabled");
}
