use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use doorward::key::Verdict;

use crate::daemon::{Daemon, text};

/// In the test's country database: DE, FR, and no country.
const DE: &str = "198.51.100.7";
const FR: &str = "203.0.113.9";
const NOWHERE: &str = "192.0.2.1";

#[test]
fn every_verdict_is_reached_through_the_command() {
    let daemon = Daemon::start();
    let mut seen = BTreeSet::new();
    let mut expect = |wanted: &str, token: &str, function: &str, ip: Option<&str>| {
        assert_eq!(daemon.verdict(token, function, ip), wanted);
        seen.insert(wanted.to_owned());
    };
    let plain = daemon.create("acme/plain", &["--grant", "leads.insert"]).token;
    expect("ok", &plain, "leads.insert", None);
    expect("function_denied", &plain, "leads.list", None);
    expect("function_unknown", &plain, "nobody.registered", None);
    expect("malformed", "not-a-token", "leads.insert", None);
    let typo = if plain.ends_with('a') { 'b' } else { 'a' };
    expect("malformed", &format!("{}{typo}", &plain[..plain.len() - 1]), "leads.insert", None);
    // A token of another store: it reads as one, but nobody has it.
    expect("unknown", "dw_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13K2MxQ", "leads.insert", None);

    let all = daemon.create("acme/all", &["--grant", "*"]).token;
    expect("function_restricted", &all, "leads.purge", None);
    daemon.json(&["edit", "acme/all", "--add-grant", "leads.purge"]);
    expect("ok", &all, "leads.purge", None);

    let network = daemon.create("acme/network", &["--grant", "*", "--network", "198.51.100.0/24"]).token;
    expect("address_missing", &network, "leads.list", None);
    expect("address_denied", &network, "leads.list", Some(FR));
    expect("ok", &network, "leads.list", Some("::ffff:198.51.100.7"));

    let german = daemon.create("acme/german", &["--grant", "*", "--country", "DE"]).token;
    expect("country_denied", &german, "leads.list", Some(FR));
    expect("country_unknown", &german, "leads.list", Some(NOWHERE));
    expect("ok", &german, "leads.list", Some(DE));
    expect("ok", &german, "leads.list", Some("2001:db8:1::5"));

    let early = daemon.create("acme/early", &["--grant", "*", "--not-before", "1d"]).token;
    expect("not_yet_valid", &early, "leads.list", None);
    let brief = daemon.create("acme/brief", &["--grant", "*", "--expires", "1s"]).token;
    thread::sleep(Duration::from_millis(1_100));
    expect("expired", &brief, "leads.list", None);

    let rotated = daemon.create("acme/rotated", &["--grant", "*"]).token;
    daemon.json(&["rotate", "acme/rotated"]);
    expect("retired", &rotated, "leads.list", None);

    daemon.json(&["disable", "acme/plain"]);
    expect("disabled", &plain, "leads.insert", None);
    daemon.json(&["revoke", "acme/plain"]);
    expect("revoked", &plain, "leads.insert", None);
    daemon.json(&["delete", "acme/plain"]);
    expect("deleted", &plain, "leads.insert", None);

    let every: BTreeSet<String> = Verdict::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(seen, every);
}

#[test]
fn without_a_country_database_countries_let_nobody_in() {
    let daemon = Daemon::start_bare(None);
    daemon.json(&["functions", "add", "leads.list"]);
    let token = daemon.create("acme/open", &["--grant", "*", "--country", "DE", "--unknown-country", "allow"]).token;
    assert_eq!(daemon.verdict(&token, "leads.list", Some(DE)), "country_unknown");
}

#[test]
fn unknown_country_allow_lets_in_whom_the_database_does_not_place() {
    let daemon = Daemon::start_bare(Some(crate::daemon::testdata("country/nested.mmdb")));
    daemon.json(&["functions", "add", "leads.list"]);
    let token = daemon.create("acme/open", &["--grant", "*", "--country", "DE", "--unknown-country", "allow"]).token;
    for (ip, wanted) in [(DE, "ok"), (NOWHERE, "ok"), (FR, "country_denied"), ("2001:db8:2::1", "country_denied")] {
        assert_eq!(daemon.verdict(&token, "leads.list", Some(ip)), wanted, "{ip}");
    }
    assert_eq!(daemon.json(&["country", DE])["country"], "DE");
    let nowhere = daemon.run(&["country", NOWHERE, "--json"]);
    assert!(nowhere.code == 1 && nowhere.json()["country"].is_null(), "{nowhere:?}");
}

#[test]
fn many_requests_over_one_connection_come_back_in_order() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.*"]).token;
    let request = |n: usize| {
        let function = if n.is_multiple_of(3) { "leads.list" } else { "status.read" };
        format!("{{\"token\":\"{token}\",\"function\":\"{function}\",\"ip\":\"{DE}\"}}\n")
    };
    let input: String = (0..3_000).map(request).collect();
    let ran = daemon.run_with_input(&["verify", "--jsonl", "--summary", "--json"], &input);
    assert_eq!(ran.stdout.lines().count(), 3_000, "{}", ran.stderr);
    let summary: serde_json::Value = serde_json::from_str(&ran.stderr).expect("a summary");
    assert_eq!((&summary["answered"], &summary["verdicts"]["ok"]), (&3_000.into(), &1_000.into()));
    // An auto-resizing histogram that is recorded into with saturation stays at its first size: every percentile was 0.
    assert!(summary["latency_us"]["p50"].as_f64().is_some_and(|p50| p50 > 1.0), "{summary}");
    for (n, line) in ran.stdout.lines().enumerate() {
        let answer: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!(text(&answer["verdict"]), if n.is_multiple_of(3) { "ok" } else { "function_denied" });
    }
}
