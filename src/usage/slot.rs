use std::net::{IpAddr, Ipv4Addr};

use super::Event;
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

const MINUTE_MS: i64 = 60_000;

/// An event in a lane's log, or a row of a live table: one cache line. A row's place is free while `count` is 0, which zero pages are.
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
    /// Minutes since 1970-01-01T00:00:00Z; 0 in a log, where `last_ms` tells it.
    minute: u32,
    /// 1 where an address of another network than that of `address` is not told by any row.
    missed: u32,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// In the place of a verdict: the row counts nothing, but tells of a network that its key was used from, by version of IP.
const NETWORK: [u8; 2] = [254, 255];

/// More verifies than are counted in one row before it is written.
const MOST_COUNTED: u64 = 1 << 40;

impl Slot {
    /// One event, with a count of 1.
    #[inline]
    pub(super) fn event(event: &Event<'_>) -> Slot {
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
            minute: 0,
            missed: 0,
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

    /// Whether a table can hold this: what lies in a file may have been damaged.
    pub(super) fn is_sound(&self) -> bool {
        let told = Verdict::from_number(self.verdict).is_some() || self.is_network();
        self.count < MOST_COUNTED && told && matches!(self.family, 0 | 4 | 6)
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

    pub(super) fn minute(&self) -> u32 {
        self.minute
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.family {
            4 => Some(IpAddr::V4(Ipv4Addr::new(self.address[0], self.address[1], self.address[2], self.address[3]))),
            6 => Some(IpAddr::V6(self.address.into())),
            _ => None,
        }
    }

    /// A free place.
    pub(super) const FREE: Slot = Slot {
        count: 0,
        last_ms: 0,
        key: [0; 16],
        address: [0; 16],
        function: 0,
        version: 0,
        country: [0; 2],
        verdict: 0,
        family: 0,
        minute: 0,
        missed: 0,
    };

    /// The event as the row that it begins: of the minute of its time.
    pub(super) fn as_row(&self) -> Slot {
        Slot { minute: u32::try_from(self.last_ms / MINUTE_MS).unwrap_or_default(), ..*self }
    }

    /// The row that stands for all functions and countries of its key, secret and verdict, and for all minutes of a crowded table.
    pub(super) fn folded(&self, minute: u32) -> Slot {
        Slot { function: FunctionId::OTHER.0, country: [0; 2], minute, ..*self }
    }

    /// The same row, in another minute.
    pub(super) fn in_minute(&self, minute: u32) -> Slot {
        Slot { minute, ..*self }
    }

    /// Adds what belongs to the same row, and is of the same network.
    #[inline]
    pub(super) fn add(&mut self, later: &Slot) {
        self.count += later.count;
        if later.last_ms >= self.last_ms {
            (self.last_ms, self.address, self.family) = (later.last_ms, later.address, later.family);
        }
    }

    /// Adds what belongs to the same row, and gives that of the two whose address is not told by the sum.
    pub(super) fn add_elsewhere(&mut self, later: &Slot) -> Slot {
        let gone = if later.last_ms >= self.last_ms { *self } else { *later };
        self.add(later);
        gone
    }

    /// Notes a use, if it is later.
    pub(super) fn used_at(&mut self, at: Instant) {
        self.last_ms = self.last_ms.max(at.0);
    }

    /// Notes that an address is not told by any row.
    pub(super) fn miss(&mut self) {
        self.missed = 1;
    }

    /// Whether an address of another network than that of the last may have been forgotten.
    pub(super) fn has_missed(&self) -> bool {
        self.missed != 0
    }

    /// Whether both addresses are of one network ([`crate::key::Network::around`]), or both are missing.
    #[inline]
    pub(super) fn same_network(&self, other: &Slot) -> bool {
        // The lowest bits hold the first bytes.
        let first = |slot: &Slot| u128::from_le_bytes(slot.address) as u64;
        let differ = first(self) ^ first(other);
        let mask = if self.family == 4 { 0xff_ffff } else { 0xffff_ffff_ffff };
        self.family == other.family && (differ == 0 || differ & mask == 0)
    }

    /// A row that tells that the key was used from the network of this address, in these ten minutes; none where that is nobody's business. Its
    /// name is the network.
    pub(super) fn network(&self, minutes_together: u32) -> Option<Slot> {
        let [a, b, c, d, e, f, ..] = self.address;
        let (name, verdict) = match self.family {
            4 => ([a, b, c, 0, 0, 0], NETWORK[0]),
            6 => ([a, b, c, d, e, f], NETWORK[1]),
            _ => return None,
        };
        let [a, b, c, d, e, f] = name;
        Some(Slot {
            count: 1,
            function: u16::from_be_bytes([a, b]),
            version: u16::from_be_bytes([c, d]),
            country: [e, f],
            verdict,
            minute: self.minute / minutes_together * minutes_together,
            missed: 0,
            ..*self
        })
    }

    /// Whether it is such a row.
    pub(super) fn is_network(&self) -> bool {
        NETWORK.contains(&self.verdict)
    }

    #[inline]
    pub(super) fn same_row(&self, other: &Slot) -> bool {
        self.key == other.key
            && (self.function, self.version, self.country, self.verdict, self.minute)
                == (other.function, other.version, other.country, other.verdict, other.minute)
    }

    /// What a row is of, in the order in which rows are written.
    pub(super) fn order(&self) -> (u32, u16, u16, u8, [u8; 2]) {
        (self.minute, self.function, self.version, self.verdict, self.country)
    }

    /// A number that is alike for equal rows only. Ids are random in their low half; the rest is mixed in so that the rows of one key lie apart.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        let key = u128::from_ne_bytes(self.key);
        let rest = u64::from(self.function) << 40
            | u64::from(self.version) << 24
            | u64::from(u16::from_ne_bytes(self.country)) << 8
            | u64::from(self.verdict);
        let rest = (rest ^ u64::from(self.minute) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(key as u64 ^ (key >> 64) as u64 ^ rest) * 0xd6e8_feb8_6659_fd93;
        (product >> 64) as u64 ^ product as u64
    }
}
