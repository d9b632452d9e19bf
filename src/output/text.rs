//! Text form of the answers.

mod layout;
mod list;
mod live;
mod stats;
mod status;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use crate::commands::answer::{AnswerAnswer, OpenRequest};
use crate::commands::clean::CleanAnswer;
use crate::commands::demo::DemoEvent;
use crate::commands::doctor::{DoctorAnswer, Level};
use crate::commands::export::ExportAnswer;
use crate::commands::kill::KillAnswer;
use crate::commands::logs::LogsAnswer;
use crate::commands::recover::{RecoverAllAnswer, Recovered};
use crate::commands::redeliver::RedeliverAnswer;
use crate::commands::result::{EndedResult, ResultAnswer};
use crate::commands::send::{FinishAnswer, InterruptAnswer, SendAnswer};
use crate::commands::start::StartAnswer;
use crate::commands::wait::{ShortResult, UnreadableJob};
use crate::job::{PreviousResult, Question, Status};
use crate::stream::transcript::{Speaker, TranscriptLine};
use crate::text::{format_duration, format_number, harmless, one_line, plural};

use layout::{columns, pad, wrapped};
pub(super) use list::list;
pub(super) use live::LiveLine;
pub(super) use stats::stats;
pub(super) use status::status;
use status::{at_least, wait_reason};

const PLAIN: Style = Style::new();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const BLUE: Style = AnsiColor::Blue.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn color(status: Status) -> Style {
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
pub(super) fn error(message: &str, hint: Option<&str>) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{} {}", painted(RED.bold(), "error:"), harmless(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{} {}", painted(DIM, "hint:"), harmless(hint));
    }
}

pub(super) fn start(answer: &StartAnswer) -> String {
    let id = &answer.job_id;
    let how = if answer.existing { "already exists and is" } else { "is" };
    let status = painted(color(answer.status), answer.status.as_str());
    let wait = answer.waiting_for.as_ref();
    let wait = wait.map(|wait| format!(": {}", wait_reason(wait))).unwrap_or_default();
    let mut text = format!("Job {} {how} {status}{wait}.\n", painted(BOLD, id.as_str()));
    for (verb, about) in [
        ("logs --follow", "follow its output"),
        ("wait", "wait until it has ended"),
        ("result", "show its result"),
        ("kill", "kill it"),
    ] {
        let call = format!("claudejob {verb} {id}");
        let _ = writeln!(text, "  {call:<44}  {}", painted(DIM, about));
    }
    for warning in &answer.warnings {
        let _ = writeln!(text, "{} {}", painted(YELLOW, "warning:"), harmless(warning));
    }
    text
}

pub(super) fn permission(open: &OpenRequest) -> String {
    let tool = open.blocked.tool_name.as_deref().unwrap_or_default();
    let what = harmless(&format!("{tool} {}", one_line(&open.blocked.input, 1_000)));
    format!("Allow {what}?\n[y/N] ")
}

pub(super) fn question(question: &Question) -> String {
    let mut text = format!("{}\n", painted(BOLD, &harmless(&question.question)));
    for (n, option) in question.options.iter().enumerate() {
        let description = painted(DIM, &harmless(&one_line(&option.description, 200)));
        let _ = writeln!(text, "  {} {}  {description}", n + 1, harmless(&option.label));
    }
    text + "Number or free text: "
}

pub(super) fn answer(answer: &AnswerAnswer) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    if answer.released {
        format!(
            "Job {id} was released: it waits for the answer without claude and without a slot.\n"
        )
    } else if answer.answered {
        format!("Job {id} was answered and is {}.\n", answer.status)
    } else {
        format!("Job {id} no longer waits for this answer and is {}.\n", answer.status)
    }
}

pub(super) fn send(answer: &SendAnswer) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    match &answer.turn {
        None => format!("Message {} was sent to job {id}.\n", answer.message),
        Some(None) => {
            format!("Message {} has no answer; job {id} is {}.\n", answer.message, answer.status)
        }
        Some(Some(turn)) => format!("{}\n", harmless(turn.result.as_deref().unwrap_or_default())),
    }
}

pub(super) fn finish(answer: &FinishAnswer) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    match &answer.waiting_for {
        None => format!("Job {id} is {}.\n", answer.status),
        Some(wait) => {
            format!("Job {id} is {} and will finish; waiting for: {}.\n", answer.status, wait.why)
        }
    }
}

pub(super) fn interrupt(answer: &InterruptAnswer) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    match &answer.error {
        None => format!("Job {id} was interrupted and is {}.\n", answer.status),
        Some(error) => format!("Job {id} was not interrupted and is {}: {error}.\n", answer.status),
    }
}

pub(super) fn recovered(answer: &Recovered) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    let how =
        if answer.resumes { "continues its conversation" } else { "starts again from its prompt" };
    let mut text = format!("Job {id} {how} (attempt {}).\n", answer.attempt);
    for warning in &answer.warnings {
        let _ = writeln!(text, "{} {}", painted(YELLOW, "warning:"), harmless(warning));
    }
    text
}

pub(super) fn recovered_all(answer: &RecoverAllAnswer) -> String {
    if answer.recovered.is_empty() && answer.failed.is_empty() {
        return "Nothing to recover.\n".to_owned();
    }
    let mut text: String = answer.recovered.iter().map(recovered).collect();
    for failure in &answer.failed {
        let what = format!("{}: {}", failure.job_id, failure.error);
        let _ = writeln!(text, "{} {}", painted(RED.bold(), "error:"), harmless(&what));
    }
    text
}

pub(super) fn redelivered(answer: &RedeliverAnswer) -> String {
    if answer.delivered == 0 && answer.failed.is_empty() {
        return "No undelivered notifications.\n".to_owned();
    }
    let mut text = format!("{} delivered.\n", plural(answer.delivered, "notification"));
    let mut failure = |what: &str| {
        let _ = writeln!(text, "{} {}", painted(RED.bold(), "not delivered:"), harmless(what));
    };
    for left in &answer.failed {
        if let Some(error) = &left.error {
            failure(&format!("{}: {error}", left.job_id));
            continue;
        }
        for notification in &left.undelivered_notifications {
            let why = notification.error.as_deref().unwrap_or("not tried yet");
            let (to, event) = (&notification.to, &notification.event);
            failure(&format!("{}: {event} to {to}: {why}", left.job_id));
        }
    }
    text
}

pub(super) fn cleaned(answer: &CleanAnswer) -> String {
    let (jobs, size) = (plural(answer.removed, "job"), format_bytes(answer.freed_bytes));
    let mut text = match (answer.dry_run, answer.removed) {
        (_, 0) => "Nothing to remove.\n".to_owned(),
        (false, _) => format!("Removed {jobs}, freed {size}.\n"),
        (true, _) => format!("Would remove {jobs} and free {size}:\n"),
    };
    if answer.dry_run {
        for id in &answer.jobs {
            let _ = writeln!(text, "  {id}");
        }
        if answer.omitted > 0 {
            let _ = writeln!(text, "  … and {} more", answer.omitted);
        }
    }
    for left in &answer.left {
        let what = format!("{} not removed: {}", left.job_id, left.error);
        let _ = writeln!(text, "{}", painted(YELLOW, &harmless(&what)));
    }
    for warning in &answer.warnings {
        let _ = writeln!(text, "{}", painted(YELLOW, &harmless(warning)));
    }
    text
}

/// Formats a number of bytes in its largest unit of 1,000.
fn format_bytes(amount: u64) -> String {
    let mut amount = amount as f64;
    if amount < 1_000.0 {
        return format!("{amount} bytes");
    }
    for unit in ["kB", "MB", "GB"] {
        amount /= 1_000.0;
        if amount < 1_000.0 {
            return format!("{amount:.1} {unit}");
        }
    }
    format!("{:.1} TB", amount / 1_000.0)
}

pub(super) fn export(answer: &ExportAnswer) -> String {
    let jobs = plural(answer.jobs, "job");
    let file = painted(BOLD, &harmless(&answer.file.display().to_string()));
    format!("Exported {jobs} to {file} ({} bytes).\n", format_number(answer.bytes))
}

pub(super) fn kill(answer: &KillAnswer) -> String {
    let id = painted(BOLD, answer.job_id.as_str());
    let mut text = match &answer.error {
        None if answer.warnings.is_empty() => {
            format!("Job {id} was killed; no process is left.\n")
        }
        None => format!("Job {id} was killed.\n"),
        Some(error) => format!("Job {id} was not killed: {error}.\n"),
    };
    for warning in &answer.warnings {
        let _ = writeln!(text, "{} {}", painted(YELLOW, "warning:"), harmless(warning));
    }
    text
}

pub(super) fn result(answer: &ResultAnswer) -> String {
    match answer {
        ResultAnswer::Pending(pending) => {
            let status = painted(color(pending.status), pending.status.as_str());
            let earlier = previous_result(pending.previous_result.as_ref());
            format!("Job {} is {status}; it has no result yet.\n{earlier}", pending.job_id)
        }
        ResultAnswer::Ended(ended) => ended_text(ended),
    }
}

pub(super) fn short_result(short: &ShortResult) -> String {
    let status = painted(color(short.status), short.status.as_str());
    let summary = short.error.as_ref().or(short.result.as_ref());
    let summary = summary.map(|text| format!(": {}", harmless(&one_line(text, 200))));
    format!("Job {} is {status}{}\n", short.job_id, summary.unwrap_or_default())
}

pub(super) fn unreadable_job(job: &UnreadableJob) -> String {
    format!("{} {}\n", painted(RED.bold(), "error:"), harmless(&job.error))
}

fn previous_result(previous: Option<&PreviousResult>) -> String {
    let Some(previous) = previous else { return String::new() };
    let output = previous.structured_output.as_ref().map(serde_json::Value::to_string);
    let Some(answer) = previous.result.as_ref().or(output.as_ref()) else { return String::new() };
    format!("Result of attempt {}:\n{}\n", previous.attempt, harmless(answer.trim_end()))
}

fn ended_text(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let mut text = String::new();
    if let Some(result) = &outcome.result {
        let _ = writeln!(text, "{}", harmless(result.trim_end()));
    }
    if let Some(output) = &outcome.structured_output {
        let pretty = serde_json::to_string_pretty(output).unwrap_or_default();
        let _ = writeln!(text, "{}", harmless(&pretty));
    }
    if ended.truncated {
        let hint = format!("(shortened; claudejob result {} --full shows all)", outcome.job_id);
        let _ = writeln!(text, "{}", painted(DIM, &hint));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let reason = outcome.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let verdict = format!("{}{reason}", outcome.status);
    let _ = write!(text, "{} {}", outcome.job_id, painted(color(outcome.status), &verdict));
    let turns = if outcome.num_turns == 1 { "turn" } else { "turns" };
    let _ = write!(text, " · {} {turns}", outcome.num_turns);
    if let Some(ms) = outcome.duration_ms {
        let _ = write!(text, " · {}", format_duration(Duration::from_millis(ms)));
    }
    if let Some(usd) = outcome.cost_usd {
        let least = at_least(outcome.cost_is_lower_bound);
        let _ = write!(text, " · {least}${usd:.4}");
    }
    text.push('\n');
    if let Some(error) = &outcome.error {
        let _ = writeln!(text, "{}", painted(RED, &harmless(error)));
    }
    for warning in &outcome.warnings {
        let _ = writeln!(text, "{}", painted(YELLOW, &format!("warning: {}", harmless(warning))));
    }
    text += &previous_result(outcome.previous_result.as_ref());
    if let Some(hint) = &ended.hint {
        let _ = writeln!(text, "{}", painted(DIM, &format!("hint: {}", harmless(hint))));
    }
    text
}

pub(super) fn logs(answer: &LogsAnswer) -> String {
    if !answer.bytes.is_empty() {
        let mut text = harmless(&String::from_utf8_lossy(&answer.bytes));
        if !text.ends_with('\n') {
            text.push('\n');
        }
        return text;
    }
    answer.passages.iter().fold(String::new(), |mut text, passage| {
        let _ = writeln!(text, "{}", passage_text(passage));
        text
    })
}

fn passage_text(passage: &TranscriptLine) -> String {
    let style = match passage.speaker {
        Speaker::Agent => Style::new(),
        Speaker::Tool => CYAN,
        Speaker::ToolError => RED,
        Speaker::User => GREEN,
        Speaker::Note => DIM,
        Speaker::End => BOLD,
        Speaker::Stderr => YELLOW,
    };
    let text = harmless(&passage.text);
    painted(style, &format!("{}{text}", passage.speaker.mark()))
}

pub(super) fn doctor(answer: &DoctorAnswer) -> String {
    let names: Vec<String> = answer.checks.iter().map(|c| c.name.replace('_', " ")).collect();
    let name_width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let indent = name_width + 4;
    let width = columns().saturating_sub(indent + 1).clamp(20, 100);
    let mut text = String::new();
    for (check, name) in answer.checks.iter().zip(&names) {
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
        for line in wrapped(&harmless(check.hint.as_deref().unwrap_or_default()), width) {
            let _ = writeln!(text, "{head}{}", painted(CYAN, &line));
        }
    }
    let counted = |level, what| {
        let n = answer.checks.iter().filter(|check| check.level == level).count();
        (n > 0).then(|| plural(n, what))
    };
    let counts: Vec<String> = [counted(Level::Error, "error"), counted(Level::Warning, "warning")]
        .into_iter()
        .flatten()
        .collect();
    let summary = match (answer.ok, counts.is_empty()) {
        (true, true) => painted(GREEN, "Jobs can run here."),
        (true, false) => painted(YELLOW, &format!("Jobs can run here: {}.", counts.join(", "))),
        (false, _) => painted(RED, &format!("Jobs cannot run here: {}.", counts.join(", "))),
    };
    let _ = writeln!(text, "{summary}");
    text
}

pub(super) fn scene(scene: &DemoEvent<'_>) -> String {
    let prompt = |call: String| painted(BOLD, &format!("$ claudejob {call}\n"));
    match scene {
        DemoEvent::Started(answer) => {
            let id = &answer.job_id;
            let call = prompt(format!("start --job-id {id} --prompt …"));
            format!("{call}{}\n{}", start(answer), prompt(format!("logs {id} --follow")))
        }
        DemoEvent::LogGrew(answer) => logs(answer),
        DemoEvent::Ended(answer) => match answer {
            ResultAnswer::Ended(ended) => {
                let call = prompt(format!("result {}", ended.outcome.job_id));
                format!("\n{call}{}", ended_text(ended))
            }
            ResultAnswer::Pending(_) => result(answer),
        },
    }
}
