use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward::client::{Client, Request};

use crate::daemon::{Daemon, Made, eventually};

const KEYS: usize = 24;
const CLIENTS: u64 = 3;
const FUNCTIONS: [&str; 3] = ["leads.insert", "leads.list", "nobody.registered"];

/// What one client knows of the verifies of each key.
#[derive(Clone, Copy, Default)]
struct Told {
    answered: u64,
    /// Sent, and not answered when the daemon was killed: they may count or not.
    open: u64,
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// A generator by Steele, Lea and Flood (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// SIGKILL at random moments, while rings, rows and batches are on their way: every answer counts once, and nothing else does but what was in flight.
/// `DOORWARD_KILLS` and `DOORWARD_KILL_SEED` choose how often and when.
#[test]
fn the_sum_is_what_the_clients_were_answered() {
    let kills = number("DOORWARD_KILLS", 30);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let seed = number("DOORWARD_KILL_SEED", now.subsec_nanos().into());
    println!("DOORWARD_KILL_SEED={seed}");
    let mut dice = Dice(seed);
    let mut daemon =
        Daemon::start_configured("data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\nflush_interval = \"100ms\"\nstrict = false\n");
    for function in &FUNCTIONS[..2] {
        daemon.json(&["functions", "add", function]);
    }
    let keys: Vec<Made> = (0..KEYS).map(|number| daemon.create(&format!("acme/k{number}"), &["--grant", "leads.*"])).collect();
    let mut told = [Told::default(); KEYS];
    for round in 0..kills {
        let socket = daemon.run_dir().join("verify.sock");
        let asked = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (mut dice, keys, socket) = (Dice(dice.below(u64::MAX)), &keys, &socket);
                    scope.spawn(move || ask_until_killed(socket, keys, &mut dice))
                })
                .collect();
            thread::sleep(Duration::from_micros(2_000 + dice.below(250_000)));
            daemon.kill9();
            clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
        });
        for of_client in asked {
            told.iter_mut()
                .zip(of_client)
                .for_each(|(sum, more)| (sum.answered, sum.open) = (sum.answered + more.answered, sum.open + more.open));
        }
        // Some die again before they are ready, while they take over what the one before left.
        if round % 3 == 1 {
            daemon.kill_while_starting(Duration::from_micros(dice.below(80_000)));
        }
        daemon.start_again();
    }
    let answered: u64 = told.iter().map(|told| told.answered).sum();
    assert!(answered > kills * 100, "only {answered} answers");
    let total = |daemon: &Daemon, key: &Made| daemon.json(&["usage", &key.id])["total"].as_u64().expect("a total");
    let all = |daemon: &Daemon| keys.iter().map(|key| total(daemon, key)).collect::<Vec<_>>();
    let right = |sums: &[u64]| sums.iter().zip(&told).all(|(sum, told)| (told.answered..=told.answered + told.open).contains(sum));
    eventually("what the last one left is written", || right(&all(&daemon)));
    let sums = all(&daemon);
    let status = daemon.json(&["status"]);
    assert_eq!((&status["flush"]["lost"], &status["flush"]["folded"]), (&0.into(), &0.into()));
    assert!(!daemon.log().contains("set aside"), "{}", daemon.log());
    daemon.restart();
    assert_eq!(all(&daemon), sums, "and it stays so");
    daemon.terminate();
    let left = std::fs::read_dir(daemon.run_dir().join("counters")).expect("the counters' directory").count();
    assert_eq!(left, 0, "a clean stop leaves nothing to take over");
}

/// Sends batches of all sizes for all keys until the connection breaks.
fn ask_until_killed(socket: &Path, keys: &[Made], dice: &mut Dice) -> [Told; KEYS] {
    let mut told = [Told::default(); KEYS];
    let Ok(mut client) = Client::connect(socket) else { return told };
    // Asked again, a verify would count twice.
    client.set_patience(std::time::Duration::ZERO);
    loop {
        let batch: Vec<usize> = (0..=dice.below(64)).map(|_| dice.below(KEYS as u64) as usize).collect();
        for &key in &batch {
            let address = [10, 0, dice.below(20) as u8, 1].into();
            let function = FUNCTIONS[dice.below(FUNCTIONS.len() as u64) as usize];
            client.send(&Request { token: keys[key].token.as_bytes(), function, address: Some(address) }).expect("a short request");
            told[key].open += 1;
        }
        let sent = client.flush();
        for &key in &batch {
            match client.receive() {
                Ok(_) => (told[key].open, told[key].answered) = (told[key].open - 1, told[key].answered + 1),
                Err(_) => return told,
            }
        }
        if sent.is_err() {
            return told;
        }
    }
}
