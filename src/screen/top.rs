//! The state of `top`: the jobs by need of attention, the chosen one with its conversation, and
//! what keys do. Pure: inputs in, effects out.

mod draw;
mod header;
mod help;
mod job;
mod keys;
mod layout;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{InputLine, Key, Picker};
use crate::job::{JobId, Status, Timestamp};
use crate::stream::transcript::TranscriptLine;
use draw::{MAX_TYPED_ROWS, label};
use job::by_attention;
use layout::{LayoutNeeds, TopLayout};

pub(crate) use job::{JobPlace, TopJob};

/// Age from which it is shown in hours.
const LONG_AGO: Duration = Duration::from_secs(3_600);
/// Maximum number of entries of the conversation that are kept.
const MAX_ENTRIES: usize = 500;

/// What happened.
#[derive(Debug)]
pub(crate) enum TopInput {
    Key(Key),
    /// The terminal has this width and height.
    Size(u16, u16),
    /// These are all jobs.
    Jobs(Vec<TopJob>),
    /// These jobs are new or have changed.
    Changed(Vec<TopJob>),
    /// This job was removed.
    Removed(JobId),
    Queue(QueueState),
    /// The open request of this job.
    Asked(JobId, Picker),
    /// The end of the conversation of the chosen job.
    Conversation(JobId, Vec<TranscriptLine>),
    /// The next entries of the conversation of the chosen job.
    Said(JobId, Vec<TranscriptLine>),
    /// An action has ended: what it did, or why it failed.
    Done(TopEffect, Result<String, String>),
    Tick(Timestamp),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub(crate) enum TopEffect {
    /// Read the conversation of this job from now on.
    Follow(JobId),
    /// Read the open request of this job.
    Ask(JobId),
    Answer {
        id: JobId,
        request_id: String,
        response: Value,
    },
    Send(JobId, String),
    Interrupt(JobId),
    Kill(JobId),
    /// Recover or resume a job that has ended, with this message.
    Continue(JobId, Option<String>),
    Pause(JobId),
    Unpause(JobId),
    /// Run this verb for the job on the terminal.
    Run(JobVerb, JobId),
    /// Stop until the shell continues this process.
    Suspend,
    Quit,
}

/// A verb that needs the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobVerb {
    Attach,
    Diff,
    Open,
}

impl JobVerb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Diff => "diff",
            Self::Open => "open",
        }
    }
}

/// What the header says about the queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueState {
    /// Number of slots in use.
    pub slots: usize,
    /// Largest number of jobs that may run at once; `None` if that is not limited.
    pub max_slots: Option<usize>,
    /// Ends of the limits of the API, with their text in local time.
    pub limits: Vec<(Timestamp, String)>,
    /// What is paused: the queue or groups.
    pub paused: Vec<String>,
    /// The jobs that are paused by id.
    pub paused_jobs: BTreeSet<JobId>,
}

/// What keys do at present.
#[derive(Debug, Default)]
pub(super) enum TopMode {
    #[default]
    Choosing,
    Typing(TypedFor, InputLine),
    Answering(JobId, Picker),
    /// The job is killed if the next key says so.
    ConfirmingKill(JobId),
    Help,
}

/// What the typed line is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TypedFor {
    /// The words that the shown jobs must have; the text before.
    Filter(String),
    Message(JobId),
    /// A message with which the job continues.
    Continuation(JobId),
}

/// The answer to a key, until the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopNotice {
    pub text: String,
    pub is_error: bool,
}

/// The state of `top`.
#[derive(Debug)]
pub(crate) struct TopModel {
    /// In the order of the list.
    jobs: Vec<TopJob>,
    /// Indices of the jobs that the filter lets through.
    shown: Vec<usize>,
    filter: String,
    chosen: Option<JobId>,
    /// Index of the chosen job among the shown ones.
    row: usize,
    /// Index of the first row of the list.
    first_row: usize,
    conversation: Vec<TranscriptLine>,
    /// Number of lines that the conversation is scrolled back.
    scrolled: usize,
    queue: QueueState,
    mode: TopMode,
    /// Messages that could not be sent while something else was typed.
    unsent: Vec<(TypedFor, String)>,
    notice: Option<TopNotice>,
    now: Timestamp,
    size: (u16, u16),
}

impl TopModel {
    pub(crate) fn new(now: Timestamp, width: u16, height: u16) -> Self {
        Self {
            jobs: Vec::new(),
            shown: Vec::new(),
            filter: String::new(),
            chosen: None,
            row: 0,
            first_row: 0,
            conversation: Vec::new(),
            scrolled: 0,
            queue: QueueState::default(),
            mode: TopMode::default(),
            unsent: Vec::new(),
            notice: None,
            now,
            size: (width, height),
        }
    }

    /// Takes an input, and returns what is to be done.
    pub(crate) fn handle(&mut self, input: TopInput) -> Vec<TopEffect> {
        let before = self.chosen.clone();
        let mut effects = Vec::new();
        match input {
            TopInput::Key(key) => effects = self.key(&key),
            TopInput::Size(width, height) => self.size = (width, height),
            TopInput::Jobs(jobs) => {
                self.jobs = jobs;
                self.arrange();
                self.close_questions();
            }
            TopInput::Changed(jobs) => self.change(jobs),
            TopInput::Removed(id) => {
                self.jobs.retain(|job| job.id != id);
                self.arrange();
                self.close_questions();
            }
            TopInput::Queue(queue) => self.queue = queue,
            TopInput::Asked(id, picker) => self.open_picker(id, picker),
            TopInput::Conversation(id, entries) if self.chosen.as_ref() == Some(&id) => {
                self.conversation = entries;
            }
            TopInput::Conversation(..) => {}
            TopInput::Said(id, entries) => self.say(&id, entries),
            TopInput::Done(effect, result) => self.end_action(effect, result),
            TopInput::Tick(now) => self.now = now,
        }
        if self.chosen != before {
            self.conversation.clear();
            self.scrolled = 0;
            if let Some(id) = &self.chosen {
                effects.insert(0, TopEffect::Follow(id.clone()));
            }
        }
        self.scroll_list();
        effects
    }

    /// Returns the steps in which the shown times change: seconds, or minutes if all that is shown
    /// happened long ago.
    pub(crate) fn clock_step(&self) -> Option<Duration> {
        let mut jobs = self.visible_jobs().peekable();
        jobs.peek()?;
        let is_recent = |job: &TopJob| {
            let has_ended = job.ended_at.filter(|_| !job.is_live());
            has_ended.is_none_or(|at| self.now.since(at) < LONG_AGO)
        };
        let has_seconds = !self.queue.limits.is_empty() || jobs.any(is_recent);
        Some(Duration::from_secs(if has_seconds { 1 } else { 60 }))
    }

    /// Returns the jobs in the visible rows of the list.
    pub(crate) fn visible_jobs(&self) -> impl Iterator<Item = &TopJob> {
        let rows = usize::from(self.layout().rows());
        self.shown.iter().skip(self.first_row).take(rows).map(|index| &self.jobs[*index])
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &TopJob> {
        self.jobs.iter()
    }

    pub(crate) fn chosen_job(&self) -> Option<&TopJob> {
        self.chosen.as_ref()?;
        self.shown.get(self.row).map(|index| &self.jobs[*index])
    }

    /// Returns whether the list contains a live job with this id.
    pub(crate) fn is_live(&self, id: &JobId) -> bool {
        self.jobs.iter().any(|job| job.id == *id && job.is_live())
    }

    /// Returns the ids of the queued jobs.
    pub(crate) fn queued(&self) -> Vec<JobId> {
        let queued = self.jobs.iter().filter(|job| job.status == Some(Status::Queued));
        queued.map(|job| job.id.clone()).collect()
    }

    /// Shows how an action ended. A text that could not be sent can be sent again.
    fn end_action(&mut self, effect: TopEffect, result: Result<String, String>) {
        match (&result, effect) {
            // The next key does not wait for the queue to be read.
            (Ok(_), TopEffect::Pause(id)) => drop(self.queue.paused_jobs.insert(id)),
            (Ok(_), TopEffect::Unpause(id)) => drop(self.queue.paused_jobs.remove(&id)),
            (Err(_), TopEffect::Send(id, text)) => self.type_again(TypedFor::Message(id), &text),
            (Err(_), TopEffect::Continue(id, Some(text))) => {
                self.type_again(TypedFor::Continuation(id), &text);
            }
            _ => {}
        }
        let is_error = result.is_err();
        let text = result.unwrap_or_else(|error| error);
        self.notice = Some(TopNotice { text, is_error });
    }

    fn change(&mut self, changed: Vec<TopJob>) {
        for job in changed {
            match self.jobs.iter_mut().find(|known| known.id == job.id) {
                Some(known) => *known = job,
                None => self.jobs.push(job),
            }
        }
        self.arrange();
        self.close_questions();
    }

    /// Closes the choices for a request that was answered elsewhere, and the question about a job
    /// that is gone: another one can get its id.
    fn close_questions(&mut self) {
        let find = |id: &JobId| self.jobs.iter().find(|job| job.id == *id);
        if let TopMode::ConfirmingKill(id) = &self.mode
            && find(id).is_none()
        {
            let text = format!("{id} was removed");
            self.mode = TopMode::Choosing;
            self.notice = Some(TopNotice { text, is_error: false });
        }
        let TopMode::Answering(id, picker) = &self.mode else { return };
        let job = find(id);
        if let Some(blocked) = job.and_then(|job| job.blocked.as_ref())
            && (blocked.request_id == picker.request_id()
                || blocked.others.iter().any(|other| other == picker.request_id()))
        {
            return;
        }
        let text = format!("{id} no longer waits for this answer");
        self.mode = TopMode::Choosing;
        self.notice = Some(TopNotice { text, is_error: false });
    }

    /// Orders and filters the jobs. The chosen job stays chosen. If it is gone, none is chosen until
    /// a key chooses one: a key that was meant for it must not act on the job that takes its row.
    fn arrange(&mut self) {
        let was_empty = self.shown.is_empty();
        self.jobs.sort_by(by_attention);
        let filter = self.filter.to_lowercase();
        self.shown.clear();
        for (index, job) in self.jobs.iter().enumerate() {
            if job.matches(&filter) {
                self.shown.push(index);
            }
        }
        let chosen = self.chosen.as_ref();
        let is_chosen = |index: &usize| chosen == Some(&self.jobs[*index].id);
        match self.shown.iter().position(is_chosen) {
            Some(row) => self.row = row,
            None if chosen.is_none() && was_empty => self.choose(self.row),
            None => {
                self.row = self.row.min(self.shown.len().saturating_sub(1));
                self.chosen = None;
            }
        }
    }

    /// Chooses the job in this row, or in the last one.
    fn choose(&mut self, row: usize) {
        self.row = row.min(self.shown.len().saturating_sub(1));
        self.chosen = self.shown.get(self.row).map(|index| self.jobs[*index].id.clone());
    }

    fn set_filter(&mut self, filter: &str) {
        filter.clone_into(&mut self.filter);
        self.arrange();
        if self.chosen.is_none() {
            self.choose(self.row);
        }
    }

    fn say(&mut self, id: &JobId, entries: Vec<TranscriptLine>) {
        if self.chosen.as_ref() != Some(id) {
            return;
        }
        self.conversation.extend(entries);
        let excess = self.conversation.len().saturating_sub(MAX_ENTRIES);
        self.conversation.drain(..excess);
    }

    /// Scrolls the list so that the chosen row is visible.
    fn scroll_list(&mut self) {
        let rows = usize::from(self.layout().rows()).max(1);
        let last = self.shown.len().saturating_sub(rows);
        let lowest = (self.row + 1).saturating_sub(rows);
        self.first_row = self.first_row.clamp(lowest, self.row.max(lowest)).min(last);
    }

    fn layout(&self) -> TopLayout {
        let (width, _) = self.size;
        let typed = match &self.mode {
            TopMode::Typing(purpose, line) => {
                let left = usize::from(width).saturating_sub(label(purpose, width).width());
                line.view(left, usize::from(MAX_TYPED_ROWS)).lines.len()
            }
            _ => 0,
        };
        let footer = (self.notice_lines().len() + typed).max(1);
        TopLayout::new(
            self.size,
            &LayoutNeeds {
                jobs: self.shown.len(),
                footer: u16::try_from(footer).unwrap_or(1),
                has_notes: !self.header_notes().is_empty(),
                is_answering: matches!(self.mode, TopMode::Answering(..)),
            },
        )
    }
}
