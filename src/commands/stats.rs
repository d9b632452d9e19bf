//! `stats`: totals of jobs, by group.

mod text;

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use serde::{Serialize, Serializer};

use super::Call;
use super::observe::try_load_checked;
use crate::arguments::FilterArgs;
use crate::error::{Error, ExitStatus};
use crate::job::{Filter, Status, Summary, Timestamp};
use crate::store::{Listed, LoadError, Store, Summaries};
use crate::text::{clip, json_length_of, round_usd};

/// Maximum number of characters of a group's key.
const MAX_KEY_CHARS: usize = 100;

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob stats --since 7d\n  \
    claudejob stats --by label:project --since 2026-11-01\n\nDays are in UTC.")]
pub(crate) struct StatsArgs {
    /// Group by day, model, group, status or label:KEY
    #[arg(long, value_name = "WHAT", value_parser = group_by, default_value = "day")]
    by: GroupBy,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show every group
    #[arg(long)]
    all: bool,
}

impl StatsArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let mut answer = stats(&call.store()?, &self.filter.into_filter(), self.by)?;
        if let Some(max) = call.bound_unless(self.all) {
            answer.shorten(max);
        }
        call.print(&answer)
    }
}

/// The property that the jobs of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupBy {
    /// The day of the start, in UTC.
    Day,
    Model,
    Group,
    Status,
    /// The value of this label.
    Label(String),
}

impl Serialize for GroupBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Day => serializer.serialize_str("day"),
            Self::Model => serializer.serialize_str("model"),
            Self::Group => serializer.serialize_str("group"),
            Self::Status => serializer.serialize_str("status"),
            Self::Label(key) => serializer.collect_str(&format_args!("label:{key}")),
        }
    }
}

/// Totals of all jobs and of each group.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StatsAnswer {
    /// Totals of all jobs.
    pub total: Totals,
    /// The property by which the jobs are grouped: `day`, `model`, `group`, `status` or `label:KEY`.
    pub by: GroupBy,
    /// The groups: days with the latest first, others with the largest first.
    pub groups: Vec<Group>,
    /// Number of groups that are left out to keep the answer short; `total` includes them.
    pub omitted: usize,
    /// Number of jobs whose records cannot be read; no total includes them.
    pub unreadable: u64,
}

/// A group of jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Group {
    /// The value of the property; null for jobs without it.
    pub key: Option<String>,
    /// Totals of the group.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Totals of some jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totals {
    /// Number of jobs.
    pub jobs: u64,
    /// Number of jobs of each status that occurs.
    pub by_status: BTreeMap<Status, u64>,
    /// Share of completed jobs among those that ended; null if none has.
    #[serde(serialize_with = "rounded_rate")]
    pub success_rate: Option<f64>,
    /// Cost in US dollars as claude reported it.
    #[serde(serialize_with = "rounded")]
    pub cost_usd: f64,
    /// `costUsd` is a lower bound, because the cost of a job is one.
    pub cost_is_lower_bound: bool,
    /// Number of turns.
    pub num_turns: u64,
    /// Milliseconds for which the jobs were live, without waits for limits and retries.
    pub elapsed_ms: u64,
    /// Milliseconds of waiting for a slot, for other jobs or for a start time.
    pub queued_ms: u64,
    /// Milliseconds of waiting between attempts, for a limit or before a retry.
    pub limited_ms: u64,
}

impl Totals {
    /// Returns the number of jobs with this status.
    fn count(&self, status: Status) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }

    fn number_of_ended(&self) -> u64 {
        self.count(Status::Completed) + self.count(Status::Failed) + self.count(Status::Killed)
    }

    fn add(&mut self, summary: &Summary) {
        self.jobs += 1;
        *self.by_status.entry(summary.status).or_default() += 1;
        let ended = self.number_of_ended();
        if ended > 0 {
            self.success_rate = Some(self.count(Status::Completed) as f64 / ended as f64);
        }
        // The values of a record that another program wrote must not break the sums.
        if let Some(usd) = summary.cost_usd
            && usd.is_finite()
        {
            self.cost_usd += usd;
        }
        self.cost_is_lower_bound |= summary.cost_is_lower_bound;
        self.num_turns = self.num_turns.saturating_add(summary.num_turns);
        self.elapsed_ms = self.elapsed_ms.saturating_add(live_ms(summary));
        self.queued_ms = self.queued_ms.saturating_add(summary.queued_ms);
        self.limited_ms = self.limited_ms.saturating_add(summary.limited_ms);
    }
}

/// Returns the current summary of a job; `None` if it was removed after its name was read.
fn summary(
    store: &Store,
    summaries: &Summaries,
    job: &Listed,
) -> Result<Option<Summary>, LoadError> {
    // An ended job stays ended. A job that is recorded as live may be lost, so it is checked.
    if let Some(ended) = &job.ended
        && let Some(summary) = summaries.get(ended)
    {
        return Ok(Some(summary));
    }
    match try_load_checked(store, &job.id) {
        Err(LoadError::NotFound(_)) => Ok(None),
        loaded => loaded.map(|observed| Some(observed.record.into())),
    }
}

/// Returns for how many milliseconds the job was live, without its waits for limits and retries,
/// which the Node skill did not measure.
fn live_ms(summary: &Summary) -> u64 {
    if let Some(ms) = summary.elapsed_ms {
        return ms.saturating_sub(summary.limited_ms);
    }
    match (summary.started_at, summary.ended_at) {
        (Some(started), Some(ended)) => {
            u64::try_from(ended.since(started).as_millis()).unwrap_or_default()
        }
        _ => 0,
    }
}

impl GroupBy {
    /// Returns the key of the job's group.
    fn key(&self, summary: &Summary) -> Option<String> {
        match self {
            Self::Day => summary.started_at.map(Timestamp::day),
            Self::Model => summary.model.clone(),
            Self::Group => summary.spec.admission.group.clone(),
            Self::Status => Some(summary.status.as_str().to_owned()),
            Self::Label(key) => summary.spec.labels.get(key).cloned(),
        }
    }
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    match text {
        "day" => Ok(GroupBy::Day),
        "model" => Ok(GroupBy::Model),
        "group" => Ok(GroupBy::Group),
        "status" => Ok(GroupBy::Status),
        _ => match text.strip_prefix("label:") {
            Some(key) if !key.is_empty() => Ok(GroupBy::Label(key.to_owned())),
            _ => Err("expected day, model, group, status or label:KEY".to_owned()),
        },
    }
}

/// Adds up the jobs.
fn stats(store: &Store, filter: &Filter, by: GroupBy) -> Result<StatsAnswer, Error> {
    let mut total = Totals::default();
    let mut groups: HashMap<Option<String>, Totals> = HashMap::new();
    let mut unreadable = 0;
    let (summaries, jobs) = store.summaries()?;
    for job in &jobs {
        match summary(store, &summaries, job) {
            Ok(Some(summary)) if filter.matches(&summary) => {
                total.add(&summary);
                groups.entry(by.key(&summary)).or_default().add(&summary);
            }
            Ok(_) => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok(StatsAnswer { total, groups: ordered(groups, &by), by, omitted: 0, unreadable })
}

/// Orders the groups: the latest day first, or else the largest group first.
fn ordered(groups: HashMap<Option<String>, Totals>, by: &GroupBy) -> Vec<Group> {
    let mut groups: Vec<Group> =
        groups.into_iter().map(|(key, totals)| Group { key, totals }).collect();
    if *by == GroupBy::Day {
        groups.sort_unstable_by(|a, b| b.key.cmp(&a.key));
    } else {
        groups.sort_unstable_by(|a, b| {
            b.totals.jobs.cmp(&a.totals.jobs).then_with(|| a.key.cmp(&b.key))
        });
    }
    for group in &mut groups {
        group.key = group.key.as_deref().map(|key| clip(key, MAX_KEY_CHARS));
    }
    groups
}

impl StatsAnswer {
    /// Leaves out the last groups if the answer would be too long.
    fn shorten(&mut self, max: usize) {
        // The 500 characters are for the other fields.
        let mut length = json_length_of(&self.total) + 500;
        let mut fitting = 0;
        for group in &self.groups {
            length += json_length_of(group) + 1;
            if length > max {
                break;
            }
            fitting += 1;
        }
        self.omitted = self.groups.len() - fitting;
        self.groups.truncate(fitting);
    }
}

/// Serializes a sum without the rounding errors of the addition.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn rounded<S: Serializer>(usd: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(round_usd(*usd))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn rounded_rate<S: Serializer>(rate: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    rate.map(|rate| (rate * 1e4).round() / 1e4).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_from(json: serde_json::Value) -> Summary {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn totals_add_up() {
        let mut totals = Totals::default();
        totals.add(&summary_from(serde_json::json!({"jobId": "a", "status": "running"})));
        assert_eq!(totals.success_rate, None, "no job has ended");
        for (status, usd) in [("completed", 0.1), ("completed", 0.2), ("killed", 0.0)] {
            totals.add(&summary_from(serde_json::json!({
                "jobId": "a", "status": status, "costUsd": usd, "numTurns": 3, "queuedMs": 5,
                "costIsLowerBound": status == "killed",
                "startedAt": "2026-11-20T21:45:12.000Z", "endedAt": "2026-11-20T21:45:14.000Z",
            })));
        }
        let text = serde_json::to_value(&totals).unwrap();
        assert_eq!(
            text,
            serde_json::json!({
                "jobs": 4, "byStatus": {"running": 1, "completed": 2, "killed": 1},
                "successRate": 0.6667, "costUsd": 0.3, "costIsLowerBound": true, "numTurns": 9, "elapsedMs": 6_000,
                "queuedMs": 15, "limitedMs": 0,
            })
        );
    }

    #[test]
    fn orders_days_by_date_and_others_by_size() {
        let totals = |jobs| Totals { jobs, ..Totals::default() };
        let groups = || {
            [("b", 2), ("a", 2), ("c", 5)].map(|(key, n)| (Some(key.to_owned()), totals(n))).into()
        };
        let keys = |by: &GroupBy| -> Vec<String> {
            ordered(groups(), by).into_iter().filter_map(|group| group.key).collect()
        };
        assert_eq!(keys(&GroupBy::Day), ["c", "b", "a"]);
        assert_eq!(keys(&GroupBy::Model), ["c", "a", "b"]);
    }
}
