//! What a connection's thread does: it reads, answers all that came, writes once.

use std::cell::LazyCell;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::connection::{Conversation, MOST_ANSWER_BYTES, Progress};
use super::latency::TIMED_READ;
use super::table::{Connection, Phase};
use super::threads::Work;
use super::{End, Shared};
use crate::clock;
use crate::protocol::{HEADER_BYTES, MAX_BODY_BYTES};

/// A connection's buffer at first. Most never need more.
const FIRST_BUFFER_BYTES: usize = 4 * 1024;
/// How much is read at once, unless a frame is larger.
const BUFFER_BYTES: usize = 16 * 1024;
/// Room for answers at first. It doubles as it is needed, up to [`MOST_ANSWER_BYTES`] to the byte.
const FIRST_ANSWER_BYTES: usize = 1024;
/// Of requests that are refused unread, so many bytes count as one that was answered: reading them is the work.
const REFUSED_BYTES_A_MISS: usize = 1024;
const _: () = assert!(FIRST_ANSWER_BYTES.is_power_of_two() && MOST_ANSWER_BYTES.is_power_of_two());
/// As much as the largest frame needs.
const LARGEST_BUFFER_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;

/// A connection in its thread, which takes it off the table however the thread ends.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
    /// None if it never began.
    end: Option<End>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, number: u64, connection: Arc<Connection>) -> Service {
        Service { shared, number, connection, end: None }
    }

    fn serve_to_the_end(mut self) {
        // Unless it is said otherwise below, which a panic keeps it from.
        self.end = Some(End::Failed);
        let end = self.serve();
        let end = self.connection.cut_for().unwrap_or(end);
        debug!(connection = self.number, reason = end.as_str(), "a verify connection ended");
        self.end = Some(end);
    }

    /// Reads, answers and writes until the peer or the protocol ends the connection.
    fn serve(&self) -> End {
        let Service { shared, number, connection, .. } = self;
        let stream = &connection.stream;
        let mut conversation = Conversation::new(*number as usize);
        // Requests hold tokens: what is answered is wiped before the next read, and all of it at the end.
        let mut buffer = Zeroizing::new(vec![0; FIRST_BUFFER_BYTES]);
        let mut answers = Vec::with_capacity(FIRST_ANSWER_BYTES);
        let mut is_full = false;
        let (mut filled, mut wanted) = (0, FIRST_BUFFER_BYTES);
        let mut pending_since = clock::uptime();
        // Reads are counted from the connection's number on, so that short connections are not all timed at the same read. The first has the handshake.
        for turn in *number.. {
            // What has been read and had no room in the answers comes first.
            if !is_full {
                match receive(stream, &mut buffer[filled..wanted], shared.limits.spin) {
                    Ok(0) | Err(Errno::CONNRESET) => return End::Closed,
                    Ok(read) => filled += read,
                    Err(_) => return End::Failed,
                }
            }
            let was_filled = filled == wanted;
            let begun = (turn % TIMED_READ == 0 && turn > *number).then(Instant::now);
            // All that came is answered as of one moment.
            let time = LazyCell::new(|| shared.clock.now_and_uptime());
            answers.clear();
            let progress = conversation.advance(&buffer[..filled], &shared.door, &|| time.0, &mut answers);
            let uptime = time.1;
            connection.mark(uptime, Phase::Answering);
            if progress.errors > 0 {
                shared.protocol_errors.fetch_add(progress.errors as u64, Ordering::Relaxed);
            }
            if progress.known > 0 {
                connection.peer.hit();
            } else if progress.requests + progress.errors > 0 && !self.hold_back(&progress) {
                return End::Closed;
            }
            if !answers.is_empty()
                && let Err(error) = send_all(stream, &answers)
            {
                return if matches!(error, Errno::PIPE | Errno::CONNRESET) { End::Closed } else { End::Failed };
            }
            if let Some(begun) = begun {
                shared.latency.note(begun.elapsed());
            }
            if progress.closes {
                let _ = stream.shutdown(Shutdown::Both);
                return End::Protocol;
            }
            buffer.copy_within(progress.used..filled, 0);
            buffer[filled - progress.used..filled].fill(0);
            filled -= progress.used;
            is_full = progress.is_full;
            if was_filled || progress.needed > buffer.len() {
                let bytes = if progress.needed > BUFFER_BYTES { LARGEST_BUFFER_BYTES } else { BUFFER_BYTES };
                if bytes > buffer.len() {
                    let mut larger = Zeroizing::new(vec![0; bytes]);
                    larger[..filled].copy_from_slice(&buffer[..filled]);
                    buffer = larger;
                }
            }
            wanted = progress.needed.max(BUFFER_BYTES).min(buffer.len());
            if filled == 0 && conversation.is_greeted() {
                connection.mark(uptime, Phase::Idle);
                pending_since = 0;
            } else {
                // The time of a frame runs from its first piece on, that of a handshake from the connection on.
                if progress.used > 0 && conversation.is_greeted() || pending_since == 0 {
                    pending_since = uptime;
                }
                connection.mark(pending_since, Phase::Pending);
            }
        }
        End::Failed
    }

    /// Holds answers back of a peer of whose tokens no key has any, if they are many: until they are paid for, one of its connections after the other, however many it
    /// has; or until one of its tokens is a key's. Whether they are to be given: whoever is cut meanwhile, to make room for another, has not paid.
    fn hold_back(&self, progress: &Progress) -> bool {
        let misses = (progress.requests + progress.errors + progress.refused_bytes / REFUSED_BYTES_A_MISS) as u64;
        let Connection { peer, alarm, stream, .. } = &*self.connection;
        if !peer.miss(misses) {
            return true;
        }
        self.connection.mark(clock::uptime(), Phase::HeldBack);
        let goes_on = || self.connection.cut_for().is_none() && !has_hung_up(stream);
        let waited = peer.pay(misses, alarm, goes_on, || clock::uptime() * 1_000);
        self.connection.mark(clock::uptime(), Phase::Answering);
        if waited {
            if peer.is_new_to_log() {
                warn!(
                    uid = peer.uid,
                    pid = peer.pid,
                    "verify socket: none of the tokens of this process belongs to a key: it is answered slowly"
                );
            }
            self.shared.held_back.fetch_add(progress.requests as u64, Ordering::Relaxed);
        }
        self.connection.cut_for().is_none_or(|end| end == End::Stopping)
    }
}

impl Work for Service {
    fn run(self) {
        self.serve_to_the_end();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(end) = self.end {
            self.shared.ended[end as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut table = self.shared.table.lock();
        table.remove(self.number, clock::uptime());
        if table.is_empty() {
            self.shared.all_closed.notify_all();
        }
    }
}

/// Whether the peer is gone altogether. One that only sends no more still wants its answers.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut asked = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok_and(|_| asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
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

/// Sends all, for as long as the peer takes it; the reaper cuts who does not.
pub(super) fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
