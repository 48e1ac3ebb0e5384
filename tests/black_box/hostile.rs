//! Clients that are broken or mean harm, beside one that is good: it is served all the while, they are cut or held to a rate, and all is well afterwards
//! without a restart.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use doorward::client::{Client, Request};
use doorward::key::Verdict;
use doorward::protocol::{Address, Hello, Kind, MAGIC, Verify, encode, encode_body};

use crate::daemon::{COMMAND, Daemon, Made, eventually, verdict};

/// What the tests wait for, instead of the ten seconds that are the default.
const STUCK: Duration = Duration::from_secs(1);

fn daemon(verify: &str) -> (Daemon, Made) {
    let daemon = Daemon::start_configured(&format!(
        "data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[verify]\nstuck_timeout = \"1s\"\n{verify}"
    ));
    daemon.json(&["functions", "add", "f"]);
    let key = daemon.create("acme/web", &["--grant", "f"]);
    (daemon, key)
}

impl Daemon {
    pub(crate) fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.run_dir().join("verify.sock")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Connections that ended for this reason.
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        self.json(&["status"])["verify"]["ended"][reason].as_u64().unwrap_or_else(|| panic!("no reason {reason}"))
    }

    pub(crate) fn figure(&self, name: &str) -> u64 {
        self.json(&["status"])["verify"][name].as_u64().unwrap_or_else(|| panic!("no figure {name}"))
    }

    /// Kibibytes of memory.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Hundredths of a second of processor time.
    fn worked(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 1 }));
    bytes
}

fn question(token: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Kind::Verify, [1; 8], |out| encode_body(out, &Verify { token, function: "f", address: Address::None }));
    bytes
}

/// Reads until the daemon closes, and tells how long that took.
fn until_closed(stream: &mut UnixStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    // A connection that is cut with something unread in it ends in a reset.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    started.elapsed()
}

/// The 99th percentile of a client's round trips while something else goes on.
fn p99_while<T>(daemon: &Daemon, key: &Made, mut other: impl FnMut() -> T) -> (Duration, T) {
    thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let asking = scope.spawn(move || {
            let mut client = daemon.client();
            let mut times = Vec::new();
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let asked = Instant::now();
                assert_eq!(verdict(&mut client, &key.token, "f", None), Verdict::Ok);
                times.push(asked.elapsed());
                thread::sleep(Duration::from_micros(500));
            }
            times.sort();
            times[times.len() * 99 / 100]
        });
        let outcome = other();
        drop(done);
        (asking.join().expect("a client"), outcome)
    })
}

#[test]
fn who_stops_in_the_middle_of_a_frame_is_cut_and_who_is_idle_between_frames_is_not() {
    let (daemon, key) = daemon("");
    let mut idle = daemon.client();
    assert_eq!(verdict(&mut idle, &key.token, "f", None), Verdict::Ok);
    let mut silent = daemon.raw();
    let mut half_a_hello = daemon.raw();
    half_a_hello.write_all(&hello()[..7]).unwrap();
    let mut half_a_frame = daemon.raw();
    half_a_frame.write_all(&[hello(), question(b"x")[..20].to_vec()].concat()).unwrap();
    // Whole requests go through, and a piece of the next behind them.
    let mut between = daemon.raw();
    between.write_all(&[hello(), question(b"x"), question(b"x")[..3].to_vec()].concat()).unwrap();
    let mut large = daemon.raw();
    large.write_all(&[hello(), 99_251u32.to_le_bytes().to_vec(), vec![3, 0, 0, 0], vec![0; 50_000]].concat()).unwrap();
    // A byte at a time does not make a frame younger.
    let mut dribble = daemon.raw();
    let bytes = [hello(), question(&[b'x'; 200])].concat();
    let dribbling = thread::spawn(move || {
        let started = Instant::now();
        for byte in bytes {
            thread::sleep(Duration::from_millis(25));
            if dribble.write_all(&[byte]).is_err() {
                break;
            }
        }
        started.elapsed()
    });
    for stream in [&mut silent, &mut half_a_hello, &mut half_a_frame, &mut between, &mut large] {
        let took = until_closed(stream);
        assert!(took < 4 * STUCK, "{took:?}");
    }
    let dribbled = dribbling.join().unwrap();
    assert!(dribbled < 4 * STUCK, "{dribbled:?}");
    assert_eq!((daemon.ended("stuck"), daemon.ended("idle")), (6, 0));
    thread::sleep(STUCK);
    assert_eq!(verdict(&mut idle, &key.token, "f", None), Verdict::Ok);
}

#[test]
fn who_does_not_read_is_cut_and_costs_little() {
    let (daemon, key) = daemon("");
    let before = daemon.resident();
    let mut deaf: Vec<UnixStream> = (0..8).map(|_| daemon.raw()).collect();
    let requests = [hello(), question(b"x").repeat(20_000)].concat();
    let (p99, ()) = p99_while(&daemon, &key, || {
        thread::scope(|scope| {
            for stream in &mut deaf {
                // Until nothing is taken any more; the end comes as an error.
                scope.spawn(|| drop(stream.write_all(&requests)));
            }
        });
    });
    eventually("all are cut", || daemon.ended("unread") == 8);
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 8 * 512 + 4_096, "{grown} KiB for eight that do not read");
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
}

#[test]
fn frames_that_are_too_long_end_the_connection_at_once() {
    let (daemon, key) = daemon("");
    for length in [99_252u32, 1 << 20, u32::MAX] {
        let mut giant = daemon.raw();
        giant.write_all(&[hello(), length.to_le_bytes().to_vec(), vec![2, 0, 0, 0], vec![0; 8]].concat()).unwrap();
        assert!(until_closed(&mut giant) < STUCK);
    }
    assert_eq!((daemon.ended("protocol"), daemon.figure("protocol_errors")), (3, 3));
    assert_eq!(verdict(&mut daemon.client(), &key.token, "f", None), Verdict::Ok);
}

#[test]
fn where_there_is_no_room_the_longest_idle_makes_room() {
    let (daemon, key) = daemon("max_connections = 20\n");
    // Over streams of their own, with which they do not connect anew by themselves.
    let connect = || Client::over(daemon.raw()).expect("a handshake");
    let mut clients: Vec<Client> = (0..20)
        .map(|_| {
            thread::sleep(Duration::from_millis(2));
            connect()
        })
        .collect();
    // Used last, the first is not the longest idle any more.
    assert_eq!(verdict(&mut clients[0], &key.token, "f", None), Verdict::Ok);
    thread::sleep(Duration::from_millis(150));
    for _ in 0..5 {
        clients.push(connect());
    }
    let answers = clients.iter_mut().map(|client| {
        client
            .verify(&Request { token: key.token.as_bytes(), function: "f", address: None })
            .is_ok_and(|answer| answer.verdict == Verdict::Ok)
    });
    let answered: Vec<bool> = answers.collect();
    let expected: Vec<bool> = (0..25).map(|number| !(1..=5).contains(&number)).collect();
    assert_eq!(answered, expected);
    assert_eq!((daemon.ended("displaced"), daemon.figure("refused")), (5, 0));
}

#[test]
fn idle_connections_are_closed_only_where_that_is_configured() {
    let (daemon, key) = daemon("idle_timeout = \"2s\"\n");
    let mut used = daemon.client();
    let mut idle = daemon.raw();
    idle.write_all(&hello()).unwrap();
    // Used until the other has ended, and not only for about as long: on a busy machine that made two idle ones.
    eventually("the idle one ends", || {
        assert_eq!(verdict(&mut used, &key.token, "f", None), Verdict::Ok);
        daemon.ended("idle") > 0
    });
    until_closed(&mut idle);
    assert_eq!(daemon.ended("idle"), 1);
    assert_eq!(verdict(&mut used, &key.token, "f", None), Verdict::Ok);
}

#[test]
fn ten_thousand_slow_connections() {
    let most = rustix::process::Rlimit { current: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum, ..most_files() };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).expect("as many descriptors as may be");
    // Fewer only where the machine does not give a process so many descriptors.
    let many = (most_files().maximum.unwrap_or(65_536) as usize).saturating_sub(1_500).min(10_000);
    let (daemon, key) = daemon(&format!("max_connections = {}\n", many + 100));
    let before = daemon.resident();
    let piece = [hello(), question(b"x")[..20].to_vec()].concat();
    let (p99, (slow, most_memory)) = p99_while(&daemon, &key, || {
        let slow: Vec<UnixStream> = (0..many)
            .map(|_| {
                let mut stream = daemon.raw();
                stream.write_all(&piece).expect("a connection that is open");
                stream
            })
            .collect();
        (slow, daemon.resident())
    });
    let each = most_memory.saturating_sub(before) / many as u64;
    assert!(each < 64, "{each} KiB for each");
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    eventually("all are cut", || daemon.figure("connections") == 0);
    assert!(daemon.ended("stuck") >= many as u64 / 2, "the rest were cut when they were done");
    drop(slow);
    assert_eq!(verdict(&mut daemon.client(), &key.token, "f", None), Verdict::Ok);
}

fn most_files() -> rustix::process::Rlimit {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
}

/// A process with no token of any key is held to a rate; another one, and one that misses often but not only, are not.
#[test]
fn who_only_guesses_is_held_to_a_rate() {
    let (daemon, key) = daemon("");
    let guesses = "{\"token\": \"nonsense\", \"function\": \"f\"}\n".repeat(25_000);
    let started = Instant::now();
    let (p99, ()) = p99_while(&daemon, &key, || {
        let ran = daemon.run_with_input(&["verify", "--jsonl"], &guesses);
        assert_eq!(ran.stdout.lines().filter(|line| line.contains("malformed")).count(), 25_000, "{}", ran.stderr);
    });
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1_200), "15,000 guesses beyond those that are free, in {took:?}");
    assert!(daemon.figure("held_back") > 10_000);
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    assert!(daemon.log().contains("none of the tokens of this process belongs to a key"), "{}", daemon.log());

    let held_back = daemon.figure("held_back");
    let mut client = daemon.client();
    for number in 0..30_000 {
        let token = if number % 9_000 == 8_999 { key.token.as_bytes() } else { b"nonsense" };
        client.send(&Request { token, function: "f", address: None }).unwrap();
        if client.in_flight() == 100 {
            (0..100).for_each(|_| drop(client.receive().unwrap()));
        }
    }
    assert_eq!(daemon.figure("held_back"), held_back, "who misses, but not only, is not held back");
}

#[test]
fn without_descriptors_the_daemon_says_so_does_not_spin_and_recovers() {
    let (daemon, key) = daemon("");
    let mut good = daemon.client();
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its descriptors").count();
    let limit = |number: usize| {
        let status = Command::new("prlimit").arg(format!("--pid={}", daemon.pid())).arg(format!("--nofile={number}:{number}")).status();
        assert!(status.expect("prlimit").success());
    };
    limit(open + 10);
    let crowd: Vec<UnixStream> = (0..40).map(|_| daemon.raw()).collect();
    let refused = crowd.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 100];
        (&mut &**stream).read(&mut answer).is_ok_and(|read| String::from_utf8_lossy(&answer[..read]).contains("no descriptor"))
    });
    assert!(refused.count() >= 20, "who cannot be served is told");
    let worked = daemon.worked();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(700) {
        assert_eq!(verdict(&mut good, &key.token, "f", None), Verdict::Ok);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(daemon.worked() - worked < 35, "it spins");
    assert!(daemon.log().matches("cannot be accepted").count() <= 2, "{}", daemon.log());
    drop(crowd);
    eventually("the others are gone", || {
        let mut late = match Client::connect(&daemon.run_dir().join("verify.sock")) {
            Ok(client) => client,
            Err(_) => return false,
        };
        verdict(&mut late, &key.token, "f", None) == Verdict::Ok
    });
    assert!(daemon.json(&["status"])["verify"]["refused_by"]["descriptors"].as_u64() >= Some(20));
}

/// The admin socket: heads without an end, bodies that do not come, more than are let in, and one that asks and asks and never reads.
#[test]
fn the_admin_socket_outlives_the_same() {
    let (daemon, key) = daemon("");
    let admin = || UnixStream::connect(daemon.run_dir().join("admin.sock")).expect("a connection");
    let mut asks: Vec<UnixStream> = Vec::new();
    for number in 0..200 {
        let mut stream = admin();
        let text = match number % 4 {
            0 => "GET /v1/status HTT".to_owned(),
            1 => "POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{".to_owned(),
            2 => String::new(),
            _ => "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20),
        };
        stream.write_all(text.as_bytes()).expect("a request");
        asks.push(stream);
    }
    let before = daemon.resident();
    let (p99, ()) = p99_while(&daemon, &key, || {
        for _ in 0..5 {
            assert_eq!(daemon.json(&["status"])["health"], "ok");
        }
    });
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    // More than there is room for: those on which nothing is asked give up their places, so that nobody is kept out by who only sits there.
    asks.extend((0..400).map(|_| admin()));
    assert_eq!(daemon.json(&["status"])["health"], "ok");
    drop(asks);
    eventually("there is room again", || daemon.run(&["status"]).code == 0);
    let child = Command::new(COMMAND).args(["list", "--json"]).env("DOORWARD_RUN_DIR", daemon.run_dir()).stdout(Stdio::null()).status();
    assert!(child.expect("the command").success());
}
