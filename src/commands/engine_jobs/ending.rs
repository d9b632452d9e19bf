//! The end of jobs whose workers an engine starts, and the messages to these workers.

use std::thread;
use std::time::{Duration, Instant};

use super::states::{reference, time_limit};
use super::{from_engine_error, kind};
use crate::commands::parallel::for_each_job;
use crate::error::Error;
use crate::finalize::end_on_engine;
use crate::job::{EngineKind, EngineRef, Reason, Record, Status, Verdict};
use crate::launch::{
    Engine, EngineError, EngineJob, EngineSignal, EngineStates, EngineStatus, engine,
};
use crate::store::{ENGINE_LOG, JobDir};
use crate::text::{last_line, one_line};

/// Time limit of a command of the engine while a job is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the record of a job is read that is being ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time for the engine to end a job whose worker does not react.
const CANCEL_TIME: Duration = Duration::from_millis(600);
/// Maximum number of jobs whose ends are written at the same time.
const MAX_THREADS: usize = 16;

/// Writes the verdict of a live job whose engine runs no worker for it any more.
pub(in crate::commands) fn end_lost(dir: &JobDir, record: Record, how: &str) -> Record {
    let mut why = format!("its engine has ended the job without a verdict ({how})");
    // What kept a worker from its work is there.
    let log = dir.tail(ENGINE_LOG, 0, MAX_LOG_BYTES);
    let last = one_line(last_line(&String::from_utf8_lossy(&log)), MAX_LOG_CHARS);
    if !last.is_empty() {
        why += &format!(": {last}");
    }
    end_on_engine(dir, record, Some(Verdict::failed(Reason::WorkerDied, why)))
}

/// Length of the part of the engine's log in which the last line is searched.
const MAX_LOG_BYTES: u64 = 4096;
const MAX_LOG_CHARS: usize = 200;

/// A job to kill.
struct Victim {
    dir: JobDir,
    record: Record,
    job: Option<EngineRef>,
    /// Why it is not certain that none of its processes runs any more.
    doubt: Option<String>,
}

impl Victim {
    /// Whether it is to be ended. Its engine may be about to continue one that was cut off.
    fn is_open(&mut self) -> bool {
        if let Ok(record) = self.dir.load() {
            self.record = record;
        }
        self.job = reference(&self.dir, &self.record);
        self.doubt = None;
        self.record.status.is_live() || self.record.is_cut_off()
    }

    /// Whether it is live and has a worker.
    fn is_running(&mut self, states: &EngineStates) -> bool {
        self.doubt = None;
        let known = self.job.as_ref().and_then(|job| states.get(&job.id));
        let Some(EngineJob { id, status }) = known else { return false };
        // The engine cannot cancel a job by the name of its submission.
        self.job = Some(EngineRef::from_id(id.clone()));
        if let EngineStatus::Running { node, .. } = status
            && self.record.status.is_live()
        {
            self.doubt = Some(format!(
                "node {node} does not answer; the job is not started again, and what runs there ends \
                 itself within 60 s, or when the node returns"
            ));
        }
        self.doubt.is_some()
    }
}

/// Ends these jobs for good, with as few calls of their engine as possible. Returns for each why it is
/// not certain that none of its processes runs any more.
pub(in crate::commands) fn kill(
    kind: EngineKind,
    jobs: Vec<(JobDir, Record)>,
    until: Instant,
) -> Vec<Result<Option<String>, Error>> {
    let victim = |(dir, record)| Victim { dir, record, job: None, doubt: None };
    let mut victims: Vec<Victim> = jobs.into_iter().map(victim).collect();
    let killed = engine(kind, time_limit(COMMAND_TIMEOUT))
        .and_then(|engine| kill_by(engine.as_ref(), victims.iter_mut().collect(), until));
    let result = |victim: Victim| match &killed {
        Ok(()) => Ok(victim.doubt),
        Err(error) => Err(from_engine_error(victim.dir.id(), error)),
    };
    victims.into_iter().map(result).collect()
}

fn kill_by(
    engine: &dyn Engine,
    victims: Vec<&mut Victim>,
    until: Instant,
) -> Result<(), EngineError> {
    let mut asked = end_idle(engine, victims)?;
    let _ = engine.signal(&references(&asked), EngineSignal::Kill);
    let patience = until.checked_sub(CANCEL_TIME).unwrap_or(until);
    while asked.iter_mut().any(|victim| victim.is_open()) && Instant::now() < patience {
        thread::sleep(POLL_INTERVAL);
    }
    // The machines of the workers that are left are gone, or hang.
    let mut left = end_idle(engine, asked)?;
    end(engine, &left)?;
    while !left.is_empty() && Instant::now() < until {
        if let Ok(states) = engine.query(Some(&references(&left))) {
            left.retain_mut(|victim| victim.is_running(&states));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Ends those of the jobs that are open and have no worker. Returns those with one.
fn end_idle<'a>(
    engine: &dyn Engine,
    mut victims: Vec<&'a mut Victim>,
) -> Result<Vec<&'a mut Victim>, EngineError> {
    victims.retain_mut(|victim| victim.is_open());
    let jobs = references(&victims);
    let states = if jobs.is_empty() { EngineStates::new() } else { engine.query(Some(&jobs))? };
    let idle = victims.extract_if(.., |victim| !victim.is_running(&states));
    // No worker has begun, and one that begins finds the verdict.
    let _ = end(engine, &idle.collect::<Vec<_>>());
    Ok(victims)
}

/// Records that the jobs were killed, and cancels them.
fn end(engine: &dyn Engine, victims: &[&mut Victim]) -> Result<(), EngineError> {
    for_each_job(victims, MAX_THREADS, |victim| {
        end_on_engine(&victim.dir, victim.record.clone(), Some(Verdict::Killed));
    });
    engine.signal(&references(victims), EngineSignal::End)
}

fn references(victims: &[&mut Victim]) -> Vec<EngineRef> {
    victims.iter().filter_map(|victim| victim.job.clone()).collect()
}

/// Notifies the worker of a job of a message in the inbox, which it finds some seconds later without
/// that. Does nothing for a job of this machine, and for one without a worker.
pub(in crate::commands) fn wake(dir: &JobDir, record: &Record) {
    if let Some(kind) = kind(&record.spec)
        && record.status.is_live()
        && record.status != Status::Queued
        && let Some(job) = reference(dir, record)
        && let Ok(engine) = engine(kind, time_limit(COMMAND_TIMEOUT))
    {
        let _ = engine.signal(&[job], EngineSignal::Inbox);
    }
}
