//! As much of RESP, the protocol of Redis, as is needed to ask it as cheaply as doorward is asked.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use doorward::bench::script::{Answers, Taken, Wrong};

/// Commands on the way while the keys are loaded.
const WINDOW: usize = 1_000;

/// Appends a command.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A connection to load keys over.
pub(crate) struct Loader {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
    waiting: usize,
}

impl Loader {
    pub(crate) fn connect(socket: &Path) -> io::Result<Loader> {
        let stream = UnixStream::connect(socket)?;
        let writer = BufWriter::with_capacity(1 << 16, stream.try_clone()?);
        Ok(Loader { reader: BufReader::with_capacity(1 << 16, stream), writer, waiting: 0 })
    }

    /// Sends a command whose answer only matters if it is an error.
    pub(crate) fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        command(&mut bytes, words);
        self.writer.write_all(&bytes)?;
        self.waiting += 1;
        if self.waiting == WINDOW { self.settle() } else { Ok(()) }
    }

    /// Waits for the answers to all that was sent.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        for _ in 0..std::mem::take(&mut self.waiting) {
            self.line()?;
        }
        Ok(())
    }

    /// Asks for one text.
    pub(crate) fn text(&mut self, words: &[&[u8]]) -> io::Result<Vec<u8>> {
        self.settle()?;
        self.send(words)?;
        self.writer.flush()?;
        self.waiting = 0;
        let length: usize = self.line()?[1..].parse().map_err(io::Error::other)?;
        let mut text = vec![0; length + 2];
        self.reader.read_exact(&mut text)?;
        text.truncate(length);
        Ok(text)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        io::BufRead::read_line(&mut self.reader, &mut line)?;
        match line.as_bytes().first() {
            Some(b'-') => Err(io::Error::other(format!("redis-server says {}", line.trim_end()))),
            Some(_) => Ok(line.trim_end().to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Answers that are known to the byte.
pub(crate) struct Exactly {
    answers: Vec<&'static [u8]>,
}

impl Exactly {
    pub(crate) fn new(answers: Vec<&'static [u8]>) -> Exactly {
        Exactly { answers }
    }
}

impl Answers for Exactly {
    fn check(&self, bytes: &[u8], first: usize) -> Result<Taken, Wrong> {
        let mut taken = Taken { bytes: 0, answers: 0 };
        let mut number = first;
        while taken.bytes < bytes.len() {
            let (rest, expected) = (&bytes[taken.bytes..], self.answers[number]);
            if !rest.starts_with(expected) {
                if expected.starts_with(rest) {
                    break;
                }
                let what =
                    format!("expected {:?}, got {:?}", expected.escape_ascii().to_string(), rest[..rest.len().min(80)].escape_ascii());
                return Err(Wrong { request: number, what });
            }
            taken = Taken { bytes: taken.bytes + expected.len(), answers: taken.answers + 1 };
            number = if number + 1 == self.answers.len() { 0 } else { number + 1 };
        }
        Ok(taken)
    }
}
