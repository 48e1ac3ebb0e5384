//! Keys and requests drawn from a seed: what one run measures, the next one measures again.
//!
//! Every rule is in use. Half of the keys have a network that no other key has (so half of the rules cannot be shared in memory), half have
//! countries, half expire, a quarter names its functions one by one, and one request in seven is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::{Reader, WithinOptions};

use crate::geo::{DatabaseError, Geo};
use crate::key::{Country, Instant, Network, Settings, UnknownCountry, Verdict};

/// The country database that ships with the project: real networks, a few hundred of them.
pub const COUNTRY_DB: &[u8] = include_bytes!("../../testdata/country/flat.mmdb");

/// Callers' addresses that are drawn from, at most: enough that none is asked of twice in a row, few enough to find quickly.
const PLACES: usize = 20_000;
const SEED: u64 = 0x6f6f_7277_6172_6421;
const SERVICES: u64 = 8;
const CALLS: u64 = 8;
/// Of each service's calls, this one is restricted.
const RESTRICTED_CALL: u64 = CALLS - 1;
const KEYS_OF_AN_ACCOUNT: u64 = 10;
/// An address that the country database does not place and no key's network holds.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
/// 2020-01-01, 2100-01-01 and a day, in milliseconds.
const PAST: i64 = 1_577_836_800_000;
const FUTURE: i64 = 4_102_444_800_000;
const DAY: i64 = 86_400_000;

/// So many keys, and the addresses that their callers have.
pub struct Population {
    keys: u64,
    places: Vec<(IpAddr, Country)>,
}

/// One key.
pub struct Drawn {
    /// Its only token.
    pub token: Vec<u8>,
    /// All that an admin would say of it.
    pub settings: Settings,
    /// A caller from there passes the networks and countries.
    home: IpAddr,
    /// A function that the key may call.
    call: String,
    /// One that it may not, and with which verdict.
    other_call: (String, Verdict),
    /// Why it stands closed whatever is asked; `ok` if it stands open.
    standing: Verdict,
}

/// One request.
pub struct Asked {
    /// What the caller presents.
    pub token: Vec<u8>,
    /// What it wants to call.
    pub function: String,
    /// Where it calls from.
    pub address: Option<IpAddr>,
    /// Whether the key's grants cover the function, whatever else is wrong.
    pub callable: bool,
    /// What the verdict must be.
    pub verdict: Verdict,
    /// Bytes of the account that the answer names; 0 if no key has the token.
    pub account_bytes: usize,
}

/// SplitMix64 (Steele, Lea and Flood, 'Fast splittable pseudorandom number generators', 2014).
#[derive(Clone)]
pub struct Draw(u64);

impl Draw {
    /// The same numbers for the same stream, and others for another.
    pub fn new(stream: u64) -> Draw {
        Draw(SEED ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// One of `0..bound`, each as likely.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 inclusive to 1 exclusive.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

impl Population {
    /// Draws callers' addresses from the networks of a country database, given as its file's bytes.
    ///
    /// # Errors
    /// Bytes that are no country database.
    pub fn new(keys: u64, country_db: &[u8]) -> Result<Population, DatabaseError> {
        let countries = Geo::parse(country_db)?;
        let reader = Reader::from_source(country_db)?;
        let first = |found: Result<maxminddb::LookupResult<'_, &[u8]>, _>| Some(found.ok()?.network().ok()?.network());
        let placed = |address| Some((address, countries.of(address)?));
        let found: Vec<(IpAddr, Country)> = reader.networks(WithinOptions::default())?.filter_map(first).filter_map(placed).collect();
        let sparse = found.len().div_ceil(PLACES).max(1);
        // The sample that ships with the project has few IPv6 networks: its two of the documentation's range stand for more.
        let v6 = (1..400u16).map(|n| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1 + n % 2, n, 0, 0, 0, 1))).filter_map(placed);
        Ok(Population { keys, places: found.into_iter().step_by(sparse).chain(v6).collect() })
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Every function to register, and whether it is restricted.
    pub fn functions() -> impl Iterator<Item = (String, bool)> {
        (0..SERVICES).flat_map(|service| (0..CALLS).map(move |number| (call(service, number), number == RESTRICTED_CALL)))
    }

    /// The account and the name of the key of a number.
    pub fn name(number: u64) -> (String, String) {
        (format!("account-{:07}", number / KEYS_OF_AN_ACCOUNT), format!("key-{}", number % KEYS_OF_AN_ACCOUNT))
    }

    /// The key of a number.
    pub fn key(&self, number: u64) -> Drawn {
        let mut draw = Draw::new(number);
        let (account, name) = Population::name(number);
        let mut settings = Settings::new(&account, &name);
        settings.description = format!("reads and writes for {account}");
        settings.tags.insert("team".into(), format!("team-{}", draw.below(50)));
        let token = token(&mut draw);
        let (call, other_call) = grant(&mut settings, &mut draw);
        let home = self.place(&mut settings, number, &mut draw);
        let standing = stand(&mut settings, &mut draw);
        settings.normalize().expect("settings within the limits");
        Drawn { token, settings, home, call, other_call, standing }
    }

    /// A request with the token of a key drawn uniformly, or (3 in 100) with one that no key has.
    pub fn request(&self, draw: &mut Draw) -> Asked {
        let number = draw.below(self.keys);
        self.request_of(number, draw)
    }

    /// The same, of the key of this number.
    pub fn request_of(&self, number: u64, draw: &mut Draw) -> Asked {
        let key = self.key(number);
        let wrong = draw.below(100);
        let bound = !key.settings.networks.is_empty() || !key.settings.countries.is_empty();
        let account_bytes = key.settings.account.len();
        let asked =
            Asked { token: key.token, function: key.call, address: Some(key.home), callable: true, verdict: key.standing, account_bytes };
        // What is wrong with the key is found before what is wrong with the request.
        let wrong_with = |verdict| if key.standing == Verdict::Ok { verdict } else { key.standing };
        match wrong {
            0..2 => Asked { token: token(draw), verdict: Verdict::Unknown, account_bytes: 0, ..asked },
            2..3 => Asked { token: b"not-a-token".to_vec(), verdict: Verdict::Malformed, account_bytes: 0, ..asked },
            3..5 => Asked { function: key.other_call.0, callable: false, verdict: wrong_with(key.other_call.1), ..asked },
            5..6 => {
                Asked { function: "service-0.unheard-of".into(), callable: false, verdict: wrong_with(Verdict::FunctionUnknown), ..asked }
            }
            6..7 => Asked { address: None, verdict: wrong_with(if bound { Verdict::AddressMissing } else { Verdict::Ok }), ..asked },
            7..9 => {
                let unplaced = key.settings.countries.is_empty() || key.settings.unknown_country == UnknownCountry::Allow;
                let refusal = match (key.settings.networks.is_empty(), unplaced) {
                    (false, _) => Verdict::AddressDenied,
                    (true, false) => Verdict::CountryUnknown,
                    (true, true) => Verdict::Ok,
                };
                Asked { address: Some(ELSEWHERE), verdict: wrong_with(refusal), ..asked }
            }
            _ => asked,
        }
    }

    /// Gives the key its networks and countries, and returns an address that passes them.
    fn place(&self, settings: &mut Settings, number: u64, draw: &mut Draw) -> IpAddr {
        let (mut home, country) = self.places[draw.below(self.places.len() as u64) as usize];
        let has_countries = draw.one_in(2);
        if draw.one_in(2) {
            let [.., a, b, c] = number.to_be_bytes();
            let own = if draw.one_in(2) {
                IpAddr::V4(Ipv4Addr::new(10, a, b, c))
            } else {
                IpAddr::V6(Ipv6Addr::new(0xfd00, u16::from(a), u16::from_be_bytes([b, c]), 0, 0, 0, 0, 1))
            };
            settings.networks.push(network(own, 32, 48));
            if has_countries {
                settings.networks.push(network(home, 24, 48));
            } else {
                home = own;
            }
        }
        if has_countries {
            settings.countries.push(country);
            let more = (0..draw.below(4)).map(|_| self.places[draw.below(self.places.len() as u64) as usize].1);
            settings.countries.extend(more);
            settings.unknown_country = if draw.one_in(4) { UnknownCountry::Allow } else { UnknownCountry::Deny };
        }
        home
    }
}

/// Gives the key its grants, and returns a function that it may call, and one that it may not with the verdict on it.
fn grant(settings: &mut Settings, draw: &mut Draw) -> (String, (String, Verdict)) {
    let (service, number) = (draw.below(SERVICES), draw.below(RESTRICTED_CALL));
    let (chosen, restricted) = (call(service, number), call(service, RESTRICTED_CALL));
    let elsewhere = (call((service + 1) % SERVICES, number), Verdict::FunctionDenied);
    let (grants, may, may_not) = match draw.below(4) {
        0 => (vec!["*".into()], chosen, (restricted, Verdict::FunctionRestricted)),
        1 => (vec![format!("service-{service}.*")], chosen, elsewhere),
        2 => (vec![chosen.clone(), call(service, (number + 1) % RESTRICTED_CALL)], chosen, elsewhere),
        _ => (vec![format!("service-{service}.*"), restricted.clone()], restricted, elsewhere),
    };
    settings.grants = grants.iter().map(|grant: &String| grant.parse().expect("a grant")).collect();
    (may, may_not)
}

/// Gives the key its times and its switch, and returns how it stands. One key in 25 stands closed.
fn stand(settings: &mut Settings, draw: &mut Draw) -> Verdict {
    let later = Instant(FUTURE + draw.below(36_500) as i64 * DAY);
    settings.expires_at = draw.one_in(2).then_some(later);
    settings.not_before = draw.one_in(4).then_some(Instant(PAST));
    match draw.below(75) {
        0 => {
            settings.enabled = false;
            Verdict::Disabled
        }
        1 => {
            settings.not_before = Some(Instant(FUTURE - DAY));
            Verdict::NotYetValid
        }
        2 => {
            (settings.not_before, settings.expires_at) = (None, Some(Instant(PAST)));
            Verdict::Expired
        }
        _ => Verdict::Ok,
    }
}

fn call(service: u64, number: u64) -> String {
    format!("service-{service}.call-{number}")
}

fn network(address: IpAddr, v4_bits: u8, v6_bits: u8) -> Network {
    let bits = if address.is_ipv4() { v4_bits } else { v6_bits };
    format!("{address}/{bits}").parse().expect("a network")
}

/// A token as doorward makes them, but not a secret one.
fn token(draw: &mut Draw) -> Vec<u8> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut token = b"dw_".to_vec();
    token.extend((0..43).map(|_| DIGITS[draw.below(62) as usize]));
    let mut check = crc32fast::hash(&token);
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(check % 62) as usize];
        check /= 62;
    }
    token.extend(digits);
    token
}
