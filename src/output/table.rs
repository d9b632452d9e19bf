//! Tables of text.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::layout::{fit, pad};
use super::text::{BOLD, PLAIN, painted};

const GAP: &str = "  ";

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub head: &'static str,
    pub is_right: bool,
    /// Its largest width. The last column gets the rest of the line instead.
    pub max_width: usize,
}

impl Column {
    /// Returns a column of texts.
    pub(crate) fn left(head: &'static str) -> Self {
        Self { head, is_right: false, max_width: usize::MAX }
    }

    /// Returns a column of numbers, which are aligned to the right.
    pub(crate) fn right(head: &'static str) -> Self {
        Self { is_right: true, ..Self::left(head) }
    }

    /// Limits the width.
    pub(crate) fn at_most(self, max_width: usize) -> Self {
        Self { max_width, ..self }
    }
}

/// A cell of a [`Table`]: harmless text on one line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(PLAIN, text)
    }
}

/// Rows of cells. Every column but the last is as wide as its longest cell.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Fits the table into `width` columns of the terminal. If fewer than `min_last` are left for
    /// the last column, columns are left out from the right until the others fit.
    pub(crate) fn fitted(&self, width: usize, min_last: usize) -> FittedTable<'_> {
        let Some(last) = self.columns.len().checked_sub(1) else {
            return FittedTable { table: self, widths: Vec::new() };
        };
        let mut widths: Vec<usize> = (0..last).map(|at| self.widest(at)).collect();
        let others: usize = widths.iter().map(|width| width + GAP.len()).sum();
        let min_last = min_last.min(self.widest(last));
        if others.saturating_add(min_last) <= width {
            let rest = width - others;
            let is_right = self.columns[last].is_right;
            widths.push(if is_right { rest.min(self.widest(last)) } else { rest });
            return FittedTable { table: self, widths };
        }
        while widths.len() > 1
            && widths.iter().map(|width| width + GAP.len()).sum::<usize>() > width + GAP.len()
        {
            widths.pop();
        }
        FittedTable { table: self, widths }
    }

    fn widest(&self, at: usize) -> usize {
        let column = &self.columns[at];
        let mut widest = column.head.width();
        for row in &self.rows {
            widest = widest.max(row[at].text.width());
        }
        widest.min(column.max_width)
    }
}

/// A table that fits a terminal.
pub(crate) struct FittedTable<'a> {
    table: &'a Table,
    /// Widths of the columns that are shown.
    widths: Vec<usize>,
}

impl FittedTable<'_> {
    /// Returns the line of the heads.
    pub(crate) fn head(&self) -> String {
        let heads = self.table.columns.iter().map(|column| column.head.into());
        painted(BOLD, self.line(&heads.collect::<Vec<Cell>>()).trim_end()) + "\n"
    }

    /// Returns the lines of the rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = String> {
        self.table.rows.iter().map(|row| self.line(row))
    }

    /// Returns whether the last cell of a row is not shown as a whole.
    pub(crate) fn cuts_last_cell(&self, row: usize) -> bool {
        let shown = match self.table.columns.len() == self.widths.len() {
            true => self.widths.last().copied().unwrap_or_default(),
            false => 0,
        };
        self.table.rows[row].last().is_some_and(|cell| cell.text.width() > shown)
    }

    /// Returns the heads of the columns that are left out.
    pub(crate) fn left_out(&self) -> Vec<&'static str> {
        self.table.columns[self.widths.len()..].iter().map(|column| column.head).collect()
    }

    fn line(&self, cells: &[Cell]) -> String {
        let mut line = String::new();
        let last = self.widths.len().saturating_sub(1);
        for (at, (width, cell)) in self.widths.iter().zip(cells).enumerate() {
            let column = &self.table.columns[at];
            let text = match (at == last, column.is_right) {
                (true, false) => fit(&cell.text, *width),
                (_, is_right) => pad(&cell.text, *width, is_right),
            };
            if cell.style == PLAIN || text.is_empty() {
                line.push_str(&text);
            } else {
                // A style on spaces is not visible, but underlines them on some terminals.
                let shown = text.trim_end();
                line.push_str(&painted(cell.style, shown));
                line.push_str(&text[shown.len()..]);
            }
            if at < last {
                line.push_str(GAP);
            }
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(width: usize, min_last: usize) -> Vec<String> {
        let columns = vec![
            Column::left("JOB").at_most(6),
            Column::right("AGE"),
            Column::left("GROUP"),
            Column::left("NOW"),
        ];
        let mut table = Table::new(columns);
        table.push(vec!["a-long-name".into(), "5s".into(), "".into(), "It says: one two".into()]);
        table.push(vec!["b".into(), "1m 05s".into(), "web".into(), "日本語日本語".into()]);
        let fitted = table.fitted(width, min_last);
        let mut lines: Vec<String> = vec![fitted.head()];
        lines.extend(fitted.rows());
        lines.push(fitted.left_out().join(", "));
        lines.iter().map(|line| anstream::adapter::strip_str(line.trim_end()).to_string()).collect()
    }

    #[test]
    fn the_last_column_gets_the_rest() {
        assert_eq!(
            lines(33, 10),
            [
                "JOB        AGE  GROUP  NOW",
                "a-lon…      5s         It says: …",
                "b       1m 05s  web    日本語日…",
                ""
            ]
        );
        assert_eq!(lines(usize::MAX, 20)[1], "a-lon…      5s         It says: one two");
    }

    #[test]
    fn columns_are_left_out_from_the_right() {
        assert_eq!(lines(32, 10)[1..], ["a-lon…      5s", "b       1m 05s  web", "NOW"]);
        assert_eq!(lines(20, 10)[1..], ["a-lon…      5s", "b       1m 05s", "GROUP, NOW"]);
        assert_eq!(lines(1, 10)[1..], ["a-lon…", "b", "AGE, GROUP, NOW"]);
    }
}
