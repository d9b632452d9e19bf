//! How a job stands, as it is shown and told.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Activity, Blocked, Detached, Errand, JobId, Reason, Record, Status, Timestamp};
use crate::text::clip;

/// How a job stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The job's id.
    pub job_id: JobId,
    /// The worker's process id.
    pub pid: Option<i32>,
    /// How it stands.
    pub status: Status,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// The same as a sentence.
    pub error: Option<String>,
    /// When it was asked for.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The API's limit is being waited for, or ended it.
    pub rate_limited: bool,
    /// When claude tries again.
    pub retry_at: Option<Timestamp>,
    /// Claude's conversation.
    pub session_id: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Which run of claude this is, from 1.
    pub attempt: u32,
    /// Turns so far.
    pub num_turns: u64,
    /// US dollars as far as claude reported them.
    pub cost_usd: Option<f64>,
    /// When claude last wrote anything.
    pub last_event_at: Option<Timestamp>,
    /// What the agent does now.
    pub activity: Option<Activity>,
    /// What waits for an answer.
    pub blocked: Option<Blocked>,
    /// What a reader should know although it is no failure.
    pub warnings: Vec<String>,
    /// The folder it works in.
    pub cwd: String,
    /// The beginning of the prompt.
    pub prompt: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What keeps it apart from whoever started it, and what would take it along all the same.
    pub detached: Option<Detached>,
    /// Its place among those who wait for a slot, from 1; `None` where it waits for something
    /// else, or runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it takes its place in the queue (`--start-delay`), if that is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// The jobs whose end it still waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<JobId>,
    /// The group of which only so many run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When a limit ends that the job did not wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumable_at: Option<Timestamp>,
    /// What could not be told of it, or was not told yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Errand>,
    /// What can be done about a job that was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How to take up a job that was cut off.
pub fn hint(record: &Record) -> Option<String> {
    record.is_recoverable().then(|| {
        if record.reason == Some(Reason::DependencyFailed) {
            return "claudejob recover --all to run it after what it waits for".to_owned();
        }
        let how = if record.session_began { "go on with it" } else { "begin it again" };
        format!("claudejob recover {} to {how}", record.job_id)
    })
}

impl Standing {
    /// Of the job of this record.
    pub fn of(record: &Record) -> Self {
        let blocked = record
            .blocked
            .clone()
            .map(|blocked| Blocked { input: clip(&blocked.input, 600), ..blocked });
        // What a stream gone wild wrote into the record stays short here.
        let warnings = record.warnings.iter().take(8).map(|text| clip(text, 200)).collect();
        Self {
            job_id: record.job_id.clone(),
            pid: record.pid,
            status: record.status,
            reason: record.reason,
            error: record.error.as_deref().map(|error| clip(error, 600)),
            started_at: record.started_at,
            ended_at: record.ended_at,
            rate_limited: record.rate_limited,
            retry_at: record.retry_at,
            session_id: record.session_id.as_deref().map(|id| clip(id, 100)),
            model: record.model.as_deref().map(|model| clip(model, 100)),
            attempt: record.attempt,
            num_turns: record.num_turns,
            cost_usd: record.cost_usd,
            last_event_at: record.last_event_at,
            activity: record.activity.clone(),
            blocked,
            warnings,
            cwd: clip(&record.spec.cwd, 1_000),
            prompt: clip(&record.prompt, 200),
            labels: record
                .spec
                .labels
                .iter()
                .take(10)
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            detached: record.detached.clone().map(|detached| Detached {
                cgroup: None,
                // Once it has ended there is nothing to be taken along.
                risks: if record.status.is_live() { detached.risks } else { Vec::new() },
                ..detached
            }),
            position: None,
            starts_at: None,
            waits_for: Vec::new(),
            group: record.spec.admission.group.clone(),
            resumable_at: record.resumable_at,
            undelivered: Vec::new(),
            hint: hint(record),
        }
    }

    /// Milliseconds from the start to the end or to now.
    pub fn age(&self, now: Timestamp) -> std::time::Duration {
        self.started_at.map(|at| self.ended_at.unwrap_or(now).since(at)).unwrap_or_default()
    }
}
