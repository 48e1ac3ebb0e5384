//! What the kernel tells of this process, under the names that every exporter uses.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::Family;
use crate::key::Instant;

pub(super) fn families(started_at: Instant) -> Vec<Family> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let most = getrlimit(Resource::Nofile).current;
    vec![
        Family::gauge("process_start_time", "When the daemon had started, since 1970.", started_at.0 as f64 / 1e3).seconds(),
        Family::counter_of_seconds("process_cpu", "Processor time of all threads.", cpu),
        Family::gauge_if_any("process_resident_memory", "Memory in use, shared files included.", resident_bytes()).bytes(),
        Family::gauge_if_any("process_open_fds", "Open descriptors.", open_descriptors()),
        Family::gauge_if_any("process_max_fds", "The most descriptors that may be open.", most),
    ]
}

fn resident_bytes() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Since Linux 6.2 the directory's size is the number of its entries; before that they are counted.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let before = open_descriptors().unwrap();
        let _more = [fs::File::open("/dev/null").unwrap(), fs::File::open("/dev/null").unwrap()];
        assert!(resident_bytes().unwrap() > 1 << 20 && open_descriptors().unwrap() >= 2 && before >= 1);
    }
}
