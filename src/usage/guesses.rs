use std::collections::HashMap;

use super::slot::Slot;
use crate::key::{Instant, KeyId, Network};

/// Networks that are counted apart in one hour. A network with more than 1/256 of an hour's guesses is certainly among them.
pub const GUESSERS: usize = 256;
/// Hours that are kept until they are written: more than one, since an hour ends before its last events are drained.
const HOURS: usize = 3;
const HOUR_MS: i64 = 3_600_000;

/// Unknown and malformed tokens of an hour by network, as the Space-Saving sketch knows them (Metwally, Agrawal and El Abbadi 2005): whatever comes, it has
/// 256 counters. A count is never too low, and too high by at most its `error`, which is at most a 256th of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Hours since 1970-01-01T00:00:00Z.
    pub hour: u32,
    /// All of them, also those without an address.
    pub total: u64,
    /// In no order.
    pub networks: Vec<Guesser>,
}

/// A network and its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesser {
    /// A /24 or /48.
    pub network: Network,
    /// So many guesses came from it, or fewer …
    pub count: u64,
    /// … by at most so many.
    pub error: u64,
}

/// One hour, with the places of its networks.
#[derive(Default)]
struct Sketch {
    guesses: Guesses,
    places: HashMap<Network, usize, ahash::RandomState>,
}

/// The latest hours.
#[derive(Default)]
pub(super) struct Hours {
    sketches: Vec<Sketch>,
    changed: bool,
}

impl Hours {
    /// Counts an event, if its token is nobody's.
    #[inline]
    pub(super) fn count(&mut self, event: &Slot) {
        if event.key() == KeyId::NONE {
            self.add(event.last_at(), event.address().map(Network::around));
        }
    }

    #[cold]
    fn add(&mut self, at: Instant, network: Option<Network>) {
        let hour = u32::try_from(at.0.max(0) / HOUR_MS).unwrap_or(u32::MAX);
        let place = self.sketches.iter().position(|sketch| sketch.guesses.hour == hour).unwrap_or_else(|| {
            if self.sketches.len() == HOURS {
                self.sketches.remove(0);
            }
            self.sketches.push(Sketch { guesses: Guesses { hour, ..Guesses::default() }, ..Sketch::default() });
            self.sketches.len() - 1
        });
        self.sketches[place].add(network);
        self.changed = true;
    }

    /// The hours, if something was counted since they were asked for last.
    pub(super) fn take(&mut self) -> Vec<Guesses> {
        if std::mem::take(&mut self.changed) { self.sketches.iter().map(|sketch| sketch.guesses.clone()).collect() } else { Vec::new() }
    }
}

impl Sketch {
    fn add(&mut self, network: Option<Network>) {
        self.guesses.total += 1;
        let Some(network) = network else { return };
        let networks = &mut self.guesses.networks;
        if let Some(&place) = self.places.get(&network) {
            networks[place].count += 1;
        } else if networks.len() < GUESSERS {
            self.places.insert(network, networks.len());
            networks.push(Guesser { network, count: 1, error: 0 });
        } else if let Some((place, least)) = networks.iter_mut().enumerate().min_by_key(|(_, guesser)| guesser.count) {
            // The least of them makes room, and leaves its count as what may be too much.
            self.places.remove(&least.network);
            self.places.insert(network, place);
            *least = Guesser { network, count: least.count + 1, error: least.count };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u64) -> Network {
        format!("10.{}.{}.0/24", number / 256 % 256, number % 256).parse().unwrap()
    }

    /// Three networks guess much among thousands that guess a little.
    #[test]
    fn who_guesses_much_is_known_within_the_bound() {
        let mut hours = Hours::default();
        let mut exact = HashMap::new();
        let mut state = 1u64;
        for round in 0..60_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = match round % 20 {
                0..3 => 60_000 + round % 3,
                _ => state >> 33 & 0x3fff,
            };
            *exact.entry(network(number)).or_insert(0u64) += 1;
            hours.add(Instant(7 * HOUR_MS + round as i64), Some(network(number)));
        }
        hours.add(Instant(7 * HOUR_MS), None);
        let [guesses] = &hours.take()[..] else { panic!("one hour") };
        assert_eq!((guesses.hour, guesses.total, guesses.networks.len()), (7, 60_001, GUESSERS));
        for guesser in &guesses.networks {
            let really = exact[&guesser.network];
            assert!(guesser.count >= really && guesser.count - guesser.error <= really, "{guesser:?} {really}");
            assert!(guesser.error <= guesses.total / GUESSERS as u64, "{guesser:?}");
        }
        for much in exact.iter().filter(|(_, count)| **count > guesses.total / GUESSERS as u64) {
            assert!(guesses.networks.iter().any(|guesser| guesser.network == *much.0), "{much:?}");
        }
        assert!(hours.take().is_empty(), "nothing new");
    }

    #[test]
    fn memory_is_bounded_whatever_the_time() {
        let mut hours = Hours::default();
        for hour in 0..100 {
            hours.add(Instant(hour * HOUR_MS), Some(network(1)));
        }
        assert_eq!(hours.take().iter().map(|guesses| guesses.hour).collect::<Vec<_>>(), [97, 98, 99]);
    }
}
