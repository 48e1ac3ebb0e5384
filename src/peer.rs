//! Who connected to a Unix socket, as the kernel tells it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The process at the other end of a connection, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its number, or 0 where it is in another PID namespace, which rustix's type for this cannot hold.
    pub pid: i32,
}

impl Caller {
    /// Asks the kernel (`SO_PEERCRED`).
    ///
    /// # Errors
    /// The kernel did not tell.
    pub fn of(stream: impl AsFd) -> io::Result<Caller> {
        let mut told = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most so many bytes there, and whatever it writes is sound for three numbers.
        let outcome = unsafe {
            libc::getsockopt(stream.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut told).cast(), &raw mut bytes)
        };
        if outcome == 0 { Ok(Caller { uid: told.uid, gid: told.gid, pid: told.pid }) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The own process is the peer of a pair of its own.
    #[test]
    fn the_kernel_tells_who_connected() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!(Caller::of(&stream).unwrap(), Caller { uid, gid, pid: std::process::id() as i32 });
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Caller::of(&file).is_err(), "no socket has no peer");
    }
}
