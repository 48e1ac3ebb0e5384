use std::net::IpAddr;

use ipnet::IpNet;

use super::{Country, FunctionId, Instant, Network, UnknownCountry};

/// What a key allows, compiled for the verify path. Equal rules of many keys are kept once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    exact: Box<[FunctionId]>,
    prefixes: Box<[Box<str>]>,
    ipv4: Box<[(u32, u32)]>,
    ipv6: Box<[(u128, u128)]>,
    countries: Box<[Country]>,
    unknown_country: UnknownCountry,
}

/// Where a secret and its key stand, but for the rules: what the first checks of a verdict look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The key is deleted.
    pub deleted: bool,
    /// This secret is revoked.
    pub revoked: bool,
    /// The key is switched off.
    pub disabled: bool,
    /// The key's `not_before`.
    pub not_before: Option<Instant>,
    /// The key's `expires_at`.
    pub expires_at: Option<Instant>,
    /// This secret's `retires_at`.
    pub retires_at: Option<Instant>,
}

/// The function that a request calls, as the catalog knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called<'a> {
    /// The name in the request.
    pub name: &'a str,
    /// Its number, if it is registered.
    pub id: Option<FunctionId>,
    /// Whether it is restricted.
    pub restricted: bool,
}

impl Rules {
    /// Compiles rules from the numbers of the exact grants, the prefixes (the text before the `*`), networks and countries.
    pub fn compile(
        mut exact: Vec<FunctionId>,
        mut prefixes: Vec<Box<str>>,
        networks: &[Network],
        mut countries: Vec<Country>,
        unknown_country: UnknownCountry,
    ) -> Rules {
        exact.sort_unstable();
        exact.dedup();
        prefixes.sort_unstable();
        prefixes.dedup();
        countries.sort_unstable();
        countries.dedup();
        let mut ipv4 = Vec::new();
        let mut ipv6 = Vec::new();
        for network in networks {
            match network.net() {
                IpNet::V4(net) => ipv4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => ipv6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        Rules {
            exact: exact.into(),
            prefixes: prefixes.into(),
            ipv4: merge(ipv4),
            ipv6: merge(ipv6),
            countries: countries.into(),
            unknown_country,
        }
    }

    /// Whether the key has networks.
    pub fn has_networks(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }

    /// Whether one of the networks holds this canonical address.
    pub fn covers_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => in_ranges(&self.ipv4, u32::from(v4)),
            IpAddr::V6(v6) => in_ranges(&self.ipv6, u128::from(v6)),
        }
    }

    /// Whether the key has countries.
    pub fn has_countries(&self) -> bool {
        !self.countries.is_empty()
    }

    /// Whether the country is one of the key's.
    pub fn covers_country(&self, country: Country) -> bool {
        self.countries.binary_search(&country).is_ok()
    }

    /// What becomes of an address that the country database does not place.
    pub fn unknown_country(&self) -> UnknownCountry {
        self.unknown_country
    }

    /// Whether the function is granted by its exact name.
    pub fn grants_exactly(&self, function: FunctionId) -> bool {
        self.exact.binary_search(&function).is_ok()
    }

    /// Whether a wildcard covers the name.
    pub fn grants_by_prefix(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(&**prefix))
    }
}

/// Sorts ranges and joins those that overlap, so that one binary search finds an address.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn in_ranges<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after > 0 && address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_networks_are_one_range() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"].map(|n| n.parse().unwrap());
        let rules = Rules::compile(vec![], vec![], &networks, vec![], UnknownCountry::Deny);
        assert_eq!(rules.ipv4.len(), 2);
        for (address, covered) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(rules.covers_address(address.parse().unwrap()), covered, "{address}");
        }
    }
}
