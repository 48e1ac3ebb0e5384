//! The verdict: one pure function of a key's standing, its rules, and the circumstances of a request.
//!
//! Time, country and address are arguments. The checks run in the order of [`Verdict`], and the first that fails names the verdict.

use std::net::IpAddr;

use crate::key::{Called, CountryOf, Instant, Rules, Sections, Standing, UnknownCountry, Verdict};

/// Who asks: where the secret and its key stand, and what the key allows.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Where the secret and its key stand.
    pub standing: Standing,
    /// What the key allows.
    pub rules: &'a Rules,
}

/// What is asked, from where and when.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The present moment.
    pub now: Instant,
    /// The caller's canonical address, if the request names one.
    pub address: Option<IpAddr>,
    /// Where that address is; of no matter without one.
    pub country: CountryOf,
    /// The function.
    pub called: Called<'a>,
    /// Whether a function that is not registered is denied even to a wildcard.
    pub strict: bool,
}

/// The checks in their order, by the verdict that each gives when it fails. (`malformed` and `unknown` are decided before there is a subject.)
pub const CHECKS: [Verdict; 13] = *Verdict::ALL.last_chunk().unwrap();

/// The verdict: the first check that fails, or `ok`.
#[inline]
pub fn decide(subject: &Subject<'_>, circumstances: &Circumstances<'_>) -> Verdict {
    let (standing, rules) = (&subject.standing, &subject.rules.sections());
    // Each check by a constant number, so that the compiler makes straight code of them: a loop costs a mispredicted jump for each.
    macro_rules! first_failing {
        ($($number:literal)*) => { $(if fails(CHECKS[$number], standing, rules, circumstances) { return CHECKS[$number]; })* };
    }
    first_failing!(0 1 2 3 4 5 6 7 8 9 10 11 12);
    Verdict::Ok
}

const _: () = assert!(CHECKS.len() == 13);

/// Every check with whether it passes, for `explain`.
pub fn checks(subject: &Subject<'_>, circumstances: &Circumstances<'_>) -> [(Verdict, bool); 13] {
    let (standing, rules) = (&subject.standing, &subject.rules.sections());
    CHECKS.map(|check| (check, !fails(check, standing, rules, circumstances)))
}

/// Whether one check fails, looked at alone.
#[inline(always)]
fn fails(check: Verdict, standing: &Standing, rules: &Sections<'_>, circumstances: &Circumstances<'_>) -> bool {
    let Circumstances { now, address, country, called, strict } = circumstances;
    match check {
        Verdict::Ok | Verdict::Malformed | Verdict::Unknown => false,
        Verdict::Deleted => standing.deleted,
        Verdict::Revoked => standing.revoked,
        Verdict::Retired => standing.retires_at.is_some_and(|retires_at| *now >= retires_at),
        Verdict::Disabled => standing.disabled,
        Verdict::NotYetValid => standing.not_before.is_some_and(|not_before| *now < not_before),
        Verdict::Expired => standing.expires_at.is_some_and(|expires_at| *now >= expires_at),
        Verdict::AddressMissing => address.is_none() && (rules.has_networks() || rules.has_countries()),
        Verdict::AddressDenied => rules.has_networks() && address.is_some_and(|address| !rules.covers_address(address)),
        Verdict::CountryUnknown => address.is_some() && rules.has_countries() && country_unknown(rules, *country),
        Verdict::CountryDenied => match country {
            CountryOf::In(country) => address.is_some() && rules.has_countries() && !rules.covers_country(*country),
            CountryOf::Unknown | CountryOf::NoDatabase => false,
        },
        Verdict::FunctionUnknown => called.id.is_none() && (*strict || !rules.grants_by_prefix(called.name)),
        Verdict::FunctionRestricted => called.restricted && !granted_by_name(rules, called) && rules.grants_by_prefix(called.name),
        Verdict::FunctionDenied => {
            called.id.is_some() && !granted_by_name(rules, called) && (called.restricted || !rules.grants_by_prefix(called.name))
        }
    }
}

/// Without a database every key with countries is refused: an operator who lost the file must not open the door.
fn country_unknown(rules: &Sections<'_>, country: CountryOf) -> bool {
    match country {
        CountryOf::NoDatabase => true,
        CountryOf::Unknown => rules.unknown_country() == UnknownCountry::Deny,
        CountryOf::In(_) => false,
    }
}

fn granted_by_name(rules: &Sections<'_>, called: &Called<'_>) -> bool {
    called.id.is_some_and(|id| rules.grants_exactly(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Country, FunctionId};

    const INSERT: FunctionId = FunctionId(2);

    fn rules(
        exact: &[FunctionId],
        prefixes: &[&str],
        networks: &[&str],
        countries: &[&str],
        unknown_country: UnknownCountry,
    ) -> Box<Rules> {
        let networks: Vec<_> = networks.iter().map(|n| n.parse().unwrap()).collect();
        let countries = countries.iter().map(|c| c.parse().unwrap()).collect();
        Rules::compile(exact.to_vec(), prefixes.to_vec(), &networks, countries, unknown_country)
    }

    fn calling(name: &str, id: Option<FunctionId>, restricted: bool) -> Circumstances<'_> {
        let called = Called { name, id, restricted };
        Circumstances { now: Instant(1_000), address: None, country: CountryOf::Unknown, called, strict: true }
    }

    #[test]
    fn the_first_failing_check_names_the_verdict() {
        let everything_wrong = Standing {
            deleted: true,
            revoked: true,
            disabled: true,
            not_before: Some(Instant(2_000)),
            expires_at: Some(Instant(1_000)),
            retires_at: Some(Instant(1_000)),
        };
        let rules = rules(&[], &[], &["10.0.0.0/8"], &["DE"], UnknownCountry::Deny);
        let asked = calling("leads.insert", None, false);
        let mut standing = everything_wrong;
        let mut seen = vec![];
        for mend in [
            (|s: &mut Standing| s.deleted = false) as fn(&mut Standing),
            |s| s.revoked = false,
            |s| s.retires_at = Some(Instant(1_001)),
            |s| s.disabled = false,
            |s| s.not_before = Some(Instant(1_000)),
            |s| s.expires_at = Some(Instant(1_001)),
        ] {
            seen.push(decide(&Subject { standing, rules: &rules }, &asked));
            mend(&mut standing);
        }
        let subject = Subject { standing, rules: &rules };
        seen.push(decide(&subject, &asked));
        let from = |address: &str, country| Circumstances { address: Some(address.parse().unwrap()), country, ..asked };
        seen.push(decide(&subject, &from("11.0.0.1", CountryOf::Unknown)));
        seen.push(decide(&subject, &from("10.0.0.1", CountryOf::Unknown)));
        seen.push(decide(&subject, &from("10.0.0.1", CountryOf::In(Country(*b"FR")))));
        seen.push(decide(&subject, &from("10.0.0.1", CountryOf::In(Country(*b"DE")))));
        assert_eq!(seen, CHECKS[..11]);
    }

    #[test]
    fn grants_cover_what_they_say() {
        let wildcard = rules(&[], &["leads."], &[], &[], UnknownCountry::Deny);
        let by_name = rules(&[INSERT], &[], &[], &[], UnknownCountry::Deny);
        let all = rules(&[], &[""], &[], &[], UnknownCountry::Deny);
        let verdict = |rules: &Rules, asked: Circumstances<'_>| decide(&Subject { standing: Standing::default(), rules }, &asked);
        let registered = calling("leads.insert", Some(INSERT), false);
        let restricted = calling("leads.insert", Some(INSERT), true);
        let unregistered = calling("leads.other", None, false);
        let lenient = Circumstances { strict: false, ..unregistered };
        assert_eq!(verdict(&wildcard, registered), Verdict::Ok);
        assert_eq!(verdict(&by_name, registered), Verdict::Ok);
        assert_eq!(verdict(&by_name, restricted), Verdict::Ok);
        assert_eq!(verdict(&wildcard, restricted), Verdict::FunctionRestricted);
        assert_eq!(verdict(&all, restricted), Verdict::FunctionRestricted);
        assert_eq!(verdict(&by_name, calling("leads.x", Some(FunctionId(3)), false)), Verdict::FunctionDenied);
        assert_eq!(verdict(&by_name, calling("leads.x", Some(FunctionId(3)), true)), Verdict::FunctionDenied);
        assert_eq!(verdict(&wildcard, calling("leads", Some(FunctionId(4)), false)), Verdict::FunctionDenied);
        assert_eq!(verdict(&wildcard, unregistered), Verdict::FunctionUnknown);
        assert_eq!(verdict(&wildcard, lenient), Verdict::Ok);
        assert_eq!(verdict(&by_name, lenient), Verdict::FunctionUnknown);
    }

    #[test]
    fn without_a_database_no_key_with_countries_passes() {
        let rules = rules(&[INSERT], &[], &[], &["DE"], UnknownCountry::Allow);
        let subject = Subject { standing: Standing::default(), rules: &rules };
        let asked = calling("leads.insert", Some(INSERT), false);
        let from = |country| Circumstances { address: Some("192.0.2.1".parse().unwrap()), country, ..asked };
        assert_eq!(decide(&subject, &from(CountryOf::NoDatabase)), Verdict::CountryUnknown);
        assert_eq!(decide(&subject, &from(CountryOf::Unknown)), Verdict::Ok);
        assert_eq!(decide(&subject, &asked), Verdict::AddressMissing);
    }
}
