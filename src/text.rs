//! Formatting of values, and shortening and sanitizing of untrusted text (model, tools, stderr).

mod format;
mod surrogates;

use nix::sys::signal::Signal;

pub(crate) use format::{
    dollars, format_bytes, format_cost, format_duration, format_ms, format_number, format_second,
    format_time, format_usd, format_window, plural,
};
pub(crate) use surrogates::{escape_length, fix_surrogates, from_json};

/// Truncates `text` to `max_chars` characters. The last one is `…` if text was removed.
pub(crate) fn clip(text: &str, max_chars: usize) -> String {
    if text.len() <= max_chars {
        return text.to_owned();
    }
    if text.char_indices().nth(max_chars).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Puts `text` on one line of at most `max_chars` characters: trims it and replaces runs of white
/// space by one space. Reads no more of `text` than it needs.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        for c in word.chars() {
            line.push(c);
            length += 1;
            if length > max_chars {
                return clip(&line, max_chars);
            }
        }
    }
    line
}

/// Returns the last lines of a text whose beginning may be missing, sanitized and of at most
/// `max_chars` characters. The lines are complete unless the last one alone is longer. Returns
/// `None` for blank text.
pub(crate) fn last_lines(text: &[u8], max_chars: usize) -> Option<String> {
    let lossy = String::from_utf8_lossy(text);
    let clean = harmless(lossy.trim());
    let length = clean.chars().count();
    if length <= max_chars {
        return if clean.is_empty() { None } else { Some(clean) };
    }
    let end: String = clean.chars().skip(length - max_chars + 1).collect();
    match end.split_once('\n') {
        Some((_, lines)) if !lines.is_empty() => Some(lines.to_owned()),
        _ => Some(format!("…{end}")),
    }
}

/// Returns the last line of a text that is not blank; an empty one if all are.
pub(crate) fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// Quotes `text` as one word of a shell command.
pub(crate) fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Returns the places of a shell command, in bytes, that are not in single quotes.
pub(crate) fn unquoted(command: &str) -> impl Iterator<Item = usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    command.bytes().enumerate().filter_map(move |(at, byte)| {
        if is_escaped {
            is_escaped = false;
        } else if byte == b'\'' {
            is_quoted = !is_quoted;
        } else if !is_quoted {
            is_escaped = byte == b'\\';
            return if is_escaped { None } else { Some(at) };
        }
        None
    })
}

/// Returns one word of a shell command, in quotes if it needs them.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { shell_quote(text) }
}

/// Adds the known costs in US dollars, rounded to a millionth to remove errors of binary
/// fractions. Returns `None` if no cost is known.
pub(crate) fn sum_usd(costs: [Option<f64>; 2]) -> Option<f64> {
    match costs {
        [None, None] => None,
        [Some(cost), None] | [None, Some(cost)] => Some(round_usd(cost)),
        [Some(a), Some(b)] => Some(round_usd(a + b)),
    }
}

/// Rounds US dollars to a millionth.
pub(crate) fn round_usd(usd: f64) -> f64 {
    let rounded = (usd * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded } else { usd }
}

/// Returns a signal's name, or `SIG64` for a signal without one, such as a real-time signal.
pub(crate) fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIG{number}"),
    }
}

/// Returns whether `n` is zero, for `skip_serializing_if`.
pub(crate) fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Returns the length of a value as JSON, in characters.
pub(crate) fn json_length_of(value: &(impl serde::Serialize + ?Sized)) -> usize {
    match serde_json::to_string(value) {
        Ok(json) => json_length(&json),
        Err(_) => 0,
    }
}

/// Returns the number of characters of a JSON text after harmful characters are escaped.
fn json_length(json: &str) -> usize {
    let mut length = 0;
    for c in json.chars() {
        length += if is_harmful(c) { 6 * c.len_utf16() } else { 1 };
    }
    length
}

/// Returns whether a character could control a terminal or mislead a reader: control characters
/// (C0, DEL, C1), line and paragraph separators, bidirectional controls and all other invisible
/// characters. Line feed, tab and [joiners](is_joiner) are harmless.
pub(crate) fn is_harmful(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        _ if c.is_ascii() => c.is_ascii_control(),
        '\u{2028}' | '\u{2029}' => true,
        _ => c.is_control() || (is_invisible(c) && !is_joiner(c)),
    }
}

/// Returns whether the text has a [harmful](is_harmful) character.
pub(crate) fn has_harmful(text: &str) -> bool {
    // Most texts are printable ASCII, in which bytes are faster to check than characters.
    let is_plain =
        |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    let (words, rest) = text.as_bytes().as_chunks();
    let has_plain_words =
        words.iter().all(|word| is_printable(u64::from_ne_bytes(*word)) || is_plain(word));
    !(has_plain_words && is_plain(rest)) && text.contains(is_harmful)
}

/// Whether all eight bytes are printable ASCII: their highest bit is free, and stays so if what is
/// beyond the printable characters on either side is moved there.
fn is_printable(word: u64) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    (word | word.wrapping_sub(EACH * 0x20) | word.wrapping_add(EACH)) & (EACH * 0x80) == 0
}

/// Returns whether a character has Unicode's property `Default_Ignorable_Code_Point`
/// (DerivedCoreProperties.txt 16.0), which includes the bidirectional controls, or is a mark of
/// interlinear annotation.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether a character affects how adjacent visible characters are shown: a joiner, used in
/// emoji and many scripts, or a variation selector of an emoji.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Replaces every harmful character by U+FFFD, so that the text can be shown on a terminal. A
/// joiner is kept after a visible character that it can belong to. A carriage return before a line
/// feed is removed.
pub(crate) fn harmless(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    if !text.contains(|c| is_harmful(c) || is_joiner(c)) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        // Digits, `#` and `*` are the only ASCII characters that form emoji.
        let has_emoji = before.is_ascii_digit() || matches!(before, '#' | '*');
        let has_variant = has_emoji || !(before.is_ascii() || is_invisible(before));
        let joins = !before.is_ascii() && (before == '\u{fe0f}' || !is_invisible(before));
        let is_out_of_place = match c {
            '\u{fe0e}' | '\u{fe0f}' => !has_variant,
            '\u{200c}' | '\u{200d}' => !joins,
            _ => is_harmful(c),
        };
        shown.push(if is_out_of_place { '\u{fffd}' } else { c });
        before = c;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_signals() {
        for (number, name) in [(1, "SIGHUP"), (9, "SIGKILL"), (15, "SIGTERM"), (64, "SIG64")] {
            assert_eq!(signal_name(number), name);
        }
    }

    #[test]
    fn sums_are_rounded_to_millionths() {
        assert_eq!(sum_usd([None, None]), None);
        assert_eq!(sum_usd([None, Some(0.007_249_999_999_999_999_5)]), Some(0.00725));
        assert_eq!(sum_usd([Some(0.1), Some(0.2)]), Some(0.3));
        assert_eq!(sum_usd([Some(1e308), Some(0.0)]), Some(1e308));
    }

    #[test]
    fn clips_by_characters_not_bytes() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöüß", 3), "äö…");
        assert_eq!(clip("ab", 0), "…");
    }

    #[test]
    fn puts_text_on_one_line() {
        assert_eq!(one_line("  a\n\n b\tc ", 10), "a b c");
        assert_eq!(one_line("abcdef ghi", 5), "abcd…");
        assert_eq!(one_line("", 5), "");
    }

    #[test]
    fn last_lines_are_complete_if_they_fit() {
        for (text, shown) in [
            ("", None),
            (" \r\n\n", None),
            ("one\r\ntwo\n", Some("one\ntwo")),
            ("first line\n2\n3\n", Some("2\n3")),
            ("a\u{1b}[1mb", Some("a\u{fffd}[1mb")),
            ("abcdefghijklm", Some("…efghijklm")),
            ("x\nabcdefghijklm\n", Some("…efghijklm")),
        ] {
            assert_eq!(last_lines(text.as_bytes(), 10).as_deref(), shown, "{text:?}");
        }
        let truncated = &"ä".repeat(2_004).into_bytes()[1..];
        let shown = last_lines(truncated, 1_000).unwrap();
        assert_eq!(shown.chars().count(), 1_000);
    }

    #[test]
    fn harmless_replaces_control_characters() {
        assert_eq!(
            harmless("\u{1b}[2Ja\u{9b}31mb\r\nc\rd\u{202e}"),
            "\u{fffd}[2Ja\u{fffd}31mb\nc\u{fffd}d\u{fffd}"
        );
        assert_eq!(harmless("plain\ttext\n"), "plain\ttext\n");
    }

    #[test]
    fn harmless_replaces_invisible_characters() {
        for c in ['\u{ad}', '\u{200b}', '\u{feff}', '\u{e0041}', '\u{2028}', '\u{2060}', '\u{3164}']
        {
            assert!(is_harmful(c) && has_harmful(&format!("a{c}b")), "{c:?}");
            assert_eq!(harmless(&format!("a{c}b")), "a\u{fffd}b");
        }
        for allowed in [
            "⚠\u{fe0f} 1\u{fe0f}\u{20e3}",
            "👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(harmless(allowed), allowed);
            assert!(!has_harmful(allowed), "{allowed}");
        }
        for (hidden, shown) in [
            ("a\u{fe0f}", "a\u{fffd}"),
            ("⚠\u{fe0f}\u{fe0f}\u{fe0e}", "⚠\u{fe0f}\u{fffd}\u{fffd}"),
            ("\u{200d}a\u{200c}b", "\u{fffd}a\u{fffd}b"),
            ("ä\u{200d}\u{200d}", "ä\u{200d}\u{fffd}"),
            ("⚠\u{fe01}", "⚠\u{fffd}"),
        ] {
            assert_eq!(harmless(hidden), shown, "{hidden:?}");
        }
        assert_eq!(json_length("a\u{e0041}\u{200b}"), 19);
    }
}
