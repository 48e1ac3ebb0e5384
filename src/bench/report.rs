use serde::Serialize;

use super::load::Turn;
use super::scenario::Scenario;

/// All that was measured. The names of its fields are an interface: `doorward bench --json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// A row for each scenario and server.
    pub rows: Vec<Row>,
    /// What the ratios compare, a scenario each.
    pub ratios: Vec<Comparison>,
    /// The figures of each round, from which the medians of the rows are.
    pub rounds: Vec<Rounds>,
    /// Of the daemon itself, if the bench started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonFigures>,
    /// What was asked.
    pub requests: RequestFigures,
    /// Whatever else there is to say.
    pub notes: Vec<String>,
}

/// The figures of a server in a scenario: medians of the rounds, except the maximum, which is that of all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: Scenario,
    /// The server; `doorward-quiet` and `-without-idle` are the same server without the other load.
    pub server: &'static str,
    /// Keys in the store.
    pub keys: u64,
    /// Connections, idle ones among them.
    pub connections: usize,
    /// Requests on the way on each connection that is at work; 0 where requests are sent when they are due, however many are on the way.
    pub depth: usize,
    /// Requests answered a second.
    pub per_second: f64,
    /// Half of the requests took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1,000.
    pub p999_ns: u64,
    /// The longest of all.
    pub max_ns: u64,
    /// The row's figure to that of the baseline: see [`Comparison`].
    pub ratio: f64,
}

/// What the ratios of a scenario compare.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The scenario.
    pub scenario: Scenario,
    /// The column.
    pub figure: Figure,
    /// The server whose row has 1.
    pub baseline: &'static str,
}

/// The column that a scenario's ratio is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// `p50_ns`: less is better.
    #[serde(rename = "p50_ns")]
    P50,
    /// `p99_ns`: less is better.
    #[serde(rename = "p99_ns")]
    P99,
    /// `per_second`: more is better.
    PerSecond,
}

/// What a server did in each round, and what that cost.
#[derive(Debug, Serialize)]
pub struct Rounds {
    scenario: Scenario,
    server: &'static str,
    per_second: Vec<f64>,
    p50_ns: Vec<u64>,
    p99_ns: Vec<u64>,
    /// Processor time of the server for a request, both in user space and in the kernel; 0 where its process is not known.
    server_ns_per_request: f64,
    /// The same of the load generator: where it is above the server's, the server was not what was measured.
    client_ns_per_request: f64,
}

/// What the daemon took to have its keys.
#[derive(Debug, Serialize)]
pub struct DaemonFigures {
    /// The command `import`, from its start to its end.
    pub import_s: f64,
    /// Processor time of the daemon meanwhile.
    pub import_processor_s: f64,
    /// From the daemon's start to its line `ready`, with all keys; the median of three.
    pub ready_s: f64,
    /// Processor time of the last start.
    pub ready_processor_s: f64,
    /// Resident memory.
    pub resident_bytes: Resident,
    /// Files of the store.
    pub store_bytes: u64,
}

/// Resident memory of the daemon.
#[derive(Debug, Default, Serialize)]
pub struct Resident {
    /// After the import, before the daemon was started again.
    pub after_import: u64,
    /// After its start, before the first request.
    pub when_ready: u64,
    /// After all scenarios.
    pub at_end: u64,
}

/// What was asked.
#[derive(Debug, Serialize)]
pub struct RequestFigures {
    /// Requests that were drawn beforehand and asked in turn.
    pub drawn: usize,
    /// The share of them that is refused.
    pub refused_share: f64,
    /// Mean bytes of a request's frame.
    pub request_bytes: usize,
    /// Bytes of an answer's frame.
    pub answer_bytes: usize,
    /// How keys were chosen: `uniform`, `zipf-0.99` or `given`.
    pub keys: &'static str,
}

/// A scenario's turns.
pub struct Outcome {
    pub(super) scenario: Scenario,
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) lanes: Vec<Lane>,
    pub(super) figure: Figure,
    pub(super) baseline: &'static str,
    pub(super) notes: Vec<String>,
}

/// The turns of one server.
pub(super) struct Lane {
    pub(super) server: &'static str,
    pub(super) idle: usize,
    turns: Vec<Turn>,
    server_s: f64,
    client_s: f64,
}

impl Report {
    /// Adds a scenario that was measured over so many keys.
    pub fn add(&mut self, outcome: &Outcome, keys: u64) {
        self.rows.extend(outcome.rows(keys));
        self.ratios.push(outcome.comparison());
        let rounds = outcome.rounds();
        if outcome.figure == Figure::PerSecond {
            let used = |round: &Rounds| {
                format!("{} {:.0} ns and its client {:.0} ns", round.server, round.server_ns_per_request, round.client_ns_per_request)
            };
            let used: Vec<String> = rounds.iter().map(used).collect();
            self.notes.push(format!("{}: processor time for a request: {}", outcome.scenario.name(), used.join("; ")));
        }
        self.rounds.extend(rounds);
        self.notes.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.scenario.name())));
    }
}

impl Lane {
    pub(super) fn new(server: &'static str) -> Lane {
        Lane { server, idle: 0, turns: Vec::new(), server_s: 0.0, client_s: 0.0 }
    }

    pub(super) fn add(&mut self, turn: Turn, server_s: f64, client_s: f64) {
        self.turns.push(turn);
        self.server_s += server_s;
        self.client_s += client_s;
    }

    fn quantiles(&self, quantile: f64) -> Vec<u64> {
        self.turns.iter().map(|turn| turn.times.value_at_quantile(quantile)).collect()
    }

    fn rates(&self) -> Vec<f64> {
        self.turns.iter().map(|turn| (turn.per_second() * 10.0).round() / 10.0).collect()
    }
}

impl Figure {
    /// Of a row.
    pub fn of(self, row: &Row) -> f64 {
        match self {
            Figure::P50 => row.p50_ns as f64,
            Figure::P99 => row.p99_ns as f64,
            Figure::PerSecond => row.per_second,
        }
    }

    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Figure::P50 => "p50",
            Figure::P99 => "p99",
            Figure::PerSecond => "per second",
        }
    }
}

impl Outcome {
    /// The rows, the first of them that of the server that the bench is about.
    pub fn rows(&self, keys: u64) -> Vec<Row> {
        let row = |lane: &Lane| Row {
            scenario: self.scenario,
            server: lane.server,
            keys,
            connections: self.connections + lane.idle,
            depth: self.depth,
            per_second: median(lane.rates(), f64::total_cmp),
            p50_ns: median(lane.quantiles(0.5), u64::cmp),
            p99_ns: median(lane.quantiles(0.99), u64::cmp),
            p999_ns: median(lane.quantiles(0.999), u64::cmp),
            max_ns: lane.turns.iter().map(|turn| turn.times.max()).max().unwrap_or_default(),
            ratio: 1.0,
        };
        let mut rows: Vec<Row> = self.lanes.iter().map(row).collect();
        let base = rows.iter().find(|row| row.server == self.baseline).map_or(f64::NAN, |row| self.figure.of(row));
        rows.iter_mut().for_each(|row| row.ratio = (self.figure.of(row) / base * 1e4).round() / 1e4);
        rows
    }

    /// What its ratios compare.
    pub fn comparison(&self) -> Comparison {
        Comparison { scenario: self.scenario, figure: self.figure, baseline: self.baseline }
    }

    /// The figures of each round.
    pub fn rounds(&self) -> Vec<Rounds> {
        let rounds = |lane: &Lane| {
            let answered: f64 = lane.turns.iter().map(|turn| turn.answered as f64).sum();
            let each = |seconds: f64| (seconds * 1e9 / answered.max(1.0)).round();
            Rounds {
                scenario: self.scenario,
                server: lane.server,
                per_second: lane.rates(),
                p50_ns: lane.quantiles(0.5),
                p99_ns: lane.quantiles(0.99),
                server_ns_per_request: each(lane.server_s),
                client_ns_per_request: each(lane.client_s),
            }
        };
        self.lanes.iter().map(rounds).collect()
    }
}

/// The middle of some values; the default of none.
pub(super) fn median<T: Default + Copy>(mut values: Vec<T>, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_unstable_by(order);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;

    fn lane(server: &'static str, times_ns: &[u64]) -> Lane {
        let mut lane = Lane::new(server);
        for time in times_ns {
            let mut times = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
            times.record_n(*time, 100).unwrap();
            lane.add(Turn { answered: 100, elapsed: Duration::from_nanos(100 * time), times }, 1e-6, 2e-6);
        }
        lane
    }

    #[test]
    fn rows_are_medians_and_ratios_are_of_rows() {
        let lanes = vec![lane("doorward", &[1_200, 1_000, 90_000]), lane("echo", &[1_000, 800, 800])];
        let mut outcome = Outcome {
            scenario: Scenario::Pinned,
            connections: 1,
            depth: 1,
            lanes,
            figure: Figure::P50,
            baseline: "echo",
            notes: Vec::new(),
        };
        let rows = outcome.rows(7);
        assert_eq!((rows[0].p50_ns, rows[1].p50_ns, rows[0].keys), (1_200, 800, 7));
        assert!(rows[0].max_ns >= 90_000 && rows[1].ratio == 1.0 && rows[0].ratio == 1.5);
        outcome.figure = Figure::PerSecond;
        let rows = outcome.rows(7);
        assert!((rows[0].ratio - rows[0].per_second / rows[1].per_second).abs() < 1e-4);
        assert_eq!(outcome.rounds()[0].server_ns_per_request, 10.0);
    }
}
