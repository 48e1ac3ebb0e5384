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

/// IPv6 networks under which databases repeat their IPv4 tree, with the number of bits before the IPv4 address: IPv4-compatible (RFC 4291),
/// NAT64 (RFC 6052), Teredo's server (RFC 4380) and 6to4 (RFC 3056). IPv4-mapped addresses never get here: they are made IPv4 before.
const ALIASES: [(&str, u32); 4] = [("::/96", 96), ("64:ff9b::/96", 96), ("2001::/32", 32), ("2002::/16", 16)];

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
    pub fn of(&self, address: IpAddr) -> Option<Country> {
        let address = match address {
            IpAddr::V4(v4) => return self.ipv4.of(v4.into()),
            IpAddr::V6(v6) => u128::from(v6),
        };
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
    let mut options = WithinOptions::default();
    if !tree_of_ipv4 {
        // All of IPv4 is one record or none: the reader takes every network with that record for an alias of it.
        options = options.include_aliased_networks();
        ipv4.push(0, u32::MAX, country(&reader.lookup(Ipv4Addr::UNSPECIFIED.into())?)).ok_or(DatabaseError::Tree)?;
    }
    let mut known: HashMap<Option<usize>, Option<Country>> = HashMap::new();
    let most = (reader.metadata().node_count as usize).saturating_mul(NETWORKS_PER_NODE);
    for (count, found) in reader.networks(options)?.enumerate() {
        let found = found?;
        let country = match known.get(&found.offset()) {
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
            (IpAddr::V6(first), IpAddr::V6(last)) => ipv6.push(first.into(), last.into(), country),
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
        aliases: if tree_of_ipv4 { aliases(&reader)? } else { Vec::new() },
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

/// Which of the known networks lead to the IPv4 tree in this file: those where the reader, which skips aliases, finds not even emptiness.
fn aliases(reader: &Reader<&[u8]>) -> Result<Vec<(u128, u32)>, DatabaseError> {
    let mut aliases = Vec::new();
    if reader.metadata().ip_version != 6 {
        return Ok(aliases);
    }
    for (text, length) in ALIASES {
        let Ok(network) = text.parse() else { continue };
        let options = WithinOptions::default().include_networks_without_data();
        let is_alias = length == 96 && text.starts_with("::") || reader.within(network, options)?.next().is_none();
        if let (true, IpAddr::V6(first)) = (is_alias, network.ip()) {
            aliases.push((first.into(), length));
        }
    }
    Ok(aliases)
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
