use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Tokens in a row that no key has, over all connections of a peer, from which on its answers are held back.
pub const FREE_MISSES: u64 = 10_000;
/// How many such tokens a second it is answered from then on.
pub const MISSES_PER_SECOND: u64 = 10_000;
/// How many connections a second it may open from then on, and for how long it may have opened none to make up for it.
const CONNECTIONS_PER_SECOND: u64 = 1_000;
const CONNECTIONS_SAVED_UP_US: u64 = 100_000;
/// How long whoever is held back waits without a look at whether the other end is still there. Of all else that ends its wait it is told.
const LOOK: Duration = Duration::from_millis(500);

/// A process at the other end of connections, as the kernel tells it.
pub(super) struct Peer {
    pub(super) uid: u32,
    /// 0 for one in another PID namespace.
    pub(super) pid: i32,
    /// Tokens that no key has, and connections, since the last token that a key has.
    misses: AtomicU64,
    line: Mutex<Line>,
    /// The same for its connections. Only the accepting thread's.
    connected_until: AtomicU64,
    /// A token of it was a key's.
    has_hit: AtomicBool,
    said: AtomicBool,
}

/// A peer's connections whose answers are held back. One of them pays, the others wait for it.
#[derive(Default)]
struct Line {
    /// Until when the misses so far are paid for, in microseconds of the machine's uptime.
    paid_until: u64,
    paying: Option<Alarm>,
    /// In the order in which they came.
    waiting: VecDeque<Alarm>,
}

/// What wakes a connection whose answers are held back.
pub(super) type Alarm = Arc<Condvar>;

impl Peer {
    pub(super) fn new(uid: u32, pid: i32) -> Peer {
        let (misses, connected_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Peer { uid, pid, misses, line: Mutex::default(), connected_until, has_hit: AtomicBool::new(false), said: AtomicBool::new(false) }
    }

    /// One of its tokens belongs to a key: it is no guesser, or not only one. On the path of every read.
    #[inline]
    pub(super) fn hit(&self) {
        // Its connection counted as one, so that the first is seen here.
        if self.misses.load(Ordering::Relaxed) != 0 {
            self.has_hit.store(true, Ordering::Relaxed);
            if self.misses.swap(0, Ordering::Relaxed) >= FREE_MISSES {
                self.wake_all();
            }
        }
    }

    /// Whether one of its tokens ever belonged to a key.
    pub(super) fn has_hit(&self) -> bool {
        self.has_hit.load(Ordering::Relaxed)
    }

    /// So many tokens that no key has, and none between them that one has. Whether their answers are to be held back.
    pub(super) fn miss(&self, tokens: u64) -> bool {
        self.misses.fetch_add(tokens, Ordering::Relaxed) >= FREE_MISSES
    }

    /// Whether it still only misses.
    fn only_misses(&self) -> bool {
        self.misses.load(Ordering::Relaxed) >= FREE_MISSES
    }

    /// Waits until it is this connection's turn, and then until so many tokens are paid for; no longer than the peer only misses and `goes_on` holds. Whether it
    /// had to wait. Whoever changes what `goes_on` says has to [wake](Peer::wake) it.
    pub(super) fn pay(&self, tokens: u64, alarm: &Alarm, goes_on: impl Fn() -> bool, uptime_us: impl Fn() -> u64) -> bool {
        let waits_on = || self.only_misses() && goes_on();
        let mut line = self.line.lock();
        let mut waited = false;
        if line.paying.is_some() || !line.waiting.is_empty() {
            line.waiting.push_back(Arc::clone(alarm));
            waited = true;
            while waits_on() && !line.has_turn(alarm) {
                alarm.wait_for(&mut line, LOOK);
            }
            line.waiting.retain(|waiting| !Arc::ptr_eq(waiting, alarm));
        }
        if waits_on() {
            line.paying = Some(Arc::clone(alarm));
            waited |= self.pay_in_turn(tokens, alarm, &mut line, waits_on, uptime_us);
            line.paying = None;
        }
        line.call_next();
        waited
    }

    fn pay_in_turn(
        &self,
        tokens: u64,
        alarm: &Alarm,
        line: &mut MutexGuard<'_, Line>,
        waits_on: impl Fn() -> bool,
        uptime_us: impl Fn() -> u64,
    ) -> bool {
        // Whoever was quiet for a while does not save up for it. The wait is for what came before; what this costs, the next waits for.
        let until = uptime_us().max(line.paid_until);
        let mut waited = false;
        while waits_on() {
            let left = until.saturating_sub(uptime_us());
            if left == 0 {
                line.paid_until = until + tokens * 1_000_000 / MISSES_PER_SECOND;
                break;
            }
            waited = true;
            alarm.wait_for(line, LOOK.min(Duration::from_micros(left)));
        }
        waited
    }

    /// Has the connection with this alarm look again whether it is to wait.
    pub(super) fn wake(&self, alarm: &Alarm) {
        // With the lock, or it might look before and sleep after.
        let _line = self.line.lock();
        alarm.notify_one();
    }

    #[cold]
    fn wake_all(&self) {
        let line = self.line.lock();
        line.paying.iter().chain(&line.waiting).for_each(|alarm| _ = alarm.notify_one());
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

impl Line {
    fn has_turn(&self, alarm: &Alarm) -> bool {
        self.paying.is_none() && self.waiting.front().is_some_and(|first| Arc::ptr_eq(first, alarm))
    }

    /// Whoever left the line, or its head, calls the first who waits, if nobody pays.
    fn call_next(&self) {
        if self.paying.is_none()
            && let Some(first) = self.waiting.front()
        {
            first.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::{self, Scope};
    use std::time::Instant;

    use super::*;

    /// How long it had to wait for what is paid at this time: the clock goes on by what is slept.
    fn wait(peer: &Peer, tokens: u64, uptime_us: u64) -> Duration {
        let clock = Cell::new(uptime_us);
        let left = peer.line.lock().paid_until.saturating_sub(uptime_us);
        // The first look begins the wait, the next is at its end.
        let now = || clock.replace(clock.get() + left);
        let waited = peer.pay(tokens, &Alarm::default(), || true, now);
        assert!(!waited || left > 0);
        Duration::from_micros(left)
    }

    /// A connection that pays in a thread of its own: its alarm, and what tells that it went on and after how long.
    fn paying<'a>(scope: &'a Scope<'a, '_>, peer: &'a Peer, goes_on: &'a AtomicBool) -> (Alarm, Receiver<Duration>) {
        let (alarm, (done, is_done)) = (Alarm::default(), channel());
        let (theirs, before) = (Arc::clone(&alarm), peer.line.lock().in_it());
        scope.spawn(move || {
            let begun = Instant::now();
            peer.pay(1, &theirs, || goes_on.load(Ordering::Relaxed), || 0);
            let _ = done.send(begun.elapsed());
        });
        while peer.line.lock().in_it() == before {
            thread::yield_now();
        }
        (alarm, is_done)
    }

    impl Line {
        fn in_it(&self) -> usize {
            self.waiting.len() + usize::from(self.paying.is_some())
        }
    }

    /// A peer that owes for a day.
    fn debtor() -> Peer {
        let peer = Peer::new(1, 2);
        peer.miss(FREE_MISSES);
        peer.line.lock().paid_until = 86_400_000_000;
        peer
    }

    const SOON: Duration = Duration::from_millis(300);

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

    /// Whoever was cut, or was held back and is not any more, noticed it up to half a second later; until then it took the place of a newcomer.
    #[test]
    fn who_is_cut_goes_at_once_and_lets_the_next_pay() {
        let (peer, on, off) = (debtor(), AtomicBool::new(true), AtomicBool::new(true));
        thread::scope(|scope| {
            let (first_alarm, first) = paying(scope, &peer, &off);
            let (second_alarm, second) = paying(scope, &peer, &on);
            let (_, third) = paying(scope, &peer, &on);
            assert!(Arc::ptr_eq(peer.line.lock().paying.as_ref().unwrap(), &first_alarm), "one pays, the others wait");
            thread::sleep(Duration::from_millis(20));
            off.store(false, Ordering::Relaxed);
            let cut = Instant::now();
            peer.wake(&first_alarm);
            assert!(first.recv().unwrap() < SOON && cut.elapsed() < SOON);
            while !peer.line.lock().paying.as_ref().is_some_and(|alarm| Arc::ptr_eq(alarm, &second_alarm)) {
                assert!(cut.elapsed() < SOON, "the second has its turn");
            }
            assert_eq!(peer.line.lock().paid_until, 86_400_000_000, "what was not answered is not paid for");
            assert!(second.try_recv().is_err() && third.try_recv().is_err());
            let hit = Instant::now();
            peer.hit();
            second.recv().unwrap();
            third.recv().unwrap();
            assert!(hit.elapsed() < SOON, "{:?}", hit.elapsed());
            assert_eq!(peer.line.lock().in_it(), 0);
        });
    }

    #[test]
    fn who_is_cut_while_it_waits_leaves_the_line() {
        let (peer, on, off) = (debtor(), AtomicBool::new(true), AtomicBool::new(true));
        thread::scope(|scope| {
            let (first_alarm, first) = paying(scope, &peer, &on);
            let (second_alarm, second) = paying(scope, &peer, &off);
            off.store(false, Ordering::Relaxed);
            peer.wake(&second_alarm);
            assert!(second.recv().unwrap() < SOON);
            assert_eq!(peer.line.lock().in_it(), 1);
            on.store(false, Ordering::Relaxed);
            peer.wake(&first_alarm);
            assert!(first.recv().unwrap() < SOON);
        });
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
