//! The keys of the configuration file, and their values as texts for the parser of the arguments.

use std::env;

use toml::de::DeValue;

/// What the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// An integer or a decimal number.
    Number,
    Flag,
    /// Whether an option is given, without its value.
    Given,
    /// An array of texts, for an option that can be repeated.
    List,
    /// A path that is absolute or begins with `~/`.
    Path,
    /// An array of paths, or of JSON texts.
    Paths,
    /// A path, or a JSON text.
    PathOrJson,
}

/// Key of the default profile.
pub(super) const DEFAULT_PROFILE: &str = "default-profile";
/// Key of the jobs directory.
pub(super) const JOBS_DIR: &str = "jobs-dir";
/// Name of the tables of profiles.
pub(super) const PROFILE: &str = "profile";
/// Key of claude's configuration directory.
pub(super) const CONFIG_DIR: &str = "claude-config-dir";
/// Key of the file with variables.
pub(super) const ENV_FILE: &str = "env-file";

/// Options of `start` and `run`. Those that belong to one job alone are no keys.
pub(super) const OPTIONS: [(&str, Kind); 47] = [
    ("model", Kind::Text),
    ("effort", Kind::Text),
    ("fallback-model", Kind::Text),
    ("permission-mode", Kind::Text),
    ("allowed-tools", Kind::List),
    ("disallowed-tools", Kind::List),
    ("add-dir", Kind::Paths),
    ("append-system-prompt", Kind::Text),
    ("mcp-config", Kind::Paths),
    ("settings", Kind::PathOrJson),
    ("claude", Kind::Path),
    ("timeout", Kind::Text),
    ("stall-timeout", Kind::Text),
    ("tool-timeout", Kind::Text),
    ("background-wait", Kind::Text),
    ("max-turns", Kind::Number),
    ("max-budget-usd", Kind::Number),
    ("budget-usd", Kind::Text),
    ("memory-max", Kind::Text),
    ("group", Kind::Text),
    ("group-limit", Kind::Number),
    ("max-parallel", Kind::Number),
    ("priority", Kind::Number),
    ("stagger", Kind::Text),
    ("retries", Kind::Number),
    ("max-backoff", Kind::Text),
    ("max-wait", Kind::Text),
    ("no-wait-for-reset", Kind::Flag),
    ("no-recover", Kind::Flag),
    ("fail-on-denial", Kind::Flag),
    ("fail-on-mcp", Kind::Flag),
    ("ask", Kind::Flag),
    ("block-timeout", Kind::Text),
    ("detach", Kind::Text),
    ("label", Kind::List),
    ("on-event", Kind::List),
    ("on-event-filter", Kind::List),
    ("on-event-timeout", Kind::Text),
    ("wake", Kind::Text),
    ("notify", Kind::List),
    ("notify-answer", Kind::Flag),
    ("worktree", Kind::Given),
    ("worktree-dir", Kind::Path),
    ("worktree-base", Kind::Text),
    ("setup", Kind::Text),
    ("on", Kind::Text),
    ("on-arg", Kind::List),
];

/// Keys beside the options outside of profiles.
pub(super) const TOP_LEVEL: [&str; 3] = [JOBS_DIR, DEFAULT_PROFILE, PROFILE];
/// Keys beside the options in a profile.
pub(super) const IN_PROFILE: [&str; 2] = [CONFIG_DIR, ENV_FILE];

/// Returns the name of an option as it is in the table, and its kind.
pub(super) fn option(name: &str) -> Option<(&'static str, Kind)> {
    OPTIONS.into_iter().find(|(key, _)| *key == name)
}

/// Returns the key that is most like an unknown one.
pub(super) fn nearest(name: &str, others: &[&'static str]) -> Option<&'static str> {
    let mut best = None;
    let keys = OPTIONS.iter().map(|(key, _)| *key).chain(others.iter().copied());
    // An option may be written as a variable is.
    let name = name.to_ascii_lowercase().replace('_', "-");
    for key in keys {
        let likeness = strsim::jaro_winkler(&name, key);
        if likeness > 0.8 && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, key));
        }
    }
    best.map(|(_, key)| key)
}

/// Returns the texts that an option's parser gets for a value. The error says what is expected.
pub(super) fn texts(key: &str, kind: Kind, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let texts = texts_of_kind(key, kind, value)?;
    // No argument of a program can have one.
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(format!("'{key}' contains a NUL character"));
    }
    Ok(texts)
}

fn texts_of_kind(key: &str, kind: Kind, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match (kind, value) {
        (Kind::Flag, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
        (Kind::Given, DeValue::Boolean(true)) => Ok(vec![String::new()]),
        (Kind::Given, DeValue::Boolean(false)) => Ok(Vec::new()),
        (Kind::Number, DeValue::Integer(number)) if number.radix() == 10 => {
            Ok(vec![number.as_str().to_owned()])
        }
        (Kind::Number, DeValue::Float(number)) => Ok(vec![number.as_str().to_owned()]),
        (Kind::Text, DeValue::String(text)) => Ok(vec![text.to_string()]),
        (Kind::Path | Kind::PathOrJson, DeValue::String(text)) => Ok(vec![path(kind, text)?]),
        (Kind::List | Kind::Paths, DeValue::Array(items)) => {
            let mut texts = Vec::new();
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::String(text) if kind == Kind::List => texts.push(text.to_string()),
                    DeValue::String(text) => texts.push(path(kind, text)?),
                    _ => return Err(expected(key, kind)),
                }
            }
            Ok(texts)
        }
        _ => Err(expected(key, kind)),
    }
}

fn expected(key: &str, kind: Kind) -> String {
    let (what, example) = match kind {
        Kind::Text => ("a text", "\"…\""),
        Kind::Number => ("a number", "5"),
        Kind::Flag | Kind::Given => ("true or false", "true"),
        Kind::List => ("an array of texts", "[\"…\"]"),
        Kind::Path => ("a path", "\"~/…\""),
        Kind::Paths => ("an array of paths", "[\"~/…\"]"),
        Kind::PathOrJson => ("a path or JSON", "\"~/…\""),
    };
    format!("'{key}' takes {what}: {key} = {example}")
}

/// Expands `~/`. Refuses a relative path: the caller's directory may be anyone's project.
fn path(kind: Kind, text: &str) -> Result<String, String> {
    if kind != Kind::Path && text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    if let Some(rest) = text.strip_prefix("~/") {
        let home = env::var("HOME").unwrap_or_default();
        if home.starts_with('/') {
            return Ok(format!("{}/{rest}", home.trim_end_matches('/')));
        }
        return Err(format!("'{text}' needs HOME, which is not set to a path"));
    }
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("the path '{}' is not absolute and does not begin with ~/", text.escape_debug()))
}
