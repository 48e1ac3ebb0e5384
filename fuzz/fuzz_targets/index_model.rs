//! The index against the simplest thing that does the same: a map from the beginning of a digest to what was last published. Keys are made, changed, rotated, revoked,
//! deleted, brought back and published together; tokens are noted and recognised; digests and tags are drawn from few, many of which share a shard, a slot or a home.
//!
//! The input is a list of operations of a few bytes each.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use doorward::index::{Duplicate, Found, Index, Tag, found_by};
use doorward::key::{Function, FunctionId, Grant, Instant, Key, KeyId, PepperId, Secret, Settings, UnknownCountry};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const KEYS: u8 = 32;
const OPERATIONS: usize = 400;
const NAMES: [&str; 4] = ["a", "a.b", "a.c", "b"];

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    let mut u = Unstructured::new(input);
    for _ in 0..OPERATIONS {
        // Input that has run out ends the list.
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
    }
    world.compare();
});

/// What was published of a secret.
struct Shown {
    key: Key,
    version: u16,
    /// The numbers of functions that are granted by name, as the catalog was then.
    exact: BTreeSet<u16>,
}

struct World {
    index: Index,
    keys: BTreeMap<u8, Key>,
    shown: HashMap<[u64; 2], Shown>,
    noted: BTreeSet<u16>,
    functions: Vec<Function>,
}

impl World {
    fn new() -> World {
        World { index: Index::new(), keys: BTreeMap::new(), shown: HashMap::new(), noted: BTreeSet::new(), functions: Vec::new() }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let operation = u.int_in_range(0..=12)?;
        let number = u.int_in_range(0..=KEYS - 1)?;
        match operation {
            0 | 1 => {
                let key = self.draw(number, u)?;
                self.publish(number, key);
            }
            2 => {
                let Some(key) = self.keys.get(&number).cloned() else { return Ok(()) };
                let key = rotated(key, u)?;
                self.publish(number, key);
            }
            3 => self.change(number, |key| key.secrets.iter_mut().rev().take(1).for_each(|secret| secret.revoked_at = Some(Instant(9)))),
            4 => self.change(number, |key| key.deleted_at = if key.deleted_at.is_some() { None } else { Some(Instant(7)) }),
            5 => self.change(number, |key| key.settings.enabled = !key.settings.enabled),
            6 => {
                let mut keys = BTreeMap::new();
                for _ in 0..u.int_in_range(1..=8)? {
                    let number = u.int_in_range(0..=KEYS - 1)?;
                    keys.insert(number, self.draw(number, u)?);
                }
                self.publish_all(keys);
            }
            7 => {
                let mut functions = Vec::new();
                for (at, name) in NAMES.into_iter().enumerate() {
                    if u.arbitrary()? {
                        let id = FunctionId(FunctionId::FIRST.0 + at as u16);
                        functions.push(Function {
                            id,
                            name: name.parse().expect("a name"),
                            restricted: u.arbitrary()?,
                            created_at: Instant(1),
                        });
                    }
                }
                self.index.publish_functions(&functions);
                self.functions = functions;
            }
            8 => self.index.reserve(usize::from(u.arbitrary::<u16>()?)),
            9 => self.index.set_strict(u.arbitrary()?),
            10 | 11 => {
                let token = u.arbitrary()?;
                let pin = self.index.pin();
                self.index.expect(tag(token), &pin);
                self.index.expect_digest(&digest(token), &pin);
                self.index.expect_secret(&digest(token), &pin);
                self.index.note(tag(token), &digest(token), &pin);
                drop(pin);
                if self.shown.contains_key(&found_by(&digest(token))) {
                    self.noted.insert(token);
                }
                self.look(token);
            }
            _ => self.look(u.arbitrary()?),
        }
        Ok(())
    }

    /// A key with settings of every kind. Its first secret may be another key's.
    fn draw(&self, number: u8, u: &mut Unstructured<'_>) -> Result<Key> {
        let mut settings = Settings::new(&"x".repeat(u.int_in_range(1..=100)?), "n");
        settings.enabled = u.ratio(3, 4)?;
        let instant = |u: &mut Unstructured<'_>| u.arbitrary::<Option<u16>>().map(|at| at.map(|at| Instant(i64::from(at))));
        settings.not_before = instant(u)?;
        settings.expires_at = instant(u)?;
        for _ in 0..u.int_in_range(0..=9)? {
            let (a, b) = (u.arbitrary::<u8>()?, u.int_in_range(0..=32)?);
            let text = if a % 2 == 0 { format!("10.{a}.{b}.0/{b}") } else { format!("2001:db8:{a:x}::/{}", 16 + b) };
            settings.networks.push(text.parse().expect("a network"));
        }
        for code in ["DE", "FR", "GB"] {
            if u.ratio(1, 4)? {
                settings.countries.push(code.parse().expect("a country"));
            }
        }
        settings.unknown_country = if u.arbitrary()? { UnknownCountry::Allow } else { UnknownCountry::Deny };
        for grant in ["a", "a.b", "a.*", "b*", "*"] {
            if u.ratio(1, 3)? {
                settings.grants.push(grant.parse().expect("a grant"));
            }
        }
        let id = KeyId([number + 1; 16]);
        let key = Key { id, settings, secrets: vec![], created_at: Instant(1), deleted_at: None, revision: 1 };
        // What a key once had stays its own.
        match self.keys.get(&number) {
            Some(before) => Ok(Key { secrets: before.secrets.clone(), deleted_at: before.deleted_at, ..key }),
            None => rotated(key, u),
        }
    }

    fn change(&mut self, number: u8, change: impl FnOnce(&mut Key)) {
        if let Some(mut key) = self.keys.get(&number).cloned() {
            change(&mut key);
            self.publish(number, key);
        }
    }

    fn publish(&mut self, number: u8, key: Key) {
        let expected = self.expected(&key);
        assert_eq!(self.index.publish(&key), expected);
        if expected.is_ok() {
            self.note(number, key);
        }
    }

    fn publish_all(&mut self, keys: BTreeMap<u8, Key>) {
        let outcome = self.index.publish_all(keys.values());
        for (number, key) in keys {
            match self.expected(&key) {
                Ok(()) => self.note(number, key),
                Err(duplicate) => return assert_eq!(outcome, Err((key.id, duplicate)), "those before it are published, and no other"),
            }
        }
        assert_eq!(outcome, Ok(()));
    }

    fn expected(&self, key: &Key) -> std::result::Result<(), Duplicate> {
        let owners = key.secrets.iter().filter_map(|secret| self.shown.get(&found_by(&secret.digest)));
        let other = owners.map(|shown| shown.key.id).find(|id| *id != key.id);
        other.map_or(Ok(()), |id| Err(Duplicate(id)))
    }

    fn note(&mut self, number: u8, key: Key) {
        let of_name = |grant: &Grant| match grant {
            Grant::Exact(name) => self.functions.iter().find(|function| function.name == *name).map(|function| function.id.0),
            Grant::Prefix(_) => None,
        };
        let exact: BTreeSet<u16> = key.settings.grants.iter().filter_map(of_name).collect();
        for secret in &key.secrets {
            let shown = Shown { key: key.clone(), version: secret.version, exact: exact.clone() };
            self.shown.insert(found_by(&secret.digest), shown);
        }
        assert!(self.index.shows(&key));
        self.keys.insert(number, key);
    }

    /// Looks for a token by its digest, and by its tag.
    fn look(&self, token: u16) {
        let pin = self.index.pin();
        let expected = self.shown.get(&found_by(&digest(token)));
        let found = self.index.find(&digest(token), &pin);
        assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (&found, expected) {
            self.same(found, expected);
        }
        // It may have been forgotten; what is recognised is what is published.
        if let Some(recognised) = self.index.recognise(tag(token), &pin) {
            assert!(self.noted.contains(&token), "recognised, and never noted");
            self.same(&recognised.found(), expected.expect("a token that was noted is a secret"));
        }
    }

    fn same(&self, found: &Found<'_>, Shown { key, version, exact }: &Shown) {
        let settings = &key.settings;
        assert_eq!((found.id, found.version, found.account), (key.id, *version, &*settings.account));
        let secret = key.secrets.iter().find(|secret| secret.version == *version).expect("a secret");
        let standing = found.standing;
        assert_eq!((standing.deleted, standing.revoked), (key.deleted_at.is_some(), secret.revoked_at.is_some()));
        assert_eq!((standing.disabled, standing.retires_at), (!settings.enabled, secret.retires_at));
        assert_eq!((standing.not_before, standing.expires_at), (settings.not_before, settings.expires_at));
        let rules = found.rules.sections();
        assert_eq!((rules.has_networks(), rules.has_countries()), (!settings.networks.is_empty(), !settings.countries.is_empty()));
        assert_eq!(rules.unknown_country(), settings.unknown_country);
        for network in &settings.networks {
            let (first, last) = (network.net().network(), network.net().broadcast());
            assert!(rules.covers_address(first) && rules.covers_address(last), "{network}");
        }
        for address in ["10.0.0.1", "10.128.7.9", "11.0.0.0", "2001:db8::1", "2001:db8:80::1", "::1"] {
            let address = address.parse().expect("an address");
            assert_eq!(rules.covers_address(address), settings.networks.iter().any(|network| network.contains(address)), "{address}");
        }
        for code in ["DE", "FR", "GB", "US"] {
            let country = code.parse().expect("a country");
            assert_eq!(rules.covers_country(country), settings.countries.contains(&country));
        }
        for number in 0..6 {
            assert_eq!(rules.grants_exactly(FunctionId(number)), exact.contains(&number));
        }
        for name in ["a", "a.b", "b", "bb", "c", "a."] {
            let covers = |grant: &Grant| matches!(grant, Grant::Prefix(prefix) if name.starts_with(&**prefix));
            assert_eq!(rules.grants_by_prefix(name), settings.grants.iter().any(covers), "{name}");
        }
    }

    fn compare(&self) {
        assert_eq!(self.index.secrets(), self.shown.len());
        // A key is shown as the catalog was when it was published.
        let by_name = |key: &&Key| key.settings.grants.iter().any(|grant| matches!(grant, Grant::Exact(_)));
        assert!(self.keys.values().filter(|key| !by_name(key)).all(|key| self.index.shows(key)));
        let pin = self.index.pin();
        for name in NAMES {
            let (called, known) = (self.index.called(name, &pin), self.functions.iter().find(|function| function.name.as_str() == name));
            let known = known.map(|function| (function.id, function.restricted));
            assert_eq!(called.id.map(|id| (id, called.restricted)), known);
        }
        drop(pin);
        self.noted.iter().for_each(|token| self.look(*token));
        let tokens: BTreeSet<u16> = (0..=u16::MAX).step_by(257).collect();
        tokens.iter().for_each(|token| self.look(*token));
    }
}

/// Gives a key one secret more; its digest may be another's.
fn rotated(mut key: Key, u: &mut Unstructured<'_>) -> Result<Key> {
    let digest = digest(u.arbitrary()?);
    if key.secrets.iter().any(|secret| secret.digest == digest) || key.secrets.len() > 40 {
        return Ok(key);
    }
    let version = key.secrets.len() as u16 + 1;
    if let Some(replaced) = key.secrets.last_mut() {
        replaced.retires_at = Some(Instant(u.arbitrary::<u16>()?.into()));
    }
    key.secrets.push(Secret { version, digest, pepper: PepperId([0; 8]), created_at: Instant(1), retires_at: None, revoked_at: None });
    Ok(key)
}

/// The digest of a token: by its bits the shard (the highest of the first word), what a slot keeps (the lowest of it) and the slot (the second word), few of each.
fn digest(token: u16) -> [u8; 32] {
    let token = u64::from(token);
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&((token & 7) << 58 | (token >> 3 & 3) << 20 | (token >> 5 & 7)).to_le_bytes());
    digest[8..16].copy_from_slice(&((token >> 8 & 3) << 62 | (token >> 10)).to_le_bytes());
    digest
}

/// The tag of a token, of which no two are the same; many have the same home.
fn tag(token: u16) -> Tag {
    [u64::from(token & 31) << 59 | 1 << 32, u64::from(token) + 1]
}
