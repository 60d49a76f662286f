//! What a CSV cell must not be: a formula. Spreadsheets run a cell that begins with one of a few characters, also when it is
//! quoted, and values such as a user's name come from outside.

use std::borrow::Cow;

/// What makes a cell a formula, or goes before one that a spreadsheet still finds.
const STARTERS: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// The cell with an apostrophe before what a spreadsheet would run, also behind a semicolon, which ends a cell where commas
/// are decimal points. A number stays a number, below zero too.
#[must_use]
pub fn safe_cell(cell: &str) -> Cow<'_, str> {
    let runs = |part: &str| part.starts_with(STARTERS) && !is_number(part);
    if !cell.split(';').any(runs) {
        return Cow::Borrowed(cell);
    }
    let safe = |part: &str| if runs(part) { format!("'{part}") } else { part.to_owned() };
    Cow::Owned(cell.split(';').map(safe).collect::<Vec<_>>().join(";"))
}

/// Digits with a sign and a point at most.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole) && is_digits(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe_and_numbers_stay_numbers() {
        for cell in
            ["=HYPERLINK(\"http://x\")", "@SUM(1)", "+1", "-1+2", "-", "-1.2.3", "-x", "\t=1", "\r=1", "\n=1"]
        {
            assert_eq!(safe_cell(cell), format!("'{cell}"), "{cell:?}");
        }
        assert_eq!(safe_cell("x;=cmd|' /C calc'!A0;-5;+y"), "x;'=cmd|' /C calc'!A0;-5;'+y");
        for cell in ["", "a;b", "ada", "-5", "-5.000000", "12.5", "a=1", "'=1", "2026-11-20T00:00:00Z", " =1"] {
            assert_eq!(safe_cell(cell), cell, "{cell:?}");
        }
    }
}
