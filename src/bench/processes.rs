//! The processes that are measured: a daemon on a temporary folder, and the echo.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::population::{COUNTRY_DB, Population};
use super::{BenchError, Progress, changes};
use crate::admin::wire::KeyLine;
use crate::digest::token_sha256;

/// How often a child process is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// Keys after which progress is told.
const TELL_KEYS: u64 = 1 << 12;

/// A temporary folder with a store, sockets and a country database. It is removed at the end.
pub struct Home {
    folder: TempDir,
    program: PathBuf,
    country_db: Vec<u8>,
}

/// A daemon that runs.
pub struct Daemon {
    child: Running,
    home: PathBuf,
    /// From its start to its line `ready`.
    pub until_ready: Duration,
}

/// The echo that runs, in a process of its own as doorward is, so that both pay for the same change of address space.
pub struct Echo(Running);

/// A child process that does not outlive this value.
struct Running(Child);

impl Home {
    /// Makes the folder. `program` is the doorward to run.
    ///
    /// # Errors
    /// No room, or a country database that cannot be read.
    pub fn make(program: &Path, country_db: Option<&Path>) -> Result<Home, BenchError> {
        let folder = tempfile::Builder::new().prefix("doorward-bench-").tempdir().map_err(BenchError::system("make a temporary folder"))?;
        let country_db = match country_db {
            Some(file) => fs::read(file).map_err(BenchError::system("read the country database"))?,
            None => COUNTRY_DB.to_vec(),
        };
        let home = Home { folder, program: program.to_owned(), country_db };
        for name in ["data", "run"] {
            fs::create_dir(home.at(name)).map_err(BenchError::system("make a temporary folder"))?;
        }
        fs::write(home.at("country.mmdb"), &home.country_db).map_err(BenchError::system("write the country database"))?;
        Ok(home)
    }

    /// A path in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// So many keys, with callers from this home's country database.
    ///
    /// # Errors
    /// No country database.
    pub fn population(&self, keys: u64) -> Result<Population, BenchError> {
        Population::new(keys, &self.country_db).map_err(|error| BenchError::Population(error.to_string()))
    }

    /// Bytes of the store's files.
    pub fn store_bytes(&self) -> u64 {
        bytes_of(&self.at("data"))
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; what it said is in the error.
    pub fn start(&self, stop: &AtomicBool) -> Result<Daemon, BenchError> {
        let log = File::create(self.at("daemon.log")).map_err(BenchError::system("write the daemon's log"))?;
        let begun = Instant::now();
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--data-dir").arg(self.at("data")).arg("--run-dir").arg(self.at("run"));
        command.arg("--country-db").arg(self.at("country.mmdb")).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(BenchError::system("start the daemon"))?;
        let mut daemon = Daemon { child: Running(child), home: self.folder.path().to_owned(), until_ready: Duration::ZERO };
        while !daemon.log().lines().any(|line| line.split_whitespace().any(|word| word == "ready")) {
            if let Some(status) = daemon.child.0.try_wait().map_err(BenchError::system("wait for the daemon"))? {
                return Err(BenchError::Daemon(format!("it ended with {status} before it was ready: {}", daemon.log().trim())));
            }
            go_on(stop)?;
            thread::sleep(LOOK);
        }
        daemon.until_ready = begun.elapsed();
        Ok(daemon)
    }

    /// Registers the functions, writes the keys to a file, and imports it with the command. Returns how long the import alone took.
    ///
    /// # Errors
    /// No room, or an import that is refused.
    pub fn import(&self, population: &Population, stop: &AtomicBool, tell: &dyn Fn(Progress)) -> Result<Duration, BenchError> {
        for (name, restricted) in Population::functions().chain([(changes::FUNCTION.to_owned(), false)]) {
            let arguments = ["functions", "add", &name, "--restricted"];
            self.command(if restricted { &arguments } else { &arguments[..3] }, stop)?;
        }
        let file = self.at("keys.jsonl");
        write_keys(population, &file, stop, tell)?;
        tell(Progress::Importing(population.keys()));
        let begun = Instant::now();
        self.command(&["import", &file.to_string_lossy(), "--jsonl"], stop)?;
        let took = begun.elapsed();
        let _ = fs::remove_file(&file);
        Ok(took)
    }

    /// Runs a verb of the command against the daemon of this home.
    fn command(&self, arguments: &[&str], stop: &AtomicBool) -> Result<(), BenchError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--run-dir").arg(self.at("run")).stdin(Stdio::null()).stdout(Stdio::null());
        let log = self.at("command.log");
        // On a terminal the import shows how far it is.
        let on_terminal = io::stderr().is_terminal();
        if !on_terminal {
            command.stderr(File::create(&log).map_err(BenchError::system("write a log"))?);
        }
        let child = command.spawn().map_err(BenchError::system("start the command"))?;
        let status = Running(child).wait(stop)?;
        if status.success() {
            return Ok(());
        }
        let said = if on_terminal { String::new() } else { fs::read_to_string(&log).unwrap_or_default() };
        Err(BenchError::Daemon(format!("'doorward {}' ended with {status}: {}", arguments[0], said.trim())))
    }

    /// Starts the echo and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_echo(&self, stop: &AtomicBool) -> Result<Echo, BenchError> {
        let socket = self.echo_socket();
        let mut command = Command::new(&self.program);
        command.arg("bench-echo").arg(&socket).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = Running(command.spawn().map_err(BenchError::system("start the echo"))?);
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = child.0.try_wait().map_err(BenchError::system("wait for the echo"))? {
                return Err(BenchError::Daemon(format!("the echo ended with {status}")));
            }
            go_on(stop)?;
            thread::sleep(LOOK);
        }
        Ok(Echo(child))
    }

    /// Where the echo listens.
    pub fn echo_socket(&self) -> PathBuf {
        self.at("echo.sock")
    }
}

impl Daemon {
    /// Where it listens for verify requests.
    pub fn verify_socket(&self) -> PathBuf {
        self.home.join("run/verify.sock")
    }

    /// Where it listens for admins.
    pub fn admin_socket(&self) -> PathBuf {
        self.home.join("run/admin.sock")
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// Stops it as systemd does, and waits.
    ///
    /// # Errors
    /// It ends with an error; what it said is in this one.
    pub fn stop(mut self, stop: &AtomicBool) -> Result<(), BenchError> {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM)
            .map_err(io::Error::from)
            .map_err(BenchError::system("stop the daemon"))?;
        let status = self.child.wait(stop)?;
        if status.success() { Ok(()) } else { Err(BenchError::Daemon(format!("it ended with {status}: {}", self.log().trim()))) }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("daemon.log")).unwrap_or_default()
    }
}

impl Echo {
    /// Its process.
    pub fn process(&self) -> u32 {
        self.0.0.id()
    }
}

impl Running {
    fn wait(&mut self, stop: &AtomicBool) -> Result<ExitStatus, BenchError> {
        loop {
            if let Some(status) = self.0.try_wait().map_err(BenchError::system("wait for a child process"))? {
                return Ok(status);
            }
            go_on(stop)?;
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn go_on(stop: &AtomicBool) -> Result<(), BenchError> {
    if stop.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
}

fn write_keys(population: &Population, file: &Path, stop: &AtomicBool, tell: &dyn Fn(Progress)) -> Result<(), BenchError> {
    let failed = BenchError::system("write the keys");
    let out = File::create(file).map_err(&failed)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    for number in 0..population.keys() {
        if number % TELL_KEYS == 0 {
            go_on(stop)?;
            tell(Progress::Drawing { done: number, of: population.keys() });
        }
        let drawn = population.key(number);
        let sha256 = token_sha256(&drawn.token).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = KeyLine { id: None, settings: drawn.settings, token: None, token_sha256: Some(sha256), secrets: None, deleted_at: None };
        serde_json::to_writer(&mut out, &line).map_err(|error| failed(error.into()))?;
        out.write_all(b"\n").map_err(&failed)?;
    }
    out.flush().map_err(&failed)
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}
