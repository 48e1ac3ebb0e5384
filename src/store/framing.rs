//! How RocksDB frames the records of its logs and manifests: in blocks of 32 KiB, each record after a header of 7 bytes (a masked CRC-32C, a length, a kind).
//!
//! RocksDB's reader (11.8) goes round in a circle for ever at a record of a kind that only logs have which are used again, and that a log of this store never has: one
//! changed bit makes such a kind of any other (facebook/rocksdb issue 13333). A daemon that neither starts nor says why would be the worst of all ways to refuse a damaged
//! store, so each file is looked at before RocksDB reads it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// The kinds of records in logs that are used again: whole, first, middle, last; what times have as their size; what the log before was.
const OF_LOGS_USED_AGAIN: [u8; 6] = [5, 6, 7, 8, 11, 131];
/// What RocksDB adds to a checksum before it writes it.
const MASK: u32 = 0xa282_ead8;

/// What is wrong with a log or manifest in this directory, if RocksDB's reader would not come to an end with it.
pub(super) fn fault(directory: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if (name.ends_with(".log") || name.starts_with("MANIFEST-"))
            && path.is_file()
            && let Some(at) = endless(&mut File::open(&path)?)?
        {
            return Ok(Some(format!("Corruption: {} has a record at byte {at} that is of no kind which is written to it", path.display())));
        }
    }
    Ok(None)
}

/// Where the reader would go round in a circle.
fn endless(file: &mut impl Read) -> io::Result<Option<u64>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for number in 0u64.. {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if let Some(at) = endless_in(&block) {
            return Ok(Some(number * BLOCK_BYTES as u64 + at as u64));
        }
        if block.len() < BLOCK_BYTES {
            break;
        }
    }
    Ok(None)
}

fn endless_in(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some((header, rest)) = block.get(at..).and_then(|rest| rest.split_at_checked(HEADER_BYTES)) {
        let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
        if OF_LOGS_USED_AGAIN.contains(&kind) {
            // Behind a record whose checksum is wrong the reader goes on with the next block, so it comes here only past records that are right.
            return are_right(&block[..at]).then_some(at);
        }
        if rest.len() < length || (kind, length) == (0, 0) {
            return None;
        }
        at += HEADER_BYTES + length;
    }
    None
}

/// Whether all these records have the right checksums.
fn are_right(mut records: &[u8]) -> bool {
    while let Some((header, rest)) = records.split_at_checked(HEADER_BYTES) {
        let (payload, rest) = rest.split_at(usize::from(u16::from_le_bytes([header[4], header[5]])));
        let check = u32::from_le_bytes([header[0], header[1], header[2], header[3]]).wrapping_sub(MASK).rotate_right(17);
        if crc32c([&header[6..], payload]) != check {
            return false;
        }
        records = rest;
    }
    true
}

/// CRC-32C, bit by bit: it is asked for a block at most, and next to never.
fn crc32c(pieces: [&[u8]; 2]) -> u32 {
    !pieces.into_iter().flatten().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let masked = crc32c([&[kind], payload]).rotate_left(17).wrapping_add(MASK);
        [&masked.to_le_bytes()[..], &(payload.len() as u16).to_le_bytes(), &[kind], payload].concat()
    }

    fn found(bytes: &[u8]) -> Option<u64> {
        endless(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn crc_32c_is_the_one_of_the_standard() {
        assert_eq!(crc32c([b"1234", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn a_record_of_another_kind_is_found_where_the_reader_comes_to_it() {
        let (one, two) = (record(1, b"one"), record(1, &[7; 300]));
        let whole = [&one[..], &two, &one, &[0; 40]].concat();
        assert_eq!(found(&whole), None);
        for kind in OF_LOGS_USED_AGAIN {
            let mut damaged = whole.clone();
            damaged[one.len() + 6] = kind;
            assert_eq!(found(&damaged), Some(one.len() as u64), "{kind}");
            // One that is damaged before it hides it.
            damaged[one.len() - 1] ^= 1;
            assert_eq!(found(&damaged), None, "{kind}");
        }
        // The next block is read whatever the one before holds.
        let mut far = vec![0xff; BLOCK_BYTES];
        far.extend(record(5, b"five"));
        assert_eq!(found(&far), Some(BLOCK_BYTES as u64));
        // Cut anywhere, it is RocksDB's to say.
        assert!((0..whole.len()).all(|end| found(&whole[..end]).is_none()));
    }
}
