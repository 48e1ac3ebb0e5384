//! A blocking client of the verify socket, with pipelining. The `doorward` command uses it; `docs/protocol.md` says how to write another.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant as Time};

use thiserror::Error;
use zeroize::Zeroize;

use crate::key::limits::{FUNCTION_BYTES, TOKEN_BYTES};
use crate::key::{Instant, KeyId, Verdict};
use crate::protocol::{
    Decoded, ErrorCode, Failure, Frame, FrameError, Hello, Kind, MAGIC, Response, VERSION, Verify, Welcome, decode, decode_body, encode,
    encode_body,
};

/// A connection with its handshake behind it. Answers come in the order of the requests.
///
/// A connection that ends before all is answered, as at a restart of the daemon, is opened anew, and what has no answer is asked again: whoever waits
/// for an answer then waits longer, for at most [`PATIENCE`] or what [`Client::set_patience`] says, and sees no error. A verify changes nothing but a
/// counter; one whose answer was on its way when the connection ended counts twice.
pub struct Client {
    stream: UnixStream,
    /// Where to connect anew; none over a stream that was given.
    path: Option<PathBuf>,
    patience: Duration,
    timeout: Option<Duration>,
    /// The frames of the requests from the oldest without an answer on, and some that were answered before it.
    outgoing: Vec<u8>,
    /// Where the frame of the oldest request without an answer begins.
    oldest: usize,
    /// Up to where frames were sent over this connection.
    flushed: usize,
    /// The connection takes no more requests: what it still has to say is read, and then there is a new one.
    cut: bool,
    /// The connection has failed, and nothing that may still come over it is an answer to what is asked next.
    failed: bool,
    /// Connections that ended since the last answer.
    lost: u32,
    incoming: Vec<u8>,
    taken: usize,
    sent: u64,
    received: u64,
}

/// How long a client tries to connect anew before it gives up, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Connections in a row that may end without an answer to the same request. More, and it may be the request that ends them.
const LOST: u32 = 5;
/// The first and the longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What the caller presented, at most 250 bytes.
    pub token: &'a [u8],
    /// What it wants to call.
    pub function: &'a str,
    /// Where it calls from.
    pub address: Option<IpAddr>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// Whose token it is.
    pub key: Option<AnsweredKey>,
}

/// What is told of the key that has the token, whatever the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredKey {
    /// Its id.
    pub id: KeyId,
    /// Which of its secrets the token is.
    pub version: u16,
    /// Its account.
    pub account: String,
    /// When it expires.
    pub expires_at: Option<Instant>,
    /// When the secret retires.
    pub retires_at: Option<Instant>,
    /// This secret is being retired: its user should take the new one.
    pub retiring: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("the verify socket: {0}")]
    Io(#[from] io::Error),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server refused a request; after some errors it closes the connection.
    #[error("the server refuses: {message}")]
    Refused {
        /// The number of the error.
        code: u8,
        /// Whether the connection is over.
        closes: bool,
        /// What the server says.
        message: String,
    },
    /// A request that the protocol cannot carry. Nothing was sent.
    #[error("the {0} is longer than the protocol carries")]
    TooLong(&'static str),
    /// The server does not speak this protocol.
    #[error("the server's answer is not of this protocol: {0}")]
    Protocol(String),
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> ClientError {
        ClientError::Protocol(error.to_string())
    }
}

/// How much is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

impl Client {
    /// Connects and shakes hands. Fails at once where nobody listens; a server that stops in the middle of the handshake is waited for.
    ///
    /// # Errors
    /// Nobody listens, the peer may not connect, or the server has no place or another version.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let mut lost = 0;
        loop {
            match Client::over(UnixStream::connect(path)?) {
                Ok(mut client) => {
                    client.path = Some(path.to_owned());
                    return Ok(client);
                }
                Err(error) if error.is_an_end() && lost < LOST => {
                    lost += 1;
                    thread::sleep(PAUSES.0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Shakes hands over a stream that is connected already. When that ends, the client does.
    ///
    /// # Errors
    /// The server has no place or another version.
    pub fn over(stream: UnixStream) -> Result<Client, ClientError> {
        let mut client = Client {
            stream,
            path: None,
            patience: PATIENCE,
            timeout: None,
            outgoing: Vec::new(),
            oldest: 0,
            flushed: 0,
            cut: false,
            failed: false,
            lost: 0,
            incoming: Vec::new(),
            taken: 0,
            sent: 0,
            received: 0,
        };
        client.greet()?;
        Ok(client)
    }

    fn greet(&mut self) -> Result<(), ClientError> {
        let mut hello = Vec::new();
        encode(&mut hello, Kind::Hello, [0; 8], |out| {
            encode_body(out, &Hello { magic: MAGIC, lowest: VERSION, highest: VERSION });
        });
        // Who is turned away is told so at once, perhaps before the Hello is written; what was said is there to be read even then.
        let written = self.stream.write_all(&hello);
        self.fill().map_err(|error| written.err().map_or(error, ClientError::Io))?;
        let frame = self.take()?;
        let welcome: Welcome<'_> = body(&frame, Kind::Welcome)?;
        if welcome.version == VERSION { Ok(()) } else { Err(ClientError::Protocol(format!("version {}", welcome.version))) }
    }

    /// Sets how long to try to connect anew when a connection ends; zero for not at all.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sets how long an answer may take over one connection; none waits for ever. An answer that takes longer is an error, and not asked for again.
    ///
    /// # Errors
    /// A time of zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.timeout = timeout;
        self.stream.set_read_timeout(timeout)?;
        Ok(self.stream.set_write_timeout(timeout)?)
    }

    /// Asks and waits for the answer.
    pub fn verify(&mut self, request: &Request<'_>) -> Result<Answer, ClientError> {
        self.send(request)?;
        self.receive()
    }

    /// Queues a request. It leaves with the next `flush` or `receive`.
    pub fn send(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        if request.token.len() > TOKEN_BYTES {
            return Err(ClientError::TooLong("token"));
        }
        if request.function.len() > FUNCTION_BYTES {
            return Err(ClientError::TooLong("function"));
        }
        let message = Verify { token: request.token, function: request.function, address: request.address.into() };
        encode(&mut self.outgoing, Kind::Verify, self.sent.to_le_bytes(), |out| encode_body(out, &message));
        self.sent += 1;
        Ok(())
    }

    /// Sends what is queued. Where the connection has ended, [`Client::receive`] sends it over a new one.
    ///
    /// # Errors
    /// The socket failed, or the server takes nothing within the time.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        while self.flushed < self.outgoing.len() && !self.cut && !self.failed {
            match self.stream.write(&self.outgoing[self.flushed..]) {
                Ok(written) => self.flushed += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = ClientError::Io(error);
                    if !self.may_connect_anew(&error) {
                        return Err(error);
                    }
                    self.cut = true;
                }
            }
        }
        Ok(())
    }

    /// Requests whose answers were not received yet.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.received
    }

    /// Waits for the answer to the oldest request in flight. With none in flight it fails at once.
    ///
    /// # Errors
    /// The server refused the request ([`ClientError::Refused`]), or there is no answer; after that nothing is in flight any more.
    pub fn receive(&mut self) -> Result<Answer, ClientError> {
        if self.in_flight() == 0 {
            return Err(ClientError::Protocol("no request is in flight".into()));
        }
        if let Err(error) = self.await_answer() {
            self.give_up();
            return Err(error);
        }
        let expected = self.received.to_le_bytes();
        self.received += 1;
        self.lost = 0;
        self.forget_oldest();
        let frame = self.take()?;
        let response: Response<'_> = body(&frame, Kind::Verdict)?;
        if frame.tag != expected {
            return Err(ClientError::Protocol("an answer out of order".into()));
        }
        let verdict = response.verdict().ok_or_else(|| ClientError::Protocol(format!("verdict {}", response.verdict)))?;
        let key = response.key_id().map(|id| AnsweredKey {
            id,
            version: u16::from_le_bytes(response.version),
            account: response.account.to_owned(),
            expires_at: response.expires_at(),
            retires_at: response.retires_at(),
            retiring: response.flags & Response::RETIRING != 0,
        });
        Ok(Answer { verdict, key })
    }

    fn await_answer(&mut self) -> Result<(), ClientError> {
        loop {
            let arrived = if self.failed { Err(ClientError::Closed) } else { self.flush().and_then(|()| self.fill()) };
            match arrived {
                Err(error) if self.may_connect_anew(&error) => self.connect_anew(error)?,
                outcome => return outcome,
            }
        }
    }

    /// After an error nothing is in flight: what still comes is not taken for the answer to another request, which goes over a new connection.
    fn give_up(&mut self) {
        self.outgoing.zeroize();
        (self.oldest, self.flushed, self.received, self.failed) = (0, 0, self.sent, true);
    }

    /// Whether there is reason to try over a new connection: this one has ended, and the server may be back or be another.
    fn may_connect_anew(&self, error: &ClientError) -> bool {
        error.is_an_end() && self.path.is_some() && !self.patience.is_zero() && self.lost < LOST
    }

    /// Opens a new connection, over which all that has no answer is sent again.
    fn connect_anew(&mut self, cause: ClientError) -> Result<(), ClientError> {
        let Some(path) = self.path.clone() else { return Err(cause) };
        self.lost += 1;
        let (until, mut pause) = (Time::now() + self.patience, PAUSES.0);
        loop {
            let error = match self.connect_once(&path) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // A socket that is not there (yet), or where nobody listens (yet), or a server that is just stopping.
            let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            let passes = error.is_an_end() || matches!(&error, ClientError::Io(error) if absent.contains(&error.kind()));
            if !passes || Time::now() + pause >= until {
                return Err(error);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn connect_once(&mut self, path: &Path) -> Result<(), ClientError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(self.timeout)?;
        stream.set_write_timeout(self.timeout)?;
        self.stream = stream;
        self.incoming.clear();
        (self.taken, self.flushed, self.cut) = (0, self.oldest, false);
        self.greet()?;
        self.failed = false;
        Ok(())
    }

    /// The oldest request has its answer: its frame is not needed any more. It holds a token, so it is wiped.
    fn forget_oldest(&mut self) {
        if let Ok(Decoded::Whole(_, length)) = decode(&self.outgoing[self.oldest..]) {
            self.outgoing[self.oldest..self.oldest + length].zeroize();
            self.oldest += length;
        }
        if self.oldest >= READ_BYTES || self.oldest == self.outgoing.len() {
            self.outgoing.drain(..self.oldest);
            self.flushed = self.flushed.saturating_sub(self.oldest);
            self.oldest = 0;
        }
    }

    /// Reads until a whole frame is there.
    fn fill(&mut self) -> Result<(), ClientError> {
        while let Decoded::Partial(_) = decode(&self.incoming[self.taken..])? {
            self.incoming.drain(..self.taken);
            self.taken = 0;
            let filled = self.incoming.len();
            self.incoming.resize(filled + READ_BYTES, 0);
            let outcome = self.stream.read(&mut self.incoming[filled..]);
            self.incoming.truncate(filled + outcome.as_ref().map_or(0, |read| *read));
            match outcome {
                Ok(0) => return Err(ClientError::Closed),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => (),
            }
        }
        Ok(())
    }

    /// The frame that [`Client::fill`] has read.
    fn take(&mut self) -> Result<Frame<'_>, ClientError> {
        match decode(&self.incoming[self.taken..])? {
            Decoded::Whole(frame, length) => {
                self.taken += length;
                Ok(frame)
            }
            Decoded::Partial(_) => Err(ClientError::Closed),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.outgoing.zeroize();
    }
}

/// The body of a frame of this kind; an error frame becomes an error.
fn body<'b, T: bincode::BorrowDecode<'b, ()>>(frame: &Frame<'b>, kind: Kind) -> Result<T, ClientError> {
    if frame.kind == Kind::Error {
        let failure: Failure<'_> = decode_body(frame.body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        return Err(ClientError::Refused { code: failure.code, closes: failure.closes == 1, message: failure.message.to_owned() });
    }
    if frame.kind != kind {
        return Err(ClientError::Protocol(format!("a frame of kind {:?}", frame.kind)));
    }
    decode_body(frame.body).map_err(|error| ClientError::Protocol(error.to_string()))
}

impl ClientError {
    /// Whether the other side has ended the connection.
    fn is_an_end(&self) -> bool {
        match self {
            ClientError::Closed => true,
            ClientError::Io(error) => matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
            _ => false,
        }
    }

    /// Whether the client's user may not ask at all.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == ErrorCode::Forbidden as u8)
    }

    /// Whether the request itself was refused, and the connection goes on.
    pub fn is_bad_request(&self) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == ErrorCode::BadRequest as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;

    use super::*;

    const REQUEST: Request<'_> = Request { token: b"a token", function: "f", address: None };

    /// A server's end of a connection.
    struct End {
        stream: UnixStream,
        bytes: Vec<u8>,
    }

    impl End {
        fn accept(listener: &UnixListener) -> End {
            let mut end = End { stream: listener.accept().unwrap().0, bytes: Vec::new() };
            let tag = end.frame();
            let welcome = Welcome { version: VERSION, batch_requests: 250, max_body_bytes: [0; 4], server: "a test" };
            let mut frame = Vec::new();
            encode(&mut frame, Kind::Welcome, tag, |out| encode_body(out, &welcome));
            end.stream.write_all(&frame).unwrap();
            end
        }

        /// The tag of the next frame.
        fn frame(&mut self) -> [u8; 8] {
            loop {
                if let Ok(Decoded::Whole(frame, length)) = decode(&self.bytes) {
                    let tag = frame.tag;
                    self.bytes.drain(..length);
                    return tag;
                }
                let mut piece = [0; 4_096];
                let read = self.stream.read(&mut piece).unwrap();
                assert!(read > 0, "the client hung up");
                self.bytes.extend_from_slice(&piece[..read]);
            }
        }

        fn answer(&mut self, tag: [u8; 8], verdict: Verdict) {
            let mut frame = Vec::new();
            encode(&mut frame, Kind::Verdict, tag, |out| Response::of_nobody(verdict).encode(out));
            self.stream.write_all(&frame).unwrap();
        }
    }

    /// A listener, what happens on its side, and a client for the other.
    fn with_server<T>(server: impl FnOnce(&UnixListener) + Send, client: impl FnOnce(Client) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| server(&listener));
            client(Client::connect(&path).unwrap())
        })
    }

    /// Only what has no answer is asked again, in its order and with its number.
    #[test]
    fn what_has_no_answer_is_asked_again_over_a_new_connection() {
        let server = |listener: &UnixListener| {
            let mut first = End::accept(listener);
            let tags = [first.frame(), first.frame(), first.frame()];
            first.answer(tags[0], Verdict::Unknown);
            drop(first);
            let mut second = End::accept(listener);
            assert_eq!([second.frame(), second.frame()], tags[1..]);
            second.answer(tags[1], Verdict::Malformed);
            second.answer(tags[2], Verdict::Expired);
        };
        with_server(server, |mut client| {
            (0..3).for_each(|_| client.send(&REQUEST).unwrap());
            let verdicts = [(); 3].map(|()| client.receive().unwrap().verdict);
            assert_eq!(verdicts, [Verdict::Unknown, Verdict::Malformed, Verdict::Expired]);
            assert!(client.outgoing.is_empty() && client.in_flight() == 0);
        });
    }

    /// A request that ends every connection is not sent for ever.
    #[test]
    fn a_request_that_ends_connections_is_given_up() {
        let server = |listener: &UnixListener| {
            for _ in 0..=LOST {
                End::accept(listener).frame();
            }
        };
        with_server(server, |mut client| assert!(client.verify(&REQUEST).is_err()));
    }

    /// The answer to a request that was given up came to the next one.
    #[test]
    fn a_late_answer_is_nobodys() {
        let given_up = Barrier::new(2);
        let answered = Barrier::new(2);
        let server = |listener: &UnixListener| {
            let mut first = End::accept(listener);
            let tag = first.frame();
            given_up.wait();
            first.answer(tag, Verdict::Ok);
            answered.wait();
            let mut second = End::accept(listener);
            let tag = second.frame();
            second.answer(tag, Verdict::Expired);
        };
        with_server(server, |mut client| {
            client.set_timeout(Some(Duration::from_millis(50))).unwrap();
            assert!(matches!(client.verify(&REQUEST), Err(ClientError::Io(_))), "no answer in time");
            given_up.wait();
            answered.wait();
            client.set_timeout(None).unwrap();
            assert_eq!(client.verify(&REQUEST).unwrap().verdict, Verdict::Expired);
        });
    }
}
