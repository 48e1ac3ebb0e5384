use serde_json::Value;

use crate::daemon::{COMMAND, Daemon, eventually, made, text, verdict};

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
    verdict(&mut client, "nonsense", "leads.list", None);
    eventually("that is flushed, too", || daemon.json(&["usage"])["total"] == 18);
    let secrets = daemon.json(&["usage", "--by", "secret"]);
    assert_eq!((&secrets["rows"][0]["version"], &secrets["rows"][0]["count"]), (&Value::Null, &1.into()), "a token that no key has");
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

/// The rows of a report as (field, count).
fn counts(view: &Value, field: &str) -> Vec<(String, u64)> {
    let rows = view["rows"].as_array().expect("rows");
    rows.iter().map(|row| (text(&row[field]), row["count"].as_u64().expect("a count"))).collect()
}

/// Runs `usage` with a time zone.
fn usage_in(daemon: &Daemon, zone: &str, args: &[&str]) -> String {
    let mut command = std::process::Command::new(COMMAND);
    let output = command.arg("usage").args(args).env("TZ", zone).env("DOORWARD_RUN_DIR", daemon.run_dir()).output().expect("the command");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_keys_that_are_used_most_are_told_with_all_others_together() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for (number, times) in [("one", 1), ("five", 5), ("three", 3), ("four", 4), ("two", 2), ("none", 0)] {
        let made = daemon.create(&format!("acme/{number}"), &["--grant", "leads.*"]);
        for _ in 0..times {
            verdict(&mut client, &made.token, "leads.list", None);
        }
        if number == "five" {
            for _ in 0..5 {
                verdict(&mut client, &made.token, "status.read", None);
            }
        }
    }
    for _ in 0..7 {
        verdict(&mut client, "nonsense", "leads.list", None);
    }
    eventually("all is flushed", || daemon.json(&["usage"])["total"] == 27);

    let top = daemon.json(&["usage", "--top", "2"]);
    let named = |name: &str, count| (name.to_owned(), count);
    assert_eq!(counts(&top, "key"), [named("acme/five", 10), named("acme/four", 4), named("(no key)", 7), named("(others)", 6)]);
    assert_eq!((&top["total"], &top["denied"]), (&27.into(), &12.into()));
    assert_eq!((&top["rows"][0]["denied"], &top["rows"][3]["keys"]), (&5.into(), &3.into()));
    assert!(top["rows"][0]["key_id"].as_str().is_some_and(|id| id.starts_with("key_")) && top["rows"][3]["key_id"].is_null(), "{top}");

    let verdicts = daemon.json(&["usage", "--top", "1", "--by", "verdict"]);
    let of = |key: &str, verdict: &str| count(&verdicts, &[("key", key), ("verdict", verdict)]);
    assert_eq!((of("acme/five", "ok"), of("acme/five", "function_denied"), of("(others)", "ok")), (5, 5, 10));
    let all: Vec<String> =
        counts(&daemon.json(&["usage", "--account", "acme", "--top", "9"]), "key").into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, ["acme/five", "acme/four", "acme/three", "acme/two", "acme/one"], "no others, and nobody's tokens are of no account");
    let plain = daemon.run(&["usage", "--top", "1"]).stdout;
    let lines: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').take(2).collect()).collect();
    assert_eq!(lines, [["KEY", "VERIFIES"], ["acme/five", "10"], ["(no key)", "7"], ["(others)", "10"]]);
    daemon.run(&["usage", "acme/five", "--top", "3"]).refused(64, &["--top"]);
    for report in ["usage", "unusual", "advise"] {
        daemon.run(&[report, "--account", "acne"]).refused(66, &["'acne'"]);
    }
}

#[test]
fn a_table_for_a_spreadsheet_holds_no_formula() {
    let daemon = Daemon::start();
    let made = daemon.create("=cmd|'!A0/a \"b\", c", &["--grant", "leads.*"]);
    let mut client = daemon.client();
    for _ in 0..3 {
        verdict(&mut client, &made.token, "leads.list", None);
    }
    eventually("all is flushed", || daemon.json(&["usage"])["total"] == 3);
    let csv = daemon.run(&["usage", "--by", "key,function", "--csv"]).stdout;
    assert_eq!(csv, format!("key_id,key,function,count,denied\r\n{},\"'=cmd|'!A0/a \"\"b\"\", c\",leads.list,3,0\r\n", made.id));
    let csv = daemon.run(&["usage", "--csv", "--by", "minute", "--last", "2m"]).stdout;
    assert!(csv.starts_with("at,count,denied\r\n20") && csv.lines().count() == 4, "{csv}");
    daemon.run(&["usage", "--csv", "--json"]).refused(64, &["--csv"]);
}

#[test]
fn hours_and_days_are_those_of_the_local_clock() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "leads.*"]);
    verdict(&mut daemon.client(), &made.token, "leads.list", None);
    eventually("all is flushed", || daemon.json(&["usage"])["total"] == 1);
    for (zone, offset, ends) in
        [("Asia/Kathmandu", "+05:45", ["15:00Z"]), ("Asia/Kolkata", "+05:30", ["30:00Z"]), ("UTC", "+00:00", ["00:00Z"])]
    {
        let view: Value = serde_json::from_str(&usage_in(&daemon, zone, &["--by", "hour", "--local", "--json"])).expect("JSON");
        assert_eq!(view["total"], 1);
        for row in view["rows"].as_array().expect("rows") {
            let (at, local) = (text(&row["at"]), text(&row["local"]));
            assert!(local.ends_with(&format!(":00:00{offset}")), "{zone}: {local}");
            assert!(ends.iter().any(|end| at.ends_with(end)), "{zone}: {at}");
        }
        let days: Value = serde_json::from_str(&usage_in(&daemon, zone, &["--by", "day", "--local", "--json"])).expect("JSON");
        assert!(
            days["rows"].as_array().expect("rows").iter().all(|row| text(&row["local"]).ends_with(&format!("T00:00:00{offset}"))),
            "{days}"
        );
        assert!(usage_in(&daemon, zone, &["--by", "hour", "--local"]).contains(&format!(":00:00{offset}\t")));
    }
    // A date is the midnight of the reader.
    let view: Value =
        serde_json::from_str(&usage_in(&daemon, "Asia/Kathmandu", &["--since", "2026-01-01", "--local", "--json"])).expect("JSON");
    assert_eq!(view["since"], "2025-12-31T18:15:00Z");
    assert_eq!(
        serde_json::from_str::<Value>(&usage_in(&daemon, "Asia/Kathmandu", &["--since", "2026-01-01", "--json"])).expect("JSON")["since"],
        "2026-01-01T00:00:00Z"
    );
}

#[test]
fn what_was_not_counted_is_unknown_and_not_zero() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "leads.*"]);
    verdict(&mut daemon.client(), &made.token, "leads.list", None);
    eventually("all is flushed", || daemon.json(&["usage"])["total"] == 1);
    // The daemon has been there for seconds: of the ten minutes before at most two are known.
    let view = daemon.json(&["usage", "--by", "minute", "--last", "10m"]);
    let (rows, unknown) = (view["rows"].as_array().expect("rows").len(), view["unknown_periods"].as_array().expect("unknown").len());
    assert!((1..=3).contains(&rows) && (8..=10).contains(&unknown), "{view}");
    assert_eq!(view["unknown"][0]["since"], view["since"], "{view}");
    assert_eq!(view["unknown"].as_array().expect("intervals").len(), 1, "{view}");
    let csv = daemon.run(&["usage", "--by", "minute", "--last", "10m", "--csv"]).stdout;
    assert!(csv.lines().nth(1).is_some_and(|line| line.ends_with("Z,,")), "{csv}");
    let plain = daemon.run(&["usage", "--by", "minute", "--last", "10m"]).stdout;
    assert!(plain.lines().nth(1).is_some_and(|line| line.ends_with("Z\tunknown\t")), "{plain}");
    assert!(daemon.run(&["usage"]).stdout.contains("\nunknown: "));
    // The hour of the start is known in part: its count is a number, and what is missing of it is told beside it.
    for table in [&["--by", "hour"][..], &["--by", "hour", "--csv"], &["--by", "function,hour"], &["--top", "3"], &["--csv"]] {
        let ran = daemon.run(&[&["usage", "--last", "1h"], table].concat());
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(matches!(lines[..], [line] if line.starts_with("unknown: 20") && line.contains("Z to 20")), "{table:?}: {ran:?}");
        assert!(!ran.stdout.contains("unknown: "), "{table:?}: {ran:?}");
    }
    assert_eq!(daemon.run(&["usage", "--by", "hour", "--json"]).stderr, "", "the document has it");
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
