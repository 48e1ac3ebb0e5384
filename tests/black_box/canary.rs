//! Tokens go through every path that there is, at the most talkative log: good ones, wrong ones, and in places that are not for them. Then all that is left of a daemon is
//! looked through, its memory included.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use doorward::key::Token;
use doorward::protocol::{Address, Hello, Kind, MAGIC, Verify, encode, encode_body};
use rustix::process::Uid;
use sha2::{Digest, Sha256};

use crate::daemon::{Daemon, Ran, eventually, run_in};
use crate::memory::MemoryOf;
use crate::secrets_nowhere::{command_lines_until, holds, nowhere_below};

/// A user that nobody is.
const STRANGER: u32 = 54_351;

/// Requests to the admin socket with a token (`{t}`) in each place that a request has.
const REQUESTS: &[&str] = &[
    "GET /v1/keys/{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "DELETE /v1/keys/acme%2F{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/keys?account={t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/keys?{t}=1 HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/keys?after={t}&limit={t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/usage?key={t}&since={t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/history?before={t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/country/{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "DELETE /v1/functions/{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /v1/status/{t} HTTP/1.1\r\nhost: x\r\n\r\n",
    "{t} /v1/status HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /v1/status HTTP/{t}\r\n\r\n",
    "{t}\r\n\r\n",
    "GET /v1/status HTTP/1.1\r\nhost: {t}\r\nauthorization: Bearer {t}\r\naccept: {t}\r\ncookie: a={t}\r\n\r\n",
    "GET /v1/status HTTP/1.1\r\nhost: x\r\n{t}: 1\r\n\r\n",
    "GET /v1/status HTTP/1.1\r\nhost: x\r\nbroken {t}\r\n\r\n",
    "PATCH /v1/keys/acme%2Fmade HTTP/1.1\r\nhost: x\r\nif-match: {t}\r\ncontent-length: 2\r\n\r\n{}",
    "POST /v1/keys HTTP/1.1\r\nhost: x\r\nx-doorward-as: {t}\r\ncontent-length: 28\r\n\r\n{\"account\":\"a\",\"name\":\"as\"}\n",
    "POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: {t}\r\n\r\n{}",
    "POST /v1/keys HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;{t}={t}\r\n[1,2]\r\n0\r\nx: {t}\r\n\r\n",
    "POST /v1/keys HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{t}\r\n",
];

/// Bodies, and where they are sent.
const BODIES: &[(&str, &str)] = &[
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"{t}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"{t}\"}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":{\"{t}\":\"{t}\"}}"),
    ("/v1/keys", "{\"{t}\":\"{t}\"}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"n\",\"expires_at\":\"{t}\"}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"n\",\"tags\":{\"{t}\":\"{t}\"}}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"n\",\"description\":\"see {t}\"}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"n\",\"request_id\":\"{t}\"}"),
    ("/v1/keys", "{\"account\":\"a\",\"name\":\"n\",\"grants\":[\"{t}\"],\"networks\":[\"{t}\"],\"countries\":[\"{t}\"]}"),
    ("/v1/keys", "{t}"),
    ("/v1/keys/acme%2Fmade/rotate", "{\"overlap\":\"{t}\"}"),
    ("/v1/keys-bulk", "{\"{t}\":[\"{t}\"]}"),
    ("/v1/functions", "{\"name\":\"{t}\"}"),
    ("/v1/identify", "{\"token\":\"{t}\"}"),
    ("/v1/identify", "{\"token\":\"{t}\",\"more\":\"{t}\"}"),
    ("/v1/identify", "{\"token\":[\"{t}\"]}"),
    ("/v1/identify", "{\"token\":\"{t}"),
    ("/v1/explain", "{\"token\":\"{t}\",\"function\":\"f\"}"),
    ("/v1/explain", "{\"token\":\"{t}\",\"function\":\"{t} no name\",\"ip\":\"{t}\"}"),
    ("/v1/explain", "{\"token\":\"{t}\",\"function\":7}"),
    ("/v1/import", "{\"account\":\"a\",\"name\":\"i\",\"token\":\"{t}\"}\n"),
    ("/v1/import", "{\"account\":\"a\",\"name\":\"i\",\"token\":\"{t}\"\n"),
    ("/v1/import", "{\"account\":\"a\",\"name\":\"i\",\"token\":{\"x\":\"{t}\"}}\n"),
    ("/v1/import", "{\"account\":\"a\",\"name\":\"i\",\"{t}\":1}\n"),
    ("/v1/import", "{\"account\":\"a\",\"name\":\"i\",\"token_sha256\":\"{t}\"}\n"),
    ("/v1/check", "{\"against\":[\"{t}\"]}"),
    ("/{t}", "{\"{t}\":1}"),
];

/// Configurations that are wrong.
const CONFIGURATIONS: &[&str] = &[
    "token_prefix = \"{t}\"\n",
    "{t} = 1\n",
    "= {t}\n",
    "country_db = \"{t}\"\n",
    "[verify]\ngroup = \"{t}\"\n",
    "[verify]\nusers = [\"{t}\"]\n",
    "[verify]\nmode = \"{t}\"\n",
    "[log]\nlevel = \"{t}\"\n",
    "undelete_for = \"{t}\"\n",
];

#[test]
fn a_token_that_went_through_every_path_is_found_nowhere() {
    let mut daemon = Daemon::start_configured(
        "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n[log]\nlevel = \"trace\"\n[admin]\nmode = \"0666\"\n[verify]\nmode = \"0666\"\n",
    );
    fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
    let memory = MemoryOf::new(daemon.pid());
    // Backups and exports are written beside it.
    let left = tempfile::tempdir().expect("a temporary folder");
    daemon.json(&["functions", "add", "f"]);
    let made = daemon.create("acme/made", &["--grant", "f", "--request-id", "the first"]).token;
    let generated = || Token::generate("dw").expect("a token").expose_text().expect("text").to_owned();
    let (plain, hashed, nobodys) = (generated(), generated(), generated());
    // One that was made elsewhere, and has no check digits by which it would be known.
    let foreign = "sk-live-9f8e7d6c5b4a39281706f5e4d3c2b1a0ff".to_owned();
    let done = AtomicBool::new(false);
    let mut said: Vec<Ran> = Vec::new();
    let tokens = [made, plain, hashed, nobodys, foreign];
    let [made, plain, hashed, _, foreign] = &tokens;
    let (answers, command_lines) = thread::scope(|scope| {
        let _over = Over(&done);
        let watch = scope.spawn(|| command_lines_until(&done));
        let sha256: String = Sha256::digest(hashed).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = |name: &str, field: &str, value: &str| {
            format!("{{\"account\":\"acme\",\"name\":\"{name}\",\"grants\":[\"f\"],\"{field}\":\"{value}\"}}\n")
        };
        let lines = [line("plain", "token", plain), line("hashed", "token_sha256", &sha256), line("foreign", "token", foreign)].concat();
        let import = daemon.run_with_input(&["import", "-", "--jsonl"], &lines);
        assert_eq!(import.code, 0, "{import:?}");
        for token in [made, plain, hashed, foreign] {
            assert_eq!(daemon.verdict(token, "f", None), "ok", "all of these are keys");
        }
        let mut answers = Vec::new();
        for token in &tokens {
            through_the_verify_socket(&daemon, token);
            let answered = through_the_admin_socket(&daemon, token, token != foreign);
            // One that was made elsewhere cannot be recognised in a wrong place, and may be quoted to who put it there; it must not stay anywhere.
            answers.extend(answered.into_iter().filter(|_| token != foreign));
            said.extend(through_the_command(&daemon, token));
        }
        for token in &tokens[..4] {
            // What is recognised as a token is not repeated where it does not belong; the other one's configuration errors quote it to who wrote it.
            said.extend(through_the_configuration(&daemon, left.path(), token));
        }
        done.store(true, Ordering::Relaxed);
        (answers, watch.join().expect("the watch"))
    });
    for verb in
        [&["list"][..], &["show", "acme/made"], &["history"], &["usage"], &["denials"], &["status"], &["unusual"], &["advise"], &["check"]]
    {
        said.extend([daemon.run(verb), daemon.run(&[verb, &["--json"]].concat())]);
    }
    said.extend([daemon.run(&["export", "--jsonl"]), daemon.run(&["export", "--jsonl", "--digests"])]);
    let backups = left.path().join("backups").display().to_string();
    assert_eq!(daemon.run(&["backup", &backups]).code, 0);
    let metrics = http(&daemon, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(metrics.contains("doorward_verifies_total{verdict=\"ok\"}"), "{metrics}");
    // All that was sent was looked at: else nothing would have been tried.
    for word in ["a connection broke off", "admin socket: refused", "a verify connection ended", "was not reloaded"] {
        assert!(daemon.log().contains(word), "{word}: {}", daemon.log());
    }
    eventually("connections are closed", || daemon.json(&["status"])["verify"]["connections"] == 0);
    let in_memory: Vec<String> = tokens.iter().filter_map(|token| memory.finds(piece_of(token))).collect();
    // A kill leaves the counters as they are; a restart and an end write all there is.
    daemon.verdict(made, "f", None);
    daemon.kill9();
    for token in &tokens {
        nowhere_below(daemon.home(), piece_of(token));
    }
    daemon.start_again();
    daemon.terminate();
    for token in &tokens {
        let piece = piece_of(token);
        for Ran { stdout, stderr, .. } in &said {
            assert!(!holds(stdout.as_bytes(), piece) && !holds(stderr.as_bytes(), piece), "said: {stdout}{stderr}");
        }
        for answer in &answers {
            assert!(!holds(answer.as_bytes(), piece), "answered: {answer}");
        }
        assert!(!holds(metrics.as_bytes(), piece));
        assert!(!command_lines.iter().any(|line| holds(line, piece)), "in an argument list or an environment");
        nowhere_below(daemon.home(), piece);
        nowhere_below(left.path(), piece);
    }
    assert!(in_memory.is_empty(), "in the daemon's memory: {in_memory:?}");
}

/// Ends the watch, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Half a token is as bad as all of it; the prefix is not.
pub(crate) fn piece_of(token: &str) -> &[u8] {
    &token.as_bytes()[3..token.len() / 2 + 3]
}

/// Good and bad requests, alone and in batches, and frames that break the protocol in every way with the token in them.
fn through_the_verify_socket(daemon: &Daemon, token: &str) {
    let verify = |function: &str| {
        let mut frame = Vec::new();
        let request = Verify { token: token.as_bytes(), function, address: Address::None };
        encode(&mut frame, Kind::Verify, [7; 8], |out| encode_body(out, &request));
        frame
    };
    let raw = |kind: Kind, body: &[u8]| {
        let mut frame = Vec::new();
        encode(&mut frame, kind, *b"a  tag  ", |out| out.extend(body));
        frame
    };
    let request = &verify("f")[16..];
    let with = |at: usize, byte: u8| {
        let mut frame = verify("f");
        frame[at] = byte;
        frame
    };
    let hello = raw(Kind::Hello, &{
        let mut body = Vec::new();
        encode_body(&mut body, &Hello { magic: MAGIC, lowest: 1, highest: 1 });
        body
    });
    let attempts: Vec<Vec<u8>> = vec![
        [verify("f"), verify("nobody.registered"), verify("f").repeat(300)].concat(),
        raw(Kind::Batch, &[&[3], request, request, request].concat()),
        raw(Kind::Batch, &[&[2], request, &request[..request.len() - 1]].concat()),
        raw(Kind::Batch, &[&[0], request].concat()),
        raw(Kind::Verify, &request[..request.len() - 2]),
        raw(Kind::Verify, &[request, request].concat()),
        raw(Kind::Hello, token.as_bytes()),
        raw(Kind::Welcome, token.as_bytes()),
        raw(Kind::Verdict, token.as_bytes()),
        with(4, 99),
        with(5, 1),
        with(3, 255),
        verify("f")[..16 + 30].to_vec(),
        raw(Kind::Verify, &[&[250], token.repeat(9).as_bytes()].concat()),
        raw(Kind::Verify, token.repeat(1_500).as_bytes()),
    ];
    for attempt in attempts {
        for bytes in [[hello.clone(), attempt.clone()].concat(), attempt] {
            let mut stream = UnixStream::connect(daemon.run_dir().join("verify.sock")).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            // It may end the connection before all is sent.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(!holds(&answer, piece_of(token)), "an answer repeats the token");
        }
    }
}

/// Also in fields that are kept, where `everywhere`: there it must be recognised.
fn through_the_admin_socket(daemon: &Daemon, token: &str, everywhere: bool) -> Vec<String> {
    let kept = |request: &&&str| !everywhere && request.contains("x-doorward-as");
    let mut requests: Vec<String> = REQUESTS.iter().filter(|request| !kept(request)).map(|request| request.replace("{t}", token)).collect();
    let for_tokens = ["/v1/identify", "/v1/explain", "/v1/import"];
    requests.extend(BODIES.iter().filter(|(path, _)| everywhere || for_tokens.contains(path)).map(|(path, body)| {
        let (path, body) = (path.replace("{t}", token), body.replace("{t}", token));
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }));
    // The last body never ends.
    requests.push(format!("POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n{{\"name\":\"{token}"));
    let mut answers: Vec<String> = requests.iter().map(|request| http(daemon, request)).collect();
    // A stranger is refused, and that is logged. (Only this thread becomes one.)
    let by_a_stranger = thread::scope(|scope| {
        let refused = scope.spawn(|| {
            let stranger = Uid::from_raw(STRANGER);
            let became = rustix::thread::set_thread_res_uid(stranger, stranger, stranger);
            became.map(|()| requests.iter().map(|request| http(daemon, request)).collect::<Vec<_>>())
        });
        refused.join().expect("no panic")
    });
    match by_a_stranger {
        Ok(refused) => answers.extend(refused),
        Err(_) => eprintln!("not root: no stranger to be"),
    }
    answers
}

/// Sends a request and reads its answer: until the connection ends, or nothing comes any more. Some requests have none.
fn http(daemon: &Daemon, request: &str) -> String {
    let mut stream = UnixStream::connect(daemon.run_dir().join("admin.sock")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let _ = stream.write_all(request.as_bytes());
    let (mut answer, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn through_the_command(daemon: &Daemon, token: &str) -> Vec<Ran> {
    let with = |args: &[&str], input: String| daemon.run_with_input(args, &input);
    vec![
        with(&["verify", "--function", "f", "--token-file", "-"], token.to_owned()),
        with(&["verify", "--function", "nobody.registered", "--ip", "198.51.100.7", "--token-file", "-", "--json"], format!("{token}\n")),
        with(&["verify", "--function", "f", "--token-file", "-"], token.repeat(20)),
        with(&["identify", "--token-file", "-"], token.to_owned()),
        with(&["explain", "--function", "f", "--token-file", "-"], token.to_owned()),
        with(&["verify", "--jsonl"], format!("{{\"token\":\"{token}\",\"function\":\"f\"}}\n{{\"token\":\"{token}\",\"function\":7}}\n")),
        with(&["verify", "--jsonl"], format!("{{\"token\":\"{token}\n")),
        with(&["import", "-", "--jsonl"], format!("{{\"account\":\"acme\",\"name\":\"again\",\"token\":\"{token}\"}}\n")),
        with(&["import", "-", "--jsonl"], format!("{{\"token\":\"{token}\"\n")),
        with(&["import", "-", "--jsonl"], format!("{token}\n")),
    ]
}

/// As what `check-config` says, and as what a reload says in the log.
fn through_the_configuration(daemon: &Daemon, folder: &Path, token: &str) -> Vec<Ran> {
    let mut said = Vec::new();
    let (good, file) = (daemon.home().join("doorward.toml"), folder.join("wrong.toml"));
    let text = fs::read_to_string(&good).expect("a configuration");
    for wrong in CONFIGURATIONS {
        let wrong = wrong.replace("{t}", token);
        fs::write(&file, &wrong).expect("a configuration");
        let ran = run_in(&daemon.run_dir(), &["check-config", &file.display().to_string()], "");
        assert_ne!(ran.code, 0, "{ran:?}");
        said.push(ran);
        let reloads = || daemon.log().matches("reloaded").count();
        let before = reloads();
        fs::write(&good, &wrong).expect("a configuration");
        daemon.signal("HUP");
        eventually("it is looked at", || reloads() > before);
    }
    fs::write(&good, text).expect("a configuration");
    daemon.signal("HUP");
    eventually("all is well again", || daemon.run(&["status"]).code == 0);
    fs::remove_file(&file).expect("a configuration");
    said
}
