use super::args::traffic::Unusual;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::notes::{Note, notes};
use super::screen::{Hue, Screen, counted, grouped};
use super::table::wrapped;
use crate::admin::wire::{FindingView, TooYoung, UnusualView};

/// What findings of tokens that no key has stand under.
const NOBODY: &str = "(no key)";

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

/// What stands together is of one key; the order is otherwise that of the answer, the gravest first.
fn text(screen: &Screen, view: &UnusualView) -> String {
    if view.findings.is_empty() && screen.terminal {
        let since = screen.moment(view.since);
        return format!("{} Nothing unusual on {} since {since}.\n", screen.paint("✓", Hue::Good), counted(view.keys, "key"));
    }
    let list: Vec<Note<'_>> = view.findings.iter().map(note).collect();
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
        eprintln!("{shown} of {} shown: --limit, --severity, or one KEY", grouped(view.total));
    }
}

/// `1 of 12 keys was`
fn left_out(list: &TooYoung, keys: u64) -> Option<String> {
    (list.count > 0)
        .then(|| format!("{} of {} {}", grouped(list.count), counted(keys, "key"), if list.count == 1 { "was" } else { "were" }))
}

/// A sentence and the keys that it is of, in lines that fit where a person reads them.
fn tell(screen: &Screen, sentence: &str, list: &TooYoung) {
    let some: Vec<String> = list.keys.iter().take(3).map(|key| format!("{} ({} d)", key.key, key.days)).collect();
    let more = if list.count > 3 { " and others; --json names them" } else { "" };
    let text = format!("{sentence}: {}{more}", some.join(", "));
    if screen.terminal { wrapped(&text, screen.width).iter().for_each(|line| eprintln!("{line}")) } else { eprintln!("{text}") }
}
