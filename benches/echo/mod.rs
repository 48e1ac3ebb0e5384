//! What doorward is held against: the simplest server there is. A blocking thread for each connection, one read, one write; for each frame that
//! came it sends one of the size of an answer.
//!
//! Asked so, it also reads the two neighbouring cache lines that the frame's body hashes to, in as much memory as that takes for all keys: what any server
//! pays to the machine that keeps something of each key. It asks for the memory of all frames that came before it reads the first.
//!
//! `doorward bench` has this file by its path and runs it as a process of its own: an installed command has no `benches/` beside it, and a client
//! that looks for what the baseline is finds it here, with the benches.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use ahash::RandomState;

/// Bytes before a frame's body; the first four are the body's length.
const HEADER_BYTES: usize = 16;
/// The longest frame, and more than the requests that a client here has on the way.
const BUFFER_BYTES: usize = 128 * 1024;

/// What is read for a key.
#[repr(align(128))]
struct Place([u64; 16]);

static MEMORY: OnceLock<Vec<Place>> = OnceLock::new();

/// Serves until the process that started this one closes its standard input, as it does when it ends, however it ends.
///
/// A connection begins with two numbers of four bytes, little-endian: how long each answer is to be, header and body; and for how many keys memory is
/// to be read, or 0 for none. The first that is not 0 holds for all connections.
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
    let mut greeting = [[0; 4]; 2];
    stream.read_exact(greeting.as_flattened_mut())?;
    let [length, keys] = greeting.map(|number| u32::from_le_bytes(number) as usize);
    let answer_bytes = length.clamp(HEADER_BYTES, BUFFER_BYTES);
    let places = if keys == 0 { &[][..] } else { MEMORY.get_or_init(|| places(keys)) };
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut asked = Vec::new();
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
            if !places.is_empty() {
                let hash = hasher.hash_one(&buffer[used + HEADER_BYTES..used + frame]);
                let place = &places[((u128::from(hash) * places.len() as u128) >> 64) as usize];
                fetch(place);
                asked.push((place, answers.len() - 1));
            }
            used += frame;
        }
        // What was read goes into the answer, so that no compiler leaves it out.
        for (place, at) in asked.drain(..) {
            answers[at] = (place.0[0] ^ place.0[8]) as u8;
        }
        stream.write_all(&answers)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// Memory that is written to, so that it is there.
fn places(keys: usize) -> Vec<Place> {
    (0..keys as u64).map(|key| Place([key; 16])).collect()
}

/// Asks for the memory of a place.
fn fetch(place: &Place) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in [&raw const place.0[0], &raw const place.0[8]] {
            // SAFETY: a hint, for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// The bytes of the frame that the buffer begins with, if it is there to its end.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize + HEADER_BYTES;
    (length <= bytes.len()).then_some(length)
}
