//! Text for a tool call that a person may allow.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::OpenRequest;
use crate::output::{DIM, GREEN, PLAIN, RED, painted};
use crate::page::{Diff, LineChange};
use crate::text::{harmless, plural};

/// Maximum size of a file that is compared with its new content.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where and how a tool call is shown.
pub(in crate::commands) struct Place<'a> {
    /// The job's working directory, as shown.
    pub cwd: &'a str,
    /// Number of lines for a difference of files.
    pub max_lines: usize,
    /// The command that shows the whole request.
    pub full: &'a str,
}

/// Returns what the tool would do.
pub(in crate::commands) fn description(open: &OpenRequest, place: &Place<'_>) -> String {
    let tool = open.blocked.tool_name.as_deref().unwrap_or_default();
    let text = |field: &str| open.input[field].as_str().unwrap_or_default();
    let path = harmless(text("file_path"));
    let diffs = match tool {
        "Bash" => {
            let mut shown = format!("claude wants to run a command in {}:\n", harmless(place.cwd));
            for line in harmless(text("command")).lines() {
                let _ = writeln!(shown, "  {line}");
            }
            return shown;
        }
        "Edit" => vec![Diff::new(text("old_string"), text("new_string"))],
        "MultiEdit" => edits(&open.input["edits"]),
        "Write" => {
            let old = present_content(Path::new(text("file_path")));
            vec![Diff::new(&old, text("content"))]
        }
        _ => {
            let input = serde_json::to_string_pretty(&open.input).unwrap_or_default();
            return format!("claude wants to use {}:\n{}\n", harmless(tool), harmless(&input));
        }
    };
    let verb = if tool == "Write" { "write" } else { "edit" };
    let lines: Vec<String> = diffs.iter().flat_map(diff_lines).collect();
    let mut shown = format!("claude wants to {verb} {path}:\n");
    for line in lines.iter().take(place.max_lines) {
        let _ = writeln!(shown, "{line}");
    }
    let more = lines.len().saturating_sub(place.max_lines);
    let is_cut = more > 0 || diffs.iter().any(Diff::is_cut);
    if is_cut {
        let more = if more > 0 { plural(more, "more line") } else { "more".to_owned() };
        let _ = writeln!(shown, "{}", painted(DIM, &format!("… {more}: {}", place.full)));
    }
    shown
}

fn edits(edits: &Value) -> Vec<Diff> {
    let mut diffs = Vec::new();
    for edit in edits.as_array().into_iter().flatten() {
        let text = |field: &str| edit[field].as_str().unwrap_or_default();
        diffs.push(Diff::new(text("old_string"), text("new_string")));
    }
    diffs
}

/// Returns the content of an ordinary text file; empty if there is none.
fn present_content(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_FILE_BYTES => {
            fs::read_to_string(path).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn diff_lines(diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    for (change, line) in diff.lines() {
        lines.push(match change {
            LineChange::Same => painted(PLAIN, &format!("  {line}")),
            LineChange::Added => painted(GREEN, &format!("+ {line}")),
            LineChange::Removed => painted(RED, &format!("- {line}")),
            LineChange::Gap => painted(DIM, "…"),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::answer::request_of;

    fn shown(tool: &str, input: Value) -> String {
        let place = Place { cwd: "~/app", max_lines: 3, full: "claudejob status x --full" };
        let text = description(&request_of(tool, input), &place);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn shows_commands_diffs_and_other_inputs() {
        assert_eq!(
            shown("Bash", json!({"command": "make\ncargo \u{1b}[2Jpublish", "description": "x"})),
            "claude wants to run a command in ~/app:\n  make\n  cargo \u{fffd}[2Jpublish\n"
        );
        assert_eq!(
            shown("Edit", json!({"file_path": "/a", "old_string": "x\ny", "new_string": "x\nz"})),
            "claude wants to edit /a:\n  x\n- y\n+ z\n"
        );
        let edits = json!([{"old_string": "a", "new_string": "b"},
            {"old_string": "c", "new_string": "d"}]);
        assert_eq!(
            shown("MultiEdit", json!({"file_path": "/a", "edits": edits})),
            "claude wants to edit /a:\n- a\n+ b\n- c\n… 1 more line: claudejob status x --full\n"
        );
        assert_eq!(
            shown("Write", json!({"file_path": "/nowhere/x", "content": "new"})),
            "claude wants to write /nowhere/x:\n+ new\n"
        );
        assert_eq!(
            shown("WebFetch", json!({"url": "http://x"})),
            "claude wants to use WebFetch:\n{\n  \"url\": \"http://x\"\n}\n"
        );
    }
}
