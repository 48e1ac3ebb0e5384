use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::population::Population;

/// A function that is granted and taken back. No request asks for it, so that every verdict stays what it was, while the key's record is written,
/// compiled and published anew with each change.
pub(super) const FUNCTION: &str = "bench.spare";

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Admin clients that change keys of the population while something else is measured.
pub(super) struct Changes<'p> {
    socket: PathBuf,
    population: &'p Population,
    per_second: f64,
    /// How many changes each client has made so far.
    made: Vec<u64>,
}

/// What the admin clients did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) changes: u64,
    pub(super) seconds: f64,
}

/// Why keys cannot be changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The admin socket failed.
    #[error("the admin socket: {0}")]
    Io(#[from] io::Error),
    /// The daemon refused a change.
    #[error("a change was refused: {0}")]
    Refused(String),
}

impl<'p> Changes<'p> {
    pub(super) fn new(admin_socket: &Path, population: &'p Population, clients: u64, per_second: f64) -> Changes<'p> {
        let clients = clients.min(population.keys()) as usize;
        Changes { socket: admin_socket.to_owned(), population, per_second, made: vec![0; clients] }
    }

    /// Changes keys, so many a second over all clients, until `work` is done.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> T) -> (T, Result<Tally, ChangeError>) {
        let done = AtomicBool::new(false);
        let clients = self.made.len() as u64;
        let begun = Instant::now();
        let before: u64 = self.made.iter().sum();
        let (socket, population, per_second) = (&self.socket, self.population, self.per_second);
        let (outcome, results) = thread::scope(|scope| {
            let threads: Vec<_> = self
                .made
                .iter_mut()
                .enumerate()
                .map(|(number, made)| {
                    let client = Client { socket, population, number: number as u64, clients, per_second, done: &done };
                    scope.spawn(move || client.change(made))
                })
                .collect();
            let outcome = work();
            done.store(true, Ordering::Relaxed);
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a thread that does not panic")).collect();
            (outcome, results)
        });
        let seconds = begun.elapsed().as_secs_f64();
        let changes = self.made.iter().sum::<u64>() - before;
        (outcome, results.into_iter().collect::<Result<(), _>>().map(|()| Tally { changes, seconds }))
    }
}

/// One admin client, which has every so manieth key to itself.
struct Client<'a> {
    socket: &'a Path,
    population: &'a Population,
    number: u64,
    clients: u64,
    per_second: f64,
    done: &'a AtomicBool,
}

impl Client<'_> {
    fn change(&self, made: &mut u64) -> Result<(), ChangeError> {
        let pause = self.clients as f64 / self.per_second;
        let begun = Instant::now();
        let mut answer = Vec::new();
        // Connected when there is something to ask: connections that come to nothing are held to a rate.
        let mut connected = None;
        for turn in 0u64.. {
            let due = (turn as f64 + self.number as f64 / self.clients as f64) * pause;
            thread::sleep(Duration::from_secs_f64(due).saturating_sub(begun.elapsed()));
            if self.done.load(Ordering::Relaxed) {
                break;
            }
            let stream = match &mut connected {
                Some(stream) => stream,
                None => connected.insert(self.connect()?),
            };
            stream.write_all(self.request(*made).as_bytes())?;
            read_answer(stream, &mut answer)?;
            *made += 1;
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// All keys of this client are given the grant, then it is taken from all, and so on.
    fn request(&self, made: u64) -> String {
        let keys = (self.population.keys() - self.number).div_ceil(self.clients);
        let (account, name) = Population::name(self.number + made % keys * self.clients);
        let verb = if (made / keys).is_multiple_of(2) { "add_grants" } else { "remove_grants" };
        let body = format!("{{\"{verb}\":[\"{FUNCTION}\"]}}");
        format!("PATCH /v1/keys/{account}%2F{name} HTTP/1.1\r\nHost: doorward\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// Reads one answer, and insists that the change was made.
fn read_answer(stream: &mut UnixStream, answer: &mut Vec<u8>) -> Result<(), ChangeError> {
    answer.clear();
    let mut chunk = [0; 4_096];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        answer.extend_from_slice(&chunk[..read]);
        let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if answer.len() >= head + 4 + length.unwrap_or_default() {
            return match text.starts_with("http/1.1 200") {
                true => Ok(()),
                false => Err(ChangeError::Refused(String::from_utf8_lossy(&answer[head + 4..]).into_owned())),
            };
        }
    }
}
