//! How many keys stand where, now and at every moment ahead, kept as keys change: nobody walks over a million keys to know it.

use std::collections::BTreeMap;

use crate::key::{Instant, Key, PepperId, Secret, Span, State};

/// Keys by state, and what the near future holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// Keys by their state, in the order of [`State::ALL`].
    pub keys: [u64; State::ALL.len()],
    /// When the next key expires that is good until then.
    pub next_expiry: Option<Instant>,
    /// Keys that will expire within each of the spans that were asked for, and are good until then.
    pub expiring: Vec<u64>,
    /// Secrets that may still be good and are under another pepper than the current one.
    pub other_pepper: u64,
}

/// Keys, and secrets under another pepper, by where they stand at a moment; and each moment at which one of them comes to stand elsewhere.
pub(super) struct Ledger {
    pepper: PepperId,
    /// What `places` is true of. It goes forward and, after a glitch of the wall clock, back.
    at: Instant,
    places: [u64; PLACES],
    /// How many take this step, past ones included. A step is a number: its time in milliseconds, whence, whither.
    steps: BTreeMap<u64, u32>,
    /// How many keys come to their expiry in this hour since 1970.
    expiries: BTreeMap<u64, u32>,
}

/// What a ledger begins with: keys in any order.
pub(super) struct Census {
    pepper: PepperId,
    at: Instant,
    places: [u64; PLACES],
    steps: Vec<u64>,
}

/// The states, then a secret that needs another pepper, and one that does so no more.
const PLACES: usize = State::ALL.len() + 2;
const NEEDS_PEPPER: usize = State::ALL.len();
const NEEDS_IT_NO_MORE: usize = State::ALL.len() + 1;
/// Bits of a place in a step. Above both stand the 48 bits of its time, which the limits of instants keep within.
const PLACE_BITS: u32 = 4;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const HOUR_MS: u64 = 3_600_000;

impl Census {
    /// Of about so many steps, or fewer: address space, of which the kernel gives what is written to.
    pub(super) fn new(pepper: PepperId, at: Instant, about: usize) -> Census {
        Census { pepper, at, places: [0; PLACES], steps: Vec::with_capacity(about) }
    }

    pub(super) fn add(&mut self, key: &Key) {
        let (places, steps) = (&mut self.places, &mut self.steps);
        course(key, self.pepper, self.at, |place| places[place] += 1, |step| steps.push(step));
    }

    pub(super) fn join(&mut self, other: Census) {
        self.places.iter_mut().zip(other.places).for_each(|(place, more)| *place += more);
        self.steps.extend(other.steps);
    }
}

impl From<Census> for Ledger {
    fn from(census: Census) -> Ledger {
        let Census { pepper, at, places, mut steps } = census;
        // Sorted first: a tree that is made of what is sorted is made at once, and has no gaps.
        steps.sort_unstable();
        let counted = |chunk: &[u64]| (chunk[0], chunk.len() as u32);
        let mut expiries = BTreeMap::new();
        steps.iter().filter(|step| is_expiry(**step)).for_each(|step| *expiries.entry(hour(time(*step))).or_default() += 1);
        let steps = steps.chunk_by(PartialEq::eq).map(counted).collect();
        Ledger { pepper, at, places, steps, expiries }
    }
}

impl Ledger {
    /// A key has changed, or is new.
    pub(super) fn replace(&mut self, before: Option<&Key>, after: &Key) {
        if let Some(before) = before {
            let (places, steps, expiries) = (&mut self.places, &mut self.steps, &mut self.expiries);
            course(
                before,
                self.pepper,
                self.at,
                |place| places[place] -= 1,
                |step| {
                    less(steps, step);
                    if is_expiry(step) {
                        less(expiries, hour(time(step)));
                    }
                },
            );
        }
        let (places, steps, expiries) = (&mut self.places, &mut self.steps, &mut self.expiries);
        course(
            after,
            self.pepper,
            self.at,
            |place| places[place] += 1,
            |step| {
                *steps.entry(step).or_default() += 1;
                if is_expiry(step) {
                    *expiries.entry(hour(time(step))).or_default() += 1;
                }
            },
        );
    }

    /// Where everything stands at `now`. Costs what has stepped since it was asked last, and some hundred additions.
    pub(super) fn standings(&mut self, now: Instant, within: &[Span]) -> Standings {
        self.go_to(now);
        let mut keys = [0; State::ALL.len()];
        keys.copy_from_slice(&self.places[..State::ALL.len()]);
        let after = milliseconds(now) + 1;
        let hours = self.expiries.range(hour(after)..).map(|(hour, _)| *hour);
        let next_expiry = hours.take(2).find_map(|hour| self.expiries_in(after.max(hour * HOUR_MS), (hour + 1) * HOUR_MS).next());
        Standings {
            keys,
            next_expiry: next_expiry.map(|(at, _)| Instant(at as i64)),
            expiring: within.iter().map(|span| self.count_expiries(after, milliseconds(now.plus(*span)) + 1)).collect(),
            other_pepper: self.places[NEEDS_PEPPER],
        }
    }

    fn go_to(&mut self, now: Instant) {
        let (from, to) = (self.at.min(now), self.at.max(now));
        for (step, count) in self.steps.range(first_at(milliseconds(from) + 1)..first_at(milliseconds(to) + 1)) {
            let (whence, whither) = ((step >> PLACE_BITS & PLACE_MASK) as usize, (step & PLACE_MASK) as usize);
            let (leave, enter) = if now > self.at { (whence, whither) } else { (whither, whence) };
            // Wrapping, because on the way back a key's steps are undone in their order, and a place may be short of it in between.
            self.places[leave] = self.places[leave].wrapping_sub(u64::from(*count));
            self.places[enter] = self.places[enter].wrapping_add(u64::from(*count));
        }
        self.at = now;
    }

    /// Expiries from a time on and before another: whole hours by their sums, what is left one by one.
    fn count_expiries(&self, from: u64, before: u64) -> u64 {
        let (first, last) = (from.div_ceil(HOUR_MS), hour(before));
        let one_by_one = |from, before| self.expiries_in(from, before).map(|(_, count)| u64::from(count)).sum::<u64>();
        if first > last {
            return one_by_one(from, before);
        }
        let whole: u64 = self.expiries.range(first..last).map(|(_, count)| u64::from(*count)).sum();
        one_by_one(from, first * HOUR_MS) + whole + one_by_one(last * HOUR_MS, before)
    }

    fn expiries_in(&self, from: u64, before: u64) -> impl Iterator<Item = (u64, u32)> {
        let steps = self.steps.range(first_at(from)..first_at(before.max(from)));
        steps.filter(|(step, _)| is_expiry(**step)).map(|(step, count)| (time(*step), *count))
    }
}

/// Where a key and its secrets stand at a moment, and each step that they take before or after.
fn course(key: &Key, pepper: PepperId, at: Instant, mut stand: impl FnMut(usize), mut step: impl FnMut(u64)) {
    stand(key.state(at) as usize);
    let good_until = if key.secrets.iter().any(|secret| secret.revoked_at.is_none() && secret.retires_at.is_none()) {
        None
    } else {
        key.secrets.iter().filter(|secret| secret.revoked_at.is_none()).filter_map(|secret| secret.retires_at).max()
    };
    let mut moments = [key.settings.not_before, key.settings.expires_at, good_until];
    moments.sort_unstable();
    let mut whence = key.state(Instant(-1));
    for moment in moments.into_iter().flatten() {
        let whither = key.state(moment);
        if whither != whence {
            step(step_at(moment, whence as usize, whither as usize));
        }
        whence = whither;
    }
    let needs_other = |secret: &&Secret| secret.pepper != pepper && secret.revoked_at.is_none();
    for secret in key.secrets.iter().filter(needs_other) {
        stand(if secret.is_good(at) { NEEDS_PEPPER } else { NEEDS_IT_NO_MORE });
        if let Some(retires_at) = secret.retires_at {
            step(step_at(retires_at, NEEDS_PEPPER, NEEDS_IT_NO_MORE));
        }
    }
}

fn step_at(moment: Instant, whence: usize, whither: usize) -> u64 {
    first_at(milliseconds(moment)) | (whence as u64) << PLACE_BITS | whither as u64
}

fn first_at(milliseconds: u64) -> u64 {
    milliseconds << (2 * PLACE_BITS)
}

fn time(step: u64) -> u64 {
    step >> (2 * PLACE_BITS)
}

fn hour(milliseconds: u64) -> u64 {
    milliseconds / HOUR_MS
}

fn milliseconds(moment: Instant) -> u64 {
    moment.0.max(0) as u64
}

fn is_expiry(step: u64) -> bool {
    step & PLACE_MASK == State::Expired as u64
}

fn less(counts: &mut BTreeMap<u64, u32>, of: u64) {
    if let Some(count) = counts.get_mut(&of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{KeyId, Settings};

    const HOUR: i64 = HOUR_MS as i64;
    const CURRENT: PepperId = PepperId([1; 8]);

    /// A key by a few small numbers, on both sides of a few hours.
    fn key(numbers: &[u8; 7]) -> Key {
        let moment = |n: u8| (n > 3).then(|| Instant(i64::from(n) * HOUR / 5 + i64::from(n % 3) - 1));
        let [not_before, expires, first_retires, second_retires, flags, peppers, _] = *numbers;
        let mut settings = Settings::new("a", "n");
        settings.expires_at = moment(expires);
        // No key is good from a moment on that is not before its expiry: settings are refused then.
        settings.not_before = moment(not_before).filter(|at| settings.expires_at.is_none_or(|expires_at| *at < expires_at));
        settings.enabled = flags % 4 != 0;
        let secret = |version: u16, retires_at, revoked: bool| Secret {
            version,
            digest: [0; 32],
            pepper: if peppers & version as u8 == 0 { CURRENT } else { PepperId([2; 8]) },
            created_at: Instant(0),
            retires_at,
            revoked_at: revoked.then_some(Instant(0)),
        };
        let secrets = vec![secret(1, moment(first_retires), flags & 16 != 0), secret(2, moment(second_retires), flags & 32 != 0)];
        let deleted_at = (flags > 230).then_some(Instant(0));
        Key { id: KeyId([1; 16]), settings, secrets, created_at: Instant(0), deleted_at, revision: 1 }
    }

    /// The same by a walk over all keys.
    fn walked(keys: &[Key], now: Instant, within: &[Span]) -> Standings {
        let mut standings = Standings::default();
        let will_expire = |key: &&Key| {
            let before = |at: Instant| key.state(Instant(at.0 - 1)) != State::Expired && key.state(at) == State::Expired;
            key.settings.expires_at.is_some_and(|at| at > now && before(at))
        };
        keys.iter().for_each(|key| standings.keys[key.state(now) as usize] += 1);
        let expiries: Vec<Instant> = keys.iter().filter(will_expire).filter_map(|key| key.settings.expires_at).collect();
        standings.next_expiry = expiries.iter().min().copied();
        standings.expiring = within.iter().map(|span| expiries.iter().filter(|at| **at <= now.plus(*span)).count() as u64).collect();
        let secrets = keys.iter().flat_map(|key| &key.secrets);
        standings.other_pepper = secrets.filter(|secret| secret.pepper != CURRENT && secret.is_good(now)).count() as u64;
        standings
    }

    proptest! {
        /// Keys that were there, keys that came, keys that changed, and a time that goes forward and back: what a walk would find.
        #[test]
        fn it_says_what_a_walk_would_find(
            first in proptest::collection::vec(any::<[u8; 7]>(), 0..20),
            changes in proptest::collection::vec((any::<usize>(), any::<[u8; 7]>(), 0..60i64), 0..30),
        ) {
            let mut keys: Vec<Key> = first.iter().map(key).collect();
            let within = [Span(1), Span(HOUR), Span(HOUR * 5 + 7), Span(HOUR * 30)];
            let mut census = Census::new(CURRENT, Instant(HOUR), 0);
            let mut other_half = Census::new(CURRENT, Instant(HOUR), 0);
            let (some, others) = keys.split_at(keys.len() / 2);
            some.iter().for_each(|key| census.add(key));
            others.iter().for_each(|key| other_half.add(key));
            census.join(other_half);
            let mut ledger = Ledger::from(census);
            prop_assert_eq!(ledger.standings(Instant(HOUR), &within), walked(&keys, Instant(HOUR), &within));
            for (which, numbers, fifths) in changes {
                let after = key(&numbers);
                match keys.get_mut(which % 25) {
                    Some(before) => {
                        ledger.replace(Some(before), &after);
                        *before = after;
                    }
                    None => {
                        ledger.replace(None, &after);
                        keys.push(after);
                    }
                }
                let now = Instant(fifths * HOUR / 5 + fifths % 3 - 1);
                prop_assert_eq!(ledger.standings(now, &within), walked(&keys, now, &within));
            }
        }
    }
}
