//! Connections as they come: taken in, or told why not.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::connection::refuse;
use super::serve::{Service, send_some};
use super::users::UNTOLD;
use super::{Refusal, Shared};
use crate::clock;
use crate::peer::Caller;
use crate::turnstile::Turnstile;

/// The pause after an accept that failed even so: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A lasting want of descriptors or threads is logged this often.
pub(super) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

impl Shared {
    /// Accepts until it is woken. Whoever connected and was not accepted by then waits in the listener's queue: for the next daemon, if the listener
    /// is systemd's; if not, the queue ends with it.
    pub(super) fn accept(self: &Arc<Self>, listener: &UnixListener, wake: &OwnedFd) {
        // Given up for a moment where descriptors run out, so that whoever knocks then is told, and does not hang.
        let mut spare = File::open("/dev/null").ok();
        let mut turnstile = Turnstile::new(listener, wake);
        for number in 0.. {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let is_taken_in = match turnstile.accept() {
                Ok(Some(stream)) => self.open(number, stream),
                Ok(None) => {
                    turnstile.wait();
                    continue;
                }
                Err(error) => {
                    if let Some(before) = self.complaints.take() {
                        warn!(%error, before, "connections to the verify socket cannot be accepted");
                    }
                    drop(spare.take());
                    let accepted = turnstile.accept();
                    spare = File::open("/dev/null").ok();
                    match accepted {
                        Ok(Some(stream)) if spare.is_some() => self.open(number, stream),
                        Ok(Some(stream)) => {
                            self.turn_away(&stream, Refusal::Descriptors);
                            drop(stream);
                            spare = File::open("/dev/null").ok();
                            false
                        }
                        // The kernel looks for a descriptor before it looks whether anybody waits.
                        Ok(None) => {
                            turnstile.wait();
                            continue;
                        }
                        Err(_) => {
                            thread::sleep(ACCEPT_PAUSE);
                            continue;
                        }
                    }
                }
            };
            if !is_taken_in {
                turnstile.turned_away();
            }
        }
    }

    /// Takes it in, or tells it why not. Whether it was taken in.
    fn open(self: &Arc<Self>, number: u64, stream: UnixStream) -> bool {
        // Where the kernel does not tell, all such peers are one.
        let peer = Caller::of(&stream).map_or((UNTOLD, 0), |caller| (caller.uid, caller.pid));
        let mut table = self.table.lock();
        if !table.users.may_ask(peer.0) {
            drop(table);
            self.forbid(peer, &stream);
            return false;
        }
        let connection = match table.admit(number, stream, peer, clock::uptime(), self.limits.max_connections) {
            Ok(connection) => connection,
            Err((stream, reason)) => {
                drop(table);
                self.turn_away(&stream, reason);
                return false;
            }
        };
        self.most.fetch_max(table.len() as u64, Ordering::Relaxed);
        drop(table);
        let service = Service::new(Arc::clone(self), number, Arc::clone(&connection));
        let for_a_thread = if service.is_for_loops() { self.loops.give(service).err() } else { Some(service) };
        match for_a_thread.map_or(Ok(()), |service| self.threads.give(service)) {
            Ok(()) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(error) => {
                if let Some(before) = self.complaints.take() {
                    error!(%error, before, "the kernel refuses a thread for a verify connection");
                }
                self.turn_away(&connection.stream, Refusal::Threads);
                false
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
        let _ = send_some(stream, &frame, true);
    }
}
