use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Tokens in a row that no key has, over all connections of a peer, from which on its answers are held back.
pub const FREE_MISSES: u64 = 10_000;
/// How many such tokens a second it is answered from then on.
pub const MISSES_PER_SECOND: u64 = 10_000;
/// How many connections a second it may open from then on, and for how long it may have opened none to make up for it.
const CONNECTIONS_PER_SECOND: u64 = 1_000;
const CONNECTIONS_SAVED_UP_US: u64 = 100_000;
/// How long whoever is held back waits without a look at what became of it meanwhile.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// A process at the other end of connections, as the kernel tells it.
pub(super) struct Peer {
    pub(super) uid: u32,
    /// 0 for one in another PID namespace.
    pub(super) pid: i32,
    /// Tokens that no key has, and connections, since the last token that a key has.
    misses: AtomicU64,
    /// Until when the misses so far are paid for, in microseconds of the machine's uptime. Whoever holds it is the one of this peer's connections that is paying.
    paid_until: Mutex<u64>,
    /// The same for its connections. Only the accepting thread's.
    connected_until: AtomicU64,
    said: AtomicBool,
}

impl Peer {
    pub(super) fn new(uid: u32, pid: i32) -> Peer {
        let (misses, connected_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Peer { uid, pid, misses, paid_until: Mutex::new(0), connected_until, said: AtomicBool::new(false) }
    }

    /// One of its tokens belongs to a key: it is no guesser, or not only one. On the path of every read.
    #[inline]
    pub(super) fn hit(&self) {
        if self.misses.load(Ordering::Relaxed) != 0 {
            self.misses.store(0, Ordering::Relaxed);
        }
    }

    /// So many tokens that no key has, and none between them that one has. Whether their answers are to be held back.
    pub(super) fn miss(&self, tokens: u64) -> bool {
        self.misses.fetch_add(tokens, Ordering::Relaxed) >= FREE_MISSES
    }

    /// Whether it still only misses.
    pub(super) fn only_misses(&self) -> bool {
        self.misses.load(Ordering::Relaxed) >= FREE_MISSES
    }

    /// Takes the turn to pay for so many tokens, if none of its other connections has it within [`LOOK`]: how long that is to be waited for, with what ends the turn.
    pub(super) fn turn(&self, tokens: u64, uptime_us: impl FnOnce() -> u64) -> Option<(Duration, impl Sized + '_)> {
        let mut paid_until = self.paid_until.try_lock_for(LOOK)?;
        // Whoever was quiet for a while does not save up for it. The wait is for what came before; what this costs, the next waits for.
        let now = uptime_us();
        let until = now.max(*paid_until);
        *paid_until = until + tokens * 1_000_000 / MISSES_PER_SECOND;
        Some((Duration::from_micros(until - now), paid_until))
    }

    /// One more connection. Whether it is one too many, since it opens them so often and only misses.
    pub(super) fn connects_too_often(&self, uptime_us: u64) -> bool {
        if self.misses.fetch_add(1, Ordering::Relaxed) < FREE_MISSES {
            return false;
        }
        let until = self.connected_until.load(Ordering::Relaxed).max(uptime_us);
        if until > uptime_us + CONNECTIONS_SAVED_UP_US {
            return true;
        }
        self.connected_until.store(until + 1_000_000 / CONNECTIONS_PER_SECOND, Ordering::Relaxed);
        false
    }

    /// True once, for whoever logs that answers are held back.
    pub(super) fn is_new_to_log(&self) -> bool {
        !self.said.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(peer: &Peer, tokens: u64, uptime_us: u64) -> Duration {
        peer.turn(tokens, || uptime_us).expect("nobody else's turn").0
    }

    #[test]
    fn who_only_misses_is_held_to_the_rate_and_a_hit_ends_that() {
        let peer = Peer::new(1, 2);
        assert!((0..FREE_MISSES / 100).all(|_| !peer.miss(100)));
        // A thousand a read take a tenth of a second each, whichever connection they come over, and however many there are.
        let (mut uptime_us, mut held) = (6_000_000, Duration::ZERO);
        for _ in 0..500 {
            assert!(peer.miss(1_000));
            let wait = wait(&peer, 1_000, uptime_us);
            uptime_us += wait.as_micros() as u64;
            held += wait;
        }
        assert_eq!(held, Duration::from_millis(49_900), "the first is paid for after its answer");
        peer.hit();
        assert!(!peer.only_misses() && !peer.miss(1_000));
        // Whoever was quiet for a while does not save up for it, nor is it held against them.
        let other = Peer::new(1, 3);
        other.miss(FREE_MISSES);
        assert_eq!(wait(&other, 1, 1_000_000), Duration::ZERO);
        assert_eq!(wait(&other, 1, 1_000_000), Duration::from_micros(1_000_000 / MISSES_PER_SECOND));
        assert_eq!(wait(&other, 1, 9_000_000), Duration::ZERO);
    }

    #[test]
    fn one_connection_pays_at_a_time() {
        let peer = Peer::new(1, 2);
        let turn = peer.turn(1, || 0);
        let begun = std::time::Instant::now();
        std::thread::scope(|scope| _ = scope.spawn(|| assert!(peer.turn(1, || 0).is_none())));
        assert!(begun.elapsed() >= LOOK);
        drop(turn);
        assert!(peer.turn(1, || 0).is_some());
    }

    #[test]
    fn who_connects_again_and_again_and_only_misses_is_held_to_a_rate() {
        let peer = Peer::new(1, 2);
        assert!((0..FREE_MISSES).all(|_| !peer.connects_too_often(0)));
        let taken = |peer: &Peer, uptime_us| (0..5_000).filter(|_| !peer.connects_too_often(uptime_us)).count();
        assert_eq!(taken(&peer, 0), 101);
        assert_eq!(taken(&peer, 1_000_000), 101);
        assert_eq!(taken(&peer, 1_050_000), 50);
        peer.hit();
        assert_eq!(taken(&peer, 1_050_000), 5_000);
    }
}
