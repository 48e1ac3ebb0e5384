//! Each step in a loop of its own, on the mixed door. Waits for memory overlap there, as far as one turn of the loop does not need what another found.

use std::hint::black_box;

use arrayvec::ArrayVec;
use criterion::Criterion;
use doorward::clock::Clock;
use doorward::digest::token_sha256;
use doorward::key::{CountryOf, FunctionId, Verdict, reads_as_token};
use doorward::policy::{self, Circumstances, Subject};
use doorward::protocol::{Decoded, Kind, Response, Verify, decode, encode, encode_body};
use doorward::usage::Event;

use crate::scene::{Mixed, between_drains, key_id};

pub(crate) fn bench(criterion: &mut Criterion, mixed: &Mixed) {
    framing(criterion, mixed);
    hashing(criterion, mixed);
    deciding(criterion, mixed);
    counting(criterion, mixed);
}

fn framing(criterion: &mut Criterion, mixed: &Mixed) {
    criterion.bench_function("frame: decode a request", |bencher| {
        let framed = |verify: Verify<'_>| {
            let mut frame = Vec::new();
            encode(&mut frame, Kind::Verify, [1; 8], |out| encode_body(out, &verify));
            frame.into_iter().collect()
        };
        let frames: Vec<ArrayVec<u8, 128>> = mixed.uniform.all().iter().map(|request| framed(request.verify())).collect();
        let mut frames = frames.iter().cycle();
        bencher.iter(|| match decode(frames.next().map_or(&[], |frame| frame)) {
            Ok(Decoded::Whole(frame, _)) => Verify::decode(black_box(frame.body)).map(|request| black_box(request).token.len()).ok(),
            _ => None,
        });
    });
    criterion.bench_function("frame: encode an answer", |bencher| {
        let mut out = Vec::with_capacity(1_024);
        let response = Response { account: "account-0000000", ..Response::of_nobody(Verdict::Ok) };
        bencher.iter(|| {
            out.clear();
            encode(&mut out, Kind::Verdict, [1; 8], |out| black_box(&response).encode(out));
            out.len()
        });
    });
    criterion.bench_function("clock: now", |bencher| {
        let clock = Clock::start(doorward::key::Instant(0));
        bencher.iter(|| clock.now());
    });
}

fn hashing(criterion: &mut Criterion, mixed: &Mixed) {
    let (door, requests) = (&mixed.door, &mixed.uniform);
    criterion.bench_function("digest: SHA-256 then HMAC of a token", |bencher| {
        bencher.iter(|| door.peppers.current.digest(&token_sha256(black_box(&requests.next().token))));
    });
    criterion.bench_function("digest: the tag that a token is recognised by", |bencher| {
        bencher.iter(|| door.recogniser.tag(black_box(&requests.next().token)));
    });
    criterion.bench_function("index: pin", |bencher| bencher.iter(|| door.index.pin()));
    criterion.bench_function("index: what the catalog knows of a function", |bencher| {
        let pin = door.index.pin();
        bencher.iter(|| door.index.called(black_box(&requests.next().function), &pin).id);
    });
    criterion
        .bench_function("token: whether it reads as one", |bencher| bencher.iter(|| reads_as_token(black_box(&requests.next().token))));
}

fn deciding(criterion: &mut Criterion, mixed: &Mixed) {
    let (door, requests) = (&mixed.door, &mixed.uniform);
    criterion.bench_function("geo: country of an address", |bencher| {
        bencher.iter(|| requests.next().address.ip().map(|address| door.geo.country(black_box(address))));
    });
    criterion.bench_function("policy: decide, in the cache", |bencher| {
        let pin = door.index.pin();
        // Few enough to stay in the cache: the misses are the index's, and counted there.
        let questions: Vec<_> = requests.all()[..2_000]
            .iter()
            .filter_map(|request| {
                let found = door.find(&request.token, &pin)?;
                let address = request.address.ip();
                let country = address.map_or(CountryOf::Unknown, |address| door.geo.country(address));
                let called = door.index.called(&request.function, &pin);
                let circumstances = Circumstances { now: mixed.now, address, country, called, strict: true };
                Some((Subject { standing: found.standing, rules: found.rules }, circumstances))
            })
            .collect();
        let mut questions = questions.iter().cycle();
        bencher.iter(|| questions.next().map(|(subject, circumstances)| policy::decide(black_box(subject), black_box(circumstances))));
    });
}

fn counting(criterion: &mut Criterion, mixed: &Mixed) {
    let usage = &mixed.door.usage;
    let event = |number: u64| Event {
        key: key_id(number),
        version: 1,
        function: FunctionId::FIRST,
        verdict: Verdict::Ok,
        country: None,
        address: None,
        at: mixed.now,
        function_name: "leads.insert",
    };
    criterion.bench_function("usage: hold and count, a million keys", |bencher| {
        let mut number = 0;
        bencher.iter_custom(|times| {
            between_drains(times, 1, usage, |_| {
                number = (number + 1) % 1_000_000;
                usage.hold(0).count(&event(number));
            })
        });
    });
    for (name, keys) in [("usage: count, held, one key", 1), ("usage: count, held, a million keys", 1_000_000)] {
        criterion.bench_function(name, |bencher| {
            let mut number = 0;
            bencher.iter_custom(|times| {
                let mut held = None;
                between_drains(times, 1, usage, |first| {
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
