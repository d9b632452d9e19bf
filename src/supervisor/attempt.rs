//! The first prompt of an attempt, and attempts in a fresh session.

use std::time::Duration;

use super::{ConversationState, Effect, Supervisor, WorkerPhase};
use crate::job::{EventKind, Reason, Record, Timestamp, Verdict};
use crate::stream::Digest;

/// Prompt that continues a session after an interruption.
const INTERRUPTED_TEXT: &str = "You were interrupted: the process you ran in was ended from outside. \
    Look at what is already done, then go on with the task where you left off. Do not start over. \
    Background work, wake-ups and cron tasks of yours are gone: start those anew that you still \
    need.";
/// Text before the prompt when the session is lost.
const LOST_SESSION_TEXT: &str = "(An earlier attempt at this task was interrupted, and its conversation is \
    lost. Look at what is already done before you begin.)\n\n";

/// State of the present attempt, besides what claude's output says.
#[derive(Debug, Default)]
pub(super) struct AttemptState {
    /// When it began, on the monotonic clock.
    pub(super) started: Duration,
    pub(super) start_failure: Option<StartFailure>,
    /// When claude was started; `None` once the API has answered it.
    pub(super) unanswered_since: Option<Timestamp>,
    pub(super) input_closed: bool,
    pub(super) output_closed: bool,
    /// The output ended within a line.
    pub(super) torn: bool,
}

impl AttemptState {
    pub(super) fn beginning_at(started: Duration) -> Self {
        Self { started, ..Self::default() }
    }
}

/// Why claude was not started.
#[derive(Debug)]
pub(super) enum StartFailure {
    Launch(String),
    Dependency(String),
}

/// How an attempt begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstPrompt {
    /// The session to resume; `None` for a new one.
    pub resume: Option<String>,
    /// Whether to fork the session instead of continuing it.
    pub fork: bool,
    /// Text of the first message; may be empty.
    pub text: String,
    /// Whether the job's prompt follows the text.
    pub prompt: bool,
}

impl FirstPrompt {
    /// Returns the first prompt of the next attempt of this record.
    pub(super) fn for_record(record: &Record) -> Self {
        if let Some(prompt) = Self::with_answer(record) {
            return prompt;
        }
        match &record.session.id {
            // The message is in the inbox.
            Some(session) if record.attempt.resumed => {
                Self { resume: Some(session.clone()), ..Self::default() }
            }
            Some(_)
                if record.attempt.number > 1
                    && record.session.began
                    && record.progress.was_idle =>
            {
                Self::resume_only(record)
            }
            Some(session) if record.attempt.number > 1 && record.session.began => {
                Self { resume: Some(session.clone()), ..Self::interrupted(record) }
            }
            _ => Self::with_prompt(record, ""),
        }
    }

    /// Returns the number of messages that are this program's own and not a new task.
    pub(super) fn own_messages(&self) -> usize {
        usize::from(!self.prompt && !self.text.is_empty())
    }

    /// The prompt again, for a claude whose session is lost.
    fn after_lost_session(record: &Record) -> Self {
        Self::with_prompt(record, LOST_SESSION_TEXT)
    }

    /// Continues the session after an interruption.
    pub(super) fn interrupted(record: &Record) -> Self {
        Self { text: INTERRUPTED_TEXT.to_owned(), ..Self::resume_only(record) }
    }

    /// Resumes the session without a message.
    pub(super) fn resume_only(record: &Record) -> Self {
        Self { resume: record.session.id.clone(), ..Self::default() }
    }

    pub(super) fn with_prompt(record: &Record, text: &str) -> Self {
        let (resume, fork) = (record.spec.session.resume.clone(), record.spec.session.fork);
        Self { resume, fork, text: text.to_owned(), prompt: true }
    }
}

impl Supervisor {
    /// Whether claude could not find the session to resume. The CLI announces a session before it
    /// writes it to disk (2.1.197: nothing is written before the first tool call), so only an
    /// attempt can show this.
    pub(super) fn needs_fresh_session(&self, verdict: &Verdict) -> bool {
        let refused = verdict.reason() == Some(Reason::ClaudeRefused) && !self.digest.began;
        let why = verdict.error().unwrap_or_default();
        refused
            && !self.first_prompt.prompt
            && !self.record.attempt.resumed
            && why.contains("No conversation found")
    }

    pub(super) fn begin_fresh_session(&mut self) {
        self.next_attempt();
        self.record.session.id = None;
        self.record.session.file = None;
        self.record.session.began = false;
        self.record.progress.released = None;
        self.record
            .warn("the conversation was not on claude's disk: the job began with its prompt again");
        self.first_prompt = FirstPrompt::after_lost_session(&self.record);
        self.keep_alive.exited_idle = false;
        self.archive_attempt(Digest::default());
        self.conversation = ConversationState::default();
        self.phase = WorkerPhase::Starting;
        self.log(EventKind::StartedOver);
        self.effects.push(Effect::RestoreAside);
        self.save();
        self.effects.push(Effect::Launch);
    }
}
