use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::FileRecord;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// The end of a table that two tables are told apart by: it holds the number, the session and the database that made it.
const TAIL: u64 = 4096;

/// Copies a file for its owner alone, synced; tells its length and what it hashes to.
pub(super) fn copy(from: &Path, to: &Path, mut copied: impl FnMut(u64)) -> io::Result<(u64, String)> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let sum = pass(&mut source, |chunk| {
        copied(chunk.len() as u64);
        target.write_all(chunk)
    })?;
    target.sync_all()?;
    Ok(sum)
}

/// What a file hashes to, as it is on the disk: what of it is in memory is let go before.
pub(super) fn sum(path: &Path, mut read: impl FnMut(u64)) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    // Where that is refused, what is in memory is read.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    pass(&mut file, |chunk| {
        read(chunk.len() as u64);
        Ok(())
    })
}

fn pass(file: &mut File, mut chunk: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                bytes += read as u64;
                hash.update(&buffer[..read]);
                chunk(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Whether a table of the store is one that an earlier backup has: the same name, length and end.
pub(super) fn is_same_table(table: &Path, earlier: &Path, record: &FileRecord) -> bool {
    let is_table = table.extension().is_some_and(|extension| extension == "sst");
    let same_length = fs::metadata(table).is_ok_and(|file| file.len() == record.bytes);
    is_table && same_length && matches!((tail(table), tail(earlier)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    Ok(end)
}

/// Has on the disk which files a directory holds.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
