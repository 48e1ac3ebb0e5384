use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width};

use super::screen::{Hue, Screen};

/// Rows under a header: aligned and wrapped to the width for a person, tab-separated lines for a pipe.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<Field>>,
}

/// A column's title and how it is set.
#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    right: bool,
    /// Only where the line is at least this wide, and in a pipe.
    from_width: usize,
    /// Characters below which the column is not squeezed.
    at_least: u16,
}

/// A cell's text and what its colour means.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    text: String,
    hue: Hue,
}

/// A cell.
pub(crate) fn field(text: impl Into<String>, hue: Hue) -> Field {
    Field { text: text.into(), hue }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Field {
        field(text, Hue::Plain)
    }
}

impl Grid {
    /// An empty table with these columns.
    pub(crate) fn new(titles: &[&'static str]) -> Grid {
        let columns = titles.iter().map(|&title| Column { title, right: false, from_width: 0, at_least: 0 }).collect();
        Grid { columns, rows: Vec::new() }
    }

    /// Sets a column of figures to the right.
    pub(crate) fn right(mut self, title: &str) -> Grid {
        self.columns.iter_mut().filter(|column| column.title == title).for_each(|column| column.right = true);
        self
    }

    /// Leaves a column out on a terminal narrower than this.
    pub(crate) fn wide_only(mut self, title: &str, width: usize) -> Grid {
        self.columns.iter_mut().filter(|column| column.title == title).for_each(|column| column.from_width = width);
        self
    }

    /// Keeps a column at least this wide, if its contents are.
    pub(crate) fn at_least(mut self, title: &str, width: u16) -> Grid {
        self.columns.iter_mut().filter(|column| column.title == title).for_each(|column| column.at_least = width);
        self
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, fields: Vec<Field>) {
        debug_assert_eq!(fields.len(), self.columns.len());
        self.rows.push(fields);
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its end.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        if screen.terminal { self.aligned(screen) } else { self.tabbed() }
    }

    fn tabbed(&self) -> String {
        let mut text = self.columns.iter().map(|column| column.title).collect::<Vec<_>>().join("\t");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(|field| field.text.as_str()).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }

    fn aligned(&self, screen: &Screen) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&at| screen.width >= self.columns[at].from_width).collect();
        if shown.iter().map(|&at| self.needed(at) + 2).sum::<usize>() > screen.width + 2 {
            return self.stacked(screen, &shown);
        }
        let mut table = Table::new();
        // The width and the colours are decided by `Screen`, not found out a second time.
        table.load_style(NOTHING).force_no_tty().set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(screen.width).unwrap_or(u16::MAX));
        if screen.colour {
            table.enforce_styling();
        }
        table.set_header(shown.iter().map(|&at| Cell::new(self.columns[at].title).add_attribute(Attribute::Dim)));
        for row in &self.rows {
            table.add_row(shown.iter().map(|&at| cell(&row[at])));
        }
        for (position, &at) in shown.iter().enumerate() {
            let Some(column) = table.column_mut(position) else { continue };
            column.set_padding((0, 2));
            if self.columns[at].right {
                column.set_cell_alignment(CellAlignment::Right);
            }
            let at_least = self.columns[at].at_least.min(u16::try_from(self.longest(at)).unwrap_or(u16::MAX));
            if at_least > 0 {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(at_least + 2)));
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Grid {
    /// Characters of a column's longest cell.
    fn longest(&self, at: usize) -> usize {
        self.rows.iter().map(|row| console::measure_text_width(&row[at].text)).max().unwrap_or(0)
    }

    /// Characters below which a column would be a ladder of letters: its title, figures, and what it is to be at least.
    fn needed(&self, at: usize) -> usize {
        let Column { title, right, at_least, .. } = self.columns[at];
        let longest = self.longest(at);
        console::measure_text_width(title).max(if right { longest } else { longest.min(at_least.into()) })
    }

    /// Each row in lines of its own, a cell in each, where the line is too short for the columns side by side.
    fn stacked(&self, screen: &Screen, shown: &[usize]) -> String {
        let row = |row: &Vec<Field>| {
            let value = |Field { text, hue }: &Field| if text.contains(' ') { text.clone() } else { screen.paint(text, *hue) };
            let lines: Vec<(&str, String)> = shown.iter().map(|&at| (self.columns[at].title, value(&row[at]))).collect();
            card(screen, &lines)
        };
        self.rows.iter().map(row).collect::<Vec<_>>().join("\n")
    }
}

fn cell(field: &Field) -> Cell {
    let cell = Cell::new(&field.text);
    match field.hue {
        Hue::Plain => cell,
        Hue::Good => cell.fg(Color::DarkGreen),
        Hue::Warn => cell.fg(Color::DarkYellow),
        Hue::Bad => cell.fg(Color::DarkRed),
        Hue::Dim => cell.add_attribute(Attribute::Dim),
        Hue::Strong => cell.add_attribute(Attribute::Bold),
    }
}

/// Named values, a line each: the names aligned for a person, `name: value` in a pipe. Empty values are left out on a terminal.
pub(crate) fn card(screen: &Screen, lines: &[(&str, String)]) -> String {
    let label = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        if !screen.terminal {
            text.push_str(&format!("{name}: {value}\n"));
        } else if !value.is_empty() {
            let margin = label + 4;
            let space = screen.width.saturating_sub(margin).max(20);
            let name = screen.paint(&format!("{name:<label$}"), Hue::Dim);
            let continued = format!("\n{:margin$}", "");
            text.push_str(&format!("  {name}  {}\n", wrapped(value, space).join(&continued)));
        }
    }
    text
}

/// Breaks at spaces so that no line is longer than `width`, unless a single word is.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = console::measure_text_width(word);
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            lines.last_mut().expect("there is a line").push(' ');
            used += 1;
        }
        lines.last_mut().expect("there is a line").push_str(word);
        used += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Instant;

    fn screen(terminal: bool, width: usize) -> Screen {
        Screen { terminal, json: false, width, colour: false, now: Instant(0) }
    }

    fn grid() -> Grid {
        let mut grid = Grid::new(&["KEY", "STATE", "GRANTS", "CALLS", "ID"]).right("CALLS").wide_only("ID", 120).at_least("KEY", 12);
        let id = "key_019abc00000070008000000000000000";
        grid.row(vec!["acme/web".into(), field("active", Hue::Good), "leads.* orders.read".into(), "12".into(), id.into()]);
        grid.row(vec!["acme/nightly-export".into(), field("disabled", Hue::Warn), "a.very.long ".repeat(9).into(), "7".into(), id.into()]);
        grid
    }

    #[test]
    fn a_pipe_gets_tabs_and_every_column() {
        let text = grid().render(&screen(false, 80));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "KEY\tSTATE\tGRANTS\tCALLS\tID");
        assert!(lines[1].starts_with("acme/web\tactive\tleads.* orders.read\t12\tkey_"));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_terminal_of_80_columns_is_not_overrun() {
        let text = grid().render(&screen(true, 80));
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        assert!(!text.contains("key_") && text.contains("acme/web") && !text.contains('\u{1b}'), "{text}");
        let wide = grid().render(&screen(true, 130));
        assert!(wide.contains("key_019abc"), "{wide}");
        let mut coloured = screen(true, 80);
        coloured.colour = true;
        assert!(grid().render(&coloured).contains('\u{1b}'));
    }

    /// Columns that are squeezed below their titles are letters one below the other.
    #[test]
    fn on_a_narrow_terminal_each_row_has_lines_of_its_own() {
        let text = grid().render(&screen(true, 32));
        let first = ["  KEY     acme/web", "  STATE   active", "  GRANTS  leads.* orders.read", "  CALLS   12", ""];
        assert_eq!(text.lines().take(5).collect::<Vec<_>>(), first);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 32), "{text}");
        let mut wide = Grid::new(&["NAME", "COUNT"]).right("COUNT");
        wide.row(vec!["a".into(), "1".repeat(30).into()]);
        assert!(wide.render(&screen(true, 40)).starts_with("NAME"), "these fit");
        assert_eq!(wide.render(&screen(true, 30)).lines().next(), Some("  NAME   a"));
    }

    #[test]
    fn a_card_wraps_under_its_value() {
        let lines = [("name", "web".to_owned()), ("description", "word ".repeat(30).trim().to_owned()), ("tags", String::new())];
        let text = card(&screen(true, 60), &lines);
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert!(!text.contains("tags"));
        assert!(card(&screen(false, 60), &lines).contains("tags: \n"));
    }
}
