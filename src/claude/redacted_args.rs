//! Redacts arguments of claude for the event log: without secrets, and short.

use std::ffi::OsStr;

use crate::text::harmless;

const MAX_ARGUMENT_CHARS: usize = 200;
const MAX_TOTAL_CHARS: usize = 3_000;
/// Replaces a secret.
const HIDDEN: &str = "***";
/// Length of a run of letters and digits that may be a key.
const MIN_KEY_CHARS: usize = 20;
/// Suffixes of the words in a name whose value is a secret.
const SECRET_NAMES: [&str; 10] = [
    "auth",
    "authorization",
    "credential",
    "credentials",
    "key",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "token",
];
/// Prefixes of well-known keys.
const KEY_PREFIXES: [&str; 7] = ["sk-", "ghp_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA"];

/// Returns the arguments without possible secrets: inline JSON and long texts as their size, and
/// words that look like keys, or that follow the name of a key, as `***`.
pub(crate) fn redacted_arguments<'a>(args: impl Iterator<Item = &'a OsStr>) -> Vec<String> {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut shown = Vec::new();
    let mut length = 0;
    let mut is_secret = false;
    for (index, arg) in args.iter().enumerate() {
        let text = if is_secret && !arg.starts_with('-') { HIDDEN.to_owned() } else { redact(arg) };
        is_secret = arg.starts_with('-') && !arg.contains('=') && is_secret_name(arg);
        // Including the quotes and the comma.
        length += text.chars().count() + 3;
        if length > MAX_TOTAL_CHARS {
            shown.push(format!("… ({} more)", args.len() - index));
            break;
        }
        shown.push(text);
    }
    shown
}

fn redact(arg: &str) -> String {
    if has_password(arg) {
        return HIDDEN.to_owned();
    }
    // `--option=VALUE`, `NAME=VALUE` and `Header: VALUE`.
    let value_start = match arg.find(['=', ':']) {
        Some(at) if is_name(&arg[..at]) => at + 1,
        _ => return redact_value(arg),
    };
    let (name, value) = arg.split_at(value_start);
    let value = if is_secret_name(name) { HIDDEN.to_owned() } else { redact_value(value) };
    format!("{}{value}", harmless(name))
}

fn redact_value(value: &str) -> String {
    let size = value.len();
    let begins = value.trim_start();
    if begins.starts_with('{') {
        format!("{{…}} ({size} bytes)")
    } else if begins.starts_with('[') {
        format!("[…] ({size} bytes)")
    } else if value.chars().count() > MAX_ARGUMENT_CHARS {
        format!("… ({size} bytes)")
    } else if value.to_ascii_lowercase().contains("bearer ") {
        HIDDEN.to_owned()
    } else {
        harmless(&without_keys(value))
    }
}

/// Returns whether this can be the name of an option, a variable or a header.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    parts.any(|part| SECRET_NAMES.iter().any(|secret| part.ends_with(secret)))
}

/// Returns whether a URL in the text contains a user, and so perhaps a password.
fn has_password(text: &str) -> bool {
    for rest in text.split("://").skip(1) {
        let host = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        if host.contains('@') {
            return true;
        }
    }
    false
}

/// Returns the text with `***` for each word that looks like a key.
fn without_keys(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_key_char) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_key_char(c)).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if is_key(word) { HIDDEN } else { word });
        rest = after;
    }
    shown + rest
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_+".contains(c)
}

fn is_key(word: &str) -> bool {
    for prefix in KEY_PREFIXES {
        if word.starts_with(prefix) && word.len() > prefix.len() + 8 {
            return true;
        }
    }
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
}

/// Returns whether a run of letters and digits is long and has both.
fn is_random(run: &str) -> bool {
    run.len() >= MIN_KEY_CHARS
        && run.contains(|c: char| c.is_ascii_alphabetic())
        && run.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(args: &[&str]) -> Vec<String> {
        redacted_arguments(args.iter().map(OsStr::new))
    }

    #[test]
    fn shows_ordinary_arguments_unchanged() {
        let args = [
            "-p",
            "--output-format",
            "stream-json",
            "--session-id",
            "3f2b8c1e-9a4d-4e6f-8b1a-2c3d4e5f6a7b",
            "--model",
            "claude-opus-4-8-20261101[1m]",
            "--allowedTools",
            "Bash(git *),Read",
            "--add-dir",
            "/home/dev/some/long/path/with-2-words/Projects",
            "--settings",
            "/home/dev/.claude/settings.json",
            "--mcp-config=servers.json",
            "--append-system-prompt",
            "Answer in German: always.",
            "--max-tokens",
            "4096",
            "",
        ];
        assert_eq!(shown_of(&args), args);
    }

    #[test]
    fn hides_secrets() {
        let long = "x".repeat(201);
        let json = r#"{"env":{"ANTHROPIC_API_KEY":"k"}}"#;
        for (args, expected) in [
            (&["--settings", json][..], &["--settings", "{…} (33 bytes)"][..]),
            (&["--mcp-config", " {}", "[1]"], &["--mcp-config", "{…} (3 bytes)", "[…] (3 bytes)"]),
            (&["--settings={\"a\":1}"], &["--settings={…} (7 bytes)"]),
            (&["--system-prompt", &long], &["--system-prompt", "… (201 bytes)"]),
            (&["--api-key", "abc", "x"], &["--api-key", "***", "x"]),
            (&["--api-key=abc"], &["--api-key=***"]),
            (&["--authToken", "abc"], &["--authToken", "***"]),
            (&["-e", "MY_TOKEN=abc"], &["-e", "MY_TOKEN=***"]),
            (&["--header", "X-Api-Key: abc"], &["--header", "X-Api-Key:***"]),
            (&["--header", "Other: Bearer abc"], &["--header", "Other:***"]),
            (&["--proxy", "http://me:pw@host/x"], &["--proxy", "***"]),
            (&["sk-ant-api03-abc_def-ghi"], &["***"]),
            (&["use ghp_16C7e42F292c6912E7 now"], &["use *** now"]),
            (&["/a/0123456789abcdef0123456789abcdef/b"], &["/a/***/b"]),
            (&["a\u{1b}[31mb"], &["a\u{fffd}[31mb"]),
        ] {
            assert_eq!(shown_of(args), expected, "{args:?}");
        }
    }

    #[test]
    fn bounds_the_total_length() {
        let many = vec!["ä".repeat(200); 5_000];
        let shown = shown_of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(shown.len(), 15);
        assert_eq!(shown[14], "… (4986 more)");
        let empty = vec![""; 50_000];
        assert!(shown_of(&empty).len() < 2_000);
    }
}
