//! Requests and answers on the wire, timed. The same code asks doorward and the echo server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use doorward::protocol::{HEADER_BYTES, Hello, Kind, MAGIC, VERSION, Verify, encode, encode_body};
use hdrhistogram::Histogram;

use crate::echo::whole_frame;
use crate::population::{Draw, Population};

/// Requests in a run, one after the other as they go over the wire: sending them reads memory in order, so that the cache misses of a round
/// trip are the server's.
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    passes: Vec<bool>,
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Doorward,
    Echo,
}

/// A connection, and how far it has come through the requests.
pub(crate) struct Connection<'r> {
    server: Server,
    stream: UnixStream,
    requests: &'r Requests,
    next: usize,
    buffer: Vec<u8>,
    filled: usize,
}

impl Requests {
    pub(crate) fn draw(population: &Population, count: usize) -> Requests {
        let mut draw = Draw::new(u64::MAX);
        let mut requests = Requests { bytes: Vec::new(), ends: vec![0], passes: Vec::with_capacity(count) };
        for number in 0..count as u64 {
            let asked = population.request(&mut draw);
            let verify = Verify { token: &asked.token, function: &asked.function, address: asked.address.into() };
            encode(&mut requests.bytes, Kind::Verify, number.to_le_bytes(), |out| encode_body(out, &verify));
            requests.ends.push(requests.bytes.len());
            requests.passes.push(asked.passes);
        }
        requests
    }

    pub(crate) fn mean_bytes(&self) -> usize {
        self.bytes.len() / self.passes.len()
    }

    pub(crate) fn refused_share(&self) -> f64 {
        self.passes.iter().filter(|passes| !**passes).count() as f64 / self.passes.len() as f64
    }

    fn frames(&self, from: usize, count: usize) -> &[u8] {
        &self.bytes[self.ends[from]..self.ends[from + count]]
    }
}

impl<'r> Connection<'r> {
    /// Connects, and begins at a place of its own among the requests.
    pub(crate) fn open(server: Server, socket: &Path, requests: &'r Requests, next: usize) -> Connection<'r> {
        let mut stream = UnixStream::connect(socket).expect("the server listens");
        let mut buffer = vec![0; 64 * 1024];
        if server == Server::Doorward {
            let mut hello = Vec::new();
            encode(&mut hello, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: VERSION, highest: VERSION }));
            stream.write_all(&hello).expect("the server reads");
            let read = stream.read(&mut buffer).expect("the server answers");
            assert_eq!(buffer[4], Kind::Welcome as u8);
            assert_eq!(whole_frame(&buffer[..read]), Some(read));
        }
        Connection { server, stream, requests, next: next % requests.passes.len(), buffer, filled: 0 }
    }

    /// Round trips one at a time, for so long. In nanoseconds.
    pub(crate) fn one_at_a_time(&mut self, time: Duration) -> Histogram<u64> {
        let mut times = Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds of a histogram");
        let begun = Instant::now();
        loop {
            let sent = Instant::now();
            self.send(1);
            while self.receive(self.next - 1) == 0 {}
            let answered = Instant::now();
            times.saturating_record((answered - sent).as_nanos() as u64);
            if answered - begun > time {
                return times;
            }
        }
    }

    /// Keeps `depth` requests on the way, for so long. Returns how many were answered.
    fn pipelined(&mut self, depth: usize, time: Duration) -> u64 {
        let begun = Instant::now();
        let (mut answered, mut oldest, mut in_flight) = (0, self.next, 0);
        loop {
            // Requests that a batch in order cannot reach over the end of are sent in the next turn.
            let room = (depth - in_flight).min(self.requests.passes.len() - self.next);
            if room > 0 && begun.elapsed() < time {
                self.send(room);
                in_flight += room;
            }
            if in_flight == 0 {
                return answered;
            }
            let received = self.receive(oldest);
            in_flight -= received;
            answered += received as u64;
            oldest += received;
            if in_flight == 0 && self.next == self.requests.passes.len() {
                (self.next, oldest) = (0, 0);
            }
        }
    }

    fn send(&mut self, count: usize) {
        if self.next + count > self.requests.passes.len() {
            self.next = 0;
        }
        self.stream.write_all(self.requests.frames(self.next, count)).expect("the server reads");
        self.next += count;
    }

    /// Reads once, and returns how many whole answers came. The first is the answer to request `oldest`.
    fn receive(&mut self, oldest: usize) -> usize {
        let read = self.stream.read(&mut self.buffer[self.filled..]).expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        self.filled += read;
        let (mut used, mut answers) = (0, 0);
        while let Some(length) = whole_frame(&self.buffer[used..self.filled]) {
            if self.server == Server::Doorward {
                let passed = self.buffer[used + 4] == Kind::Verdict as u8 && self.buffer[used + HEADER_BYTES] == 0;
                assert_eq!(passed, self.requests.passes[oldest + answers], "the verdict on request {}", oldest + answers);
            }
            used += length;
            answers += 1;
        }
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        answers
    }
}

/// Answers a second over many connections, each with `depth` requests on the way.
pub(crate) fn throughput(server: Server, socket: &Path, requests: &Requests, connections: usize, depth: usize, time: Duration) -> f64 {
    let total: u64 = thread::scope(|scope| {
        let apart = requests.passes.len() / connections;
        let open = |number| Connection::open(server, socket, requests, number * apart);
        let opened: Vec<_> = (0..connections).map(open).collect();
        let threads: Vec<_> = opened.into_iter().map(|mut connection| scope.spawn(move || connection.pipelined(depth, time))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client thread")).sum()
    });
    total as f64 / time.as_secs_f64()
}
