use super::args::traffic::Unusual;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::notes::{Note, notes};
use super::screen::{Hue, Screen, grouped};
use crate::admin::wire::{FindingView, UnusualView};

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
        quiet(&view);
    }
    let alarming = view.findings.iter().any(|finding| finding.severity != "info");
    Ok(if alarming { Exit::No } else { Exit::Ok })
}

/// What stands together is of one key; the order is otherwise that of the answer, the gravest first.
fn text(screen: &Screen, view: &UnusualView) -> String {
    if view.findings.is_empty() && screen.terminal {
        let since = screen.moment(view.since);
        return format!("{} Nothing unusual on {} keys since {since}.\n", screen.paint("✓", Hue::Good), grouped(view.keys));
    }
    let list: Vec<Note<'_>> = view.findings.iter().map(note).collect();
    notes(screen, &list)
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
fn quiet(view: &UnusualView) {
    let young = &view.too_young;
    if young.count > 0 {
        let some: Vec<String> = young.keys.iter().take(3).map(|key| format!("{} ({} d)", key.key, key.days)).collect();
        let more = if young.count > 3 { " and others" } else { "" };
        eprintln!(
            "{} of {} keys have less than {} days of use: only secrets and guesses were judged of {}{more}",
            grouped(young.count),
            grouped(view.keys),
            young.min_days,
            some.join(", "),
        );
    }
    if (view.findings.len() as u64) < view.total {
        eprintln!("{} of {} findings shown: --limit, --severity, or one KEY", grouped(view.findings.len() as u64), grouped(view.total));
    }
}
