use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{COMMAND, Daemon, eventually, text};

/// A user and groups that nobody else has.
const USER: &str = "54321";
const FULL: &str = "54331";
const READ: &str = "54332";

/// Who asks: the role, and what `setpriv` makes of the command.
const ROLES: [(&str, &[&str]); 5] = [
    ("root", &["--reuid", "0", "--regid", "0", "--clear-groups"]),
    ("full by a supplementary group", &["--reuid", USER, "--regid", USER, "--groups", "54321,54331"]),
    ("read by its primary group", &["--reuid", USER, "--regid", READ, "--clear-groups"]),
    ("read by a supplementary group", &["--reuid", USER, "--regid", USER, "--groups", "7,54332"]),
    ("nobody", &["--reuid", USER, "--regid", USER, "--groups", "7,8"]),
];

/// Verbs of the admin socket, and whether they only look. `{id}` is a key's, and each call gets one of its own.
const VERBS: [(&[&str], bool); 35] = [
    (&["status"], true),
    (&["list"], true),
    (&["show", "{id}"], true),
    (&["history"], true),
    (&["history", "{id}"], true),
    (&["usage"], true),
    (&["usage", "{id}"], true),
    (&["expiring"], true),
    (&["advise"], true),
    (&["unusual"], true),
    (&["denials"], true),
    (&["functions", "list"], true),
    (&["country", "203.0.113.9"], true),
    (&["explain", "{id}", "--function", "leads.list"], true),
    (&["identify"], true),
    (&["check", "--head"], true),
    (&["check"], false),
    (&["export", "--jsonl"], true),
    (&["export", "--jsonl", "--digests"], false),
    (&["create", "--account", "acme", "--name", "new-{n}"], false),
    (&["edit", "{id}", "--description", "x"], false),
    (&["disable", "{id}"], false),
    (&["enable", "{id}"], false),
    (&["copy", "{id}", "--name", "copy-{n}"], false),
    (&["rotate", "{id}"], false),
    (&["rotate", "{id}", "--finish"], false),
    (&["revoke", "{id}", "--version", "1"], false),
    (&["delete", "{id}"], false),
    (&["undelete", "{id}"], false),
    (&["disable", "--account", "acct-{n}", "--yes"], false),
    (&["functions", "add", "f.{n}"], false),
    (&["functions", "restrict", "leads.list"], false),
    (&["functions", "unrestrict", "leads.list"], false),
    (&["functions", "remove", "leads.gone"], false),
    (&["import", "-", "--jsonl"], false),
];

/// The exit code that says 'not allowed'.
const NOT_ALLOWED: i32 = 77;

/// Every verb in every role: who may not is told so, nothing happens, and it is logged and counted; who may never hears of permission.
#[test]
fn every_verb_in_every_role() {
    if Command::new("id").arg("-u").output().expect("id").stdout != b"0\n" {
        return eprintln!("not root: nobody else to be");
    }
    let daemon = Daemon::start_configured(&format!(
        "data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[admin]\nmode = \"0666\"\nfull_groups = [\"{FULL}\"]\nread_groups = [\"{READ}\"]\n"
    ));
    fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
    let command = daemon.home().join("doorward");
    fs::copy(COMMAND, &command).expect("a command that others may run");
    daemon.json(&["functions", "add", "leads.list"]);
    fs::write(
        daemon.home().join("line"),
        "{\"account\":\"acme\",\"name\":\"imported\",\"token_sha256\":\"".to_owned() + &"5a".repeat(32) + "\"}\n",
    )
    .expect("a line");
    let sequence = || daemon.json(&["status"])["store"]["sequence"].clone();
    for (number, (role, privileges)) in ROLES.iter().enumerate() {
        for (verb, (words, looks)) in VERBS.iter().enumerate() {
            let n = format!("{number}-{verb}");
            let id = daemon.create(&format!("acct-{n}/key"), &["--grant", "leads.list"]).id;
            let words: Vec<String> = words.iter().map(|word| word.replace("{id}", &id).replace("{n}", &n)).collect();
            let (before, refused_before) = (sequence(), forbidden(&daemon));
            let (code, said) = run_as(&daemon, &command, privileges, &words);
            let allowed = number < 2 || (*looks && number < 4);
            assert_ne!(code, 64, "{words:?}: {said}");
            assert_eq!(code != NOT_ALLOWED, allowed, "{role}: {words:?}: {code}: {said}");
            if !allowed {
                assert_eq!(sequence(), before, "{role}: {words:?} changed something");
                assert_eq!(forbidden(&daemon), refused_before + 1, "{role}: {words:?} is counted");
            }
        }
    }
    let refusals = daemon.log().lines().filter(|line| line.contains("admin socket: refused") && line.contains("uid=54321")).count() as u64;
    assert_eq!(refusals, forbidden(&daemon), "each refusal is logged with its user");
}

fn forbidden(daemon: &Daemon) -> u64 {
    daemon.json(&["status"])["admin"]["forbidden"].as_u64().expect("a number")
}

fn run_as(daemon: &Daemon, command: &Path, privileges: &[&str], words: &[String]) -> (i32, String) {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(privileges).arg("--").arg(command).args(words).env("DOORWARD_RUN_DIR", daemon.run_dir());
    let line = fs::File::open(daemon.home().join("line")).expect("a line to import");
    let output = setpriv.stdin(line).output().expect("setpriv");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The peppers' pages are locked, no core dump may be written, and others of the same user may not read the process.
#[test]
fn the_process_keeps_its_secrets() {
    let daemon = Daemon::start();
    let proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", daemon.pid())).expect("of this process");
    let locked = proc("status").lines().find_map(|line| line.strip_prefix("VmLck:").map(str::trim).map(str::to_owned));
    assert!(locked.as_deref().is_some_and(|locked| locked != "0 kB"), "{locked:?}");
    let core = proc("limits").lines().find(|line| line.starts_with("Max core file size")).map(text_of).expect("a limit");
    assert_eq!(core, ["0", "0"]);
    assert!(
        proc("smaps").lines().any(|line| line.starts_with("VmFlags:") && line.split_whitespace().any(|flag| flag == "dd")),
        "not dumped"
    );
    let owner = fs::metadata(format!("/proc/{}/mem", daemon.pid())).expect("its memory");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0, "an undumpable process is root's");
    assert_eq!(text(&daemon.json(&["status"])["health"]), "ok");
    assert!(!daemon.log().contains("could not be locked"), "{}", daemon.log());
}

/// The command has tokens in its memory, and sometimes the pepper: others of its user cannot look into it, and no dump is written.
#[test]
fn the_command_keeps_its_secrets() {
    if Command::new("id").arg("-u").output().expect("id").stdout != b"0\n" {
        return eprintln!("not root: nobody else to be");
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
    let command = home.path().join("doorward");
    fs::copy(COMMAND, &command).expect("a command that others may run");
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(&command).args(["identify", "--token-file", "-"]);
    // It waits for the token.
    let mut running = setpriv.env("DOORWARD_RUN_DIR", home.path()).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("setpriv");
    let proc = |file: &str| format!("/proc/{}/{file}", running.id());
    let owner = |file: &str| fs::metadata(proc(file)).map(|file| std::os::unix::fs::MetadataExt::uid(&file)).ok();
    let runs = || fs::read_link(proc("exe")).is_ok_and(|exe| exe == command);
    eventually("it is undumpable, and so root's", || runs() && owner("status") == Some(0) && owner("mem") == Some(0));
    let limits = fs::read_to_string(proc("limits")).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).map(text_of).expect("a limit");
    assert_eq!(core, ["0", "0"]);
    running.kill().expect("it ends");
    running.wait().expect("its end");
}

fn text_of(line: &str) -> Vec<String> {
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}
