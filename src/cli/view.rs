use std::collections::BTreeMap;

use super::screen::{Hue, Screen};
use super::table::{Grid, card, field};
use crate::admin::wire::{KeyView, MadeView, SecretState, SecretView};
use crate::key::{State, UnknownCountry};

/// `account/name`
pub(crate) fn label(key: &KeyView) -> String {
    format!("{}/{}", key.account, key.name)
}

/// A state and its colour.
pub(crate) fn state(state: State) -> (&'static str, Hue) {
    match state {
        State::Active => ("active", Hue::Good),
        State::Disabled => ("disabled", Hue::Warn),
        State::NotYetValid => ("not_yet_valid", Hue::Warn),
        State::Expired => ("expired", Hue::Bad),
        State::Revoked => ("revoked", Hue::Bad),
        State::Deleted => ("deleted", Hue::Dim),
    }
}

fn secret_state(state: SecretState) -> (&'static str, Hue) {
    match state {
        SecretState::Current => ("current", Hue::Good),
        SecretState::Retiring => ("retiring", Hue::Warn),
        SecretState::Retired => ("retired", Hue::Dim),
        SecretState::Revoked => ("revoked", Hue::Bad),
    }
}

/// Entries with a space between.
pub(crate) fn joined<T: ToString>(entries: &[T]) -> String {
    entries.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// Tags as they are given, with a space between.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> String {
    tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// The first few entries, and how many more there are.
fn shortened<T: ToString>(entries: &[T], most: usize) -> String {
    match entries.len().checked_sub(most) {
        Some(more @ 1..) => format!("{} and {more} more", joined(&entries[..most])),
        _ => joined(entries),
    }
}

/// Keys, one a row.
pub(crate) fn keys(screen: &Screen, keys: &[KeyView]) -> String {
    let titles = ["KEY", "STATE", "GRANTS", "NETWORKS", "COUNTRIES", "EXPIRES", "ID"];
    let mut grid = Grid::new(&titles).wide_only("NETWORKS", 110).wide_only("COUNTRIES", 110).wide_only("ID", 150);
    grid = grid.at_least("KEY", 26).at_least("STATE", 13).at_least("EXPIRES", 21);
    for key in keys {
        let (state, hue) = state(key.state);
        let most = if screen.terminal { 3 } else { usize::MAX };
        grid.row(vec![
            field(label(key), Hue::Strong),
            field(state, hue),
            shortened(&key.grants, most).into(),
            shortened(&key.networks, most).into(),
            shortened(&key.countries, most).into(),
            field(screen.moment_or(key.expires_at, "never"), expiry_hue(screen, key)),
            field(key.id.to_string(), Hue::Dim),
        ]);
    }
    grid.render(screen)
}

fn expiry_hue(screen: &Screen, key: &KeyView) -> Hue {
    const SOON_MS: i64 = 30 * 86_400_000;
    match key.expires_at {
        None => Hue::Dim,
        Some(at) if at <= screen.now => Hue::Bad,
        Some(at) if at.since(screen.now).0 < SOON_MS => Hue::Warn,
        Some(_) => Hue::Plain,
    }
}

/// All of one key. Only the answer that shows one key knows when its secrets were used; `uses` says whether this is it.
pub(crate) fn key(screen: &Screen, key: &KeyView, uses: bool) -> String {
    let (state, hue) = state(key.state);
    let mut text = String::new();
    if screen.terminal {
        text.push_str(&format!("{}  {}\n", screen.paint(&label(key), Hue::Strong), screen.paint(state, hue)));
    }
    let empty = |text: String, meaning: &str| if text.is_empty() { meaning.to_owned() } else { text };
    let unplaced = match key.unknown_country {
        UnknownCountry::Deny => "deny",
        UnknownCountry::Allow => "allow",
    };
    let unplaced = if screen.terminal && key.countries.is_empty() { "" } else { unplaced };
    let mut lines = vec![("id", key.id.to_string())];
    if !screen.terminal {
        lines.extend([("name", key.name.clone()), ("account", key.account.clone()), ("state", state.to_owned())]);
        lines.push(("enabled", key.enabled.to_string()));
    }
    lines.extend([
        ("description", key.description.clone()),
        ("tags", tags(&key.tags)),
        ("grants", empty(joined(&key.grants), "none: it may call nothing")),
        ("networks", empty(joined(&key.networks), "any")),
        ("countries", empty(joined(&key.countries), "any")),
        ("unknown_country", unplaced.to_owned()),
        ("not_before", screen.moment_or(key.not_before, "")),
        ("expires_at", screen.moment_or(key.expires_at, "never")),
        ("created_at", screen.moment(key.created_at)),
        ("deleted_at", screen.moment_or(key.deleted_at, "")),
        ("revision", key.revision.to_string()),
    ]);
    text.push_str(&card(screen, &lines));
    text.push('\n');
    text.push_str(&secrets(screen, &key.secrets, uses));
    text
}

/// The secrets of a key and, where that is known, who used them last.
pub(crate) fn secrets(screen: &Screen, secrets: &[SecretView], uses: bool) -> String {
    let titles = ["SECRET", "STATE", "CREATED", "ENDS", "LAST USED", "FROM"];
    let shown = if uses { titles.len() } else { titles.len() - 2 };
    let mut grid = Grid::new(&titles[..shown]).wide_only("CREATED", 110).right("SECRET");
    grid = grid.at_least("STATE", 8).at_least("CREATED", 21).at_least("ENDS", 21).at_least("LAST USED", 21);
    for secret in secrets {
        let (state, hue) = secret_state(secret.state);
        let from = [secret.last_country.map(|c| c.to_string()), secret.last_address.map(|a| a.to_string())];
        let mut row = vec![
            secret.version.to_string().into(),
            field(state, hue),
            screen.moment(secret.created_at).into(),
            screen.moment_or(secret.revoked_at.or(secret.retires_at), "-").into(),
            screen.moment_or(secret.last_used_at, "never").into(),
            from.into_iter().flatten().collect::<Vec<_>>().join(" ").into(),
        ];
        row.truncate(shown);
        grid.row(row);
    }
    grid.render(screen)
}

/// A key or secret that was made, with its token: shown this once.
pub(crate) fn made(screen: &Screen, made: &MadeView, done: &str) -> String {
    let token = made.token.as_deref().unwrap_or_default();
    if !screen.terminal {
        let replayed = if made.replayed { "replayed: true\n" } else { "" };
        let token = if made.token.is_some() { format!("token: {token}\n") } else { String::new() };
        return format!("id: {}\n{token}version: {}\n{replayed}", made.id, made.version);
    }
    let mut text = format!("{} {done}\n", screen.paint("✓", Hue::Good));
    let lines = [("id", made.id.to_string()), ("secret", format!("version {}", made.version))];
    text.push_str(&card(screen, &lines));
    if made.token.is_none() {
        let note = "This request was answered before: the token was shown then, and is not kept. If it is lost, rotate the key.";
        text.push_str(&format!("\n  {}\n", screen.paint(note, Hue::Warn)));
        return text;
    }
    text.push_str(&format!("\n  {}\n\n", screen.paint(token, Hue::Strong)));
    let warning = "Store this token now: it is shown once, and only its digest is kept.";
    text.push_str(&format!("  {}\n", screen.paint(warning, Hue::Warn)));
    text.push_str("  Put it into a secret manager, or into a file that only its user can read:\n");
    text.push_str("    install -m 0600 /dev/stdin FILE      then paste it, Enter, Ctrl-D\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Instant, KeyId};

    fn example() -> KeyView {
        KeyView {
            id: KeyId([7; 16]),
            name: "nightly-export-of-orders".into(),
            account: "acme-industries".into(),
            description: "Runs each night on the export host and sends every order of the day before to the warehouse".into(),
            tags: BTreeMap::from([("team".to_owned(), "logistics".to_owned())]),
            state: State::Active,
            enabled: true,
            not_before: None,
            expires_at: Some(Instant(1_800_000_000_000)),
            grants: ["leads.*", "orders.read", "orders.export", "a.b", "c.d"].map(|g| g.parse().unwrap()).to_vec(),
            networks: vec!["2001:db8:1234::/48".parse().unwrap()],
            countries: vec!["DE".parse().unwrap()],
            unknown_country: UnknownCountry::Deny,
            secrets: vec![SecretView {
                version: 1,
                state: SecretState::Retiring,
                created_at: Instant(1_790_000_000_000),
                retires_at: Some(Instant(1_795_000_000_000)),
                revoked_at: None,
                last_used_at: Some(Instant(1_793_000_000_000)),
                last_address: Some("2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap()),
                last_country: Some("DE".parse().unwrap()),
            }],
            created_at: Instant(1_790_000_000_000),
            deleted_at: None,
            revision: 3,
        }
    }

    fn screen(terminal: bool) -> Screen {
        Screen { terminal, json: false, width: 80, colour: false, now: Instant(1_794_000_000_000) }
    }

    #[test]
    fn eighty_columns_are_enough_for_a_key() {
        for text in [key(&screen(true), &example(), true), keys(&screen(true), &[example(), example()])] {
            assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        }
        let table = keys(&screen(true), &[example(), example()]);
        assert!(table.contains("and 2"), "{table}");
    }

    #[test]
    fn a_pipe_gets_every_field_in_full() {
        let text = key(&screen(false), &example(), true);
        for line in ["account: acme-industries", "state: active", "expires_at: 2027-01-15T08:00:00Z", "countries: DE", "not_before: "] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(keys(&screen(false), &[example()]).contains("\tleads.* orders.read orders.export a.b c.d\t"));
    }

    #[test]
    fn a_token_is_shown_with_its_warning_and_in_a_pipe_as_named_values() {
        let view = MadeView { id: KeyId([7; 16]), token: Some("dw_secret".into()), version: 2, replayed: false, key: example() };
        assert_eq!(made(&screen(false), &view, ""), format!("id: {}\ntoken: dw_secret\nversion: 2\n", view.id));
        let shown = made(&screen(true), &view, "Created");
        assert!(shown.contains("shown once") && shown.matches("dw_secret").count() == 1);
        let repeat = MadeView { token: None, replayed: true, ..view };
        assert!(made(&screen(false), &repeat, "").ends_with("version: 2\nreplayed: true\n"));
    }
}
