//! Tables for people and pipes: columns aligned by spaces, numbers to the right, no colours and no boxes, so that the
//! same text reads in a terminal and cuts with awk. Also the `--output` that every reading command takes.

use std::io::{self, Write};

use crate::query::safe_cell;

/// How a reading command writes its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Comma separated values with a header.
    Csv,
}

/// Rows under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row: one cell for each column.
    pub fn push(&mut self, row: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = row.into_iter().map(Into::into).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// Writes it as aligned columns; absent cells show as `-`.
    ///
    /// # Errors
    /// When `out` does.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = 0..self.header.len();
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| lines().map(|line| shown(&line[column]).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = columns.clone().map(width).collect();
        let number = |column: usize| {
            self.rows.iter().map(|row| row[column].as_str()).filter(|cell| !cell.is_empty()).all(is_number)
        };
        let numbers: Vec<bool> = columns.map(number).collect();
        for line in lines() {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let cell = shown(cell);
                let width = widths[column];
                let gap = if column == 0 { "" } else { "  " };
                let cell =
                    if numbers[column] { format!("{gap}{cell:>width$}") } else { format!("{gap}{cell:<width$}") };
                text.push_str(&cell);
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    /// Writes it as CSV; absent cells are empty, and a cell that a spreadsheet would run has an apostrophe before it.
    ///
    /// # Errors
    /// When `out` does.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(&self.header)?;
        for row in &self.rows {
            csv.write_record(row.iter().map(|cell| safe_cell(cell).into_owned()))?;
        }
        csv.flush()
    }
}

/// A cell as a terminal may show it: usage data must not move its cursor.
pub(super) fn shown(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_number(cell: &str) -> bool {
    cell.strip_prefix('-').unwrap_or(cell).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_numbers_to_the_right_and_nothing_trails() {
        let mut table = Table::new(["model", "credits"]);
        table.push(["opus", "12.5"]);
        table.push(["", "-1000"]);
        table.push(["a\u{1b}[2J", ""]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "model  credits\nopus      12.5\n-        -1000\na\u{fffd}[2J        -\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let mut table = Table::new(["model", "credits"]);
        table.push(["a,\"b\"", "1"]);
        let mut out = Vec::new();
        table.write_csv(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "model,credits\n\"a,\"\"b\"\"\",1\n");
    }

    #[test]
    fn csv_runs_nothing_in_a_spreadsheet() {
        let mut table = Table::new(["user", "credits"]);
        table.push(["=HYPERLINK(\"http://x\")", "-1.500000"]);
        table.push(["@SUM(1)", ""]);
        let mut out = Vec::new();
        table.write_csv(&mut out).unwrap();
        let expected = "user,credits\n\"'=HYPERLINK(\"\"http://x\"\")\",-1.500000\n'@SUM(1),\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
