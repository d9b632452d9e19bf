//! A line to type in. Pure.

use unicode_width::UnicodeWidthChar;

use super::Key;
use crate::text::is_harmful;

/// Number of texts that are kept for the arrow keys.
const MAX_HISTORY: usize = 100;

/// A text that is being typed. It may have several lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputLine {
    text: String,
    /// Offset in the text at which characters are inserted.
    cursor: usize,
    /// The texts that were taken, the latest last.
    history: Vec<String>,
    /// Index in the history of the text that is shown; its length for a new text.
    at: usize,
    /// The new text while one of the history is shown.
    draft: String,
}

/// The visible part of an [`InputLine`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InputView {
    pub lines: Vec<String>,
    /// Column of the cursor, and index of its line.
    pub cursor: (usize, usize),
}

impl InputLine {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Replaces the text.
    pub(crate) fn set(&mut self, text: &str) {
        self.text = text.to_owned();
        self.cursor = self.text.len();
        self.at = self.history.len();
    }

    /// Returns the text, which is then empty, and keeps it in the history.
    pub(crate) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            self.history.push(text.clone());
        }
        if self.history.len() > MAX_HISTORY {
            self.history.remove(0);
        }
        self.set("");
        text
    }

    /// Changes the text, or moves the cursor. Returns false for a key without a meaning here.
    pub(crate) fn handle(&mut self, key: &Key) -> bool {
        match key {
            Key::Char(c) => self.insert(&c.to_string()),
            Key::Paste(text) => self.insert(text),
            Key::NewLine => self.insert("\n"),
            Key::Backspace => self.remove_to(self.before()),
            Key::Delete => self.remove_to(self.after()),
            Key::DeleteWord | Key::Ctrl('w') => self.remove_to(self.word_before()),
            Key::Ctrl('u') => self.remove_to(self.line_start()),
            Key::Ctrl('k') => self.remove_to(self.line_end()),
            Key::Left | Key::Ctrl('b') => self.cursor = self.before(),
            Key::Right | Key::Ctrl('f') => self.cursor = self.after(),
            Key::WordLeft => self.cursor = self.word_before(),
            Key::WordRight => self.cursor = self.word_after(),
            Key::Home | Key::Ctrl('a') => self.cursor = self.line_start(),
            Key::End | Key::Ctrl('e') => self.cursor = self.line_end(),
            Key::Up | Key::Ctrl('p') => self.recall(self.at.checked_sub(1)),
            Key::Down | Key::Ctrl('n') => self.recall(Some(self.at + 1)),
            _ => return false,
        }
        true
    }

    fn insert(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| !is_harmful(*c)).collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
    }

    /// Removes what is between the cursor and this offset.
    fn remove_to(&mut self, offset: usize) {
        let (start, end) = (self.cursor.min(offset), self.cursor.max(offset));
        self.text.drain(start..end);
        self.cursor = start;
    }

    /// Shows a text of the history, or the new one.
    fn recall(&mut self, at: Option<usize>) {
        let Some(at) = at.filter(|at| *at <= self.history.len()) else { return };
        if self.at == self.history.len() {
            self.draft = self.text.clone();
        }
        self.text = self.history.get(at).unwrap_or(&self.draft).clone();
        self.cursor = self.text.len();
        self.at = at;
    }

    /// Returns the offset before the character, or group of joined ones, left of the cursor.
    fn before(&self) -> usize {
        let mut chars = self.text[..self.cursor].char_indices().rev();
        let visible = chars.find(|(_, c)| is_visible(*c));
        visible.map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let mut chars = self.text[self.cursor..].char_indices().skip(1);
        let next = chars.find(|(_, c)| is_visible(*c));
        next.map_or(self.text.len(), |(at, _)| self.cursor + at)
    }

    fn word_before(&self) -> usize {
        let words = self.text[..self.cursor].trim_end();
        words.rfind(char::is_whitespace).map_or(0, |at| at + width_in_bytes(&words[at..]))
    }

    fn word_after(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let gap = rest.len() - rest.trim_start().len();
        let word = rest[gap..].find(char::is_whitespace).unwrap_or(rest.len() - gap);
        self.cursor + gap + word
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    /// Returns the lines at this width, at most `rows` of them, that contain the cursor.
    pub(crate) fn view(&self, width: usize, rows: usize) -> InputView {
        let width = width.max(2);
        let mut lines = vec![String::new()];
        let mut at = 0;
        let mut cursor = (0, 0);
        for (offset, c) in self.text.char_indices() {
            let wide = if c == '\t' { 1 } else { c.width().unwrap_or(0) };
            if c != '\n' && at + wide > width {
                lines.push(String::new());
                at = 0;
            }
            if offset == self.cursor {
                cursor = (at, lines.len() - 1);
            }
            if c == '\n' {
                lines.push(String::new());
                at = 0;
                continue;
            }
            if let Some(line) = lines.last_mut() {
                line.push(if c == '\t' { ' ' } else { c });
            }
            at += wide;
        }
        if self.cursor == self.text.len() {
            if at == width {
                lines.push(String::new());
                at = 0;
            }
            cursor = (at, lines.len() - 1);
        }
        let first = (cursor.1 + 1).saturating_sub(rows.max(1));
        lines.drain(..first);
        lines.truncate(rows.max(1));
        InputView { lines, cursor: (cursor.0, cursor.1 - first) }
    }
}

fn is_visible(c: char) -> bool {
    c == '\n' || c == '\t' || c.width().unwrap_or(0) > 0
}

/// Returns the number of bytes of the first character.
fn width_in_bytes(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types a text, in which `<name>` is a key.
    fn typed(line: &mut InputLine, keys: &str) {
        let mut rest = keys;
        while let Some(c) = rest.chars().next() {
            let (key, length) = match rest.find('>') {
                Some(end) if c == '<' => (named(&rest[1..end]), end + 1),
                _ => (Key::Char(c), c.len_utf8()),
            };
            line.handle(&key);
            rest = &rest[length..];
        }
    }

    fn named(name: &str) -> Key {
        match name {
            "left" => Key::Left,
            "right" => Key::Right,
            "home" => Key::Home,
            "end" => Key::End,
            "up" => Key::Up,
            "down" => Key::Down,
            "bs" => Key::Backspace,
            "del" => Key::Delete,
            "nl" => Key::NewLine,
            "wl" => Key::WordLeft,
            "wr" => Key::WordRight,
            letter => Key::Ctrl(letter.chars().next().unwrap()),
        }
    }

    #[test]
    fn edits_a_text() {
        for (keys, expected) in [
            ("abc", "abc|"),
            ("abc<left><left>x", "ax|bc"),
            ("abc<bs><bs>", "a|"),
            ("<bs><left><del>", "|"),
            ("abc<home><del>x<end>y", "xbcy|"),
            ("abc<a>x<e>y", "xabcy|"),
            ("one two  <w>x", "one x|"),
            ("one<w>", "|"),
            ("one two<u>", "|"),
            ("one two<wl><k>", "one |"),
            ("one two<home><wr>x", "onex| two"),
            ("a<nl>bc<home>x<k>y", "a\nxy|"),
            ("日本<left>x", "日x|本"),
            ("e\u{301}a<left><left>x", "x|e\u{301}a"),
            ("👩\u{200d}👧<bs>", "👩\u{200d}|"),
        ] {
            let mut line = InputLine::default();
            typed(&mut line, keys);
            let mut shown = line.text.clone();
            shown.insert(line.cursor, '|');
            assert_eq!(shown, expected, "{keys}");
        }
        assert!(!InputLine::default().handle(&Key::Enter));
    }

    #[test]
    fn recalls_earlier_texts() {
        let mut line = InputLine::default();
        for text in ["one", "two", "two", " "] {
            typed(&mut line, text);
            assert_eq!(line.take(), text);
        }
        typed(&mut line, "new");
        for (key, shown) in [
            ("<up>", "two"),
            ("<up>", "one"),
            ("<up>", "one"),
            ("<down>", "two"),
            ("<down>", "new"),
            ("<down>", "new"),
        ] {
            typed(&mut line, key);
            assert_eq!(line.text(), shown, "{key}");
        }
    }

    #[test]
    fn pasted_texts_keep_their_lines_and_no_controls() {
        let mut line = InputLine::default();
        line.handle(&Key::Paste("one\n\ttwo\u{1b}[2J\u{202e}".to_owned()));
        assert_eq!(line.text(), "one\n\ttwo[2J");
    }

    #[test]
    fn the_view_follows_the_cursor() {
        for (keys, width, rows, lines, cursor) in [
            ("", 10, 3, &[""][..], (0, 0)),
            ("abc", 10, 3, &["abc"], (3, 0)),
            ("abcdef", 4, 3, &["abcd", "ef"], (2, 1)),
            ("abcd", 4, 3, &["abcd", ""], (0, 1)),
            ("abcdefghij", 4, 2, &["efgh", "ij"], (2, 1)),
            ("abcdefghij<home>", 4, 2, &["abcd", "efgh"], (0, 0)),
            ("日本語<left>", 5, 3, &["日本", "語"], (0, 1)),
            ("a<nl>b", 5, 3, &["a", "b"], (1, 1)),
            ("a<nl>", 5, 3, &["a", ""], (0, 1)),
        ] {
            let mut line = InputLine::default();
            typed(&mut line, keys);
            let view = line.view(width, rows);
            assert_eq!(
                (view.lines.as_slice(), view.cursor),
                (&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()[..], cursor),
                "{keys}"
            );
        }
    }
}
