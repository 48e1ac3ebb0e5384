use doorward::key::limits;

use crate::daemon::Daemon;

/// A value at its limit is accepted, one past it refused with field, value and limit.
#[test]
fn texts_end_at_their_limits() {
    let daemon = Daemon::start();
    let long = |bytes: usize| "x".repeat(bytes);
    let create = |account: &str, name: &str, more: &[&str]| {
        daemon.run(&[&["create", "--account", account, "--name", name, "--grant", "*", "--json"], more].concat())
    };
    for (field, limit) in [("name", limits::NAME_BYTES), ("account", limits::ACCOUNT_BYTES), ("description", limits::DESCRIPTION_BYTES)] {
        for (bytes, accepted) in [(limit, true), (limit + 1, false)] {
            let value = long(bytes);
            let ran = match field {
                "name" => create("acme", &value, &[]),
                "account" => create(&value, "x", &[]),
                _ => create("acme", &format!("d{bytes}"), &["--description", &value]),
            };
            if accepted {
                assert_eq!(ran.code, 0, "{field} of {bytes}: {}", ran.stderr);
            } else {
                ran.refused(65, &[field, &limit.to_string()]);
            }
        }
    }
    create("acme", "as", &["--as", &long(limits::ACTOR_BYTES + 1)]).refused(65, &["100"]);
    create("acme", "r", &["--request-id", &long(limits::REQUEST_ID_BYTES + 1)]).refused(65, &["100"]);
    assert!(create("acme", "f", &["--grant", &long(limits::FUNCTION_BYTES + 1)]).code >= 64);
    assert!(daemon.run(&["functions", "add", &long(limits::FUNCTION_BYTES + 1)]).code >= 64);
}

#[test]
fn lists_end_at_their_limits() {
    let daemon = Daemon::start();
    let networks = |count: usize| (0..count).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)).collect::<Vec<_>>().join(",");
    daemon.create("acme/full", &["--grant", "*", "--network", &networks(limits::NETWORKS)]);
    daemon.run(&["edit", "acme/full", "--add-network", "192.0.2.0/24"]).refused(65, &["networks", "1000"]);
    let tags: Vec<String> = (0..=limits::TAGS).flat_map(|n| ["--tag".to_owned(), format!("t{n}=x")]).collect();
    let args =
        [&["create", "--account", "acme", "--name", "tags", "--grant", "*"][..], &tags.iter().map(String::as_str).collect::<Vec<_>>()]
            .concat();
    daemon.run(&args).refused(65, &["tags", "50"]);
    let grants = (0..=limits::GRANTS).map(|n| format!("f{n}.*")).collect::<Vec<_>>().join(",");
    daemon.run(&["create", "--account", "acme", "--name", "g", "--grant", &grants]).refused(65, &["grants", "500"]);
}

#[test]
fn a_token_longer_than_the_wire_carries_is_refused() {
    let daemon = Daemon::start();
    let token = "x".repeat(limits::TOKEN_BYTES);
    assert_eq!(daemon.verdict(&token, "leads.list", None), "malformed");
    let ran = daemon.run_with_input(&["verify", "--function", "leads.list", "--token-file", "-"], &format!("{token}x"));
    ran.refused(65, &["token"]);
    assert!(!ran.stderr.contains(&token[..20]), "not even a bad token is shown");
}
