//! The verify socket: a blocking thread for each connection, which answers all frames that one read returned with one write.

pub mod connection;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tracing::{debug, error, warn};

use crate::clock::Clock;
use crate::protocol::{ErrorCode, HEADER_BYTES, MAX_BODY_BYTES};
use crate::verify::Door;

use connection::{Conversation, refuse};

/// A connection's buffers at first; one that sends larger frames gets as much as the largest frame needs, and no more.
const BUFFER_BYTES: usize = 16 * 1024;
const LARGEST_BUFFER_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;
/// What a connection's thread needs at most is far below this.
const STACK_BYTES: usize = 256 * 1024;
/// A peer that does not take its answers for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an accept that failed even so: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A lasting want of descriptors is logged this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The listening socket and its connections.
pub struct VerifySocket {
    shared: Arc<Shared>,
    listener: Arc<UnixListener>,
    accepting: JoinHandle<()>,
}

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at a time.
    pub max_connections: usize,
    /// How long a connection's thread looks for the next request before it sleeps.
    pub spin: Duration,
}

/// Figures of the verify socket since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open connections.
    pub connections: u64,
    /// The most that are allowed.
    pub max_connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Frames that broke the protocol.
    pub protocol_errors: u64,
}

struct Shared {
    door: Arc<Door>,
    clock: Arc<Clock>,
    limits: Limits,
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Arc<UnixStream>>>,
    all_closed: Condvar,
    accepted: AtomicU64,
    refused: AtomicU64,
    protocol_errors: AtomicU64,
}

impl VerifySocket {
    /// Serves connections on `listener`.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(listener: UnixListener, door: Arc<Door>, clock: Arc<Clock>, limits: Limits) -> io::Result<VerifySocket> {
        let shared = Arc::new(Shared {
            door,
            clock,
            limits,
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            all_closed: Condvar::new(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            protocol_errors: AtomicU64::new(0),
        });
        let listener = Arc::new(listener);
        let accepting = {
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            thread::Builder::new().name("accept".into()).spawn(move || shared.accept(&listener))?
        };
        Ok(VerifySocket { shared, listener, accepting })
    }

    /// A way to the figures that outlives a borrow.
    pub fn figures(&self) -> impl Fn() -> Figures + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || Figures {
            connections: shared.open.lock().len() as u64,
            max_connections: shared.limits.max_connections as u64,
            accepted: shared.accepted.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            protocol_errors: shared.protocol_errors.load(Ordering::Relaxed),
        }
    }

    /// Accepts no more, answers what has arrived, and waits for the connections to end: at most `patience`.
    pub fn stop(self, patience: Duration) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept call; on Linux it then fails with EINVAL.
        if let Err(error) = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Read) {
            warn!(%error, "the verify socket's listener could not be shut down");
        }
        if self.accepting.join().is_err() {
            error!("the verify socket's accepting thread had panicked");
        }
        let mut open = self.shared.open.lock();
        for stream in open.values() {
            // The read side only: what has arrived is still read, and its answer written.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let deadline = Instant::now() + patience;
        while !open.is_empty() {
            if self.shared.all_closed.wait_until(&mut open, deadline).timed_out() {
                warn!(connections = open.len(), "connections that do not take their answers are cut off");
                open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
                return;
            }
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        // Given up for a moment where descriptors run out, so that whoever knocks then is told, and does not hang.
        let mut spare = File::open("/dev/null").ok();
        let mut complained_at: Option<Instant> = None;
        for number in 0.. {
            let accepted = listener.accept();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.open(number, stream),
                Err(error) => {
                    if complained_at.is_none_or(|at| at.elapsed() > COMPLAINT_INTERVAL) {
                        complained_at = Some(Instant::now());
                        warn!(%error, "connections to the verify socket cannot be accepted");
                    }
                    drop(spare.take());
                    // This waits for whoever knocks next; by then there may be descriptors again, the spare one among them.
                    match listener.accept() {
                        Ok((stream, _)) => {
                            spare = File::open("/dev/null").ok();
                            if spare.is_some() {
                                self.open(number, stream);
                            } else {
                                self.turn_away(&stream, "the server has no descriptor for this connection");
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
        let stream = Arc::new(stream);
        let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let mut open = self.open.lock();
        if open.len() >= self.limits.max_connections {
            drop(open);
            return self.turn_away(&stream, "there are as many connections as max_connections allows");
        }
        open.insert(number, Arc::clone(&stream));
        drop(open);
        let registration = Registration { shared: Arc::clone(self), number };
        let serve = {
            let stream = Arc::clone(&stream);
            move || {
                let ended = registration.shared.serve(number, &stream);
                debug!(connection = number, outcome = ?ended, "a verify connection ended");
            }
        };
        match thread::Builder::new().name("verify".into()).stack_size(STACK_BYTES).spawn(serve) {
            Ok(_) => drop(self.accepted.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                error!(%error, "the kernel refuses a thread for a verify connection");
                self.turn_away(&stream, "the server has no thread for this connection");
            }
        }
    }

    fn turn_away(&self, stream: &UnixStream, reason: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        refuse(&mut frame, [0; 8], ErrorCode::Busy, reason);
        let _ = send_all(stream, &frame);
    }

    /// Reads, answers and writes until the peer or the protocol ends the connection.
    fn serve(&self, number: u64, stream: &UnixStream) -> io::Result<()> {
        let mut conversation = Conversation::new(number as usize);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut answers = Vec::with_capacity(BUFFER_BYTES);
        let mut filled = 0;
        loop {
            let read = receive(stream, &mut buffer[filled..], self.limits.spin)?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            answers.clear();
            let progress = conversation.advance(&buffer[..filled], &self.door, self.clock.now(), &mut answers);
            if progress.errors > 0 {
                self.protocol_errors.fetch_add(progress.errors as u64, Ordering::Relaxed);
            }
            if !answers.is_empty() {
                send_all(stream, &answers)?;
            }
            if progress.closes {
                return stream.shutdown(Shutdown::Both);
            }
            buffer.copy_within(progress.used..filled, 0);
            filled -= progress.used;
            if progress.needed > buffer.len() {
                buffer.resize(LARGEST_BUFFER_BYTES, 0);
            }
        }
    }
}

/// Receives what has arrived, or waits for it: awake for as long as `spin`, then asleep. (`recv` and `send` spare the kernel what `read` and `write`
/// look after for files.)
fn receive(stream: &UnixStream, buffer: &mut [u8], spin: Duration) -> io::Result<usize> {
    let awake_until = (!spin.is_zero()).then(|| Instant::now() + spin);
    loop {
        let awake = awake_until.is_some_and(|until| Instant::now() < until);
        match recv(stream, &mut *buffer, if awake { RecvFlags::DONTWAIT } else { RecvFlags::empty() }) {
            Ok((received, _)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if awake => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
}

fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes a connection off the list however its thread ends.
struct Registration {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        open.remove(&self.number);
        if open.is_empty() {
            self.shared.all_closed.notify_all();
        }
    }
}
