//! Connections as they come off a listening socket's queue: as fast as they can be taken, except where many are turned away. Then those who flood wait in the kernel for a moment, and
//! leave the processors to others.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::listen;

/// Connections that the kernel lets wait to be accepted: `net.core.somaxconn`, as Linux has it, allows no more.
const QUEUE: u32 = 4_096;
/// The same in a flood. The queue is first come, first served, and those who flood keep it full: others wait behind it.
const QUEUE_IN_FLOOD: u32 = 128;
/// After so many were turned away, a pause: where the last one was shortly before and nobody waits; in a flood, in any case.
const AT_ONCE: u32 = 64;
const PAUSE: Duration = Duration::from_millis(1);
/// Also how long after its last pause a flood is over, if nobody waits.
const SHORTLY: Duration = Duration::from_millis(100);
/// Where the queue was not empty for so many that were turned away, more come than can be taken off it. (It may have been full before it was known who floods.)
const FLOOD: u32 = 8 * QUEUE;
/// After so long in a flood it is seen anew whether it is one. If it is, or is one again soon after it was none, it is seen anew after twice as long, and so on.
const ANEW_AT_FIRST: Duration = Duration::from_millis(500);
const ANEW_AT_LAST: Duration = Duration::from_secs(16);
/// It still is one if the queue is not empty, without pauses, for so many.
const STILL_FLOOD: u32 = QUEUE;
/// Soon: within twice the time for which it was taken for granted, or within so long.
const SOON: Duration = Duration::from_secs(2);

/// One thread accepts at a listener through this.
pub struct Turnstile<'a, W> {
    listener: &'a UnixListener,
    /// Wakes the thread when it becomes readable.
    wake: W,
    /// Turned away since the last pause, and since the queue was empty.
    turned_away: u32,
    without_end: u32,
    paused_at: Option<Instant>,
    flood: Option<Flood>,
    /// The last one that is over, and when that was.
    over: Option<(Flood, Instant)>,
}

/// More come to be turned away than can be taken off the queue.
#[derive(Clone, Copy)]
struct Flood {
    /// When that was seen.
    since: Instant,
    /// How long it is taken for granted.
    anew: Duration,
}

impl Flood {
    fn seen_now(anew: Duration) -> Flood {
        Flood { since: Instant::now(), anew }
    }

    /// The one after it, or the same, seen for longer.
    fn again(self) -> Flood {
        Flood::seen_now(ANEW_AT_LAST.min(self.anew * 2))
    }

    fn is_looked_at_anew(self) -> bool {
        self.since.elapsed() > self.anew
    }
}

impl<'a, W: AsFd> Turnstile<'a, W> {
    /// At this listener, which must not block.
    pub fn new(listener: &'a UnixListener, wake: W) -> Turnstile<'a, W> {
        let turnstile = Turnstile { listener, wake, turned_away: 0, without_end: 0, paused_at: None, flood: None, over: None };
        turnstile.let_wait(QUEUE);
        turnstile
    }

    /// The next one, if somebody waits.
    ///
    /// # Errors
    /// Those of `accept`. The connection stays in the queue; there may be none, where the process has no descriptor left.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Nobody waits: sleeps until somebody comes, or until it is woken, or for a moment.
    pub fn wait(&mut self) {
        self.without_end = 0;
        if self.turned_away >= AT_ONCE {
            let is_often = self.paused_shortly_before();
            self.pause(is_often);
        }
        if !self.paused_shortly_before() || self.flood.is_some_and(Flood::is_looked_at_anew) {
            self.end_flood();
        }
        let mut awaited = [PollFd::new(self.listener, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        let shortly = Timespec { tv_sec: 0, tv_nsec: SHORTLY.as_nanos() as i64 };
        let _ = poll(&mut awaited, self.flood.map(|_| &shortly));
    }

    /// One more was not taken in. In a flood this rests.
    pub fn turned_away(&mut self) {
        self.turned_away += 1;
        self.without_end += 1;
        let Some(flood) = self.flood else {
            if self.without_end >= FLOOD {
                let soon_before = self.over.filter(|(flood, at)| at.elapsed() < SOON.max(flood.anew * 2));
                self.flood = Some(soon_before.map_or_else(|| Flood::seen_now(ANEW_AT_FIRST), |(flood, _)| flood.again()));
                self.let_wait(QUEUE_IN_FLOOD);
            }
            return;
        };
        if !flood.is_looked_at_anew() {
            if self.turned_away >= AT_ONCE {
                self.pause(true);
            }
        } else if self.without_end >= STILL_FLOOD {
            self.flood = Some(flood.again());
        }
    }

    fn pause(&mut self, rest: bool) {
        if rest {
            thread::sleep(PAUSE);
        }
        (self.turned_away, self.without_end) = (0, 0);
        self.paused_at = Some(Instant::now());
    }

    fn paused_shortly_before(&self) -> bool {
        self.paused_at.is_some_and(|at| at.elapsed() < SHORTLY)
    }
}

impl<W> Turnstile<'_, W> {
    fn end_flood(&mut self) {
        if let Some(flood) = self.flood.take() {
            self.over = Some((flood, Instant::now()));
            self.without_end = 0;
            self.let_wait(QUEUE);
        }
    }

    /// Sets how many may wait. A queue that stays as it is costs others time, and nothing else.
    fn let_wait(&self, connections: u32) {
        let _ = listen(self.listener, connections as i32);
    }
}

/// The listener may be systemd's, and serve the next daemon.
impl<W> Drop for Turnstile<'_, W> {
    fn drop(&mut self) {
        self.end_flood();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

    use super::*;

    /// Connections that wait in the queue once no more get in, or once there are so many.
    fn fill(path: &Path, most: usize) -> Vec<OwnedFd> {
        let connected = (0..most).map_while(|_| {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok().map(|()| socket)
        });
        connected.collect()
    }

    fn turn_away<W: AsFd>(turnstile: &mut Turnstile<'_, W>, many: u32) {
        for _ in 0..many {
            drop(turnstile.accept().unwrap().expect("somebody"));
            turnstile.turned_away();
        }
    }

    fn turn_away_all<W: AsFd>(turnstile: &mut Turnstile<'_, W>) {
        while turnstile.accept().unwrap().is_some() {
            turnstile.turned_away();
        }
        turnstile.wait();
    }

    #[test]
    fn who_floods_waits_in_a_short_queue_until_nobody_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let wake = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let mut turnstile = Turnstile::new(&listener, &wake);
        let room = |turnstile: &mut Turnstile<'_, _>| {
            let room = fill(&path, 300).len();
            while turnstile.accept().unwrap().is_some() {}
            room
        };

        // More in all than the queue holds; but it was empty in between.
        for _ in 0..FLOOD / 200 + 2 {
            drop(fill(&path, 200));
            turn_away_all(&mut turnstile);
        }
        assert_eq!(room(&mut turnstile), 300);

        // Without an end.
        let keep_full = |turnstile: &mut Turnstile<'_, _>| {
            drop(fill(&path, 300));
            while turnstile.flood.is_none() {
                turn_away(turnstile, 100);
                drop(fill(&path, 200));
            }
        };
        keep_full(&mut turnstile);
        let in_queue = |turnstile: &mut Turnstile<'_, _>| (0..).take_while(|_| turnstile.accept().unwrap().is_some()).count();
        in_queue(&mut turnstile);
        assert_eq!(room(&mut turnstile), QUEUE_IN_FLOOD as usize + 1, "the kernel lets one more wait than it is told");
        drop(fill(&path, 300));
        let begun = Instant::now();
        turn_away(&mut turnstile, 2 * AT_ONCE);
        assert!(begun.elapsed() >= 2 * PAUSE, "a pause after each {AT_ONCE}");

        turn_away_all(&mut turnstile);
        assert_eq!(room(&mut turnstile), QUEUE_IN_FLOOD as usize + 1, "it may go on");
        thread::sleep(2 * SHORTLY);
        turnstile.wait();
        assert_eq!(room(&mut turnstile), 300, "it is over");

        // Soon another one. After a while, and after twice as long, and so on: still as many as before. Then few, which is no flood any more.
        keep_full(&mut turnstile);
        assert_eq!(turnstile.flood.unwrap().anew, 2 * ANEW_AT_FIRST);
        let time_passes = |turnstile: &mut Turnstile<'_, _>| {
            let flood = turnstile.flood.as_mut().unwrap();
            flood.since = flood.since.checked_sub(flood.anew).unwrap();
        };
        for seconds in [2, 4, 8, 16, 16] {
            time_passes(&mut turnstile);
            while turnstile.flood.is_some_and(Flood::is_looked_at_anew) {
                turn_away(&mut turnstile, 100);
                drop(fill(&path, 200));
            }
            assert_eq!(turnstile.flood.unwrap().anew, Duration::from_secs(seconds));
        }
        in_queue(&mut turnstile);
        assert_eq!(room(&mut turnstile), QUEUE_IN_FLOOD as usize + 1);
        time_passes(&mut turnstile);
        drop(fill(&path, 1));
        turn_away_all(&mut turnstile);
        assert_eq!(room(&mut turnstile), 300);

        // Soon after it another one, and then one that comes late.
        turnstile.over.as_mut().unwrap().0.anew = Duration::from_secs(1);
        for (later, seconds) in [(Duration::ZERO, 2.0), (Duration::from_secs(2), 4.0), (Duration::from_secs(9), 0.5)] {
            let over = &mut turnstile.over.as_mut().unwrap().1;
            *over = over.checked_sub(later).unwrap();
            keep_full(&mut turnstile);
            assert_eq!(turnstile.flood.unwrap().anew, Duration::from_secs_f64(seconds));
            in_queue(&mut turnstile);
            turnstile.end_flood();
        }

        // The next process that listens there has the whole queue, too.
        keep_full(&mut turnstile);
        drop(turnstile);
        while listener.accept().is_ok() {}
        assert_eq!(fill(&path, 300).len(), 300);
    }
}
