//! Who used what, how often, from where: counts by the dimensions asked for.

mod counted;
mod periods;
mod sums;

use std::collections::{HashMap, HashSet};

use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use self::counted::Reading;
use self::periods::{Periods, Unit, Zone};
use self::sums::{Counting, Group, ROWS, Sum, Top, Who, Whose, too_many_rows};
use super::ask::{Ask, Asked, find, keys_of_account};
use super::body;
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::view;
use super::wire::{Interval, KeyView, Period, RecentNetwork, SecretView, UsageRow, UsageView};
use crate::key::{FunctionId, Instant, Key, KeyId, KeyRef, Span, When, shown};
use crate::store::{KeyUses, Store, StoreError, UsageMoment};

/// How far back usage is counted unless asked otherwise.
const SINCE: Span = Span(24 * 3_600_000);
/// Keys that a report tells apart from the others at most.
const TOP_MAX: usize = 1_000;

/// What `GET /v1/usage` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// Of this key: an id, or `account/name`. Then the answer also tells the last use of each secret, and recent networks.
    key: Option<String>,
    /// Of this account's keys, deleted ones included.
    account: Option<String>,
    /// From this moment: RFC 3339, a date, or a span ago such as `7d`. By default 24 hours ago. Counted by whole minutes.
    since: Option<String>,
    /// To this moment, likewise. By default now.
    until: Option<String>,
    /// The dimensions, separated by commas: `function`, `verdict`, `secret`, `key`, `country`, and one of `minute`, `hour`, `day`.
    /// `country` goes with `key`, `minute`, `hour` and `day` alone.
    by: Option<String>,
    /// Only the so many keys with most verifies, each by itself, most first; then tokens that no key has, and all other keys together. 1 to 1000.
    top: Option<usize>,
    /// The time zone whose hours and days are meant: a name such as `Europe/Berlin`, or an offset such as `+05:30`. By default UTC.
    zone: Option<String>,
}

/// The dimensions asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct By {
    function: bool,
    verdict: bool,
    secret: bool,
    key: bool,
    country: bool,
    period: Option<Unit>,
}

/// A report as it was asked for.
struct Wanted {
    key: Option<KeyRef>,
    account: Option<String>,
    since: Instant,
    until: Instant,
    by: By,
    top: Option<usize>,
    zone: Option<Zone>,
    now: Instant,
    /// Up to when all that was counted is in the store.
    counted_until: Instant,
    started_at: Instant,
}

/// Usage: how many verifies, by the dimensions asked for.
#[utoipa::path(
    get, path = "/v1/usage", operation_id = "get_usage", tag = "usage", params(UsageQuery),
    responses((status = 200, description = "Counts as of the last flush, which is about a second ago", body = UsageView), ReadProblems)
)]
pub(super) async fn usage(ask: Ask, Asked(query): Asked<UsageQuery>) -> Result<Json<UsageView>, Failure> {
    let lag_ms = (ask.shared.state.flush_status)().lag_ms;
    let mut wanted = Wanted::read(query, ask.now(), ask.shared.state.started_at)?;
    wanted.counted_until = Instant(wanted.now.0.saturating_sub_unsigned(lag_ms)).min(wanted.until);
    ask.search(move |store| wanted.report(store)).await.map(Json)
}

impl Wanted {
    fn read(query: UsageQuery, now: Instant, started_at: Instant) -> Result<Wanted, Failure> {
        let since = moment("since", query.since.as_deref(), now)?.unwrap_or(Instant((now.0 - SINCE.0).max(0)));
        let until = moment("until", query.until.as_deref(), now)?.unwrap_or(now);
        if since >= now && query.since.is_some() {
            return Err(Failure::invalid("since", format!("since: {since} is not in the past; it is {now} now")));
        }
        if since >= until {
            return Err(Failure::invalid("since", format!("since: {since} is not before until, {until}")));
        }
        let mut by = By::read(query.by.as_deref().unwrap_or_default())?;
        if query.key.is_some() && query.account.is_some() {
            return Err(Failure::invalid("account", "account: excludes key; give one of the two"));
        }
        match query.top {
            Some(_) if query.key.is_some() => return Err(Failure::invalid("top", "top: excludes key; it chooses among keys")),
            Some(0) => return Err(Failure::invalid("top", "top: 0 would show nothing; expected 1 to 1000")),
            Some(top) if top > TOP_MAX => {
                return Err(Failure::new(Word::Limit, format!("top: {top} is over the limit of {TOP_MAX} keys")).with_field("top"));
            }
            _ => by.key |= query.top.is_some(),
        }
        let zone = query.zone.as_deref().map(Zone::read).transpose()?;
        let key = query.key.as_deref().map(body::key_ref);
        Ok(Wanted { key, account: query.account, since, until, by, top: query.top, zone, now, counted_until: until.min(now), started_at })
    }

    fn report(self, store: &Store) -> Result<UsageView, Failure> {
        let begun = std::time::Instant::now();
        let key = self.key.as_ref().map(|key| find(store, key)).transpose()?;
        let whose = match (&key, &self.account) {
            (Some(key), _) => Whose::One(key.id),
            (None, Some(account)) => Whose::These(keys_of_account(store, account)?.into_iter().collect()),
            (None, None) => Whose::All,
        };
        // All that is told of usage is of one moment.
        let usage = store.usage()?;
        let zone = self.zone.clone().unwrap_or_else(Zone::utc);
        let periods = self.periods(&usage, &zone)?;
        let reading = Reading::of(usage.kept(), periods.as_ref(), (self.since, self.until));
        let counting = Counting { usage: &usage, whose: &whose, reading: &reading, begun };
        let top = self.top.map(|most| counting.top(most)).transpose()?;
        let (groups, total) = counting.groups(self.by, periods.as_ref(), top.as_ref())?;
        let names = Names::of(store, self.by, &groups)?;
        let mut rows: Vec<UsageRow> =
            groups.iter().map(|(group, sum)| self.row(group, *sum, periods.as_ref(), &names, top.as_ref())).collect();
        let unknown =
            reading.unknown((self.since, self.until), &counted::covered(&usage, (self.since, self.until), self.started_at)?, self.now);
        let mut unknown_periods = Vec::new();
        if let (Some(periods), true) = (&periods, self.by.only_time()) {
            unknown_periods = self.fill(&mut rows, periods, &unknown);
        }
        let (secrets, networks) = match &key {
            Some(key) => {
                let uses = usage.uses(key.id)?;
                (with_last_uses(key, &uses, self.now).secrets, recent_networks(uses))
            }
            None => (Vec::new(), Vec::new()),
        };
        Ok(UsageView {
            since: self.since,
            until: self.until,
            counted_until: self.counted_until,
            zone: zone.name,
            total: total.count,
            denied: (!self.by.country).then_some(total.denied),
            rows,
            unknown: unknown.into_iter().map(|(since, until)| Interval { since, until }).collect(),
            unknown_periods,
            exact_since: reading.exact_since,
            secrets,
            networks,
        })
    }

    /// The periods up to now. Where they would be more than rows, those before anything was counted, or is kept by so short a unit, are left out: that nothing is
    /// known of that time is told all the same.
    fn periods(&self, usage: &UsageMoment<'_>, zone: &Zone) -> Result<Option<Periods>, Failure> {
        let Some(unit) = self.by.period else { return Ok(None) };
        let until = self.until.min(Instant(self.now.0.saturating_add(1)));
        let of = |since: Instant| Periods::of(unit, zone.clone(), (since, until), ROWS);
        if let Some(periods) = of(self.since) {
            return Ok(Some(periods));
        }
        let begun = usage.begun()?.unwrap_or(self.started_at).max(counted::known(&usage.kept(), unit)).min(self.now);
        of(self.since.max(begun)).map(Some).ok_or_else(too_many_rows)
    }

    /// Adds a row of zero for each period of which something is known and nothing was counted; tells those of which nothing is known.
    fn fill(&self, rows: &mut Vec<UsageRow>, periods: &Periods, unknown: &[(Instant, Instant)]) -> Vec<Period> {
        let counted: HashSet<Instant> = rows.iter().filter_map(|row| row.at).collect();
        let (begun, over) = (self.since, self.until.min(self.now));
        let mut unknown_periods = Vec::new();
        for (number, begin, end) in periods.each() {
            let (at, local) = (periods.begin(number), self.local(periods, begin));
            let (begin, end) = (begin.max(begun.0), end.min(over.0));
            if begin >= end || counted.contains(&at) {
                continue;
            }
            // The first that ends behind this beginning; intervals do not touch one another.
            let hidden = unknown.partition_point(|(_, until)| until.0 <= begin);
            if unknown.get(hidden).is_some_and(|(since, until)| since.0 <= begin && end <= until.0) {
                unknown_periods.push(Period { at, local });
            } else {
                rows.push(UsageRow { at: Some(at), local, denied: (!self.by.country).then_some(0), ..UsageRow::default() });
            }
        }
        rows.sort_unstable_by_key(|row| row.at);
        unknown_periods
    }

    fn local(&self, periods: &Periods, at: i64) -> Option<String> {
        self.zone.as_ref().map(|_| periods.zone.written(at))
    }

    fn row(&self, group: &Group, sum: Sum, periods: Option<&Periods>, names: &Names, top: Option<&Top>) -> UsageRow {
        let at = group.period.zip(periods).map(|(period, periods)| periods.begin(period));
        let key = |id: KeyId| names.keys.get(&id).cloned().unwrap_or_else(|| "(unknown)".to_owned());
        UsageRow {
            key_id: match group.key {
                Some(Who::Key(key)) if key != KeyId::NONE => Some(key),
                _ => None,
            },
            key: group.key.map(|who| match who {
                Who::Key(KeyId::NONE) => "(no key)".to_owned(),
                Who::Key(id) => key(id),
                Who::Others => "(others)".to_owned(),
            }),
            function: group.function.map(|function| names.function(function)),
            verdict: group.verdict.map(|verdict| verdict.as_str().to_owned()),
            // Tokens that no key has are counted with version 0.
            version: group.version.filter(|version| *version > 0),
            country: group.country.map(|country| country.map_or_else(|| "(unknown)".to_owned(), |country| country.to_string())),
            local: at.zip(periods).and_then(|(at, periods)| self.local(periods, at.0)),
            at,
            count: sum.count,
            denied: (!self.by.country && !self.by.verdict).then_some(sum.denied),
            keys: top.filter(|_| group.key == Some(Who::Others)).map(|top| top.others),
        }
    }
}

/// A moment as a query writes it; a span is so long ago.
pub(super) fn moment(field: &'static str, text: Option<&str>, now: Instant) -> Result<Option<Instant>, Failure> {
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
            let dimension = match name {
                "function" => &mut by.function,
                "verdict" => &mut by.verdict,
                "secret" => &mut by.secret,
                "key" => &mut by.key,
                "country" => &mut by.country,
                "minute" | "hour" | "day" => {
                    let unit = match name {
                        "minute" => Unit::Minute,
                        "hour" => Unit::Hour,
                        _ => Unit::Day,
                    };
                    if by.period.replace(unit).is_some_and(|other| other != unit) {
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
            *dimension = true;
        }
        if by.country && (by.function || by.verdict || by.secret) {
            let detail =
                "by: country goes with key, minute, hour and day alone: countries are counted apart from functions, verdicts and secrets";
            return Err(Failure::invalid("by", detail));
        }
        Ok(by)
    }

    /// Whether a minute, an hour or a day is the only dimension.
    fn only_time(self) -> bool {
        self.period.is_some() && By { period: None, ..self } == By::default()
    }
}

/// What the numbers and ids of a report are called.
struct Names {
    functions: HashMap<FunctionId, String>,
    keys: HashMap<KeyId, String>,
}

impl Names {
    fn of(store: &Store, by: By, groups: &[(Group, Sum)]) -> Result<Names, StoreError> {
        let mut names = Names { functions: HashMap::new(), keys: HashMap::new() };
        if by.function {
            let functions = store.functions_ever()?;
            names.functions = functions.into_iter().map(|(function, _)| (function.id, function.name.to_string())).collect();
        }
        for (group, _) in groups {
            if let Some(Who::Key(id)) = group.key.filter(|who| *who != Who::Key(KeyId::NONE))
                && !names.keys.contains_key(&id)
                && let Some(key) = store.key(id)?
            {
                names.keys.insert(id, format!("{}/{}", key.settings.account, key.settings.name));
            }
        }
        Ok(names)
    }

    fn function(&self, id: FunctionId) -> String {
        match id {
            FunctionId::UNREGISTERED => "(unregistered)".to_owned(),
            FunctionId::OTHER => "(other)".to_owned(),
            id => self.functions.get(&id).cloned().unwrap_or_else(|| format!("(function {})", id.0)),
        }
    }
}

/// A key with the last use of each secret.
pub(super) fn with_last_uses(key: &Key, uses: &KeyUses, now: Instant) -> KeyView {
    let mut view = view::key(key, now);
    for used in &uses.last {
        if let Some(secret) = view.secrets.iter_mut().find(|secret: &&mut SecretView| secret.version == used.version) {
            secret.last_used_at = Some(used.at);
            secret.last_address = used.address;
            secret.last_country = used.country;
        }
    }
    view
}

fn recent_networks(uses: KeyUses) -> Vec<RecentNetwork> {
    uses.networks.into_iter().map(|used| RecentNetwork { network: used.network, last_used_at: used.at }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_that_are_not_counted_together_are_refused() {
        assert_eq!(By::read("").unwrap(), By::default());
        assert_eq!(
            By::read("function, verdict,hour").unwrap(),
            By { function: true, verdict: true, period: Some(Unit::Hour), ..By::default() }
        );
        assert!(By::read("country,key,day").unwrap().country);
        for bad in ["colour", "hour,day", "minute,hour", "country,function", "country,verdict", "country,secret"] {
            assert_eq!(By::read(bad).unwrap_err().problem().field.as_deref(), Some("by"), "{bad}");
        }
    }

    #[test]
    fn a_span_is_that_long_ago() {
        const DAY_MS: i64 = 86_400_000;
        let now = Instant(10 * DAY_MS);
        assert_eq!(moment("since", Some("7d"), now).unwrap(), Some(Instant(3 * DAY_MS)));
        assert_eq!(moment("since", Some("30d"), now).unwrap(), Some(Instant(0)));
        assert_eq!(moment("since", Some("1970-01-02"), now).unwrap(), Some(Instant(DAY_MS)));
        assert!(moment("since", Some("yesterday"), now).is_err());
    }
}
