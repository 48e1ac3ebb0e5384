use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::daemon::{Daemon, eventually, testdata};

#[test]
fn a_new_country_database_is_taken_and_an_invalid_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("country.mmdb");
    fs::copy(testdata("country/flat.mmdb"), &database).expect("a copy");
    let daemon = Daemon::start_bare(Some(database.clone()));
    daemon.json(&["functions", "add", "leads.list"]);
    let token = daemon.create("acme/web", &["--grant", "*", "--country", "DE"]).token;
    let kind = || daemon.run(&["status", "--json"]).json()["country_db"]["database_type"].clone();
    let flat = kind();
    let place = |file: &[u8]| {
        let next = folder.path().join("next");
        fs::write(&next, file).expect("the next database");
        fs::rename(&next, &database).expect("it in its place");
        daemon.signal("HUP");
    };

    let whole = fs::read(testdata("country/nested.mmdb")).expect("a database");
    let said = daemon.log().len();
    place(&whole[..whole.len() / 2]);
    eventually("the log names the file that was refused", || daemon.log()[said..].contains("country.mmdb"));
    assert_eq!(kind(), flat, "an invalid one keeps the old one");
    let status = daemon.run(&["status", "--json"]);
    assert!(status.code == 1 && status.json()["health"] == "degraded", "and status says so: {status:?}");
    assert_eq!(daemon.verdict(&token, "leads.list", Some("198.51.100.7")), "ok");

    place(&whole);
    eventually("the new database is loaded", || kind() != flat);
    assert_eq!(daemon.json(&["status"])["health"], "ok");
    assert_eq!(daemon.verdict(&token, "leads.list", Some("198.51.100.7")), "ok");
    assert_eq!(daemon.verdict(&token, "leads.list", Some("203.0.113.9")), "country_denied");
}

/// A pipe in the place of a file kept the thread that waits for signals waiting for a writer: no other reload was done, and SIGTERM was not heard.
#[test]
fn what_is_no_regular_file_is_refused_and_nothing_waits() {
    let mut daemon = Daemon::start_under(
        tempfile::tempdir().expect("a folder"),
        "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\ncountry_db = \"{home}/country.mmdb\"\n",
        |home| {
            fs::copy(testdata("country/flat.mmdb"), home.join("country.mmdb")).expect("a copy");
            Vec::new()
        },
    );
    let pipe = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    let directory = |path: &Path| fs::create_dir(path).expect("a directory");
    for name in ["doorward.toml", "country.mmdb"] {
        let (place, kept) = (daemon.home().join(name), daemon.home().join("kept"));
        fs::rename(&place, &kept).expect("the file out of the way");
        for (what, make) in [("a pipe", &pipe as &dyn Fn(&Path)), ("a directory", &directory)] {
            make(&place);
            let said = daemon.log().len();
            daemon.signal("HUP");
            eventually("the log says what is in the place of the file", || {
                let log = daemon.log();
                log[said..].contains(name) && log[said..].contains(&format!("it is {what}, not a regular file"))
            });
            fs::remove_file(&place).or_else(|_| fs::remove_dir(&place)).expect("it out of the way");
        }
        fs::rename(&kept, &place).expect("the file in its place");
        daemon.signal("HUP");
        eventually("all is well again", || daemon.run(&["status", "--json"]).json()["health"] == "ok");
    }
    let place = daemon.home().join("doorward.toml");
    fs::remove_file(&place).expect("no file");
    pipe(&place);
    let said = daemon.log().len();
    daemon.signal("HUP");
    eventually("the reload is over", || daemon.log()[said..].contains("the configuration was not reloaded"));
    daemon.terminate();
    fs::remove_file(&place).expect("no pipe");

    // A start is not kept waiting either: by a pepper.
    let pepper = daemon.home().join("data/pepper");
    fs::write(&place, format!("data_dir = \"{0}/data\"\nrun_dir = \"{0}/run\"\n", daemon.home().display())).expect("the configuration");
    fs::rename(&pepper, daemon.home().join("kept")).expect("the pepper out of the way");
    pipe(&pepper);
    let (code, said) = daemon.fail_to_start();
    assert!(code > 0 && said.contains("it is a pipe, not a regular file"), "{code}: {said}");
}
