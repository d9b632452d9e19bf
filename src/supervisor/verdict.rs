//! The verdict: how a job ended, from all the evidence.
//!
//! Neither the exit code nor a result's `subtype` tells success alone: the CLI calls a refused
//! request `success`, exits with 0 after an interrupt, and can die after a turn that was fine.

use serde_json::Value;

use super::{Evidence, StopReason, Supervisor};
use crate::job::{Exit, Reason, Timestamp, TurnFailure, Verdict};
use crate::stream::{Digest, McpServer, TurnResult, is_spend_limit};
use crate::text::{one_line, plural, signal_name};

/// Arguments by which a denied tool call is named; `summary` is this program's own, where only a
/// tool's result has told of the denial.
const ARGUMENTS: [&str; 6] = ["command", "file_path", "notebook_path", "path", "url", "summary"];
/// Characters of an MCP server's name or state.
const SERVER: usize = 100;
/// Characters of a denied tool call's argument.
const ARGUMENT: usize = 100;
/// Characters of a sentence that is taken over from claude.
const SENTENCE: usize = 500;

impl Supervisor {
    pub(super) fn reach_verdict(&self, evidence: &Evidence<'_>) -> Verdict {
        if let Some(error) = &self.launch_error {
            return Verdict::failed(Reason::LaunchFailed, error.clone());
        }
        if let (Some(error), None) = (&self.dependency_error, self.stop_reason) {
            return Verdict::failed(Reason::DependencyFailed, error.clone());
        }
        match self.stop_reason {
            Some(StopReason::Kill) => return Verdict::Killed,
            Some(StopReason::Terminate) => {
                return Verdict::failed(
                    Reason::Terminated,
                    "the worker was told to shut down (SIGTERM) before the job was done",
                );
            }
            Some(StopReason::Timeout)
                if !self.digest.turn_open && self.digest.schedule.is_pending() =>
            {
                let limit = self.record.spec.timeout_ms.unwrap_or_default();
                let limit = humantime::format_duration(std::time::Duration::from_millis(limit));
                let missed = wakeup_missed(self.digest.schedule.next_due());
                return Verdict::failed(
                    Reason::WakeupMissed,
                    format!("{missed}: the job's timeout of {limit} ran out before"),
                );
            }
            Some(StopReason::Timeout) => {
                let limit = self.record.spec.timeout_ms.unwrap_or_default();
                let limit = humantime::format_duration(std::time::Duration::from_millis(limit));
                return Verdict::failed(
                    Reason::Timeout,
                    format!("the job was not done within its timeout of {limit}"),
                );
            }
            Some(StopReason::Stall) => {
                let silence = self.stalled_for.unwrap_or_else(|| self.silence_allowed());
                let limit = humantime::format_duration(silence);
                return Verdict::failed(
                    Reason::Stalled,
                    format!("nothing was heard of claude for {limit}"),
                );
            }
            Some(StopReason::Auth) => {
                return Verdict::failed(
                    Reason::Auth,
                    "the API refused the login three times in a row (authentication_failed)",
                );
            }
            Some(StopReason::Release { .. }) | None => {}
        }
        let told = self.of_stream(evidence);
        if self.keep_alive.finished && !self.digest.turn_open && !self.torn {
            return match (told, &self.record.last_failure) {
                // Nothing is left of what was asked; what was interrupted was taken back.
                (Some(told), _) if told.reason() == Some(Reason::Interrupted) => Verdict::Completed,
                (Some(told), _) => told,
                // A claude before this one took the last turn.
                (None, Some(failure)) => Verdict::failed(failure.reason, failure.error.clone()),
                (None, None) => Verdict::Completed,
            };
        }
        told.unwrap_or_else(|| self.without_result(evidence))
    }

    /// What the last result tells; `None` where there is none.
    pub(super) fn of_stream(&self, evidence: &Evidence<'_>) -> Option<Verdict> {
        let last = self.digest.last.as_ref()?;
        let success = !last.is_error && last.subtype == "success";
        if success && self.is_cut_off() {
            return Some(self.without_result(evidence));
        }
        if success && let Some(due) = self.digest.schedule.missing() {
            return Some(Verdict::failed(Reason::WakeupMissed, wakeup_missed(due)));
        }
        Some(self.of_turn(last, evidence.stderr))
    }

    /// How the last turn failed, taken by itself; `None` if it had its answer, or was interrupted.
    pub(super) fn failure_of_turn(&self) -> Option<TurnFailure> {
        match self.of_turn(self.digest.last.as_ref()?, "") {
            Verdict::Failed { reason: Reason::Interrupted, .. } => None,
            Verdict::Failed { reason, error } => Some(TurnFailure { reason, error }),
            _ => None,
        }
    }

    /// What a result tells of the turn that it ended.
    fn of_turn(&self, last: &TurnResult, stderr: &str) -> Verdict {
        let refused = last.api_error_status.is_some_and(|status| status >= 400);
        if last.is_error || last.subtype != "success" || refused {
            of_error(last, &self.digest, stderr)
        } else {
            self.of_success(last)
        }
    }

    /// Whether claude went away before it was done.
    fn is_cut_off(&self) -> bool {
        let digest = &self.digest;
        // The last thing heard is what counts: a turn that began and has no result, a line that
        // broke off, or background work that nobody called off mean that claude died before it
        // was done, however well the turn before had ended.
        let crashed = self.record.exit.is_some_and(|exit| exit.signal().is_some());
        digest.turn_open
            || self.torn
            || (crashed && self.talk.is_waiting())
            || digest.has_queued()
            || (!self.input_closed && digest.outstanding() > 0)
            // Claude may end without that turn by itself; whoever ends it cuts it off.
            || (digest.follow_up_due && (!self.input_closed || crashed))
    }

    fn of_success(&self, last: &TurnResult) -> Verdict {
        let (digest, spec) = (&self.digest, &self.record.spec);
        if is_aborted(last) {
            return interrupted();
        }
        if digest.cli_error.is_some() {
            // The last word of the turn was the CLI's own, and it named an error.
            return Verdict::failed(of_api(last, digest), sentence_of(last));
        }
        if let Some(why) = &digest.rejected {
            let why = one_line(why, SENTENCE);
            let why = if why.is_empty() { "the CLI does not say why" } else { &why };
            return Verdict::failed(
                Reason::PromptRejected,
                format!("the model was not asked: {why}"),
            );
        }
        if spec.json_schema.is_some() && digest.structured_output.is_none() {
            return Verdict::failed(
                Reason::InvalidOutput,
                "claude gave no output that fits the JSON schema",
            );
        }
        let before = self.record.earlier.denied > 0;
        if spec.fail_on_denial && (before || !digest.denials.is_empty()) {
            let calls: Vec<String> = self.denials().map(denied_call).collect();
            let calls =
                if calls.is_empty() { "a tool, in an earlier attempt" } else { &calls.join(", ") };
            return Verdict::failed(
                Reason::PermissionDenied,
                format!("claude was denied: {}", one_line(calls, SENTENCE)),
            );
        }
        if spec.fail_on_mcp && digest.missing_mcp_servers().next().is_some() {
            let servers: Vec<String> = digest.missing_mcp_servers().map(missing).collect();
            let error = servers.join("; ");
            return Verdict::failed(Reason::McpFailed, one_line(&error, SENTENCE));
        }
        if digest.structured_output.is_none() && !self.has_answer() {
            return Verdict::failed(
                Reason::NoAnswer,
                "claude ended its turn without an answer: the model said nothing",
            );
        }
        Verdict::Completed
    }

    fn without_result(&self, evidence: &Evidence<'_>) -> Verdict {
        let complaint = first_line(evidence.stderr);
        let exit = self.record.exit;
        let failed = exit.is_some_and(|exit| exit.code.is_some_and(|code| code != 0));
        // Who was ended from outside did not refuse anything, whatever it had said before.
        let refused = failed && exit.and_then(Exit::signal).is_none();
        if let (true, false, Some(complaint)) = (refused, self.digest.began, &complaint) {
            return Verdict::failed(Reason::ClaudeRefused, complaint.clone());
        }
        let how = match exit {
            None => "claude did not end".to_owned(),
            Some(exit) => format!("claude {}", ending(exit)),
        };
        let before = if self.digest.results > 0 || self.digest.turn_open {
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

    /// Warns of MCP servers that claude cannot use; of those that may still connect only when
    /// `is_over`.
    pub(super) fn warn_of_mcp_servers(&mut self, is_over: bool) {
        for server in self.digest.missing_mcp_servers() {
            if is_over || !server.is_pending() {
                self.record.warn(missing(server));
            }
        }
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
            let lines = plural(usize::try_from(digest.undecodable).unwrap_or(usize::MAX), "line");
            warnings.push(format!("claude's output holds {lines} that are no events"));
        }
        // Where nobody here sent a signal, the way in which claude ended is worth a word.
        let odd = self.record.exit.filter(|exit| exit.code != Some(0));
        if let (Verdict::Completed, Some(exit)) = (verdict, odd) {
            warnings.push(format!("claude {} after its result", ending(exit)));
        }
        warnings
    }
}

fn of_error(last: &TurnResult, digest: &Digest, stderr: &str) -> Verdict {
    let sentence = sentence_of(last);
    if digest.turn_open {
        // Another turn had begun: what it was about is not known.
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
        _ => of_api(last, digest),
    };
    Verdict::failed(reason, sentence)
}

/// What a result says of itself.
fn sentence_of(last: &TurnResult) -> String {
    if let Some(text) = last.sentence() {
        return one_line(&text, SENTENCE);
    }
    let status = last.api_error_status.map(|status| format!("the API answered {status}"));
    let reason = last.terminal_reason.as_deref().or(Some(last.subtype.as_str()));
    // What calls itself a success explains no failure.
    let reason = reason.filter(|word| !matches!(*word, "" | "success" | "completed"));
    let how = status.or(reason.map(|word| one_line(word, 60)));
    let how = how.map(|how| format!(" ({how})")).unwrap_or_default();
    format!("claude ended its turn with an error and gave no message{how}")
}

fn wakeup_missed(due: Option<Timestamp>) -> String {
    match due {
        Some(due) => format!("the wake-up that the agent scheduled for {due} did not come"),
        None => "the cron task that the agent scheduled did not come".to_owned(),
    }
}

fn is_aborted(last: &TurnResult) -> bool {
    last.terminal_reason.as_deref().is_some_and(|why| why.starts_with("aborted"))
}

fn interrupted() -> Verdict {
    Verdict::failed(Reason::Interrupted, "the turn was interrupted")
}

fn of_api(last: &TurnResult, digest: &Digest) -> Reason {
    match (last.api_error_status, digest.cli_error.as_deref()) {
        (Some(401 | 403), _) | (_, Some("authentication_failed")) => Reason::Auth,
        (Some(429), _) | (_, Some("rate_limit")) => Reason::RateLimit,
        (Some(503 | 529), _) | (_, Some("overloaded")) => Reason::Overloaded,
        // A subscription's limit can end a turn without a status.
        (None, None) if digest.rate_limited => Reason::RateLimit,
        _ if last.sentence().is_some_and(|text| is_spend_limit(&text)) => Reason::RateLimit,
        _ => Reason::ApiError,
    }
}

/// Whether the conversation does not fit the model's window, by the CLI's own check or the API's.
fn is_too_long(last: &TurnResult) -> bool {
    if matches!(last.terminal_reason.as_deref(), Some("prompt_too_long" | "blocking_limit")) {
        return true;
    }
    let beginning: String = last.sentence().unwrap_or_default().chars().take(100).collect();
    let beginning = beginning.to_ascii_lowercase();
    beginning.starts_with("prompt is too long") || beginning.contains("prompt is too long:")
}

/// A denied tool call: the tool and its main argument.
fn denied_call(denial: &Value) -> String {
    let tool = denial.get("tool_name").and_then(Value::as_str).unwrap_or("a tool");
    let input = denial.get("tool_input");
    let argument = ARGUMENTS.iter().find_map(|name| input?.get(*name)?.as_str());
    match argument.map(|argument| one_line(argument, ARGUMENT)) {
        Some(argument) if !argument.is_empty() => format!("{tool} {argument}"),
        _ => tool.to_owned(),
    }
}

/// An MCP server that claude cannot use.
fn missing(server: &McpServer) -> String {
    let name = one_line(&server.name, SERVER);
    match server.status.as_str() {
        "pending" => format!("MCP server {name} was still connecting when claude listed it last"),
        "needs-auth" => format!("MCP server {name} needs a login (needs-auth)"),
        "" => format!("MCP server {name} is not connected"),
        status => format!("MCP server {name} is not connected ({})", one_line(status, SERVER)),
    }
}

/// What claude says on stderr of permission rules that it does not follow, because the folder in
/// which it found them is not trusted.
pub(super) fn ignored_rules(stderr: &str) -> impl Iterator<Item = String> {
    let tells = |line: &&str| {
        line.starts_with("Ignoring ") && line.contains("permissions.") && line.contains("trust")
    };
    stderr.lines().filter(tells).map(|line| format!("claude: {}", one_line(line, SENTENCE)))
}

fn first_line(stderr: &str) -> Option<String> {
    stderr.lines().map(|line| one_line(line, SENTENCE)).find(|line| !line.is_empty())
}

/// How a process ended, fit to be read after its name.
fn ending(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (Some(code), None) => match exit.signal() {
            Some(signal) => format!("was ended by {} (exit code {code})", signal_name(signal)),
            None => format!("ended with exit code {code}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
