//! The skill for agents, `SKILL.md`: its size, its front matter, and that each command in it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "skill/commands.rs"]
mod commands;
#[path = "skill/front_matter.rs"]
mod front_matter;
mod support;
#[path = "skill/text.rs"]
mod text;
#[path = "skill/validators.rs"]
mod validators;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use text::{SKILL, code_blocks, spans};

/// A model reads all of it each time.
const MAX_WORDS: usize = 899;

/// What is neither a command, nor an option, nor a word of the answers.
const OTHER_SPANS: [&str; 9] = [
    "#",
    "$",
    "--wake",
    "background: true, timeoutSeconds: 0",
    "exec",
    "run_in_background: true",
    "session=",
    "{error, code, hint}",
    "~/.openclaw",
];

#[test]
fn a_model_can_afford_to_read_it() {
    let words = SKILL.split_whitespace().count();
    assert!(words <= MAX_WORDS, "{words} words");
}

/// Adds the names of fields and the values of enumerations in a schema.
fn collect_words(schema: &Value, words: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        words.extend(properties.keys().cloned());
    }
    for value in schema["enum"].as_array().into_iter().flatten().chain([&schema["const"]]) {
        words.extend(value.as_str().map(str::to_owned));
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|part| collect_words(part, words)),
        Value::Array(parts) => parts.iter().for_each(|part| collect_words(part, words)),
        _ => {}
    }
}

fn schema(verb: &str) -> Value {
    let path = format!("{}/docs/schemas/{verb}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_code_span_is_checked() {
    let mut words = BTreeSet::new();
    for verb in ["status", "result", "start", "error"] {
        collect_words(&schema(verb), &mut words);
    }
    let rows: BTreeSet<&str> = commands::rows().iter().map(|row| row.text).collect();
    let mut found: BTreeSet<String> = BTreeSet::new();
    for span in spans() {
        let is_known = rows.contains(span.as_str())
            || words.contains(&span)
            || OTHER_SPANS.contains(&span.as_str())
            // See `the_wake_is_the_line_that_it_shows`.
            || span.starts_with("System: ");
        assert!(is_known, "no test runs `{span}`, and no answer contains it");
        found.insert(span);
    }
    for block in code_blocks() {
        let lines: Vec<&str> = block.lines().filter(|it| it.starts_with("claudejob ")).collect();
        assert_eq!(lines.len(), 1, "a command for each block: {block}");
        assert!(rows.contains(lines[0]), "no test runs {}", lines[0]);
        found.insert(lines[0].to_owned());
    }
    for row in rows {
        assert!(found.contains(row), "SKILL.md does not contain `{row}`");
    }
}

#[test]
fn every_status_has_a_row() {
    let mut statuses = BTreeSet::new();
    collect_words(&schema("status")["$defs"]["Status"], &mut statuses);
    assert!(statuses.contains("blocked"), "{statuses:?}");
    let rows: String = SKILL.lines().filter(|line| line.trim_start().starts_with("| `")).collect();
    for status in statuses {
        assert!(rows.contains(&format!("`{status}`")), "{status}");
    }
}
