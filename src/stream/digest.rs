//! What the events so far add up to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::event::{McpServer, Task, denied};
use super::schedule::Schedule;
use super::transcript::main_argument;
use super::{Block, Event, LazyText, TurnResult, fix_surrogates, from_json};
use crate::job::{Activity, Blocked, ModelFamily, Timestamp, parse_questions, truncate_all};
use crate::text::{clip, one_line, sum_usd};

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
    tools: BTreeMap<String, ToolCall>,
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

/// What the agent does, kept as the stream holds it: most of it is never looked at.
#[derive(Clone, Debug)]
enum RawActivity {
    Thinking,
    /// The beginning of the text, as JSON.
    Text(String),
    ToolCall(ToolCall),
}

impl RawActivity {
    fn decode(&self) -> Activity {
        match self {
            Self::Thinking => Activity { tool: None, text: "thinking".to_owned() },
            Self::Text(raw) => {
                let text: String = from_json(raw).unwrap_or_default();
                Activity { tool: None, text: one_line(&text, ACTIVITY_KEPT) }
            }
            Self::ToolCall(call) => {
                Activity { tool: Some(clip(&call.name, ACTIVITY_KEPT)), text: call.summary() }
            }
        }
    }
}

/// A call of a tool.
#[derive(Clone, Debug)]
struct ToolCall {
    name: String,
    /// Its input as JSON; where that is long, another of the same summary.
    input: String,
}

impl ToolCall {
    fn of(name: &str, input: &str) -> Self {
        let input = if input.len() <= CALL_INPUT_KEPT {
            input.to_owned()
        } else {
            json!({"": one_line(&main_argument(input), ACTIVITY_KEPT)}).to_string()
        };
        Self { name: clip(name, NAME_KEPT), input }
    }

    fn summary(&self) -> String {
        one_line(&main_argument(&self.input), ACTIVITY_KEPT)
    }
}

/// Text of the agent's, kept as the stream holds it: most of it is never looked at.
#[derive(Debug, Default)]
struct SpokenText {
    pieces: VecDeque<String>,
    /// A tool was called after it: what is said next takes its place.
    is_closed: bool,
}

impl SpokenText {
    /// Pieces of it that are kept.
    const PIECES: usize = 100;

    fn push(&mut self, words: &LazyText<'_>) {
        if std::mem::take(&mut self.is_closed) {
            self.pieces.clear();
        }
        let piece = words.raw();
        // A request that is tried again gives the same text again.
        if self.pieces.back() == piece.as_ref() {
            return;
        }
        if self.pieces.len() == Self::PIECES {
            self.pieces.pop_front();
        }
        self.pieces.extend(piece);
    }

    fn text(&self) -> Option<String> {
        let pieces = self.pieces.iter().filter_map(|raw| from_json::<String>(raw).ok());
        let pieces: Vec<String> = pieces.filter(|text| !is_blank(text)).collect();
        if pieces.is_empty() { None } else { Some(pieces.join("\n\n")) }
    }
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
                            let cron = tool.map(ToolCall::summary).unwrap_or_default();
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

    /// Takes over the session's id, if it is one: it comes back as an argument of claude's.
    fn in_session(&mut self, id: Option<&str>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_id = |id: &&str| {
            (1..=64).contains(&id.len()) && id.chars().all(plain) && !id.starts_with('-')
        };
        if let Some(id) = id.filter(is_id) {
            self.session_id = Some(id.to_owned());
        }
    }

    fn turn_begins(&mut self) {
        self.open_turn();
        self.turn.is_announced = false;
        self.follow_up_due = false;
    }

    /// What the CLI said of itself counts for the verdict on that turn, not for another's.
    fn open_turn(&mut self) {
        if !std::mem::replace(&mut self.turn_open, true) {
            self.cli_error = None;
            self.turn = OpenTurn::default();
        }
    }

    /// A message or a scheduled prompt is queued, begins, or has ended.
    fn command(&mut self, uuid: &str, state: &str, wakeup_source: Option<&str>, now: Timestamp) {
        let uuid = clip(uuid, NAME_KEPT);
        match state {
            "queued" => {
                if self.queued.len() < TRACKED {
                    self.queued.insert(uuid);
                }
            }
            "started" => {
                self.queued.remove(&uuid);
                let begins = !self.turn_open;
                self.turn_begins();
                self.turn.is_announced = begins;
                if let Some(source) = wakeup_source {
                    self.turn.woken = true;
                    self.schedule.fired(source, now);
                }
            }
            _ => {
                self.queued.remove(&uuid);
                // Nothing came of it: no result follows.
                if self.turn_open && self.turn.is_announced {
                    self.turn_open = false;
                }
            }
        }
    }

    /// A message was taken in.
    fn message_taken(&mut self, blocks: &[Block<'_>]) {
        self.turn.asked = true;
        for block in blocks {
            if let Block::Text(words) = block
                && let Some(output) = command_output(&words.whole())
            {
                // Not a message of anybody's, although it comes like one.
                self.turn.command_output = Some(output);
                return;
            }
        }
        if self.own_messages > 0 {
            self.own_messages -= 1;
            return;
        }
        self.asks_anew();
    }

    /// Somebody has asked something new: what was answered before is no answer to it.
    pub fn asks_anew(&mut self) {
        self.asked_anew = true;
        self.answer = None;
        self.structured_output = None;
        self.said = SpokenText::default();
        self.schedule.forget_missed();
    }

    fn track(&mut self, task: &Task, backgrounded: Option<bool>) {
        let id = clip(&task.id, NAME_KEPT);
        if let Some(known) = self.tasks.get_mut(&id) {
            known.backgrounded = backgrounded.or(known.backgrounded);
        } else if self.tasks.len() < TRACKED {
            let description = one_line(&task.description, DESCRIPTION_KEPT);
            let asks_model = task.asks_model;
            self.tasks.insert(id, TrackedTask { asks_model, backgrounded, description });
        }
    }

    /// A tool call was denied, and it may be that no result names it.
    fn call_denied(&mut self, tool_use_id: &str, tool_name: &str) {
        let id = clip(tool_use_id, NAME_KEPT);
        if self.denied_calls.len() >= TRACKED || self.denied_calls.contains_key(&id) {
            return;
        }
        let known = self.tools.get(&id);
        let name = known.map(|tool| tool.name.clone());
        let name = name.or_else(|| Some(tool_name.to_owned()).filter(|name| !name.is_empty()));
        let mut call = denied(name.as_deref());
        call["tool_use_id"] = id.clone().into();
        let summary = known.map(ToolCall::summary).unwrap_or_default();
        if !summary.is_empty() {
            call["tool_input"] = json!({"summary": summary});
        }
        self.denied_calls.insert(id, call);
    }

    fn retry(
        &mut self,
        error: &str,
        status: Option<u16>,
        delay_ms: f64,
        now: Timestamp,
        change: &mut DigestChange,
    ) {
        let delay = Duration::try_from_secs_f64(delay_ms / 1_000.0).unwrap_or_default();
        self.waits_for(delay);
        // A service that is unavailable for a while is overloaded, whatever the CLI calls it.
        let error = if status == Some(503) { "overloaded" } else { error };
        match error {
            "rate_limit" | "overloaded" => {
                self.auth_failures = 0;
                self.rate_limited = true;
                self.retry_at = Some(now.after(delay));
                change.rate_limited = Some(error.to_owned());
            }
            "authentication_failed" => {
                self.auth_failures += 1;
                self.limit_over(change);
            }
            _ => {
                self.auth_failures = 0;
                self.limit_over(change);
            }
        }
    }

    fn waits_for(&mut self, delay: Duration) {
        self.retry_in = delay.min(SILENCE_MOST);
    }

    fn limit_over(&mut self, change: &mut DigestChange) {
        change.rate_limit_over |= std::mem::take(&mut self.rate_limited);
        self.retry_at = None;
        self.resets_at = None;
        self.limited_model = None;
    }

    fn block(&mut self, block: &Block<'_>, nested: bool, synthetic: bool) {
        match block {
            Block::Text(text) => {
                if !nested {
                    self.turn.said.push(text);
                    if !synthetic {
                        self.said.push(text);
                    }
                }
                let beginning = text.raw_opening(ACTIVITY_KEPT * 2).unwrap_or_default();
                self.activity = Some(RawActivity::Text(beginning.into_owned()));
            }
            Block::ToolUse { id, name, input } => {
                if !nested {
                    self.turn.said = SpokenText::default();
                    self.said.is_closed = true;
                }
                let call = ToolCall::of(name, input);
                if self.tools.len() < TRACKED {
                    self.tools.insert(clip(id, NAME_KEPT), call.clone());
                }
                self.activity = Some(RawActivity::ToolCall(call));
            }
            Block::Thinking => {
                self.activity = Some(RawActivity::Thinking);
            }
            Block::ToolResult { .. } => {}
        }
    }

    fn tool_ended(&mut self, id: &str, change: &mut DigestChange) {
        let id = &*clip(id, NAME_KEPT);
        // Of parallel tools, show one that still runs.
        if self.tools.remove(id).is_some()
            && let Some(other) = self.tools.values().next()
        {
            self.activity = Some(RawActivity::ToolCall(other.clone()));
        }
        self.close_requests(|_, tool| tool.as_deref() == Some(id), change);
    }

    fn close_requests(
        &mut self,
        closed: impl Fn(&Blocked, &Option<String>) -> bool,
        change: &mut DigestChange,
    ) {
        self.requests.retain(|(blocked, tool)| {
            let closes = closed(blocked, tool);
            if closes {
                change.unblocked.push(blocked.request_id.clone());
            }
            !closes
        });
    }

    fn task_ended(&mut self, task_id: &str, status: &str) {
        let is_tracked = self.tasks.remove(&clip(task_id, NAME_KEPT)).is_some();
        if is_tracked && !self.turn_open && self.results > 0 {
            if status == "stopped" {
                self.tasks_stopped += 1;
            } else {
                self.follow_up_due = true;
            }
        }
    }

    fn result(&mut self, result: &TurnResult, now: Timestamp, change: &mut DigestChange) {
        // Also of a turn of which nothing else was heard.
        self.open_turn();
        change.turn_ended = true;
        let turn = std::mem::take(&mut self.turn);
        let first = self.results == 0;
        self.results += 1;
        self.turn_open = false;
        let follows_task = std::mem::take(&mut self.follow_up_due) || result.origin.is_some();
        if !first && !turn.asked && !turn.woken && !follows_task {
            self.schedule.fired_unannounced(now);
        }
        self.ended_turns = plus(self.ended_turns, result.num_turns);
        self.open_turns = 0;
        self.message_id = None;
        self.duration_ms = plus(self.duration_ms, result.duration_ms);
        self.tools.clear();
        self.tasks.retain(|_, task| task.backgrounded != Some(false));
        self.close_requests(|_, _| true, change);
        self.in_session(result.session_id.as_deref());
        if !result.is_error {
            self.limit_over(change);
        }
        let cost = self.add_cost(result);
        // 2.1.197 counts no request that it broke off.
        let is_broken_off = result.terminal_reason.as_deref() == Some("aborted_streaming");
        self.uncounted |= is_broken_off && result.cost_since_last_usd.is_none();
        let success = !result.is_error && result.subtype == "success";
        self.rejected = None;
        self.command_failed = None;
        if success {
            let outcome = turn.command_outcome.as_deref();
            // A command of the user's own is a prompt for the model; one of the CLI's is an answer
            // by itself.
            let is_answer = match result.local_command.as_deref() {
                None => false,
                Some("custom") => outcome.is_none(),
                Some(_) => outcome.is_none_or(|outcome| outcome == "failed"),
            };
            let asked_nothing = result.used_no_tokens && cost == 0.0 && !turn.model_spoke;
            // Of a turn that the CLI began itself, an empty result says nothing.
            let began_itself = result.origin.is_some() || turn.woken;
            let says_nothing = result.sentence().is_none() && turn.prevented.is_none();
            if began_itself && says_nothing {
                // Skipped.
            } else if !is_answer && (asked_nothing || outcome.is_some()) {
                change.rejected_unheard = !turn.asked && !began_itself;
                let why = result.sentence().or(turn.prevented).or(turn.command_output.clone());
                self.rejected = Some(why.or_else(|| turn.said.text()).unwrap_or_default());
            } else if outcome == Some("failed") {
                self.command_failed = Some(turn.said.text().unwrap_or_default());
            }
        }
        // An error's text is no answer: it goes into the verdict.
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
                self.denied_calls.remove(&clip(id, NAME_KEPT));
            }
        }
        let untold = std::mem::take(&mut self.denied_calls);
        for denial in result.permission_denials.iter().chain(untold.values()) {
            let id = denial.get("tool_use_id").and_then(Value::as_str);
            let is_undecided = id.is_some_and(|id| self.undecided_calls.contains(id));
            if self.denials.len() < TRACKED && !is_undecided {
                self.keep_denial(denial);
            }
        }
        self.last = Some(result.clone());
    }

    /// Adds what the result cost, and gives it. Where the CLI does not say it, it is the
    /// difference between the process's totals.
    fn add_cost(&mut self, result: &TurnResult) -> f64 {
        let total = result.total_cost_usd.filter(|usd| usd.is_finite());
        let by_total = total.map(|total| (total - self.total_usd).max(0.0));
        let cost = result.cost_since_last_usd.filter(|usd| usd.is_finite()).or(by_total);
        self.total_usd = total.unwrap_or(self.total_usd);
        if let Some(cost) = cost {
            self.spent_usd = sum_usd([self.spent_usd, Some(cost)]);
        }
        cost.unwrap_or_default()
    }

    /// Keeps a denied tool call, where there is no room for it its tool: it counts in any case.
    fn keep_denial(&mut self, call: &Value) {
        let weight = serde_json::to_string(call).map_or(usize::MAX, |text| text.len());
        let weighs = self.denials_weigh.saturating_add(weight);
        if weighs <= DENIALS_KEPT {
            self.denials_weigh = weighs;
            self.denials.push(call.clone());
        } else {
            let tool = call["tool_name"].as_str().map(|name| clip(name, NAME_KEPT));
            self.denials.push(denied(tool.as_deref()));
        }
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

/// What a local command printed, where a message of the CLI's tells it.
fn command_output(message: &str) -> Option<String> {
    let tags = ["<local-command-stdout>", "<local-command-stderr>"];
    let output = tags.iter().find_map(|tag| message.strip_prefix(tag))?;
    let end = output.rfind("</local-command-").unwrap_or(output.len());
    let output = output[..end].trim();
    if output.is_empty() { None } else { Some(clip(output, PREVENTED_KEPT)) }
}

/// Whether a failed tool call's result says that it was denied. 2.1.197 names some denials nowhere
/// else. A tool that ran and failed begins its result otherwise.
fn reports_denial(text: &LazyText<'_>) -> bool {
    let beginning = text.prefix(400);
    let text = beginning.trim_start().trim_start_matches("<tool_use_error>");
    let begins_and_holds =
        |begins: &str, holds: &str| text.starts_with(begins) && text.contains(holds);
    begins_and_holds("Permission to use ", "denied")
        || begins_and_holds("Permission for this", "denied")
        || begins_and_holds("File is ", "your permission settings")
        || begins_and_holds("Claude requested permission", "granted it yet")
        || text.contains(" was blocked. For security, Claude Code may only ")
}

fn plus(count: u64, more: u64) -> u64 {
    count.saturating_add(more).min(COUNTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::decode;

    fn apply(lines: &[&str]) -> Digest {
        let mut digest = Digest::default();
        for line in lines {
            let now = Timestamp::from_epoch_ms(1_000_000).unwrap();
            let _ = digest.apply(&decode(line.as_bytes()).expect(line), now);
        }
        digest
    }

    const CALL: &str = r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"cargo  test","description":"x"}}]}}"#;
    const SECOND_CALL: &str = r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/a/b.rs"}}]}}"#;
    const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":3,"duration_ms":5,"total_cost_usd":0.5}"#;
    const LIMIT: &str =
        r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":2000.5}"#;

    #[test]
    fn the_activity_is_the_tool_that_still_runs() {
        let mut digest = apply(&[CALL, SECOND_CALL]);
        let activity = digest.activity().unwrap();
        assert_eq!((activity.tool.as_deref(), activity.text.as_str()), (Some("Read"), "/a/b.rs"));
        let done = br#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t2","content":""}]}}"#;
        let _ = digest.apply(&decode(done).unwrap(), Timestamp::from_epoch_ms(0).unwrap());
        assert_eq!(digest.activity().unwrap().text, "cargo test");
    }

    #[test]
    fn an_activity_is_the_same_however_long_it_is() {
        let activity = |block: Value| {
            let line = json!({"type": "assistant", "message": {"content": [block]}}).to_string();
            apply(&[&line]).activity().unwrap()
        };
        let long = "word \n\u{1f600} ".repeat(CALL_INPUT_KEPT);
        let shown = one_line(&long, ACTIVITY_KEPT);
        for more in ["a", &long] {
            let call = |input| json!({"type": "tool_use", "id": "t", "name": "T", "input": input});
            assert_eq!(activity(call(json!({"a": more, "file_path": "/a\n/b"}))).text, "/a /b");
        }
        let call = json!({"type": "tool_use", "id": "t", "name": "T", "input": {"x": long}});
        assert_eq!(activity(call), Activity { tool: Some("T".into()), text: shown.clone() });
        let text = json!({"type": "text", "text": long});
        assert_eq!(activity(text), Activity { tool: None, text: shown });
        assert_eq!(activity(json!({"type": "thinking"})).text, "thinking");
    }

    #[test]
    fn turns_add_up_and_the_cost_is_the_last() {
        assert_eq!(apply(&[CALL, SECOND_CALL]).num_turns(), 1, "one message in two events");
        let digest = apply(&[CALL, RESULT, CALL, RESULT]);
        assert_eq!((digest.num_turns(), digest.spent_usd), (6, Some(0.5)));
        assert_eq!(digest.duration_ms, 10);
    }

    #[test]
    fn a_limit_lasts_until_the_model_speaks() {
        let limited = apply(&[LIMIT]);
        assert!(limited.rate_limited);
        assert_eq!(limited.retry_at.unwrap().epoch_ms(), 1_002_000);
        let over = apply(&[LIMIT, CALL]);
        assert!(!over.rate_limited && over.retry_at.is_none());
    }

    #[test]
    fn the_end_of_a_limit_is_in_seconds_or_plainly_in_milliseconds() {
        for (resets_at, expected) in [
            ("1795204010", Some(1_795_204_010_000)),
            ("1795204010.5", Some(1_795_204_010_500)),
            ("1795204010000", Some(1_795_204_010_000)),
            ("1795204010000000", None),
            ("1e300", None),
            ("-1795204010", None),
            ("\"1795204010\"", None),
        ] {
            let digest = apply(&[&format!(
                r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"rejected","resetsAt":{resets_at}}}}}"#
            )]);
            assert!(digest.rate_limited);
            assert_eq!(digest.resets_at.map(Timestamp::epoch_ms), expected, "{resets_at}");
            assert_eq!(digest.retry_at, digest.resets_at);
        }
    }

    #[test]
    fn counts_end_where_claude_counts_no_further() {
        let wild = RESULT.replace(":3,", ":18446744073709551615,").replace(":5,", ":1e300,");
        for lines in [vec![&*wild], vec![&*wild, &*wild], vec![CALL, &*wild, RESULT, CALL]] {
            let digest = apply(&lines);
            assert_eq!((digest.num_turns(), digest.duration_ms), (COUNTED, COUNTED), "{lines:?}");
        }
    }

    #[test]
    fn a_cost_that_is_known_stays_so() {
        let silent = RESULT.replace(r#","total_cost_usd":0.5"#, "");
        for (lines, cost) in [
            (vec![RESULT, &*silent], Some(0.5)),
            (vec![RESULT, &*silent, &*silent], Some(0.5)),
            (vec![&*silent], None),
            (vec![&*silent, RESULT], Some(0.5)),
        ] {
            assert_eq!(apply(&lines).spent_usd, cost, "{lines:?}");
        }
    }

    #[test]
    fn authentication_failures_count_in_a_row_only() {
        let auth = r#"{"type":"system","subtype":"api_retry","error":"authentication_failed"}"#;
        assert_eq!(apply(&[auth, auth, auth]).auth_failures, 3);
        assert_eq!(apply(&[auth, auth, LIMIT, auth]).auth_failures, 1);
        assert_eq!(apply(&[auth, auth, CALL]).auth_failures, 0);
    }

    #[test]
    fn a_denial_that_is_too_big_is_kept_by_its_tool() {
        let call = |name: &str, size: usize| serde_json::json!({"tool_name": name, "tool_input": "x".repeat(size)});
        let result = |denials: &[Value]| {
            serde_json::json!({"type": "result", "permission_denials": denials}).to_string()
        };
        let digest = apply(&[
            &result(&[call("A", DENIALS_KEPT), call("B", DENIALS_KEPT / 2)]),
            &result(&[call("C", DENIALS_KEPT / 2), call("D", 5)]),
        ]);
        let kept: Vec<_> = digest
            .denials
            .iter()
            .map(|call| (call["tool_name"].as_str().unwrap(), call["tool_input"].is_string()))
            .collect();
        assert_eq!(kept, [("A", false), ("B", true), ("C", false), ("D", true)]);
    }

    #[test]
    fn a_foreground_task_is_over_before_the_result() {
        let started = r#"{"type":"system","subtype":"task_started","task_id":"b1"}"#;
        let ended = r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"completed"}"#;
        let digest = apply(&[CALL, started, ended, RESULT]);
        assert_eq!((digest.outstanding(), digest.follow_up_due), (0, false));
        let digest = apply(&[CALL, started, RESULT, ended]);
        assert_eq!((digest.outstanding(), digest.follow_up_due), (0, true));
    }

    #[test]
    fn a_question_that_holds_half_a_character_can_be_read() {
        let digest = apply(&[
            r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"so \ud83d?","header":"h","options":[]}]}}}"#,
        ]);
        assert_eq!(digest.blocked().unwrap().questions[0].question, "so \u{fffd}?");
    }

    #[test]
    fn an_id_that_is_no_id_names_no_session() {
        let init = |id: &str| {
            serde_json::json!({"type": "system", "subtype": "init", "session_id": id}).to_string()
        };
        let fine = init("6f9fb695-65a0-40f6-bcf8-00af6730366b");
        for odd in ["--dangerously-skip-permissions", "../x", "a b", "", &"x".repeat(65)] {
            let digest = apply(&[&fine, &init(odd)]);
            let kept = digest.session_id.as_deref();
            assert_eq!(kept, Some("6f9fb695-65a0-40f6-bcf8-00af6730366b"), "{odd}");
            assert!(apply(&[&init(odd)]).session_id.is_none());
        }
    }

    #[test]
    fn a_stream_gone_wild_is_tracked_within_bounds() {
        let mut digest = Digest::default();
        for n in 0..3_000 {
            let line = format!(r#"{{"type":"system","subtype":"task_started","task_id":"{n}"}}"#);
            let _ = digest
                .apply(&decode(line.as_bytes()).unwrap(), Timestamp::from_epoch_ms(0).unwrap());
        }
        assert_eq!(digest.outstanding(), TRACKED);
    }
}
