use std::net::{IpAddr, Ipv4Addr};

use super::Event;
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

/// Rows that a table has places for.
pub(super) const SLOTS: usize = 1 << 15;
/// Rows from which a table is crowded: other lanes are tried first, and a drain is asked for.
pub(super) const CROWDED: usize = SLOTS / 4 * 3;
/// Rows from which a new row is folded.
const FOLD: usize = SLOTS / 8 * 7;
/// Rows from which no new row is taken, so that a search for a place stays short.
const FULL: usize = SLOTS / 16 * 15;
/// Places that are looked at for a row: at 15/16 full a free one is nearly always among them.
const PROBES: usize = 256;

/// A row of a table: one cache line. Its place is free while `count` is 0, which zero pages are.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) count: u64,
    last_ms: i64,
    key: [u8; 16],
    /// Of the last use; an IPv4 address in the first 4 bytes.
    address: [u8; 16],
    function: u16,
    version: u16,
    /// Zeros for none.
    country: [u8; 2],
    verdict: u8,
    /// 0 for no address, 4 or 6.
    family: u8,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What became of an event in a table.
pub(super) enum Counted {
    /// It has its row.
    Exactly,
    /// It is in the row of its key, secret and verdict that stands for all other functions and countries.
    Folded,
    /// Nowhere.
    Lost,
}

impl Slot {
    /// The row of one event, with a count of 1.
    pub(super) fn row(event: &Event<'_>) -> Slot {
        let mut address = [0; 16];
        let family = match event.address {
            None => 0,
            Some(IpAddr::V4(v4)) => {
                address[..4].copy_from_slice(&v4.octets());
                4
            }
            Some(IpAddr::V6(v6)) => {
                address = v6.octets();
                6
            }
        };
        Slot {
            count: 1,
            last_ms: event.at.0,
            key: event.key.0,
            address,
            function: event.function.0,
            version: event.version,
            country: event.country.map_or([0; 2], |country| country.0),
            verdict: event.verdict as u8,
            family,
        }
    }

    pub(super) fn key(&self) -> KeyId {
        KeyId(self.key)
    }

    pub(super) fn version(&self) -> u16 {
        self.version
    }

    pub(super) fn function(&self) -> FunctionId {
        FunctionId(self.function)
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict::from_number(self.verdict).unwrap_or(Verdict::Ok)
    }

    pub(super) fn country(&self) -> Option<Country> {
        (self.country != [0; 2]).then_some(Country(self.country))
    }

    pub(super) fn last_at(&self) -> Instant {
        Instant(self.last_ms)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.family {
            4 => Some(IpAddr::V4(Ipv4Addr::new(self.address[0], self.address[1], self.address[2], self.address[3]))),
            6 => Some(IpAddr::V6(self.address.into())),
            _ => None,
        }
    }

    fn folded(&self) -> Slot {
        Slot { function: FunctionId::OTHER.0, country: [0; 2], ..*self }
    }

    fn same_row(&self, other: &Slot) -> bool {
        self.key == other.key
            && (self.function, self.version, self.country, self.verdict) == (other.function, other.version, other.country, other.verdict)
    }

    /// Ids are random in their low half; the rest is mixed in so that the rows of one key lie apart.
    fn place(&self) -> usize {
        let key = u128::from_be_bytes(self.key);
        let rest = u64::from(self.function) << 40
            | u64::from(self.version) << 24
            | u64::from(u16::from_be_bytes(self.country)) << 8
            | u64::from(self.verdict);
        let product = u128::from(key as u64 ^ (key >> 64) as u64 ^ rest.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * 0xd6e8_feb8_6659_fd93;
        ((product >> 64) as u64 ^ product as u64) as usize % SLOTS
    }
}

/// Rows by open addressing, and which places are taken, so that emptying it touches no page that counting did not.
pub(super) struct Table {
    slots: Box<[Slot]>,
    taken: Box<[u64; SLOTS / 64]>,
    rows: usize,
}

impl Table {
    pub(super) fn new() -> Table {
        let slots = Box::<[Slot]>::new_zeroed_slice(SLOTS);
        // SAFETY: a slot is integers throughout, for which zero bytes are a value.
        Table { slots: unsafe { slots.assume_init() }, taken: Box::new([0; SLOTS / 64]), rows: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn count(&mut self, row: &Slot) -> Counted {
        if self.add(row, FOLD) {
            Counted::Exactly
        } else if self.add(&row.folded(), FULL) {
            Counted::Folded
        } else {
            Counted::Lost
        }
    }

    /// Adds to the row if it is there, or takes a free place for it while fewer than `limit` are taken.
    fn add(&mut self, row: &Slot, limit: usize) -> bool {
        let place = row.place();
        for probe in 0..PROBES {
            let at = (place + probe) % SLOTS;
            let slot = &mut self.slots[at];
            if slot.count == 0 {
                if self.rows >= limit {
                    return false;
                }
                *slot = *row;
                self.taken[at / 64] |= 1 << (at % 64);
                self.rows += 1;
                return true;
            }
            if slot.same_row(row) {
                slot.count += 1;
                if row.last_ms >= slot.last_ms {
                    (slot.last_ms, slot.address, slot.family) = (row.last_ms, row.address, row.family);
                }
                return true;
            }
        }
        false
    }

    /// Gives every row and forgets it.
    pub(super) fn empty(&mut self, mut take: impl FnMut(&Slot)) {
        for (word, taken) in self.taken.iter_mut().enumerate() {
            while *taken != 0 {
                let slot = &mut self.slots[word * 64 + taken.trailing_zeros() as usize];
                take(slot);
                slot.count = 0;
                *taken &= *taken - 1;
            }
        }
        self.rows = 0;
    }
}
