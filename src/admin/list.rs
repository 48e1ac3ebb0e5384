//! Which keys a list shows: filters, pages, and a bound on the time that one page may take.

use std::time::Duration;

use axum::Json;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use utoipa::IntoParams;

use super::ask::{Ask, Asked};
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::view;
use super::wire::KeyPage;
use crate::key::{FunctionName, Grant, Instant, Key, KeyId, PepperId, Span, State, shown};
use crate::store::{Store, StoreError};

/// Entries of a page, unless asked otherwise.
pub(super) const PAGE: usize = 100;
/// The most entries of a page.
pub(super) const PAGE_MAX: usize = 1_000;
/// How long one page may search. A page that ends here is short and has a cursor; the caller goes on from it.
const SEARCH_TIME: Duration = Duration::from_millis(500);

/// What `GET /v1/keys` takes. Every condition must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Keys of this account.
    account: Option<String>,
    /// Keys of this name; with a `*` at its end, of every name that begins so.
    name: Option<String>,
    /// Keys with this tag, written `name=value`; `name` alone takes any value.
    tag: Option<String>,
    /// Keys in this state: `active`, `disabled`, `not_yet_valid`, `expired`, `revoked` or `deleted`.
    state: Option<String>,
    /// Keys whose grants cover this function.
    function: Option<String>,
    /// Keys that expire within this span from now, such as `30d`, and have not expired.
    expiring_within: Option<String>,
    /// Keys with a secret that may still be good and is under another pepper than the current one.
    other_pepper: Option<bool>,
    /// Tombstones instead of keys.
    deleted: Option<bool>,
    /// Entries of the page: 1 to 1000, by default 100.
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// The conditions, read.
#[derive(Debug, Default)]
struct Filter {
    account: Option<String>,
    name: Option<(String, bool)>,
    tag: Option<(String, Option<String>)>,
    state: Option<State>,
    function: Option<Callee>,
    expiring_before: Option<Instant>,
    /// The current pepper, where those that need another one are asked for.
    other_pepper_than: Option<PepperId>,
    deleted: bool,
}

/// A function that keys are asked for, and how the catalog knows it.
#[derive(Debug)]
struct Callee {
    name: FunctionName,
    registered: bool,
    restricted: bool,
    strict: bool,
}

/// Keys, filtered and in pages.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "keys", params(ListQuery),
    responses((status = 200, description = "A page of keys, in order of creation", body = KeyPage), ReadProblems)
)]
pub(super) async fn list(ask: Ask, Asked(query): Asked<ListQuery>) -> Result<Json<KeyPage>, Failure> {
    let limit = page_limit(query.limit)?;
    let after =
        query.after.as_deref().map(|text| text.parse::<KeyId>().map_err(|error| Failure::invalid("after", format!("after: {error}"))));
    let after = after.transpose()?;
    let now = ask.now();
    let strict = ask.shared.state.door.index.strict();
    let pepper = ask.shared.state.catalog.pepper();
    let (keys, next) = ask
        .search(move |store| {
            let filter = Filter::read(query, now, strict, pepper, store)?;
            filter.page(store, after, limit, now)
        })
        .await?;
    let keys = keys.iter().map(|key| view::key(key, now)).collect();
    Ok(Json(KeyPage { keys, next: next.map(|id| id.to_string()) }))
}

/// The `limit` of a page.
pub(super) fn page_limit(limit: Option<usize>) -> Result<usize, Failure> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        0 => Err(Failure::invalid("limit", "limit: 0 would show nothing; expected 1 to 1000")),
        limit => Err(Failure::new(Word::Limit, format!("limit: {limit} is over the limit of {PAGE_MAX} entries")).with_field("limit")),
    }
}

impl Filter {
    fn read(query: ListQuery, now: Instant, strict: bool, pepper: PepperId, store: &Store) -> Result<Filter, Failure> {
        let state = query.state.as_deref().map(read_state).transpose()?;
        let name = query.name.map(|name| match name.strip_suffix('*') {
            Some(prefix) => (prefix.to_owned(), true),
            None => (name, false),
        });
        let tag = query.tag.map(|tag| match tag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (tag, None),
        });
        let function = query.function.map(|name| Callee::read(&name, strict, store)).transpose()?;
        let span = query.expiring_within.map(|text| text.parse::<Span>());
        let span = span.transpose().map_err(|error| Failure::invalid("expiring_within", format!("expiring_within: {error}")))?;
        let deleted = query.deleted.unwrap_or(state == Some(State::Deleted));
        let other_pepper_than = query.other_pepper.unwrap_or(false).then_some(pepper);
        let expiring_before = span.map(|span| now.plus(span));
        Ok(Filter { account: query.account, name, tag, state, function, expiring_before, other_pepper_than, deleted })
    }

    fn matches(&self, key: &Key, now: Instant) -> bool {
        let settings = &key.settings;
        let name_fits = |(name, prefix): &(String, bool)| if *prefix { settings.name.starts_with(name) } else { settings.name == *name };
        let tag_fits = |(name, value): &(String, Option<String>)| {
            settings.tags.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        let expires_soon = |before: &Instant| settings.expires_at.is_some_and(|expires_at| now < expires_at && expires_at <= *before);
        key.deleted_at.is_some() == self.deleted
            && self.account.as_ref().is_none_or(|account| settings.account == *account)
            && self.name.as_ref().is_none_or(name_fits)
            && self.tag.as_ref().is_none_or(tag_fits)
            && self.state.is_none_or(|state| key.state(now) == state)
            && self.function.as_ref().is_none_or(|function| function.may_be_called_with(&settings.grants))
            && self.expiring_before.as_ref().is_none_or(expires_soon)
            && self.other_pepper_than.is_none_or(|current| key.secrets.iter().any(|secret| secret.pepper != current && secret.is_good(now)))
    }

    /// One page, and where the next begins if there may be one.
    fn page(&self, store: &Store, after: Option<KeyId>, limit: usize, now: Instant) -> Result<(Vec<Key>, Option<KeyId>), Failure> {
        match &self.account {
            Some(account) => self.search(store.keys_of_account(account, after)?, limit, now),
            None => self.search(store.keys(after), limit, now),
        }
    }

    fn search(
        &self,
        keys: impl Iterator<Item = Result<Key, StoreError>>,
        limit: usize,
        now: Instant,
    ) -> Result<(Vec<Key>, Option<KeyId>), Failure> {
        let begun = std::time::Instant::now();
        let mut page: Vec<Key> = Vec::new();
        for key in keys {
            let key = key?;
            let id = key.id;
            if self.matches(&key, now) {
                if page.len() == limit {
                    let last = page.last().map(|key| key.id);
                    return Ok((page, last));
                }
                page.push(key);
            }
            if begun.elapsed() > SEARCH_TIME {
                return Ok((page, Some(id)));
            }
        }
        Ok((page, None))
    }
}

impl Callee {
    fn read(name: &str, strict: bool, store: &Store) -> Result<Callee, Failure> {
        let name: FunctionName = name.parse().map_err(|error| Failure::invalid("function", format!("function: {error}")))?;
        let function = store.functions()?.into_iter().find(|function| function.name == name);
        let restricted = function.as_ref().is_some_and(|function| function.restricted);
        Ok(Callee { name, registered: function.is_some(), restricted, strict })
    }

    /// Whether grants cover the function, as the verdict would have it.
    fn may_be_called_with(&self, grants: &[Grant]) -> bool {
        grants.iter().any(|grant| match grant {
            Grant::Exact(name) => self.registered && *name == self.name,
            Grant::Prefix(prefix) => {
                !self.restricted && (self.registered || !self.strict) && self.name.as_str().starts_with(prefix.as_str())
            }
        })
    }
}

fn read_state(text: &str) -> Result<State, Failure> {
    let state = State::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(text));
    let expected = "expected active, disabled, not_yet_valid, expired, revoked or deleted";
    state.map_err(|_| Failure::invalid("state", format!("state: '{}' is no state; {expected}", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Secret, Settings};

    const NOW: Instant = Instant(1_000_000);

    fn key(edit: impl FnOnce(&mut Key)) -> Key {
        let secret = Secret { version: 1, digest: [0; 32], pepper: PepperId([0; 8]), created_at: NOW, retires_at: None, revoked_at: None };
        let settings = Settings::new("acme", "web");
        let mut key = Key { id: KeyId([1; 16]), settings, secrets: vec![secret], created_at: NOW, deleted_at: None, revision: 1 };
        edit(&mut key);
        key
    }

    #[test]
    fn names_match_whole_or_by_their_beginning() {
        let named = |name: &str, prefix| Filter { name: Some((name.into(), prefix)), ..Filter::default() };
        let key = key(|_| {});
        for (filter, matches) in [
            (named("web", false), true),
            (named("we", false), false),
            (named("we", true), true),
            (named("", true), true),
            (named("wx", true), false),
        ] {
            assert_eq!(filter.matches(&key, NOW), matches, "{filter:?}");
        }
    }

    #[test]
    fn secrets_that_need_another_pepper() {
        let retiring = |at: i64| key(|key| key.secrets[0].retires_at = Some(Instant(at)));
        let revoked = key(|key| key.secrets[0].revoked_at = Some(NOW));
        let under = |pepper| Filter { other_pepper_than: Some(PepperId([pepper; 8])), ..Filter::default() };
        for (current, key, matches) in [
            (0, key(|_| {}), false),
            (1, key(|_| {}), true),
            (1, retiring(NOW.0 + 1), true),
            (1, retiring(NOW.0), false),
            (1, revoked, false),
        ] {
            assert_eq!(under(current).matches(&key, NOW), matches, "{current} {key:?}");
        }
    }

    #[test]
    fn tags_states_and_expiry() {
        let tagged = key(|key| {
            key.settings.tags.insert("team".into(), "sales".into());
            key.settings.expires_at = Some(Instant(NOW.0 + 10));
        });
        let tag = |name: &str, value: Option<&str>| Filter { tag: Some((name.into(), value.map(Into::into))), ..Filter::default() };
        assert!(tag("team", Some("sales")).matches(&tagged, NOW));
        assert!(tag("team", None).matches(&tagged, NOW));
        assert!(!tag("team", Some("ops")).matches(&tagged, NOW));
        assert!(!tag("owner", None).matches(&tagged, NOW));
        let expiring = |before| Filter { expiring_before: Some(Instant(before)), ..Filter::default() };
        assert!(expiring(NOW.0 + 10).matches(&tagged, NOW));
        assert!(!expiring(NOW.0 + 9).matches(&tagged, NOW));
        assert!(!expiring(NOW.0 + 99).matches(&tagged, Instant(NOW.0 + 10)));
        let active = Filter { state: Some(State::Active), ..Filter::default() };
        assert!(active.matches(&tagged, NOW));
        assert!(!active.matches(&tagged, Instant(NOW.0 + 10)));
        let gone = key(|key| key.deleted_at = Some(NOW));
        assert!(!Filter::default().matches(&gone, NOW));
        assert!(Filter { deleted: true, ..Filter::default() }.matches(&gone, NOW));
    }

    #[test]
    fn a_function_is_covered_as_the_verdict_has_it() {
        let grants = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Grant>>();
        let callee = |registered, restricted, strict| Callee { name: "leads.insert".parse().unwrap(), registered, restricted, strict };
        for (function, by_name, by_wildcard) in [
            (callee(true, false, true), true, true),
            (callee(true, true, true), true, false),
            (callee(false, false, true), false, false),
            (callee(false, false, false), false, true),
        ] {
            assert_eq!(function.may_be_called_with(&grants(&["x", "leads.insert"])), by_name, "{function:?}");
            assert_eq!(function.may_be_called_with(&grants(&["x", "leads.*"])), by_wildcard, "{function:?}");
            assert!(!function.may_be_called_with(&grants(&["leads.inserts", "leads.insert.*", "leads"])), "{function:?}");
        }
    }

    #[test]
    fn states_and_limits_are_read_strictly() {
        assert_eq!(read_state("not_yet_valid").unwrap(), State::NotYetValid);
        assert!(read_state("Active").is_err() && read_state("").is_err());
        assert_eq!(page_limit(None).unwrap(), PAGE);
        assert_eq!(page_limit(Some(1_000)).unwrap(), 1_000);
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(1_001)).is_err());
    }
}
