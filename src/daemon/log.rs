//! Where messages go: standard error. Where that is the journal, each line says its level as systemd reads it, and the journal adds the time.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::panic;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Log, LogFormat};
use crate::key::without_tokens;
use crate::systemd;

/// Starts logging.
pub(super) fn start(log: &Log) {
    let journal = systemd::logs_to_journal();
    let colour = !journal && log.format == LogFormat::Auto && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let messages = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(log.level).with_ansi(colour).with_target(false);
    // A second start in one process is a test's; the first logger stays.
    let _ = if journal { messages.event_format(Journal).try_init() } else { messages.try_init() };
    // A panic's message goes the same way: with its level, and without a token that it may quote.
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("(no message)");
        tracing::error!(thread = thread.name().unwrap_or("?"), place, "panicked: {}", without_tokens(message));
    }));
}

/// A line as the journal takes it: `<4>`, the message, and its fields behind it, where `journalctl` shows them.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        write!(writer, "{}", lines(priority(*event.metadata().level()), &text))
    }
}

/// Syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Each further line of a message has the level too, and is set in, so that no text of others passes for a message of its own.
fn lines(priority: u8, text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 8);
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        let indent = if number == 0 { "" } else { "    " };
        let _ = writeln!(lines, "<{priority}>{indent}{line}");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_level_and_only_the_first_begins_a_message() {
        assert_eq!(lines(6, "ready keys=3"), "<6>ready keys=3\n");
        assert_eq!(lines(3, "refused: a\n<0>forged\rtoo"), "<3>refused: a\n<3>    <0>forged\n<3>    too\n");
    }
}
