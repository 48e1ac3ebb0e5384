//! What systemd is told, and what it lends. Outside of systemd all of this does nothing.

mod listeners;

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

pub use listeners::{ListenError, Listeners};

/// Tells that the sockets answer, with a line for `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// Tells that the configuration is being read anew; [`ready`] ends it.
pub fn reloading() {
    // Since version 253 systemd needs the time with it, to tell this reload from one before.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("systemd is not told of the reload: {error}"),
    }
}

/// Tells that the daemon is on its way to its end.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("answering what has arrived")]);
}

/// How often at least systemd wants to hear that the daemon is well; none where it does not ask (`WatchdogSec=`).
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Tells that the daemon is well.
pub fn well() {
    notify(&[NotifyState::Watchdog]);
}

/// Whether standard error is a pipe to the journal, which takes the time of each line itself, and its level from a prefix (sd-daemon(3)).
///
/// `JOURNAL_STREAM` is inherited by whoever is started, so the file that it names is held against the one that is there (systemd.exec(5)).
pub fn logs_to_journal() -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Syslog's number of an error.
pub const ERROR: u8 = 3;

/// A message as the journal takes it from standard error: each further line has the level too, and is set in, so that no text of others passes for a message
/// of its own.
pub fn journal_lines(priority: u8, text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 8);
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        let indent = if number == 0 { "" } else { "    " };
        let _ = writeln!(lines, "<{priority}>{indent}{line}");
    }
    lines
}

/// The protocol has one assignment a line: a second line would be one.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// How long a service manager may leave its queue full before a message is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// A message that does not get through is no reason to stop, nor to wait for long.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = send(state) {
        warn!("systemd is not told: {error}");
    }
}

/// As `sd_notify::notify`, which waits without an end where the service manager hangs: neither a reload nor the end of the daemon would be reached then.
fn send(state: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let place = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let mut message = String::new();
    state.iter().for_each(|state| _ = writeln!(message, "{state}"));
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), &place).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_level_and_only_the_first_begins_a_message() {
        assert_eq!(journal_lines(6, "ready keys=3"), "<6>ready keys=3\n");
        assert_eq!(journal_lines(ERROR, "refused: a\n<0>forged\rtoo"), "<3>refused: a\n<3>    <0>forged\n<3>    too\n");
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("ready\nMAINPID=1"), "ready MAINPID=1");
    }
}
