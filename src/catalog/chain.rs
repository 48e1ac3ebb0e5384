//! The history's chain: each entry's MAC covers the one before it, so none can be changed, dropped or put in unnoticed.

use std::ops::RangeInclusive;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::{Pepper, Peppers};
use crate::key::PepperId;
use crate::store::{Head, MAC_BYTES, Recorded, Store, StoreError};

/// Makes the MACs of one pepper's chain key.
pub(super) struct ChainKey {
    pepper: PepperId,
    mac: Hmac<Sha256>,
}

impl ChainKey {
    pub(super) fn new(pepper: &Pepper) -> ChainKey {
        let mac = Hmac::new_from_slice(&pepper.chain_key()).expect("HMAC takes a key of any length");
        ChainKey { pepper: pepper.id(), mac }
    }

    pub(super) fn pepper(&self) -> PepperId {
        self.pepper
    }

    /// Gives an entry's record its MAC behind `previous`, and returns it.
    pub(super) fn seal(&self, previous: &[u8; 32], record: &mut [u8]) -> [u8; 32] {
        let mac = self.mac_of(previous, record);
        let body = record.len() - MAC_BYTES;
        record[body..].copy_from_slice(&mac);
        mac
    }

    fn mac_of(&self, previous: &[u8; 32], record: &[u8]) -> [u8; 32] {
        self.over(previous, record).finalize().into_bytes().into()
    }

    /// Whether this is the MAC of a record behind `previous`, in a time that says nothing of how much of it is right.
    fn sealed(&self, previous: &[u8; 32], record: &[u8], mac: &[u8; 32]) -> bool {
        self.over(previous, record).verify_slice(mac).is_ok()
    }

    fn over(&self, previous: &[u8; 32], record: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(previous);
        mac.update(&record[..record.len() - MAC_BYTES]);
        mac
    }
}

/// What a look at the chain found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// Entries whose MAC is right.
    pub verified: u64,
    /// Entries made under a pepper that is no longer at hand: their MAC cannot be checked.
    pub other_pepper: u64,
    /// What is wrong, a sentence each; at most 100.
    pub faults: Vec<String>,
}

/// Faults after which no more are noted: one is enough to act on.
const FAULTS: usize = 100;

/// Checks the entries of a range against the chain: that none is missing, and that each MAC is right. A range that reaches the
/// chain's end is also checked against the head.
///
/// # Errors
/// The store cannot be read.
pub fn verify_chain(store: &Store, peppers: &Peppers, range: RangeInclusive<u64>) -> Result<ChainReport, StoreError> {
    let keys: Vec<ChainKey> = [Some(&peppers.current), peppers.previous.as_ref()].into_iter().flatten().map(ChainKey::new).collect();
    let head = store.head()?;
    let first = (*range.start()).max(1);
    let last = (*range.end()).min(head.sequence);
    let mut report = ChainReport::default();
    if first > last {
        return Ok(report);
    }
    let before = if first == 1 { None } else { store.entry(first - 1)? };
    let mut tail = Head { sequence: first - 1, mac: before.map_or([0; 32], |recorded| recorded.entry.mac) };
    store.each_entry(first..=last, |recorded| check_entry(&mut report, &keys, &mut tail, &recorded))?;
    if *range.end() >= head.sequence && tail != head {
        report.fault(format!("the chain ends at entry {}, not as the head (entry {}) says", tail.sequence, head.sequence));
    }
    Ok(report)
}

/// Checks the entry behind `tail`, which it then is itself.
pub(super) fn check_entry(report: &mut ChainReport, keys: &[ChainKey], tail: &mut Head, recorded: &Recorded) {
    let entry = &recorded.entry;
    if entry.sequence != tail.sequence + 1 {
        report.fault(format!("entry {} follows entry {}: what was between is missing", entry.sequence, tail.sequence));
    }
    match keys.iter().find(|key| key.pepper == entry.pepper) {
        None => report.other_pepper += 1,
        Some(key) if key.sealed(&tail.mac, &recorded.record, &entry.mac) => report.verified += 1,
        Some(_) => report.fault(format!("the MAC of entry {} is wrong: it, or the one before it, was changed", entry.sequence)),
    }
    *tail = Head { sequence: entry.sequence, mac: entry.mac };
}

impl ChainReport {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        }
    }
}
