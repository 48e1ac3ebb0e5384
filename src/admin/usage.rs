//! Who used what, how often, from where: counts by the dimensions asked for, and the latest denials.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{Ask, Asked, find};
use super::body;
use super::list::page_limit;
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::view;
use super::wire::{DenialList, DenialView, KeyView, RecentNetwork, SecretView, UsageRow, UsageView};
use crate::key::{Country, FunctionId, Instant, Key, KeyId, KeyRef, Span, Verdict, When, shown, without_tokens};
use crate::store::{Step, Store, StoreError};

/// How far back usage is counted unless asked otherwise.
const SINCE: Span = Span(24 * 3_600_000);
/// How long one report may count.
const COUNT_TIME: Duration = Duration::from_secs(10);
/// Rows of one report.
const ROWS: usize = 100_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// What `GET /v1/usage` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// Of this key: an id, or `account/name`. Then the answer also tells the last use of each secret, and recent networks.
    key: Option<String>,
    /// Of this account's keys, deleted ones included.
    account: Option<String>,
    /// From this moment: RFC 3339, a date, or a span ago such as `7d`. By default 24 hours ago. Counted by whole minutes, or by the finest units that are kept.
    since: Option<String>,
    /// To this moment, likewise. By default now.
    until: Option<String>,
    /// The dimensions, separated by commas: `function`, `verdict`, `secret`, `key`, `country`, and one of `minute`, `hour`, `day`.
    /// `country` goes with `key`, `hour` and `day` alone.
    by: Option<String>,
}

/// What the denials take.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DenialsQuery {
    /// Entries: 1 to 1000, by default 100. The daemon keeps some hundreds.
    limit: Option<usize>,
}

/// The dimensions asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct By {
    function: bool,
    verdict: bool,
    secret: bool,
    key: bool,
    country: bool,
    /// Milliseconds of the period.
    period: Option<i64>,
}

/// One combination of values. The order of the fields is that of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    at: Option<Instant>,
    key: Option<KeyId>,
    version: Option<u16>,
    function: Option<FunctionId>,
    verdict: Option<Verdict>,
    country: Option<Option<Country>>,
}

/// Usage: how many verifies, by the dimensions asked for.
#[utoipa::path(
    get, path = "/v1/usage", operation_id = "get_usage", tag = "usage", params(UsageQuery),
    responses((status = 200, description = "Counts as of the last flush, which is about a second ago", body = UsageView), ReadProblems)
)]
pub(super) async fn usage(ask: Ask, Asked(query): Asked<UsageQuery>) -> Result<Json<UsageView>, Failure> {
    let now = ask.now();
    let since = moment("since", query.since.as_deref(), now)?.unwrap_or(Instant((now.0 - SINCE.0).max(0)));
    let until = moment("until", query.until.as_deref(), now)?.unwrap_or(now);
    if since >= until {
        return Err(Failure::invalid("since", format!("since: {since} is not before until, {until}")));
    }
    let by = By::read(query.by.as_deref().unwrap_or_default())?;
    if query.key.is_some() && query.account.is_some() {
        return Err(Failure::invalid("account", "account: excludes key; give one of the two"));
    }
    let key = query.key.as_deref().map(body::key_ref);
    ask.read(move |store| report(store, key.as_ref(), query.account.as_deref(), (since, until), by, now)).await.map(Json)
}

/// A moment as a query writes it; a span is so long ago.
fn moment(field: &'static str, text: Option<&str>, now: Instant) -> Result<Option<Instant>, Failure> {
    let when = text.map(str::parse::<When>).transpose().map_err(|error| Failure::invalid(field, format!("{field}: {error}")))?;
    Ok(when.map(|when| match when {
        When::At(instant) => instant,
        When::In(span) => Instant(now.0.saturating_sub(span.0).max(0)),
    }))
}

impl By {
    fn read(text: &str) -> Result<By, Failure> {
        let mut by = By::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let period = match name {
                "function" => &mut by.function,
                "verdict" => &mut by.verdict,
                "secret" => &mut by.secret,
                "key" => &mut by.key,
                "country" => &mut by.country,
                "minute" | "hour" | "day" => {
                    let ms = if name == "minute" {
                        MINUTE_MS
                    } else if name == "hour" {
                        HOUR_MS
                    } else {
                        DAY_MS
                    };
                    if by.period.replace(ms).is_some_and(|other| other != ms) {
                        return Err(Failure::invalid("by", "by: minute, hour and day exclude each other"));
                    }
                    continue;
                }
                _ => {
                    let name = shown(name);
                    let expected = "expected function, verdict, secret, key, country, minute, hour or day";
                    return Err(Failure::invalid("by", format!("by: '{name}' is no dimension; {expected}")));
                }
            };
            *period = true;
        }
        if by.country && (by.function || by.verdict || by.secret || by.period == Some(MINUTE_MS)) {
            let detail = "by: country goes with key, hour and day alone: countries are counted by key and hour, apart from functions, verdicts, secrets and minutes";
            return Err(Failure::invalid("by", detail));
        }
        Ok(by)
    }

    /// The coarsest unit that the report can do with.
    fn step(self) -> Step {
        match self.period {
            Some(MINUTE_MS) => Step::Minute,
            Some(HOUR_MS) => Step::Hour,
            _ => Step::Day,
        }
    }

    fn period(self, at_ms: i64) -> Option<Instant> {
        self.period.map(|period| Instant(at_ms - at_ms.rem_euclid(period)))
    }
}

fn report(
    store: &Store,
    key: Option<&KeyRef>,
    account: Option<&str>,
    (since, until): (Instant, Instant),
    by: By,
    now: Instant,
) -> Result<UsageView, Failure> {
    let key = key.map(|key| find(store, key)).transpose()?;
    let keys: Vec<Option<KeyId>> = match (&key, account) {
        (Some(key), _) => vec![Some(key.id)],
        (None, Some(account)) => store.ids_of_account(account)?.into_iter().map(Some).collect(),
        (None, None) => vec![None],
    };
    let mut sums = Sums { groups: BTreeMap::new(), total: 0, begun: std::time::Instant::now(), counted: 0 };
    for id in keys {
        sums.add_key(store, id, (since, until), by)?;
    }
    let names = if by.function { function_names(store)? } else { HashMap::new() };
    let (secrets, networks) = match &key {
        Some(key) => (with_last_uses(store, key, now)?.secrets, recent_networks(store, key.id)?),
        None => (Vec::new(), Vec::new()),
    };
    let rows = sums.groups.into_iter().map(|(group, count)| group.row(count, &names)).collect();
    Ok(UsageView { since, until, total: sums.total, rows, secrets, networks })
}

struct Sums {
    groups: BTreeMap<Group, u64>,
    total: u64,
    begun: std::time::Instant,
    counted: u64,
}

impl Sums {
    fn add_key(&mut self, store: &Store, id: Option<KeyId>, (since, until): (Instant, Instant), by: By) -> Result<(), Failure> {
        if by.country {
            for row in store.usage_countries(id, since, until, by.step()) {
                let row = row?;
                let at = by.period(row.at.0);
                let group = Group { at, key: by.key.then_some(row.key), country: Some(row.country), ..Group::default() };
                self.add(group, row.count)?;
            }
            return Ok(());
        }
        for row in store.usage_counts(id, since, until, by.step()) {
            let row = row?;
            let group = Group {
                at: by.period(row.at.0),
                key: by.key.then_some(row.key),
                version: by.secret.then_some(row.version),
                function: by.function.then_some(row.function),
                verdict: by.verdict.then_some(row.verdict),
                country: None,
            };
            self.add(group, row.count)?;
        }
        Ok(())
    }

    fn add(&mut self, group: Group, count: u64) -> Result<(), Failure> {
        let sum = self.groups.entry(group).or_default();
        *sum = sum.saturating_add(count);
        self.total = self.total.saturating_add(count);
        self.counted += 1;
        if self.groups.len() > ROWS {
            let detail = format!("by: the report would have more than {ROWS} rows; ask for fewer dimensions, a shorter time, or one key");
            return Err(Failure::new(Word::Limit, detail).with_field("by"));
        }
        if self.counted.is_multiple_of(4_096) && self.begun.elapsed() > COUNT_TIME {
            let detail = format!("since: counting took more than {} s; ask for a shorter time, or one key", COUNT_TIME.as_secs());
            return Err(Failure::new(Word::Limit, detail).with_field("since"));
        }
        Ok(())
    }
}

impl Group {
    fn row(self, count: u64, names: &HashMap<FunctionId, String>) -> UsageRow {
        let function = self.function.map(|id| match id {
            FunctionId::UNREGISTERED => "(unregistered)".to_owned(),
            FunctionId::OTHER => "(other)".to_owned(),
            id => names.get(&id).cloned().unwrap_or_else(|| format!("(function {})", id.0)),
        });
        UsageRow {
            key_id: self.key.filter(|key| *key != KeyId::NONE),
            function,
            verdict: self.verdict.map(|verdict| verdict.as_str().to_owned()),
            version: self.version,
            country: self.country.map(|country| country.map_or_else(|| "(unknown)".to_owned(), |country| country.to_string())),
            at: self.at,
            count,
        }
    }
}

fn function_names(store: &Store) -> Result<HashMap<FunctionId, String>, StoreError> {
    let functions = store.functions_ever()?;
    Ok(functions.into_iter().map(|(function, _)| (function.id, function.name.to_string())).collect())
}

/// A key with the last use of each secret.
pub(super) fn with_last_uses(store: &Store, key: &Key, now: Instant) -> Result<KeyView, Failure> {
    let mut view = view::key(key, now);
    for used in store.last_uses(key.id)? {
        if let Some(secret) = view.secrets.iter_mut().find(|secret: &&mut SecretView| secret.version == used.version) {
            secret.last_used_at = Some(used.at);
            secret.last_address = used.address;
            secret.last_country = used.country;
        }
    }
    Ok(view)
}

fn recent_networks(store: &Store, key: KeyId) -> Result<Vec<RecentNetwork>, Failure> {
    let networks = store.recent_networks(key)?;
    Ok(networks.into_iter().map(|used| RecentNetwork { network: used.network, last_used_at: used.at }).collect())
}

/// The latest denials, with reasons, newest first.
#[utoipa::path(
    get, path = "/v1/denials", operation_id = "list_denials", tag = "usage", params(DenialsQuery),
    responses((status = 200, description = "From memory: those since the daemon's start", body = DenialList), ReadProblems)
)]
pub(super) async fn denials(ask: Ask, Asked(query): Asked<DenialsQuery>) -> Result<Json<DenialList>, Failure> {
    let limit = page_limit(query.limit)?;
    let mut denials = ask.shared.state.door.usage.denials();
    denials.truncate(limit);
    let read = move |store: &Store| {
        let mut names: HashMap<KeyId, Option<String>> = HashMap::new();
        for denial in &denials {
            if denial.key != KeyId::NONE && !names.contains_key(&denial.key) {
                let key = store.key(denial.key)?;
                names.insert(denial.key, key.map(|key| format!("{}/{}", key.settings.account, key.settings.name)));
            }
        }
        let view = denials.into_iter().map(|denial| {
            let known = denial.key != KeyId::NONE;
            DenialView {
                at: denial.at,
                verdict: denial.verdict.as_str().to_owned(),
                key_id: known.then_some(denial.key),
                key: names.get(&denial.key).cloned().flatten(),
                version: known.then_some(denial.version),
                // A web server may send a token where the function belongs: the grammar would take it.
                function: without_tokens(&denial.function).into_owned(),
                address: denial.address,
                country: denial.country,
            }
        });
        Ok(view.collect())
    };
    ask.read(read).await.map(|denials| Json(DenialList { denials }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_that_are_not_counted_together_are_refused() {
        assert_eq!(By::read("").unwrap(), By::default());
        assert_eq!(
            By::read("function, verdict,hour").unwrap(),
            By { function: true, verdict: true, period: Some(HOUR_MS), ..By::default() }
        );
        assert!(By::read("country,key,day").unwrap().country);
        for bad in ["colour", "hour,day", "minute,hour", "country,function", "country,verdict", "country,secret", "country,minute"] {
            assert_eq!(By::read(bad).unwrap_err().problem().field.as_deref(), Some("by"), "{bad}");
        }
    }

    #[test]
    fn a_span_is_that_long_ago() {
        let now = Instant(10 * DAY_MS);
        assert_eq!(moment("since", Some("7d"), now).unwrap(), Some(Instant(3 * DAY_MS)));
        assert_eq!(moment("since", Some("30d"), now).unwrap(), Some(Instant(0)));
        assert_eq!(moment("since", Some("1970-01-02"), now).unwrap(), Some(Instant(DAY_MS)));
        assert!(moment("since", Some("yesterday"), now).is_err());
    }

    #[test]
    fn periods_begin_where_the_clock_says() {
        let by = By { period: Some(HOUR_MS), ..By::default() };
        assert_eq!(by.period(HOUR_MS + MINUTE_MS), Some(Instant(HOUR_MS)));
        assert_eq!(By::default().period(HOUR_MS), None);
    }
}
