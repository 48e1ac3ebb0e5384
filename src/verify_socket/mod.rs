//! The verify socket: all frames that one read of a connection returned are answered with one write. A thread for each processor serves the connections of those who have
//! shown a key's token, where they are many; a connection that is one of few, has not shown one or has to wait has a thread of its own. One thread accepts, and one cuts who
//! is stuck.

mod accept;
pub mod connection;
mod latency;
mod loops;
mod peer;
mod serve;
mod table;
mod threads;
mod users;

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use tracing::{error, warn};

use crate::clock::{self, Clock, Quota};
use crate::protocol::ErrorCode;
use crate::verify::Door;

pub use latency::{LatencyFigures, TIMED_READ};
pub use peer::{FREE_MISSES, MISSES_PER_SECOND};

use latency::Latency;
use loops::Loops;
use serve::Service;
use table::{Patience, Table};
use threads::Threads;
use users::{Refused, Users};

/// The reaper looks so often, or more often where patience is short.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// The listening socket and its connections.
pub struct VerifySocket {
    shared: Arc<Shared>,
    /// Wakes the accepting thread. The listener itself is left as it is: it may be systemd's, and serve the next daemon.
    wake: Arc<OwnedFd>,
    accepting: JoinHandle<()>,
    reaping: JoinHandle<()>,
}

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at a time.
    pub max_connections: usize,
    /// How long a thread that serves looks for the next request before it sleeps.
    pub spin: Duration,
    /// How long a connection may be in the middle of a frame or of its handshake, or not take its answers.
    pub stuck: Duration,
    /// How long it may be idle.
    pub idle: Option<Duration>,
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
    /// Tokens whose answers were held back, because none of their sender's belongs to a key.
    pub held_back: u64,
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
    /// Its user may not ask.
    Forbidden,
    /// Its process opens many, and none of its tokens belongs to a key.
    Throttled,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed it.
    Closed,
    /// The peer broke the protocol.
    Protocol,
    /// The peer was in the middle of a frame or of its handshake for too long.
    Stuck,
    /// The peer did not take its answers.
    Unread,
    /// It was idle for longer than is allowed.
    Idle,
    /// It was idle, and made room for another.
    Displaced,
    /// The daemon is stopping.
    Stopping,
    /// The socket failed, or what serves it; or it had to wait and the kernel gave no thread for it.
    Failed,
    /// Its user may not ask any more.
    Forbidden,
}

struct Shared {
    door: Arc<Door>,
    clock: Arc<Clock>,
    limits: Limits,
    stopping: AtomicBool,
    table: Mutex<Table>,
    loops: Arc<Loops>,
    /// For connections that are not in a loop.
    threads: Arc<Threads<Box<Service>>>,
    /// As many threads as there are in the loops: where there are no more connections that may be served there, each has one of its own.
    processors: usize,
    /// Open connections of those who have shown a key's token.
    trusted: AtomicUsize,
    all_closed: Condvar,
    /// Only the accepting thread's.
    turned_away: Mutex<Refused>,
    complaints: Quota,
    most: AtomicU64,
    accepted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    ended: [AtomicU64; End::ALL.len()],
    protocol_errors: AtomicU64,
    held_back: AtomicU64,
    latency: Latency,
}

impl Refusal {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Refusal; 5] = [Refusal::Limit, Refusal::Descriptors, Refusal::Threads, Refusal::Forbidden, Refusal::Throttled];

    /// Its name, as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Limit => "limit",
            Refusal::Descriptors => "descriptors",
            Refusal::Threads => "threads",
            Refusal::Forbidden => "forbidden",
            Refusal::Throttled => "throttled",
        }
    }

    /// What the peer is told.
    fn message(self) -> (ErrorCode, &'static str) {
        match self {
            Refusal::Limit => (ErrorCode::Busy, "there are as many connections as max_connections allows"),
            Refusal::Descriptors => (ErrorCode::Busy, "the server has no descriptor for this connection"),
            Refusal::Threads => (ErrorCode::Busy, "the server has no thread for this connection"),
            Refusal::Forbidden => (ErrorCode::Forbidden, "verify.users does not name the user of this process"),
            Refusal::Throttled => {
                (ErrorCode::Busy, "this process, or its user's processes together, opens many connections, and no token was a key's")
            }
        }
    }
}

impl End {
    /// Every reason, in the order of their numbers.
    pub const ALL: [End; 9] =
        [End::Closed, End::Protocol, End::Stuck, End::Unread, End::Idle, End::Displaced, End::Stopping, End::Failed, End::Forbidden];

    /// Its name, as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::Protocol => "protocol",
            End::Stuck => "stuck",
            End::Unread => "unread",
            End::Idle => "idle",
            End::Displaced => "displaced",
            End::Stopping => "stopping",
            End::Failed => "failed",
            End::Forbidden => "forbidden",
        }
    }
}

impl VerifySocket {
    /// Serves connections on `listener`, of root, the daemon's own user and these; of all that come where none is named.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(listener: UnixListener, door: Arc<Door>, clock: Arc<Clock>, limits: Limits, users: Vec<u32>) -> io::Result<VerifySocket> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let users = Users::new(rustix::process::geteuid().as_raw(), users);
        let shared = Arc::new(Shared {
            door,
            clock,
            limits,
            stopping: AtomicBool::new(false),
            table: Mutex::new(Table::new(users)),
            loops: Arc::new(Loops::start(processors, limits.max_connections + table::MOST_LEAVING, limits.spin)?),
            threads: Threads::new(),
            processors,
            trusted: AtomicUsize::new(0),
            all_closed: Condvar::new(),
            turned_away: Mutex::default(),
            complaints: Quota::new(1, accept::COMPLAINT_INTERVAL),
            most: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            ended: [const { AtomicU64::new(0) }; End::ALL.len()],
            protocol_errors: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            latency: Latency::new(),
        });
        listener.set_nonblocking(true)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let accepting = {
            let (shared, wake) = (Arc::clone(&shared), Arc::clone(&wake));
            thread::Builder::new().name("accept".into()).spawn(move || shared.accept(&listener, &wake))?
        };
        let reaping = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("reap".into()).spawn(move || shared.reap())
        };
        match reaping {
            Ok(reaping) => Ok(VerifySocket { shared, wake, accepting, reaping }),
            Err(error) => {
                shared.stopping.store(true, Ordering::SeqCst);
                let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
                Err(error)
            }
        }
    }

    /// A way to the figures that outlives a borrow.
    pub fn figures(&self) -> impl Fn() -> Figures + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || Figures {
            connections: shared.table.lock().len() as u64,
            most_connections: shared.most.load(Ordering::Relaxed),
            max_connections: shared.limits.max_connections as u64,
            accepted: shared.accepted.load(Ordering::Relaxed),
            refused: shared.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
            ended: shared.ended.each_ref().map(|count| count.load(Ordering::Relaxed)),
            protocol_errors: shared.protocol_errors.load(Ordering::Relaxed),
            held_back: shared.held_back.load(Ordering::Relaxed),
            latency: shared.latency.figures(),
        }
    }

    /// A way to name other users. Whose connections are open and who is not named any more is cut, before it returns.
    pub fn users(&self) -> impl Fn(Vec<u32>) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |users| shared.table.lock().name_users(users)
    }

    /// A way to ask whether the threads that serve go round: all of them within this time.
    pub fn goes_round(&self) -> impl Fn(Duration) -> bool + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |within| shared.loops.go_round(within)
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
        self.reaping.thread().unpark();
        if self.reaping.join().is_err() {
            error!("the verify socket's reaping thread had panicked");
        }
        self.shared.threads.stop();
        self.shared.end_connections(patience);
        self.shared.loops.stop();
    }
}

impl Shared {
    /// Whether there are more connections than processors of those who have shown a key's token. Others are not served together, however many there are.
    fn is_crowded(&self) -> bool {
        self.trusted.load(Ordering::Relaxed) > self.processors
    }

    /// Waits for all connections to end once what has arrived is answered: at most `patience`.
    fn end_connections(&self, patience: Duration) {
        let mut table = self.table.lock();
        // The read side only: what has arrived is still read, and its answer written.
        table.cut_all(End::Stopping);
        let deadline = Instant::now() + patience;
        while !table.is_empty() {
            if self.all_closed.wait_until(&mut table, deadline).timed_out() {
                warn!(connections = table.len(), "connections that do not take their answers are cut off");
                table.shut_all();
                return;
            }
        }
    }

    /// A connection that had to wait ended, since the kernel gave no thread for it.
    fn complain_of_threads(&self, error: &io::Error) {
        if let Some(before) = self.complaints.take() {
            error!(%error, before, "the kernel refuses a thread for a verify connection that has to wait: it ends");
        }
    }

    /// Cuts who is stuck, until the end.
    fn reap(&self) {
        let patience =
            Patience { stuck_ms: self.limits.stuck.as_millis() as u64, idle_ms: self.limits.idle.map(|idle| idle.as_millis() as u64) };
        let shortest = self.limits.idle.unwrap_or(self.limits.stuck).min(self.limits.stuck);
        while !self.stopping.load(Ordering::SeqCst) {
            thread::park_timeout(REAP_INTERVAL.min(shortest / 10));
            self.table.lock().reap(clock::uptime(), patience);
        }
    }
}
