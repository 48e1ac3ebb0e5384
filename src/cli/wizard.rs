use std::io;
use std::str::FromStr;

use super::args::changes::{Create, Moment, Unplaced};
use super::ask::interrupted;
use super::exit::{Exit, Failure};
use super::http::{Admin, key_path};
use super::screen::{absolute, now, relative};
use super::view::joined;
use crate::admin::wire::{FunctionList, KeyView};
use crate::key::{Country, Grant, Instant, KeyRef, Settings, shell_line};

/// Functions up to this many are shown to choose from; of more, only those that are typed.
const FUNCTIONS_SHOWN: usize = 500;

/// Asks for what the command line left out, checking each answer as it is typed, then shows the equivalent command and asks for a yes.
pub(crate) fn complete(admin: &Admin, given: Create) -> Result<Create, Failure> {
    let catalog: FunctionList = admin.get("/v1/functions")?;
    cliclack::intro("A new key").map_err(|error| interrupted(&error))?;
    let answered = questions(admin, &catalog, given).inspect_err(|_| {
        // The failure itself is told anyway.
        let _ = cliclack::outro_cancel("Nothing was created");
    })?;
    summary(&answered).map_err(|error| interrupted(&error))?;
    match cliclack::confirm("Create this key?").initial_value(true).interact() {
        Ok(true) => Ok(answered),
        Ok(false) => Err(Failure::declined()),
        Err(error) => Err(interrupted(&error)),
    }
}

fn questions(admin: &Admin, catalog: &FunctionList, given: Create) -> Result<Create, Failure> {
    let mut key = given;
    loop {
        if key.name.is_none() {
            key.name = Some(text("Name", "what it is for: web, nightly-export", |name| check_label("placeholder", name)).map_err(failed)?);
        }
        if key.account.is_none() {
            let question = "Account (a customer, a system, a team; never a person)";
            key.account = Some(text(question, "acme", |account| check_label(account, "placeholder")).map_err(failed)?);
        }
        let (account, name) = (key.account.clone().unwrap_or_default(), key.name.clone().unwrap_or_default());
        if is_free(admin, &account, &name)? {
            break;
        }
        let taken = format!("{account} has a key '{name}' already: choose another name");
        cliclack::log::error(taken).map_err(failed)?;
        key.name = None;
    }
    if key.grants.is_empty() {
        key.grants = grants(catalog)?;
    }
    if key.networks.is_empty() {
        key.networks =
            list("Networks it may be used from (empty: any address)", "203.0.113.0/24, 2001:db8::/32", begins_a_network).map_err(failed)?;
    }
    if key.countries.is_empty() {
        key.countries = list::<Country>("Countries it may be used from (empty: any)", "DE, AT, CH", begins_a_country).map_err(failed)?;
        if !key.countries.is_empty() && key.unknown_country.is_none() {
            key.unknown_country = Some(unplaced().map_err(failed)?);
        }
    }
    if key.expires.is_none() {
        key.expires = Some(expiry().map_err(failed)?);
    }
    Ok(key)
}

fn failed(error: io::Error) -> Failure {
    interrupted(&error)
}

/// An error on one line of the narrowest terminal: the prompt redraws itself wrongly below one that wraps.
fn brief(checked: Result<(), String>) -> Result<(), String> {
    const CHARS: usize = 72;
    checked.map_err(|error| match error.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error,
    })
}

fn text(question: &str, example: &str, check: impl Fn(&str) -> Result<(), String> + Clone + 'static) -> io::Result<String> {
    let typed = check.clone();
    cliclack::input(question)
        .placeholder(example)
        .validate_interactively(move |text: &String| if text.is_empty() { Ok(()) } else { brief(typed(text)) })
        .validate_on_enter(move |text: &String| brief(check(text)))
        .interact()
}

/// The rules of a key's own settings, asked about one of the two labels.
fn check_label(account: &str, name: &str) -> Result<(), String> {
    Settings::new(account, name).normalize().map_err(|error| error.to_string())
}

fn is_free(admin: &Admin, account: &str, name: &str) -> Result<bool, Failure> {
    let key = KeyRef::Name { account: account.to_owned(), name: name.to_owned() };
    match admin.get::<KeyView>(&key_path(&key, "")) {
        Ok(found) => Ok(found.deleted_at.is_some()),
        Err(failure) if failure.exit == Exit::NoInput => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// The registered functions to choose from, then names and wildcards to type.
fn grants(catalog: &FunctionList) -> Result<Vec<Grant>, Failure> {
    let mut grants: Vec<Grant> = Vec::new();
    if (1..=FUNCTIONS_SHOWN).contains(&catalog.functions.len()) {
        let mut choice = cliclack::multiselect("Functions it may call (type to filter, space to choose, enter to go on)");
        choice = choice.required(false).filter_mode().max_rows(12);
        for function in &catalog.functions {
            let hint = if function.restricted { "restricted" } else { "" };
            choice = choice.item(function.name.to_string(), &function.name, hint);
        }
        let chosen = choice.interact().map_err(failed)?;
        grants.extend(chosen.iter().filter_map(|name| name.parse().ok()));
    }
    let names: Vec<String> = catalog.functions.iter().map(|function| function.name.to_string()).collect();
    let typed_names = names.clone();
    let while_typed = move |text: &String| {
        let begins_a_name = |entry: &str| typed_names.iter().any(|name| name.starts_with(entry));
        brief(check_grants(finished(text, begins_a_name), &typed_names))
    };
    let check = move |text: &String| brief(check_grants(text, &names));
    let question =
        if grants.is_empty() { "Functions it may call: names, prefixes or *" } else { "More functions: prefixes such as leads.* or *" };
    let typed: String = cliclack::input(question)
        .placeholder("leads.*, orders.read (empty: none)")
        .required(false)
        .validate_interactively(while_typed)
        .validate_on_enter(check)
        .interact()
        .map_err(failed)?;
    grants.extend(entries(&typed).filter_map(|entry| entry.parse().ok()));
    if grants.is_empty() {
        cliclack::log::warning("Without a function the key may call nothing: add some later with 'doorward edit'").map_err(failed)?;
    }
    Ok(grants)
}

/// What stands between commas and white space.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty())
}

/// The text without its last entry, if that is still being typed and may become right.
fn finished(text: &str, may_become_right: impl Fn(&str) -> bool) -> &str {
    let last = text.rfind([',', ' ', '\t']).map_or(0, |at| at + 1);
    if may_become_right(&text[last..]) { &text[..last] } else { text }
}

/// What a network consists of while it is typed.
fn begins_a_network(entry: &str) -> bool {
    entry.bytes().all(|b| b.is_ascii_hexdigit() || b".:/".contains(&b))
}

fn begins_a_country(entry: &str) -> bool {
    entry.len() < 2
}

/// A number waits for its unit, a date for its rest.
fn begins_a_moment(text: &str) -> bool {
    "never".starts_with(text) || text.bytes().all(|b| b.is_ascii_digit() || b"-:.TZ+".contains(&b))
}

/// Every entry is a grant, and an exact name is registered.
fn check_grants(text: &str, registered: &[String]) -> Result<(), String> {
    for entry in entries(text) {
        let grant: Grant = entry.parse().map_err(|error: crate::key::GrantError| error.to_string())?;
        if matches!(&grant, Grant::Exact(name) if !registered.iter().any(|known| known == name.as_str())) {
            return Err(format!("'{entry}' is not registered: 'doorward functions add {entry}' does that"));
        }
    }
    Ok(())
}

fn list<T: FromStr>(question: &str, example: &str, may_become_right: fn(&str) -> bool) -> io::Result<Vec<T>>
where
    T::Err: ToString,
{
    let parse = |text: &str| entries(text).try_for_each(|entry| entry.parse::<T>().map(drop).map_err(|error| error.to_string()));
    let typed: String = cliclack::input(question)
        .placeholder(example)
        .required(false)
        .validate_interactively(move |text: &String| brief(parse(finished(text, may_become_right))))
        .validate_on_enter(move |text: &String| brief(parse(text)))
        .interact()?;
    Ok(entries(&typed).filter_map(|entry| entry.parse().ok()).collect())
}

fn unplaced() -> io::Result<Unplaced> {
    cliclack::select("An address that the country database does not place")
        .item(Unplaced::Deny, "is refused", "the safe choice")
        .item(Unplaced::Allow, "passes", "")
        .interact()
}

fn expiry() -> io::Result<Moment> {
    let check = |text: &String| brief(check_expiry(text, now()));
    let typed: String = cliclack::input("Expires (a date, a span from now, RFC 3339, or never)")
        .default_input("365d")
        .validate_interactively(move |text: &String| if begins_a_moment(text) { Ok(()) } else { check(text) })
        .validate_on_enter(check)
        .interact()?;
    typed.parse().map_err(io::Error::other)
}

fn check_expiry(text: &str, now: Instant) -> Result<(), String> {
    match text.parse::<Moment>()? {
        Moment::When(when) if when.resolve(now) <= now => Err(format!("{} is not in the future", absolute(when.resolve(now)))),
        _ => Ok(()),
    }
}

fn summary(key: &Create) -> io::Result<()> {
    let now = now();
    let any = |text: String, empty: &str| if text.is_empty() { empty.to_owned() } else { text };
    let expires = match key.expires {
        Some(Moment::When(when)) => format!("{}, {}", absolute(when.resolve(now)), relative(when.resolve(now), now)),
        _ => "never".to_owned(),
    };
    let unplaced = match (key.countries.is_empty(), key.unknown_country) {
        (false, Some(Unplaced::Allow)) => ", and addresses without a country",
        _ => "",
    };
    let (account, name) = (key.account.as_deref().unwrap_or_default(), key.name.as_deref().unwrap_or_default());
    let lines = format!(
        "key        {account}/{name}\nfunctions  {}\nnetworks   {}\ncountries  {}{unplaced}\nexpires    {expires}",
        any(joined(&key.grants), "none"),
        any(joined(&key.networks), "any"),
        any(joined(&key.countries), "any"),
    );
    cliclack::note("The key", lines)?;
    cliclack::log::step("The same without questions:")?;
    // Outside of any box, so that it can be copied.
    eprintln!("{}", shell_line(&equivalent(key)));
    Ok(())
}

/// The command that makes the same key without questions.
fn equivalent(key: &Create) -> Vec<String> {
    let mut words: Vec<String> = vec!["doorward".into(), "create".into()];
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("account", key.account.clone().unwrap_or_default());
    flag("name", key.name.clone().unwrap_or_default());
    key.grants.iter().for_each(|grant| flag("grant", grant.to_string()));
    key.networks.iter().for_each(|network| flag("network", network.to_string()));
    key.countries.iter().for_each(|country| flag("country", country.to_string()));
    if let Some(Unplaced::Allow) = key.unknown_country {
        flag("unknown-country", "allow".into());
    }
    for (name, moment) in [("expires", key.expires), ("not-before", key.not_before)] {
        match moment {
            Some(Moment::When(crate::key::When::In(span))) => flag(name, span.to_string()),
            Some(Moment::When(crate::key::When::At(at))) => flag(name, at.to_string()),
            Some(Moment::Never) | None => (),
        }
    }
    key.tags.iter().for_each(|(name, value)| flag("tag", format!("{name}={value}")));
    if let Some(description) = &key.description {
        flag("description", description.clone());
    }
    if let Some(id) = &key.request_id {
        flag("request-id", id.clone());
    }
    if let Some(who) = &key.actor.on_behalf_of {
        flag("as", who.clone());
    }
    if key.disabled {
        words.push("--disabled".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use super::super::args::{Cli, Verb};

    #[test]
    fn the_equivalent_command_makes_the_same_key() {
        let key = Create {
            name: Some("it's web".into()),
            account: Some("acme".into()),
            grants: vec!["leads.*".parse().unwrap(), "*".parse().unwrap()],
            networks: vec!["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            countries: vec!["DE".parse().unwrap()],
            unknown_country: Some(Unplaced::Allow),
            expires: Some("365d".parse().unwrap()),
            tags: vec![("team".into(), "a, b".into())],
            disabled: true,
            ..Create::default()
        };
        let words = equivalent(&key);
        let Verb::Create(read) = Cli::try_parse_from(&words).unwrap().verb else { panic!("another verb") };
        assert_eq!(format!("{read:?}"), format!("{key:?}"));
        assert!(shell_line(&words).contains("--name 'it'\\''s web' --grant 'leads.*'"), "{}", shell_line(&words));
    }

    #[test]
    fn what_is_still_being_typed_is_not_called_wrong() {
        for (text, checked) in [("203.0", ""), ("10.0.0.0/8, 203", "10.0.0.0/8, "), ("10.0.0.0/8 x", "10.0.0.0/8 x"), ("x 10", "x ")] {
            assert_eq!(finished(text, begins_a_network), checked, "{text}");
        }
        assert_eq!(finished("DE,a", begins_a_country), "DE,");
        assert!(begins_a_moment("36") && begins_a_moment("2027-0") && begins_a_moment("nev") && !begins_a_moment("36x"));
    }

    #[test]
    fn answers_are_checked() {
        let registered = ["leads.insert".to_owned()];
        assert!(check_grants("leads.insert, leads.*  *", &registered).is_ok());
        assert!(check_grants("leads.delete", &registered).unwrap_err().contains("functions add leads.delete"));
        assert!(check_grants("a b*c", &registered).is_err());
        assert!(check_label("a/b", "n").is_err() && check_label("acme", "web").is_ok());
        let now = Instant(1_800_000_000_000);
        assert!(check_expiry("never", now).is_ok() && check_expiry("1d", now).is_ok());
        assert!(check_expiry("2020-01-01", now).is_err() && check_expiry("soon", now).is_err());
    }
}
