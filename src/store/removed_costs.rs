//! The costs of removed jobs, which budgets still count.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::json_lines;
use super::{StoreError, files};
use crate::job::{JobId, Record, Timestamp};

/// Name of the file in the jobs directory, with one line for each job. A job's id cannot begin with
/// a dot.
const REMOVED_COSTS: &str = ".spent.ndjson";
/// Enough for some hundred thousand jobs.
const MAX_REMOVED_COSTS_BYTES: u64 = 64 << 20;

/// The cost of a job that has ended.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemovedCost {
    /// `None` in the lines of an earlier version.
    job_id: Option<JobId>,
    started_at: Option<Timestamp>,
    ended_at: Timestamp,
    cost_usd: f64,
    labels: BTreeMap<String, String>,
}

impl RemovedCost {
    /// Returns `None` for a job without cost.
    pub(super) fn from_record(record: Record) -> Option<Self> {
        let cost_usd = record.cost.usd?;
        if cost_usd <= 0.0 {
            return None;
        }
        Some(Self {
            job_id: Some(record.job_id),
            started_at: record.times.started_at,
            ended_at: record.times.ended_at?,
            cost_usd,
            labels: record.spec.labels,
        })
    }

    /// Appends the cost to the file of a jobs directory.
    pub(super) fn save(&self, root: &Path) -> Result<(), StoreError> {
        files::append_line(&root.join(REMOVED_COSTS), self).map(drop)
    }
}

/// Returns the US dollars of the jobs that are being removed and of those that were removed from a
/// jobs directory, as far as they have all these labels, ended at `since` or later and are not
/// `present`. Each job is counted once.
pub(super) fn sum(
    root: &Path,
    being_removed: Vec<Record>,
    present: &BTreeSet<(JobId, Option<Timestamp>)>,
    labels: &BTreeMap<String, String>,
    since: Timestamp,
) -> f64 {
    let path = root.join(REMOVED_COSTS);
    let being_removed = being_removed.into_iter().filter_map(RemovedCost::from_record);
    let removed = files::open_to_read(&path)
        .into_iter()
        .flat_map(|file| json_lines::<RemovedCost>(file.take(MAX_REMOVED_COSTS_BYTES)));
    let mut counted = present.clone();
    let mut sum = 0.0;
    for cost in being_removed.chain(removed) {
        if cost.ended_at < since || !labels.iter().all(|(k, v)| cost.labels.get(k) == Some(v)) {
            continue;
        }
        // A process that died after it had saved the cost has left the record, too.
        let is_counted = match cost.job_id {
            Some(id) => !counted.insert((id, cost.started_at)),
            None => false,
        };
        if !is_counted {
            sum += cost.cost_usd;
        }
    }
    sum
}
