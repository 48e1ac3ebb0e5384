use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::daemon::{COMMAND, Daemon};

/// A user other than root, who is in every Debian.
const NOBODY: &str = "65534";

/// Runs the command as another user; only root can.
fn as_nobody(daemon: &Daemon, command: &Path, args: &[&str]) -> Output {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(command).args(args);
    setpriv.env("DOORWARD_RUN_DIR", daemon.run_dir()).output().expect("setpriv")
}

/// The kernel says who the peer is: one who may read reads and changes nothing, and one who may not even that gets nothing.
#[test]
fn who_may_only_read_changes_nothing() {
    let root = Command::new("id").arg("-u").output().expect("id").stdout == b"0\n";
    if !root {
        eprintln!("not root: nobody else to be");
        return;
    }
    let base = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n[admin]\nmode = \"0666\"\n";
    for (readers, list, disable) in
        [(format!("read_users = [\"{NOBODY}\"]\n"), 0, 77), (String::new(), 77, 77), (format!("full_users = [\"{NOBODY}\"]\n"), 0, 0)]
    {
        let daemon = Daemon::start_configured(&format!("{base}{readers}"));
        fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
        let command = daemon.home().join("doorward");
        fs::copy(COMMAND, &command).expect("a command that others may run");
        daemon.create("acme/web", &["--grant", "*"]);
        let verbs =
            [(&["list", "--json"][..], list), (&["check", "--head"], list), (&["check"], disable), (&["disable", "acme/web"], disable)];
        for (args, code) in verbs {
            let output = as_nobody(&daemon, &command, args);
            assert_eq!(output.status.code(), Some(code), "{readers:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let history = daemon.json(&["history", "acme/web"]);
        if disable == 0 {
            assert_eq!(history["entries"][0]["actor"]["uid"].to_string(), NOBODY);
        } else {
            assert_eq!(daemon.json(&["show", "acme/web"])["state"], "active");
            assert_eq!(history["entries"].as_array().expect("entries").len(), 1);
        }
    }
}
