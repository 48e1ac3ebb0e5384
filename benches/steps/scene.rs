//! The mixed door, and what both doors have in common.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::{ArrayString, ArrayVec};
use doorward::bench::population::{Asked, COUNTRY_DB, Draw, Population};
use doorward::bench::zipf::Zipf;
use doorward::clock::Clock;
use doorward::digest::{Pepper, Peppers, Recogniser};
use doorward::geo::Geo;
use doorward::index::Index;
use doorward::key::{Function, FunctionId, FunctionName, Instant, Key, KeyId, PepperId, Secret};
use doorward::protocol::{Address, Verify};
use doorward::usage::Usage;
use doorward::verify::Door;

/// The same database as a file.
const COUNTRY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb");
/// Enough that a turn through all of them leaves nothing of what they need in the caches of a core.
const REQUESTS: usize = 500_000;
/// Events between two drains of the counters: less than half a ring.
const DRAIN_EVERY: u64 = 8_000;

/// One request, in one piece.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) token: ArrayVec<u8, 64>,
    pub(crate) function: ArrayString<32>,
    pub(crate) address: Address,
}

/// The door with every kind of rule.
pub(crate) struct Mixed {
    pub(crate) door: Door,
    /// Of keys drawn uniformly.
    pub(crate) uniform: Requests,
    /// Of keys drawn by Zipf's law with the exponent 0.99.
    pub(crate) zipf: Requests,
    pub(crate) now: Instant,
}

/// Requests that are asked in turn.
pub(crate) struct Requests {
    all: Vec<Request>,
    next: Cell<usize>,
}

impl Request {
    pub(crate) fn verify(&self) -> Verify<'_> {
        Verify { token: &self.token, function: &self.function, address: self.address }
    }

    fn new(asked: &Asked) -> Request {
        let token = asked.token.iter().copied().collect();
        Request { token, function: ArrayString::from(&asked.function).expect("a short name"), address: asked.address.into() }
    }
}

impl Requests {
    fn new(all: impl Iterator<Item = Request>) -> Requests {
        Requests { all: all.collect(), next: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> &Request {
        &self.some(1)[0]
    }

    /// So many that stand together, of those that were not asked for longest.
    pub(crate) fn some(&self, many: usize) -> &[Request] {
        let start = if self.next.get() + many > self.all.len() { 0 } else { self.next.get() };
        self.next.set(start + many);
        &self.all[start..start + many]
    }

    pub(crate) fn all(&self) -> &[Request] {
        &self.all
    }
}

impl Mixed {
    pub(crate) fn set(keys: u64) -> Mixed {
        let population = Population::new(keys, COUNTRY_DB).expect("a country database");
        let door = door();
        door.index.publish_functions(&functions());
        let now = Clock::start(Instant(0)).now();
        for number in 0..keys {
            let drawn = population.key(number);
            let digest = door.peppers.current.digest_token(&drawn.token);
            door.index.publish(&key(number, digest, drawn.settings)).expect("tokens that are distinct");
        }
        let mut draw = Draw::new(u64::MAX);
        let zipf = Zipf::new(keys, 0.99);
        let uniform = Requests::new((0..REQUESTS).map(|_| Request::new(&population.request(&mut draw))));
        let zipf = Requests::new((0..REQUESTS).map(|_| {
            let number = zipf.key(&mut draw);
            Request::new(&population.request_of(number, &mut draw))
        }));
        Mixed { door, uniform, zipf, now }
    }
}

/// Without keys and functions.
pub(crate) fn door() -> Door {
    let geo = Geo::without_database();
    geo.load(Path::new(COUNTRY_FILE)).expect("a country database");
    let peppers = Peppers { current: Pepper::from_bytes([7; 32]), previous: None };
    Door { index: Arc::new(Index::new()), peppers, recogniser: Recogniser::new(), geo: Arc::new(geo), usage: Arc::new(Usage::new()) }
}

pub(crate) fn functions() -> Vec<Function> {
    let function = |(number, (name, restricted)): (usize, (String, bool))| Function {
        id: FunctionId(FunctionId::FIRST.0 + number as u16),
        name: name.parse::<FunctionName>().expect("a function's name"),
        restricted,
        created_at: Instant(1),
    };
    Population::functions().enumerate().map(function).collect()
}

/// A key with one secret.
pub(crate) fn key(number: u64, digest: [u8; 32], settings: doorward::key::Settings) -> Key {
    let created_at = Instant(1);
    let secret = Secret { version: 1, digest, pepper: PepperId([0; 8]), created_at, retires_at: None, revoked_at: None };
    Key { id: key_id(number), settings, secrets: vec![secret], created_at, deleted_at: None, revision: 1 }
}

/// Spread as the random half of a real id is.
pub(crate) fn key_id(number: u64) -> KeyId {
    KeyId((u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
}

/// The time of a step, each of which counts so many verifies, without that of the drains in between and of forgetting what was counted. The step is
/// told whether a round between two drains begins with it.
pub(crate) fn between_drains(times: u64, verifies: u64, usage: &Usage, mut step: impl FnMut(bool)) -> Duration {
    let mut spent = Duration::ZERO;
    let round = DRAIN_EVERY / verifies;
    for begun in (0..times).step_by(round as usize) {
        empty(usage);
        let start = std::time::Instant::now();
        (0..round.min(times - begun)).for_each(|number| step(number == 0));
        spent += start.elapsed();
    }
    spent
}

/// Drains the counters, as another thread does in the daemon, and forgets the rows when they become many.
pub(crate) fn empty(usage: &Usage) {
    usage.drain();
    if usage.is_crowded()
        && let Some(mut frozen) = usage.freeze()
    {
        frozen.were_written(frozen.left());
        usage.give_back(frozen);
    }
}
