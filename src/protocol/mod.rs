//! The binary protocol of the verify socket: bytes in, frames out, no I/O. Specified to the byte in `docs/protocol.md`.

mod frame;
mod message;

pub use frame::{Decoded, Frame, FrameError, HEADER_BYTES, Kind, MAX_BODY_BYTES, Tag, decode, encode};
pub use message::{
    Address, BATCH_REQUESTS, BodyError, ErrorCode, Failure, Hello, MAGIC, Response, VERSION, Verify, Welcome, batch_requests,
    batch_responses, decode_body, encode_body,
};
