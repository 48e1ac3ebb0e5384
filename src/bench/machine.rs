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
    count: usize,
    first: usize,
    last: usize,
}

impl Cores {
    /// Looks.
    pub fn find() -> io::Result<Cores> {
        let all = sched_getaffinity(None)?;
        let mut there = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
        let first = there.next().unwrap_or_default();
        Ok(Cores { count: all.count() as usize, first, last: there.next_back().unwrap_or(first) })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The one that most interrupts go to.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The one that is disturbed least. The same as the first where there is only one.
    pub fn last(&self) -> usize {
        self.last
    }
}

/// A process whose threads are kept on one core, until this is dropped: then they may go where they could before.
pub struct Kept {
    process: u32,
    before: Vec<(Pid, CpuSet)>,
}

impl Kept {
    /// Keeps every thread of a process on this core, and those that they start.
    ///
    /// # Errors
    /// The process is somebody else's, or has ended.
    pub fn on(process: u32, core: usize) -> io::Result<Kept> {
        let mut one = CpuSet::new();
        one.set(core);
        let mut kept = Kept { process, before: Vec::new() };
        // Once more after each time in which there was one: a thread that was not kept yet may have started another meanwhile.
        loop {
            let known = |thread: &Pid| kept.before.iter().any(|(kept, _)| kept == thread);
            let new: Vec<Pid> = threads(process)?.into_iter().filter(|thread| !known(thread)).collect();
            let mut any = false;
            for thread in new {
                // A thread that has ended meanwhile needs no core.
                let Ok(before) = sched_getaffinity(Some(thread)) else { continue };
                match sched_setaffinity(Some(thread), &one) {
                    Ok(()) => kept.before.push((thread, before)),
                    Err(rustix::io::Errno::SRCH) => continue,
                    Err(error) => return Err(error.into()),
                }
                any = true;
            }
            if !any {
                break;
            }
        }
        Ok(kept)
    }

    /// Whether this may be done with the process.
    pub fn may(process: u32) -> bool {
        let main = Pid::from_raw(process as i32);
        sched_getaffinity(main).is_ok_and(|cores| sched_setaffinity(main, &cores).is_ok())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The process's first thread has its number. Threads that were started meanwhile go where that one may.
        let Some((_, first)) = self.before.first() else { return };
        for thread in threads(self.process).unwrap_or_default() {
            let before = self.before.iter().find(|(kept, _)| *kept == thread).map_or(first, |(_, before)| before);
            let _ = sched_setaffinity(Some(thread), before);
        }
    }
}

fn threads(process: u32) -> io::Result<Vec<Pid>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    let mut threads: Vec<Pid> = tasks.flatten().filter_map(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?)).collect();
    threads.sort_unstable_by_key(|thread| (thread.as_raw_pid() != process as i32, thread.as_raw_pid()));
    Ok(threads)
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
    fn a_process_is_let_go_to_where_it_was() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (process, main) = (child.id(), Pid::from_child(&child));
        let before = sched_getaffinity(Some(main)).unwrap();
        assert!(Kept::may(process) && !Kept::may(u32::MAX / 2));
        let core = Cores::find().unwrap().last();
        let kept = Kept::on(process, core).unwrap();
        let now = sched_getaffinity(Some(main)).unwrap();
        assert!(now.count() == 1 && now.is_set(core));
        drop(kept);
        assert_eq!(sched_getaffinity(Some(main)).unwrap(), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }

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
