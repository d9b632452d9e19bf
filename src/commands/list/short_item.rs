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
    /// The id and the status.
    Name,
}

/// One job of a shortened list: fields that are null, false, zero or empty are absent.
//
// Its fields are those of `Item`, which serde reads.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ShortItem"))]
#[serde(rename_all = "camelCase", remote = "Item")]
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
    /// The branch of the job's git worktree (`--worktree`).
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
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

/// An item that is serialized as a [`ShortItem`].
#[derive(Serialize)]
pub(super) struct Shortened<'a>(#[serde(serialize_with = "ShortItem::serialize")] pub &'a Item);

impl Item {
    /// Shortens the item to this size.
    pub(super) fn shortened(mut self, size: ItemSize, address: &Address) -> Self {
        let is_shortest = match size {
            ItemSize::Full => return self,
            ItemSize::Short => false,
            ItemSize::Shortest => true,
            ItemSize::Name => {
                let Self { job_id, status, .. } = self;
                return Self { status, truncated: true, ..Self::blank(job_id) };
            }
        };
        let (max_text, max_hint) = if is_shortest { (30, 90) } else { (60, 160) };
        if is_shortest {
            self.labels.clear();
            self.activity = None;
        }
        self.truncated = true;
        self.hint = self.hint.map(|hint| short_hint(&self.job_id, hint, max_hint, address));
        self.error = self.error.map(|error| clip(&error, max_text));
        self.prompt = clip(&self.prompt, max_text);
        self.waits_for.truncate(if is_shortest { 1 } else { 5 });
        if let Some(wait) = &mut self.waiting_for {
            wait.why = clip(&wait.why, max_text);
            wait.hint = None;
        }
        if let Some(blocked) = &mut self.blocked {
            blocked.input = clip(&blocked.input, max_text);
            blocked.questions.truncate(if is_shortest { 0 } else { 1 });
            for question in &mut blocked.questions {
                *question = Question { options: Vec::new(), ..question.truncated() };
            }
        }
        if let Some(activity) = &mut self.activity {
            activity.text = clip(&activity.text, max_text);
        }
        for warning in &mut self.warnings {
            *warning = clip(warning, 100);
        }
        self.undelivered_notifications.truncate(if is_shortest { 1 } else { 3 });
        for notification in &mut self.undelivered_notifications {
            notification.error = notification.error.as_ref().map(|error| clip(error, max_text));
        }
        self.undelivered.clone_from(&self.undelivered_notifications);
        self
    }
}

/// Shortens a hint to a command that fits: without its comment, or one that shows all.
fn short_hint(id: &JobId, hint: String, max_bytes: usize, address: &Address) -> String {
    if hint.len() <= max_bytes {
        return hint;
    }
    match hint.split_once("  # ") {
        Some((command, _)) if command.len() <= max_bytes => command.to_owned(),
        _ => address.apply(full_status(id)),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
