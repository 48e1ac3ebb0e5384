//! Import and export.

use super::*;

#[test]
fn what_was_imported_is_exported() {
    let served = Served::start();
    served.post("/v1/functions", r#"{"name":"leads.insert"}"#, 201);
    let lines: String = (0..2_500)
        .map(|n| {
            format!(
                "{{\"name\":\"k{n}\",\"account\":\"acme\",\"grants\":[\"leads.insert\"],\"token\":\"a-token-made-elsewhere-{n:06}\"}}\n"
            )
        })
        .collect();
    let done = served.post("/v1/import", &lines, 200);
    assert_eq!((done["imported"].as_u64(), done["generated"].as_array().unwrap().len()), (Some(2_500), 0));
    let found = served.post("/v1/identify", r#"{"token":"a-token-made-elsewhere-002499"}"#, 200);
    assert_eq!(found["key"]["name"], "k2499");
    let export = served.ask("GET", "/v1/export", "");
    assert_eq!(export.body.lines().count(), 2_500);
    assert!(!export.body.contains("made-elsewhere") && !export.body.contains("digest"));

    let with_digests = served.ask("GET", "/v1/export?digests=true", "").body;
    let other = Served::start();
    other.post("/v1/functions", r#"{"name":"leads.insert"}"#, 201);
    assert_eq!(other.post("/v1/import", &with_digests, 200)["imported"], 2_500);
    let moved = other.post("/v1/identify", r#"{"token":"a-token-made-elsewhere-002499"}"#, 200);
    assert_eq!(moved["key"]["id"], found["key"]["id"]);
    assert_eq!(other.ask("GET", "/v1/export?digests=true", "").body, with_digests);
}

#[test]
fn a_refused_batch_changes_nothing_and_those_before_it_stay() {
    let served = Served::start();
    let line = |n: usize| format!("{{\"name\":\"k{n}\",\"account\":\"acme\"}}\n");
    let mut lines: Vec<String> = (0..1_500).map(line).collect();
    lines[1_203] = line(7);
    let refused = served.ask("POST", "/v1/import?generate=true", &lines.concat());
    assert_eq!(refused.problem(), ("name-taken".to_owned(), Some("name".to_owned())), "{refused:?}");
    let problem = refused.json();
    assert_eq!((problem["line"].as_u64(), problem["import"]["imported"].as_u64()), (Some(1_204), Some(1_000)));
    let generated = problem["import"]["generated"].as_array().unwrap();
    assert_eq!(generated.len(), 1_000);
    let token = generated[999]["token"].as_str().unwrap();
    assert_eq!(served.post("/v1/identify", &format!(r#"{{"token":"{token}"}}"#), 200)["key"]["name"], "k999");
    assert_eq!(served.get("/v1/status")["keys"]["keys"], 1_000);
}

#[test]
fn a_bad_line_is_told_without_its_token() {
    let served = Served::start();
    let good = r#"{"name":"a","account":"acme","token":"0123456789abcdefghijkl"}"#;
    for (bad, status) in [
        (r#"{"name":"b","account":"acme","token":"CANARY"}"#, 422),
        (r#"{"name":"b","account":"acme","token":["CANARY"]}"#, 422),
        (r#"{"name":"b","account":"acme","CANARY":1}"#, 422),
        (r#"{"name":"b","account":"acme","token":"CANARY"#, 400),
        ("CANARY", 400),
        (r#"{"name":"b","account":"acme","token":"0123456789abcdefghijkl"}"#, 409),
    ] {
        let refused = served.ask("POST", "/v1/import", &format!("{good}\n\n{bad}\n"));
        assert_eq!(refused.status, status, "{bad}: {refused:?}");
        assert_eq!(refused.json()["line"], 3, "{bad}: {refused:?}");
        assert!(!refused.body.contains("CANARY") && !refused.body.contains("0123456789abcdefghijkl"), "{bad}: {refused:?}");
    }
    assert_eq!(served.get("/v1/status")["keys"]["keys"], 0);
    assert_eq!(served.post("/v1/import?allow_weak=true", r#"{"name":"b","account":"acme","token":"short"}"#, 200)["imported"], 1);
}

#[test]
fn a_body_that_breaks_off_leaves_whole_batches() {
    let served = Served::start();
    let mut stream = served.connect();
    let line = "{\"name\":\"n\",\"account\":\"acme\",\"token\":\"0123456789abcdefghijkl\"}\n";
    stream.write_all(format!("POST /v1/import HTTP/1.1\r\nhost: h\r\ncontent-length: 5000\r\n\r\n{line}").as_bytes()).unwrap();
    drop(stream);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(served.get("/v1/status")["keys"]["keys"], 0);
}

/// Cause: several batches are under way at once; the one that is refused must still be the last.
#[test]
fn nothing_behind_a_refused_batch_is_imported() {
    let served = Served::start();
    let line = |n: usize| format!("{{\"name\":\"k{n}\",\"account\":\"acme\",\"token\":\"a-token-made-elsewhere-{n:06}\"}}\n");
    let mut lines: Vec<String> = (0..9_500).map(line).collect();
    lines[3_203] = line(7);
    // A batch behind that one is not even JSON, and is read before that one is refused.
    lines[5_000] = "{\n".to_owned();
    let problem = served.ask("POST", "/v1/import", &lines.concat()).json();
    assert_eq!((problem["line"].as_u64(), problem["field"].as_str()), (Some(3_204), Some("name")), "{problem}");
    assert_eq!(problem["import"]["imported"], 3_000);
    assert_eq!(served.get("/v1/status")["keys"]["keys"], 3_000);
    lines[3_203] = "\n".to_owned();
    let fresh: String =
        lines.iter().map(|line| line.replace("\"account\":\"acme\"", "\"account\":\"other\"").replace("made", "born")).collect();
    let problem = served.ask("POST", "/v1/import", &fresh).json();
    assert_eq!((problem["line"].as_u64(), problem["import"]["imported"].as_u64()), (Some(5_001), Some(4_999)), "{problem}");
    assert_eq!(served.get("/v1/status")["keys"]["keys"], 7_999);
}
