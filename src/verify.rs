//! THE hot path: recognise, decide, count, answer. It waits for no lock and no disk, and allocates nothing.

use std::cell::Cell;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::digest::{Peppers, Recogniser, token_sha256};
use crate::geo::Geo;
use crate::index::{Found, Index, Pin, Tag};
use crate::key::{CountryOf, FunctionId, Instant, KeyId, Verdict, reads_as_token};
use crate::policy::{self, Circumstances, Subject};
use crate::protocol::{Response, Verify};
use crate::usage::{Event, Usage};

/// All that a verify request needs: keys, peppers, countries, counters.
pub struct Door {
    /// The keys.
    pub index: Arc<Index>,
    /// The current pepper, and the previous one while a secret needs it.
    pub peppers: Peppers,
    /// Recognises tokens that were verified before.
    pub recogniser: Recogniser,
    /// The country database.
    pub geo: Arc<Geo>,
    /// The counters.
    pub usage: Arc<Usage>,
}

/// Requests of which the memory is asked for together, so that they wait for it once and not one by one: as many as are under way before the
/// first has arrived, and no more than the first-level cache holds.
pub const ROUND: usize = 64;

/// An HMAC-SHA-256.
type Digest = [u8; 32];

thread_local! {
    /// Of this thread's last requests. Most are of strangers when there are many more tokens than places to note them in.
    static STRANGERS: Cell<Share> = const { Cell::new(Share { of: 0, strangers: 0 }) };
}

/// How many of the last requests were of tokens that were not recognised.
#[derive(Clone, Copy)]
struct Share {
    of: u32,
    strangers: u32,
}

impl Share {
    /// Beyond so many requests those before count half, and so on.
    const MEMORY: u32 = 256;

    fn is_most(self) -> bool {
        self.strangers * 2 > self.of
    }

    fn with(self, requests: usize, strangers: usize) -> Share {
        let half = u32::from(self.of >= Share::MEMORY);
        Share { of: (self.of >> half) + requests as u32, strangers: (self.strangers >> half) + strangers as u32 }
    }
}

impl Door {
    /// Answers requests in their order. `now` is asked for the present moment once for each round, while memory is on the way. `lane` spreads the counting of
    /// different connections.
    pub fn verify(&self, requests: &[Verify<'_>], now: &dyn Fn() -> Instant, lane: usize, mut answer: impl FnMut(&Response<'_>)) {
        for round in requests.chunks(ROUND) {
            let pin = self.index.pin();
            // Tags first: memory that is asked for in one go is on the way together, also where the processor has to find its page before it goes on.
            let mut tags = ArrayVec::<Tag, ROUND>::new();
            tags.extend(round.iter().map(|request| self.recogniser.tag(request.token)));
            tags.iter().for_each(|&tag| self.index.expect(tag, &pin));
            // One alone would only wait for its home, for which there is other work to do below.
            if round.len() > 1 {
                tags.iter().for_each(|&tag| self.index.expect_beyond(tag, &pin));
            }
            // What does not need the secrets comes first, while their memory is on the way.
            let mut digests = ArrayVec::<Digest, ROUND>::new();
            let share = STRANGERS.get();
            if share.is_most() {
                self.look_ahead(round, &mut digests, &pin);
            }
            let (now, mut strangers) = (now(), 0);
            let mut counting = self.usage.hold(lane);
            for (at, (request, &tag)) in round.iter().zip(&tags).enumerate() {
                let circumstances = self.circumstances(request, now, &pin);
                let recognised = self.index.recognise(tag, &pin);
                let found = match &recognised {
                    Some(recognised) => Some(recognised.found()),
                    None => {
                        strangers += 1;
                        self.first_sight(request.token, digests.get(at), tag, &pin)
                    }
                };
                let verdict = match &found {
                    Some(found) => policy::decide(&Subject { standing: found.standing, rules: found.rules }, &circumstances),
                    None if reads_as_token(request.token) => Verdict::Unknown,
                    None => Verdict::Malformed,
                };
                counting.count(&event(verdict, found.as_ref(), &circumstances));
                answer(&found.map_or_else(|| Response::of_nobody(verdict), |found| response(verdict, &found, now)));
            }
            STRANGERS.set(share.with(round.len(), strangers));
        }
    }

    /// Whose token this is. A token under the previous pepper is found too, until no secret needs that pepper.
    pub fn find<'p>(&self, token: &[u8], pin: &'p Pin) -> Option<Found<'p>> {
        let sha256 = token_sha256(token);
        let current = self.index.find(&self.peppers.current.digest(&sha256), pin);
        current.or_else(|| self.index.find(&self.peppers.previous.as_ref()?.digest(&sha256), pin))
    }

    /// As [`Door::find`], and from now on the token is recognised by its tag; but not one under the previous pepper, since a secret under the
    /// current one, which may be published later, comes before it.
    #[cold]
    fn first_sight<'p>(&self, token: &[u8], digest: Option<&Digest>, tag: Tag, pin: &'p Pin) -> Option<Found<'p>> {
        let digest = digest.map_or_else(|| self.peppers.current.digest(&token_sha256(token)), Digest::clone);
        if let Some(found) = self.index.find(&digest, pin) {
            self.index.note(tag, &digest, pin);
            return Some(found);
        }
        self.index.find(&self.peppers.previous.as_ref()?.digest(&token_sha256(token)), pin)
    }

    /// Makes the digests of a round's tokens while the memory of their tags is on the way, and has that of their secrets come at the same time.
    #[cold]
    fn look_ahead(&self, round: &[Verify<'_>], digests: &mut ArrayVec<Digest, ROUND>, pin: &Pin) {
        digests.extend(round.iter().map(|request| self.peppers.current.digest(&token_sha256(request.token))));
        digests.iter().for_each(|digest| self.index.expect_digest(digest, pin));
        digests.iter().for_each(|digest| self.index.expect_secret(digest, pin));
    }

    #[inline]
    fn circumstances<'r>(&self, request: &Verify<'r>, now: Instant, pin: &Pin) -> Circumstances<'r> {
        let address = request.address.ip();
        let country = address.map_or(CountryOf::Unknown, |address| self.geo.country_under(address, pin.guard()));
        Circumstances { now, address, country, called: self.index.called(request.function, pin), strict: self.index.strict() }
    }
}

#[inline(always)]
fn event<'r>(verdict: Verdict, found: Option<&Found<'_>>, circumstances: &Circumstances<'r>) -> Event<'r> {
    let Circumstances { now, address, country, called, .. } = *circumstances;
    Event {
        key: found.map_or(KeyId::NONE, |found| found.id),
        version: found.map_or(0, |found| found.version),
        function: called.id.unwrap_or(FunctionId::UNREGISTERED),
        verdict,
        country: country.known(),
        address,
        at: now,
        function_name: called.name,
    }
}

#[inline(always)]
fn response<'p>(verdict: Verdict, found: &Found<'p>, now: Instant) -> Response<'p> {
    let milliseconds = |instant: Option<Instant>| instant.map_or(0, |instant| instant.0).to_le_bytes();
    let retiring = !found.standing.revoked && found.standing.retires_at.is_some_and(|retires_at| now < retires_at);
    Response {
        verdict: verdict as u8,
        flags: Response::KNOWN | if retiring { Response::RETIRING } else { 0 },
        version: found.version.to_le_bytes(),
        key_id: found.id.0,
        expires_at: milliseconds(found.standing.expires_at),
        retires_at: milliseconds(found.standing.retires_at),
        account: found.account,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Pepper;
    use crate::key::{Function, Key, PepperId, Secret, Settings};
    use crate::protocol::{Address, encode_body};

    const KEYS: u8 = 40;

    /// A door with keys of many kinds under two peppers; the token of the key `n` is `[n; 30]`.
    fn door() -> Door {
        let peppers = Peppers { current: Pepper::from_bytes([1; 32]), previous: Some(Pepper::from_bytes([2; 32])) };
        let index = Index::new();
        let function = |(number, name): (u16, &str)| Function {
            id: FunctionId(FunctionId::FIRST.0 + number),
            name: name.parse().unwrap(),
            restricted: number == 1,
            created_at: Instant(1),
        };
        index.publish_functions(&[(0, "leads.insert"), (1, "leads.delete"), (2, "mail.send")].map(function));
        for number in 0..KEYS {
            let mut settings = Settings::new(&"a".repeat(1 + usize::from(number) * 2), "n");
            settings.grants = [["leads.*", "mail.send"], ["*", "leads.delete"]][usize::from(number % 2)].map(|g| g.parse().unwrap()).into();
            settings.networks = (0..number % 7).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
            settings.countries = if number % 3 == 0 { vec!["GB".parse().unwrap()] } else { vec![] };
            settings.expires_at = (number % 4 == 0).then_some(Instant(1_000));
            settings.enabled = number % 11 != 10;
            settings.normalize().unwrap();
            let pepper = if number % 5 == 0 { peppers.previous.as_ref().unwrap() } else { &peppers.current };
            let secret = Secret {
                version: 1,
                digest: pepper.digest_token(&[number; 30]),
                pepper: PepperId([0; 8]),
                created_at: Instant(1),
                retires_at: (number % 6 == 5).then_some(Instant(2_000)),
                revoked_at: (number % 13 == 12).then_some(Instant(1)),
            };
            let id = KeyId([number + 1; 16]);
            index.publish(&Key { id, settings, secrets: vec![secret], created_at: Instant(1), deleted_at: None, revision: 1 }).unwrap();
        }
        let geo = Geo::without_database();
        geo.load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb"))).unwrap();
        Door { index: Arc::new(index), peppers, recogniser: Recogniser::new(), geo: Arc::new(geo), usage: Arc::new(Usage::new()) }
    }

    fn answers(door: &Door, requests: &[Verify<'_>], now: Instant) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        door.verify(requests, &|| now, 0, |response| {
            let (mut body, mut by_bincode) = (Vec::new(), Vec::new());
            response.encode(&mut body);
            encode_body(&mut by_bincode, response);
            assert_eq!(body, by_bincode);
            answers.push(body);
        });
        answers
    }

    /// A token that is a secret of two keys, under either pepper: that under the current one comes first, however often the other was verified before.
    #[test]
    fn a_secret_under_the_current_pepper_comes_before_one_under_the_previous() {
        let door = door();
        let request = [Verify { token: &[5; 30], function: "mail.send", address: Address::None }];
        let key_of = |answers: Vec<Vec<u8>>| answers[0][4..20].to_vec();
        for _ in 0..3 {
            assert_eq!(key_of(answers(&door, &request, Instant(5))), [6; 16]);
        }
        let secret = Secret {
            version: 1,
            digest: door.peppers.current.digest_token(&[5; 30]),
            pepper: PepperId([0; 8]),
            created_at: Instant(1),
            retires_at: None,
            revoked_at: None,
        };
        let settings = Settings::new("other", "n");
        let other = Key { id: KeyId([200; 16]), settings, secrets: vec![secret], created_at: Instant(1), deleted_at: None, revision: 1 };
        door.index.publish(&other).unwrap();
        assert_eq!(key_of(answers(&door, &request, Instant(5))), [200; 16]);
    }

    proptest! {
        /// Alone or with others, at first sight or recognised: the same answers, and the same counts.
        #[test]
        fn requests_together_get_the_answers_that_each_gets_alone(
            asked in proptest::collection::vec((0..KEYS + 3, 0..4usize, any::<Option<[u8; 2]>>(), any::<bool>()), 1..200),
            now in 0..3_000i64,
        ) {
            let tokens: Vec<[u8; 30]> = asked.iter().map(|(number, ..)| [*number; 30]).collect();
            let requests: Vec<Verify<'_>> = asked.iter().zip(&tokens).map(|((_, function, address, british), token)| Verify {
                token,
                function: ["leads.insert", "leads.delete", "mail.send", "none.such"][*function],
                address: address.map_or(Address::None, |[a, b]| Address::V4(if *british { [2, 125, 160, b] } else { [10, a % 8, b, 1] })),
            }).collect();
            let (alone, together) = (door(), door());
            let now = Instant(now);
            let first: Vec<_> = requests.iter().flat_map(|request| answers(&alone, &[*request], now)).collect();
            let again: Vec<_> = requests.iter().flat_map(|request| answers(&alone, &[*request], now)).collect();
            prop_assert_eq!(&first, &again);
            prop_assert_eq!(&first, &answers(&together, &requests, now));
            prop_assert_eq!(&first, &answers(&together, &requests, now));
            prop_assert_eq!(first.len(), requests.len());
            prop_assert_eq!(alone.usage.totals(), together.usage.totals());
        }
    }
}
