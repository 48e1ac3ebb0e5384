use std::io::{self, IsTerminal, Write};

use console::{Style, Term};
use serde::Serialize;

use super::exit::Failure;
use crate::key::Instant;

/// What is written to, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// A person looks at it: aligned tables and relative times. Else plain lines, and times in RFC 3339.
    pub(crate) terminal: bool,
    /// One JSON document and nothing else.
    pub(crate) json: bool,
    /// Characters in a line.
    pub(crate) width: usize,
    /// Colour is wanted.
    pub(crate) colour: bool,
    /// The moment that relative times are told from.
    pub(crate) now: Instant,
}

/// What a colour means. Nothing is told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hue {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// It is refused or broken.
    Bad,
    /// Of less weight.
    Dim,
    /// A title, or what was asked for.
    Strong,
}

impl Screen {
    /// What standard output is.
    pub(crate) fn of_stdout(json: bool) -> Screen {
        let terminal = !json && io::stdout().is_terminal();
        let width = Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns).clamp(40, 240));
        let colour = terminal && console::colors_enabled() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { terminal, json, width, colour, now: now() }
    }

    /// The text in the colour of its meaning, if colour is wanted.
    pub(crate) fn paint(&self, text: &str, hue: Hue) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let style = Style::new().force_styling(true);
        let style = match hue {
            Hue::Plain => return text.to_owned(),
            Hue::Good => style.green(),
            Hue::Warn => style.yellow(),
            Hue::Bad => style.red(),
            Hue::Dim => style.dim(),
            Hue::Strong => style.bold(),
        };
        style.apply_to(text).to_string()
    }

    /// A moment: absolute and relative for a person, RFC 3339 for a pipe.
    pub(crate) fn moment(&self, at: Instant) -> String {
        if self.terminal { format!("{}, {}", absolute(at), relative(at, self.now)) } else { at.to_string() }
    }

    /// A moment that may be none.
    pub(crate) fn moment_or(&self, at: Option<Instant>, none: &str) -> String {
        at.map_or_else(|| none.to_owned(), |at| self.moment(at))
    }

    /// Prints the document as JSON if that was asked for, else what `text` makes of it.
    pub(crate) fn show<T: Serialize>(&self, document: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.print_json(document) } else { print(&text()) }
    }

    /// Prints one JSON document: indented on a terminal, on one line in a pipe.
    pub(crate) fn print_json<T: Serialize>(&self, document: &T) -> Result<(), Failure> {
        let text = if io::stdout().is_terminal() { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        let mut text = text.map_err(|error| Failure::software(format!("the answer cannot be written as JSON: {error}")))?;
        text.push('\n');
        print(&text)
    }
}

/// The present moment by the system's clock.
pub(crate) fn now() -> Instant {
    Instant(jiff::Timestamp::now().as_millisecond().max(0))
}

/// Writes to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::stream("cannot write to standard output", &error)),
        _ => Ok(()),
    }
}

/// `2026-12-01 10:00 UTC`
pub(crate) fn absolute(at: Instant) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// `in 8 days`, `3 hours ago`, `now`
pub(crate) fn relative(at: Instant, now: Instant) -> String {
    let ahead = at.since(now).0;
    let seconds = ahead.unsigned_abs() / 1_000;
    let (number, unit) = match seconds {
        0 => return "now".to_owned(),
        1..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        172_800..63_072_000 => (seconds / 86_400, "day"),
        _ => (seconds / 31_557_600, "year"),
    };
    let plural = if number == 1 { "" } else { "s" };
    if ahead > 0 { format!("in {number} {unit}{plural}") } else { format!("{number} {unit}{plural} ago") }
}

/// `1234567` as `1 234 567`: digits in groups for a person.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 key`, `1 234 keys`
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_and_relative_for_a_person() {
        let now: Instant = "2026-11-23T09:00:00Z".parse().unwrap();
        let at: Instant = "2026-12-01T10:00:00Z".parse().unwrap();
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now };
        assert_eq!(screen.moment(at), "2026-12-01 10:00 UTC, in 8 days");
        screen.terminal = false;
        assert_eq!(screen.moment(at), "2026-12-01T10:00:00Z");
    }

    #[test]
    fn relative_times_round_down() {
        let now = Instant(1_000_000_000_000);
        for (ms, text) in [
            (0, "now"),
            (1_000, "in 1 second"),
            (-119_999, "119 seconds ago"),
            (-7_199_000, "119 minutes ago"),
            (7_200_000, "in 2 hours"),
            (-172_800_000, "2 days ago"),
            (3 * 31_557_600_000, "in 3 years"),
        ] {
            assert_eq!(relative(Instant(now.0 + ms), now), text);
        }
    }

    #[test]
    fn colour_is_only_there_when_wanted() {
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(0) };
        assert_eq!(screen.paint("ok", Hue::Good), "ok");
        screen.colour = true;
        assert_eq!(screen.paint("ok", Hue::Good), "\u{1b}[32mok\u{1b}[0m");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
