//! `/metrics`: every figure is documented and true, its text is what the formats ask for, and whoever abuses its port keeps nobody from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples by name and labels, as they are written.
pub(crate) type Samples = BTreeMap<String, f64>;

impl Daemon {
    pub(crate) fn metrics(&self) -> Samples {
        let stream = UnixStream::connect(self.run_dir().join("admin.sock")).expect("a connection");
        let (head, body) = ask(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains(&format!("content-type: {OPEN_METRICS}")), "{head}");
        read(&body).1
    }
}

fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).expect("a request that is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

fn scrape(address: SocketAddr, accept: &str) -> (String, String) {
    let stream = TcpStream::connect(address).expect("a connection");
    ask(stream, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n"))
}

/// Reads a page as strictly as OpenMetrics asks: the families by their type, and the samples.
fn read(page: &str) -> (BTreeMap<String, String>, Samples) {
    let page = page.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut families, mut samples) = (BTreeMap::new(), Samples::new());
    let mut family = (String::new(), String::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| help.ends_with('.')), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            family = (name.to_owned(), kind.to_owned());
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "a second {name}");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a unit");
            assert!(name == family.0 && name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample");
            let (name, labels) = sample.split_once('{').map_or((sample, None), |(name, labels)| (name, Some(labels)));
            let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not of {}", family.0));
            let suffixes: &[&str] = match family.1.as_str() {
                "counter" => &["_total"],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" => &[""],
                other => panic!("a type {other}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(labels.is_none_or(|labels| labels.ends_with("\"}") && labels.matches('"').count() == 2), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value >= 0.0 && samples.insert(sample.to_owned(), value).is_none(), "{line}");
        }
    }
    for (name, _) in families.iter().filter(|(_, kind)| *kind == "histogram") {
        let buckets = page.lines().filter(|line| line.starts_with(&format!("{name}_bucket")));
        let counts: Vec<u64> = buckets.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert!(counts.is_sorted() && counts.len() == 20, "{counts:?}");
        assert_eq!(counts.last().copied().map(|count| count as f64), samples.get(&format!("{name}_count")).copied());
        assert!(samples.contains_key(&format!("{name}_bucket{{le=\"+Inf\"}}")));
    }
    (families, samples)
}

/// What a family is called where it is asked for.
fn asked_for_as(name: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

#[test]
fn every_metric_is_documented_and_every_rule_asks_for_metrics_that_there_are() {
    let daemon = Daemon::start();
    let stream = UnixStream::connect(daemon.run_dir().join("admin.sock")).unwrap();
    let (_, body) = ask(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (families, samples) = read(&body);
    let exported: BTreeSet<(String, String)> = families.iter().map(|(name, kind)| (asked_for_as(name, kind), kind.clone())).collect();
    let page = include_str!("../../docs/monitoring.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: BTreeSet<(String, String)> =
        rows.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap_or_default().to_owned())).collect();
    assert_eq!(exported, documented, "docs/monitoring.md");

    let names: BTreeSet<&str> = samples.keys().map(|sample| sample.split('{').next().unwrap_or_default()).collect();
    let rules = include_str!("../../monitoring/doorward.rules.yml");
    let tests = include_str!("../../monitoring/doorward.rules.test.yml");
    assert!(rules.matches("expr:").count() >= 10);
    let words = |text: &'static str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words(rules).chain(words(tests)).filter(|word| word.starts_with("doorward_") || word.starts_with("process_")) {
        assert!(names.contains(name), "a rule asks for {name}, which is not exported");
    }
    // Each label that a rule asks for has a value that there is.
    for asked in [
        "within=\"1d\"",
        "within=\"7d\"",
        "verdict=\"ok\"",
        "verdict=\"unknown\"",
        "verdict=\"malformed\"",
        "reason=\"stuck\"",
        "reason=\"displaced\"",
    ] {
        assert!(samples.keys().any(|sample| sample.contains(asked)), "{asked}");
    }
}

#[test]
fn figures_are_what_happened() {
    let daemon = Daemon::start();
    let before = daemon.metrics();
    let key = daemon.create("acme/web", &["--grant", "leads.insert", "--expires", "3d"]);
    let off = daemon.create("acme/off", &["--grant", "leads.insert", "--expires", "2d"]);
    daemon.create("acme/later", &["--grant", "leads.insert", "--not-before", "1d"]);
    daemon.create("acme/soon", &["--grant", "leads.insert", "--expires", "1500ms"]);
    let gone = daemon.create("acme/gone", &["--grant", "leads.insert"]);
    daemon.json(&["disable", &off.id]);
    daemon.json(&["delete", &gone.id]);
    let mut client = daemon.client();
    for _ in 0..100 {
        crate::daemon::verdict(&mut client, &key.token, "leads.insert", None);
    }
    crate::daemon::verdict(&mut client, &key.token, "leads.list", None);
    crate::daemon::verdict(&mut client, "nonsense", "leads.list", None);
    assert_eq!(daemon.run(&["show", "acme/none"]).code, 66);

    let after = daemon.metrics();
    let value = |sample: &str| after.get(sample).copied().unwrap_or_else(|| panic!("no {sample}"));
    let grown = |sample: &str| value(sample) - before[sample];
    assert_eq!(grown("doorward_verifies_total{verdict=\"ok\"}"), 100.0);
    assert_eq!(grown("doorward_verifies_total{verdict=\"function_denied\"}"), 1.0);
    assert_eq!(grown("doorward_verifies_total{verdict=\"malformed\"}"), 1.0);
    assert_eq!(grown("doorward_verifies_total{verdict=\"expired\"}"), 0.0);
    let timed = grown("doorward_verify_serving_seconds_count");
    assert!((6.0..=7.0).contains(&timed), "one read in 16 of 102, not {timed}");
    assert!(value("doorward_verify_serving_seconds_sum") > 0.0);
    assert_eq!((value("doorward_verify_connections"), value("doorward_verify_connections_most")), (1.0, 1.0));
    assert_eq!(grown("doorward_changes_total{action=\"create\"}"), 5.0);
    assert_eq!(grown("doorward_changes_total{action=\"disable\"}"), 1.0);
    assert_eq!(grown("doorward_changes_total{action=\"delete\"}"), 1.0);
    assert_eq!(grown("doorward_history_sequence"), 7.0);
    assert_eq!(grown("doorward_admin_requests_total{outcome=\"not-found\"}"), 1.0);
    assert!(grown("doorward_admin_requests_total{outcome=\"ok\"}") >= 7.0);
    for (state, keys) in [("disabled", 1.0), ("not_yet_valid", 1.0), ("deleted", 1.0), ("revoked", 0.0)] {
        assert_eq!(value(&format!("doorward_keys{{state=\"{state}\"}}")), keys, "{state}");
    }
    assert_eq!((value("doorward_functions{restricted=\"no\"}"), value("doorward_functions{restricted=\"yes\"}")), (3.0, 1.0));
    assert_eq!((value("doorward_secrets"), value("doorward_secrets_other_pepper")), (5.0, 0.0));
    assert_eq!((value("doorward_degraded"), value("doorward_store_refusing_changes")), (0.0, 0.0));
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 5.0 && value("doorward_store_bytes") > 1e3);
    assert!(value("process_start_time_seconds") > 1.7e9 && value("doorward_country_db_built_timestamp_seconds") > 1e9);

    eventually("the key that expires soon has expired", || daemon.metrics()["doorward_keys{state=\"expired\"}"] == 1.0);
    let after = daemon.metrics();
    assert_eq!(after["doorward_keys{state=\"active\"}"], 1.0);
    // A key that is off does not become worse by its expiry.
    let expiring = ["1d", "7d", "30d"].map(|within| after[&format!("doorward_keys_expiring{{within=\"{within}\"}}")]);
    assert_eq!(expiring, [0.0, 1.0, 1.0]);
    let days = (after["doorward_next_expiry_timestamp_seconds"] - after["process_start_time_seconds"]) / 86_400.0;
    assert!((2.9..3.1).contains(&days), "{days}");
    eventually("usage is written", || daemon.metrics()["doorward_usage_rows_written_total"] >= 2.0);
}

/// A restart counts keys anew from the store, and finds the same.
#[test]
fn keys_stand_where_they_stood_after_a_restart() {
    let mut daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "leads.insert", "--expires", "3d"]);
    let off = daemon.create("acme/off", &["--grant", "leads.insert"]);
    daemon.json(&["disable", &off.id]);
    let standing = |daemon: &Daemon| -> Samples {
        let about_keys = |sample: &String| sample.starts_with("doorward_keys") || sample.starts_with("doorward_next_expiry");
        daemon.metrics().into_iter().filter(|(sample, _)| about_keys(sample)).collect()
    };
    let before = standing(&daemon);
    assert_eq!(before["doorward_keys{state=\"disabled\"}"], 1.0);
    daemon.restart();
    assert_eq!(standing(&daemon), before);
}

#[test]
fn the_page_does_not_grow_with_accounts_keys_functions_and_addresses() {
    let daemon = Daemon::start();
    let few = daemon.metrics().len();
    for number in 0..20 {
        daemon.json(&["functions", "add", &format!("secret.function{number}")]);
        let key = daemon.create(&format!("account{number}/n{number}"), &["--grant", "*", "--expires", "9d"]);
        daemon.verdict(&key.token, &format!("secret.function{number}"), Some(&format!("203.0.113.{number}")));
    }
    let samples = daemon.metrics();
    // The next expiry has a sample now.
    assert_eq!(samples.len(), few + 1);
    assert!(!samples.keys().any(|sample| sample.contains("account") || sample.contains("function1") || sample.contains("203.")));
}

#[test]
fn a_port_that_is_taken_does_not_keep_the_daemon_from_verifying() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let daemon =
        Daemon::start_configured(&format!("data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[metrics]\nlisten = \"{address}\"\n"));
    let samples = daemon.metrics();
    assert_eq!((samples["doorward_degraded"], samples["doorward_problems{with=\"configuration\"}"]), (1.0, 1.0));
    let status = daemon.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("metrics.listen") && status.stdout.contains(&address.to_string()), "{status:?}");
    assert_eq!(daemon.verdict("nonsense", "f", None), "malformed");
}

#[test]
fn over_tcp_there_are_the_figures_and_nothing_else() {
    let (daemon, address) = with_listener();
    let (head, body) = scrape(address, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains(OPEN_METRICS), "{head}");
    let (families, samples) = read(&body);
    let (head, body) = scrape(address, "text/plain");
    assert!(head.contains(CLASSIC), "{head}");
    assert!(!body.contains("# EOF") && !body.contains("# UNIT") && body.contains("# TYPE doorward_verifies_total counter\n"));
    for (name, kind) in &families {
        let kind_then = if kind == "info" { "gauge" } else { kind };
        assert!(body.contains(&format!("# TYPE {} {kind_then}\n", asked_for_as(name, kind))), "{name}");
    }
    let classic: BTreeSet<&str> = body.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert_eq!(classic, samples.keys().map(String::as_str).collect());
    for (request, status) in [
        ("GET /v1/keys HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "405"),
        ("DELETE /v1/keys/a%2Fb HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (head, _) = ask(TcpStream::connect(address).unwrap(), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
    drop(daemon);
}

/// Sixteen who say nothing, one who never ends, one who sends a head without an end: a second later others get their page.
#[test]
fn who_dawdles_on_the_port_is_cut() {
    let (daemon, address) = with_listener();
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let started = Instant::now();
    let mut answered = false;
    while !answered {
        assert!(started.elapsed() < Duration::from_secs(20), "the port stays shut");
        std::thread::sleep(Duration::from_millis(50));
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = String::new();
        // A connection too many is closed, which may show as a reset.
        let sent = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
        answered = sent.is_ok() && answer.contains("doorward_verifies_total");
    }
    drop(silent);
    let mut endless = TcpStream::connect(address).unwrap();
    endless.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = endless.write_all(b"GET /metrics HTTP/1.1\r\nx: ");
    // More than a head may have: cut, before the rest is taken.
    let mut sent = 0;
    while sent < 16 << 20 && endless.write_all(&[b'a'; 4096]).is_ok() {
        sent += 4096;
    }
    assert!(sent < 16 << 20, "a head without end is read without end");
    eventually("a page after all that", || scrape_quietly(address).is_some_and(|page| page.contains("doorward_verifies_total")));
    assert_eq!(daemon.verdict("nonsense", "f", None), "malformed");
}

fn scrape_quietly(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A daemon that serves its figures over TCP, on a port that was free a moment ago.
fn with_listener() -> (Daemon, SocketAddr) {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon =
        Daemon::start_configured(&format!("data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[metrics]\nlisten = \"{address}\"\n"));
    (daemon, address)
}
