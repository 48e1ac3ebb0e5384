//! The real daemon, on a folder of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use doorward::admin::wire::KeyLine;
use doorward::digest::token_sha256;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::population::Population;

const DOORWARD: &str = env!("CARGO_BIN_EXE_doorward");

/// USER_HZ: the same on every architecture that Rust knows Linux on, but for Alpha.
const TICKS_PER_S: f64 = 100.0;

/// The folders and the country database of a daemon.
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) country_db: PathBuf,
}

/// A daemon that runs.
pub(crate) struct Daemon {
    child: Child,
    run: PathBuf,
    /// From its start to its line `ready`.
    pub(crate) until_ready: Duration,
}

impl Daemon {
    pub(crate) fn start(place: &Place) -> Daemon {
        let begun = Instant::now();
        let mut child = Command::new(DOORWARD)
            .args(["serve".as_ref(), "--data-dir".as_ref(), place.data.as_os_str(), "--run-dir".as_ref(), place.run.as_os_str()])
            .args(["--country-db".as_ref(), place.country_db.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let ready = lines.by_ref().any(|line| {
            let ready = line.split_whitespace().any(|word| word == "ready");
            said.push(line);
            ready
        });
        assert!(ready, "the daemon ended before it was ready:\n{}", said.join("\n"));
        let until_ready = begun.elapsed();
        thread::spawn(move || lines.for_each(drop));
        Daemon { child, run: place.run.clone(), until_ready }
    }

    pub(crate) fn verify_socket(&self) -> PathBuf {
        self.run.join("verify.sock")
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs the command against this daemon.
    fn command(&self, arguments: &[&str]) {
        let mut command = Command::new(DOORWARD);
        command.args(arguments).arg("--run-dir").arg(&self.run).stdin(Stdio::null());
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "doorward {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }

    /// Registers the functions, writes the keys to a file, and imports it. Returns how long the import alone took.
    pub(crate) fn import(&self, population: &Population, keys: u64, file: &Path) -> Duration {
        for (name, restricted) in Population::functions() {
            let arguments = ["functions", "add", &name, "--restricted"];
            self.command(if restricted { &arguments } else { &arguments[..3] });
        }
        write_keys(population, keys, file);
        let begun = Instant::now();
        self.command(&["import", file.to_str().expect("a path in UTF-8"), "--jsonl"]);
        begun.elapsed()
    }

    /// Bytes of memory that are resident now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// Seconds of processor time that the daemon has used, on all cores together: what an import costs, whatever else the machine does.
    pub(crate) fn processor_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process())).expect("the daemon runs");
        // The fields behind the name, which is in parentheses: the 12th is user time, the 13th system time (proc_pid_stat(5)).
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        ticks as f64 / TICKS_PER_S
    }

    /// Stops the daemon as systemd does, and returns how long that took.
    pub(crate) fn stop(mut self) -> Duration {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the daemon runs");
        let status = self.child.wait().expect("the daemon ends");
        assert!(status.success(), "the daemon ended with {status}");
        begun.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_keys(population: &Population, keys: u64, file: &Path) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file).expect("a file for the keys"));
    for number in 0..keys {
        let drawn = population.key(number);
        let sha256 = token_sha256(&drawn.token).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = KeyLine { id: None, settings: drawn.settings, token: None, token_sha256: Some(sha256), secrets: None };
        serde_json::to_writer(&mut out, &line).expect("room for the keys");
        out.write_all(b"\n").expect("room for the keys");
    }
    out.flush().expect("room for the keys");
}

/// Keeps every thread of a process, and those that they start, on one core; or sets them free.
pub(crate) fn keep_on(process: u32, core: Option<usize>) {
    let mut cores = CpuSet::new();
    match core {
        Some(core) => cores.set(core),
        None => (0..thread_count()).for_each(|core| cores.set(core)),
    }
    for task in std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs").flatten() {
        let thread = task.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        // A thread that has ended meanwhile needs no core.
        let _ = sched_setaffinity(thread, &cores);
    }
}

fn thread_count() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}
