use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Head;

/// The file beside RocksDB's own.
pub(super) const FILE: &str = "acknowledged";
/// A slot: 8 bytes `DOORWARD`, the sequence (8, little-endian), the MAC (32), the CRC-32 of these (4, little-endian), zeros.
/// A page of its own, so that a torn write harms one slot only.
const SLOT_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"DOORWARD";
const USED_BYTES: usize = 52;

/// The end of the chain as it was last acknowledged, kept apart from RocksDB: no recovery of its log can then lose an acknowledged
/// change without being noticed. Two slots are written in turn, so that one is always whole.
pub(super) struct Witness {
    /// None where the store was opened to be read.
    file: Option<File>,
    acknowledged: Option<Head>,
    next_slot: u64,
}

impl Witness {
    /// Opens it, and makes it if it is missing.
    pub(super) fn open(directory: &Path) -> io::Result<Witness> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() < 2 * SLOT_BYTES {
            file.set_len(2 * SLOT_BYTES)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        Witness::read(file)
    }

    /// Reads it, and changes nothing.
    pub(super) fn open_to_read(directory: &Path) -> io::Result<Witness> {
        let absent = Witness { file: None, acknowledged: None, next_slot: 0 };
        match File::open(directory.join(FILE)) {
            Ok(file) if file.metadata()?.len() < 2 * SLOT_BYTES => Ok(absent),
            Ok(file) => Ok(Witness { file: None, ..Witness::read(file)? }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(absent),
            Err(error) => Err(error),
        }
    }

    fn read(file: File) -> io::Result<Witness> {
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let newest = (0..2).max_by_key(|&slot: &usize| slots[slot].map(|head| head.sequence)).unwrap_or(0);
        Ok(Witness { file: Some(file), acknowledged: slots[newest], next_slot: 1 - newest as u64 })
    }

    pub(super) fn acknowledged(&self) -> Option<Head> {
        self.acknowledged
    }

    pub(super) fn note(&mut self, head: Head) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the store was opened to be read"))?;
        let mut slot = [0u8; USED_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&head.sequence.to_le_bytes());
        slot[16..48].copy_from_slice(&head.mac);
        let check = crc32fast::hash(&slot[..48]);
        slot[48..].copy_from_slice(&check.to_le_bytes());
        file.write_all_at(&slot, self.next_slot * SLOT_BYTES)?;
        file.sync_data()?;
        self.acknowledged = Some(head);
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

/// A slot that is empty or torn is none: the other one then holds what was acknowledged before.
fn read_slot(file: &File, number: u64) -> io::Result<Option<Head>> {
    let mut slot = [0u8; USED_BYTES];
    file.read_exact_at(&mut slot, number * SLOT_BYTES)?;
    let check = crc32fast::hash(&slot[..48]).to_le_bytes();
    if slot[..8] != MAGIC[..] || slot[48..] != check {
        return Ok(None);
    }
    let sequence = u64::from_le_bytes(slot[8..16].try_into().expect("8 bytes"));
    Ok(Some(Head { sequence, mac: slot[16..48].try_into().expect("32 bytes") }))
}
