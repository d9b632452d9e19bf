//! The beginning and the end of a turn.

use serde_json::Value;

use super::activity::SpokenText;
use super::{
    Digest, DigestChange, FinalAnswer, MAX_DENIALS_BYTES, MAX_NAME_CHARS, MAX_PREVENTED_CHARS,
    MAX_TRACKED, OpenTurn, add_bounded, is_blank,
};
use crate::job::Timestamp;
use crate::stream::event::denied;
use crate::stream::{Block, TurnResult};
use crate::text::{clip, sum_usd};

impl Digest {
    /// Sets the session id if it is valid: it becomes an argument of claude.
    pub(super) fn set_session(&mut self, id: Option<&str>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_id = |id: &&str| {
            (1..=64).contains(&id.len()) && id.chars().all(plain) && !id.starts_with('-')
        };
        if let Some(id) = id.filter(is_id) {
            self.session_id = Some(id.to_owned());
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.open_turn();
        self.turn.is_announced = false;
        self.follow_up_due = false;
    }

    /// Opens a turn, unless one is open. Errors of the CLI count only for their own turn.
    pub(super) fn open_turn(&mut self) {
        if !std::mem::replace(&mut self.turn_open, true) {
            self.cli_error = None;
            self.turn = OpenTurn::default();
        }
    }

    /// Handles that a message or a scheduled prompt was queued, has begun, or has ended.
    pub(super) fn command_changed(
        &mut self,
        uuid: &str,
        state: &str,
        wakeup_source: Option<&str>,
        now: Timestamp,
    ) {
        let uuid = clip(uuid, MAX_NAME_CHARS);
        match state {
            "queued" => {
                if self.queued.len() < MAX_TRACKED {
                    self.queued.insert(uuid);
                }
            }
            "started" => {
                self.queued.remove(&uuid);
                let begins = !self.turn_open;
                self.begin_turn();
                self.turn.is_announced = begins;
                if let Some(source) = wakeup_source {
                    self.turn.is_scheduled = true;
                    self.schedule.fired(source, now);
                }
            }
            _ => {
                self.queued.remove(&uuid);
                // It was dropped: no result follows.
                if self.turn_open && self.turn.is_announced {
                    self.turn_open = false;
                }
            }
        }
    }

    /// Handles an accepted message.
    pub(super) fn message_taken(&mut self, blocks: &[Block<'_>]) {
        self.turn.has_message = true;
        for block in blocks {
            if let Block::Text(text) = block
                && let Some(output) = command_output(&text.whole())
            {
                // Output of a command, although it has the form of a message.
                self.turn.command_output = Some(output);
                return;
            }
        }
        if self.own_messages > 0 {
            self.own_messages -= 1;
            return;
        }
        self.start_new_request();
    }

    /// Begins a new request: earlier answers do not answer it.
    pub(crate) fn start_new_request(&mut self) {
        self.has_new_request = true;
        self.answer = None;
        self.structured_output = None;
        self.said = SpokenText::default();
        self.schedule.forget_missed();
    }

    pub(super) fn end_turn(
        &mut self,
        result: &TurnResult,
        now: Timestamp,
        change: &mut DigestChange,
    ) {
        // The result may be the only event of its turn.
        self.open_turn();
        change.turn_ended = true;
        let turn = std::mem::take(&mut self.turn);
        let first = self.results == 0;
        self.results += 1;
        self.turn_open = false;
        let follows_task = std::mem::take(&mut self.follow_up_due) || result.origin.is_some();
        if !first && !turn.has_message && !turn.is_scheduled && !follows_task {
            self.schedule.fired_unannounced(now);
        }
        self.ended_turns = add_bounded(self.ended_turns, result.num_turns);
        self.open_turns = 0;
        self.message_id = None;
        self.duration_ms = add_bounded(self.duration_ms, result.duration_ms);
        self.tools.clear();
        self.tasks.retain(|_, task| task.backgrounded != Some(false));
        self.close_requests(|_, _| true, change);
        self.set_session(result.session_id.as_deref());
        if !result.is_error {
            self.end_limit(change);
        }
        let cost = self.add_cost(result);
        // 2.1.197 does not count a request that it aborted.
        let is_broken_off = result.terminal_reason.as_deref() == Some("aborted_streaming");
        self.has_uncounted_request |= is_broken_off && result.cost_since_last_usd.is_none();
        let success = !result.is_error && result.subtype == "success";
        self.rejected = None;
        self.command_failed = None;
        if success {
            let outcome = turn.command_outcome.as_deref();
            // A custom command is a prompt for the model; a command of the CLI is an answer by
            // itself.
            let is_answer = match result.local_command.as_deref() {
                None => false,
                Some("custom") => outcome.is_none(),
                Some(_) => outcome.is_none_or(|outcome| outcome == "failed"),
            };
            let asked_nothing = result.used_no_tokens && cost == 0.0 && !turn.model_spoke;
            // An empty result of a turn that the CLI began itself means nothing.
            let began_itself = result.origin.is_some() || turn.is_scheduled;
            let says_nothing = result.sentence().is_none() && turn.prevented.is_none();
            if began_itself && says_nothing {
                // Nothing to report.
            } else if !is_answer && (asked_nothing || outcome.is_some()) {
                change.unacknowledged_rejection = !turn.has_message && !began_itself;
                let why = result.sentence().or(turn.prevented).or(turn.command_output.clone());
                self.rejected = Some(why.or_else(|| turn.said.text()).unwrap_or_default());
            } else if outcome == Some("failed") {
                self.command_failed = Some(turn.said.text().unwrap_or_default());
            }
        }
        // The text of an error is not an answer; the verdict has it.
        if success && self.rejected.is_none() {
            if result.structured_output.is_some() {
                self.structured_output.clone_from(&result.structured_output);
            }
            let text = result.result.clone().filter(|text| !is_blank(text));
            let answer = match text {
                Some(text) => Some(FinalAnswer { text, omitted: result.omitted }),
                None => {
                    let said = turn.said.text().or(turn.command_output);
                    said.map(|text| FinalAnswer { text, omitted: 0 })
                }
            };
            if answer.is_some() {
                self.answer = answer;
                self.said = SpokenText::default();
            }
        }
        for denial in &result.permission_denials {
            if let Some(id) = denial.get("tool_use_id").and_then(Value::as_str) {
                self.denied_calls.remove(&clip(id, MAX_NAME_CHARS));
            }
        }
        let unlisted = std::mem::take(&mut self.denied_calls);
        for denial in result.permission_denials.iter().chain(unlisted.values()) {
            let id = denial.get("tool_use_id").and_then(Value::as_str);
            let is_undecided = id.is_some_and(|id| self.undecided_calls.contains(id));
            if self.denials.len() < MAX_TRACKED && !is_undecided {
                self.keep_denial(denial);
            }
        }
        self.last = Some(result.clone());
    }

    /// Adds the cost of a result and returns it. If the CLI does not report it, it is the
    /// difference between the totals of the process.
    pub(super) fn add_cost(&mut self, result: &TurnResult) -> f64 {
        let total = result.total_cost_usd.filter(|usd| usd.is_finite());
        let by_total = total.map(|total| (total - self.total_usd).max(0.0));
        let cost = result.cost_since_last_usd.filter(|usd| usd.is_finite()).or(by_total);
        self.total_usd = total.unwrap_or(self.total_usd);
        if let Some(cost) = cost {
            self.spent_usd = sum_usd([self.spent_usd, Some(cost)]);
        }
        cost.unwrap_or_default()
    }

    /// Keeps a denied tool call, or only its tool if the space is used up: each one counts.
    pub(super) fn keep_denial(&mut self, call: &Value) {
        let weight = serde_json::to_string(call).map_or(usize::MAX, |text| text.len());
        let weighs = self.denials_bytes.saturating_add(weight);
        if weighs <= MAX_DENIALS_BYTES {
            self.denials_bytes = weighs;
            self.denials.push(call.clone());
        } else {
            let tool = call["tool_name"].as_str().map(|name| clip(name, MAX_NAME_CHARS));
            self.denials.push(denied(tool.as_deref()));
        }
    }
}

/// Returns the output of a local command from a message of the CLI.
fn command_output(message: &str) -> Option<String> {
    let tags = ["<local-command-stdout>", "<local-command-stderr>"];
    let output = tags.iter().find_map(|tag| message.strip_prefix(tag))?;
    let end = output.rfind("</local-command-").unwrap_or(output.len());
    let output = output[..end].trim();
    if output.is_empty() { None } else { Some(clip(output, MAX_PREVENTED_CHARS)) }
}
