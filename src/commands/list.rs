//! `list`: the jobs, newest first.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use super::MAX_ANSWER_CHARS;
use super::observe::try_load_checked;
use super::status::{Line, standing_in_line};
use crate::error::Error;
use crate::job::{
    Activity, Blocked, JobId, Notification, Question, Reason, Record, Status, StatusView, Summary,
    Timestamp, WaitingFor, full_status,
};
use crate::store::{Address, Ended, Listed, LoadError, Store, Summaries};
use crate::text::{clip, is_zero, json_length};

/// How many ended jobs are shown where nothing else was asked for.
const ENDED_SHOWN: usize = 20;

/// What to list.
#[derive(Debug, Default)]
pub struct ListRequest {
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

/// One job of the list.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Item {
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
    /// A limit of the API, or its overload, is being waited for or ended the job.
    pub rate_limited: bool,
    /// When claude tries again.
    pub retry_at: Option<Timestamp>,
    /// When a limit ends for which the job did not wait: it can be resumed then.
    pub resumable_at: Option<Timestamp>,
    /// Place of a queued job among those that wait for a slot, from 1.
    pub position: Option<usize>,
    /// When the job takes its place in the queue (`--start-delay`), if that is to come.
    pub starts_at: Option<Timestamp>,
    /// The jobs whose end a queued job waits for.
    pub waits_for: Vec<JobId>,
    /// Why the job is not working now; null while it works and after its end.
    pub waiting_for: Option<WaitingFor>,
    /// Number of turns so far.
    pub num_turns: u64,
    /// Cost in US dollars as claude reported it.
    pub cost_usd: Option<f64>,
    /// `costUsd` is a lower bound: an attempt ended without reporting its cost.
    pub cost_is_lower_bound: bool,
    /// The request that waits for an answer.
    pub blocked: Option<Blocked>,
    /// What the agent is doing.
    pub activity: Option<Activity>,
    /// The beginning of the prompt.
    pub prompt: String,
    /// Notifications that could not be delivered, or were not delivered yet; only with
    /// `--undelivered`.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Notification>,
    /// The group of jobs (`--group`) of which only some run at once.
    pub group: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Problems of a live job that did not make it fail, such as that it runs on another machine;
    /// `status` has also those of a job that has ended.
    pub warnings: Vec<String>,
    /// Always false: all fields are there.
    pub truncated: bool,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

fn warnings_of(record: &Record) -> Vec<String> {
    if !record.status.is_live() {
        return Vec::new();
    }
    // The one that a reader adds comes last.
    record.warnings.iter().rev().take(2).map(|text| clip(text, 160)).collect()
}

impl Item {
    fn of(record: Record, standing: StatusView) -> Self {
        Self {
            hint: record.hint(),
            waiting_for: standing.waiting_for,
            position: standing.position,
            starts_at: standing.starts_at,
            waits_for: standing.waits_for,
            warnings: warnings_of(&record),
            pid: record.pid,
            status: Some(standing.status),
            reason: record.reason,
            error: record.error.map(|error| clip(&error, 120)),
            started_at: record.started_at,
            ended_at: record.ended_at,
            rate_limited: standing.rate_limited,
            retry_at: standing.retry_at,
            resumable_at: record.resumable_at,
            num_turns: record.num_turns,
            cost_usd: record.cost_usd,
            cost_is_lower_bound: record.cost_is_lower_bound,
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
            group: record.spec.queue_options.group,
            labels: record.spec.labels,
            ..Self::blank(record.job_id)
        }
    }

    /// A job that has ended, which stays so: its record need not be held against its lock.
    fn ended(summary: Summary) -> Self {
        Self {
            hint: summary.hint(),
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
            labels: summary.spec.labels,
            ..Self::blank(summary.job_id)
        }
    }

    fn unreadable(id: JobId, error: &str) -> Self {
        Self { error: Some(clip(error, 300)), ..Self::blank(id) }
    }

    /// A job of which nothing is known.
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
            labels: BTreeMap::new(),
            warnings: Vec::new(),
            truncated: false,
            hint: None,
        }
    }
}

/// How much of each job a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Every field.
    Full,
    /// Without empty fields, and with shorter texts.
    Short,
    /// The same without labels and details, and with the beginnings of texts.
    Shortest,
}

/// One job of a list that is shortened: fields that are null, false, zero or empty are absent.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ShortItem {
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
    /// A limit of the API, or its overload, is being waited for or ended the job.
    #[serde(skip_serializing_if = "is_false")]
    rate_limited: bool,
    /// When claude tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    /// When a limit ends for which the job did not wait: it can be resumed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumable_at: Option<Timestamp>,
    /// Place of a queued job among those that wait for a slot, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    /// When the job takes its place in the queue (`--start-delay`), if that is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    /// The jobs whose end a queued job waits for.
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
    /// The request that waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<Blocked>,
    /// What the agent is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<Activity>,
    /// The beginning of the prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    prompt: String,
    /// Notifications that could not be delivered, or were not delivered yet; only with
    /// `--undelivered`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undelivered: Vec<Notification>,
    /// The group of jobs (`--group`) of which only some run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Its labels.
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
    fn of(item: Item, size: Size, address: &Address) -> Self {
        let is_shortest = size == Size::Shortest;
        let (texts, hints) = if is_shortest { (30, 90) } else { (60, 160) };
        let short = |text: &str| clip(text, texts);
        let details = |job_id: &JobId| address.apply(full_status(job_id));
        let hint = item.hint.map(|hint| match hint.len() > hints {
            // Without its comment the command may fit.
            true => match hint.split_once("  # ") {
                Some((command, _)) if command.len() <= hints => command.to_owned(),
                _ => details(&item.job_id),
            },
            false => hint,
        });
        let mut errands = item.undelivered_notifications;
        errands.truncate(if is_shortest { 1 } else { 3 });
        for errand in &mut errands {
            errand.error = errand.error.as_deref().map(short);
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
            undelivered: errands.clone(),
            undelivered_notifications: errands,
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

/// The last element of a list that leaves out jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Omitted {
    /// Always true.
    truncated: bool,
    /// Number of jobs that are left out.
    omitted: usize,
    /// A command that shows them.
    hint: String,
}

/// The list. A job that has ended is decoded from its summary when it is shown, so that a long
/// list takes little memory.
#[derive(Debug)]
pub struct ListAnswer {
    store: Store,
    address: Address,
    summaries: Summaries,
    places: Vec<Place>,
    size: Size,
    /// There are jobs, whether or not any of them was asked for.
    pub of_many: bool,
    /// Number of jobs that are left out to keep the answer short.
    pub omitted: usize,
}

impl ListAnswer {
    /// The jobs, in their order.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.places.iter().filter_map(|place| {
            let item = match &place.source {
                Source::Look(item) => Item::clone(item),
                Source::Summary(ended) => match self.summaries.get(ended) {
                    Some(summary) => Item::ended(summary),
                    None => look_at(&self.store, &place.id, false, &OnceCell::new())?,
                },
            };
            let hint = item.hint.map(|hint| self.address.apply(hint));
            let apply = |wait: WaitingFor| wait.map_hint(|hint| self.address.apply(hint));
            let waiting_for = item.waiting_for.map(apply);
            Some(Item { hint, waiting_for, ..item })
        })
    }

    /// Shows less of each job until all fit into an answer, and leaves out the last ones where they
    /// still do not.
    fn shorten(&mut self) {
        let room = MAX_ANSWER_CHARS - 150;
        let mut fitting = 0;
        for size in [Size::Full, Size::Short, Size::Shortest] {
            let mut length = 2;
            fitting = self
                .items()
                .take_while(|item| {
                    length += self.length(item, size) + 1;
                    length <= room
                })
                .count();
            self.size = size;
            if fitting == self.places.len() {
                return;
            }
        }
        self.omitted = self.places.len() - fitting;
        self.places.truncate(fitting);
    }

    fn length(&self, item: &Item, size: Size) -> usize {
        let text = match size {
            Size::Full => serde_json::to_string(item),
            size => serde_json::to_string(&ShortItem::of(item.clone(), size, &self.address)),
        };
        text.map_or(0, |text| json_length(&text))
    }
}

#[cfg(test)]
impl schemars::JsonSchema for ListAnswer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListAnswer".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let element = [
            generator.subschema_for::<Item>(),
            generator.subschema_for::<ShortItem>(),
            generator.subschema_for::<Omitted>(),
        ];
        schemars::json_schema!({
            "description": "The jobs, in the order asked for.",
            "type": "array",
            "items": { "anyOf": element },
        })
    }
}

impl Serialize for ListAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(None)?;
        for item in self.items() {
            match self.size {
                Size::Full => list.serialize_element(&item)?,
                size => list.serialize_element(&ShortItem::of(item, size, &self.address))?,
            }
        }
        if self.omitted > 0 {
            // Last in the array, so that an answer that was shortened says so.
            let hint = "claudejob list --all  # or a filter, such as --status running";
            list.serialize_element(&Omitted {
                truncated: true,
                omitted: self.omitted,
                hint: self.address.apply(hint.to_owned()),
            })?;
        }
        list.end()
    }
}

/// Looks at a job for the list; `None` if it was removed since its name was read.
fn look_at(store: &Store, id: &JobId, with_errands: bool, line: &OnceCell<Line>) -> Option<Item> {
    let seen = match try_load_checked(store, id) {
        Err(LoadError::NotFound) => return None,
        Err(error) => return Some(Item::unreadable(id.clone(), &error.to_string())),
        Ok(seen) => seen,
    };
    let errands = if with_errands { seen.dir.notifications(&seen.record) } else { Vec::new() };
    let standing = standing_in_line(store, &seen.record, line);
    let item = Item::of(seen.record, standing);
    Some(Item { undelivered: errands.clone(), undelivered_notifications: errands, ..item })
}

/// A job with what its place in the list depends on.
#[derive(Clone, Debug)]
struct Place {
    id: JobId,
    status: Option<Status>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// Not known, nor is `turns`, of a job that has ended where nothing is asked for that its
    /// summary alone says.
    cost: Option<f64>,
    turns: Option<u64>,
    source: Source,
}

/// Where the list finds what it shows of a job.
#[derive(Clone, Debug)]
enum Source {
    /// In its summary: it has ended.
    Summary(Ended),
    /// It was looked at.
    Look(Box<Item>),
}

impl Place {
    fn of(id: JobId, item: Item) -> Self {
        Self {
            id,
            status: item.status,
            started: item.started_at,
            ended: item.ended_at,
            cost: item.cost_usd,
            turns: item.status.is_some().then_some(item.num_turns),
            source: Source::Look(Box::new(item)),
        }
    }

    fn is_ended(&self) -> bool {
        self.status.is_some_and(|status| !status.is_live())
    }
}

/// Lists the jobs.
pub fn list(store: &Store, request: &ListRequest) -> Result<ListAnswer, Error> {
    let (summaries, jobs) = store.summaries()?;
    let of_many = !jobs.is_empty();
    let line = OnceCell::new();
    let mut places: Vec<Place> =
        jobs.into_iter().filter_map(|job| request.place(store, &summaries, job, &line)).collect();
    places.sort_unstable_by(newest_first);
    if !request.all && !request.selects() {
        keep_recent(&mut places);
    }
    request.sort(&mut places);
    places.truncate(request.limit.unwrap_or(usize::MAX));
    let mut answer = ListAnswer {
        store: store.clone(),
        address: Address::of(store.root()),
        size: Size::Full,
        summaries,
        places,
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

impl ListRequest {
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

    /// Whether status and times of a job that has ended tell whether and where it is shown.
    fn is_told_by_times(&self) -> bool {
        let by_times = !matches!(self.order, Order::Cost | Order::Turns);
        by_times && self.labels.is_empty() && self.group.is_none() && !self.undelivered
    }

    /// The job's place, if it is wanted in the list.
    fn place(
        &self,
        store: &Store,
        summaries: &Summaries,
        Listed { id, ended }: Listed,
        line: &OnceCell<Line>,
    ) -> Option<Place> {
        let Some(ended) = ended else { return self.place_by_look(store, id, line) };
        if self.is_told_by_times() {
            let has_status = self.statuses.is_empty() || self.statuses.contains(&ended.status);
            let wanted = has_status && self.is_since(ended.started_at);
            return wanted.then_some(Place {
                id,
                status: Some(ended.status),
                started: ended.started_at,
                ended: ended.ended_at,
                cost: None,
                turns: None,
                source: Source::Summary(ended),
            });
        }
        let Some(summary) = summaries.get(&ended) else {
            return self.place_by_look(store, id, line);
        };
        if self.undelivered && summary.has_recipients() {
            return self.place_by_look(store, id, line);
        }
        let item = Item::ended(summary);
        let place = self.wants(&item).then(|| Place::of(id, item))?;
        Some(Place { source: Source::Summary(ended), ..place })
    }

    fn place_by_look(&self, store: &Store, id: JobId, line: &OnceCell<Line>) -> Option<Place> {
        let item = look_at(store, &id, self.undelivered, line)?;
        if self.wants(&item) { Some(Place::of(id, item)) } else { None }
    }

    fn is_since(&self, started: Option<Timestamp>) -> bool {
        self.since.is_none_or(|since| started >= Some(since))
    }

    fn wants(&self, item: &Item) -> bool {
        let status = self.statuses.is_empty()
            || item.status.is_some_and(|status| self.statuses.contains(&status));
        let group = self.group.is_none() || self.group == item.group;
        let group = group && !(self.undelivered && item.undelivered_notifications.is_empty());
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
        let source = Source::Look(Box::new(Item::blank(id.clone())));
        Place { id, status, started, ended, cost, turns, source }
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
                ListRequest { order, reverse, ..ListRequest::default() }.sort(&mut sorted);
                let found: String = sorted.iter().map(|place| place.id.as_str()).collect();
                assert_eq!(found, ids, "{order:?}, reversed: {reverse}");
            }
        }
    }
}
