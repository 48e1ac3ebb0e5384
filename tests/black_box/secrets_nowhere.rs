use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::daemon::{Daemon, Ran, made};

/// No token turns up in a log, a history, an error, a process list, an export or a file of the store.
#[test]
fn no_token_turns_up_anywhere() {
    let mut daemon = Daemon::start();
    let canary = "canary-7d1f0c5b9a3e4826-token";
    let done = AtomicBool::new(false);
    let mut tokens = vec![canary.to_owned()];
    let seen = thread::scope(|scope| {
        let watch = scope.spawn(|| command_lines_until(&done));
        let line = format!("{{\"name\":\"old\",\"account\":\"acme\",\"grants\":[\"*\"],\"token\":\"{canary}\"}}\n");
        let mut said =
            vec![daemon.run_with_input(&["import", "-", "--jsonl"], &line), daemon.run_with_input(&["import", "-", "--jsonl"], &line)];
        let web = daemon.create("acme/web", &["--grant", "leads.*"]).token;
        let rotated = made(&daemon.json(&["rotate", "acme/web", "--overlap", "1d"])).token;
        for token in [canary, &web, &rotated] {
            // Right, wrong, and as part of what is not a request at all.
            for function in ["leads.list", "status.read", "nobody.registered"] {
                daemon.verdict(token, function, Some("198.51.100.7"));
            }
            said.push(daemon.run_with_input(&["identify", "--token-file", "-"], token));
            said.push(daemon.run_with_input(&["explain", "--function", "leads.list", "--token-file", "-"], token));
            said.push(daemon.run_with_input(&["verify", "--jsonl"], &format!("{{\"token\":\"{token}\",\"function\":7}}\n")));
            said.push(
                daemon
                    .run_with_input(&["verify", "--jsonl"], &format!("{{\"token\":\"{token}{}\",\"function\":\"f\"}}\n", "x".repeat(250))),
            );
            said.push(daemon.run_with_input(&["import", "-", "--jsonl"], &format!("{{\"token\":\"{token}\"\n")));
        }
        for verb in
            [&["list"][..], &["show", "acme/web"], &["history"], &["usage"], &["denials"], &["status"], &["export", "--jsonl", "--digests"]]
        {
            said.push(daemon.run(verb));
            said.push(daemon.run(&[verb, &["--json"]].concat()));
        }
        tokens.extend([web, rotated]);
        done.store(true, Ordering::Relaxed);
        (said, watch.join().expect("the watch"))
    });
    let (said, command_lines) = seen;
    daemon.restart();
    daemon.terminate();
    for token in &tokens {
        // Half a token is as bad as all of it; the prefix is not.
        let piece = &token.as_bytes()[3..token.len() / 2 + 3];
        for Ran { stdout, stderr, .. } in &said {
            assert!(!holds(stdout.as_bytes(), piece) && !holds(stderr.as_bytes(), piece), "in an answer");
        }
        assert!(!command_lines.iter().any(|line| holds(line, piece)), "in an argument list");
        nowhere_below(daemon.home(), piece);
    }
    assert!(command_lines.iter().any(|line| holds(line, b"identify")), "the watch over argument lists sees the commands");
    fs::write(daemon.home().join("planted"), canary).expect("a planted leak");
    assert!(thread::scope(|scope| scope.spawn(|| nowhere_below(daemon.home(), canary.as_bytes())).join().is_err()), "the search can find");
}

/// A value was cut before it was looked at for a token, so that its first characters, all of the secret's, stood in the error; and a token given as a
/// name or a description was taken, and stayed in the history for good.
#[test]
fn a_token_in_a_wrong_place_is_refused_and_not_repeated() {
    let mut daemon = Daemon::start();
    let token = daemon.create("acme/web", &["--grant", "leads.*"]).token;
    let tag = format!("owner={token}");
    let wrong: &[&[&str]] = &[
        &["create", "--account", "acme", "--name", &token],
        &["create", "--account", &token, "--name", "x"],
        &["create", "--account", "acme", "--name", "x", "--description", &token],
        &["create", "--account", "acme", "--name", "x", "--tag", &tag],
        &["create", "--account", "acme", "--name", "x", "--expires", &token],
        &["create", "--account", "acme", "--name", "x", "--grant", &token],
        &["create", "--account", "acme", "--name", "x", "--network", &token],
        &["create", "--account", "acme", "--name", "x", "--request-id", &token],
        &["edit", "acme/web", "--description", &token],
        &["disable", "acme/web", "--as", &token],
        &["rotate", "acme/web", "--overlap", &token],
        &["functions", "add", &token],
        &["show", &token],
        &["identify", &token],
        &["verify", "--function", &token, &token],
        &["usage", "--since", &token],
        &["country", &token],
    ];
    let secret = &token.as_bytes()[3..13];
    for words in wrong {
        for words in [words.to_vec(), [words, &["--json"][..]].concat()] {
            let Ran { code, stdout, stderr } = daemon.run(&words);
            assert_ne!(code, 0, "{} {}", words[0], words[1]);
            assert!(!holds(stdout.as_bytes(), secret) && !holds(stderr.as_bytes(), secret), "{} {}: {stderr}", words[0], words[1]);
        }
    }
    assert_eq!(daemon.json(&["show", "acme/web"])["revision"], 1, "nothing was changed");
    daemon.terminate();
    nowhere_below(daemon.home(), secret);
}

pub(crate) fn holds(text: &[u8], piece: &[u8]) -> bool {
    text.windows(piece.len()).any(|window| window == piece)
}

/// Every file: the log, the store's tables and write-ahead log, what is in the folder of the sockets.
pub(crate) fn nowhere_below(folder: &Path, piece: &[u8]) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("its kind").file_type();
        if kind.is_dir() {
            nowhere_below(&path, piece);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!holds(&bytes, piece), "a token in {}", path.display());
        }
    }
}

/// The argument lists and environments of all processes, over and over.
pub(crate) fn command_lines_until(done: &AtomicBool) -> Vec<Vec<u8>> {
    let mut seen = std::collections::BTreeSet::new();
    while !done.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            if entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
                seen.extend(["cmdline", "environ"].iter().filter_map(|file| fs::read(entry.path().join(file)).ok()));
            }
        }
    }
    seen.into_iter().collect()
}
