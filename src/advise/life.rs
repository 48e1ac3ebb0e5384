use super::{Advice, Evidence, Kind, Surroundings, counted, long};
use crate::key::{Instant, Key};

/// When the key began and ends, when it was used last, and how old its secrets are.
pub(super) fn look(key: &Key, evidence: &Evidence, surroundings: &Surroundings, found: &mut Vec<Advice>) {
    let Surroundings { now, limits, .. } = surroundings;
    let mut tell = |kind, since, text, verb, flags: &[&str]| found.push(Advice::command(kind, key, since, text, verb, flags));
    let last_use = evidence.last_uses.values().max().copied();
    let in_use = last_use.is_some_and(|at| now.since(at) < limits.idle_after);

    for (version, count) in &evidence.refused {
        let text = format!("secret {version} is good no more, and was still presented: {}", counted(*count, "time"));
        tell(Kind::RefusedSecret, evidence.since, text, "usage", &["--by", "secret,verdict,hour"]);
    }
    match key.settings.expires_at {
        None => {
            let text = format!("never expires; made {} ago", long(now.since(key.created_at)));
            tell(Kind::NoExpiry, key.created_at, text, "edit", &["--expires", "365d"]);
        }
        Some(at) if at.since(*now) <= limits.expiring_within => {
            let text = format!("expires in {}, on {}; {}", long(at.since(*now)), date(at), used(last_use, *now));
            // Who still uses it should get a new secret as well as more time.
            tell(Kind::Expiring, evidence.since, text, "edit", &["--expires", "365d"]);
        }
        Some(_) => {}
    }
    // A key that is new, or became good a moment ago, has yet to be used.
    let known = evidence.since.max(key.created_at).max(key.settings.not_before.unwrap_or(key.created_at));
    match last_use {
        None if now.since(known) < limits.idle_after => {}
        None => {
            let text = format!("never used since {}; made {} ago", date(known), long(now.since(key.created_at)));
            tell(Kind::NeverUsed, known, text, "disable", &[]);
        }
        Some(at) if !in_use => tell(Kind::Idle, at, used(Some(at), *now), "disable", &[]),
        Some(_) => {}
    }
    if let Some(secret) = key.newest().filter(|secret| in_use && now.since(secret.created_at) >= limits.rotate_after) {
        let text = format!("secret {} was made {} ago", secret.version, long(now.since(secret.created_at)));
        tell(Kind::OldSecret, secret.created_at, text, "rotate", &["--overlap", "7d"]);
    }
}

fn used(last_use: Option<Instant>, now: Instant) -> String {
    match last_use {
        Some(at) => format!("last used {} ago, on {}", long(now.since(at)), date(at)),
        None => "never used".to_owned(),
    }
}

fn date(at: Instant) -> String {
    at.to_string().chars().take(10).collect()
}
