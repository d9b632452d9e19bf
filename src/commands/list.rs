//! `list`: the jobs, newest first.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ANSWER_MOST;
use super::seen::look_leniently;
use crate::error::Error;
use crate::job::{Activity, JobId, Reason, Record, Status, Timestamp};
use crate::store::Store;
use crate::text::clip;

/// How many ended jobs are shown where nothing else was asked for.
const ENDED_SHOWN: usize = 20;

/// What to list.
#[derive(Debug, Default)]
pub struct Request {
    /// Every job.
    pub all: bool,
    /// Only these statuses; empty for any.
    pub statuses: Vec<Status>,
    /// Only jobs that have all these labels.
    pub labels: Vec<(String, String)>,
}

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The job's id.
    pub job_id: JobId,
    /// The worker's process id.
    pub pid: Option<i32>,
    /// How it stands; `None` if its record cannot be read.
    pub status: Option<Status>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same as a sentence, or why the record cannot be read.
    pub error: Option<String>,
    /// When it was asked for.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The API's limit is being waited for, or ended it.
    pub rate_limited: bool,
    /// When claude tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Turns so far.
    pub num_turns: u64,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// What the agent does now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The beginning of the prompt.
    pub prompt: String,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Item {
    fn of(record: Record) -> Self {
        Self {
            job_id: record.job_id,
            pid: record.pid,
            status: Some(record.status),
            reason: record.reason,
            error: record.error.map(|error| clip(&error, 120)),
            started_at: record.started_at,
            ended_at: record.ended_at,
            rate_limited: record.rate_limited,
            retry_at: record.retry_at,
            num_turns: record.num_turns,
            cost_usd: record.cost_usd,
            activity: record
                .activity
                .map(|activity| Activity { text: clip(&activity.text, 60), tool: activity.tool }),
            prompt: clip(&record.prompt, 60),
            labels: record.spec.labels,
        }
    }

    fn unreadable(id: JobId, error: &str) -> Self {
        Self {
            job_id: id,
            pid: None,
            status: None,
            reason: None,
            error: Some(clip(error, 300)),
            started_at: None,
            ended_at: None,
            rate_limited: false,
            retry_at: None,
            num_turns: 0,
            cost_usd: None,
            activity: None,
            prompt: String::new(),
            labels: BTreeMap::new(),
        }
    }

    fn is_live(&self) -> bool {
        self.status.is_some_and(Status::is_live)
    }
}

/// The list.
#[derive(Debug)]
pub struct ListAnswer {
    /// The jobs, newest first.
    pub items: Vec<Item>,
    /// How many more there are that the answer leaves out for its length.
    pub omitted: usize,
}

impl Serialize for ListAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(None)?;
        for item in &self.items {
            list.serialize_element(item)?;
        }
        if self.omitted > 0 {
            // Last in the array, so that an answer that was shortened says so.
            list.serialize_element(&serde_json::json!({
                "truncated": true,
                "omitted": self.omitted,
                "hint": "list --all, or a filter such as --status running",
            }))?;
        }
        list.end()
    }
}

/// Lists the jobs.
pub fn list(store: &Store, request: &Request) -> Result<ListAnswer, Error> {
    let mut items = Vec::new();
    for id in store.ids()? {
        let item = match look_leniently(store, &id) {
            // It was removed since its name was read.
            Err(crate::store::LoadError::NotFound) => continue,
            Err(error) => Item::unreadable(id, &error.to_string()),
            Ok(seen) => Item::of(seen.record),
        };
        if request.wants(&item) {
            items.push(item);
        }
    }
    items.sort_by(|a, b| b.started_at.cmp(&a.started_at).then_with(|| b.job_id.cmp(&a.job_id)));
    if !request.all && request.statuses.is_empty() && request.labels.is_empty() {
        keep_recent(&mut items);
    }
    let omitted = if request.all { 0 } else { shorten(&mut items) };
    Ok(ListAnswer { items, omitted })
}

impl Request {
    fn wants(&self, item: &Item) -> bool {
        let status = self.statuses.is_empty()
            || item.status.is_some_and(|status| self.statuses.contains(&status));
        status && self.labels.iter().all(|(key, value)| item.labels.get(key) == Some(value))
    }
}

/// Leaves the live jobs, the unreadable ones, and those that ended last.
fn keep_recent(items: &mut Vec<Item>) {
    let mut ends: Vec<Option<Timestamp>> =
        items.iter().filter(|item| !item.is_live()).map(|item| item.ended_at).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = ends.get(ENDED_SHOWN - 1).copied().flatten();
    let mut ended = 0;
    items.retain(|item| {
        if item.is_live() || item.status.is_none() {
            return true;
        }
        ended += 1;
        item.ended_at >= oldest && ended <= ENDED_SHOWN
    });
}

/// Drops what does not fit an answer: of the last ones, so that the newest stay.
fn shorten(items: &mut Vec<Item>) -> usize {
    let mut length = 2;
    let room = ANSWER_MOST - 150;
    let fitting = items
        .iter()
        .take_while(|item| {
            length += serde_json::to_string(item).map_or(0, |text| text.chars().count() + 1);
            length <= room
        })
        .count();
    let omitted = items.len() - fitting;
    items.truncate(fitting);
    omitted
}
