//! What was unusual lately, from what is kept of usage.

use std::collections::BTreeSet;

use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{Ask, Asked, find, keys_of_account};
use super::body;
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::usage::moment;
use super::watch::{self, Keys};
use super::wire::{FindingView, TooYoung, UnusualView, YoungKey};
use crate::key::{Instant, Key, KeyRef, Span, shell_line, shown};
use crate::store::Store;
use crate::unusual::{Finding, Limits, MIN_DAYS_OF_USE, Severity, guessing, judge};

/// How far back is looked unless asked otherwise, and at most.
const SINCE: (Span, Span) = (Span(24 * 3_600_000), Span(31 * 24 * 3_600_000));
/// Findings in one answer, unless asked otherwise, and at most.
const FINDINGS: (usize, usize) = (1_000, 100_000);
/// Days before the time in question in which a habit is looked for where something was found. Hours are kept so long by default.
const HABIT_DAYS: u32 = 89;
/// Keys with too little history that are named.
const YOUNG: usize = 1_000;
const HOUR_MS: i64 = 3_600_000;

/// What `GET /v1/unusual` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct UnusualQuery {
    /// From this moment: RFC 3339, a date, or a span ago such as `7d`; by whole hours. By default 24 hours ago, at most 31 days.
    since: Option<String>,
    /// Of this key: an id, or `account/name`.
    key: Option<String>,
    /// Of this account's keys.
    account: Option<String>,
    /// Only findings at least as grave: `info`, `warning` or `critical`.
    severity: Option<String>,
    /// Findings: 1 to 100000, by default 1000.
    limit: Option<usize>,
}

/// What is asked for, read.
struct Wanted {
    since: Instant,
    now: Instant,
    key: Option<KeyRef>,
    account: Option<String>,
    severity: Severity,
    limit: usize,
    limits: Limits,
}

/// Unusual patterns: rates, denials, places, secrets and guesses that are not as they were.
#[utoipa::path(
    get, path = "/v1/unusual", operation_id = "get_unusual", tag = "usage", params(UnusualQuery),
    responses((status = 200, description = "Findings with their evidence and the command that acts on each", body = UnusualView), ReadProblems)
)]
pub(super) async fn get(ask: Ask, Asked(query): Asked<UnusualQuery>) -> Result<Json<UnusualView>, Failure> {
    let limits = ask.shared.state.judgement.read().unusual;
    let wanted = Wanted::read(query, ask.now(), limits)?;
    ask.search(move |store| report(store, &wanted)).await.map(Json)
}

impl Wanted {
    fn read(query: UnusualQuery, now: Instant, limits: Limits) -> Result<Wanted, Failure> {
        let since = moment("since", query.since.as_deref(), now)?.unwrap_or(Instant(now.0.saturating_sub(SINCE.0.0).max(0)));
        if since >= now || now.since(since) > SINCE.1 {
            return Err(Failure::invalid("since", format!("since: {since} is not within the last {}", SINCE.1)));
        }
        if query.key.is_some() && query.account.is_some() {
            return Err(Failure::invalid("account", "account: excludes key; give one of the two"));
        }
        let severity = query.severity.as_deref().unwrap_or("info");
        let least = Severity::ALL.into_iter().find(|least| least.as_str() == severity);
        let least = least.ok_or_else(|| {
            Failure::invalid("severity", format!("severity: '{}' is none; expected info, warning or critical", shown(severity)))
        })?;
        let limit = query.limit.unwrap_or(FINDINGS.0);
        if !(1..=FINDINGS.1).contains(&limit) {
            return Err(Failure::new(Word::Limit, format!("limit: {limit}; expected 1 to {}", FINDINGS.1)).with_field("limit"));
        }
        Ok(Wanted { since, now, key: query.key.as_deref().map(body::key_ref), account: query.account, severity: least, limit, limits })
    }
}

fn report(store: &Store, wanted: &Wanted) -> Result<UnusualView, Failure> {
    let Wanted { since, now, limits, .. } = wanted;
    let keys = match (&wanted.key, &wanted.account) {
        (Some(key), _) => Keys::These(BTreeSet::from([find(store, key)?.id])),
        (None, Some(account)) => Keys::These(keys_of_account(store, account)?.into_iter().collect()),
        (None, None) => Keys::All,
    };
    let frame = watch::frame(store, *since, *now, limits.history_days)?;
    let long_frame = watch::frame(store, *since, *now, limits.history_days.max(HABIT_DAYS))?;
    let mut found: Vec<(Severity, FindingView)> = Vec::new();
    let mut take = |key: Option<&Key>, finding: Finding| {
        if finding.severity >= wanted.severity {
            found.push((finding.severity, view(key, finding)));
        }
    };
    if matches!(keys, Keys::All) {
        guessing(&watch::guessers(store, &frame)?, frame.since, limits).into_iter().for_each(|finding| take(None, finding));
    }
    let mut judged = 0;
    let mut too_young = TooYoung { min_days: limits.min_days, ..TooYoung::default() };
    let mut too_seldom = TooYoung { min_days: MIN_DAYS_OF_USE, ..TooYoung::default() };
    let mut again: Vec<Key> = Vec::new();
    watch::each(store, &keys, &frame, |key, usage| {
        let judgement = judge(key, usage, &frame, limits);
        if let Some(key) = key {
            judged += u64::from(key.deleted_at.is_none());
            for (list, days) in [(&mut too_young, judgement.too_young), (&mut too_seldom, judgement.too_seldom)] {
                list.add(key, days);
            }
            if long_frame.from < frame.from && judgement.findings.iter().any(|finding| finding.kind.may_be_habit()) {
                again.push(key.clone());
                return;
            }
        }
        judgement.findings.into_iter().for_each(|finding| take(key, finding));
    })?;
    // What comes once a month is told from what is known of longer. Few keys have a finding, so that is read for these alone.
    for key in again {
        if let Some(usage) = watch::of_key(store, &key, &long_frame)? {
            judge(Some(&key), &usage, &long_frame, limits).findings.into_iter().for_each(|finding| take(Some(&key), finding));
        }
    }
    found.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| other.at.cmp(&one.at)));
    let total = found.len() as u64;
    found.truncate(wanted.limit);
    let begins = |hour: u32| Instant(i64::from(hour) * HOUR_MS);
    Ok(UnusualView {
        since: begins(frame.since),
        until: *now,
        history_since: begins(frame.from),
        findings: found.into_iter().map(|(_, finding)| finding).collect(),
        total,
        keys: judged,
        too_young,
        too_seldom,
    })
}

fn view(key: Option<&Key>, finding: Finding) -> FindingView {
    FindingView {
        key_id: key.map(|key| key.id),
        key: key.map(label),
        kind: finding.kind.as_str().to_owned(),
        severity: finding.severity.as_str().to_owned(),
        at: finding.at,
        seen: finding.seen,
        expected: finding.expected,
        evidence: finding.evidence,
        command: shell_line(&finding.command),
    }
}

impl TooYoung {
    /// Adds a key that has too few days, if it has.
    fn add(&mut self, key: &Key, days: Option<u32>) {
        let Some(days) = days else { return };
        self.count += 1;
        if self.keys.len() < YOUNG {
            self.keys.push(YoungKey { key_id: key.id, key: label(key), days });
        }
    }
}

fn label(key: &Key) -> String {
    format!("{}/{}", key.settings.account, key.settings.name)
}
