//! Writes inputs that real encoders make, a file each, into a folder for each target: what a corpus is grown from. `fuzz/README.md` says how.
//!
//! Usage: seeds DIRECTORY

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bincode::Encode;
use doorward::key::history::{Action, Actor, Entry, FieldChange, Subject};
use doorward::key::{Function, FunctionId, Instant, Key, KeyId, Network, PepperId, Secret, Settings, Token, UnknownCountry};
use doorward::protocol::{Address, Hello, Kind, MAGIC, Verify, encode, encode_body};
use doorward::record::block::{OfKey, Place, Use, Writer};
use doorward::record::{Head, HourOfGuesses, PepperMarks, Remembered, StoredFunction, StoredUses};

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("usage: seeds DIRECTORY"));
    let mut seeds = Seeds { folder, numbers: BTreeMap::new() };
    conversations(&mut seeds);
    records(&mut seeds);
    bodies(&mut seeds);
    texts(&mut seeds);
    databases(&mut seeds);
}

struct Seeds {
    folder: PathBuf,
    numbers: BTreeMap<&'static str, usize>,
}

impl Seeds {
    fn add(&mut self, target: &'static str, bytes: &[u8]) {
        let number = self.numbers.entry(target).or_default();
        *number += 1;
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("seed-{number}")), bytes).expect("a file");
    }

    fn choose(&mut self, target: &'static str, choice: u8, bytes: &[u8]) {
        self.add(target, &[&[choice], bytes].concat());
    }
}

/// Frames of whole connections; the first byte has them cut into pieces, and its lowest bit puts a Hello before them.
fn conversations(seeds: &mut Seeds) {
    let request = |token: &'static [u8], function: &'static str, address| Verify { token, function, address };
    let asked = [
        request(b"\x01", "a.b", Address::None),
        request(b"\x06", "a.c", Address::V4([10, 1, 2, 3])),
        request(b"\x09", "d", Address::V4([198, 51, 100, 7])),
        request(b"\x0a", "no.such", Address::V6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        request(b"\x10", "a.b", Address::None),
        request(b"\x12", "a.b", Address::None),
        request(b"nobody's", "a.b", Address::None),
        request(b"", "d", Address::None),
    ];
    let mut pipelined = Vec::new();
    for (number, request) in (0u64..).zip(&asked) {
        let mut one = Vec::new();
        encode(&mut one, Kind::Verify, number.to_le_bytes(), |out| encode_body(out, request));
        seeds.choose("conversation", 1, &one);
        pipelined.extend_from_slice(&one);
    }
    let mut batch = Vec::new();
    encode(&mut batch, Kind::Batch, *b"batch..1", |out| {
        out.push(asked.len() as u8);
        asked.iter().for_each(|request| encode_body(out, request));
    });
    let mut hello = Vec::new();
    encode(&mut hello, Kind::Hello, *b"hello..1", |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 3 }));
    let mut too_new = Vec::new();
    encode(&mut too_new, Kind::Hello, [7; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 2, highest: 3 }));
    let mut bad_request = Vec::new();
    encode(&mut bad_request, Kind::Verify, [7; 8], |out| out.extend_from_slice(b"\x01t\x01 \x00"));
    let mut full = Vec::new();
    for number in 0..80u64 {
        encode(&mut full, Kind::Verify, number.to_le_bytes(), |out| encode_body(out, &asked[number as usize % asked.len()]));
    }
    for (how, bytes) in [
        (1, batch.clone()),
        (3, [&pipelined[..], &batch, &pipelined].concat()),
        (20, [&hello[..], &pipelined].concat()),
        (0, too_new),
        (5, [&bad_request[..], &pipelined, &bad_request, &batch].concat()),
        (1, [&pipelined[..], &hello].concat()),
        (0, pipelined.clone()),
        (1, batch.repeat(12)),
        (255, full),
    ] {
        seeds.choose("conversation", how, &bytes);
    }
}

/// One of each kind of record, as the store writes it.
fn records(seeds: &mut Seeds) {
    let mut settings = Settings::new("acme", "web");
    settings.description = "for the shop".to_owned();
    settings.tags.insert("team".to_owned(), "shop".to_owned());
    settings.grants = ["leads.insert", "leads.*", "*"].map(|grant| grant.parse().expect("a grant")).to_vec();
    settings.networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().expect("a network")).to_vec();
    settings.countries = vec!["DE".parse().expect("a country")];
    settings.unknown_country = UnknownCountry::Allow;
    (settings.not_before, settings.expires_at) = (Some(Instant(5)), Some(Instant(1_800_000_000_000)));
    let secret = |version: u16| Secret {
        version,
        digest: [version as u8; 32],
        pepper: PepperId([9; 8]),
        created_at: Instant(1_700_000_000_000),
        retires_at: (version == 1).then_some(Instant(1_700_000_600_000)),
        revoked_at: (version == 2).then_some(Instant(1_700_000_700_000)),
    };
    let id = KeyId([0x01, 0x9a, 0xbc, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    let secrets = vec![secret(1), secret(2), secret(3)];
    let key = Key { id, settings, secrets, created_at: Instant(1_700_000_000_000), deleted_at: Some(Instant(1)), revision: 300 };
    record(seeds, 0, &key);
    let plain = Key { settings: Settings::new("a", "n"), secrets: vec![secret(1)], deleted_at: None, revision: 1, ..key.clone() };
    record(seeds, 0, &plain);
    let entry = Entry {
        sequence: 70_000,
        at: Instant(1_700_000_000_000),
        actor: Actor { uid: 0, user: Some("root".to_owned()), on_behalf_of: Some("ops".to_owned()) },
        action: Action::RotateExtend,
        subject: Subject::Key(id),
        changes: vec![FieldChange {
            field: "secrets.1.retires_at".to_owned(),
            before: None,
            after: Some("\"1970-01-01T00:00:00Z\"".to_owned()),
        }],
        pepper: PepperId([9; 8]),
        mac: [3; 32],
    };
    record(seeds, 1, &entry);
    let name = "leads.insert".parse().expect("a name");
    let actor = Actor { uid: 70_000, user: None, on_behalf_of: None };
    record(seeds, 1, &Entry { subject: Subject::Function(name), actor, action: Action::FunctionAdd, changes: vec![], ..entry });
    let function = Function { id: FunctionId(2), name: "leads.insert".parse().expect("a name"), restricted: true, created_at: Instant(1) };
    record(seeds, 2, &StoredFunction { function: function.clone(), removed_at: None });
    record(seeds, 2, &StoredFunction { function, removed_at: Some(Instant(1_700_000_000_000)) });
    record(seeds, 3, &Head { sequence: 70_000, mac: [4; 32] });
    record(seeds, 4, &PepperMarks { current: [5; 32], previous: Some([6; 32]) });
    let instants = vec![None, Some(Instant(1_700_000_000_000))];
    record(seeds, 5, &Remembered { asked: [7; 32], instants, key: id, version: 2, at: Instant(1_700_000_000_000) });
    let networks: Vec<(Network, u64, u64)> =
        vec![("192.0.2.0/24".parse().expect("a network"), 5, 0), ("2001:db8::/48".parse().expect("a network"), 300, 70_000)];
    record(seeds, 6, &HourOfGuesses { hour: 480_000, total: 305, networks });
    record(seeds, 8, &0x0f00_0000_0000_000f_u64);
    record(seeds, 8, &Instant(1_700_000_000_000));
    record(seeds, 8, &([8u8; 16], 70_000_u64));
    let mut rows = Vec::new();
    let mut uses = Vec::new();
    for number in 1..=3u8 {
        let of_key = of_key(number);
        let stored = StoredUses::of(&of_key, 28_000_000);
        record(seeds, 7, &stored);
        // As it was written before it was known which networks are missing.
        let first = (stored.last.clone(), stored.networks.clone(), stored.spreads.clone());
        record(seeds, 7, &first);
        uses.push(if number == 2 { doorward::record::encode(&first) } else { doorward::record::encode(&stored) });
        let mut writer = Writer::new(256);
        for key in [KeyId::NONE, KeyId([number; 16]), KeyId([7; 16])] {
            writer.add(key, &of_key);
        }
        rows.push(writer.row().to_vec());
    }
    join(seeds, 9, &rows);
    join(seeds, 10, &uses);
    // More networks than are remembered, in rows that share some.
    let mut of_key = [OfKey::default(), OfKey::default(), OfKey::default()];
    for number in 0..120u8 {
        let at = Instant(i64::from(number) * 1_000);
        of_key[usize::from(number) % 3].networks.push((at, Network::around([10, 0, number % 100, 1].into())));
    }
    of_key.iter_mut().for_each(OfKey::join);
    let mut rows = Vec::new();
    let mut uses = Vec::new();
    for of_key in &of_key {
        let mut writer = Writer::new(256);
        writer.add(KeyId([7; 16]), of_key);
        rows.push(writer.row().to_vec());
        uses.push(doorward::record::encode(&StoredUses::of(of_key, 28_000_000)));
    }
    join(seeds, 9, &rows);
    join(seeds, 10, &uses);
    seeds.choose("record_decode", 0, &[2, 0, 0]);
}

/// Three rows that are joined.
fn join(seeds: &mut Seeds, choice: u8, rows: &[Vec<u8>]) {
    let mut joined = Vec::new();
    for row in &rows[..2] {
        joined.extend_from_slice(&(row.len() as u16).to_le_bytes());
        joined.extend_from_slice(row);
    }
    seeds.choose("record_decode", choice, &[joined, rows[2].clone()].concat());
}

fn record(seeds: &mut Seeds, choice: u8, value: &impl Encode) {
    seeds.choose("record_decode", choice, &doorward::record::encode(value));
}

fn of_key(number: u8) -> OfKey {
    let mut of_key = OfKey::default();
    let n = u16::from(number);
    for unit in 0..n {
        of_key.counts.push((Place { unit, function: 2 + n, version: 1, verdict: number }, u64::from(n) * 300));
        of_key.countries.push(((unit, *b"DE"), 5));
    }
    let address: IpAddr = if number == 2 { "2001:db8::7".parse() } else { format!("192.0.{number}.7").parse() }.expect("an address");
    of_key.uses.push(Use { version: n, at: i64::from(number) * 70_000, address: Some(address), country: *b"DE" });
    of_key.networks.push((Instant(1_000 * i64::from(number)), Network::around(address)));
    if number == 3 {
        of_key.forgotten = Some(60_000);
    }
    of_key.join();
    of_key
}

/// A body of each kind, whole and wrong.
fn bodies(seeds: &mut Seeds) {
    let settings = r#""name":"web","account":"acme","description":"d","tags":{"team":"shop"},"enabled":false,"not_before":"2027-01-31T12:00:00Z","expires_at":null,"grants":["leads.*","b"],"networks":["10.1.2.3/8","::1"],"countries":["de"],"unknown_country":"allow""#;
    let digest = "0123456789abcdef".repeat(4);
    let secret = format!(
        r#"{{"version":1,"digest":"{digest}","pepper_id":"0123456789abcdef","created_at":"2027-01-31T12:00:00Z","retires_at":null,"revoked_at":null}}"#
    );
    let bodies: [(u8, String); 26] = [
        (0, format!(r#"{{{settings},"request_id":"r1"}}"#)),
        (0, r#"{"name":"n","account":"a"}"#.into()),
        (0, r#"{"name":"n","account":"a","colour":"red"}"#.into()),
        (0, r#"{"name":"n","name":"m","account":"a"}"#.into()),
        (1, r#"{"name":"n","account":null}"#.into()),
        (2, r#"{"overlap":"7d","request_id":"r"}"#.into()),
        (2, r#"{"extend":"1h30m","finish":true,"cancel":false}"#.into()),
        (3, r#"{"version":3}"#.into()),
        (4, r#"{"select":{"account":"a","tag":"t=v"},"action":"edit","patch":{"enabled":true}}"#.into()),
        (4, r#"{"select":{},"action":"disable"}"#.into()),
        (5, r#"{"add_grants":["a"],"remove_grants":["*"],"add_networks":["::/0"],"remove_networks":[],"add_countries":["FR"],"remove_countries":["DE"],"add_tags":{"a":"b"},"remove_tags":["c"]}"#.into()),
        (5, r#"{"expires_at":null,"not_before":"2027-01-31T12:00:00.5+01:00","grants":[],"tags":{}}"#.into()),
        (5, r#"{"networks":["10.0.0.0/33"]}"#.into()),
        (6, r#"{"token":"31415926535897"}"#.into()),
        (6, r#"{"token":["31415926535897"]}"#.into()),
        (6, r#"{"token":31415926535897}"#.into()),
        (7, r#"{"token":31415926535897,"function":"f"}"#.into()),
        (6, r#"{"token":"31415926535897","token":"31415926535897"}"#.into()),
        (7, r#"{"token":"31415926535897","function":"f","ip":"2001:db8::1"}"#.into()),
        (7, r#"{"key":"acme/web","function":"f","ip":"nowhere"}"#.into()),
        (8, r#"{"name":"leads.insert","restricted":true}"#.into()),
        (9, r#"{"restricted":false}"#.into()),
        (10, format!(r#"{{"id":"key_019abc00000070008000000000000000",{settings},"secrets":[{secret}],"deleted_at":"2027-01-31T12:00:00Z"}}"#)),
        (10, format!(r#"{{"name":"n","account":"a","token_sha256":"{digest}"}}"#)),
        (10, r#"{"name":"n","account":"a","token":"31415926535897"}"#.into()),
        (10, r#"{"name":"n","account":"a","token_sha256":31415926535897}"#.into()),
    ];
    for (choice, body) in bodies {
        seeds.choose("admin_body", choice, body.as_bytes());
    }
}

/// Texts of each kind.
fn texts(seeds: &mut Seeds) {
    // A token of nobody: made here, and forgotten.
    let token = Token::generate("dw").expect("a token");
    seeds.choose("texts", 0, token.expose());
    seeds.choose("texts", 0, &[b"it's 'x", token.expose(), b"' here"].concat());
    for (choice, text) in [
        (1, "10.1.2.3/8"),
        (1, "::ffff:10.1.2.0/120"),
        (1, "::ffff:10.0.0.0/95"),
        (1, "2001:DB8::1/32"),
        (1, "::1"),
        (2, "2027-01-31T13:00:00.25+01:00"),
        (2, "1970-01-01T00:00:00Z"),
        (2, "9999-12-30T22:00:00Z"),
        (3, "1w2d3h4m5s6ms"),
        (3, "36600d"),
        (3, "0s"),
        (4, "2027-01-31"),
        (4, "30d"),
        (5, "leads.insert"),
        (6, "leads.*"),
        (6, "*"),
        (7, "de"),
        (8, "key_019abc00000070008000000000000000"),
        (9, "acme/web"),
        (10, "7:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        (11, "a b's\\"),
    ] {
        seeds.choose("texts", choice, text.as_bytes());
    }
}

/// Small country databases: of both families and both shapes of records.
fn databases(seeds: &mut Seeds) {
    let flat = |code: &str| [&[0xe1, 0x4c][..], b"country_code", &[0x42], code.as_bytes()].concat();
    let nested = |code: &str| [&[0xe1, 0x47][..], b"country", &[0xe1, 0x48], b"iso_code", &[0x42], code.as_bytes()].concat();
    let v4 = [("10.0.0.0", 8, "DE"), ("198.51.100.0", 24, "FR"), ("128.0.0.0", 1, "US")];
    let v6 = [("::c633:6400", 120, "FR"), ("2001:db8:1::", 48, "DE"), ("2000::", 8, "GB")];
    for record_size in [24, 28, 32] {
        seeds.add("mmdb", &database(4, record_size, &v4, &flat));
        seeds.add("mmdb", &database(6, record_size, &v6, &nested));
    }
    seeds.add("mmdb", &database(6, 24, &[("::", 1, "DE")], &flat));
    for path in ["flat", "nested"] {
        let name = format!("{}/../testdata/country/{path}.mmdb", env!("CARGO_MANIFEST_DIR"));
        let file = fs::read(Path::new(&name)).expect("a country database");
        assert!(doorward::geo::Geo::parse(&file).is_ok(), "{name}");
    }
}

/// A MaxMind DB (https://maxmind.github.io/MaxMind-DB): the tree, 16 zero bytes, the records, and the metadata behind its mark. Sixteen bytes more are the address
/// that the target asks for.
fn database(family: u16, record_size: u16, networks: &[(&str, usize, &str)], shape: &dyn Fn(&str) -> Vec<u8>) -> Vec<u8> {
    #[derive(Clone, Copy)]
    enum Side {
        Nothing,
        Node(u32),
        Record(u32),
    }
    let (mut nodes, mut data) = (vec![[Side::Nothing; 2]], Vec::new());
    for (address, length, code) in networks {
        let bits = match address.parse::<IpAddr>().expect("an address") {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => v6.into(),
        };
        let mut node = 0;
        for depth in 0..*length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == *length {
                nodes[node][side] = Side::Record(data.len() as u32);
            } else if let Side::Node(next) = nodes[node][side] {
                node = next as usize;
            } else {
                nodes.push([Side::Nothing; 2]);
                nodes[node][side] = Side::Node(nodes.len() as u32 - 1);
                node = nodes.len() - 1;
            }
        }
        data.extend(shape(code));
    }
    let count = nodes.len() as u32;
    let mut file = Vec::new();
    for sides in &nodes {
        let [left, right] = sides.map(|side| match side {
            Side::Nothing => count,
            Side::Node(node) => node,
            Side::Record(offset) => count + 16 + offset,
        });
        let ([l0, l1, l2, l3], [r0, r1, r2, r3]) = (left.to_be_bytes(), right.to_be_bytes());
        match record_size {
            24 => file.extend([l1, l2, l3, r1, r2, r3]),
            28 => file.extend([l1, l2, l3, l0 << 4 | r0, r1, r2, r3]),
            _ => file.extend([l0, l1, l2, l3, r0, r1, r2, r3]),
        }
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let text = |text: &str| [&[0x40 | text.len() as u8], text.as_bytes()].concat();
    let short = |number: u16| [&[0xa2][..], &number.to_be_bytes()].concat();
    let long = |number: u32| [&[0xc4][..], &number.to_be_bytes()].concat();
    let fields = [
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", [&[0x08, 0x02][..], &1_700_000_000_u64.to_be_bytes()].concat()),
        ("database_type", text("seed")),
        ("description", vec![0xe0]),
        ("ip_version", short(family)),
        ("languages", vec![0x00, 0x04]),
        ("node_count", long(count)),
        ("record_size", short(record_size)),
    ];
    file.push(0xe0 | fields.len() as u8);
    for (name, value) in fields {
        file.extend(text(name));
        file.extend(value);
    }
    assert!(doorward::geo::Geo::parse(&file).is_ok(), "{:?}", doorward::geo::Geo::parse(&file).err());
    file.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 198, 51, 100, 7]);
    file
}
