//! The command to run next, for a job of each status.

mod answer;
mod failure;
#[cfg(test)]
mod tests;

use super::{Blocked, EndState, JobId, Limits, Record, Status, Timestamp};
use crate::text::unquoted;

/// The facts about a job that decide which command comes next.
#[derive(Clone, Debug)]
pub(crate) struct HintFacts<'a> {
    pub job_id: &'a JobId,
    pub end_state: EndState,
    /// End of a limit for which the job did not wait.
    pub resumable_at: Option<Timestamp>,
    /// The request that waits for an answer.
    pub blocked: Option<&'a Blocked>,
    /// The job waits for messages after a result.
    pub keep_alive: bool,
    /// Limits that may have ended the job.
    pub limits: Limits,
    pub tools: ToolAccess<'a>,
}

/// The tools that a job may use, and those whose denial made it fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToolAccess<'a> {
    pub allowed: &'a [String],
    pub disallowed: &'a [String],
    pub denied: &'a [String],
}

/// Returns a command that runs unchanged in `sh`: it ends the wait, continues the job or shows why
/// it failed. A comment after ` # ` explains it or names an alternative. `None` for a completed
/// job. A caller that runs one hint after the other comes to a completed job, or to a comment that
/// says what a person must do.
pub(crate) fn hint(facts: &HintFacts<'_>) -> Option<String> {
    let id = facts.job_id;
    match facts.end_state.status {
        Status::Completed => None,
        Status::Queued | Status::Starting | Status::Running => Some(wait(id, facts.keep_alive)),
        Status::Blocked => Some(match facts.blocked {
            Some(blocked) => answer::command(id, blocked),
            None => full_status(id),
        }),
        Status::Idle => Some(format!(
            "claudejob result {id}  # then: claudejob finish {id}, \
             or: claudejob send {id} --message TEXT"
        )),
        Status::Killed if facts.end_state.is_resumable() => {
            Some(format!("claudejob resume {id}  # if it was killed by mistake"))
        }
        Status::Killed => Some(format!("claudejob logs {id}")),
        Status::Failed => Some(failure::command(facts)),
    }
}

/// Returns the command that waits for a job. A kept-alive one does not end by itself after its
/// answer, so the wait is bounded.
pub(crate) fn wait(id: &JobId, keep_alive: bool) -> String {
    if keep_alive {
        format!("{}  # it stays alive after its answer", bounded_wait(id))
    } else {
        format!("claudejob wait {id}")
    }
}

/// Returns the command that waits for a job for which something else may be needed.
pub(crate) fn bounded_wait(id: &JobId) -> String {
    format!("claudejob wait {id} --timeout 10m")
}

/// Returns a hint with another command after its own one, before its comment.
pub(crate) fn followed_by(hint: &str, next: &str) -> String {
    let (command, comment) = split_comment(hint);
    format!("{command} && {next}{comment}")
}

/// Splits a hint into its command and its comment, which begins with two spaces and may be empty.
fn split_comment(hint: &str) -> (&str, &str) {
    let comment = unquoted(hint).find(|at| hint.as_bytes()[*at..].starts_with(b"  # "));
    hint.split_at(comment.unwrap_or(hint.len()))
}

/// Returns a command that lets a paused or frozen job continue.
pub(crate) fn unpause(id: &JobId) -> String {
    format!("claudejob unpause {id}")
}

/// Returns a command that shows a job's whole request.
pub(crate) fn full_status(id: &JobId) -> String {
    format!("claudejob status {id} --full")
}

impl Record {
    /// Returns the command to run next. See [`hint`].
    pub(crate) fn hint(&self) -> Option<String> {
        if self.times.frozen_at.is_some() {
            return Some(unpause(&self.job_id));
        }
        hint(&HintFacts {
            job_id: &self.job_id,
            end_state: self.end_state(),
            resumable_at: self.limit.resumable_at,
            blocked: self.blocked.as_ref(),
            keep_alive: self.spec.keep_alive.enabled,
            limits: self.spec.limits.clone(),
            tools: ToolAccess {
                allowed: &self.spec.options.allowed_tools,
                disallowed: &self.spec.options.disallowed_tools,
                denied: &self.progress.denied_tools,
            },
        })
    }
}
