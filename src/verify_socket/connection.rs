//! One connection without its socket: bytes that came in are answered into a buffer. Fuzzed and tested as such.

use crate::index::Pin;
use crate::key::Instant;
use crate::protocol::{
    BATCH_REQUESTS, BodyError, Decoded, ErrorCode, Failure, Frame, HEADER_BYTES, Hello, Kind, MAGIC, MAX_BODY_BYTES, Tag, VERSION, Verify,
    Welcome, batch_requests, decode, decode_body, encode, encode_body,
};
use crate::verify::Door;

/// Where a connection stands.
pub struct Conversation {
    lane: usize,
    greeted: bool,
}

/// What became of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes were whole frames, and are answered.
    pub used: usize,
    /// The frame that begins there needs so many bytes in all.
    pub needed: usize,
    /// Frames that broke the protocol.
    pub errors: usize,
    /// The connection ends after the answers are written.
    pub closes: bool,
}

impl Conversation {
    /// A connection that has said nothing yet. `lane` spreads the counting of different connections.
    pub fn new(lane: usize) -> Conversation {
        Conversation { lane, greeted: false }
    }

    /// Answers every whole frame in `bytes`, in order, appending to `out`. All of them are answered as of `now`.
    pub fn advance(&mut self, bytes: &[u8], door: &Door, now: Instant, out: &mut Vec<u8>) -> Progress {
        let pin = door.index.pin();
        let mut progress = Progress { used: 0, needed: HEADER_BYTES, errors: 0, closes: false };
        while !progress.closes {
            let outcome = match decode(&bytes[progress.used..]) {
                Ok(Decoded::Whole(frame, length)) => {
                    progress.used += length;
                    self.answer(&frame, door, now, &pin, out).map_err(|(code, message)| (frame.tag, code, message))
                }
                Ok(Decoded::Partial(needed)) => {
                    progress.needed = needed;
                    break;
                }
                Err(error) => Err(([0; 8], ErrorCode::BadFrame, error.to_string())),
            };
            if let Err((tag, code, message)) = outcome {
                refuse(out, tag, code, &message);
                progress.errors += 1;
                progress.closes = code.closes();
            }
        }
        progress
    }

    fn answer(&mut self, frame: &Frame<'_>, door: &Door, now: Instant, pin: &Pin, out: &mut Vec<u8>) -> Result<(), (ErrorCode, String)> {
        let bad_request = |error: BodyError| (ErrorCode::BadRequest, error.to_string());
        match (frame.kind, self.greeted) {
            (Kind::Verify, true) => {
                let request = Verify::decode(frame.body).map_err(bad_request)?;
                let response = door.verify(&request, now, self.lane, pin);
                encode(out, Kind::Verdict, frame.tag, |out| encode_body(out, &response));
            }
            (Kind::Batch, true) => {
                let requests = batch_requests(frame.body).map_err(bad_request)?;
                encode(out, Kind::Verdicts, frame.tag, |out| {
                    out.push(frame.body[0]);
                    requests.for_each(|request| encode_body(out, &door.verify(&request, now, self.lane, pin)));
                });
            }
            (Kind::Hello, false) => {
                let hello: Hello = decode_body(frame.body).map_err(|error| (ErrorCode::BadHandshake, error.to_string()))?;
                greet(&hello)?;
                self.greeted = true;
                let welcome = Welcome {
                    version: VERSION,
                    batch_requests: BATCH_REQUESTS as u8,
                    max_body_bytes: (MAX_BODY_BYTES as u32).to_le_bytes(),
                    server: concat!("doorward ", env!("CARGO_PKG_VERSION")),
                };
                encode(out, Kind::Welcome, frame.tag, |out| encode_body(out, &welcome));
            }
            (Kind::Hello, true) => return Err((ErrorCode::BadHandshake, "the connection has its handshake behind it".into())),
            (_, false) => return Err((ErrorCode::BadHandshake, "the first frame of a connection is a Hello".into())),
            (_, true) => return Err((ErrorCode::BadFrame, "this kind of frame is the server's to send".into())),
        }
        Ok(())
    }
}

fn greet(hello: &Hello) -> Result<(), (ErrorCode, String)> {
    if hello.magic != MAGIC {
        return Err((ErrorCode::BadHandshake, "a Hello begins with DOORWARD".into()));
    }
    if !(hello.lowest..=hello.highest).contains(&VERSION) {
        let Hello { lowest, highest, .. } = hello;
        return Err((ErrorCode::BadVersion, format!("this server speaks version {VERSION}, the client {lowest} to {highest}")));
    }
    Ok(())
}

/// Appends an error frame.
pub fn refuse(out: &mut Vec<u8>, tag: Tag, code: ErrorCode, message: &str) {
    let failure = Failure { code: code as u8, closes: u8::from(code.closes()), message };
    encode(out, Kind::Error, tag, |out| encode_body(out, &failure));
}
