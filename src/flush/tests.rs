use super::*;
use crate::key::{Country, FunctionId, KeyId, Verdict};
use crate::store::{Step, StoreOptions};
use crate::usage::Event;

struct Running {
    usage: Arc<Usage>,
    store: Store,
    flush: Flush,
    started_at: Instant,
    _directory: tempfile::TempDir,
}

fn start(interval: &str) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let (usage, clock) = (Arc::new(Usage::new()), Arc::new(Clock::start(Instant(0))));
    let started_at = clock.now();
    let flush = {
        let options = FlushOptions { interval: interval.parse().unwrap(), keep: Keep::default() };
        Flush::start(Arc::clone(&usage), store.clone(), clock, options).unwrap()
    };
    Running { usage, store, flush, started_at, _directory: directory }
}

const KEY: KeyId = KeyId([7; 16]);

impl Running {
    fn count(&self, times: usize) {
        let event = Event {
            key: KEY,
            version: 2,
            function: FunctionId::FIRST,
            verdict: Verdict::Ok,
            country: Some(Country(*b"DE")),
            address: Some("192.0.2.7".parse().unwrap()),
            at: self.started_at,
            function_name: "leads.insert",
        };
        (0..times).for_each(|_| self.usage.count(0, &event));
    }

    fn stored(&self) -> u64 {
        let day = Span(86_400_000);
        let rows = self.store.usage_counts(Some(KEY), Instant(self.started_at.0 - day.0), self.started_at.plus(day), Step::Day);
        rows.map(|row| row.unwrap().count).sum()
    }

    fn wait_for(&self, what: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..1_000 {
            let status = self.flush.status();
            if what(&status) {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?}", self.flush.status());
    }
}

#[test]
fn what_is_counted_is_stored_each_interval_and_at_the_end() {
    let running = start("100ms");
    running.count(1_000);
    running.wait_for(|status| status.last_rows == 1);
    assert_eq!(running.stored(), 1_000);
    running.count(234);
    running.flush.stop().unwrap();
    assert_eq!(running.stored(), 1_234);
    let last = running.store.uses(KEY).unwrap().last;
    assert_eq!((last.len(), last[0].version, last[0].country), (1, 2, Some(Country(*b"DE"))));
    assert_eq!(running.store.uses(KEY).unwrap().networks[0].network.to_string(), "192.0.2.0/24");
    assert!(running.store.time_floor().unwrap().unwrap().at >= running.started_at);
    running.flush.stop().unwrap();
}

#[test]
fn the_end_does_not_wait_for_the_interval() {
    let running = start("60s");
    running.count(5);
    let begun = time::Instant::now();
    running.flush.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(running.stored(), 5);
}

#[test]
fn what_the_store_refuses_is_kept_and_counted_once() {
    let running = start("100ms");
    running.wait_for(|status| status.last_at.is_some());
    running.store.fail_writes(true);
    running.count(10);
    let status = running.wait_for(|status| status.failures >= 2);
    assert!(status.failing.is_some());
    running.count(10);
    running.store.fail_writes(false);
    running.wait_for(|status| status.failing.is_none());
    running.flush.stop().unwrap();
    assert_eq!((running.stored(), running.flush.status().lost), (20, 0));
}

/// More rows than are written at a time, than a ring holds, and than the first table has.
#[test]
fn every_verify_of_many_keys_is_stored() {
    const KEYS: u64 = 150_000;
    let running = start("100ms");
    for number in 0..KEYS {
        let mut key = [0; 16];
        key[8..].copy_from_slice(&(number + 1).to_be_bytes());
        let event = Event {
            key: KeyId(key),
            version: 1,
            function: FunctionId::FIRST,
            verdict: Verdict::Ok,
            country: None,
            address: None,
            at: running.started_at,
            function_name: "leads.insert",
        };
        running.usage.count(0, &event);
    }
    running.flush.stop().unwrap();
    let rows = running.store.usage_counts(None, Instant(0), running.started_at.plus(Span(86_400_000)), Step::Day);
    let stored: u64 = rows.map(|row| row.unwrap().count).sum();
    assert_eq!((stored, running.flush.status().lost, running.flush.status().folded), (KEYS, 0, 0));
}

#[test]
fn a_last_flush_that_fails_is_an_error() {
    let running = start("60s");
    running.count(1);
    running.store.fail_writes(true);
    assert!(running.flush.stop().is_err());
}

#[test]
fn flushes_come_at_whole_intervals() {
    for (now, interval_ms, due) in [(0, 1_000, 1_000), (1_999, 1_000, 1), (6_000, 7_000, 1_000), (61_000, 100, 100)] {
        assert_eq!(next(Instant(now), interval_ms), Duration::from_millis(due), "{now}");
    }
}
