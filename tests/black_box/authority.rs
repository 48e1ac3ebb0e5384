use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::Value;

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
const VERBS: [(&[&str], bool); 39] = [
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
    (&["rotate", "{id}", "--extend", "1h"], false),
    (&["rotate", "{id}", "--finish"], false),
    (&["rotate", "{id}", "--cancel"], false),
    (&["revoke", "{id}", "--version", "1"], false),
    (&["delete", "{id}"], false),
    (&["undelete", "{id}"], false),
    (&["disable", "--account", "acct-{n}", "--yes"], false),
    (&["functions", "add", "f.{n}"], false),
    (&["functions", "restrict", "leads.list"], false),
    (&["functions", "unrestrict", "leads.list"], false),
    (&["functions", "remove", "leads.gone"], false),
    (&["functions", "remove", "leads.gone", "--with-grants", "--yes"], false),
    (&["import", "-", "--jsonl"], false),
    (&["backup", "{home}/backups/{n}", "--no-verify"], false),
];

/// Verbs that ask nothing of the admin socket.
const ELSEWHERE: [&str; 6] = ["serve", "verify", "restore", "bench", "check-config", "completions"];

/// Routes of the admin socket, with their parameters, and whether they only look. A query makes a row of its own.
const ROUTES: [(&str, &str, bool); 36] = [
    ("GET", "/v1/status", true),
    ("GET", "/v1/keys", true),
    ("POST", "/v1/keys", false),
    ("GET", "/v1/keys/{key}", true),
    ("PATCH", "/v1/keys/{key}", false),
    ("POST", "/v1/keys/{key}/enable", false),
    ("POST", "/v1/keys/{key}/disable", false),
    ("POST", "/v1/keys/{key}/copy", false),
    ("POST", "/v1/keys/{key}/rotate", false),
    ("POST", "/v1/keys/{key}/revoke", false),
    ("DELETE", "/v1/keys/{key}", false),
    ("POST", "/v1/keys/{key}/undelete", false),
    ("POST", "/v1/keys-bulk", false),
    ("GET", "/v1/keys/{key}/history", true),
    ("GET", "/v1/history", true),
    ("GET", "/v1/history-head", true),
    ("POST", "/v1/check", false),
    ("POST", "/v1/checkpoint", false),
    ("DELETE", "/v1/checkpoint", false),
    ("GET", "/v1/functions", true),
    ("POST", "/v1/functions", false),
    ("PATCH", "/v1/functions/{name}", false),
    ("DELETE", "/v1/functions/{name}", false),
    ("GET", "/v1/functions/{name}/history", true),
    ("GET", "/v1/usage", true),
    ("GET", "/v1/denials", true),
    ("GET", "/v1/advise", true),
    ("GET", "/v1/unusual", true),
    ("GET", "/v1/country/{address}", true),
    ("POST", "/v1/identify", true),
    ("POST", "/v1/explain", true),
    ("POST", "/v1/import", false),
    ("GET", "/v1/export", true),
    ("GET", "/v1/export?digests=true", false),
    ("GET", "/metrics", true),
    ("GET", "/v1/openapi.json", true),
];

/// The exit code that says 'not allowed', and what it says where the admin socket refuses: a file can be refused, too.
const NOT_ALLOWED: i32 = 77;
const WHO_MAY: &str = "the configuration's lists of admin users and groups say who may";

/// Every verb in every role: who may not is told so, nothing happens, and it is logged and counted; who may never hears of permission.
#[test]
fn every_verb_in_every_role() {
    if !is_root() {
        return eprintln!("not root: nobody else to be");
    }
    let daemon = daemon_for_groups();
    fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
    let command = daemon.home().join("doorward");
    fs::copy(COMMAND, &command).expect("a command that others may run");
    daemon.json(&["functions", "add", "leads.list"]);
    let backups = daemon.home().join("backups");
    fs::create_dir(&backups).expect("a folder for backups");
    fs::set_permissions(&backups, fs::Permissions::from_mode(0o777)).expect("a folder that others may write to");
    let home = daemon.home().display().to_string();
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
            let words: Vec<String> =
                words.iter().map(|word| word.replace("{id}", &id).replace("{n}", &n).replace("{home}", &home)).collect();
            let (before, refused_before) = (sequence(), forbidden(&daemon));
            let (code, said) = run_as(&daemon, &command, privileges, &words);
            let allowed = number < 2 || (*looks && number < 4);
            assert_ne!(code, 64, "{words:?}: {said}");
            // What a backup copies only the daemon's own user may read, whatever the admin socket allows.
            let files = code == NOT_ALLOWED && words[0] == "backup" && said.contains("ermission denied");
            assert_eq!(code != NOT_ALLOWED || files, allowed, "{role}: {words:?}: {code}: {said}");
            assert_eq!(said.contains(WHO_MAY), !allowed, "{role}: {words:?}: {code}: {said}");
            if !allowed {
                assert_eq!(sequence(), before, "{role}: {words:?} changed something");
                assert_eq!(forbidden(&daemon), refused_before + 1, "{role}: {words:?} is counted");
            }
        }
    }
    let refusals = daemon.log().lines().filter(|line| line.contains("admin socket: refused") && line.contains("uid=54321")).count() as u64;
    assert_eq!(refusals, forbidden(&daemon), "each refusal is logged with its user");
}

/// The program says which verbs it has: one that is in neither table fails.
#[test]
fn no_verb_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = Command::new(COMMAND).arg("man").arg(folder.path()).status().expect("the command");
    assert!(written.success(), "a page for each verb");
    let pages =
        fs::read_dir(folder.path()).expect("the pages").map(|page| page.expect("a page").file_name().into_string().expect("a name"));
    let verbs: BTreeSet<String> = pages.filter_map(|page| Some(page.strip_suffix(".1")?.strip_prefix("doorward-")?.to_owned())).collect();
    let rows = VERBS.iter().flat_map(|(words, _)| [Some(words[0].to_owned()), words.get(1).map(|second| format!("{}-{second}", words[0]))]);
    let known: BTreeSet<String> = rows.flatten().chain(ELSEWHERE.map(str::to_owned)).collect();
    assert!(verbs.contains("functions-add") && verbs.contains("check-config"), "{verbs:?}");
    assert_eq!(verbs.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "verbs without a row");
    let gone = VERBS.iter().map(|(words, _)| words[0]).chain(ELSEWHERE).find(|verb| !verbs.contains(*verb));
    assert_eq!(gone, None, "a row without a verb");
}

/// Every route in every role, those that no verb asks for, too. The program's own document says which there are.
#[test]
fn every_route_in_every_role() {
    if !is_root() {
        return eprintln!("not root: nobody else to be");
    }
    let daemon = daemon_for_groups();
    fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
    daemon.json(&["functions", "add", "leads.list"]);
    let (_, document) = ask_as(&daemon, 0, "GET", "/v1/openapi.json");
    let document: Value = serde_json::from_str(&document).expect("the document");
    let paths = document["paths"].as_object().expect("its paths");
    let routes: BTreeSet<(String, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().expect("methods").keys().map(move |method| (method.to_uppercase(), path.as_str())))
        .collect();
    let rows = ROUTES.iter().filter(|(_, path, _)| !path.contains('?')).map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
    assert_eq!(routes, rows, "a route without a row, or a row without a route");
    let sequence = || daemon.json(&["status"])["store"]["sequence"].clone();
    for (number, (role, _)) in ROLES.iter().enumerate() {
        let id = daemon.create(&format!("acct-{number}/key"), &["--grant", "leads.list"]).id;
        for (method, path, looks) in ROUTES {
            let place = path.replace("{key}", &id).replace("{name}", "leads.list").replace("{address}", "203.0.113.9");
            let (before, refused_before) = (sequence(), forbidden(&daemon));
            let (status, said) = ask_as(&daemon, number, method, &place);
            let allowed = number < 2 || (looks && number < 4);
            assert!(![404, 405].contains(&status) || place.contains(&id), "{method} {path}: {status}: {said}");
            assert_eq!(status != 403, allowed, "{role}: {method} {path}: {status}: {said}");
            if !allowed {
                assert_eq!((sequence(), forbidden(&daemon)), (before, refused_before + 1), "{role}: {method} {path}");
            }
        }
    }
}

/// Asks as a role of `ROLES`: a thread of its own becomes that user, and connects. The status, and the body.
fn ask_as(daemon: &Daemon, role: usize, method: &str, path: &str) -> (u16, String) {
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let (user, full, read) = (number(USER), number(FULL), number(READ));
    let (uid, gid, groups) = match role {
        0 => (0, 0, vec![]),
        1 => (user, user, vec![user, full]),
        2 => (user, read, vec![]),
        3 => (user, user, vec![7, read]),
        _ => (user, user, vec![7, 8]),
    };
    let socket = daemon.run_dir().join("admin.sock");
    let connect = move || {
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&groups).expect("groups");
        set_thread_res_gid(gid, gid, gid).expect("a group");
        set_thread_res_uid(uid, uid, uid).expect("a user");
        UnixStream::connect(socket).expect("a connection")
    };
    let mut stream = thread::spawn(connect).join().expect("a connection as another user");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).expect("a request that is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"));
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().expect("id").stdout == b"0\n"
}

fn daemon_for_groups() -> Daemon {
    Daemon::start_configured(&format!(
        "data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[admin]\nmode = \"0666\"\nfull_groups = [\"{FULL}\"]\nread_groups = [\"{READ}\"]\n"
    ))
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
    if !is_root() {
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
