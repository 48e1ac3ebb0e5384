//! What could be tightened, from what is known of each key's usage.

use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::{Ask, Asked, find, keys_of_account};
use super::body;
use super::evidence::{self, Catalog};
use super::problem::{Failure, Word};
use super::routes::ReadProblems;
use super::wire::{AdviceList, AdviceView};
use crate::advise::{Advice, Edit, Evidence, Kind, Surroundings, advise};
use crate::catalog::change::Patch;
use crate::key::{CountryOf, Instant, Key, KeyRef, Span, shell_line, shown};
use crate::store::Store;

/// Pieces of advice in one answer, unless asked otherwise, and at most.
const ADVICE: (usize, usize) = (10_000, 100_000);

/// What `GET /v1/advise` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AdviseQuery {
    /// For this key: an id, or `account/name`. Else for every key that is not deleted.
    key: Option<String>,
    /// For the keys of this account.
    account: Option<String>,
    /// Only these kinds, separated by commas.
    kind: Option<String>,
    /// Only advice that looked at so long a time or longer, such as `30d`.
    min_history: Option<String>,
    /// Pieces of advice: 1 to 100000, by default 10000.
    limit: Option<usize>,
}

/// What is asked for, read.
struct Wanted {
    key: Option<KeyRef>,
    account: Option<String>,
    kinds: Vec<Kind>,
    history: Span,
    limit: usize,
}

/// Least privilege: rights that were never used, and keys that want a look.
#[utoipa::path(
    get, path = "/v1/advise", operation_id = "get_advice", tag = "usage", params(AdviseQuery),
    responses((status = 200, description = "What could be tightened, with the evidence and the command that does it", body = AdviceList), ReadProblems)
)]
pub(super) async fn get(ask: Ask, Asked(query): Asked<AdviseQuery>) -> Result<Json<AdviceList>, Failure> {
    let state = &ask.shared.state;
    // Whatever the address: without a database none is placed.
    let places = state.door.geo.country(std::net::Ipv4Addr::UNSPECIFIED.into()) != CountryOf::NoDatabase;
    let surroundings = Surroundings { now: ask.now(), places, limits: state.judgement.read().advise };
    let wanted = Wanted::read(query)?;
    ask.search(move |store| list(store, &wanted, &surroundings)).await.map(Json)
}

impl Wanted {
    fn read(query: AdviseQuery) -> Result<Wanted, Failure> {
        if query.key.is_some() && query.account.is_some() {
            return Err(Failure::invalid("account", "account: excludes key; give one of the two"));
        }
        let kinds = query.kind.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        let kinds = kinds.map(|name| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
            let every = || Kind::ALL.map(Kind::as_str).join(", ");
            kind.ok_or_else(|| Failure::invalid("kind", format!("kind: '{}' is no kind of advice; expected {}", shown(name), every())))
        });
        let history = query.min_history.as_deref().unwrap_or("0s").parse();
        let limit = query.limit.unwrap_or(ADVICE.0);
        if !(1..=ADVICE.1).contains(&limit) {
            return Err(Failure::new(Word::Limit, format!("limit: {limit}; expected 1 to {}", ADVICE.1)).with_field("limit"));
        }
        Ok(Wanted {
            key: query.key.as_deref().map(body::key_ref),
            account: query.account,
            kinds: kinds.collect::<Result<_, _>>()?,
            history: history.map_err(|error| Failure::invalid("min_history", format!("min_history: {error}")))?,
            limit,
        })
    }

    fn takes(&self, advice: &Advice, now: Instant) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&advice.kind)) && now.since(advice.since) >= self.history
    }
}

fn list(store: &Store, wanted: &Wanted, surroundings: &Surroundings) -> Result<AdviceList, Failure> {
    let catalog = Catalog::read(store)?;
    let mut list = AdviceList { advice: Vec::new(), total: 0, keys: 0 };
    let (now, lately) = (surroundings.now, surroundings.limits.idle_after);
    let mut look = |key: &Key, evidence: &Evidence| {
        list.keys += 1;
        for advice in advise(key, evidence, surroundings).into_iter().filter(|advice| wanted.takes(advice, surroundings.now)) {
            list.total += 1;
            if list.advice.len() < wanted.limit {
                list.advice.push(view(key, advice));
            }
        }
    };
    match (&wanted.key, &wanted.account) {
        (Some(key), _) => {
            let key = find(store, key)?;
            if key.deleted_at.is_none() {
                look(&key, &evidence::of_key(store, &key, &catalog, now, lately)?);
            }
        }
        (None, Some(account)) => {
            let ids = keys_of_account(store, account)?.into_iter().map(Ok);
            evidence::of_each(store, ids, &catalog, (now, lately), &mut look)?;
        }
        (None, None) => {
            let ids = store.keys(None).map(|key| key.map(|key| key.id));
            evidence::of_each(store, ids, &catalog, (now, lately), &mut look)?;
        }
    }
    // In the order of creation; of one key as they are.
    list.advice.sort_by_key(|advice| advice.key_id);
    Ok(list)
}

fn view(key: &Key, advice: Advice) -> AdviceView {
    AdviceView {
        key_id: key.id,
        key: format!("{}/{}", key.settings.account, key.settings.name),
        revision: key.revision,
        kind: advice.kind.as_str().to_owned(),
        evidence: advice.evidence,
        since: advice.since,
        command: shell_line(&advice.command),
        edit: advice.edit.map(patch),
    }
}

fn patch(edit: Edit) -> Patch {
    let Edit { add_grants, remove_grants, add_networks, remove_networks, add_countries, remove_countries } = edit;
    Patch { add_grants, remove_grants, add_networks, remove_networks, add_countries, remove_countries, ..Patch::default() }
}
