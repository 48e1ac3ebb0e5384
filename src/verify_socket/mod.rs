//! The verify socket: a blocking thread for each connection, which answers all frames that one read returned with one write.

pub mod connection;
mod latency;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tracing::{debug, error, warn};

use crate::clock::Clock;
use crate::protocol::{ErrorCode, HEADER_BYTES, MAX_BODY_BYTES};
use crate::verify::Door;

use connection::{Conversation, refuse};
use latency::Latency;
pub use latency::{LatencyFigures, TIMED_READ};

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
    /// Wakes the accepting thread. The listener itself is left as it is: it may be systemd's, and serve the next daemon.
    wake: Arc<OwnedFd>,
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Open connections.
    pub connections: u64,
    /// The most that were open at a time.
    pub most_connections: u64,
    /// The most that are allowed.
    pub max_connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused, by reason, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Connections that ended, by reason, in the order of [`End::ALL`].
    pub ended: [u64; End::ALL.len()],
    /// Frames that broke the protocol.
    pub protocol_errors: u64,
    /// How long serving took, of one read in [`TIMED_READ`].
    pub latency: LatencyFigures,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There were as many as are allowed.
    Limit,
    /// The process had no descriptor for it.
    Descriptors,
    /// The kernel gave no thread for it.
    Threads,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed it.
    Closed,
    /// The peer broke the protocol.
    Protocol,
    /// The peer did not take its answers.
    Unread,
    /// The daemon is stopping.
    Stopping,
    /// The socket or the connection's thread failed.
    Failed,
}

struct Shared {
    door: Arc<Door>,
    clock: Arc<Clock>,
    limits: Limits,
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Arc<UnixStream>>>,
    all_closed: Condvar,
    most: AtomicU64,
    accepted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    ended: [AtomicU64; End::ALL.len()],
    protocol_errors: AtomicU64,
    latency: Latency,
}

impl Refusal {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Refusal; 3] = [Refusal::Limit, Refusal::Descriptors, Refusal::Threads];

    /// Its name, as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Limit => "limit",
            Refusal::Descriptors => "descriptors",
            Refusal::Threads => "threads",
        }
    }

    /// What the peer is told.
    fn message(self) -> &'static str {
        match self {
            Refusal::Limit => "there are as many connections as max_connections allows",
            Refusal::Descriptors => "the server has no descriptor for this connection",
            Refusal::Threads => "the server has no thread for this connection",
        }
    }
}

impl End {
    /// Every reason, in the order of their numbers.
    pub const ALL: [End; 5] = [End::Closed, End::Protocol, End::Unread, End::Stopping, End::Failed];

    /// Its name, as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::Protocol => "protocol",
            End::Unread => "unread",
            End::Stopping => "stopping",
            End::Failed => "failed",
        }
    }
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
            most: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            ended: [const { AtomicU64::new(0) }; End::ALL.len()],
            protocol_errors: AtomicU64::new(0),
            latency: Latency::new(),
        });
        listener.set_nonblocking(true)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let accepting = {
            let (shared, wake) = (Arc::clone(&shared), Arc::clone(&wake));
            thread::Builder::new().name("accept".into()).spawn(move || shared.accept(&listener, &wake))?
        };
        Ok(VerifySocket { shared, wake, accepting })
    }

    /// A way to the figures that outlives a borrow.
    pub fn figures(&self) -> impl Fn() -> Figures + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || Figures {
            connections: shared.open.lock().len() as u64,
            most_connections: shared.most.load(Ordering::Relaxed),
            max_connections: shared.limits.max_connections as u64,
            accepted: shared.accepted.load(Ordering::Relaxed),
            refused: shared.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
            ended: shared.ended.each_ref().map(|count| count.load(Ordering::Relaxed)),
            protocol_errors: shared.protocol_errors.load(Ordering::Relaxed),
            latency: shared.latency.figures(),
        }
    }

    /// Accepts no more, answers what has arrived, and waits for the connections to end: at most `patience`.
    pub fn stop(self, patience: Duration) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes()) {
            warn!(%error, "the verify socket's accepting thread could not be woken");
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
    /// Accepts until it is woken. Whoever connected and was not accepted by then waits in the listener's queue: for the next daemon, if the listener
    /// is systemd's; if not, the queue ends with it.
    fn accept(self: &Arc<Self>, listener: &UnixListener, wake: &OwnedFd) {
        // Given up for a moment where descriptors run out, so that whoever knocks then is told, and does not hang.
        let mut spare = File::open("/dev/null").ok();
        let mut complained_at: Option<Instant> = None;
        for number in 0.. {
            let mut awaited = [PollFd::new(listener, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            let _ = poll(&mut awaited, None);
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => self.open(number, stream),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    if complained_at.is_none_or(|at| at.elapsed() > COMPLAINT_INTERVAL) {
                        complained_at = Some(Instant::now());
                        warn!(%error, "connections to the verify socket cannot be accepted");
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
        let stream = Arc::new(stream);
        let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let mut open = self.open.lock();
        if open.len() >= self.limits.max_connections {
            drop(open);
            return self.turn_away(&stream, Refusal::Limit);
        }
        open.insert(number, Arc::clone(&stream));
        self.most.fetch_max(open.len() as u64, Ordering::Relaxed);
        drop(open);
        let mut registration = Registration { shared: Arc::clone(self), number, end: None };
        let serve = {
            let stream = Arc::clone(&stream);
            move || {
                registration.end = Some(End::Failed);
                let end = registration.shared.serve(number, &stream);
                debug!(connection = number, reason = end.as_str(), "a verify connection ended");
                registration.end = Some(end);
            }
        };
        match thread::Builder::new().name("verify".into()).stack_size(STACK_BYTES).spawn(serve) {
            Ok(_) => drop(self.accepted.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                error!(%error, "the kernel refuses a thread for a verify connection");
                self.turn_away(&stream, Refusal::Threads);
            }
        }
    }

    fn turn_away(&self, stream: &UnixStream, reason: Refusal) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        refuse(&mut frame, [0; 8], ErrorCode::Busy, reason.message());
        let _ = send_all(stream, &frame);
    }

    /// Reads, answers and writes until the peer or the protocol ends the connection.
    fn serve(&self, number: u64, stream: &UnixStream) -> End {
        let mut conversation = Conversation::new(number as usize);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut answers = Vec::with_capacity(BUFFER_BYTES);
        let mut filled = 0;
        // Reads are counted from the connection's number on, so that short connections are not all timed at the same read. The first has the handshake.
        for turn in number.. {
            match receive(stream, &mut buffer[filled..], self.limits.spin) {
                Ok(0) if self.stopping.load(Ordering::Relaxed) => return End::Stopping,
                Ok(0) => return End::Closed,
                Ok(read) => filled += read,
                Err(Errno::CONNRESET) => return End::Closed,
                Err(_) => return End::Failed,
            }
            let begun = (turn % TIMED_READ == 0 && turn > number).then(Instant::now);
            answers.clear();
            let progress = conversation.advance(&buffer[..filled], &self.door, self.clock.now(), &mut answers);
            if progress.errors > 0 {
                self.protocol_errors.fetch_add(progress.errors as u64, Ordering::Relaxed);
            }
            if !answers.is_empty()
                && let Err(error) = send_all(stream, &answers)
            {
                return match error {
                    Errno::AGAIN => End::Unread,
                    Errno::PIPE | Errno::CONNRESET => End::Closed,
                    _ => End::Failed,
                };
            }
            if let Some(begun) = begun {
                self.latency.note(begun.elapsed());
            }
            if progress.closes {
                let _ = stream.shutdown(Shutdown::Both);
                return End::Protocol;
            }
            buffer.copy_within(progress.used..filled, 0);
            filled -= progress.used;
            if progress.needed > buffer.len() {
                buffer.resize(LARGEST_BUFFER_BYTES, 0);
            }
        }
        End::Failed
    }
}

/// Receives what has arrived, or waits for it: awake for as long as `spin`, then asleep. (`recv` and `send` spare the kernel what `read` and `write`
/// look after for files.)
fn receive(stream: &UnixStream, buffer: &mut [u8], spin: Duration) -> Result<usize, Errno> {
    let awake_until = (!spin.is_zero()).then(|| Instant::now() + spin);
    loop {
        let awake = awake_until.is_some_and(|until| Instant::now() < until);
        match recv(stream, &mut *buffer, if awake { RecvFlags::DONTWAIT } else { RecvFlags::empty() }) {
            Ok((received, _)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if awake => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
}

fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes a connection off the list however its thread ends.
struct Registration {
    shared: Arc<Shared>,
    number: u64,
    /// None if it never began.
    end: Option<End>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(end) = self.end {
            self.shared.ended[end as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut open = self.shared.open.lock();
        open.remove(&self.number);
        if open.is_empty() {
            self.shared.all_closed.notify_all();
        }
    }
}
