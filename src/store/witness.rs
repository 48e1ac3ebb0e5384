use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Head;

/// The file beside RocksDB's own.
pub(super) const FILE: &str = "acknowledged";
/// A slot: 8 bytes `DOORWARD`, the sequence (8, little-endian), the MAC (32), the number of the manifest (8), how many bytes of it are vouched for (8), the CRC-32 of
/// those (4), the CRC-32 of these 68 bytes (4, little-endian), zeros. A page of its own, so that a torn write harms one slot only.
const SLOT_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"DOORWARD";
const USED_BYTES: usize = 72;
/// Behind the slots, in a page of its own: 8 bytes `DWSYNCED`, a sequence number of RocksDB's (8, little-endian), the CRC-32 of these 16 bytes (4, little-endian), zeros.
const SYNCED_AT: u64 = 2 * SLOT_BYTES;
const SYNCED_MAGIC: &[u8; 8] = b"DWSYNCED";
const FILE_BYTES: u64 = SYNCED_AT + SLOT_BYTES;
/// Bytes of a manifest that are read at once.
const CHUNK: usize = 64 << 10;

/// The end of the chain as it was last acknowledged, kept apart from RocksDB: no recovery of its log can then lose an acknowledged change without being noticed.
/// Two slots are written in turn, so that one is always whole.
///
/// It also vouches for the manifest, by which RocksDB knows its tables: of a manifest that was cut short, or whose end cannot be read, RocksDB takes what is before that for
/// all there is, and removes the tables that only the rest named.
///
/// And it notes how far RocksDB's log was synced with usage in it, which is no change and may be behind the last one: so its loss is noticed, too.
pub(super) struct Witness {
    /// None where the store was opened to be read.
    file: Option<File>,
    manifest: Option<Manifest>,
    acknowledged: Option<Head>,
    vouched: Option<Vouched>,
    synced: Option<u64>,
    next_slot: u64,
}

/// How far a manifest is vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vouched {
    number: u64,
    bytes: u64,
    check: u32,
}

/// The manifest that RocksDB appends to.
struct Manifest {
    directory: PathBuf,
    file: File,
    number: u64,
    bytes: u64,
    check: crc32fast::Hasher,
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    head: Head,
    vouched: Vouched,
}

impl Witness {
    /// Opens it, and makes it if it is missing.
    pub(super) fn open(directory: &Path) -> io::Result<Witness> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() < FILE_BYTES {
            file.set_len(FILE_BYTES)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        let witness = Witness::read(&file)?;
        Ok(Witness { file: Some(file), ..witness })
    }

    /// Reads it, and changes nothing.
    pub(super) fn open_to_read(directory: &Path) -> io::Result<Witness> {
        match File::open(directory.join(FILE)) {
            Ok(file) if file.metadata()?.len() >= SYNCED_AT => Witness::read(&file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Witness { file: None, manifest: None, acknowledged: None, vouched: None, synced: None, next_slot: 0 }),
        }
    }

    fn read(file: &File) -> io::Result<Witness> {
        let slots = [read_slot(file, 0)?, read_slot(file, 1)?];
        let newest =
            (0..2).max_by_key(|&slot: &usize| slots[slot].map(|slot| (slot.head.sequence, slot.vouched.number, slot.vouched.bytes)));
        let newest = newest.unwrap_or(0);
        let (acknowledged, vouched) = slots[newest].map(|slot| (slot.head, slot.vouched)).unzip();
        Ok(Witness { file: None, manifest: None, acknowledged, vouched, synced: read_synced(file)?, next_slot: 1 - newest as u64 })
    }

    pub(super) fn acknowledged(&self) -> Option<Head> {
        self.acknowledged
    }

    /// Up to which sequence number RocksDB's log was synced, at least.
    pub(super) fn synced(&self) -> Option<u64> {
        self.synced
    }

    /// Notes that RocksDB's log is synced up to a sequence number. This itself is not synced: after a power failure it may say less than there was, never more.
    pub(super) fn note_synced(&mut self, sequence: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let said = [&SYNCED_MAGIC[..], &sequence.to_le_bytes()].concat();
        file.write_all_at(&[&said[..], &crc32fast::hash(&said).to_le_bytes()].concat(), SYNCED_AT)?;
        self.synced = Some(sequence);
        Ok(())
    }

    /// The manifest that is there and what is wrong with it, if it is the one that was vouched for. To be asked before RocksDB opens it.
    pub(super) fn manifest_fault(&self, directory: &Path) -> io::Result<Option<(PathBuf, String)>> {
        let Some(vouched) = self.vouched else { return Ok(None) };
        let manifest = match Manifest::open(directory) {
            Ok(manifest) if manifest.number == vouched.number => manifest,
            // RocksDB says what is wrong with one that cannot be found. Another than this was made by a start that ended early.
            _ => return Ok(None),
        };
        let path = directory.join(name(manifest.number));
        let there = manifest.file.metadata()?.len();
        if there < vouched.bytes {
            let fault = format!("Corruption: {} has {there} bytes, but it had {}", path.display(), vouched.bytes);
            return Ok(Some((path, fault)));
        }
        let mut check = crc32fast::Hasher::new();
        add(&manifest.file, &mut check, 0, vouched.bytes)?;
        if check.finalize() != vouched.check {
            let fault = format!("Corruption: {} is not what was written to it", path.display());
            return Ok(Some((path, fault)));
        }
        Ok(None)
    }

    /// Begins to vouch for the manifest that RocksDB now has.
    pub(super) fn watch_manifest(&mut self, directory: &Path) -> io::Result<()> {
        self.manifest = Some(Manifest::open(directory)?);
        Ok(())
    }

    pub(super) fn note(&mut self, head: Head) -> io::Result<()> {
        let vouched = self.manifest.as_mut().map(Manifest::vouch).transpose()?;
        let vouched = vouched.unwrap_or(Vouched { number: 0, bytes: 0, check: 0 });
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the store was opened to be read"))?;
        let mut slot = [0u8; USED_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&head.sequence.to_le_bytes());
        slot[16..48].copy_from_slice(&head.mac);
        slot[48..56].copy_from_slice(&vouched.number.to_le_bytes());
        slot[56..64].copy_from_slice(&vouched.bytes.to_le_bytes());
        slot[64..68].copy_from_slice(&vouched.check.to_le_bytes());
        let check = crc32fast::hash(&slot[..68]);
        slot[68..].copy_from_slice(&check.to_le_bytes());
        file.write_all_at(&slot, self.next_slot * SLOT_BYTES)?;
        file.sync_data()?;
        (self.acknowledged, self.vouched) = (Some(head), Some(vouched));
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

impl Manifest {
    /// The one that CURRENT names.
    fn open(directory: &Path) -> io::Result<Manifest> {
        let current = std::fs::read_to_string(directory.join("CURRENT"))?;
        let number = current.trim_end().strip_prefix("MANIFEST-").and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "CURRENT names no manifest"))?;
        let file = File::open(directory.join(name(number)))?;
        Ok(Manifest { directory: directory.to_owned(), file, number, bytes: 0, check: crc32fast::Hasher::new() })
    }

    /// How far it may be vouched for: all that is in it, which is synced before, since RocksDB may be about to.
    fn vouch(&mut self) -> io::Result<Vouched> {
        let mut metadata = self.file.metadata()?;
        if metadata.nlink() == 0 {
            // RocksDB begins another when one has grown large.
            *self = Manifest::open(&self.directory)?;
            metadata = self.file.metadata()?;
        }
        if metadata.len() != self.bytes {
            self.file.sync_data()?;
            add(&self.file, &mut self.check, self.bytes, metadata.len())?;
            self.bytes = metadata.len();
        }
        Ok(Vouched { number: self.number, bytes: self.bytes, check: self.check.clone().finalize() })
    }
}

fn name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

fn add(file: &File, check: &mut crc32fast::Hasher, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let length = buffer.len().min((to - at) as usize);
        file.read_exact_at(&mut buffer[..length], at)?;
        check.update(&buffer[..length]);
        at += length as u64;
    }
    Ok(())
}

fn read_synced(file: &File) -> io::Result<Option<u64>> {
    if file.metadata()?.len() < FILE_BYTES {
        return Ok(None);
    }
    let mut said = [0u8; 20];
    file.read_exact_at(&mut said, SYNCED_AT)?;
    let is_whole = said[..8] == SYNCED_MAGIC[..] && said[16..] == crc32fast::hash(&said[..16]).to_le_bytes();
    Ok(is_whole.then(|| u64::from_le_bytes(std::array::from_fn(|byte| said[8 + byte]))))
}

/// A slot that is empty or torn is none: the other one then holds what was acknowledged before.
fn read_slot(file: &File, number: u64) -> io::Result<Option<Slot>> {
    let mut slot = [0u8; USED_BYTES];
    file.read_exact_at(&mut slot, number * SLOT_BYTES)?;
    let check = crc32fast::hash(&slot[..68]).to_le_bytes();
    if slot[..8] != MAGIC[..] || slot[68..] != check {
        return Ok(None);
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| slot[at + byte]));
    let head = Head { sequence: word(8), mac: std::array::from_fn(|byte| slot[16 + byte]) };
    let check = u32::from_le_bytes(std::array::from_fn(|byte| slot[64 + byte]));
    Ok(Some(Slot { head, vouched: Vouched { number: word(48), bytes: word(56), check } }))
}
