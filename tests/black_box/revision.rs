use std::thread;

use crate::daemon::Daemon;

#[test]
fn a_change_on_a_revision_that_is_gone_is_refused() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    assert_eq!(daemon.json(&["edit", "acme/web", "--description", "one", "--if-revision", "1"])["revision"], 2);
    let changes = [
        &["edit", "acme/web", "--description", "two"][..],
        &["disable", "acme/web"],
        &["rotate", "acme/web"],
        &["revoke", "acme/web"],
        &["delete", "acme/web"],
    ];
    for change in changes {
        daemon.run(&[change, &["--if-revision", "1"]].concat()).refused(75, &["2"]);
    }
    let key = daemon.json(&["show", "acme/web"]);
    assert_eq!((&key["revision"], &key["description"], &key["state"]), (&2.into(), &"one".into(), &"active".into()));
}

/// Two admins who both read revision 1: exactly one of them wins, whatever the timing.
#[test]
fn of_two_admins_at_once_one_wins() {
    let daemon = Daemon::start();
    for round in 0..5 {
        let key = format!("acme/k{round}");
        daemon.create(&key, &["--grant", "*"]);
        let codes = thread::scope(|scope| {
            let edit = |text: &'static str| {
                let (daemon, key) = (&daemon, &key);
                scope.spawn(move || daemon.run(&["edit", key, "--description", text, "--if-revision", "1"]).code)
            };
            let (a, b) = (edit("a"), edit("b"));
            [a.join().expect("admin a"), b.join().expect("admin b")]
        });
        assert!(codes == [0, 75] || codes == [75, 0], "{codes:?}");
        assert_eq!(daemon.json(&["show", &key])["revision"], 2);
    }
}

/// Without a revision nobody is refused, and no addition is lost.
#[test]
fn additions_of_many_admins_all_arrive() {
    let daemon = Daemon::start();
    daemon.create("acme/web", &["--grant", "*"]);
    thread::scope(|scope| {
        for n in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || daemon.json(&["edit", "acme/web", "--add-network", &format!("10.{n}.0.0/16")]));
        }
    });
    let key = daemon.json(&["show", "acme/web"]);
    assert_eq!((key["networks"].as_array().expect("networks").len(), &key["revision"]), (8, &9.into()));
}
