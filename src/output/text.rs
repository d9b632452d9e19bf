//! Parts of the text form of answers.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::clock;
use crate::job::{Activity, Blocked, JobId, Notification, Status, WaitingFor};
use crate::text::{format_duration, harmless};

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const BLUE: Style = AnsiColor::Blue.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Adds a style to a text.
pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns the colour of a status.
pub(crate) fn color(status: Status) -> Style {
    match status {
        Status::Completed => GREEN,
        Status::Failed => RED,
        Status::Killed => YELLOW,
        Status::Blocked => YELLOW.bold(),
        Status::Queued | Status::Idle => DIM,
        Status::Starting | Status::Running => BLUE,
    }
}

/// Prints an error to stderr.
pub(crate) fn error(message: &str, hint: Option<&str>) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{} {}", painted(RED.bold(), "error:"), harmless(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{} {}", painted(DIM, "hint:"), harmless(hint));
    }
}

/// Prints a text to stderr.
pub(crate) fn print_note(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Prints the id of the job to stderr, above an answer that does not contain it.
pub(crate) fn print_job(id: &JobId) {
    let _ = writeln!(anstream::stderr().lock(), "{}", painted(DIM, &format!("job {id}")));
}

/// Adds a warning to a text, on a line of its own.
pub(crate) fn push_warning(text: &mut String, warning: &str) {
    push_marked(text, YELLOW, "warning:", warning);
}

/// Adds a line that begins with a coloured word.
pub(crate) fn push_marked(text: &mut String, style: Style, mark: &str, rest: &str) {
    let _ = writeln!(text, "{} {}", painted(style, mark), harmless(rest));
}

/// Returns why a job waits, with the remaining time if it is known.
pub(crate) fn wait_reason(wait: &WaitingFor) -> String {
    let left = wait.until.map(|at| format_duration(at.since(clock::now())));
    let left = left.map(|left| format!(", {left} left")).unwrap_or_default();
    format!("{}{left}", wait.why)
}

/// Returns the prefix of a cost that is a lower bound.
pub(crate) fn at_least(is_lower_bound: bool) -> &'static str {
    if is_lower_bound { "≥ " } else { "" }
}

/// Returns which notification was not delivered, and why.
pub(crate) fn undelivered(notification: &Notification) -> String {
    let why = notification.error.as_deref().unwrap_or("in progress");
    format!("{} to {}: {why}", notification.event, notification.to)
}

/// Returns what a blocked job asks.
pub(crate) fn open_request(blocked: &Blocked) -> String {
    let tool = blocked.tool_name.as_deref().unwrap_or_default();
    match blocked.questions.first() {
        Some(question) => format!("asks: {}", question.question),
        None => format!("asks to use {tool} {}", blocked.input),
    }
}

/// Returns what the agent is doing.
pub(crate) fn activity_text(activity: &Activity) -> String {
    match &activity.tool {
        Some(tool) => harmless(&format!("{tool}: {}", activity.text)),
        None => harmless(&activity.text),
    }
}
