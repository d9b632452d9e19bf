//! Claude's settings, and the paths of its files.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde_json::Value;

use super::Env;
use crate::job::Spec;
use crate::json;

/// Directory of the administrator's settings, which prevail over all others.
const MANAGED_SETTINGS_DIR: &str = "/etc/claude-code";
/// Variables that select a provider other than Anthropic's own API.
pub(super) const PROVIDERS: [&str; 7] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
];

/// The source of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingsSource {
    /// A settings file.
    File(PathBuf),
    /// The job's `--settings`.
    Argument,
}

impl fmt::Display for SettingsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Argument => f.write_str("--settings"),
        }
    }
}

/// The settings of one source.
#[derive(Debug)]
pub(super) struct Settings {
    pub source: SettingsSource,
    values: Value,
}

impl Settings {
    /// Returns the settings that claude will use for this job, in order of precedence.
    pub(super) fn read_all(env: &Env, spec: &Spec) -> Vec<Self> {
        let cwd = Path::new(&spec.cwd);
        let mut all = Vec::new();
        for file in managed_files() {
            all.extend(Self::read_file(file));
        }
        let option = option_value(&spec.options.extra_args, "--settings");
        for argument in [option, spec.options.settings.as_deref()].into_iter().flatten() {
            all.extend(Self::read_argument(argument, cwd));
        }
        all.extend(Self::read_file(cwd.join(".claude/settings.local.json")));
        all.extend(Self::read_file(cwd.join(".claude/settings.json")));
        if let Some(dir) = config_dir(env) {
            all.extend(Self::read_file(dir.join("settings.json")));
        }
        all
    }

    fn read_file(file: PathBuf) -> Option<Self> {
        Some(Self { values: read_json(&file)?, source: SettingsSource::File(file) })
    }

    /// Reads the value of `--settings`: JSON, or the path of a file.
    fn read_argument(argument: &str, cwd: &Path) -> Option<Self> {
        let values = match serde_json::from_str(argument) {
            Ok(values) => values,
            Err(_) => read_json(&cwd.join(argument))?,
        };
        Some(Self { values, source: SettingsSource::Argument })
    }

    /// Returns the value of a setting; `None` if it is unset, empty or false.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        set_value(self.values.get(name))
    }

    /// Returns the value of an environment variable that is set in the settings, likewise.
    pub(super) fn variable(&self, name: &str) -> Option<&Value> {
        set_value(self.values.get("env")?.get(name))
    }
}

/// Returns a value unless it is null, false or empty.
pub(super) fn set_value(value: Option<&Value>) -> Option<&Value> {
    match value? {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        value => Some(value),
    }
}

/// Returns the files of the administrator's settings, in order of precedence: later files of the
/// directory override earlier ones, and all of them override the main file.
fn managed_files() -> Vec<PathBuf> {
    let dir = Path::new(MANAGED_SETTINGS_DIR);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir.join("managed-settings.d")).into_iter().flatten().flatten() {
        let file = entry.path();
        if matches!(file.extension(), Some(extension) if extension == "json") {
            files.push(file);
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    files.push(dir.join("managed-settings.json"));
    files
}

/// Returns the value of an option in arguments, as `--name value` or `--name=value`.
pub(super) fn option_value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix(name) {
            Some("") => return args.next().map(String::as_str),
            Some(rest) if rest.starts_with('=') => return Some(&rest[1..]),
            _ => {}
        }
    }
    None
}

/// Returns the directory of claude's settings, logins and sessions.
pub(crate) fn config_dir(env: &Env) -> Option<PathBuf> {
    match env.get("CLAUDE_CONFIG_DIR") {
        Some(dir) => Some(PathBuf::from(dir)),
        None => Some(env.home()?.join(".claude")),
    }
}

/// Reads the file in which claude stores its state, and the account of its login.
pub(super) fn read_state(env: &Env) -> Option<(PathBuf, Value)> {
    let dir = match env.get("CLAUDE_CONFIG_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => env.home()?,
    };
    let file = dir.join(".claude.json");
    let state = read_json(&file)?;
    Some((file, state))
}

fn read_json(path: &Path) -> Option<Value> {
    json::from_bytes(&fs::read(path).ok()?).ok()
}
