//! Watches over the daemon from inside: systemd hears that it is well only after it has answered itself, and what it does stands in `systemctl status`.
//!
//! Two threads. One asks and tells; it never waits for the store, so that a disk that fails or hangs does not get a daemon killed that verifies. The
//! other writes the status line, and may wait for whatever it asks.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::client::{Client, ClientError};
use crate::systemd;
use crate::verify::Door;

/// How often the status line is written anew, if it has changed; and how often the daemon asks itself where systemd does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest that the daemon waits for its own answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after an attempt that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// What the daemon looks for in the index. No key has it: a token is at least one byte.
const NO_TOKEN: &[u8] = b"";

/// The threads.
pub(super) struct Watch {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How the daemon answered itself.
#[derive(Debug)]
enum Outcome {
    /// It did.
    Answered,
    /// Its socket cannot be reached from here, though it may well serve others: a path that is gone, a mode that leaves its own user out.
    Unreachable(io::Error),
    /// It did not answer in time, or nobody listens.
    Silent(String),
}

impl Watch {
    /// Starts both threads; the second only where systemd listens to it.
    ///
    /// `goes_round` tells whether the threads that serve connections do their rounds within a time.
    pub(super) fn start(
        socket: PathBuf,
        door: Arc<Door>,
        goes_round: impl Fn(Duration) -> bool + Send + 'static,
        status: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Watch> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut watch = Watch { stopping: Arc::clone(&stopping), threads: Vec::new() };
        if let Some(within) = systemd::watchdog() {
            let every = within / 3;
            info!(within_s = within.as_secs_f64(), "systemd's watchdog is told after each answer of the daemon to itself");
            let asking = Asking { socket, door, goes_round, patience: every.min(PATIENCE), troubled: false };
            let stopping = Arc::clone(&stopping);
            watch.threads.push(thread::Builder::new().name("watchdog".into()).spawn(move || asking.run(every, &stopping))?);
        }
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            let tell = move || {
                let mut told = String::new();
                while !sleep(INTERVAL, &stopping) {
                    let now = status();
                    if now != told {
                        systemd::status(&now);
                        told = now;
                    }
                }
            };
            watch.threads.push(thread::Builder::new().name("status".into()).spawn(tell)?);
        }
        Ok(watch)
    }

    /// Ends them. One that waits for the store is not waited for.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

/// Sleeps until the time is over, or the end has come: true then.
fn sleep(time: Duration, stopping: &AtomicBool) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if stopping.load(Ordering::Acquire) {
            return true;
        }
        if left.is_zero() {
            return false;
        }
        thread::park_timeout(left);
    }
}

struct Asking<R> {
    socket: PathBuf,
    door: Arc<Door>,
    goes_round: R,
    patience: Duration,
    troubled: bool,
}

impl<R: Fn(Duration) -> bool> Asking<R> {
    fn run(mut self, every: Duration, stopping: &AtomicBool) {
        loop {
            let well = self.well();
            if well {
                systemd::well();
            }
            if sleep(if well { every } else { PAUSE.min(every) }, stopping) {
                return;
            }
        }
    }

    /// Asks, and says in the log what is new about it.
    fn well(&mut self) -> bool {
        let outcome = self.ask();
        match (&outcome, self.troubled) {
            (Outcome::Answered, true) => info!("the daemon answers itself again"),
            (Outcome::Answered, false) | (_, true) => {}
            (Outcome::Unreachable(error), false) => {
                warn!(socket = %self.socket.display(), %error, "the daemon cannot reach its own verify socket, to see whether it answers");
            }
            (Outcome::Silent(reason), false) => {
                error!(reason, "the daemon does not answer itself: unless it does soon, systemd kills and restarts it");
            }
        }
        self.troubled = !matches!(outcome, Outcome::Answered);
        !matches!(outcome, Outcome::Silent(_))
    }

    /// The way of a request: the listener's queue, the accepting thread, a connection's thread with its frames both ways, then a digest, the index, and a lane of the counters,
    /// in which nothing is counted. And whether the threads that serve many connections go from one to the next.
    fn ask(&self) -> Outcome {
        let stream = match UnixStream::connect(&self.socket) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Outcome::Silent(error.to_string()),
            Err(error) => return Outcome::Unreachable(error),
        };
        let patience = stream.set_read_timeout(Some(self.patience)).and_then(|()| stream.set_write_timeout(Some(self.patience)));
        match patience.map_err(ClientError::Io).and_then(|()| Client::over(stream)) {
            // Every place is taken: told by the thread that accepts, and the connections are others' to look after.
            Ok(_) | Err(ClientError::Refused { .. }) => {}
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Outcome::Silent(format!("no answer within {} s", self.patience.as_secs_f64()));
            }
            Err(error) => return Outcome::Silent(error.to_string()),
        }
        if !(self.goes_round)(self.patience) {
            return Outcome::Silent(format!("a thread that serves connections has not gone round for {} s", self.patience.as_secs_f64()));
        }
        drop(self.door.usage.hold(0));
        match self.door.find(NO_TOKEN, &self.door.index.pin()) {
            Some(_) => Outcome::Silent("an empty token is found in the index".to_owned()),
            None => Outcome::Answered,
        }
    }
}
