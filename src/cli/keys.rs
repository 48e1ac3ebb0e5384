use std::collections::BTreeMap;

use hyper::Method;

use super::args::changes::{Create, Edit, Listed, ListedGrant, ListedTag, Moment, Single, Switch};
use super::args::keys::{Expiring, List, One};
use super::ask;
use super::exit::{Exit, Failure};
use super::http::{Admin, key_path, with_query};
use super::screen::{Hue, Screen, counted, grouped, now};
use super::view;
use super::wizard;
use crate::admin::wire::{BulkAction, BulkBody, BulkView, CopyBody, CreateBody, KeyPage, KeyView, MadeView};
use crate::catalog::change::{Patch, Selection};
use crate::key::{Country, Grant, Instant, KeyRef, Network, Settings};

/// Keys that `list` shows when nothing else is said.
const LIST_LIMIT: u32 = 100;
/// Keys in a page when all of them are wanted.
const PAGE_KEYS: u32 = 1_000;

/// `create`
pub(crate) fn create(admin: &Admin, screen: &Screen, arguments: Create) -> Result<Exit, Failure> {
    let complete = arguments.name.is_some() && arguments.account.is_some();
    let arguments = if complete {
        arguments
    } else if ask::can_ask() && !screen.json {
        wizard::complete(admin, arguments)?
    } else {
        let missing = if arguments.name.is_none() { "--name" } else { "--account" };
        return Err(Failure::usage(format!("create needs {missing} (on a terminal and without --json it asks for what is missing)")));
    };
    let request_id = arguments.request_id.clone();
    let body = CreateBody { settings: settings(arguments, now()), request_id };
    let made: MadeView = admin.send(Method::POST, "/v1/keys", &body, None)?;
    screen
        .show(&made, || view::made(screen, &made, &format!("Created {}", view::label(&made.key))))
        .map_err(|error| unseen(&made, error))?;
    Ok(Exit::Ok)
}

/// The change was made and its token is gone: who reads only 'cannot write' would think that nothing happened.
pub(crate) fn unseen(made: &MadeView, error: Failure) -> Failure {
    let MadeView { id, version, .. } = made;
    let lost =
        if made.token.is_some() { "its token could not be shown and is lost: rotate the key to get another" } else { "it was made before" };
    error.after(&format!("secret {version} of {id} was made, but {lost}"))
}

fn settings(arguments: Create, now: Instant) -> Settings {
    let mut settings = Settings::new(&arguments.account.unwrap_or_default(), &arguments.name.unwrap_or_default());
    settings.description = arguments.description.unwrap_or_default();
    settings.tags = arguments.tags.into_iter().collect();
    settings.enabled = !arguments.disabled;
    settings.not_before = arguments.not_before.and_then(|moment| instant(moment, now));
    settings.expires_at = arguments.expires.and_then(|moment| instant(moment, now));
    settings.grants = arguments.grants;
    settings.networks = arguments.networks;
    settings.countries = arguments.countries;
    settings.unknown_country = arguments.unknown_country.map(Into::into).unwrap_or_default();
    settings
}

fn instant(moment: Moment, now: Instant) -> Option<Instant> {
    match moment {
        Moment::Never => None,
        Moment::When(when) => Some(when.resolve(now)),
    }
}

/// `list`
pub(crate) fn list(admin: &Admin, screen: &Screen, arguments: &List) -> Result<Exit, Failure> {
    let mut page = page(admin, arguments, arguments.after.clone())?;
    while arguments.all && page.next.is_some() {
        let more = self::page(admin, arguments, page.next.take())?;
        page.keys.extend(more.keys);
        page.next = more.next;
    }
    screen.show(&page, || match page.keys.is_empty() && screen.terminal {
        true => "No such key.\n".to_owned(),
        false => view::keys(screen, &page.keys),
    })?;
    if let (false, Some(next)) = (screen.json, &page.next) {
        eprintln!("{} shown, more follow: --all, or --after {next}", grouped(page.keys.len() as u64));
    }
    Ok(Exit::Ok)
}

fn page(admin: &Admin, arguments: &List, after: Option<String>) -> Result<KeyPage, Failure> {
    let limit = if arguments.all { PAGE_KEYS } else { arguments.limit.unwrap_or(LIST_LIMIT) };
    admin.get(&with_query(
        "/v1/keys",
        &[
            ("account", arguments.account.clone()),
            ("name", arguments.name.clone()),
            ("tag", arguments.tag.as_ref().map(|(name, value)| format!("{name}={value}"))),
            ("state", arguments.state.map(|state| state.as_str().to_owned())),
            ("function", arguments.function.as_ref().map(ToString::to_string)),
            ("expiring_within", arguments.expiring_within.map(|span| span.to_string())),
            ("other_pepper", arguments.other_pepper.then(|| "true".to_owned())),
            ("deleted", arguments.deleted.then(|| "true".to_owned())),
            ("limit", Some(limit.to_string())),
            ("after", after),
        ],
    ))
}

/// `expiring`
pub(crate) fn expiring(admin: &Admin, screen: &Screen, arguments: &Expiring) -> Result<Exit, Failure> {
    let filter = List { expiring_within: Some(arguments.within), all: true, ..List::default() };
    let mut keys = every(admin, &filter)?;
    keys.sort_by_key(|key| key.expires_at);
    let page = KeyPage { keys, next: None };
    screen.show(&page, || match page.keys.is_empty() && screen.terminal {
        true => format!("{} No key expires within {}.\n", screen.paint("✓", Hue::Good), arguments.within),
        false => view::keys(screen, &page.keys),
    })?;
    Ok(if page.keys.is_empty() { Exit::Ok } else { Exit::No })
}

fn every(admin: &Admin, filter: &List) -> Result<Vec<KeyView>, Failure> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = page(admin, filter, after)?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

/// `show`
pub(crate) fn show(admin: &Admin, screen: &Screen, arguments: &One) -> Result<Exit, Failure> {
    let key: KeyView = admin.get(&key_path(&arguments.key, ""))?;
    screen.show(&key, || view::key(screen, &key, true))?;
    Ok(Exit::Ok)
}

/// `edit`
pub(crate) fn edit(admin: &Admin, screen: &Screen, arguments: Edit) -> Result<Exit, Failure> {
    let now = now();
    let (yes, revision) = (arguments.yes, arguments.guard.if_revision);
    match arguments.key.clone() {
        Some(key) => {
            let patch = patch(arguments, now);
            refuse_empty(&patch)?;
            let key: KeyView = admin.send(Method::PATCH, &key_path(&key, ""), &patch, revision)?;
            changed(screen, &key, "Changed")
        }
        None => {
            let tag = match arguments.tags.as_slice() {
                [] => None,
                [ListedTag(Some((name, value)))] => Some(format!("{name}={value}")),
                _ => return Err(Failure::usage("without a KEY, --tag chooses the keys: give one tag, NAME=VALUE")),
            };
            let selection = Selection { account: arguments.account.clone(), tag };
            let patch = patch(Edit { account: None, tags: Vec::new(), ..arguments }, now);
            refuse_empty(&patch)?;
            many(admin, screen, BulkBody { select: selection, action: BulkAction::Edit, patch: Some(patch) }, yes, revision)
        }
    }
}

fn refuse_empty(patch: &Patch) -> Result<(), Failure> {
    if *patch == Patch::default() { Err(Failure::usage("edit: nothing to change was given; see 'doorward edit --help'")) } else { Ok(()) }
}

fn patch(arguments: Edit, now: Instant) -> Patch {
    Patch {
        name: arguments.name,
        account: arguments.account,
        description: arguments.description,
        enabled: None,
        not_before: arguments.not_before.map(|moment| instant(moment, now)),
        expires_at: arguments.expires.map(|moment| instant(moment, now)),
        grants: whole(arguments.grants, |ListedGrant(grant): ListedGrant| -> Option<Grant> { grant }),
        add_grants: arguments.add_grants,
        remove_grants: arguments.remove_grants,
        networks: whole(arguments.networks, |Listed(network): Listed<Network>| network),
        add_networks: arguments.add_networks,
        remove_networks: arguments.remove_networks,
        countries: whole(arguments.countries, |Listed(country): Listed<Country>| country),
        add_countries: arguments.add_countries,
        remove_countries: arguments.remove_countries,
        unknown_country: arguments.unknown_country.map(Into::into),
        tags: whole(arguments.tags, |ListedTag(tag): ListedTag| tag).map(|tags| tags.into_iter().collect::<BTreeMap<_, _>>()),
        add_tags: arguments.add_tags.into_iter().collect(),
        remove_tags: arguments.remove_tags,
    }
}

/// A list flag that was given sets the whole list; the word for none leaves it empty.
fn whole<F, T>(flags: Vec<F>, entry: impl Fn(F) -> Option<T>) -> Option<Vec<T>> {
    if flags.is_empty() { None } else { Some(flags.into_iter().filter_map(entry).collect()) }
}

/// `enable` and `disable`
pub(crate) fn switch(admin: &Admin, screen: &Screen, arguments: Switch, enable: bool) -> Result<Exit, Failure> {
    let revision = arguments.guard.if_revision;
    if let Some(key) = &arguments.key {
        let path = key_path(key, if enable { "/enable" } else { "/disable" });
        let key: KeyView = admin.act(Method::POST, &path, revision)?;
        return changed(screen, &key, if enable { "Enabled" } else { "Disabled" });
    }
    let tag = arguments.tag.map(|(name, value)| format!("{name}={value}"));
    let select = Selection { account: arguments.account, tag };
    let action = if enable { BulkAction::Enable } else { BulkAction::Disable };
    many(admin, screen, BulkBody { select, action, patch: None }, arguments.yes, revision)
}

fn many(admin: &Admin, screen: &Screen, body: BulkBody, yes: bool, revision: Option<u64>) -> Result<Exit, Failure> {
    if revision.is_some() {
        return Err(Failure::usage("--if-revision is for one KEY: many keys have a revision each"));
    }
    if !yes {
        let tag = body.select.tag.as_deref().and_then(|tag| tag.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
        let filter = List { account: body.select.account.clone(), tag, all: true, ..List::default() };
        let doing = match body.action {
            BulkAction::Enable => "Enable",
            BulkAction::Disable => "Disable",
            BulkAction::Edit => "Change",
        };
        // Counting a large store takes a moment, so without anybody to ask it is not counted.
        let count = if ask::can_ask() { counted(every(admin, &filter)?.len() as u64, "key") } else { "all keys".to_owned() };
        ask::confirm(false, &format!("{doing} {count} {}?", chosen(&body.select)))?;
    }
    let done: BulkView = admin.send(Method::POST, "/v1/keys-bulk", &body, None)?;
    screen.show(&done, || {
        let count = done.changed.len() as u64;
        if screen.terminal {
            return format!("{} Changed {}; the others were already so.\n", screen.paint("✓", Hue::Good), counted(count, "key"));
        }
        done.changed.iter().map(|id| format!("{id}\n")).collect()
    })?;
    Ok(Exit::Ok)
}

fn chosen(selection: &Selection) -> String {
    let account = selection.account.as_ref().map(|account| format!("of account '{account}'"));
    let tag = selection.tag.as_ref().map(|tag| format!("with tag '{tag}'"));
    [account, tag].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// `copy`
pub(crate) fn copy(admin: &Admin, screen: &Screen, key: &KeyRef, name: String, account: Option<String>) -> Result<Exit, Failure> {
    let made: MadeView = admin.send(Method::POST, &key_path(key, "/copy"), &CopyBody { name, account }, None)?;
    let title = format!("Copied {key} to {}", view::label(&made.key));
    screen.show(&made, || view::made(screen, &made, &title)).map_err(|error| unseen(&made, error))?;
    Ok(Exit::Ok)
}

/// `delete`
pub(crate) fn delete(admin: &Admin, screen: &Screen, arguments: &Single) -> Result<Exit, Failure> {
    let key: KeyView = admin.act(Method::DELETE, &key_path(&arguments.key, ""), arguments.guard.if_revision)?;
    let done = changed(screen, &key, "Deleted")?;
    if screen.terminal {
        eprintln!("It can be brought back for a while:\n  doorward undelete {}", key.id);
    }
    Ok(done)
}

/// `undelete`
pub(crate) fn undelete(admin: &Admin, screen: &Screen, arguments: &Single) -> Result<Exit, Failure> {
    let key: KeyView = admin.act(Method::POST, &key_path(&arguments.key, "/undelete"), arguments.guard.if_revision)?;
    changed(screen, &key, "Brought back")
}

/// Shows a key after a change of it.
pub(crate) fn changed(screen: &Screen, key: &KeyView, done: &str) -> Result<Exit, Failure> {
    screen.show(key, || {
        let title = if screen.terminal { format!("{} {done}\n", screen.paint("✓", Hue::Good)) } else { String::new() };
        title + &view::key(screen, key, false)
    })?;
    Ok(Exit::Ok)
}
