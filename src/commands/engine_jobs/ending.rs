//! The end of jobs whose workers an engine starts, and the messages to these workers.

use std::time::{Duration, Instant};

use super::states::{Ask, engine_status, reference};
use super::{from_engine_error, kind};
use crate::error::Error;
use crate::finalize::end_on_engine;
use crate::job::{EngineRef, Reason, Record, Status, Verdict};
use crate::launch::{Engine, EngineStatus, Wake, engine};
use crate::store::JobDir;

/// Time limit of a command of the engine while a job is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the record of a job is read that is being ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time for the engine to end a job whose worker does not react.
const CANCEL_TIME: Duration = Duration::from_millis(600);

/// Writes the verdict of a live job whose engine runs no worker for it any more.
pub(in crate::commands) fn end_lost(dir: &JobDir, record: Record, how: &str) -> Record {
    let why = format!("its engine has ended the job without a verdict ({how})");
    end_on_engine(dir, record, Some(Verdict::failed(Reason::WorkerDied, why)))
}

/// Ends the job for good. Returns why it is not certain that none of its processes runs any more.
pub(in crate::commands) fn kill(
    dir: &JobDir,
    mut record: Record,
    until: Instant,
) -> Result<Option<String>, Error> {
    let Some(kind) = kind(&record.spec) else { return Ok(None) };
    let engine =
        engine(kind, COMMAND_TIMEOUT).map_err(|error| from_engine_error(dir.id(), &error))?;
    let mut was_asked = false;
    while record.status.is_live() {
        let status = engine_status(dir, &record, Ask::One);
        let job = reference(dir, &record);
        match (status.transpose().map_err(|error| from_engine_error(dir.id(), &error))?, job) {
            (Some(EngineStatus::Running { node }), Some(job)) if was_asked => {
                return give_up(dir, record, engine.as_ref(), &job, &node, until);
            }
            (Some(EngineStatus::Running { .. }), Some(job)) => {
                let _ = engine.wake(&job, Wake::Kill);
                was_asked = true;
                record = await_end(dir, until.checked_sub(CANCEL_TIME).unwrap_or(until))?;
            }
            (_, job) => {
                // No worker has begun, and one that begins finds the verdict.
                record = end_on_engine(dir, record, Some(Verdict::Killed));
                if let Some(job) = job {
                    let _ = engine.cancel(&job);
                }
                if Instant::now() >= until {
                    break;
                }
            }
        }
    }
    if record.is_cut_off() {
        // The engine may be about to start it again.
        if let Some(job) = reference(dir, &record) {
            let _ = engine.cancel(&job);
        }
        end_on_engine(dir, record, Some(Verdict::Killed));
    }
    Ok(None)
}

/// Kills a job whose worker does not react: its node is gone, or hangs.
fn give_up(
    dir: &JobDir,
    record: Record,
    engine: &dyn Engine,
    job: &EngineRef,
    node: &str,
    until: Instant,
) -> Result<Option<String>, Error> {
    engine.cancel(job).map_err(|error| from_engine_error(dir.id(), &error))?;
    end_on_engine(dir, record, Some(Verdict::Killed));
    while Instant::now() < until {
        let states = engine.query(Some(job)).unwrap_or_default();
        if matches!(states.get(&job.id), None | Some(EngineStatus::Ended(_))) {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(Some(format!(
        "node {node} does not answer; the job is not started again, and what runs there ends itself \
         within 60 s, or when the node returns"
    )))
}

/// Waits for the end of the job, and returns its record.
fn await_end(dir: &JobDir, until: Instant) -> Result<Record, Error> {
    loop {
        let record = dir.load()?;
        if !record.status.is_live() || Instant::now() >= until {
            return Ok(record);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Notifies the worker of a job of a message in the inbox, which it finds some seconds later without
/// that. Does nothing for a job of this machine, and for one without a worker.
pub(in crate::commands) fn wake(dir: &JobDir, record: &Record) {
    if let Some(kind) = kind(&record.spec)
        && record.status.is_live()
        && record.status != Status::Queued
        && let Some(job) = reference(dir, record)
        && let Ok(engine) = engine(kind, COMMAND_TIMEOUT)
    {
        let _ = engine.wake(&job, Wake::Inbox);
    }
}
