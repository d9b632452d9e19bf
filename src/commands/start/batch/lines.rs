//! The lines of a file with a JSON object each.

use std::fmt;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::arguments::{read_file, read_stdin};
use crate::error::Error;

/// Maximum number of jobs.
const MAX_LINES: usize = 10_000;
/// Maximum size of the file in bytes.
const MAX_FILE_BYTES: usize = 100 << 20;

/// Key of the job's id.
pub(super) const JOB_ID: &str = "jobId";

/// The members of a JSON object in their order. A key that occurs twice is an error.
#[derive(Debug)]
pub(super) struct Pairs(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, _>()? {
            if pairs.iter().any(|(other, _)| *other == key) {
                let key = key.escape_debug();
                return Err(A::Error::custom(format_args!("the key '{key}' occurs twice")));
            }
            pairs.push((key, value));
        }
        Ok(Pairs(pairs))
    }
}

/// A line that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchLine<'a> {
    /// Its number in the file, from 1.
    pub number: usize,
    pub text: &'a str,
}

impl BatchLine<'_> {
    /// Parses the object of the line.
    pub(super) fn parse(&self) -> Result<Pairs, String> {
        serde_json::from_str(self.text).map_err(|error| {
            let what = without_place(&error);
            match error.column() {
                0 => format!("not a JSON object: {what}"),
                column if error.is_data() => format!("{what} (column {column})"),
                column => format!("not a JSON object: {what} (column {column})"),
            }
        })
    }
}

/// Returns the text of the error without line and column, which are not those in the file.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Reads the file with the lines, or stdin for `-`.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let bytes = if path == Path::new("-") {
        read_stdin(MAX_FILE_BYTES)
    } else {
        read_file(path, MAX_FILE_BYTES)
    };
    let bytes = bytes.map_err(|error| match error {
        Error::PromptUnreadable(from, error) => bad_file(format!("could not read {from}: {error}")),
        error => error,
    })?;
    let name = path.display();
    if bytes.len() > MAX_FILE_BYTES {
        return Err(bad_file(format!("'{name}' has more than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let number = memchr::memchr_iter(b'\n', valid).count() + 1;
        bad_file(format!("line {number} of '{name}' is not valid UTF-8"))
    })
}

/// Splits the text into lines, without the empty ones.
pub(super) fn split(text: &str) -> Result<Vec<BatchLine<'_>>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.trim().is_empty() {
            lines.push(BatchLine { number: at + 1, text: line });
        }
    }
    match lines.len() {
        0 => Err(bad_file("--from has no jobs: every line is empty".to_owned())),
        count if count > MAX_LINES => {
            Err(bad_file(format!("--from has {count} jobs, more than {MAX_LINES}")))
        }
        _ => Ok(lines),
    }
}

fn bad_file(message: String) -> Error {
    Error::BadBatch(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_lines_of_any_editor() {
        let lines = split("\u{feff}{\"a\":1}\r\n\r\n \t\n{}").unwrap();
        let expected =
            [BatchLine { number: 1, text: "{\"a\":1}" }, BatchLine { number: 4, text: "{}" }];
        assert_eq!(lines, expected);
        assert!(split("\u{feff}\n\n").is_err());
        assert!(split(&"{}\n".repeat(MAX_LINES)).is_ok());
        assert!(split(&"{}\n".repeat(MAX_LINES + 1)).is_err());
    }

    #[test]
    fn says_why_a_line_is_not_an_object() {
        for (text, why) in [
            ("{\"a\":1,\"a\":2}", "the key 'a' occurs twice"),
            ("[1]", "expected a JSON object"),
            ("{\"a\":", "not a JSON object: EOF while parsing"),
            ("{} {}", "not a JSON object: trailing characters"),
            ("prompt: x", "not a JSON object"),
        ] {
            let error = BatchLine { number: 1, text }.parse().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
