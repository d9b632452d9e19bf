//! The verdict: how a job ended, by all the evidence.
//!
//! Neither the exit code nor the `subtype` of a result proves a success: the CLI calls a refused
//! request `success`, exits with 0 after an interrupt, and can die after a successful turn.

use std::time::Duration;

use serde_json::Value;

use super::{Evidence, StartFailure, StopReason, Supervisor};
use crate::job::{Exit, PREPARATION_FAILED, Reason, Timestamp, TurnFailure, Verdict};
use crate::stream::{Digest, McpServer, TurnResult, is_spend_limit};
use crate::text::{last_line, one_line, plural, signal_name};

/// Arguments that name a denied tool call. `summary` is written by this program if only a tool
/// result reported the denial.
const MAIN_ARGUMENTS: [&str; 6] =
    ["command", "file_path", "notebook_path", "path", "url", "summary"];
const MAX_SERVER_CHARS: usize = 100;
/// Number of denied tools that a record names.
const MAX_DENIED_TOOLS: usize = 5;
const MAX_ARGUMENT_CHARS: usize = 100;
/// Characters of a sentence that is quoted from claude.
const MAX_SENTENCE_CHARS: usize = 500;

impl Supervisor {
    pub(super) fn reach_verdict(&self, evidence: &Evidence<'_>) -> Verdict {
        match (&self.attempt.start_failure, self.stop.reason) {
            (Some(StartFailure::Launch(error)), _) => {
                return Verdict::failed(Reason::LaunchFailed, error.clone());
            }
            (Some(StartFailure::Dependency(error)), None) => {
                return Verdict::failed(Reason::DependencyFailed, error.clone());
            }
            _ => {}
        }
        if let Some(reason) = self.stop.reason
            && let Some(verdict) = self.stop_verdict(reason)
        {
            return verdict;
        }
        let verdict = self.stream_verdict(evidence);
        if self.keep_alive.is_finished() && !self.digest.is_turn_open() && !self.attempt.torn {
            return match (verdict, &self.record.progress.last_failure) {
                // No request is open; an interrupted one was withdrawn.
                (Some(verdict), _) if verdict.reason() == Some(Reason::Interrupted) => {
                    Verdict::Completed
                }
                (Some(verdict), _) => verdict,
                // An earlier claude took the last turn.
                (None, Some(failure)) => Verdict::failed(failure.reason, failure.error.clone()),
                (None, None) => Verdict::Completed,
            };
        }
        verdict.unwrap_or_else(|| self.verdict_without_result(evidence))
    }

    /// Returns the verdict on a job that was stopped; `None` if the reason does not decide it.
    fn stop_verdict(&self, reason: StopReason) -> Option<Verdict> {
        let verdict = match reason {
            StopReason::Release { .. } => return None,
            StopReason::Kill => Verdict::Killed,
            StopReason::Terminate => Verdict::failed(
                Reason::Terminated,
                "the worker was asked to shut down (SIGTERM) before the job was done",
            ),
            StopReason::Timeout => self.timeout_verdict(),
            StopReason::Stall { limit } => {
                let limit = humantime::format_duration(limit);
                Verdict::failed(Reason::Stalled, format!("claude was silent for {limit}"))
            }
            StopReason::Auth => Verdict::failed(
                Reason::Auth,
                "the API refused the login three times in a row (authentication_failed)",
            ),
        };
        Some(verdict)
    }

    fn timeout_verdict(&self) -> Verdict {
        let limit = self.record.spec.limits.timeout_ms.unwrap_or_default();
        let limit = humantime::format_duration(Duration::from_millis(limit));
        if !self.digest.is_turn_open() && self.digest.schedule.is_pending() {
            let missed = wakeup_missed(self.digest.schedule.next_due());
            return Verdict::failed(
                Reason::WakeupMissed,
                format!("{missed}: the job's timeout of {limit} ran out before"),
            );
        }
        Verdict::failed(
            Reason::Timeout,
            format!("the job was not done within its timeout of {limit}"),
        )
    }

    /// Returns the verdict by the last result; `None` if there is none.
    pub(super) fn stream_verdict(&self, evidence: &Evidence<'_>) -> Option<Verdict> {
        let last = self.digest.last.as_ref()?;
        let success = !last.is_error && last.subtype == "success";
        if success && self.is_cut_off() {
            return Some(self.verdict_without_result(evidence));
        }
        if success && let Some(due) = self.digest.schedule.missing() {
            return Some(Verdict::failed(Reason::WakeupMissed, wakeup_missed(due)));
        }
        Some(self.turn_verdict(last, evidence.stderr))
    }

    /// Returns how the last turn failed, regardless of the job; `None` if it was answered or
    /// interrupted.
    pub(super) fn failure_of_turn(&self) -> Option<TurnFailure> {
        match self.turn_verdict(self.digest.last.as_ref()?, "") {
            Verdict::Failed { reason: Reason::Interrupted, .. } => None,
            Verdict::Failed { reason, error } => Some(TurnFailure { reason, error }),
            _ => None,
        }
    }

    /// Returns the verdict on the turn that a result ends.
    fn turn_verdict(&self, last: &TurnResult, stderr: &str) -> Verdict {
        let refused = last.api_error_status.is_some_and(|status| status >= 400);
        if last.is_error || last.subtype != "success" || refused {
            error_verdict(last, &self.digest, stderr)
        } else {
            self.success_verdict(last)
        }
    }

    /// Whether claude ended before it was done.
    fn is_cut_off(&self) -> bool {
        let digest = &self.digest;
        // The last event counts: an open turn, a truncated line, or background work that was not
        // cancelled mean that claude died before it was done, whatever the result of the turn
        // before.
        let crashed = self.record.ending.exit.is_some_and(|exit| exit.signal().is_some());
        digest.is_turn_open()
            || self.attempt.torn
            || (crashed && self.conversation.is_waiting())
            || digest.has_queued()
            || (!self.attempt.input_closed && digest.outstanding() > 0)
            // Claude may exit without that turn by itself; stopped from outside, it is cut off.
            || (digest.is_follow_up_due() && (!self.attempt.input_closed || crashed))
    }

    fn success_verdict(&self, last: &TurnResult) -> Verdict {
        let (digest, spec) = (&self.digest, &self.record.spec);
        if is_aborted(last) {
            return interrupted();
        }
        if digest.cli_error.is_some() {
            // The turn ended with a message of the CLI that named an error.
            return Verdict::failed(api_reason(last, digest), sentence_of(last));
        }
        if let Some(why) = &digest.rejected {
            let why = one_line(why, MAX_SENTENCE_CHARS);
            let why = if why.is_empty() { "the CLI does not say why" } else { &why };
            return Verdict::failed(
                Reason::PromptRejected,
                format!("the model was not asked: {why}"),
            );
        }
        if spec.options.json_schema.is_some() && digest.structured_output.is_none() {
            return Verdict::failed(
                Reason::InvalidOutput,
                "claude gave no output that fits the JSON schema",
            );
        }
        let before = self.record.attempt.earlier.denied > 0;
        if spec.fail_on.denial && (before || !digest.denials.is_empty()) {
            let calls: Vec<String> = self.denials().map(denied_call).collect();
            let calls =
                if calls.is_empty() { "a tool, in an earlier attempt" } else { &calls.join(", ") };
            return Verdict::failed(
                Reason::PermissionDenied,
                format!("claude was denied: {}", one_line(calls, MAX_SENTENCE_CHARS)),
            );
        }
        if spec.fail_on.mcp && digest.missing_mcp_servers().next().is_some() {
            let servers: Vec<String> = digest.missing_mcp_servers().map(mcp_warning).collect();
            let error = servers.join("; ");
            return Verdict::failed(Reason::McpFailed, one_line(&error, MAX_SENTENCE_CHARS));
        }
        if digest.structured_output.is_none() && !self.has_answer() {
            return Verdict::failed(
                Reason::NoAnswer,
                "claude ended its turn without an answer: the model said nothing",
            );
        }
        Verdict::Completed
    }

    fn verdict_without_result(&self, evidence: &Evidence<'_>) -> Verdict {
        let complaint = first_line(evidence.stderr);
        let exit = self.record.ending.exit;
        let code = exit.and_then(|exit| exit.code);
        if code == Some(i32::from(PREPARATION_FAILED))
            && self.record.spec.needs_preparation()
            && !self.digest.began
        {
            let why = match last_line(evidence.stderr) {
                "" => "its preparation failed".to_owned(),
                line => one_line(line, MAX_SENTENCE_CHARS),
            };
            return Verdict::failed(Reason::LaunchFailed, why);
        }
        let failed = exit.is_some_and(|exit| exit.code.is_some_and(|code| code != 0));
        // A claude that was ended from outside has refused nothing, whatever it wrote before.
        let refused = failed && exit.and_then(Exit::signal).is_none();
        if let (true, false, Some(complaint)) = (refused, self.digest.began, &complaint) {
            return Verdict::failed(Reason::ClaudeRefused, complaint.clone());
        }
        let how = match exit {
            None => "claude did not end".to_owned(),
            Some(exit) => format!("claude {}", exit_text(exit)),
        };
        let before = if self.digest.results > 0 || self.digest.is_turn_open() {
            "in the middle of its work"
        } else {
            "without a result"
        };
        let complaint = complaint.map(|line| format!(": {line}")).unwrap_or_default();
        let killed = exit.and_then(Exit::signal) == Some(9);
        let memory = if evidence.out_of_memory && killed {
            ", while the machine was ending processes for lack of memory"
        } else {
            ""
        };
        Verdict::failed(Reason::NoResult, format!("{how} {before}{memory}{complaint}"))
    }

    /// Warns of MCP servers that claude cannot use; of pending ones only if `is_over`.
    pub(super) fn warn_of_mcp_servers(&mut self, is_over: bool) {
        for server in self.digest.missing_mcp_servers() {
            if is_over || !server.is_pending() {
                self.record.warn(mcp_warning(server));
            }
        }
    }

    /// Records the tools whose denial made the job fail.
    pub(super) fn note_denied_tools(&mut self, verdict: &Verdict) {
        if verdict.reason() != Some(Reason::PermissionDenied) {
            return;
        }
        let mut names: Vec<String> = Vec::new();
        for denial in self.denials() {
            // A name that a shell or `--allowed-tools` would take apart is not a tool's.
            if let Some(name) = denial.get("tool_name").and_then(Value::as_str)
                && names.len() < MAX_DENIED_TOOLS
                && name.len() <= MAX_SERVER_CHARS
                && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
        }
        self.record.progress.denied_tools = names;
    }

    pub(super) fn closing_warnings(&self, verdict: &Verdict) -> Vec<String> {
        let digest = &self.digest;
        let mut warnings = Vec::new();
        let stopped = digest.tasks_stopped + digest.outstanding();
        if stopped > 0 && digest.results > 0 {
            let tasks = plural(stopped, "background task");
            warnings.push(format!("{tasks} stopped before the work was done"));
        }
        let denied = self.denials().count();
        if denied > 0 && *verdict == Verdict::Completed {
            let named: Vec<String> = self.denials().map(denied_call).collect();
            let named = one_line(&named.join(", "), 200);
            let calls = plural(denied, "tool call");
            warnings.push(format!("denied: {calls} ({named})"));
        }
        if let (Some(said), Verdict::Completed) = (&digest.command_failed, verdict) {
            warnings.push(format!("the command reports a failure: {}", one_line(said, 150)));
        }
        if digest.undecodable > 0 {
            let lines = usize::try_from(digest.undecodable).unwrap_or(usize::MAX);
            let lines = plural(lines, "undecodable line");
            warnings.push(format!("claude's output contains {lines}"));
        }
        // This program sent no signal, so an unusual exit is worth a warning.
        if let (Verdict::Completed, Some(exit)) = (verdict, self.record.ending.exit)
            && exit.code != Some(0)
        {
            warnings.push(format!("claude {} after its result", exit_text(exit)));
        }
        warnings
    }
}

fn error_verdict(last: &TurnResult, digest: &Digest, stderr: &str) -> Verdict {
    let sentence = sentence_of(last);
    if digest.is_turn_open() {
        // Another turn had begun: its topic is unknown.
        return Verdict::failed(
            Reason::NoResult,
            format!("claude ended in a turn after: {sentence}"),
        );
    }
    let reason = match last.subtype.as_str() {
        "error_max_turns" => Reason::MaxTurns,
        "error_max_budget_usd" => Reason::MaxBudget,
        "error_max_structured_output_retries" => Reason::InvalidOutput,
        _ if is_aborted(last) => return interrupted(),
        "error_during_execution" if !digest.began => {
            let complaint = first_line(stderr).unwrap_or(sentence);
            return Verdict::failed(Reason::ClaudeRefused, complaint);
        }
        _ if is_too_long(last) => Reason::PromptTooLong,
        _ => api_reason(last, digest),
    };
    Verdict::failed(reason, sentence)
}

/// Returns the sentence of a result on its failure.
fn sentence_of(last: &TurnResult) -> String {
    if let Some(text) = last.sentence() {
        return one_line(&text, MAX_SENTENCE_CHARS);
    }
    let status = last.api_error_status.map(|status| format!("the API answered {status}"));
    let how = match (status, last.terminal_reason.as_deref().unwrap_or(&last.subtype)) {
        (Some(status), _) => format!(" ({status})"),
        // A reason that means success explains no failure.
        (None, "" | "success" | "completed") => String::new(),
        (None, reason) => format!(" ({})", one_line(reason, 60)),
    };
    format!("claude ended its turn with an error and gave no message{how}")
}

fn wakeup_missed(due: Option<Timestamp>) -> String {
    match due {
        Some(due) => format!("the wake-up that the agent scheduled for {due} did not come"),
        None => "the cron task that the agent scheduled did not come".to_owned(),
    }
}

pub(super) fn is_aborted(last: &TurnResult) -> bool {
    last.terminal_reason.as_deref().is_some_and(|why| why.starts_with("aborted"))
}

fn interrupted() -> Verdict {
    Verdict::failed(Reason::Interrupted, "the turn was interrupted")
}

fn api_reason(last: &TurnResult, digest: &Digest) -> Reason {
    match (last.api_error_status, digest.cli_error.as_deref()) {
        (Some(401 | 403), _) | (_, Some("authentication_failed")) => Reason::Auth,
        (Some(429), _) | (_, Some("rate_limit")) => Reason::RateLimit,
        (Some(503 | 529), _) | (_, Some("overloaded")) => Reason::Overloaded,
        (None, None) if digest.is_rate_limited() => Reason::RateLimit,
        _ if last.sentence().is_some_and(|text| is_spend_limit(&text)) => Reason::RateLimit,
        _ => Reason::ApiError,
    }
}

/// Whether the conversation exceeds the context window, by the check of the CLI or of the API.
fn is_too_long(last: &TurnResult) -> bool {
    if matches!(last.terminal_reason.as_deref(), Some("prompt_too_long" | "blocking_limit")) {
        return true;
    }
    let beginning: String = last.sentence().unwrap_or_default().chars().take(100).collect();
    let beginning = beginning.to_ascii_lowercase();
    beginning.starts_with("prompt is too long") || beginning.contains("prompt is too long:")
}

/// Returns the tool and the main argument of a denied call.
fn denied_call(denial: &Value) -> String {
    let tool = denial.get("tool_name").and_then(Value::as_str).unwrap_or("a tool");
    let input = denial.get("tool_input");
    let argument = MAIN_ARGUMENTS.iter().find_map(|name| input?.get(*name)?.as_str());
    match argument.map(|argument| one_line(argument, MAX_ARGUMENT_CHARS)) {
        Some(argument) if !argument.is_empty() => format!("{tool} {argument}"),
        _ => tool.to_owned(),
    }
}

/// Returns a warning of an MCP server that claude cannot use.
fn mcp_warning(server: &McpServer) -> String {
    let name = one_line(&server.name, MAX_SERVER_CHARS);
    match server.status.as_str() {
        "pending" => format!("MCP server {name} was still connecting when claude listed it last"),
        "needs-auth" => format!("MCP server {name} needs a login (needs-auth)"),
        "" => format!("MCP server {name} is not connected"),
        status => {
            format!("MCP server {name} is not connected ({})", one_line(status, MAX_SERVER_CHARS))
        }
    }
}

/// Returns warnings of permission rules that claude ignores because their directory is not trusted.
pub(super) fn ignored_rules(stderr: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for line in stderr.lines() {
        if line.starts_with("Ignoring ") && line.contains("permissions.") && line.contains("trust")
        {
            warnings.push(format!("claude: {}", one_line(line, MAX_SENTENCE_CHARS)));
        }
    }
    warnings
}

fn first_line(stderr: &str) -> Option<String> {
    stderr.lines().map(|line| one_line(line, MAX_SENTENCE_CHARS)).find(|line| !line.is_empty())
}

/// Returns how a process ended, as a text that follows its name.
fn exit_text(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (Some(code), None) => match exit.signal() {
            Some(signal) => format!("was ended by {} (exit code {code})", signal_name(signal)),
            None => format!("ended with exit code {code}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
