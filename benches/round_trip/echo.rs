//! What doorward is held against: the simplest server there is, a blocking thread for each connection, which sends for each frame that it
//! reads as many bytes as a verdict has.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use doorward::protocol::HEADER_BYTES;

/// The argument that makes this program the echo server.
pub(crate) const ECHO: &str = "--serve-echo";

/// The server, in a process of its own as doorward is, so that both pay for the same change of address space.
pub(crate) struct Echo(Child);

impl Echo {
    pub(crate) fn start(socket: &Path, answer_bytes: usize) -> Echo {
        let program = std::env::current_exe().expect("this program");
        let arguments = [ECHO.as_ref(), socket.as_os_str(), answer_bytes.to_string().as_ref()].map(std::ffi::OsStr::to_owned);
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn().expect("the echo server starts");
        while UnixStream::connect(socket).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        Echo(child)
    }

    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Never returns.
pub(crate) fn serve(socket: &Path, answer_bytes: usize) {
    let listener = UnixListener::bind(socket).expect("the echo socket");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || echo(stream, answer_bytes));
    }
}

fn echo(mut stream: UnixStream, answer_bytes: usize) {
    let mut buffer = vec![0; 16 * 1024];
    let mut answers = Vec::with_capacity(16 * 1024);
    let mut filled = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += read;
        answers.clear();
        let mut used = 0;
        while let Some(frame) = whole_frame(&buffer[used..filled]) {
            let answer = answers.len();
            answers.extend_from_slice(&buffer[used..used + answer_bytes]);
            answers[answer..answer + 4].copy_from_slice(&((answer_bytes - HEADER_BYTES) as u32).to_le_bytes());
            used += frame;
        }
        if stream.write_all(&answers).is_err() {
            return;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// The bytes of the frame that the buffer begins with, if it is there to its end.
pub(crate) fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize + HEADER_BYTES;
    (length <= bytes.len()).then_some(length)
}
