//! Whether a place is new, and whether that is new for this key.

use std::collections::BTreeMap;

use super::{DAY, DAY_MS, Finding, Frame, Kind, Limits, MIN_DAYS_OF_USE, Seen, Severity, Usage, begins, clock, command, counted, hour};
use crate::key::{Country, Instant, Key};

/// Something new is unusual if as much of it, or more, would come by habit with a lower probability than this …
const CHANCE: f64 = 0.05;
/// … and than this where new ones came twice or more, since they come in clusters.
const CHANCE_BY_HABIT: f64 = 0.001;
/// Something new that is used so many times as much as what was new before is unusual even so, from so many requests on.
const MUCH: (u64, u64) = (10, 100);
/// Countries and networks that a command names: more would be a list that nobody reads.
const NAMED: usize = 8;
/// Times as many networks within ten minutes as on the worst day before.
const MORE_NETWORKS: u32 = 2;

/// First uses from a country or a network, and uses from many networks at once.
pub(super) fn look(key: &Key, usage: &Usage, frame: &Frame, begin: u32, limits: &Limits, found: &mut Vec<Finding>) {
    countries(key, usage, frame, found);
    networks(key, usage, frame, (begin, limits), found);
    spread(key, usage, frame, limits, found);
}

/// The uses from a country.
#[derive(Default)]
struct Uses {
    /// By day, before the time in question.
    before: BTreeMap<u32, u64>,
    /// In it.
    count: u64,
    /// The first hour in it.
    first: Option<u32>,
}

fn countries(key: &Key, usage: &Usage, frame: &Frame, found: &mut Vec<Finding>) {
    let mut countries: BTreeMap<Country, Uses> = BTreeMap::new();
    let mut unplaced = false;
    for &(at, country, count) in &usage.countries {
        let Some(country) = country else {
            unplaced = true;
            continue;
        };
        let uses = countries.entry(country).or_default();
        if at < frame.since {
            *uses.before.entry(at / DAY).or_default() += count;
        } else {
            uses.count += count;
            uses.first = Some(uses.first.map_or(at, |first| first.min(at)));
        }
    }
    let mut days: Vec<u32> = countries.values().flat_map(|uses| uses.before.keys().copied()).collect();
    days.sort_unstable();
    days.dedup();
    if days.len() < MIN_DAYS_OF_USE as usize {
        return;
    }
    let new: Vec<(Country, &Uses)> =
        countries.iter().filter(|(_, uses)| uses.before.is_empty() && uses.count > 0).map(|(c, u)| (*c, u)).collect();
    // How many countries were seen on one day only tells how many more there are that were not seen yet (Good and Toulmin 1956).
    let once: Vec<u64> =
        countries.values().filter(|uses| uses.before.len() == 1).filter_map(|uses| uses.before.values().next().copied()).collect();
    let by_habit = once.len() as f64 * days_in_question(frame) / days.len() as f64;
    let is_habit = !new.is_empty() && at_least(new.len(), by_habit) >= chance(once.len());
    let much = once.iter().max().map_or(0, |most| (most * MUCH.0).max(MUCH.1));
    let known: Vec<Country> = countries.iter().filter(|(_, uses)| !uses.before.is_empty()).map(|(country, _)| *country).collect();
    for (country, uses) in new.into_iter().filter(|(_, uses)| !is_habit || uses.count >= much) {
        let allowed = &key.settings.countries;
        let refused = !allowed.is_empty() && !allowed.contains(&country);
        let command = if refused {
            command("rotate", key, &["--overlap", "1d"])
        } else if allowed.contains(&country) && allowed.len() > 1 && country.as_str().parse::<Country>().is_ok() {
            command("edit", key, &[&format!("--remove-country={}", country.as_str())])
        } else if !unplaced && known.len() <= NAMED && known.iter().all(|known| known.as_str().parse::<Country>().is_ok()) {
            let known: Vec<&str> = known.iter().map(Country::as_str).collect();
            command("edit", key, &[&format!("--add-country={}", known.join(","))])
        } else {
            command("disable", key, &[])
        };
        let at = begins(uses.first.unwrap_or(frame.since));
        let answer = if refused { ", refused since the key's countries do not hold it" } else { "" };
        let evidence = format!(
            "{} from {}, first in the hour from {}{answer}; on {} of use before it came only from {}",
            counted(uses.count, "request"),
            country.as_str(),
            clock(at),
            counted(days.len() as u64, "day"),
            listed(&known.iter().map(Country::as_str).collect::<Vec<_>>()),
        );
        found.push(Finding { kind: Kind::NewCountry, severity: Severity::Warning, at, seen: uses.count, expected: 0, evidence, command });
    }
}

fn networks(key: &Key, usage: &Usage, frame: &Frame, (begin, limits): (u32, &Limits), found: &mut Vec<Finding>) {
    let since = begins(frame.since);
    // A network that was forgotten would look new: how many look new in a day is told from where on none is forgotten. Those of the first day
    // are no habit: every key begins somewhere.
    let from = Instant(begins(begin).0 + DAY_MS).max(usage.networks_forgotten.unwrap_or(Instant(i64::MIN)));
    if usage.networks_forgotten.is_some() && since.since(from).0 < i64::from(limits.min_days) * DAY_MS {
        return;
    }
    let days = usage.spreads.iter().filter(|(day, _)| *day < frame.since / DAY && begins((day + 1) * DAY) > from).count();
    let (known, new): (Vec<Seen>, Vec<Seen>) = usage.networks.iter().partition(|seen| seen.first_at < since);
    let Some(first) = new.iter().map(|seen| seen.first_at).min().filter(|_| !known.is_empty()) else { return };
    if days < MIN_DAYS_OF_USE as usize {
        return;
    }
    let mut by_day: BTreeMap<u32, usize> = BTreeMap::new();
    known.iter().filter(|seen| seen.first_at > from).for_each(|seen| *by_day.entry(hour(seen.first_at) / DAY).or_default() += 1);
    let (habits, busiest) = (by_day.values().sum::<usize>(), by_day.values().copied().max().unwrap_or_default());
    let by_habit = habits as f64 * days_in_question(frame) / days as f64;
    // They come in clusters: more than on the busiest day before.
    let beyond = new.len() as f64 > busiest as f64 * days_in_question(frame).max(1.0).ceil();
    if at_least(new.len(), by_habit) >= chance(habits) || !beyond {
        return;
    }
    let names: Vec<String> = new.iter().map(|seen| seen.network.to_string()).collect();
    let allowed = &key.settings.networks;
    let refused = !allowed.is_empty() && !new.iter().any(|seen| allowed.iter().any(|network| network.meets(seen.network)));
    let answer = if refused { ", refused since the key's networks do not hold it" } else { "" };
    let command = if refused {
        // Who uses it as it is meant to be used is not to suffer.
        command("rotate", key, &["--overlap", "1d"])
    } else if allowed.is_empty() && known.len() <= NAMED {
        let known: Vec<String> = known.iter().map(|seen| seen.network.to_string()).collect();
        command("edit", key, &[&format!("--add-network={}", known.join(","))])
    } else {
        command("disable", key, &[])
    };
    let evidence = format!(
        "first used from {} at {}{answer}; on {} of use before from {} only",
        listed(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        clock(first),
        counted(days as u64, "day"),
        counted(known.len() as u64, "network"),
    );
    let (seen, expected) = (new.len() as u64, by_habit.round() as u64);
    found.push(Finding { kind: Kind::NewNetwork, severity: Severity::Warning, at: first, seen, expected, evidence, command });
}

fn spread(key: &Key, usage: &Usage, frame: &Frame, limits: &Limits, found: &mut Vec<Finding>) {
    let since = frame.since / DAY;
    let before = usage.spreads.iter().filter(|(day, _)| *day < since).map(|(_, networks)| *networks);
    let (days, most) = before.fold((0, 0), |(days, most), networks| (days + 1, most.max(networks)));
    let Some(&(day, networks)) = usage.spreads.iter().filter(|(day, _)| *day >= since).max_by_key(|(_, networks)| *networks) else {
        return;
    };
    if days < MIN_DAYS_OF_USE as usize || networks < limits.networks_at_once || networks < most * MORE_NETWORKS {
        return;
    }
    // When within the day is told by the networks that are new.
    let from = begins(day * DAY).max(begins(frame.since));
    let new: Vec<Instant> =
        usage.networks.iter().map(|seen| seen.first_at).filter(|at| (from..begins((day + 1) * DAY)).contains(at)).collect();
    let at = new.iter().copied().min().unwrap_or(from);
    let first = if new.is_empty() { String::new() } else { format!(", {} of them new, the first at {}", new.len(), clock(at)) };
    let evidence = format!(
        "{} or more within ten minutes on {}{first}; on {} of use before {most} at most",
        counted(networks.into(), "network"),
        clock(begins(day * DAY)).get(..10).unwrap_or_default(),
        counted(days as u64, "day"),
    );
    let (seen, expected) = (networks.into(), most.into());
    let command = command("rotate", key, &["--overlap", "1h"]);
    found.push(Finding { kind: Kind::ManyNetworks, severity: Severity::Critical, at, seen, expected, evidence, command });
}

fn chance(habits: usize) -> f64 {
    if habits < 2 { CHANCE } else { CHANCE_BY_HABIT }
}

/// How many days the time in question has.
fn days_in_question(frame: &Frame) -> f64 {
    f64::from((hour(frame.now) + 1).saturating_sub(frame.since)) / f64::from(DAY)
}

/// The probability that so many, or more, come where so many are expected (Poisson).
fn at_least(seen: usize, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut fewer = 0.0;
    for number in 0..seen {
        fewer += term;
        term *= expected / (number + 1) as f64;
    }
    (1.0 - fewer).max(0.0)
}

fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMED].join(" ")),
        _ => names.join(" "),
    }
}
