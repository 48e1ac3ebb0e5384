use std::time::Duration;

use parking_lot::Mutex;

use super::uptime;

/// How often something may be said, however often it happens: who floods the daemon does not flood its log. Many at once are let through after a quiet
/// time, and from then on one in a while.
#[derive(Debug)]
pub struct Quota {
    burst: u64,
    refill_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u64,
    /// Up to when what was refilled is in `left`, in milliseconds of uptime.
    refilled_at: u64,
    kept_back: u64,
}

impl Quota {
    /// So many at once, and one more after each `refill`.
    pub fn new(burst: u64, refill: Duration) -> Quota {
        let state = State { left: burst, refilled_at: 0, kept_back: 0 };
        Quota { burst, refill_ms: (refill.as_millis() as u64).max(1), state: Mutex::new(state) }
    }

    /// It happened once more. If it may be said: how often it happened since it was said last, without this time.
    pub fn take(&self) -> Option<u64> {
        self.take_at(uptime())
    }

    fn take_at(&self, now: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let refills = now.saturating_sub(state.refilled_at) / self.refill_ms;
        state.left = state.left.saturating_add(refills).min(self.burst);
        state.refilled_at = if state.left == self.burst { now } else { state.refilled_at + refills * self.refill_ms };
        if state.left == 0 {
            state.kept_back += 1;
            return None;
        }
        state.left -= 1;
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_in_few_words_and_none_is_forgotten() {
        let quota = Quota::new(3, Duration::from_secs(10));
        let mut now = 1_000_000;
        assert_eq!([(); 5].map(|()| quota.take_at(now)), [Some(0), Some(0), Some(0), None, None]);
        now += 9_999;
        assert_eq!(quota.take_at(now), None);
        now += 1;
        assert_eq!([quota.take_at(now), quota.take_at(now)], [Some(3), None]);
        // A day of quiet does not save up more than the burst.
        now += 86_400_000;
        assert_eq!([(); 4].map(|()| quota.take_at(now)), [Some(1), Some(0), Some(0), None]);
        let said = (0..100_000).filter(|tenth| quota.take_at(now + tenth * 100).is_some()).count();
        assert_eq!(said, 999, "one in ten seconds");
    }
}
