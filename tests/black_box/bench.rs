use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{COMMAND, Daemon, eventually, text};

/// Starts `bench` with a place of its own for temporary folders, so that what it leaves behind is seen.
fn begin(place: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(COMMAND);
    command.arg("bench").args(arguments).env("TMPDIR", place).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the bench starts")
}

fn entries(place: &Path) -> Vec<String> {
    fs::read_dir(place).expect("the place").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Runs it, and insists that it succeeds, prints one JSON document and nothing else, and leaves nothing behind.
fn measured(arguments: &[&str]) -> Value {
    let place = tempfile::tempdir().expect("a temporary folder");
    let output = begin(place.path(), &[&["--json", "--keys", "2000"], arguments].concat()).wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{:?}: {said}", output.status);
    assert!(entries(place.path()).is_empty(), "{:?}", entries(place.path()));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// Every row has its fields, with figures that fit each other, and a ratio that is the quotient of what it says it is.
fn check(report: &Value, servers: &[(&str, &[&str])]) {
    let rows = report["rows"].as_array().expect("rows");
    let wanted: Vec<(&str, &str)> =
        servers.iter().flat_map(|(scenario, servers)| servers.iter().map(|server| (*scenario, *server))).collect();
    let found: Vec<(String, String)> = rows.iter().map(|row| (text(&row["scenario"]), text(&row["server"]))).collect();
    assert_eq!(found.iter().map(|(scenario, server)| (scenario.as_str(), server.as_str())).collect::<Vec<_>>(), wanted);
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field} of {row}"));
        assert_eq!((number("keys"), row.as_object().map(serde_json::Map::len)), (2_000.0, Some(11)), "{row}");
        assert!(number("connections") >= 1.0 && number("depth") >= 0.0 && number("per_second") > 10.0, "{row}");
        let quantiles = ["p50_ns", "p99_ns", "p999_ns", "max_ns"].map(number);
        assert!(quantiles[0] > 500.0 && quantiles.is_sorted(), "{row}");
        let of = report["ratios"].as_array().unwrap().iter().find(|of| of["scenario"] == row["scenario"]).expect("a comparison");
        let base = rows.iter().find(|base| base["scenario"] == row["scenario"] && base["server"] == of["baseline"]).expect("a baseline");
        let figure = text(&of["figure"]);
        let ratio = number(&figure) / base[&figure].as_f64().unwrap();
        assert!((number("ratio") - ratio).abs() < 1e-3 * ratio.max(1.0), "{ratio}: {row}");
    }
    for rounds in report["rounds"].as_array().expect("rounds") {
        assert_eq!(rounds["p50_ns"].as_array().map(Vec::len), Some(9), "{rounds}");
    }
}

#[test]
fn every_scenario_has_its_rows_and_every_verdict_is_right() {
    let report =
        measured(&["--seconds", "0.4", "--scenario", "pinned", "pipelined", "batch", "--scenario", "changes", "open-loop", "--zipf"]);
    let both: &[&str] = &["doorward", "echo"];
    let all: &[&str] = &["doorward", "echo-read", "echo"];
    let quiet: &[&str] = &["doorward", "doorward-quiet", "echo", "echo-quiet"];
    check(&report, &[("pinned", all), ("pipelined", all), ("batch", both), ("changes", quiet), ("open-loop", both)]);
    assert_eq!(report["requests"]["keys"], "zipf-0.99");
    let refused = report["requests"]["refused_share"].as_f64().unwrap();
    assert!((0.05..0.3).contains(&refused), "{refused}");
    let resident = &report["daemon"]["resident_bytes"];
    assert!(resident["when_ready"].as_u64() > Some(1 << 20) && resident["at_end"].as_u64() > Some(1 << 20), "{resident}");
}

#[test]
fn idle_connections_stand_beside_those_at_work() {
    let report = measured(&["--seconds", "0.4", "--scenario", "many", "--rate", "2000"]);
    check(&report, &[("many", &["doorward", "doorward-without-idle", "echo", "echo-without-idle"])]);
    assert_eq!((&report["rows"][0]["connections"], &report["rows"][1]["connections"]), (&1_008.into(), &8.into()));
    let per_second = report["rows"][1]["per_second"].as_f64().unwrap();
    assert!((1_000.0..2_500.0).contains(&per_second), "asked 2,000 times a second, answered {per_second}");
}

#[test]
fn a_signal_ends_it_and_nothing_is_left_behind() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let child = begin(place.path(), &["--keys", "1000", "--seconds", "600", "--scenario", "pinned"]);
    eventually("the echo is started, and then it measures", || {
        entries(place.path()).first().is_some_and(|home| place.path().join(home).join("echo.sock").exists())
    });
    thread::sleep(Duration::from_millis(200));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill").success());
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted") && output.stdout.is_empty(), "{output:?}");
    assert!(entries(place.path()).is_empty(), "{:?}", entries(place.path()));
}

/// Asks the key of a running daemon, for so many seconds, and calls `meanwhile` when it has begun to measure.
fn ask_running(daemon: &Daemon, token: &str, seconds: &str, meanwhile: impl FnOnce()) -> Output {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = daemon.home().join("requests.jsonl");
    let lines = [
        format!("{{\"token\":\"{token}\",\"function\":\"leads.list\",\"ip\":\"192.0.2.1\"}}"),
        "{\"token\":\"x\",\"function\":\"a\"}".into(),
    ];
    fs::write(&file, lines.join("\n")).expect("the requests");
    let (run, file) = (daemon.run_dir(), file.to_string_lossy().into_owned());
    let arguments =
        ["--run-dir", &run.to_string_lossy(), "--tokens", &file, "--seconds", seconds, "--scenario", "pipelined", "changes", "--json"];
    let child = begin(place.path(), &arguments);
    eventually("it measures", || {
        entries(place.path()).first().is_some_and(|home| place.path().join(home).join("echo.sock").exists()) || seconds.starts_with('0')
    });
    meanwhile();
    child.wait_with_output().expect("its output")
}

#[test]
fn a_daemon_that_runs_is_asked_and_not_changed() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.list"]).token;
    let before = daemon.json(&["show", "acme/web"])["revision"].clone();
    let output = ask_running(&daemon, &token, "0.3", || ());
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((&report["rows"][0]["scenario"], &report["rows"][0]["keys"]), (&"pipelined".into(), &2.into()));
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(3), "{report}");
    assert!(report["notes"].to_string().contains("changes is left out"), "{report}");
    assert_eq!(daemon.json(&["show", "acme/web"])["revision"], before);
    let usage = daemon.run(&["bench", "--run-dir", "somewhere"]);
    usage.refused(64, &["--tokens"]);
}

#[test]
fn a_verdict_that_changes_fails_the_bench_without_naming_the_token() {
    let daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.list"]).token;
    let output = ask_running(&daemon, &token, "120", || {
        daemon.json(&["disable", "acme/web"]);
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("expected ok") && said.contains("got disabled") && !said.contains(&token), "{said}");
}
