use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::daemon::{COMMAND, Daemon};

/// A shell in a mount namespace of its own, as a container has: each line that it reads is a command, of which it says the exit code.
struct Container {
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Container {
    /// With `from` of the host mounted at `to`, or none where that is not allowed.
    fn with_mount(from: &Path, to: &Path) -> Option<Container> {
        let script = format!(
            "mount --bind '{}' '{}' && echo mounted && while read -r line; do (eval \"$line\") >&2; echo $?; done",
            from.display(),
            to.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.stderr(Stdio::null()).spawn().ok()?;
        let (input, output) = (shell.stdin.take()?, BufReader::new(shell.stdout.take()?));
        let mut container = Container { shell, input, output };
        (container.line() == "mounted").then_some(container)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output");
        line.trim_end().to_owned()
    }

    /// The exit code of `verify` there.
    fn verify(&mut self, socket: &Path, token: &str) -> String {
        let verify =
            format!("printf %s {token} | {COMMAND} --verify-socket {} verify --function leads.list --token-file -", socket.display());
        writeln!(self.input, "{verify}").expect("a line");
        self.line()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A container that has the directory sees the socket of each daemon. One that has the socket itself keeps the first one's for ever, where the daemon
/// makes its own: that is why the documents say 'the directory'.
#[test]
fn a_container_mounts_the_directory_and_survives_a_restart() {
    let mut daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "*"]).token;
    let (directory, file) = (daemon.home().join("mounted"), daemon.home().join("mounted.sock"));
    std::fs::create_dir(&directory).expect("a directory to mount on");
    std::fs::write(&file, "").expect("a file to mount on");
    let socket = daemon.run_dir().join("verify.sock");
    let (Some(mut right), Some(mut wrong)) = (Container::with_mount(&daemon.run_dir(), &directory), Container::with_mount(&socket, &file))
    else {
        return eprintln!("no mount namespace may be made here: not tested");
    };
    assert_eq!((right.verify(&directory.join("verify.sock"), &token), wrong.verify(&file, &token)), ("0".into(), "0".into()));
    daemon.restart();
    assert_eq!(right.verify(&directory.join("verify.sock"), &token), "0", "the directory shows the new socket");
    assert_eq!(wrong.verify(&file, &token), "69", "the file is the old one");
}
