//! Connections as they come off a listening socket's queue: as fast as they can be taken where they are welcome, and at a bounded rate where many are turned away, so that those who
//! flood wait in the kernel and leave the processors to others.

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
/// After so many were turned away, a pause, if the last one was shortly before.
const AT_ONCE: u32 = 32;
const PAUSE: Duration = Duration::from_millis(1);
/// Also how long after its last pause a flood is over, if nobody waits.
const SHORTLY: Duration = Duration::from_millis(100);

/// One thread accepts at a listener through this.
pub struct Turnstile<'a, W> {
    listener: &'a UnixListener,
    /// Wakes the thread when it becomes readable.
    wake: W,
    /// Turned away since the last pause, and since the queue was empty.
    turned_away: u32,
    without_end: u32,
    paused_at: Option<Instant>,
    in_flood: bool,
}

impl<'a, W: AsFd> Turnstile<'a, W> {
    /// At this listener, which must not block.
    pub fn new(listener: &'a UnixListener, wake: W) -> Turnstile<'a, W> {
        let mut turnstile = Turnstile { listener, wake, turned_away: 0, without_end: 0, paused_at: None, in_flood: true };
        turnstile.flood(false);
        turnstile
    }

    /// The next one. None where nobody waits: then it has slept until somebody came, or until it was woken.
    ///
    /// # Errors
    /// Those of `accept`. The connection stays in the queue.
    pub fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        let accepted = self.accept_now()?;
        if accepted.is_none() {
            self.without_end = 0;
            if self.paused_at.is_none_or(|at| at.elapsed() > SHORTLY) {
                self.flood(false);
            }
            let mut awaited = [PollFd::new(self.listener, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            let shortly = Timespec { tv_sec: 0, tv_nsec: SHORTLY.as_nanos() as i64 };
            let _ = poll(&mut awaited, self.in_flood.then_some(&shortly));
        }
        Ok(accepted)
    }

    /// The next one, if somebody waits.
    ///
    /// # Errors
    /// Those of `accept`. The connection stays in the queue.
    pub fn accept_now(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One more was not taken in. Where they are many, this rests.
    pub fn turned_away(&mut self) {
        self.turned_away += 1;
        self.without_end = self.without_end.saturating_add(1);
        if self.turned_away < AT_ONCE {
            return;
        }
        self.turned_away = 0;
        if self.paused_at.is_some_and(|at| at.elapsed() < SHORTLY) {
            if self.without_end >= QUEUE_IN_FLOOD {
                self.flood(true);
            }
            thread::sleep(PAUSE);
        }
        self.paused_at = Some(Instant::now());
    }
}

impl<W> Turnstile<'_, W> {
    /// Sets how many may wait. A queue that stays as it is costs others time, and nothing else.
    fn flood(&mut self, in_flood: bool) {
        if in_flood != self.in_flood {
            self.in_flood = in_flood;
            let _ = listen(self.listener, if in_flood { QUEUE_IN_FLOOD } else { QUEUE } as i32);
        }
    }
}

/// The listener may be systemd's, and serve the next daemon.
impl<W> Drop for Turnstile<'_, W> {
    fn drop(&mut self) {
        self.flood(false);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

    use super::*;

    /// Connections that wait in the queue once no more get in, or once there are so many.
    fn fill(path: &std::path::Path, most: usize) -> Vec<OwnedFd> {
        let connected = (0..most).map_while(|_| {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok().map(|()| socket)
        });
        connected.collect()
    }

    #[test]
    fn who_is_turned_away_without_an_end_waits_in_a_shorter_queue_until_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let wake = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let mut turnstile = Turnstile::new(&listener, &wake);
        let begun = Instant::now();
        for at_once in [50, 50] {
            let flood = fill(&path, 300);
            assert_eq!(flood.len(), 300, "the whole queue");
            (0..at_once).for_each(|_| drop(turnstile.accept().unwrap().expect("somebody")));
            (0..at_once).for_each(|_| turnstile.turned_away());
            while turnstile.accept().unwrap().is_some() {}
        }
        assert!(!turnstile.in_flood, "the queue was empty in between");

        let flood = fill(&path, 300);
        for _ in 0..200 {
            drop(turnstile.accept().unwrap().expect("somebody"));
            turnstile.turned_away();
        }
        assert!(begun.elapsed() > 6 * PAUSE, "with pauses");
        assert_eq!(flood.len(), 300);
        let more = fill(&path, 300).len();
        assert!((28..=30).contains(&more), "100 are left of the queue of {QUEUE_IN_FLOOD}, and {more} got in");
        thread::sleep(2 * SHORTLY);
        while turnstile.accept().unwrap().is_some() {}
        assert_eq!(fill(&path, 300).len(), 300, "the flood is over");
        while turnstile.accept().unwrap().is_some() {}

        // The next process that listens there has the whole queue, too.
        turnstile.flood(true);
        drop(turnstile);
        assert_eq!(fill(&path, 300).len(), 300);
    }
}
