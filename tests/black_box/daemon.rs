//! A daemon of its own for each test: started in a temporary folder, spoken to with its own command, ended when the test ends.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use doorward::client::{Answer, Client, Request};
use doorward::key::Verdict;
use serde_json::Value;
use tempfile::TempDir;

/// How long the daemon may take to be ready, or to end. Generous: the tests of all files share the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon.
pub(crate) struct Daemon {
    home: TempDir,
    child: Child,
    country_db: Option<PathBuf>,
    config: Option<PathBuf>,
    environment: Environment,
}

/// What the daemon finds in its environment besides what the tests do.
type Environment = Vec<(&'static str, PathBuf)>;

/// What a verb did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A key that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Ran {
    /// The only JSON document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not one JSON document ({error}): {self:?}"))
    }

    /// Insists on the code of an error and on these words in its message.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stdout.is_empty(), "an error belongs on stderr: {self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is not in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

impl Daemon {
    /// On the flat country database of `testdata/`, with a few functions registered: see `FUNCTIONS`.
    pub(crate) fn start() -> Daemon {
        let daemon = Daemon::start_bare(Some(testdata("country/flat.mmdb")));
        for (name, restricted) in FUNCTIONS {
            let mut args = vec!["functions", "add", name];
            args.extend(restricted.then_some("--restricted"));
            daemon.json(&args);
        }
        daemon
    }

    /// Without any function.
    pub(crate) fn start_bare(country_db: Option<PathBuf>) -> Daemon {
        Daemon::launch(tempfile::tempdir().expect("a temporary folder"), country_db, None)
    }

    /// Without any function, in a folder that is prepared before.
    pub(crate) fn start_prepared(prepare: impl FnOnce(&Path)) -> Daemon {
        let home = tempfile::tempdir().expect("a temporary folder");
        prepare(home.path());
        Daemon::launch(home, None, None)
    }

    /// With a configuration file, in which `{home}` stands for the temporary folder.
    pub(crate) fn start_configured(template: &str) -> Daemon {
        let home = tempfile::tempdir().expect("a temporary folder");
        let config = home.path().join("doorward.toml");
        fs::write(&config, template.replace("{home}", &home.path().display().to_string())).expect("the configuration");
        Daemon::launch(home, None, Some(config))
    }

    /// In this folder, with an environment that is made for it.
    pub(crate) fn start_under(home: TempDir, template: &str, environment: impl FnOnce(&Path) -> Environment) -> Daemon {
        let config = home.path().join("doorward.toml");
        fs::write(&config, template.replace("{home}", &home.path().display().to_string())).expect("the configuration");
        let environment = environment(home.path());
        Daemon::launch_in(home, None, Some(config), environment)
    }

    fn launch(home: TempDir, country_db: Option<PathBuf>, config: Option<PathBuf>) -> Daemon {
        Daemon::launch_in(home, country_db, config, Vec::new())
    }

    fn launch_in(home: TempDir, country_db: Option<PathBuf>, config: Option<PathBuf>, environment: Environment) -> Daemon {
        let child = spawn(home.path(), country_db.as_deref(), config.as_deref(), &environment);
        let mut daemon = Daemon { home, child, country_db, config, environment };
        daemon.wait_until_ready(1);
        daemon
    }

    fn spawn(&mut self) {
        self.child = spawn(self.home.path(), self.country_db.as_deref(), self.config.as_deref(), &self.environment);
    }

    /// Tries to start it on the same folder: ready, or the code with which it ended and what it said.
    #[allow(dead_code, reason = "tests/crash uses it")]
    pub(crate) fn try_start(&mut self) -> Result<(), (i32, String)> {
        let (lines, length) = (self.ready_lines(), self.log().len());
        self.spawn();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a daemon to wait for") {
                return Err((status.code().unwrap_or(-1), self.log()[length..].to_owned()));
            }
            if self.ready_lines() > lines {
                return Ok(());
            }
            assert!(start.elapsed() < PATIENCE, "neither ready nor ended: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The temporary folder: `data`, `run` and `daemon.log` are in it.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.home().join("run")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home().join("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a verb.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, "")
    }

    /// Runs a verb that reads standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        run_in(&self.run_dir(), args, input)
    }

    /// Runs a verb with `--json` and insists that it succeeds.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.json()
    }

    /// Makes a key `account/name`.
    #[track_caller]
    pub(crate) fn create(&self, key: &str, flags: &[&str]) -> Made {
        let (account, name) = key.split_once('/').expect("account/name");
        made(&self.json(&[&["create", "--account", account, "--name", name], flags].concat()))
    }

    /// `verify` with its JSON document; the exit code is held against the verdict.
    #[track_caller]
    pub(crate) fn verify(&self, token: &str, function: &str, ip: Option<&str>) -> Value {
        let mut args = vec!["verify", "--function", function, "--token-file", "-", "--json"];
        if let Some(ip) = ip {
            args.extend(["--ip", ip]);
        }
        let ran = self.run_with_input(&args, token);
        let answer = ran.json();
        assert_eq!(ran.code, i32::from(answer["verdict"] != "ok"), "{ran:?}");
        answer
    }

    /// Only the verdict.
    #[track_caller]
    pub(crate) fn verdict(&self, token: &str, function: &str, ip: Option<&str>) -> String {
        text(&self.verify(token, function, ip)["verdict"])
    }

    /// A connection to the verify socket.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(&self.run_dir().join("verify.sock")).expect("a connection");
        client.set_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        let status = self.wait_for_end();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().expect("a running daemon");
        self.child.wait().expect("a daemon to wait for");
    }

    /// Starts it on the same folder, and kills it so much later, ready or not.
    pub(crate) fn kill_while_starting(&mut self, after: Duration) {
        self.spawn();
        thread::sleep(after);
        self.kill9();
    }

    /// Starts it again on the same folder.
    pub(crate) fn start_again(&mut self) {
        let before = self.ready_lines();
        self.spawn();
        self.wait_until_ready(before + 1);
    }

    /// Tries to start it again, and tells how that ends.
    pub(crate) fn fail_to_start(&mut self) -> (i32, String) {
        let before = self.log().len();
        self.spawn();
        let code = self.wait_for_end().code().unwrap_or(-1);
        (code, self.log()[before..].to_owned())
    }

    /// Tries to run a second daemon on the same folder, and tells how that ends.
    pub(crate) fn second(&self) -> Ran {
        let mut command = Command::new(COMMAND);
        command.arg("serve").arg("--data-dir").arg(self.home().join("data")).arg("--run-dir").arg(self.home().join("run-2"));
        let output = command.output().expect("a second daemon");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn restart(&mut self) {
        self.terminate();
        self.start_again();
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill").success());
    }

    fn wait_until_ready(&mut self, times: usize) {
        let start = Instant::now();
        while self.ready_lines() < times {
            let ended = self.child.try_wait().expect("a daemon to wait for");
            assert!(ended.is_none(), "the daemon ended with {ended:?}: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "not ready: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn ready_lines(&self) -> usize {
        self.log().lines().filter(|line| line.split_whitespace().any(|word| word == "ready")).count()
    }

    fn wait_for_end(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a daemon to wait for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// What `Daemon::start` registers, and whether it is restricted.
const FUNCTIONS: [(&str, bool); 4] = [("leads.insert", false), ("leads.list", false), ("leads.purge", true), ("status.read", false)];

pub(crate) const COMMAND: &str = env!("CARGO_BIN_EXE_doorward");

pub(crate) fn testdata(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file)
}

/// Runs a verb against the sockets in a folder.
pub(crate) fn run_in(run_dir: &Path, args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(COMMAND);
    command.args(args).env("DOORWARD_RUN_DIR", run_dir).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    let mut stdin = child.stdin.take().expect("its standard input");
    let input = input.to_owned();
    // A verb that fails early reads nothing, which is no error here.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("the writer");
    let utf8 = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), stdout: utf8(output.stdout), stderr: utf8(output.stderr) }
}

fn spawn(home: &Path, country_db: Option<&Path>, config: Option<&Path>, environment: &Environment) -> Child {
    let log = File::options().create(true).append(true).open(home.join("daemon.log")).expect("a log");
    let mut command = Command::new(COMMAND);
    command.arg("serve").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    match config {
        Some(config) => command.arg("--config").arg(config),
        None => command.arg("--data-dir").arg(home.join("data")).arg("--run-dir").arg(home.join("run")),
    };
    if let Some(country_db) = country_db {
        command.arg("--country-db").arg(country_db);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("the daemon")
}

#[track_caller]
pub(crate) fn made(document: &Value) -> Made {
    assert_eq!(document["replayed"], false, "{document}");
    Made { id: text(&document["id"]), token: text(&document["token"]) }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// The texts of a list.
#[track_caller]
pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(text).collect()
}

/// Asks over an open connection.
#[track_caller]
pub(crate) fn ask(client: &mut Client, token: &str, function: &str, ip: Option<&str>) -> Answer {
    let address: Option<IpAddr> = ip.map(|ip| ip.parse().expect("an address"));
    client.verify(&Request { token: token.as_bytes(), function, address }).expect("an answer")
}

#[track_caller]
pub(crate) fn verdict(client: &mut Client, token: &str, function: &str, ip: Option<&str>) -> Verdict {
    ask(client, token, function, ip).verdict
}

/// Tries until something holds, or fails after a while.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
