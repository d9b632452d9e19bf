//! Layout of text in columns of a terminal.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anstream::adapter::strip_str;
use terminal_size::terminal_size_of;
use unicode_width::UnicodeWidthStr;

/// Width and height of a terminal that does not report them.
const UNKNOWN_SIZE: (usize, usize) = (80, 24);
/// Indentation of the continued lines of a wrapped text.
const INDENT: usize = 2;

/// Returns the width of the terminal on stdout. If stdout is not a terminal, the width is not
/// limited: nothing is shortened or wrapped.
pub(crate) fn columns() -> usize {
    width_of(&io::stdout())
}

/// Returns the width of the terminal on `stream`; `usize::MAX` if it is not a terminal.
pub(super) fn width_of(stream: &(impl AsFd + IsTerminal)) -> usize {
    if stream.is_terminal() { size_of(stream).0 } else { usize::MAX }
}

/// Returns the width and the height of a terminal.
pub(super) fn size_of(terminal: &impl AsFd) -> (usize, usize) {
    match terminal_size_of(terminal) {
        Some((width, height)) => (usize::from(width.0), usize::from(height.0)),
        None => UNKNOWN_SIZE,
    }
}

/// Returns the height of the terminal on stdout.
pub(crate) fn rows() -> usize {
    size_of(&io::stdout()).1
}

/// Joins coloured parts into lines of at most `columns` columns, broken between parts.
pub(crate) fn joined(parts: &[String], columns: usize) -> String {
    const SEPARATOR: &str = " · ";
    let mut text = String::new();
    let mut at = 0;
    for part in parts {
        let width = shown_width(part);
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

/// Wraps each line of `text`, which may be coloured, at `width` columns; the first line begins at
/// column `used`. Continued lines are indented.
pub(crate) fn hanging(text: &str, used: usize, width: usize) -> String {
    let mut wrapped = String::new();
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            wrapped.push('\n');
        }
        wrap_line(&mut wrapped, line, if index > 0 { 0 } else { used }, width);
    }
    wrapped
}

/// Wraps the prose of a text in Markdown like [`hanging`], with lists and quotations. Code and tables
/// keep their lines, which have a meaning.
pub(crate) fn wrapped_prose(text: &str, used: usize, width: usize) -> String {
    let mut wrapped = String::new();
    let mut is_code = false;
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            wrapped.push('\n');
        }
        let start = line.trim_start();
        let is_fence = start.starts_with("```") || start.starts_with("~~~");
        let is_indented = line.starts_with("    ") || line.starts_with('\t');
        if is_code || is_fence || is_indented || start.starts_with('|') {
            wrapped.push_str(line);
        } else {
            wrap_line(&mut wrapped, line, if index > 0 { 0 } else { used }, width);
        }
        is_code ^= is_fence;
    }
    wrapped
}

/// Appends a line, broken between words, that begins at column `at`.
fn wrap_line(wrapped: &mut String, line: &str, mut at: usize, width: usize) {
    if shown_width(line) <= width.saturating_sub(at) {
        wrapped.push_str(line);
        return;
    }
    let margin = line.len() - line.trim_start().len();
    wrapped.push_str(&line[..margin]);
    at += margin;
    let indent = INDENT + margin;
    for (index, word) in line.split_whitespace().enumerate() {
        let gap = usize::from(index > 0);
        let word_width = shown_width(word);
        if at > indent && at + gap + word_width > width {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            at = indent;
        } else if gap > 0 {
            wrapped.push(' ');
            at += 1;
        }
        wrapped.push_str(word);
        at += word_width;
    }
}

/// Returns the width of a text without its styles.
fn shown_width(text: &str) -> usize {
    if text.contains('\x1b') { strip_str(text).to_string().width() } else { text.width() }
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

    #[test]
    fn continued_lines_are_indented() {
        for (text, used, width, shown) in [
            ("ab cd ef gh", 0, 11, "ab cd ef gh"),
            ("ab cd ef gh", 0, 7, "ab cd\n  ef gh"),
            ("ab cd ef gh", 4, 7, "ab\n  cd ef\n  gh"),
            ("ab cd ef\ngh ij", 4, 8, "ab\n  cd ef\ngh ij"),
            ("abcdefghij kl", 4, 8, "\n  abcdefghij\n  kl"),
            ("ab cd ef gh", 4, usize::MAX, "ab cd ef gh"),
            ("\x1b[1mab\x1b[0m cd ef", 0, 5, "\x1b[1mab\x1b[0m cd\n  ef"),
        ] {
            assert_eq!(hanging(text, used, width), shown, "{text:?} {used} {width}");
        }
    }

    #[test]
    fn code_and_tables_are_not_wrapped() {
        let text = "one two three\n- four five six\n  - seven eight\n```sh\ncat one two three\n```\n\
            | a | b | c | d |\n    indented code line\nlast words of it";
        let shown = "one two\n  three\n- four\n  five six\n  - seven\n    eight\n```sh\n\
            cat one two three\n```\n| a | b | c | d |\n    indented code line\nlast words\n  of it";
        assert_eq!(wrapped_prose(text, 0, 10), shown);
        assert_eq!(wrapped_prose(text, 0, usize::MAX), text);
        assert_eq!(wrapped_prose("a\n\nb\n", 2, 10), "a\n\nb\n");
    }
}
