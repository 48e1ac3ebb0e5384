//! Who is at the other end of the socket, as the kernel tells it, and what that peer may do.

use std::fs;
use std::io;

use tokio::net::UnixStream;

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
    /// Its name in `/etc/passwd`, if it has one there.
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
    /// Asks the kernel who connected (`SO_PEERCRED`), and `/proc` which supplementary groups that process has.
    ///
    /// # Errors
    /// The kernel did not tell.
    pub fn of(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let status = credentials.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let mut groups = vec![gid];
        groups.extend(status.and_then(|status| supplementary_groups(&status, uid, gid)).unwrap_or_default());
        let user = fs::read_to_string("/etc/passwd").ok().and_then(|passwd| user_name(&passwd, uid));
        Ok(Peer { uid, user, groups })
    }
}

/// The groups in a `/proc/PID/status`, if that process still is who connected: one that exits can leave its number to another.
fn supplementary_groups(status: &str, uid: u32, gid: u32) -> Option<Vec<u32>> {
    let numbers = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    // Real, effective, saved and file-system ids; the kernel's credentials are the effective ones.
    let effective = |name| numbers(name)?.get(1).copied();
    if effective("Uid:")? != uid || effective("Gid:")? != gid {
        return None;
    }
    numbers("Groups:")
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
        Peer { uid, user: None, groups: groups.to_vec() }
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

    #[test]
    fn groups_count_only_of_the_process_that_connected() {
        let status = "Name:\tcurl\nUid:\t1\t1000\t1\t1\nGid:\t1\t1000\t1\t1\nFDSize:\t64\nGroups:\t27 1000 \nVmPeak: 1 kB\n";
        assert_eq!(supplementary_groups(status, 1000, 1000), Some(vec![27, 1000]));
        assert_eq!(supplementary_groups(status, 1, 1000), None);
        assert_eq!(supplementary_groups(status, 1000, 1), None);
        assert_eq!(supplementary_groups("Uid:\t0\n", 0, 0), None);
        assert_eq!(supplementary_groups("Uid:\t0 0 0 0\nGid:\t0 0 0 0\nGroups:\t\n", 0, 0), Some(vec![]));
    }

    #[test]
    fn user_names_are_those_of_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(user_name(passwd, 1), None);
    }
}
