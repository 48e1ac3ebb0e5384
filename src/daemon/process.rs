//! What the process asks of the kernel for itself, before it holds a secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask};
use tracing::warn;

/// No core dumps, no reading of this process's memory by others of the same user, and no file that others may read.
pub(super) fn harden() {
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "the process could not be made undumpable");
    }
}

/// Descriptors besides those of verify connections: RocksDB's files (a store of many gigabytes has hundreds), the admin socket's connections.
const OTHER_DESCRIPTORS: u64 = 1_024;

/// Raises the limit on open files as far as it may go, and warns if not every connection would get a descriptor then.
pub(super) fn allow_descriptors(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit on open files could not be raised");
    }
    let needed = max_connections as u64 + OTHER_DESCRIPTORS;
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < needed) {
        warn!(limit, needed, "the limit on open files is too low for verify.max_connections: raise LimitNOFILE= or lower the other");
    }
}
