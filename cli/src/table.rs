//! Rows of text in aligned columns.

use std::{fmt, io};

use tulle_xds::text::printable;

/// Rows of text in aligned columns.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// How wide lines may be; `None` if nobody looks.
    width: Option<usize>,
    colored: bool,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    /// Numbers stand below each other by their last digits.
    numbers: bool,
    /// Where lines are too long columns are left out, those with the highest number first; 0 stays.
    rank: u8,
}

/// A cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// Whether a cell is worth a color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is not.
    Plain,
    /// Something is wrong.
    Bad,
    /// Something may be.
    Doubtful,
    /// All is well.
    Good,
    /// What it is about.
    Strong,
}

impl Tone {
    /// The text as a terminal shows it so.
    pub(crate) fn paint(self, text: &str, colored: bool) -> String {
        let code = match self {
            _ if !colored => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Bad => 31,
            Self::Doubtful => 33,
            Self::Good => 32,
            Self::Strong => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

impl Cell {
    /// An empty text becomes `-`, so that columns can be told apart by awk too.
    pub(crate) fn new(text: &str, tone: Tone) -> Self {
        let text = if text.is_empty() { "-".to_owned() } else { printable(text) };
        Self { text, tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(&text, Tone::Plain)
    }
}

impl Column {
    /// Of text.
    pub(crate) const fn text(heading: &'static str, rank: u8) -> Self {
        Self { heading, numbers: false, rank }
    }

    /// Of numbers.
    pub(crate) const fn numbers(heading: &'static str, rank: u8) -> Self {
        Self { heading, numbers: true, rank }
    }
}

impl Table {
    /// A table with these headings, of which all are shown.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let columns = headings.iter().map(|heading| Column::text(heading, 0)).collect();
        Self { columns, rows: Vec::new(), width: None, colored: false }
    }

    /// A table for whoever looks at the standard output.
    pub(crate) fn of(columns: &[Column], colored: bool) -> Self {
        Self::within(columns, terminal_width(), colored)
    }

    /// A table of lines that are no wider than this, as far as that can be.
    pub(crate) fn within(columns: &[Column], width: Option<usize>, colored: bool) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), width, colored }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.map(Cell::from).into());
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn push(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Those that fit, with their widths.
    fn fitting(&self) -> Vec<(usize, usize)> {
        let width = |index: usize| {
            let heading = self.columns[index].heading.chars().count();
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|cell| cell.text.chars().count()).fold(heading, usize::max)
        };
        let mut columns: Vec<_> =
            (0..self.columns.len()).map(|index| (index, width(index))).collect();
        let total = |columns: &[(usize, usize)]| -> usize {
            columns.iter().map(|(_, width)| width + 2).sum::<usize>().saturating_sub(2)
        };
        while self.width.is_some_and(|most| total(&columns) > most) {
            let rank = |(index, _): &(usize, usize)| self.columns[*index].rank;
            let last = columns.iter().max_by_key(|column| rank(column)).copied();
            match last.filter(|column| rank(column) > 0) {
                Some(left_out) => columns.retain(|column| *column != left_out),
                None => break,
            }
        }
        columns
    }

    fn cell(&self, column: Column, cell: &Cell, width: usize) -> String {
        let Cell { text, tone } = cell;
        let gap = " ".repeat(width.saturating_sub(text.chars().count()));
        let text = tone.paint(text, self.colored);
        if column.numbers { format!("{gap}{text}") } else { format!("{text}{gap}") }
    }
}

/// How wide lines may be; `None` if nobody looks.
pub(crate) fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0).max(40))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = self.fitting();
        let line = |cells: &[Cell]| {
            let cells = fitting.iter().filter_map(|(index, width)| {
                Some(self.cell(self.columns[*index], cells.get(*index)?, *width))
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        let headings = self.columns.iter().map(|column| Cell::from(column.heading.to_owned()));
        let headings = headings.collect();
        for cells in [&headings].into_iter().chain(&self.rows) {
            writeln!(f, "{}", line(cells).trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_bytes_are_escaped() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["é\u{1b}[31m".to_owned(), String::new()]);
        table.row(["b".to_owned(), "2".to_owned()]);
        let lines = ["NAME         X", "é\\u{1b}[31m  -", "b            2", ""];
        assert_eq!(table.to_string(), lines.join("\n"));
    }

    #[test]
    fn numbers_end_where_they_end_and_narrow_screens_lose_columns() {
        let columns =
            [Column::text("NAME", 0), Column::numbers("RPS", 1), Column::text("TREND", 2)];
        let mut table = Table { width: None, ..Table::of(&columns, true) };
        let plain = |text: &str| Cell::from(text.to_owned());
        table.push(vec![plain("web"), Cell::new("9", Tone::Bad), plain("up")]);
        table.push(vec![plain("cart"), plain("1200"), plain("")]);
        let wide = "NAME   RPS  TREND\nweb      \u{1b}[31m9\u{1b}[0m  up\ncart  1200  -\n";
        assert_eq!(table.to_string(), wide);
        (table.width, table.colored) = (Some(12), false);
        assert_eq!(table.to_string(), "NAME   RPS\nweb      9\ncart  1200\n");
        table.width = Some(3);
        assert_eq!(table.to_string(), "NAME\nweb\ncart\n");
    }
}
