//! Counts drawn with characters: bars, sparklines, columns over time.

use super::zone::Zone;
use crate::cli::screen::{Hue, Screen};
use crate::key::Instant;

/// What stands where nothing is known. Where nothing was counted is nothing.
pub(super) const UNKNOWN: char = '·';
const LOWER_EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LEFT_EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// Characters of a scale's figures.
const SCALE: usize = 6;
/// Characters of one column at most: a week is as wide as a wide terminal, and a chart of two days is no wall.
const COLUMN: usize = 24;

/// A period of a chart; without a count where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: Instant,
    pub(super) count: Option<u64>,
    pub(super) denied: u64,
}

/// A bar of eighths of a character, as long as its share of the longest; what is there is seen.
pub(super) fn bar(count: u64, most: u64, room: usize) -> String {
    if count == 0 || most == 0 {
        return String::new();
    }
    let eighths = ((count as f64 / most as f64 * room as f64 * 8.0) as usize).max(1);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(LEFT_EIGHTHS[eighths % 8]);
    }
    bar
}

/// Counts of consecutive periods on one line, as wide as there is room for: neighbours are added up where they are more.
pub(super) fn sparkline(counts: &[Option<u64>], room: usize) -> String {
    let places = Places::of(counts.len(), room.max(1));
    places.cells(heights(&gathered(counts, places.together)).into_iter(), 0)
}

/// A cell for each count, by the scale of the most.
fn heights(counts: &[Option<u64>]) -> Vec<char> {
    let most = counts.iter().flatten().copied().max().unwrap_or(0);
    counts.iter().map(|count| count.map_or(UNKNOWN, |count| LOWER_EIGHTHS[eighths(count, most, 8)])).collect()
}

/// So many neighbours become one; unknown where all of them are.
fn gathered(counts: &[Option<u64>], together: usize) -> Vec<Option<u64>> {
    let sum = |counts: &[Option<u64>]| counts.iter().flatten().copied().reduce(u64::saturating_add);
    counts.chunks(together).map(sum).collect()
}

/// How high a column is, of `full`; what is there is seen.
fn eighths(count: u64, most: u64, full: usize) -> usize {
    if count == 0 || most == 0 { 0 } else { ((count as f64 / most as f64 * full as f64).round() as usize).clamp(1, full) }
}

/// Where the columns of a chart stand: side by side, together as wide as there is room for.
#[derive(Debug, Clone, Copy)]
struct Places {
    columns: usize,
    /// Periods in a column.
    together: usize,
    room: usize,
}

impl Places {
    fn of(periods: usize, room: usize) -> Places {
        let together = periods.div_ceil(room).max(1);
        let columns = periods.div_ceil(together).max(1);
        Places { columns, together, room: room.min(columns * COLUMN) }
    }

    fn start(self, column: usize) -> usize {
        column * self.room / self.columns
    }

    /// A line of the cells, each over its column, with a gap behind it where the columns are wide enough.
    fn line(self, cells: impl Iterator<Item = char>) -> String {
        self.cells(cells, usize::from(self.room / self.columns >= 3))
    }

    fn cells(self, cells: impl Iterator<Item = char>, gap: usize) -> String {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let wide = self.start(column + 1) - self.start(column);
            line.extend(std::iter::repeat_n(cell, wide - gap).chain(std::iter::repeat_n(' ', gap)));
        }
        line
    }
}

/// Columns over time as wide as the screen, with a scale at the left and times below; and a line of the denials, by a scale of its own.
pub(super) fn columns(screen: &Screen, zone: &Zone, unit: &str, points: &[Point], height: usize) -> String {
    let places = Places::of(points.len(), screen.width.saturating_sub(SCALE + 2).max(10));
    let counts = gathered(&points.iter().map(|point| point.count).collect::<Vec<_>>(), places.together);
    let most = counts.iter().flatten().copied().max().unwrap_or(0);
    let mut text = String::new();
    for row in (0..height).rev() {
        let figure = match row + 1 {
            top if top == height => short(most),
            half if half * 2 == height && most >= 10 => short(most / 2),
            _ => String::new(),
        };
        let axis = if figure.is_empty() { '│' } else { '┤' };
        let line = places.line(counts.iter().map(|count| match count {
            None if row == 0 => UNKNOWN,
            None => ' ',
            Some(count) => LOWER_EIGHTHS[eighths(*count, most, height * 8).saturating_sub(row * 8).min(8)],
        }));
        text.push_str(format!("{figure:>SCALE$} {axis}{line}").trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:SCALE$} └{}\n", "", "─".repeat(places.room)));
    let denied: Vec<Option<u64>> = points.iter().map(|point| point.count.map(|_| point.denied)).collect();
    if denied.iter().flatten().any(|denied| *denied > 0) {
        let line = places.line(heights(&gathered(&denied, places.together)).into_iter());
        text.push_str(&format!("{:>SCALE$}  {}\n", "denied", screen.paint(line.trim_end(), Hue::Bad)));
    }
    let times = times(zone, unit, points, places);
    text.push_str(&format!("{:SCALE$}  {}\n", "", screen.paint(times.trim_end(), Hue::Dim)));
    text
}

/// The times below the columns: as dense as there is room for, at round ones; at midnight the date.
fn times(zone: &Zone, unit: &str, points: &[Point], places: Places) -> String {
    /// Characters of `23:59` or `12-31`, and two between.
    const LABEL: usize = 5 + 2;
    const MINUTES: [i64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440];
    const HOURS: [i64; 13] = [1, 2, 3, 4, 6, 12, 24, 48, 72, 168, 336, 672, 1_344];
    const DAYS: [i64; 12] = [1, 2, 3, 5, 7, 10, 14, 28, 56, 91, 182, 364];
    let steps: &[i64] = match unit {
        "minute" => &MINUTES,
        "hour" => &HOURS,
        _ => &DAYS,
    };
    let enough = |step: &&i64| **step as usize * places.room / points.len().max(1) >= LABEL;
    let step = steps.iter().find(enough).or(steps.last()).copied().unwrap_or(1);
    let mut line = String::new();
    let mut used = 0;
    let mut put = |at: usize| {
        let (start, label) = (places.start(at / places.together), label(zone, unit, points[at].at));
        if (used == 0 || start > used) && start + label.len() <= places.room.max(LABEL) {
            line.push_str(&format!("{:1$}{label}", "", start - used));
            used = start + label.len();
        }
    };
    let round: Vec<usize> = (0..points.len()).filter(|at| ordinal(zone, unit, points[*at].at) % step == 0).collect();
    // The first column is always told, unless a round one follows at once.
    if !points.is_empty() && round.first().is_none_or(|first| places.start(first / places.together) >= LABEL) {
        put(0);
    }
    round.into_iter().for_each(put);
    line
}

/// The period's number by the reader's clock.
fn ordinal(zone: &Zone, unit: &str, at: Instant) -> i64 {
    let at = zone.at(at);
    let days = at.date().since(jiff::civil::date(1970, 1, 1)).map_or(0, |span| i64::from(span.get_days()));
    match unit {
        "minute" => (days * 24 + i64::from(at.hour())) * 60 + i64::from(at.minute()),
        "hour" => days * 24 + i64::from(at.hour()),
        _ => days,
    }
}

fn label(zone: &Zone, unit: &str, at: Instant) -> String {
    let at = zone.at(at);
    let midnight = at.hour() == 0 && at.minute() == 0;
    at.strftime(if unit == "day" || midnight { "%m-%d" } else { "%H:%M" }).to_string()
}

/// A figure in at most five characters: `950`, `1.2k`, `34k`, `5.6M`.
pub(super) fn short(number: u64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut amount, mut unit) = (number as f64, 0);
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1_000.0;
        unit += 1;
    }
    if unit > 0 && amount < 9.95 { format!("{amount:.1}{}", UNITS[unit]) } else { format!("{amount:.0}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn screen(width: usize) -> Screen {
        Screen { terminal: true, json: false, width, colour: false, now: Instant(0) }
    }

    fn points(counts: &[Option<u64>]) -> Vec<Point> {
        let at = |hour: usize| Instant(1_763_830_800_000 + hour as i64 * HOUR);
        counts.iter().enumerate().map(|(hour, count)| Point { at: at(hour), count: *count, denied: 0 }).collect()
    }

    #[test]
    fn bars_scale_to_the_largest_and_never_vanish() {
        assert_eq!(bar(100, 100, 10), "█".repeat(10));
        assert_eq!(bar(50, 100, 5), "██▌");
        assert_eq!(bar(1, 1_000_000, 10), "▏");
        assert_eq!(bar(0, 10, 10), "");
    }

    #[test]
    fn zero_and_unknown_look_different() {
        assert_eq!(sparkline(&[Some(0), None, Some(1), Some(800), Some(400)], 5), " ·▁█▄");
        assert_eq!(sparkline(&[Some(1), None, None, None, Some(1), Some(1)], 3), "▄·█", "neighbours are added up");
        let chart = columns(&screen(40), &Zone::utc(), "hour", &points(&[Some(8), Some(0), None]), 2);
        let lines: Vec<&str> = chart.lines().collect();
        assert_eq!(lines[0], format!("     8 ┤{}", "█".repeat(9)));
        assert_eq!(lines[1], format!("       │{}{}{}", "█".repeat(9), " ".repeat(12), "·".repeat(10)));
    }

    #[test]
    fn a_sparkline_is_as_wide_as_its_room() {
        for count in [1, 3, 7, 24, 25, 60, 72, 720, 100_000] {
            let counts: Vec<Option<u64>> = (0..count).map(Some).collect();
            for room in [6, 23, 24, 38, 47, 130] {
                assert_eq!(sparkline(&counts, room).chars().count(), room.min(count as usize * COLUMN), "{count} {room}");
            }
        }
        assert_eq!(sparkline(&[Some(1), None, Some(8)], 8), "▁▁···███");
    }

    #[test]
    fn charts_are_as_wide_as_the_screen_and_no_wider() {
        for count in [1, 2, 5, 8, 24, 25, 48, 71, 72, 100, 168, 720, 5_000] {
            let counts: Vec<Option<u64>> = (0..count).map(|n| (n % 7 != 0).then_some(n * n)).collect();
            let mut points = points(&counts);
            points.iter_mut().for_each(|point| point.denied = point.count.unwrap_or(0) / 2);
            for width in [40, 80, 200] {
                for unit in ["minute", "hour", "day"] {
                    let chart = columns(&screen(width), &Zone::utc(), unit, &points, 6);
                    let widest = chart.lines().map(console::measure_text_width).max().unwrap();
                    assert!(widest <= width, "{count} {width} {unit}: {widest}\n{chart}");
                    assert!(count < 8 || widest >= width - 2, "{count} {width} {unit}: {widest}\n{chart}");
                    let times = chart.lines().last().unwrap();
                    assert!(times.contains(':') || times.contains('-'), "{count} {width} {unit}\n{chart}");
                }
            }
        }
    }

    #[test]
    fn figures_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (9_940, "9.9k"),
            (9_960, "10k"),
            (999_499, "999k"),
            (999_500, "1.0M"),
            (u64::MAX, "18447P"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
