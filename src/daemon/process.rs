//! What the process asks of the kernel for itself, before it holds a secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, nice, set_dumpable_behavior, setrlimit, umask};
use tracing::{info, warn};

/// No core dumps, no reading of this process's memory by others of the same user, and no file that others may read.
pub(super) fn harden() {
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Err(error) = no_core_dump() {
        warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = undumpable() {
        warn!(%error, "the process could not be made undumpable");
    }
}

/// For the command: no core dumps, and no reading of its memory by others of the same user, as far as the kernel lets.
pub fn keep_secrets() {
    let _ = no_core_dump();
    let _ = undumpable();
}

fn no_core_dump() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

/// The limit alone would not do: it does not hold where the kernel hands dumps to a program, as systemd-coredump.
fn undumpable() -> rustix::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// How much less a thread gets than those that verify, where there are fewer processors than threads that want one: a third of what one of them gets.
const GIVING_WAY: i32 = 5;

/// Has this thread, and those that it starts, give way to others. The shipped unit's filter refuses that, unless `give-way.conf` is there, too.
pub(super) fn give_way() {
    if let Err(error) = nice(GIVING_WAY) {
        info!(%error, "the admin socket's threads do not give way to those that verify: give-way.conf would let them");
    }
}

/// Descriptors that verify connections leave to RocksDB's files (a store of many gigabytes has hundreds), the admin socket and all else: a quarter of
/// what there is, but no more and no fewer than this.
const OTHER_DESCRIPTORS: (u64, u64) = (64, 1_024);

/// Raises the limit on open files as far as it may go, and tells how many verify connections it allows, of those that are wanted. Connections that take
/// the last descriptor would keep the store from opening its files.
pub(super) fn allow_descriptors(max_connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit on open files could not be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current.map_or(max_connections, |limit| connections_within(limit, max_connections));
    if allowed < max_connections {
        warn!(
            allowed,
            wanted = max_connections,
            "the limit on open files is too low for verify.max_connections: raise LimitNOFILE= or lower the other"
        );
    }
    allowed
}

fn connections_within(limit: u64, wanted: usize) -> usize {
    let others = (limit / 4).clamp(OTHER_DESCRIPTORS.0, OTHER_DESCRIPTORS.1);
    (limit.saturating_sub(others).max(1) as usize).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_store() {
        for (limit, wanted, allowed) in
            [(65_536, 1_024, 1_024), (1_024, 1_024, 768), (20_000, 16_384, 16_384), (16_384, 16_384, 15_360), (80, 50, 16)]
        {
            assert_eq!(connections_within(limit, wanted), allowed, "{limit}");
        }
    }
}
