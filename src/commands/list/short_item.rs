//! A job in a list that is shortened to fit into an answer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::item::Item;
use crate::job::{
    Activity, Blocked, JobId, Notification, Question, Reason, Status, Timestamp, WaitingFor,
    full_status,
};
use crate::store::Address;
use crate::text::{clip, is_zero};

/// How much of each job a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemSize {
    /// All fields.
    Full,
    /// Without empty fields, and with truncated texts.
    Short,
    /// Also without labels and details, and with even shorter texts.
    Shortest,
}

/// One job of a shortened list: fields that are null, false, zero or empty are absent.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ShortItem {
    /// The job's id.
    job_id: JobId,
    /// Process id of the worker, also after it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// The job's status; null if its record cannot be read.
    status: Option<Status>,
    /// Why the job failed, as a stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// The beginning of the sentence that says why the job failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When the job was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When the job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// The job waits for the end of a limit or an overload of the API, or ended because of it.
    #[serde(skip_serializing_if = "is_false")]
    rate_limited: bool,
    /// Time of the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    /// End of the limit that ended the job: it can be resumed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumable_at: Option<Timestamp>,
    /// Position of a queued job in the queue, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    /// When the job joins the queue (`--start-delay`), if that is in the future.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    /// The unfinished jobs that a queued job waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<JobId>,
    /// Why the job is not working now.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<WaitingFor>,
    /// Number of turns so far.
    #[serde(skip_serializing_if = "is_zero")]
    num_turns: u64,
    /// Cost in US dollars as claude reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    /// `costUsd` is a lower bound: an attempt ended without reporting its cost.
    #[serde(skip_serializing_if = "is_false")]
    cost_is_lower_bound: bool,
    /// The request of the agent that waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<Blocked>,
    /// Current activity of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<Activity>,
    /// The beginning of the prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    prompt: String,
    /// Notifications that have not been delivered yet or could not be delivered; only with
    /// `--undelivered`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undelivered: Vec<Notification>,
    /// The job's group (`--group`), which limits how many of its jobs run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The job's labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// Problems of a live job that did not make it fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Always true: `status` gives the fields that are left out.
    truncated: bool,
    /// The command to run next, as `sh` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ShortItem {
    pub(super) fn from_item(item: Item, size: ItemSize, address: &Address) -> Self {
        let is_shortest = size == ItemSize::Shortest;
        let (max_text, max_hint) = if is_shortest { (30, 90) } else { (60, 160) };
        let short = |text: &str| clip(text, max_text);
        let details = |job_id: &JobId| address.apply(full_status(job_id));
        let hint = item.hint.map(|hint| match hint.len() > max_hint {
            // The command may fit without its comment.
            true => match hint.split_once("  # ") {
                Some((command, _)) if command.len() <= max_hint => command.to_owned(),
                _ => details(&item.job_id),
            },
            false => hint,
        });
        let mut notifications = item.undelivered_notifications;
        notifications.truncate(if is_shortest { 1 } else { 3 });
        for notification in &mut notifications {
            notification.error = notification.error.as_deref().map(short);
        }
        Self {
            pid: item.pid,
            status: item.status,
            reason: item.reason,
            error: item.error.as_deref().map(short),
            started_at: item.started_at,
            ended_at: item.ended_at,
            rate_limited: item.rate_limited,
            retry_at: item.retry_at,
            resumable_at: item.resumable_at,
            position: item.position,
            starts_at: item.starts_at,
            waits_for: item.waits_for.into_iter().take(if is_shortest { 1 } else { 5 }).collect(),
            waiting_for: item.waiting_for.map(|wait| WaitingFor {
                why: short(&wait.why),
                hint: None,
                ..wait
            }),
            num_turns: item.num_turns,
            cost_usd: item.cost_usd,
            cost_is_lower_bound: item.cost_is_lower_bound,
            blocked: item.blocked.map(|blocked| Blocked {
                input: short(&blocked.input),
                questions: blocked
                    .questions
                    .iter()
                    .filter(|_| !is_shortest)
                    .take(1)
                    .map(|question| Question { options: Vec::new(), ..question.truncated() })
                    .collect(),
                ..blocked
            }),
            activity: item
                .activity
                .filter(|_| !is_shortest)
                .map(|activity| Activity { text: short(&activity.text), ..activity }),
            prompt: short(&item.prompt),
            undelivered: notifications.clone(),
            undelivered_notifications: notifications,
            group: item.group,
            warnings: item.warnings.iter().map(|text| clip(text, 100)).collect(),
            labels: if is_shortest { BTreeMap::new() } else { item.labels },
            truncated: true,
            hint,
            job_id: item.job_id,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
