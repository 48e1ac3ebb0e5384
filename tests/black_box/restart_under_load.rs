use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use doorward::client::{Client, Request};
use doorward::key::Verdict;

use crate::daemon::{made, run_in};
use crate::service_manager::ServiceManager;

/// Restarts; `DOORWARD_RESTARTS` says another number.
const RESTARTS: u32 = 24;
/// Requests that are sent before the first answer is read.
const AHEAD: usize = 32;

/// The listeners are systemd's and survive; the client library asks again what has no answer. So no restart, and no kill, costs a request: not one at
/// a time, not those under way together, and not those of clients that connect in the middle of it.
#[test]
fn no_request_fails_and_no_connection_is_refused_while_the_daemon_is_restarted() {
    let restarts = std::env::var("DOORWARD_RESTARTS").ok().map_or(RESTARTS, |text| text.parse().expect("a number"));
    let mut manager = ServiceManager::new();
    manager.start();
    manager.hear("READY=1");
    let create = ["create", "--account", "acme", "--name", "web", "--grant", "*", "--json"];
    assert_eq!(run_in(&manager.run_dir(), &["functions", "add", "leads.list"], "").code, 0);
    let token = made(&run_in(&manager.run_dir(), &create, "").json()).token;
    let socket = manager.verify_socket();
    let (done, asked, longest_us) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let request = Request { token: token.as_bytes(), function: "leads.list", address: None };
    let load = |ahead: usize, connect_each_time: bool| {
        let mut client = Client::connect(&socket).expect("a connection");
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            if connect_each_time {
                client = Client::connect(&socket).expect("a connection is never refused");
            }
            for _ in 0..ahead {
                client.send(&request).expect("a short request");
            }
            for _ in 0..ahead {
                assert_eq!(client.receive().expect("an answer, whatever the daemon does").verdict, Verdict::Ok);
            }
            asked.fetch_add(ahead as u64, Ordering::Relaxed);
            longest_us.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(200));
        }
    };
    let connect_only = || {
        while !done.load(Ordering::Relaxed) {
            UnixStream::connect(&socket).expect("a connection is never refused");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let mut ready_us = Vec::new();
    thread::scope(|scope| {
        let workers = [
            scope.spawn(|| load(1, false)),
            scope.spawn(|| load(1, false)),
            scope.spawn(|| load(AHEAD, false)),
            scope.spawn(|| load(1, true)),
            scope.spawn(connect_only),
        ];
        for restart in 0..restarts {
            let asked_before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < asked_before + 4 * AHEAD as u64 && !workers.iter().any(|worker| worker.is_finished()) {
                thread::sleep(Duration::from_millis(1));
            }
            let start = Instant::now();
            manager.restart(if restart % 4 == 3 { "KILL" } else { "TERM" });
            ready_us.push(start.elapsed().as_micros() as u64);
        }
        done.store(true, Ordering::Relaxed);
    });
    ready_us.sort_unstable();
    eprintln!(
        "{restarts} restarts, {} requests, none failed; from signal to READY {} ms (median) to {} ms; longest wait for answers {} ms",
        asked.into_inner(),
        ready_us[ready_us.len() / 2] / 1_000,
        ready_us[ready_us.len() - 1] / 1_000,
        longest_us.into_inner() / 1_000
    );
    // What was answered was counted, and what was asked twice may be counted twice, but nothing was taken from a socket and lost.
    assert!(!manager.log().contains("set aside"), "{}", manager.log());
}

/// What was read whole before the order to stop is answered before the connection ends, and a socket that is systemd's stays.
#[test]
fn what_has_arrived_is_answered_before_the_end_and_the_next_daemon_answers_the_rest() {
    let mut manager = ServiceManager::new();
    manager.start();
    manager.hear("READY=1");
    let socket = manager.verify_socket();
    let mut client = Client::connect(&socket).expect("a connection");
    client.set_patience(Duration::ZERO);
    for _ in 0..200 {
        client.send(&Request { token: b"nobody's", function: "f", address: None }).expect("a short request");
    }
    client.flush().expect("sent");
    manager.signal("TERM");
    manager.hear("STOPPING=1");
    assert!(manager.ended().success());
    for number in 0..200 {
        client.receive().unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    // Nobody is there: who comes now waits in the queue of the listener, and has an answer when there is somebody.
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::connect(&socket).map(drop));
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "it waits");
        manager.start();
        waiting.join().expect("no panic")
    });
    waiting.expect("a connection");
}
