//! The steps, as callgrind counts them.

use std::ffi::CString;
use std::hint::black_box;
use std::path::Path;

use doorward::digest::token_sha256;
use doorward::index::Tag;
use doorward::key::{CountryOf, FunctionId, KeyId, Verdict};
use doorward::policy::{Circumstances, Subject, decide};
use doorward::protocol::{Decoded, Hello, Kind, MAGIC, Response, Verify, decode, encode, encode_body};
use doorward::usage::{Event, Usage};
use doorward::verify::ROUND;
use doorward::verify_socket::connection::Conversation;
use valgrind_requests::callgrind;

use crate::scene::{NOW, Request, Scene};

/// Turns through all requests: enough that beginning and end of a count are a thousandth of it.
const TURNS: usize = 8;
/// Frames that arrive together.
const FRAMES: usize = 32;

/// Every step, after a turn in which what happens once has happened.
pub(crate) fn count_all(country_db: &Path) {
    let scene = Scene::set(country_db);
    for part in [whole, hashing_and_finding, deciding, frames] {
        part(&scene);
    }
}

/// Counts the instructions of a step over all items, each of which is so many requests.
fn count<T>(usage: &Usage, name: &str, items: &[T], requests: usize, mut step: impl FnMut(&T)) {
    items.iter().for_each(&mut step);
    // As another thread does while requests are counted; a lane has room for all events of one step.
    usage.drain();
    let reason = format!("{name} {}", items.len() * requests * TURNS);
    let reason = CString::new(reason).expect("no zero byte");
    callgrind::start_instrumentation();
    for _ in 0..TURNS {
        items.iter().for_each(&mut step);
    }
    callgrind::stop_instrumentation();
    callgrind::dump_stats_at(reason);
}

/// First, since here the tokens are noted by which the others are recognised.
fn whole(scene: &Scene) {
    let Scene { door, known, strangers } = scene;
    let answer = |response: &Response<'_>| _ = black_box(response.verdict);
    let known: Vec<Verify<'_>> = known.iter().map(Request::verify).collect();
    known.iter().for_each(|request| door.verify(&[*request], &|| NOW, 0, answer));
    let pin = door.index.pin();
    assert!(known.iter().all(|request| door.index.recognise(door.recogniser.tag(request.token), &pin).is_some()), "all tokens are noted");
    drop(pin);

    count(&door.usage, "verify_one", &known, 1, |request| door.verify(black_box(&[*request]), &|| NOW, 0, answer));
    let rounds: Vec<&[Verify<'_>]> = known.chunks_exact(ROUND).collect();
    count(&door.usage, "verify_round", &rounds, ROUND, |round| door.verify(black_box(round), &|| NOW, 0, answer));
    let strangers: Vec<Verify<'_>> = strangers.iter().map(Request::verify).collect();
    count(&door.usage, "verify_stranger", &strangers, 1, |request| door.verify(black_box(&[*request]), &|| NOW, 0, answer));
}

fn hashing_and_finding(scene: &Scene) {
    let Scene { door, known, .. } = scene;
    let index = &door.index;
    count(&door.usage, "tag", known, 1, |request| _ = black_box(door.recogniser.tag(black_box(&request.token))));
    count(&door.usage, "digest", known, 1, |request| _ = black_box(door.peppers.current.digest(&token_sha256(black_box(&request.token)))));
    let pin = index.pin();
    let tags: Vec<Tag> = known.iter().map(|request| door.recogniser.tag(&request.token)).collect();
    count(&door.usage, "recognise", &tags, 1, |tag| {
        let recognised = index.recognise(black_box(*tag), &pin);
        black_box(recognised.as_ref().map(|recognised| recognised.found()));
    });
    let digests: Vec<[u8; 32]> = known.iter().map(|request| door.peppers.current.digest_token(&request.token)).collect();
    count(&door.usage, "find", &digests, 1, |digest| _ = black_box(index.find(black_box(digest), &pin)));
    count(&door.usage, "function", known, 1, |request| _ = black_box(index.called(black_box(request.function), &pin)));
}

fn deciding(scene: &Scene) {
    let Scene { door, known, .. } = scene;
    let addresses: Vec<_> = known.iter().filter_map(|request| request.address).collect();
    count(&door.usage, "country", &addresses, 1, |address| _ = black_box(door.geo.country(black_box(*address))));
    let pin = door.index.pin();
    let country = |request: &Request| request.address.map_or(CountryOf::Unknown, |address| door.geo.country(address));
    let found = |request: &Request| door.find(&request.token, &pin).expect("a key of the scene");
    let questions: Vec<(Subject<'_>, Circumstances<'_>)> = known
        .iter()
        .map(|request| {
            let called = door.index.called(request.function, &pin);
            let subject = Subject { standing: found(request).standing, rules: found(request).rules };
            (subject, Circumstances { now: NOW, address: request.address, country: country(request), called, strict: true })
        })
        .collect();
    count(&door.usage, "policy", &questions, 1, |(subject, circumstances)| {
        _ = black_box(decide(black_box(subject), black_box(circumstances)))
    });
    let events: Vec<Event<'_>> = known
        .iter()
        .zip(&questions)
        .map(|(request, (subject, circumstances))| Event {
            key: found(request).id,
            version: found(request).version,
            function: circumstances.called.id.unwrap_or(FunctionId::UNREGISTERED),
            verdict: decide(subject, circumstances),
            country: circumstances.country.known(),
            address: request.address,
            at: NOW,
            function_name: request.function,
        })
        .collect();
    assert!(events.iter().any(|event| event.verdict == Verdict::Ok && event.key != KeyId::NONE));
    count(&door.usage, "count", &events, 1, |event| door.usage.hold(0).count(black_box(event)));
}

fn frames(scene: &Scene) {
    let Scene { door, known, .. } = scene;
    let frames: Vec<Vec<u8>> = known.iter().map(Request::frame).collect();
    count(&door.usage, "decode", &frames, 1, |frame| {
        if let Ok(Decoded::Whole(frame, _)) = decode(black_box(frame)) {
            let _ = black_box(Verify::decode(frame.body));
        }
    });
    let mut out = Vec::with_capacity(64 * 1024);
    let mut responses = vec![];
    let pin = door.index.pin();
    for request in known {
        let account = door.find(&request.token, &pin).expect("a key of the scene").account;
        responses.push(Response { account, ..Response::of_nobody(Verdict::Ok) });
    }
    count(&door.usage, "encode", &responses, 1, |response| {
        out.clear();
        encode(&mut out, Kind::Verdict, [1; 8], |out| black_box(response).encode(out));
    });
    let mut conversation = Conversation::new(0);
    let mut hello = Vec::new();
    encode(&mut hello, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 1 }));
    conversation.advance(&hello, door, &|| NOW, &mut out);
    let arrivals: Vec<Vec<u8>> = frames.chunks_exact(FRAMES).map(<[Vec<u8>]>::concat).collect();
    count(&door.usage, "conversation", &arrivals, FRAMES, |bytes| {
        out.clear();
        black_box(conversation.advance(black_box(bytes), door, &|| NOW, &mut out).used);
    });
}
