//! Counts over time by other dimensions: a sparkline for each.

use std::collections::BTreeMap;

use super::chart::{Point, sparkline};
use super::names::{cut, fitted, hue, name, title};
use super::tables::WITH_DENIED;
use super::{Report, share};
use crate::admin::wire::UsageView;
use crate::cli::screen::grouped;
use crate::cli::table::{Grid, field};
use crate::key::Instant;

/// Characters of a figure that stands before a sparkline, below its names.
const NARROW_COUNT: usize = 10;
/// Characters that a sparkline needs to tell anything.
const LEAST: usize = 6;

/// A sparkline for each combination of the categories, each by its own most.
pub(super) fn series(report: &Report, unit: &str, categories: &[&str], view: &UsageView, periods: &[Point]) -> String {
    let screen = report.screen;
    let place: BTreeMap<Instant, usize> = periods.iter().enumerate().map(|(place, point)| (point.at, place)).collect();
    let empty: Vec<Option<u64>> = periods.iter().map(|point| point.count.map(|_| 0)).collect();
    let mut order: Vec<Vec<String>> = Vec::new();
    let mut found: BTreeMap<Vec<String>, (u64, Vec<Option<u64>>)> = BTreeMap::new();
    for row in &view.rows {
        let names: Vec<String> = categories.iter().map(|category| name(report, row, category)).collect();
        if !found.contains_key(&names) {
            order.push(names.clone());
        }
        let (sum, counts) = found.entry(names).or_insert_with(|| (0, empty.clone()));
        *sum = sum.saturating_add(row.count);
        if let Some(count) = row.at.and_then(|at| place.get(&at)).and_then(|place| counts.get_mut(*place)) {
            *count = Some(count.unwrap_or(0).saturating_add(row.count));
        }
    }
    if report.arguments.top.is_none() {
        order.sort_by_key(|names| (std::cmp::Reverse(found[names].0), names.clone()));
    }
    let with_share = screen.width >= WITH_DENIED;
    if !with_share && categories.len() > 1 {
        // Several names and a line of time side by side would leave nothing of either.
        let room = screen.width - NARROW_COUNT - 2;
        let lines = order.into_iter().map(|names| {
            let (sum, counts) = &found[&names];
            let (names, sum) = (cut(&names.join(", "), screen.width), grouped(*sum));
            format!("{names}\n{sum:>NARROW_COUNT$}  {}\n", sparkline(counts, room).trim_end())
        });
        return lines.collect();
    }
    let mut titles: Vec<&'static str> = categories.iter().map(|category| title(category)).collect();
    titles.extend(["VERIFIES", "SHARE"]);
    titles.push(match unit {
        "minute" => "PER MINUTE, EACH LINE BY ITS OWN MOST",
        "hour" => "PER HOUR, EACH LINE BY ITS OWN MOST",
        _ => "PER DAY, EACH LINE BY ITS OWN MOST",
    });
    let count_width = order.iter().map(|names| console::measure_text_width(&grouped(found[names].0))).max().unwrap_or(0).max(8);
    let rest = screen.width.saturating_sub(count_width + 2 + if with_share { 9 } else { 0 } + 2);
    // Names have half of the line, and what a sparkline of so few periods does not need.
    let widths = fitted(categories, order.iter().map(Vec::as_slice), (rest / 2).max(rest.saturating_sub(periods.len() + 2)));
    let room = rest.saturating_sub(widths.iter().map(|width| width + 2).sum()).max(LEAST);
    if !with_share {
        titles.retain(|title| *title != "SHARE");
    }
    if room < 38 {
        titles.pop();
        titles.push(match unit {
            "minute" => "MINUTES",
            "hour" => "HOURS",
            _ => "DAYS",
        });
    }
    let mut grid = Grid::new(&titles).right("VERIFIES").right("SHARE");
    for names in order {
        let (sum, counts) = &found[&names];
        let mut cells: Vec<_> = categories
            .iter()
            .zip(names.iter().zip(&widths))
            .map(|(category, (name, width))| field(cut(name, *width), hue(category, name)))
            .collect();
        cells.push(grouped(*sum).into());
        cells.extend(with_share.then(|| share(*sum, view.total).into()));
        // Blanks are counts of zero: cells would lose them.
        cells.push(sparkline(counts, room).replace(' ', "\u{a0}").into());
        grid.row(cells);
    }
    grid.render(screen).replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::{HOUR, at_width, view};
    use super::*;
    use crate::admin::wire::UsageRow;

    #[test]
    fn on_a_narrow_terminal_a_line_of_time_stands_below_its_names() {
        let row = |key: &str, hour: i64| UsageRow {
            key: Some(key.into()),
            verdict: Some("function_denied".into()),
            at: Some(Instant(hour * HOUR)),
            count: 1_000,
            ..UsageRow::default()
        };
        let points: Vec<Point> = (0..4).map(|hour| Point { at: Instant(hour * HOUR), count: Some(0), denied: 0 }).collect();
        let counted = view(vec![row("bolt-logistics/labels", 1), row("bolt-logistics/labels", 2), row("acme/web", 0)]);
        let text = at_width(40, true, "", |report| series(report, "hour", &["key", "verdict"], &counted, &points));
        let grouped = "2\u{202f}000";
        let wide = "█".repeat(7);
        let expected = format!(
            "bolt-logistics/labels, function_denied\n     {grouped}  {:7}{wide}{wide}\nacme/web, function_denied\n     1\u{202f}000  {wide}\n",
            ""
        );
        assert_eq!(text, expected);
    }
}
