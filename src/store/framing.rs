//! How RocksDB frames the records of its logs and manifests: in blocks of 32 KiB, each record after a header of 7 bytes (a masked CRC-32C, a length, a kind).
//!
//! Each file is looked at before RocksDB reads it, for two reasons. What RocksDB opens, it also changes: it takes what stands before a damaged record for all there is, writes that
//! into tables, and removes the log; nobody could show then which file was damaged. And its reader (11.8) goes round in a circle for ever at a record of a kind that only logs
//! have which are used again, and that a log of this store never has: one changed bit makes such a kind of any other (facebook/rocksdb issue 13333). A daemon that neither starts
//! nor says why would be the worst of all ways to refuse a damaged store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crc32c::crc32c;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Where the kind stands, from which on all is under the checksum.
const KIND_AT: usize = 6;
/// The kinds of records in logs that are used again: whole, first, middle, last; what times have as their size; what the log before was.
const OF_LOGS_USED_AGAIN: [u8; 6] = [5, 6, 7, 8, 11, 131];
/// What RocksDB adds to a checksum before it writes it.
const MASK: u32 = 0xa282_ead8;

/// A record that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It is cut short, or its checksum is wrong. After a power failure the last of a log may be so.
    Broken,
    /// RocksDB's reader would not come to an end with the one at this byte.
    Endless(u64),
}

/// The logs and manifests of a directory that have such a record.
pub(super) fn faults(directory: &Path) -> io::Result<Vec<(PathBuf, Fault)>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if (name.ends_with(".log") || name.starts_with("MANIFEST-"))
            && path.is_file()
            && let Some(fault) = fault(&mut File::open(&path)?)?
        {
            faults.push((path, fault));
        }
    }
    faults.sort();
    Ok(faults)
}

/// The worst that is wrong with a file.
fn fault(file: &mut impl Read) -> io::Result<Option<Fault>> {
    let mut worst = None;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for number in 0u64.. {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        match fault_in(&block) {
            Some(Fault::Endless(at)) => return Ok(Some(Fault::Endless(number * BLOCK_BYTES as u64 + at))),
            found => worst = worst.or(found),
        }
        if block.len() < BLOCK_BYTES {
            break;
        }
    }
    Ok(worst)
}

/// What the reader meets first: behind a record that is broken it goes on with the next block.
fn fault_in(block: &[u8]) -> Option<Fault> {
    let mut rest = block;
    while let Some((header, _)) = rest.split_at_checked(HEADER_BYTES) {
        let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[KIND_AT]);
        if OF_LOGS_USED_AGAIN.contains(&kind) {
            return Some(Fault::Endless((block.len() - rest.len()) as u64));
        }
        if (kind, length) == (0, 0) {
            return None;
        }
        let check = u32::from_le_bytes([header[0], header[1], header[2], header[3]]).wrapping_sub(MASK).rotate_right(17);
        match rest.split_at_checked(HEADER_BYTES + length) {
            Some((record, behind)) if crc32c(&record[KIND_AT..]) == check => rest = behind,
            _ => return Some(Fault::Broken),
        }
    }
    // A block ends with zeros where no header has room.
    rest.iter().any(|byte| *byte != 0).then_some(Fault::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let masked = crc32c(&[&[kind], payload].concat()).rotate_left(17).wrapping_add(MASK);
        [&masked.to_le_bytes()[..], &(payload.len() as u16).to_le_bytes(), &[kind], payload].concat()
    }

    fn found(bytes: &[u8]) -> Option<Fault> {
        fault(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn a_record_of_another_kind_is_found_where_the_reader_comes_to_it() {
        let (one, two) = (record(1, b"one"), record(1, &[7; 300]));
        let whole = [&one[..], &two, &one, &[0; 40]].concat();
        assert_eq!(found(&whole), None);
        for kind in OF_LOGS_USED_AGAIN {
            let mut damaged = whole.clone();
            damaged[one.len() + 6] = kind;
            assert_eq!(found(&damaged), Some(Fault::Endless(one.len() as u64)), "{kind}");
            // One that is damaged before it hides it.
            damaged[one.len() - 1] ^= 1;
            assert_eq!(found(&damaged), Some(Fault::Broken), "{kind}");
        }
        // The next block is read whatever the one before holds.
        let mut far = vec![0xff; BLOCK_BYTES];
        far.extend(record(5, b"five"));
        assert_eq!(found(&far), Some(Fault::Endless(BLOCK_BYTES as u64)));
    }

    #[test]
    fn a_record_that_is_changed_or_cut_is_found() {
        let (one, two) = (record(1, b"one"), record(1, &[7; 300]));
        let whole = [&one[..], &two].concat();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            assert_eq!(found(&damaged), Some(Fault::Broken), "byte {at}");
            // Between two records nothing shows that there were more.
            assert_eq!(found(&whole[..at]).is_some(), at != 0 && at != one.len(), "cut at {at}");
        }
    }
}
