//! The worker of a job with an engine: the batch process that the engine starts on some machine. It
//! becomes the owner of the job, continues it where an earlier owner was cut off, and its exit
//! status says how the job ended.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::lease_keeper::LeaseKeeper;
use super::{runtime, supervise};
use crate::claude::{self, Env};
use crate::clock;
use crate::config::UserConfig;
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::finalize::take_over;
use crate::hidden_verbs;
use crate::job::{EngineRef, Record, Spec};
use crate::process;
use crate::store::{Claim, ClaimKind, JobDir, LeaseTimes, LeaseWatch, Lock, NextStep};

/// How often to look at the lease of an earlier owner at least.
const MAX_WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Pause before the entries are read again: a server may not show the newest one yet.
const CLAIM_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long to wait for the notifier, which the engine would end with this process.
const NOTIFIER_TIMEOUT: Duration = Duration::from_secs(60);
const NOTIFIER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the worker of the job in this directory. Returns the job's final record; `None` if another
/// worker owns the job.
pub(crate) fn run_here(job_dir: &Path) -> io::Result<Option<Record>> {
    let job = JobDir::at(fs::canonicalize(job_dir)?).ok_or(io::ErrorKind::InvalidInput)?;
    let record = job.load().map_err(io::Error::other)?;
    if !process::has_own_marker(job.path()) {
        return Err(restart_marked(&job, &record));
    }
    let engine = own_reference();
    let (owner, claimed_at, kills) = match claim(&job, engine.as_ref())? {
        Claiming::Claimed { owner, claimed_at, kills } => (owner, claimed_at, kills),
        Claiming::Over(record) => return Ok(Some(*record)),
        Claiming::OwnedByOther => return Ok(None),
    };
    fault_point("here:claimed");
    let keeper = LeaseKeeper::start(&owner, claimed_at)?;
    owner.copy_predecessor().map_err(io::Error::other)?;
    fault_point("here:copied");
    let lock = owner.try_lock().map_err(io::Error::other)?.ok_or(io::ErrorKind::ResourceBusy)?;
    let owner = owner.publish_epoch().map_err(io::Error::other)?;
    if let Some(engine) = &engine {
        owner.save_engine_ref(engine).map_err(io::Error::other)?;
    }
    let record = take_over(&owner, &lock, engine, kills).map_err(io::Error::other)?;
    fault_point("here:began");
    if record.status.is_live() {
        run(owner.clone(), lock, keeper)?;
    } else {
        keeper.release();
    }
    let record = owner.load().map_err(io::Error::other)?;
    if record.status.is_live() {
        // The verdict did not count.
        return Ok(None);
    }
    await_notifier(&owner);
    Ok(Some(record))
}

/// Runs the worker until the job has ended.
fn run(job: JobDir, lock: Lock, keeper: LeaseKeeper) -> io::Result<()> {
    let nobody = OpenOptions::new().write(true).open("/dev/null")?;
    runtime()?.block_on(Box::pin(async {
        // Never released explicitly, as that of every worker.
        std::mem::forget(lock);
        supervise(job, nobody, None, None, Some(keeper)).await
    }))
}

/// Returns the environment of a job, with the profile that this machine's configuration file has.
fn env_of_job(spec: &Spec) -> Result<Env, Error> {
    let profiles = match &spec.profile {
        Some(_) => UserConfig::load()?.profiles(),
        None => BTreeMap::new(),
    };
    Ok(Env::own_with(profiles).for_job(spec)?.into_owned())
}

/// Replaces this process by the same with the job's marker, by which its processes are found, and with
/// the variables of its profile and its file. Returns only if that fails.
fn restart_marked(job: &JobDir, record: &Record) -> io::Error {
    let mut command = Command::new(claude::own_executable());
    command.arg(hidden_verbs::WORKER_HERE).arg(job.path()).current_dir("/");
    match env_of_job(&record.spec) {
        Ok(env) => drop(command.envs(env.given())),
        Err(error) => return io::Error::other(error.to_string()),
    }
    process::set_marker(&mut command, job.path());
    process::exec(&mut command)
}

/// Returns what the engine calls the job of this process, by the variables that it has set.
fn own_reference() -> Option<EngineRef> {
    let variable = |name: &str| std::env::var(name).ok();
    let id = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => format!("{array}_{task}"),
        _ => variable("SLURM_JOB_ID")?,
    };
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok());
    let node = variable("SLURMD_NODENAME");
    Some(EngineRef { id, restarts: restarts.unwrap_or_default(), node })
}

/// Result of the attempt to own a job.
enum Claiming {
    Claimed {
        owner: JobDir,
        /// Before the claim was requested, since boot.
        claimed_at: Duration,
        /// The job is to be ended, as a caller of `kill` has requested.
        kills: bool,
    },
    Over(Box<Record>),
    OwnedByOther,
}

/// Claims the job as soon as no other process owns it.
fn claim(job: &JobDir, engine: Option<&EngineRef>) -> io::Result<Claiming> {
    let times = LeaseTimes::get();
    let mut watch: Option<(u32, LeaseWatch)> = None;
    loop {
        let last = job.last_entry().map_err(io::Error::other)?;
        let last_number = last.as_ref().map_or(0, |last| last.number);
        let next = NextStep::after(last, |claim| job.claimer_has_ended(last_number, claim));
        let (number, kills) = match next {
            NextStep::Over(record) => return Ok(Claiming::Over(record)),
            NextStep::Claim { number, kills } => (number, kills),
            NextStep::Await { number, claim } => {
                if !matches!(watch, Some((watched, _)) if watched == number) {
                    watch = Some((number, job.watch_lease(number)));
                }
                let Some((_, lease)) = &mut watch else { continue };
                let stillness = lease.stillness();
                if lease.was_renewed && is_other_job(engine, claim.engine.as_ref()) {
                    return Ok(Claiming::OwnedByOther);
                }
                if stillness < times.stillness {
                    fault_point("here:waits");
                    thread::sleep(times.renewal.min(MAX_WATCH_INTERVAL) / 2);
                    continue;
                }
                (number + 1, claim.kind == ClaimKind::Kill)
            }
        };
        let kind = if kills { ClaimKind::Kill } else { ClaimKind::Worker };
        // A request that comes before this process can handle it must not cut the job off again.
        process::hold_requests()?;
        let claimed_at = clock::since_boot();
        let claimed = job.claim_epoch(number, &Claim::new(kind, engine.cloned()));
        if let Some(owner) = claimed.map_err(io::Error::other)? {
            return Ok(Claiming::Claimed { owner, claimed_at, kills });
        }
        process::accept_requests()?;
        thread::sleep(CLAIM_RETRY_DELAY);
    }
}

/// Whether the owner is another job of the engine, which the engine continues by itself if necessary.
fn is_other_job(own: Option<&EngineRef>, owner: Option<&EngineRef>) -> bool {
    matches!((own, owner), (Some(own), Some(owner)) if own.id != owner.id)
}

/// Waits for the process that delivers the job's notifications.
fn await_notifier(job: &JobDir) {
    let until = Instant::now() + NOTIFIER_TIMEOUT;
    while job.has_notifications()
        && matches!(job.try_lock_notifications(), Ok(None))
        && Instant::now() < until
    {
        thread::sleep(NOTIFIER_POLL_INTERVAL);
    }
}
