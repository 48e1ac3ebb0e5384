//! A wall clock that jumps by ten years, while the daemon runs and while it does not: `clock.c`, compiled here and preloaded into the daemon alone, sets it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, Made, eventually, made, text};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const TEN_YEARS: i64 = 3_652 * 24 * HOUR;

/// A daemon whose wall clock can be set.
pub(crate) struct House {
    pub(crate) daemon: Daemon,
    offset: fs::File,
}

impl House {
    fn new() -> House {
        House::begun(0, "")
    }

    /// With a wall clock that is so far from the right time when the daemon starts, and more in its configuration.
    pub(crate) fn begun(ms: i64, configuration: &str) -> House {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = home.path().join("clock");
        fs::write(&file, ms.to_le_bytes()).expect("a clock");
        let offset = fs::File::options().write(true).open(&file).expect("a clock");
        let template = format!("data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n{configuration}");
        let daemon = Daemon::start_under(home, &template, |_| vec![("LD_PRELOAD", library().to_owned()), ("CLOCK_OFFSET", file)]);
        daemon.json(&["functions", "add", "f"]);
        House { daemon, offset }
    }

    /// Puts the wall clock so far from the right time.
    fn jump(&self, ms: i64) {
        self.offset.write_all_at(&ms.to_le_bytes(), 0).expect("a clock");
    }

    /// Starts the daemon again when the wall clock is so far from the right time, and is believed for good.
    pub(crate) fn restart_at(&mut self, ms: i64) {
        self.daemon.terminate();
        self.jump(ms);
        self.believe();
        self.daemon.start_again();
    }

    /// Nothing waits for an hour: the same switch of `check` does offline what the hour would have done.
    fn believe(&self) -> String {
        let data = self.daemon.home().join("data");
        let mut check = Command::new(crate::daemon::COMMAND);
        check.args(["check", "--believe-clock", "--json", "--data-dir"]).arg(data).env("LD_PRELOAD", library());
        let output = check.env("CLOCK_OFFSET", self.daemon.home().join("clock")).output().expect("the command");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A key that expires so soon.
    fn key(&self, name: &str, expires_in: Option<Duration>) -> Made {
        let expires = expires_in.map(|span| format!("{}ms", span.as_millis()));
        let mut flags = vec!["--grant", "f"];
        flags.extend(expires.iter().flat_map(|expires| ["--expires", expires]));
        self.daemon.create(&format!("acme/{name}"), &flags)
    }

    fn verdict(&self, key: &Made) -> String {
        self.daemon.verdict(&key.token, "f", None)
    }

    fn expires(&self, key: &Made) {
        eventually("it expires", || self.verdict(key) == "expired");
    }

    fn problems(&self) -> String {
        self.daemon.run(&["status", "--json"]).json()["problems"].to_string()
    }

    /// When a secret of the key retires, in milliseconds since 1970.
    fn retires_in(&self, key: &Made, version: usize) -> Option<i64> {
        let shown = self.daemon.json(&["show", &key.id]);
        let at =
            shown["secrets"][version - 1]["retires_at"].as_str().map(|text| text.parse::<doorward::key::Instant>().expect("an instant"));
        at.map(|at| at.0 - doorward::clock::wall().0)
    }
}

/// The preloaded library: a C compiler is needed to build RocksDB as well.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/black_box/clock.c");
        let made = ["cc", "clang", "gcc"].iter().any(|compiler| {
            let made = Command::new(compiler).args(["-O1", "-shared", "-fPIC", "-o"]).arg(&target).arg(&source).status();
            made.is_ok_and(|status| status.success())
        });
        assert!(made, "no C compiler made the preloaded clock");
        target
    })
}

/// The preloaded clock is the daemon's, or none of these tests would mean anything.
#[test]
fn the_clock_that_is_set_is_the_one_that_the_daemon_reads() {
    let house = House::new();
    let key = house.key("long", Some(Duration::from_secs(3_600 * 24)));
    assert_eq!(house.verdict(&key), "ok");
    house.jump(TEN_YEARS);
    assert_eq!(house.verdict(&key), "expired");
}

/// Neither by one jump nor by several, nor with a restart in the jump, nor after SIGKILL: what has expired stays so. It is said aloud, and verifying goes on.
#[test]
fn a_jump_back_revives_nothing() {
    let mut house = House::new();
    let (brief, long) = (house.key("brief", Some(Duration::from_millis(1_500))), house.key("long", None));
    house.expires(&brief);
    for back in [HOUR, 24 * HOUR, TEN_YEARS] {
        house.jump(-back);
        assert_eq!((house.verdict(&brief), house.verdict(&long)), ("expired".to_owned(), "ok".to_owned()), "{back}");
        let problems = house.problems();
        assert!(problems.contains("behind the time that was reached before"), "{problems}");
    }
    eventually("the log says so", || house.daemon.log().contains("behind the time that was reached before; time goes on from"));
    house.daemon.restart();
    assert_eq!((house.verdict(&brief), house.verdict(&long)), ("expired".to_owned(), "ok".to_owned()), "after a restart");
    house.daemon.kill9();
    let warnings = |daemon: &Daemon| daemon.log().matches("behind the time that was reached before; time goes on from").count();
    let before = warnings(&house.daemon);
    house.daemon.start_again();
    assert_eq!((house.verdict(&brief), house.verdict(&long)), ("expired".to_owned(), "ok".to_owned()), "after a kill");
    eventually("it says so, too", || warnings(&house.daemon) > before);
    house.jump(0);
    assert_eq!((house.verdict(&brief), house.verdict(&long)), ("expired".to_owned(), "ok".to_owned()), "set right");
    assert_eq!(house.problems(), "[]");
    eventually("the log says so", || house.daemon.log().contains("the wall clock agrees with the time again"));
}

/// What expires in the minute between two notes of the time, or while the daemon is down, was good again after a kill and a jump back between runs: up to the last note.
#[test]
fn a_jump_back_between_runs_revives_nothing_that_expired_since_the_last_note() {
    let mut house = House::new();
    // The note of the start is written; the next may be a minute away.
    let seen = house.key("seen", Some(Duration::from_millis(2_000)));
    let unseen = house.key("unseen", Some(Duration::from_millis(2_500)));
    house.expires(&seen);
    house.daemon.kill9();
    thread::sleep(Duration::from_millis(1_000));
    house.jump(-TEN_YEARS);
    house.daemon.start_again();
    assert_eq!((house.verdict(&seen), house.verdict(&unseen)), ("expired".to_owned(), "expired".to_owned()));
    // A rotation's overlap that ended while nobody was there, too.
    house.jump(0);
    let key = house.key("rotated", None);
    house.daemon.json(&["rotate", &key.id, "--overlap", "1500ms"]);
    house.daemon.terminate();
    thread::sleep(Duration::from_millis(1_600));
    house.jump(-TEN_YEARS);
    house.daemon.start_again();
    assert_eq!(house.verdict(&key), "retired");
}

/// While the clock is ahead by mistake its keys have expired; set right, every one is as it was. During a run, over a restart, and after a kill.
#[test]
fn a_jump_ahead_takes_nothing_away_for_good() {
    let mut house = House::new();
    let key = house.key("year", Some(Duration::from_secs(365 * 86_400)));
    for how in ["running", "restarted", "killed", "started in it"] {
        if how == "started in it" {
            house.daemon.terminate();
        }
        house.jump(TEN_YEARS);
        match how {
            "restarted" => house.daemon.restart(),
            "killed" => {
                house.daemon.kill9();
                house.daemon.start_again();
            }
            "started in it" => house.daemon.start_again(),
            _ => {}
        }
        assert_eq!(house.verdict(&key), "expired", "{how}");
        let problems = house.problems();
        assert!(problems.contains("ahead of the time that was reached before"), "{how}: {problems}");
        assert!(!problems.contains("  "), "a row of blanks in it: {problems}");
        eventually("the log says so", || house.daemon.log().contains("ahead of the time that was reached before"));
        house.jump(0);
        assert_eq!(house.verdict(&key), "ok", "{how}");
        assert_eq!(house.problems(), "[]", "{how}");
    }
    house.daemon.restart();
    assert_eq!(house.verdict(&key), "ok");
}

/// The page said that the time waits for the clock then: it goes on, ahead by as much, until somebody has the clock believed; which the warning says.
#[test]
fn a_jump_ahead_by_less_than_an_hour_is_taken_back_by_hand() {
    let mut house = House::new();
    let key = house.key("soon", Some(Duration::from_secs(40 * 60)));
    house.jump(50 * 60 * SECOND);
    assert_eq!(house.verdict(&key), "expired");
    house.jump(0);
    assert_eq!(house.verdict(&key), "expired", "set right");
    let problems = house.problems();
    assert!(problems.contains("set the wall clock right; if it is right, 'doorward check --believe-clock' has it believed"), "{problems}");
    house.daemon.terminate();
    house.believe();
    house.daemon.start_again();
    assert_eq!((house.verdict(&key), house.problems()), ("ok".to_owned(), "[]".to_owned()));
}

/// A request id was forgotten when the clock jumped ahead by more than it is kept: a script that repeated its request then got a second key.
#[test]
fn a_jump_ahead_makes_no_second_key_of_a_repeat() {
    let house = House::new();
    let create = |id: &str| house.daemon.json(&["create", "--account", "acme", "--name", "web", "--grant", "f", "--request-id", id]);
    let first = create("deploy-7");
    house.jump(TEN_YEARS);
    let again = create("deploy-7");
    assert_eq!((&again["id"], &again["replayed"]), (&first["id"], &true.into()));
    let rotate = |id: &str| house.daemon.json(&["rotate", "acme/web", "--request-id", id]);
    let ahead = rotate("rotate-1");
    house.jump(0);
    let after = rotate("rotate-1");
    assert_eq!((&after["version"], &after["replayed"]), (&ahead["version"], &true.into()));
}

/// A jump back does not stretch an overlap, nor does a rotation in the middle of one; and while the clock is ahead by mistake no overlap begins that would be as much too
/// long. What ends an overlap ends it for good.
#[test]
fn no_overlap_is_lengthened() {
    let house = House::new();
    let [before, within, plain, finished] = ["before", "within", "plain", "finished"].map(|name| house.key(name, None));
    let rotate = |key: &Made, flags: &[&str]| made(&house.daemon.json(&[&["rotate", &key.id], flags].concat()));
    rotate(&before, &["--overlap", "2s"]);
    rotate(&finished, &["--overlap", "7d"]);
    house.jump(-TEN_YEARS);
    rotate(&within, &["--overlap", "2s"]);
    let left = house.retires_in(&within, 1).expect("it retires");
    assert!((0..=2_000).contains(&left), "{left} ms");
    eventually("the overlaps end", || house.verdict(&before) == "retired" && house.verdict(&within) == "retired");
    house.jump(TEN_YEARS);
    let refused = house.daemon.run(&["rotate", &plain.id, "--overlap", "1h"]);
    refused.refused(65, &["the wall clock", "may be wrong"]);
    house.daemon.run(&["rotate", &finished.id, "--extend", "1h"]).refused(65, &["may be wrong"]);
    rotate(&plain, &[]);
    house.daemon.json(&["rotate", &finished.id, "--finish"]);
    assert_eq!((house.verdict(&plain), house.verdict(&finished)), ("retired".to_owned(), "retired".to_owned()));
    house.jump(0);
    assert_eq!((house.verdict(&plain), house.verdict(&finished)), ("retired".to_owned(), "retired".to_owned()), "set right");
    for key in [&plain, &finished] {
        let left = house.retires_in(key, 1).expect("it has retired");
        assert!(left <= 0, "{left} ms");
    }
    rotate(&plain, &["--overlap", "1h"]);
}

/// Cancelling went by the certain time alone: a secret that was called retired was good again.
#[test]
fn what_has_retired_by_a_clock_in_doubt_is_not_taken_back() {
    let house = House::new();
    let [brief, long] = ["brief", "long"].map(|name| house.key(name, None));
    let rotate = |key: &Made, flags: &[&str]| house.daemon.run(&[&["rotate", &key.id], flags].concat());
    assert_eq!((rotate(&brief, &["--overlap", "2h"]).code, rotate(&long, &["--overlap", "7d"]).code), (0, 0));
    house.jump(24 * HOUR);
    assert_eq!((house.verdict(&brief), house.verdict(&long)), ("retired".to_owned(), "ok".to_owned()));
    for flags in [&["--extend", "7d"][..], &["--cancel"]] {
        rotate(&brief, flags).refused(65, &["the wall clock", "may be wrong"]);
        assert_eq!(house.verdict(&brief), "retired", "{flags:?}");
    }
    assert_eq!(rotate(&long, &["--cancel"]).code, 0, "by no clock has it retired");
    assert_eq!((house.verdict(&long), house.retires_in(&long, 1)), ("ok".to_owned(), None));
    house.jump(0);
    assert_eq!(rotate(&brief, &["--cancel"]).code, 0, "set right, it has not retired");
    assert_eq!(house.verdict(&brief), "ok");
}

/// All that was counted is found where it was really counted, whatever the clock showed; and no report, listing or judgement is about another decade.
#[test]
fn what_is_counted_while_the_clock_is_wrong_is_of_the_right_time() {
    let mut house = House::new();
    let key = house.key("counted", None);
    let begun = Instant::now();
    for jump in [0, TEN_YEARS, -TEN_YEARS, 0] {
        house.jump(jump);
        (0..5).for_each(|_| assert_eq!(house.verdict(&key), "ok"));
        // Written while the clock is as it is.
        thread::sleep(Duration::from_millis(1_300));
        assert!(house.daemon.run(&["unusual", "--json"]).code <= 1, "{}", house.daemon.log());
    }
    house.jump(TEN_YEARS);
    (0..5).for_each(|_| assert_eq!(house.verdict(&key), "ok"));
    // What was counted and not written before a kill, too.
    house.daemon.kill9();
    house.jump(0);
    house.daemon.start_again();
    eventually("all is written", || counted(&house.daemon.json(&["usage", &key.id, "--last", "1h"])) == 25);
    for last in ["24h", "30d"] {
        assert_eq!(counted(&house.daemon.json(&["usage", &key.id, "--last", last])), 25, "{last}");
    }
    let shown = house.daemon.json(&["show", &key.id]);
    let used: doorward::key::Instant = text(&shown["secrets"][0]["last_used_at"]).parse().expect("an instant");
    let ago = doorward::clock::wall().0 - used.0;
    assert!((0..=begun.elapsed().as_millis() as i64 + 1_000).contains(&ago), "used {ago} ms ago: {shown}");
    assert_eq!(house.daemon.json(&["check"])["clean"], true);
}

/// A clock that was wrong for so long that it was believed is put right by hand: the keys that ended in between are as they were.
#[test]
fn a_mistake_that_was_believed_is_put_right_offline() {
    let mut house = House::new();
    let key = house.key("year", Some(Duration::from_secs(365 * 86_400)));
    house.daemon.terminate();
    house.jump(TEN_YEARS);
    house.believe();
    house.jump(0);
    house.daemon.start_again();
    assert_eq!(house.verdict(&key), "expired", "time goes on from then");
    assert!(house.problems().contains("behind the time that was reached before"));
    house.daemon.terminate();
    let said = house.believe();
    assert!(said.contains("time goes on from"), "{said}");
    house.daemon.start_again();
    assert_eq!((house.verdict(&key), house.problems()), ("ok".to_owned(), "[]".to_owned()));
}

/// The sum of a report.
fn counted(report: &Value) -> i64 {
    report["total"].as_i64().unwrap_or_else(|| panic!("no total: {report}"))
}
