//! The beginning and the end of a turn.

use serde_json::Value;

use super::activity::SpokenText;
use super::{
    Digest, DigestChange, FinalAnswer, MAX_DENIAL_REASON_CHARS, MAX_DENIALS_BYTES, MAX_NAME_CHARS,
    MAX_PREVENTED_CHARS, MAX_TRACKED, add_bounded, is_blank,
};
use crate::job::Timestamp;
use crate::stream::event::denied;
use crate::stream::{Block, TurnResult};
use crate::text::{clip, one_line, sum_usd};

/// State of the open turn.
#[derive(Debug, Default)]
pub(super) struct OpenTurn {
    cause: TurnCause,
    /// Whether it was announced and has no other event yet.
    is_announced: bool,
    /// Whether the model has said something.
    pub(super) model_spoke: bool,
    /// Text since the last tool call.
    pub(super) said: SpokenText,
    /// Why the CLI did not ask the model.
    prevented: Option<String>,
    /// Outcome of the local command that it consists of.
    pub(super) command_outcome: Option<String>,
    /// Output of a local command.
    command_output: Option<String>,
}

/// Why a turn began, as far as the CLI reports it; a later cause supersedes an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum TurnCause {
    #[default]
    Unknown,
    /// It has an accepted message.
    Message,
    /// The CLI announced it as scheduled work.
    Schedule,
}

impl OpenTurn {
    /// Records why the CLI does not ask the model. Returns the reason if the turn has asked it
    /// before: then a message within the turn was refused.
    pub(super) fn prevent(&mut self, why: &str) -> Option<String> {
        self.prevented = Some(clip(why, MAX_PREVENTED_CHARS));
        if self.model_spoke { Some(one_line(why, MAX_DENIAL_REASON_CHARS)) } else { None }
    }
}

impl Digest {
    /// Sets the session id if it is valid: it becomes an argument of claude.
    pub(super) fn set_session(&mut self, id: Option<&str>) {
        let Some(id) = id else { return };
        let is_plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if (1..=64).contains(&id.len()) && is_plain && !id.starts_with('-') {
            self.session_id = Some(id.to_owned());
        }
    }

    pub(super) fn begin_turn(&mut self) -> &mut OpenTurn {
        self.unreported_tasks = 0;
        let turn = self.open_turn();
        turn.is_announced = false;
        turn
    }

    /// Opens a turn, unless one is open. Errors of the CLI count only for their own turn.
    pub(super) fn open_turn(&mut self) -> &mut OpenTurn {
        if self.turn.is_none() {
            self.cli_error = None;
        }
        self.turn.get_or_insert_default()
    }

    /// Marks the last turn as open, for a turn whose events are missing.
    pub(crate) fn mark_turn_open(&mut self) {
        self.turn.get_or_insert_default();
    }

    /// Handles that a message or a scheduled prompt was queued, has begun, or has ended. Returns its
    /// UUID if claude has completed it.
    pub(super) fn command_changed(
        &mut self,
        uuid: &str,
        state: &str,
        wakeup_source: Option<&str>,
        now: Timestamp,
    ) -> Option<String> {
        let completed = if state == "completed" { Some(uuid.to_owned()) } else { None };
        let uuid = clip(uuid, MAX_NAME_CHARS);
        match state {
            "queued" => {
                if self.queued.len() < MAX_TRACKED {
                    self.queued.insert(uuid);
                }
            }
            "started" => {
                self.queued.remove(&uuid);
                let begins = !self.is_turn_open();
                let turn = self.begin_turn();
                turn.is_announced = begins;
                if let Some(source) = wakeup_source {
                    turn.cause = TurnCause::Schedule;
                    self.schedule.fired(source, now);
                }
            }
            _ => {
                self.queued.remove(&uuid);
                // It was dropped: no result follows.
                if self.turn.as_ref().is_some_and(|turn| turn.is_announced) {
                    self.turn = None;
                }
            }
        }
        completed
    }

    /// Handles an accepted message.
    pub(super) fn message_taken(&mut self, blocks: &[Block<'_>]) {
        if let Some(turn) = &mut self.turn {
            turn.cause = turn.cause.max(TurnCause::Message);
        }
        for block in blocks {
            if let Block::Text(text) = block
                && let Some(output) = command_output(&text.whole())
            {
                // Output of a command, although it has the form of a message.
                if let Some(turn) = &mut self.turn {
                    turn.command_output = Some(output);
                }
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
        let turn = self.turn.take().unwrap_or_default();
        change.turn_ended = true;
        let first = self.results == 0;
        self.results += 1;
        let follows_task =
            std::mem::take(&mut self.unreported_tasks) > 0 || result.origin.is_some();
        if !first && turn.cause == TurnCause::Unknown && !follows_task {
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
        if is_broken_off && result.cost_since_last_usd.is_none() {
            self.uncounted_requests += 1;
        }
        self.rejected = None;
        self.command_failed = None;
        // The text of an error is not an answer; the verdict has it.
        if !result.is_error && result.subtype == "success" {
            self.find_failure(&turn, result, cost, change);
            if self.rejected.is_none() {
                self.keep_answer(turn, result);
            }
        }
        self.keep_denials(result);
        self.last = Some(result.clone());
    }

    /// Records why a turn that claude calls a success was none: the model was not asked, or the
    /// local command failed.
    fn find_failure(
        &mut self,
        turn: &OpenTurn,
        result: &TurnResult,
        cost: f64,
        change: &mut DigestChange,
    ) {
        let outcome = turn.command_outcome.as_deref();
        // A custom command is a prompt for the model; a command of the CLI is an answer by itself.
        let is_answer = match result.local_command.as_deref() {
            None => false,
            Some("custom") => outcome.is_none(),
            Some(_) => matches!(outcome, None | Some("failed")),
        };
        let asked_nothing = result.used_no_tokens && cost == 0.0 && !turn.model_spoke;
        let sentence = result.sentence();
        // An empty result of a turn that the CLI began itself means nothing.
        let began_itself = result.origin.is_some() || turn.cause == TurnCause::Schedule;
        if began_itself && sentence.is_none() && turn.prevented.is_none() {
            return;
        }
        if !is_answer && (asked_nothing || outcome.is_some()) {
            change.unacknowledged_rejection = turn.cause == TurnCause::Unknown && !began_itself;
            let why = sentence.or(turn.prevented.clone()).or(turn.command_output.clone());
            let why = match why {
                Some(why) => Some(why),
                None => turn.said.text(),
            };
            self.rejected = Some(why.unwrap_or_default());
        } else if outcome == Some("failed") {
            self.command_failed = Some(turn.said.text().unwrap_or_default());
        }
    }

    /// Keeps the answer of a turn: its result, or else the agent's last text, or else the output
    /// of the local command.
    fn keep_answer(&mut self, turn: OpenTurn, result: &TurnResult) {
        if result.structured_output.is_some() {
            self.structured_output.clone_from(&result.structured_output);
        }
        let answer = match &result.result {
            Some(text) if !is_blank(text) => {
                FinalAnswer { text: text.clone(), omitted: result.omitted }
            }
            _ => match turn.said.text().or(turn.command_output) {
                Some(text) => FinalAnswer { text, omitted: 0 },
                None => return,
            },
        };
        self.answer = Some(answer);
        self.said = SpokenText::default();
    }

    /// Keeps the denied tool calls of a turn: those of its result and those that are not in it.
    fn keep_denials(&mut self, result: &TurnResult) {
        let mut unlisted = std::mem::take(&mut self.denied_calls);
        for denial in &result.permission_denials {
            if let Some(id) = denial["tool_use_id"].as_str() {
                unlisted.remove(&clip(id, MAX_NAME_CHARS));
            }
        }
        for denial in result.permission_denials.iter().chain(unlisted.values()) {
            let id = denial["tool_use_id"].as_str().unwrap_or_default();
            if self.denials.len() < MAX_TRACKED && !self.undecided_calls.contains(id) {
                self.keep_denial(denial);
            }
        }
    }

    /// Adds the cost of a result and returns it. If the CLI does not report it, it is the
    /// difference between the totals of the process.
    fn add_cost(&mut self, result: &TurnResult) -> f64 {
        let mut cost = None;
        if let Some(total) = result.total_cost_usd
            && total.is_finite()
        {
            cost = Some((total - self.total_usd).max(0.0));
            self.total_usd = total;
        }
        if let Some(since_last) = result.cost_since_last_usd
            && since_last.is_finite()
        {
            cost = Some(since_last);
        }
        let Some(cost) = cost else { return 0.0 };
        self.spent_usd = sum_usd([self.spent_usd, Some(cost)]);
        cost
    }

    /// Keeps a denied tool call, or only its tool if the space is used up: each one counts.
    fn keep_denial(&mut self, call: &Value) {
        let weighs = self.denials_bytes + call.to_string().len();
        if weighs <= MAX_DENIALS_BYTES {
            self.denials_bytes = weighs;
            self.denials.push(call.clone());
        } else {
            let tool = call["tool_name"].as_str();
            self.denials.push(denied(tool.map(|name| clip(name, MAX_NAME_CHARS)).as_deref()));
        }
    }
}

/// Returns the output of a local command from a message of the CLI.
fn command_output(message: &str) -> Option<String> {
    let output = message
        .strip_prefix("<local-command-stdout>")
        .or(message.strip_prefix("<local-command-stderr>"))?;
    let end = output.rfind("</local-command-").unwrap_or(output.len());
    let output = output[..end].trim();
    if output.is_empty() { None } else { Some(clip(output, MAX_PREVENTED_CHARS)) }
}
