//! doorward, a Redis that answers a plain `GET`, one that runs a script which does a part of the same checks, and the echo: on Unix sockets, over the same
//! keys, asked by the same load generator in turns.
//!
//! `make bench-redis`, or `cargo bench --bench redis -- [--keys N] [--seconds S] [--rounds N] [--scenario NAME…] [--json]`. It needs `redis-server`.

mod resp;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use doorward::bench::load::Greeting;
use doorward::bench::machine::Cores;
use doorward::bench::population::{Asked, Draw, Population};
use doorward::bench::processes::Home;
use doorward::bench::scenario::{Course, DEPTH, Server};
use doorward::bench::script::{Expected, Frames, Requests, Script};
use doorward::bench::{BenchError, LEAST_ROUNDS, Outcome, Progress, Row, Scenario, furnish, requests_for};
use doorward::key::Verdict;
use resp::{Exactly, Loader, command};
use serde_json::json;

const DOORWARD: &str = env!("CARGO_BIN_EXE_doorward");

/// What `GET` answers: 64 bytes, about what a verdict has.
const VALUE: &[u8; 64] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const GOT: &[u8] = b"$64\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
const NOTHING: &[u8] = b"$-1\r\n";

/// A part of what doorward does: is the key there and switched on, is it in its time, may it call this function; and the call is counted. Networks,
/// countries, wildcards, rotation and the digest of the token are left out. The functions are written out one by one, with spaces around each.
const CHECKS: &str = "\
local key = redis.call('HMGET', KEYS[1], 'enabled', 'expires', 'functions')
if not key[1] then return 2 end
if key[1] ~= '1' then return 6 end
if tonumber(key[2]) ~= 0 and tonumber(ARGV[1]) >= tonumber(key[2]) then return 8 end
if not string.find(key[3], ' ' .. ARGV[2] .. ' ', 1, true) then return 15 end
redis.call('HINCRBY', KEYS[1], 'calls', 1)
return 0
";

/// How long redis-server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

struct Settings {
    keys: u64,
    seconds: f64,
    rounds: usize,
    scenarios: Vec<Scenario>,
    json: bool,
}

/// The redis-server, which does not outlive this program's turn.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let settings = settings(std::env::args().skip(1)).unwrap_or_else(|fault| {
        eprintln!("{fault}\nusage: redis [--keys N] [--seconds S] [--rounds N] [--scenario pinned|pipelined]... [--json]");
        std::process::exit(64);
    });
    if let Err(error) = measure(&settings) {
        eprintln!("redis: {error}");
        std::process::exit(70);
    }
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let both = vec![Scenario::Pinned, Scenario::Pipelined];
    let mut settings = Settings { keys: 1_000_000, seconds: 20.0, rounds: LEAST_ROUNDS, scenarios: Vec::new(), json: false };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--keys" => settings.keys = number(&argument, &value()?)?,
            "--seconds" => settings.seconds = number(&argument, &value()?)?,
            "--rounds" => settings.rounds = number(&argument, &value()?).map(|rounds: usize| rounds.max(LEAST_ROUNDS))?,
            "--scenario" => {
                let name = value()?;
                let found = both.iter().find(|scenario| scenario.name() == name);
                settings.scenarios.push(*found.ok_or(format!("{name} is not measured here"))?);
            }
            "--json" => settings.json = true,
            // Cargo says this to every bench.
            "--bench" => (),
            _ => return Err(format!("{argument} is no flag of this bench")),
        }
    }
    if settings.scenarios.is_empty() {
        settings.scenarios = both;
    }
    Ok(settings)
}

fn number<T: std::str::FromStr + PartialOrd + Default>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().ok().filter(|number| *number > T::default()).ok_or(format!("{flag}: '{text}' is not a number above 0"))
}

fn measure(settings: &Settings) -> Result<(), BenchError> {
    let stop = AtomicBool::new(false);
    let home = Home::make(Path::new(DOORWARD), None)?;
    eprintln!("… starting redis-server, and loading {} keys into it", settings.keys);
    let population = home.population(settings.keys)?;
    let redis = start_redis(&home)?;
    let failed = BenchError::system("load keys into redis-server");
    let sha1 = load(&population, &home.at("redis.sock")).map_err(failed)?;
    eprintln!("… importing them into doorward");
    let (daemon, _) = furnish(&home, &population, &stop, &|_| ())?;
    let echo = home.start_echo(&stop)?;

    let scripts = Scripts::draw(&population, requests_for(settings.keys), &sha1);
    let server = |name, socket: PathBuf, process, greeting, single: &Script| Server {
        name,
        socket,
        process: Some(process),
        greeting,
        single: single.clone(),
    };
    let redis_at = |name, single| server(name, home.at("redis.sock"), redis.0.id(), Greeting::None, single);
    let servers = [
        server("doorward", daemon.verify_socket(), daemon.process(), Greeting::Hello, &scripts.doorward),
        redis_at("redis-get", &scripts.get),
        redis_at("redis-lua", &scripts.lua),
        server(
            "echo",
            home.echo_socket(),
            echo.process(),
            Greeting::Echo { answer_bytes: scripts.answer_bytes, read_of: 0 },
            &scripts.doorward.echoed(),
        ),
    ];
    let tell = |progress| {
        if let Progress::Round { scenario, round: 1, .. } = progress {
            eprintln!("… {}", scenario.name());
        }
    };
    let cores = Cores::find().map_err(BenchError::system("find out which cores there are"))?;
    let course = Course { seconds: settings.seconds, rounds: settings.rounds, cores, stop: &stop, tell: &tell };
    let each: Vec<&Server> = servers.iter().collect();
    let paired: Vec<(&Server, &Script)> = servers.iter().map(|server| (server, &server.single)).collect();
    course.warm_up(&servers[0])?;
    let outcomes: Result<Vec<Outcome>, BenchError> = settings
        .scenarios
        .iter()
        .map(|&scenario| match scenario {
            Scenario::Pinned => course.one_at_a_time(scenario, &each),
            _ => course.windows(scenario, &paired, DEPTH),
        })
        .collect();
    print(&outcomes?, settings);
    Ok(())
}

/// On a Unix socket alone, with nothing written to disk.
fn start_redis(home: &Home) -> Result<Redis, BenchError> {
    let socket = home.at("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocketperm", "700"]);
    command.arg("--unixsocket").arg(&socket).arg("--dir").arg(home.at("run"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().map_err(BenchError::system("start redis-server (on Debian: apt-get install redis-server)"))?;
    let mut redis = Redis(child);
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        let ended = redis.0.try_wait().map_err(BenchError::system("wait for redis-server"))?;
        if ended.is_some() || begun.elapsed() > PATIENCE {
            return Err(BenchError::Daemon("redis-server does not listen".into()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(redis)
}

/// Loads every key in both forms, and returns the digest by which the script is called.
fn load(population: &Population, socket: &Path) -> std::io::Result<Vec<u8>> {
    let mut loader = Loader::connect(socket)?;
    let functions: Vec<(String, bool)> = Population::functions().collect();
    for number in 0..population.keys() {
        let drawn = population.key(number);
        let covered = |(name, restricted): &&(String, bool)| {
            drawn.settings.grants.iter().any(|grant| {
                let grant = grant.to_string();
                grant == *name || !restricted && grant.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
            })
        };
        let names: Vec<&str> = functions.iter().filter(covered).map(|(name, _)| name.as_str()).collect();
        let enabled: &[u8] = if drawn.settings.enabled { b"1" } else { b"0" };
        let expires = drawn.settings.expires_at.map_or(0, |at| at.0).to_string();
        loader.send(&[b"SET", &drawn.token, VALUE])?;
        let fields = ["enabled".as_bytes(), enabled, b"expires", expires.as_bytes(), b"functions"];
        let listed = format!(" {} ", names.join(" "));
        let hash = hash_of(&drawn.token);
        loader.send(&[&[b"HSET".as_slice(), &hash], &fields[..], &[listed.as_bytes()]].concat())?;
    }
    loader.text(&[b"SCRIPT", b"LOAD", CHECKS.as_bytes()])
}

fn hash_of(token: &[u8]) -> Vec<u8> {
    [b"h:", token].concat()
}

/// The same requests, as each server is asked them.
struct Scripts {
    doorward: Script,
    get: Script,
    lua: Script,
    answer_bytes: usize,
}

impl Scripts {
    fn draw(population: &Population, count: usize, sha1: &[u8]) -> Scripts {
        let mut draw = Draw::new(u64::MAX);
        let (mut requests, mut get, mut lua) = (Requests::none(), Frames::new(), Frames::new());
        let (mut got, mut checked) = (Vec::with_capacity(count), Vec::with_capacity(count));
        // A moment between those at which keys of the population end, as each request would have to say it.
        let now = doorward::clock::wall().0.to_string();
        for _ in 0..count {
            let asked = population.request(&mut draw);
            requests.push(&asked.token, &asked.function, asked.address, Expected::new(asked.verdict, asked.account_bytes));
            get.push(|out| command(out, &[b"GET", &asked.token]));
            let hash = hash_of(&asked.token);
            lua.push(|out| command(out, &[b"EVALSHA", sha1, b"1", &hash, now.as_bytes(), asked.function.as_bytes()]));
            got.push(if asked.account_bytes > 0 { GOT } else { NOTHING });
            checked.push(checked_answer(&asked));
        }
        let answer_bytes = requests.answer_bytes();
        let (get, lua) = (Script::new(get, Exactly::new(got)), Script::new(lua, Exactly::new(checked)));
        Scripts { doorward: requests.one_by_one(), get, lua, answer_bytes }
    }
}

/// What the script answers: it knows nothing of not-before, networks and countries.
fn checked_answer(asked: &Asked) -> &'static [u8] {
    match asked.verdict {
        Verdict::Malformed | Verdict::Unknown => b":2\r\n",
        Verdict::Disabled => b":6\r\n",
        Verdict::Expired => b":8\r\n",
        _ if asked.callable => b":0\r\n",
        _ => b":15\r\n",
    }
}

fn print(outcomes: &[Outcome], settings: &Settings) {
    let rows: Vec<Row> = outcomes.iter().flat_map(|outcome| outcome.rows(settings.keys)).collect();
    let mut held_against = Vec::new();
    for outcome in outcomes {
        let comparison = outcome.comparison();
        let of = |server: &str| {
            let found = rows.iter().find(|row| row.scenario == comparison.scenario && row.server == server);
            found.map_or(f64::NAN, |row| comparison.figure.of(row))
        };
        for server in ["redis-get", "redis-lua", "echo"] {
            held_against.push((comparison.scenario, comparison.figure, server, of("doorward") / of(server)));
        }
    }
    if settings.json {
        let rounds: Vec<_> = outcomes.iter().flat_map(Outcome::rounds).collect();
        let compared: Vec<_> = held_against
            .iter()
            .map(|(scenario, figure, server, ratio)| {
                json!({ "scenario": scenario, "figure": figure, "server": "doorward", "baseline": server, "ratio": ratio })
            })
            .collect();
        println!("{:#}", json!({ "rows": rows, "doorward": compared, "rounds": rounds }));
        return;
    }
    println!(
        "{} keys, medians of {} rounds in turns, {} s a scenario; RATIO is to the echo",
        settings.keys, settings.rounds, settings.seconds
    );
    println!(
        "{:<10} {:<10} {:>12} {:>10} {:>10} {:>10} {:>8}",
        "SCENARIO", "SERVER", "PER SECOND", "P50 µs", "P99 µs", "P99.9 µs", "RATIO"
    );
    for row in &rows {
        let micros = |ns: u64| format!("{:.2}", ns as f64 / 1_000.0);
        let [p50, p99, p999] = [row.p50_ns, row.p99_ns, row.p999_ns].map(micros);
        let Row { server, per_second, ratio, .. } = row;
        println!("{:<10} {server:<10} {per_second:>12.0} {p50:>10} {p99:>10} {p999:>10} {ratio:>8.3}", row.scenario.name());
    }
    println!();
    for (scenario, figure, server, ratio) in held_against {
        println!("{}: {} of doorward / {server}: {ratio:.3}", scenario.name(), figure.name());
    }
}
