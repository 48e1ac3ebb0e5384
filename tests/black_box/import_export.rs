use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::daemon::{Daemon, text};

const FOREIGN: &str = "legacy-4f9a7c21e6b84d03";
/// Given by its SHA-256 only: `printf %s legacy-5b8d0e37a1f64c92 | sha256sum`.
const HASHED: &str = "legacy-5b8d0e37a1f64c92";
const HASHED_SHA256: &str = "551ee069671904cbdec4633c9cec4c448f20c9ddf2a91e302fff6d277cd4f682";

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn tokens_made_elsewhere_open_the_door() {
    let daemon = Daemon::start();
    let input = lines(&[
        json!({"name": "plain", "account": "old", "grants": ["leads.*"], "token": FOREIGN}),
        json!({"name": "hashed", "account": "old", "grants": ["leads.list"], "networks": ["198.51.100.0/24"], "token_sha256": HASHED_SHA256}),
        json!({"name": "past", "account": "old", "grants": ["*"], "expires_at": "2001-01-01T00:00:00Z", "token": "legacy-ended-91c7d2f0a3"}),
    ]);
    let report = daemon.run_with_input(&["import", "-", "--jsonl", "--json", "--as", "migration"], &input);
    assert_eq!((report.code, &report.json()["imported"]), (0, &3.into()), "{report:?}");
    assert_eq!(daemon.verdict(FOREIGN, "leads.insert", None), "ok");
    assert_eq!(daemon.verdict(HASHED, "leads.list", Some("198.51.100.4")), "ok");
    assert_eq!(daemon.verdict("legacy-ended-91c7d2f0a3", "leads.list", None), "expired", "importing may be into the past");
    assert_eq!(daemon.json(&["history", "old/plain"])["entries"][0]["actor"]["as"], "migration");
}

#[test]
fn a_refused_line_is_named_and_nothing_of_its_batch_is_taken() {
    let daemon = Daemon::start();
    let good = |name: &str, token: &str| json!({"name": name, "account": "a", "grants": ["*"], "token": token});
    let cases = [
        (lines(&[good("a", FOREIGN), json!({"name": "b", "account": "a", "grants": ["*"]})]), "line 2"),
        (lines(&[good("a", FOREIGN), good("b", FOREIGN)]), "line 2"),
        (lines(&[good("a", FOREIGN), good("a", "legacy-another-0123456789")]), "line 2"),
        (lines(&[good("a", "secret")]), "line 1"),
        (format!("{}{{\n", lines(&[good("a", FOREIGN)])), "line 2"),
        (lines(&[json!({"name": "a", "account": "a", "grants": ["*"], "token_sha256": "xyz"})]), "line 1"),
        (lines(&[json!({"name": "a", "account": "a", "grants": ["nobody.registered"], "token": FOREIGN})]), "line 1"),
    ];
    for (input, place) in cases {
        let ran = daemon.run_with_input(&["import", "-", "--jsonl"], &input);
        assert!(ran.code == 65 || ran.code == 73, "{ran:?}");
        assert!(ran.stderr.contains(place), "{place}: {}", ran.stderr);
        assert!(!ran.stderr.contains(FOREIGN), "a token in an error");
        assert_eq!(daemon.json(&["list"])["keys"].as_array().expect("keys").len(), 0);
    }
    let weak = lines(&[good("a", "secret")]);
    assert_eq!(daemon.run_with_input(&["import", "-", "--jsonl", "--allow-weak"], &weak).code, 0);
    assert_eq!(daemon.verdict("secret", "leads.list", None), "ok");
}

#[test]
fn generated_tokens_go_to_a_file_of_ones_own() {
    let daemon = Daemon::start();
    let file = daemon.home().join("new-tokens.jsonl");
    let path = file.display().to_string();
    let input = lines(&[json!({"name": "a", "account": "new", "grants": ["*"]}), json!({"name": "b", "account": "new", "grants": ["*"]})]);
    let args = ["import", "-", "--jsonl", "--generate", "--tokens-out", &path];
    let ran = daemon.run_with_input(&args, &input);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    let tokens: Vec<Value> =
        fs::read_to_string(&file).expect("it").lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(tokens.len(), 2);
    for line in &tokens {
        let token = text(&line["token"]);
        assert_eq!(daemon.verdict(&token, "leads.list", None), "ok");
        assert!(!ran.stdout.contains(&token) && !ran.stderr.contains(&token));
    }
    daemon.run_with_input(&args, &input).refused(73, &["new-tokens.jsonl"]);
}

#[test]
fn an_export_without_secrets_imports_as_new_keys() {
    let daemon = Daemon::start();
    let made = daemon.create(
        "acme/web",
        &["--grant", "leads.*", "--network", "10.0.0.0/8", "--country", "DE", "--tag", "a=b", "--expires", "2999-01-01"],
    );
    let export = daemon.run(&["export", "--jsonl"]).stdout;
    assert!(!export.contains(&made.token) && !export.contains("digest"), "{export}");
    let other = Daemon::start();
    let ran = other
        .run_with_input(&["import", "-", "--jsonl", "--generate", "--tokens-out", &other.home().join("t").display().to_string()], &export);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(other.run(&["export", "--jsonl"]).stdout, export, "a round trip");
}

#[test]
fn an_export_with_digests_carries_ids_and_secrets_to_a_store_with_the_same_pepper() {
    let daemon = Daemon::start();
    let made = daemon.create("acme/web", &["--grant", "*"]);
    let second = crate::daemon::made(&daemon.json(&["rotate", "acme/web", "--overlap", "7d"]));
    let export = daemon.run(&["export", "--jsonl", "--digests"]).stdout;
    assert!(!export.contains(&made.token));
    let line: Value = serde_json::from_str(export.trim()).expect("one line");
    assert_eq!((text(&line["id"]), line["secrets"].as_array().expect("secrets").len()), (made.id.clone(), 2));

    let other = Daemon::start();
    let refused = other.run_with_input(&["import", "-", "--jsonl"], &export);
    assert!(refused.code >= 64 && refused.stderr.contains("pepper"), "another pepper: {refused:?}");
    // The same store, once the key is out of the way.
    daemon.json(&["delete", "acme/web"]);
    let duplicate = daemon.run_with_input(&["import", "-", "--jsonl"], &export);
    assert!(duplicate.code >= 64, "its digests are still taken by the tombstone: {duplicate:?}");
    assert_eq!(daemon.verdict(&second.token, "leads.list", None), "deleted");
}

/// All keys of one store, in another with the same pepper: each token gets the same answer, those of deleted and revoked keys too.
#[test]
fn an_export_with_digests_carries_tombstones() {
    let daemon = Daemon::start();
    let [kept, revoked, deleted, renewed] = ["kept", "revoked", "deleted", "renewed"].map(|name| {
        let key = format!("acme/{name}");
        daemon.create(&key, &["--grant", "leads.*"])
    });
    daemon.json(&["revoke", "acme/revoked"]);
    daemon.json(&["delete", "acme/deleted"]);
    daemon.json(&["delete", "acme/renewed"]);
    let again = daemon.create("acme/renewed", &["--grant", "leads.*"]);
    let export = daemon.run(&["export", "--jsonl", "--digests"]).stdout;
    assert_eq!((export.lines().count(), daemon.run(&["export", "--jsonl"]).stdout.lines().count()), (5, 3));

    let pepper = daemon.home().join("data/pepper");
    let other = Daemon::start_prepared(|home| {
        fs::create_dir(home.join("data")).expect("a directory");
        fs::copy(&pepper, home.join("data/pepper")).expect("the pepper");
    });
    other.json(&["functions", "add", "leads.list"]);
    let ran = other.run_with_input(&["import", "-", "--jsonl", "--json"], &export);
    assert_eq!((ran.code, &ran.json()["imported"]), (0, &5.into()), "{ran:?}");
    assert_eq!(other.run(&["export", "--jsonl", "--digests"]).stdout, export, "a round trip");
    let verdicts = [&kept, &revoked, &deleted, &renewed, &again].map(|made| other.verdict(&made.token, "leads.list", None));
    assert_eq!(verdicts, ["ok", "revoked", "deleted", "deleted", "ok"]);
    assert_eq!(other.json(&["check"])["clean"], true);
    other.json(&["undelete", "acme/deleted"]);
    assert_eq!(other.verdict(&deleted.token, "leads.list", None), "ok");
    let line = json!({"name": "x", "account": "a", "token": FOREIGN, "deleted_at": "2026-01-01T00:00:00Z"}).to_string();
    other.run_with_input(&["import", "-", "--jsonl"], &line).refused(65, &["deleted_at"]);
}

/// Cause: an answer holds the tokens that were made, and so has a limit, at which the command ended: a store with a lost pepper and more keys could not be made anew as
/// docs/operations.md has it.
#[test]
fn any_number_of_keys_gets_new_tokens() {
    const KEYS: usize = 100_501;
    let mut daemon = Daemon::start();
    let line = |number: usize| {
        let function = if number == 100_300 { "not.registered" } else { "leads.list" };
        format!("{{\"name\":\"k{number}\",\"account\":\"new\",\"grants\":[\"{function}\"]}}\n")
    };
    let input: String = (1..=KEYS).map(line).collect();
    let path = |name: &str| daemon.home().join(name).display().to_string();
    let [first, second] = ["first.jsonl", "second.jsonl"].map(path);
    let import = |daemon: &Daemon, tokens: &str, input: &str| {
        daemon.run_with_input(&["import", "-", "--jsonl", "--generate", "--tokens-out", tokens, "--json"], input)
    };
    let tokens = |file: &str| -> Vec<Value> {
        fs::read_to_string(file).expect("it").lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    };

    let refused = import(&daemon, &first, &input);
    let told = refused.stderr.trim();
    let problem: Value = serde_json::from_str(told).unwrap_or_else(|_| panic!("{refused:?}"));
    assert_eq!((refused.code, &problem["line"]), (65, &100_300.into()), "{refused:?}");
    assert!(told.contains("100000 keys are imported and there to stay") && told.contains("first.jsonl"), "{told}");
    assert_eq!(tokens(&first).len(), 100_000, "of the batches before it");

    // As the document says: the line is mended, and what is behind the keys that were imported goes on.
    let rest: String = input.lines().skip(100_000).map(|line| format!("{line}\n").replace("not.registered", "leads.list")).collect();
    let ran = import(&daemon, &second, &rest);
    assert_eq!((ran.code, &ran.json()["generated"]), (0, &501.into()), "{ran:?}");
    let all = [tokens(&first), tokens(&second)].concat();
    let names = all.iter().map(|made| text(&made["name"]));
    assert!(names.eq((1..=KEYS).map(|number| format!("k{number}"))), "each key once, in order");
    for made in [&all[0], &all[99_999], &all[100_000], &all[KEYS - 1]] {
        assert_eq!(daemon.verdict(&text(&made["token"]), "leads.list", None), "ok");
    }

    // And all of them at once.
    daemon.terminate();
    fs::remove_dir_all(daemon.home().join("data")).expect("a directory");
    daemon.start_again();
    daemon.json(&["functions", "add", "leads.list"]);
    let third = daemon.home().join("third.jsonl").display().to_string();
    let ran = import(&daemon, &third, &input.replace("not.registered", "leads.list"));
    assert_eq!((ran.code, &ran.json()["imported"], &ran.json()["generated"]), (0, &KEYS.into(), &KEYS.into()), "{ran:?}");
    let made = tokens(&third);
    assert_eq!(made.len(), KEYS);
    assert_eq!(daemon.verdict(&text(&made[KEYS - 1]["token"]), "leads.list", None), "ok");
}

/// What a lost pepper leaves: the rules of all keys, from a store that no daemon can use any more.
#[test]
fn a_store_whose_pepper_is_lost_is_exported_and_its_keys_get_new_secrets() {
    let mut daemon = Daemon::start();
    let old = daemon.create("acme/web", &["--grant", "leads.list", "--network", "203.0.113.0/24"]);
    daemon.create("acme/gone", &[]);
    daemon.json(&["delete", "acme/gone"]);
    let online = daemon.run(&["export", "--jsonl"]);
    let data = daemon.home().join("data");
    let offline = |daemon: &Daemon, flags: &[&str]| {
        daemon.run(&[&["export", "--jsonl", "--data-dir", data.to_str().expect("a path")], flags].concat())
    };
    offline(&daemon, &[]).refused(75, &["in use by another doorward"]);
    daemon.terminate();
    std::fs::remove_file(data.join("pepper")).expect("a pepper");
    let (code, said) = daemon.fail_to_start();
    assert!(code == 78 && said.contains("the pepper") && said.contains("is missing"), "{said}");
    let exported = offline(&daemon, &[]);
    assert_eq!((exported.code, &exported.stdout), (0, &online.stdout), "{exported:?}");
    assert_eq!(offline(&daemon, &["--digests"]).stdout.lines().count(), 2, "with tombstones");
    assert!(!data.join("pepper").exists());
    std::fs::rename(&data, daemon.home().join("lost")).expect("a directory");
    daemon.start_again();
    daemon.json(&["functions", "add", "leads.list"]);
    let tokens = daemon.home().join("tokens.jsonl");
    let import = ["import", "-", "--jsonl", "--generate", "--tokens-out", tokens.to_str().expect("a path")];
    assert_eq!(daemon.run_with_input(&import, &exported.stdout).code, 0);
    let made: Value = serde_json::from_str(&std::fs::read_to_string(tokens).expect("tokens")).expect("one line");
    let token = crate::daemon::text(&made["token"]);
    assert_eq!(daemon.verdict(&token, "leads.list", Some("203.0.113.9")), "ok");
    assert_eq!(daemon.verdict(&token, "leads.list", Some("198.51.100.9")), "address_denied");
    assert_eq!(daemon.verdict(&old.token, "leads.list", Some("203.0.113.9")), "unknown");
}
