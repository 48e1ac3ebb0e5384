use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Tokens in a row that no key has, over all connections of a peer, from which on its answers are held back.
pub const FREE_MISSES: u64 = 10_000;
/// How many such tokens a second it is answered from then on.
pub const MISSES_PER_SECOND: u64 = 10_000;
/// The longest that one answer is held back.
const LONGEST_US: u64 = 500_000;

/// A process at the other end of connections, as the kernel tells it.
pub(super) struct Peer {
    pub(super) uid: u32,
    /// 0 for one in another PID namespace.
    pub(super) pid: i32,
    /// Tokens that no key has, since the last one that a key has.
    misses: AtomicU64,
    /// Until when the misses so far are paid for, in microseconds of the machine's uptime.
    paid_until: AtomicU64,
    said: AtomicBool,
}

impl Peer {
    pub(super) fn new(uid: u32, pid: i32) -> Peer {
        Peer { uid, pid, misses: AtomicU64::new(0), paid_until: AtomicU64::new(0), said: AtomicBool::new(false) }
    }

    /// One of its tokens belongs to a key: it is no guesser, or not only one. On the path of every read.
    #[inline]
    pub(super) fn hit(&self) {
        if self.misses.load(Ordering::Relaxed) != 0 {
            self.misses.store(0, Ordering::Relaxed);
        }
    }

    /// So many tokens that no key has, and none between them that one has. How long their answers are to be held back.
    pub(super) fn miss(&self, tokens: u64, uptime_ms: u64) -> Duration {
        let before = self.misses.fetch_add(tokens, Ordering::Relaxed);
        if before < FREE_MISSES {
            return Duration::ZERO;
        }
        let now = uptime_ms * 1_000;
        let pay = |paid_until: u64| Some(paid_until.clamp(now, now + LONGEST_US) + tokens * 1_000_000 / MISSES_PER_SECOND);
        let paid_until = self.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or(now).max(now);
        Duration::from_micros((paid_until - now).min(LONGEST_US))
    }

    /// True once, for whoever logs that answers are held back.
    pub(super) fn is_new_to_log(&self) -> bool {
        !self.said.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_misses_is_held_to_the_rate_and_a_hit_ends_that() {
        let peer = Peer::new(1, 2);
        for _ in 0..FREE_MISSES / 100 {
            assert_eq!(peer.miss(100, 5_000), Duration::ZERO);
        }
        // A thousand a read take a tenth of a second each, whichever connection they come over.
        let mut uptime_ms = 6_000;
        let mut held = Duration::ZERO;
        for _ in 0..50 {
            let wait = peer.miss(1_000, uptime_ms);
            uptime_ms += wait.as_millis() as u64;
            held += wait;
        }
        assert_eq!(held, Duration::from_millis(4_900), "the first is paid for after its answer");
        // Many at once wait for each other, but never long.
        assert!((0..100).map(|_| peer.miss(1_000, uptime_ms)).all(|wait| wait <= Duration::from_micros(LONGEST_US)));
        peer.hit();
        assert_eq!(peer.miss(1_000, uptime_ms), Duration::ZERO);
        // Whoever was quiet for a while does not save up for it, nor is it held against them.
        let other = Peer::new(1, 3);
        other.miss(FREE_MISSES, 0);
        assert_eq!(other.miss(1, 1_000), Duration::ZERO);
        assert_eq!(other.miss(1, 1_000), Duration::from_micros(1_000_000 / MISSES_PER_SECOND));
        assert_eq!(other.miss(1, 9_000), Duration::ZERO);
    }
}
