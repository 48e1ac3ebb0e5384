//! A country database of a stranger: it is refused, or answers every address, and as the maxminddb crate's own walk of the tree does.
//!
//! The last 16 bytes of the input are one of the addresses that are asked for; the others are the file.
#![no_main]

use std::net::IpAddr;

use doorward::geo::Geo;
use doorward::key::{Country, canonical};
use libfuzzer_sys::fuzz_target;
use maxminddb::{Reader, path};

/// The ends of both families, and of the networks under which IPv6 databases repeat their IPv4 tree.
const EDGES: [&str; 16] = [
    "0.0.0.0",
    "255.255.255.255",
    "127.255.255.255",
    "128.0.0.0",
    "198.51.100.7",
    "::",
    "::1",
    "::ffff:ffff",
    "::1:0:0",
    "64:ff9b::c633:6407",
    "2001::",
    "2001:0:ffff:ffff::",
    "2001:db8:1::1",
    "2002:c633:6407::",
    "8000::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

fuzz_target!(|input: &[u8]| {
    let (file, asked) = input.split_last_chunk::<16>().map_or((input, [0; 16]), |(file, asked)| (file, *asked));
    let Ok(countries) = Geo::parse(file) else { return };
    let reader = Reader::from_source(file).expect("what was expanded can be read");
    assert!(countries.ranges() >= 2);
    let edges = EDGES.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
    let random = u128::from_be_bytes(asked);
    let asked = [IpAddr::V6(random.into()), IpAddr::V4((random as u32).into()), IpAddr::V4(((random >> 64) as u32).into())];
    for address in edges.chain(asked).map(canonical) {
        let country = countries.of(address);
        let Ok(found) = reader.lookup(address) else { continue };
        assert_eq!(country, country_of(&found), "{address}");
    }
});

/// The country of a record, as the page on the configuration says.
fn country_of(found: &maxminddb::LookupResult<'_, &[u8]>) -> Option<Country> {
    let nested = found.decode_path::<&str>(&path!["country", "iso_code"]).ok().flatten();
    Country::from_database(nested.or_else(|| found.decode_path::<&str>(&path!["country_code"]).ok().flatten())?)
}
