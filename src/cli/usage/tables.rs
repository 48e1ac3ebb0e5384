//! A report by dimensions: bars for one, columns for time, a sparkline for each of what is counted over time, rows for the rest.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::chart::{Point, bar, columns};
use super::names::{cut, fitted, hue, is_time, longest, name, name_width, title};
use super::page::heading;
use super::series::series;
use super::{Report, share};
use crate::admin::wire::{UsageRow, UsageView};
use crate::cli::exit::Failure;
use crate::cli::screen::{Hue, Screen, grouped};
use crate::cli::table::{Grid, field};
use crate::key::{Instant, KeyId};

/// Lines of a chart over time.
const HEIGHT: usize = 8;
/// Periods that are told one by one below their chart.
const PERIODS: usize = 62;
/// Characters that a bar needs to tell anything.
pub(super) const BAR: usize = 6;
/// From these widths on a terminal has room for denials, and for ids beside names.
pub(super) const WITH_DENIED: usize = 56;
const WITH_IDS: usize = 150;
/// The report by these dimensions, or of the keys that are used most.
pub(super) fn report(report: &Report, by: &[&str], top: Option<usize>) -> Result<String, Failure> {
    let view = report.ask(by, top)?;
    let by: Vec<&str> = top.map(|_| "key").into_iter().chain(by.iter().copied().filter(|name| top.is_none() || *name != "key")).collect();
    if !report.screen.terminal {
        report.warn(&view);
        return Ok(
            if let [time] = by[..]
                && is_time(time)
            {
                time_table(report, time, &view)
            } else {
                flat(report, &by, &view)
            },
        );
    }
    let (time, categories): (Vec<&str>, Vec<&str>) = by.iter().partition(|name| is_time(name));
    let mut text = heading(report, &view, time.first().copied());
    if view.rows.is_empty() && view.unknown_periods.is_empty() {
        return Ok(text + "Nothing was verified in that time.\n");
    }
    match (&time[..], &categories[..]) {
        ([unit, ..], []) => {
            let points = points(&view);
            text.push_str(&columns(report.screen, &report.zone, unit, &points, HEIGHT));
            text.push('\n');
            if points.len() <= PERIODS {
                text.push_str(&time_table(report, unit, &view));
            } else {
                text.push_str(&format!("{} {unit}s: --csv tells the figures of each\n", grouped(points.len() as u64)));
            }
        }
        ([unit, ..], _) => {
            let over_time = report.ask(&[unit], None)?;
            text.push_str(&series(report, unit, &categories, &view, &points(&over_time)));
        }
        ([], [one]) => text.push_str(&bars(report, one, &view, usize::MAX, report.screen.width)),
        _ => text.push_str(&rows(report, &categories, &view)),
    }
    Ok(text)
}

/// The periods of a report over time, also those without a verify and those of which nothing is known.
pub(super) fn points(view: &UsageView) -> Vec<Point> {
    let known = view.rows.iter().filter_map(|row| Some(Point { at: row.at?, count: Some(row.count), denied: row.denied.unwrap_or(0) }));
    let unknown = view.unknown_periods.iter().map(|period| Point { at: period.at, count: None, denied: 0 });
    let mut points: Vec<Point> = known.chain(unknown).collect();
    points.sort_unstable_by_key(|point| point.at);
    points
}

fn denied_hue(denied: u64, count: u64) -> Hue {
    if denied * 2 > count { Hue::Bad } else { Hue::Plain }
}

/// What a line tells of one name.
struct Line {
    name: String,
    id: Option<KeyId>,
    /// Whether the count is; what is not known has no share and no bar.
    known: bool,
    count: u64,
    denied: Option<u64>,
    hue: Hue,
}

/// One dimension, a line and a bar for each row; most first, but for what stands behind the keys of `--top`.
pub(super) fn bars(report: &Report, dimension: &str, view: &UsageView, shown: usize, width: usize) -> String {
    let mut lines: Vec<Line> = view.rows.iter().map(|row| line(report, row, dimension)).collect();
    if !lines.iter().any(|line| line.name.ends_with("others)")) {
        lines.sort_by_key(|line| std::cmp::Reverse(line.count));
    }
    let shown = if report.screen.terminal { shown } else { usize::MAX };
    let more = lines.len().saturating_sub(shown);
    lines.truncate(shown);
    let mut text = drawn(report, title(dimension), &lines, view.total, width);
    if more > 0 {
        text.push_str(&format!("and {more} more: --by {dimension}\n"));
    }
    text
}

fn line(report: &Report, row: &UsageRow, dimension: &str) -> Line {
    let name = name(report, row, dimension);
    let hue = hue(dimension, &name);
    Line { name, id: row.key_id, known: true, count: row.count, denied: row.denied, hue }
}

fn drawn(report: &Report, title: &'static str, lines: &[Line], total: u64, width: usize) -> String {
    let screen = &Screen { width, ..*report.screen };
    let with_ids = title == "KEY";
    let with_denied = lines.iter().any(|line| line.denied.is_some());
    if !screen.terminal {
        let mut titles = vec![title, "VERIFIES"];
        titles.extend(with_denied.then_some("DENIED"));
        titles.extend(with_ids.then_some("ID"));
        let mut grid = Grid::new(&titles);
        for line in lines {
            let mut cells = vec![line.name.as_str().into(), line.count.to_string().into()];
            cells.extend(with_denied.then(|| line.denied.unwrap_or(0).to_string().into()));
            cells.extend(with_ids.then(|| line.id.map(|id| id.to_string()).unwrap_or_default().into()));
            grid.row(cells);
        }
        return grid.render(screen);
    }
    let with_denied = with_denied && screen.width >= WITH_DENIED;
    let with_ids = with_ids && screen.width >= WITH_IDS;
    // Names of periods are short, and of no use when cut.
    let part = if is_time(&title.to_ascii_lowercase()) { screen.width * 2 } else { screen.width };
    let name_width = name_width(part, lines.iter().map(|line| line.name.as_str()), title);
    let count_width = lines.iter().map(|line| console::measure_text_width(&grouped(line.count))).max().unwrap_or(0).max("VERIFIES".len());
    let taken = name_width + 2 + count_width + 2 + 9 + if with_denied { 9 } else { 0 } + if with_ids { 38 } else { 0 };
    let left = screen.width.saturating_sub(taken);
    let room = left.saturating_sub(2);
    // Where there is no bar, names have its room.
    let name_width =
        if room < BAR { longest(lines.iter().map(|line| line.name.as_str()), title).min(name_width + left) } else { name_width };
    let mut titles = vec![title, "VERIFIES", "SHARE"];
    titles.extend(with_denied.then_some("DENIED"));
    titles.extend((room >= BAR).then_some(""));
    titles.extend(with_ids.then_some("ID"));
    let mut grid = Grid::new(&titles).right("VERIFIES").right("SHARE").right("DENIED").at_least(title, name_width as u16);
    let most = lines.iter().map(|line| line.count).max().unwrap_or(0);
    for line in lines {
        let (count, part) =
            if line.known { (grouped(line.count), share(line.count, total)) } else { ("unknown".to_owned(), String::new()) };
        let faint = if line.known { Hue::Plain } else { Hue::Dim };
        let mut cells = vec![field(cut(&line.name, name_width), line.hue), field(count, faint), part.into()];
        if with_denied {
            let denied = line.denied.unwrap_or(0);
            let part = if !line.known {
                String::new()
            } else if denied == 0 {
                "-".to_owned()
            } else {
                share(denied, line.count)
            };
            cells.push(field(part, denied_hue(denied, line.count)));
        }
        cells.extend((room >= BAR).then(|| {
            let bar = bar(line.count, most, room);
            // As wide in every line, so that what stands behind it is aligned.
            field(if with_ids { format!("{bar}{}", " ".repeat(room - console::measure_text_width(&bar))) } else { bar }, line.hue)
        }));
        cells.extend(with_ids.then(|| field(line.id.map(|id| id.to_string()).unwrap_or_default(), Hue::Dim)));
        grid.row(cells);
    }
    grid.render(screen)
}

/// The periods one below the other.
pub(super) fn time_table(report: &Report, unit: &str, view: &UsageView) -> String {
    let screen = report.screen;
    let points = points(view);
    if screen.terminal {
        let line = |point: &Point| Line {
            name: period(report, unit, view, point.at),
            id: None,
            known: point.count.is_some(),
            count: point.count.unwrap_or(0),
            denied: view.denied.map(|_| point.denied),
            hue: Hue::Plain,
        };
        return drawn(report, title(unit), &points.iter().map(line).collect::<Vec<_>>(), view.total, screen.width);
    }
    let mut titles = vec![title(unit), "VERIFIES"];
    titles.extend(view.denied.map(|_| "DENIED"));
    let mut grid = Grid::new(&titles);
    for point in &points {
        let count = point.count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let mut cells = vec![report.zone.exact(point.at).into(), count.into()];
        cells.extend(view.denied.map(|_| point.count.map(|_| point.denied.to_string()).unwrap_or_default().into()));
        grid.row(cells);
    }
    grid.render(screen)
}

/// A period's name for a person, and whether the report begins or ends within it.
fn period(report: &Report, unit: &str, view: &UsageView, at: Instant) -> String {
    let (zone, clock) = (&report.zone, |at: Instant| report.zone.at(at).strftime("%H:%M").to_string());
    let name = match unit {
        "day" => zone.at(at).strftime("%Y-%m-%d %a").to_string(),
        _ if report.screen.width < WITH_DENIED => zone.at(at).strftime("%m-%d %H:%M").to_string(),
        _ => zone.moment(at),
    };
    let until = view.until.min(report.screen.now);
    if report.screen.width < WITH_DENIED {
        return name;
    }
    if at < view.since && unit != "minute" {
        format!("{name}, from {}", clock(view.since))
    } else if zone.end(unit, at) > until && unit != "minute" {
        if until < view.until || report.arguments.until.is_none() {
            format!("{name}, so far")
        } else {
            format!("{name}, to {}", clock(until))
        }
    } else {
        name
    }
}

/// The rows of a report with their names by these dimensions: what has most first, and within that what has most of it. The keys of `--top` stay as they are.
fn ordered<'v>(report: &Report, by: &[&str], view: &'v UsageView) -> Vec<(&'v UsageRow, Vec<String>)> {
    let names = |row: &UsageRow| by.iter().map(|dimension| name(report, row, dimension)).collect::<Vec<_>>();
    let mut rows: Vec<(&UsageRow, Vec<String>)> = view.rows.iter().map(|row| (row, names(row))).collect();
    let mut sums: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    for (row, names) in &rows {
        for depth in 1..=names.len() {
            let sum = sums.entry(names[..depth].to_vec()).or_default();
            *sum = sum.saturating_add(row.count);
        }
        let rank = ranks.len();
        ranks.entry(names[0].clone()).or_insert(rank);
    }
    rows.sort_by(|(_, a), (_, b)| {
        let by_rank = if report.arguments.top.is_some() { ranks[&a[0]].cmp(&ranks[&b[0]]) } else { Ordering::Equal };
        let by_sums = (1..=a.len()).map(|depth| sums[&b[..depth]].cmp(&sums[&a[..depth]]).then_with(|| a[depth - 1].cmp(&b[depth - 1])));
        by_sums.fold(by_rank, Ordering::then)
    });
    rows
}

/// A row for each combination, with its share.
fn rows(report: &Report, by: &[&str], view: &UsageView) -> String {
    let screen = report.screen;
    let ordered = ordered(report, by, view);
    let with_share = screen.width >= WITH_DENIED;
    let count_width = view.rows.iter().map(|row| console::measure_text_width(&grouped(row.count))).max().unwrap_or(0).max(8);
    let rest = screen.width.saturating_sub(count_width + 2 + if with_share { 9 } else { 0 } + 2);
    let widths = fitted(by, ordered.iter().map(|(_, names)| names.as_slice()), if with_share { rest * 3 / 4 } else { rest });
    let room = rest.saturating_sub(widths.iter().map(|width| width + 2).sum());
    let mut titles: Vec<&'static str> = by.iter().map(|dimension| title(dimension)).collect();
    titles.push("VERIFIES");
    titles.extend(with_share.then_some("SHARE"));
    titles.extend((room >= BAR).then_some(""));
    let mut grid = Grid::new(&titles).right("VERIFIES").right("SHARE");
    let most = view.rows.iter().map(|row| row.count).max().unwrap_or(0);
    let mut before: &[String] = &[];
    for (row, names) in &ordered {
        // What the line above tells already is left out.
        let same = names.iter().zip(before).take_while(|(name, before)| name == before).count();
        let worst = by.iter().zip(names).map(|(dimension, name)| hue(dimension, name)).find(|hue| *hue != Hue::Plain).unwrap_or(Hue::Plain);
        let mut cells: Vec<_> = by
            .iter()
            .zip(names.iter().zip(&widths))
            .enumerate()
            .map(|(at, (dimension, (name, width)))| field(if at < same { String::new() } else { cut(name, *width) }, hue(dimension, name)))
            .collect();
        cells.push(grouped(row.count).into());
        cells.extend(with_share.then(|| share(row.count, view.total).into()));
        cells.extend((room >= BAR).then(|| field(bar(row.count, most, room), worst)));
        grid.row(cells);
        before = names;
    }
    grid.render(screen)
}

/// Every combination on a line, for a program.
fn flat(report: &Report, by: &[&str], view: &UsageView) -> String {
    let mut titles: Vec<&'static str> = by.iter().map(|dimension| title(dimension)).collect();
    titles.push("VERIFIES");
    let with_ids = by.contains(&"key");
    titles.extend(with_ids.then_some("ID"));
    let mut grid = Grid::new(&titles);
    for row in &view.rows {
        let mut cells: Vec<_> = by.iter().map(|dimension| name(report, row, dimension).into()).collect();
        cells.push(row.count.to_string().into());
        cells.extend(with_ids.then(|| row.key_id.map(|id| id.to_string()).unwrap_or_default().into()));
        grid.row(cells);
    }
    grid.render(report.screen)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::wire::{Interval, Period};
    use crate::cli::args::Cli;
    use crate::cli::args::Verb;
    use crate::cli::args::traffic::Usage;
    use crate::cli::http::Admin;
    use crate::cli::usage::zone::Zone;
    use clap::Parser;

    pub(crate) const HOUR: i64 = 3_600_000;

    /// What `usage` draws of a report that is in hand. The daemon of the way to ask it is not there.
    pub(crate) fn at_width(width: usize, terminal: bool, flags: &str, draw: impl Fn(&Report) -> String) -> String {
        let line = ["doorward", "usage"].into_iter().chain(flags.split_whitespace());
        let Verb::Usage(arguments) = Cli::try_parse_from(line).unwrap().verb else { unreachable!() };
        let arguments: Usage = arguments;
        let screen = Screen { terminal, json: false, width, colour: false, now: Instant(31 * 24 * HOUR) };
        let admin = Admin::new("nowhere".into()).unwrap();
        let report =
            Report { admin: &admin, screen: &screen, arguments: &arguments, zone: Zone::utc(), since: Instant(0), until: screen.now };
        let text = draw(&report);
        let widest = text.lines().map(console::measure_text_width).max().unwrap_or(0);
        assert!(!terminal || widest <= width, "{widest} of {width} {flags}\n{text}");
        text
    }

    pub(crate) fn view(rows: Vec<UsageRow>) -> UsageView {
        let total = rows.iter().map(|row| row.count).sum();
        UsageView { until: Instant(31 * 24 * HOUR), total, denied: Some(3), rows, ..super::super::tests::nothing() }
    }

    fn keys() -> UsageView {
        let row = |key: &str, count, denied| UsageRow {
            key: Some(key.into()),
            key_id: Some(KeyId([1; 16])),
            count,
            denied: Some(denied),
            ..UsageRow::default()
        };
        let mut rows =
            vec![row("acme/web", 1_234_567, 3), row("größe/ein-sehr-langer-name-für-einen-schlüssel-einer-firma", 7, 7), row("a/b", 1, 0)];
        rows.push(UsageRow { key: Some("(others)".into()), keys: Some(99_980), count: 12_345_678, denied: Some(0), ..UsageRow::default() });
        view(rows)
    }

    #[test]
    fn bars_fit_and_tell_denials_in_words() {
        for width in [40, 60, 80, 140, 200] {
            let text = at_width(width, true, "--top 3", |report| bars(report, "key", &keys(), usize::MAX, width));
            assert_eq!(text.lines().count(), 5, "a line for each row:\n{text}");
            assert!(text.contains("acme/web") && text.contains("(99\u{202f}980 others)") && text.contains("<0.1 %"), "{text}");
            assert_eq!(text.contains("100.0 %"), width >= 60, "{text}");
            assert_eq!(text.contains("key_0101"), width >= 150, "{text}");
            assert!(text.lines().last().unwrap().contains("others"), "{text}");
        }
        let plain = at_width(80, false, "--top 3", |report| bars(report, "key", &keys(), usize::MAX, 80));
        assert_eq!(plain.lines().last(), Some("(others)\t12345678\t0\t"));
    }

    #[test]
    fn rows_and_lines_of_time_fit() {
        let row = |function: &str, verdict: &str, hour: i64, count| UsageRow {
            function: Some(function.into()),
            verdict: Some(verdict.into()),
            at: Some(Instant(hour * HOUR)),
            count,
            ..UsageRow::default()
        };
        let view = view(vec![
            row("leads.insert", "ok", 0, 500),
            row("leads.insert", "function_restricted", 1, 2),
            row("a.function.with.a.name.that.goes.on.and.on", "ok", 2, 1),
        ]);
        let periods: Vec<Point> =
            (0..30).map(|hour| Point { at: Instant(hour * HOUR), count: (hour < 15).then_some(1), denied: 0 }).collect();
        for width in [40, 80, 200] {
            let text = at_width(width, true, "", |report| rows(report, &["function", "verdict"], &view));
            assert_eq!(text.lines().count(), 4, "{text}");
            let text = at_width(width, true, "", |report| series(report, "hour", &["function"], &view, &periods));
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(text.contains('█') && text.contains('·'), "what is unknown is seen:\n{text}");
        }
        let plain = at_width(80, false, "", |report| flat(report, &["function", "verdict"], &view));
        assert_eq!(plain.lines().nth(2), Some("leads.insert\tfunction_restricted\t2"));
    }

    #[test]
    fn what_is_not_known_agrees_with_the_times_that_are_told() {
        let told = |unknown: &[(i64, i64)]| {
            let interval = |&(since, until): &(i64, i64)| Interval { since: Instant(since * 1_000), until: Instant(until * 1_000) };
            let view = UsageView { unknown: unknown.iter().map(interval).collect(), ..view(vec![]) };
            at_width(200, true, "", |report| heading(report, &view, None))
                .lines()
                .find(|line| line.starts_with("Not known"))
                .unwrap()
                .to_owned()
        };
        let line = |text: &str| format!("Not known: {text}: the daemon did not run, or it is no longer kept.");
        // From 20 s past 00:01 to 10 s past 00:04 are 2 m 50 s, told as from 00:01 to 00:04.
        assert_eq!(told(&[(80, 250)]), line("3m of it, 1970-01-01 00:01 UTC to 1970-01-01 00:04 UTC"));
        assert_eq!(told(&[(80, 250), (3_601, 3_719)]), line("4m of it, 1970-01-01 00:01 UTC to 1970-01-01 00:04 UTC, and 1 more"));
        assert_eq!(told(&[(61, 119)]), line("less than a minute of it, 1970-01-01 00:01 UTC to 1970-01-01 00:01 UTC"));
    }

    #[test]
    fn tokens_that_no_key_has_are_no_secret_of_version_0() {
        let row = |version, key: Option<&str>, count| UsageRow { version, key: key.map(Into::into), count, ..UsageRow::default() };
        let by_secret = view(vec![row(None, None, 2), row(Some(1), None, 7)]);
        let plain = at_width(80, false, "", |report| flat(report, &["secret"], &by_secret));
        assert_eq!(plain, "SECRET\tVERIFIES\n(no key)\t2\n1\t7\n");
        let by_both = view(vec![row(None, Some("(no key)"), 2), row(Some(1), Some("acme/web"), 7)]);
        let plain = at_width(80, false, "", |report| flat(report, &["key", "secret"], &by_both));
        assert_eq!(plain, "KEY\tSECRET\tVERIFIES\tID\n(no key)\t-\t2\t\nacme/web\t1\t7\t\n");
    }

    #[test]
    fn what_has_most_comes_first_and_so_within_it() {
        let row = |function: &str, verdict: &str, count| UsageRow {
            function: Some(function.into()),
            verdict: Some(verdict.into()),
            count,
            ..UsageRow::default()
        };
        let counted = view(vec![row("a", "ok", 5), row("b", "ok", 3), row("b", "expired", 4), row("c", "ok", 7)]);
        let told = |flags: &str| at_width(80, true, flags, |report| rows(report, &["function", "verdict"], &counted));
        let figures =
            |text: &str| text.lines().skip(1).map(|line| line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()).collect();
        let sorted: Vec<u64> = figures(&told(""));
        assert_eq!(sorted, [4, 3, 7, 5], "b has 7 in all, as c: by name then");
        let ranked: Vec<u64> = figures(&told("--top 3"));
        assert_eq!(ranked, [5, 4, 3, 7], "the daemon has put the keys in order");
    }

    #[test]
    fn periods_tell_what_is_zero_unknown_or_not_whole() {
        let row = |hour: i64, count| UsageRow { at: Some(Instant(hour * HOUR)), count, denied: Some(0), ..UsageRow::default() };
        let mut view = view(vec![row(0, 5), row(2, 0)]);
        (view.since, view.until) = (Instant(HOUR / 2), Instant(5 * HOUR / 2));
        view.unknown_periods = vec![Period { at: Instant(HOUR), local: None }];
        let text = at_width(80, true, "--until 1970-01-01T02:30", |report| time_table(report, "hour", &view));
        let lines: Vec<String> = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines[0].starts_with("1970-01-01 00:00 UTC, from 00:30 5 100.0 % - █"), "{text}");
        assert_eq!(lines[1..], ["1970-01-01 01:00 UTC unknown", "1970-01-01 02:00 UTC, to 02:30 0 0.0 % -"]);
        let plain = at_width(80, false, "", |report| time_table(report, "hour", &view));
        assert_eq!(plain.lines().nth(2), Some("1970-01-01T01:00:00Z\tunknown\t"));
        at_width(40, true, "", |report| time_table(report, "hour", &view));
    }
}
