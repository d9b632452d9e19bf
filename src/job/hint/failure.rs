//! The command that continues a failed job.

use super::{HintFacts, ToolAccess};
use crate::job::{JobId, Limits, Reason};
use crate::text::{round_usd, shell_quote};

/// Returns the command for a failed job. After several failures in a row for the same reason it
/// shows the log, so that no chain of hints is endless.
pub(super) fn command(facts: &HintFacts<'_>) -> String {
    let id = facts.job_id;
    if !facts.end_state.is_resumable() {
        return format!("claudejob logs {id}");
    }
    let (command, comment) = next_step(facts);
    if facts.end_state.fails_repeatedly() && !command.starts_with("claudejob logs ") {
        let failures = facts.end_state.failures_in_row;
        let when = if comment.is_empty() { String::new() } else { format!(" ({comment})") };
        return format!(
            "claudejob logs {id}  # it failed {failures} times in a row in this way: a person must \
             remove the cause; then: {command}{when}"
        );
    }
    if comment.is_empty() { command } else { format!("{command}  # {comment}") }
}

/// Returns the command and a comment, which may be empty.
fn next_step(facts: &HintFacts<'_>) -> (String, String) {
    let (id, limits) = (facts.job_id, &facts.limits);
    let resume = format!("claudejob resume {id}");
    let recover = format!("claudejob recover {id}");
    let is_recoverable = facts.end_state.is_recoverable();
    let Some(reason) = facts.end_state.reason else { return (resume, String::new()) };
    let (command, comment) = match reason {
        Reason::Auth => {
            let command = if is_recoverable { recover } else { resume };
            (command, "after logging in: run claude and /login, or replace the key")
        }
        Reason::DependencyFailed if is_recoverable => (
            "claudejob recover --all".to_owned(),
            "continues the job that it waits for, then this job",
        ),
        _ if is_recoverable => (recover, ""),
        Reason::DependencyFailed => (resume, "after the job it waits for has completed"),
        Reason::RateLimit => {
            let comment = match facts.resumable_at {
                Some(at) => format!("after {at}"),
                None => "after the limit has ended".to_owned(),
            };
            return (resume, comment);
        }
        Reason::Overloaded => (resume, "in a few minutes"),
        Reason::McpFailed => (resume, "when the MCP server that error names works again"),
        Reason::Interrupted => (resume, "look at the work first"),
        Reason::MaxTurns => (resume + &more_turns(limits), ""),
        Reason::MaxBudget => (resume + &more_budget(limits), "if that much may be spent"),
        Reason::Timeout => (resume + &twice("timeout", limits.timeout_ms), ""),
        Reason::Stalled => {
            let tool_timeout = twice("tool-timeout", Some(limits.tool_timeout_ms));
            (resume + &twice("stall-timeout", limits.stall_timeout_ms) + &tool_timeout, "")
        }
        Reason::PermissionDenied => return after_denial(resume, &facts.tools),
        Reason::InvalidOutput => {
            (with_message(&resume, "Give the result as output that fits the JSON schema."), "")
        }
        Reason::NoAnswer => (with_message(&resume, "Give your answer to the task."), ""),
        Reason::PromptTooLong => return new_prompt(id, "a shorter prompt or fewer files"),
        Reason::PromptRejected => return new_prompt(id, "another prompt"),
        Reason::ClaudeRefused | Reason::LaunchFailed => {
            let comment = format!("a person must remove the cause (see error); then: {resume}");
            return (format!("claudejob logs {id} --stderr"), comment);
        }
        Reason::ApiError
        | Reason::WakeupMissed
        | Reason::NoResult
        | Reason::WorkerDied
        | Reason::HostRestarted
        | Reason::Terminated => (resume, ""),
    };
    (command, comment.to_owned())
}

/// Returns a command that shows why claude did not accept the prompt, and how to give another one.
fn new_prompt(id: &JobId, what: &str) -> (String, String) {
    let comment = format!("then start a new job with {what}: claudejob rerun {id} --prompt TEXT");
    (format!("claudejob logs {id}"), comment)
}

fn with_message(resume: &str, message: &str) -> String {
    format!("{resume} --message {}", shell_quote(message))
}

fn more_turns(limits: &Limits) -> String {
    match limits.max_turns {
        Some(turns) => format!(" --max-turns {}", turns.saturating_mul(2)),
        None => String::new(),
    }
}

fn more_budget(limits: &Limits) -> String {
    match limits.max_budget_usd {
        Some(usd) => format!(" --max-budget-usd {}", round_usd(usd * 2.0)),
        None => String::new(),
    }
}

/// Returns the option of this name with twice a duration in milliseconds; nothing if there is no
/// limit.
fn twice(option: &str, ms: Option<u64>) -> String {
    match ms.unwrap_or_default().saturating_mul(2) {
        0 => String::new(),
        ms if ms.is_multiple_of(60_000) => format!(" --{option} {}m", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!(" --{option} {}s", ms / 1_000),
        ms => format!(" --{option} {ms}ms"),
    }
}

/// Allows the denied tools beside those that are allowed. If that would change nothing, the agent
/// has to do without them.
fn after_denial(resume: String, tools: &ToolAccess<'_>) -> (String, String) {
    let is_new = |tool: &&String| !tools.allowed.contains(tool) && !tools.disallowed.contains(tool);
    let new: Vec<&String> = tools.denied.iter().filter(is_new).collect();
    if new.is_empty() {
        let what = match tools.denied {
            [] => "the denied tool".to_owned(),
            denied => denied.join(" and "),
        };
        return (with_message(&resume, &format!("Go on without {what}.")), String::new());
    }
    let mut command = resume;
    for tool in tools.allowed.iter().chain(new) {
        command += &format!(" --allowed-tools {}", shell_quote(tool));
    }
    (command, "if it may use what was denied".to_owned())
}
