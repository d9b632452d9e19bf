//! Repair of text that was cut inside a character.
//!
//! A JavaScript string can end with the first half of a surrogate pair, and the CLI writes that
//! half (2.1.197: `"result":"cut \ud83d"`). This is JSON by its grammar but not text, and
//! `serde_json` rejects all of it.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Replacement of a lone half: an escape of the same length.
const REPLACEMENT: &str = "\\ufffd";

/// Decodes JSON text that may contain lone halves of surrogate pairs.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> serde_json::Result<T> {
    let decoded = serde_json::from_str(json);
    if decoded.is_err()
        && let Cow::Owned(fixed) = fix_surrogates(json)
    {
        return serde_json::from_str(&fixed);
    }
    decoded
}

/// Returns the JSON text with U+FFFD in place of each lone half of a surrogate pair.
pub(crate) fn fix_surrogates(json: &str) -> Cow<'_, str> {
    let mut fixed = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += found;
        let length = escape_length(json, at);
        if length == REPLACEMENT.len() && matches!(escaped(json, at), Some(0xd800..=0xdfff)) {
            fixed.to_mut().replace_range(at..at + length, REPLACEMENT);
        }
        at += length.min(json.len() - at);
    }
    fixed
}

/// Returns the length of the escape at `at` in bytes. The two halves of a surrogate pair are one
/// escape.
pub(crate) fn escape_length(json: &str, at: usize) -> usize {
    match (escaped(json, at), escaped(json, at + REPLACEMENT.len())) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * REPLACEMENT.len(),
        (Some(_), _) => REPLACEMENT.len(),
        // The second character of any other escape may be a backslash.
        (None, _) => 2,
    }
}

/// Returns the code unit of the escape `\uXXXX` at `at`.
fn escaped(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + REPLACEMENT.len())?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_halves_of_surrogate_pairs() {
        for (json, expected) in [
            (r#""cut \ud83d""#, "cut \u{fffd}"),
            (r#""\uD83D""#, "\u{fffd}"),
            (r#""\ude00 rest""#, "\u{fffd} rest"),
            (r#""\ud83d\ud83d\ude00\ude00""#, "\u{fffd}😀\u{fffd}"),
            (r#""\ud83d\u0041\ud83d\n\ud83d😀ä""#, "\u{fffd}A\u{fffd}\n\u{fffd}😀ä"),
            (r#""\ud83d\\ud83d""#, "\u{fffd}\\ud83d"),
        ] {
            assert!(serde_json::from_str::<String>(json).is_err(), "{json}");
            assert_eq!(from_json::<String>(json).unwrap(), expected, "{json}");
            assert_eq!(fix_surrogates(json).len(), json.len(), "{json}");
        }
        for json in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\\\\ud83d \u00e4 \n""#, "7", "{}"] {
            assert!(matches!(fix_surrogates(json), Cow::Borrowed(_)), "{json}");
        }
    }

    #[test]
    fn does_not_make_json_of_other_text() {
        for json in
            ["", "\"", "\\", "\"\\", "\"\\u\"", "\"\\ud83", "\"\\ud83d", "\"\\ud83ä\"", "€\\"]
        {
            assert!(from_json::<String>(json).is_err(), "{json}");
        }
    }
}
