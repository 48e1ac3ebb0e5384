//! The scenarios: who is asked how, in which turns.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::changes::{Changes, Tally};
use super::load::{self, Greeting, LoadError, Spell, Turn};
use super::machine::{Cores, Kept, processor_s};
use super::report::{Figure, Lane, Outcome};
use super::script::Script;
use super::{BenchError, Progress};

/// Connections of the scenarios that have more than one.
pub const CONNECTIONS: usize = 8;
/// Requests on the way on each connection where they are pipelined.
pub const DEPTH: usize = 32;
/// Connections on which nothing is asked. With those that are at work they are below the daemon's own bound by default, 1,024.
const IDLE: usize = 1_000;
/// Of each turn this part, but no longer than `SETTLING`, comes before what is counted.
const SETTLING_PART: u32 = 5;
const SETTLING: Duration = Duration::from_millis(20);
/// After many connections were closed: their threads end.
const PARTING: Duration = Duration::from_millis(50);
/// How long is measured what the load of the scenarios with a fixed rate is half of.
const CALIBRATION: Duration = Duration::from_millis(80);
/// How often. The best counts: whatever else the machine does only ever makes it less.
const CALIBRATIONS: usize = 5;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// One request at a time, client and server on one core
    Pinned,
    /// One request at a time, client and server each on a core of its own
    Cross,
    /// 8 connections, 32 requests on the way on each
    Pipelined,
    /// 8 connections, a frame of 64 requests on the way on each
    Batch,
    /// A steady load on 8 connections, with and without 1,000 more that are idle
    Many,
    /// A steady load on 8 connections, with and without 64 admin clients that change 1,000 keys a second
    Changes,
    /// A steady load on 8 connections; a request's time counts from when it was due
    OpenLoop,
}

/// A server to be asked.
pub struct Server {
    /// As the rows name it.
    pub name: &'static str,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its process, where that is known and may be moved between cores.
    pub process: Option<u32>,
    /// How a connection begins.
    pub greeting: Greeting,
    /// What is asked one by one.
    pub single: Script,
}

/// How long everything takes.
pub struct Course<'c> {
    /// Seconds for a scenario in all its rounds.
    pub seconds: f64,
    /// So often each server has its turn.
    pub rounds: usize,
    /// The cores of this machine.
    pub cores: Cores,
    /// Set when the bench is to end.
    pub stop: &'c AtomicBool,
    /// Hears how far it is.
    pub tell: &'c dyn Fn(Progress),
}

/// A name for a row, the process whose time is counted, and how it takes its turn.
type Part<'p> = (&'static str, Option<u32>, Box<dyn FnMut(Spell<'_>) -> Result<Turn, LoadError> + 'p>);

impl Scenario {
    /// Its name on the command line and in the rows.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Course<'_> {
    /// Whether the server's process may be kept on a core.
    pub(super) fn may_move(server: &Server) -> bool {
        server.process.is_some_and(Kept::may)
    }

    /// `pinned` and `cross`: one connection, one request at a time. The first server is the one that the last is the baseline of.
    ///
    /// # Errors
    /// A server that fails or answers wrongly, or processes that may not be moved.
    pub fn one_at_a_time(&self, scenario: Scenario, servers: &[&Server]) -> Result<Outcome, BenchError> {
        let client = if scenario == Scenario::Pinned { self.cores.last() } else { self.cores.first() };
        let mut parts = Vec::new();
        for server in servers {
            let connection = load::open(&server.socket, server.greeting, &server.single, 1);
            let mut connection = connection.map_err(|error| BenchError::load(scenario, server.name, error))?.remove(0);
            let ask: Part<'_> = (server.name, server.process, Box::new(move |spell| connection.one_at_a_time(spell)));
            parts.push(ask);
        }
        // A server that is asked in two ways is one process.
        let mut processes: Vec<u32> = servers.iter().filter_map(|server| server.process).collect();
        processes.sort_unstable();
        processes.dedup();
        let places = processes.into_iter().map(|process| (process, self.cores.last())).chain([(std::process::id(), client)]);
        let kept: Result<Vec<Kept>, _> = places.map(|(process, core)| Kept::on(process, core)).collect();
        let kept = kept.map_err(BenchError::system("keep a process on a core"))?;
        let lanes = self.rounds(scenario, parts)?;
        drop(kept);
        Ok(Outcome { scenario, connections: 1, depth: 1, lanes, figure: Figure::P50, baseline: last_name(servers), notes: Vec::new() })
    }

    /// `pipelined` and `batch`: a window of so many frames on each connection.
    ///
    /// # Errors
    /// A server that fails or answers wrongly.
    pub fn windows(&self, scenario: Scenario, servers: &[(&Server, &Script)], frames: usize) -> Result<Outcome, BenchError> {
        let mut parts = Vec::new();
        // The rest of the cores is the servers'.
        let threads = (self.cores.count() / 2).clamp(1, CONNECTIONS);
        for (server, script) in servers {
            let opened = load::open(&server.socket, server.greeting, script, CONNECTIONS);
            let mut opened = opened.map_err(|error| BenchError::load(scenario, server.name, error))?;
            let ask: Part<'_> = (server.name, server.process, Box::new(move |spell| load::windows(&mut opened, frames, threads, spell)));
            parts.push(ask);
        }
        let lanes = self.rounds(scenario, parts)?;
        let depth = frames * servers[0].1.requests_of_a_frame;
        let servers: Vec<&Server> = servers.iter().map(|(server, _)| *server).collect();
        let baseline = last_name(&servers);
        Ok(Outcome { scenario, connections: CONNECTIONS, depth, lanes, figure: Figure::PerSecond, baseline, notes: Vec::new() })
    }

    /// Asks everything twice before anything is measured, for the state that a daemon is in when it has run for a while: the first verify of a token
    /// costs more than those after it.
    ///
    /// # Errors
    /// A server that fails or answers wrongly.
    pub fn warm_up(&self, server: &Server) -> Result<(), BenchError> {
        (self.tell)(Progress::WarmingUp);
        let failed = |error| BenchError::load(Scenario::Pipelined, server.name, error);
        let mut opened = load::open(&server.socket, server.greeting, &server.single, CONNECTIONS).map_err(failed)?;
        let spell = Spell { settling: Duration::ZERO, counted: CALIBRATION, stop: self.stop };
        let mut left = server.single.frames.count() as u64 * 2;
        while left > 0 {
            left = left.saturating_sub(load::windows(&mut opened, DEPTH, 1, spell).map_err(failed)?.answered);
        }
        Ok(())
    }

    /// Half of what the server answers on 8 connections with one request at a time on each.
    ///
    /// # Errors
    /// A server that fails or answers wrongly.
    pub fn half_load(&self, scenario: Scenario, server: &Server) -> Result<f64, BenchError> {
        let failed = |error| BenchError::load(scenario, server.name, error);
        let mut opened = load::open(&server.socket, server.greeting, &server.single, CONNECTIONS).map_err(failed)?;
        let spell = Spell { settling: SETTLING, counted: CALIBRATION, stop: self.stop };
        let mut best: f64 = 2.0;
        for _ in 0..CALIBRATIONS {
            best = best.max(load::windows(&mut opened, 1, 1, spell).map_err(failed)?.per_second());
        }
        Ok(best / 2.0)
    }

    /// `open-loop`.
    ///
    /// # Errors
    /// A server that fails or answers wrongly.
    pub fn open_loop(&self, doorward: &Server, echo: &Server, rate: f64) -> Result<Outcome, BenchError> {
        let scenario = Scenario::OpenLoop;
        let parts: Vec<Part<'_>> = vec![
            (doorward.name, doorward.process, Box::new(move |spell| steady(doorward, rate, spell))),
            (echo.name, echo.process, Box::new(move |spell| steady(echo, rate, spell))),
        ];
        let lanes = self.rounds(scenario, parts)?;
        let notes = vec![steady_note(rate)];
        Ok(Outcome { scenario, connections: CONNECTIONS, depth: 0, lanes, figure: Figure::P99, baseline: echo.name, notes })
    }

    /// `many`: each turn with idle connections opens them anew, and closes them.
    ///
    /// # Errors
    /// A server that fails or answers wrongly.
    pub fn many(&self, doorward: &Server, echo: &Server, rate: f64) -> Result<Outcome, BenchError> {
        let beside_idle = |server: &Server, spell: Spell<'_>| {
            let idle = load::idle(&server.socket, server.greeting, IDLE)?;
            let turn = steady(server, rate, spell);
            drop(idle);
            thread::sleep(PARTING);
            turn
        };
        let parts: Vec<Part<'_>> = vec![
            (doorward.name, doorward.process, Box::new(move |spell| beside_idle(doorward, spell))),
            ("doorward-without-idle", doorward.process, Box::new(move |spell| steady(doorward, rate, spell))),
            (echo.name, echo.process, Box::new(move |spell| beside_idle(echo, spell))),
            ("echo-without-idle", echo.process, Box::new(move |spell| steady(echo, rate, spell))),
        ];
        let mut lanes = self.rounds(Scenario::Many, parts)?;
        lanes.iter_mut().filter(|lane| !lane.server.ends_with("-without-idle")).for_each(|lane| lane.idle = IDLE);
        let notes = vec![steady_note(rate)];
        let baseline = "doorward-without-idle";
        Ok(Outcome { scenario: Scenario::Many, connections: CONNECTIONS, depth: 0, lanes, figure: Figure::P99, baseline, notes })
    }

    /// `changes`.
    ///
    /// # Errors
    /// A server that fails or answers wrongly, or refuses a change.
    pub(super) fn changes(&self, doorward: &Server, echo: &Server, mut changes: Changes<'_>, rate: f64) -> Result<Outcome, BenchError> {
        let (mut tally, mut refused) = (Tally::default(), None);
        let beside = std::cell::RefCell::new(|server: &Server, spell: Spell<'_>| {
            let (turn, made) = changes.during(|| steady(server, rate, spell));
            match made {
                Ok(made) => tally = Tally { changes: tally.changes + made.changes, seconds: tally.seconds + made.seconds },
                Err(error) => refused = Some(error),
            }
            turn
        });
        let parts: Vec<Part<'_>> = vec![
            (doorward.name, doorward.process, Box::new(|spell| (*beside.borrow_mut())(doorward, spell))),
            ("doorward-quiet", doorward.process, Box::new(move |spell| steady(doorward, rate, spell))),
            // It has no keys that change: what it loses beside the same changes, it loses to the machine.
            (echo.name, echo.process, Box::new(|spell| (*beside.borrow_mut())(echo, spell))),
            ("echo-quiet", echo.process, Box::new(move |spell| steady(echo, rate, spell))),
        ];
        let lanes = self.rounds(Scenario::Changes, parts);
        if let Some(error) = refused {
            return Err(error.into());
        }
        let made = format!("{:.0} changes a second were made meanwhile", tally.changes as f64 / tally.seconds.max(f64::MIN_POSITIVE));
        let notes = vec![steady_note(rate), made];
        let baseline = "doorward-quiet";
        Ok(Outcome { scenario: Scenario::Changes, connections: CONNECTIONS, depth: 0, lanes: lanes?, figure: Figure::P99, baseline, notes })
    }

    /// Every part has a turn in each round, and another one begins each, so that none has the better moments of the machine.
    fn rounds(&self, scenario: Scenario, mut parts: Vec<Part<'_>>) -> Result<Vec<Lane>, BenchError> {
        let turn = Duration::from_secs_f64(self.seconds / (self.rounds * parts.len()) as f64);
        let settling = SETTLING.min(turn / SETTLING_PART);
        let spell = Spell { settling, counted: turn - settling, stop: self.stop };
        let mut lanes: Vec<Lane> = parts.iter().map(|(server, ..)| Lane::new(server)).collect();
        let counted = spell.counted.as_secs_f64() / turn.as_secs_f64();
        let count = parts.len();
        for round in 0..self.rounds {
            (self.tell)(Progress::Round { scenario, round: round + 1, of: self.rounds });
            for at in (0..count).map(|at| (round + at) % count) {
                let (server, process, ask) = &mut parts[at];
                let used = || (process.map_or(0.0, processor_s), processor_s(std::process::id()));
                let before = used();
                let turn = ask(spell).map_err(|error| BenchError::load(scenario, server, error))?;
                let after = used();
                // What settling took is taken off in proportion.
                lanes[at].add(turn, (after.0 - before.0) * counted, (after.1 - before.1) * counted);
            }
        }
        Ok(lanes)
    }
}

/// A turn of the steady load.
fn steady(server: &Server, rate: f64, spell: Spell<'_>) -> Result<Turn, LoadError> {
    let mut opened = load::open(&server.socket, server.greeting, &server.single, CONNECTIONS)?;
    load::at_rate(&mut opened, rate, spell)
}

fn steady_note(rate: f64) -> String {
    format!("{rate:.0} requests a second were due, at even distances, one connection after the other")
}

fn last_name(servers: &[&Server]) -> &'static str {
    servers.last().map_or("", |server| server.name)
}
