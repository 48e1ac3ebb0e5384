//! Sections 2 and 3 of the design, told once more: slow, obvious, and from nothing but text and numbers.
//!
//! Functions are compared as text, addresses and networks as the bits of a `u128`. Of the library it knows only the names of
//! the verdicts.

use doorward::key::Verdict;

/// A key as a person writes it down.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) deleted: bool,
    pub(crate) enabled: bool,
    pub(crate) not_before: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    /// `leads.insert`, `leads.*` or `*`.
    pub(crate) grants: Vec<String>,
    pub(crate) networks: Vec<Network>,
    pub(crate) countries: Vec<String>,
    pub(crate) unknown_country_allowed: bool,
    pub(crate) secrets: Vec<Secret>,
}

#[derive(Debug, Clone)]
pub(crate) struct Secret {
    pub(crate) digest: [u8; 32],
    pub(crate) retires_at: Option<i64>,
    pub(crate) revoked: bool,
}

/// An address as it came; an IPv4 address is in the low 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ipv6: bool,
    pub(crate) bits: u128,
}

/// A network as it was written, host bits and all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    pub(crate) base: Address,
    pub(crate) length: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    NoDatabase,
    Unknown,
    In(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) now: i64,
    pub(crate) function: String,
    pub(crate) address: Option<Address>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) restricted: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pub(crate) functions: Vec<Function>,
    pub(crate) strict: bool,
}

/// One rule told wrongly, to see that the comparison notices it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    RevokedBeforeDeleted,
    RetiredBeforeRevoked,
    DisabledBeforeRetired,
    CountryBeforeNetwork,
    FunctionBeforeAddress,
    RetiresOnlyAfter,
    ExpiresOnlyAfter,
    NotYetValidAtItsMoment,
    AnySecretsRevocationCounts,
    MissingAddressPassesCountries,
    MappedAddressStaysIpv6,
    MappedNetworkStaysIpv6,
    Ipv6NetworkHoldsIpv4,
    OnlyTheFirstNetworkCounts,
    NetworkOrCountrySuffices,
    LengthZeroHoldsNothing,
    HostBitsCount,
    AllowWithoutDatabase,
    AllowPlacesAnywhere,
    PrefixNeedsMoreThanItself,
    DotStarCoversItsStem,
    CaseDoesNotMatter,
    WildcardCoversRestricted,
    ExactGrantNeedsNoRegistration,
    RestrictedThoughNothingCoversIt,
    StrictLetsWildcardsPass,
    LaxDeniesTheUnregistered,
    LaxCallsTheUncoveredDenied,
}

impl Wrong {
    pub(crate) const ALL: [Wrong; 28] = [
        Wrong::RevokedBeforeDeleted,
        Wrong::RetiredBeforeRevoked,
        Wrong::DisabledBeforeRetired,
        Wrong::CountryBeforeNetwork,
        Wrong::FunctionBeforeAddress,
        Wrong::RetiresOnlyAfter,
        Wrong::ExpiresOnlyAfter,
        Wrong::NotYetValidAtItsMoment,
        Wrong::AnySecretsRevocationCounts,
        Wrong::MissingAddressPassesCountries,
        Wrong::MappedAddressStaysIpv6,
        Wrong::MappedNetworkStaysIpv6,
        Wrong::Ipv6NetworkHoldsIpv4,
        Wrong::OnlyTheFirstNetworkCounts,
        Wrong::NetworkOrCountrySuffices,
        Wrong::LengthZeroHoldsNothing,
        Wrong::HostBitsCount,
        Wrong::AllowWithoutDatabase,
        Wrong::AllowPlacesAnywhere,
        Wrong::PrefixNeedsMoreThanItself,
        Wrong::DotStarCoversItsStem,
        Wrong::CaseDoesNotMatter,
        Wrong::WildcardCoversRestricted,
        Wrong::ExactGrantNeedsNoRegistration,
        Wrong::RestrictedThoughNothingCoversIt,
        Wrong::StrictLetsWildcardsPass,
        Wrong::LaxDeniesTheUnregistered,
        Wrong::LaxCallsTheUncoveredDenied,
    ];
}

/// The verdict by the book, or by a book with one rule `wrong`.
pub(crate) fn verdict(key: &Key, secret: usize, request: &Request, catalog: &Catalog, wrong: Option<Wrong>) -> Verdict {
    let mut steps = [standing(key, secret, request, wrong), from_where(key, request, wrong), to_what(key, request, catalog, wrong)];
    if wrong == Some(Wrong::FunctionBeforeAddress) {
        steps.swap(1, 2);
    }
    steps.into_iter().flatten().next().unwrap_or(Verdict::Ok)
}

/// What is wrong with the key and the secret themselves.
fn standing(key: &Key, secret: usize, request: &Request, wrong: Option<Wrong>) -> Option<Verdict> {
    let now = request.now;
    let revoked = match wrong {
        Some(Wrong::AnySecretsRevocationCounts) => key.secrets.iter().any(|secret| secret.revoked),
        _ => key.secrets[secret].revoked,
    };
    let over = |end: Option<i64>, late: Wrong| match end {
        None => false,
        Some(end) if wrong == Some(late) => now > end,
        Some(end) => now >= end,
    };
    let early = match key.not_before {
        None => false,
        Some(start) if wrong == Some(Wrong::NotYetValidAtItsMoment) => now <= start,
        Some(start) => now < start,
    };
    let mut list = [
        (key.deleted, Verdict::Deleted),
        (revoked, Verdict::Revoked),
        (over(key.secrets[secret].retires_at, Wrong::RetiresOnlyAfter), Verdict::Retired),
        (!key.enabled, Verdict::Disabled),
        (early, Verdict::NotYetValid),
        (over(key.expires_at, Wrong::ExpiresOnlyAfter), Verdict::Expired),
    ];
    match wrong {
        Some(Wrong::RevokedBeforeDeleted) => list.swap(0, 1),
        Some(Wrong::RetiredBeforeRevoked) => list.swap(1, 2),
        Some(Wrong::DisabledBeforeRetired) => list.swap(2, 3),
        _ => {}
    }
    list.into_iter().find(|(holds, _)| *holds).map(|(_, verdict)| verdict)
}

/// What is wrong with the address and its country.
fn from_where(key: &Key, request: &Request, wrong: Option<Wrong>) -> Option<Verdict> {
    let Some(address) = request.address else {
        let by_countries = !key.countries.is_empty() && wrong != Some(Wrong::MissingAddressPassesCountries);
        return (!key.networks.is_empty() || by_countries).then_some(Verdict::AddressMissing);
    };
    let tried = if wrong == Some(Wrong::OnlyTheFirstNetworkCounts) { 1 } else { key.networks.len() };
    let outside = !key.networks.is_empty() && !key.networks.iter().take(tried).any(|network| holds(*network, address, wrong));
    let network = outside.then_some(Verdict::AddressDenied);
    let country = of_country(key, &request.place, wrong);
    match wrong {
        Some(Wrong::NetworkOrCountrySuffices) if !key.networks.is_empty() && !key.countries.is_empty() => network.and(country),
        Some(Wrong::CountryBeforeNetwork) => country.or(network),
        _ => network.or(country),
    }
}

fn of_country(key: &Key, place: &Place, wrong: Option<Wrong>) -> Option<Verdict> {
    if key.countries.is_empty() {
        return None;
    }
    match place {
        Place::NoDatabase if wrong == Some(Wrong::AllowWithoutDatabase) && key.unknown_country_allowed => None,
        Place::NoDatabase => Some(Verdict::CountryUnknown),
        Place::Unknown => (!key.unknown_country_allowed).then_some(Verdict::CountryUnknown),
        Place::In(_) if wrong == Some(Wrong::AllowPlacesAnywhere) && key.unknown_country_allowed => None,
        Place::In(country) => (!key.countries.contains(country)).then_some(Verdict::CountryDenied),
    }
}

/// `::ffff:a.b.c.d` is the IPv4 address.
fn canonical(address: Address) -> Address {
    if address.ipv6 && address.bits >> 32 == 0xffff { Address { ipv6: false, bits: address.bits & 0xffff_ffff } } else { address }
}

fn holds(network: Network, address: Address, wrong: Option<Wrong>) -> bool {
    let address = if wrong == Some(Wrong::MappedAddressStaysIpv6) { address } else { canonical(address) };
    let mut base = canonical(network.base);
    let mut length = network.length;
    if base.ipv6 != network.base.ipv6 {
        if wrong == Some(Wrong::MappedNetworkStaysIpv6) { base = network.base } else { length -= 96 }
    }
    if wrong == Some(Wrong::LengthZeroHoldsNothing) && length == 0 {
        return false;
    }
    if wrong == Some(Wrong::Ipv6NetworkHoldsIpv4) && base.ipv6 && !address.ipv6 {
        return same_leading_bits(base.bits, 0xffff_0000_0000 | address.bits, length, 128);
    }
    if base.ipv6 != address.ipv6 {
        return false;
    }
    let width = if base.ipv6 { 128 } else { 32 };
    let length =
        if wrong == Some(Wrong::HostBitsCount) && length > 0 { width - base.bits.trailing_zeros().min(width - length) } else { length };
    same_leading_bits(base.bits, address.bits, length, width)
}

/// Bit by bit, from the highest of `width`.
fn same_leading_bits(a: u128, b: u128, length: u32, width: u32) -> bool {
    (0..length).map(|place| width - 1 - place).all(|bit| (a >> bit) & 1 == (b >> bit) & 1)
}

/// What is wrong with the function.
fn to_what(key: &Key, request: &Request, catalog: &Catalog, wrong: Option<Wrong>) -> Option<Verdict> {
    let name = request.function.as_str();
    let registered = catalog.functions.iter().find(|function| function.name == name);
    let by_wildcard = key.grants.iter().any(|grant| grant.strip_suffix('*').is_some_and(|prefix| covers(prefix, name, wrong)));
    let by_name = key.grants.iter().any(|grant| match wrong {
        Some(Wrong::CaseDoesNotMatter) => grant.eq_ignore_ascii_case(name),
        _ => grant == name,
    });
    let Some(function) = registered else {
        return match wrong {
            Some(Wrong::ExactGrantNeedsNoRegistration) if by_name => None,
            Some(Wrong::StrictLetsWildcardsPass) if by_wildcard => None,
            Some(Wrong::LaxDeniesTheUnregistered) => Some(Verdict::FunctionUnknown),
            Some(Wrong::LaxCallsTheUncoveredDenied) if !catalog.strict && !by_wildcard => Some(Verdict::FunctionDenied),
            _ if !catalog.strict && by_wildcard => None,
            _ => Some(Verdict::FunctionUnknown),
        };
    };
    if by_name {
        return None;
    }
    match (function.restricted && wrong != Some(Wrong::WildcardCoversRestricted), by_wildcard) {
        (true, true) => Some(Verdict::FunctionRestricted),
        (true, false) if wrong == Some(Wrong::RestrictedThoughNothingCoversIt) => Some(Verdict::FunctionRestricted),
        (false, true) => None,
        (_, false) => Some(Verdict::FunctionDenied),
    }
}

fn covers(prefix: &str, name: &str, wrong: Option<Wrong>) -> bool {
    match wrong {
        Some(Wrong::PrefixNeedsMoreThanItself) if name == prefix => false,
        Some(Wrong::DotStarCoversItsStem) if prefix.strip_suffix('.') == Some(name) => true,
        _ => name.len() >= prefix.len() && name.as_bytes()[..prefix.len()] == *prefix.as_bytes(),
    }
}
