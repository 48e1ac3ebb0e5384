//! What is stored of the uses of a key: a record, and how two of them are joined.

use std::cmp::Reverse;
use std::net::IpAddr;

use bincode::{Decode, Encode};

use super::RecordError;
use super::block::OfKey;
use crate::key::{Country, Instant, Network, limits};

/// Stands for an address that no database placed.
pub const NO_COUNTRY: [u8; 2] = [0; 2];
/// Milliseconds of a minute.
pub const MINUTE_MS: i64 = 60_000;
/// Minutes of a day.
pub const DAY: u64 = 1_440;
/// Days whose spread is remembered: what is judged at most, and what it is compared with.
const SPREAD_DAYS: usize = 60;

/// What is stored of the uses of a key: the last of each version, and the networks, newest first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StoredUses {
    /// By version.
    pub last: Vec<(u16, StoredUse)>,
    /// Newest first, at most [`limits::NETWORKS_REMEMBERED`].
    pub networks: Vec<StoredNetwork>,
    /// By day (since 1970-01-01): the most networks in one row of minutes. The latest 60.
    pub spreads: Vec<(u16, u8)>,
    /// Networks that were used up to this moment may be missing.
    pub forgotten: Option<Instant>,
}

/// A network that a key was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct StoredNetwork {
    /// When it was used last.
    pub last_at: Instant,
    /// When it was used first, as far as is remembered.
    pub first_at: Instant,
    /// The network.
    pub network: Network,
}

/// The last verify with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct StoredUse {
    /// When.
    pub at: Instant,
    /// From where.
    pub address: Option<IpAddr>,
    /// From which country.
    pub country: Option<Country>,
}

/// [`StoredUses`] before it was known which networks are missing.
#[derive(Encode, Decode)]
struct FirstUses {
    last: Vec<(u16, StoredUse)>,
    networks: Vec<StoredNetwork>,
    spreads: Vec<(u16, u8)>,
}

impl StoredUses {
    /// What a row that begins at this minute has of a key.
    pub fn of(of_key: &OfKey, minute: u64) -> StoredUses {
        let base = i64::try_from(minute).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS);
        let at = |ms: i64| Instant(base.saturating_add(ms));
        let last = of_key.uses.iter().map(|last| {
            let country = (last.country != NO_COUNTRY).then_some(Country(last.country));
            (last.version, StoredUse { at: at(last.at), address: last.address, country })
        });
        let last = last.collect();
        let (networks, forgotten) = of_key.all_networks();
        let stored = |(ms, network): (Instant, Network)| StoredNetwork { last_at: at(ms.0), first_at: at(ms.0), network };
        let networks: Vec<StoredNetwork> = networks.into_iter().map(stored).collect();
        let day = u16::try_from(minute / DAY).unwrap_or(u16::MAX);
        let spreads = if networks.is_empty() { Vec::new() } else { vec![(day, networks.len() as u8)] };
        StoredUses { last, networks, spreads, forgotten: forgotten.map(|ms| at(ms.0)) }
    }

    /// Adds what another row has of the same key.
    pub fn add(&mut self, other: StoredUses) {
        self.last.extend(other.last);
        self.networks.extend(other.networks);
        self.spreads.extend(other.spreads);
        self.forgotten = self.forgotten.max(other.forgotten);
        self.join();
    }

    /// Of each version only the last use stays, of the networks the newest.
    fn join(&mut self) {
        self.last.sort_by_key(|(version, last)| (*version, Reverse(*last)));
        self.last.dedup_by_key(|(version, _)| *version);
        // Of a network the first use and the last.
        self.networks.sort_unstable_by_key(|used| (used.network, used.first_at, used.last_at));
        self.networks.dedup_by(|later, kept| {
            let same = later.network == kept.network;
            if same {
                kept.last_at = kept.last_at.max(later.last_at);
            }
            same
        });
        self.networks.sort_unstable_by(|a, b| b.cmp(a));
        self.forgotten = self.forgotten.max(self.networks.get(limits::NETWORKS_REMEMBERED).map(|used| used.last_at));
        self.networks.truncate(limits::NETWORKS_REMEMBERED);
        self.spreads.sort_unstable_by(|a, b| b.cmp(a));
        self.spreads.dedup_by_key(|(day, _)| *day);
        self.spreads.truncate(SPREAD_DAYS);
    }
}

/// Keeps the newest networks, each with the time when it was used last, newest first; tells when the last of the others was used.
pub fn newest(networks: &mut Vec<(Instant, Network)>) -> Option<Instant> {
    networks.sort_unstable_by_key(|&(at, network)| (network, Reverse(at)));
    networks.dedup_by_key(|(_, network)| *network);
    networks.sort_unstable_by(|a, b| b.cmp(a));
    let forgotten = networks.get(limits::NETWORKS_REMEMBERED).map(|(at, _)| *at);
    networks.truncate(limits::NETWORKS_REMEMBERED);
    forgotten
}

/// What is stored of the uses of a key, in either format: the second is longer.
///
/// # Errors
/// The bytes are in neither.
pub fn read(record: &[u8]) -> Result<StoredUses, RecordError> {
    super::decode(record).or_else(|error| {
        let Ok(FirstUses { last, networks, spreads }) = super::decode(record) else { return Err(error) };
        let forgotten = networks.iter().map(|used| used.last_at).max();
        Ok(StoredUses { last, networks, spreads, forgotten })
    })
}

/// A record of the first format with these networks.
#[cfg(test)]
pub(crate) fn of_the_first_format(networks: &[(&str, i64)]) -> Vec<u8> {
    let stored = |&(text, at): &(&str, i64)| StoredNetwork { last_at: Instant(at), first_at: Instant(at), network: text.parse().unwrap() };
    super::encode(&FirstUses { last: Vec::new(), networks: networks.iter().map(stored).collect(), spreads: Vec::new() })
}

/// Joins rows of a key's uses. What cannot be read is left out.
pub fn merge<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut all = StoredUses::default();
    for stored in values.filter_map(|value| read(value).ok()) {
        all.last.extend(stored.last);
        all.networks.extend(stored.networks);
        all.spreads.extend(stored.spreads);
        all.forgotten = all.forgotten.max(stored.forgotten);
    }
    all.join();
    super::encode(&all)
}
