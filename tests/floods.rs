//! Processes that connect without pause, to either socket, beside others who want something: these are served, and soon. `--nocapture` shows the figures that stand in
//! `docs/limits.md`. The flood is this very binary in processes of its own, of another user where the tests run as root. Apart from the other tests, which it would slow down.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use doorward::client::{Client, Request};
use doorward::key::Verdict;
use doorward::protocol::{Address, Hello, Kind, MAGIC, Verify, encode, encode_body};

#[allow(dead_code, reason = "the black-box tests use all of it")]
#[path = "black_box/daemon.rs"]
mod daemon;

#[path = "floods/crowd.rs"]
mod crowd;

use daemon::{Daemon, eventually, verdict};

/// One flood at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a flooding process does, and on which socket.
const FLOOD: &str = "DOORWARD_TEST_FLOOD";
/// Instead of that: whom it serves there, as little as a server can.
const SERVED: &str = "DOORWARD_TEST_SERVED";
const SOCKET: &str = "DOORWARD_TEST_FLOOD_SOCKET";
/// How long a good client is watched beside each crowd, and alone in between.
const WATCHED: Duration = Duration::from_secs(3);
const USERS: [u32; 2] = [54_351, 54_352];
/// What another may take, and in the middle. Generous, since the tests share two processors with the floods; without what they test, it is ten seconds and more.
const MOST: Duration = Duration::from_secs(4);
const MEDIAN: Duration = Duration::from_millis(700);

struct House {
    daemon: Daemon,
    token: String,
    binary: PathBuf,
}

/// Flooding processes, until it is dropped.
struct Flood(Vec<Child>);

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl House {
    fn new() -> House {
        House::with("")
    }

    /// With more below `[verify]`.
    fn with(verify: &str) -> House {
        let users = USERS.map(|user| format!("\"{user}\"")).join(", ");
        let daemon = Daemon::start_configured(&format!(
            "data_dir = \"{{home}}/data\"\nrun_dir = \"{{home}}/run\"\n[admin]\nmode = \"0666\"\nread_users = [{users}]\n[verify]\nmode = \"0666\"\n{verify}"
        ));
        fs::set_permissions(daemon.home(), fs::Permissions::from_mode(0o755)).expect("a folder that others may enter");
        let binary = daemon.home().join("flood");
        fs::copy(std::env::current_exe().expect("this binary"), &binary).expect("a copy that others may run");
        daemon.json(&["functions", "add", "f"]);
        let token = daemon.create("acme/web", &["--grant", "f"]).token;
        House { daemon, token, binary }
    }

    fn flood(&self, what: &str, socket: &str, processes: usize, users: &[u32]) -> Flood {
        self.processes(&[(FLOOD, what)], &self.daemon.run_dir().join(socket), processes, users)
    }

    fn processes(&self, does: &[(&str, &str)], socket: &Path, processes: usize, users: &[u32]) -> Flood {
        let root = rustix::process::getuid().is_root();
        let children = (0..processes).map(|number| {
            let mut command = Command::new(&self.binary);
            command.args(["--exact", "flooding_process", "--ignored", "--test-threads=1"]);
            command.envs(does.iter().copied()).env(SOCKET, socket).current_dir("/");
            if let (true, Some(user)) = (root, users.get(number % users.len().max(1))) {
                command.uid(*user).gid(*user);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process that floods")
        });
        Flood(children.collect())
    }

    /// Connections to the admin socket that were closed at once.
    fn closed(&self) -> u64 {
        let mut stream = UnixStream::connect(self.daemon.run_dir().join("admin.sock")).expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix("doorward_admin_connections_refused_total "));
        line.expect("a figure").trim().parse().expect("a number")
    }
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 1 }));
    bytes
}

fn question(token: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Kind::Verify, [1; 8], |out| encode_body(out, &Verify { token, function: "f", address: Address::None }));
    bytes
}

/// Not a test: what the tests start in processes of their own.
#[test]
#[ignore = "floods a socket until it is killed, where a test says which"]
fn flooding_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let socket = Path::new(&socket);
    if let Ok(what) = std::env::var(SERVED) {
        crowd::serve(&what, socket);
    }
    let Ok(what) = std::env::var(FLOOD) else { return };
    let mut held = VecDeque::new();
    let connect = || UnixStream::connect(socket).ok();
    loop {
        match &*what {
            "closes" => drop(connect()),
            // Fewer than can be taken off the queue.
            "closes-often" => {
                drop(connect());
                let until = Instant::now() + Duration::from_micros(25);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            // Asks, and never reads; the oldest is closed for the newest.
            "never-reads" => {
                let Some(mut stream) = connect() else { continue };
                let _ = stream.set_nonblocking(true);
                let _ = stream.write_all("GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50).as_bytes());
                held.push_back(stream);
                if held.len() > 300 {
                    held.pop_front();
                }
            }
            // Guesses over more connections than there may be, four hundred of them new each second.
            "guesses" => {
                let Some(mut stream) = connect() else { continue };
                let _ = stream.set_nonblocking(true);
                let _ = stream.write_all(&[hello(), question(b"x").repeat(250)].concat());
                held.push_back(stream);
                if held.len() > 1_500 {
                    held.pop_front();
                    thread::sleep(Duration::from_micros(2_500));
                }
            }
            other => crowd::harm(other, socket),
        }
    }
}

/// How long each took: the median, the 99th percentile and the most.
fn figures(name: &str, mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let figures = [50, 99, 100].map(at);
    let [median, p99, most] = figures;
    eprintln!("{name}: {} times, median {median:?}, p99 {p99:?}, most {most:?}", times.len());
    figures
}

fn timed(mut what: impl FnMut()) -> Duration {
    let begun = Instant::now();
    what();
    begun.elapsed()
}

/// A process that may only look kept others out: its connections filled the kernel's queue, in which the command waited half a minute, or failed.
#[test]
fn who_floods_the_admin_socket_delays_no_other() {
    let _alone = ALONE.lock();
    let house = House::new();
    let status = || assert_eq!(house.daemon.json(&["status"])["health"], "ok");
    figures("status, quiet", (0..20).map(|_| timed(status)).collect());
    for (what, processes, users) in
        [("never-reads", 1, &USERS[..1]), ("closes", 1, &USERS[..1]), ("never-reads", 2, &USERS), ("closes", 4, &USERS)]
    {
        let before = house.closed();
        let _flood = house.flood(what, "admin.sock", processes, users);
        eventually("connections are closed at once", || house.closed() > before);
        let times = (0..20).map(|_| timed(status)).collect();
        let [median, _, most] = figures(&format!("status beside {processes} that connect ({what})"), times);
        assert!(median < MEDIAN && most < MOST, "{median:?}, {most:?}");
    }
    assert!(house.daemon.log().contains("opens them without a pause are closed"), "{}", house.daemon.log());
    assert_eq!(verdict(&mut house.daemon.client(), &house.token, "f", None), Verdict::Ok);
}

/// A process that guessed took all places, and all room for those that leave: no other came in until it ended.
#[test]
fn who_floods_the_verify_socket_keeps_nobody_out() {
    let _alone = ALONE.lock();
    let house = House::new();
    let socket = house.daemon.run_dir().join("verify.sock");
    let newcomer = || {
        let mut client = Client::over(UnixStream::connect(&socket).expect("a connection")).expect("a welcome");
        let answer = client.verify(&Request { token: house.token.as_bytes(), function: "f", address: None }).expect("an answer");
        assert_eq!(answer.verdict, Verdict::Ok);
    };
    let newcomers = || {
        let times = (0..200).map(|_| {
            thread::sleep(Duration::from_millis(5));
            timed(newcomer)
        });
        times.collect()
    };
    figures("a new client, quiet", newcomers());
    let status = || house.daemon.json(&["status"])["verify"].clone();
    let full = || status()["ended"]["displaced"].as_u64() > Some(100);
    let throttled = || status()["refused_by"]["throttled"].as_u64() > Some(100);
    for (what, processes, users, floods) in
        [("guesses", 1, &USERS[..1], &full as &dyn Fn() -> bool), ("guesses", 2, &USERS, &full), ("closes", 2, &USERS, &throttled)]
    {
        let _flood = house.flood(what, "verify.sock", processes, users);
        eventually("it is a flood", floods);
        let [median, _, most] = figures(&format!("a new client beside {processes} that connect ({what})"), newcomers());
        assert!(median < MEDIAN && most < MOST, "{median:?}, {most:?}");
    }
}

/// Most clients in event loops do not wait in `connect`. Where they came as fast as the rate at which connections are turned away in a flood, one process kept these out.
#[test]
fn who_connects_often_leaves_room_in_the_queue() {
    let _alone = ALONE.lock();
    let house = House::new();
    let path = SocketAddrUnix::new(house.daemon.run_dir().join("verify.sock")).expect("an address");
    let throttled = || house.daemon.json(&["status"])["verify"]["refused_by"]["throttled"].as_u64().expect("a figure");
    // The last two are more than can be taken off the queue: of them the figure is only shown.
    for (what, processes, most_full) in [("closes-often", 1, Some(20)), ("closes", 1, None), ("closes", 4, None)] {
        let before = throttled();
        let _flood = house.flood(what, "verify.sock", processes, &USERS);
        eventually("it is a flood", || throttled() > before + 10_000);
        let full = (0..200).filter(|_| {
            thread::sleep(Duration::from_millis(5));
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("a socket");
            connect(&socket, &path).is_err()
        });
        let (begun, before, full) = (Instant::now(), throttled(), full.count());
        let rate = (throttled() - before) as f64 / begun.elapsed().as_secs_f64();
        eprintln!("beside {processes} that connect ({what}), {rate:.0} a second, {full} of 200 that do not wait found the queue full");
        assert!(most_full.is_none_or(|most| full <= most), "{full}");
    }
}

/// The table of `docs/limits.md`: round trips of a client that asks one request at a time, alone, beside each crowd, and beside the same crowd at the socket of a server that does
/// the least that can be done with it: what is lost there, the machine takes and not doorward.
#[test]
#[ignore = "measures for five minutes, best on an otherwise idle machine"]
fn what_a_good_client_notices() {
    let _alone = ALONE.lock();
    let house = House::with("max_connections = 12000\n");
    let mut client = house.daemon.client();
    let mut watch = |name: &str| {
        let (until, mut times) = (Instant::now() + WATCHED, Vec::new());
        while Instant::now() < until {
            times.push(timed(|| assert_eq!(verdict(&mut client, &house.token, "f", None), Verdict::Ok)));
        }
        let [_, p99, _] = figures(name, times);
        p99.as_secs_f64()
    };
    let elsewhere = house.daemon.home().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    for (what, socket, processes) in crowd::CROWDS {
        let alone = watch("quiet");
        let crowd = house.flood(what, socket, processes, &USERS[..1]);
        thread::sleep(Duration::from_secs(1));
        let beside = watch(&format!("{processes} x {what}"));
        drop(crowd);
        let other = elsewhere.join(socket);
        let _ = fs::remove_file(&other);
        let _served = house.processes(&[(SERVED, what)], &other, 1, &[]);
        eventually("it listens", || UnixStream::connect(&other).is_ok());
        let _crowd = house.processes(&[(FLOOD, what)], &other, processes, &USERS[..1]);
        thread::sleep(Duration::from_secs(1));
        let beside_elsewhere = watch(&format!("{processes} x {what}, elsewhere"));
        eprintln!("    p99 {:.2} of alone; elsewhere {:.2}", beside / alone, beside_elsewhere / alone);
    }
}
