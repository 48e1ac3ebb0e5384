use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use maxminddb::{MaxMindDbError, Reader, WithinOptions, path};
use serde::de::IgnoredAny;
use thiserror::Error;

use super::ranges::{Builder, Ranges};
use crate::key::limits;
use crate::key::{Country, Instant};

/// Networks per node of the search tree that a sound file can have: two leaves a node, and an allowance for subtrees used twice. A hostile
/// file can use subtrees so often that their expansion never ends.
const NETWORKS_PER_NODE: usize = 3;

/// IPv6 networks that lead to the IPv4 tree, at most: databases have them for IPv4-compatible addresses (RFC 4291), NAT64 (RFC 6052), Teredo's server (RFC 4380) and
/// 6to4 (RFC 3056). IPv4-mapped addresses never get here: they are made IPv4 before.
const ALIASES: usize = 8;

/// A country database, expanded into sorted ranges.
///
/// The country of a record is its `country.iso_code` (GeoLite2, DB-IP) or, where that is absent, its `country_code` (flat databases). Nothing else is
/// read: `registered_country` says where a network is registered, not where it is used.
pub struct Countries {
    ipv4: Ranges<u32>,
    ipv6: Ranges<u128>,
    /// Where in IPv6 the IPv4 ranges are found again: network, prefix length.
    aliases: Vec<(u128, u32)>,
    database_type: String,
    built_at: Instant,
}

/// What is wrong with a country database.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// Not a MaxMind DB, truncated, or damaged.
    #[error("not a sound MaxMind DB file: {0}")]
    Unsound(#[from] MaxMindDbError),
    /// Its tree is not closed off from its records, or expands into more networks than a sound file has, or not in their order.
    #[error("not a sound MaxMind DB file: its search tree is damaged")]
    Tree,
    /// A database of something else.
    #[error("the database ('{0}') names no country: expected records with country.iso_code or country_code")]
    NoCountries(String),
}

impl Countries {
    /// The country of a canonical address; none where the database does not place it.
    #[inline]
    pub fn of(&self, address: IpAddr) -> Option<Country> {
        match address {
            IpAddr::V4(v4) => self.ipv4.of(v4.into()),
            IpAddr::V6(v6) => self.of_ipv6(v6.into()),
        }
    }

    fn of_ipv6(&self, address: u128) -> Option<Country> {
        match self.aliases.iter().find(|(network, length)| (address ^ network) >> (128 - length) == 0) {
            Some((_, length)) => self.ipv4.of((address >> (96 - length)) as u32),
            None => self.ipv6.of(address),
        }
    }

    /// What the database calls itself.
    pub fn database_type(&self) -> &str {
        &self.database_type
    }

    /// When it was built, as it says itself.
    pub fn built_at(&self) -> Instant {
        self.built_at
    }

    /// Ranges in memory, of both families.
    pub fn ranges(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Countries, DatabaseError> {
    let reader = Reader::from_source(bytes)?;
    check_separator(&reader, bytes)?;
    let mut ipv4 = Builder::new();
    let mut ipv6 = Builder::new();
    let tree_of_ipv4 = has_tree_of_ipv4(&reader)?;
    let mut options = WithinOptions::default().include_networks_without_data();
    if !tree_of_ipv4 {
        // All of IPv4 is one record or none: the reader takes every network with that record for an alias of it.
        options = options.include_aliased_networks();
        ipv4.push(0, u32::MAX, country(&reader.lookup(Ipv4Addr::UNSPECIFIED.into())?)).ok_or(DatabaseError::Tree)?;
    }
    let mut aliases = Aliases::of(&reader, tree_of_ipv4)?;
    let mut known: HashMap<Option<usize>, Option<Country>> = HashMap::new();
    let most = (reader.metadata().node_count as usize).saturating_mul(NETWORKS_PER_NODE);
    for (count, found) in reader.networks(options)?.enumerate() {
        let found = found?;
        let country = match known.get(&found.offset()) {
            _ if !found.has_data() => None,
            Some(country) => *country,
            None => {
                // A record that does not decode is damage; one without the fields is not.
                found.decode::<IgnoredAny>()?;
                *known.entry(found.offset()).or_insert(country(&found))
            }
        };
        let network = found.network()?;
        let pushed = match (network.network(), network.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => ipv4.push(first.into(), last.into(), country),
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                aliases.up_to(first.into(), last.into())?;
                ipv6.push(first.into(), last.into(), country)
            }
            _ => None,
        };
        pushed.filter(|()| count <= most).ok_or(DatabaseError::Tree)?;
    }
    let metadata = reader.metadata();
    if !ipv4.names_a_country() && !ipv6.names_a_country() {
        return Err(DatabaseError::NoCountries(metadata.database_type.chars().take(64).collect()));
    }
    let built_at = i64::try_from(metadata.build_epoch).unwrap_or(i64::MAX).saturating_mul(1_000).min(limits::INSTANT_MS);
    Ok(Countries {
        ipv4: ipv4.build(),
        ipv6: ipv6.build(),
        aliases: aliases.all()?,
        database_type: metadata.database_type.clone(),
        built_at: Instant(built_at),
    })
}

/// Between tree and records stand 16 zero bytes. (The tree and the records are checked as they are walked, and not by `Reader::verify`: it refuses a
/// file without a description, and sound ones without are about.)
fn check_separator(reader: &Reader<&[u8]>, bytes: &[u8]) -> Result<(), DatabaseError> {
    let metadata = reader.metadata();
    let tree = metadata.node_count as usize * (metadata.record_size as usize / 4);
    let separator = bytes.get(tree..).and_then(|behind| behind.get(..16)).ok_or(DatabaseError::Tree)?;
    if separator.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(DatabaseError::Tree) }
}

/// Whether the IPv4 networks have a part of the tree to themselves.
fn has_tree_of_ipv4(reader: &Reader<&[u8]>) -> Result<bool, DatabaseError> {
    Ok(reader.lookup(Ipv4Addr::UNSPECIFIED.into())?.network()?.is_ipv4())
}

/// Finds the networks that lead to the IPv4 tree: the reader, which tells of all others, even of empty ones, leaves them out.
struct Aliases<'r, 'b> {
    reader: &'r Reader<&'b [u8]>,
    found: Vec<(u128, u32)>,
    /// The first IPv6 address that nothing was told of; none after the last.
    next: Option<u128>,
    /// How long the prefix of the network of 0.0.0.0 is: whatever leads to the IPv4 tree is that much shorter than what is found there.
    of_zero: u32,
}

impl<'r, 'b> Aliases<'r, 'b> {
    fn of(reader: &'r Reader<&'b [u8]>, tree_of_ipv4: bool) -> Result<Aliases<'r, 'b>, DatabaseError> {
        let of_zero = reader.lookup(Ipv4Addr::UNSPECIFIED.into())?.network()?.prefix().into();
        let leads_there = tree_of_ipv4 && reader.metadata().ip_version == 6;
        // The IPv4 networks themselves are those of ::/96.
        let (found, next) = if leads_there { (vec![(0, 96)], Some(1 << 32)) } else { (Vec::new(), None) };
        Ok(Aliases { reader, found, next, of_zero })
    }

    /// The reader told of a network.
    fn up_to(&mut self, first: u128, last: u128) -> Result<(), DatabaseError> {
        while let Some(next) = self.next.filter(|next| *next < first) {
            let length = u32::from(self.reader.lookup(IpAddr::V6(next.into()))?.network()?.prefix()).checked_sub(self.of_zero);
            let length = length.filter(|length| (1..=96).contains(length) && self.found.len() < ALIASES).ok_or(DatabaseError::Tree)?;
            self.found.push((next, length));
            self.next = next.checked_add(1 << (128 - length));
        }
        self.next = self.next.and(last.checked_add(1));
        Ok(())
    }

    fn all(mut self) -> Result<Vec<(u128, u32)>, DatabaseError> {
        self.up_to(u128::MAX, u128::MAX)?;
        Ok(self.found)
    }
}

/// A record without either field, or with one of another type, names no country.
fn country(found: &maxminddb::LookupResult<'_, &[u8]>) -> Option<Country> {
    let nested = found.decode_path::<&str>(&path!["country", "iso_code"]).ok().flatten();
    let code = nested.or_else(|| found.decode_path::<&str>(&path!["country_code"]).ok().flatten())?;
    Country::from_database(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/testdata/country/{name}.mmdb", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn numbers() -> impl FnMut() -> u128 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut half = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u128::from(state)
        };
        move || half() << 64 | half()
    }

    /// The expansion is checked against the reader's own walk of the tree, in both shapes.
    #[test]
    fn every_address_has_the_country_that_the_reader_finds() {
        for name in ["flat", "nested"] {
            let bytes = file(name);
            let reader = Reader::from_source(bytes.as_slice()).unwrap();
            let countries = parse(&bytes).unwrap();
            let mut number = numbers();
            let mut placed = 0;
            let edges = reader.networks(WithinOptions::default().include_networks_without_data()).unwrap().flat_map(|found| {
                let network = found.unwrap().network().unwrap();
                [network.network(), network.broadcast()]
            });
            let random = (0..20_000).flat_map(|_| {
                let number = number();
                // Half of the IPv6 addresses within 2000::/3, where the allocated ones are, and some in 6to4.
                let global = number >> 3 | 1 << 125;
                let six_to_four = number >> 16 | 0x2002 << 112;
                [IpAddr::V4((number as u32).into()), IpAddr::V6(number.into()), IpAddr::V6(global.into()), IpAddr::V6(six_to_four.into())]
            });
            for address in edges.chain(random).map(|address| address.to_canonical()) {
                let expected = country(&reader.lookup(address).unwrap());
                placed += usize::from(expected.is_some());
                assert_eq!(countries.of(address), expected, "{name}: {address}");
            }
            assert!(placed > 20, "{name}: {placed}");
        }
    }

    /// A file that repeats its IPv4 tree elsewhere than databases do, here for a part of 2002::/16 only: those addresses had no country. Found by the fuzz target `mmdb`.
    #[test]
    fn the_ipv4_tree_is_found_wherever_it_is_repeated() {
        let input = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/mmdb/3327e0e60adf")).unwrap();
        let file = &input[..input.len() - 16];
        let (reader, countries) = (Reader::from_source(file).unwrap(), parse(file).unwrap());
        for address in ["2002:c633:6407::", "2002::", "2002:ffff:ffff:ffff::", "2001::c633:6407", "::198.51.100.7", "198.51.100.7"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(countries.of(address), country(&reader.lookup(address).unwrap()), "{address}");
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let bytes = file("nested");
        let mut number = numbers();
        for length in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
        for _ in 0..500 {
            let mut damaged = bytes.clone();
            for _ in 0..4 {
                let at = number() as usize % damaged.len();
                damaged[at] = number() as u8;
            }
            // Four bytes of a name can change without harm; what counts is that nothing breaks.
            let _ = parse(&damaged);
        }
    }
}
