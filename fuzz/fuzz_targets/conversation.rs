//! A whole connection of the verify socket without its socket: bytes of a stranger, to a door with keys of every kind. However they are cut into pieces, the answers are
//! the same; they are bounded, well formed, and in the order of what was asked; and each verify is counted once.
//!
//! The first byte of the input says how the rest is cut, and whether the handshake stands before it.
#![no_main]

use std::sync::{Arc, LazyLock};

use doorward::digest::{Pepper, Peppers, Recogniser};
use doorward::geo::Geo;
use doorward::index::Index;
use doorward::key::{Function, FunctionId, Instant, Key, KeyId, PepperId, Secret, Settings, UnknownCountry};
use doorward::protocol::{
    Decoded, Failure, Frame, HEADER_BYTES, Hello, Kind, MAGIC, Response, Welcome, batch_responses, decode, decode_body, encode, encode_body,
};
use doorward::usage::Usage;
use doorward::verify::Door;
use doorward::verify_socket::connection::{Conversation, MOST_ANSWER_BYTES};
use libfuzzer_sys::fuzz_target;

/// When all requests are made: between the instants of the keys.
const NOW: Instant = Instant(1_000_000);
const KEYS: u8 = 64;

static DOOR: LazyLock<Door> = LazyLock::new(door);

/// The token of the key `n` is the byte `n`, so that a fuzzer meets many.
fn door() -> Door {
    let peppers = Peppers { current: Pepper::from_bytes([1; 32]), previous: Some(Pepper::from_bytes([2; 32])) };
    let index = Index::new();
    let function = |(number, name): (u16, &str)| Function {
        id: FunctionId(FunctionId::FIRST.0 + number),
        name: name.parse().expect("a name"),
        restricted: number == 1,
        created_at: Instant(1),
    };
    index.publish_functions(&[(0, "a.b"), (1, "a.c"), (2, "d")].map(function));
    (0..KEYS).for_each(|number| index.publish(&key(number, &peppers)).expect("tokens that are distinct"));
    let geo = Geo::without_database();
    geo.load(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/country/flat.mmdb").as_ref()).expect("a country database");
    Door { index: Arc::new(index), peppers, recogniser: Recogniser::with_key(&[5; 16]), geo: Arc::new(geo), usage: Arc::new(Usage::new()) }
}

fn key(number: u8, peppers: &Peppers) -> Key {
    // From one byte to as many as an account may have.
    let mut settings = Settings::new(&"a".repeat(1 + usize::from(number) * 99 / 63), "n");
    let grants: &[&str] = [&["*"][..], &["a.*"], &["a.b", "d"], &["a.c", "a*"], &[]][usize::from(number % 5)];
    settings.grants = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    settings.networks = (0..number % 7).map(|n| format!("10.{n}.0.0/16").parse().expect("a network")).collect();
    settings.countries = if number % 3 == 0 { vec!["DE".parse().expect("a country")] } else { vec![] };
    settings.unknown_country = if number % 2 == 0 { UnknownCountry::Allow } else { UnknownCountry::Deny };
    settings.enabled = number % 11 != 10;
    settings.not_before = (number % 13 == 12).then_some(Instant(NOW.0 + 1));
    settings.expires_at = if number % 13 == 12 { None } else { [None, Some(NOW), Some(Instant(NOW.0 + 2))][usize::from(number % 3)] };
    settings.normalize().expect("settings");
    let pepper = if number % 4 == 0 { peppers.previous.as_ref().expect("a previous one") } else { &peppers.current };
    let secret = Secret {
        version: 1 + u16::from(number),
        digest: pepper.digest_token(&[number]),
        pepper: PepperId([0; 8]),
        created_at: Instant(1),
        retires_at: [None, None, Some(NOW), Some(Instant(NOW.0 + 1))][usize::from(number / 2 % 4)],
        revoked_at: (number % 17 == 16).then_some(Instant(1)),
    };
    let deleted_at = (number % 19 == 18).then_some(Instant(1));
    Key { id: KeyId([number + 1; 16]), settings, secrets: vec![secret], created_at: Instant(1), deleted_at, revision: 1 }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, said)) = input.split_first() else { return };
    let mut bytes = Vec::new();
    if how & 1 == 1 {
        encode(&mut bytes, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 1 }));
    }
    bytes.extend_from_slice(said);
    let door = &*DOOR;
    let before: u64 = door.usage.totals().iter().sum();
    let whole = converse(door, bytes.chunks(bytes.len().max(1)));
    let piece = match how >> 1 {
        0 => 1,
        1 => HEADER_BYTES,
        some => usize::from(some) * 3,
    };
    let cut = converse(door, bytes.chunks(piece));
    assert!(whole == cut, "pieces of {piece} bytes are answered otherwise: {} and {} bytes", whole.answers.len(), cut.answers.len());
    let verdicts = read(&whole.answers, whole.closed);
    assert_eq!(verdicts, whole.requests, "each request has its verdict");
    let counted = door.usage.totals().iter().sum::<u64>() - before;
    assert_eq!(counted, 2 * whole.requests as u64, "each verify is counted once");
    make_room(&door.usage);
});

/// What became of a connection.
#[derive(PartialEq)]
struct Said {
    answers: Vec<u8>,
    requests: usize,
    known: usize,
    errors: usize,
    used: usize,
    greeted: bool,
    closed: bool,
}

/// Feeds a connection as its thread does.
fn converse<'b>(door: &Door, pieces: impl Iterator<Item = &'b [u8]>) -> Said {
    let mut conversation = Conversation::new(0);
    let mut waiting = Vec::new();
    let mut said = Said { answers: Vec::new(), requests: 0, known: 0, errors: 0, used: 0, greeted: false, closed: false };
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let before = said.answers.len();
            let progress = conversation.advance(&waiting, door, &|| NOW, &mut said.answers);
            assert!(progress.used <= waiting.len() && progress.known <= progress.requests);
            assert!(said.answers.len() - before <= MOST_ANSWER_BYTES, "{} bytes of answers", said.answers.len() - before);
            said.requests += progress.requests;
            said.known += progress.known;
            said.errors += progress.errors;
            said.used += progress.used;
            said.closed = progress.closes;
            waiting.drain(..progress.used);
            if said.closed {
                return said;
            }
            if !progress.is_full {
                let partial = decode(&waiting);
                assert!(matches!(partial, Ok(Decoded::Partial(needed)) if needed == progress.needed), "{partial:?}, {}", progress.needed);
                break;
            }
        }
    }
    said.greeted = conversation.is_greeted();
    said
}

/// Reads answers as a client does. How many verdicts there are.
fn read(mut answers: &[u8], closed: bool) -> usize {
    let (mut verdicts, mut ended) = (0, false);
    while !answers.is_empty() {
        let Ok(Decoded::Whole(frame, used)) = decode(answers) else { panic!("an answer that is no frame") };
        assert!(!ended, "something follows the error that closes");
        verdicts += verdicts_of(&frame, &mut ended);
        answers = &answers[used..];
    }
    assert_eq!(ended, closed);
    verdicts
}

fn verdicts_of(frame: &Frame<'_>, ended: &mut bool) -> usize {
    match frame.kind {
        Kind::Welcome => {
            decode_body::<Welcome<'_>>(frame.body).expect("a welcome");
            0
        }
        Kind::Verdict => {
            let response = decode_body::<Response<'_>>(frame.body).expect("a response");
            assert!(response.verdict().is_some());
            1
        }
        Kind::Verdicts => {
            let responses = batch_responses(frame.body).expect("responses");
            assert!(responses.iter().all(|response| response.verdict().is_some()));
            responses.len()
        }
        Kind::Error => {
            let failure = decode_body::<Failure<'_>>(frame.body).expect("a failure");
            *ended = failure.closes == 1;
            0
        }
        other => panic!("a server does not send {other:?}"),
    }
}

/// Empties the counters, as a flush does.
fn make_room(usage: &Usage) {
    if let Some(mut frozen) = usage.freeze() {
        frozen.were_written(frozen.left());
        usage.give_back(frozen);
    }
}
