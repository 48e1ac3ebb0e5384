//! What rows of a report are called, and how much of a name a line has room for.

use super::Report;
use super::tables::BAR;
use crate::admin::wire::UsageRow;
use crate::cli::screen::{Hue, grouped};
use crate::cli::unusual::NOBODY;

/// A line has a name at most this part of it.
const NAME_PART: (usize, usize) = (2, 5);
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

pub(super) fn title(dimension: &str) -> &'static str {
    TITLES.iter().find(|(name, _)| *name == dimension).map_or("", |(_, title)| title)
}

pub(super) fn is_time(dimension: &str) -> bool {
    ["minute", "hour", "day"].contains(&dimension)
}

/// A row's name by one dimension.
pub(super) fn name(report: &Report, row: &UsageRow, dimension: &str) -> String {
    let others = |keys: u64| if report.screen.terminal { format!("({} others)", grouped(keys)) } else { "(others)".to_owned() };
    match dimension {
        "function" => row.function.clone(),
        "verdict" => row.verdict.clone(),
        "country" => row.country.clone(),
        "secret" => row.version.map(|version| version.to_string()).or_else(|| row.key.is_none().then(|| NOBODY.to_owned())),
        "key" => row.keys.map(others).or_else(|| row.key.clone()),
        _ => row.at.map(|at| report.zone.exact(at)),
    }
    .unwrap_or_else(|| "-".to_owned())
}

pub(super) fn hue(dimension: &str, name: &str) -> Hue {
    match (dimension, name) {
        ("verdict", "ok") => Hue::Good,
        ("verdict", _) => Hue::Bad,
        _ => Hue::Plain,
    }
}

/// Characters for names: what the longest needs, within a part of the line.
pub(super) fn name_width<'n>(width: usize, names: impl Iterator<Item = &'n str>, title: &str) -> usize {
    longest(names, title).min((width * NAME_PART.0 / NAME_PART.1).max(12))
}

pub(super) fn longest<'n>(names: impl Iterator<Item = &'n str>, title: &str) -> usize {
    names.map(console::measure_text_width).max().unwrap_or(0).max(title.len())
}

/// Characters for each of several columns of names, which have so many together, the blanks behind them included: the longest give way.
pub(super) fn fitted<'n>(dimensions: &[&str], rows: impl Iterator<Item = &'n [String]>, room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = dimensions.iter().map(|dimension| title(dimension).len()).collect();
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, name)| *width = (*width).max(console::measure_text_width(name)));
    }
    while widths.iter().map(|width| width + 2).sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(longest) if *longest > BAR => *longest -= 1,
            _ => break,
        }
    }
    widths
}

/// A name in so many characters: what is too much is left out in its middle, since names of one account or one group of functions begin alike.
pub(super) fn cut(name: &str, width: usize) -> String {
    if console::measure_text_width(name) <= width {
        return name.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head = console::truncate_str(name, kept.div_ceil(2), "");
    let fits = |at: &usize| console::measure_text_width(&name[*at..]) <= kept / 2;
    let tail = name.char_indices().map(|(at, _)| at).find(fits).map_or("", |at| &name[at..]);
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::super::tables::bars;
    use super::super::tables::tests::{at_width, view};
    use super::*;

    /// What is cut at its end is the same for all keys of an account.
    #[test]
    fn names_are_cut_in_their_middle() {
        assert_eq!(cut("bolt-logistics/labels", 21), "bolt-logistics/labels");
        assert_eq!(cut("bolt-logistics/labels", 12), "bolt-l…abels");
        assert_eq!(cut("größenwahn/katalog-für-öl", 11), "größe…ür-öl");
        assert_eq!(cut("日本語の鍵/日本", 8), "日本…本");
        assert_eq!((cut("abc", 1).as_str(), cut("abc", 0).as_str()), ("…", "…"));
        let two = ["bolt-logistics-international/labels", "bolt-logistics-international/tracking"];
        let row = |key: &str| UsageRow { key: Some(key.into()), count: 1, denied: Some(0), ..UsageRow::default() };
        let text = at_width(40, true, "", |report| bars(report, "key", &view(two.map(row).to_vec()), usize::MAX, 40));
        assert!(text.contains("abels  ") && text.contains("cking  "), "{text}");
    }
}
