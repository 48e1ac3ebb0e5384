//! What doorward is held against: the simplest server there is. A blocking thread for each connection, one read, one write; for each frame that
//! came it sends one of the size of an answer.
//!
//! `doorward bench` has this file by its path and runs it as a process of its own: an installed command has no `benches/` beside it, and a client
//! that looks for what the baseline is finds it here, with the benches.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// Bytes before a frame's body; the first four are the body's length.
const HEADER_BYTES: usize = 16;
/// The longest frame, and more than the requests that a client here has on the way.
const BUFFER_BYTES: usize = 128 * 1024;

/// Serves until the process that started this one closes its standard input, as it does when it ends, however it ends.
///
/// A connection begins with four bytes, little-endian: how long each answer is to be, header and body.
pub(crate) fn serve(socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// Ends when the client does.
fn echo(mut stream: UnixStream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let answer_bytes = (u32::from_le_bytes(length) as usize).clamp(HEADER_BYTES, BUFFER_BYTES);
    let mut answer = vec![0; answer_bytes];
    answer[..4].copy_from_slice(&((answer_bytes - HEADER_BYTES) as u32).to_le_bytes());
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut answers = Vec::with_capacity(BUFFER_BYTES);
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        answers.clear();
        let mut used = 0;
        while let Some(frame) = whole_frame(&buffer[used..filled]) {
            answers.extend_from_slice(&answer);
            used += frame;
        }
        stream.write_all(&answers)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// The bytes of the frame that the buffer begins with, if it is there to its end.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize + HEADER_BYTES;
    (length <= bytes.len()).then_some(length)
}
