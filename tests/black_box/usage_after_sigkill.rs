use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorward::client::{Client, Request};

use doorward::key::Token;

use crate::daemon::{Daemon, Made};

const KEYS: usize = 24;
/// What is asked for: the keys, a token that no key has, and what is no token.
const TOKENS: usize = KEYS + 2;
const UNKNOWN: usize = KEYS;
const MALFORMED: usize = KEYS + 1;
const CLIENTS: u64 = 3;
const FUNCTIONS: [&str; 3] = ["leads.insert", "leads.list", "nobody.registered"];

/// What one client knows of the verifies of each token.
#[derive(Clone, Copy, Default)]
struct Told {
    answered: u64,
    /// Sent, and not answered when the daemon was killed: they may count or not.
    open: u64,
    /// Networks from which one was answered, a bit for each.
    networks: u32,
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
    let kills = number("DOORWARD_KILLS", 200);
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
    let stranger = Token::generate("dw").expect("a token");
    let mut tokens: Vec<&[u8]> = keys.iter().map(|key| key.token.as_bytes()).collect();
    tokens.extend([stranger.expose(), b"no token at all"]);
    let mut told = [Told::default(); TOKENS];
    for round in 0..kills {
        let socket = daemon.run_dir().join("verify.sock");
        let asked = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (mut dice, tokens, socket) = (Dice(dice.below(u64::MAX)), &tokens, &socket);
                    scope.spawn(move || ask_until_killed(socket, tokens, &mut dice))
                })
                .collect();
            thread::sleep(Duration::from_micros(2_000 + dice.below(250_000)));
            daemon.kill9();
            clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
        });
        for of_client in asked {
            for (sum, more) in told.iter_mut().zip(of_client) {
                *sum = Told { answered: sum.answered + more.answered, open: sum.open + more.open, networks: sum.networks | more.networks };
            }
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
    let all = |daemon: &Daemon| {
        let mut sums: Vec<u64> = keys.iter().map(|key| total(daemon, key)).collect();
        let nobodys = daemon.json(&["usage", "--by", "key,verdict"]);
        let rows = nobodys["rows"].as_array().expect("rows");
        let of = |verdict: &str| {
            let rows = rows.iter().filter(|row| row["key"] == "(no key)" && row["verdict"] == verdict);
            rows.filter_map(|row| row["count"].as_u64()).sum::<u64>()
        };
        sums.extend(["unknown", "malformed"].map(of));
        sums
    };
    let right = |sums: &[u64]| sums.iter().zip(&told).all(|(sum, told)| (told.answered..=told.answered + told.open).contains(sum));
    // Written within a flush interval; more than once, since what is counted twice or not at all stays so.
    let until = Instant::now() + Duration::from_secs(10);
    let mut sums = all(&daemon);
    while !right(&sums) && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        sums = all(&daemon);
    }
    for ((sum, told), name) in sums.iter().zip(&told).zip(keys.iter().map(|key| key.id.as_str()).chain(["unknown", "malformed"])) {
        let Told { answered, open, .. } = *told;
        assert!((answered..=answered + open).contains(sum), "{name}: counted {sum}; answered {answered}, in flight at a kill {open}");
    }
    for (key, told) in keys.iter().zip(&told) {
        let usage = daemon.json(&["usage", &key.id]);
        let found: Vec<&str> = usage["networks"].as_array().expect("networks").iter().filter_map(|used| used["network"].as_str()).collect();
        let missing: Vec<String> = (0..20)
            .filter(|bit| told.networks >> bit & 1 == 1)
            .map(|bit| format!("10.0.{bit}.0/24"))
            .filter(|text| !found.contains(&text.as_str()))
            .collect();
        assert!(missing.is_empty(), "{} was used from {missing:?}, too", key.id);
    }
    assert!(told[UNKNOWN].answered > kills && told[MALFORMED].answered > kills, "strangers came, too");
    let status = daemon.json(&["status"]);
    assert_eq!((&status["flush"]["lost"], &status["flush"]["folded"]), (&0.into(), &0.into()));
    assert!(!daemon.log().contains("set aside"), "{}", daemon.log());
    daemon.restart();
    assert_eq!(all(&daemon), sums, "and it stays so");
    daemon.terminate();
    let left = std::fs::read_dir(daemon.run_dir().join("counters")).expect("the counters' directory").count();
    assert_eq!(left, 0, "a clean stop leaves nothing to take over");
}

/// Sends batches of all sizes for all tokens until the connection breaks. Most come from a few networks; the last ones of 20 are rare.
fn ask_until_killed(socket: &Path, tokens: &[&[u8]], dice: &mut Dice) -> [Told; TOKENS] {
    let mut told = [Told::default(); TOKENS];
    let Ok(mut client) = Client::connect(socket) else { return told };
    // Asked again, a verify would count twice.
    client.set_patience(std::time::Duration::ZERO);
    loop {
        let mut one = || {
            let networks = if dice.below(50) == 0 { 20 } else { 3 };
            (dice.below(TOKENS as u64) as usize, dice.below(networks) as u8)
        };
        let size = one().0 * 2;
        let batch: Vec<(usize, u8)> = (0..=size).map(|_| one()).collect();
        for &(token, network) in &batch {
            let address = [10, 0, network, 1].into();
            let function = FUNCTIONS[dice.below(FUNCTIONS.len() as u64) as usize];
            client.send(&Request { token: tokens[token], function, address: Some(address) }).expect("a short request");
            told[token].open += 1;
        }
        let sent = client.flush();
        for &(token, network) in &batch {
            let told_of = &mut told[token];
            match client.receive() {
                Ok(_) => {
                    *told_of = Told { answered: told_of.answered + 1, open: told_of.open - 1, networks: told_of.networks | 1 << network }
                }
                Err(_) => return told,
            }
        }
        if sent.is_err() {
            return told;
        }
    }
}
