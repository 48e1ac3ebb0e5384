//! The steps together, on the mixed door.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use doorward::protocol::{Kind, Response, Verify, encode, encode_body};
use doorward::verify::ROUND;
use doorward::verify_socket::connection::Conversation;

use crate::scene::{Mixed, Requests, between_drains};

/// Frames that arrive together.
const FRAMES: usize = 32;

pub(crate) fn bench(criterion: &mut Criterion, mixed: &Mixed) {
    for (name, requests) in [("uniform", &mixed.uniform), ("Zipf 0.99", &mixed.zipf)] {
        let mut group = criterion.benchmark_group(name);
        verify(&mut group, mixed, requests);
        converse(&mut group, mixed, requests);
        group.finish();
    }
}

fn verify(group: &mut BenchmarkGroup<'_, WallTime>, mixed: &Mixed, requests: &Requests) {
    let door = &mixed.door;
    let answer = |response: &Response<'_>| _ = black_box(response.verdict);
    // Every token is known from here on, as far as there is room.
    between_drains(requests.all().len() as u64, 1, &door.usage, |_| door.verify(&[requests.next().verify()], &|| mixed.now, 0, answer));
    group.throughput(Throughput::Elements(1));
    group.bench_function("door: verify", |bencher| {
        bencher.iter_custom(|times| {
            between_drains(times, 1, &door.usage, |_| door.verify(&[requests.next().verify()], &|| mixed.now, 0, answer))
        });
    });
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function("door: verify, 64 at a time", |bencher| {
        bencher.iter_custom(|times| {
            between_drains(times, ROUND as u64, &door.usage, |_| {
                let round = requests.some(ROUND);
                let round: [Verify<'_>; ROUND] = std::array::from_fn(|number| round[number].verify());
                door.verify(&round, &|| mixed.now, 0, answer);
            })
        });
    });
}

fn converse(group: &mut BenchmarkGroup<'_, WallTime>, mixed: &Mixed, requests: &Requests) {
    let Mixed { door, now, .. } = mixed;
    let mut out = Vec::with_capacity(64 * 1024);
    let mut conversation = Conversation::new(0);
    let mut hello = Vec::new();
    encode(&mut hello, Kind::Hello, [0; 8], |body| body.extend_from_slice(b"DOORWARD\x01\x01"));
    conversation.advance(&hello, door, &|| *now, &mut out);
    for (name, frames) in [("conversation: a frame in, a frame out", 1), ("conversation: 32 frames in", FRAMES)] {
        let mut bytes = Vec::with_capacity(64 * 1024);
        let mut pieces = vec![];
        for request in requests.all() {
            let start = bytes.len();
            encode(&mut bytes, Kind::Verify, [1; 8], |out| encode_body(out, &request.verify()));
            pieces.push((start, bytes.len()));
        }
        let mut arrivals = pieces.chunks_exact(frames).map(|pieces| &bytes[pieces[0].0..pieces[frames - 1].1]).cycle();
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                between_drains(times, frames as u64, &door.usage, |_| {
                    out.clear();
                    let arrived = arrivals.next().unwrap_or_default();
                    black_box(conversation.advance(arrived, door, &|| *now, &mut out).used);
                })
            });
        });
    }
}
