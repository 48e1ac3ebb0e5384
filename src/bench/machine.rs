//! The machine: cores, processor time and memory of processes.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// USER_HZ: the same on every architecture that Rust knows Linux on, but for Alpha.
const TICKS_PER_S: f64 = 100.0;

/// The cores that this process may use.
#[derive(Debug, Clone)]
pub struct Cores {
    all: CpuSet,
    first: usize,
    last: usize,
}

impl Cores {
    /// Looks.
    pub fn find() -> io::Result<Cores> {
        let all = sched_getaffinity(None)?;
        let mut there = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
        let first = there.next().unwrap_or_default();
        Ok(Cores { all, first, last: there.next_back().unwrap_or(first) })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.all.count() as usize
    }

    /// The one that most interrupts go to.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The one that is disturbed least. The same as the first where there is only one.
    pub fn last(&self) -> usize {
        self.last
    }

    /// Keeps every thread of a process on one core, and those that they start; or lets it use all of them.
    ///
    /// # Errors
    /// The process is somebody else's, or has ended.
    pub fn keep(&self, process: u32, core: Option<usize>) -> io::Result<()> {
        let cores = core.map_or(self.all, |core| {
            let mut one = CpuSet::new();
            one.set(core);
            one
        });
        for task in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
            let thread = task.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            match sched_setaffinity(thread, &cores) {
                // A thread that has ended meanwhile needs no core.
                Ok(()) | Err(rustix::io::Errno::SRCH) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Seconds of processor time that a process has used, on all cores together; 0 if it has ended.
pub fn processor_s(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The fields behind the name, which is in parentheses: the 12th is user time, the 13th system time (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_S
}

/// Bytes of memory of a process that are resident now; 0 if it has ended.
pub fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

/// The process that listens on a socket, as the kernel tells it; none where it is not visible from here.
pub(super) fn process_behind(socket: &Path) -> io::Result<Option<u32>> {
    let peer = rustix::net::sockopt::socket_peercred(UnixStream::connect(socket)?)?;
    Ok(u32::try_from(peer.pid.as_raw_nonzero().get()).ok())
}

/// Raises the limit of open files as far as it goes without asking anybody: a thousand connections are more than many shells allow.
pub(super) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it stays low, opening the connections says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_cores_time_and_memory() {
        let cores = Cores::find().unwrap();
        assert!(cores.count() >= 1 && cores.first() <= cores.last());
        let me = std::process::id();
        assert!(resident_bytes(me) > 100_000);
        let before = processor_s(me);
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {}
        assert!(processor_s(me) > before);
        assert_eq!((resident_bytes(u32::MAX), processor_s(u32::MAX)), (0, 0.0));
    }
}
