use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use doorward::client::Request;
use doorward::key::Verdict;

use crate::daemon::{Daemon, eventually};

/// A file system of its own, so small that it can be filled. It goes with this value.
struct Small(tempfile::TempDir);

impl Small {
    /// None where mounting is not allowed.
    fn mount(megabytes: u32) -> Option<Small> {
        let place = tempfile::tempdir().expect("a folder");
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "doorward-test"]).arg(place.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Small(place))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes to a file until there is no room for another byte.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).expect("a file");
        for size in [1 << 20, 4_096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn clear(&self) {
        fs::remove_file(self.path().join("filler")).expect("the filler");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a daemon of a test that failed may still be on it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// The disk is full, verifies go on, `status` says what is wrong, the daemon is killed: every answer counts once.
#[test]
fn what_a_full_disk_refuses_is_counted_when_there_is_room_again() {
    let Some(small) = Small::mount(24) else {
        println!("not run: mounting a file system is not allowed here");
        return;
    };
    let template =
        format!("data_dir = \"{}/data\"\nrun_dir = \"{{home}}/run\"\nflush_interval = \"100ms\"\nstrict = false\n", small.path().display());
    let mut daemon = Daemon::start_configured(&template);
    let keys: Vec<_> = (0..20).map(|number| daemon.create(&format!("acme/k{number}"), &["--grant", "*"])).collect();
    let mut answered = 0;
    let mut ask = |daemon: &Daemon| {
        let mut client = daemon.client();
        for number in 0..2_000u32 {
            let key = &keys[number as usize % keys.len()];
            let address = Some([10, (number >> 8) as u8, number as u8, 1].into());
            let function = format!("leads.f{}", number % 50);
            let answer = client.verify(&Request { token: key.token.as_bytes(), function: &function, address }).expect("an answer");
            assert_eq!(answer.verdict, Verdict::Ok);
            answered += 1;
        }
    };
    ask(&daemon);
    small.fill();
    // Its exit code says that something is wrong, too.
    let status = |daemon: &Daemon| daemon.run(&["status", "--json"]).json();
    let failing = |daemon: &Daemon| !status(daemon)["flush"]["failing"].is_null();
    // What lies in RocksDB's log already has room there, so some more may still be written.
    eventually("the store refuses", || {
        ask(&daemon);
        failing(&daemon)
    });
    ask(&daemon);
    let told = status(&daemon);
    assert_eq!((&told["health"], &told["flush"]["lost"], &told["flush"]["folded"]), (&"degraded".into(), &0.into(), &0.into()), "{told}");
    // Changes are refused from then on, too, and not only from the first on that was tried: neither `status` nor an alert said so.
    assert!(told["store"]["refusing_changes"].as_str().is_some_and(|reason| reason.contains("No space left")), "{told}");
    assert!(daemon.log().contains("it is kept; changes are refused until doorward is restarted: cannot write"), "{}", daemon.log());
    daemon.run(&["backup", &daemon.home().join("backups").display().to_string()]).refused(75, &["until doorward is restarted"]);
    daemon.run(&["create", "--account", "acme", "--name", "new"]).refused(75, &["until doorward is restarted: cannot write the store"]);
    daemon.kill9();
    small.clear();
    daemon.start_again();
    let total = |daemon: &Daemon| keys.iter().map(|key| daemon.json(&["usage", &key.id])["total"].as_u64().expect("a total")).sum::<u64>();
    eventually("all is written", || total(&daemon) >= answered);
    assert_eq!(total(&daemon), answered);
    assert!(!failing(&daemon));
    daemon.terminate();
}
