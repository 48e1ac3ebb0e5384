//! Where messages go: standard error. Where that is the journal, each line says its level as systemd reads it, and the journal adds the time.

use std::fmt;
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
        write!(writer, "{}", systemd::journal_lines(priority(*event.metadata().level()), &text))
    }
}

/// Syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => systemd::ERROR,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
