//! What systemd is told. Outside of systemd all of this does nothing.

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
