use super::{Advice, Edit, Evidence, Kind, Surroundings, counted, long};
use crate::key::{Country, Instant, Key, Network, Span};

/// Networks that are suggested for a key without any.
const NETWORKS: usize = 8;
/// Countries that are suggested for a key without any.
const COUNTRIES: usize = 5;
/// Networks that are suggested in the place of a wide one.
const PARTS: usize = 4;
/// A network with a shorter prefix than this is wide: what is remembered of an address is its /24, or its /48.
const WIDE_BITS: (u8, u8) = (20, 40);

/// Callers' addresses change without anybody meaning it. So what is told of networks is applied only where it rests on so long a time.
const APPLIED_AFTER: Span = Span(28 * 86_400_000);

/// Networks and countries that were never used, and keys that have none.
pub(super) fn look(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    // A verify without an address, or one whose address was not placed, would be refused by a list where there is none.
    let placed = surroundings.places && !evidence.countries.is_empty() && !evidence.countries.contains_key(&None);
    if evidence.networks_whole && !evidence.networks.is_empty() {
        if key.settings.networks.is_empty() {
            // With countries, the key needs an address already.
            if placed || !key.settings.countries.is_empty() {
                any_network(key, evidence, surroundings, found);
            }
        } else {
            networks(key, evidence, surroundings, found);
        }
    }
    if key.settings.countries.is_empty() {
        if placed {
            any_country(key, evidence, surroundings, found);
        }
    } else {
        unused_countries(key, evidence, surroundings, found);
    }
}

fn networks(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    let since = evidence.since.max(evidence.networks_since);
    let age = long(surroundings.now.since(since));
    let mut unused = Vec::new();
    for network in &key.settings.networks {
        let seen: Vec<Network> = evidence.networks.iter().map(|(seen, _)| *seen).filter(|seen| overlap(seen, network)).collect();
        if seen.is_empty() {
            unused.push(*network);
        } else if is_wide(network) && seen.len() <= PARTS && seen.iter().all(|seen| within(seen, network)) {
            let text = format!("{network}: in {age} it was used from {} only", joined(&seen));
            let edit = Edit { add_networks: seen, remove_networks: vec![*network], ..Edit::default() };
            found.push(of_networks(Kind::WideNetwork, key, since, text, edit, surroundings));
        }
    }
    // Without any network left the key could be used from everywhere.
    if unused.is_empty() || unused.len() == key.settings.networks.len() {
        return;
    }
    let text = format!("{}: no request in {age} came from there", joined(&unused));
    let edit = Edit { remove_networks: unused, ..Edit::default() };
    found.push(of_networks(Kind::UnusedNetwork, key, since, text, edit, surroundings));
}

fn any_network(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    if evidence.networks.len() > NETWORKS {
        return;
    }
    let mut seen: Vec<Network> = evidence.networks.iter().map(|(seen, _)| *seen).collect();
    seen.sort();
    let (age, what) = (long(surroundings.now.since(evidence.since)), joined(&seen));
    let text = format!("may be used from any address; in {age} it was used from {what} only");
    let edit = Edit { add_networks: seen, ..Edit::default() };
    found.push(of_networks(Kind::AnyNetwork, key, evidence.since, text, edit, surroundings));
}

fn of_networks(kind: Kind, key: &Key, since: Instant, text: String, edit: Edit, surroundings: &Surroundings) -> Advice {
    if surroundings.now.since(since) < APPLIED_AFTER {
        Advice::suggestion(kind, key, since, text, edit)
    } else {
        Advice::edit(kind, key, since, text, edit)
    }
}

fn any_country(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    let seen: Vec<Country> = evidence.countries.keys().copied().flatten().collect();
    // A database may have codes of its own, which the command would not take.
    if seen.len() > COUNTRIES || !seen.iter().all(is_code) {
        return;
    }
    let age = long(surroundings.now.since(evidence.since));
    let text = format!("may be used from any country; in {age} it was used from {} only", codes(&seen));
    found.push(Advice::edit(Kind::AnyCountry, key, evidence.since, text, Edit { add_countries: seen, ..Edit::default() }));
}

fn unused_countries(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    let countries = &key.settings.countries;
    let unused: Vec<Country> =
        countries.iter().copied().filter(|country| !evidence.countries.contains_key(&Some(*country)) && is_code(country)).collect();
    // With no country left, all would be allowed.
    if unused.is_empty() || unused.len() == countries.len() {
        return;
    }
    let since = evidence.since.max(evidence.countries_since);
    let (of, age) = (counted(evidence.verifies, "request"), long(surroundings.now.since(since)));
    let text = format!("{}: none of {of} in {age} came from there", codes(&unused));
    found.push(Advice::edit(Kind::UnusedCountry, key, since, text, Edit { remove_countries: unused, ..Edit::default() }));
}

fn is_wide(network: &Network) -> bool {
    let bits = network.net().prefix_len();
    bits < if network.net().addr().is_ipv4() { WIDE_BITS.0 } else { WIDE_BITS.1 }
}

fn within(inner: &Network, outer: &Network) -> bool {
    outer.contains(inner.net().network()) && inner.net().prefix_len() >= outer.net().prefix_len()
}

fn overlap(a: &Network, b: &Network) -> bool {
    a.contains(b.net().network()) || b.contains(a.net().network())
}

fn is_code(country: &Country) -> bool {
    country.as_str().parse::<Country>().is_ok()
}

fn joined(networks: &[Network]) -> String {
    networks.iter().map(Network::to_string).collect::<Vec<_>>().join(" ")
}

fn codes(countries: &[Country]) -> String {
    countries.iter().map(Country::as_str).collect::<Vec<_>>().join(" ")
}
