//! Layout of text in columns of a terminal.

use anstream::adapter::strip_str;
use unicode_width::UnicodeWidthStr;

/// Width if stdout is not a terminal or does not report its width.
const DEFAULT_COLUMNS: usize = 100;
/// Height in the same case.
const DEFAULT_ROWS: usize = 24;

/// Returns the width of the terminal on stdout.
pub(crate) fn columns() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_COLUMNS, |(width, _)| usize::from(width.0))
}

/// Returns the height of the terminal on stdout.
pub(crate) fn rows() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_ROWS, |(_, height)| usize::from(height.0))
}

/// Joins coloured parts into lines of at most `columns` columns, broken between parts.
pub(crate) fn joined(parts: &[String], columns: usize) -> String {
    const SEPARATOR: &str = " · ";
    let mut text = String::new();
    let mut at = 0;
    for part in parts {
        let width = strip_str(part).to_string().width();
        if at > 0 && at + SEPARATOR.width() + width > columns {
            text.push('\n');
            at = 0;
        } else if at > 0 {
            text.push_str(SEPARATOR);
            at += SEPARATOR.width();
        }
        text.push_str(part);
        at += width;
    }
    text + "\n"
}

/// Truncates `text` to `width` columns, with an ellipsis.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut prefix = String::new();
    for c in text.chars() {
        let mut longer = prefix.clone();
        longer.push(c);
        if longer.width() + 1 > width {
            break;
        }
        prefix = longer;
    }
    prefix.push('…');
    prefix
}

/// Wraps `text` into lines of at most `width` columns, broken between words. A wider word, such as
/// a path, is not broken.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Truncates or pads `text` to `width` columns.
pub(crate) fn pad(text: &str, width: usize, right: bool) -> String {
    let text = fit(text, width);
    let space = " ".repeat(width.saturating_sub(text.width()));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_counts_display_columns() {
        assert_eq!(pad("日本", 6, false), "日本  ");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(wrapped("ab cd  efghij\nk 日本 l", 5), ["ab cd", "efghij", "k", "日本", "l"]);
        assert_eq!(wrapped("", 5), [""; 0]);
        assert_eq!(pad("7", 3, true), "  7");
    }
}
