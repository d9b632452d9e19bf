//! `redeliver`: sends failed notifications again.

use serde::Serialize;

use super::observe::load_without_notifying;
use crate::error::Error;
use crate::job::{JobId, Notification};
use crate::notifier;
use crate::store::Store;

/// The notifications of one job that could not be delivered.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndeliveredJob {
    /// The job's id.
    pub job_id: JobId,
    /// The notifications.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Notification>,
    /// Reason why none of them was sent.
    pub error: Option<String>,
    /// Stable code of the error.
    pub code: Option<&'static str>,
    /// How to resolve the error.
    pub hint: Option<String>,
}

/// The result of a redelivery.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RedeliverAnswer {
    /// Number of notifications that were delivered.
    pub delivered: usize,
    /// The jobs that still have undelivered notifications.
    pub failed: Vec<UndeliveredJob>,
}

impl UndeliveredJob {
    fn new(job_id: JobId, notifications: Vec<Notification>, error: Option<&Error>) -> Self {
        Self {
            job_id,
            undelivered_notifications: notifications.clone(),
            undelivered: notifications,
            error: error.map(Error::to_string),
            code: error.map(Error::code),
            hint: error.and_then(Error::hint),
        }
    }
}

/// Sends the notifications of this job or of all jobs, and waits until that is done. Tokens are read
/// from the caller's environment.
pub(crate) fn redeliver(store: &Store, id: Option<&JobId>) -> Result<RedeliverAnswer, Error> {
    let mut ids = match id {
        Some(id) => vec![id.clone()],
        None => store.ids()?,
    };
    ids.sort_unstable();
    let mut answer = RedeliverAnswer::default();
    for job_id in ids {
        let mut before = Vec::new();
        let result = load_without_notifying(store, &job_id).and_then(|observed| {
            before = observed.dir.notifications(&observed.record);
            if before.is_empty() { Ok(Vec::new()) } else { notifier::redeliver(&observed.dir) }
        });
        match result {
            Ok(undelivered) => {
                answer.delivered += before.len().saturating_sub(undelivered.len());
                if !undelivered.is_empty() {
                    answer.failed.push(UndeliveredJob::new(job_id, undelivered, None));
                }
            }
            Err(error) if id.is_some() => {
                return Err(Error::from_load_error(job_id.as_str(), error));
            }
            // The job has no notifications, or it was removed in the meantime.
            Err(_) if before.is_empty() && !store.job(&job_id).has_notifications() => {}
            Err(_) if !store.job(&job_id).path().exists() => {}
            Err(error) => {
                let error = Error::from_load_error(job_id.as_str(), error);
                answer.failed.push(UndeliveredJob::new(job_id, before, Some(&error)));
            }
        }
    }
    Ok(answer)
}
