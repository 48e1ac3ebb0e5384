//! The load generator: frames that were encoded before, one write for a whole window of them, and of each answer only its length and its verdict
//! looked at. The same code asks every server.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::script::{Script, Wrong};
use crate::protocol::{Decoded, HEADER_BYTES, Hello, Kind, MAGIC, VERSION, decode, encode, encode_body};

/// How long an answer may take: it takes microseconds, so by then the server hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers that are read at once: more than a window of batches.
const READ_BYTES: usize = 256 * 1024;
/// The longest time that is told from a longer one, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// How a server is greeted before the first frame.
#[derive(Debug, Clone, Copy)]
pub enum Greeting {
    /// As doorward is: a Hello, answered by a Welcome.
    Hello,
    /// As the echo is: told how many bytes each answer is to have.
    Echo {
        /// Bytes of each answer.
        answer_bytes: usize,
        /// Keys for which memory is read; 0 for none.
        read_of: u64,
    },
    /// Not at all.
    None,
}

/// How long a turn is, and whether it is to be broken off.
#[derive(Debug, Clone, Copy)]
pub struct Spell<'s> {
    /// Comes before what is counted: caches and the processor's speed settle.
    pub settling: Duration,
    /// What is counted.
    pub counted: Duration,
    /// Set when the bench is to end.
    pub stop: &'s AtomicBool,
}

/// What one server did in one turn.
#[derive(Clone)]
pub struct Turn {
    /// Requests that were answered.
    pub answered: u64,
    /// In this time.
    pub elapsed: Duration,
    /// How long each took, in nanoseconds.
    pub times: Histogram<u64>,
}

/// Why a turn ended before its time.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The socket failed.
    #[error("the socket: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server does not answer.
    #[error("no answer for {} s", PATIENCE.as_secs())]
    Silent,
    /// The server did not greet as its protocol says.
    #[error("the server's greeting is not the protocol's: is it the verify socket of a doorward, with a connection to spare?")]
    Greeting,
    /// An answer that is not the expected one.
    #[error("a wrong answer to request {}: {}", .0.request, .0.what)]
    Wrong(Wrong),
    /// It was to be broken off.
    #[error("interrupted")]
    Interrupted,
}

/// A connection, and how far it has come through its script.
pub struct Connection<'s> {
    stream: UnixStream,
    script: &'s Script,
    /// The frame to send next.
    next: usize,
    /// The frame whose answer is the next to come.
    oldest: usize,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the script that the socket did not take yet, and frames behind them.
    unsent: Range<usize>,
    owed: usize,
}

impl<'s> Spell<'s> {
    fn begin(self) -> Result<(Instant, Instant), LoadError> {
        self.go_on()?;
        let counted_from = Instant::now() + self.settling;
        Ok((counted_from, counted_from + self.counted))
    }

    fn go_on(&self) -> Result<(), LoadError> {
        if self.stop.load(Ordering::Relaxed) { Err(LoadError::Interrupted) } else { Ok(()) }
    }
}

impl Turn {
    fn new() -> Turn {
        let times = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that a histogram can have");
        Turn { answered: 0, elapsed: Duration::ZERO, times }
    }

    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn record(&mut self, time: Duration, requests: usize) {
        self.times.saturating_record_n(time.as_nanos() as u64, requests as u64);
        self.answered += requests as u64;
    }
}

impl<'s> Connection<'s> {
    /// Connects and greets. The connection begins at this frame of the script.
    pub fn open(socket: &Path, greeting: Greeting, script: &'s Script, first: usize) -> Result<Connection<'s>, LoadError> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&hello(greeting))?;
        welcomed(&mut stream, greeting)?;
        let first = first % script.frames.count();
        let buffer = vec![0; READ_BYTES];
        Ok(Connection { stream, script, next: first, oldest: first, buffer, filled: 0, unsent: 0..0, owed: 0 })
    }

    /// Round trips one at a time.
    pub fn one_at_a_time(&mut self, spell: Spell<'_>) -> Result<Turn, LoadError> {
        let (counted_from, until) = spell.begin()?;
        let mut turn = Turn::new();
        let mut answered = Instant::now();
        while answered < until {
            spell.go_on()?;
            // One look at the clock for both ends: an answer's is the next request's beginning.
            let sent = answered;
            self.send(1)?;
            while self.receive()? == 0 {}
            answered = Instant::now();
            if sent >= counted_from {
                turn.record(answered - sent, self.script.requests_of_a_frame);
            }
        }
        turn.elapsed = answered.saturating_duration_since(counted_from);
        Ok(turn)
    }

    /// Sends a window of frames with one write. Nothing may be on the way.
    fn send(&mut self, frames: usize) -> Result<(), LoadError> {
        if self.next + frames > self.script.frames.count() {
            (self.next, self.oldest) = (0, 0);
        }
        self.stream.write_all(self.script.frames.bytes(self.next, frames)).map_err(quiet)?;
        self.next += frames;
        Ok(())
    }

    /// Reads once, and returns how many whole answers came.
    fn receive(&mut self) -> Result<usize, LoadError> {
        let read = self.stream.read(&mut self.buffer[self.filled..]).map_err(quiet)?;
        if read == 0 {
            return Err(LoadError::Closed);
        }
        self.filled += read;
        let taken = self.script.answers.check(&self.buffer[..self.filled], self.oldest).map_err(LoadError::Wrong)?;
        self.oldest = (self.oldest + taken.answers) % self.script.frames.count();
        self.buffer.copy_within(taken.bytes..self.filled, 0);
        self.filled -= taken.bytes;
        Ok(taken.answers)
    }

    /// Sends so many more frames as far as the socket takes them at once; the rest goes with the next offer.
    fn offer(&mut self, frames: usize) -> Result<(), LoadError> {
        self.owed += frames;
        let all = &self.script.frames;
        loop {
            if self.unsent.is_empty() {
                if self.owed == 0 {
                    return Ok(());
                }
                if self.next == all.count() {
                    self.next = 0;
                }
                let frames = self.owed.min(all.count() - self.next);
                let first = all.bytes(0, self.next).len();
                self.unsent = first..first + all.bytes(self.next, frames).len();
                self.next += frames;
                self.owed -= frames;
            }
            match self.stream.write(&all.bytes(0, all.count())[self.unsent.clone()]) {
                Ok(written) => self.unsent.start += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Opens connections that begin far apart in the script.
pub fn open<'s>(socket: &Path, greeting: Greeting, script: &'s Script, count: usize) -> Result<Vec<Connection<'s>>, LoadError> {
    let apart = script.frames.count() / count.max(1);
    (0..count).map(|number| Connection::open(socket, greeting, script, number * apart)).collect()
}

/// Opens connections on which nothing is asked. The server is at rest again when this returns: it has greeted back on each.
pub fn idle(socket: &Path, greeting: Greeting, count: usize) -> Result<Vec<UnixStream>, LoadError> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&hello(greeting))?;
        if let Greeting::Echo { .. } = greeting {
            // The echo says nothing of itself: it is asked once.
            stream.write_all(&[0; HEADER_BYTES])?;
        }
        streams.push(stream);
    }
    for stream in &mut streams {
        match greeting {
            Greeting::Echo { answer_bytes, .. } => stream.read_exact(&mut vec![0; answer_bytes]).map_err(quiet)?,
            Greeting::Hello | Greeting::None => welcomed(stream, greeting)?,
        }
    }
    Ok(streams)
}

/// What the client says first.
fn hello(greeting: Greeting) -> Vec<u8> {
    let mut hello = Vec::new();
    match greeting {
        Greeting::None => (),
        Greeting::Echo { answer_bytes, read_of } => {
            hello.extend_from_slice(&(answer_bytes as u32).to_le_bytes());
            hello.extend_from_slice(&u32::try_from(read_of).unwrap_or(u32::MAX).to_le_bytes());
        }
        Greeting::Hello => {
            encode(&mut hello, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: VERSION, highest: VERSION }));
        }
    }
    hello
}

/// Waits until the server has greeted back, if it does that.
fn welcomed(stream: &mut UnixStream, greeting: Greeting) -> Result<(), LoadError> {
    let Greeting::Hello = greeting else { return Ok(()) };
    let mut answer = [0; 1_024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut answer[filled..]).map_err(quiet)?;
        filled += read;
        match decode(&answer[..filled]) {
            Ok(Decoded::Whole(frame, _)) if frame.kind == Kind::Welcome => return Ok(()),
            Ok(Decoded::Partial(_)) if read > 0 => (),
            _ => return Err(LoadError::Greeting),
        }
    }
}

/// Keeps a window of frames on the way on each connection: one write for the window, and the next when all of it is answered. Each of `threads`
/// serves its connections in turn, so that the servers of the others work meanwhile.
///
/// What a request took is the time from the window's write to the read that brought its answer.
pub fn windows(connections: &mut [Connection<'_>], depth: usize, threads: usize, spell: Spell<'_>) -> Result<Turn, LoadError> {
    let each = connections.len().div_ceil(threads.max(1));
    let turns: Vec<Result<Turn, LoadError>> = thread::scope(|scope| {
        let serve = |connections| scope.spawn(move || windows_in_turn(connections, depth, spell));
        let started: Vec<_> = connections.chunks_mut(each).map(serve).collect();
        started.into_iter().map(|thread| thread.join().expect("a thread that does not panic")).collect()
    });
    let mut all = Turn::new();
    let mut per_second = 0.0;
    for turn in turns {
        let turn = turn?;
        per_second += turn.per_second();
        all.answered += turn.answered;
        all.times.add(&turn.times).expect("histograms of the same bounds");
    }
    // The threads end a window apart: what they did together is the sum of their rates.
    all.elapsed = Duration::from_secs_f64(all.answered as f64 / f64::max(per_second, f64::MIN_POSITIVE));
    Ok(all)
}

fn windows_in_turn(connections: &mut [Connection<'_>], depth: usize, spell: Spell<'_>) -> Result<Turn, LoadError> {
    let (counted_from, until) = spell.begin()?;
    let mut turn = Turn::new();
    let depth = connections.iter().map(|connection| connection.script.frames.count()).fold(depth, usize::min);
    let mut sent = vec![Instant::now(); connections.len()];
    for connection in connections.iter_mut() {
        connection.send(depth)?;
    }
    let (mut first, mut last) = (None, Instant::now());
    // The last windows are answered, and not counted: not all connections are at work any more.
    let mut going = true;
    while going {
        going = last < until;
        spell.go_on()?;
        for (connection, sent) in connections.iter_mut().zip(&mut sent) {
            let mut waiting = depth;
            while waiting > 0 {
                let answers = connection.receive()?;
                waiting -= answers;
                last = Instant::now();
                if going && last >= counted_from && first.is_some() {
                    turn.record(last - *sent, answers * connection.script.requests_of_a_frame);
                }
            }
            if going {
                connection.send(depth)?;
                *sent = last;
            }
        }
        if going && last >= counted_from {
            first.get_or_insert(last);
            turn.elapsed = last - first.unwrap_or(last);
        }
    }
    Ok(turn)
}

/// Sends a frame whenever one is due, whether those before are answered or not, on one connection after the other. A request's time counts from
/// when it was due: what waits behind a stall, on either side, shows in the times of all that wait.
pub fn at_rate(connections: &mut [Connection<'_>], per_second: f64, spell: Spell<'_>) -> Result<Turn, LoadError> {
    // The kernel may otherwise wake this thread 50 µs late, to save power. Where that cannot be had, the times are longer, and no less true.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    for connection in connections.iter() {
        connection.stream.set_nonblocking(true)?;
    }
    let mut turn = Turn::new();
    let lanes = connections.len();
    let due_at = |arrival: usize| Duration::from_secs_f64(arrival as f64 / per_second);
    let total = (spell.settling + spell.counted).as_secs_f64() * per_second;
    let total = (total as usize).max(1);
    let mut asked = vec![0; lanes];
    let mut answered = vec![0; lanes];
    let (begun, mut last) = (Instant::now(), Duration::ZERO);
    let mut heard = begun;
    while answered.iter().sum::<usize>() < total {
        spell.go_on()?;
        let now = begun.elapsed();
        let due = ((now.as_secs_f64() * per_second) as usize + 1).min(total);
        for (lane, connection) in connections.iter_mut().enumerate() {
            let of_this_lane = (due + lanes - 1 - lane) / lanes;
            connection.offer(of_this_lane - asked[lane])?;
            asked[lane] = of_this_lane;
        }
        let wait = if due < total { due_at(due).saturating_sub(begun.elapsed()) } else { PATIENCE };
        let readable = readable(connections, wait.min(PATIENCE))?;
        for lane in readable {
            let answers = connections[lane].receive()?;
            let now = begun.elapsed();
            for arrival in (answered[lane]..answered[lane] + answers).map(|count| count * lanes + lane) {
                let due = due_at(arrival);
                if due >= spell.settling {
                    turn.record(now.saturating_sub(due), connections[lane].script.requests_of_a_frame);
                    last = now;
                }
            }
            answered[lane] += answers;
            heard = Instant::now();
        }
        if asked != answered && heard.elapsed() > PATIENCE {
            return Err(LoadError::Silent);
        }
    }
    turn.elapsed = last.saturating_sub(spell.settling);
    Ok(turn)
}

/// Waits until a connection has something to read or takes what it did not take before. Returns those with something to read.
fn readable(connections: &[Connection<'_>], wait: Duration) -> Result<Vec<usize>, LoadError> {
    let interest = |connection: &Connection<'_>| match connection.unsent.is_empty() && connection.owed == 0 {
        true => PollFlags::IN,
        false => PollFlags::IN | PollFlags::OUT,
    };
    let mut polled: Vec<PollFd<'_>> = connections.iter().map(|connection| PollFd::new(&connection.stream, interest(connection))).collect();
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    match poll(&mut polled, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => (),
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let has = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
    Ok(polled.iter().enumerate().filter(|(_, fd)| has(fd)).map(|(lane, _)| lane).collect())
}

/// A read or write that took longer than its timeout says so.
fn quiet(error: io::Error) -> LoadError {
    if error.kind() == io::ErrorKind::WouldBlock { LoadError::Silent } else { LoadError::Io(error) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::bench::script::{Answers, Frames, Taken};

    static GO_ON: AtomicBool = AtomicBool::new(false);

    /// Each frame is a byte and is answered by the same byte.
    struct Bytes;

    impl Answers for Bytes {
        fn check(&self, bytes: &[u8], first: usize) -> Result<Taken, Wrong> {
            let right = bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == (first + at) % 10);
            let wrong = || Wrong { request: first, what: format!("{bytes:?}") };
            right.then_some(Taken { bytes: bytes.len(), answers: bytes.len() }).ok_or_else(wrong)
        }
    }

    /// A server that sends back what it reads, and once, after so many bytes, waits first.
    fn server(socket: &Path, stall_after: usize, stall: Duration) {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut buffer, mut seen) = ([0; 4_096], 0);
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        if seen < stall_after && seen + read >= stall_after {
                            thread::sleep(stall);
                        }
                        seen += read;
                        stream.write_all(&buffer[..read]).unwrap();
                    }
                });
            }
        });
    }

    fn digits() -> Script {
        let mut frames = Frames::new();
        (0..10).for_each(|digit| frames.push(|out| out.push(digit)));
        Script::new(frames, Bytes)
    }

    fn spell(ms: u64) -> Spell<'static> {
        Spell { settling: Duration::from_millis(ms / 5), counted: Duration::from_millis(ms), stop: &GO_ON }
    }

    /// With a closed loop the stall is one slow request; with due times it is every request that was due meanwhile.
    #[test]
    fn a_stall_shows_in_all_that_were_due_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        server(&socket, 300, Duration::from_millis(200));
        let script = digits();
        let mut connection = vec![Connection::open(&socket, Greeting::None, &script, 0).unwrap()];
        let turn = at_rate(&mut connection, 1_000.0, spell(500)).unwrap();
        assert_eq!(turn.answered, 500);
        // 200 of 500 were due while nothing was answered, and waited 100 ms in the mean.
        assert!(turn.times.value_at_quantile(0.75) > 40_000_000, "{}", turn.times.value_at_quantile(0.75));
        assert!(turn.times.max() >= 190_000_000, "{}", turn.times.max());
    }

    #[test]
    fn every_answer_is_counted_once_and_held_against_its_request() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        server(&socket, 0, Duration::ZERO);
        let script = digits();
        let mut connections = open(&socket, Greeting::None, &script, 3).unwrap();
        let turn = windows(&mut connections, 4, 2, spell(50)).unwrap();
        assert_eq!((turn.times.len(), turn.answered % 4), (turn.answered, 0));
        assert!(turn.answered > 100 && turn.elapsed > Duration::from_millis(25), "{} in {:?}", turn.answered, turn.elapsed);
        let one = connections[0].one_at_a_time(spell(20)).unwrap();
        assert_eq!(one.times.len(), one.answered);
        let mut astray = vec![Connection::open(&socket, Greeting::None, &script, 0).unwrap()];
        astray[0].oldest = 1;
        assert!(matches!(windows(&mut astray, 4, 1, spell(20)), Err(LoadError::Wrong(_))));
    }

    #[test]
    fn a_turn_is_broken_off_and_a_server_that_went_away_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        server(&socket, 0, Duration::ZERO);
        let script = digits();
        let mut connection = Connection::open(&socket, Greeting::None, &script, 0).unwrap();
        let stop = AtomicBool::new(true);
        assert!(matches!(connection.one_at_a_time(Spell { stop: &stop, ..spell(20) }), Err(LoadError::Interrupted)));
        connection.stream.shutdown(std::net::Shutdown::Read).unwrap();
        assert!(matches!(connection.one_at_a_time(spell(20)), Err(LoadError::Closed)));
        assert!(Connection::open(&folder.path().join("none"), Greeting::None, &script, 0).is_err());
    }
}
