use thiserror::Error;

/// Bytes before the body: length (u32, little-endian), kind, three zeros, tag.
pub const HEADER_BYTES: usize = 16;

/// The longest body: a batch of 250 requests, each with the longest token, function and address.
pub const MAX_BODY_BYTES: usize = 1 + 250 * ((1 + 250) + (1 + 128) + (1 + 16));

const _: () = assert!(MAX_BODY_BYTES == 99_251);

/// Eight bytes of the client's own, which the response repeats.
pub type Tag = [u8; 8];

/// What a frame is. Responses have the high bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Client: which versions it speaks. The first frame of a connection.
    Hello = 0x01,
    /// Client: one verify request.
    Verify = 0x02,
    /// Client: 1 to 250 verify requests.
    Batch = 0x03,
    /// Server: which version is spoken from here on.
    Welcome = 0x81,
    /// Server: the answer to a verify request.
    Verdict = 0x82,
    /// Server: the answers to a batch, in its order.
    Verdicts = 0x83,
    /// Server: an error, and whether the connection survives it.
    Error = 0xff,
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        [Kind::Hello, Kind::Verify, Kind::Batch, Kind::Welcome, Kind::Verdict, Kind::Verdicts, Kind::Error]
            .into_iter()
            .find(|&kind| kind as u8 == number)
    }
}

/// A whole frame, in the bytes it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'b> {
    /// What it is.
    pub kind: Kind,
    /// The client's tag.
    pub tag: Tag,
    /// What it says.
    pub body: &'b [u8],
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// A frame, and how many bytes it took.
    Whole(Frame<'b>, usize),
    /// Not a whole frame yet. No error: so many bytes in all are needed, as far as can be told.
    Partial(usize),
}

/// Bytes that are no frame. Where the next frame begins is not known, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A body longer than any may be.
    #[error("the body's length {0} is over the limit of {MAX_BODY_BYTES} bytes")]
    TooLong(u32),
    /// Bytes 5 to 7 are not zero.
    #[error("bytes 5 to 7 of the header must be zero")]
    Reserved,
    /// A kind that this version does not have.
    #[error("0x{0:02x} is not a kind of frame")]
    Kind(u8),
}

/// Reads the frame at the beginning of `bytes`. The header's errors are found as soon as the header is there.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(Decoded::Partial(HEADER_BYTES)) };
    let [l0, l1, l2, l3, kind, r0, r1, r2, tag @ ..] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length as usize > MAX_BODY_BYTES {
        return Err(FrameError::TooLong(length));
    }
    if [r0, r1, r2] != [0; 3] {
        return Err(FrameError::Reserved);
    }
    let kind = Kind::from_number(kind).ok_or(FrameError::Kind(kind))?;
    let length = length as usize;
    match rest.get(..length) {
        Some(body) => Ok(Decoded::Whole(Frame { kind, tag, body }, HEADER_BYTES + length)),
        None => Ok(Decoded::Partial(HEADER_BYTES + length)),
    }
}

/// Appends a frame whose body `write` appends.
pub fn encode(out: &mut Vec<u8>, kind: Kind, tag: Tag, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8, 0, 0, 0]);
    out.extend_from_slice(&tag);
    write(out);
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_its_every_beginning_is_partial() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Verify, *b"12345678", |out| out.extend_from_slice(b"body"));
        assert_eq!(decode(&bytes), Ok(Decoded::Whole(Frame { kind: Kind::Verify, tag: *b"12345678", body: b"body" }, 20)));
        for length in 0..bytes.len() {
            let needed = if length < HEADER_BYTES { HEADER_BYTES } else { 20 };
            assert_eq!(decode(&bytes[..length]), Ok(Decoded::Partial(needed)));
        }
    }

    #[test]
    fn broken_headers_are_errors() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Hello, [0; 8], |_| ());
        let broken = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            decode(&bytes).map(|_| ())
        };
        assert_eq!(broken(3, 1), Err(FrameError::TooLong(1 << 24)));
        assert_eq!(broken(6, 1), Err(FrameError::Reserved));
        assert_eq!(broken(4, 0x42), Err(FrameError::Kind(0x42)));
    }
}
