//! Text with styles, as `output` makes it, as lines for drawing.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthChar;

use crate::text::is_harmful;

/// Breaks each line of a text with styles at `width` columns, so that it fits wherever it is drawn.
/// Tabs become spaces. A style that is on at the end of a line continues on the next.
pub(crate) fn fitted(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut style = String::new();
    for line in text.lines() {
        let mut shown = style.clone();
        let mut at = 0;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = style_at(rest) {
                shown.push_str(sequence);
                note_style(&mut style, sequence);
                rest = &rest[sequence.len()..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            // What is still harmful here is no text of ours.
            let c = if c == '\t' || is_harmful(c) { ' ' } else { c };
            let wide = c.width().unwrap_or(0);
            if at + wide > width && at > 0 {
                lines.push(ended(shown, &style));
                shown = style.clone();
                at = 0;
            }
            shown.push(c);
            at += wide;
        }
        lines.push(ended(shown, &style));
    }
    lines
}

fn ended(mut line: String, style: &str) -> String {
    if !style.is_empty() {
        line.push_str("\x1b[0m");
    }
    line
}

/// Returns the sequence for a style at the beginning of the text.
fn style_at(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    if body[end..].starts_with('m') { Some(&text[..end + 3]) } else { None }
}

/// Adds a sequence to the styles that are on.
fn note_style(style: &mut String, sequence: &str) {
    if matches!(sequence, "\x1b[0m" | "\x1b[m") {
        style.clear();
    } else {
        style.push_str(sequence);
    }
}

/// Returns the lines of a text with styles for a buffer, each of at most `width` columns.
pub(crate) fn styled_lines(text: &str, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for line in fitted(text, width) {
        let mut spans: Vec<Span<'static>> = Vec::new();
        let mut style = Style::new();
        let mut rest = line.as_str();
        while !rest.is_empty() {
            if let Some(sequence) = style_at(rest) {
                style = changed(style, sequence);
                rest = &rest[sequence.len()..];
                continue;
            }
            let end = rest.find('\x1b').unwrap_or(rest.len()).max(1);
            spans.push(Span::styled(rest[..end].to_owned(), style));
            rest = &rest[end..];
        }
        lines.push(Line::from(spans));
    }
    lines
}

/// Returns the style after a sequence. Of those that `output` does not use nothing is shown.
fn changed(mut style: Style, sequence: &str) -> Style {
    const COLORS: [Color; 8] = [
        Color::Black,
        Color::Red,
        Color::Green,
        Color::Yellow,
        Color::Blue,
        Color::Magenta,
        Color::Cyan,
        Color::Gray,
    ];
    const BRIGHT_COLORS: [Color; 8] = [
        Color::DarkGray,
        Color::LightRed,
        Color::LightGreen,
        Color::LightYellow,
        Color::LightBlue,
        Color::LightMagenta,
        Color::LightCyan,
        Color::White,
    ];
    for number in sequence[2..sequence.len() - 1].split(';') {
        let number: usize = number.parse().unwrap_or(0);
        style = match number {
            0 => Style::new(),
            1 => style.add_modifier(Modifier::BOLD),
            2 => style.add_modifier(Modifier::DIM),
            4 => style.add_modifier(Modifier::UNDERLINED),
            7 => style.add_modifier(Modifier::REVERSED),
            30..=37 => style.fg(COLORS[number - 30]),
            90..=97 => style.fg(BRIGHT_COLORS[number - 90]),
            _ => style,
        };
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{BOLD, GREEN, RED, painted};

    #[test]
    fn lines_are_broken_at_the_width() {
        for (text, width, expected) in [
            ("abcdef", 4, &["abcd", "ef"][..]),
            ("ab\n\ncd", 4, &["ab", "", "cd"]),
            ("日本語", 5, &["日本", "語"]),
            ("日本", 1, &["日", "本"]),
            ("a\tb", 4, &["a b"]),
            ("\x1b[1mabc\x1b[0md", 2, &["\x1b[1mab\x1b[0m", "\x1b[1mc\x1b[0md"]),
            ("\x1b[1mab\ncd\x1b[0m", 9, &["\x1b[1mab\x1b[0m", "\x1b[1mcd\x1b[0m"]),
            // Not a style: nothing but text reaches the terminal.
            ("a\x1b[2Jb", 9, &["a [2Jb"]),
            ("", 4, &[]),
        ] {
            assert_eq!(fitted(text, width), expected, "{text:?}");
        }
    }

    #[test]
    fn styles_become_those_of_the_buffer() {
        let text = format!("{} x {}", painted(RED.bold(), "no"), painted(GREEN, "yes"));
        let lines = styled_lines(&text, 80);
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let green = Style::new().fg(Color::Green);
        let spans = vec![
            Span::styled("no", red),
            Span::styled(" x ", Style::new()),
            Span::styled("yes", green),
        ];
        assert_eq!(lines, [Line::from(spans)]);
        assert_eq!(styled_lines(&painted(BOLD, "abc"), 2).len(), 2);
        assert_eq!(styled_lines("a\x1b[2Jb", 9), [Line::from("a [2Jb")]);
    }
}
