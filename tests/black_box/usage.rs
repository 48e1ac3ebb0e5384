use serde_json::Value;

use crate::daemon::{Daemon, eventually, made, verdict};

fn count(view: &Value, fields: &[(&str, &str)]) -> u64 {
    let matches = |row: &&Value| fields.iter().all(|(name, value)| row[*name].to_string().trim_matches('"') == *value);
    view["rows"].as_array().expect("rows").iter().filter(matches).map(|row| row["count"].as_u64().expect("a count")).sum()
}

#[test]
fn every_verify_is_counted_by_function_verdict_secret_and_country() {
    let daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "leads.*"]);
    let new = made(&daemon.json(&["rotate", "acme/web", "--overlap", "1d"]));
    let mut client = daemon.client();
    let mut ask = |times: usize, token: &str, function: &str, ip: &str| {
        for _ in 0..times {
            verdict(&mut client, token, function, Some(ip));
        }
    };
    ask(7, &old.token, "leads.list", "198.51.100.7");
    ask(5, &new.token, "leads.insert", "203.0.113.9");
    ask(3, &new.token, "status.read", "203.0.113.9");
    // The last use is known to the millisecond: within one, it is any of them.
    std::thread::sleep(std::time::Duration::from_millis(10));
    ask(2, &new.token, "nobody.registered", "192.0.2.1");
    eventually("all is flushed", || daemon.json(&["usage", "acme/web"])["total"] == 17);

    let by = |dimensions: &str| daemon.json(&["usage", "acme/web", "--by", dimensions]);
    let functions = by("function,verdict");
    assert_eq!(count(&functions, &[("function", "leads.list"), ("verdict", "ok")]), 7);
    assert_eq!(count(&functions, &[("function", "leads.insert")]), 5);
    assert_eq!(count(&functions, &[("function", "status.read"), ("verdict", "function_denied")]), 3);
    assert_eq!(count(&functions, &[("function", "(unregistered)"), ("verdict", "function_unknown")]), 2);
    let secrets = by("secret");
    assert_eq!((count(&secrets, &[("version", "1")]), count(&secrets, &[("version", "2")])), (7, 10));
    let countries = by("country");
    assert_eq!(count(&countries, &[("country", "DE")]), 7);
    assert_eq!(count(&countries, &[("country", "FR")]), 8);
    assert_eq!(count(&countries, &[("country", "(unknown)")]), 2);

    let key = daemon.json(&["show", "acme/web"]);
    assert_eq!(key["secrets"][0]["last_address"], "198.51.100.7");
    assert_eq!(key["secrets"][0]["last_country"], "DE");
    assert_eq!(key["secrets"][1]["last_address"], "192.0.2.1");
}

#[test]
fn denials_are_told_with_their_reasons() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "leads.*", "--country", "DE"]);
    let mut client = daemon.client();
    verdict(&mut client, &made.token, "leads.list", Some("203.0.113.9"));
    verdict(&mut client, "nonsense", "leads.list", None);
    let find = |wanted: &str| {
        let list = daemon.json(&["denials"]);
        list["denials"].as_array().expect("denials").iter().find(|denial| denial["verdict"] == wanted).cloned()
    };
    eventually("both are told", || find("country_denied").is_some() && find("malformed").is_some());
    let denial = find("country_denied").expect("it");
    assert_eq!(
        (&denial["key_id"], &denial["key"], &denial["country"], &denial["function"]),
        (&made.id.as_str().into(), &"acme/web".into(), &"FR".into(), &"leads.list".into())
    );
    assert!(find("malformed").expect("it")["key_id"].is_null());
    assert!(!daemon.json(&["denials"]).to_string().contains("nonsense"), "not even a bad token is kept");
}

#[test]
fn status_tells_in_one_document_whether_all_is_well() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let mut client = daemon.client();
    verdict(&mut client, &token, "leads.list", None);
    eventually("counted", || daemon.json(&["status"])["verify"]["verifies"] == 1);
    let status = daemon.json(&["status"]);
    assert_eq!((&status["health"], &status["pid"]), (&"ok".into(), &daemon.pid().into()));
    assert_eq!(
        (&status["keys"]["keys"], &status["functions"]["registered"], &status["functions"]["restricted"]),
        (&1.into(), &4.into(), &1.into())
    );
    assert_eq!((&status["verify"]["connections"], &status["verify"]["verdicts"]["ok"]), (&1.into(), &1.into()));
    assert!(status["country_db"]["path"].as_str().is_some_and(|path| path.ends_with("flat.mmdb")));
}
