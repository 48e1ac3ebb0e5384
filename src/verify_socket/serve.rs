//! A connection and how far it has come. In its turn it reads, answers all that came, writes once: in a loop, beside others, or in a thread of its own, where it may
//! wait.

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

/// A buffer at first. Most connections never need more.
const FIRST_BUFFER_BYTES: usize = 4 * 1024;
/// How much is read at once, unless a frame is larger.
const BUFFER_BYTES: usize = 16 * 1024;
/// As much as the largest frame needs.
const LARGEST_BUFFER_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;
/// Room for answers at first. It doubles as it is needed, up to [`MOST_ANSWER_BYTES`] to the byte.
const FIRST_ANSWER_BYTES: usize = 1024;
const _: () = assert!(FIRST_ANSWER_BYTES.is_power_of_two() && MOST_ANSWER_BYTES.is_power_of_two());
/// Of requests that are refused unread, so many bytes count as one that was answered: reading them is the work.
const REFUSED_BYTES_A_MISS: usize = 1024;
/// Who brings more requests than that before it is at rest is at work for longer than a switch from thread to thread takes: it is served in a thread of its own, which the
/// kernel has give way to those who bring little.
const LIGHT: usize = 128;
/// So often in a row it has brought no more than that, and had to wait for nothing, before it is served beside others again.
const LIGHT_RESTS: u8 = 8;

/// An open connection. Dropping it takes it off the table.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
    conversation: Conversation,
    /// Begins with what was read and is not answered: the beginning of a frame, or frames for whose answers there was no room. The rest is zero, for requests
    /// hold tokens. Between turns it is empty where all is answered, unless it has a thread of its own.
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
    /// Bytes of the frame that it begins with, as far as that is known.
    needed: usize,
    /// There may be whole frames in it.
    is_full: bool,
    /// Since when (milliseconds of uptime) it is in the middle of a frame or of its handshake.
    pending_since: u64,
    /// Reads so far, and the connection's number: so short connections are not all timed at the same read.
    reads: u64,
    /// It is counted among those whose peers have shown a key's token.
    is_trusted: bool,
    /// Requests since it was last at rest.
    brought: usize,
    /// How often in a row these were few when it came to rest, and it had to wait for nothing.
    light_rests: u8,
    /// The answers that are not sent yet, where it has to wait.
    unsent: Option<Unsent>,
    /// Why it ended; none if it never began.
    end: Option<End>,
}

/// Answers on their way.
struct Unsent {
    answers: Vec<u8>,
    /// So many bytes of these are on their way already.
    sent: usize,
    of: Answered,
    /// They are held back until so many misses are paid for.
    owed: Option<u64>,
}

/// What answers are of.
struct Answered {
    progress: Progress,
    /// When it had been read, if that is timed.
    read_at: Option<Instant>,
    /// The moment of the answers, in milliseconds of uptime.
    uptime: u64,
}

/// Memory that one connection after the other uses for a turn.
pub(super) struct Scratch {
    /// All zero, or empty while a connection has it.
    buffer: Zeroizing<Vec<u8>>,
    answers: Vec<u8>,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was read, and what of it is whole is answered.
    Read,
    /// Nothing has come.
    Nothing,
    /// Its answers have to wait: they are held back, or its peer does not take them as fast as it asks.
    Waits,
    /// Something was read and answered, and it brings so much that others would have to wait for it.
    Heavy,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { buffer: Zeroizing::default(), answers: Vec::with_capacity(FIRST_ANSWER_BYTES) }
    }

    fn lend(&mut self) -> Zeroizing<Vec<u8>> {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() { Zeroizing::new(vec![0; FIRST_BUFFER_BYTES]) } else { buffer }
    }

    /// Takes a buffer back that is all zero, for the next that needs one.
    fn take_back(&mut self, buffer: Zeroizing<Vec<u8>>) {
        if (self.buffer.len()..=BUFFER_BYTES).contains(&buffer.len()) {
            self.buffer = buffer;
        }
    }
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, number: u64, connection: Arc<Connection>) -> Box<Service> {
        let mut service = Box::new(Service {
            shared,
            number,
            connection,
            conversation: Conversation::new(number as usize),
            buffer: Zeroizing::default(),
            filled: 0,
            needed: HEADER_BYTES,
            is_full: false,
            pending_since: clock::uptime(),
            reads: number,
            is_trusted: false,
            brought: 0,
            light_rests: LIGHT_RESTS,
            unsent: None,
            end: None,
        });
        if service.connection.peer.has_hit() {
            service.trust();
        }
        service
    }

    /// Its peer has shown a key's token.
    #[inline]
    fn trust(&mut self) {
        if !self.is_trusted {
            self.is_trusted = true;
            self.shared.trusted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on it counts among those that end, whatever drops it.
    pub(super) fn begins(&mut self) {
        self.end = Some(End::Failed);
    }

    /// It ends for this reason, unless it was cut for another.
    pub(super) fn ends(mut self: Box<Self>, end: End) {
        let end = self.connection.cut_for().unwrap_or(end);
        debug!(connection = self.number, reason = end.as_str(), "a verify connection ended");
        self.end = Some(end);
    }

    /// Reads once, answers all that came and writes once. Where it may wait, it looks for as long as that for what comes, and then sleeps; else it reads and writes only what goes
    /// at once.
    ///
    /// # Errors
    /// The peer or the protocol ends the connection.
    pub(super) fn turn(&mut self, scratch: &mut Scratch, wait: Option<Duration>) -> Result<Turn, End> {
        if self.buffer.is_empty() {
            self.buffer = scratch.lend();
        }
        let wanted = self.needed.max(BUFFER_BYTES).min(self.buffer.len());
        // What has been read and had no room in the answers comes first.
        if !self.is_full {
            match receive(&self.connection.stream, &mut self.buffer[self.filled..wanted], wait) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(End::Closed),
                Ok(read) => self.filled += read,
                Err(Errno::AGAIN) => {
                    self.light_rests = if self.brought > LIGHT { 0 } else { self.light_rests.saturating_add(1) };
                    self.brought = 0;
                    self.rest(scratch);
                    return Ok(Turn::Nothing);
                }
                Err(_) => return Err(End::Failed),
            }
        }
        let was_filled = self.filled == wanted;
        let is_timed = self.reads.is_multiple_of(TIMED_READ) && self.reads > self.number;
        self.reads += 1;
        let read_at = is_timed.then(Instant::now);
        // All that came is answered as of one moment.
        let time = LazyCell::new(|| self.shared.clock.now_and_uptime());
        scratch.answers.clear();
        let requests = &self.buffer[..self.filled];
        let progress = self.conversation.advance(requests, &self.shared.door, &|| time.0, &mut scratch.answers);
        let uptime = time.1;
        self.connection.mark(uptime, Phase::Answering);
        if progress.errors > 0 {
            self.shared.protocol_errors.fetch_add(progress.errors as u64, Ordering::Relaxed);
        }
        self.forget(&progress, was_filled);
        if wait.is_none() {
            self.rest(scratch);
        }
        let owed = self.owed(&progress);
        let sent = if owed.is_none() { send_some(&self.connection.stream, &scratch.answers, wait.is_some())? } else { 0 };
        let of = Answered { progress, read_at, uptime };
        if owed.is_some() || sent < scratch.answers.len() {
            let answers = std::mem::replace(&mut scratch.answers, Vec::with_capacity(FIRST_ANSWER_BYTES));
            self.unsent = Some(Unsent { answers, sent, of, owed });
            self.light_rests = 0;
            return Ok(Turn::Waits);
        }
        self.were_sent(&of)?;
        self.brought += work(&of.progress);
        Ok(if self.brought > LIGHT { Turn::Heavy } else { Turn::Read })
    }

    /// Wipes what is answered, and makes room for what is not and for what comes next.
    fn forget(&mut self, progress: &Progress, was_filled: bool) {
        let left = self.filled - progress.used;
        self.buffer.copy_within(progress.used..self.filled, 0);
        self.buffer[left..self.filled].fill(0);
        (self.filled, self.needed, self.is_full) = (left, progress.needed, progress.is_full);
        if was_filled || progress.needed > self.buffer.len() {
            let bytes = if progress.needed > BUFFER_BYTES { LARGEST_BUFFER_BYTES } else { BUFFER_BYTES };
            if bytes > self.buffer.len() {
                let mut larger = Zeroizing::new(vec![0; bytes]);
                larger[..left].copy_from_slice(&self.buffer[..left]);
                self.buffer = larger;
            }
        }
    }

    /// Gives the buffer back if there is nothing in it.
    fn rest(&mut self, scratch: &mut Scratch) {
        if self.filled == 0 {
            scratch.take_back(std::mem::take(&mut self.buffer));
        }
    }

    /// Misses to be paid for before the answers are given.
    fn owed(&mut self, progress: &Progress) -> Option<u64> {
        if progress.known > 0 {
            self.connection.peer.hit();
            self.trust();
            return None;
        }
        let misses = work(progress) as u64;
        (progress.requests + progress.errors > 0 && self.connection.peer.miss(misses)).then_some(misses)
    }

    /// The answers are sent: it is at rest, or in the middle of what comes next.
    fn were_sent(&mut self, Answered { progress, read_at, uptime }: &Answered) -> Result<(), End> {
        if let Some(read_at) = read_at {
            self.shared.latency.note(read_at.elapsed());
        }
        if progress.closes {
            let _ = self.connection.stream.shutdown(Shutdown::Both);
            return Err(End::Protocol);
        }
        if self.filled == 0 && self.conversation.is_greeted() {
            self.connection.mark(*uptime, Phase::Idle);
            self.pending_since = 0;
        } else {
            // The time of a frame runs from its first piece on, that of a handshake from the connection on.
            if progress.used > 0 && self.conversation.is_greeted() || self.pending_since == 0 {
                self.pending_since = *uptime;
            }
            self.connection.mark(self.pending_since, Phase::Pending);
        }
        Ok(())
    }

    /// Whether it is served beside others: where there are more such connections than processors, one of its peer's tokens was a key's, and it brings little. Whoever only
    /// connects, or sends garbage, is at nobody's cost but its own.
    pub(super) fn is_for_loops(&self) -> bool {
        self.is_trusted && self.light_rests >= LIGHT_RESTS && self.shared.is_crowded()
    }

    /// It has to wait, or others would have to wait for it.
    pub(super) fn goes_to_a_thread(self: Box<Self>) {
        let shared = Arc::clone(&self.shared);
        if let Err(error) = shared.threads.give(self) {
            shared.complain_of_threads(&error);
        }
    }

    /// Serves it, and waits as long as it has to, until it is at rest and can be served beside others.
    fn serve(&mut self) -> Result<(), End> {
        let mut scratch = Scratch::new();
        let patient = Some(self.shared.limits.spin);
        loop {
            if let Some(unsent) = self.unsent.take() {
                if unsent.owed.is_some_and(|misses| !self.hold_back(misses, unsent.of.progress.requests)) {
                    return Err(End::Closed);
                }
                send_some(&self.connection.stream, &unsent.answers[unsent.sent..], true)?;
                self.were_sent(&unsent.of)?;
            }
            // Whether it is at rest matters only where it could go back.
            let wait = if self.is_trusted && self.shared.is_crowded() { None } else { patient };
            if self.turn(&mut scratch, wait)? == Turn::Nothing {
                if self.is_for_loops() {
                    return Ok(());
                }
                self.turn(&mut scratch, patient)?;
            }
        }
    }

    /// Holds answers back of a peer of whose tokens no key has any, if they are many: until they are paid for, one of its connections after the other, however many it
    /// has; or until one of its tokens is a key's. Whether they are to be given: whoever is cut meanwhile, to make room for another, has not paid.
    fn hold_back(&self, misses: u64, requests: usize) -> bool {
        let Connection { peer, alarm, stream, .. } = &*self.connection;
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
            self.shared.held_back.fetch_add(requests as u64, Ordering::Relaxed);
        }
        self.connection.cut_for().is_none_or(|end| end == End::Stopping)
    }
}

impl Work for Box<Service> {
    fn run(mut self) {
        self.begins();
        loop {
            if let Err(end) = self.serve() {
                return self.ends(end);
            }
            let loops = Arc::clone(&self.shared.loops);
            match loops.give(self) {
                Ok(()) => return,
                Err(refused) => self = refused,
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.is_trusted {
            self.shared.trusted.fetch_sub(1, Ordering::Relaxed);
        }
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

/// Receives what has arrived; or waits for it, where it may: awake for as long as it is told, then asleep. (`recv` and `send` spare the kernel what `read` and `write`
/// look after for files.)
fn receive(stream: &UnixStream, buffer: &mut [u8], wait: Option<Duration>) -> Result<usize, Errno> {
    let awake_until = wait.filter(|spin| !spin.is_zero()).map(|spin| Instant::now() + spin);
    loop {
        let awake = awake_until.is_some_and(|until| Instant::now() < until);
        let flags = if awake || wait.is_none() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        match recv(stream, &mut *buffer, flags) {
            Ok((received, _)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if awake => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
}

/// What answering was, in requests.
fn work(progress: &Progress) -> usize {
    progress.requests + progress.errors + progress.refused_bytes / REFUSED_BYTES_A_MISS
}

/// Sends all, for as long as the peer takes it, where it may sleep (the reaper cuts who does not take it); else what goes at once. Returns how many bytes went.
pub(super) fn send_some(stream: &UnixStream, bytes: &[u8], may_sleep: bool) -> Result<usize, End> {
    let flags = if may_sleep { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
    let mut sent = 0;
    while sent < bytes.len() {
        match send(stream, &bytes[sent..], flags) {
            Ok(more) => sent += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(End::Closed),
            Err(_) => return Err(End::Failed),
        }
    }
    Ok(sent)
}
