//! Attempts: what a run of claude opens with, and when another one follows.

use super::{ConversationState, Effect, Now, Supervisor, WorkerPhase};
use crate::job::{EventKind, Reason, Record, Verdict};
use crate::stream::Digest;

/// What claude is told when it goes on with its conversation after it was cut off.
const INTERRUPTED: &str = "You were interrupted: the process you ran in was ended from outside. \
    Look at what is already done, then go on with the task where you left off. Do not start over. \
    Background work, wake-ups and cron tasks of yours are gone: start those anew that you still \
    need.";
/// What stands before the prompt where the conversation is gone.
const FORGOTTEN: &str = "(An earlier attempt at this task was interrupted, and its conversation is \
    lost. Look at what is already done before you begin.)\n\n";

/// What an attempt opens with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstPrompt {
    /// The conversation of claude to go on with; `None` for a new one.
    pub resume: Option<String>,
    /// That conversation is left as it is, and goes on as another.
    pub fork: bool,
    /// What claude is told first.
    pub text: String,
    /// The job's prompt follows on that.
    pub prompt: bool,
}

impl FirstPrompt {
    /// Of the attempt that the record says is next.
    pub(super) fn of(record: &Record) -> Self {
        if let Some(opening) = Self::with_answer(record) {
            return opening;
        }
        match &record.session_id {
            // What it is told lies in the inbox.
            Some(session) if record.resumed => {
                Self { resume: Some(session.clone()), ..Self::default() }
            }
            Some(_) if record.attempt > 1 && record.session_began && record.was_idle => {
                Self::silent(record)
            }
            Some(session) if record.attempt > 1 && record.session_began => {
                Self { resume: Some(session.clone()), ..Self::interrupted(record) }
            }
            _ => Self::with_prompt(record, ""),
        }
    }

    /// Messages that are this program's own, and no new task.
    pub(super) fn own_messages(&self) -> usize {
        usize::from(!self.prompt && !self.text.is_empty())
    }

    /// The same task from its beginning, for a claude that has forgotten its conversation.
    fn over_again(record: &Record) -> Self {
        Self::with_prompt(record, FORGOTTEN)
    }

    /// The conversation goes on where it was cut off.
    pub(super) fn interrupted(record: &Record) -> Self {
        Self { text: INTERRUPTED.to_owned(), ..Self::silent(record) }
    }

    /// The conversation is there again, and waits to be told something.
    pub(super) fn silent(record: &Record) -> Self {
        Self { resume: record.session_id.clone(), ..Self::default() }
    }

    pub(super) fn with_prompt(record: &Record, text: &str) -> Self {
        let (resume, fork) = (record.spec.resume.clone(), record.spec.fork);
        Self { resume, fork, text: text.to_owned(), prompt: true }
    }
}

impl Supervisor {
    /// Whether claude did not know the conversation that it was to go on with. The CLI announces
    /// a session before it writes it to its disk (seen with 2.1.197: up to its first tool call
    /// nothing was there), so that this is the only way to find out.
    pub(super) fn needs_fresh_session(&self, verdict: &Verdict) -> bool {
        let refused = verdict.reason() == Some(Reason::ClaudeRefused) && !self.digest.began;
        let why = verdict.error().unwrap_or_default();
        refused
            && !self.opening.prompt
            && !self.record.resumed
            && why.contains("No conversation found")
    }

    pub(super) fn begin_fresh_session(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.next_attempt(now);
        self.record.session_id = None;
        self.record.session_file = None;
        self.record.session_began = false;
        self.record.released = None;
        self.record
            .warn("the conversation was not on claude's disk: the job began with its prompt again");
        self.opening = FirstPrompt::over_again(&self.record);
        self.keep_alive.went_away = false;
        self.archive_attempt(Digest::default(), now);
        self.talk = ConversationState::default();
        self.phase = WorkerPhase::Starting;
        self.log(EventKind::StartedOver, now, effects);
        effects.push(Effect::RestoreAside);
        self.save(now, effects);
    }
}
