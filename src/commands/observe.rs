//! Observation of a job: its record, checked against its lock and its inbox.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::finalize::finalize_lost;
use crate::job::{JobId, Record, Status, TurnEnd};
use crate::launch::spawn_notifier_if_idle;
use crate::store::{JobDir, Liveness, LoadError, LoadedJob, Store, TURNS, addressed};

/// Pause between two looks at a job whose verdict another process is writing.
const VERDICT_INTERVAL: Duration = Duration::from_millis(5);

/// An observed job.
#[derive(Debug)]
pub(super) struct Observed {
    pub dir: JobDir,
    /// The record, corrected by the state of the lock and the inbox.
    pub record: Record,
    /// The job has a worker, as far as is known.
    pub live: bool,
}

impl Observed {
    /// Returns the command to run next for the job, as the caller has to type it.
    pub(super) fn hint(&self) -> Option<String> {
        self.record.hint().map(|hint| addressed(self.dir.root(), hint))
    }
}

/// Observes a job. A job that is recorded as live without a worker is *lost*: its remaining
/// processes are ended and its verdict is written. If an ended job has pending notifications and
/// no notifier, a notifier is started.
pub(super) fn observe(store: &Store, id: &JobId) -> Result<Observed, Error> {
    Ok(try_load_checked(store, id)?)
}

/// Like [`observe`], for listings, where one unreadable job must not fail the others.
pub(super) fn try_load_checked(store: &Store, id: &JobId) -> Result<Observed, LoadError> {
    let (dir, record) = load(store, id)?;
    Ok(observe_loaded(dir, record))
}

/// Observes a job whose record the caller has just [loaded](load).
pub(super) fn observe_loaded(dir: JobDir, record: Record) -> Observed {
    resume_notifications(&dir, &record);
    check_lock(dir, record)
}

/// Like [`try_load_checked`], for commands that continue lost jobs. Another process may be writing
/// the verdict of a lost job, which seems to be live until then: waits for it until `deadline`.
pub(super) fn try_load_settled(
    store: &Store,
    id: &JobId,
    deadline: Instant,
) -> Result<Observed, LoadError> {
    loop {
        let observed = try_load_checked(store, id)?;
        if !observed.live || observed.record.worker_may_live() || Instant::now() >= deadline {
            return Ok(observed);
        }
        thread::sleep(VERDICT_INTERVAL);
    }
}

/// Observes a job without starting a notifier, for callers that deliver notifications themselves.
pub(super) fn load_without_notifying(store: &Store, id: &JobId) -> Result<Observed, LoadError> {
    let (dir, record) = load(store, id)?;
    Ok(check_lock(dir, record))
}

/// Like [`try_load_checked`], for a job whose record may have been read just now.
pub(super) fn observe_unless_loaded(
    store: &Store,
    id: &JobId,
    loaded: Option<LoadedJob>,
) -> Result<Observed, LoadError> {
    let Some(LoadedJob { dir, record }) = loaded else { return try_load_checked(store, id) };
    dir.check()?;
    Ok(observe_loaded(dir, record))
}

/// Loads the record of a job, without any check of its worker.
pub(super) fn load(store: &Store, id: &JobId) -> Result<(JobDir, Record), LoadError> {
    let dir = store.job(id);
    let record = dir.load_checked()?;
    Ok((dir, record))
}

/// Starts a notifier for pending notifications of an ended job whose notifier has died. Failed
/// notifications are left to `redeliver`.
fn resume_notifications(dir: &JobDir, record: &Record) {
    if record.status.is_live() {
        return;
    }
    if !dir.notifications(record).iter().any(|notification| notification.error.is_none()) {
        return;
    }
    // A worker that is still alive has just written the verdict, and starts a notifier itself.
    if !dir.may_live() && !dir.is_elsewhere(record) {
        spawn_notifier_if_idle(dir);
    }
}

fn check_lock(dir: JobDir, mut record: Record) -> Observed {
    let live = match dir.liveness(&record) {
        Ok(Liveness::Ended) => false,
        Ok(Liveness::Live) if record.is_of_node_skill() => {
            record.warn("a record of the Node skill: the job may have ended");
            true
        }
        Ok(Liveness::Live) => {
            check_inbox(&dir, &mut record);
            true
        }
        Ok(Liveness::OtherMachine(host)) => {
            record.warn(format!(
                "it probably runs on {host}: locks of that machine may not be visible on this \
                 file system"
            ));
            true
        }
        Ok(Liveness::Lost) => {
            record = finalize_lost(&dir, record, None);
            record.status.is_live()
        }
        Err(error) => {
            record.warn(format!("cannot determine whether the job is live: {error}"));
            true
        }
    };
    Observed { dir, record, live }
}

/// Reads the turns that have ended.
pub(super) fn ended_turns(dir: &JobDir) -> Vec<TurnEnd> {
    dir.json_lines(TURNS, 0).collect()
}

/// Marks an idle job as running while an accepted message has no ended turn: the worker may not have
/// read the message yet, or claude may not have received it.
fn check_inbox(dir: &JobDir, record: &mut Record) {
    if record.status != Status::Idle {
        return;
    }
    let mut open = dir.unanswered_messages();
    if !open.is_empty() {
        // A turn is written to `turns.ndjson` before its messages are removed from the inbox.
        let ended = ended_turns(dir);
        open.retain(|number| !ended.iter().any(|turn| turn.messages.contains(number)));
    }
    if !open.is_empty() {
        record.status = Status::Running;
        if record.times.frozen_at.is_none() {
            record.waiting_for = None;
        }
        dir.notify_inbox();
    }
}
