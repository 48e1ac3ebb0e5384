use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use doorward::key::Verdict;

use crate::daemon::{Daemon, eventually, run_in, verdict};

const BASE: &str = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n";

#[test]
fn a_configured_daemon_does_as_it_is_told() {
    let daemon = Daemon::start_configured(&format!("token_prefix = \"live_2026\"\nstrict = false\n{BASE}[verify]\nmode = \"0666\"\n"));
    let made = daemon.create("acme/web", &["--grant", "*"]);
    assert!(made.token.starts_with("live_2026_"));
    assert_eq!(daemon.verdict(&made.token, "nobody.registered", None), "ok", "strict mode is off, and a wildcard covers it");
    let socket = fs::metadata(daemon.run_dir().join("verify.sock")).expect("the socket");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&socket.permissions()) & 0o777, 0o666);
}

#[test]
fn strict_mode_is_switched_by_a_reload_and_a_bad_file_keeps_what_was() {
    let daemon = Daemon::start_configured(&format!("strict = false\n{BASE}"));
    let file = daemon.home().join("doorward.toml");
    let text = fs::read_to_string(&file).expect("the file");
    let token = daemon.create("acme/web", &["--grant", "*"]).token;

    fs::write(&file, format!("no_such_key = 1\n{text}")).expect("a bad file");
    daemon.signal("HUP");
    eventually("the log names what is wrong", || daemon.log().contains("no_such_key"));
    assert_eq!(daemon.verdict(&token, "nobody.registered", None), "ok");

    fs::write(&file, text.replace("strict = false", "strict = true")).expect("a good file");
    daemon.signal("HUP");
    eventually("strict mode is on", || daemon.verdict(&token, "nobody.registered", None) == "function_unknown");
}

#[test]
fn a_file_is_checked_without_starting_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("doorward.toml");
    let path = file.display().to_string();
    let check = |text: &str| {
        fs::write(&file, text).expect("a file");
        run_in(folder.path(), &["check-config", &path], "")
    };
    assert_eq!(check("").code, 0, "an empty file is a good one");
    for (text, word) in [
        ("no_such_key = 1\n", "no_such_key"),
        ("strict = \"yes\"\n", "strict"),
        ("data_dir = \"relative\"\n", "data_dir"),
        ("token_prefix = \"Über\"\n", "token_prefix"),
        ("flush_interval = \"1 fortnight\"\n", "flush_interval"),
        ("[verify]\nmax_connections = 0\n", "max_connections"),
        ("[verify]\nmode = \"0999\"\n", "mode"),
        ("strict = true\nstrict = false\n", "strict"),
        ("[[[\n", "doorward.toml"),
    ] {
        let ran = check(text);
        assert_eq!(ran.code, 78, "{text}: {ran:?}");
        assert!(ran.stderr.contains(word), "{text}: {}", ran.stderr);
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_spin_looks_for_requests_for_as_long_as_it_is_told_and_no_longer() {
    let daemon = Daemon::start_configured(&format!("{BASE}[verify]\nspin_us = 200\n"));
    daemon.json(&["functions", "add", "leads.list"]);
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let mut client = daemon.client();
    for pause in [0, 0, 1, 20, 0] {
        thread::sleep(Duration::from_millis(pause));
        assert_eq!(verdict(&mut client, &token, "leads.list", None), Verdict::Ok);
    }
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("the daemon runs");
        // utime and stime, the 14th and 15th field (proc_pid_stat(5)), in hundredths of a second; behind the name comes the third.
        let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(11).take(2);
        fields.map(|field| field.parse::<u64>().expect("a number")).sum::<u64>()
    };
    let before = used();
    thread::sleep(Duration::from_secs(1));
    assert!(used() - before < 50, "an idle connection's thread sleeps");
    // A request each half of what is looked for: without that the same takes two hundredths of a second.
    let (before, until) = (used(), Instant::now() + Duration::from_secs(1));
    while Instant::now() < until {
        thread::sleep(Duration::from_micros(100));
        assert_eq!(verdict(&mut client, &token, "leads.list", None), Verdict::Ok);
    }
    assert!(used() - before >= 15, "{} hundredths of a second: it does not look", used() - before);
}
