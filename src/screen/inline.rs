//! Lines that are drawn in place below what a terminal shows, such as a line to type in.

use std::io::{self, Write};

use anstream::adapter::strip_str;
use unicode_width::UnicodeWidthStr;

use crate::output::{columns, styled};

/// Lines at the end of the terminal's text, in raw mode. Text above them scrolls away as usual.
#[derive(Debug, Default)]
pub(crate) struct InlineArea {
    /// Widths of the lines that are drawn.
    widths: Vec<usize>,
    /// Column and line of the cursor.
    cursor: (usize, usize),
}

impl InlineArea {
    /// Prints a text with complete lines above the area, and replaces the area by these lines, which
    /// must be narrower than the terminal, with the cursor at this column and line.
    pub(crate) fn show(
        &mut self,
        above: &str,
        lines: &[String],
        cursor: (usize, usize),
    ) -> io::Result<()> {
        let lines: Vec<String> = lines.iter().map(|line| styled(line)).collect();
        let frame = self.frame(&styled(above), &lines, cursor, columns());
        write_frame(&frame)
    }

    /// Removes the area. The terminal's text continues in its place.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        let frame = self.clear_text(columns());
        *self = Self::default();
        write_frame(&frame)
    }

    fn frame(
        &mut self,
        above: &str,
        lines: &[String],
        cursor: (usize, usize),
        width: usize,
    ) -> String {
        let mut text = self.clear_text(width);
        text += &above.replace('\n', "\r\n");
        text += &lines.join("\r\n");
        let up = lines.len().saturating_sub(cursor.1 + 1);
        if up > 0 {
            text += &format!("\x1b[{up}A");
        }
        text.push('\r');
        if cursor.0 > 0 {
            text += &format!("\x1b[{}C", cursor.0);
        }
        self.widths = lines.iter().map(|line| strip_str(line).to_string().width()).collect();
        self.cursor = cursor;
        text
    }

    /// Returns the text that clears the area. A terminal that became narrower has broken its lines.
    fn clear_text(&self, width: usize) -> String {
        if self.widths.is_empty() {
            return String::new();
        }
        let width = width.max(1);
        let above = &self.widths[..self.cursor.1.min(self.widths.len())];
        let broken: usize = above.iter().map(|line| line.saturating_sub(1) / width).sum();
        let up = above.len() + broken + self.cursor.0 / width;
        let up = if up > 0 { format!("\x1b[{up}A") } else { String::new() };
        format!("\r{up}\x1b[J")
    }
}

fn write_frame(frame: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(frame.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_its_lines_and_scrolls_the_text() {
        let mut area = InlineArea::default();
        let lines = ["status".to_owned(), "> abc".to_owned(), "keys".to_owned()];
        let first = area.frame("one\ntwo\n", &lines, (5, 1), 20);
        assert_eq!(first, "one\r\ntwo\r\nstatus\r\n> abc\r\nkeys\x1b[1A\r\x1b[5C");
        let second = area.frame("", &lines[..1], (0, 0), 20);
        assert_eq!(second, "\r\x1b[1A\x1b[Jstatus\r");
        assert_eq!(area.frame("x\n", &[], (0, 0), 20), "\r\x1b[Jx\r\n\r");
    }

    #[test]
    fn clears_lines_that_a_narrower_terminal_broke() {
        let area = InlineArea { widths: vec![19, 8, 3], cursor: (8, 1) };
        // 19 columns are three lines of 8, and the cursor is on another line than its text.
        assert_eq!(area.clear_text(8), "\r\x1b[4A\x1b[J");
    }
}
