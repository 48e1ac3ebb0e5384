use super::{Advice, Called, Edit, Evidence, Kind, Surroundings, counted, long};
use crate::key::{FunctionName, Grant, Key, limits};

/// Exact names that are suggested for one wildcard: more say less than the wildcard does.
const NAMES: usize = 20;
/// Names that are shown in a sentence.
const SHOWN: usize = 3;

/// Grants that were never called, and wildcards that exact names could replace.
pub(super) fn look(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    let grants = &key.settings.grants;
    let since = evidence.since.max(evidence.grants_since);
    // Calls whose function has no name may have needed any wildcard, and where they were folded any grant.
    let named = evidence.unnamed == 0;
    if !named || evidence.functions.is_empty() {
        return;
    }
    let granted_by_name = |name: &FunctionName| grants.iter().any(|grant| matches!(grant, Grant::Exact(exact) if exact == name));
    let mut unused = Vec::new();
    let mut left = grants.len();
    for grant in grants {
        match grant {
            Grant::Exact(name) if !evidence.functions.contains_key(name) => unused.push(grant.clone()),
            Grant::Exact(_) => {}
            Grant::Prefix(prefix) => {
                let under = evidence.functions.iter().filter(|(name, _)| name.as_str().starts_with(prefix.as_str()));
                // A restricted function is not covered by the wildcard, and a grant by name would let in what is refused now.
                let needed: Vec<(&FunctionName, &Called)> =
                    under.filter(|(name, called)| !called.restricted && !granted_by_name(name)).collect();
                if needed.is_empty() {
                    unused.push(grant.clone());
                } else if needed.len() <= NAMES && left + needed.len() <= limits::GRANTS {
                    left += needed.len() - 1;
                    found.push(narrowed(key, grant, &needed, evidence, surroundings));
                }
            }
        }
    }
    if unused.is_empty() || unused.len() == grants.len() {
        return;
    }
    let (count, first) = (unused.len(), unused.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
    let text = format!("{first}{more}: never needed in {} of usage", long(surroundings.now.since(since)));
    found.push(Advice::edit(Kind::UnusedGrant, key, since, text, Edit { remove_grants: unused, ..Edit::default() }));
}

fn narrowed(key: &Key, grant: &Grant, needed: &[(&FunctionName, &Called)], evidence: &Evidence, surroundings: &Surroundings) -> Advice {
    let since = evidence.since.max(evidence.grants_since);
    let calls: u64 = needed.iter().map(|(_, called)| called.count).sum();
    let shown = needed.iter().take(SHOWN).map(|(name, called)| format!("{name} ({})", called.count)).collect::<Vec<_>>().join(", ");
    let more = if needed.len() > SHOWN { format!(" and {} more", needed.len() - SHOWN) } else { String::new() };
    // Calls are those of all usage that is looked at, which may be longer than the key has this grant.
    let (calls, age) = (counted(calls, "call"), long(surroundings.now.since(evidence.since)));
    let changed = if evidence.grants_since > evidence.since {
        format!("; the grants were changed {} ago", long(surroundings.now.since(evidence.grants_since)))
    } else {
        String::new()
    };
    let text = format!("{grant}: {calls} in {age}, all of {shown}{more}{changed}");
    let names = needed.iter().map(|(name, _)| Grant::Exact((*name).clone())).collect();
    Advice::edit(Kind::WideGrant, key, since, text, Edit { add_grants: names, remove_grants: vec![grant.clone()], ..Edit::default() })
}
