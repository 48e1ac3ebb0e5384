//! Nasty keys, catalogs and requests: everything close to the edge of a rule.

use crate::dice::Dice;
use crate::model::{Address, Catalog, Function, Key, Network, Place, Request, Secret};

/// The latest moment that a key may carry: 9999-12-30T22:00:00Z.
const LAST_MS: i64 = 253_402_207_200_000;

/// Names that begin with each other, differ in case or in one character, and are as short or as long as a name may be.
const NAMES: [&str; 26] = [
    "leads",
    "leads.",
    "leads.insert",
    "leads.inserts",
    "leads.insert.bulk",
    "leads.Insert",
    "Leads.insert",
    "LEADS",
    "lead",
    "leadsinsert",
    "leads-insert",
    "leads_insert",
    "leads:insert",
    "leads/insert",
    "l",
    "L",
    "a",
    "a.b",
    "a.b.c",
    "a.bc",
    "-",
    ".",
    "0",
    "reports/2026:monthly",
    "reports/2026:monthly-",
    "orders.delete",
];

/// Where networks begin: the ends of both families, the neighbours of the mapped range, and a few ordinary ones that overlap.
const IPV4: [u32; 8] = [0, 0x7f00_0001, 0x0a00_0000, 0x0a00_00ff, 0xcb00_7107, 0xcb00_7100, 0x8000_0000, u32::MAX];
const IPV6: [u128; 9] =
    [0, 1, u128::MAX, 0x2001_0db8 << 96, 0x2001_0db8_0000_0001 << 64, 0xfffe_cb00_7107, 0x1_0000_0000_0000, 0xcb00_7107, 0xfe80 << 112];
const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "GB", "XK", "AD", "ZW", "AX"];

/// What country databases also say.
const OTHER_PLACES: [&str; 3] = ["EU", "ZZ", "AP"];

pub(crate) fn name(dice: &mut Dice) -> String {
    match dice.below(40) {
        0 => "x".repeat(128),
        1 => format!("{}y", "x".repeat(127)),
        2 => "x".repeat(127),
        _ => (*dice.one_of(&NAMES)).to_owned(),
    }
}

/// A few functions of the pool, more or less, restricted or not.
pub(crate) fn catalog(dice: &mut Dice, catalog: &mut Catalog) {
    for _ in 0..dice.below(6) {
        if !catalog.functions.is_empty() {
            let at = dice.below(catalog.functions.len());
            catalog.functions.swap_remove(at);
        }
    }
    while catalog.functions.len() < 14 {
        let name = name(dice);
        if !catalog.functions.iter().any(|function| function.name == name) {
            catalog.functions.push(Function { name, restricted: false });
        }
    }
    for function in &mut catalog.functions {
        if dice.percent(30) {
            function.restricted = dice.percent(40);
        }
    }
    catalog.strict = dice.percent(50);
}

pub(crate) fn key(dice: &mut Dice, secrets: Vec<Secret>) -> Key {
    let not_before = dice.percent(35).then(|| moment(dice));
    let expires_at = dice.percent(45).then(|| match not_before {
        Some(start) if dice.percent(30) => start + 1 + dice.below(2) as i64,
        Some(start) => (start + 1).max(moment(dice)),
        None => moment(dice),
    });
    let countries = if dice.percent(50) { 0 } else { 1 + dice.below(4) };
    Key {
        deleted: dice.percent(4),
        enabled: !dice.percent(5),
        // The first moment that is written may be the last one that can be.
        not_before: not_before.filter(|start| expires_at.is_none_or(|end| *start < end && end <= LAST_MS)),
        expires_at: expires_at.map(|end| end.min(LAST_MS)),
        grants: grants(dice),
        networks: networks(dice),
        countries: (0..countries).map(|_| (*dice.one_of(&COUNTRIES)).to_owned()).collect(),
        unknown_country_allowed: dice.percent(50),
        secrets,
    }
}

pub(crate) fn secrets(dice: &mut Dice) -> Vec<Secret> {
    let count = match dice.below(100) {
        0 => 300,
        1..50 => 1,
        _ => 1 + dice.below(7),
    };
    (0..count).map(|_| secret(dice)).collect()
}

pub(crate) fn secret(dice: &mut Dice) -> Secret {
    Secret { digest: dice.digest(), retires_at: dice.percent(30).then(|| moment(dice)), revoked: dice.percent(6) }
}

fn moment(dice: &mut Dice) -> i64 {
    match dice.below(20) {
        0 => 0,
        1 => 1,
        2 => LAST_MS,
        3 => LAST_MS - 1,
        4 => i64::from(u32::MAX) + dice.below(2) as i64,
        _ => 1_790_000_000_000 + dice.below(1_000) as i64 * 86_400_000,
    }
}

fn grants(dice: &mut Dice) -> Vec<String> {
    (0..dice.below(7))
        .map(|_| {
            let name = name(dice);
            match dice.below(10) {
                0 => "*".to_owned(),
                1 | 2 => format!("{}*", &name[..dice.below(name.len() + 1)]),
                3 => format!("{name}*"),
                _ => name,
            }
        })
        .collect()
}

fn networks(dice: &mut Dice) -> Vec<Network> {
    let count = match dice.below(300) {
        0 => 900,
        1..160 => 0,
        _ => 1 + dice.below(6),
    };
    (0..count).map(|_| network(dice)).collect()
}

fn network(dice: &mut Dice) -> Network {
    let ipv4 = u128::from(if dice.percent(10) { dice.bits() as u32 } else { *dice.one_of(&IPV4) });
    match dice.below(3) {
        0 => Network { base: Address { ipv6: false, bits: ipv4 }, length: *dice.one_of(&[0, 1, 7, 8, 9, 16, 24, 25, 30, 31, 32, 32, 32]) },
        1 => {
            let length = *dice.one_of(&[96, 97, 104, 120, 127, 128, 128]);
            Network { base: Address { ipv6: true, bits: 0xffff_0000_0000 | ipv4 }, length }
        }
        _ => {
            let bits = if dice.percent(10) { dice.wide() } else { *dice.one_of(&IPV6) };
            let length = *dice.one_of(&[0, 1, 16, 32, 48, 63, 64, 65, 80, 95, 96, 97, 127, 128, 128]);
            Network { base: Address { ipv6: true, bits }, length }
        }
    }
}

pub(crate) fn request(dice: &mut Dice, key: &Key, secret: usize, catalog: &Catalog) -> Request {
    Request { now: now(dice, key, secret), function: function(dice, key, catalog), address: address(dice, key), place: place(dice, key) }
}

/// A moment of the key's own, or next to it, or well within all of them.
fn now(dice: &mut Dice, key: &Key, secret: usize) -> i64 {
    let retires_at = key.secrets[secret].retires_at;
    let edges: Vec<i64> = [key.not_before, key.expires_at, retires_at].into_iter().flatten().collect();
    if !edges.is_empty() && dice.percent(30) {
        return *dice.one_of(&edges) + dice.below(3) as i64 - 1;
    }
    if dice.percent(5) {
        return moment(dice);
    }
    let from = key.not_before.unwrap_or(0);
    let until = [key.expires_at, retires_at].into_iter().flatten().min().unwrap_or(LAST_MS);
    from + (dice.wide() % u128::from((until - from).max(1) as u64)) as i64
}

fn function(dice: &mut Dice, key: &Key, catalog: &Catalog) -> String {
    match dice.below(10) {
        0..4 if !key.grants.is_empty() => {
            let grant = dice.one_of(&key.grants).trim_end_matches('*').to_owned();
            let longer = format!("{grant}{}", dice.one_of(&["x", ".", "a.b"]));
            if grant.is_empty() || (dice.percent(15) && longer.len() <= 128) { longer } else { grant }
        }
        4..8 => dice.one_of(&catalog.functions).name.clone(),
        _ => name(dice),
    }
}

fn address(dice: &mut Dice, key: &Key) -> Option<Address> {
    if dice.percent(10) {
        return None;
    }
    if key.networks.is_empty() || dice.percent(15) {
        return Some(stranger(dice));
    }
    let network = *dice.one_of(&key.networks);
    let width = if network.base.ipv6 { 128 } else { 32 };
    let all = if network.base.ipv6 { u128::MAX } else { u128::from(u32::MAX) };
    let hosts = if network.length == 0 { all } else { (all >> (network.length - 1)) >> 1 };
    debug_assert_eq!(hosts.count_ones(), width - network.length);
    let first = network.base.bits & !hosts;
    let last = first | hosts;
    let bits = match dice.below(8) {
        0 => first,
        1 => last,
        2 => first.wrapping_sub(1) & all,
        3 => last.wrapping_add(1) & all,
        _ => first | (dice.wide() & hosts),
    };
    Some(other_spelling(dice, Address { ipv6: network.base.ipv6, bits }))
}

/// The same address in the other family's notation, or one that only looks like it.
fn other_spelling(dice: &mut Dice, address: Address) -> Address {
    let mapped = address.ipv6 && address.bits >> 32 == 0xffff;
    match dice.below(6) {
        0 | 1 if mapped => Address { ipv6: false, bits: address.bits & 0xffff_ffff },
        0 | 1 if !address.ipv6 => Address { ipv6: true, bits: 0xffff_0000_0000 | address.bits },
        2 if mapped || !address.ipv6 => Address { ipv6: true, bits: address.bits & 0xffff_ffff },
        _ => address,
    }
}

fn stranger(dice: &mut Dice) -> Address {
    match dice.below(4) {
        0 => Address { ipv6: false, bits: u128::from(*dice.one_of(&IPV4)) },
        1 => Address { ipv6: false, bits: dice.wide() & 0xffff_ffff },
        2 => Address { ipv6: true, bits: *dice.one_of(&IPV6) },
        _ => Address { ipv6: true, bits: dice.wide() },
    }
}

fn place(dice: &mut Dice, key: &Key) -> Place {
    match dice.below(20) {
        0 | 1 => Place::NoDatabase,
        2..5 => Place::Unknown,
        5 => Place::In((*dice.one_of(&OTHER_PLACES)).to_owned()),
        6..15 if !key.countries.is_empty() => Place::In(dice.one_of(&key.countries).clone()),
        _ => Place::In((*dice.one_of(&COUNTRIES)).to_owned()),
    }
}
