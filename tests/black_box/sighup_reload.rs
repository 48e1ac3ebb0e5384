use std::fs;

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
