//! A small door, the same in every run, with keys and requests of every kind: each of the sixteen verdicts is among the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use doorward::digest::{Pepper, Peppers, Recogniser};
use doorward::geo::Geo;
use doorward::index::Index;
use doorward::key::{Function, FunctionId, Instant, Key, KeyId, Secret, Settings, UnknownCountry};
use doorward::protocol::{Kind, Verify, encode, encode_body};
use doorward::usage::Usage;
use doorward::verify::Door;

/// As many as a few full rounds have requests.
const KEYS: u8 = 128;
/// The keys behind these, one for each way in which a key can stand badly, and as many again.
const FALLEN: u8 = 12;
/// When all requests are made.
pub(crate) const NOW: Instant = Instant(1_000_000);

/// The door and what is asked of it.
pub(crate) struct Scene {
    pub(crate) door: Door,
    /// Two requests for each key: one that passes if the key stands, and one of which about a third are refused.
    pub(crate) known: Vec<Request>,
    /// Tokens that no key has; every other one does not read as a token.
    pub(crate) strangers: Vec<Request>,
}

/// One request.
pub(crate) struct Request {
    pub(crate) token: Vec<u8>,
    pub(crate) function: &'static str,
    pub(crate) address: Option<IpAddr>,
}

impl Request {
    /// As the verify path takes it.
    pub(crate) fn verify(&self) -> Verify<'_> {
        Verify { token: &self.token, function: self.function, address: self.address.into() }
    }

    /// As a client sends it.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&mut frame, Kind::Verify, *b"a client", |out| encode_body(out, &self.verify()));
        frame
    }
}

impl Scene {
    /// The country database is the one that ships with the project: it has 203.0.113.0/24 in FR and 2001:db8:1::/48 in DE.
    /// Nothing is noted yet: every token is new to the door.
    pub(crate) fn set(country_db: &Path) -> Scene {
        let pepper = Pepper::from_bytes([7; 32]);
        let index = Index::new();
        index.publish_functions(&functions());
        let (keys, requests): (Vec<_>, Vec<_>) = (0..KEYS).map(|number| key(number, &pepper)).unzip();
        keys.iter().for_each(|key| index.publish(key).expect("tokens that are distinct"));
        let geo = Geo::without_database();
        geo.load(country_db).expect("a country database");
        let strangers = (0..64).map(|number| Request {
            token: if number % 2 == 0 { token(200 + number / 2) } else { vec![b'x'; 32] },
            function: "leads.insert",
            address: Some(v4(number)),
        });
        let door = Door {
            index: Arc::new(index),
            peppers: Peppers { current: pepper, previous: None },
            recogniser: Recogniser::with_key(&[5; 16]),
            geo: Arc::new(geo),
            usage: Arc::new(Usage::new()),
        };
        Scene { door, known: requests.into_iter().flatten().collect(), strangers: strangers.collect() }
    }
}

fn functions() -> [Function; 4] {
    [(0, "leads.insert"), (1, "leads.delete"), (2, "mail.send"), (3, "mail.list")].map(|(number, name)| Function {
        id: FunctionId(FunctionId::FIRST.0 + number),
        name: name.parse().expect("a function's name"),
        restricted: name == "leads.delete",
        created_at: Instant(1),
    })
}

/// The key of a number and what is asked with its token.
fn key(number: u8, pepper: &Pepper) -> (Key, [Request; 2]) {
    let long = number % 16 == 15;
    // Twelve bytes, or more than is kept beside a recognised token.
    let account = format!("{}-{number:03}", if long { "customer".repeat(10) } else { "customer".into() });
    let mut settings = Settings::new(&account, "key");
    let (grants, function, refused): (&[&str], _, _) = match number % 4 {
        0 => (&["*"], "mail.send", "leads.delete"),
        1 => (&["leads.*"], "leads.insert", "mail.list"),
        2 => (&["mail.send", "leads.insert"], "mail.send", "mail.list"),
        _ => (&["leads.*", "leads.delete"], "leads.delete", "none.such"),
    };
    settings.grants = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    let (networks, countries, home, elsewhere): (&[&str], &[&str], _, _) = match number % 6 {
        0 => (&[], &[], v4(number), None),
        1 => (&["203.0.113.0/24", "10.1.0.0/16"], &[], v4(number), Some(v6(number))),
        2 => (&["2001:db8:1::/48"], &[], v6(number), Some(v4(number))),
        3 => (&[], &["FR", "GB"], v4(number), Some(v6(number))),
        4 => (&["2001:db8:1::/48", "10.2.0.0/16", "10.4.0.0/16"], &["DE"], v6(number), None),
        _ => (&[], &["FR"], v4(number), Some(Ipv4Addr::new(192, 0, 2, number).into())),
    };
    settings.networks = networks.iter().map(|network| network.parse().expect("a network")).collect();
    settings.countries = countries.iter().map(|country| country.parse().expect("a country")).collect();
    settings.unknown_country = UnknownCountry::Deny;
    settings.expires_at = number.is_multiple_of(2).then_some(Instant(NOW.0 + 1));
    settings.not_before = number.is_multiple_of(5).then_some(Instant(1));
    let mut secret = Secret {
        version: 1 + u16::from(number % 3),
        digest: pepper.digest_token(&token(number)),
        pepper: pepper.id(),
        created_at: Instant(1),
        retires_at: number.is_multiple_of(7).then_some(Instant(NOW.0 + 1)),
        revoked_at: None,
    };
    let mut deleted_at = None;
    match (KEYS - 1 - number, number % 6) {
        (FALLEN.., _) => {}
        (_, 0) => deleted_at = Some(Instant(2)),
        (_, 1) => secret.revoked_at = Some(Instant(2)),
        (_, 2) => secret.retires_at = Some(Instant(2)),
        (_, 3) => settings.enabled = false,
        (_, 4) => (settings.not_before, settings.expires_at) = (Some(Instant(NOW.0 + 1)), None),
        _ => (settings.not_before, settings.expires_at) = (None, Some(NOW)),
    }
    settings.normalize().expect("settings within the limits");
    let asked = |function, address| Request { token: token(number), function, address };
    let second = match number / 4 % 4 {
        0 | 1 => asked(function, Some(home)),
        2 => asked(refused, Some(home)),
        _ => asked(function, elsewhere),
    };
    let id = KeyId(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
    let key = Key { id, settings, secrets: vec![secret], created_at: Instant(1), deleted_at, revision: 1 };
    (key, [asked(function, Some(home)), second])
}

fn v4(number: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, number).into()
}

fn v6(number: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, u16::from(number), 0, 0, 0, 1).into()
}

/// A token as doorward makes them, the same in every run.
fn token(number: u8) -> Vec<u8> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut token = b"dw_".to_vec();
    token.extend((0..43u8).map(|at| DIGITS[(usize::from(number) * 7 + usize::from(at) * (1 + usize::from(number) % 5)) % 62]));
    let mut check = crc32fast::hash(&token);
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(check % 62) as usize];
        check /= 62;
    }
    token.extend(digits);
    token
}
