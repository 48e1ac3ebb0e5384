//! Listening sockets that systemd made, holds and lends (`LISTEN_FDS`, sd_listen_fds(3)). They outlive the daemon: whoever connects while it
//! restarts waits in their queue, and is not refused.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};
use thiserror::Error;

/// The sockets that were lent and not taken yet, by the names that their units give them (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub struct Listeners(Vec<(String, OwnedFd)>);

/// Why what systemd lends cannot be used.
#[derive(Debug, Error)]
pub enum ListenError {
    /// `LISTEN_FDS` and its companions contradict each other or what is open.
    #[error("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES: {0}: they are for systemd to set; unset them where it does not start the daemon")]
    Environment(io::Error),
    /// A name that nobody here answers to: whoever connected there would wait for ever.
    #[error("systemd passes a socket named '{0}', which doorward does not serve: FileDescriptorName= of a socket unit is one of {1}")]
    Unknown(String, String),
    /// One socket, two listeners.
    #[error("systemd passes two sockets named '{0}': one socket unit with one ListenStream= is for it")]
    Twice(String),
    /// Not a listening stream socket of the Unix family.
    #[error("systemd passes a '{0}' that is no listening Unix stream socket: its unit needs ListenStream= with a path, and Accept=no")]
    Kind(String),
    /// It listens elsewhere.
    #[error("systemd's socket '{name}' listens at {at}, and run_dir of the configuration says {expected}: ListenStream= and run_dir must agree",
        at = at.as_ref().map_or("no path".into(), |at| at.display().to_string()), expected = expected.display())]
    Place {
        /// Its name.
        name: String,
        /// Where it listens.
        at: Option<PathBuf>,
        /// Where it should.
        expected: PathBuf,
    },
    /// The kernel says no.
    #[error("systemd's socket '{0}': {1}")]
    Io(String, io::Error),
}

/// Descriptors are owned by whoever takes them, so they are taken once.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Listeners {
    /// What systemd lends to this very process, if it does, under these names. To be called before anything else opens a file.
    ///
    /// # Errors
    /// The environment is contradictory, or there is a socket under another name, or there are two under one.
    pub fn inherited(names: &[&str]) -> Result<Listeners, ListenError> {
        let descriptors: Vec<_> = sd_notify::listen_fds_with_names().map_err(ListenError::Environment)?.collect();
        if descriptors.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Listeners::default());
        }
        // SAFETY: open, because flags of it could be set just now; and nobody else's, because systemd gave it to this process, which takes it once.
        let owned = descriptors.into_iter().map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }));
        Listeners::named(owned.collect(), names)
    }

    fn named(lent: Vec<(String, OwnedFd)>, names: &[&str]) -> Result<Listeners, ListenError> {
        for (at, (name, _)) in lent.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                return Err(ListenError::Unknown(name.clone(), names.join(", ")));
            }
            if lent[..at].iter().any(|(other, _)| other == name) {
                return Err(ListenError::Twice(name.clone()));
            }
        }
        Ok(Listeners(lent))
    }

    /// The listener of this name, if there is one: of the right kind, and at the path where clients look for it.
    ///
    /// # Errors
    /// It is of another kind, or elsewhere, or its path is gone.
    pub fn take(&mut self, name: &str, path: &Path) -> Result<Option<UnixListener>, ListenError> {
        let Some(at) = self.0.iter().position(|(lent, _)| lent == name) else { return Ok(None) };
        let (name, socket) = self.0.swap_remove(at);
        let is = |outcome: rustix::io::Result<bool>| outcome.unwrap_or(false);
        let listens = is(sockopt::socket_acceptconn(&socket));
        let unix = is(sockopt::socket_domain(&socket).map(|domain| domain == AddressFamily::UNIX));
        if !(listens && unix && is(sockopt::socket_type(&socket).map(|kind| kind == SocketType::STREAM))) {
            return Err(ListenError::Kind(name));
        }
        let listener = UnixListener::from(socket);
        let address = listener.local_addr().map_err(|error| ListenError::Io(name.clone(), error))?;
        let at = address.as_pathname();
        // By another way to the same directory, such as /var/run, it is the same place.
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if !at.is_some_and(|at| at == path || real(at) == real(path)) {
            return Err(ListenError::Place { name, at: at.map(Path::to_owned), expected: path.to_owned() });
        }
        match fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => Ok(Some(listener)),
            Ok(_) => Err(ListenError::Io(name, io::Error::other(format!("{} is no socket any more: {RESTART_IT}", path.display())))),
            Err(error) => Err(ListenError::Io(name, io::Error::other(format!("{}: {error}: {RESTART_IT}", path.display())))),
        }
    }
}

const RESTART_IT: &str = "nobody can connect to it; restart the socket unit, which makes it anew";

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    const NAMES: [&str; 2] = ["verify", "admin"];

    fn lent(name: &str, socket: impl Into<OwnedFd>) -> Vec<(String, OwnedFd)> {
        vec![(name.to_owned(), socket.into())]
    }

    #[test]
    fn a_listener_at_the_right_place_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verify.sock");
        let mut listeners = Listeners::named(lent("verify", UnixListener::bind(&path).unwrap()), &NAMES).unwrap();
        assert!(listeners.take("admin", &directory.path().join("admin.sock")).unwrap().is_none());
        let listener = listeners.take("verify", &path).unwrap().unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(listener.accept().is_ok());
        assert!(listeners.take("verify", &path).unwrap().is_none());
    }

    #[test]
    fn what_is_not_such_a_listener_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verify.sock");
        let bound = || {
            drop(fs::remove_file(&path));
            UnixListener::bind(&path).unwrap()
        };
        let take =
            |socket: OwnedFd, path: &Path| Listeners::named(lent("verify", socket), &NAMES).unwrap().take("verify", path).unwrap_err();
        assert!(matches!(take(UnixStream::pair().unwrap().0.into(), &path), ListenError::Kind(_)));
        assert!(matches!(take(UnixDatagram::unbound().unwrap().into(), &path), ListenError::Kind(_)));
        assert!(matches!(take(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), &path), ListenError::Kind(_)));
        assert!(matches!(take(fs::File::open("/dev/null").unwrap().into(), &path), ListenError::Kind(_)));
        let elsewhere = take(bound().into(), &directory.path().join("other.sock")).to_string();
        assert!(elsewhere.contains("verify.sock") && elsewhere.contains("other.sock"), "{elsewhere}");
        let gone = bound();
        fs::remove_file(&path).unwrap();
        assert!(take(gone.into(), &path).to_string().contains("restart the socket unit"));

        let nameless = Listeners::named(lent("unknown", bound()), &NAMES).unwrap_err().to_string();
        assert!(nameless.contains("'unknown'") && nameless.contains("verify, admin"), "{nameless}");
        let mut two = lent("verify", bound());
        two.extend(lent("verify", bound()));
        assert!(matches!(Listeners::named(two, &NAMES), Err(ListenError::Twice(_))));
    }
}
