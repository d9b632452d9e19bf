//! The answer of `kill` for a job with a record.

use super::{KillAnswer, STILL_ENDING};
use crate::job::{Record, Status};
use crate::store::{JobDir, RECORD, Store, addressed};

impl KillAnswer {
    /// Returns the answer for a job with this record; without an error it was killed.
    pub(super) fn new(store: &Store, dir: &JobDir, record: Record, error: Option<String>) -> Self {
        let hint = record.hint().map(|hint| addressed(store.root(), hint));
        Self {
            job_id: record.job_id,
            killed: error.is_none(),
            status: record.status,
            error,
            left: Vec::new(),
            warnings: record.warnings,
            record: Some(dir.file(RECORD)),
            hint,
        }
    }
}

/// Returns why the job with this record was not killed.
pub(super) fn error_of(record: &Record) -> Option<String> {
    match record.status {
        Status::Killed => None,
        status if status.is_live() && record.is_of_node_skill() => {
            Some("only the Node skill can kill a job that it started".to_owned())
        }
        status if status.is_live() => Some(STILL_ENDING.to_owned()),
        status => Some(format!("the job has already {}", ended_verb(status))),
    }
}

fn ended_verb(status: Status) -> &'static str {
    if status == Status::Completed { "completed" } else { "failed" }
}
