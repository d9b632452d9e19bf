//! `list`: the jobs, newest first.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ANSWER_MOST;
use super::seen::look_leniently;
use super::status::Line;
use crate::error::Error;
use crate::job::{
    Activity, Admission, Blocked, Errand, JobId, Reason, Record, Status, Timestamp, known,
};
use crate::store::{LoadError, Store};
use crate::text::{clip, json_length};

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
    /// Only jobs of this group.
    pub group: Option<String>,
    /// Only jobs of which somebody was not told.
    pub undelivered: bool,
    /// Only jobs that were started then or later.
    pub since: Option<Timestamp>,
    /// Only so many, the first ones.
    pub limit: Option<usize>,
    /// Which come first.
    pub order: Order,
    /// The other way round, but for those that lack what the order is by: they stay last.
    pub reverse: bool,
}

/// What comes first in a list. What is equal comes newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What started last.
    #[default]
    Started,
    /// What ended last.
    Ended,
    /// What cost most.
    Cost,
    /// What took most turns.
    Turns,
    /// By status, in the order of a job's life.
    Status,
    /// By id.
    Id,
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
    /// Its place among those who wait for a slot, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it takes its place in the line, if that is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// The jobs that it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<JobId>,
    /// Turns so far.
    pub num_turns: u64,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// What waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// What the agent does now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The beginning of the prompt.
    pub prompt: String,
    /// What could not be told of it, or was not told yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Errand>,
    /// The group of which only so many run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Item {
    fn of(record: Record) -> Self {
        Self {
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
            blocked: record.blocked.map(|blocked| Blocked {
                input: clip(&blocked.input, 120),
                questions: blocked.questions.into_iter().take(2).collect(),
                others: Vec::new(),
                ..blocked
            }),
            activity: record
                .activity
                .map(|activity| Activity { text: clip(&activity.text, 60), tool: activity.tool }),
            prompt: clip(&record.prompt, 60),
            group: record.spec.admission.group,
            labels: record.spec.labels,
            ..Self::blank(record.job_id)
        }
    }

    fn unreadable(id: JobId, error: &str) -> Self {
        Self { error: Some(clip(error, 300)), ..Self::blank(id) }
    }

    /// One of which nothing is known.
    fn blank(job_id: JobId) -> Self {
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
            position: None,
            starts_at: None,
            waits_for: Vec::new(),
            num_turns: 0,
            cost_usd: None,
            blocked: None,
            activity: None,
            prompt: String::new(),
            undelivered: Vec::new(),
            group: None,
            labels: BTreeMap::new(),
        }
    }
}

/// The list. It holds the jobs' ids alone and reads each record when it is shown, so that a long
/// list takes little memory.
#[derive(Debug)]
pub struct ListAnswer {
    store: Store,
    line: OnceCell<Line>,
    with_errands: bool,
    ids: Vec<JobId>,
    /// There are jobs, whether or not any of them was asked for.
    pub of_many: bool,
    /// How many more there are that the answer leaves out for its length.
    pub omitted: usize,
}

impl ListAnswer {
    /// The jobs, in their order.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.ids.iter().filter_map(|id| item(&self.store, id, self.with_errands, &self.line))
    }

    /// Drops what does not fit an answer: of the last ones.
    fn shorten(&mut self) {
        let mut length = 2;
        let room = ANSWER_MOST - 150;
        let fitting = self
            .items()
            .take_while(|item| {
                length += serde_json::to_string(item).map_or(0, |text| json_length(&text) + 1);
                length <= room
            })
            .count();
        self.omitted = self.ids.len() - fitting;
        self.ids.truncate(fitting);
    }
}

impl Serialize for ListAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(None)?;
        for item in self.items() {
            list.serialize_element(&item)?;
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

/// Of the record of a job that has ended only what the list shows of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    #[serde(default)]
    version: u32,
    job_id: JobId,
    status: Status,
    #[serde(default)]
    pid: Option<i32>,
    #[serde(default, deserialize_with = "known")]
    reason: Option<Reason>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    started_at: Option<Timestamp>,
    #[serde(default)]
    ended_at: Option<Timestamp>,
    #[serde(default)]
    rate_limited: bool,
    #[serde(default)]
    num_turns: u64,
    #[serde(default)]
    cost_usd: Option<f64>,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    spec: Marks,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Marks {
    admission: Admission,
    labels: BTreeMap<String, String>,
}

/// A job that has ended, which stays so: its record need not be held against its lock, nor be
/// decoded as a whole.
fn ended(store: &Store, id: &JobId) -> Option<Item> {
    let record = store.job(id).part::<Ended>().ok()?;
    // The Node skill's records are read in another way.
    if record.status.is_live() || record.version == 0 {
        return None;
    }
    Some(Item {
        pid: record.pid,
        status: Some(record.status),
        reason: record.reason,
        error: record.error.map(|error| clip(&error, 120)),
        started_at: record.started_at,
        ended_at: record.ended_at,
        rate_limited: record.rate_limited,
        num_turns: record.num_turns,
        cost_usd: record.cost_usd,
        prompt: clip(&record.prompt, 60),
        group: record.spec.admission.group,
        labels: record.spec.labels,
        ..Item::blank(record.job_id)
    })
}

/// One job for the list; `None` if it was removed since its name was read.
fn item(store: &Store, id: &JobId, with_errands: bool, line: &OnceCell<Line>) -> Option<Item> {
    if !with_errands && let Some(item) = ended(store, id) {
        return Some(item);
    }
    let seen = match look_leniently(store, id) {
        Err(LoadError::NotFound) => return None,
        Err(error) => return Some(Item::unreadable(id.clone(), &error.to_string())),
        Ok(seen) => seen,
    };
    let errands = if with_errands { seen.dir.errands(&seen.record) } else { Vec::new() };
    let queued = seen.record.status == Status::Queued;
    let line = queued.then(|| line.get_or_init(|| Line::of(store)));
    let waiting = line.and_then(|line| line.waiting(store, &seen.record));
    let mut item = Item { undelivered: errands, ..Item::of(seen.record) };
    if let Some(waiting) = waiting {
        if waiting.is_over {
            item.status = Some(Status::Starting);
        }
        item.position = waiting.position;
        item.starts_at = waiting.starts_at;
        item.waits_for = waiting.waits_for;
        item.rate_limited |= waiting.limited_until.is_some();
        item.retry_at = item.retry_at.or(waiting.limited_until);
    }
    Some(item)
}

/// What a job's place in the list depends on.
#[derive(Clone, Debug)]
struct Place {
    id: JobId,
    status: Option<Status>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// Not known, nor is `turns`, where a glance was enough.
    cost: Option<f64>,
    turns: Option<u64>,
}

impl Place {
    fn is_ended(&self) -> bool {
        self.status.is_some_and(|status| !status.is_live())
    }
}

/// Lists the jobs.
pub fn list(store: &Store, request: &Request) -> Result<ListAnswer, Error> {
    let ids = store.ids()?;
    let of_many = !ids.is_empty();
    let line = OnceCell::new();
    let mut places: Vec<Place> =
        ids.into_iter().filter_map(|id| request.place(store, id, &line)).collect();
    places.sort_unstable_by(newest_first);
    if !request.all && !request.selects() {
        keep_recent(&mut places);
    }
    request.sort(&mut places);
    places.truncate(request.limit.unwrap_or(usize::MAX));
    let ids = places.into_iter().map(|place| place.id).collect();
    let mut answer = ListAnswer {
        store: store.clone(),
        line,
        with_errands: request.undelivered,
        ids,
        of_many,
        omitted: 0,
    };
    if !request.all {
        answer.shorten();
    }
    Ok(answer)
}

fn newest_first(a: &Place, b: &Place) -> Ordering {
    b.started.cmp(&a.started).then_with(|| b.id.cmp(&a.id))
}

impl Request {
    /// Whether it says itself which jobs, and how many.
    fn selects(&self) -> bool {
        !self.statuses.is_empty()
            || !self.labels.is_empty()
            || self.group.is_some()
            || self.undelivered
            || self.since.is_some()
            || self.limit.is_some()
    }

    /// Puts jobs that are there newest first into the order that is asked for.
    fn sort(&self, places: &mut [Place]) {
        if self.order == Order::Started && !self.reverse {
            return;
        }
        // Stable: what is equal stays newest first.
        places.sort_by(|a, b| match self.order {
            Order::Started => self.compare(a.started, b.started, |a, b| b.cmp(a)),
            Order::Ended => self.compare(a.ended, b.ended, |a, b| b.cmp(a)),
            Order::Cost => self.compare(a.cost, b.cost, |a, b| b.total_cmp(a)),
            Order::Turns => self.compare(a.turns, b.turns, |a, b| b.cmp(a)),
            Order::Status => self.compare(a.status, b.status, Ord::cmp),
            Order::Id => self.compare(Some(&a.id), Some(&b.id), Ord::cmp),
        });
    }

    fn compare<T>(&self, a: Option<T>, b: Option<T>, by: fn(&T, &T) -> Ordering) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) if self.reverse => by(&b, &a),
            (Some(a), Some(b)) => by(&a, &b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }

    /// Whether a glance at a job that has ended tells all that is asked for.
    fn is_told_by_glance(&self) -> bool {
        let of_glance = !matches!(self.order, Order::Cost | Order::Turns);
        of_glance && self.labels.is_empty() && self.group.is_none() && !self.undelivered
    }

    /// The job's place, if it is wanted in the list.
    fn place(&self, store: &Store, id: JobId, line: &OnceCell<Line>) -> Option<Place> {
        // What has ended stays so: a glance is enough. A live job may be a lost one.
        let glance = store.job(&id).glance().ok().filter(|glance| !glance.status.is_live());
        if let (Some(glance), true) = (glance, self.is_told_by_glance()) {
            let wanted = self.statuses.is_empty() || self.statuses.contains(&glance.status);
            let wanted = wanted && self.is_since(glance.started_at);
            // A glance may be all that can be had of a record: that is no job of any status.
            let filtered = !self.statuses.is_empty() || self.since.is_some();
            let is_readable =
                || item(store, &id, false, line).is_some_and(|item| item.status.is_some());
            return (wanted && (!filtered || is_readable())).then_some(Place {
                id,
                status: Some(glance.status),
                started: glance.started_at,
                ended: glance.ended_at,
                cost: None,
                turns: None,
            });
        }
        let item = item(store, &id, self.undelivered, line).filter(|item| self.wants(item))?;
        Some(Place {
            id,
            status: item.status,
            started: item.started_at,
            ended: item.ended_at,
            cost: item.cost_usd,
            turns: item.status.is_some().then_some(item.num_turns),
        })
    }

    fn is_since(&self, started: Option<Timestamp>) -> bool {
        self.since.is_none_or(|since| started >= Some(since))
    }

    fn wants(&self, item: &Item) -> bool {
        let status = self.statuses.is_empty()
            || item.status.is_some_and(|status| self.statuses.contains(&status));
        let group = self.group.is_none() || self.group == item.group;
        let group = group && !(self.undelivered && item.undelivered.is_empty());
        status
            && group
            && self.is_since(item.started_at)
            && self.labels.iter().all(|(key, value)| item.labels.get(key) == Some(value))
    }
}

/// Leaves the live jobs, the unreadable ones, and those that ended last.
fn keep_recent(places: &mut Vec<Place>) {
    let mut ends: Vec<Option<Timestamp>> =
        places.iter().filter(|place| place.is_ended()).map(|place| place.ended).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = ends.get(ENDED_SHOWN - 1).copied().flatten();
    let mut shown = 0;
    places.retain(|place| {
        if !place.is_ended() {
            return true;
        }
        let recent = place.ended >= oldest && shown < ENDED_SHOWN;
        shown += usize::from(recent);
        recent
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: &str, status: Option<Status>, cost: Option<f64>, turns: u64) -> Place {
        let at = |s: i64| Timestamp::from_epoch_ms(s * 1_000);
        let ended = status.filter(|status| !status.is_live()).and(at(100 - turns as i64));
        let started = status.and(at(i64::from(id.as_bytes()[0])));
        let (id, turns) = (JobId::parse(id).unwrap(), status.and(Some(turns)));
        Place { id, status, started, ended, cost, turns }
    }

    #[test]
    fn every_order_has_its_reverse_and_what_lacks_a_value_comes_last() {
        // In this order they were started.
        let mut places = vec![
            place("a", Some(Status::Completed), Some(0.5), 9),
            place("b", Some(Status::Failed), None, 2),
            place("c", Some(Status::Running), Some(2.0), 4),
            place("d", Some(Status::Completed), Some(0.5), 3),
            place("x", None, None, 0),
        ];
        places.sort_unstable_by(newest_first);
        for (order, ids, reversed) in [
            (Order::Started, "dcbax", "abcdx"),
            (Order::Ended, "bdacx", "adbcx"),
            (Order::Cost, "cdabx", "dacbx"),
            (Order::Turns, "acdbx", "bdcax"),
            (Order::Status, "cdabx", "bdacx"),
            (Order::Id, "abcdx", "xdcba"),
        ] {
            for (reverse, ids) in [(false, ids), (true, reversed)] {
                let mut sorted = places.clone();
                Request { order, reverse, ..Request::default() }.sort(&mut sorted);
                let found: String = sorted.iter().map(|place| place.id.as_str()).collect();
                assert_eq!(found, ids, "{order:?}, reversed: {reverse}");
            }
        }
    }
}
