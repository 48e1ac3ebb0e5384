//! How fast a process and a user may open connections that come to nothing.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

use super::places::Who;
use crate::clock::Rate;

/// Of a process. As many at once as there are places.
const OF_PROCESS: Rate = Rate { at_once: 256, a_second: 100 };
/// Of all processes of a user: several that flood leave room for one that does not, and making a process for each connection gains nothing.
const OF_USER: Rate = Rate { at_once: 1_024, a_second: 400 };
/// From so many processes on, those are forgotten whose connections are all paid for.
const KNOWN: usize = 1_024;

/// What each process and user has opened lately. A connection that was answered, and ended in order, is given back: whoever gets work done may be as fast as the daemon.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Opened>);

#[derive(Debug, Default)]
struct Opened {
    /// Until when the connections so far are paid for, in microseconds of uptime.
    of_user: HashMap<u32, u64>,
    of_process: HashMap<Who, u64>,
    forgets_from: usize,
}

impl Pace {
    /// One more connection. Whether it is not one too many: if it is, it costs nothing.
    pub(super) fn take(&self, who: Who, now_us: u64) -> bool {
        let mut opened = self.0.lock();
        let (uid, _) = who;
        let Some(of_user) = OF_USER.one_more(opened.of_user.get(&uid).copied(), now_us) else { return false };
        let Some(of_process) = OF_PROCESS.one_more(opened.of_process.get(&who).copied(), now_us) else { return false };
        opened.of_user.insert(uid, of_user);
        opened.of_process.insert(who, of_process);
        opened.forget(now_us);
        true
    }

    /// One of its connections was of use.
    pub(super) fn give_back(&self, who: Who) {
        let mut opened = self.0.lock();
        give_back(&mut opened.of_user, who.0, OF_USER);
        give_back(&mut opened.of_process, who, OF_PROCESS);
    }
}

impl Opened {
    fn forget(&mut self, now_us: u64) {
        if self.of_user.len() + self.of_process.len() > self.forgets_from.max(KNOWN) {
            self.of_user.retain(|_, until| *until > now_us);
            self.of_process.retain(|_, until| *until > now_us);
            self.forgets_from = 2 * (self.of_user.len() + self.of_process.len());
        }
    }
}

fn give_back<K: Hash + Eq>(until: &mut HashMap<K, u64>, who: K, rate: Rate) {
    if let Some(until) = until.get_mut(&who) {
        *until = until.saturating_sub(rate.price_us());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn taken(pace: &Pace, who: Who, now_us: u64) -> u64 {
        (0..5_000).filter(|_| pace.take(who, now_us)).count() as u64
    }

    #[test]
    fn who_connects_without_pause_is_held_to_a_rate_and_no_other_process() {
        let pace = Pace::default();
        assert_eq!(taken(&pace, (5, 50), 9 * SECOND), OF_PROCESS.at_once);
        assert_eq!(taken(&pace, (5, 50), 10 * SECOND), OF_PROCESS.a_second);
        assert_eq!(taken(&pace, (5, 51), 10 * SECOND), OF_PROCESS.at_once, "another process of the user");
        assert_eq!(taken(&pace, (6, 60), 10 * SECOND), OF_PROCESS.at_once, "another user");
        assert_eq!(taken(&pace, (5, 50), 100 * SECOND), OF_PROCESS.at_once, "quiet for long");
    }

    /// A process for each connection.
    #[test]
    fn a_user_is_held_to_a_rate_over_all_processes() {
        let pace = Pace::default();
        let each = |now_us: u64, from: i32| (from..from + 5_000).filter(|pid| pace.take((5, *pid), now_us)).count() as u64;
        assert_eq!(each(9 * SECOND, 0), OF_USER.at_once);
        assert_eq!(each(10 * SECOND, 10_000), OF_USER.a_second);
        assert!(pace.take((6, 60), 10 * SECOND));
    }

    #[test]
    fn what_was_of_use_is_given_back() {
        let pace = Pace::default();
        for _ in 0..10_000 {
            assert!(pace.take((5, 50), 9 * SECOND));
            pace.give_back((5, 50));
        }
        pace.give_back((7, 70));
        assert_eq!(taken(&pace, (5, 50), 9 * SECOND), OF_PROCESS.at_once);
    }

    #[test]
    fn who_came_by_is_forgotten() {
        let pace = Pace::default();
        for number in 0..100_000 {
            assert!(pace.take((number, number as i32), u64::from(number) * 10_000));
        }
        let known = pace.0.lock().of_process.len();
        assert!(known <= 2 * KNOWN, "{known}");
    }
}
