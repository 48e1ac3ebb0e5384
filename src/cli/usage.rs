use std::collections::BTreeMap;

use super::args::traffic::Usage;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::screen::{Hue, Screen, absolute, grouped, now};
use super::table::{Grid, field};
use super::view;
use crate::admin::wire::{UsageRow, UsageView};
use crate::key::{Instant, Span};

/// The tables of the usual report: a title, the dimension, and how a row is named by it.
const REPORT: [(&str, &str); 4] = [("FUNCTION", "function"), ("VERDICT", "verdict"), ("HOUR", "hour"), ("COUNTRY", "country")];
/// Rows of a table of the report, but for hours.
const REPORT_ROWS: usize = 20;

/// `usage`
pub(crate) fn usage(admin: &Admin, screen: &Screen, arguments: &Usage) -> Result<Exit, Failure> {
    let now = now();
    let until = arguments.until.map_or(now, |when| when.resolve(now));
    let since = arguments.since.map_or(Instant(until.0.saturating_sub(arguments.last.0).max(0)), |when| when.resolve(now));
    let ask = |by: &str| -> Result<UsageView, Failure> {
        admin.get(&with_query(
            "/v1/usage",
            &[
                ("key", arguments.key.as_ref().map(ToString::to_string)),
                ("account", arguments.account.clone()),
                ("since", Some(since.to_string())),
                ("until", Some(until.to_string())),
                ("by", Some(by.to_owned())),
            ],
        ))
    };
    if !arguments.by.is_empty() || screen.json {
        let by = if arguments.by.is_empty() { "function,verdict,hour".to_owned() } else { arguments.by.join(",") };
        let view = ask(&by)?;
        screen.show(&view, || table(screen, &view, &arguments.by))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for (at, (title, dimension)) in REPORT.into_iter().enumerate() {
        let view = ask(dimension)?;
        if at == 0 {
            text.push_str(&heading(screen, arguments, &view));
        }
        if view.total > 0 {
            text.push_str(&bars(screen, title, dimension, &view));
            text.push('\n');
        }
        if at + 1 == REPORT.len() {
            text.push_str(&secrets(screen, &view));
        }
    }
    super::screen::print(&text)?;
    Ok(Exit::Ok)
}

fn heading(screen: &Screen, arguments: &Usage, view: &UsageView) -> String {
    let whose = match (&arguments.key, &arguments.account) {
        (Some(key), _) => key.to_string(),
        (None, Some(account)) => format!("account {account}"),
        (None, None) => "all keys".to_owned(),
    };
    if !screen.terminal {
        return format!("since: {}\nuntil: {}\ntotal: {}\n\n", view.since, view.until, view.total);
    }
    let span = Span(view.until.since(view.since).0 / 1_000 * 1_000);
    let title = screen.paint(&format!("{} verifies of {whose}", grouped(view.total)), Hue::Strong);
    format!("{title}\n{} to {} ({span})\n\n", absolute(view.since), absolute(view.until))
}

/// A row's name by one dimension.
fn name(row: &UsageRow, dimension: &str, screen: &Screen) -> String {
    let moment = |at: Instant| if screen.terminal { absolute(at) } else { at.to_string() };
    match dimension {
        "function" => row.function.clone(),
        "verdict" => row.verdict.clone(),
        "country" => row.country.clone(),
        "secret" => row.version.map(|version| version.to_string()),
        "key" => Some(row.key_id.map_or_else(|| "(no key)".to_owned(), |id| id.to_string())),
        _ => row.at.map(moment),
    }
    .unwrap_or_else(|| "-".to_owned())
}

fn hue(dimension: &str, name: &str) -> Hue {
    match (dimension, name) {
        ("verdict", "ok") => Hue::Good,
        ("verdict", _) => Hue::Bad,
        _ => Hue::Plain,
    }
}

/// One dimension, largest first (hours: latest first), a bar for each row.
fn bars(screen: &Screen, title: &'static str, dimension: &str, view: &UsageView) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    view.rows.iter().for_each(|row| *counts.entry(name(row, dimension, screen)).or_default() += row.count);
    let mut rows: Vec<(String, u64)> = counts.into_iter().collect();
    if dimension == "hour" {
        rows.reverse();
    } else {
        rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let longest = rows.iter().map(|(name, _)| console::measure_text_width(name)).max().unwrap_or(0);
    let shown = if screen.terminal && dimension != "hour" { REPORT_ROWS } else { usize::MAX };
    let mut grid = if screen.terminal { Grid::new(&[title, "VERIFIES", "SHARE", ""]) } else { Grid::new(&[title, "VERIFIES"]) };
    grid = grid.right("VERIFIES").right("SHARE");
    let room = screen.width.saturating_sub(longest + 28).min(40);
    for (name, count) in rows.iter().take(shown) {
        let hue = hue(dimension, name);
        if screen.terminal {
            let share = format!("{:.1} %", *count as f64 * 100.0 / view.total.max(1) as f64);
            grid.row(vec![field(name, hue), grouped(*count).into(), share.into(), field(bar(*count, most, room), hue)]);
        } else {
            grid.row(vec![name.as_str().into(), count.to_string().into()]);
        }
    }
    let mut text = grid.render(screen);
    if let Some(more @ 1..) = rows.len().checked_sub(shown) {
        text.push_str(&format!("and {more} more: --by {dimension}\n"));
    }
    text
}

/// A bar of eighths of a character, as long as its share of the longest; what is there is seen.
fn bar(count: u64, most: u64, room: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if count == 0 || most == 0 {
        return String::new();
    }
    let eighths = ((count as f64 / most as f64 * room as f64 * 8.0) as usize).max(1);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

/// A row for each combination that was asked for.
fn table(screen: &Screen, view: &UsageView, by: &[String]) -> String {
    const TITLES: [(&str, &str); 8] = [
        ("function", "FUNCTION"),
        ("verdict", "VERDICT"),
        ("secret", "SECRET"),
        ("country", "COUNTRY"),
        ("minute", "MINUTE"),
        ("hour", "HOUR"),
        ("day", "DAY"),
        ("key", "KEY"),
    ];
    let mut titles: Vec<&'static str> =
        by.iter().filter_map(|dimension| TITLES.iter().find(|(name, _)| name == dimension).map(|(_, title)| *title)).collect();
    titles.push("VERIFIES");
    let mut grid = Grid::new(&titles).right("VERIFIES");
    for row in &view.rows {
        let mut fields: Vec<_> = by
            .iter()
            .map(|dimension| {
                let name = name(row, dimension, screen);
                let hue = hue(dimension, &name);
                field(name, hue)
            })
            .collect();
        fields.push(if screen.terminal { grouped(row.count).into() } else { row.count.to_string().into() });
        grid.row(fields);
    }
    grid.render(screen)
}

/// The last use of each secret, and from where, where one key was asked for.
fn secrets(screen: &Screen, view: &UsageView) -> String {
    if view.secrets.is_empty() {
        return String::new();
    }
    let mut text = view::secrets(screen, &view.secrets, true);
    if !view.networks.is_empty() {
        let mut grid = Grid::new(&["RECENT NETWORK", "LAST USED"]);
        for network in &view.networks {
            grid.row(vec![network.network.to_string().into(), screen.moment(network.last_used_at).into()]);
        }
        text.push('\n');
        text.push_str(&grid.render(screen));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_scale_to_the_largest_and_never_vanish() {
        assert_eq!(bar(100, 100, 10), "█".repeat(10));
        assert_eq!(bar(50, 100, 5), "██▌");
        assert_eq!(bar(1, 1_000_000, 10), "▏");
        assert_eq!(bar(0, 10, 10), "");
    }

    #[test]
    fn a_table_of_bars_fits_80_columns() {
        let screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(0) };
        let row = |function: &str, count| UsageRow { function: Some(function.into()), count, ..UsageRow::default() };
        let rows = vec![row("leads.insert", 1_234_567), row("a.rather.long.name.of.a.function", 3)];
        let view = UsageView { since: Instant(0), until: Instant(1), total: 1_234_570, rows, secrets: vec![], networks: vec![] };
        let text = bars(&screen, "FUNCTION", "function", &view);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        assert!(text.contains("100.0 %") && text.contains('▏'), "{text}");
        let plain = table(&Screen { terminal: false, ..screen }, &view, &["function".to_owned()]);
        assert_eq!(plain.lines().next(), Some("FUNCTION\tVERIFIES"));
    }
}
