use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorward::key::Span;

use crate::daemon::{COMMAND, eventually, run_in};
use crate::service_manager::ServiceManager;

/// READY means that both sockets answer; a reload is announced with its time and ended; so is the end.
#[test]
fn systemd_hears_what_the_daemon_does() {
    let mut manager = ServiceManager::new();
    manager.start();
    let ready = manager.hear("READY=1");
    assert!(ready.contains("STATUS=verifying 0 secrets"), "{ready}");
    assert_eq!(run_in(&manager.run_dir(), &["status"], "").code, 0, "whoever sees READY is answered");
    manager.signal("HUP");
    let reloading = manager.hear("RELOADING=1");
    let since_boot_us = |text: &str| text.split_once('=').and_then(|(_, number)| number.parse::<u64>().ok());
    let told = reloading.lines().find(|line| line.starts_with("MONOTONIC_USEC=")).and_then(since_boot_us).expect("its time");
    let now = rustix_monotonic_us();
    assert!((now - 60_000_000..=now).contains(&told), "{told} is a moment ago, {now}");
    manager.hear("READY=1");
    manager.signal("TERM");
    manager.hear("STOPPING=1");
    assert!(manager.ended().success());
    for name in ["verify.sock", "admin.sock"] {
        assert!(UnixStream::connect(manager.run_dir().join(name)).is_ok(), "systemd's socket stays, and takes connections");
    }
    let log = manager.log();
    assert_eq!(log.matches("the socket is systemd's").count(), 2, "{log}");
}

fn rustix_monotonic_us() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("the time since the start of the machine");
    // Seconds with two digits; the monotonic clock runs with it unless the machine slept.
    let seconds: f64 = uptime.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    ((seconds + 0.01) * 1e6) as u64
}

/// The watchdog hears of a daemon that answers, and nothing of one whose verify socket hangs, until it answers again.
#[test]
fn the_watchdog_hears_only_of_a_daemon_that_answers() {
    let mut manager = ServiceManager::new();
    manager.environment.push(("WATCHDOG_USEC", "600000".to_owned()));
    manager.start();
    manager.hear("READY=1");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    // Its own connections are no requests: they are not counted.
    let status = run_in(&manager.run_dir(), &["status", "--json"], "").json();
    assert_eq!((&status["verify"]["verifies"], &status["verify"]["protocol_errors"]), (&0.into(), &0.into()), "{status}");
    let accepting = thread_named(manager.pid(), "accept");
    // The accepting thread hangs: each of its calls to accept takes a minute.
    let strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=accept4", "-e", "inject=accept4:delay_enter=60000000", "-p", &accepting])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else { return eprintln!("strace is not here: no thread can be hung") };
    let start = Instant::now();
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_millis(1_500) && start.elapsed() < Duration::from_secs(20) {
        match manager.hear_any(Duration::from_millis(1_500)) {
            Some(message) if message.contains("WATCHDOG=1") => quiet_since = Instant::now(),
            _ => {}
        }
    }
    let quiet = quiet_since.elapsed() >= Duration::from_millis(1_500);
    let said = manager.log().contains("does not answer itself");
    strace.kill().expect("strace ends");
    strace.wait().expect("strace ended");
    assert!(quiet && said, "the watchdog was told of a daemon that hangs: {}", manager.log());
}

fn thread_named(pid: u32, name: &str) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let mut named = threads.filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    named.next().expect("a thread of this name").file_name().to_string_lossy().into_owned()
}

/// The daemon waited without an end to tell what it does where nobody took it, since systemd had hung: it did not reload any more, and could not be stopped.
#[test]
fn a_service_manager_that_hears_nothing_holds_nobody_up() {
    let mut manager = ServiceManager::new();
    manager.start();
    manager.hear("READY=1");
    let full = UnixDatagram::unbound().expect("a socket");
    full.set_nonblocking(true).expect("a socket");
    let refused = (0..100_000).find_map(|_| full.send_to(b"X=1", manager.home().join("notify")).err());
    assert_eq!(refused.expect("a full queue").kind(), ErrorKind::WouldBlock);
    manager.signal("HUP");
    eventually("it reloads", || manager.log().contains("reloaded"));
    manager.signal("TERM");
    eventually("it ends", || manager.log().lines().any(|line| line.ends_with("stopped")));
    assert!(manager.ended().success());
    assert!(manager.log().contains("systemd is not told"), "{}", manager.log());
}

/// The unit refused the system call by which the admin socket's threads give way, which no test saw. All else that the daemon asks of the kernel, from its start to its end, is
/// allowed, and that by a drop-in.
#[test]
fn the_unit_allows_every_system_call_of_the_daemon() {
    let sets = match Command::new("systemd-analyze").arg("syscall-filter").arg("--no-pager").output() {
        Ok(output) if output.status.success() => sets_of_calls(&String::from_utf8_lossy(&output.stdout)),
        _ => return eprintln!("systemd-analyze is not here: nobody tells what the unit allows"),
    };
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).expect("a unit");
    let unit = read("doorward.service");
    let mut allowed = calls_of(&sets, "@default");
    for words in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, words) = words.strip_prefix('~').map_or((false, words), |words| (true, words));
        for call in words.split(' ').flat_map(|word| calls_of(&sets, word)) {
            if taken {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    assert!(allowed.contains("accept4") && !allowed.contains("chroot") && !allowed.contains("nice"), "{allowed:?}");
    let home = tempfile::tempdir().expect("a temporary folder");
    let [data, run, calls] = ["data", "run", "calls"].map(|name| home.path().join(name));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&calls).args([COMMAND, "serve", "--data-dir"]).arg(&data).arg("--run-dir").arg(&run);
    let Ok(mut strace) = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return eprintln!("strace is not here: nobody tells what the daemon asks for");
    };
    let status = || run_in(&run, &["status", "--json"], "");
    eventually("it is ready", || run.join("admin.sock").exists() && status().code == 0 || strace.try_wait().is_ok_and(|end| end.is_some()));
    if status().code != 0 {
        return eprintln!("nothing can be traced here");
    }
    let backups = home.path().join("backups").display().to_string();
    for verb in
        [&["functions", "add", "f"][..], &["create", "--account", "a", "--name", "n"], &["usage"], &["check"], &["backup", &backups]]
    {
        assert_eq!(run_in(&run, verb, "").code, 0, "{verb:?}");
    }
    assert_eq!(run_in(&run, &["verify", "--function", "f"], "nobody's").code, 1);
    let pid = status().json()["pid"].to_string();
    for signal in ["-HUP", "-TERM"] {
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
    assert!(strace.wait().expect("its end").success());
    let text = fs::read_to_string(&calls).expect("its calls");
    // `PID NAME(…`; what goes on, a signal and an end are other lines.
    let asked = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('(')).map(|(name, _)| name);
    let asked: BTreeSet<&str> = asked.filter(|name| !name.is_empty()).collect();
    assert!(["accept4", "fdatasync", "setpriority", "mlock"].iter().all(|call| asked.contains(call)), "{asked:?}");
    let refused: Vec<_> = asked.into_iter().filter(|call| !allowed.contains(*call)).collect();
    assert_eq!(refused, ["setpriority"], "what the unit refuses");
    assert!(read("give-way.conf").lines().any(|line| line == "SystemCallFilter=setpriority"));
}

/// The sets that `systemd-analyze syscall-filter` lists: a name, and below it, set in, a comment and its members.
fn sets_of_calls(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with('@') {
            name = line.trim().to_owned();
        } else if line.starts_with("    ") && !line.trim().starts_with('#') {
            sets.entry(name.clone()).or_default().push(line.trim().to_owned());
        }
    }
    sets
}

/// The calls of a set, or the one call.
fn calls_of(sets: &BTreeMap<String, Vec<String>>, name: &str) -> BTreeSet<String> {
    match sets.get(name) {
        Some(members) => members.iter().flat_map(|member| calls_of(sets, member)).collect(),
        None => BTreeSet::from([name.to_owned()]),
    }
}

/// What systemd passes and doorward does not serve would be a socket at which clients wait for ever.
#[test]
fn sockets_of_other_names_are_refused() {
    for (names, word) in [("verify:http", "'http'"), ("verify:verify", "two sockets named 'verify'"), ("verify", "LISTEN_FDNAMES")] {
        let mut manager = ServiceManager::new();
        manager.names = names;
        manager.start();
        assert_eq!(manager.ended().code(), Some(78), "{}", manager.log());
        assert!(manager.log().contains(word), "{names}: {}", manager.log());
    }
    // The other way round: each is told where it should listen.
    let mut manager = ServiceManager::new();
    manager.names = "admin:verify";
    manager.start();
    assert_eq!(manager.ended().code(), Some(78));
    assert!(manager.log().contains("ListenStream= and run_dir must agree"), "{}", manager.log());
}

/// A line for the journal begins with its level; anywhere else it does not.
#[test]
fn the_journal_gets_levels() {
    let mut manager = ServiceManager::new();
    fs::write(manager.home().join("daemon.log"), "").expect("a log");
    let file = rustix::fs::stat(manager.home().join("daemon.log")).expect("the log");
    manager.environment.push(("JOURNAL_STREAM", format!("{}:{}", file.st_dev, file.st_ino)));
    manager.start();
    manager.hear("READY=1");
    assert!(manager.log().lines().any(|line| line == "<6>ready keys=0"), "{}", manager.log());
    assert!(manager.log().lines().all(|line| line.starts_with("<6>")), "{}", manager.log());
    // Why a daemon did not start is an error like any other: it had no level, and `journalctl -p err` did not show it.
    manager.signal("TERM");
    assert!(manager.ended().success());
    fs::write(manager.home().join("data/pepper"), "short").expect("no pepper");
    manager.start();
    assert_eq!(manager.ended().code(), Some(78));
    let last = manager.log().lines().next_back().map(str::to_owned).unwrap_or_default();
    assert!(last.starts_with("<3>doorward: the pepper") && last.contains("5 bytes"), "{last}");
    let mut other = ServiceManager::new();
    other.environment.push(("JOURNAL_STREAM", "1:1".to_owned()));
    other.start();
    other.hear("READY=1");
    assert!(!other.log().contains('<'), "standard error is not that stream: {}", other.log());
}

/// After twenty restarts in a minute that somebody had asked for, systemd closed the sockets; and from version 254 on it never did so, however often the daemon
/// failed, since the pauses between its starts grew: clients hung.
#[test]
fn a_hundred_restarts_are_no_crash_loop_and_a_crash_loop_has_an_end() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let service = fs::read_to_string(units.join("doorward.service")).expect("the service");
    let value = |key: &str| service.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}")).to_owned();
    let span = |key: &str| value(key).parse::<Span>().unwrap_or_else(|error| panic!("{key} {error}")).0;
    let starts: i64 = value("StartLimitBurst=").parse().expect("a number");
    assert!(starts > 100, "a hundred restarts under load");
    let interval = value("StartLimitIntervalSec=").replace("min", "m").parse::<Span>().expect("a span").0;
    // What a daemon with a million keys takes until it has loaded them, and more.
    let start_ms = 1_500;
    assert!(starts * (span("RestartSec=") + start_ms) < interval, "a crash loop is given up");
    for drop_in in fs::read_dir(units.join("since")).expect("drop-ins") {
        let text = fs::read_to_string(drop_in.expect("a drop-in").path()).expect("a drop-in");
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        assert!(
            settings.clone().count() > 1 && settings.clone().all(|line| !line.contains("RestartSteps") && !line.contains("MaxDelay")),
            "{text}"
        );
    }
}
