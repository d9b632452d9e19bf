//! A job in the list.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::job::{
    Activity, Blocked, JobId, Notification, Reason, Record, Status, StatusView, Summary, Timestamp,
    WaitingFor, WorkTime,
};
use crate::text::clip;

/// One job of the list.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker, also after it ended.
    pub pid: Option<i32>,
    /// The job's status; null if its record cannot be read.
    pub status: Option<Status>,
    /// Why the job failed, as a stable word; null unless it failed.
    pub reason: Option<Reason>,
    /// Why the job failed, as a sentence, or why its record cannot be read.
    pub error: Option<String>,
    /// When the job was started.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub ended_at: Option<Timestamp>,
    /// The job waits for the end of a limit or an overload of the API, or ended because of it.
    pub rate_limited: bool,
    /// Time of the next try.
    pub retry_at: Option<Timestamp>,
    /// End of the limit that ended the job: it can be resumed then.
    pub resumable_at: Option<Timestamp>,
    /// Position of a queued job in the queue, from 1.
    pub position: Option<usize>,
    /// When the job joins the queue (`--start-delay`), if that is in the future.
    pub starts_at: Option<Timestamp>,
    /// The unfinished jobs that a queued job waits for.
    pub waits_for: Vec<JobId>,
    /// Why the job is not working now; null while it works and after its end.
    pub waiting_for: Option<WaitingFor>,
    /// Number of turns so far.
    pub num_turns: u64,
    /// Cost in US dollars as claude reported it.
    pub cost_usd: Option<f64>,
    /// `costUsd` is a lower bound: an attempt ended without reporting its cost.
    pub cost_is_lower_bound: bool,
    /// The request of the agent that waits for an answer.
    pub blocked: Option<Blocked>,
    /// Current activity of the agent.
    pub activity: Option<Activity>,
    /// The beginning of the prompt.
    pub prompt: String,
    /// Notifications that have not been delivered yet or could not be delivered; only with
    /// `--undelivered`.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Notification>,
    /// The job's group (`--group`), which limits how many of its jobs run at once.
    pub group: Option<String>,
    /// The branch of the job's git worktree (`--worktree`).
    pub branch: Option<String>,
    /// The job's labels.
    pub labels: BTreeMap<String, String>,
    /// Problems of a live job that did not make it fail, for example that it runs on another
    /// machine; `status` also shows those of an ended job.
    pub warnings: Vec<String>,
    /// Always false: no field is left out.
    pub truncated: bool,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
    /// Values for columns of the text alone.
    #[serde(skip)]
    pub for_text: ItemTexts,
}

/// Values of an [`Item`] that only its text shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemTexts {
    pub work_time: Option<WorkTime>,
    pub attempt: u32,
    pub model: Option<String>,
    /// The directory in which the job works; empty if it was not read.
    pub folder: String,
    /// The first line of the answer, if it was read.
    pub result: Option<String>,
}

fn warnings_of(record: &Record) -> Vec<String> {
    if !record.status.is_live() {
        return Vec::new();
    }
    // The last ones first: a reader appends its own warning.
    record.warnings.iter().rev().take(2).map(|text| clip(text, 160)).collect()
}

impl Item {
    /// Returns whether the job has an answer that its text shows.
    pub(super) fn shows_answer(&self) -> bool {
        matches!(self.status, Some(Status::Completed | Status::Idle))
    }

    pub(super) fn from_record(record: Record, view: StatusView) -> Self {
        Self {
            hint: view.hint,
            for_text: ItemTexts {
                work_time: view.work_time,
                attempt: view.attempt,
                model: view.model,
                folder: view.cwd,
                result: None,
            },
            waiting_for: view.waiting_for,
            position: view.position,
            starts_at: view.starts_at,
            waits_for: view.waits_for,
            warnings: warnings_of(&record),
            pid: record.worker.pid,
            status: Some(view.status),
            reason: record.reason,
            error: record.error.map(|error| clip(&error, Summary::MAX_ERROR_CHARS)),
            started_at: record.times.started_at,
            ended_at: record.times.ended_at,
            rate_limited: view.rate_limited,
            retry_at: view.retry_at,
            resumable_at: record.limit.resumable_at,
            num_turns: record.progress.num_turns,
            cost_usd: record.cost.usd,
            cost_is_lower_bound: record.cost.is_lower_bound,
            blocked: record.blocked.map(|blocked| Blocked {
                input: clip(&blocked.input, 120),
                questions: blocked.questions.into_iter().take(2).collect(),
                others: Vec::new(),
                ..blocked
            }),
            activity: record
                .activity
                .map(|activity| Activity { text: clip(&activity.text, 60), tool: activity.tool }),
            prompt: clip(&record.prompt, Summary::MAX_PROMPT_CHARS),
            group: record.spec.queue_options.group,
            branch: record.spec.worktree.map(|worktree| worktree.branch),
            labels: record.spec.labels,
            ..Self::blank(record.job_id)
        }
    }

    /// Shows an ended job. It stays ended, so its lock need not be checked.
    pub(super) fn from_summary(summary: Summary) -> Self {
        Self {
            hint: summary.hint(),
            for_text: ItemTexts {
                work_time: summary.work_time(),
                attempt: summary.attempt,
                model: summary.model,
                ..ItemTexts::default()
            },
            pid: summary.pid,
            status: Some(summary.status),
            reason: summary.reason,
            error: summary.error,
            started_at: summary.started_at,
            ended_at: summary.ended_at,
            rate_limited: summary.rate_limited,
            resumable_at: summary.resumable_at,
            num_turns: summary.num_turns,
            cost_usd: summary.cost_usd,
            cost_is_lower_bound: summary.cost_is_lower_bound,
            prompt: summary.prompt,
            group: summary.spec.admission.group,
            branch: summary.spec.worktree.map(|worktree| worktree.branch),
            labels: summary.spec.labels,
            ..Self::blank(summary.job_id)
        }
    }

    pub(super) fn unreadable(id: JobId, error: &str) -> Self {
        Self { error: Some(clip(error, 300)), ..Self::blank(id) }
    }

    /// Returns an item without any values.
    pub(super) fn blank(job_id: JobId) -> Self {
        Self {
            job_id,
            pid: None,
            status: None,
            reason: None,
            error: None,
            started_at: None,
            ended_at: None,
            rate_limited: false,
            retry_at: None,
            resumable_at: None,
            position: None,
            starts_at: None,
            waits_for: Vec::new(),
            waiting_for: None,
            num_turns: 0,
            cost_usd: None,
            cost_is_lower_bound: false,
            blocked: None,
            activity: None,
            prompt: String::new(),
            undelivered_notifications: Vec::new(),
            undelivered: Vec::new(),
            group: None,
            branch: None,
            labels: BTreeMap::new(),
            warnings: Vec::new(),
            truncated: false,
            hint: None,
            for_text: ItemTexts::default(),
        }
    }
}
