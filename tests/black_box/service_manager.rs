//! What systemd does for a service, as far as the daemon sees it: it makes the sockets and holds them, passes them to each daemon that it starts, and
//! hears on a socket of its own how that one is.

use std::fs::File;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::daemon::COMMAND;

/// How long anything may take. Generous: the tests of all files share the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A holder of sockets, and the daemon that it started last.
pub(crate) struct ServiceManager {
    home: TempDir,
    verify: UnixListener,
    admin: UnixListener,
    hears: UnixDatagram,
    /// `FileDescriptorName=` of both sockets.
    pub(crate) names: &'static str,
    /// Further variables for the daemon.
    pub(crate) environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl ServiceManager {
    pub(crate) fn new() -> ServiceManager {
        let home = tempfile::tempdir().expect("a temporary folder");
        let run = home.path().join("run");
        std::fs::create_dir(&run).expect("a run directory");
        let hears = UnixDatagram::bind(home.path().join("notify")).expect("a socket to hear on");
        hears.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let listen = |name| UnixListener::bind(run.join(name)).expect("a listener");
        let (verify, admin) = (listen("verify.sock"), listen("admin.sock"));
        ServiceManager { home, verify, admin, hears, names: "verify:admin", environment: Vec::new(), child: None }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.home().join("run")
    }

    pub(crate) fn verify_socket(&self) -> PathBuf {
        self.run_dir().join("verify.sock")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a daemon").id()
    }

    /// Starts a daemon, and passes both sockets to it as the descriptors 3 and 4.
    pub(crate) fn start(&mut self) {
        let lend = |listener: &UnixListener| Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().expect("a descriptor")));
        let log = File::options().create(true).append(true).open(self.home().join("daemon.log")).expect("a log");
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$@\"", "sh", COMMAND, "serve"]);
        command.arg("--data-dir").arg(self.home().join("data")).arg("--run-dir").arg(self.run_dir());
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", self.names).env("NOTIFY_SOCKET", self.home().join("notify"));
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.stdin(lend(&self.verify)).stdout(lend(&self.admin)).stderr(log).spawn().expect("a daemon"));
    }

    /// Waits for a message that has this assignment among its lines, and returns all of it.
    #[track_caller]
    pub(crate) fn hear(&self, assignment: &str) -> String {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "never heard {assignment}: {}", self.log());
            let message = self.hear_any(PATIENCE).unwrap_or_else(|| panic!("never heard {assignment}: {}", self.log()));
            if message.lines().any(|line| line == assignment) {
                return message;
            }
        }
    }

    /// The next message within a time.
    pub(crate) fn hear_any(&self, within: Duration) -> Option<String> {
        let mut message = [0; 4_096];
        self.hears.set_read_timeout(Some(within)).expect("a timeout");
        let length = self.hears.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for the daemon's end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.take().expect("a daemon").wait().expect("its end")
    }

    /// SIGTERM or SIGKILL, its end, and the next daemon, as `systemctl restart` does.
    pub(crate) fn restart(&mut self, signal: &str) {
        self.signal(signal);
        let status = self.ended();
        assert!(signal == "KILL" || status.success(), "{status}: {}", self.log());
        self.start();
        self.hear("READY=1");
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}
