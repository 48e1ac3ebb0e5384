//! The real daemon with many keys, held against a blocking echo of frames of the same sizes:
//! import, start, memory, round trips on one core, and throughput.
//!
//! `cargo bench --bench round_trip -- [--keys N] [--seconds S] [--country-db FILE] [--json]`

mod daemon;
mod echo;
mod exchange;
#[path = "../population/mod.rs"]
mod population;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward::protocol::{HEADER_BYTES, Response, encode_body};

use daemon::{Daemon, Place, keep_on};
use echo::{ECHO, Echo};
use exchange::{Connection, Requests, Server, throughput};
use population::Population;
use report::{Report, RoundTrips, Spread};

const CONNECTIONS: usize = 8;
const DEPTH: usize = 32;
/// How often the daemon is started to see how long it takes.
const STARTS: usize = 3;
/// Requests that are drawn beforehand, and asked in turn.
const REQUESTS: usize = 500_000;
/// Both servers answer for so long in each round: long against a change of server, short against the machine's moods.
const TURN: Duration = Duration::from_millis(200);
const LEAST_ROUNDS: usize = 9;
/// So much before each turn is not counted: caches and the processor's speed settle.
const SETTLING: Duration = Duration::from_millis(20);

struct Settings {
    keys: u64,
    seconds: f64,
    country_db: PathBuf,
    json: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, socket, answer_bytes] = &arguments[..]
        && flag == ECHO
    {
        return echo::serve(Path::new(socket), answer_bytes.parse().expect("a number of bytes"));
    }
    let settings = match settings(arguments) {
        Ok(settings) => settings,
        Err(fault) => {
            eprintln!("{fault}\nusage: round_trip [--keys N] [--seconds S] [--country-db FILE] [--json]");
            std::process::exit(64);
        }
    };
    let report = measure(&settings);
    if settings.json { println!("{:#}", report.json()) } else { report.print() }
}

fn settings(arguments: Vec<String>) -> Result<Settings, String> {
    let mut settings = Settings { keys: 1_000_000, seconds: 20.0, country_db: population::COUNTRY_DB.into(), json: false };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let fault = |value: String| format!("{argument}: '{value}' is not a number above 0");
        match argument.as_str() {
            "--keys" => settings.keys = value().and_then(|value| value.parse().ok().filter(|keys| *keys > 0).ok_or(fault(value)))?,
            "--seconds" => settings.seconds = value().and_then(|value| value.parse().ok().filter(|s| *s > 0.0).ok_or(fault(value)))?,
            "--country-db" => settings.country_db = value()?.into(),
            "--json" => settings.json = true,
            // Cargo says this to every bench.
            "--bench" => (),
            _ => return Err(format!("{argument} is no flag of this bench")),
        }
    }
    Ok(settings)
}

fn measure(settings: &Settings) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let place = Place { data: at("data"), run: at("run"), country_db: settings.country_db.clone() };
    fs::create_dir(&place.data).and_then(|()| fs::create_dir(&place.run)).expect("room for the folders");

    let tell = |what: &str| eprintln!("… {what}");
    tell("drawing keys and requests");
    let population = Population::new(settings.keys, &settings.country_db);
    let requests = Requests::draw(&population, REQUESTS);

    tell("importing");
    let mut daemon = Daemon::start(&place);
    let import = daemon.import(&population, settings.keys, &at("keys.jsonl"));
    let import_processor_s = daemon.processor_s();
    let resident_after_import = daemon.resident_bytes();
    let stop = daemon.stop();

    tell("starting again");
    daemon = Daemon::start(&place);
    let mut ready = vec![daemon.until_ready.as_secs_f64()];
    while ready.len() < STARTS {
        daemon.stop();
        daemon = Daemon::start(&place);
        ready.push(daemon.until_ready.as_secs_f64());
    }
    let ready_processor_s = daemon.processor_s();
    let resident_when_ready = daemon.resident_bytes();

    let echo = Echo::start(&at("echo.sock"), answer_bytes());
    let sockets = Sockets { doorward: daemon.verify_socket(), echo: at("echo.sock") };
    tell("asking one at a time, on one core");
    let processes = [std::process::id(), daemon.process(), echo.process()];
    let core = last_core();
    processes.iter().for_each(|process| keep_on(*process, Some(core)));
    let round_trips = one_at_a_time(&sockets, &requests, settings.seconds);
    processes.iter().for_each(|process| keep_on(*process, None));
    let resident_after_round_trips = daemon.resident_bytes();
    tell("asking over many connections");
    let (doorward_per_s, echo_per_s) = pipelined(&sockets, &requests, settings.seconds / 2.0);

    Report {
        keys: settings.keys,
        request_bytes: requests.mean_bytes(),
        answer_bytes: answer_bytes(),
        refused_share: requests.refused_share(),
        import_s: import.as_secs_f64(),
        import_processor_s,
        ready_s: Spread::of(ready),
        ready_processor_s,
        stop_s: stop.as_secs_f64(),
        resident_after_import,
        resident_when_ready,
        resident_after_round_trips,
        resident_after_throughput: daemon.resident_bytes(),
        store_bytes: bytes_of(&place.data),
        round_trips,
        doorward_per_s,
        echo_per_s,
    }
}

struct Sockets {
    doorward: PathBuf,
    echo: PathBuf,
}

/// Rounds of a turn each, in alternating order, so that neither server has the better moments of the machine.
fn one_at_a_time(sockets: &Sockets, requests: &Requests, seconds: f64) -> RoundTrips {
    let mut doorward = Connection::open(Server::Doorward, &sockets.doorward, requests, 0);
    let mut echo = Connection::open(Server::Echo, &sockets.echo, requests, 0);
    let turn = |connection: &mut Connection<'_>| {
        connection.one_at_a_time(SETTLING);
        connection.one_at_a_time(TURN)
    };
    let mut trips = RoundTrips { doorward: Vec::new(), echo: Vec::new() };
    for round in 0..rounds(seconds) {
        if round % 2 == 0 {
            trips.echo.push(turn(&mut echo));
        }
        trips.doorward.push(turn(&mut doorward));
        if round % 2 == 1 {
            trips.echo.push(turn(&mut echo));
        }
    }
    trips
}

fn pipelined(sockets: &Sockets, requests: &Requests, seconds: f64) -> (Spread, Spread) {
    let turn = |server, socket: &Path| throughput(server, socket, requests, CONNECTIONS, DEPTH, TURN);
    let pair = |_| (turn(Server::Doorward, &sockets.doorward), turn(Server::Echo, &sockets.echo));
    let (doorward, echo): (Vec<f64>, Vec<f64>) = (0..rounds(seconds)).map(pair).unzip();
    (Spread::of(doorward), Spread::of(echo))
}

fn rounds(seconds: f64) -> usize {
    ((seconds / (2.0 * (TURN + SETTLING).as_secs_f64())) as usize).max(LEAST_ROUNDS)
}

/// Bytes of the frame that answers for a key: accounts here are 15 bytes long.
fn answer_bytes() -> usize {
    let response = Response { account: "account-0000000", ..Response::of_nobody(doorward::key::Verdict::Ok) };
    let mut body = Vec::new();
    encode_body(&mut body, &response);
    HEADER_BYTES + body.len()
}

/// The first core is the one that most interrupts go to.
fn last_core() -> usize {
    let cores = rustix::thread::sched_getaffinity(None).expect("the cores of this thread");
    (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|core| cores.is_set(*core)).expect("a core")
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}
