use std::fmt;

use tulle_xds::text::printable;

/// Rows of text in aligned columns.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row; an empty cell becomes `-`, so that columns can be told apart by awk too.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(
            cells
                .map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) })
                .into(),
        );
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width =
            |i| self.rows.iter().filter_map(|r| r.get(i)).map(|c: &String| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|i| width(i).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
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
}
