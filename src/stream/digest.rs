//! What the events so far add up to.

mod activity;
mod limit;
mod turn;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use activity::{RawActivity, SpokenText, TrackedCall};
use work::reports_denial;

use super::event::McpServer;
use super::schedule::Schedule;
use super::{Block, Event, TurnResult, fix_surrogates};
use crate::job::{Activity, Blocked, ModelFamily, Timestamp, parse_questions, truncate_all};
use crate::text::{clip, one_line};

/// How many open things (tasks, tools, requests) are tracked at once. Far above what a session
/// has; there so that a stream gone wild cannot fill the memory.
const TRACKED: usize = 1_000;
/// Characters of a name or an identifier that are kept: far above what any has.
const NAME_KEPT: usize = 200;
/// Bytes of the denied tool calls that are kept whole, as JSON.
const DENIALS_KEPT: usize = 1 << 20;
/// Characters of an activity's text.
const ACTIVITY_KEPT: usize = 120;
/// Bytes of a tool call's input up to which it is kept whole.
const CALL_INPUT_KEPT: usize = 2_000;
/// How long claude is believed to wait in silence for its next try: a little longer than the
/// longest limit of the API, which is a week's.
const SILENCE_MOST: Duration = Duration::from_secs(8 * 86_400);
/// How far anything is counted: so far do the numbers of claude's JavaScript, and the sums over a
/// job's attempts stay within what can be counted here.
const COUNTED: u64 = (1 << 53) - 1;
/// Ids of further requests that are named beside the first.
const OTHERS_NAMED: usize = 20;
/// Characters of a request's input.
const INPUT_KEPT: usize = 2_000;
/// Characters of a task's description.
const DESCRIPTION_KEPT: usize = 60;
/// Characters of the reason why a message within a turn was refused.
const DENIED_SHOWN: usize = 150;
/// Characters of the CLI's word on why it did not ask the model.
const PREVENTED_KEPT: usize = 2_000;

/// The fold over a stream's events.
#[derive(Debug, Default)]
pub struct Digest {
    /// Claude's conversation, as it named it last.
    pub session_id: Option<String>,
    /// The model, likewise.
    pub model: Option<String>,
    /// The MCP servers, as claude listed them last.
    pub mcp_servers: Vec<McpServer>,
    /// The last turn's result.
    pub last: Option<TurnResult>,
    /// The last non-empty answer since the last message from outside.
    pub answer: Option<FinalAnswer>,
    /// The last structured output since then.
    pub structured_output: Option<Value>,
    /// How many of the coming messages are this program's own, and no new task: what was asked
    /// before them still waits for its answer.
    pub own_messages: usize,
    /// A message from outside was taken in: answers before this run of claude count no more.
    pub asked_anew: bool,
    /// Results so far.
    pub results: u64,
    /// Each tool call that was denied, over all turns.
    pub denials: Vec<Value>,
    /// Milliseconds of the ended turns, added up.
    pub duration_ms: u64,
    /// US dollars of the ended turns, as far as the CLI reported them.
    pub spent_usd: Option<f64>,
    /// Wake-ups and cron tasks that the agent scheduled.
    pub schedule: Schedule,
    /// Why the CLI did not ask the model in the last turn; empty where it does not say it.
    pub rejected: Option<String>,
    /// The last turn was a local command that failed: its text.
    pub command_failed: Option<String>,
    /// The API's limit is in the way.
    pub rate_limited: bool,
    /// When claude tries again.
    pub retry_at: Option<Timestamp>,
    /// The models that the limit is for, where the API says it.
    pub limited_model: Option<ModelFamily>,
    /// When the limit ends, where the API says it.
    pub resets_at: Option<Timestamp>,
    /// How long claude said it would be silent, because it waits for its next try; as far as
    /// that is believed.
    pub retry_in: Duration,
    /// `authentication_failed` retries in a row.
    pub auth_failures: u32,
    /// When anything was last heard.
    pub last_event_at: Option<Timestamp>,
    /// The error that the CLI named when it last spoke itself, in the last turn.
    pub cli_error: Option<String>,
    /// The model itself has said something.
    pub answered: bool,
    /// An `init` was seen: the session began.
    pub began: bool,
    /// Something was said that no result has closed yet.
    pub turn_open: bool,
    /// Background work ended after a result: claude is about to take another turn.
    pub follow_up_due: bool,
    /// Background tasks that were stopped before they were done, after a result.
    pub tasks_stopped: usize,
    /// Lines that were no events.
    pub undecodable: u64,
    ended_turns: u64,
    open_turns: u64,
    /// A request was broken off that no result counts.
    uncounted: bool,
    denials_weigh: usize,
    /// Tool calls of which only a tool's result or an event of its own has told that they were
    /// denied, in this turn.
    denied_calls: BTreeMap<String, Value>,
    /// Tool calls that are still to be decided on, although claude takes them for denied.
    undecided_calls: BTreeSet<String>,
    /// The total of the last result.
    total_usd: f64,
    message_id: Option<String>,
    tasks: BTreeMap<String, TrackedTask>,
    /// Messages and scheduled prompts that claude has queued and not begun, by their ids.
    queued: BTreeSet<String>,
    turn: OpenTurn,
    /// What the agent said last, since its last answer and the last message from outside.
    said: SpokenText,
    activity: Option<RawActivity>,
    tools: BTreeMap<String, TrackedCall>,
    requests: Vec<(Blocked, Option<String>)>,
}

/// A task that has started and not ended.
#[derive(Debug)]
struct TrackedTask {
    /// It may ask the model, so that it costs something.
    asks_model: bool,
    /// `Some(false)`: it ends with the turn.
    backgrounded: Option<bool>,
    description: String,
}

/// What is known of the turn that is open.
#[derive(Debug, Default)]
struct OpenTurn {
    /// A message was taken in.
    asked: bool,
    /// It was announced, and nothing else was heard of it.
    is_announced: bool,
    /// The CLI has announced that scheduled work begins it.
    woken: bool,
    /// The model itself has said something.
    model_spoke: bool,
    /// What was said since the last tool call.
    said: SpokenText,
    /// Why the CLI did not ask the model.
    prevented: Option<String>,
    /// How the local command ended that it consists of.
    command_outcome: Option<String>,
    /// What a local command printed.
    command_output: Option<String>,
}

/// An answer and how much of it was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalAnswer {
    /// Its text.
    pub text: String,
    /// Bytes that are missing at its end.
    pub omitted: u64,
}

/// What an event changed, as far as somebody must act on it.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DigestChange {
    /// The event is one that a working claude writes.
    pub lively: bool,
    /// A turn ended.
    pub turn_ended: bool,
    /// The API's limit came into the way, or was met again: the CLI's word for it.
    pub rate_limited: Option<String>,
    /// The limit is over.
    pub rate_limit_over: bool,
    /// This request waits for an answer.
    pub blocked: Option<Blocked>,
    /// These requests wait no more.
    pub unblocked: Vec<String>,
    /// A message of this UUID was taken in.
    pub taken_in: Option<String>,
    /// Claude is done with the message of this UUID.
    pub heard: Option<String>,
    /// A message within the turn was refused, for this reason.
    pub refused: Option<String>,
    /// The turn that ended was a message that never reached the model, and that claude did not say
    /// to have taken in.
    pub rejected_unheard: bool,
}

impl Digest {
    /// Of an attempt that has not begun: it waits until then, because of a limit or not.
    pub fn waiting(rate_limited: bool, retry_at: Timestamp) -> Self {
        Self { rate_limited, retry_at: Some(retry_at), ..Self::default() }
    }

    /// Of an attempt that opens with this number of messages that are no new task.
    pub fn after_own_messages(own_messages: usize) -> Self {
        Self { own_messages, ..Self::default() }
    }

    /// Turns so far: those that results counted and what was heard of the present one.
    pub fn num_turns(&self) -> u64 {
        plus(self.ended_turns, self.open_turns)
    }

    /// Requests were made, or may have been, whose cost no result tells.
    pub fn cost_is_lower_bound(&self) -> bool {
        self.turn_open || self.uncounted || self.tasks.values().any(|task| task.asks_model)
    }

    /// What the agent said last, and no answer has taken the place of.
    pub fn said(&self) -> Option<FinalAnswer> {
        let text = self.said.text()?;
        Some(FinalAnswer { text, omitted: 0 })
    }

    /// MCP servers that claude could not use when it listed them last.
    pub fn missing_mcp_servers(&self) -> impl Iterator<Item = &McpServer> {
        self.mcp_servers.iter().filter(|server| !server.is_connected())
    }

    /// Descriptions of the outstanding background tasks.
    pub fn outstanding_tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.values().map(|task| task.description.as_str())
    }

    /// Tool calls that were denied in the turn that is open, beside [`denials`](Self::denials).
    pub fn open_denials(&self) -> impl Iterator<Item = &Value> {
        self.denied_calls.values()
    }

    /// Background tasks that have started and not ended.
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// The last turn has its result, and no other is to be expected.
    pub fn is_settled(&self) -> bool {
        self.results > 0
            && !self.turn_open
            && !self.follow_up_due
            && self.outstanding() == 0
            && self.queued.is_empty()
            && !self.schedule.is_pending()
    }

    /// Claude has queued a message or a scheduled prompt, and not begun it.
    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether a tool is at work, or work in the background.
    pub fn is_at_work(&self) -> bool {
        !self.tools.is_empty() || !self.tasks.is_empty()
    }

    /// What the agent does now.
    pub fn activity(&self) -> Option<Activity> {
        self.activity.as_ref().map(RawActivity::decode)
    }

    /// The request that has waited longest, and the ids of some others.
    pub fn blocked(&self) -> Option<Blocked> {
        let mut requests = self.requests.iter().map(|(blocked, _)| blocked);
        let mut first = requests.next()?.clone();
        first.others = requests.take(OTHERS_NAMED).map(|other| other.request_id.clone()).collect();
        Some(first)
    }

    /// Whether this request waits for an answer.
    pub fn awaits_answer(&self, request_id: &str) -> bool {
        self.requests.iter().any(|(blocked, _)| blocked.request_id == request_id)
    }

    /// A request was answered by us.
    pub fn answered(&mut self, request_id: &str) {
        self.requests.retain(|(blocked, _)| blocked.request_id != request_id);
    }

    /// Claude is ended while these requests wait: that is no denial of them.
    pub fn leave_undecided(&mut self) {
        self.undecided_calls.extend(self.requests.iter().filter_map(|(_, tool)| tool.clone()));
    }

    /// Counts a line that was no event; `spoken` says that it looks like one of the agent's, which
    /// opens a turn as if it had been understood.
    pub fn undecodable(&mut self, spoken: bool, now: Timestamp) {
        self.undecodable += 1;
        if spoken {
            self.open_turn();
        }
        self.last_event_at = Some(now);
    }

    /// Takes in the next event, heard at `now`.
    pub fn apply(&mut self, event: &Event<'_>, now: Timestamp) -> DigestChange {
        self.last_event_at = Some(now);
        self.retry_in = Duration::ZERO;
        let mut change = DigestChange { lively: true, ..DigestChange::default() };
        match event {
            Event::Init { session_id, model, mcp_servers } => {
                if let Some(servers) = mcp_servers {
                    let kept = servers.iter().take(TRACKED).map(|server| McpServer {
                        name: clip(&server.name, NAME_KEPT),
                        status: clip(&server.status, NAME_KEPT),
                    });
                    self.mcp_servers = kept.collect();
                }
                self.began = true;
                self.turn_begins();
                self.in_session(session_id.as_deref());
                self.model =
                    model.as_ref().map(|name| clip(name, NAME_KEPT)).or_else(|| self.model.take());
            }
            Event::ApiRetry { error, status, delay_ms, nested } => {
                // Beside a turn that has ended it may be work in the background that tries again,
                // and that ends without a result.
                let beside = self.results > 0 && !self.turn_open && self.outstanding() > 0;
                if !nested && !beside {
                    self.open_turn();
                }
                self.retry(error, *status, *delay_ms, now, &mut change);
            }
            Event::RateLimit { status, resets_at, model } => {
                if status == "rejected" {
                    self.rate_limited = true;
                    self.resets_at = *resets_at;
                    self.limited_model = *model;
                    self.retry_at = self.resets_at;
                    self.waits_for(self.resets_at.map_or(Duration::ZERO, |at| at.since(now)));
                    change.rate_limited = Some("rate_limit".to_owned());
                } else {
                    self.limit_over(&mut change);
                }
            }
            Event::Assistant { blocks, message_id, error, synthetic, nested, command_outcome } => {
                if !nested {
                    self.turn_begins();
                }
                if command_outcome.is_some() {
                    self.turn.command_outcome.clone_from(command_outcome);
                }
                // What is said beside a turn tells nothing of it.
                if self.turn_open && !nested {
                    let earlier = self.cli_error.take().filter(|_| *synthetic);
                    self.cli_error = error.clone().filter(|_| *synthetic).or(earlier);
                }
                if !synthetic {
                    self.answered = true;
                    self.turn.model_spoke |= !nested;
                    self.auth_failures = 0;
                    self.limit_over(&mut change);
                    let message_id = message_id.as_deref();
                    if !nested && (message_id.is_none() || message_id != self.message_id.as_deref())
                    {
                        self.open_turns += 1;
                        self.message_id = message_id.map(str::to_owned);
                    }
                }
                for block in blocks {
                    self.block(block, *nested, *synthetic);
                }
            }
            Event::User { blocks, nested, replayed, scheduling, denied } => {
                if !nested {
                    self.turn_begins();
                }
                change.taken_in.clone_from(replayed);
                if replayed.is_some() {
                    self.message_taken(blocks);
                }
                for block in blocks {
                    if let Block::ToolResult { id, is_error, text } = block {
                        let tool = self.tools.get(&clip(id, NAME_KEPT));
                        let name = tool.map(|tool| tool.name.clone());
                        if let Some(scheduling) = scheduling {
                            self.schedule.apply(scheduling, name.as_deref());
                        }
                        if name.as_deref() == Some("CronDelete") && !is_error {
                            let cron = tool.map(TrackedCall::summary).unwrap_or_default();
                            self.schedule.delete(&cron);
                        }
                        if denied.iter().any(|denied| denied == id)
                            || (*is_error && reports_denial(text))
                        {
                            self.call_denied(id, "");
                        }
                        self.tool_ended(id, &mut change);
                    }
                }
            }
            Event::TaskStarted { task, backgrounded } => self.track(task, *backgrounded),
            Event::BackgroundTasks(tasks) => {
                let listed: BTreeSet<String> =
                    tasks.iter().map(|task| clip(&task.id, NAME_KEPT)).collect();
                self.tasks
                    .retain(|id, task| task.backgrounded == Some(false) || listed.contains(id));
                for task in tasks {
                    self.track(task, Some(true));
                }
            }
            Event::Command { uuid, state, wakeup_source } => {
                self.command(uuid, state, wakeup_source.as_deref(), now);
                if state == "completed" {
                    change.heard = Some(uuid.clone());
                }
            }
            Event::PermissionDenied { tool_name, tool_use_id } => {
                self.call_denied(tool_use_id, tool_name);
            }
            Event::Prevented(why) => {
                self.turn_begins();
                if self.turn.model_spoke {
                    change.refused = Some(one_line(why, DENIED_SHOWN));
                }
                self.turn.prevented = Some(clip(why, PREVENTED_KEPT));
            }
            Event::TaskUpdated { task_id, status } => {
                // The notification follows where the task came to an end of its own; one that is
                // killed may get none.
                if matches!(status.as_deref(), Some("killed" | "stopped")) {
                    self.task_ended(task_id, "stopped");
                }
            }
            Event::TaskEnded { task_id, status } => self.task_ended(task_id, status),
            Event::Request { request_id, tool_name, tool_use_id, input } => {
                let asks = tool_name == "AskUserQuestion";
                let input = &*fix_surrogates(input);
                let blocked = Blocked {
                    kind: if asks { "question" } else { "permission" }.to_owned(),
                    request_id: clip(request_id, NAME_KEPT),
                    tool_name: Some(clip(tool_name, NAME_KEPT)),
                    input: if asks { String::new() } else { clip(input, INPUT_KEPT) },
                    questions: if asks {
                        truncate_all(&parse_questions(input))
                    } else {
                        Vec::new()
                    },
                    others: Vec::new(),
                    since: now,
                    released: false,
                };
                if self.requests.len() < TRACKED {
                    let tool = tool_use_id.as_ref().map(|id| clip(id, NAME_KEPT));
                    self.requests.push((blocked.clone(), tool));
                }
                change.blocked = Some(blocked);
            }
            Event::RequestCancelled { request_id } => {
                let id = clip(request_id, NAME_KEPT);
                self.close_requests(|blocked, _| blocked.request_id == id, &mut change);
            }
            Event::Partial { nested } => {
                if !nested {
                    self.turn_begins();
                }
                self.limit_over(&mut change);
            }
            Event::Result(result) => self.result(result, now, &mut change),
            Event::Other => change.lively = false,
        }
        change
    }
}

/// Whether nothing of the text can be seen.
fn is_blank(text: &str) -> bool {
    let is_unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_unseen(c))
}

fn plus(count: u64, more: u64) -> u64 {
    count.saturating_add(more).min(COUNTED)
}

#[cfg(test)]
mod tests;
