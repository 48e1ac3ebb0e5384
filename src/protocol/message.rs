use std::net::IpAddr;

use bincode::config::{Config, standard};
use bincode::{BorrowDecode, Encode};
use thiserror::Error;

use crate::key::limits::{ACCOUNT_BYTES, FUNCTION_BYTES, TOKEN_BYTES};
use crate::key::{FunctionName, Instant, KeyId, Verdict, canonical};

/// The one version of the protocol that this daemon and this client speak.
pub const VERSION: u8 = 1;
/// The first bytes of a Hello, so that a client of another protocol is told apart at once.
pub const MAGIC: [u8; 8] = *b"DOORWARD";
/// The most requests in a batch: the count is a single byte, and no length is over 250.
pub const BATCH_REQUESTS: usize = 250;

// An account is a short text of the protocol, whose length is one byte.
const _: () = assert!(ACCOUNT_BYTES <= 250);

/// Client: the versions it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The lowest version.
    pub lowest: u8,
    /// The highest version.
    pub highest: u8,
}

/// Server: the version from here on, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Welcome<'b> {
    /// The highest version that both speak.
    pub version: u8,
    /// The most requests in a batch.
    pub batch_requests: u8,
    /// The longest body in bytes, a little-endian u32.
    pub max_body_bytes: [u8; 4],
    /// The server's name and version, for people.
    pub server: &'b str,
}

/// One verify request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Verify<'b> {
    /// What the caller presented: 0 to 250 bytes of any kind.
    pub token: &'b [u8],
    /// What it wants to call: 1 to 128 bytes of a function name's grammar.
    pub function: &'b str,
    /// Where it calls from.
    pub address: Address,
}

/// A caller's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Address {
    /// None is named.
    None,
    /// IPv4, in network order.
    V4([u8; 4]),
    /// IPv6, in network order.
    V6([u8; 16]),
}

/// The answer to one verify request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Response<'b> {
    /// The verdict's number.
    pub verdict: u8,
    /// Bit 0: a key has this token, and the fields that follow are its. Bit 1: this secret is being retired.
    pub flags: u8,
    /// Which version of the key's secret, a little-endian u16.
    pub version: [u8; 2],
    /// The key's id.
    pub key_id: [u8; 16],
    /// When the key expires, little-endian milliseconds since 1970; 0 for never.
    pub expires_at: [u8; 8],
    /// When this secret retires, little-endian milliseconds since 1970; 0 for never.
    pub retires_at: [u8; 8],
    /// The key's account.
    pub account: &'b str,
}

/// Server: what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Failure<'b> {
    /// The number of an [`ErrorCode`].
    pub code: u8,
    /// 1 if the server closes the connection after this frame, else 0.
    pub closes: u8,
    /// What went wrong and what to do, for people.
    pub message: &'b str,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// The bytes are not a frame. The connection ends.
    BadFrame = 1,
    /// The first frame is not a Hello, or a later one is. The connection ends.
    BadHandshake = 2,
    /// No version that both speak. The connection ends.
    BadVersion = 3,
    /// The frame is whole, its body is not what it should be. The connection goes on.
    BadRequest = 4,
    /// There are too many connections. The connection ends.
    Busy = 5,
    /// The client's user may not ask. The connection ends.
    Forbidden = 6,
}

impl ErrorCode {
    /// Whether the server closes the connection after it.
    pub fn closes(self) -> bool {
        self != ErrorCode::BadRequest
    }
}

/// A body that is not what its frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Too short, too long, or a length or number in it is out of bounds.
    #[error("the body is not laid out as this kind of frame is")]
    Layout,
    /// A function's name outside the grammar.
    #[error("request {0} names a function that is not 1 to {FUNCTION_BYTES} of A-Z a-z 0-9 . _ : / -")]
    Function(usize),
    /// An empty batch or one that is too large.
    #[error("a batch holds 1 to {BATCH_REQUESTS} requests, this one {0}")]
    Count(u8),
}

impl Response<'_> {
    /// A key has this token.
    pub const KNOWN: u8 = 1;
    /// This secret is being retired.
    pub const RETIRING: u8 = 2;
    /// Bytes of an answer before the account.
    pub const FIXED_BYTES: usize = 37;

    /// The answer for a token that no key has.
    pub fn of_nobody(verdict: Verdict) -> Response<'static> {
        let verdict = verdict as u8;
        Response { verdict, flags: 0, version: [0; 2], key_id: [0; 16], expires_at: [0; 8], retires_at: [0; 8], account: "" }
    }

    /// The verdict, if this version has it.
    pub fn verdict(&self) -> Option<Verdict> {
        Verdict::from_number(self.verdict)
    }

    /// The key's id, if a key has the token.
    pub fn key_id(&self) -> Option<KeyId> {
        (self.flags & Self::KNOWN != 0).then_some(KeyId(self.key_id))
    }

    /// When the key expires.
    pub fn expires_at(&self) -> Option<Instant> {
        instant(self.expires_at)
    }

    /// When this secret retires.
    pub fn retires_at(&self) -> Option<Instant> {
        instant(self.retires_at)
    }
}

fn instant(ms: [u8; 8]) -> Option<Instant> {
    Some(Instant(i64::from_le_bytes(ms))).filter(|instant| instant.0 != 0)
}

impl Address {
    /// The canonical address.
    #[inline(always)]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Address::None => None,
            Address::V4(octets) => Some(IpAddr::from(octets)),
            Address::V6(octets) => Some(canonical(IpAddr::from(octets))),
        }
    }
}

impl From<Option<IpAddr>> for Address {
    fn from(address: Option<IpAddr>) -> Address {
        match address {
            None => Address::None,
            Some(IpAddr::V4(v4)) => Address::V4(v4.octets()),
            Some(IpAddr::V6(v6)) => Address::V6(v6.octets()),
        }
    }
}

fn config() -> impl Config {
    standard().with_limit::<{ super::MAX_BODY_BYTES }>()
}

/// Reads a body that is one message and nothing else.
pub fn decode_body<'b, T: BorrowDecode<'b, ()>>(body: &'b [u8]) -> Result<T, BodyError> {
    match bincode::borrow_decode_from_slice(body, config()) {
        Ok((message, used)) if used == body.len() => Ok(message),
        _ => Err(BodyError::Layout),
    }
}

/// Appends a message. Every message of this module can be encoded, so there is nothing to fail.
pub fn encode_body<T: Encode>(out: &mut Vec<u8>, message: &T) {
    let written = bincode::encode_into_std_write(message, out, config());
    debug_assert!(written.is_ok(), "a message of this module is within the limit");
}

/// Reads one request at the beginning of `bytes`, and how many bytes it took: what bincode reads there, but for longer forms of a length, by
/// hand, because every request comes through here.
fn request(bytes: &[u8], number: usize) -> Result<(Verify<'_>, usize), BodyError> {
    let (token, rest) = short_bytes(bytes)?;
    let (function, rest) = short_bytes(rest)?;
    let (address, rest) = match *rest {
        [0, ref rest @ ..] => (Address::None, rest),
        [1, a, b, c, d, ref rest @ ..] => (Address::V4([a, b, c, d]), rest),
        [2, ref rest @ ..] => {
            let (octets, rest) = rest.split_first_chunk().ok_or(BodyError::Layout)?;
            (Address::V6(*octets), rest)
        }
        _ => return Err(BodyError::Layout),
    };
    if !FunctionName::is_valid(function) {
        return Err(if str::from_utf8(function).is_ok() { BodyError::Function(number) } else { BodyError::Layout });
    }
    // SAFETY: the grammar of names has ASCII only.
    let function = unsafe { str::from_utf8_unchecked(function) };
    Ok((Verify { token, function, address }, bytes.len() - rest.len()))
}

/// Bytes behind their length, and what comes after.
fn short_bytes(bytes: &[u8]) -> Result<(&[u8], &[u8]), BodyError> {
    let (&length, rest) = bytes.split_first().ok_or(BodyError::Layout)?;
    if usize::from(length) > TOKEN_BYTES {
        return Err(BodyError::Layout);
    }
    rest.split_at_checked(usize::from(length)).ok_or(BodyError::Layout)
}

impl<'b> Verify<'b> {
    /// Reads the body of a verify frame.
    pub fn decode(body: &'b [u8]) -> Result<Verify<'b>, BodyError> {
        let (request, used) = request(body, 1)?;
        if used == body.len() { Ok(request) } else { Err(BodyError::Layout) }
    }
}

impl Response<'_> {
    /// Appends the body, as [`encode_body`] would.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Written where it stays. Put together elsewhere, field by field, it would be copied in larger pieces, and such a read waits until the caches have every write before it.
        out.extend_from_slice(&[0; Response::FIXED_BYTES]);
        let body: &mut [u8; Response::FIXED_BYTES] = out.last_chunk_mut().expect("as many were just appended");
        body[0] = self.verdict;
        body[1] = self.flags;
        body[2..4].copy_from_slice(&self.version);
        body[4..20].copy_from_slice(&self.key_id);
        body[20..28].copy_from_slice(&self.expires_at);
        body[28..36].copy_from_slice(&self.retires_at);
        body[36] = self.account.len() as u8;
        out.extend_from_slice(self.account.as_bytes());
    }
}

/// Reads the body of a batch: the whole of it is checked before the first request is handed out.
pub fn batch_requests(body: &[u8]) -> Result<impl Iterator<Item = Verify<'_>>, BodyError> {
    let (&count, requests) = body.split_first().ok_or(BodyError::Layout)?;
    if count == 0 || usize::from(count) > BATCH_REQUESTS {
        return Err(BodyError::Count(count));
    }
    let mut rest = requests;
    for number in 1..=usize::from(count) {
        rest = &rest[request(rest, number)?.1..];
    }
    if !rest.is_empty() {
        return Err(BodyError::Layout);
    }
    let mut rest = requests;
    Ok((1..=usize::from(count)).map_while(move |number| {
        let (request, used) = request(rest, number).ok()?;
        rest = &rest[used..];
        Some(request)
    }))
}

/// Reads the body of the answer to a batch.
pub fn batch_responses(body: &[u8]) -> Result<Vec<Response<'_>>, BodyError> {
    let (&count, mut rest) = body.split_first().ok_or(BodyError::Layout)?;
    let mut responses = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (response, used) = bincode::borrow_decode_from_slice(rest, config()).map_err(|_| BodyError::Layout)?;
        responses.push(response);
        rest = &rest[used..];
    }
    if rest.is_empty() { Ok(responses) } else { Err(BodyError::Layout) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(request: &Verify<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        encode_body(&mut body, request);
        body
    }

    #[test]
    fn a_longer_form_of_a_length_is_refused() {
        let body = encoded(&Verify { token: b"abcde", function: "f", address: Address::None });
        assert_eq!(body, b"\x05abcde\x01f\x00");
        assert_eq!(Verify::decode(b"\xfb\x05\x00abcde\x01f\x00"), Err(BodyError::Layout));
        assert_eq!(Verify::decode(b"\x05abcde\x01f\xfb\x00\x00"), Err(BodyError::Layout));
        assert_eq!(Verify::decode(b"\x05abcde\x01f\x00\x00"), Err(BodyError::Layout));
        assert_eq!(Verify::decode(b"\xfc\xff\xff\xff\xffabcde"), Err(BodyError::Layout));
        assert_eq!(Verify::decode(b"\x05abcde\x01f\x03"), Err(BodyError::Layout));
        assert_eq!(Verify::decode(b"\x05abcde\x01 \x00"), Err(BodyError::Function(1)));
    }

    #[test]
    fn a_batch_is_checked_as_a_whole() {
        let one = encoded(&Verify { token: b"t", function: "f", address: Address::V4([1, 2, 3, 4]) });
        let batch = |count: u8, requests: &[&[u8]]| [&[count], requests.concat().as_slice()].concat();
        assert_eq!(batch_requests(&batch(2, &[&one, &one])).map(Iterator::count), Ok(2));
        let broken =
            [batch(0, &[]), batch(251, &[&one]), batch(2, &[&one]), batch(1, &[&one, &one]), batch(2, &[&one, b"\x01t\x01 \x00"]), vec![]];
        let errors = broken.iter().map(|body| batch_requests(body).map(|_| ()).unwrap_err());
        let expected =
            [BodyError::Count(0), BodyError::Count(251), BodyError::Layout, BodyError::Layout, BodyError::Function(2), BodyError::Layout];
        assert!(errors.eq(expected));
    }

    proptest! {
        #[test]
        fn a_request_reads_back(token in proptest::collection::vec(any::<u8>(), 0..=250), function in "[A-Za-z0-9._:/-]{1,128}", ip in any::<Option<IpAddr>>()) {
            let request = Verify { token: &token, function: &function, address: ip.into() };
            let body = encoded(&request);
            prop_assert_eq!(Verify::decode(&body), Ok(request));
            prop_assert_eq!(decode_body::<Verify<'_>>(&body), Ok(request));
        }

        #[test]
        fn an_answer_is_written_as_bincode_would(fixed: [u8; 36], account in ".{0,25}") {
            let part = |from: usize| std::array::from_fn(|i| fixed[from + i]);
            let [verdict, flags, v0, v1, ..] = fixed;
            let (expires_at, retires_at) = (std::array::from_fn(|i| fixed[20 + i]), std::array::from_fn(|i| fixed[28 + i]));
            let response = Response { verdict, flags, version: [v0, v1], key_id: part(4), expires_at, retires_at, account: &account };
            let (mut by_hand, mut by_bincode) = (Vec::new(), Vec::new());
            response.encode(&mut by_hand);
            encode_body(&mut by_bincode, &response);
            prop_assert_eq!(by_hand, by_bincode);
        }

        #[test]
        fn what_is_accepted_has_one_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(request) = Verify::decode(&bytes) {
                prop_assert_eq!(encoded(&request), bytes);
            }
        }
    }
}
