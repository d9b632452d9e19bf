//! JSON without characters that could harm a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

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

/// Writes a value as JSON with a final line feed, directly: a long list is never held as text.
pub(super) fn write(
    out: &mut impl Write,
    value: &impl Serialize,
    form: JsonForm,
) -> io::Result<()> {
    match form {
        JsonForm::Compact => write_with(out, value, CompactFormatter)?,
        JsonForm::Pretty => write_with(out, value, PrettyFormatter::new())?,
        JsonForm::Lines => return Ok(write_with(out, value, LinesFormatter { depth: 0 })?),
    }
    out.write_all(b"\n")
}

fn write_with(
    out: &mut impl Write,
    value: &impl Serialize,
    formatter: impl Formatter,
) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Harmless(formatter)))
}

/// A compact formatter that ends each element of the array at the top, or the value at the top, with
/// a line feed.
struct LinesFormatter {
    /// Number of open arrays and objects.
    depth: usize,
}

impl Formatter for LinesFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth > 1 { out.write_all(b"[") } else { Ok(()) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth > 0 { out.write_all(b"]") } else { Ok(()) }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if self.depth > 1 && !first { out.write_all(b",") } else { Ok(()) }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.depth == 1 { out.write_all(b"\n") } else { Ok(()) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        out.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        out.write_all(if self.depth == 0 { b"}\n" } else { b"}" })
    }
}

/// A JSON formatter that escapes characters that could harm a terminal.
struct Harmless<F>(F);

impl<F: Formatter> Formatter for Harmless<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !has_harmful(text) {
            return out.write_all(text.as_bytes());
        }
        out.write_all(escape(text.to_owned()).as_bytes())
    }
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }
    fn end_object_key<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
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
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let mut out = Vec::new();
            write(&mut out, &value, JsonForm::Lines).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), lines);
        }
    }
}
