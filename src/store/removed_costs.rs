//! What removed jobs have cost, so that a budget is not forgotten with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, files, staging};
use crate::job::{JobId, Record, Timestamp};

/// Its name in the jobs directory, a line a job. No job's name: it begins with a dot.
const REMOVED_COSTS: &str = ".spent.ndjson";
/// Bytes of it that are read: some hundred thousand jobs.
const MAX_REMOVED_COSTS_BYTES: u64 = 64 << 20;

/// What a job has cost that has ended.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemovedCost {
    /// Which job it was; not known of what an earlier version noted.
    job_id: Option<JobId>,
    started_at: Option<Timestamp>,
    ended_at: Timestamp,
    cost_usd: f64,
    labels: BTreeMap<String, String>,
}

impl RemovedCost {
    /// Of the job of this record; `None` if it has cost nothing.
    pub(super) fn of(record: Record) -> Option<Self> {
        let cost_usd = record.cost_usd.filter(|usd| *usd > 0.0)?;
        Some(Self {
            job_id: Some(record.job_id),
            started_at: record.started_at,
            ended_at: record.ended_at?,
            cost_usd,
            labels: record.spec.labels,
        })
    }

    /// Notes it in a jobs directory.
    pub(super) fn note(&self, root: &Path) -> Result<(), StoreError> {
        files::append_line(&root.join(REMOVED_COSTS), self).map(drop)
    }
}

impl Store {
    /// US dollars of removed jobs that had all these labels and ended since then, each counted
    /// once. Those that were `present`, by their ids and when they were asked for, are counted
    /// already: whoever has looked for those first misses none that is removed meanwhile.
    pub fn cost_of_removed(
        &self,
        present: &BTreeSet<(JobId, Option<Timestamp>)>,
        labels: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> f64 {
        // Those on their way out first: what is noted meanwhile is found in the ledger.
        let leaving = staging::staged_records(self.root()).into_iter().filter_map(RemovedCost::of);
        let leaving: Vec<RemovedCost> = leaving.collect();
        let text = files::read_bounded(&self.root().join(REMOVED_COSTS), MAX_REMOVED_COSTS_BYTES)
            .unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n');
        let noted = lines.filter_map(|line| serde_json::from_slice::<RemovedCost>(line).ok());
        let mut counted = present.clone();
        let counts = |spent: &RemovedCost| {
            spent.ended_at >= since
                && labels.iter().all(|(k, v)| spent.labels.get(k) == Some(v))
                // Whoever died between the note and the end of the record has left both.
                && spent.job_id.clone().is_none_or(|id| counted.insert((id, spent.started_at)))
        };
        leaving.into_iter().chain(noted).filter(counts).map(|spent| spent.cost_usd).sum()
    }
}
