//! Text form of `status`.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::clock;
use crate::job::StatusView;
use crate::output::{
    Answer, BOLD, DIM, PLAIN, YELLOW, activity_text, at_least, color, columns, painted,
    undelivered, wait_reason, wrapped,
};
use crate::text::{format_duration, harmless};

/// Width of the names in `status`, in columns.
const NAME_WIDTH: usize = 9;

impl Answer for StatusView {
    fn text(&self) -> String {
        text(self)
    }
}

fn text(answer: &StatusView) -> String {
    let now = clock::now();
    let mut text = String::new();
    let width = columns().saturating_sub(NAME_WIDTH + 1).max(20);
    let mut row = |name: &str, style: Style, value: &str| {
        let mut name = name;
        let value = harmless(value);
        let fits = value.width() <= width;
        for line in if fits { vec![value] } else { wrapped(&value, width) } {
            let line = painted(style, &line);
            let _ = writeln!(text, "{} {line}", painted(DIM, &format!("{name:>NAME_WIDTH$}")));
            name = "";
        }
    };
    row("job", BOLD, answer.job_id.as_str());
    let reason = answer.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    row("status", color(answer.status), &format!("{}{reason}", answer.status));
    if let Some(error) = &answer.error {
        row("error", PLAIN, error);
    }
    // The open request, below, is more informative than the reason of the wait.
    if let (Some(wait), None) = (&answer.waiting_for, &answer.blocked) {
        let group = answer.group.as_ref().filter(|_| answer.position.is_some());
        let group = group.map(|group| format!(" (group {group})")).unwrap_or_default();
        row("waiting", YELLOW, &format!("{}{group}", wait_reason(wait)));
    }
    if let Some(at) = answer.resumable_at {
        row("limit", PLAIN, &format!("ends at {at}"));
    }
    if let Some(blocked) = &answer.blocked {
        let tool = blocked.tool_name.as_deref().unwrap_or_default();
        if blocked.questions.is_empty() {
            row("request", PLAIN, &format!("{}: {tool} {}", blocked.kind, blocked.input));
        }
        for question in &blocked.questions {
            let labels: Vec<&str> = question.options.iter().map(|o| o.label.as_str()).collect();
            let question_text = format!("{} ({})", question.question, labels.join(", "));
            row("question", YELLOW, &question_text);
        }
    }
    // The open request is more informative than the activity.
    if let (Some(activity), None) = (&answer.activity, &answer.blocked) {
        row("now", PLAIN, &activity_text(activity));
    }
    if let Some(at) = answer.started_at {
        let took = format_duration(answer.age(now));
        let ended = if answer.ended_at.is_some() { "took" } else { "for" };
        row("started", PLAIN, &format!("{at} ({ended} {took})"));
    }
    let turns = if answer.num_turns == 1 { "turn" } else { "turns" };
    let least = at_least(answer.cost_is_lower_bound);
    let cost = answer.cost_usd.map(|usd| format!(", {least}${usd:.4}")).unwrap_or_default();
    row("spent", PLAIN, &format!("{} {turns}{cost}", answer.num_turns));
    if let Some(model) = &answer.model {
        row("model", PLAIN, model);
    }
    if let Some(session) = &answer.session_id {
        row("session", PLAIN, session);
    }
    if let Some(host) = &answer.host {
        row("host", PLAIN, host);
    }
    row("cwd", PLAIN, &answer.cwd);
    row("prompt", PLAIN, &answer.prompt);
    for (key, value) in &answer.labels {
        row("label", PLAIN, &format!("{key}={value}"));
    }
    for warning in &answer.warnings {
        row("warning", YELLOW, warning);
    }
    for risk in answer.detached.iter().flat_map(|detached| &detached.risks) {
        row("risk", YELLOW, risk);
    }
    for notification in &answer.undelivered_notifications {
        row("unsent", YELLOW, &undelivered(notification));
    }
    if let Some(hint) = &answer.hint {
        row("hint", PLAIN, hint);
    }
    text
}
