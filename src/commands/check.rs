//! Checks of `doctor` and `setup`: what was found, and what to do about it.

use std::fmt::Write as _;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::output::{CYAN, GREEN, RED, YELLOW, columns, pad, painted, wrapped};
use crate::text::{clip, harmless, plural};

/// One check.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    /// Stable name of the check.
    pub name: &'static str,
    /// Result of the check.
    pub level: Level,
    /// What the check found, as text.
    pub detail: String,
    /// What to do about it; null if nothing needs to be done.
    pub hint: Option<String>,
    /// Deprecated name of `detail`.
    pub found: String,
    /// Deprecated name of `hint`; absent if that is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// No problem.
    Ok,
    /// Jobs can run, with a restriction.
    Warning,
    /// Jobs cannot run.
    Error,
}

impl Check {
    fn new(name: &'static str, level: Level, detail: &str, hint: Option<&str>) -> Self {
        let detail = clip(detail, 400);
        let hint = hint.map(|text| clip(text, 300));
        Self { name, level, found: detail.clone(), advice: hint.clone(), detail, hint }
    }

    pub(crate) fn ok(name: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(name, Level::Ok, detail.as_ref(), None)
    }

    pub(crate) fn warning(
        name: &'static str,
        detail: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> Self {
        Self::new(name, Level::Warning, detail.as_ref(), Some(hint.as_ref()))
    }

    pub(crate) fn error(
        name: &'static str,
        detail: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> Self {
        Self::new(name, Level::Error, detail.as_ref(), Some(hint.as_ref()))
    }

    /// The check could not be made.
    pub(crate) fn unknown(name: &'static str, why: impl std::fmt::Display) -> Self {
        Self::new(name, Level::Warning, &format!("could not be checked: {why}"), None)
    }

    /// With the hint unless the level is `Ok`.
    pub(crate) fn with_level(
        name: &'static str,
        level: Level,
        detail: impl AsRef<str>,
        hint: &str,
    ) -> Self {
        Self::new(name, level, detail.as_ref(), (level != Level::Ok).then_some(hint))
    }
}

/// Returns the checks as a table: a mark, the name, what was found, and the hint below it.
pub(crate) fn table(checks: &[Check]) -> String {
    let names: Vec<String> = checks.iter().map(|c| c.name.replace('_', " ")).collect();
    let name_width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let indent = name_width + 4;
    let width = columns().saturating_sub(indent + 1).clamp(20, 100);
    let mut text = String::new();
    for (check, name) in checks.iter().zip(&names) {
        let mark = match check.level {
            Level::Ok => painted(GREEN, "✓"),
            Level::Warning => painted(YELLOW.bold(), "!"),
            Level::Error => painted(RED.bold(), "✗"),
        };
        let mut head = format!("{mark} {}  ", pad(name, name_width, false));
        for line in wrapped(&harmless(&check.detail), width) {
            let _ = writeln!(text, "{head}{line}");
            head = " ".repeat(indent);
        }
        for line in hint_lines(check.hint.as_deref().unwrap_or_default(), width) {
            let _ = writeln!(text, "{head}{}", painted(CYAN, &line));
        }
    }
    text
}

/// Returns the lines of a hint. Commands that belong together stay in one line: copied in two, they
/// would do something else.
fn hint_lines(hint: &str, width: usize) -> Vec<String> {
    let hint = harmless(hint);
    if hint.contains(" && ") { vec![hint] } else { wrapped(&hint, width) }
}

/// Returns how many errors and warnings there are, such as "1 error, 2 warnings"; empty if there
/// are none.
pub(crate) fn counts(checks: &[Check]) -> String {
    let mut counts = Vec::new();
    for (level, what) in [(Level::Error, "error"), (Level::Warning, "warning")] {
        let n = checks.iter().filter(|check| check.level == level).count();
        if n > 0 {
            counts.push(plural(n, what));
        }
    }
    counts.join(", ")
}
