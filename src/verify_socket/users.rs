//! Which users may ask, where the configuration says so besides the socket's mode.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Users who may ask.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// The daemon's own, which asks itself.
    own: u32,
    /// Those who are named; where none is, all whom the socket's mode lets in.
    named: Vec<u32>,
}

/// What the kernel's answer is where it does not tell a user. Nobody's number, whatever the configuration says.
pub(super) const UNTOLD: u32 = u32::MAX;

/// A user who knocks again and again is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Users of whom it is known when they were logged. Of more than that in an interval only the figures tell.
const LOGGED: usize = 64;

/// Refusals, as far as they are logged.
#[derive(Debug, Default)]
pub(super) struct Refused(HashMap<u32, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Users {
    pub(super) fn new(own: u32, named: Vec<u32>) -> Users {
        Users { own, named }
    }

    /// Other users from now on.
    pub(super) fn name(&mut self, named: Vec<u32>) {
        self.named = named;
    }

    pub(super) fn may_ask(&self, uid: u32) -> bool {
        self.named.is_empty() || uid == 0 || uid == self.own || (uid != UNTOLD && self.named.contains(&uid))
    }
}

impl Refused {
    /// One more. How many there were of this user since the last that was logged, this one included, if it is to be logged.
    pub(super) fn note(&mut self, uid: u32, now: Instant) -> Option<u64> {
        if let Some(told) = self.0.get_mut(&uid) {
            told.untold += 1;
            if now.duration_since(told.at) < LOG_INTERVAL {
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.untold));
        }
        if self.0.len() >= LOGGED {
            self.0.retain(|_, told| now.duration_since(told.at) < LOG_INTERVAL);
        }
        (self.0.len() < LOGGED).then(|| {
            self.0.insert(uid, Told { at: now, untold: 0 });
            1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_may_ask_and_root_and_the_daemon_and_all_where_nobody_is() {
        let mut users = Users::new(7, vec![]);
        assert!(users.may_ask(9) && users.may_ask(UNTOLD));
        users.name(vec![8, UNTOLD]);
        assert_eq!([0, 7, 8, 9, 65_534, UNTOLD].map(|uid| users.may_ask(uid)), [true, true, true, false, false, false]);
    }

    #[test]
    fn a_flood_is_logged_now_and_then_and_hides_nobody() {
        let mut refused = Refused::default();
        let start = Instant::now();
        assert_eq!(refused.note(9, start), Some(1));
        for _ in 0..500 {
            assert_eq!(refused.note(9, start + LOG_INTERVAL / 2), None);
        }
        assert_eq!(refused.note(10, start + LOG_INTERVAL / 2), Some(1));
        assert_eq!(refused.note(9, start + LOG_INTERVAL), Some(501));
        assert_eq!(refused.note(9, start + LOG_INTERVAL), None);
        // Thousands of users at once do not fill the memory, nor the log.
        let later = start + 3 * LOG_INTERVAL;
        assert_eq!((0..5_000).filter(|uid| refused.note(*uid, later).is_some()).count(), LOGGED);
        assert_eq!(refused.note(6_000, later + LOG_INTERVAL), Some(1));
    }
}
