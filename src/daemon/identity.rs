//! Users and groups of the configuration, as numbers. Read from `/etc/passwd` and `/etc/group`; those of a directory service are written as numbers.

use std::fs;

use super::ServeError;
use crate::admin::Access;
use crate::config::{AdminSocket, VerifySocket};
use crate::key::without_tokens;

/// Who may do what on the admin socket, with the names of the configuration as numbers.
pub(super) fn access(admin: &AdminSocket) -> Result<Access, ServeError> {
    Ok(Access {
        own_uid: rustix::process::geteuid().as_raw(),
        full_users: all("admin.full_users", "user", &admin.full_users, user)?,
        full_groups: all("admin.full_groups", "group", &admin.full_groups, group)?,
        read_users: all("admin.read_users", "user", &admin.read_users, user)?,
        read_groups: all("admin.read_groups", "group", &admin.read_groups, group)?,
    })
}

/// Who may ask on the verify socket, besides root and the daemon's own user; all whom its mode lets in where none is named.
pub(super) fn users(verify: &VerifySocket) -> Result<Vec<u32>, ServeError> {
    all("verify.users", "user", &verify.users, user)
}

fn all(key: &'static str, what: &'static str, names: &[String], find: fn(&str) -> Option<u32>) -> Result<Vec<u32>, ServeError> {
    let number = |name: &String| find(name).ok_or_else(|| nobody(key, what, name));
    names.iter().map(number).collect()
}

/// A socket's group, if the configuration names one.
pub(super) fn group_of(key: &'static str, name: Option<&str>) -> Result<Option<u32>, ServeError> {
    let number = |name: &str| group(name).ok_or_else(|| nobody(key, "group", name));
    name.map(number).transpose()
}

/// There is nobody of that name; which may be a token in the wrong place.
fn nobody(key: &'static str, what: &'static str, name: &str) -> ServeError {
    ServeError::Identity { key, what, name: without_tokens(name).into_owned() }
}

/// The number of a user, given by name or number.
fn user(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| number_in(&fs::read_to_string("/etc/passwd").ok()?, name))
}

/// The number of a group, given by name or number.
fn group(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| number_in(&fs::read_to_string("/etc/group").ok()?, name))
}

/// Both files hold `name:password:number:…` a line.
fn number_in(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let file = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nbroken\n";
        assert_eq!(number_in(file, "www-data"), Some(33));
        assert_eq!(number_in(file, "www"), None);
        assert_eq!(number_in(file, "broken"), None);
        assert_eq!((user("root"), user("4711"), user("no such user")), (Some(0), Some(4711), None));
        assert_eq!((group("root"), group("no such group")), (Some(0), None));
    }
}
