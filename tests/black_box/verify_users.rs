use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use doorward::client::{Client, ClientError};
use rustix::process::Uid;

use crate::daemon::{COMMAND, Daemon, eventually, run_in};

/// Users that nobody is.
const NAMED: &str = "54341";
const OTHER: &str = "54342";

/// The exit code of a verb whose user may not ask.
const TURNED_AWAY: i32 = 77;

struct House {
    daemon: Daemon,
    command: PathBuf,
    token: String,
}

impl House {
    fn with_users(users: &str) -> House {
        let daemon = Daemon::start_configured(&configuration(users));
        fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
        let command = daemon.home().join("doorward");
        fs::copy(COMMAND, &command).expect("a command that others may run");
        daemon.json(&["functions", "add", "f"]);
        let token = daemon.create("acme/web", &["--grant", "f"]).token;
        fs::write(daemon.home().join("token"), &token).expect("a token");
        fs::set_permissions(daemon.home().join("token"), fs::Permissions::from_mode(0o644)).expect("for all to read");
        House { daemon, command, token }
    }

    /// `verify` as this user, with the groups that it was given.
    fn verify_as(&self, uid: &str, groups: &[&str]) -> (i32, String) {
        let token = fs::File::open(self.daemon.home().join("token")).expect("a token");
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", uid, "--regid", uid]).args(groups).arg("--").arg(&self.command);
        setpriv.args(["verify", "--function", "f", "--token-file", "-"]).env("DOORWARD_RUN_DIR", self.daemon.run_dir());
        let output = setpriv.stdin(token).output().expect("setpriv");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn name(&self, users: &str) {
        let home = self.daemon.home().display().to_string();
        fs::write(self.daemon.home().join("doorward.toml"), configuration(users).replace("{home}", &home)).expect("a configuration");
        let reloaded = self.daemon.log().matches("reloaded").count();
        self.daemon.signal("HUP");
        eventually("it is reloaded", || self.daemon.log().matches("reloaded").count() > reloaded);
    }

    fn count(&self, which: &str) -> u64 {
        self.daemon.json(&["status"])["verify"][which]["forbidden"].as_u64().expect("a number")
    }
}

fn configuration(users: &str) -> String {
    format!("data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[verify]\nmode = \"0666\"\nusers = [{users}]\n")
}

fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("not root: nobody else to be");
    }
    root
}

/// By the kernel's word, whatever groups a process has; the other is told why, logged now and then, and counted each time.
#[test]
fn who_is_named_may_ask_and_no_other_user() {
    if !is_root() {
        return;
    }
    let house = House::with_users(&format!("\"{NAMED}\""));
    assert_eq!(house.verify_as(NAMED, &["--clear-groups"]), (0, String::new()));
    assert_eq!(house.verify_as("0", &["--clear-groups"]).0, 0, "root");
    for groups in [&["--clear-groups"][..], &["--groups", NAMED], &["--groups", "0"]] {
        let (code, said) = house.verify_as(OTHER, groups);
        assert_eq!(code, TURNED_AWAY, "{said}");
        assert!(said.contains("verify.users does not name the user"), "{said}");
    }
    for _ in 0..30 {
        assert_eq!(house.verify_as(OTHER, &["--clear-groups"]).0, TURNED_AWAY);
    }
    assert_eq!(house.count("refused_by"), 33);
    let log = house.daemon.log();
    let told = log.lines().filter(|line| line.contains("verify.users does not name this user") && line.contains("uid=54342"));
    assert!((1..=3).contains(&told.count()), "now and then, and not each time: {log}");
    assert_eq!(house.daemon.metrics()["doorward_verify_connections_refused_total{reason=\"forbidden\"}"], 33.0);
    assert_eq!(house.daemon.json(&["status"])["verify"]["verifies"], 2, "who is turned away is told nothing of a token");
}

/// A reload names others: whose connection is open and who is not named any more is cut at once. A list that is wrong changes nothing.
#[test]
fn a_reload_applies_the_list_to_open_connections_too() {
    if !is_root() {
        return;
    }
    let house = House::with_users("");
    assert_eq!(house.verify_as(OTHER, &["--clear-groups"]).0, 0, "none is named: all whom the mode lets in");
    // A connection that another user has opened and holds: only that thread becomes one.
    let socket = house.daemon.run_dir().join("verify.sock");
    let mut held = std::thread::spawn(move || {
        let other = Uid::from_raw(OTHER.parse().expect("a number"));
        rustix::thread::set_thread_res_uid(other, other, other).expect("another user");
        UnixStream::connect(socket).expect("a connection")
    })
    .join()
    .expect("no panic");
    held.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    eventually("it is taken in", || house.daemon.json(&["status"])["verify"]["connections"] == 1);
    let mut own = house.daemon.client();
    house.name(&format!("\"{NAMED}\""));
    assert_eq!(held.read(&mut [0; 1]).expect("an end"), 0, "the connection ended");
    assert_eq!((house.count("ended"), house.count("refused_by")), (1, 0));
    assert_eq!(house.verify_as(OTHER, &["--clear-groups"]).0, TURNED_AWAY);
    assert_eq!(crate::daemon::verdict(&mut own, &house.token, "f", None), doorward::key::Verdict::Ok, "root's connection stays");
    house.name_wrongly();
    assert_eq!(house.verify_as(OTHER, &["--clear-groups"]).0, TURNED_AWAY, "what is refused changes nothing");
    house.name("");
    assert_eq!(house.verify_as(OTHER, &["--clear-groups"]).0, 0);
}

impl House {
    fn name_wrongly(&self) {
        let home = self.daemon.home().display().to_string();
        let file = self.daemon.home().join("doorward.toml");
        fs::write(&file, configuration("\"no-such-user\"").replace("{home}", &home)).expect("a configuration");
        let checked = run_in(&self.daemon.run_dir(), &["check-config", &file.display().to_string()], "");
        checked.refused(78, &["verify.users", "no-such-user"]);
        self.daemon.signal("HUP");
        eventually("it is refused", || self.daemon.log().contains("verify.users: there is no user 'no-such-user'"));
    }
}

/// A server that turned away and closed before the Hello was written showed as a broken pipe.
#[test]
fn the_client_tells_why_it_was_turned_away() {
    let daemon = Daemon::start_configured("data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n[verify]\nmax_connections = 1\n");
    let socket = daemon.run_dir().join("verify.sock");
    let mut held = Vec::new();
    for _ in 0..20 {
        let late = UnixStream::connect(&socket).expect("a connection");
        // Time enough to be turned away, and not enough for the one before to be idle for so long that it makes room.
        std::thread::sleep(Duration::from_millis(20));
        match Client::over(late) {
            Err(ClientError::Refused { code: 5, message, .. }) => return assert!(message.contains("max_connections"), "{message}"),
            Err(error) => panic!("{error}"),
            Ok(client) => held.push(client),
        }
    }
    panic!("nobody was turned away");
}
