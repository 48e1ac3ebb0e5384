//! What is asked, encoded beforehand, and what the answers must be.

use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::population::{Draw, Population};
use super::zipf::Zipf;
use crate::key::Verdict;
use crate::protocol::{HEADER_BYTES, Kind, Response, Verify, encode, encode_body};

/// Requests in a batch frame.
pub const BATCH: usize = 64;

/// Request frames, encoded before anything is measured, one behind the other as they go over the wire: to send them, memory is read in order, so
/// that the cache misses of a round trip are the server's.
pub struct Frames {
    bytes: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
}

/// What a server sends back, told apart and checked.
pub trait Answers: Send + Sync {
    /// Takes the whole answers off the beginning of `bytes`. The first one answers the frame of this number, and behind the last frame the first
    /// follows again.
    ///
    /// # Errors
    /// An answer that is not the expected one.
    fn check(&self, bytes: &[u8], first: usize) -> Result<Taken, Wrong>;
}

/// Whole answers at the beginning of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Their bytes.
    pub bytes: usize,
    /// How many.
    pub answers: usize,
}

/// An answer that is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Which request it answers, from 0.
    pub request: usize,
    /// What should have come and what came.
    pub what: String,
}

/// What is sent, and what must come back.
#[derive(Clone)]
pub struct Script {
    pub(super) frames: Arc<Frames>,
    pub(super) answers: Arc<dyn Answers>,
    /// Requests in each frame.
    pub(super) requests_of_a_frame: usize,
}

/// What must come back for one request: the verdict, and the bytes of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    verdict: u8,
    response_bytes: u8,
}

/// Requests, and what the verdicts on them must be.
pub struct Requests {
    asked: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
    expected: Vec<Expected>,
}

impl Frames {
    /// Without a frame.
    pub fn new() -> Frames {
        Frames { bytes: Zeroizing::new(Vec::new()), ends: vec![0] }
    }

    /// Adds the frame that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len() - 1
    }

    /// So many frames from this one on, which must be there.
    pub(super) fn bytes(&self, from: usize, count: usize) -> &[u8] {
        &self.bytes[self.ends[from]..self.ends[from + count]]
    }
}

impl Default for Frames {
    fn default() -> Frames {
        Frames::new()
    }
}

impl Script {
    /// Of frames that have one request each.
    pub fn new(frames: Frames, answers: impl Answers + 'static) -> Script {
        Script { frames: Arc::new(frames), answers: Arc::new(answers), requests_of_a_frame: 1 }
    }

    /// The same frames, answered by the echo.
    pub fn echoed(&self) -> Script {
        Script { answers: Arc::new(Lengths), ..self.clone() }
    }
}

impl Expected {
    /// This verdict, in an answer that names an account of so many bytes (0: no key has the token).
    pub fn new(verdict: Verdict, account_bytes: usize) -> Expected {
        Expected { verdict: verdict as u8, response_bytes: (response_bytes() + account_bytes) as u8 }
    }
}

impl Requests {
    /// Draws so many from the population, each key as likely as another, or by Zipf's law.
    pub fn draw(population: &Population, zipf: Option<&Zipf>, count: usize) -> Requests {
        let mut draw = Draw::new(u64::MAX);
        let mut requests = Requests::none();
        for _ in 0..count {
            let number = match zipf {
                Some(zipf) => zipf.key(&mut draw),
                None => draw.below(population.keys()),
            };
            let asked = population.request_of(number, &mut draw);
            requests.push(&asked.token, &asked.function, asked.address, Expected::new(asked.verdict, asked.account_bytes));
        }
        requests
    }

    /// None yet.
    pub fn none() -> Requests {
        Requests { asked: Zeroizing::new(Vec::new()), ends: vec![0], expected: Vec::new() }
    }

    /// Adds one.
    pub fn push(&mut self, token: &[u8], function: &str, address: Option<IpAddr>, expected: Expected) {
        encode_body(&mut self.asked, &Verify { token, function, address: address.into() });
        self.ends.push(self.asked.len());
        self.expected.push(expected);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.expected.len()
    }

    /// The share that is refused.
    pub fn refused_share(&self) -> f64 {
        self.expected.iter().filter(|expected| expected.verdict != Verdict::Ok as u8).count() as f64 / self.count().max(1) as f64
    }

    /// Mean bytes of a Verify frame.
    pub fn mean_bytes(&self) -> usize {
        HEADER_BYTES + self.asked.len() / self.count().max(1)
    }

    /// Most common bytes of a Verdict frame: what the echo answers.
    pub fn answer_bytes(&self) -> usize {
        let mut counts = [0u32; 256];
        self.expected.iter().for_each(|expected| counts[usize::from(expected.response_bytes)] += 1);
        HEADER_BYTES + (0..256).max_by_key(|&bytes| counts[bytes]).unwrap_or_default()
    }

    /// Most common bytes of a Verdicts frame that answers a whole batch, up to those on tokens of no key.
    pub fn batch_answer_bytes(&self) -> usize {
        HEADER_BYTES + 1 + BATCH.min(self.count()) * (self.answer_bytes() - HEADER_BYTES)
    }

    /// A frame for each.
    pub fn one_by_one(&self) -> Script {
        let mut frames = Frames::new();
        for number in 0..self.count() {
            frames.push(|out| encode(out, Kind::Verify, (number as u64).to_le_bytes(), |out| out.extend_from_slice(self.body(number))));
        }
        Script::new(frames, Verdicts(self.expected.clone()))
    }

    /// Frames of [`BATCH`] each; the last of the requests, which fill none, are left out. Where there are fewer than that, one frame has all.
    pub fn in_batches(&self) -> Script {
        let size = BATCH.min(self.count());
        let mut frames = Frames::new();
        for first in (0..=self.count() - size).step_by(size) {
            let tag = (first as u64).to_le_bytes();
            frames.push(|out| {
                encode(out, Kind::Batch, tag, |out| {
                    out.push(size as u8);
                    (first..first + size).for_each(|number| out.extend_from_slice(self.body(number)));
                });
            });
        }
        let script = Script::new(frames, Batches { size, expected: self.expected.clone() });
        Script { requests_of_a_frame: size, ..script }
    }

    fn body(&self, number: usize) -> &[u8] {
        &self.asked[self.ends[number]..self.ends[number + 1]]
    }
}

/// Bytes of a response that names no account.
fn response_bytes() -> usize {
    let mut body = Vec::new();
    encode_body(&mut body, &Response::of_nobody(Verdict::Ok));
    body.len()
}

/// The frame that the bytes begin with, if it is there to its end: its kind and its body.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    Some((bytes[4], body))
}

/// Each answer of doorward has its verdict and its length.
struct Verdicts(Vec<Expected>);

impl Answers for Verdicts {
    fn check(&self, bytes: &[u8], first: usize) -> Result<Taken, Wrong> {
        let mut taken = Taken { bytes: 0, answers: 0 };
        let mut number = first;
        while let Some((kind, body)) = frame(&bytes[taken.bytes..]) {
            let expected = self.0[number];
            if kind != Kind::Verdict as u8 || body.len() != usize::from(expected.response_bytes) || body[0] != expected.verdict {
                return Err(wrong(number, expected, kind, body));
            }
            taken = Taken { bytes: taken.bytes + HEADER_BYTES + body.len(), answers: taken.answers + 1 };
            number = if number + 1 == self.0.len() { 0 } else { number + 1 };
        }
        Ok(taken)
    }
}

/// The same of each answer in a frame of many.
struct Batches {
    size: usize,
    expected: Vec<Expected>,
}

impl Answers for Batches {
    fn check(&self, bytes: &[u8], first: usize) -> Result<Taken, Wrong> {
        let mut taken = Taken { bytes: 0, answers: 0 };
        let mut number = first;
        while let Some((kind, body)) = frame(&bytes[taken.bytes..]) {
            let expected = &self.expected[number * self.size..][..self.size];
            let mut at = 1;
            for (position, expected) in expected.iter().enumerate() {
                let response = body.get(at..at + usize::from(expected.response_bytes)).unwrap_or_default();
                if kind != Kind::Verdicts as u8 || response.first() != Some(&expected.verdict) {
                    return Err(wrong(number * self.size + position, *expected, kind, response));
                }
                at += response.len();
            }
            if at != body.len() || usize::from(body[0]) != self.size {
                return Err(Wrong { request: number * self.size, what: "a batch's answer of another length".into() });
            }
            taken = Taken { bytes: taken.bytes + HEADER_BYTES + body.len(), answers: taken.answers + 1 };
            number = if (number + 2) * self.size > self.expected.len() { 0 } else { number + 1 };
        }
        Ok(taken)
    }
}

/// Of the echo only the lengths are looked at.
struct Lengths;

impl Answers for Lengths {
    fn check(&self, bytes: &[u8], _: usize) -> Result<Taken, Wrong> {
        let mut taken = Taken { bytes: 0, answers: 0 };
        while let Some((_, body)) = frame(&bytes[taken.bytes..]) {
            taken = Taken { bytes: taken.bytes + HEADER_BYTES + body.len(), answers: taken.answers + 1 };
        }
        Ok(taken)
    }
}

#[cold]
fn wrong(request: usize, expected: Expected, kind: u8, body: &[u8]) -> Wrong {
    let name = |number: u8| Verdict::from_number(number).map_or_else(|| format!("verdict {number}"), |verdict| verdict.to_string());
    let wanted = format!("expected {} in {} bytes", name(expected.verdict), expected.response_bytes);
    let what = match body.first() {
        Some(verdict) if kind == Kind::Verdict as u8 || kind == Kind::Verdicts as u8 => {
            format!("{wanted}, got {} in {}", name(*verdict), body.len())
        }
        _ => format!("{wanted}, got a frame of kind 0x{kind:02x} with {} bytes", body.len()),
    };
    Wrong { request, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::population::COUNTRY_DB;
    use crate::protocol::{Decoded, batch_requests, decode};

    fn answer(verdict: Verdict, account: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, Kind::Verdict, [0; 8], |out| encode_body(out, &Response { account, ..Response::of_nobody(verdict) }));
        out
    }

    fn two() -> Requests {
        let mut requests = Requests::none();
        requests.push(b"a", "f", None, Expected::new(Verdict::Ok, 4));
        requests.push(b"b", "f", None, Expected::new(Verdict::Unknown, 0));
        requests
    }

    #[test]
    fn whole_answers_are_taken_and_others_left() {
        let script = two().one_by_one();
        let bytes = [answer(Verdict::Ok, "acme"), answer(Verdict::Unknown, ""), answer(Verdict::Ok, "acme")].concat();
        let all = script.answers.check(&bytes, 0).unwrap();
        assert_eq!(all, Taken { bytes: bytes.len(), answers: 3 });
        let but_one = script.answers.check(&bytes[..bytes.len() - 1], 0).unwrap();
        assert_eq!(but_one.answers, 2);
    }

    #[test]
    fn a_wrong_verdict_and_a_wrong_length_are_found() {
        let script = two().one_by_one();
        for (bytes, first) in [
            (answer(Verdict::Expired, "acme"), 0),
            (answer(Verdict::Ok, "acm"), 0),
            (answer(Verdict::Ok, "acme"), 1),
            ([answer(Verdict::Ok, "acme"), answer(Verdict::Ok, "acme")].concat(), 0),
        ] {
            assert!(script.answers.check(&bytes, first).is_err());
        }
        let wrong = script.answers.check(&answer(Verdict::Expired, "acme"), 0).unwrap_err();
        assert!(wrong.what.contains("expected ok") && wrong.what.contains("got expired"), "{}", wrong.what);
    }

    #[test]
    fn batches_are_checked_response_by_response() {
        let requests = two();
        let script = requests.in_batches();
        let batch = |verdicts: [(Verdict, &str); 2]| {
            let mut out = Vec::new();
            encode(&mut out, Kind::Verdicts, [0; 8], |out| {
                out.push(2);
                for (verdict, account) in verdicts {
                    encode_body(out, &Response { account, ..Response::of_nobody(verdict) });
                }
            });
            out
        };
        let good = batch([(Verdict::Ok, "acme"), (Verdict::Unknown, "")]);
        assert_eq!(script.answers.check(&good, 0).unwrap(), Taken { bytes: good.len(), answers: 1 });
        assert!(script.answers.check(&batch([(Verdict::Ok, "acme"), (Verdict::Ok, "")]), 0).is_err());
        assert!(script.answers.check(&batch([(Verdict::Unknown, ""), (Verdict::Ok, "acme")]), 0).is_err());
    }

    #[test]
    fn what_is_drawn_is_what_the_protocol_reads() {
        let population = Population::new(500, COUNTRY_DB).unwrap();
        let requests = Requests::draw(&population, Some(&Zipf::new(500, 0.99)), 1_000);
        let script = requests.in_batches();
        assert_eq!((script.frames.count(), script.requests_of_a_frame), (1_000 / BATCH, BATCH));
        let Ok(Decoded::Whole(frame, _)) = decode(script.frames.bytes(0, 1)) else { panic!("a frame") };
        assert_eq!(batch_requests(frame.body).unwrap().count(), BATCH);
        assert!((0.05..0.3).contains(&requests.refused_share()), "{}", requests.refused_share());
    }
}
