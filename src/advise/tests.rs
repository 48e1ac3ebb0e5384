use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::key::{self, CountryOf, FunctionId, Grant, KeyId, PepperId, Rules, Secret, Settings, Standing, UnknownCountry, Verdict};
use crate::policy::{Circumstances, Subject, decide};

const NOW: Instant = Instant(1_800_000_000_000);
const DAY_MS: i64 = 86_400_000;

fn key(grants: &[&str], networks: &[&str], countries: &[&str]) -> Key {
    let mut settings = Settings::new("acme", "web");
    settings.grants = grants.iter().map(|text| text.parse().unwrap()).collect();
    settings.networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    settings.countries = countries.iter().map(|text| text.parse().unwrap()).collect();
    settings.expires_at = Some(Instant(NOW.0 + 400 * DAY_MS));
    settings.normalize().unwrap();
    let made = Instant(NOW.0 - 100 * DAY_MS);
    let secret = Secret { version: 1, digest: [0; 32], pepper: PepperId([0; 8]), created_at: made, retires_at: None, revoked_at: None };
    Key { id: KeyId([7; 16]), settings, secrets: vec![secret], created_at: made, deleted_at: None, revision: 1 }
}

fn nothing_seen() -> Evidence {
    nothing_seen_for(28)
}

/// Looked at for so many days.
fn nothing_seen_for(days: i64) -> Evidence {
    let since = Instant(NOW.0 - days * DAY_MS);
    Evidence {
        since,
        functions: BTreeMap::new(),
        unnamed: 0,
        verifies: 0,
        countries: BTreeMap::new(),
        networks: Vec::new(),
        networks_whole: true,
        last_uses: BTreeMap::new(),
        refused: BTreeMap::new(),
        grants_since: Instant(0),
        networks_since: Instant(0),
        countries_since: Instant(0),
    }
}

/// Used an hour ago: these functions, from these networks and countries.
fn seen(functions: &[&str], networks: &[&str], countries: &[&str]) -> Evidence {
    let mut evidence = nothing_seen();
    for name in functions {
        evidence.functions.insert(name.parse().unwrap(), Called { count: 10, restricted: false });
        evidence.verifies += 10;
    }
    evidence.verifies = evidence.verifies.max(1);
    evidence.last_uses.insert(1, Instant(NOW.0 - 3_600_000));
    evidence.networks = networks.iter().map(|text| (text.parse().unwrap(), NOW)).collect();
    evidence.countries = countries.iter().map(|text| (text.parse().ok(), 5)).collect();
    evidence
}

fn around() -> Surroundings {
    Surroundings { now: NOW, places: true, limits: Limits::default() }
}

fn of(kind: Kind, key: &Key, evidence: &Evidence) -> Option<Advice> {
    advise(key, evidence, &around()).into_iter().find(|advice| advice.kind == kind)
}

fn line(advice: &Advice) -> String {
    key::shell_line(&advice.command)
}

#[test]
fn a_grant_that_was_never_called_is_taken_away() {
    let key = key(&["leads.insert", "leads.list", "orders.*"], &["192.0.2.0/24"], &["DE"]);
    let evidence = seen(&["leads.insert"], &["192.0.2.0/24"], &["DE"]);
    let advice = of(Kind::UnusedGrant, &key, &evidence).unwrap();
    assert_eq!(line(&advice), "doorward edit acme/web '--remove-grant=leads.list,orders.*'");
    assert_eq!(advice.evidence, "leads.list, orders.*: never needed in 28 days of usage");
    assert_eq!(of(Kind::UnusedGrant, &key, &seen(&["leads.insert", "leads.list", "orders.x"], &[], &[])), None);
    assert_eq!(of(Kind::UnusedGrant, &key, &seen(&["other"], &[], &[])), None, "all of them: the key is used for something else");
}

#[test]
fn a_grant_made_yesterday_is_not_held_against_a_month() {
    let key = key(&["leads.insert", "leads.list"], &[], &[]);
    let mut evidence = seen(&["leads.insert"], &[], &[]);
    evidence.grants_since = Instant(NOW.0 - DAY_MS);
    let advice = of(Kind::UnusedGrant, &key, &evidence).unwrap();
    assert_eq!((advice.since, advice.evidence.as_str()), (evidence.grants_since, "leads.list: never needed in 24 hours of usage"));
}

#[test]
fn a_wildcard_becomes_the_names_that_were_seen() {
    let key = key(&["leads.*"], &[], &[]);
    let advice = of(Kind::WideGrant, &key, &seen(&["leads.insert", "leads.list"], &[], &[])).unwrap();
    assert_eq!(line(&advice), "doorward edit acme/web '--remove-grant=leads.*' --add-grant=leads.insert,leads.list");
    assert_eq!(advice.evidence, "leads.*: 20 calls in 28 days, all of leads.insert (10), leads.list (10)");
    let mut evidence = seen(&["leads.insert"], &[], &[]);
    evidence.unnamed = 1;
    assert_eq!(of(Kind::WideGrant, &key, &evidence), None, "something was called that has no name");
    let names: Vec<String> = (0..30).map(|number| format!("leads.f{number}")).collect();
    let many = seen(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[], &[]);
    assert_eq!(of(Kind::WideGrant, &key, &many), None, "a list of thirty says less than the wildcard");
}

#[test]
fn a_restricted_function_is_not_granted_in_passing() {
    let key = key(&["leads.*"], &[], &[]);
    let mut evidence = seen(&["leads.insert", "leads.purge"], &[], &[]);
    evidence.functions.get_mut(&"leads.purge".parse::<FunctionName>().unwrap()).unwrap().restricted = true;
    let advice = of(Kind::WideGrant, &key, &evidence).unwrap();
    assert!(line(&advice).ends_with("--add-grant=leads.insert"), "{}", line(&advice));
}

#[test]
fn places_that_were_never_used_are_taken_away_but_never_the_last() {
    let key = key(&["*"], &["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"], &["AT", "DE"]);
    let evidence = seen(&["a"], &["192.0.2.0/24"], &["DE"]);
    assert_eq!(
        line(&of(Kind::UnusedNetwork, &key, &evidence).unwrap()),
        "doorward edit acme/web --remove-network=10.0.0.0/8,2001:db8::/32"
    );
    assert_eq!(line(&of(Kind::UnusedCountry, &key, &evidence).unwrap()), "doorward edit acme/web --remove-country=AT");
    let elsewhere = seen(&["a"], &["198.51.100.0/24"], &["US"]);
    assert_eq!((of(Kind::UnusedNetwork, &key, &elsewhere), of(Kind::UnusedCountry, &key, &elsewhere)), (None, None));
    let mut part = seen(&["a"], &["192.0.2.0/24"], &["DE"]);
    part.networks_whole = false;
    assert_eq!(of(Kind::UnusedNetwork, &key, &part), None, "it may have been used from networks that are not remembered");
}

#[test]
fn a_wide_network_becomes_the_parts_that_were_used() {
    let key = key(&["*"], &["10.0.0.0/8"], &[]);
    let advice = of(Kind::WideNetwork, &key, &seen(&["a"], &["10.1.2.0/24"], &["DE"])).unwrap();
    assert_eq!(line(&advice), "doorward edit acme/web --remove-network=10.0.0.0/8 --add-network=10.1.2.0/24");
}

#[test]
fn a_key_from_anywhere_is_bound_to_where_it_lives() {
    let key = key(&["*"], &[], &[]);
    let evidence = seen(&["a"], &["192.0.2.0/24"], &["DE", "FR"]);
    assert_eq!(line(&of(Kind::AnyNetwork, &key, &evidence).unwrap()), "doorward edit acme/web --add-network=192.0.2.0/24");
    assert_eq!(line(&of(Kind::AnyCountry, &key, &evidence).unwrap()), "doorward edit acme/web --add-country=DE,FR");
    let mut unplaced = evidence.clone();
    unplaced.countries.insert(None, 1);
    assert_eq!((of(Kind::AnyNetwork, &key, &unplaced), of(Kind::AnyCountry, &key, &unplaced)), (None, None));
    let blind = Surroundings { places: false, ..around() };
    assert!(advise(&key, &evidence, &blind).iter().all(|advice| advice.kind != Kind::AnyCountry), "it would be refused everywhere");
}

#[test]
fn age_and_use_are_told() {
    let mut key = key(&["a"], &["192.0.2.0/24"], &["DE"]);
    key.settings.expires_at = None;
    let kinds = |key: &Key, evidence: &Evidence| advise(key, evidence, &around()).iter().map(|a| a.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&key, &nothing_seen_for(30)), [Kind::NeverUsed, Kind::NoExpiry]);
    let mut evidence = seen(&["a"], &["192.0.2.0/24"], &["DE"]);
    key.secrets[0].created_at = Instant(NOW.0 - 366 * DAY_MS);
    assert_eq!(kinds(&key, &evidence), [Kind::OldSecret, Kind::NoExpiry]);
    evidence.last_uses = BTreeMap::from([(1, Instant(NOW.0 - 31 * DAY_MS))]);
    key.settings.expires_at = Some(Instant(NOW.0 + 30 * DAY_MS));
    assert_eq!(kinds(&key, &evidence), [Kind::Expiring, Kind::Idle], "an idle key wants no new secret");
    evidence.refused = BTreeMap::from([(1, 7)]);
    let advice = of(Kind::RefusedSecret, &key, &evidence).unwrap();
    assert_eq!(advice.evidence, "secret 1 is good no more, and was still presented: 7 times");
    key.settings.enabled = false;
    assert!(kinds(&key, &evidence).is_empty());
}

/// Advice to disable a key that was made a moment ago is advice against every new key.
#[test]
fn a_key_is_given_its_time_before_it_is_said_to_be_never_used() {
    let mut key = key(&["a"], &[], &[]);
    let told = |key: &Key, evidence: &Evidence| of(Kind::NeverUsed, key, evidence).map(|advice| advice.evidence);
    key.created_at = NOW;
    assert_eq!(told(&key, &nothing_seen_for(400)), None, "made now");
    key.created_at = Instant(NOW.0 - 30 * DAY_MS + 1);
    assert_eq!(told(&key, &nothing_seen_for(400)), None, "a moment too young");
    key.created_at = Instant(NOW.0 - 30 * DAY_MS);
    assert_eq!(told(&key, &nothing_seen_for(400)).unwrap(), "never used since 2026-12-16; made 30 days ago");
    assert_eq!(told(&key, &nothing_seen_for(29)), None, "imported, or counted, for 29 days");
    key.created_at = Instant(NOW.0 - 100 * DAY_MS);
    key.settings.not_before = Some(Instant(NOW.0 - 29 * DAY_MS));
    assert_eq!(told(&key, &nothing_seen_for(100)), None, "good for 29 days");
    key.settings.not_before = Some(Instant(NOW.0 + DAY_MS));
    assert_eq!(told(&key, &nothing_seen_for(100)), None, "not good yet");
    key.settings.not_before = Some(Instant(NOW.0 - 31 * DAY_MS));
    assert_eq!(told(&key, &nothing_seen_for(100)).unwrap(), "never used since 2026-12-15; made 100 days ago");
}

#[test]
fn commands_are_safe_for_any_name() {
    let mut key = key(&["leads.*"], &[], &[]);
    key.settings.name = "it's $(reboot); x".to_owned();
    let evidence = seen(&["leads.insert"], &[], &[]);
    let advice = of(Kind::WideGrant, &key, &evidence).unwrap();
    assert!(line(&advice).starts_with("doorward edit 'acme/it'\\''s $(reboot); x' '--remove-grant=leads.*' "), "{}", line(&advice));
    key.settings.account = "--yes".to_owned();
    assert_eq!(of(Kind::WideGrant, &key, &evidence).unwrap().command[2], key.id.to_string(), "or it would read as a flag");
}

#[test]
fn every_kind_has_a_name_and_a_place() {
    let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert!(Kind::ALL.is_sorted());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Kind::ALL.len());
}

/// The catalog of the property below; the last name is not registered.
const CATALOG: [(&str, bool); 7] = [
    ("leads.insert", false),
    ("leads.list", false),
    ("leads.purge", true),
    ("orders.read", false),
    ("x", false),
    ("leads", true),
    ("leads.new", false),
];
const ADDRESSES: [(&str, Option<&str>); 8] = [
    ("192.0.2.7", Some("DE")),
    ("192.0.2.200", Some("DE")),
    ("198.51.100.1", Some("US")),
    ("10.1.2.3", None),
    ("10.77.0.1", Some("FR")),
    ("2001:db8::1", Some("DE")),
    ("2001:db8:ffff::1", Some("AT")),
    ("203.0.113.5", Some("QQ")),
];
const GRANTS: [&str; 8] = ["leads.insert", "leads.list", "leads.purge", "orders.read", "leads.*", "orders.*", "*", "x"];
const NETWORKS: [&str; 7] =
    ["10.0.0.0/8", "192.0.2.0/28", "192.0.0.0/16", "198.51.100.0/24", "2001:db8::/32", "2001:db8::/64", "172.16.0.0/12"];
const COUNTRIES: [&str; 4] = ["DE", "US", "FR", "AT"];

fn verdict(settings: &Settings, strict: bool, places: bool, (function, address): (usize, Option<usize>)) -> Verdict {
    let registered = |number: usize| (number + 1 < CATALOG.len()).then_some(FunctionId(number as u16 + 2));
    let number = |name: &FunctionName| CATALOG.iter().position(|(known, _)| *known == name.as_str()).and_then(registered).unwrap();
    let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
    for grant in &settings.grants {
        match grant {
            Grant::Exact(name) => exact.push(number(name)),
            Grant::Prefix(prefix) => prefixes.push(prefix.as_str()),
        }
    }
    let rules = Rules::compile(exact, prefixes, &settings.networks, settings.countries.clone(), settings.unknown_country);
    let (name, restricted) = CATALOG[function];
    let country = match address.and_then(|number| ADDRESSES[number].1) {
        _ if !places => CountryOf::NoDatabase,
        Some(code) => CountryOf::In(Country::from_database(code).unwrap()),
        None => CountryOf::Unknown,
    };
    let called = key::Called { name, id: registered(function), restricted: restricted && registered(function).is_some() };
    let address: Option<IpAddr> = address.map(|number| ADDRESSES[number].0.parse().unwrap());
    decide(&Subject { standing: Standing::default(), rules: &rules }, &Circumstances { now: NOW, address, country, called, strict })
}

/// What the counters would know of these requests.
fn evidence_of(settings: &Settings, strict: bool, places: bool, asked: &[(usize, Option<usize>)]) -> Evidence {
    let mut evidence = nothing_seen();
    for &(function, address) in asked {
        evidence.verifies += 1;
        evidence.last_uses.insert(1, NOW);
        let country = address.filter(|_| places).and_then(|number| Country::from_database(ADDRESSES[number].1?));
        *evidence.countries.entry(country).or_default() += 1;
        if let Some(number) = address {
            let network = Network::around(ADDRESSES[number].0.parse().unwrap());
            evidence.networks.retain(|(kept, _)| *kept != network);
            evidence.networks.push((network, NOW));
        }
        if verdict(settings, strict, places, (function, address)) == Verdict::Ok {
            let (name, restricted) = CATALOG[function];
            if function + 1 == CATALOG.len() {
                evidence.unnamed += 1;
            } else {
                let called = evidence.functions.entry(name.parse().unwrap()).or_insert(Called { count: 0, restricted });
                called.count += 1;
            }
        }
    }
    evidence
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever a key may do and whatever it did: when all advice is taken, all that was `ok` is, and nothing that was refused is `ok`.
    #[test]
    fn advice_takes_nothing_that_was_used_and_gives_nothing(
        grants in prop::collection::vec(prop::sample::select(&GRANTS[..]), 1..5),
        networks in prop::collection::vec(prop::sample::select(&NETWORKS[..]), 0..4),
        countries in prop::collection::vec(prop::sample::select(&COUNTRIES[..]), 0..3),
        passes in any::<bool>(),
        strict in any::<bool>(),
        places in prop::bool::weighted(0.8),
        asked in prop::collection::vec((0..CATALOG.len(), prop::option::weighted(0.9, 0..ADDRESSES.len())), 0..12),
        others in prop::collection::vec((0..CATALOG.len(), prop::option::weighted(0.9, 0..ADDRESSES.len())), 0..30),
    ) {
        let mut key = key(&grants, &networks, &countries);
        key.settings.unknown_country = if passes { UnknownCountry::Allow } else { UnknownCountry::Deny };
        let evidence = evidence_of(&key.settings, strict, places, &asked);
        let advice = advise(&key, &evidence, &Surroundings { places, ..around() });
        let before = key.settings.clone();
        advice.iter().filter_map(|advice| advice.edit.as_ref()).for_each(|edit| edit.apply(&mut key.settings));
        prop_assert!(key.settings.normalize().is_ok());
        for request in &asked {
            if verdict(&before, strict, places, *request) == Verdict::Ok {
                prop_assert_eq!(verdict(&key.settings, strict, places, *request), Verdict::Ok, "{:?} {:?}", request, &advice);
            }
        }
        for request in asked.iter().chain(&others) {
            if verdict(&before, strict, places, *request) != Verdict::Ok {
                prop_assert_ne!(verdict(&key.settings, strict, places, *request), Verdict::Ok, "{:?} {:?}", request, &advice);
            }
        }
    }
}
