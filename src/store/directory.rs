use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::witness;

/// Makes a directory with this mode, and those above it, where they are missing; and has on the disk that they are there. What is synced
/// within a directory is lost in a power failure if the directory itself is.
///
/// # Errors
/// The system refuses.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<PathBuf> = path.ancestors().take_while(|ancestor| !ancestor.exists()).map(Path::to_owned).collect();
    for directory in missing.iter().rev() {
        match DirBuilder::new().mode(mode).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            outcome => outcome?,
        }
        // Said again, because the umask has taken its part.
        fs::set_permissions(directory, Permissions::from_mode(mode))?;
        File::open(directory.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    }
    Ok(())
}

/// Gives a store's directory and its files to whom the directory above it belongs: where root works on the store, the daemon's user must be able to go on with it.
///
/// # Errors
/// The system refuses.
pub fn give_to_owner_of(data_dir: &Path, store: &Path) -> io::Result<()> {
    let owner = fs::metadata(data_dir)?;
    let mut paths = vec![store.to_owned()];
    for entry in fs::read_dir(store)? {
        paths.push(entry?.path());
    }
    for path in paths {
        let metadata = fs::symlink_metadata(&path)?;
        if (metadata.uid(), metadata.gid()) != (owner.uid(), owner.gid()) {
            // A link is given, not where it leads: whoever took over the daemon may have put it there, and this may be root.
            lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// What a directory holds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing, or what a first start left that did not get far: nothing was ever stored.
    Nothing,
    /// A database, as far as names of files tell.
    Database,
    /// Files of a database, without the one that names its manifest. RocksDB would take that for a new one, and remove the others.
    Remains,
}

/// What a directory holds, by the names of its files.
pub(super) fn holds(path: &Path) -> io::Result<Holds> {
    let mut remains = false;
    for file in fs::read_dir(path)? {
        let name = file?.file_name();
        let name = Path::new(&name);
        if name == Path::new("CURRENT") {
            return Ok(Holds::Database);
        }
        remains |= name == Path::new(witness::FILE) || name.extension().is_some_and(|extension| extension == "sst" || extension == "log");
    }
    Ok(if remains { Holds::Remains } else { Holds::Nothing })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// Root gave away what a link in the store led to: who had taken over the daemon could have had any file.
    #[test]
    fn what_a_link_leads_to_is_not_given_away() {
        let home = tempfile::tempdir().unwrap();
        let (data, others) = (home.path().join("data"), home.path().join("shadow"));
        let store = data.join("db");
        make_directory(&store, 0o700).unwrap();
        fs::write(&others, "root's").unwrap();
        fs::write(store.join("CURRENT"), "").unwrap();
        symlink(&others, store.join("link")).unwrap();
        if chown(&data, Some(54_321), Some(54_321)).is_err() {
            return eprintln!("not root: nothing can be given");
        }
        give_to_owner_of(&data, &store).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let given = [store.clone(), store.join("CURRENT"), store.join("link"), others].map(|path| owner(&path));
        assert_eq!(given, [54_321, 54_321, 54_321, fs::metadata(home.path()).unwrap().uid()]);
    }
}
