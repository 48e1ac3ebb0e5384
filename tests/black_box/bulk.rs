use crate::daemon::{Daemon, texts};

fn fleet() -> (Daemon, Vec<String>) {
    let daemon = Daemon::start();
    let keys = [("acme/a", "team=red"), ("acme/b", "team=blue"), ("bolt/c", "team=red")];
    let tokens = keys.map(|(key, tag)| daemon.create(key, &["--grant", "*", "--tag", tag]).token);
    (daemon, tokens.to_vec())
}

fn verdicts(daemon: &Daemon, tokens: &[String]) -> Vec<String> {
    tokens.iter().map(|token| daemon.verdict(token, "leads.list", None)).collect()
}

#[test]
fn an_account_is_switched_off_and_on() {
    let (daemon, tokens) = fleet();
    assert_eq!(texts(&daemon.json(&["disable", "--account", "acme", "--yes"])["changed"]).len(), 2);
    assert_eq!(verdicts(&daemon, &tokens), ["disabled", "disabled", "ok"]);
    assert_eq!(texts(&daemon.json(&["enable", "--account", "acme", "--yes"])["changed"]).len(), 2);
    assert_eq!(texts(&daemon.json(&["enable", "--account", "acme", "--yes"])["changed"]).len(), 0, "those that were so are not among them");
    assert_eq!(verdicts(&daemon, &tokens), ["ok", "ok", "ok"]);
}

#[test]
fn a_tag_chooses_across_accounts_and_both_narrow() {
    let (daemon, tokens) = fleet();
    daemon.json(&["disable", "--tag", "team=red", "--yes"]);
    assert_eq!(verdicts(&daemon, &tokens), ["disabled", "ok", "disabled"]);
    daemon.json(&["enable", "--account", "bolt", "--tag", "team=red", "--yes"]);
    assert_eq!(verdicts(&daemon, &tokens), ["disabled", "ok", "ok"]);
}

#[test]
fn settings_of_many_keys_are_edited_with_their_history() {
    let (daemon, tokens) = fleet();
    daemon.json(&["edit", "--account", "acme", "--add-network", "198.51.100.0/24", "--yes"]);
    assert_eq!(verdicts(&daemon, &tokens), ["address_missing", "address_missing", "ok"]);
    for key in ["acme/a", "acme/b"] {
        assert_eq!(daemon.json(&["history", key])["entries"][0]["action"], "edit");
    }
    let untouched = daemon.json(&["edit", "--account", "acme", "--remove-network", "10.0.0.0/8", "--yes"]);
    assert_eq!(texts(&untouched["changed"]).len(), 0, "no key has it");
}

#[test]
fn without_yes_and_without_a_terminal_nothing_is_changed() {
    let (daemon, tokens) = fleet();
    let ran = daemon.run(&["disable", "--account", "acme"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(verdicts(&daemon, &tokens), ["ok", "ok", "ok"]);
}
