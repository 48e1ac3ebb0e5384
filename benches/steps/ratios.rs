//! What is held against something else, measured in turns.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant as Moment;

use arrayvec::ArrayVec;
use doorward::digest::token_sha256;
use doorward::index::Tag;
use doorward::key::{CountryOf, Instant, Verdict, reads_as_token};
use doorward::policy::{self, Circumstances, Subject};
use doorward::protocol::{Response, Verify};
use doorward::verify::{Door, ROUND};

use crate::chase::Chase;
use crate::plain::{NOW, Plain};
use crate::scene::{Mixed, Request, Requests, empty};

/// Verifies in one turn of one measurement: with what they ask, they fit a core's second-level cache.
const TURN: usize = 2_048;
const TURNS: usize = 201;

/// Nanoseconds, of each turn.
type Times = Vec<f64>;

/// Prints the ratios.
pub(crate) fn print(mixed: &mut Mixed, plain: &mut Plain) {
    println!("\n{:60}{:>9}   least –    most", format!("medians of {TURNS} turns"), "");
    against_the_machine(plain);
    let Mixed { door, uniform, zipf, now } = mixed;
    for (name, requests) in [("uniform", &*uniform), ("Zipf 0.99", &*zipf)] {
        counted_or_not(name, door, requests, *now);
    }
    threads(door, uniform, *now);
}

/// One digest and one dependent read, against a verify of keys drawn uniformly from all.
fn against_the_machine(plain: &mut Plain) {
    let keys = plain.keys;
    let chases = [("pages of 4 KiB", Chase::new(keys as usize, false)), ("huge pages", Chase::new(keys as usize, true))];
    let (mut digest, mut alone, mut rounds, mut reads) = (Times::new(), Times::new(), Times::new(), [Times::new(), Times::new()]);
    // So many before that every token was seen, or that no more can be noted.
    for _ in 0..(8 * keys as usize / TURN).min(4_000) {
        let requests: Vec<Request> = (0..TURN).map(|_| plain.draw()).collect();
        verify(&plain.door, &requests, ROUND, NOW, 0);
    }
    for _ in 0..TURNS {
        for (times, some) in [(&mut alone, 1), (&mut rounds, ROUND)] {
            let requests: Vec<Request> = (0..TURN).map(|_| plain.draw()).collect();
            times.push(verify(&plain.door, &requests, some, NOW, 0));
        }
        let requests: Vec<Request> = (0..TURN).map(|_| plain.draw()).collect();
        let pepper = &plain.door.peppers.current;
        digest.push(each(|| requests.iter().for_each(|request| _ = black_box(pepper.digest(&token_sha256(black_box(&request.token)))))));
        reads.iter_mut().zip(&chases).for_each(|(times, (_, chase))| times.push(each(|| chase.walk(TURN))));
    }
    tell("one digest", "ns", &digest);
    for ((pages, _), times) in chases.iter().zip(&reads) {
        tell(&format!("one dependent read of 64 bytes in {keys} × 64, {pages}"), "ns", times);
    }
    tell(&format!("Door::verify, {keys} keys"), "ns", &alone);
    tell(&format!("Door::verify, {keys} keys, 64 at a time"), "ns", &rounds);
    for ((pages, _), times) in chases.iter().zip(&reads) {
        let floor: Times = digest.iter().zip(times).map(|(digest, read)| digest + read).collect();
        tell(&format!("verify / (digest + dependent read), {pages}"), "", &ratio(&alone, &floor));
    }
    println!("{:60}{:>9}", format!("index, bytes a key of {keys}, what is noted included"), plain.door.index.bytes() / keys as usize);
}

/// The path as it is, against the same steps without the count. The drain, which another thread does in the daemon, is in neither.
fn counted_or_not(name: &str, door: &Door, requests: &Requests, now: Instant) {
    let answers = |with_count: bool| {
        let mut answers = Vec::new();
        let answer = |response: &Response<'_>| answers.push(response.verdict);
        let some: Vec<Verify<'_>> = requests.all()[..TURN].iter().map(Request::verify).collect();
        if with_count {
            door.verify(&some, &|| now, 0, answer)
        } else {
            without_count(door, &some, now, answer)
        }
        answers
    };
    assert!(answers(true) == answers(false), "the same steps");
    for some in [1, ROUND] {
        let (mut counted, mut uncounted) = (Times::new(), Times::new());
        for _ in 0..TURNS {
            // Before both, the same: some are counted, then drained.
            verify(door, requests.some(TURN), some, now, 0);
            counted.push(verify(door, requests.some(TURN), some, now, 0));
            verify(door, requests.some(TURN), some, now, 0);
            empty(&door.usage);
            let copies = requests.some(TURN).to_vec();
            uncounted.push(each(|| {
                for some in copies.chunks(some) {
                    let round: ArrayVec<Verify<'_>, ROUND> = some.iter().map(Request::verify).collect();
                    without_count(door, &round, now, |response| _ = black_box(response.verdict));
                }
            }));
        }
        tell(&format!("counting on / off: verifies per second, {name}, {some} at a time"), "", &ratio(&uncounted, &counted));
    }
}

/// [`Door::verify`] but for the count. Its answers are checked to be the same.
fn without_count(door: &Door, requests: &[Verify<'_>], now: Instant, mut answer: impl FnMut(&Response<'_>)) {
    let pin = door.index.pin();
    for round in requests.chunks(ROUND) {
        let mut tags = ArrayVec::<Tag, ROUND>::new();
        tags.extend(round.iter().map(|request| door.recogniser.tag(request.token)));
        tags.iter().for_each(|&tag| door.index.expect(tag, &pin));
        if round.len() > 1 {
            tags.iter().for_each(|&tag| door.index.expect_beyond(tag, &pin));
        }
        for (request, &tag) in round.iter().zip(&tags) {
            let address = request.address.ip();
            let country = address.map_or(CountryOf::Unknown, |address| door.geo.country(address));
            let called = door.index.called(request.function, &pin);
            let circumstances = Circumstances { now, address, country, called, strict: door.index.strict() };
            let recognised = door.index.recognise(tag, &pin);
            let found = recognised.as_ref().map(|recognised| recognised.found()).or_else(|| door.find(request.token, &pin));
            let verdict = match &found {
                Some(found) => policy::decide(&Subject { standing: found.standing, rules: found.rules }, &circumstances),
                None if reads_as_token(request.token) => Verdict::Unknown,
                None => Verdict::Malformed,
            };
            answer(&found.map_or_else(
                || Response::of_nobody(verdict),
                |found| Response {
                    flags: Response::KNOWN,
                    version: found.version.to_le_bytes(),
                    key_id: found.id.0,
                    expires_at: found.standing.expires_at.map_or(0, |at| at.0).to_le_bytes(),
                    retires_at: found.standing.retires_at.map_or(0, |at| at.0).to_le_bytes(),
                    account: found.account,
                    ..Response::of_nobody(verdict)
                },
            ));
        }
    }
}

/// Two threads with lanes of their own, against one. Each verifies requests that were not asked for long.
fn threads(door: &Door, requests: &Requests, now: Instant) {
    for (some, name) in [(1, "1 at a time"), (ROUND, "64 at a time")] {
        let per_second: Times = (0..TURNS)
            .map(|_| {
                let one = at_once(door, &[requests.some(TURN)], some, now)[0];
                // Each of both has a speed of its own; the sum is that of both together.
                at_once(door, &[requests.some(TURN), requests.some(TURN)], some, now).iter().map(|both| one / both).sum()
            })
            .collect();
        tell(&format!("two threads / one: verifies per second, {name}"), "", &per_second);
    }
}

/// Nanoseconds of a verify in each of the threads, which begin together.
fn at_once(door: &Door, shares: &[&[Request]], some: usize, now: Instant) -> Times {
    empty(&door.usage);
    let barrier = Barrier::new(shares.len());
    std::thread::scope(|scope| {
        let threads = shares.iter().enumerate().map(|(lane, requests)| {
            let barrier = &barrier;
            scope.spawn(move || {
                let copies = requests.to_vec();
                barrier.wait();
                timed(door, &copies, some, now, lane)
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that verifies")).collect()
    })
}

/// Nanoseconds of a verify, so many at a time, of requests that were copied just now, as by a read of a socket. The counters are empty before.
fn verify(door: &Door, requests: &[Request], some: usize, now: Instant, lane: usize) -> f64 {
    empty(&door.usage);
    let copies = requests.to_vec();
    timed(door, &copies, some, now, lane)
}

fn timed(door: &Door, requests: &[Request], some: usize, now: Instant, lane: usize) -> f64 {
    each(|| {
        for some in requests.chunks(some) {
            let round: ArrayVec<Verify<'_>, ROUND> = some.iter().map(Request::verify).collect();
            door.verify(&round, &|| now, lane, |response| _ = black_box(response.verdict));
        }
    })
}

/// Nanoseconds of each of what happens [`TURN`] times.
fn each(turn: impl FnOnce()) -> f64 {
    let begun = Moment::now();
    turn();
    begun.elapsed().as_nanos() as f64 / TURN as f64
}

fn ratio(these: &Times, those: &Times) -> Times {
    these.iter().zip(those).map(|(this, that)| this / that).collect()
}

fn tell(what: &str, unit: &str, times: &Times) {
    let mut sorted = times.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let [median, least, most] = [sorted.len() / 2, 0, sorted.len() - 1].map(|at| sorted[at]);
    let digits = if unit.is_empty() { 3 } else { 0 };
    println!("{what:60}{median:>9.digits$} {unit:2} {least:>7.digits$} – {most:>7.digits$}");
}
