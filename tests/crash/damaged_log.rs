//! A damaged log: the daemon and `doorward check` name it, and do so again, since a store that is refused stays as it is.
//!
//! Planted to see it fail: without the look at a damaged log before the store is opened to write (at the second start, the log is gone).

use std::fs;
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, eventually, run_in};
use crate::folder;

const CONFIG: &str = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n";

#[test]
fn a_damaged_log_is_named_by_the_daemon_and_the_check() {
    // Where the tables are looked at: a folder that will be missing.
    let mut daemon = Daemon::start_under(folder(), CONFIG, |home| {
        let scratch = home.join("scratch");
        fs::create_dir(&scratch).expect("a folder");
        vec![("TMPDIR", scratch)]
    });
    let data = daemon.home().join("data");
    let check = |daemon: &Daemon| run_in(&daemon.run_dir(), &["check", "--data-dir", &data.display().to_string()], "");
    daemon.json(&["functions", "add", "leads.list"]);
    let key = daemon.create("acme/web", &["--grant", "leads.list"]);
    let noted = || fs::read(data.join("db/acknowledged")).expect("the witness file")[8192..].to_vec();
    let before = noted();
    assert_eq!(daemon.verdict(&key.token, "leads.list", None), "ok");
    eventually("usage is flushed", || noted() != before);
    daemon.kill9();

    // The last record is of usage.
    let log = newest_log(&data);
    harm(&log, |bytes| bytes - 1);
    let named = format!("{} is damaged or missing", log.display());
    let checked = check(&daemon);
    assert!(checked.code != 0 && checked.stdout.contains(&named), "{checked:?}");
    daemon.start_again();
    let said = daemon.log();
    assert!(said.lines().any(|line| line.contains("the store lost usage") && line.contains(&named)), "{said}");
    assert_eq!(daemon.verdict(&key.token, "leads.list", None), "ok");

    // A change in the middle.
    for number in 0..20 {
        daemon.json(&["functions", "add", &format!("leads.{number}")]);
    }
    daemon.kill9();
    let log = newest_log(&data);
    harm(&log, |bytes| bytes / 2);
    let named = format!("; {} is damaged or missing: look at the disk, and restore a backup", log.display());
    for _ in 0..2 {
        let (code, said) = daemon.fail_to_start();
        assert!(code == 74 && said.contains(&named), "{code}: {said}");
        let checked = check(&daemon);
        assert!(checked.code != 0 && checked.stdout.contains(&log.display().to_string()), "{checked:?}");
    }

    // Another file besides, and no place to look at the tables: what was found is named even so.
    let current = data.join("db/CURRENT");
    harm(&current, |_| 0);
    fs::remove_dir(daemon.home().join("scratch")).expect("an empty folder");
    let (code, said) = daemon.fail_to_start();
    let named =
        format!("{}, {} are damaged or missing (and perhaps others, which could not all be looked at: ", log.display(), current.display());
    assert!(code == 74 && said.contains(&named), "{code}: {said}");
}

fn newest_log(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("db")).expect("the store").map(|entry| entry.expect("a file").path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "log")).max().expect("a log")
}

fn harm(file: &Path, place: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(file).expect("a file");
    let at = place(bytes.len());
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("a file");
}
