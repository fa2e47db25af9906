//! Aligned text: rows below titles, and labels beside values.

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::text::{DIM, PLAIN, clean, style_of};

/// The space between columns.
const GAP: usize = 2;

/// One cell.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A word that has a colour, such as a status.
    pub(crate) fn word(word: &str) -> Self {
        Self { text: clean(word).into_owned(), style: style_of(word) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = text.as_ref();
        Self { text: clean(if text.is_empty() { "-" } else { text }).into_owned(), style: PLAIN }
    }
}

/// Rows below titles.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these titles.
    pub(crate) fn new(titles: [&str; N]) -> Self {
        Self { rows: vec![titles.map(|title| Cell { text: title.to_owned(), style: DIM })] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The lines of the table.
    pub(crate) fn lines(&self) -> String {
        self.lines_from(0)
    }

    /// The lines without the titles.
    pub(crate) fn lines_below(&self) -> String {
        self.lines_from(1)
    }

    fn lines_from(&self, first: usize) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.width().max(*width);
            }
        }
        let mut lines = String::new();
        for row in &self.rows[first..] {
            for (n, (Cell { text, style }, width)) in row.iter().zip(widths).enumerate() {
                let space = if n + 1 == N { 0 } else { width - text.width() + GAP };
                lines.push_str(&format!("{style}{text}{style:#}{:space$}", ""));
            }
            lines.push('\n');
        }
        lines
    }
}

/// Labels beside values. A value that is missing has no line.
#[derive(Default)]
pub(crate) struct Details {
    lines: Vec<(&'static str, String)>,
}

impl Details {
    /// Adds a value that was cleaned already, and may have colours.
    pub(crate) fn styled(&mut self, label: &'static str, value: impl Into<String>) {
        self.lines.push((label, value.into()));
    }

    /// Adds a value.
    pub(crate) fn text(&mut self, label: &'static str, value: &str) {
        if !value.is_empty() {
            self.styled(label, clean(value));
        }
    }

    /// Adds a value if there is one.
    pub(crate) fn optional(&mut self, label: &'static str, value: Option<&str>) {
        self.text(label, value.unwrap_or_default());
    }

    /// Adds a word that has a colour.
    pub(crate) fn word(&mut self, label: &'static str, word: &str) {
        let style = style_of(word);
        self.styled(label, format!("{style}{}{style:#}", clean(word)));
    }

    /// The lines.
    pub(crate) fn lines(&self) -> String {
        let width = self.lines.iter().map(|(label, _)| label.width()).max().unwrap_or_default() + GAP;
        let mut lines = String::new();
        for (label, value) in &self.lines {
            // A value of several lines begins below its label.
            let value = if value.contains('\n') { format!("\n{value}") } else { value.clone() };
            lines.push_str(&format!("{DIM}{label:width$}{DIM:#}{value}\n"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(["ID", "STATUS", "WHY"]);
        table.row(["日本".into(), Cell::word("delivered"), "".into()]);
        table.row(["b-long".into(), Cell::word("failed"), "a\u{1b}[2J".into()]);
        let lines = table.lines();
        assert_eq!(plain(&lines), "ID      STATUS     WHY\n日本    delivered  -\nb-long  failed     a\\u{1b}[2J\n");
        assert!(lines.contains("\u{1b}[32mdelivered"), "{lines:?}");
    }

    #[test]
    fn a_missing_value_has_no_line() {
        let mut details = Details::default();
        details.text("id", "x");
        details.optional("error", None);
        details.text("attempts", "3");
        assert_eq!(plain(&details.lines()), "id        x\nattempts  3\n");
    }
}
