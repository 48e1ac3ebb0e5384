//! Keys and requests drawn from a seed: what one run measures, the next one measures again.
//!
//! Every rule is in use. Half of the keys have a network that no other key has (so half of the rules cannot be shared in memory), half have
//! countries, half expire, a quarter names its functions one by one, and one request in seven is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use doorward::geo::Geo;
use doorward::key::{Country, CountryOf, Instant, Settings, UnknownCountry, reads_as_token};

/// Where the sample of real client addresses is.
const ACCESS_LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/demo/access.log");
/// The country database that ships with the project, cut to the addresses of that sample.
pub(crate) const COUNTRY_DB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb");

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
pub(crate) struct Population {
    keys: u64,
    places: Vec<(IpAddr, Country)>,
}

/// One key.
pub(crate) struct Drawn {
    pub(crate) token: Vec<u8>,
    pub(crate) settings: Settings,
    /// A caller from there passes the networks and countries.
    home: IpAddr,
    /// A function that the key may call.
    call: String,
    /// One that it may not.
    other_call: String,
    /// Switched on, begun and not expired.
    stands: bool,
}

/// One request.
pub(crate) struct Asked {
    pub(crate) token: Vec<u8>,
    pub(crate) function: String,
    pub(crate) address: Option<IpAddr>,
    /// What the verdict must be.
    pub(crate) passes: bool,
}

/// SplitMix64 (Steele, Lea and Flood, 'Fast splittable pseudorandom number generators', 2014).
#[derive(Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(stream: u64) -> Draw {
        Draw(SEED ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ z >> 31) * u128::from(bound)) >> 64) as u64
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

impl Population {
    /// Draws callers' addresses from those that `country_db` places.
    pub(crate) fn new(keys: u64, country_db: &Path) -> Population {
        let geo = Geo::without_database();
        geo.load(country_db).expect("a country database");
        let log = std::fs::read_to_string(ACCESS_LOG).expect("the sample of an access log");
        let v4 = log.lines().filter_map(|line| line.split(' ').next()?.parse().ok());
        let v6 = (1..400u16).map(|n| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1 + n % 2, n, 0, 0, 0, 1)));
        let mut addresses: Vec<IpAddr> = v4.chain(v6).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let placed = addresses.into_iter().filter_map(|address| match geo.country(address) {
            CountryOf::In(country) => Some((address, country)),
            CountryOf::Unknown | CountryOf::NoDatabase => None,
        });
        Population { keys, places: placed.collect() }
    }

    /// Every function to register, and whether it is restricted.
    pub(crate) fn functions() -> impl Iterator<Item = (String, bool)> {
        (0..SERVICES).flat_map(|service| (0..CALLS).map(move |number| (call(service, number), number == RESTRICTED_CALL)))
    }

    /// The key of a number.
    pub(crate) fn key(&self, number: u64) -> Drawn {
        let mut draw = Draw::new(number);
        let account = format!("account-{:07}", number / KEYS_OF_AN_ACCOUNT);
        let mut settings = Settings::new(&account, &format!("key-{}", number % KEYS_OF_AN_ACCOUNT));
        settings.description = format!("reads and writes for {account}");
        settings.tags.insert("team".into(), format!("team-{}", draw.below(50)));
        let token = token(&mut draw);
        let (call, other_call) = grant(&mut settings, &mut draw);
        let home = self.place(&mut settings, number, &mut draw);
        let stands = stand(&mut settings, &mut draw);
        settings.normalize().expect("settings within the limits");
        Drawn { token, settings, home, call, other_call, stands }
    }

    /// A request with the token of a key drawn uniformly, or (3 in 100) with one that no key has.
    pub(crate) fn request(&self, draw: &mut Draw) -> Asked {
        let key = self.key(draw.below(self.keys));
        let wrong = draw.below(100);
        let asked = Asked { token: key.token, function: key.call, address: Some(key.home), passes: key.stands };
        let refused = |asked: Asked| Asked { passes: false, ..asked };
        let bound = !key.settings.networks.is_empty() || !key.settings.countries.is_empty();
        match wrong {
            0..2 => refused(Asked { token: token(draw), ..asked }),
            2..3 => refused(Asked { token: b"not-a-token".to_vec(), ..asked }),
            3..5 => refused(Asked { function: key.other_call, ..asked }),
            5..6 => refused(Asked { function: "service-0.unheard-of".into(), ..asked }),
            6..7 => Asked { address: None, passes: asked.passes && !bound, ..asked },
            7..9 => {
                let unplaced = key.settings.countries.is_empty() || key.settings.unknown_country == UnknownCountry::Allow;
                Asked { address: Some(ELSEWHERE), passes: asked.passes && key.settings.networks.is_empty() && unplaced, ..asked }
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

/// Gives the key its grants, and returns a function that it may call and one that it may not.
fn grant(settings: &mut Settings, draw: &mut Draw) -> (String, String) {
    let (service, number) = (draw.below(SERVICES), draw.below(RESTRICTED_CALL));
    let (chosen, restricted) = (call(service, number), call(service, RESTRICTED_CALL));
    let elsewhere = call((service + 1) % SERVICES, number);
    let (grants, may, may_not) = match draw.below(4) {
        0 => (vec!["*".into()], chosen, restricted),
        1 => (vec![format!("service-{service}.*")], chosen, elsewhere),
        2 => (vec![chosen.clone(), call(service, (number + 1) % RESTRICTED_CALL)], chosen, elsewhere),
        _ => (vec![format!("service-{service}.*"), restricted.clone()], restricted, elsewhere),
    };
    settings.grants = grants.iter().map(|grant: &String| grant.parse().expect("a grant")).collect();
    (may, may_not)
}

/// Gives the key its times and its switch, and returns whether it stands. One key in 25 does not.
fn stand(settings: &mut Settings, draw: &mut Draw) -> bool {
    let later = Instant(FUTURE + draw.below(36_500) as i64 * DAY);
    settings.expires_at = draw.one_in(2).then_some(later);
    settings.not_before = draw.one_in(4).then_some(Instant(PAST));
    match draw.below(75) {
        0 => settings.enabled = false,
        1 => settings.not_before = Some(Instant(FUTURE - DAY)),
        2 => (settings.not_before, settings.expires_at) = (None, Some(Instant(PAST))),
        _ => return true,
    }
    false
}

fn call(service: u64, number: u64) -> String {
    format!("service-{service}.call-{number}")
}

fn network(address: IpAddr, v4_bits: u8, v6_bits: u8) -> doorward::key::Network {
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
    debug_assert!(reads_as_token(&token));
    token
}
