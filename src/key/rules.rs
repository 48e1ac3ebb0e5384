use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Country, FunctionId, Instant, Network, UnknownCountry};

/// What a key allows, compiled for the verify path into one run of bytes, so that whoever has it has all of it.
///
/// | bytes | what, numbers little-endian |
/// | --- | --- |
/// | 1 | bit 0: an address that the country database does not place passes; bit 1: the counts that follow are of two bytes |
/// | 5 or 10 | how many exact grants, prefixes, IPv4 networks, IPv6 networks and countries: u8 or u16 each |
/// | 5 each | IPv4 networks, ascending, none within another: address, u32, and length of the prefix, u8 |
/// | 17 each | IPv6 networks, likewise: address, u128, and length of the prefix, u8 |
/// | 2 each | exact grants, ascending: the function's number, u16 |
/// | 2 each | countries, ascending: two letters |
/// | 1 + n each | prefixes: length and text |
#[derive(Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Rules([u8]);

const UNKNOWN_COUNTRY_PASSES: u8 = 1;
const WIDE_COUNTS: u8 = 2;

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
    ///
    /// # Panics
    /// A list or a prefix is over its limit.
    pub fn compile(
        mut exact: Vec<FunctionId>,
        mut prefixes: Vec<Box<str>>,
        networks: &[Network],
        mut countries: Vec<Country>,
        unknown_country: UnknownCountry,
    ) -> Box<Rules> {
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
                IpNet::V4(net) => ipv4.push(net.trunc()),
                IpNet::V6(net) => ipv6.push(net.trunc()),
            }
        }
        let (ipv4, ipv6) = (Ipv4Net::aggregate(&ipv4), Ipv6Net::aggregate(&ipv6));
        let counts = [exact.len(), prefixes.len(), ipv4.len(), ipv6.len(), countries.len()];
        let wide = counts.iter().any(|count| *count > usize::from(u8::MAX));
        let passes = unknown_country == UnknownCountry::Allow;
        let mut bytes = vec![(u8::from(passes) * UNKNOWN_COUNTRY_PASSES) | (u8::from(wide) * WIDE_COUNTS)];
        for count in counts {
            let count = u16::try_from(count).expect("a key's lists are within their limits");
            bytes.extend(&count.to_le_bytes()[..if wide { 2 } else { 1 }]);
        }
        for net in &ipv4 {
            bytes.extend(u32::from(net.network()).to_le_bytes());
            bytes.push(net.prefix_len());
        }
        for net in &ipv6 {
            bytes.extend(u128::from(net.network()).to_le_bytes());
            bytes.push(net.prefix_len());
        }
        exact.iter().for_each(|function| bytes.extend(function.0.to_le_bytes()));
        countries.iter().for_each(|country| bytes.extend(country.0));
        for prefix in &prefixes {
            // Cut short, it would be the length of a shorter prefix, which grants more.
            bytes.push(u8::try_from(prefix.len()).expect("a prefix is within its limit"));
            bytes.extend_from_slice(prefix.as_bytes());
        }
        // SAFETY: `Rules` is a transparent wrapper of the bytes.
        unsafe { Box::from_raw(Box::into_raw(bytes.into_boxed_slice()) as *mut Rules) }
    }

    /// The bytes, to be kept elsewhere and read again with [`Rules::from_bytes`].
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what [`Rules::bytes`] gave. Other bytes give rules that make no sense, or a panic.
    pub fn from_bytes(bytes: &[u8]) -> &Rules {
        // SAFETY: `Rules` is a transparent wrapper of the bytes, any of which are sound.
        unsafe { &*(std::ptr::from_ref(bytes) as *const Rules) }
    }

    /// Whether the key has networks.
    pub fn has_networks(&self) -> bool {
        self.count(IPV4) + self.count(IPV6) > 0
    }

    /// Whether one of the networks holds this canonical address.
    pub fn covers_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let (networks, address) = (self.section(IPV4).as_chunks::<5>().0, u32::from(v4));
                let first = |[a, b, c, d, _]: &[u8; 5]| u32::from_le_bytes([*a, *b, *c, *d]);
                let after = networks.partition_point(|network| first(network) <= address);
                networks[..after].last().is_some_and(|network| agree(first(network) ^ address, u32::leading_zeros, network[4]))
            }
            IpAddr::V6(v6) => {
                let (networks, address) = (self.section(IPV6).as_chunks::<17>().0, u128::from(v6));
                let first = |network: &[u8; 17]| u128::from_le_bytes(*network.first_chunk().expect("17 bytes"));
                let after = networks.partition_point(|network| first(network) <= address);
                networks[..after].last().is_some_and(|network| agree(first(network) ^ address, u128::leading_zeros, network[16]))
            }
        }
    }

    /// Whether the key has countries.
    pub fn has_countries(&self) -> bool {
        self.count(COUNTRIES) > 0
    }

    /// Whether the country is one of the key's.
    pub fn covers_country(&self, country: Country) -> bool {
        self.section(COUNTRIES).as_chunks().0.binary_search(&country.0).is_ok()
    }

    /// What becomes of an address that the country database does not place.
    pub fn unknown_country(&self) -> UnknownCountry {
        if self.0[0] & UNKNOWN_COUNTRY_PASSES != 0 { UnknownCountry::Allow } else { UnknownCountry::Deny }
    }

    /// Whether the function is granted by its exact name.
    pub fn grants_exactly(&self, function: FunctionId) -> bool {
        let (exact, _) = self.section(EXACT).as_chunks();
        exact.binary_search_by_key(&function.0, |number| u16::from_le_bytes(*number)).is_ok()
    }

    /// Whether a wildcard covers the name.
    pub fn grants_by_prefix(&self, name: &str) -> bool {
        let mut rest = self.section(PREFIXES);
        while let Some((&length, texts)) = rest.split_first() {
            let (prefix, further) = texts.split_at(usize::from(length));
            if name.as_bytes().starts_with(prefix) {
                return true;
            }
            rest = further;
        }
        false
    }

    fn count(&self, section: usize) -> usize {
        if self.0[0] & WIDE_COUNTS == 0 {
            usize::from(self.0[1 + section])
        } else {
            usize::from(u16::from_le_bytes([self.0[1 + section * 2], self.0[2 + section * 2]]))
        }
    }

    fn section(&self, wanted: usize) -> &[u8] {
        let mut from = if self.0[0] & WIDE_COUNTS == 0 { 1 + SECTIONS } else { 1 + SECTIONS * 2 };
        for (section, entry_bytes) in [(IPV4, 5), (IPV6, 17), (EXACT, 2), (COUNTRIES, 2)] {
            let bytes = self.count(section) * entry_bytes;
            if section == wanted {
                return &self.0[from..from + bytes];
            }
            from += bytes;
        }
        &self.0[from..]
    }
}

/// Sections by the place of their count in the head.
const EXACT: usize = 0;
const PREFIXES: usize = 1;
const IPV4: usize = 2;
const IPV6: usize = 3;
const COUNTRIES: usize = 4;
const SECTIONS: usize = 5;

/// Whether two addresses agree in so many leading bits, given where they differ.
fn agree<T>(difference: T, leading_zeros: impl Fn(T) -> u32, bits: u8) -> bool {
    leading_zeros(difference) >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_within_another_adds_nothing() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"].map(|n| n.parse().unwrap());
        let rules = Rules::compile(vec![], vec![], &networks, vec![], UnknownCountry::Deny);
        assert_eq!(rules.count(IPV4), 2);
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

    #[test]
    fn every_section_is_read_where_it_was_written() {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"].map(|n| n.parse().unwrap());
        let exact = [300, 2, 9].map(FunctionId).to_vec();
        let countries = ["FR", "DE"].map(|c| c.parse().unwrap()).to_vec();
        let longest = "x".repeat(crate::key::limits::FUNCTION_BYTES);
        let prefixes = ["leads.", &longest].map(Box::from).to_vec();
        let compiled = Rules::compile(exact, prefixes, &networks, countries, UnknownCountry::Allow);
        let rules = Rules::from_bytes(compiled.bytes());
        assert!(rules.has_networks() && rules.has_countries());
        assert!([2, 9, 300].into_iter().all(|number| rules.grants_exactly(FunctionId(number))));
        assert!([0, 3, 301].into_iter().all(|number| !rules.grants_exactly(FunctionId(number))));
        assert!(["leads.", "leads.insert", &longest].into_iter().all(|name| rules.grants_by_prefix(name)));
        assert!(["leads", "lead", &longest[1..]].into_iter().all(|name| !rules.grants_by_prefix(name)));
        assert!(rules.covers_country(Country(*b"DE")) && rules.covers_country(Country(*b"FR")) && !rules.covers_country(Country(*b"EF")));
        assert!(rules.covers_address("192.0.2.1".parse().unwrap()) && !rules.covers_address("192.0.2.2".parse().unwrap()));
        assert_eq!(rules.unknown_country(), UnknownCountry::Allow);
        let many: Vec<FunctionId> = (0..400).map(|number| FunctionId(number * 2)).collect();
        let compiled = Rules::compile(many.clone(), vec!["leads.".into()], &networks, vec![Country(*b"DE")], UnknownCountry::Deny);
        let wide = Rules::from_bytes(compiled.bytes());
        assert!(many.iter().all(|&function| wide.grants_exactly(function)) && !wide.grants_exactly(FunctionId(401)));
        assert!(wide.grants_by_prefix("leads.x") && wide.covers_country(Country(*b"DE")) && wide.unknown_country() == UnknownCountry::Deny);
        assert!(wide.covers_address("192.0.2.1".parse().unwrap()) && !wide.covers_address("192.0.2.2".parse().unwrap()));
        let everywhere = Rules::compile(vec![], vec![], &["0.0.0.0/0", "::/0"].map(|n| n.parse().unwrap()), vec![], UnknownCountry::Deny);
        assert!(["0.0.0.0", "255.255.255.255", "::", "ffff::1"].into_iter().all(|a| everywhere.covers_address(a.parse().unwrap())));
        let nothing = Rules::compile(vec![], vec![], &[], vec![], UnknownCountry::Deny);
        assert!(
            !nothing.has_networks() && !nothing.has_countries() && !nothing.grants_by_prefix("") && !nothing.grants_exactly(FunctionId(0))
        );
        assert!(Rules::compile(vec![], vec!["".into()], &[], vec![], UnknownCountry::Deny).grants_by_prefix("anything"));
    }
}
