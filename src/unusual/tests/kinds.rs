//! Each kind by itself: what it says, and where it is silent.

use super::traffic::{Dice, Life, Shape, frame};
use super::{MONDAY, key};
use crate::key::{Country, Instant, Key, KeyId, Verdict, shell_line};
use crate::unusual::{Finding, Frame, Guesser, Kind, Limits, OldSecret, Seen, Severity, Usage, begins, guessing, judge};

/// A key with so many requests in each hour of four weeks and a day, from Germany.
fn steady(count: u64) -> (Usage, Frame) {
    let frame = frame(MONDAY, 28);
    let hours = frame.covered.len();
    let countries = (0..hours as u32).map(|at| (MONDAY + at, Some(Country(*b"DE")), count)).collect();
    let spreads = (0..28).map(|day| (MONDAY / 24 + day, 1)).collect();
    let home = Seen { network: "192.0.2.0/24".parse().unwrap(), first_at: begins(MONDAY), last_at: frame.now };
    (Usage { ok: vec![count; hours], countries, networks: vec![home], spreads, ..Usage::default() }, frame)
}

fn found(usage: &Usage, frame: &Frame) -> Vec<Finding> {
    judge(Some(&key()), usage, frame, &Limits::default()).findings
}

#[track_caller]
fn only(findings: Vec<Finding>) -> Finding {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.into_iter().next().unwrap()
}

fn line(finding: &Finding) -> String {
    shell_line(&finding.command)
}

#[test]
fn a_surge_says_what_was_seen_and_what_was_expected() {
    let (mut usage, frame) = steady(100);
    assert_eq!(found(&usage, &frame), []);
    usage.ok[28 * 24 + 10] = 4_000;
    usage.ok[28 * 24 + 11] = 900;
    let surge = only(found(&usage, &frame));
    assert_eq!(
        surge.evidence,
        "4000 requests in the hour from 2026-12-21 10:00 UTC; the same hour of the 28 days before had 100 (median), 106 deviations away, and 1 hour more like it"
    );
    assert_eq!((surge.kind, surge.severity, surge.seen, surge.expected), (Kind::Surge, Severity::Critical, 4_000, 100));
    assert_eq!((line(&surge).as_str(), surge.at), ("doorward disable acme/web", begins(MONDAY + 28 * 24 + 10)));
}

#[test]
fn small_counts_are_nothing() {
    for (usual, seen) in [(3, 9), (3, 15), (0, 12), (1, 20), (10, 25)] {
        let (mut usage, frame) = steady(usual);
        usage.ok[0] = 1;
        usage.ok[28 * 24 + 10] = seen;
        assert_eq!(found(&usage, &frame), [], "{seen} after {usual}");
    }
}

#[test]
fn the_hour_that_is_not_over_may_be_more_but_not_fewer() {
    let (mut usage, frame) = steady(200);
    *usage.ok.last_mut().unwrap() = 0;
    assert_eq!(found(&usage, &frame), []);
    *usage.ok.last_mut().unwrap() = 2_000;
    assert_eq!(only(found(&usage, &frame)).kind, Kind::Surge);
}

#[test]
fn too_little_history_is_said_and_nothing_else() {
    let (mut usage, frame) = steady(100);
    usage.ok[..22 * 24].fill(0);
    usage.countries.retain(|(at, ..)| *at >= MONDAY + 22 * 24);
    usage.ok[28 * 24 + 10] = 100_000;
    let judgement = judge(Some(&key()), &usage, &frame, &Limits::default());
    assert_eq!((judgement.findings, judgement.too_young), (vec![], Some(6)));
    let enough = Limits { min_days: 6, ..Limits::default() };
    let judgement = judge(Some(&key()), &usage, &frame, &enough);
    assert_eq!((only(judgement.findings).kind, judgement.too_young), (Kind::Surge, None));
}

#[test]
fn a_new_country_is_refused_or_could_be() {
    let (mut usage, frame) = steady(100);
    usage.countries.push((frame.since + 3, Some(Country(*b"BR")), 4));
    let finding = only(found(&usage, &frame));
    assert_eq!(
        finding.evidence,
        "4 requests from BR, first in the hour from 2026-12-21 03:00 UTC; on 28 days of use before it came only from DE"
    );
    assert_eq!(line(&finding), "doorward edit acme/web --add-country=DE");
    let bound = |countries: &[&str]| {
        let mut key = key();
        key.settings.countries = countries.iter().map(|code| code.parse().unwrap()).collect();
        only(judge(Some(&key), &usage, &frame, &Limits::default()).findings)
    };
    let refused = bound(&["DE"]);
    assert!(refused.evidence.contains("refused since the key's countries do not hold it"), "{}", refused.evidence);
    assert_eq!(line(&refused), "doorward rotate acme/web --overlap 1d");
    assert_eq!(line(&bound(&["BR", "DE"])), "doorward edit acme/web --remove-country=BR");
}

/// A key that is used from all over the world: a new country each other day is how it is, but not a thousand requests from it.
#[test]
fn where_new_countries_are_usual_one_more_is_not_told() {
    let (mut usage, frame) = steady(100);
    for (number, at) in (0..28).step_by(2).enumerate() {
        usage.countries.push((MONDAY + at * 24, Some(Country([b'A', b'A' + number as u8])), 3));
    }
    usage.countries.push((frame.since + 3, Some(Country(*b"BR")), 4));
    assert_eq!(found(&usage, &frame), []);
    usage.countries.push((frame.since + 4, Some(Country(*b"BR")), 1_000));
    assert_eq!(only(found(&usage, &frame)).kind, Kind::NewCountry);
}

#[test]
fn a_new_network_is_told_unless_new_ones_are_usual() {
    let (mut usage, frame) = steady(100);
    let seen = |text: &str, at: i64| Seen { network: text.parse().unwrap(), first_at: Instant(at), last_at: frame.now };
    let now = begins(frame.since).0;
    usage.networks.push(seen("203.0.113.0/24", now + 5));
    let finding = only(found(&usage, &frame));
    assert_eq!(finding.evidence, "first used from 203.0.113.0/24 at 2026-12-21 00:00 UTC; on 27 days of use before from 1 network only");
    assert_eq!(line(&finding), "doorward edit acme/web --add-network=192.0.2.0/24");
    let mut only_home = key();
    only_home.settings.networks = vec!["192.0.2.0/28".parse().unwrap()];
    let refused = only(judge(Some(&only_home), &usage, &frame, &Limits::default()).findings);
    assert!(refused.evidence.contains(", refused since the key's networks do not hold it;"), "{}", refused.evidence);
    assert_eq!(line(&refused), "doorward rotate acme/web --overlap 1d", "who uses it from home goes on");
    for days in [3, 9, 15] {
        usage.networks.push(seen(&format!("10.{days}.0.0/24"), now - days * 86_400_000));
    }
    assert_eq!(found(&usage, &frame), [], "three in four weeks: a fourth is no surprise");
    usage.networks.truncate(2);
    usage.networks_forgotten = Some(Instant(now - 6 * 86_400_000));
    assert_eq!(found(&usage, &frame), [], "it may have been forgotten");
    usage.networks_forgotten = Some(Instant(now - 10 * 86_400_000));
    assert_eq!(only(found(&usage, &frame)).kind, Kind::NewNetwork, "not for ten days");
}

#[test]
fn many_networks_are_told_where_there_were_few() {
    let (mut usage, frame) = steady(100);
    let today = frame.since / 24;
    usage.spreads = (today - 20..today).map(|day| (day, 3)).collect();
    usage.spreads.push((today, 7));
    assert_eq!(found(&usage, &frame), []);
    usage.spreads.push((today + 1, 12));
    let finding = only(found(&usage, &frame));
    assert_eq!((finding.kind, finding.severity), (Kind::ManyNetworks, Severity::Critical));
    assert_eq!(finding.evidence, "12 networks or more within ten minutes on 2026-12-22; on 20 days of use before 3 at most");
    usage.spreads[4].1 = 9;
    assert_eq!(found(&usage, &frame), [], "it had nine at once before");
}

#[test]
fn a_key_wakes_after_weeks_or_was_never_used() {
    let (mut usage, frame) = steady(0);
    usage.countries.clear();
    usage.networks.clear();
    usage.ok[28 * 24 + 5] = 3;
    usage.used_before = Some(Instant(begins(MONDAY).0 - 30 * 86_400_000));
    let finding = only(found(&usage, &frame));
    assert_eq!(
        finding.evidence,
        "used again in the hour from 2026-12-21 05:00 UTC, 3 requests answered 'ok' since; used before on 2026-10-24, then idle for 58 days"
    );
    usage.used_before = None;
    let mut new = key();
    new.created_at = begins(MONDAY - 24 * 7);
    let finding = only(judge(Some(&new), &usage, &frame, &Limits::default()).findings);
    assert!(finding.evidence.starts_with("first used in the hour from 2026-12-21 05:00 UTC"), "{}", finding.evidence);
    new.created_at = begins(MONDAY + 24 * 20);
    assert_eq!(judge(Some(&new), &usage, &frame, &Limits::default()).findings, [], "made last week");
    let mut blind = frame.clone();
    blind.covered[..27 * 24].fill(0);
    new.created_at = begins(MONDAY);
    assert_eq!(judge(Some(&new), &usage, &blind, &Limits::default()).findings, [], "nothing was counted in between");
}

#[test]
fn old_secrets_in_use() {
    let (mut usage, frame) = steady(100);
    let mut key: Key = key();
    let newest = key.secrets[0].clone();
    let replaced_at = begins(frame.since);
    key.secrets.push(crate::key::Secret { version: 2, created_at: replaced_at, ..newest });
    let day = 86_400_000;
    let mut told = |retires_at: i64, ok: u64, refused: u64| {
        key.secrets[0].retires_at = Some(Instant(frame.now.0 + retires_at));
        usage.old_secrets = vec![OldSecret { version: 1, ok, refused, last: frame.since + 2, used_at: begins(frame.since + 2) }];
        judge(Some(&key), &usage, &frame, &Limits::default()).findings
    };
    let retired = only(told(-day, 5, 7));
    assert_eq!(
        retired.evidence,
        "secret 1 has retired and was presented 7 times, last in the hour from 2026-12-21 02:00 UTC; it was refused"
    );
    assert_eq!((retired.severity, line(&retired).as_str()), (Severity::Warning, "doorward usage acme/web --by secret,verdict,hour"));
    assert_eq!(told(-day, 5, 0), []);
    let overlap = only(told(5 * day, 1, 0));
    assert!(overlap.evidence.starts_with("secret 1 is replaced by 2 and was used since, last"), "{}", overlap.evidence);
    assert_eq!((overlap.severity, line(&overlap).as_str()), (Severity::Info, "doorward rotate acme/web --finish"));
    assert_eq!(only(told(day, 1, 0)).severity, Severity::Warning, "it ends tomorrow");
    let used_at = Instant(replaced_at.0 - 1);
    usage.old_secrets = vec![OldSecret { version: 1, ok: 5, refused: 0, last: frame.since, used_at }];
    assert_eq!(judge(Some(&key), &usage, &frame, &Limits::default()).findings, [], "it was not used since it was replaced");
}

#[test]
fn guessing_is_told_by_network() {
    let limits = Limits::default();
    let guesser = |hour, text: &str, count, error| Guesser { hour, network: text.parse().unwrap(), count, error };
    let now = MONDAY + 100;
    let list = [
        guesser(now, "192.0.2.0/24", 99, 0),
        guesser(now, "198.51.100.0/24", 300, 250),
        guesser(now, "203.0.113.0/24", 130, 5),
        guesser(now + 2, "203.0.113.0/24", 110, 0),
        guesser(now + 1, "2001:db8::/48", 5_000, 0),
    ];
    let findings = guessing(&list, now, &limits);
    let told: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.seen)).collect();
    assert_eq!(told, [(Severity::Critical, 5_000), (Severity::Warning, 125)]);
    assert!(
        findings[1].evidence.starts_with("125 tokens that no key has, from 203.0.113.0/24 in the hour from"),
        "{}",
        findings[1].evidence
    );
    assert!(findings[1].evidence.ends_with("235 in 2 hours"), "{}", findings[1].evidence);
    let mut wrong = vec![guesser(now, "192.0.2.0/24", 200, 0)];
    wrong.extend((1..60).map(|hours| guesser(now - hours, "192.0.2.0/24", 190, 0)));
    assert_eq!(only(guessing(&wrong, now, &limits)).severity, Severity::Info, "a client with a wrong token, for days");
}

#[test]
fn tokens_that_no_key_has_are_judged_by_their_rate() {
    let (_, frame) = steady(0);
    let mut unknown = vec![40; frame.covered.len()];
    unknown[28 * 24 + 7] = 2_500;
    let usage = Usage { ok: vec![0; unknown.len()], denials: vec![(Verdict::Unknown, unknown)], ..Usage::default() };
    let finding = only(judge(None, &usage, &frame, &Limits::default()).findings);
    assert_eq!((finding.kind, finding.severity, finding.expected), (Kind::Denials, Severity::Critical, 40));
    assert_eq!(line(&finding), "doorward denials");
}

/// From hundreds of networks, so few from each that none of them is told of: where there never was a token that no key has, that is all there is to see. It was silent: the
/// history began with the first of them.
#[test]
fn the_first_tokens_that_no_key_has_are_judged_since_there_was_counted() {
    let (_, mut frame) = steady(0);
    let mut unknown = vec![0; frame.covered.len()];
    unknown[28 * 24 + 7..28 * 24 + 12].fill(400);
    let usage = Usage { denials: vec![(Verdict::Unknown, unknown)], ..Usage::default() };
    let finding = only(judge(None, &usage, &frame, &Limits::default()).findings);
    assert_eq!((finding.kind, finding.seen, finding.expected), (Kind::Denials, 400, 0));
    frame.covered[..25 * 24].fill(0);
    assert_eq!(judge(None, &usage, &frame, &Limits::default()).findings, [], "three days say nothing");
}

/// No shape, no gap and no length of the frame makes it panic, and no finding names another key.
#[test]
fn any_series_can_be_judged() {
    let mut dice = Dice::new(3);
    let limits = Limits { min_days: 1, deviations: 1, factor: 1, min_count: 1, ..Limits::default() };
    for round in 0..400 {
        let shape = Shape::ALL[round % Shape::ALL.len()];
        let life = Life::draw(shape, 10f64.powf(dice.part() * 6.0), 40 * 24, &mut dice);
        let mut frame = frame(MONDAY, dice.below(30) as u32);
        let usage = life.usage(&frame, dice.below(200) as u32);
        frame.covered.iter_mut().for_each(|minutes| *minutes = if dice.below(5) == 0 { dice.below(61) as u8 } else { *minutes });
        frame.since = frame.from + dice.below(frame.covered.len() as u64 + 3) as u32;
        let mut key = key();
        key.id = KeyId([round as u8; 16]);
        for finding in judge(Some(&key), &usage, &frame, &limits).findings {
            assert!(finding.command.contains(&"acme/web".to_owned()) && !finding.evidence.is_empty(), "{finding:?}");
        }
    }
}
