//! Who is at the other end of the socket, as the kernel tells it, and what that peer may do.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::peer::Caller;

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Nothing.
    None,
    /// Look, but change nothing and see no digests.
    ReadOnly,
    /// Everything.
    Full,
}

/// Which users and groups may do what, by their numbers. Root and the daemon's own user may do everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The daemon's own user.
    pub own_uid: u32,
    /// Users who may do everything.
    pub full_users: Vec<u32>,
    /// Groups whose members may do everything.
    pub full_groups: Vec<u32>,
    /// Users who may look.
    pub read_users: Vec<u32>,
    /// Groups whose members may look.
    pub read_groups: Vec<u32>,
}

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// The process, or 0 where it is in another PID namespace.
    pub pid: i32,
    /// Its name in `/etc/passwd`, if it has one there and was asked for.
    pub user: Option<String>,
    /// Its primary and supplementary groups.
    pub groups: Vec<u32>,
}

impl Access {
    /// What a peer may do: the most that its user or any of its groups may.
    pub fn authority(&self, peer: &Peer) -> Authority {
        let member = |groups: &[u32]| peer.groups.iter().any(|gid| groups.contains(gid));
        if peer.uid == 0 || peer.uid == self.own_uid || self.full_users.contains(&peer.uid) || member(&self.full_groups) {
            Authority::Full
        } else if self.read_users.contains(&peer.uid) || member(&self.read_groups) {
            Authority::ReadOnly
        } else {
            Authority::None
        }
    }
}

impl Peer {
    /// Asks the kernel who connected (`SO_PEERCRED`), and in which groups that process was then (`SO_PEERGROUPS`, Linux 4.13).
    ///
    /// What stands in `/proc` is not asked: a unit with `ProtectProc=invisible` does not see others' processes there, and a number can belong to another
    /// process by then.
    ///
    /// # Errors
    /// The kernel did not tell.
    pub fn of(stream: impl AsFd) -> io::Result<Peer> {
        Peer::with_groups(Caller::of(&stream)?, &stream)
    }

    /// A caller, with its groups.
    pub(super) fn with_groups(caller: Caller, stream: impl AsFd) -> io::Result<Peer> {
        let mut groups = supplementary_groups(stream)?;
        groups.insert(0, caller.gid);
        Ok(Peer { uid: caller.uid, pid: caller.pid, user: None, groups })
    }

    /// With the name of its user.
    pub(super) fn named(self) -> Peer {
        let user = fs::read_to_string("/etc/passwd").ok().and_then(|passwd| user_name(&passwd, self.uid));
        Peer { user, ..self }
    }
}

/// The supplementary groups of a peer, as they were when it connected.
fn supplementary_groups(stream: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes there, of group numbers, for which any bytes are a value.
        let outcome = unsafe {
            libc::getsockopt(stream.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &mut bytes)
        };
        let needed = bytes as usize / size_of::<libc::gid_t>();
        if outcome == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // There are more, and `bytes` says how many.
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        Peer { uid, pid: 1, user: None, groups: groups.to_vec() }
    }

    #[test]
    fn the_most_that_user_or_group_may() {
        let access = Access { own_uid: 100, full_users: vec![7], full_groups: vec![70], read_users: vec![8], read_groups: vec![80] };
        for (uid, groups, authority) in [
            (0, &[0][..], Authority::Full),
            (100, &[1], Authority::Full),
            (7, &[1], Authority::Full),
            (9, &[1, 70], Authority::Full),
            (8, &[1, 70], Authority::Full),
            (8, &[1], Authority::ReadOnly),
            (9, &[80], Authority::ReadOnly),
            (9, &[9, 7, 8, 100, 0], Authority::None),
        ] {
            assert_eq!(access.authority(&peer(uid, groups)), authority, "{uid} {groups:?}");
        }
        assert_eq!(Access { own_uid: 100, ..Access::default() }.authority(&peer(5, &[5])), Authority::None);
    }

    /// The own process is the peer of a pair of its own.
    #[test]
    fn groups_are_those_that_the_kernel_tells() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!((peer.uid, peer.pid), (rustix::process::getuid().as_raw(), std::process::id() as i32));
        let mut told = peer.groups;
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut expected: Vec<u32> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        expected.push(rustix::process::getegid().as_raw());
        for groups in [&mut told, &mut expected] {
            groups.sort_unstable();
            groups.dedup();
        }
        assert_eq!(told, expected);
    }

    #[test]
    fn user_names_are_those_of_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(user_name(passwd, 1), None);
    }
}
