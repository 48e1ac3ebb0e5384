//! The steps of the verify path one by one, and together without the socket, on a million keys in random order.
//!
//! `cargo bench --bench steps [-- FILTER]`

use std::cell::Cell;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::{ArrayString, ArrayVec};
use criterion::Criterion;
use doorward::bench::population::{COUNTRY_DB, Draw, Population};
use doorward::clock::Clock;
use doorward::digest::{Pepper, Peppers, Recogniser, token_sha256};
use doorward::geo::Geo;
use doorward::index::Index;
use doorward::key::{
    CountryOf, Function, FunctionId, FunctionName, Instant, Key, KeyId, PepperId, Secret, Standing, Verdict, reads_as_token,
};
use doorward::policy::{self, Circumstances, Subject};
use doorward::protocol::{Decoded, Kind, Response, Verify, decode, encode, encode_body};
use doorward::usage::{Event, Usage};
use doorward::verify::Door;
use doorward::verify_socket::connection::Conversation;

const KEYS: u64 = 1_000_000;
/// The same database as a file.
const COUNTRY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb");
/// Enough that a turn through all of them leaves nothing of the index in the caches.
const REQUESTS: usize = 500_000;

fn main() {
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(3)).configure_from_args();
    let scene = Scene::set();
    decoding(&mut criterion, &scene);
    finding(&mut criterion, &scene);
    deciding(&mut criterion, &scene);
    counting(&mut criterion, &scene);
    encoding(&mut criterion);
    the_whole(&mut criterion, &scene);
    criterion.final_summary();
}

/// All that the steps work on.
struct Scene {
    door: Door,
    requests: Vec<Request>,
    /// In the order of the requests, which is random.
    next: Cell<usize>,
    now: Instant,
}

/// In one piece, so that the requests lie in memory in their order, as those that a connection has just read do.
struct Request {
    frame: ArrayVec<u8, 128>,
    token: ArrayVec<u8, 64>,
    function: ArrayString<32>,
    address: Option<IpAddr>,
    digest: [u8; 32],
}

impl Scene {
    fn set() -> Scene {
        let population = Population::new(KEYS, COUNTRY_DB).expect("a country database");
        let geo = Geo::without_database();
        geo.load(Path::new(COUNTRY_FILE)).expect("a country database");
        let peppers = Peppers { current: Pepper::from_bytes([7; 32]), previous: None };
        let index = Index::new();
        index.publish_functions(&functions());
        for number in 0..KEYS {
            index.publish(&key(&population, &peppers.current, number)).expect("tokens that are distinct");
        }
        let mut draw = Draw::new(u64::MAX);
        let requests = (0..REQUESTS).map(|_| request(&population, &peppers.current, &mut draw)).collect();
        let door =
            Door { index: Arc::new(index), peppers, recogniser: Recogniser::new(), geo: Arc::new(geo), usage: Arc::new(Usage::new()) };
        Scene { door, requests, next: Cell::new(0), now: Clock::start(Instant(0)).now() }
    }

    /// The requests in turn.
    fn next(&self) -> &Request {
        let next = (self.next.get() + 1) % self.requests.len();
        self.next.set(next);
        &self.requests[next]
    }
}

fn functions() -> Vec<Function> {
    let function = |(number, (name, restricted)): (usize, (String, bool))| Function {
        id: FunctionId(FunctionId::FIRST.0 + number as u16),
        name: name.parse::<FunctionName>().expect("a function's name"),
        restricted,
        created_at: Instant(1),
    };
    Population::functions().enumerate().map(function).collect()
}

fn key(population: &Population, pepper: &Pepper, number: u64) -> Key {
    let drawn = population.key(number);
    let (digest, created_at) = (pepper.digest_token(&drawn.token), Instant(1));
    let secret = Secret { version: 1, digest, pepper: PepperId([0; 8]), created_at, retires_at: None, revoked_at: None };
    // Spread as the random half of a real id is.
    let id = KeyId((u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes());
    Key { id, settings: drawn.settings, secrets: vec![secret], created_at, deleted_at: None, revision: 1 }
}

fn request(population: &Population, pepper: &Pepper, draw: &mut Draw) -> Request {
    let asked = population.request(draw);
    let mut frame = Vec::new();
    let verify = Verify { token: &asked.token, function: &asked.function, address: asked.address.into() };
    encode(&mut frame, Kind::Verify, [1; 8], |out| encode_body(out, &verify));
    let digest = pepper.digest_token(&asked.token);
    let (frame, token) = (frame.into_iter().collect(), asked.token.into_iter().collect());
    Request { frame, digest, token, function: ArrayString::from(&asked.function).expect("a short name"), address: asked.address }
}

fn decoding(criterion: &mut Criterion, scene: &Scene) {
    criterion.bench_function("frame: decode a request", |bencher| {
        bencher.iter(|| match decode(&scene.next().frame) {
            Ok(Decoded::Whole(frame, _)) => Verify::decode(black_box(frame.body)).map(|request| black_box(request).token.len()).ok(),
            _ => None,
        });
    });
    criterion.bench_function("clock: now", |bencher| {
        let clock = Clock::start(Instant(0));
        bencher.iter(|| clock.now());
    });
}

fn finding(criterion: &mut Criterion, scene: &Scene) {
    let Door { index, peppers, .. } = &scene.door;
    criterion.bench_function("digest: SHA-256 then HMAC of a token", |bencher| {
        bencher.iter(|| peppers.current.digest(&token_sha256(black_box(&scene.next().token))));
    });
    criterion.bench_function("digest: the tag that a token is recognised by", |bencher| {
        bencher.iter(|| scene.door.recogniser.tag(black_box(&scene.next().token)));
    });
    criterion.bench_function("index: pin", |bencher| bencher.iter(|| index.pin()));
    let pin = index.pin();
    criterion.bench_function("index: find, 97 of 100 hit, with account and rules", |bencher| {
        bencher.iter(|| index.find(&scene.next().digest, &pin).map(|found| (found.account.len(), found.rules.has_networks())));
    });
    criterion.bench_function("index: find a miss", |bencher| {
        let mut draw = Draw::new(3);
        let misses: Vec<[u8; 32]> = (0..REQUESTS).map(|_| std::array::from_fn(|_| draw.below(256) as u8)).collect();
        let mut misses = misses.iter().cycle();
        bencher.iter(|| index.find(misses.next().unwrap_or(&[0; 32]), &pin).is_some());
    });
    criterion.bench_function("index: what the catalog knows of a function", |bencher| {
        bencher.iter(|| index.called(black_box(&scene.next().function), &pin).id);
    });
    criterion.bench_function("token: whether it reads as one", |bencher| bencher.iter(|| reads_as_token(black_box(&scene.next().token))));
}

fn deciding(criterion: &mut Criterion, scene: &Scene) {
    let Door { index, geo, .. } = &scene.door;
    criterion.bench_function("geo: country of an address", |bencher| {
        bencher.iter(|| scene.next().address.map(|address| geo.country(black_box(address))));
    });
    let pin = index.pin();
    let asked = |request: &Request| {
        let country = request.address.map_or(CountryOf::Unknown, |address| geo.country(address));
        (index.find(&request.digest, &pin), request.address, country)
    };
    // Few enough to stay in the cache: the misses are the index's, and counted there.
    let subjects: Vec<_> = scene.requests[..2_000].iter().map(|request| (asked(request), index.called(&request.function, &pin))).collect();
    let mut subjects = subjects.iter().cycle();
    criterion.bench_function("policy: decide, in the cache", |bencher| {
        bencher.iter(|| match subjects.next() {
            Some(((Some(found), address, country), called)) => {
                let circumstances = Circumstances { now: scene.now, address: *address, country: *country, called: *called, strict: true };
                let standing: Standing = black_box(found.standing);
                policy::decide(&Subject { standing, rules: found.rules }, black_box(&circumstances))
            }
            _ => Verdict::Unknown,
        });
    });
}

fn counting(criterion: &mut Criterion, scene: &Scene) {
    let usage = &scene.door.usage;
    let key = |number: u128| KeyId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
    let event = |number: u128| Event {
        key: key(number),
        version: 1,
        function: FunctionId::FIRST,
        verdict: Verdict::Ok,
        country: None,
        address: None,
        at: scene.now,
        function_name: "leads.insert",
    };
    for (name, keys) in [("usage: count, one key", 1), ("usage: count, a million keys", 1_000_000)] {
        criterion.bench_function(name, |bencher| {
            let mut number = 0;
            bencher.iter_custom(|times| {
                let mut held = None;
                in_rounds(times, usage, |first| {
                    number = (number + 1) % keys;
                    // As for a batch of requests: the lane is held for the round.
                    if first {
                        held = None;
                    }
                    held.get_or_insert_with(|| usage.hold(0)).count(&event(number));
                })
            });
        });
    }
}

fn encoding(criterion: &mut Criterion) {
    criterion.bench_function("frame: encode an answer", |bencher| {
        let mut out = Vec::with_capacity(1_024);
        let response = Response { account: "account-0000000", ..Response::of_nobody(Verdict::Ok) };
        bencher.iter(|| {
            out.clear();
            encode(&mut out, Kind::Verdict, [1; 8], |out| encode_body(out, black_box(&response)));
            out.len()
        });
    });
}

/// The steps together. The counters are drained every so often, outside the time.
fn the_whole(criterion: &mut Criterion, scene: &Scene) {
    criterion.bench_function("door: verify", |bencher| {
        bencher.iter_custom(|times| {
            in_rounds(times, &scene.door.usage, |_| {
                let request = scene.next();
                let verify = Verify { token: &request.token, function: &request.function, address: request.address.into() };
                scene.door.verify(&[verify], scene.now, 0, |response| _ = black_box(response.verdict));
            })
        });
    });
    criterion.bench_function("door: verify, 64 at a time, for each", |bencher| {
        bencher.iter_custom(|times| {
            let rounds = times.div_ceil(64);
            in_rounds_of(ROUND / 64, rounds, &scene.door.usage, |_| {
                let requests: [Verify<'_>; 64] = std::array::from_fn(|_| {
                    let request = scene.next();
                    Verify { token: &request.token, function: &request.function, address: request.address.into() }
                });
                scene.door.verify(&requests, scene.now, 0, |response| _ = black_box(response.verdict));
            })
        });
    });
    let mut out = Vec::with_capacity(64 * 1024);
    let mut conversation = Conversation::new(0);
    let mut hello = Vec::new();
    encode(&mut hello, Kind::Hello, [0; 8], |body| body.extend_from_slice(b"DOORWARD\x01\x01"));
    conversation.advance(&hello, &scene.door, scene.now, &mut out);
    criterion.bench_function("conversation: a frame in, a frame out", |bencher| {
        bencher.iter_custom(|times| {
            in_rounds(times, &scene.door.usage, |_| {
                out.clear();
                black_box(conversation.advance(&scene.next().frame, &scene.door, scene.now, &mut out).used);
            })
        });
    });
    let frames: Vec<u8> = scene.requests[..32].iter().flat_map(|request| request.frame.iter().copied()).collect();
    criterion.bench_function("conversation: 32 frames in, in the cache", |bencher| {
        bencher.iter(|| {
            out.clear();
            conversation.advance(black_box(&frames), &scene.door, scene.now, &mut out).used
        });
    });
}

/// Events between two drains: less than half a ring.
const ROUND: u64 = 8_000;

/// The time of a step without that of the drains in between, and of forgetting what was counted. The step is told whether a round begins with it.
fn in_rounds(times: u64, usage: &Usage, step: impl FnMut(bool)) -> Duration {
    in_rounds_of(ROUND, times, usage, step)
}

fn in_rounds_of(round: u64, times: u64, usage: &Usage, mut step: impl FnMut(bool)) -> Duration {
    let mut spent = Duration::ZERO;
    for begun in (0..times).step_by(round as usize) {
        empty(usage);
        let start = std::time::Instant::now();
        (0..round.min(times - begun)).for_each(|number| step(number == 0));
        spent += start.elapsed();
    }
    spent
}

fn empty(usage: &Usage) {
    usage.drain();
    if usage.is_crowded()
        && let Some(mut frozen) = usage.freeze()
    {
        frozen.were_written(frozen.left());
        usage.give_back(frozen);
    }
}
