//! What was measured, as a table for people or as one JSON document.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The middle of some values, and how far the noise of the machine spread them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

/// Round trips of both servers, one histogram a round.
pub(crate) struct RoundTrips {
    pub(crate) doorward: Vec<Histogram<u64>>,
    pub(crate) echo: Vec<Histogram<u64>>,
}

/// All that was measured.
pub(crate) struct Report {
    pub(crate) keys: u64,
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) refused_share: f64,
    pub(crate) import_s: f64,
    /// Of the daemon alone, without the command that sends the file.
    pub(crate) import_processor_s: f64,
    pub(crate) ready_s: Spread,
    pub(crate) ready_processor_s: f64,
    pub(crate) stop_s: f64,
    pub(crate) resident_after_import: u64,
    pub(crate) resident_when_ready: u64,
    pub(crate) resident_after_round_trips: u64,
    pub(crate) resident_after_throughput: u64,
    pub(crate) store_bytes: u64,
    pub(crate) round_trips: RoundTrips,
    pub(crate) doorward_per_s: Spread,
    pub(crate) echo_per_s: Spread,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Spread { least: values[0], median: values[values.len() / 2], most: values[values.len() - 1] }
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        json!({ "median": rounded(self.median), "min": rounded(self.least), "max": rounded(self.most) })
    }

    fn shown(&self, unit: f64, digits: usize) -> String {
        let [least, median, most] = [self.least, self.median, self.most].map(|value| value / unit);
        format!("{median:>8.digits$}  ({least:.digits$} – {most:.digits$})")
    }
}

impl RoundTrips {
    fn doorward(&self, quantile: f64) -> Spread {
        Spread::of(self.doorward.iter().map(|times| times.value_at_quantile(quantile) as f64))
    }

    fn echo(&self, quantile: f64) -> Spread {
        Spread::of(self.echo.iter().map(|times| times.value_at_quantile(quantile) as f64))
    }

    /// Of each round for itself: what else the machine did in that round slowed both.
    fn ratio(&self, quantile: f64) -> Spread {
        let of = |(doorward, echo): (&Histogram<u64>, &Histogram<u64>)| {
            doorward.value_at_quantile(quantile) as f64 / echo.value_at_quantile(quantile) as f64
        };
        Spread::of(self.doorward.iter().zip(&self.echo).map(of))
    }
}

const MB: f64 = 1e6;
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

impl Report {
    pub(crate) fn json(&self) -> Value {
        let at = |quantile| {
            let trips = &self.round_trips;
            json!({ "doorward_ns": trips.doorward(quantile).json(), "echo_ns": trips.echo(quantile).json(), "ratio": trips.ratio(quantile).json() })
        };
        json!({
            "keys": self.keys,
            "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes,
            "refused_share": self.refused_share,
            "import_s": self.import_s,
            "import_processor_s": self.import_processor_s,
            "ready_s": self.ready_s.json(),
            "ready_processor_s": self.ready_processor_s,
            "stop_s": self.stop_s,
            "resident_bytes": {
                "after_import": self.resident_after_import,
                "when_ready": self.resident_when_ready,
                "after_round_trips": self.resident_after_round_trips,
                "after_throughput": self.resident_after_throughput,
            },
            "store_bytes": self.store_bytes,
            "rounds": self.round_trips.doorward.len(),
            "one_at_a_time": QUANTILES.map(|(name, quantile)| (name.to_owned(), at(quantile))).into_iter().collect::<serde_json::Map<_, _>>(),
            "pipelined_per_s": { "doorward": self.doorward_per_s.json(), "echo": self.echo_per_s.json() },
        })
    }

    pub(crate) fn print(&self) {
        let Report { keys, request_bytes, answer_bytes, refused_share, round_trips, .. } = self;
        println!("{keys} keys, requests of {request_bytes} bytes, answers of {answer_bytes}, {:.1} % refused", refused_share * 100.0);
        println!("median of the runs or rounds (min – max)\n");
        println!("import                    {:>8.1} s, of the daemon's processor time {:.1} s", self.import_s, self.import_processor_s);
        println!("start to ready            {} s, processor time {:.2} s", self.ready_s.shown(1.0, 2), self.ready_processor_s);
        println!("SIGTERM to end            {:>8.2} s", self.stop_s);
        println!("resident after the import {:>8.0} MB", self.resident_after_import as f64 / MB);
        println!("resident when ready       {:>8.0} MB", self.resident_when_ready as f64 / MB);
        println!("   after the round trips  {:>8.0} MB", self.resident_after_round_trips as f64 / MB);
        println!("   after the throughput   {:>8.0} MB", self.resident_after_throughput as f64 / MB);
        println!("store on disk             {:>8.0} MB", self.store_bytes as f64 / MB);
        println!("\none connection, one request at a time, client and server on one core, {} rounds", round_trips.doorward.len());
        for (name, quantile) in QUANTILES {
            println!("{name}  doorward             {} µs", round_trips.doorward(quantile).shown(1e3, 2));
            println!("     echo                 {} µs", round_trips.echo(quantile).shown(1e3, 2));
            println!("     doorward / echo      {}", round_trips.ratio(quantile).shown(1.0, 3));
        }
        println!("\n8 connections, 32 requests on the way on each, all cores");
        println!("doorward                  {} M/s", self.doorward_per_s.shown(1e6, 2));
        println!("echo                      {} M/s", self.echo_per_s.shown(1e6, 2));
    }
}
