//! One connection without its socket: bytes that came in are answered into a buffer. Fuzzed and tested as such.

use arrayvec::ArrayVec;

use crate::key::Instant;
use crate::key::limits::ACCOUNT_BYTES;
use crate::protocol::{
    BATCH_REQUESTS, BodyError, Decoded, ErrorCode, Failure, Frame, HEADER_BYTES, Hello, Kind, MAGIC, MAX_BODY_BYTES, Response, Tag,
    VERSION, Verify, Welcome, batch_requests, decode, decode_body, encode, encode_body,
};
use crate::verify::{Door, ROUND};

/// The most bytes that one call of [`Conversation::advance`] adds to the answers, whatever it is given.
pub const MOST_ANSWER_BYTES: usize = 128 * 1024;
/// With so many bytes of answers no further batch is taken, and no further round.
const FULL_BYTES: usize = 80 * 1024;
/// The answer to one request within a batch.
const RESPONSE_BYTES: usize = Response::FIXED_BYTES + ACCOUNT_BYTES;
/// The longest message of an error, with its header.
const ERROR_BYTES: usize = HEADER_BYTES + 3 + 250;
const _: () = assert!(
    FULL_BYTES + HEADER_BYTES + 1 + BATCH_REQUESTS * RESPONSE_BYTES + ROUND * (HEADER_BYTES + RESPONSE_BYTES) + ERROR_BYTES
        <= MOST_ANSWER_BYTES
);

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
    /// Requests that got a verdict.
    pub requests: usize,
    /// Of these, whose token some key has, whatever the verdict.
    pub known: usize,
    /// Frames that broke the protocol.
    pub errors: usize,
    /// Bytes of these that were read.
    pub refused_bytes: usize,
    /// The connection ends after the answers are written.
    pub closes: bool,
    /// There may be more whole frames, for which the answers have no room: they are to be written first.
    pub is_full: bool,
}

impl Conversation {
    /// A connection that has said nothing yet. `lane` spreads the counting of different connections.
    pub fn new(lane: usize) -> Conversation {
        Conversation { lane, greeted: false }
    }

    /// Whether the handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Answers whole frames in `bytes`, in order, appending to `out`: all of them, or as many as have room in the answers. `now` is asked for the present
    /// moment when requests are answered.
    pub fn advance(&mut self, bytes: &[u8], door: &Door, now: &dyn Fn() -> Instant, out: &mut Vec<u8>) -> Progress {
        let mut progress =
            Progress { used: 0, needed: HEADER_BYTES, requests: 0, known: 0, errors: 0, refused_bytes: 0, closes: false, is_full: false };
        let mut round = Round::default();
        let full = out.len() + FULL_BYTES;
        while !progress.closes && !progress.is_full {
            let outcome = match decode(&bytes[progress.used..]) {
                Ok(Decoded::Whole(frame, length)) => {
                    progress.used += length;
                    let taken = self.take(&frame, &mut round, door, now, out);
                    progress.is_full = out.len() > full;
                    taken.map_err(|(code, message)| {
                        progress.refused_bytes += length;
                        (frame.tag, code, message)
                    })
                }
                Ok(Decoded::Partial(needed)) => {
                    progress.needed = needed;
                    break;
                }
                Err(error) => Err(([0; 8], ErrorCode::BadFrame, error.to_string())),
            };
            if let Err((tag, code, message)) = outcome {
                round.answer(door, now, self.lane, out);
                refuse(out, tag, code, &message);
                progress.errors += 1;
                progress.closes = code.closes();
            }
        }
        round.answer(door, now, self.lane, out);
        Progress { requests: round.answered, known: round.known, ..progress }
    }

    /// Takes one frame: a verify request waits for others of its round, everything else is answered behind them.
    fn take<'b>(
        &mut self,
        frame: &Frame<'b>,
        round: &mut Round<'b>,
        door: &Door,
        now: &dyn Fn() -> Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), (ErrorCode, String)> {
        let bad_request = |error: BodyError| (ErrorCode::BadRequest, error.to_string());
        match (frame.kind, self.greeted) {
            (Kind::Verify, true) => {
                let request = Verify::decode(frame.body).map_err(bad_request)?;
                if round.requests.is_full() {
                    round.answer(door, now, self.lane, out);
                }
                round.requests.push(request);
                round.tags.push(frame.tag);
            }
            (Kind::Batch, true) => {
                let mut requests = batch_requests(frame.body).map_err(bad_request)?;
                round.answer(door, now, self.lane, out);
                encode(out, Kind::Verdicts, frame.tag, |out| {
                    out.push(frame.body[0]);
                    let mut some = ArrayVec::<Verify<'_>, ROUND>::new();
                    loop {
                        some.clear();
                        some.extend(requests.by_ref().take(ROUND));
                        if some.is_empty() {
                            break;
                        }
                        door.verify(&some, now, self.lane, |response| {
                            round.known += usize::from(response.flags & Response::KNOWN);
                            response.encode(out);
                        });
                        round.answered += some.len();
                    }
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

/// Verify requests that arrived together.
#[derive(Default)]
struct Round<'b> {
    requests: ArrayVec<Verify<'b>, ROUND>,
    tags: ArrayVec<Tag, ROUND>,
    /// Requests answered, of this round, those before it and batches.
    answered: usize,
    /// Of these, whose token some key has.
    known: usize,
}

impl Round<'_> {
    /// Appends the answers, and is empty again.
    fn answer(&mut self, door: &Door, now: &dyn Fn() -> Instant, lane: usize, out: &mut Vec<u8>) {
        if self.requests.is_empty() {
            return;
        }
        let (mut tags, mut known) = (self.tags.iter(), 0);
        door.verify(&self.requests, now, lane, |response| {
            known += usize::from(response.flags & Response::KNOWN);
            let tag = tags.next().expect("a tag for each request");
            encode(out, Kind::Verdict, *tag, |out| response.encode(out));
        });
        self.known += known;
        self.answered += self.requests.len();
        self.requests.clear();
        self.tags.clear();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::digest::{Pepper, Peppers, Recogniser};
    use crate::geo::Geo;
    use crate::index::Index;
    use crate::key::{Key, KeyId, Secret, Settings, Verdict};
    use crate::protocol::HEADER_BYTES;
    use crate::usage::Usage;

    /// A door with one key, `token`, that may call everything.
    fn door() -> Door {
        let pepper = Pepper::from_bytes([7; 32]);
        let index = Index::new();
        let created_at = Instant(0);
        let digest = pepper.digest_token(b"token");
        let secrets = vec![Secret { version: 1, digest, pepper: pepper.id(), created_at, retires_at: None, revoked_at: None }];
        let mut settings = Settings::new("acme", "web");
        settings.grants = vec!["*".parse().unwrap()];
        index.publish(&Key { id: KeyId([1; 16]), settings, secrets, created_at, deleted_at: None, revision: 1 }).unwrap();
        index.set_strict(false);
        let peppers = Peppers { current: pepper, previous: None };
        Door {
            index: Arc::new(index),
            peppers,
            recogniser: Recogniser::new(),
            geo: Arc::new(Geo::without_database()),
            usage: Arc::new(Usage::new()),
        }
    }

    fn bytes(hex: &Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn frames(mut out: &[u8]) -> Vec<Frame<'_>> {
        let mut frames = Vec::new();
        while let Ok(Decoded::Whole(frame, length)) = decode(out) {
            frames.push(frame);
            out = &out[length..];
        }
        assert!(out.is_empty());
        frames
    }

    fn greeting() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 9 }));
        bytes
    }

    #[test]
    fn answers_come_in_order_however_the_bytes_arrive() {
        let door = door();
        let mut bytes = greeting();
        for number in 0..50u64 {
            let token: &[u8] = if number % 2 == 0 { b"token" } else { b"other" };
            let request = Verify { token, function: "f", address: crate::protocol::Address::None };
            encode(&mut bytes, Kind::Verify, number.to_le_bytes(), |out| encode_body(out, &request));
        }
        for piece in [1, 7, HEADER_BYTES, 100, bytes.len()] {
            let mut conversation = Conversation::new(0);
            let (mut out, mut waiting) = (Vec::new(), Vec::new());
            let mut seen = (0, 0);
            for arrived in bytes.chunks(piece) {
                waiting.extend_from_slice(arrived);
                let progress = conversation.advance(&waiting, &door, &|| Instant(5), &mut out);
                assert_eq!((progress.errors, progress.closes), (0, false));
                waiting.drain(..progress.used);
                seen = (seen.0 + progress.requests, seen.1 + progress.known);
            }
            assert_eq!(seen, (50, 25), "requests, and those that a key has");
            let frames = frames(&out);
            assert_eq!(frames.len(), 51);
            for (number, frame) in frames[1..].iter().enumerate() {
                let response: Response<'_> = decode_body(frame.body).unwrap();
                let verdict = if number % 2 == 0 { Verdict::Ok } else { Verdict::Malformed };
                assert_eq!((frame.tag, response.verdict()), ((number as u64).to_le_bytes(), Some(verdict)));
            }
        }
    }

    /// 16 KiB, which is one read, of batches of short tokens had answers of 146 KiB (of no key) and up to 430 KiB (of keys with a long account), and the buffer
    /// for them stayed that large: more than what is said of a connection. Thought of while the fuzz target `conversation` was written.
    #[test]
    fn answers_are_bounded_whatever_one_read_brings() {
        let door = door();
        let request = Verify { token: b"", function: "f", address: crate::protocol::Address::None };
        let mut bytes = greeting();
        for number in 0..200u64 {
            encode(&mut bytes, Kind::Batch, number.to_le_bytes(), |out| {
                out.push(BATCH_REQUESTS as u8);
                (0..BATCH_REQUESTS).for_each(|_| encode_body(out, &request));
            });
        }
        let mut conversation = Conversation::new(0);
        let (mut answered, mut turns, mut rest) = (0, 0, &bytes[..]);
        while !rest.is_empty() {
            let mut out = Vec::new();
            let progress = conversation.advance(rest, &door, &|| Instant(5), &mut out);
            assert!(out.len() <= MOST_ANSWER_BYTES, "{} bytes of answers", out.len());
            assert_eq!(progress.is_full, progress.used < rest.len());
            answered += progress.requests;
            rest = &rest[progress.used..];
            turns += 1;
        }
        assert_eq!(answered, 200 * BATCH_REQUESTS);
        assert!(turns > 10, "{turns}");
    }

    #[test]
    fn what_breaks_the_protocol_gets_its_error_and_no_verdict() {
        let vectors: Value = serde_json::from_str(include_str!("../../testdata/protocol/vectors.json")).unwrap();
        let door = door();
        for vector in vectors["invalid"].as_array().unwrap() {
            let bytes = bytes(&vector["hex"]);
            let mut out = Vec::new();
            let progress = Conversation::new(0).advance(&bytes, &door, &|| Instant(5), &mut out);
            let frames = frames(&out);
            let failure: Failure<'_> = decode_body(frames.last().unwrap().body).unwrap();
            let closes = vector["closes"].as_bool().unwrap();
            assert_eq!((u64::from(failure.code), failure.closes == 1), (vector["code"].as_u64().unwrap(), closes), "{}", vector["name"]);
            assert_eq!((progress.errors, progress.closes), (1, closes), "{}", vector["name"]);
            assert_eq!(frames.iter().filter(|frame| frame.kind == Kind::Verdict).count(), 0, "{}", vector["name"]);
        }
        assert_eq!(door.usage.totals().iter().sum::<u64>(), 0, "what is refused is not counted");
    }
}
