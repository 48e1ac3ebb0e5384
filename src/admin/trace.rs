//! Questions about a token, a request or an address: whose, why, from where.

use std::net::IpAddr;

use axum::Json;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::ask::{Ask, find, segment};
use super::body;
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::view;
use super::wire::{CheckView, CountryView, ExplainBody, ExplainView, IdentifyBody, IdentifyView};
use crate::key::{CountryOf, FunctionName, Instant, Key, Settings, Standing, Token, TokenError, Verdict, canonical, reads_as_token, shown};
use crate::policy::{self, Circumstances, Subject};
use crate::verify::Door;

/// The `{address}` of a path, canonical.
pub(super) struct AddressPath(IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for AddressPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<AddressPath, Failure> {
        let text = segment(parts, state).await?;
        let short = shown(&text);
        let error = |_| Failure::invalid("address", format!("address: '{short}' is not an IPv4 or IPv6 address"));
        text.parse().map(|address| AddressPath(canonical(address))).map_err(error)
    }
}

/// What the country database says of an address.
#[utoipa::path(
    get, path = "/v1/country/{address}", operation_id = "get_country", tag = "checks",
    params(("address" = String, Path, description = "IPv4 or IPv6")),
    responses((status = 200, description = "The country, if the database places the address", body = CountryView), ReadProblems)
)]
pub(super) async fn country(ask: Ask, AddressPath(address): AddressPath) -> Json<CountryView> {
    let country = ask.shared.state.door.geo.country(address);
    Json(CountryView { address, country: country.known(), database: country != CountryOf::NoDatabase })
}

/// Whose token this is. Not counted as a use.
#[utoipa::path(
    post, path = "/v1/identify", operation_id = "identify_token", tag = "checks", request_body = IdentifyBody,
    responses((status = 200, description = "The key, if the token is one's, whatever its state", body = IdentifyView), ReadProblems)
)]
pub(super) async fn identify(ask: Ask, body: Body) -> Result<Json<IdentifyView>, Failure> {
    let IdentifyBody { token } = body::json(body).await?;
    let token = read_token(token)?;
    let found = {
        let door = &ask.shared.state.door;
        let pin = door.index.pin();
        door.find(token.expose(), &pin).map(|found| (found.id, found.version))
    };
    let now = ask.now();
    let key = match found {
        Some((id, _)) => ask.read(move |store| Ok(store.key(id)?)).await?,
        None => None,
    };
    Ok(Json(IdentifyView {
        reads_as_token: reads_as_token(token.expose()),
        version: found.map(|(_, version)| version),
        key: key.map(|key| view::key(&key, now)),
    }))
}

/// Every check that a request would meet with, and what it compares. Nothing is counted.
#[utoipa::path(
    post, path = "/v1/explain", operation_id = "explain_verdict", tag = "checks", request_body = ExplainBody,
    responses((status = 200, description = "The verdict and every check, in order", body = ExplainView), ReadProblems)
)]
pub(super) async fn explain(ask: Ask, body: Body) -> Result<Json<ExplainView>, Failure> {
    let ExplainBody { token, key, function, ip } = body::json(body).await?;
    let function: FunctionName = function.parse().map_err(|error| Failure::invalid("function", format!("{error}")))?;
    let address = ip.map(canonical);
    match (token, key) {
        (Some(token), None) => {
            let token = read_token(token)?;
            let found = {
                let door = &ask.shared.state.door;
                let pin = door.index.pin();
                door.find(token.expose(), &pin).map(|found| (found.id, found.version))
            };
            let mut checks = form_checks(reads_as_token(token.expose()), found.is_some());
            let Some((id, version)) = found else {
                let failed =
                    checks.iter().find(|check| !check.passes).map_or(Verdict::Unknown.as_str().to_owned(), |check| check.verdict.clone());
                let country = address.and_then(|address| ask.shared.state.door.geo.country(address).known());
                return Ok(Json(ExplainView { verdict: failed, checks, key_id: None, version: None, country }));
            };
            let key =
                ask.read(move |store| store.key(id)?.ok_or_else(|| Failure::new(Word::NotFound, format!("there is no key {id}")))).await?;
            let mut view = explain_key(&ask.shared.state.door, &key, version, &function, address, ask.now())?;
            checks.append(&mut view.checks);
            Ok(Json(ExplainView { checks, ..view }))
        }
        (None, Some(key)) => {
            let key = body::key_ref(&key);
            let key = ask.read(move |store| find(store, &key)).await?;
            let version = key.newest().map_or(0, |secret| secret.version);
            explain_key(&ask.shared.state.door, &key, version, &function, address, ask.now()).map(Json)
        }
        (None, None) => Err(Failure::invalid("token", "token: is missing; give a token, or a key whose newest secret is taken")),
        (Some(_), Some(_)) => Err(Failure::invalid("key", "key: excludes token; give one of the two")),
    }
}

fn read_token(text: String) -> Result<Token, Failure> {
    let token = Token::from_bytes(text.as_bytes());
    drop(zeroize::Zeroizing::new(text));
    token.map_err(|error| {
        let word = if matches!(error, TokenError::Limit(_)) { Word::Limit } else { Word::Invalid };
        Failure::new(word, error.to_string()).with_field("token")
    })
}

/// The two checks that come before there is a key. A token made elsewhere need not read as one of ours.
fn form_checks(reads: bool, known: bool) -> Vec<CheckView> {
    let form = match (reads, known) {
        (true, _) => "the text has a token's form and its check digits are right",
        (false, true) => "a key has this secret, which was made elsewhere and need not have a token's form",
        (false, false) => {
            "no key has this secret, and the text does not have a token's form or its check digits are wrong: a typo, perhaps"
        }
    };
    let secret = if known { "a key has this secret" } else { "no key has this secret" };
    vec![check(Verdict::Malformed, reads || known, form.to_owned()), check(Verdict::Unknown, known, secret.to_owned())]
}

fn check(verdict: Verdict, passes: bool, because: String) -> CheckView {
    CheckView { verdict: verdict.as_str().to_owned(), passes, because }
}

/// Explains a request with one secret of a key, from the rules that the index holds: those that a verify meets with.
fn explain_key(
    door: &Door,
    key: &Key,
    version: u16,
    function: &FunctionName,
    address: Option<IpAddr>,
    now: Instant,
) -> Result<ExplainView, Failure> {
    let secret = key.secrets.iter().find(|secret| secret.version == version);
    let pin = door.index.pin();
    let found = secret.and_then(|secret| door.index.find(&secret.digest, &pin));
    let (Some(secret), Some(found)) = (secret, found) else {
        return Err(Failure::new(Word::NotFound, format!("{} has no secret {version} in the index", key.id)));
    };
    let country = address.map_or(CountryOf::Unknown, |address| door.geo.country(address));
    let called = door.index.called(function.as_str(), &pin);
    let circumstances = Circumstances { now, address, country, called, strict: door.index.strict() };
    let subject = Subject { standing: found.standing, rules: found.rules };
    let facts = Facts { key, secret_version: version, standing: found.standing, revoked_at: secret.revoked_at, circumstances };
    let checks = policy::checks(&subject, &circumstances);
    let verdict = checks.iter().find(|(_, passes)| !passes).map_or(Verdict::Ok, |(verdict, _)| *verdict);
    Ok(ExplainView {
        verdict: verdict.as_str().to_owned(),
        checks: checks.into_iter().map(|(verdict, passes)| check(verdict, passes, facts.because(verdict, passes))).collect(),
        key_id: Some(key.id),
        version: Some(version),
        country: country.known(),
    })
}

/// What the sentences of an explanation are made of.
struct Facts<'a> {
    key: &'a Key,
    secret_version: u16,
    standing: Standing,
    revoked_at: Option<Instant>,
    circumstances: Circumstances<'a>,
}

impl Facts<'_> {
    /// What a check compared, in a sentence.
    fn because(&self, verdict: Verdict, passes: bool) -> String {
        let Circumstances { now, .. } = self.circumstances;
        let (standing, version) = (&self.standing, self.secret_version);
        match verdict {
            Verdict::Ok | Verdict::Malformed | Verdict::Unknown => String::new(),
            Verdict::Deleted => match self.key.deleted_at.filter(|_| standing.deleted) {
                Some(at) => format!("the key was deleted at {at}"),
                None => "the key is not deleted".to_owned(),
            },
            Verdict::Revoked => match self.revoked_at.filter(|_| standing.revoked) {
                Some(at) => format!("secret {version} was revoked at {at}"),
                None => format!("secret {version} is not revoked"),
            },
            Verdict::Retired => match standing.retires_at {
                Some(at) => format!("secret {version} was rotated and retires at {at}; it is {now}"),
                None => format!("secret {version} is not being replaced"),
            },
            Verdict::Disabled => format!("the key is switched {}", if standing.disabled { "off" } else { "on" }),
            Verdict::NotYetValid => match standing.not_before {
                Some(at) => format!("the key is good from {at} on; it is {now}"),
                None => "the key has no not_before".to_owned(),
            },
            Verdict::Expired => match standing.expires_at {
                Some(at) => format!("the key expires at {at}; it is {now}"),
                None => "the key does not expire".to_owned(),
            },
            Verdict::AddressMissing | Verdict::AddressDenied => self.because_of_address(verdict, passes),
            Verdict::CountryUnknown | Verdict::CountryDenied => self.because_of_country(verdict),
            Verdict::FunctionUnknown | Verdict::FunctionRestricted | Verdict::FunctionDenied => self.because_of_function(verdict, passes),
        }
    }

    fn because_of_address(&self, verdict: Verdict, passes: bool) -> String {
        let Settings { networks, countries, .. } = &self.key.settings;
        match (verdict, self.circumstances.address) {
            (Verdict::AddressMissing, Some(address)) => format!("the request names the address {address}"),
            (_, _) if networks.is_empty() && countries.is_empty() => "the key has neither networks nor countries".to_owned(),
            (Verdict::AddressMissing, None) => "the key has networks or countries, and the request names no address".to_owned(),
            (_, _) if networks.is_empty() => "the key has no networks: any address will do".to_owned(),
            (_, None) => "there is no address to compare".to_owned(),
            (_, Some(address)) => match networks.iter().find(|network| network.contains(address)) {
                Some(network) if passes => format!("{address} is in the key's network {network}"),
                _ => format!("{address} is in none of the key's {} networks", networks.len()),
            },
        }
    }

    fn because_of_country(&self, verdict: Verdict) -> String {
        let Settings { countries, unknown_country, .. } = &self.key.settings;
        let Circumstances { address, country, .. } = self.circumstances;
        if countries.is_empty() {
            return "the key has no countries: any will do".to_owned();
        }
        let Some(address) = address else { return "there is no address to place".to_owned() };
        let listed = countries.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match country {
            CountryOf::NoDatabase => "no country database is loaded, and the key has countries".to_owned(),
            CountryOf::Unknown if verdict == Verdict::CountryUnknown => {
                let says = if *unknown_country == crate::key::UnknownCountry::Allow { "allow" } else { "deny" };
                format!("the country database does not place {address}, and the key's unknown_country says '{says}'")
            }
            CountryOf::Unknown => "there is no country to compare".to_owned(),
            CountryOf::In(country) if verdict == Verdict::CountryUnknown => format!("the country database places {address} in {country}"),
            CountryOf::In(country) => format!("{address} is in {country}; the key's countries are {listed}"),
        }
    }

    fn because_of_function(&self, verdict: Verdict, passes: bool) -> String {
        let Circumstances { called, strict, .. } = self.circumstances;
        let grants = &self.key.settings.grants;
        let name = called.name;
        let covering = grants.iter().find(|grant| match grant {
            crate::key::Grant::Exact(exact) => exact.as_str() == name,
            crate::key::Grant::Prefix(prefix) => name.starts_with(prefix.as_str()),
        });
        let mode = if strict { "strict mode is on" } else { "strict mode is off" };
        match (verdict, passes) {
            (Verdict::FunctionUnknown, true) if called.id.is_some() => format!("{name} is registered"),
            (Verdict::FunctionUnknown, true) => format!("{name} is not registered, but {mode} and a wildcard covers it"),
            (Verdict::FunctionUnknown, false) if strict => format!("{name} is not registered, and {mode}"),
            (Verdict::FunctionUnknown, false) => format!("{name} is not registered, and no wildcard of the key covers it"),
            (Verdict::FunctionRestricted, true) if called.restricted => {
                format!("{name} is restricted; no wildcard alone stands for it here")
            }
            (Verdict::FunctionRestricted, true) => format!("{name} is not restricted"),
            (Verdict::FunctionRestricted, false) => {
                format!("{name} is restricted: it must be granted by its exact name, and only a wildcard covers it")
            }
            (_, true) => match covering {
                Some(grant) => format!("the grant {grant} covers {name}"),
                None => format!("{name} is not registered, which the check before decides"),
            },
            (_, false) if grants.is_empty() => "the key has no grants at all".to_owned(),
            (_, false) => format!("none of the key's {} grants covers {name}", grants.len()),
        }
    }
}
