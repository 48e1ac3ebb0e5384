//! Bytes where a record of the store should be. Whatever they are, they are refused or read, in bounded memory; what is read is written in the one spelling that reads as
//! the same; and a key that is read can be published and decided about. Rows of counts and of uses are joined in any order and grouping with the same result. What an earlier
//! version wrote is read as well.
//!
//! The first byte of the input chooses the record.
#![no_main]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use bincode::{Decode, Encode};
use doorward::index::{Index, found_by};
use doorward::key::history::Entry;
use doorward::key::{Called, CountryOf, FunctionId, Instant, Key, limits};
use doorward::policy::{self, Circumstances, Subject};
use doorward::record::uses::{StoredNetwork, StoredUse};
use doorward::record::{
    FORMAT, Head, HourOfGuesses, MAC_BYTES, PepperMarks, RecordError, Remembered, StoredFunction, StoredUses, check_blocks, decode, encode,
    encode_entry, encode_entry_body, merge_blocks, merge_uses, read_uses,
};
use libfuzzer_sys::fuzz_target;

/// The uses of a key as they were written before it was known which networks are missing.
type FirstUses = (Vec<(u16, StoredUse)>, Vec<StoredNetwork>, Vec<(u16, u8)>);

fuzz_target!(|input: &[u8]| {
    let Some((&which, record)) = input.split_first() else { return };
    match which % 11 {
        0 => drop(respell::<Key>(record).map(|key| publish(&key))),
        1 => drop(respell::<Entry>(record).map(|entry| in_two_parts(&entry))),
        2 => drop(respell::<StoredFunction>(record)),
        3 => drop(respell::<Head>(record).map(|head| assert_eq!(head.to_string().parse(), Ok(head)))),
        4 => drop(respell::<PepperMarks>(record)),
        5 => drop(respell::<Remembered>(record)),
        6 => drop(respell::<HourOfGuesses>(record)),
        7 => uses(record),
        // Minutes that were counted in, a moment, and where the boot clock stood.
        8 => drop((respell::<u64>(record), respell::<Instant>(record), respell::<([u8; 16], u64)>(record))),
        9 => joined(record, |rows| merge_blocks(rows.iter().copied()), check_blocks, |_, one, other| one == other),
        _ => joined(record, |rows| merge_uses(rows.iter().copied()), |row| read_uses(row).is_ok(), is_same_uses),
    }
});

/// What a record reads as, if it reads; and that it is written in a form that reads as the same.
fn respell<T: Decode<()> + Encode + PartialEq + Debug>(record: &[u8]) -> Option<T> {
    let value = match decode::<T>(record) {
        Ok(value) => value,
        Err(error) => {
            let other_format = record.first().is_some_and(|format| *format != FORMAT);
            assert_eq!(matches!(error, RecordError::Format(_)), other_format, "of another version, and said so: {error}");
            assert!(error.to_string().len() < 1_000);
            return None;
        }
    };
    let spelled = encode(&value);
    assert!(spelled.len() <= record.len(), "the shortest spelling");
    assert_eq!(decode::<T>(&spelled).as_ref(), Ok(&value));
    for end in 0..spelled.len().min(64) {
        assert!(decode::<T>(&spelled[..end]).is_err(), "a part of a record is none");
    }
    let longer = [&spelled[..], &[0]].concat();
    assert_eq!(decode::<T>(&longer), Err(RecordError::Trailing(1)));
    Some(value)
}

/// Uses of a key are read in both formats, and no bytes are both.
fn uses(record: &[u8]) {
    let second = respell::<StoredUses>(record);
    let first = respell::<FirstUses>(record).map(|(last, networks, spreads)| {
        let forgotten = networks.iter().map(|used| used.last_at).max();
        StoredUses { last, networks, spreads, forgotten }
    });
    assert!(second.is_none() || first.is_none());
    assert_eq!(read_uses(record).ok(), second.or(first));
}

/// Whether both are what these rows are when they are joined. No network is missing that was used after what may be missing. Where some had to make room, it depends
/// on the grouping when one that came back was used first; else nothing does.
fn is_same_uses(rows: &[&[u8]], one: &[u8], other: &[u8]) -> bool {
    let rows: Vec<StoredUses> = rows.iter().map(|row| read_uses(row).expect("a sound row")).collect();
    let used = || rows.iter().flat_map(|uses| &uses.networks);
    for joined in [one, other] {
        let joined = decode::<StoredUses>(joined).expect("the format that is written now");
        assert!(joined.networks.len() <= limits::NETWORKS_REMEMBERED);
        let kept: BTreeSet<_> = joined.networks.iter().map(|used| used.network).collect();
        assert!(used().all(|used| Some(used.last_at) <= joined.forgotten || kept.contains(&used.network)), "missing, and not said");
    }
    one == other || used().map(|used| used.network).collect::<BTreeSet<_>>().len() > limits::NETWORKS_REMEMBERED
}

/// A key that is read is one that the verify path can live with.
fn publish(key: &Key) {
    let index = Index::new();
    index.publish(key).expect("no other key");
    let digests: BTreeSet<[u64; 2]> = key.secrets.iter().map(|secret| found_by(&secret.digest)).collect();
    // Of two secrets that are the same to the index the later is found.
    assert!(index.shows(key) || digests.len() < key.secrets.len());
    let pin = index.pin();
    for secret in &key.secrets {
        let Some(found) = index.find(&secret.digest, &pin) else { panic!("published, and not found") };
        assert_eq!((found.id, found.account), (key.id, &*key.settings.account));
        for address in [None, Some("10.1.2.3"), Some("2001:db8::1")] {
            let address = address.map(|text| text.parse::<IpAddr>().expect("an address"));
            let called = Called { name: "leads.insert", id: Some(FunctionId(2)), restricted: false };
            let circumstances = Circumstances { now: Instant(5), address, country: CountryOf::Unknown, called, strict: true };
            policy::decide(&Subject { standing: found.standing, rules: found.rules }, &circumstances);
        }
    }
}

/// An entry's record is made of two parts, of which one is made ahead.
fn in_two_parts(entry: &Entry) {
    let Entry { sequence, at, actor, action, subject, changes, pepper, .. } = entry;
    let (mut body, mut record) = (Vec::new(), Vec::new());
    encode_entry_body(&mut body, actor, *action, subject, changes, *pepper);
    encode_entry(&mut record, *sequence, *at, &body);
    let whole = encode(entry);
    assert_eq!(record[..record.len() - MAC_BYTES], whole[..whole.len() - MAC_BYTES]);
    assert_eq!(whole[whole.len() - MAC_BYTES..], entry.mac);
}

/// Cuts the input into three rows, each behind its length (two bytes), and joins them.
fn joined(
    mut input: &[u8],
    merge: impl Fn(&[&[u8]]) -> Vec<u8>,
    is_sound: impl Fn(&[u8]) -> bool,
    is_same: impl Fn(&[&[u8]], &[u8], &[u8]) -> bool,
) {
    let mut rows: Vec<&[u8]> = Vec::new();
    while rows.len() < 2 {
        let Some((length, rest)) = input.split_first_chunk() else { break };
        let (row, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        rows.push(row);
        input = rest;
    }
    rows.push(input);
    // Whatever they are.
    merge(&rows);
    let rows: Vec<&[u8]> = rows.into_iter().filter(|row| is_sound(row)).collect();
    let whole = merge(&rows);
    assert!(is_sound(&whole));
    assert_eq!(merge(&[&whole]), whole, "joined once is joined");
    let turned: Vec<&[u8]> = rows.iter().rev().copied().collect();
    assert!(is_same(&rows, &whole, &merge(&turned)), "in any order");
    if let [first, others @ ..] = &rows[..] {
        assert!(is_same(&rows, &whole, &merge(&[first, &merge(others)])), "and grouping");
    }
    if let [others @ .., last] = &rows[..] {
        assert!(is_same(&rows, &whole, &merge(&[&merge(others), last])), "and the other");
    }
}
