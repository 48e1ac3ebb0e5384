use std::fmt::Write;

use super::args::keys::History;
use super::exit::{Exit, Failure};
use super::http::{Admin, escaped, key_path, with_query};
use super::screen::{Hue, Screen};
use crate::admin::wire::{FieldChangeView, HistoryPage, HistoryView};

/// `history`
pub(crate) fn history(admin: &Admin, screen: &Screen, arguments: &History) -> Result<Exit, Failure> {
    let path = match (&arguments.key, &arguments.function) {
        (Some(key), _) => key_path(key, "/history"),
        (None, Some(function)) => format!("/v1/functions/{}/history", escaped(function.as_str())),
        (None, None) => "/v1/history".to_owned(),
    };
    let limit = Some(arguments.limit.to_string());
    let page: HistoryPage = admin.get(&with_query(&path, &[("limit", limit), ("before", arguments.before.map(|b| b.to_string()))]))?;
    screen.show(&page, || {
        if page.entries.is_empty() && screen.terminal { "Nothing was changed.\n".to_owned() } else { entries(screen, &page.entries) }
    })?;
    if let (false, Some(next)) = (screen.json, page.next) {
        eprintln!("Older entries follow: --before {next}, or a larger --limit");
    }
    Ok(Exit::Ok)
}

/// Newest first: a line for each entry, and below it one for each field.
fn entries(screen: &Screen, entries: &[HistoryView]) -> String {
    let mut text = String::new();
    if !screen.terminal {
        text.push_str("SEQUENCE\tTIME\tWHO\tACTION\tSUBJECT\tFIELD\tBEFORE\tAFTER\n");
    }
    for entry in entries {
        let who = actor(entry);
        let what = entry.function.as_ref().map(ToString::to_string).or_else(|| entry.key_id.map(|id| id.to_string())).unwrap_or_default();
        let action = word(&serde_json::to_value(entry.action).unwrap_or_default());
        if !screen.terminal {
            // One line a field, so that a script can cut it.
            let head = format!("{}\t{}\t{who}\t{action}\t{what}", entry.sequence, entry.at);
            if entry.changes.is_empty() {
                let _ = writeln!(text, "{head}\t\t\t");
            }
            for change in &entry.changes {
                let _ = writeln!(text, "{head}\t{}\t{}\t{}", change.field, word(&change.before), word(&change.after));
            }
            continue;
        }
        let head = format!("{}  {}  by {who}", screen.paint(&format!("#{}", entry.sequence), Hue::Dim), screen.paint(&action, Hue::Strong));
        let _ = writeln!(text, "{head}  {}\n    {}", screen.paint(&what, Hue::Dim), screen.moment(entry.at));
        for change in &entry.changes {
            let _ = writeln!(text, "    {}", line(screen, change));
        }
    }
    text
}

/// `root (uid 0) for alice`
fn actor(entry: &HistoryView) -> String {
    let user = entry.actor.user.clone().unwrap_or_else(|| format!("uid {}", entry.actor.uid));
    match &entry.actor.on_behalf_of {
        Some(who) => format!("{user} for {who}"),
        None => user,
    }
}

fn line(screen: &Screen, change: &FieldChangeView) -> String {
    let (before, after) = (word(&change.before), word(&change.after));
    let field = screen.paint(&change.field, Hue::Dim);
    match (before.is_empty(), after.is_empty()) {
        (true, _) => format!("{field}: {}", screen.paint(&after, Hue::Good)),
        (false, true) => format!("{field}: {} → none", screen.paint(&before, Hue::Bad)),
        (false, false) => format!("{field}: {} → {}", screen.paint(&before, Hue::Bad), screen.paint(&after, Hue::Good)),
    }
}

/// A JSON value as a person writes it.
fn word(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(entries) => entries.iter().map(word).collect::<Vec<_>>().join(" "),
        serde_json::Value::Object(map) => map.iter().map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::history::{Action, Actor};
    use crate::key::{Instant, KeyId};
    use serde_json::json;

    #[test]
    fn each_field_is_told_before_and_after() {
        let entry = HistoryView {
            sequence: 9,
            at: Instant(0),
            actor: Actor { uid: 0, user: Some("root".into()), on_behalf_of: Some("alice".into()) },
            action: Action::RotateExtend,
            key_id: Some(KeyId([1; 16])),
            function: None,
            changes: vec![
                FieldChangeView { field: "grants".into(), before: json!(["a", "b"]), after: json!(["a"]) },
                FieldChangeView { field: "description".into(), before: json!(null), after: json!("x") },
            ],
            mac: String::new(),
        };
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(86_400_000) };
        let text = entries(&screen, std::slice::from_ref(&entry));
        assert!(
            text.contains("rotate_extend  by root for alice") && text.contains("grants: a b → a") && text.contains("24 hours ago"),
            "{text}"
        );
        screen.terminal = false;
        let text = entries(&screen, &[entry]);
        let id = KeyId([1; 16]);
        assert_eq!(
            text.lines().nth(1),
            Some(format!("9\t1970-01-01T00:00:00Z\troot for alice\trotate_extend\t{id}\tgrants\ta b\ta").as_str())
        );
    }
}
