//! More connections than processors, of a client that has shown a key's token: they share the daemon's threads.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use doorward::client::Request;
use doorward::key::Verdict;
use doorward::protocol::{Address, Decoded, Kind, Response, Verify, decode, decode_body, encode, encode_body};

use crate::daemon::{Daemon, Made, eventually, verdict};
use crate::hostile::hello;

/// Many more than there are processors.
const CONNECTIONS: u64 = 300;

/// Numbers that look random, and are the same each time (Lehmer's generator with the factor of Park and Miller).
struct Lehmer(u64);

impl Lehmer {
    fn next(&mut self, below: u64) -> usize {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        (self.0 % below) as usize
    }
}

fn daemon() -> (Daemon, Made) {
    let daemon = Daemon::start();
    daemon.json(&["functions", "add", "f"]);
    let key = daemon.create("acme/web", &["--grant", "f"]);
    assert_eq!(verdict(&mut daemon.client(), &key.token, "f", None), Verdict::Ok);
    (daemon, key)
}

/// Requests with their number as tag; every third has a token that no key has.
fn questions(key: &Made, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let token = if number % 3 == 2 { b"nobody's" } else { key.token.as_bytes() };
        encode(&mut bytes, Kind::Verify, number.to_le_bytes(), |out| {
            encode_body(out, &Verify { token, function: "f", address: Address::None })
        });
    }
    bytes
}

/// Reads until so many answers came, which have to be those of [`questions`], in their order.
fn read_answers(stream: &mut UnixStream, count: u64) {
    let (mut bytes, mut used, mut number) = (Vec::new(), 0, 0);
    let mut buffer = [0; 8_192];
    while number < count {
        let read = stream.read(&mut buffer).expect("answers");
        assert!(read > 0, "closed after {number} of {count} answers");
        bytes.extend_from_slice(&buffer[..read]);
        while let Decoded::Whole(frame, length) = decode(&bytes[used..]).expect("frames") {
            used += length;
            if frame.kind == Kind::Welcome {
                continue;
            }
            let answer: Response<'_> = decode_body(frame.body).expect("an answer");
            let expected = if number % 3 == 2 { Verdict::Malformed } else { Verdict::Ok };
            assert_eq!((frame.tag, answer.verdict()), (number.to_le_bytes(), Some(expected)));
            number += 1;
        }
    }
    assert_eq!((used, number), (bytes.len(), count), "answers that nobody asked for");
}

impl Daemon {
    /// Its threads by name.
    fn threads(&self) -> HashMap<String, usize> {
        let mut threads = HashMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads").flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
        threads
    }
}

#[test]
fn what_comes_in_pieces_on_many_connections_is_answered_in_order_and_to_the_end() {
    let (daemon, key) = daemon();
    let asked = questions(&key, 400);
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let (daemon, asked) = (&daemon, &asked);
            scope.spawn(move || {
                let mut random = Lehmer(number + 1);
                let mut stream = daemon.raw();
                let mut sending = stream.try_clone().expect("a second handle");
                stream.write_all(&hello()).expect("a hello");
                thread::scope(|scope| {
                    scope.spawn(move || {
                        let mut rest = &asked[..];
                        while !rest.is_empty() {
                            let (piece, left) = rest.split_at((1 + random.next(6_000)).min(rest.len()));
                            sending.write_all(piece).expect("a connection that is open");
                            rest = left;
                            if random.next(4) == 0 {
                                thread::sleep(Duration::from_micros(random.next(300) as u64));
                            }
                        }
                        // Who sends no more still gets all its answers.
                        sending.shutdown(Shutdown::Write).expect("an end");
                    });
                    read_answers(&mut stream, 400);
                    assert_eq!(stream.read(&mut [0; 8]).expect("an end"), 0);
                });
            });
        }
    });
    eventually("all connections are gone", || daemon.figure("connections") == 0);
    assert_eq!((daemon.ended("failed"), daemon.ended("protocol"), daemon.figure("protocol_errors")), (0, 0, 0));
}

#[test]
fn connections_at_rest_have_no_thread_of_their_own() {
    let (daemon, key) = daemon();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(verdict(client, &key.token, "f", None), Verdict::Ok);
    }
    let processors = thread::available_parallelism().expect("a number").get();
    let threads = daemon.threads();
    assert_eq!(threads.get("verify"), Some(&processors), "{threads:?}");
    // Those that came first, and threads that wait a while for other connections.
    assert!(threads.get("verify-one").copied().unwrap_or(0) <= processors + 32, "{threads:?}");
    assert_eq!(daemon.figure("connections"), CONNECTIONS);
    for client in &mut clients {
        assert_eq!(verdict(client, &key.token, "f", None), Verdict::Ok);
    }
}

/// In threads that serve many, whoever brings much keeps all others waiting: beside a hundred connections with one batch after the other a request took 23 ms in the median.
#[test]
fn who_brings_much_has_a_thread_of_its_own_until_it_brings_little_again() {
    let (daemon, key) = daemon();
    let many = 100;
    let mut clients: Vec<_> = (0..many).map(|_| daemon.client()).collect();
    let request = Request { token: key.token.as_bytes(), function: "f", address: None };
    let ones = || daemon.threads().get("verify-one").copied().unwrap_or(0);
    for client in &mut clients {
        (0..1_000).for_each(|_| client.send(&request).expect("a connection that is open"));
        (0..1_000).for_each(|_| assert_eq!(client.receive().expect("an answer").verdict, Verdict::Ok));
    }
    eventually("each has a thread", || ones() >= many);
    for _ in 0..20 {
        for client in &mut clients {
            assert_eq!(client.verify(&request).expect("an answer").verdict, Verdict::Ok);
        }
    }
    let processors = thread::available_parallelism().expect("a number").get();
    // 32 threads at most wait a while for other connections.
    eventually("they are served together again", || ones() <= processors + 32);
}

/// It has to wait for its peer, and nobody else has to wait for it. What it asked is all answered when it reads at last.
#[test]
fn who_reads_late_keeps_nobody_waiting_and_gets_every_answer() {
    let (daemon, key) = daemon();
    let many = 20_000;
    let asked = questions(&key, many);
    let mut others: Vec<_> = (0..20).map(|_| daemon.client()).collect();
    let mut late = daemon.raw();
    late.write_all(&hello()).expect("a hello");
    let mut sending = late.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || sending.write_all(&asked).expect("a connection that is open"));
        let until = Instant::now() + Duration::from_secs(2);
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            for client in &mut others {
                let asked = Instant::now();
                assert_eq!(verdict(client, &key.token, "f", None), Verdict::Ok);
                longest = longest.max(asked.elapsed());
            }
        }
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        read_answers(&mut late, many);
    });
    // It is as good as any other again.
    late.write_all(&questions(&key, 3)).expect("a connection that is open");
    read_answers(&mut late, 3);
    let request = Request { token: key.token.as_bytes(), function: "f", address: None };
    assert!(others.iter_mut().all(|client| client.verify(&request).is_ok_and(|answer| answer.verdict == Verdict::Ok)));
}
