//! The forms of a JSON document. They are made from its compact text: serde makes the code of
//! every answer again for each formatter, and for each type into which it writes.

use std::iter;

use crate::text::{has_harmful, is_harmful};

/// Form of a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    /// On one line.
    Compact,
    /// Indented.
    Pretty,
    /// Each element of an array on a line of its own, without brackets.
    Lines,
}

/// Returns a compact JSON text in this form, with a final line feed and without characters that
/// could harm a terminal.
pub(super) fn formatted(json: String, form: JsonForm) -> String {
    let json = escape(json);
    match form {
        JsonForm::Compact => json + "\n",
        JsonForm::Pretty => indented(&json),
        JsonForm::Lines => lines(json),
    }
}

fn indented(json: &str) -> String {
    let mut text = String::with_capacity(2 * json.len());
    let mut depth = 0;
    let mut is_opened = false;
    for token in tokens(json) {
        let closes = matches!(token, "]" | "}");
        if closes {
            depth -= 1;
        }
        if is_opened != closes {
            break_line(&mut text, depth);
        }
        is_opened = matches!(token, "[" | "{");
        if is_opened {
            depth += 1;
        }
        text.push_str(token);
        match token {
            "," => break_line(&mut text, depth),
            ":" => text.push(' '),
            _ => {}
        }
    }
    text.push('\n');
    text
}

fn break_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(iter::repeat_n("  ", depth));
}

fn lines(json: String) -> String {
    let Some(elements) = json.strip_prefix('[').and_then(|json| json.strip_suffix(']')) else {
        return json + "\n";
    };
    if elements.is_empty() {
        return String::new();
    }
    let mut text = String::with_capacity(json.len());
    let mut depth = 0;
    for token in tokens(elements) {
        match token {
            "[" | "{" => depth += 1,
            "]" | "}" => depth -= 1,
            _ => {}
        }
        text.push_str(if token == "," && depth == 0 { "\n" } else { token });
    }
    text.push('\n');
    text
}

/// Returns the brackets, commas, colons, strings and other values of a JSON text.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json.trim_ascii_start();
    iter::from_fn(move || {
        let length = match *rest.as_bytes().first()? {
            b'[' | b']' | b'{' | b'}' | b',' | b':' => 1,
            b'"' => string_length(rest),
            _ => rest.find([']', '}', ',', ' ', '\n']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_ascii_start();
        Some(token)
    })
}

/// Returns the length of the string at the beginning of a JSON text, with its quotation marks.
fn string_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut end = 1;
    while let Some(length) = memchr::memchr2(b'"', b'\\', &bytes[end..]) {
        end += length;
        if bytes[end] == b'"' {
            return end + 1;
        }
        // The second character of an escape.
        end += 2;
    }
    json.len()
}

/// Escapes every character of a JSON text that could harm a terminal. Such characters occur only
/// inside strings, where the escape has the same meaning.
fn escape(json: String) -> String {
    if !has_harmful(&json) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_control_characters() {
        let text = "\u{7f}\u{9b}2J\u{202e}ok\u{e0041}\u{2028}";
        let escaped = escape(serde_json::to_string(text).unwrap());
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }

    #[test]
    fn lines_have_an_element_each() {
        for (json, lines) in [
            (r#"[]"#, ""),
            (r#"[{}]"#, "{}\n"),
            (r#"[{"a":[]},[[1,2],{"b":[{}]}],3]"#, "{\"a\":[]}\n[[1,2],{\"b\":[{}]}]\n3\n"),
            (r#"{"a":[1,2],"b":{}}"#, "{\"a\":[1,2],\"b\":{}}\n"),
            (r#"["a,b\\",{"c\"[":null}]"#, "\"a,b\\\\\"\n{\"c\\\"[\":null}\n"),
        ] {
            assert_eq!(formatted(json.to_owned(), JsonForm::Lines), lines);
        }
    }

    #[test]
    fn pretty_text_is_that_of_serde_json() {
        for json in [
            r#"[]"#,
            r#"{}"#,
            r#"3"#,
            r#"[{}]"#,
            r#"[{"a":[],"b":{}},[[1,-2.5e7],{"c":[{}]}],null,"x"]"#,
            r#"{"a":"{,:\"]\\","b\\":[true,""],"é":"\u0007 \\\""}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let pretty = serde_json::to_string_pretty(&value).unwrap() + "\n";
            assert_eq!(formatted(value.to_string(), JsonForm::Pretty), pretty);
        }
    }
}
