//! THE hot path: digest, find, decide, count, answer. It waits for no lock and no disk, and allocates nothing.

use std::sync::Arc;

use crate::digest::{Peppers, token_sha256};
use crate::geo::Geo;
use crate::index::{Found, Index, Pin};
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
    /// The country database.
    pub geo: Arc<Geo>,
    /// The counters.
    pub usage: Arc<Usage>,
}

impl Door {
    /// Answers one request. `lane` spreads the counting of different connections.
    pub fn verify<'p>(&self, request: &Verify<'_>, now: Instant, lane: usize, pin: &'p Pin) -> Response<'p> {
        let found = self.find(request.token, pin);
        let address = request.address.ip();
        let country = address.map_or(CountryOf::Unknown, |address| self.geo.country(address));
        let called = self.index.called(request.function, pin);
        let verdict = match &found {
            Some(Found { standing, rules, .. }) => {
                let circumstances = Circumstances { now, address, country, called, strict: self.index.strict() };
                policy::decide(&Subject { standing: *standing, rules }, &circumstances)
            }
            None if reads_as_token(request.token) => Verdict::Unknown,
            None => Verdict::Malformed,
        };
        let event = Event {
            key: found.map_or(KeyId::NONE, |found| found.id),
            version: found.map_or(0, |found| found.version),
            function: called.id.unwrap_or(FunctionId::UNREGISTERED),
            verdict,
            country: country.known(),
            address,
            at: now,
            function_name: request.function,
        };
        self.usage.count(lane, &event);
        found.map_or_else(|| Response::of_nobody(verdict), |found| answer(verdict, &found, now))
    }

    /// Whose token this is. A token under the previous pepper is found too, until no secret needs that pepper.
    pub fn find<'p>(&self, token: &[u8], pin: &'p Pin) -> Option<Found<'p>> {
        let sha256 = token_sha256(token);
        let current = self.index.find(&self.peppers.current.digest(&sha256), pin);
        current.or_else(|| self.index.find(&self.peppers.previous.as_ref()?.digest(&sha256), pin))
    }
}

fn answer<'p>(verdict: Verdict, found: &Found<'p>, now: Instant) -> Response<'p> {
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
