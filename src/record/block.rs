//! The inside of a row of many keys: a block for each, in the order of their ids.
//!
//! A block is how many of its first bytes the id shares with the one before (1 byte), the rest of the id, the lengths of four parts, and the parts:
//! counts (unit, function, version, verdict, count), countries (unit, code, count), last uses (version, time, address, country) and networks
//! (time, address in it; without an address, the time up to which networks may be missing). Numbers are bincode's variable-length integers; times are milliseconds from the row's beginning, zigzag. So a reader that
//! wants one key leaps over the others, and a merge copies what only one of its operands has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::uses::newest;
use crate::key::{Instant, KeyId, Network, Verdict};

/// A length of two numbers and more is behind these bytes.
const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const EIGHT_BYTES: u8 = 253;

/// What a count is of, within its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Units from the row's beginning.
    pub unit: u16,
    /// The function's number.
    pub function: u16,
    /// The secret's version.
    pub version: u16,
    /// The verdict's number.
    pub verdict: u8,
}

/// The last verify with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The secret's version.
    pub version: u16,
    /// Milliseconds from the row's beginning.
    pub at: i64,
    /// From where.
    pub address: Option<IpAddr>,
    /// Zeros for none.
    pub country: [u8; 2],
}

/// What one key has in a row. Used again for the next key, so that nothing is allocated for each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OfKey {
    /// In order, once it is joined; as all these.
    pub counts: Vec<(Place, u64)>,
    /// By unit and country.
    pub countries: Vec<((u16, [u8; 2]), u64)>,
    /// By version.
    pub uses: Vec<Use>,
    /// Networks other than those that the uses were in at the same time, newest first; times as those of uses.
    pub networks: Vec<(Instant, Network)>,
    /// Networks that were used up to this time may be missing.
    pub forgotten: Option<i64>,
}

impl OfKey {
    /// Forgets what it has.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.countries.clear();
        self.uses.clear();
        self.networks.clear();
        self.forgotten = None;
    }

    /// Whether it has nothing: no count, no use and no network.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.uses.is_empty() && self.networks.is_empty()
    }

    /// Makes each place stand there once with its sum; of uses the last of each version, of networks the newest.
    pub fn join(&mut self) {
        add_up(&mut self.counts);
        add_up(&mut self.countries);
        if self.uses.len() > 1 || !self.networks.is_empty() {
            self.join_uses();
        }
    }

    fn join_uses(&mut self) {
        let OfKey { uses, networks, .. } = self;
        networks.extend(uses.iter().filter_map(|last| Some((Instant(last.at), Network::around(last.address?)))));
        uses.sort_unstable_by_key(|last| (last.version, Reverse((last.at, last.address, last.country))));
        uses.dedup_by_key(|last| last.version);
        self.forgotten = self.forgotten.max(newest(networks).map(|at| at.0));
        networks.retain(|&(at, network)| !uses.iter().any(|last| last.at == at.0 && last.address.map(Network::around) == Some(network)));
    }

    /// The networks, those of the uses among them, newest first; and the time up to which some may be missing.
    pub fn all_networks(&self) -> (Vec<(Instant, Network)>, Option<Instant>) {
        let of_uses = self.uses.iter().filter_map(|last| Some((Instant(last.at), Network::around(last.address?))));
        let mut networks: Vec<_> = self.networks.iter().copied().chain(of_uses).collect();
        let forgotten = newest(&mut networks).map(|at| at.0);
        (networks, self.forgotten.max(forgotten).map(Instant))
    }

    /// Adds what a block has; none if it cannot be read.
    pub fn read(&mut self, block: &Block<'_>) -> Option<()> {
        block.each_count(|place, count| self.counts.push((place, count)))?;
        block.each_country(|place, count| self.countries.push((place, count)))?;
        let mut uses = block.uses;
        while !uses.is_empty() {
            let version = take_u16(&mut uses)?;
            let at = take_time(&mut uses)?;
            let address = take_address(&mut uses)?;
            self.uses.push(Use { version, at, address, country: take_bytes(&mut uses)? });
        }
        let mut networks = block.networks;
        while !networks.is_empty() {
            let at = take_time(&mut networks)?;
            match take_address(&mut networks)? {
                Some(address) => self.networks.push((Instant(at), Network::around(address))),
                None => self.forgotten = self.forgotten.max(Some(at)),
            }
        }
        Some(())
    }

    fn write(&self, parts: &mut [Vec<u8>; 4]) {
        parts.iter_mut().for_each(Vec::clear);
        let [counts, countries, uses, networks] = parts;
        for &(Place { unit, function, version, verdict }, count) in &self.counts {
            put(counts, unit.into());
            put(counts, function.into());
            put(counts, version.into());
            counts.push(verdict);
            put(counts, count);
        }
        for &((unit, country), count) in &self.countries {
            put(countries, unit.into());
            countries.extend(country);
            put(countries, count);
        }
        for last in &self.uses {
            put(uses, last.version.into());
            put_time(uses, last.at);
            put_address(uses, last.address);
            uses.extend(last.country);
        }
        for (at, network) in &self.networks {
            put_time(networks, at.0);
            put_address(networks, Some(network.net().addr()));
        }
        if let Some(at) = self.forgotten {
            put_time(networks, at);
            put_address(networks, None);
        }
    }
}

/// Makes each place of a list stand there once, with its sum, in order.
fn add_up<P: Ord + Copy>(counts: &mut Vec<(P, u64)>) {
    if counts.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    // Stable, since that finds what is in order already: the parts that are joined.
    counts.sort_by_key(|(place, _)| *place);
    counts.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(later.1);
        }
        same
    });
}

/// One key in a row.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// Its id.
    pub key: KeyId,
    counts: &'a [u8],
    countries: &'a [u8],
    uses: &'a [u8],
    networks: &'a [u8],
    /// The lengths and the parts.
    whole: &'a [u8],
}

impl Block<'_> {
    /// Hands over each count; none if one cannot be read.
    pub fn each_count(&self, mut with: impl FnMut(Place, u64)) -> Option<()> {
        let mut counts = self.counts;
        while !counts.is_empty() {
            let (unit, function, version) = (take_u16(&mut counts)?, take_u16(&mut counts)?, take_u16(&mut counts)?);
            let [verdict] = take_bytes(&mut counts)?;
            with(Place { unit, function, version, verdict }, take(&mut counts)?);
        }
        Some(())
    }

    /// Hands over each count by unit and country; none if one cannot be read.
    pub fn each_country(&self, mut with: impl FnMut((u16, [u8; 2]), u64)) -> Option<()> {
        let mut countries = self.countries;
        while !countries.is_empty() {
            let place = (take_u16(&mut countries)?, take_bytes(&mut countries)?);
            with(place, take(&mut countries)?);
        }
        Some(())
    }

    /// Whether there is a last use or a network in it.
    pub fn has_uses(&self) -> bool {
        !self.uses.is_empty() || !self.networks.is_empty()
    }
}

/// The blocks of a row, in order.
pub struct Blocks<'a> {
    rest: &'a [u8],
    last: Option<KeyId>,
}

impl<'a> Blocks<'a> {
    /// None where the record is of another format.
    pub fn new(record: &'a [u8]) -> Option<Blocks<'a>> {
        let (&format, rest) = record.split_first()?;
        (format == super::FORMAT).then_some(Blocks { rest, last: None })
    }

    /// The next block, `None` at the end; an error where what follows is no block.
    pub fn next_block(&mut self) -> Result<Option<Block<'a>>, Damaged> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.read().map(Some).ok_or(Damaged)
    }

    fn read(&mut self) -> Option<Block<'a>> {
        let rest = &mut self.rest;
        let [shared] = take_bytes(rest)?;
        let mut key = match self.last {
            Some(last) => last,
            None if shared == 0 => KeyId::NONE,
            None => return None,
        };
        let own = rest.split_off(..16usize.checked_sub(shared.into())?)?;
        key.0[shared.into()..].copy_from_slice(own);
        if self.last.is_some_and(|last| last >= key) {
            return None;
        }
        self.last = Some(key);
        let begun = *rest;
        let mut lengths = [0; 4];
        for length in &mut lengths {
            *length = usize::try_from(take(rest)?).ok()?;
        }
        let mut part = |length| rest.split_off(..length);
        let [counts, countries, uses, networks] = [part(lengths[0])?, part(lengths[1])?, part(lengths[2])?, part(lengths[3])?];
        let whole = &begun[..begun.len() - rest.len()];
        Some(Block { key, counts, countries, uses, networks, whole })
    }
}

/// What stands there is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Writes a row, block by block, in the order of the ids.
pub struct Writer {
    row: Vec<u8>,
    last: Option<KeyId>,
    parts: [Vec<u8>; 4],
}

impl Writer {
    /// A row of no key, with room for so many bytes.
    pub fn new(capacity: usize) -> Writer {
        let mut row = Vec::with_capacity(capacity);
        row.push(super::FORMAT);
        Writer { row, last: None, parts: Default::default() }
    }

    /// Adds a key with what it has, which is joined.
    pub fn add(&mut self, key: KeyId, of_key: &OfKey) {
        self.begin(key);
        of_key.write(&mut self.parts);
        for part in &self.parts {
            put(&mut self.row, part.len() as u64);
        }
        for part in &self.parts {
            self.row.extend_from_slice(part);
        }
    }

    /// Adds a key as another row has it.
    pub fn copy(&mut self, block: &Block<'_>) {
        self.begin(block.key);
        self.row.extend_from_slice(block.whole);
    }

    fn begin(&mut self, key: KeyId) {
        let shared = self.last.map_or(0, |last| last.0.iter().zip(key.0).take_while(|(a, b)| **a == *b).count());
        self.row.push(shared as u8);
        self.row.extend_from_slice(&key.0[shared..]);
        self.last = Some(key);
    }

    /// Bytes of the row so far.
    pub fn bytes(&self) -> usize {
        self.row.len()
    }

    /// Whether no key was added.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The row so far.
    pub fn row(&self) -> &[u8] {
        &self.row
    }

    /// Begins an empty row.
    pub fn clear(&mut self) {
        self.row.truncate(1);
        self.last = None;
    }
}

/// Whether a row can be read whole.
pub fn check(row: &[u8]) -> bool {
    read_whole(row).is_some()
}

fn read_whole(row: &[u8]) -> Option<()> {
    let mut blocks = Blocks::new(row)?;
    let mut of_key = OfKey::default();
    while let Some(block) = blocks.next_block().ok()? {
        of_key.clear();
        of_key.read(&block)?;
        of_key.counts.iter().try_for_each(|(place, _)| Verdict::from_number(place.verdict).map(drop))?;
    }
    Some(())
}

/// Joins rows. A block that is damaged is left out, with what stands behind it; into a block that only one row has nobody looks, and it stays as it is.
pub fn merge<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = 1;
    let mut open = Vec::new();
    let mut heads = BinaryHeap::new();
    for row in rows {
        bytes += row.len();
        if let Some(mut blocks) = Blocks::new(row)
            && let Ok(Some(first)) = blocks.next_block()
        {
            heads.push(Reverse((first.key, open.len())));
            open.push((first, blocks));
        }
    }
    let mut writer = Writer::new(bytes);
    let mut of_key = OfKey::default();
    let mut same: Vec<Block<'_>> = Vec::new();
    while let Some(Reverse((key, _))) = heads.peek().copied() {
        same.clear();
        while let Some(mut head) = heads.peek_mut().filter(|head| head.0.0 == key) {
            let (block, blocks) = &mut open[head.0.1];
            same.push(*block);
            if let Ok(Some(next)) = blocks.next_block() {
                head.0.0 = next.key;
                *block = next;
            } else {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
        if let [block] = &same[..] {
            writer.copy(block);
            continue;
        }
        of_key.clear();
        for block in &same {
            // What was read before the damage counts.
            let _ = of_key.read(block);
        }
        of_key.join();
        writer.add(key, &of_key);
    }
    writer.row
}

fn put(bytes: &mut Vec<u8>, number: u64) {
    if number < TWO_BYTES.into() {
        bytes.push(number as u8);
    } else if let Ok(number) = u16::try_from(number) {
        bytes.push(TWO_BYTES);
        bytes.extend(number.to_le_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        bytes.push(FOUR_BYTES);
        bytes.extend(number.to_le_bytes());
    } else {
        bytes.push(EIGHT_BYTES);
        bytes.extend(number.to_le_bytes());
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    match take_bytes(bytes)? {
        [TWO_BYTES] => Some(u16::from_le_bytes(take_bytes(bytes)?).into()),
        [FOUR_BYTES] => Some(u32::from_le_bytes(take_bytes(bytes)?).into()),
        [EIGHT_BYTES] => Some(u64::from_le_bytes(take_bytes(bytes)?)),
        [number] => (number < TWO_BYTES).then_some(number.into()),
    }
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    u16::try_from(take(bytes)?).ok()
}

fn take_bytes<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn put_time(bytes: &mut Vec<u8>, ms: i64) {
    put(bytes, (ms << 1 ^ ms >> 63) as u64);
}

fn take_time(bytes: &mut &[u8]) -> Option<i64> {
    let number = take(bytes)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

fn put_address(bytes: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => bytes.push(0),
        Some(IpAddr::V4(v4)) => {
            bytes.push(4);
            bytes.extend(v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            bytes.push(6);
            bytes.extend(v6.octets());
        }
    }
}

/// The outer `None` where there is no address to read.
#[expect(clippy::option_option, reason = "an address that is missing is not one that cannot be read")]
fn take_address(bytes: &mut &[u8]) -> Option<Option<IpAddr>> {
    match take_bytes(bytes)? {
        [0] => Some(None),
        [4] => Some(Some(IpAddr::V4(Ipv4Addr::from(take_bytes::<4>(bytes)?)))),
        [6] => Some(Some(IpAddr::V6(Ipv6Addr::from(take_bytes::<16>(bytes)?)))),
        _ => None,
    }
}
