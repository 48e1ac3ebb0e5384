//! Least privilege: what of a key's rights was never used, and the edit that takes it away.
//!
//! Pure: a key and what is known of its usage are arguments. No advice takes away what was answered `ok` in that usage, and none
//! gives a right that the key does not have.

mod edit;
mod grants;
mod life;
mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::key::{Country, FunctionName, Instant, Key, Network, Span, State};

pub use edit::Edit;

/// From which age on something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A key that was not used for so long is idle; one that is known and good for so long and was never used, is told of as that.
    pub idle_after: Span,
    /// A secret of this age is old enough to rotate.
    pub rotate_after: Span,
    /// A key that expires within this span expires soon.
    pub expiring_within: Span,
}

impl Default for Limits {
    fn default() -> Limits {
        const DAY_MS: i64 = 86_400_000;
        Limits { idle_after: Span(30 * DAY_MS), rotate_after: Span(365 * DAY_MS), expiring_within: Span(30 * DAY_MS) }
    }
}

/// What surrounds every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// The present moment.
    pub now: Instant,
    /// Whether a country database is loaded. Without one, a key with countries is refused everywhere.
    pub places: bool,
    /// From which age on something is told.
    pub limits: Limits,
}

/// A function that was called and answered with `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// How often.
    pub count: u64,
    /// Whether it is restricted now.
    pub restricted: bool,
}

/// What is known of one key's usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// From when usage is known.
    pub since: Instant,
    /// Registered functions that were answered with `ok`, by name.
    pub functions: BTreeMap<FunctionName, Called>,
    /// Verifies answered with `ok` whose function has no name by now: not registered, removed, or folded into `(other)`.
    pub unnamed: u64,
    /// Verifies with any verdict.
    pub verifies: u64,
    /// Verifies by country, whatever their verdict; none for those without an address, and for addresses that were not placed.
    pub countries: BTreeMap<Option<Country>, u64>,
    /// Networks that the key was used from, whatever the verdict, with the last use.
    pub networks: Vec<(Network, Instant)>,
    /// Whether all are remembered from which it was used since then and since its networks were changed.
    pub networks_whole: bool,
    /// The last use of each secret, by version.
    pub last_uses: BTreeMap<u16, Instant>,
    /// Verifies with secrets that have retired or are revoked, by version.
    pub refused: BTreeMap<u16, u64>,
    /// When the key's grants became what they are.
    pub grants_since: Instant,
    /// When its networks did.
    pub networks_since: Instant,
    /// When its countries did.
    pub countries_since: Instant,
}

/// What kind of advice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A secret that has retired or is revoked is still presented.
    RefusedSecret,
    /// The key expires soon.
    Expiring,
    /// A grant that was never called.
    UnusedGrant,
    /// A wildcard that exact names could replace.
    WideGrant,
    /// A network that the key was never used from.
    UnusedNetwork,
    /// A network of which only small parts were used.
    WideNetwork,
    /// A country that the key was never used from.
    UnusedCountry,
    /// The key may be used from any network.
    AnyNetwork,
    /// The key may be used from any country.
    AnyCountry,
    /// The key was never used, though it could be for as long as makes another idle.
    NeverUsed,
    /// The key was not used for long.
    Idle,
    /// The current secret is old.
    OldSecret,
    /// The key never expires.
    NoExpiry,
}

impl Kind {
    /// Every kind, the most pressing first.
    pub const ALL: [Kind; 13] = [
        Kind::RefusedSecret,
        Kind::Expiring,
        Kind::UnusedGrant,
        Kind::WideGrant,
        Kind::UnusedNetwork,
        Kind::WideNetwork,
        Kind::UnusedCountry,
        Kind::AnyNetwork,
        Kind::AnyCountry,
        Kind::NeverUsed,
        Kind::Idle,
        Kind::OldSecret,
        Kind::NoExpiry,
    ];

    /// The word that every interface writes.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::RefusedSecret => "refused_secret",
            Kind::Expiring => "expiring",
            Kind::UnusedGrant => "unused_grant",
            Kind::WideGrant => "wide_grant",
            Kind::UnusedNetwork => "unused_network",
            Kind::WideNetwork => "wide_network",
            Kind::UnusedCountry => "unused_country",
            Kind::AnyNetwork => "any_network",
            Kind::AnyCountry => "any_country",
            Kind::NeverUsed => "never_used",
            Kind::Idle => "idle",
            Kind::OldSecret => "old_secret",
            Kind::NoExpiry => "no_expiry",
        }
    }
}

/// One thing that could be tightened or wants a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What kind.
    pub kind: Kind,
    /// What was seen, in a sentence with its figures.
    pub evidence: String,
    /// From when on that was looked at.
    pub since: Instant,
    /// The change that tightens, if the usage alone says which.
    pub edit: Option<Edit>,
    /// The words of the command that acts on it.
    pub command: Vec<String>,
}

/// What could be tightened on a key, the most pressing first. Keys that are not good anyway (deleted, revoked, disabled, expired) get none.
pub fn advise(key: &Key, evidence: &Evidence, surroundings: &Surroundings) -> Vec<Advice> {
    if !matches!(key.state(surroundings.now), State::Active | State::NotYetValid) {
        return Vec::new();
    }
    let mut found = Vec::new();
    life::look(key, evidence, surroundings, &mut found);
    // Of a key that was never used nothing can be told from its usage; whether it is needed at all is the question.
    if evidence.verifies > 0 {
        grants::look(key, evidence, surroundings, &mut found);
        places::look(key, evidence, surroundings, &mut found);
    }
    found.sort_by_key(|advice| advice.kind);
    found
}

impl Advice {
    /// Advice to edit.
    fn edit(kind: Kind, key: &Key, since: Instant, evidence: String, edit: Edit) -> Advice {
        let mut command = words(&["doorward", "edit", &key.argument()]);
        command.extend(edit.flags());
        Advice { kind, evidence, since, edit: Some(edit), command }
    }

    /// An edit that rests on too little to be made without a person who knows the callers.
    fn suggestion(kind: Kind, key: &Key, since: Instant, evidence: String, edit: Edit) -> Advice {
        Advice { edit: None, ..Advice::edit(kind, key, since, evidence, edit) }
    }

    /// Advice that a person has to decide on.
    fn command(kind: Kind, key: &Key, since: Instant, evidence: String, verb: &str, flags: &[&str]) -> Advice {
        let mut command = words(&["doorward", verb, &key.argument()]);
        command.extend(words(flags));
        Advice { kind, evidence, since, edit: None, command }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A count of a noun: `1 call`, `12 calls`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How long, in the largest unit of which there are two: `12 days`, `3 hours`, `50 seconds`.
fn long(span: Span) -> String {
    let seconds = span.0.max(0) as u64 / 1_000;
    match seconds {
        0..120 => counted(seconds, "second"),
        120..7_200 => counted(seconds / 60, "minute"),
        7_200..172_800 => counted(seconds / 3_600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}
