use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::daemon::{Daemon, verdict};

/// Each line: an exit code, words of the message, and the arguments.
const REFUSED: &[(i32, &str, &str)] = &[
    (64, "--grant", "create --account acme --name x --grant a**b"),
    (64, "--network", "create --account acme --name x --grant * --network 10.0.0.0/33"),
    (64, "--network", "create --account acme --name x --grant * --network ::ffff:10.0.0.0/95"),
    (64, "--network", "create --account acme --name x --grant * --network office"),
    (64, "--country", "create --account acme --name x --grant * --country XX"),
    (64, "--country", "create --account acme --name x --grant * --country Germany"),
    (64, "--expires", "create --account acme --name x --grant * --expires soon"),
    (64, "--unknown-country", "create --account acme --name x --grant * --unknown-country maybe"),
    (64, "--tag", "create --account acme --name x --grant * --tag novalue"),
    (65, "expires", "create --account acme --name x --grant * --expires 2001-01-01"),
    (73, "acme/web", "create --account acme --name web --grant *"),
    (65, "expires", "edit acme/web --expires 2001-01-01"),
    (64, "", "edit"),
    (64, "", "show web"),
    (66, "acme/nobody", "show acme/nobody"),
    (66, "key_00000000000070008000000000000000", "show key_00000000000070008000000000000000"),
    (66, "acme/nobody", "edit acme/nobody --description x"),
    (66, "acme/nobody", "enable acme/nobody"),
    (66, "acme/nobody", "disable acme/nobody"),
    (66, "acme/nobody", "rotate acme/nobody"),
    (66, "acme/nobody", "revoke acme/nobody"),
    (66, "acme/nobody", "delete acme/nobody"),
    (66, "acme/nobody", "undelete acme/nobody"),
    (66, "acme/nobody", "history acme/nobody"),
    (66, "acme/nobody", "usage acme/nobody"),
    (66, "acme/nobody", "explain --key acme/nobody --function leads.list"),
    (64, "--overlap", "rotate acme/web --overlap forever"),
    (64, "--overlap", "rotate acme/web --overlap 900000d"),
    (64, "", "rotate acme/web --finish --cancel"),
    (65, "", "rotate acme/web --finish"),
    (65, "", "rotate acme/web --extend 1d"),
    (65, "", "rotate acme/web --cancel"),
    (64, "", "revoke acme/web --version 70000"),
    (64, "", "disable"),
    (64, "", "country not-an-address"),
    (64, "", "verify --function leads.list --ip 1.2.3 --token-file -"),
    (64, "", "verify --token-file -"),
    (66, "/nonexistent", "verify --function leads.list --token-file /nonexistent"),
    (64, "", "explain --key acme/web --function a!b"),
    (64, "", "usage --by colour"),
    (64, "", "list --state sleepy"),
    (64, "", "frobnicate"),
    (64, "", "functions add a!b"),
    (66, "/nonexistent", "import /nonexistent"),
    (66, "/nonexistent", "check-config /nonexistent"),
    (64, "", "completions powerpoint"),
];

#[test]
fn every_verb_says_what_was_wrong_and_changes_nothing() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.*"]).token;
    let before = (daemon.json(&["show", "acme/web"]), daemon.json(&["history"]));
    let mut wrong = Vec::new();
    for (code, word, line) in REFUSED {
        let ran = daemon.run(&line.split(' ').collect::<Vec<_>>());
        if ran.code != *code || !ran.stderr.contains(word) || !ran.stdout.is_empty() || ran.stderr.contains("panicked") {
            wrong.push(format!("{line}\n    wanted {code} '{word}', got {ran:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), REFUSED.len(), wrong.join("\n"));
    assert_eq!((daemon.json(&["show", "acme/web"]), daemon.json(&["history"])), before);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
}

#[test]
fn errors_are_problem_documents_with_json() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["show", "acme/nobody", "--json"]);
    assert_eq!(ran.code, 66);
    let problem: serde_json::Value = serde_json::from_str(&ran.stderr).expect("a problem document");
    assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:doorward:problem:")), "{problem}");
    assert_eq!(problem["status"], 404);
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for verb in [&["status"][..], &["list"], &["verify", "--function", "f", "--token-file", "-"]] {
        crate::daemon::run_in(nowhere.path(), verb, "token").refused(69, &[".sock"]);
    }
}

/// Bytes that are no frame: the connection may end, the daemon and its other connections go on.
#[test]
fn garbage_on_the_verify_socket_harms_nobody_else() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let mut good = daemon.client();
    let giant = [&u32::MAX.to_le_bytes()[..], &[1, 0, 0, 0], &[0; 8]].concat();
    let reserved = [&8u32.to_le_bytes()[..], &[1, 9, 9, 9], &[0; 16]].concat();
    let unknown_kind = [&0u32.to_le_bytes()[..], &[0x77, 0, 0, 0], &[0; 8]].concat();
    let verify_first = [&0u32.to_le_bytes()[..], &[2, 0, 0, 0], &[0; 8]].concat();
    let cases = [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), vec![0xff; 4096], giant, reserved, unknown_kind, verify_first, vec![7; 3]];
    for bytes in cases {
        let mut stream = UnixStream::connect(daemon.run_dir().join("verify.sock")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(verdict(&mut good, &token, "leads.list", None), doorward::key::Verdict::Ok);
    }
}

/// Requests that no client of ours would make, on the admin socket.
#[test]
fn garbage_on_the_admin_socket_is_answered_and_changes_nothing() {
    let daemon = Daemon::start();
    let before = daemon.json(&["history"]);
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        (post("/v1/keys", "{"), "400"),
        (post("/v1/keys", "[]"), "4"),
        (post("/v1/keys", &deep), "4"),
        (post("/v1/keys", r#"{"name":"x"}"#), "4"),
        (post("/v1/keys", r#"{"name":"x","account":"a","surprise":1}"#), "4"),
        (post("/v1/keys", r#"{"name":7,"account":"a"}"#), "4"),
        (post("/v1/keys", r#"{"name":"x","account":"a","grants":["*"],"networks":["::ffff:0.0.0.0/90"]}"#), "4"),
        (post("/v1/functions", r#"{"name":"a b"}"#), "4"),
        (get("/v1/keys?limit=banana"), "4"),
        (get("/v1/keys/%ff%fe"), "4"),
        (get("/v1/nothing"), "404"),
        ("DELETE /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), "405"),
        ("\0\0\0\0\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in cases {
        let mut stream = UnixStream::connect(daemon.run_dir().join("admin.sock")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let first = answer.lines().next().unwrap_or_default();
        let line: String = request.chars().take(120).collect();
        assert!(first.starts_with(&format!("HTTP/1.1 {status}")), "{line:?}: {first}");
    }
    assert_eq!(daemon.json(&["history"]), before);
}
