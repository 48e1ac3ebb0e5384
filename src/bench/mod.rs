//! `doorward bench`: what verifying costs on this machine, beside the simplest server that answers frames of the same sizes.
//!
//! A daemon of its own is started on a temporary folder, and filled by the real import (or one is taken that runs). The load generator asks it and
//! the echo in turns, so that both have the same share of the machine's moods; every answer is held against what it must be.
//!
//! The other program that measures, `benches/redis`, uses the same parts.

mod changes;
#[path = "../../benches/echo/mod.rs"]
mod echo;
pub mod load;
pub mod machine;
pub mod population;
pub mod processes;
mod report;
pub mod scenario;
pub mod script;
pub mod zipf;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use changes::Changes;
use load::{Greeting, LoadError};
use machine::{Cores, allow_descriptors, processor_s, resident_bytes};
use processes::{Daemon, Home};
use scenario::{Course, DEPTH, Server};
use script::{Requests, Script};

pub use changes::ChangeError;
pub use report::{Comparison, DaemonFigures, Figure, Outcome, Report, RequestFigures, Resident, Rounds, Row};
pub use scenario::Scenario;
pub use zipf::Zipf;

/// The fewest rounds that a median is taken of.
pub const LEAST_ROUNDS: usize = 9;
/// How skewed the choice of keys is with `--zipf`: what caches are commonly measured with.
pub const ZIPF_EXPONENT: f64 = 0.99;
/// Requests that are drawn beforehand and asked in turn: as many as keys, within these bounds.
const REQUESTS: [u64; 2] = [20_000, 1_000_000];
/// How often the daemon is started to see how long it takes.
const STARTS: usize = 3;
/// Admin clients of the scenario `changes`, and what they change a second, all together.
const ADMINS: u64 = 64;
const CHANGES_PER_SECOND: f64 = 1_000.0;

/// What to measure, and how long.
pub struct Plan {
    /// Whom to ask.
    pub subject: Subject,
    /// Each in its turn.
    pub scenarios: Vec<Scenario>,
    /// Seconds for each scenario, in all its rounds and with its baselines.
    pub seconds: f64,
    /// How often each server has its turn in a scenario.
    pub rounds: usize,
    /// Requests a second where the rate is fixed; without it half of what 8 connections reach that wait for each answer.
    pub rate: Option<f64>,
}

/// Whom to ask.
pub enum Subject {
    /// A daemon of the bench's own.
    Own {
        /// How many keys it has.
        keys: u64,
        /// Choose keys by Zipf's law instead of each as likely as another.
        zipf: bool,
        /// Another country database than the small one inside.
        country_db: Option<PathBuf>,
    },
    /// A daemon that runs.
    Running {
        /// Where it listens.
        verify_socket: PathBuf,
        /// What to ask, with the answers that it gives now: it must go on giving them.
        requests: Requests,
        /// How many different tokens these have.
        tokens: u64,
    },
}

/// How far the bench is.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    /// Keys are drawn and written to a file.
    Drawing {
        /// So many are.
        done: u64,
        /// Of so many.
        of: u64,
    },
    /// The file with so many keys is imported.
    Importing(u64),
    /// The daemon is started again.
    Starting,
    /// Everything is asked before anything is measured.
    WarmingUp,
    /// A scenario is measured.
    Round {
        /// This one.
        scenario: Scenario,
        /// The round, from 1.
        round: usize,
        /// Of so many.
        of: usize,
    },
}

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The system refuses something.
    #[error("cannot {doing}: {source}")]
    System {
        /// What.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The country database cannot be used.
    #[error("the country database: {0}")]
    Population(String),
    /// The daemon or its command failed.
    #[error("the daemon: {0}")]
    Daemon(String),
    /// A server failed in a scenario, or answered wrongly.
    #[error("{}: {server}: {source}", scenario.name())]
    Load {
        /// The scenario.
        scenario: Scenario,
        /// The server.
        server: &'static str,
        /// How.
        source: LoadError,
    },
    /// A change was not made.
    #[error("changes: {0}")]
    Change(#[from] ChangeError),
    /// A signal asked for the end.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
}

impl BenchError {
    /// Of the system, while doing this.
    pub fn system(doing: &'static str) -> impl Fn(io::Error) -> BenchError {
        move |source| BenchError::System { doing, source }
    }

    fn load(scenario: Scenario, server: &'static str, source: LoadError) -> BenchError {
        match source {
            LoadError::Interrupted => BenchError::Interrupted,
            source => BenchError::Load { scenario, server, source },
        }
    }
}

/// Measures. `program` is the doorward to start as daemon, command and echo; `stop` ends it early, with everything cleaned up.
///
/// # Errors
/// A daemon that does not start or fails, a wrong answer, or the end asked for.
pub fn run(program: &Path, plan: Plan, stop: &AtomicBool, tell: &dyn Fn(Progress)) -> Result<Report, BenchError> {
    let cores = Cores::find().map_err(BenchError::system("find out which cores there are"))?;
    let course = Course { seconds: plan.seconds, rounds: plan.rounds, cores, stop, tell };
    let result = match plan.subject {
        Subject::Own { keys, zipf, ref country_db } => own(program, &plan, &course, keys, zipf, country_db.as_deref()),
        Subject::Running { ref verify_socket, ref requests, tokens } => running(program, &plan, &course, verify_socket, requests, tokens),
    };
    // A signal that reached the daemon, too, shows as a connection that it closed.
    result.map_err(|error| if stop.load(Ordering::Relaxed) { BenchError::Interrupted } else { error })
}

/// Serves as the echo until its standard input ends: a hidden verb of the command.
///
/// # Errors
/// The socket cannot be made.
pub fn serve_echo(socket: &Path) -> io::Result<()> {
    echo::serve(socket)
}

/// A daemon with its keys, and what having them took.
///
/// # Errors
/// A daemon that does not start, or refuses an import.
pub fn furnish(
    home: &Home,
    population: &population::Population,
    stop: &AtomicBool,
    tell: &dyn Fn(Progress),
) -> Result<(Daemon, DaemonFigures), BenchError> {
    let daemon = home.start(stop)?;
    let import_s = home.import(population, stop, tell)?.as_secs_f64();
    let import_processor_s = processor_s(daemon.process());
    let after_import = resident_bytes(daemon.process());
    tell(Progress::Starting);
    let mut daemon = daemon;
    let mut ready = Vec::new();
    while ready.len() < STARTS {
        daemon.stop(stop)?;
        daemon = home.start(stop)?;
        ready.push(daemon.until_ready.as_secs_f64());
    }
    let figures = DaemonFigures {
        import_s,
        import_processor_s,
        ready_s: report::median(ready, f64::total_cmp),
        ready_processor_s: processor_s(daemon.process()),
        resident_bytes: Resident { after_import, when_ready: resident_bytes(daemon.process()), at_end: 0 },
        store_bytes: home.store_bytes(),
    };
    Ok((daemon, figures))
}

/// How many requests are drawn for so many keys.
pub fn requests_for(keys: u64) -> usize {
    keys.clamp(REQUESTS[0], REQUESTS[1]) as usize
}

fn own(program: &Path, plan: &Plan, course: &Course<'_>, keys: u64, zipf: bool, country_db: Option<&Path>) -> Result<Report, BenchError> {
    let home = Home::make(program, country_db)?;
    let population = home.population(keys)?;
    let (daemon, mut figures) = furnish(&home, &population, course.stop, course.tell)?;
    let zipf = zipf.then(|| Zipf::new(keys, ZIPF_EXPONENT));
    let requests = Requests::draw(&population, zipf.as_ref(), requests_for(keys));
    let chosen = if zipf.is_some() { "zipf-0.99" } else { "uniform" };
    let script = requests.one_by_one();
    let doorward = Server {
        name: "doorward",
        socket: daemon.verify_socket(),
        process: Some(daemon.process()),
        greeting: Greeting::Hello,
        single: script,
    };
    let admin_socket = daemon.admin_socket();
    let changes = Changes::new(&admin_socket, &population, ADMINS, CHANGES_PER_SECOND);
    let mut report = scenarios(plan, course, &home, &doorward, &requests, (keys, chosen), Some(changes))?;
    figures.resident_bytes.at_end = resident_bytes(daemon.process());
    report.daemon = Some(figures);
    Ok(report)
}

fn running(
    program: &Path,
    plan: &Plan,
    course: &Course<'_>,
    socket: &Path,
    requests: &Requests,
    tokens: u64,
) -> Result<Report, BenchError> {
    let home = Home::make(program, None)?;
    let process = machine::process_behind(socket).map_err(BenchError::system("connect to the verify socket"))?;
    let single = requests.one_by_one();
    let doorward = Server { name: "doorward", socket: socket.to_owned(), process, greeting: Greeting::Hello, single };
    scenarios(plan, course, &home, &doorward, requests, (tokens, "given"), None)
}

/// Runs the scenarios of the plan that this machine and this daemon allow.
fn scenarios(
    plan: &Plan,
    course: &Course<'_>,
    home: &Home,
    doorward: &Server,
    requests: &Requests,
    (keys, chosen): (u64, &'static str),
    mut changes: Option<Changes<'_>>,
) -> Result<Report, BenchError> {
    allow_descriptors();
    let process = home.start_echo(course.stop)?;
    let (batches, answer_bytes) = (requests.in_batches(), requests.answer_bytes());
    let echo_of = |name, script: &Script, answer_bytes, read_of| Server {
        name,
        socket: home.echo_socket(),
        process: Some(process.process()),
        greeting: Greeting::Echo { answer_bytes, read_of },
        single: script.echoed(),
    };
    let echo = echo_of("echo", &doorward.single, answer_bytes, 0);
    let echo_read = echo_of("echo-read", &doorward.single, answer_bytes, keys);
    let batch_echo = echo_of("echo", &batches, requests.batch_answer_bytes(), 0);
    let mut report = Report {
        rows: Vec::new(),
        ratios: Vec::new(),
        rounds: Vec::new(),
        daemon: None,
        requests: RequestFigures {
            drawn: requests.count(),
            refused_share: requests.refused_share(),
            request_bytes: requests.mean_bytes(),
            answer_bytes,
            keys: chosen,
        },
        notes: Vec::new(),
    };
    course.warm_up(doorward)?;
    let mut half_load = plan.rate;
    for &scenario in &plan.scenarios {
        if let Some(reason) = left_out(scenario, course, doorward, changes.is_some()) {
            report.notes.push(format!("{} is left out: {reason}", scenario.name()));
            continue;
        }
        if half_load.is_none() && matches!(scenario, Scenario::Many | Scenario::Changes | Scenario::OpenLoop) {
            half_load = Some(course.half_load(scenario, doorward)?);
        }
        let rate = half_load.unwrap_or(1.0);
        let outcome = match scenario {
            Scenario::Pinned | Scenario::Cross => course.one_at_a_time(scenario, &[doorward, &echo_read, &echo])?,
            Scenario::Pipelined => {
                let echoes = [&echo_read, &echo].map(|echo| (echo, &echo.single));
                course.windows(scenario, &[(doorward, &doorward.single), echoes[0], echoes[1]], DEPTH)?
            }
            Scenario::Batch => course.windows(scenario, &[(doorward, &batches), (&batch_echo, &batch_echo.single)], 1)?,
            Scenario::Many => course.many(doorward, &echo, rate)?,
            Scenario::Changes => match changes.take() {
                Some(changes) => course.changes(doorward, &echo, changes, rate)?,
                None => continue,
            },
            Scenario::OpenLoop => course.open_loop(doorward, &echo, rate)?,
        };
        report.add(&outcome, keys);
    }
    Ok(report)
}

/// Why a scenario cannot be measured here.
fn left_out(scenario: Scenario, course: &Course<'_>, doorward: &Server, may_change: bool) -> Option<&'static str> {
    match scenario {
        Scenario::Cross if course.cores.count() < 2 => Some("there is one core"),
        Scenario::Pinned | Scenario::Cross if !Course::may_move(doorward) => {
            Some("the daemon is another user's, and cannot be kept on a core")
        }
        Scenario::Changes if !may_change => Some("it changes keys, and the daemon is not the bench's own"),
        _ => None,
    }
}
