//! Observation of a job: its record, checked against its lock and its inbox.

use super::send::turns;
use crate::error::Error;
use crate::job::{JobId, Record, Status};
use crate::launch::send_courier_if_none_is_out;
use crate::settle::{ended_at, settle};
use crate::store::{self, JobDir, LoadError, Store, addressed};
use crate::supervisor;

/// An observed job.
#[derive(Debug)]
pub(super) struct Seen {
    pub dir: JobDir,
    /// The record, corrected by the state of the lock and the inbox.
    pub record: Record,
    /// The job has a worker, as far as is known.
    pub live: bool,
}

impl Seen {
    /// Returns the command to run next for the job, as the caller has to type it.
    pub(super) fn hint(&self) -> Option<String> {
        self.record.hint().map(|hint| addressed(self.dir.root(), hint))
    }
}

/// Observes a job. A job that is recorded as live without a worker is *lost*: its remaining
/// processes are ended and its verdict is written. If an ended job has pending notifications and
/// no notifier, a notifier is started.
pub(super) fn look(store: &Store, id: &JobId) -> Result<Seen, Error> {
    look_leniently(store, id).map_err(|error| Error::load(id.as_str(), error))
}

/// Like [`observe`], for listings, where one unreadable job must not fail the others.
pub(super) fn look_leniently(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    let (dir, record) = load(store, id)?;
    resume_notifications(&dir, &record);
    Ok(check_lock(dir, record))
}

/// Observes a job without starting a notifier, for callers that deliver notifications themselves.
pub(super) fn look_to_tell(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    load(store, id).map(|(dir, record)| check_lock(dir, record))
}

fn load(store: &Store, id: &JobId) -> Result<(JobDir, Record), LoadError> {
    let dir = store.job(id);
    let record = dir.check().and_then(|()| dir.load())?;
    Ok((dir, record))
}

/// Starts a notifier for pending notifications of an ended job whose notifier has died. Failed
/// notifications are left to `redeliver`.
fn resume_notifications(dir: &JobDir, record: &Record) {
    let has_pending =
        || dir.errands(record).iter().any(|notification| notification.error.is_none());
    // A worker that is still alive has just written the verdict, and starts a notifier itself.
    let has_no_worker = || !dir.is_held().unwrap_or(true) && !dir.is_elsewhere(record);
    if !record.status.is_live() && has_pending() && has_no_worker() {
        send_courier_if_none_is_out(dir);
    }
}

fn check_lock(dir: JobDir, mut record: Record) -> Seen {
    if !record.status.is_live() {
        return Seen { dir, record, live: false };
    }
    if record.version == 0 {
        let dead = store::legacy_is_dead(&record);
        if dead {
            record.end(&supervisor::lost(&record, None), ended_at(&dir, &record));
        } else {
            record.warn("a record of the Node skill: the job may have ended");
        }
        return Seen { dir, record, live: !dead };
    }
    match dir.is_held() {
        Ok(true) => {
            check_inbox(&dir, &mut record);
            Seen { dir, record, live: true }
        }
        Ok(false) if dir.other_host(&record).is_some() => {
            let host = record.host.as_deref().unwrap_or("an unknown host").to_owned();
            record.warn(format!(
                "it probably runs on {host}: locks of that machine may not be visible on this \
                 file system"
            ));
            Seen { dir, record, live: true }
        }
        Ok(false) => {
            let record = settle(&dir, record, None);
            let live = record.status.is_live();
            Seen { dir, record, live }
        }
        Err(error) => {
            record.warn(format!("cannot determine whether the job is live: {error}"));
            Seen { dir, record, live: true }
        }
    }
}

/// Marks an idle job as running while an accepted message has no ended turn: the worker may not have
/// read the message yet, or claude may not have received it.
fn check_inbox(dir: &JobDir, record: &mut Record) {
    if record.status != Status::Idle {
        return;
    }
    let mut open = dir.open_messages();
    if !open.is_empty() {
        // A turn is written to `turns.ndjson` before its messages are removed from the inbox.
        let ended = turns(dir);
        open.retain(|number| !ended.iter().any(|turn| turn.messages.contains(number)));
    }
    if !open.is_empty() {
        record.status = Status::Running;
        record.waiting_for = None;
        dir.ring_inbox_bell();
    }
}
