use std::collections::HashMap;

use super::args::traffic::Unusual;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::notes::{Note, notes};
use super::screen::{Hue, Screen, counted, grouped};
use super::table::wrapped;
use crate::admin::wire::{FindingView, TooYoung, UnusualView};

/// What stands in the place of a key where the token is one that no key has.
pub(crate) const NOBODY: &str = "(no key)";

/// `unusual`
pub(crate) fn unusual(admin: &Admin, screen: &Screen, arguments: &Unusual) -> Result<Exit, Failure> {
    let query = [
        ("since", Some(arguments.since.clone())),
        ("key", arguments.key.as_ref().map(ToString::to_string)),
        ("account", arguments.account.clone()),
        ("severity", arguments.severity.clone()),
        ("limit", arguments.limit.map(|limit| limit.to_string())),
    ];
    let view: UnusualView = admin.get(&with_query("/v1/unusual", &query))?;
    screen.show(&view, || text(screen, &view))?;
    if !screen.json {
        quiet(screen, &view);
    }
    let alarming = view.findings.iter().any(|finding| finding.severity != "info");
    Ok(if alarming { Exit::No } else { Exit::Ok })
}

/// For a person all of one key stands together, where its gravest has its place; the order is otherwise that of the answer, the gravest first.
fn text(screen: &Screen, view: &UnusualView) -> String {
    if view.findings.is_empty() && screen.terminal {
        let since = screen.moment(view.since);
        return format!("{} Nothing unusual on {} since {since}.\n", screen.paint("✓", Hue::Good), counted(view.keys, "key"));
    }
    let mut list: Vec<Note<'_>> = view.findings.iter().map(note).collect();
    if screen.terminal {
        let mut places: HashMap<&str, usize> = HashMap::new();
        for note in &list {
            let place = places.len();
            places.entry(note.of).or_insert(place);
        }
        list.sort_by_key(|note| places[note.of]);
    }
    notes(screen, &list, true)
}

fn note(finding: &FindingView) -> Note<'_> {
    Note {
        of: finding.key.as_deref().unwrap_or(NOBODY),
        kind: &finding.kind,
        hue: match finding.severity.as_str() {
            "critical" => Hue::Bad,
            "warning" => Hue::Warn,
            _ => Hue::Plain,
        },
        severity: Some(&finding.severity),
        text: &finding.evidence,
        command: &finding.command,
    }
}

/// What could not be judged, so that silence is not taken for peace.
fn quiet(screen: &Screen, view: &UnusualView) {
    let UnusualView { too_young, too_seldom, .. } = view;
    if let Some(which) = left_out(too_young, view.keys) {
        let days = counted(too_young.min_days.into(), "day");
        tell(screen, &format!("{which} first used less than {days} before: judged by secrets and guesses alone"), too_young);
    }
    if let Some(which) = left_out(too_seldom, view.keys) {
        let days = counted(too_seldom.min_days.into(), "day");
        tell(screen, &format!("{which} used on fewer than {days} before: countries and networks not judged"), too_seldom);
    }
    if (view.findings.len() as u64) < view.total {
        let shown = counted(view.findings.len() as u64, "finding");
        say(screen, &format!("{shown} of {} shown: --limit, --severity, or one KEY", grouped(view.total)));
    }
}

/// `1 of 12 keys was`
fn left_out(list: &TooYoung, keys: u64) -> Option<String> {
    (list.count > 0)
        .then(|| format!("{} of {} {}", grouped(list.count), counted(keys, "key"), if list.count == 1 { "was" } else { "were" }))
}

/// A sentence and the keys that it is of.
fn tell(screen: &Screen, sentence: &str, list: &TooYoung) {
    let some: Vec<String> = list.keys.iter().take(3).map(|key| format!("{} ({} d)", key.key, key.days)).collect();
    let more = if list.count > 3 { " and others; --json names them" } else { "" };
    say(screen, &format!("{sentence}: {}{more}", some.join(", ")));
}

/// On standard error, in lines that fit where a person reads them.
fn say(screen: &Screen, text: &str) {
    if screen.terminal { wrapped(text, screen.width).iter().for_each(|line| eprintln!("{line}")) } else { eprintln!("{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Instant, KeyId};

    #[test]
    fn all_of_a_key_stands_together_for_a_person_the_gravest_first() {
        let finding = |key: Option<&str>, kind: &str, severity: &str| FindingView {
            key_id: key.map(|_| KeyId([1; 16])),
            key: key.map(str::to_owned),
            kind: kind.into(),
            severity: severity.into(),
            at: Instant(0),
            seen: 1,
            expected: 0,
            evidence: "so".into(),
            command: "doorward denials".into(),
        };
        let findings = vec![
            finding(Some("acme/b"), "surge", "critical"),
            finding(None, "guessing", "warning"),
            finding(Some("acme/a"), "new_country", "warning"),
            finding(Some("acme/b"), "new_network", "warning"),
        ];
        let none = TooYoung::default();
        let view = UnusualView {
            since: Instant(0),
            until: Instant(1),
            history_since: Instant(0),
            findings,
            total: 4,
            keys: 2,
            too_young: none.clone(),
            too_seldom: none,
        };
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(1) };
        let told = text(&screen, &view);
        let heads: Vec<&str> = told.lines().filter(|line| !line.starts_with("    ")).map(str::trim).collect();
        let expected = "acme/b|critical: surge|warning: new_network|(no key)|warning: guessing|acme/a|warning: new_country";
        assert_eq!(heads.join("|"), expected);
        screen.terminal = false;
        let kinds: Vec<String> =
            text(&screen, &view).lines().skip(1).map(|line| line.split('\t').nth(2).unwrap_or_default().to_owned()).collect();
        assert_eq!(kinds, ["surge", "guessing", "new_country", "new_network"], "a program has the order of the answer");
    }
}
