//! `redeliver`: what could not be told is told again.

use serde::Serialize;

use super::seen::look_to_tell;
use crate::courier;
use crate::error::Error;
use crate::job::{Errand, JobId};
use crate::store::Store;

/// The notifications of one job that could not be delivered.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The job's id.
    pub job_id: JobId,
    /// The notifications.
    pub undelivered_notifications: Vec<Errand>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Errand>,
    /// Why none of them could be tried.
    pub error: Option<String>,
    /// The same as a stable word.
    pub code: Option<&'static str>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What was delivered.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RedeliverAnswer {
    /// Number of notifications that were delivered.
    pub delivered: usize,
    /// The jobs of which notifications are still undelivered.
    pub failed: Vec<Left>,
}

impl Left {
    fn of(job_id: JobId, errands: Vec<Errand>, error: Option<&Error>) -> Self {
        Self {
            job_id,
            undelivered_notifications: errands.clone(),
            undelivered: errands,
            error: error.map(Error::to_string),
            code: error.map(Error::code),
            hint: error.and_then(Error::hint),
        }
    }
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
                    answer.failed.push(Left::of(job_id, undelivered, None));
                }
            }
            Err(error) if id.is_some() => return Err(Error::load(job_id.as_str(), error)),
            // Of this one there was nothing to tell, or it was removed meanwhile.
            Err(_) if before.is_empty() && !store.job(&job_id).has_news() => {}
            Err(_) if !store.job(&job_id).path().exists() => {}
            Err(error) => {
                let error = Error::load(job_id.as_str(), error);
                answer.failed.push(Left::of(job_id, before, Some(&error)));
            }
        }
    }
    Ok(answer)
}
