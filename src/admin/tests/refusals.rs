//! What is refused, and how it is said.

use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::admin::access::Peer;
use crate::admin::routes;

#[test]
fn bad_input_is_a_clear_error_and_changes_nothing() {
    let served = Served::start();
    let made = served.post("/v1/keys", r#"{"name":"web","account":"acme"}"#, 201);
    let long = "n".repeat(101);
    let too_long = format!(r#"{{"name":"{long}","account":"acme"}}"#);
    for (method, path, body, status, word, field) in [
        ("POST", "/v1/keys", "", 400, "malformed", None),
        ("POST", "/v1/keys", "{", 400, "malformed", None),
        ("POST", "/v1/keys", "[]", 400, "malformed", None),
        ("POST", "/v1/keys", r#"{"account":"acme"}"#, 422, "invalid", Some("name")),
        ("POST", "/v1/keys", r#"{"name":"","account":"acme"}"#, 422, "invalid", Some("name")),
        ("POST", "/v1/keys", &too_long, 422, "limit", Some("name")),
        ("POST", "/v1/keys", r#"{"name":"web","account":"acme"}"#, 409, "name-taken", Some("name")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a/b"}"#, 422, "invalid", Some("account")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a","expires_at":"2001-01-01T00:00:00Z"}"#, 422, "invalid", Some("expires_at")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a","networks":["::ffff:0:0/90"]}"#, 422, "invalid", Some("networks")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a","countries":["XX"]}"#, 422, "invalid", Some("countries")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a","grants":["nope"]}"#, 422, "invalid", Some("grants")),
        ("POST", "/v1/keys", r#"{"name":"x","account":"a","id":"y"}"#, 422, "invalid", Some("id")),
        ("PATCH", "/v1/keys/acme%2Fweb", r#"{"remove_grants":["x"]}"#, 422, "invalid", Some("grants")),
        ("GET", "/v1/keys/acme%2Fnope", "", 404, "not-found", None),
        ("GET", "/v1/keys/nope", "", 404, "not-found", None),
        ("GET", "/v1/keys/%ff", "", 400, "malformed", None),
        ("GET", "/v1/keys?limit=0", "", 422, "invalid", Some("limit")),
        ("GET", "/v1/keys?limit=1001", "", 422, "limit", Some("limit")),
        ("GET", "/v1/keys?limit=x", "", 422, "invalid", Some("limit")),
        ("GET", "/v1/keys?colour=red", "", 422, "invalid", Some("colour")),
        ("GET", "/v1/keys?state=good", "", 422, "invalid", Some("state")),
        ("GET", "/v1/keys?after=x", "", 422, "invalid", Some("after")),
        ("GET", "/v1/keys?expiring_within=30", "", 422, "invalid", Some("expiring_within")),
        ("GET", "/v1/keys?function=a%20b", "", 422, "invalid", Some("function")),
        ("GET", "/v1/usage?by=country,function", "", 422, "invalid", Some("by")),
        ("GET", "/v1/usage?since=0s", "", 422, "invalid", Some("since")),
        ("GET", "/v1/country/300.1.1.1", "", 422, "invalid", Some("address")),
        ("POST", "/v1/explain", r#"{"function":"f"}"#, 422, "invalid", Some("token")),
        ("POST", "/v1/explain", r#"{"key":"acme/web","function":"a b"}"#, 422, "invalid", Some("function")),
        ("POST", "/v1/explain", r#"{"key":"acme/web","function":"f","ip":"x"}"#, 422, "invalid", Some("ip")),
        ("POST", "/v1/keys/acme%2Fweb/rotate", r#"{"extend":"1d","cancel":true}"#, 422, "invalid", Some("cancel")),
        ("POST", "/v1/keys/acme%2Fweb/rotate", r#"{"finish":true}"#, 409, "conflict", None),
        ("POST", "/v1/keys/acme%2Fweb/revoke", r#"{"version":9}"#, 404, "not-found", Some("version")),
        ("POST", "/v1/keys/acme%2Fweb/revoke", r#"{"version":99999}"#, 422, "invalid", Some("version")),
        ("POST", "/v1/keys-bulk", r#"{"select":{},"action":"disable"}"#, 422, "invalid", Some("select")),
        ("POST", "/v1/keys-bulk", r#"{"select":{"account":"acme"},"action":"delete"}"#, 422, "invalid", Some("action")),
        ("POST", "/v1/functions", r#"{"name":"a b"}"#, 422, "invalid", Some("name")),
        ("PATCH", "/v1/functions/nope", r#"{"restricted":true}"#, 404, "not-found", None),
        ("GET", "/v2/keys", "", 404, "no-route", None),
        ("PUT", "/v1/keys", "{}", 405, "method-not-allowed", None),
        ("DELETE", "/v1/status", "", 405, "method-not-allowed", None),
    ] {
        let answer = served.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        assert_eq!(answer.problem(), (word.to_owned(), field.map(str::to_owned)), "{method} {path} {body}: {answer:?}");
    }
    assert_eq!(served.get("/v1/keys/acme%2Fweb")["revision"], made["key"]["revision"]);
    assert_eq!(served.get("/v1/history")["entries"].as_array().unwrap().len(), 1);
    for bad in ["if-match: W/\"1\"\r\n", "x-doorward-as: %zz\r\n", "x-doorward-as: \r\n"] {
        let answer = served.ask_with("DELETE", "/v1/keys/acme%2Fweb", bad, "");
        assert!([400, 422].contains(&answer.status), "{bad}: {answer:?}");
    }
}

#[test]
fn giants_and_noise_are_turned_away_and_the_daemon_goes_on() {
    let served = Served::start();
    let giant = served.ask("POST", "/v1/keys", &format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20)));
    assert_eq!((giant.status, giant.problem().0.as_str()), (413, "too-large"));
    let head = served.raw(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000)).as_bytes());
    assert_eq!(head.status, 431, "{head:?}");
    assert_eq!(served.raw(b"\x00\x01\x02 noise\r\n\r\n").status, 400);
    assert_eq!(served.raw(&[0xff; 70_000]).status, 400);
    drop(served.connect());
    assert_eq!(served.get("/v1/status")["health"], "ok");
}

/// A request as if a peer with these numbers had made it.
fn ask_as(router: &axum::Router, uid: u32, gid: u32, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path).body(axum::body::Body::from(body)).unwrap();
    request.extensions_mut().insert(Arc::new(Peer { uid, pid: 1, user: None, groups: vec![gid] }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = TowerToHyperService::new(router.clone()).call(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    })
}

#[test]
fn who_may_look_may_not_change_and_strangers_neither() {
    const READER: u32 = 4_001;
    const READERS: u32 = 4_002;
    const STRANGER: u32 = 4_003;
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path());
    *shared.state.access.write() = Access { own_uid: 1, read_users: vec![READER], read_groups: vec![READERS], ..Access::default() };
    let router = routes::router(Arc::clone(&shared));
    let create = r#"{"name":"web","account":"acme"}"#;
    assert_eq!(ask_as(&router, 1, 1, "POST", "/v1/keys", create).0, 201);
    for (method, path, body, reader) in [
        ("GET", "/v1/keys", "", 200),
        ("GET", "/v1/status", "", 200),
        ("GET", "/metrics", "", 200),
        ("POST", "/v1/identify", r#"{"token":"x"}"#, 200),
        ("GET", "/v1/export", "", 200),
        ("GET", "/v1/export?digests=true", "", 403),
        ("POST", "/v1/keys", create, 403),
        ("PATCH", "/v1/keys/acme%2Fweb", "{}", 403),
        ("DELETE", "/v1/keys/acme%2Fweb", "", 403),
        ("POST", "/v1/keys/acme%2Fweb/rotate", "", 403),
        ("POST", "/v1/import", "", 403),
        ("POST", "/v1/nowhere", "", 403),
        ("GET", "/v1/nowhere", "", 404),
    ] {
        assert_eq!(ask_as(&router, READER, STRANGER, method, path, body).0, reader, "{method} {path}");
        assert_eq!(ask_as(&router, STRANGER, READERS, method, path, body).0, reader, "{method} {path}");
        let (status, text) = ask_as(&router, STRANGER, STRANGER, method, path, body);
        assert_eq!(status, 403, "{method} {path}");
        assert!(text.contains("urn:doorward:problem:forbidden") && text.contains("4003"), "{text}");
    }
    assert_eq!(shared.counters.status().forbidden, 2 * 7 + 13);
    let (_, keys) = ask_as(&router, 0, 0, "GET", "/v1/keys/acme%2Fweb", "");
    assert!(keys.contains("\"revision\":1,") || keys.contains("\"revision\":1}"), "{keys}");
}
