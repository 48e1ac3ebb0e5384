//! A blocking client of the verify socket, with pipelining. The `doorward` command uses it; `docs/protocol.md` says how to write another.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::key::limits::{FUNCTION_BYTES, TOKEN_BYTES};
use crate::key::{Instant, KeyId, Verdict};
use crate::protocol::{
    Decoded, ErrorCode, Failure, Frame, FrameError, Hello, Kind, MAGIC, Response, VERSION, Verify, Welcome, decode, decode_body, encode,
    encode_body,
};

/// A connection with its handshake behind it. Answers come in the order of the requests.
pub struct Client {
    stream: UnixStream,
    /// Requests that were not sent yet.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// How much of `incoming` was handed out already.
    taken: usize,
    sent: u64,
    received: u64,
}

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
    /// Connects and shakes hands.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        Client::over(UnixStream::connect(path)?)
    }

    /// Shakes hands over a stream that is connected already.
    pub fn over(stream: UnixStream) -> Result<Client, ClientError> {
        let mut client = Client { stream, outgoing: Vec::new(), incoming: Vec::new(), taken: 0, sent: 0, received: 0 };
        encode(&mut client.outgoing, Kind::Hello, [0; 8], |out| {
            encode_body(out, &Hello { magic: MAGIC, lowest: VERSION, highest: VERSION });
        });
        client.flush()?;
        let frame = client.next_frame()?;
        let welcome: Welcome<'_> = body(&frame, Kind::Welcome)?;
        if welcome.version == VERSION { Ok(client) } else { Err(ClientError::Protocol(format!("version {}", welcome.version))) }
    }

    /// Sets how long an answer may take; none waits for ever.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), ClientError> {
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

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.stream.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }

    /// Requests whose answers were not received yet.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.received
    }

    /// Waits for the answer to the oldest request in flight. With none in flight it fails at once.
    pub fn receive(&mut self) -> Result<Answer, ClientError> {
        if self.in_flight() == 0 {
            return Err(ClientError::Protocol("no request is in flight".into()));
        }
        self.flush()?;
        let expected = self.received.to_le_bytes();
        self.received += 1;
        let frame = self.next_frame()?;
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

    fn next_frame(&mut self) -> Result<Frame<'_>, ClientError> {
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
        match decode(&self.incoming[self.taken..])? {
            Decoded::Whole(frame, length) => {
                self.taken += length;
                Ok(frame)
            }
            Decoded::Partial(_) => Err(ClientError::Closed),
        }
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
    /// Whether the request itself was refused, and the connection goes on.
    pub fn is_bad_request(&self) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == ErrorCode::BadRequest as u8)
    }
}
