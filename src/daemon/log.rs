//! Where messages go: standard error, which systemd hands to the journal.

use std::io::IsTerminal;

use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Starts logging. Under systemd the journal has the time already.
pub(super) fn start(log: &Log) {
    let colour = log.format == LogFormat::Auto && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let messages = fmt().with_writer(std::io::stderr).with_max_level(log.level).with_ansi(colour).with_target(false);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second start in one process is a test's; the first logger stays.
    let _ = if journal { messages.without_time().try_init() } else { messages.try_init() };
}
