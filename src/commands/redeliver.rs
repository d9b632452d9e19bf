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
    /// What was not told, to whom, and why, as far as it is known.
    pub undelivered: Vec<Errand>,
    /// Why nothing of it could be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The stable word for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
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
        let mut before = Vec::new();
        let told = look_to_tell(store, &job_id).and_then(|seen| {
            before = seen.dir.errands(&seen.record);
            if before.is_empty() { Ok(Vec::new()) } else { courier::redeliver(&seen.dir) }
        });
        match told {
            Ok(undelivered) => {
                answer.delivered += before.len().saturating_sub(undelivered.len());
                if !undelivered.is_empty() {
                    let (error, code, hint) = (None, None, None);
                    answer.failed.push(Left { job_id, undelivered, error, code, hint });
                }
            }
            Err(error) if id.is_some() => return Err(Error::load(job_id.as_str(), error)),
            // Of this one there was nothing to tell, or it was removed meanwhile.
            Err(_) if before.is_empty() && !store.job(&job_id).has_news() => {}
            Err(_) if !store.job(&job_id).path().exists() => {}
            Err(error) => {
                let error = Error::load(job_id.as_str(), error);
                answer.failed.push(Left {
                    job_id,
                    undelivered: before,
                    error: Some(error.to_string()),
                    code: Some(error.code()),
                    hint: error.hint(),
                });
            }
        }
    }
    Ok(answer)
}
