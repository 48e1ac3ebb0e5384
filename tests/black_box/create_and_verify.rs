use crate::daemon::{Daemon, text, texts};

#[test]
fn a_created_key_opens_the_door_it_was_made_for() {
    let daemon = Daemon::start();
    let made = daemon.json(&[
        "create",
        "--account",
        "acme",
        "--name",
        "web",
        "--grant",
        "leads.*",
        "--description",
        "Lead form",
        "--tag",
        "team=web",
    ]);
    let (id, token) = (text(&made["id"]), text(&made["token"]));
    assert!(id.starts_with("key_") && id.len() == 36, "{id}");
    assert!(token.starts_with("dw_") && token.len() == 52, "its length is {}", token.len());
    assert_eq!(made["version"], 1);

    let answer = daemon.verify(&token, "leads.insert", None);
    for (field, value) in [("verdict", "ok"), ("key_id", &id), ("account", "acme")] {
        assert_eq!(answer[field], value, "{answer}");
    }
    assert_eq!((&answer["version"], &answer["retiring"]), (&1.into(), &false.into()), "{answer}");
    assert!(answer["expires_at"].is_null() && answer["retires_at"].is_null(), "{answer}");
    assert_eq!(daemon.verdict(&token, "status.read", None), "function_denied");
}

#[test]
fn a_key_is_shown_by_id_and_by_name_with_every_field() {
    let daemon = Daemon::start();
    let flags = "--grant leads.insert,status.read --network 203.0.113.9/24 2001:db8::/32 --country de --country FR --unknown-country allow --expires 2999-01-31 --not-before 2020-01-01T00:00:00Z --tag a=b --tag c=d";
    let made = daemon.create("acme/web", &flags.split(' ').collect::<Vec<_>>());
    let key = daemon.json(&["show", "acme/web"]);
    assert_eq!(daemon.json(&["show", &made.id]), key);
    assert_eq!(texts(&key["grants"]), ["leads.insert", "status.read"]);
    assert_eq!(texts(&key["networks"]), ["203.0.113.0/24", "2001:db8::/32"], "host bits are cleared");
    assert_eq!(texts(&key["countries"]), ["DE", "FR"]);
    assert_eq!(key["tags"], serde_json::json!({"a": "b", "c": "d"}));
    for (field, value) in
        [("unknown_country", "allow"), ("state", "active"), ("expires_at", "2999-01-31T00:00:00Z"), ("not_before", "2020-01-01T00:00:00Z")]
    {
        assert_eq!(key[field], value);
    }
    assert_eq!((&key["revision"], &key["enabled"]), (&1.into(), &true.into()));
    assert_eq!(key["secrets"][0]["state"], "current");
    assert!(!key.to_string().contains(&made.token));
}

#[test]
fn a_repeat_under_a_request_id_makes_no_second_key() {
    let daemon = Daemon::start();
    let first = daemon.json(&["create", "--account", "acme", "--name", "ci", "--grant", "*", "--request-id", "job-1"]);
    let again = daemon.json(&["create", "--account", "acme", "--name", "ci", "--grant", "*", "--request-id", "job-1"]);
    assert_eq!((&again["id"], &again["version"], &again["replayed"]), (&first["id"], &first["version"], &true.into()));
    assert!(again.get("token").is_none_or(|token| token.is_null()), "a token is told once");
    assert_eq!(daemon.json(&["list"])["keys"].as_array().expect("keys").len(), 1);
}

#[test]
fn identify_and_explain_tell_whose_and_why() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "leads.*", "--country", "DE"]);
    let identified = daemon.run_with_input(&["identify", "--token-file", "-", "--json"], &made.token).json();
    assert_eq!((&identified["key"]["id"], &identified["version"]), (&made.id.as_str().into(), &1.into()));
    let explain = daemon.run(&["explain", "--key", "acme/web", "--function", "leads.purge", "--ip", "203.0.113.9", "--json"]).json();
    assert_eq!(explain["verdict"], "country_denied");
    assert_eq!(explain["country"], "FR");
    let failed = |check: &&serde_json::Value| check["passes"] == false;
    let failing: Vec<String> = explain["checks"].as_array().expect("checks").iter().filter(failed).map(|c| text(&c["verdict"])).collect();
    assert_eq!(
        failing,
        ["country_denied", "function_restricted", "function_denied"],
        "explain shows every check, not only the first that fails"
    );
}
