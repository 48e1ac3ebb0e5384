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
/// Of a network: its address and the length of its prefix.
const IPV4_BYTES: usize = 5;
const IPV6_BYTES: usize = 17;

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
        mut prefixes: Vec<&str>,
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
        // One is its own aggregate.
        let ipv4 = if ipv4.len() > 1 { Ipv4Net::aggregate(&ipv4) } else { ipv4 };
        let ipv6 = if ipv6.len() > 1 { Ipv6Net::aggregate(&ipv6) } else { ipv6 };
        let counts = [exact.len(), prefixes.len(), ipv4.len(), ipv6.len(), countries.len()];
        let wide = counts.iter().any(|count| *count > usize::from(u8::MAX));
        let passes = unknown_country == UnknownCountry::Allow;
        let count_bytes = if wide { 2 } else { 1 };
        let text = prefixes.iter().map(|prefix| 1 + prefix.len()).sum::<usize>();
        let numbers = ipv4.len() * IPV4_BYTES + ipv6.len() * IPV6_BYTES + (exact.len() + countries.len()) * 2;
        let mut bytes = Vec::with_capacity(1 + SECTIONS * count_bytes + numbers + text);
        bytes.push((u8::from(passes) * UNKNOWN_COUNTRY_PASSES) | (u8::from(wide) * WIDE_COUNTS));
        for count in counts {
            let count = u16::try_from(count).expect("a key's lists are within their limits");
            bytes.extend(&count.to_le_bytes()[..count_bytes]);
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

    /// The sections, found once for all that is asked of them.
    #[inline]
    pub fn sections(&self) -> Sections<'_> {
        let Some((&flags, rest)) = self.0.split_first() else { return Sections::default() };
        let (counts, rest) = if flags & WIDE_COUNTS == 0 {
            let (counts, rest) = rest.split_at(SECTIONS);
            (std::array::from_fn(|section| usize::from(counts[section])), rest)
        } else {
            let (counts, rest) = rest.split_at(SECTIONS * 2);
            (std::array::from_fn(|section| usize::from(u16::from_le_bytes([counts[section * 2], counts[section * 2 + 1]]))), rest)
        };
        let [exact, _, ipv4, ipv6, countries]: [usize; SECTIONS] = counts;
        let (ipv4, rest) = entries(rest, ipv4);
        let (ipv6, rest) = entries(rest, ipv6);
        let (exact, rest) = entries(rest, exact);
        let (countries, prefixes) = entries(rest, countries);
        Sections { unknown_country_passes: flags & UNKNOWN_COUNTRY_PASSES != 0, ipv4, ipv6, exact, countries, prefixes }
    }
}

/// So many entries at the beginning, and what comes after.
#[inline]
fn entries<const BYTES: usize>(bytes: &[u8], count: usize) -> (&[[u8; BYTES]], &[u8]) {
    let (entries, rest) = bytes.split_at(count * BYTES);
    (entries.as_chunks().0, rest)
}

/// What compiled rules say, to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sections<'r> {
    unknown_country_passes: bool,
    ipv4: &'r [[u8; IPV4_BYTES]],
    ipv6: &'r [[u8; IPV6_BYTES]],
    exact: &'r [[u8; 2]],
    countries: &'r [[u8; 2]],
    prefixes: &'r [u8],
}

/// Entries up to which looking at each costs less than halving the rest again and again.
const FEW: usize = 8;

impl Sections<'_> {
    /// Whether the key has networks.
    #[inline]
    pub fn has_networks(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }

    /// Whether one of the networks holds this canonical address.
    #[inline]
    pub fn covers_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let address = u32::from(v4);
                let first = |[a, b, c, d, _]: &[u8; IPV4_BYTES]| u32::from_le_bytes([*a, *b, *c, *d]);
                holds(
                    self.ipv4,
                    |network| first(network) <= address,
                    |network| (first(network) ^ address).leading_zeros() >= network[4].into(),
                )
            }
            IpAddr::V6(v6) => {
                let address = u128::from(v6);
                let first = |network: &[u8; IPV6_BYTES]| u128::from_le_bytes(*network.first_chunk().expect("17 bytes"));
                holds(
                    self.ipv6,
                    |network| first(network) <= address,
                    |network| (first(network) ^ address).leading_zeros() >= network[16].into(),
                )
            }
        }
    }

    /// Whether the key has countries.
    #[inline]
    pub fn has_countries(&self) -> bool {
        !self.countries.is_empty()
    }

    /// Whether the country is one of the key's.
    #[inline]
    pub fn covers_country(&self, country: Country) -> bool {
        holds(self.countries, |other| *other <= country.0, |other| *other == country.0)
    }

    /// What becomes of an address that the country database does not place.
    #[inline]
    pub fn unknown_country(&self) -> UnknownCountry {
        if self.unknown_country_passes { UnknownCountry::Allow } else { UnknownCountry::Deny }
    }

    /// Whether the function is granted by its exact name.
    #[inline]
    pub fn grants_exactly(&self, function: FunctionId) -> bool {
        let number = |exact: &[u8; 2]| u16::from_le_bytes(*exact);
        holds(self.exact, |exact| number(exact) <= function.0, |exact| number(exact) == function.0)
    }

    /// Whether a wildcard covers the name.
    #[inline]
    pub fn grants_by_prefix(&self, name: &str) -> bool {
        let mut rest = self.prefixes;
        while let Some((&length, texts)) = rest.split_first() {
            let (prefix, further) = texts.split_at(usize::from(length));
            if name.as_bytes().starts_with(prefix) {
                return true;
            }
            rest = further;
        }
        false
    }
}

/// Whether one of ascending entries fits, which only the last can that is not behind what is looked for.
#[inline]
fn holds<T>(entries: &[T], not_behind: impl Fn(&T) -> bool, fits: impl Fn(&T) -> bool) -> bool {
    if entries.len() <= FEW {
        return entries.iter().any(fits);
    }
    let after = entries.partition_point(not_behind);
    entries[..after].last().is_some_and(fits)
}

/// Exact grants, prefixes, IPv4 networks, IPv6 networks and countries, as their counts stand in the head.
const SECTIONS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_within_another_adds_nothing() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"].map(|n| n.parse().unwrap());
        let rules = Rules::compile(vec![], vec![], &networks, vec![], UnknownCountry::Deny);
        let rules = rules.sections();
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

    #[test]
    fn every_section_is_read_where_it_was_written() {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"].map(|n| n.parse().unwrap());
        let exact = [300, 2, 9].map(FunctionId).to_vec();
        let countries = ["FR", "DE"].map(|c| c.parse().unwrap()).to_vec();
        let longest = "x".repeat(crate::key::limits::FUNCTION_BYTES);
        let prefixes = vec!["leads.", &*longest];
        let compiled = Rules::compile(exact, prefixes, &networks, countries, UnknownCountry::Allow);
        let rules = Rules::from_bytes(compiled.bytes()).sections();
        assert!(rules.has_networks() && rules.has_countries());
        assert!([2, 9, 300].into_iter().all(|number| rules.grants_exactly(FunctionId(number))));
        assert!([0, 3, 301].into_iter().all(|number| !rules.grants_exactly(FunctionId(number))));
        assert!(["leads.", "leads.insert", &longest].into_iter().all(|name| rules.grants_by_prefix(name)));
        assert!(["leads", "lead", &longest[1..]].into_iter().all(|name| !rules.grants_by_prefix(name)));
        assert!(rules.covers_country(Country(*b"DE")) && rules.covers_country(Country(*b"FR")) && !rules.covers_country(Country(*b"EF")));
        assert!(rules.covers_address("192.0.2.1".parse().unwrap()) && !rules.covers_address("192.0.2.2".parse().unwrap()));
        assert_eq!(rules.unknown_country(), UnknownCountry::Allow);
        let many: Vec<FunctionId> = (0..400).map(|number| FunctionId(number * 2)).collect();
        let compiled = Rules::compile(many.clone(), vec!["leads."], &networks, vec![Country(*b"DE")], UnknownCountry::Deny);
        let wide = Rules::from_bytes(compiled.bytes()).sections();
        assert!(many.iter().all(|&function| wide.grants_exactly(function)) && !wide.grants_exactly(FunctionId(401)));
        assert!(wide.grants_by_prefix("leads.x") && wide.covers_country(Country(*b"DE")) && wide.unknown_country() == UnknownCountry::Deny);
        assert!(wide.covers_address("192.0.2.1".parse().unwrap()) && !wide.covers_address("192.0.2.2".parse().unwrap()));
        let everywhere = Rules::compile(vec![], vec![], &["0.0.0.0/0", "::/0"].map(|n| n.parse().unwrap()), vec![], UnknownCountry::Deny);
        assert!(
            ["0.0.0.0", "255.255.255.255", "::", "ffff::1"].into_iter().all(|a| everywhere.sections().covers_address(a.parse().unwrap()))
        );
        let nothing = Rules::compile(vec![], vec![], &[], vec![], UnknownCountry::Deny);
        let nothing = nothing.sections();
        assert!(
            !nothing.has_networks() && !nothing.has_countries() && !nothing.grants_by_prefix("") && !nothing.grants_exactly(FunctionId(0))
        );
        assert!(Rules::compile(vec![], vec![""], &[], vec![], UnknownCountry::Deny).sections().grants_by_prefix("anything"));
    }
}
