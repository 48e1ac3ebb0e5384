use super::screen::{Hue, Screen};
use super::table::wrapped;
use crate::key::shell_parts;

/// Something that was found of a key, and the command that acts on it.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    /// Of which key, or what else it is of.
    pub(crate) of: &'a str,
    /// What it is, in a word.
    pub(crate) kind: &'a str,
    /// What the word's colour means.
    pub(crate) hue: Hue,
    /// How grave it is, where that is told.
    pub(crate) severity: Option<&'a str>,
    /// A sentence.
    pub(crate) text: &'a str,
    /// Quoted for a shell; may be empty.
    pub(crate) command: &'a str,
}

/// Columns before a sentence.
const MARGIN: usize = 4;

/// Notes that stand together under what they are of for a person, and tab-separated lines for a pipe. Commands are broken so that
/// they can be copied into a shell as they stand.
pub(crate) fn notes(screen: &Screen, notes: &[Note<'_>], with_severity: bool) -> String {
    if !screen.terminal {
        let severity = if with_severity { "SEVERITY\t" } else { "" };
        let mut text = format!("KEY\t{severity}KIND\tEVIDENCE\tCOMMAND\n");
        for Note { of, kind, severity, text: sentence, command, .. } in notes {
            let severity = severity.map(|severity| format!("{severity}\t")).unwrap_or_default();
            text.push_str(&format!("{of}\t{severity}{kind}\t{sentence}\t{command}\n"));
        }
        return text;
    }
    let width = screen.width.saturating_sub(MARGIN).max(20);
    let mut text = String::new();
    let mut of = None;
    for note in notes {
        if of.replace(note.of) != Some(note.of) {
            text.push_str(&format!("{}\n", screen.paint(note.of, Hue::Strong)));
        }
        let severity = note.severity.map(|severity| format!("{severity}: ")).unwrap_or_default();
        text.push_str(&format!("  {}\n", screen.paint(&format!("{severity}{}", note.kind), note.hue)));
        wrapped(note.text, width).iter().for_each(|line| text.push_str(&format!("{:MARGIN$}{line}\n", "")));
        if !note.command.is_empty() {
            let command = shell_parts(note.command, width - 2).join(&format!(" \\\n{:1$}", "", MARGIN + 2));
            text.push_str(&format!("{:MARGIN$}{}\n", "", screen.paint(&command, Hue::Dim)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Instant;

    #[test]
    fn eighty_columns_are_enough_and_a_pipe_gets_one_line_each() {
        let command = "doorward edit 'acme/the web' --remove-grant=leads.insert,leads.list,orders.* --add-grant=orders.read,orders.list";
        let text = "orders.*: 2 000 calls in 28 days, all of orders.read (1 200), orders.list (800) and nothing else that has a name";
        let note = |kind| Note { of: "acme/the web", kind, hue: Hue::Warn, severity: Some("warning"), text, command };
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(0) };
        let shown = notes(&screen, &[note("wide_grant"), note("unused_grant")], true);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.matches("\nacme/the web").count() == 0 && shown.starts_with("acme/the web\n  warning: wide_grant\n"), "{shown}");
        assert!(shown.contains(" \\\n      --remove-grant"), "{shown}");
        screen.terminal = false;
        let lines = notes(&screen, &[note("wide_grant")], true);
        assert_eq!(lines, format!("KEY\tSEVERITY\tKIND\tEVIDENCE\tCOMMAND\nacme/the web\twarning\twide_grant\t{text}\t{command}\n"));
    }
}
