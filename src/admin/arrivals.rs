//! Connections as they come. A thread of its own takes them off the kernel's queue, and closes at once what is not to be served: the queue is first come, first served, and whoever
//! fills it must not make others wait. Nothing here waits for what the runtime is busy with.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{error, warn};

use super::access::{Authority, Peer};
use super::places::{Claim, Places};
use super::server::{CONNECTIONS, STRANGERS, Shared};
use crate::clock::{self, Quota};
use crate::peer::Caller;
use crate::turnstile::Turnstile;

/// The pause after an accept that failed, most likely for want of descriptors: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Somebody who is to be served.
pub(super) struct Arrival {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) admission: Admission,
}

/// How somebody came in.
pub(super) enum Admission {
    Known(Claim),
    /// Who may do nothing: it is told so.
    Stranger(OwnedSemaphorePermit),
}

/// The thread that accepts.
pub(super) struct Arrivals {
    stopping: Arc<AtomicBool>,
    wake: OwnedFd,
    accepting: JoinHandle<()>,
}

struct Door {
    listener: UnixListener,
    shared: Arc<Shared>,
    places: Arc<Places>,
    strangers: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
    admitted: mpsc::UnboundedSender<Arrival>,
}

impl Arrivals {
    /// Accepts until it is stopped. There are never more in the channel than have a place.
    pub(super) fn accept(listener: UnixListener, shared: Arc<Shared>) -> io::Result<(Arrivals, mpsc::UnboundedReceiver<Arrival>)> {
        listener.set_nonblocking(true)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let woken = wake.try_clone()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (admitted, arrivals) = mpsc::unbounded_channel();
        let door = Door {
            listener,
            shared,
            places: Places::new(CONNECTIONS),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            stopping: Arc::clone(&stopping),
            admitted,
        };
        let accepting = thread::Builder::new().name("admin-accept".into()).spawn(move || door.accept(&woken))?;
        Ok((Arrivals { stopping, wake, accepting }, arrivals))
    }

    /// Accepts no more. Who was taken in by then is in the channel.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Err(error) = rustix::io::write(&self.wake, &1u64.to_ne_bytes()) {
            warn!(%error, "the admin socket's accepting thread could not be woken");
        }
        if self.accepting.join().is_err() {
            error!("the admin socket's accepting thread had panicked");
        }
    }
}

impl Door {
    fn accept(&self, wake: &OwnedFd) {
        let mut turnstile = Turnstile::new(&self.listener, wake);
        while !self.stopping.load(Ordering::SeqCst) {
            match turnstile.accept() {
                Ok(Some(stream)) => {
                    if !self.admit(stream) {
                        turnstile.turned_away();
                    }
                }
                Ok(None) => turnstile.wait(),
                Err(error) => {
                    if let Some(before) = self.shared.counters.complaints.take() {
                        warn!(%error, before, "admin socket: cannot accept");
                    }
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Finds out who connected, and hands them over if they may come in. Whether they may. What costs most comes last: who floods is closed after one call of the kernel.
    fn admit(&self, stream: UnixStream) -> bool {
        let counters = &self.shared.counters;
        let caller = match Caller::of(&stream) {
            Ok(caller) => caller,
            Err(error) => return self.does_not_know(&error),
        };
        let who = (caller.uid, caller.pid);
        let complain = |quota: &Quota, what| {
            if let Some(before) = quota.take() {
                warn!(uid = caller.uid, pid = caller.pid, before, "admin socket: too many connections, {what}");
            }
        };
        if !self.shared.pace.take(who, clock::uptime() * 1_000) {
            counters.crowd();
            complain(&counters.floods, "those of a process or user that opens them without a pause are closed");
            return false;
        }
        let peer = match Peer::with_groups(caller, &stream) {
            Ok(peer) => peer,
            Err(error) => return self.does_not_know(&error),
        };
        let authority = self.shared.state.access.read().authority(&peer);
        let admission = match authority {
            Authority::None => Arc::clone(&self.strangers).try_acquire_owned().ok().map(Admission::Stranger),
            _ => self.places.claim(who, || complain(&counters.complaints, "another one makes room")).map(Admission::Known),
        };
        let Some(admission) = admission else {
            counters.crowd();
            complain(&counters.complaints, "this one is closed");
            return false;
        };
        self.admitted.send(Arrival { stream, peer, admission }).is_ok()
    }

    fn does_not_know(&self, error: &io::Error) -> bool {
        if let Some(before) = self.shared.counters.complaints.take() {
            warn!(%error, before, "admin socket: the kernel does not tell who connected");
        }
        false
    }
}
