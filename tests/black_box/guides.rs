//! The guides do what they say. Each `sh` block runs, in order, in one shell; of a `text` block behind it, each line must be among the lines that the block
//! printed, in order, where runs of spaces are one space and `…` stands for anything. No command may end with a code from 64 on, unless the guide itself catches it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon::{COMMAND, Daemon, testdata};

#[test]
fn audit_keys() {
    follow("audit-keys.md");
}

#[test]
fn change_a_key() {
    follow("change-a-key.md");
}

#[test]
fn read_usage() {
    follow("read-usage.md");
}

#[test]
fn backup_and_restore() {
    follow("backup-and-restore.md");
}

#[test]
fn restricted_functions() {
    follow("restricted-functions.md");
}

/// The check is shown what it must catch.
#[test]
fn a_promise_that_is_not_kept_is_caught() {
    assert_eq!(missing("1\tretiring\tx\n2\tcurrent\n", "1 retiring …\n2 current"), None);
    assert_eq!(missing("2\tcurrent\n1\tretiring\n", "1 retiring\n2 current"), Some("2 current".to_owned()), "out of order");
    assert_eq!(missing("verdict: okay\n", "verdict: ok"), Some("verdict: ok".to_owned()), "whole lines");
    assert_eq!(missing("a b c d\n", "a … d"), None);
    assert_eq!(missing("a b c d\n", "… c"), Some("… c".to_owned()));
    let steps = steps("```sh\na\nb\n```\n```text\nx\n```\nprose\n```sh\nc\n```\n");
    assert_eq!(steps, [("a\nb\n".to_owned(), "x\n".to_owned()), ("c\n".to_owned(), String::new())]);
}

fn follow(guide: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(guide)).expect("the guide");
    let steps = steps(&text);
    assert!(steps.len() > 5, "its blocks are found");
    let daemon = Daemon::start_bare(Some(testdata("country/flat.mmdb")));
    let folder = daemon.home().join("reader");
    fs::create_dir(&folder).expect("the reader's folder");
    let mut script = String::from(
        "set -uo pipefail\ntrap 'code=$?; [ $code -lt 64 ] || { echo \"failed with $code: $BASH_COMMAND\"; exit $code; }' ERR\n",
    );
    for (number, (commands, _)) in steps.iter().enumerate() {
        script.push_str(&format!("echo '=== {number}'\n{commands}"));
    }
    let path =
        std::env::join_paths([Path::new(COMMAND).parent().expect("its folder"), Path::new("/usr/bin"), Path::new("/bin")]).expect("a path");
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(&script).current_dir(&folder).env("PATH", path).env("DOORWARD_RUN_DIR", daemon.run_dir());
    let output = bash.output().expect("bash");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.code().is_some_and(|code| code < 64), "{guide}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    for (number, (commands, promised)) in steps.iter().enumerate() {
        let after = printed.split_once(&format!("=== {number}\n")).unwrap_or_else(|| panic!("{guide} ended before: {commands}")).1;
        let shown = after.split_once("=== ").map_or(after, |(shown, _)| shown);
        if let Some(line) = missing(shown, promised) {
            panic!("{guide} promises '{line}' of\n{commands}which printed\n{shown}");
        }
    }
}

/// Each `sh` block with the `text` block behind it, if there is one.
fn steps(text: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut block = None;
    for line in text.lines() {
        match (block, line) {
            (None, "```sh") => {
                steps.push(Default::default());
                block = Some("sh");
            }
            (None, "```text") => block = Some("text"),
            (Some(_), "```") => block = None,
            (Some(kind), line) => {
                let step = steps.last_mut().expect("a text block stands behind an sh block");
                let part = if kind == "sh" { &mut step.0 } else { &mut step.1 };
                part.push_str(line);
                part.push('\n');
            }
            _ => {}
        }
    }
    steps
}

/// The first promised line that is not among the lines, each searched behind the one before.
fn missing(printed: &str, promised: &str) -> Option<String> {
    let mut lines = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut promises = promised.lines().filter(|line| !line.trim().is_empty());
    promises.find(|promise| !lines.any(|line| matches(&line, promise))).map(str::to_owned)
}

fn matches(line: &str, promise: &str) -> bool {
    let pieces: Vec<&str> = promise.split('…').map(str::trim).collect();
    let (first, last) = (pieces[0], pieces[pieces.len() - 1]);
    if pieces.len() == 1 {
        return line == first;
    }
    let mut rest = line;
    for piece in &pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    line.starts_with(first) && line.ends_with(last)
}
