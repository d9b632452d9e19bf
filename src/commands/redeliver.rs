//! `redeliver`: what could not be told is told again.

use serde::Serialize;

use super::seen::look_to_tell;
use crate::courier;
use crate::error::Error;
use crate::job::{Errand, JobId};
use crate::store::Store;

/// What was not told of one job.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The job.
    pub job_id: JobId,
    /// What was not told, to whom, and why.
    pub undelivered: Vec<Errand>,
}

/// What became of it.
#[derive(Debug, Default, Serialize)]
pub struct RedeliverAnswer {
    /// How many were told now.
    pub delivered: usize,
    /// What could not be told again.
    pub failed: Vec<Left>,
}

/// Tells again, of this job or of all, and waits until that is done. The environment, and so the
/// token, is the caller's.
pub fn redeliver(store: &Store, id: Option<&JobId>) -> Result<RedeliverAnswer, Error> {
    let mut ids = match id {
        Some(id) => vec![id.clone()],
        None => store.ids()?,
    };
    ids.sort_unstable();
    let mut answer = RedeliverAnswer::default();
    for job_id in ids {
        let seen = match look_to_tell(store, &job_id) {
            Ok(seen) => seen,
            Err(error) if id.is_some() => return Err(Error::load(job_id.as_str(), error)),
            Err(_) => continue,
        };
        let before = seen.dir.errands(&seen.record.spec).len();
        if before == 0 {
            continue;
        }
        let left = courier::redeliver(&seen.dir);
        let undelivered = left.map_err(|error| Error::load(job_id.as_str(), error))?;
        answer.delivered += before.saturating_sub(undelivered.len());
        if !undelivered.is_empty() {
            answer.failed.push(Left { job_id, undelivered });
        }
    }
    Ok(answer)
}
