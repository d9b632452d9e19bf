//! What removed jobs have cost, so that a budget is not forgotten with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, files};
use crate::job::{Record, Timestamp};

/// Its name in the jobs directory, a line a job. No job's name: it begins with a dot.
const LEDGER: &str = ".spent.ndjson";
/// Bytes of it that are read: some hundred thousand jobs.
const LEDGER_READ: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spent {
    ended_at: Timestamp,
    cost_usd: f64,
    labels: BTreeMap<String, String>,
}

impl Store {
    /// Notes what a job has cost that is about to be removed.
    pub fn note_spent(&self, record: &Record) -> Result<(), StoreError> {
        let (Some(cost_usd), Some(ended_at)) = (record.cost_usd, record.ended_at) else {
            return Ok(());
        };
        if cost_usd <= 0.0 {
            return Ok(());
        }
        let path = self.root().join(LEDGER);
        let spent = Spent { ended_at, cost_usd, labels: record.spec.labels.clone() };
        files::append_line(&path, &spent).map(drop)
    }

    /// US dollars of removed jobs that had all these labels and ended since then.
    pub fn spent_by_removed(&self, labels: &BTreeMap<String, String>, since: Timestamp) -> f64 {
        let text = files::read_bounded(&self.root().join(LEDGER), LEDGER_READ).unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n');
        let spent = lines.filter_map(|line| serde_json::from_slice::<Spent>(line).ok());
        let counts = |spent: &Spent| {
            spent.ended_at >= since && labels.iter().all(|(k, v)| spent.labels.get(k) == Some(v))
        };
        spent.filter(counts).map(|spent| spent.cost_usd).sum()
    }
}
