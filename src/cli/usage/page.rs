//! The page of a report without dimensions: how much, when, by whom, what, and with which verdicts.

use super::chart::{Point, columns};
use super::tables::{bars, points, time_table};
use super::{Report, known_seconds, share};
use crate::admin::wire::UsageView;
use crate::cli::exit::Failure;
use crate::cli::screen::{Hue, grouped};
use crate::cli::table::Grid;
use crate::cli::view;
use crate::key::{Instant, Span};

/// Keys of the page.
const TOP: usize = 5;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// A person is told of what is not exact where it is more than this part of the time: a hundredth.
const NOTABLE: i64 = 100;
/// Networks of a key that a person is shown.
const NETWORKS: usize = 12;
/// Rows of another table of the page.
const ROWS: usize = 6;
/// Lines of its chart.
const HEIGHT: usize = 6;
/// From this width on tables stand side by side.
const SIDE_BY_SIDE: usize = 140;
/// Blanks between them.
const BETWEEN: usize = 4;

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String, Failure> {
    let screen = report.screen;
    let whole = report.ask(&[], None)?;
    let (unit, over_time) = report.over_time(&[], &whole, unit(report.until.min(screen.now).since(report.since)))?;
    let mut text = heading(report, &whole, Some(unit));
    if screen.terminal {
        let points: Vec<Point> = points(&over_time);
        if whole.total > 0 || !whole.unknown.is_empty() {
            text.push_str(&columns(screen, &report.zone, unit, &points, HEIGHT));
            text.push('\n');
        }
    }
    if whole.total > 0 {
        let mut tables = Vec::new();
        let wide = screen.terminal && screen.width >= SIDE_BY_SIDE;
        let width = if wide { (screen.width - BETWEEN) / 2 } else { screen.width };
        if report.arguments.key.is_none() {
            tables.push(bars(report, "key", &report.ask(&[], Some(TOP))?, usize::MAX, width));
        }
        for dimension in ["function", "verdict", "country"] {
            tables.push(bars(report, dimension, &report.ask(&[dimension], None)?, ROWS, width));
        }
        for pair in tables.chunks(if wide { 2 } else { 1 }) {
            match pair {
                [left, right] => text.push_str(&side_by_side(left, right, width + BETWEEN)),
                others => others.iter().for_each(|table| text.push_str(table)),
            }
            text.push('\n');
        }
        if !screen.terminal {
            text.push_str(&time_table(report, unit, &over_time));
            text.push('\n');
        }
    } else if screen.terminal {
        text.push_str(match &*whole.unknown {
            [] => "Nothing was verified in that time.\n",
            [all] if (all.since, all.until) == (whole.since, whole.until) => "Nothing is known of that time.\n",
            _ => "Nothing was verified in what is known of that time.\n",
        });
    }
    text.push_str(&secrets(report, &whole));
    Ok(format!("{}\n", text.trim_end()))
}

/// Two tables in one, the second from this column on.
fn side_by_side(left: &str, right: &str, column: usize) -> String {
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut text = String::new();
    loop {
        let line = match (left.next(), right.next()) {
            (None, None) => return text,
            (line, None) => line.unwrap_or_default().to_owned(),
            (line, Some(beside)) => {
                let line = line.unwrap_or_default();
                let space = column.saturating_sub(console::measure_text_width(line));
                format!("{line}{}{beside}", " ".repeat(space))
            }
        };
        text.push_str(&line);
        text.push('\n');
    }
}

/// The unit in which so long a time is drawn.
pub(super) fn unit(span: Span) -> &'static str {
    match span.0 / HOUR_MS {
        ..3 => "minute",
        3..96 => "hour",
        _ => "day",
    }
}

/// How much it was in all, of what time, and what is not known of it. `drawn`: the unit of a chart that follows.
pub(super) fn heading(report: &Report, view: &UsageView, drawn: Option<&str>) -> String {
    let (screen, zone) = (report.screen, &report.zone);
    let seconds = known_seconds(view, screen.now);
    if !screen.terminal {
        let mut text = format!("since: {}\nuntil: {}\n", zone.exact(view.since), zone.exact(view.until));
        text.push_str(&report.unknown(view));
        if is_to_come(view) {
            text.push_str(&format!("counted_until: {}\n", zone.exact(view.counted_until)));
        }
        text.push_str(&format!("total: {}\n", view.total));
        if let Some(denied) = view.denied {
            text.push_str(&format!("denied: {denied}\n"));
        }
        return format!("{text}per_second: {:.4}\n\n", view.total as f64 / seconds.max(1.0));
    }
    let span = shown(view.since, view.until);
    let mut parts = vec![format!("{} verifies of {}", grouped(view.total), report.whose())];
    if view.total > 0 {
        parts.extend(
            view.denied.map(|denied| if denied == 0 { "none denied".to_owned() } else { format!("{} denied", share(denied, view.total)) }),
        );
        parts.push(rate(view.total, seconds));
    }
    let mut text: String =
        flowed(&parts, ", ", screen.width).lines().map(|line| format!("{}\n", screen.paint(line, Hue::Strong))).collect();
    let times = vec![zone.moment(view.since), format!("to {} ({span}{})", zone.moment(view.until), zone.suffix())];
    text.push_str(&flowed(&times, " ", screen.width));
    if is_to_come(view) {
        let parts = [format!("Counted up to {}:", zone.moment(view.counted_until)), "what came or comes later may be missing.".to_owned()];
        let note = flowed(&parts, " ", screen.width);
        text.extend(note.lines().map(|line| format!("{}\n", screen.paint(line, Hue::Warn))));
    }
    if !view.unknown.is_empty() {
        let unknown: i64 = view.unknown.iter().map(|interval| shown(interval.since, interval.until).0).sum();
        let unknown = if unknown == 0 { "less than a minute".to_owned() } else { Span(unknown).to_string() };
        let (first, rest) = (&view.unknown[0], view.unknown.len() - 1);
        let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
        let mut parts = vec![
            format!("Not known: {unknown} of it,"),
            zone.moment(first.since),
            format!("to {}{more}:", zone.moment(first.until)),
            "the daemon did not run,".to_owned(),
            "or it is no longer kept.".to_owned(),
        ];
        parts.extend(drawn.map(|_| "Drawn as ·".to_owned()));
        let note = flowed(&parts, " ", screen.width);
        text.extend(note.lines().map(|line| format!("{}\n", screen.paint(line, Hue::Warn))));
    }
    // The part of an hour at the beginning of a month is no news.
    let whole = view.until.since(view.since).0;
    if let Some(exact) = view.exact_since.filter(|exact| exact.since(view.since).0.saturating_mul(NOTABLE) > whole) {
        let parts = [
            format!("Exact from {} on;", zone.moment(exact)),
            "before, longer units are kept,".to_owned(),
            "each counted by its middle.".to_owned(),
        ];
        text.push_str(&flowed(&parts, " ", screen.width));
    }
    text.push('\n');
    text
}

/// From one moment to another as both are shown, which is to the minute: what is told of them agrees.
fn shown(since: Instant, until: Instant) -> Span {
    let minute = |at: Instant| at.0 - at.0.rem_euclid(MINUTE_MS);
    Span(minute(until) - minute(since))
}

/// Whether the report ends later than now; two clocks may differ by a little.
fn is_to_come(view: &UsageView) -> bool {
    view.until.since(view.counted_until).0 > MINUTE_MS
}

/// Parts in lines no wider than this, broken between parts.
fn flowed(parts: &[String], between: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for (at, part) in parts.iter().enumerate() {
        let end = if at + 1 < parts.len() { between.trim_end() } else { "" };
        let line = lines.last_mut().expect("there is a line");
        let needed = console::measure_text_width(line) + 1 + console::measure_text_width(part) + end.len();
        if line.is_empty() {
            line.push_str(&format!("{part}{end}"));
        } else if needed <= width {
            line.push_str(&format!(" {part}{end}"));
        } else {
            lines.push(format!("{part}{end}"));
        }
    }
    lines.join("\n") + "\n"
}

/// How often, in the unit that leaves a figure one can picture.
fn rate(count: u64, seconds: f64) -> String {
    if seconds < 1.0 {
        return "in less than a second".to_owned();
    }
    let a_second = count as f64 / seconds;
    let (figure, unit) = match a_second {
        1.0.. => (a_second, "second"),
        _ if a_second * 60.0 >= 1.0 => (a_second * 60.0, "minute"),
        _ if a_second * 3_600.0 >= 1.0 || seconds < 86_400.0 => (a_second * 3_600.0, "hour"),
        _ => (a_second * 86_400.0, "day"),
    };
    let figure = if figure >= 100.0 { grouped(figure.round() as u64) } else { format!("{figure:.1}") };
    format!("{figure} {} {unit}", if unit == "hour" { "an" } else { "a" })
}

/// The last use of each secret, and from where, where one key was asked for.
fn secrets(report: &Report, view: &UsageView) -> String {
    let screen = report.screen;
    if view.secrets.is_empty() {
        return String::new();
    }
    let mut text = view::secrets(screen, &view.secrets, true);
    if !view.networks.is_empty() {
        let mut grid = Grid::new(&["RECENT NETWORK", "LAST USED"]);
        let shown = if screen.terminal { NETWORKS } else { usize::MAX };
        for network in view.networks.iter().take(shown) {
            grid.row(vec![network.network.to_string().into(), screen.moment(network.last_used_at).into()]);
        }
        text.push('\n');
        text.push_str(&grid.render(screen));
        if view.networks.len() > shown {
            text.push_str(&format!("and {} more: --json names them\n", view.networks.len() - shown));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_figure_that_one_can_picture() {
        for (count, seconds, text) in [
            (10_000_000, 86_400.0, "116 a second"),
            (86_400, 86_400.0, "1.0 a second"),
            (86_399, 86_400.0, "60.0 a minute"),
            (100, 86_400.0, "4.2 an hour"),
            (3, 86_400.0, "3.0 a day"),
            (3, 0.2, "in less than a second"),
        ] {
            assert_eq!(rate(count, seconds), text);
        }
    }

    #[test]
    fn parts_are_broken_between_them() {
        let parts = ["one two".to_owned(), "three".to_owned(), "four".to_owned()];
        assert_eq!(flowed(&parts, ", ", 80), "one two, three, four\n");
        assert_eq!(flowed(&parts, ", ", 15), "one two, three,\nfour\n");
        assert_eq!(flowed(&parts, " ", 3), "one two\nthree\nfour\n");
    }

    #[test]
    fn the_unit_fits_the_span() {
        assert_eq!([unit(Span(3_600_000)), unit(Span(86_400_000)), unit(Span(30 * 86_400_000))], ["minute", "hour", "day"]);
    }
}
