//! What systemd is told and what it hands over. Outside of systemd all of this does nothing.

use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use sd_notify::NotifyState;
use tracing::warn;

/// Tells that the sockets answer, with a line for `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
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
    notify(&[NotifyState::Stopping]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// Takes over the sockets that systemd opened for this process, by their `FileDescriptorName=`.
///
/// # Safety
/// To be called once: each descriptor gets its one owner here.
///
/// # Errors
/// Variables that systemd would not set so, or two sockets of one name.
pub unsafe fn listen_fds() -> io::Result<HashMap<String, OwnedFd>> {
    let mut sockets = HashMap::new();
    for (descriptor, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: systemd passed it to this process alone, and the caller takes it over once.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        if sockets.insert(name.clone(), socket).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("systemd passed two sockets of the name '{name}'")));
        }
    }
    Ok(sockets)
}

/// The protocol has one assignment a line: a second line would be one.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A message that does not get through is no reason to stop.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("systemd is not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("ready\nMAINPID=1"), "ready MAINPID=1");
    }
}
