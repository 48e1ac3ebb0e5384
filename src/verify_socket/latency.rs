use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One read of so many is timed: two looks at the clock for each would cost the others more than they tell.
pub const TIMED_READ: u64 = 16;

/// Upper bounds of the buckets, in microseconds.
const BOUNDS_US: [u64; 19] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

/// How long serving took: from the return of a read until its answers were written.
pub(super) struct Latency {
    /// One for each bound, and one for what took longer than the last.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    total_ns: AtomicU64,
}

/// A [`Latency`] at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyFigures {
    /// Upper bound in seconds, the last one infinite, and how many took so long, but longer than the bound before.
    pub buckets: Vec<(f64, u64)>,
    /// Seconds of all together.
    pub total_seconds: f64,
}

impl Latency {
    pub(super) fn new() -> Latency {
        Latency { buckets: [const { AtomicU64::new(0) }; BOUNDS_US.len() + 1], total_ns: AtomicU64::new(0) }
    }

    pub(super) fn note(&self, took: Duration) {
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> LatencyFigures {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        LatencyFigures { buckets: bounds.zip(counts).collect(), total_seconds: self.total_ns.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::new();
        for took in [0, 1_000, 1_001, 5_000, 999_999_999, 1_000_000_001, 60_000_000_000] {
            latency.note(Duration::from_nanos(took));
        }
        let figures = latency.figures();
        let filled: Vec<(f64, u64)> = figures.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1e-6, 2), (2e-6, 1), (5e-6, 1), (1.0, 1), (f64::INFINITY, 2)]);
        assert!((figures.total_seconds - 62.000007).abs() < 1e-6);
    }
}
