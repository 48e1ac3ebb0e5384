//! The plain door: so many keys that setting them must be quick, with a thousand distinct rules and accounts of 12 bytes.

use std::hint::black_box;

use arrayvec::{ArrayString, ArrayVec};
use criterion::Criterion;
use doorward::bench::population::Draw;
use doorward::index::Tag;
use doorward::key::{Instant, Key, Settings};
use doorward::protocol::Address;
use doorward::verify::Door;

use crate::scene::{Request, between_drains, door, functions, key, key_id};

const RULES: usize = 1_000;
/// Tokens that are noted before the index is asked by their tags, and digests that it is asked by: a turn through them leaves nothing in the
/// caches of a core.
const ASKED: usize = 500_000;
pub(crate) const NOW: Instant = Instant(1_000_000);

/// The door, and what draws its requests.
pub(crate) struct Plain {
    pub(crate) door: Door,
    pub(crate) keys: u64,
    draw: Draw,
}

impl Plain {
    pub(crate) fn set(keys: u64) -> Plain {
        let begun = std::time::Instant::now();
        let door = door();
        door.index.publish_functions(&functions());
        // As a start does that knows how many there are.
        door.index.reserve(keys as usize);
        // One for each of the rules; it becomes each of its keys in turn.
        let mut forms: Vec<Key> = (0..RULES).map(|number| key(0, [0; 32], settings(number))).collect();
        for number in 0..keys {
            let form = &mut forms[number as usize % RULES];
            form.id = key_id(number);
            form.secrets[0].digest = door.peppers.current.digest_token(&token(number));
            form.settings.account.clear();
            form.settings.account.extend(decimal(number).map(char::from));
            door.index.publish(form).expect("tokens that are distinct");
        }
        println!("plain door: {keys} keys in {:.1} s", begun.elapsed().as_secs_f64());
        Plain { door, keys, draw: Draw::new(7) }
    }

    /// A request with the token of a key drawn uniformly, in place of one that was asked.
    pub(crate) fn draw(&mut self) -> Request {
        request(self.draw.below(self.keys))
    }
}

/// With the token of the key of this number.
fn request(number: u64) -> Request {
    Request { token: token(number), function: ArrayString::from("service-0.call-0").expect("a short name"), address: home(number) }
}

/// Every kind of rule, so many times that they are a thousand: each has a network of its own.
fn settings(number: usize) -> Settings {
    let mut settings = Settings::new("account-0000", "key");
    let grants: &[&str] = [&["*"][..], &["service-0.*"], &["service-0.call-0", "service-1.call-1"]][number % 3];
    settings.grants = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    let network = if number.is_multiple_of(2) { "203.0.113.0/24".to_owned() } else { "2001:db8:1::/48".to_owned() };
    let own = format!("10.{}.{}.0/24", number / 256, number % 256);
    settings.networks = [network, own].iter().map(|network| network.parse().expect("a network")).collect();
    settings.expires_at = number.is_multiple_of(4).then_some(Instant(NOW.0 * 2));
    settings.normalize().expect("settings within the limits");
    settings
}

/// An address that the rules of the key let pass.
fn home(number: u64) -> Address {
    if number.is_multiple_of(2) {
        Address::V4([203, 0, 113, number as u8])
    } else {
        Address::V6([32, 1, 13, 184, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }
}

/// As long as those that doorward makes.
fn token(number: u64) -> ArrayVec<u8, 64> {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01";
    let mut draw = Draw::new(number);
    let random = [draw.below(u64::MAX), draw.below(u64::MAX), draw.below(u64::MAX), draw.below(u64::MAX), draw.below(u64::MAX)];
    let digits = (0..49).map(|at| DIGITS[(random[at / 10] >> (at % 10 * 6)) as usize % 64]);
    b"dw_".iter().copied().chain(digits).collect()
}

/// Twelve digits.
fn decimal(mut number: u64) -> [u8; 12] {
    let mut digits = [b'0'; 12];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// The index by itself. Each turn waits for the one before, as a request that is alone does.
pub(crate) fn bench(criterion: &mut Criterion, plain: &Plain) {
    let Door { index, recogniser, peppers, usage, .. } = &plain.door;
    let mut draw = Draw::new(3);
    let known: Vec<Request> = (0..ASKED).map(|_| request(draw.below(plain.keys))).collect();
    for _ in 0..2 {
        let mut requests = known.iter();
        between_drains(ASKED as u64, 1, usage, |_| {
            let request = requests.next().expect("so many were drawn");
            plain.door.verify(&[request.verify()], &|| NOW, 0, |response| _ = black_box(response.verdict));
        });
    }
    let digests: Vec<[u8; 32]> = known.iter().map(|request| peppers.current.digest_token(&request.token)).collect();
    let tags: Vec<Tag> = known.iter().map(|request| recogniser.tag(&request.token)).collect();
    let other_digests: Vec<[u8; 32]> = (0..ASKED).map(|_| std::array::from_fn(|_| draw.below(256) as u8)).collect();
    let other_tags: Vec<Tag> = (0..ASKED).map(|_| [draw.below(u64::MAX), draw.below(u64::MAX)]).collect();
    let pin = index.pin();
    let recognised = tags.iter().filter(|tag| index.recognise(**tag, &pin).is_some()).count();
    println!("plain door: {recognised} of {ASKED} tokens are recognised; {} bytes of index a key", index.bytes() / plain.keys as usize);

    // Zero, which the compiler cannot know: with it what was found decides which is asked for next.
    let zero = black_box(0);
    let mut group = criterion.benchmark_group(format!("index of {} keys", plain.keys));
    let find = |digest: &[u8; 32]| index.find(digest, &pin).map_or(0, |found| found.account.len() + found.rules.bytes().len());
    for (name, digests) in [("find a hit, with account and rules", &digests), ("find a miss", &other_digests)] {
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1 + (find(&digests[at]) & zero)) % ASKED;
            });
        });
    }
    let recognise = |tag: Tag| {
        index.recognise(tag, &pin).map_or(0, |recognised| recognised.found().account.len() + recognised.found().rules.bytes().len())
    };
    for (name, tags) in [("recognise a hit, with account and rules", &tags), ("recognise a miss", &other_tags)] {
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1 + (recognise(tags[at]) & zero)) % ASKED;
            });
        });
    }
    group.finish();
}
