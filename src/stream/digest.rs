//! Summary of the events so far.

mod activity;
mod limit;
mod message;
mod turn;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use activity::{RawActivity, SpokenText, TrackedCall};
use limit::ApiLimit;
use turn::OpenTurn;

use super::event::McpServer;
use super::schedule::Schedule;
use super::{Event, TurnResult};
use crate::job::{Activity, Blocked, Timestamp};
use crate::text::{clip, is_invisible};

pub(crate) use limit::LimitChange;

/// Number of open tasks, tools and requests that are tracked. Far more than a session has; it
/// bounds the memory for a runaway stream.
const MAX_TRACKED: usize = 1_000;
/// Characters of a name or an identifier; far more than any has.
const MAX_NAME_CHARS: usize = 200;
/// Bytes of JSON of the denied tool calls that are kept whole.
const MAX_DENIALS_BYTES: usize = 1 << 20;
const MAX_ACTIVITY_CHARS: usize = 120;
/// Bytes of a tool call's input up to which it is kept whole.
const MAX_CALL_INPUT_BYTES: usize = 2_000;
/// The longest wait for a retry that is accepted as a reason for silence: a little longer than the
/// longest limit of the API, a week.
const MAX_SILENCE: Duration = Duration::from_secs(8 * 86_400);
/// Bound of all counts: the largest exact integer of JavaScript. Sums over the attempts of a job
/// then fit into 64 bits.
const MAX_COUNT: u64 = (1 << 53) - 1;
/// Number of further request ids that are listed beside the first.
const MAX_OTHERS_NAMED: usize = 20;
const MAX_INPUT_CHARS: usize = 2_000;
const MAX_DESCRIPTION_CHARS: usize = 60;
const MAX_DENIAL_REASON_CHARS: usize = 150;
/// Characters of the reason for which the CLI did not ask the model.
const MAX_PREVENTED_CHARS: usize = 2_000;

/// Summary of a stream.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    /// The session, as claude reported it last.
    pub session_id: Option<String>,
    /// The model, as claude reported it last.
    pub model: Option<String>,
    /// The MCP servers, as claude listed them last.
    pub mcp_servers: Vec<McpServer>,
    pub last: Option<TurnResult>,
    /// The last non-empty answer since the last external message.
    pub answer: Option<FinalAnswer>,
    /// The last structured output since then.
    pub structured_output: Option<Value>,
    /// How many of the next messages are this program's own and no new task: the request before
    /// them is still open.
    pub own_messages: usize,
    /// Whether an external message was accepted: earlier answers do not count any more.
    pub has_new_request: bool,
    pub results: u64,
    /// The denied tool calls of all turns.
    pub denials: Vec<Value>,
    /// Sum over the ended turns.
    pub duration_ms: u64,
    /// Sum over the ended turns, as far as the CLI reported it.
    pub spent_usd: Option<f64>,
    /// Wake-ups and cron tasks that the agent scheduled.
    pub schedule: Schedule,
    /// Why the CLI did not ask the model in the last turn; empty if it gave no reason.
    pub rejected: Option<String>,
    /// Text of the local command that the last turn consisted of, if it failed.
    pub command_failed: Option<String>,
    /// The limit of the API that blocks claude.
    limit: Option<ApiLimit>,
    /// When claude retries.
    pub retry_at: Option<Timestamp>,
    /// How long claude said it would wait silently for its next retry, up to [`MAX_SILENCE`].
    pub retry_in: Duration,
    /// Number of `authentication_failed` retries in a row.
    pub auth_failures: u32,
    pub last_event_at: Option<Timestamp>,
    /// The error of the last message by the CLI itself, in the last turn.
    pub cli_error: Option<String>,
    /// Whether the model has said something.
    pub answered: bool,
    /// Whether the session has begun: an `init` event was seen.
    pub began: bool,
    /// Number of background tasks that were stopped after a result.
    pub tasks_stopped: usize,
    /// Number of other background tasks that ended after a result and before the next turn, which
    /// claude is about to begin for them.
    unreported_tasks: usize,
    /// Number of lines that are not events.
    pub undecodable: u64,
    ended_turns: u64,
    open_turns: u64,
    /// Number of aborted requests whose cost is in no result.
    uncounted_requests: u64,
    denials_bytes: usize,
    /// Tool calls of this turn whose denial was reported only by a tool result or an event of its
    /// own.
    denied_calls: BTreeMap<String, Value>,
    /// Tool calls without a decision, although claude treats them as denied.
    undecided_calls: BTreeSet<String>,
    /// Total cost of the last result.
    total_usd: f64,
    message_id: Option<String>,
    tasks: BTreeMap<String, TrackedTask>,
    /// Ids of messages and scheduled prompts that claude has queued and not begun.
    queued: BTreeSet<String>,
    /// The turn that has begun and has no result yet.
    turn: Option<OpenTurn>,
    /// Text of the agent since its last answer and the last external message.
    said: SpokenText,
    activity: Option<RawActivity>,
    tools: BTreeMap<String, TrackedCall>,
    requests: Vec<(Blocked, Option<String>)>,
}

/// A task that has started and not ended.
#[derive(Debug)]
struct TrackedTask {
    /// Whether it may ask the model and so cost something.
    asks_model: bool,
    /// `Some(false)` if it ends with the turn.
    backgrounded: Option<bool>,
    description: String,
}

/// An answer that may be truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinalAnswer {
    pub text: String,
    /// Number of bytes that are missing at its end.
    pub omitted: u64,
}

/// Changes by an event to which the supervisor reacts.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct DigestChange {
    /// Whether a working claude writes this event.
    pub is_activity: bool,
    pub turn_ended: bool,
    pub limit: Option<LimitChange>,
    /// A request that waits for an answer.
    pub blocked: Option<Blocked>,
    /// Requests that no longer wait.
    pub unblocked: Vec<String>,
    /// UUID of a message that was accepted.
    pub accepted_message: Option<String>,
    /// UUID of a message that claude has completed.
    pub completed_message: Option<String>,
    /// Why a message within the turn was refused.
    pub refused: Option<String>,
    /// Whether the turn that ended was a message that never reached the model and was not reported
    /// as accepted.
    pub unacknowledged_rejection: bool,
}

impl Digest {
    /// Creates the digest of an attempt that has not begun and waits until `retry_at`.
    pub(crate) fn waiting(rate_limited: bool, retry_at: Timestamp) -> Self {
        let limit = if rate_limited { Some(ApiLimit::default()) } else { None };
        Self { limit, retry_at: Some(retry_at), ..Self::default() }
    }

    /// Creates the digest of an attempt that begins with this number of own messages.
    pub(crate) fn after_own_messages(own_messages: usize) -> Self {
        Self { own_messages, ..Self::default() }
    }

    /// Returns the number of turns: those that results counted, and those seen since.
    pub(crate) fn num_turns(&self) -> u64 {
        add_bounded(self.ended_turns, self.open_turns)
    }

    /// Whether requests may have been made whose cost is in no result.
    pub(crate) fn cost_is_lower_bound(&self) -> bool {
        self.is_turn_open()
            || self.uncounted_requests > 0
            || self.tasks.values().any(|task| task.asks_model)
    }

    /// Returns the last text of the agent, if no answer has replaced it.
    pub(crate) fn said(&self) -> Option<FinalAnswer> {
        let text = self.said.text()?;
        Some(FinalAnswer { text, omitted: 0 })
    }

    /// Returns the MCP servers that claude could not use when it listed them last.
    pub(crate) fn missing_mcp_servers(&self) -> impl Iterator<Item = &McpServer> {
        self.mcp_servers.iter().filter(|server| !server.is_connected())
    }

    /// Returns the descriptions of the outstanding background tasks.
    pub(crate) fn outstanding_tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.values().map(|task| task.description.as_str())
    }

    /// Returns the denied tool calls of the open turn that are not in [`denials`](Self::denials).
    pub(crate) fn open_denials(&self) -> impl Iterator<Item = &Value> {
        self.denied_calls.values()
    }

    /// Returns the number of outstanding background tasks.
    pub(crate) fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// Whether the last turn has its result and no other turn is expected.
    pub(crate) fn is_settled(&self) -> bool {
        self.results > 0
            && !self.is_turn_open()
            && !self.is_follow_up_due()
            && self.outstanding() == 0
            && self.queued.is_empty()
            && !self.schedule.is_pending()
    }

    /// Whether claude has queued a message or a scheduled prompt and not begun it.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether a turn has begun that has no result yet.
    pub(crate) fn is_turn_open(&self) -> bool {
        self.turn.is_some()
    }

    /// Whether background work ended after a result: claude is about to begin another turn.
    pub(crate) fn is_follow_up_due(&self) -> bool {
        self.unreported_tasks > 0
    }

    /// Whether a tool or background work is running.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.tools.is_empty() || !self.tasks.is_empty()
    }

    pub(crate) fn activity(&self) -> Option<Activity> {
        self.activity.as_ref().map(RawActivity::decode)
    }

    /// Returns the oldest open request, with the ids of some others.
    pub(crate) fn blocked(&self) -> Option<Blocked> {
        let ((first, _), others) = self.requests.split_first()?;
        let mut first = first.clone();
        for (other, _) in others.iter().take(MAX_OTHERS_NAMED) {
            first.others.push(other.request_id.clone());
        }
        Some(first)
    }

    pub(crate) fn awaits_answer(&self, request_id: &str) -> bool {
        self.requests.iter().any(|(blocked, _)| blocked.request_id == request_id)
    }

    /// Removes a request that this program has answered.
    pub(crate) fn remove_request(&mut self, request_id: &str) {
        self.requests.retain(|(blocked, _)| blocked.request_id != request_id);
    }

    /// Marks the open requests as undecided: stopping claude does not deny them.
    pub(crate) fn leave_undecided(&mut self) {
        for (_, tool_use_id) in &self.requests {
            self.undecided_calls.extend(tool_use_id.clone());
        }
    }

    fn session_began(&mut self, session_id: Option<&str>, model: Option<&str>) {
        self.began = true;
        self.set_session(session_id);
        if let Some(name) = model {
            self.model = Some(clip(name, MAX_NAME_CHARS));
        }
    }

    fn set_mcp_servers(&mut self, servers: &[McpServer]) {
        self.mcp_servers.clear();
        for server in servers.iter().take(MAX_TRACKED) {
            let name = clip(&server.name, MAX_NAME_CHARS);
            let status = clip(&server.status, MAX_NAME_CHARS);
            self.mcp_servers.push(McpServer { name, status });
        }
    }

    /// Counts a line that is not an event. `spoken` means that it looks like one of the agent,
    /// which opens a turn like a valid one.
    pub(crate) fn undecodable(&mut self, spoken: bool, now: Timestamp) {
        self.undecodable += 1;
        if spoken {
            self.open_turn();
        }
        self.last_event_at = Some(now);
    }

    /// Adds the next event, which arrived at `now`.
    pub(crate) fn apply(&mut self, event: &Event<'_>, now: Timestamp) -> DigestChange {
        self.last_event_at = Some(now);
        self.retry_in = Duration::ZERO;
        let mut change = DigestChange { is_activity: true, ..DigestChange::default() };
        match event {
            Event::Init { session_id, model, mcp_servers } => {
                self.begin_turn();
                self.session_began(session_id.as_deref(), model.as_deref());
                if let Some(servers) = mcp_servers {
                    self.set_mcp_servers(servers);
                }
            }
            Event::ApiRetry { error, status, delay_ms, nested } => {
                if !nested {
                    self.open_turn_of_retry();
                }
                self.api_retry(error, *status, *delay_ms, now, &mut change);
            }
            Event::RateLimit { status, resets_at, model } if status == "rejected" => {
                self.limit_met(*resets_at, *model, now, &mut change);
            }
            Event::RateLimit { .. } => self.end_limit(&mut change),
            Event::Assistant(message) => self.assistant(message, &mut change),
            Event::User(message) => self.user(message, &mut change),
            Event::TaskStarted { task, backgrounded } => self.track_task(task, *backgrounded),
            Event::BackgroundTasks(tasks) => self.background_tasks(tasks),
            Event::Command { uuid, state, wakeup_source } => {
                change.completed_message =
                    self.command_changed(uuid, state, wakeup_source.as_deref(), now);
            }
            Event::PermissionDenied { tool_name, tool_use_id } => {
                self.call_denied(tool_use_id, tool_name);
            }
            Event::Prevented(why) => {
                change.refused = self.begin_turn().prevent(why);
            }
            Event::TaskUpdated { task_id, status } => {
                // A notification follows if the task ended by itself; a killed task may get none.
                if matches!(status.as_deref(), Some("killed" | "stopped")) {
                    self.task_ended(task_id, "stopped");
                }
            }
            Event::TaskEnded { task_id, status, .. } => self.task_ended(task_id, status),
            Event::Request { request_id, tool_name, tool_use_id, input } => {
                let tool_use_id = tool_use_id.as_deref();
                let blocked = self.add_request(request_id, tool_name, tool_use_id, input, now);
                change.blocked = Some(blocked);
            }
            Event::RequestCancelled { request_id } => {
                let id = clip(request_id, MAX_NAME_CHARS);
                self.close_requests(|blocked, _| blocked.request_id == id, &mut change);
            }
            Event::Partial { nested } => {
                if !nested {
                    self.begin_turn();
                }
                self.end_limit(&mut change);
            }
            Event::Result(result) => self.end_turn(result, now, &mut change),
            Event::Other => change.is_activity = false,
        }
        change
    }
}

/// Whether the text has no visible character.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

fn add_bounded(count: u64, more: u64) -> u64 {
    count.saturating_add(more).min(MAX_COUNT)
}

#[cfg(test)]
mod tests;
