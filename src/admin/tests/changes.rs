//! From create to audit.

use super::*;

#[test]
fn a_key_lives_its_life() {
    let served = Served::start();
    served.post("/v1/functions", r#"{"name":"leads.insert"}"#, 201);
    let made =
        served.post("/v1/keys", r#"{"name":"web","account":"acme","grants":["leads.*"],"tags":{"team":"sales"},"request_id":"r1"}"#, 201);
    let token = made["token"].as_str().unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(crate::key::reads_as_token(token.as_bytes()));
    assert_eq!((made["version"].as_u64(), made["replayed"].as_bool()), (Some(1), Some(false)));
    let again =
        served.post("/v1/keys", r#"{"name":"web","account":"acme","grants":["leads.*"],"tags":{"team":"sales"},"request_id":"r1"}"#, 200);
    assert_eq!((again["id"].as_str(), again["replayed"].as_bool(), again.get("token")), (Some(id), Some(true), None));

    for found in ["", "?account=acme", "?name=w*", "?tag=team%3Dsales", "?state=active", "?function=leads.insert", "?account=acme&name=web"]
    {
        assert_eq!(served.get(&format!("/v1/keys{found}"))["keys"][0]["id"], id, "{found}");
    }
    for none in
        ["?account=acm", "?name=we", "?tag=team%3Dops", "?state=disabled", "?function=leads", "?expiring_within=30d", "?deleted=true"]
    {
        assert_eq!(served.get(&format!("/v1/keys{none}"))["keys"].as_array().unwrap().len(), 0, "{none}");
    }

    let shown = served.ask("GET", "/v1/keys/acme%2Fweb", "");
    assert!(shown.head.contains("etag: \"1\""), "{shown:?}");
    let stale = served.ask_with("PATCH", "/v1/keys/acme%2Fweb", "if-match: \"9\"\r\n", r#"{"description":"d"}"#);
    assert_eq!((stale.status, stale.problem().0.as_str()), (412, "revision-mismatch"));
    let headers = "if-match: \"1\"\r\nx-doorward-as: J%C3%B6rg\r\n";
    let edited = served.ask_with("PATCH", &format!("/v1/keys/{id}"), headers, r#"{"description":"d","expires_at":"2100-01-01T00:00:00Z"}"#);
    assert_eq!((edited.status, edited.json()["description"].as_str()), (200, Some("d")));
    assert!(edited.head.contains("etag: \"2\""), "{edited:?}");

    let rotated = served.post(&format!("/v1/keys/{id}/rotate"), r#"{"overlap":"7d"}"#, 201);
    assert_eq!(rotated["version"], 2);
    assert_eq!(rotated["key"]["secrets"][0]["state"], "retiring");
    assert_eq!(served.post(&format!("/v1/keys/{id}/rotate"), r#"{"finish":true}"#, 200)["secrets"][0]["state"], "retired");
    assert_eq!(served.post("/v1/keys/acme%2Fweb/disable", "", 200)["state"], "disabled");
    assert_eq!(served.post("/v1/keys/acme%2Fweb/enable", "", 200)["state"], "active");
    let copied = served.post("/v1/keys/acme%2Fweb/copy", r#"{"name":"copy"}"#, 201);
    assert_eq!(copied["key"]["description"], "d");
    assert_eq!(
        served.post("/v1/keys-bulk", r#"{"select":{"account":"acme"},"action":"disable"}"#, 200)["changed"].as_array().unwrap().len(),
        2
    );
    assert_eq!(served.post("/v1/keys/acme%2Fweb/revoke", r#"{"version":1}"#, 200)["secrets"][0]["state"], "revoked");

    let history = served.get("/v1/keys/acme%2Fweb/history?limit=5");
    assert_eq!(history["entries"][0]["action"], "revoke");
    let older = served.get(&format!("/v1/keys/acme%2Fweb/history?before={}", history["next"]));
    let edit = older["entries"].as_array().unwrap().iter().find(|entry| entry["action"] == "edit").unwrap();
    assert_eq!(
        (edit["actor"]["as"].as_str(), edit["actor"]["uid"].as_u64()),
        (Some("J\u{f6}rg"), Some(rustix::process::getuid().as_raw().into()))
    );
    assert_eq!(edit["changes"].as_array().unwrap().len(), 2, "{edit}");
    assert!(!history.to_string().contains(token) && !older.to_string().contains(token));

    assert_eq!(served.ask("DELETE", &format!("/v1/keys/{id}"), "").json()["state"], "deleted");
    let gone = served.ask("PATCH", &format!("/v1/keys/{id}"), r#"{"description":"e"}"#);
    assert_eq!((gone.status, gone.problem().0.as_str()), (410, "deleted"));
    assert_eq!(served.get("/v1/keys?deleted=true")["keys"][0]["id"], id);
    assert_eq!(served.get("/v1/keys/acme%2Fweb")["state"], "deleted");
    assert_eq!(served.post("/v1/keys/acme%2Fweb/undelete", "", 200)["id"], id);
    let status = served.get("/v1/status");
    assert_eq!((status["health"].as_str(), status["keys"]["keys"].as_u64()), (Some("ok"), Some(2)), "{status}");
}

#[test]
fn a_token_is_identified_and_explained() {
    let served = Served::start();
    served.post("/v1/functions", r#"{"name":"leads.insert","restricted":true}"#, 201);
    let made = served.post("/v1/keys", r#"{"name":"web","account":"acme","grants":["leads.*"],"networks":["192.0.2.0/24"]}"#, 201);
    let token = made["token"].as_str().unwrap();
    let found = served.post("/v1/identify", &format!(r#"{{"token":"{token}"}}"#), 200);
    assert_eq!((found["key"]["name"].as_str(), found["version"].as_u64()), (Some("web"), Some(1)));
    let unknown = served.post("/v1/identify", r#"{"token":"hello"}"#, 200);
    assert_eq!((unknown["key"].is_null(), unknown["reads_as_token"].as_bool()), (true, Some(false)));

    let explain =
        |token: &str, ip: &str| served.post("/v1/explain", &format!(r#"{{"token":"{token}","function":"leads.insert","ip":"{ip}"}}"#), 200);
    let restricted = explain(token, "::ffff:192.0.2.1");
    assert_eq!(restricted["verdict"], "function_restricted");
    assert_eq!(restricted["checks"].as_array().unwrap().len(), 15);
    let failed: Vec<&Value> = restricted["checks"].as_array().unwrap().iter().filter(|check| check["passes"] == false).collect();
    assert_eq!(
        failed.iter().map(|check| check["verdict"].as_str().unwrap()).collect::<Vec<_>>(),
        ["function_restricted", "function_denied"]
    );
    assert!(failed[0]["because"].as_str().unwrap().contains("exact name"), "{failed:?}");
    assert_eq!(explain(token, "198.51.100.1")["verdict"], "address_denied");
    assert_eq!(explain("hello", "192.0.2.1")["verdict"], "malformed");
    let by_key = served.post("/v1/explain", r#"{"key":"acme/web","function":"leads.insert"}"#, 200);
    assert_eq!((by_key["verdict"].as_str(), by_key["checks"].as_array().unwrap().len()), (Some("address_missing"), 13));
    for check in by_key["checks"].as_array().unwrap() {
        assert!(check["because"].as_str().is_some_and(|because| !because.is_empty()), "{check}");
    }
}

#[test]
fn pages_go_through_everything_once() {
    let served = Served::start();
    for n in 0..25 {
        served.post("/v1/keys", &format!(r#"{{"name":"k{n}","account":"a{}"}}"#, n % 2), 201);
    }
    for (filter, expected) in [("", 25), ("&account=a0", 13), ("&name=k1*", 11)] {
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let page = served.get(&format!("/v1/keys?limit=4{filter}{after}"));
            seen.extend(page["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen.len(), expected, "{filter}");
        assert!(seen.is_sorted_by(|a, b| a < b), "{filter}");
    }
}

#[test]
fn functions_have_their_catalog_and_history() {
    let served = Served::start();
    served.post("/v1/functions", r#"{"name":"a/b:c"}"#, 201);
    served.post("/v1/keys", r#"{"name":"web","account":"acme","grants":["a/b:c"]}"#, 201);
    assert_eq!(served.ask("PATCH", "/v1/functions/a%2Fb:c", r#"{"restricted":true}"#).json()["restricted"], true);
    assert_eq!(served.ask("DELETE", "/v1/functions/a%2Fb:c?with_grants=true", "").status, 409);
    assert_eq!(served.ask("PATCH", "/v1/functions/a%2Fb:c", r#"{"restricted":false}"#).status, 200);
    assert_eq!(served.ask("DELETE", "/v1/functions/a%2Fb:c", "").status, 409);
    let removed = served.ask("DELETE", "/v1/functions/a%2Fb:c?with_grants=true", "");
    assert_eq!(removed.json()["keys"].as_array().unwrap().len(), 1, "{removed:?}");
    assert_eq!(served.get("/v1/functions")["functions"].as_array().unwrap().len(), 0);
    assert_eq!(served.get("/v1/functions/a%2Fb:c/history")["entries"][0]["action"], "function_remove");
    assert_eq!(served.ask("GET", "/v1/functions/never/history", "").status, 404);
}

#[test]
fn the_order_to_stop_is_obeyed_with_a_connection_open() {
    let mut served = Served::start();
    let idle = served.connect();
    served.get("/v1/status");
    let begun = std::time::Instant::now();
    served.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "an idle connection held the stop up");
    drop(idle);
}
