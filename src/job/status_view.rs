//! A job's state as `status` and notifications show it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{
    Activity, Blocked, Detached, Detachment, JobId, Notification, Reason, Record, Status,
    Timestamp, WaitingFor, WorkTime, WorktreeView,
};
use crate::text::clip;

/// A job's state.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusView {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker, also after it ended.
    pub pid: Option<i32>,
    /// Name of the machine on which the worker was started; null in records of earlier versions.
    pub host: Option<String>,
    /// The job's status.
    pub status: Status,
    /// Why the job failed, as a stable word; null unless it failed.
    pub reason: Option<Reason>,
    /// Why the job failed, as a sentence.
    pub error: Option<String>,
    /// When the job was started.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub ended_at: Option<Timestamp>,
    /// How long the job has worked, for text.
    #[serde(skip)]
    pub work_time: Option<WorkTime>,
    /// A limit of the API, or its overload, is being waited for or ended the job.
    pub rate_limited: bool,
    /// When claude tries again.
    pub retry_at: Option<Timestamp>,
    /// Claude's session, which `claude --resume` accepts.
    pub session_id: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Number of turns so far.
    pub num_turns: u64,
    /// Cost in US dollars as claude reported it.
    pub cost_usd: Option<f64>,
    /// `costUsd` is a lower bound: an attempt ended without reporting its cost.
    pub cost_is_lower_bound: bool,
    /// Since when the job's processes are frozen (`claudejob pause --stop`).
    pub frozen_at: Option<Timestamp>,
    /// When claude last wrote anything.
    pub last_event_at: Option<Timestamp>,
    /// What the agent is doing now or did last.
    pub activity: Option<Activity>,
    /// The request that waits for an answer.
    pub blocked: Option<Blocked>,
    /// Problems that did not make the job fail.
    pub warnings: Vec<String>,
    /// The directory in which the job works.
    pub cwd: String,
    /// The job's git worktree (`--worktree`).
    pub worktree: Option<WorktreeView>,
    /// The beginning of the prompt.
    pub prompt: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How the worker is detached from the process that started it.
    pub detached: Option<DetachedView>,
    /// Position of a queued job among those that wait for a slot, from 1; null while it waits for
    /// something else.
    pub position: Option<usize>,
    /// When the job joins the queue (`--start-delay`); null afterwards.
    pub starts_at: Option<Timestamp>,
    /// The jobs for whose end a queued job waits.
    pub waits_for: Vec<JobId>,
    /// Why the job is not working now; null while it works and after its end.
    pub waiting_for: Option<WaitingFor>,
    /// The job's group (`--group`), which limits how many of its jobs run at once.
    pub group: Option<String>,
    /// The job whose request this one repeats (`claudejob rerun`).
    pub rerun_of: Option<JobId>,
    /// The profile of the user's configuration file whose environment the job has.
    pub profile: Option<String>,
    /// When a limit ends for which the job did not wait: it can be resumed then.
    pub resumable_at: Option<Timestamp>,
    /// Notifications that could not be delivered, or are not delivered yet.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Notification>,
    /// The command to run next, for `sh`; null for a completed job.
    pub hint: Option<String>,
}

/// How a job's worker is detached from the process that started it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct DetachedView {
    /// By a session or by a systemd scope.
    pub by: Detachment,
    /// The worker's systemd scope.
    pub unit: Option<String>,
    /// What would end the job nevertheless; empty after its end.
    pub risks: Vec<String>,
}

impl DetachedView {
    fn new(detached: Detached, status: Status) -> Self {
        let risks = if status.is_live() { detached.risks } else { Vec::new() };
        Self { by: detached.by, unit: detached.unit, risks }
    }
}

impl StatusView {
    /// Returns the state of the job with this record.
    pub(crate) fn from_record(record: &Record) -> Self {
        let mut blocked = record.blocked.clone();
        if let Some(blocked) = &mut blocked {
            blocked.input = clip(&blocked.input, 600);
        }
        let labels = record.spec.labels.clone().into_iter().take(10).collect();
        // A faulty stream may have put long texts into the record.
        let warnings = record.warnings.iter().take(8).map(|text| clip(text, 200)).collect();
        Self {
            job_id: record.job_id.clone(),
            pid: record.worker.pid,
            host: clip_some(record.worker.host.as_deref(), 100),
            status: record.status,
            reason: record.reason,
            error: clip_some(record.error.as_deref(), 600),
            started_at: record.times.started_at,
            ended_at: record.times.ended_at,
            work_time: record.work_time(),
            rate_limited: record.limit.rate_limited,
            retry_at: record.limit.retry_at,
            session_id: clip_some(record.session.id.as_deref(), 100),
            model: clip_some(record.model.as_deref(), 100),
            attempt: record.attempt.number,
            num_turns: record.progress.num_turns,
            cost_usd: record.cost.usd,
            cost_is_lower_bound: record.cost.is_lower_bound,
            frozen_at: record.times.frozen_at,
            last_event_at: record.times.last_event_at,
            activity: record.activity.clone(),
            blocked,
            warnings,
            cwd: clip(&record.spec.cwd, 1_000),
            worktree: record.spec.worktree.as_ref().map(WorktreeView::new),
            prompt: clip(&record.prompt, 200),
            labels,
            detached: record.worker.detached.clone().map(|d| DetachedView::new(d, record.status)),
            position: None,
            starts_at: None,
            waits_for: Vec::new(),
            waiting_for: record.waiting_for(),
            group: record.spec.queue_options.group.clone(),
            rerun_of: record.spec.rerun_of.clone(),
            profile: record.spec.profile.clone(),
            resumable_at: record.limit.resumable_at,
            undelivered_notifications: Vec::new(),
            undelivered: Vec::new(),
            hint: record.hint(),
        }
    }

    /// Sets the undelivered notifications, under both field names.
    pub(crate) fn set_undelivered(&mut self, notifications: Vec<Notification>) {
        self.undelivered.clone_from(&notifications);
        self.undelivered_notifications = notifications;
    }

    /// Rewrites the commands in the answer.
    pub(crate) fn map_hints(&mut self, map: impl Fn(String) -> String) {
        self.hint = self.hint.take().map(&map);
        self.waiting_for = self.waiting_for.take().map(|wait| wait.map_hint(map));
    }

    /// Returns the time since the start until now or the end.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        match self.started_at {
            Some(started_at) => self.ended_at.unwrap_or(now).since(started_at),
            None => Duration::ZERO,
        }
    }
}

fn clip_some(text: Option<&str>, max_chars: usize) -> Option<String> {
    text.map(|text| clip(text, max_chars))
}
