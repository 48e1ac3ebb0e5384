//! Connections as they come: taken in, or told why not.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing::{error, warn};

use super::connection::refuse;
use super::serve::{Service, send_all};
use super::users::UNTOLD;
use super::{Refusal, Shared};
use crate::clock;
use crate::peer::Caller;

/// The pause after an accept that failed even so: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Where so many were turned away since the last pause, as their peer floods, and nobody waits any more, a pause: those that come meanwhile are taken at one go. Never while somebody
/// waits: the kernel's queue is first come, first served, and others would wait behind those who flood.
const THROTTLED_AT_ONCE: u64 = 32;
const THROTTLED_PAUSE: Duration = Duration::from_millis(1);
/// A lasting want of descriptors or threads is logged this often.
pub(super) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

impl Shared {
    /// Accepts until it is woken. Whoever connected and was not accepted by then waits in the listener's queue: for the next daemon, if the listener
    /// is systemd's; if not, the queue ends with it.
    pub(super) fn accept(self: &Arc<Self>, listener: &UnixListener, wake: &OwnedFd) {
        // Given up for a moment where descriptors run out, so that whoever knocks then is told, and does not hang.
        let mut spare = File::open("/dev/null").ok();
        let throttled = || self.refused[Refusal::Throttled as usize].load(Ordering::Relaxed);
        let mut before_pause = 0;
        for number in 0.. {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => self.open(number, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if throttled() >= before_pause + THROTTLED_AT_ONCE {
                        thread::sleep(THROTTLED_PAUSE);
                    }
                    before_pause = throttled();
                    let mut awaited = [PollFd::new(listener, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
                    let _ = poll(&mut awaited, None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Some(before) = self.complaints.take() {
                        warn!(%error, before, "connections to the verify socket cannot be accepted");
                    }
                    drop(spare.take());
                    match listener.accept() {
                        Ok((stream, _)) => {
                            spare = File::open("/dev/null").ok();
                            if spare.is_some() {
                                self.open(number, stream);
                            } else {
                                self.turn_away(&stream, Refusal::Descriptors);
                            }
                        }
                        Err(_) => thread::sleep(ACCEPT_PAUSE),
                    }
                    spare = spare.or_else(|| File::open("/dev/null").ok());
                }
            }
        }
    }

    fn open(self: &Arc<Self>, number: u64, stream: UnixStream) {
        // Where the kernel does not tell, all such peers are one.
        let peer = Caller::of(&stream).map_or((UNTOLD, 0), |caller| (caller.uid, caller.pid));
        let mut table = self.table.lock();
        if !table.users.may_ask(peer.0) {
            drop(table);
            return self.forbid(peer, &stream);
        }
        let connection = match table.admit(number, stream, peer, clock::uptime(), self.limits.max_connections) {
            Ok(connection) => connection,
            Err((stream, reason)) => {
                drop(table);
                return self.turn_away(&stream, reason);
            }
        };
        self.most.fetch_max(table.len() as u64, Ordering::Relaxed);
        drop(table);
        match self.threads.give(Service::new(Arc::clone(self), number, Arc::clone(&connection))) {
            Ok(()) => drop(self.accepted.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                if let Some(before) = self.complaints.take() {
                    error!(%error, before, "the kernel refuses a thread for a verify connection");
                }
                self.turn_away(&connection.stream, Refusal::Threads);
            }
        }
    }

    /// Turns away a user who may not ask.
    fn forbid(&self, (uid, pid): (u32, i32), stream: &UnixStream) {
        if let Some(refused) = self.turned_away.lock().note(uid, Instant::now()) {
            warn!(uid, pid, refused, "verify socket: verify.users does not name this user");
        }
        self.turn_away(stream, Refusal::Forbidden);
    }

    fn turn_away(&self, stream: &UnixStream, reason: Refusal) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        let (code, message) = reason.message();
        refuse(&mut frame, [0; 8], code, message);
        let _ = send_all(stream, &frame);
    }
}
