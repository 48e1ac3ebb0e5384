//! The two listening sockets: systemd's, which outlive the daemon, or its own.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::directory::DirectoryError;
use super::{ADMIN_SOCKET, ServeError, VERIFY_SOCKET, identity};
use crate::config::Config;
use crate::systemd::Listeners;

/// What systemd's sockets are named: `FileDescriptorName=` of their units.
pub(super) const VERIFY: &str = "verify";
pub(super) const ADMIN: &str = "admin";

/// A socket: where it is, and who holds it.
pub(super) struct Socket {
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
    lent: Option<UnixListener>,
    /// The daemon made its path and takes it away again.
    own: bool,
}

impl Socket {
    /// The verify socket: systemd's, if it is lent.
    pub(super) fn verify(lent: &mut Listeners, config: &Config) -> Result<Socket, ServeError> {
        let group = identity::group_of("verify.group", config.verify.group.as_deref())?;
        Socket::new(lent, VERIFY, config.run_dir.join(VERIFY_SOCKET), config.verify.mode, group)
    }

    /// The admin socket: systemd's, if it is lent.
    pub(super) fn admin(lent: &mut Listeners, config: &Config) -> Result<Socket, ServeError> {
        let group = identity::group_of("admin.group", config.admin.group.as_deref())?;
        Socket::new(lent, ADMIN, config.run_dir.join(ADMIN_SOCKET), config.admin.mode, group)
    }

    fn new(lent: &mut Listeners, name: &'static str, path: PathBuf, mode: u32, group: Option<u32>) -> Result<Socket, ServeError> {
        let lent = lent.take(name, &path)?;
        if lent.is_some() {
            info!(socket = %path.display(), "the socket is systemd's: its mode, owner and group are those of its unit");
        }
        Ok(Socket { path, mode, group, lent, own: false })
    }

    /// Its listener: the one that was lent, or a new one. To be called once.
    pub(super) fn listen(&mut self) -> Result<UnixListener, DirectoryError> {
        match self.lent.take() {
            Some(listener) => Ok(listener),
            None => {
                let listener = bind(&self.path, self.mode, self.group)?;
                self.own = true;
                Ok(listener)
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away, unless it is systemd's.
    pub(super) fn leave(&self) {
        if self.own
            && let Err(error) = remove(&self.path)
        {
            warn!(path = %self.path.display(), %error, "a socket could not be removed");
        }
    }
}

/// Binds a socket with this mode and group. What a killed daemon left there is replaced; its lock is gone, so nobody listens.
fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, DirectoryError> {
    let io_error = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
    // Bound under another name until mode and group are right, so that nobody connects too early or is refused in between.
    let unfinished = path.with_extension("sock.new");
    remove(&unfinished).map_err(io_error)?;
    let listener = UnixListener::bind(&unfinished).map_err(io_error)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(mode)).map_err(io_error)?;
    if group.is_some() {
        chown(&unfinished, None, group).map_err(io_error)?;
    }
    fs::rename(&unfinished, path).map_err(io_error)?;
    Ok(listener)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verify.sock");
        drop(bind(&path, 0o600, None).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _listener = bind(&path, 0o660, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
}
