use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::{Daemon, Made, made, text};

const BASE: &str = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n";
const BOTH: &str = "previous_pepper_file = \"{home}/data/pepper.previous\"\n";

/// Writes the configuration anew; it holds from the next start on.
fn configure(daemon: &Daemon, more: &str) {
    let home = daemon.home().display().to_string();
    fs::write(daemon.home().join("doorward.toml"), format!("{BASE}{more}").replace("{home}", &home)).expect("the configuration");
}

/// Keys that need another pepper than the current one, by name; with those that are deleted.
fn needing(daemon: &Daemon) -> Vec<String> {
    let list = |flags: &[&str]| daemon.json(&[&["list", "--other-pepper"], flags].concat())["keys"].as_array().expect("keys").clone();
    list(&[]).iter().chain(&list(&["--deleted"])).map(|key| text(&key["name"])).collect()
}

/// A new pepper in the place of the old one, as the guide has it.
fn put_a_new_one(daemon: &Daemon) {
    let (new, pepper) = (daemon.home().join("data/pepper.new"), daemon.home().join("data/pepper"));
    fs::write(&new, [9; 32]).expect("a pepper");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::rename(&new, &pepper).expect("it in its place");
}

/// From one pepper to the next, step by step as docs/guides/change-the-pepper.md tells it. Between any two of them the daemon can be started again.
#[test]
fn the_pepper_is_changed_from_start_to_end() {
    let mut daemon = Daemon::start_configured(BASE);
    daemon.json(&["functions", "add", "leads.list"]);
    let [a, b, gone] = ["a", "b", "gone"].map(|name| daemon.create(&format!("acme/{name}"), &["--grant", "*"]));
    let [brief, deleted] = ["brief", "deleted"].map(|name| daemon.create(&format!("acme/{name}"), &["--grant", "*"]));
    daemon.json(&["revoke", "acme/gone"]);
    let old = text(&daemon.json(&["status"])["store"]["pepper_id"]);
    assert!(needing(&daemon).is_empty());

    fs::copy(daemon.home().join("data/pepper"), daemon.home().join("data/pepper.previous")).expect("a copy");
    configure(&daemon, BOTH);
    daemon.restart();
    assert_eq!(text(&daemon.json(&["status"])["store"]["pepper_id"]), old, "nothing has changed yet");
    put_a_new_one(&daemon);
    daemon.restart();

    let store = daemon.json(&["status"])["store"].clone();
    assert_eq!((text(&store["previous_pepper_id"]), &store["other_pepper_secrets"]), (old.clone(), &4.into()));
    assert!(daemon.run(&["status"]).stdout.contains(&format!(", previous {old}, of 4 secrets")), "{:?}", daemon.run(&["status"]));
    assert_ne!(text(&store["pepper_id"]), old);
    let verdict = |daemon: &Daemon, token: &str| daemon.verdict(token, "leads.list", None);
    assert_eq!([&a, &b, &gone].map(|made| verdict(&daemon, &made.token)), ["ok", "ok", "revoked"], "old tokens stay good");
    let c = daemon.create("acme/c", &["--grant", "*"]);
    // Secrets move to the new pepper by rotation: nobody but their holders knows the tokens.
    let new_a = made(&daemon.json(&["rotate", "acme/a"]));
    let new_b = made(&daemon.json(&["rotate", "acme/b", "--overlap", "7d"]));
    assert_eq!([&a, &b, &c, &new_a, &new_b].map(|made| verdict(&daemon, &made.token)), ["retired", "ok", "ok", "ok", "ok"]);
    assert_eq!(daemon.json(&["check"])["clean"], true);
    daemon.json(&["delete", "acme/deleted"]);
    assert_eq!(needing(&daemon), ["b", "brief", "deleted"]);
    let backups = daemon.home().join("backups").display().to_string();
    daemon.json(&["backup", &backups]);
    let listed = daemon.run(&["backup", &backups, "--list"]).stdout;
    assert!(listed.contains(&format!("\t{} {old}\n", text(&store["pepper_id"]))), "a backup of now needs both: {listed}");

    configure(&daemon, "");
    daemon.terminate();
    let (code, log) = daemon.fail_to_start();
    assert!(code == 78 && log.contains("3 secrets that are still good need") && log.contains(&old), "too early: {log}");

    configure(&daemon, BOTH);
    daemon.start_again();
    daemon.json(&["rotate", "acme/b", "--finish"]);
    // What cannot be rotated is revoked.
    daemon.run(&["rotate", "acme/deleted"]).refused(65, &["deleted"]);
    daemon.json(&["revoke", "acme/deleted"]);
    daemon.json(&["revoke", "acme/brief"]);
    assert!(needing(&daemon).is_empty());
    configure(&daemon, "");
    daemon.restart();
    assert!(daemon.json(&["status"])["store"]["previous_pepper_id"].is_null(), "no secret needs it any more");
    fs::remove_file(daemon.home().join("data/pepper.previous")).expect("a file");
    assert_eq!([&c, &new_a, &new_b].map(|made| verdict(&daemon, &made.token)), ["ok", "ok", "ok"]);
    for ended in [&a, &b, &gone, &brief, &deleted] {
        assert_ne!(verdict(&daemon, &ended.token), "ok");
    }
    let chain =
        |report: &serde_json::Value| report["parts"].as_array().expect("parts").iter().find(|part| part["part"] == "chain").cloned();
    let report = daemon.json(&["check"]);
    assert_eq!(report["clean"], true, "{report}");
    let export = daemon.run(&["export", "--jsonl", "--digests"]).stdout;
    daemon.terminate();
    moved_to_another_store(&daemon, &export, [&new_a, &new_b, &a, &gone, &deleted]);
    // The current pepper is where everything looks for it.
    let report = daemon.json(&["check", "--data-dir", &daemon.home().join("data").display().to_string()]);
    assert_eq!(report["clean"], true, "{report}");
    let chain = chain(&report).expect("the chain");
    assert!(text(&chain["note"]).contains("under an earlier pepper"), "{chain}");
}

/// Cause: keys keep their old secrets, which are of the old pepper, and so a store with the new one took none of them.
fn moved_to_another_store(daemon: &Daemon, export: &str, [good, also_good, retired, revoked, deleted]: [&Made; 5]) {
    let mut other = Daemon::start_prepared(|home| {
        fs::create_dir(home.join("data")).expect("a directory");
        fs::copy(daemon.home().join("data/pepper"), home.join("data/pepper")).expect("the current pepper");
    });
    other.json(&["functions", "add", "leads.list"]);
    let ran = other.run_with_input(&["import", "-", "--jsonl", "--json"], export);
    assert_eq!((ran.code, &ran.json()["imported"]), (0, &6.into()), "{ran:?}");
    // It needs the old pepper neither now nor at a start.
    for _ in 0..2 {
        let store = other.json(&["status"])["store"].clone();
        assert_eq!((&store["previous_pepper_id"], &store["other_pepper_secrets"]), (&serde_json::Value::Null, &0.into()));
        assert!(needing(&other).is_empty());
        let verdicts = [good, also_good, retired, revoked, deleted].map(|made| other.verdict(&made.token, "leads.list", None));
        assert_eq!(verdicts, ["ok", "ok", "unknown", "unknown", "unknown"], "as where they come from");
        assert_eq!(other.json(&["check"])["clean"], true);
        assert_eq!(other.run(&["export", "--jsonl", "--digests"]).stdout, export);
        other.restart();
    }
    other.terminate();
    let report = other.json(&["check", "--data-dir", &other.home().join("data").display().to_string()]);
    assert_eq!(report["clean"], true, "{report}");
}

/// Cause: with one pepper alone a backup that needs two was called damaged, with both where the configuration has them the directory was not empty, and the
/// check that follows could not be told of the previous one.
#[test]
fn a_backup_from_the_middle_of_a_change_is_restored() {
    let mut daemon = Daemon::start_configured(BASE);
    daemon.json(&["functions", "add", "leads.list"]);
    let [moved, waiting] = ["moved", "waiting"].map(|name| daemon.create(&format!("acme/{name}"), &["--grant", "*"]));
    let home = daemon.home().to_owned();
    let [data, old, new, backups] = ["data", "old", "new", "backups"].map(|name| home.join(name).display().to_string());
    daemon.terminate();
    fs::copy(home.join("data/pepper"), home.join("data/pepper.previous")).expect("a copy");
    fs::copy(home.join("data/pepper"), &old).expect("a copy elsewhere");
    put_a_new_one(&daemon);
    fs::copy(home.join("data/pepper"), &new).expect("a copy elsewhere");
    configure(&daemon, BOTH);
    daemon.start_again();
    let store = daemon.json(&["status"])["store"].clone();
    let (new_id, old_id) = (text(&store["pepper_id"]), text(&store["previous_pepper_id"]));
    let renewed = made(&daemon.json(&["rotate", "acme/moved", "--overlap", "7d"]));
    let secrets = daemon.json(&["status"])["store"]["other_pepper_secrets"].to_string();
    daemon.json(&["backup", &backups]);
    daemon.terminate();

    // As docs/operations.md has it; first with one of the two.
    fs::remove_dir_all(&data).expect("a directory");
    fs::create_dir(&data).expect("a directory");
    let restore = ["restore", &backups, "--data-dir", &data];
    fs::copy(&old, home.join("data/pepper")).expect("the old one");
    daemon.run(&restore).refused(78, &[&old_id, &new_id, "previous"]);
    fs::copy(&new, home.join("data/pepper")).expect("the new one");
    let lacking = format!("{secrets} secrets that are still good need the pepper {old_id}");
    daemon.run(&restore).refused(78, &[&lacking, "--previous-pepper-file"]);
    assert!(!home.join("data/db").exists());
    fs::copy(&old, home.join("data/pepper.previous")).expect("the old one");
    let restored = daemon.run(&restore);
    assert_eq!(restored.code, 0, "{restored:?}");
    let check = ["check", "--data-dir", &data, "--json"];
    assert_eq!(daemon.run(&check).json()["clean"], true);
    fs::remove_file(home.join("data/pepper.previous")).expect("a file");
    let alone = daemon.run(&check);
    assert!(alone.code == 1 && alone.stdout.contains(&lacking), "{alone:?}");
    let named = [&check[..], &["--previous-pepper-file", &old]].concat();
    assert_eq!(daemon.run(&named).json()["clean"], true);
    fs::copy(&old, home.join("data/pepper.previous")).expect("the old one");
    daemon.start_again();
    for token in [&moved, &waiting, &renewed].map(|made| &made.token) {
        assert_eq!(daemon.verdict(token, "leads.list", None), "ok");
    }

    // With copies that are named, and nothing beside the store.
    let elsewhere = home.join("elsewhere").display().to_string();
    let named = ["--pepper-file", &new, "--previous-pepper-file", &old];
    assert_eq!(daemon.run(&[&["restore", &backups, "--data-dir", &elsewhere], &named[..]].concat()).code, 0);
    assert_eq!(daemon.run(&[&["check", "--data-dir", &elsewhere, "--json"], &named[..]].concat()).json()["clean"], true);
}

/// A new pepper that nobody has told of is refused, and so is one in another file.
#[test]
fn a_new_pepper_alone_is_refused() {
    let mut daemon = Daemon::start_configured(BASE);
    daemon.create("acme/a", &[]);
    let old = text(&daemon.json(&["status"])["store"]["pepper_id"]);
    daemon.terminate();
    fs::copy(daemon.home().join("data/pepper"), daemon.home().join("data/pepper.previous")).expect("a copy");
    put_a_new_one(&daemon);
    // Cause: the ids of both were told, but not from where the wrong one was read.
    let file = daemon.home().join("data/pepper").display().to_string();
    let (code, log) = daemon.fail_to_start();
    assert!(code == 78 && log.contains(&old) && log.contains(&format!("{file}: the pepper given is")), "{log}");
    fs::rename(daemon.home().join("data/pepper.previous"), daemon.home().join("previous")).expect("it elsewhere");
    let report = daemon.run(&["check", "--data-dir", &daemon.home().join("data").display().to_string()]);
    assert!(report.code == 1 && report.stdout.contains(&old) && report.stdout.contains(&format!("read from {file};")), "{report:?}");
    fs::rename(daemon.home().join("previous"), daemon.home().join("data/pepper.previous")).expect("it beside");
    configure(&daemon, BOTH);
    daemon.start_again();
}
