//! Text form of `status`.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::clock;
use crate::job::{Notification, StatusView, Timestamp, WorktreeView};
use crate::output::{
    Answer, BOLD, PLAIN, YELLOW, activity_text, color, columns, command_lines, failure,
    local_second, painted, short_path, undelivered, wait_reason, wrapped,
};
use crate::text::{format_cost, format_duration, harmless, plural};

/// Width of the names in `status`, in columns.
const NAME_WIDTH: usize = 9;

impl Answer for StatusView {
    fn text(&self) -> String {
        text(self)
    }

    fn quiet(&self) -> Option<String> {
        Some(format!("{}\n", self.status))
    }
}

fn text(answer: &StatusView) -> String {
    let mut rows = Rows::new();
    push_state(&mut rows, answer);
    push_request(&mut rows, answer);
    push_progress(&mut rows, answer);
    push_origin(&mut rows, answer);
    push_problems(&mut rows, answer);
    if let Some(hint) = &answer.hint {
        rows.push_command("hint", hint);
    }
    rows.text
}

/// Rows of a name and a value.
struct Rows {
    text: String,
    /// Width of the values in columns.
    width: usize,
}

impl Rows {
    fn new() -> Self {
        let width = columns().saturating_sub(NAME_WIDTH + 1).max(20);
        Self { text: String::new(), width }
    }

    /// Adds a row, with the value in several lines if it is too long.
    fn push(&mut self, name: &str, style: Style, value: &str) {
        let value = harmless(value);
        let is_short = value.width() <= self.width;
        let lines = if is_short { vec![value] } else { wrapped(&value, self.width) };
        let mut name = name;
        for line in lines {
            let head = format!("{name:>NAME_WIDTH$}");
            let _ = writeln!(self.text, "{head} {}", painted(style, &line));
            name = "";
        }
    }

    /// Adds a row with a command.
    fn push_command(&mut self, name: &str, command: &str) {
        let head = format!("{name:>NAME_WIDTH$}");
        let lines = command_lines(&harmless(command), NAME_WIDTH + 1, columns());
        let _ = writeln!(self.text, "{head} {lines}");
    }

    /// Adds a row unless its value is empty.
    fn push_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(name, PLAIN, value);
        }
    }

    fn push_some(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.push_text(name, value);
        }
    }
}

fn push_state(rows: &mut Rows, answer: &StatusView) {
    rows.push("job", BOLD, answer.job_id.as_str());
    rows.push("status", color(answer.status), answer.status.as_str());
    if let Some(error) = &answer.error {
        rows.push("error", PLAIN, &failure(answer.reason, error));
    }
    // The open request, below, is more informative than the reason of the wait.
    if let (Some(wait), None) = (&answer.waiting_for, &answer.blocked) {
        let wait = match (&answer.group, answer.position) {
            (Some(group), Some(_)) => format!("{} (group {group})", wait_reason(wait)),
            _ => wait_reason(wait),
        };
        let wait = wait.strip_prefix("waiting for ").unwrap_or(&wait);
        rows.push("waiting", YELLOW, wait);
    }
    if let Some(at) = answer.resumable_at {
        rows.push("limit", PLAIN, &format!("ends at {}", local_second(at)));
    }
}

fn push_request(rows: &mut Rows, answer: &StatusView) {
    let Some(blocked) = &answer.blocked else { return };
    if blocked.questions.is_empty() {
        let tool = blocked.tool_name.as_deref().unwrap_or_default();
        rows.push("request", PLAIN, &format!("{}: {tool} {}", blocked.kind, blocked.input));
    }
    for question in &blocked.questions {
        let labels: Vec<&str> = question.options.iter().map(|o| o.label.as_str()).collect();
        rows.push("question", YELLOW, &format!("{} ({})", question.question, labels.join(", ")));
    }
}

fn push_progress(rows: &mut Rows, answer: &StatusView) {
    // The open request is more informative than the activity.
    if let (Some(activity), None) = (&answer.activity, &answer.blocked) {
        rows.push("now", PLAIN, &activity_text(activity));
    }
    if let Some(at) = answer.started_at {
        rows.push("started", PLAIN, &started(answer, at));
    }
    let turns = usize::try_from(answer.num_turns).unwrap_or(usize::MAX);
    let mut spent = Vec::new();
    if turns > 0 {
        spent.push(plural(turns, "turn"));
    }
    if let Some(usd) = answer.cost_usd {
        spent.push(format_cost(usd, answer.cost_is_lower_bound));
    }
    rows.push_text("spent", &spent.join(", "));
}

/// Returns when the job was started, and how long it has worked.
fn started(answer: &StatusView, at: Timestamp) -> String {
    let started = local_second(at);
    match answer.work_time {
        Some(time) => {
            let ended = if answer.ended_at.is_some() { "took" } else { "for" };
            format!("{started} ({ended} {})", format_duration(time.at(clock::now())))
        }
        None => started,
    }
}

fn push_origin(rows: &mut Rows, answer: &StatusView) {
    rows.push_some("model", answer.model.as_ref());
    rows.push_some("profile", answer.profile.as_ref());
    rows.push_text("folder", &short_path(&answer.cwd));
    if let Some(worktree) = &answer.worktree {
        rows.push_text("worktree", &worktree_text(worktree));
    }
    rows.push_text("prompt", &answer.prompt);
    for (key, value) in &answer.labels {
        rows.push("label", PLAIN, &format!("{key}={value}"));
    }
    rows.push_some("session", answer.session_id.as_ref());
    rows.push_some("host", answer.host.as_ref());
}

fn worktree_text(worktree: &WorktreeView) -> String {
    let mut text = format!("branch {} from {}", worktree.branch, worktree.base_name());
    if let Some(commits) = worktree.commits {
        text += &format!(", {}", plural(commits, "commit"));
    }
    if let Some(dirty) = worktree.dirty {
        text += &format!(", {}", plural(dirty, "uncommitted change"));
    }
    text
}

fn push_problems(rows: &mut Rows, answer: &StatusView) {
    for warning in &answer.warnings {
        rows.push("warning", YELLOW, warning);
    }
    if let Some(detached) = &answer.detached {
        for risk in &detached.risks {
            rows.push("risk", YELLOW, risk);
        }
    }
    for notification in &answer.undelivered_notifications {
        rows.push("unsent", YELLOW, &undelivered(notification));
    }
    if let Some(Notification { hint: Some(hint), .. }) = answer.undelivered_notifications.first() {
        rows.push_command("resend", hint);
    }
}
