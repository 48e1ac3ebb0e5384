//! The library under test: an index that keys and catalogs are published to, round after round, and asked of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use doorward::index::Index;
use doorward::key::{self, Country, CountryOf, FunctionId, Instant, KeyId, PepperId, Settings, UnknownCountry, Verdict};
use doorward::policy::{self, Circumstances, Subject};

use crate::cases;
use crate::dice::Dice;
use crate::model::{Address, Catalog, Key, Network, Place, Request};

pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) catalog: Catalog,
    pub(crate) keys: Vec<Key>,
    dice: Dice,
    functions: Vec<key::Function>,
    next_function: u16,
}

/// One question: which secret of which key, and what it asks for.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) key: usize,
    pub(crate) secret: usize,
    pub(crate) request: Request,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let catalog = Catalog { functions: Vec::new(), strict: true };
        let (index, dice) = (Index::new(), Dice::new(seed));
        let mut world = World { index, catalog, keys: Vec::new(), dice, functions: Vec::new(), next_function: FunctionId::FIRST.0 };
        world.change();
        world.add_keys(300);
        world
    }

    /// Changes the catalog and many keys, and adds some, as an admin would in a busy year.
    pub(crate) fn change(&mut self) {
        let dice = &mut self.dice;
        cases::catalog(dice, &mut self.catalog);
        let added = self.publish_catalog();
        for at in 0..self.keys.len() {
            // A key that names a function is published after it; nothing else of the catalog asks for that.
            let mut changed = self.keys[at].grants.iter().any(|grant| added.contains(grant));
            if self.dice.percent(20) {
                self.edit(at);
                changed = true;
            }
            if changed {
                self.publish(at);
            }
        }
        self.add_keys(20);
    }

    fn publish_catalog(&mut self) -> Vec<String> {
        let mut added = Vec::new();
        let mut functions = Vec::new();
        for wanted in &self.catalog.functions {
            let known = self.functions.iter().find(|function| function.name.as_str() == wanted.name);
            let id = known.map(|function| function.id).unwrap_or_else(|| {
                added.push(wanted.name.clone());
                self.next_function += 1;
                FunctionId(self.next_function - 1)
            });
            let name = wanted.name.parse().expect("a function's name");
            functions.push(key::Function { id, name, restricted: wanted.restricted, created_at: Instant(0) });
        }
        self.functions = functions;
        self.index.publish_functions(&self.functions);
        self.index.set_strict(self.catalog.strict);
        added
    }

    fn edit(&mut self, at: usize) {
        let dice = &mut self.dice;
        let mut secrets = self.keys[at].secrets.clone();
        match dice.below(4) {
            0 if secrets.len() < 20 => {
                if let Some(newest) = secrets.last_mut() {
                    newest.retires_at = Some(1_790_000_000_000 + dice.below(1_000_000_000) as i64);
                }
                secrets.push(cases::secret(dice));
            }
            1 => {
                let which = dice.below(secrets.len());
                secrets[which].revoked = dice.percent(20);
            }
            _ => {}
        }
        self.keys[at] = cases::key(dice, secrets);
    }

    fn add_keys(&mut self, count: usize) {
        for _ in 0..count {
            let secrets = cases::secrets(&mut self.dice);
            self.keys.push(cases::key(&mut self.dice, secrets));
            self.publish(self.keys.len() - 1);
        }
    }

    fn publish(&mut self, at: usize) {
        let key = written(&self.keys[at], at);
        self.index.publish(&key).unwrap_or_else(|duplicate| panic!("{duplicate:?} while publishing {key:?}"));
    }

    pub(crate) fn case(&mut self) -> Case {
        let key = self.dice.below(self.keys.len());
        let secret = self.dice.below(self.keys[key].secrets.len());
        Case { key, secret, request: cases::request(&mut self.dice, &self.keys[key], secret, &self.catalog) }
    }

    /// A digest that nobody has.
    pub(crate) fn strange_digest(&mut self) -> [u8; 32] {
        self.dice.digest()
    }

    /// What the library says. Panics where `explain` would tell another story than the verdict.
    pub(crate) fn verdict(&self, case: &Case) -> Verdict {
        let key = &self.keys[case.key];
        let pin = self.index.pin();
        let found = self.index.find(&key.secrets[case.secret].digest, &pin);
        let found = found.unwrap_or_else(|| panic!("no such secret: {}", self.describe(case)));
        assert_eq!(found.id, id_of(case.key), "{}", self.describe(case));
        assert_eq!(usize::from(found.version), case.secret + 1, "{}", self.describe(case));
        assert_eq!(found.account, account_of(case.key), "{}", self.describe(case));
        let subject = Subject { standing: found.standing, rules: found.rules };
        let circumstances = Circumstances {
            now: Instant(case.request.now),
            address: case.request.address.map(|address| key::canonical(ip(address))),
            country: match &case.request.place {
                Place::NoDatabase => CountryOf::NoDatabase,
                Place::Unknown => CountryOf::Unknown,
                Place::In(code) => CountryOf::In(Country::from_database(code).expect("a country")),
            },
            called: self.index.called(&case.request.function, &pin),
            strict: self.index.strict(),
        };
        let verdict = policy::decide(&subject, &circumstances);
        let checks = policy::checks(&subject, &circumstances);
        let first = checks.iter().find(|(_, passed)| !passed).map_or(Verdict::Ok, |(verdict, _)| *verdict);
        assert_eq!(first, verdict, "`checks` and `decide` differ: {checks:?} {}", self.describe(case));
        assert!(checks.iter().map(|(verdict, _)| *verdict).eq(Verdict::ALL[3..].iter().copied()), "the order of the checks: {checks:?}");
        verdict
    }

    pub(crate) fn describe(&self, case: &Case) -> String {
        let mut key = self.keys[case.key].clone();
        key.secrets = vec![key.secrets[case.secret].clone()];
        let networks: Vec<String> = key.networks.iter().map(|network| text(*network)).collect();
        let address = case.request.address.map(ip);
        format!("{case:#?}\naddress {address:?}\nits networks {networks:?}\nthe key, with this secret only: {key:#?}\n{:#?}", self.catalog)
    }
}

fn id_of(key: usize) -> KeyId {
    KeyId((key as u128 + 1).to_be_bytes())
}

fn account_of(key: usize) -> String {
    if key.is_multiple_of(50) { "ä".repeat(50) } else { format!("account {}", key % 7) }
}

pub(crate) fn ip(address: Address) -> IpAddr {
    if address.ipv6 { Ipv6Addr::from(address.bits).into() } else { Ipv4Addr::from(address.bits as u32).into() }
}

/// As a person writes it; the network of one host without its length.
pub(crate) fn text(network: Network) -> String {
    let width = if network.base.ipv6 { 128 } else { 32 };
    let address = ip(network.base);
    if network.length == width { address.to_string() } else { format!("{address}/{}", network.length) }
}

/// The key in the library's own nouns, read from text where it has text.
fn written(key: &Key, number: usize) -> key::Key {
    let mut settings = Settings::new(&account_of(number), &format!("key {number}"));
    settings.enabled = key.enabled;
    settings.not_before = key.not_before.map(Instant);
    settings.expires_at = key.expires_at.map(Instant);
    settings.grants = key.grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    settings.networks = key.networks.iter().map(|network| text(*network).parse().expect("a network")).collect();
    settings.countries = key.countries.iter().map(|country| country.parse().expect("a country")).collect();
    settings.unknown_country = if key.unknown_country_allowed { UnknownCountry::Allow } else { UnknownCountry::Deny };
    settings.normalize().unwrap_or_else(|error| panic!("{error}: {key:?}"));
    let secrets = key.secrets.iter().zip(1..).map(|(secret, version)| key::Secret {
        version,
        digest: secret.digest,
        pepper: PepperId([0; 8]),
        created_at: Instant(0),
        retires_at: secret.retires_at.map(Instant),
        revoked_at: secret.revoked.then_some(Instant(0)),
    });
    key::Key {
        id: id_of(number),
        settings,
        secrets: secrets.collect(),
        created_at: Instant(0),
        deleted_at: key.deleted.then_some(Instant(0)),
        revision: 1,
    }
}
