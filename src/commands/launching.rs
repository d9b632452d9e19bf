//! Launch of a job's worker: the steps that `start`, `resume` and `recover` share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::engine_jobs::{self, Unsubmitted};
use super::watch::await_end;
use crate::claude::{self, Env};
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::finalize::{SWEEP_TIMEOUT, finalize_lost, write_lost_verdict};
use crate::job::{self, JobId, Reason, Record, Spec, Status, Verdict};
use crate::launch::{DetachMode, DetachPlan, LaunchError, Launched, launch};
use crate::store::{JobDir, Liveness, Lock, OUTPUT, Store, addressed};

/// Time limit for a worker to release its job's lock after it has written the verdict.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// A job that continues as another attempt.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recovered {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker; null on a cluster.
    pub pid: Option<i32>,
    /// The job's status.
    pub status: Status,
    /// Number of this run of claude, from 1.
    pub attempt: u32,
    /// Claude continues its conversation; otherwise it gets the prompt again.
    pub resumes: bool,
    /// Circumstances that could end the job early, each given once a day for a jobs directory.
    pub warnings: Vec<String>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

impl Recovered {
    /// Returns the answer for a job that its engine starts.
    pub(super) fn submitted(store: &Store, record: &Record) -> Self {
        Self::new(store, record, None, Status::Queued, Vec::new())
    }

    fn new(
        store: &Store,
        record: &Record,
        pid: Option<i32>,
        status: Status,
        warnings: Vec<String>,
    ) -> Self {
        let wait = job::wait(&record.job_id, record.spec.keep_alive.enabled);
        Self {
            job_id: record.job_id.clone(),
            pid,
            status,
            attempt: record.attempt.number,
            resumes: record.session.began,
            warnings,
            hint: Some(addressed(store.root(), wait)),
        }
    }
}

pub(super) fn check_cwd(spec: &Spec) -> Result<(), Error> {
    if spec.worktree.as_ref().is_some_and(|worktree| !worktree.path.is_empty()) {
        // It is made again if it is gone.
        return Ok(());
    }
    let why = match std::fs::metadata(&spec.cwd) {
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_dir() => "not a directory".to_owned(),
        Ok(_) => match nix::unistd::access(spec.cwd.as_str(), nix::unistd::AccessFlags::X_OK) {
            Err(errno) => errno.desc().to_owned(),
            Ok(()) => return Ok(()),
        },
    };
    Err(Error::BadCwd(PathBuf::from(&spec.cwd), why))
}

/// Checks the arguments of the job's claude, and that claude can be run.
pub(super) fn check_claude(spec: &mut Spec, env: &Env) -> Result<(), Error> {
    check_arguments(spec)?;
    if spec.replay.is_some() { Ok(()) } else { check_program(spec, env) }
}

/// Checks the arguments of the job's claude, or the recording that replaces it.
pub(super) fn check_arguments(spec: &Spec) -> Result<(), Error> {
    for argument in claude::arguments(spec, &claude::SessionStart::New("")) {
        let (bytes, max) = (argument.len(), claude::MAX_ARGUMENT_BYTES);
        if bytes > max {
            return Err(Error::Usage(format!(
                "an argument has {bytes} bytes, more than the system's limit of {max}: use a file"
            )));
        }
    }
    if let Some(replay) = &spec.replay
        && let Some(file) = &replay.file
    {
        let path = PathBuf::from(file);
        std::fs::File::open(&path).map_err(|error| Error::BadRecording(path, error))?;
    }
    Ok(())
}

/// Checks that claude can be run and has a login. Searches for it if the job names none.
pub(super) fn check_program(spec: &mut Spec, env: &Env) -> Result<(), Error> {
    if spec.claude.is_empty() {
        let Some(found) = claude::find(env) else {
            return Err(Error::ClaudeNotFound("there is no claude on PATH".to_owned()));
        };
        spec.claude = found.to_string_lossy().into_owned();
    } else if !claude::is_executable(Path::new(&spec.claude)) {
        let why = match Path::new(&spec.claude).exists() {
            true => "not an executable file",
            false => "no such file",
        };
        return Err(Error::ClaudeNotFound(format!("{why}: {:?}", spec.claude)));
    }
    let mode = &spec.options.permission_mode;
    if !claude::has_permission_mode(Path::new(&spec.claude), mode) {
        return Err(Error::UnknownPermissionMode(mode.clone()));
    }
    if claude::refuses_root(env, spec) {
        return Err(Error::RootNeedsSandbox);
    }
    if claude::login(env, spec).is_none() {
        return Err(Error::NotLoggedIn);
    }
    Ok(())
}

/// Clears `fresh_system_prompt` if the job's claude does not know the option for it.
pub(super) fn set_system_prompt_snapshot(spec: &mut Spec) {
    // The check starts claude, so it is made only if necessary.
    if spec.session.fresh_system_prompt {
        let option = claude::SYSTEM_PROMPT_SNAPSHOT;
        spec.session.fresh_system_prompt =
            spec.replay.is_none() && claude::supports_option(Path::new(&spec.claude), option);
    }
}

/// Returns how the job will be detached.
pub(super) fn plan_detach(
    mode: DetachMode,
    store: &Store,
    id: &JobId,
    spec: &Spec,
    env: &Env,
) -> Result<DetachPlan, Error> {
    let directories = [store.root(), Path::new(&spec.cwd)];
    if spec.limits.memory_max.is_some() {
        // Only a scope has a memory limit.
        if mode == DetachMode::Session {
            return Err(Error::NoMemoryLimit("--detach session was requested".to_owned()));
        }
        let plan = DetachPlan::new(DetachMode::Scope, id, &directories, env)
            .map_err(Error::NoMemoryLimit)?;
        return Ok(plan.with_memory_max(spec.limits.memory_max));
    }
    DetachPlan::new(mode, id, &directories, env).map_err(Error::NoScope)
}

/// Returns the warnings about a job that was just launched: circumstances that could end it early,
/// and other jobs in its folder.
pub(super) fn warnings(store: &Store, plan: &DetachPlan, id: &JobId, cwd: &str) -> Vec<String> {
    let mut warnings = risks(store, plan);
    if let Some(warning) = folder_warning(store, id, cwd) {
        // `recover` does not repeat it.
        store.is_warning_due(&warning);
        warnings.push(warning);
    }
    warnings
}

/// Enters a job that was just launched in the list of its folder, and returns the warning about
/// another one there.
pub(super) fn folder_warning(store: &Store, id: &JobId, cwd: &str) -> Option<String> {
    // Without the list of its folder nothing is known about others.
    let others = store.enter_folder(Path::new(cwd), id).ok()?;
    others.first().map(|first| shared_folder(first, cwd))
}

/// Returns the risks of the way in which a job is detached, each once a day for a jobs directory,
/// because they are the same for many jobs.
pub(super) fn risks(store: &Store, plan: &DetachPlan) -> Vec<String> {
    let mut risks = plan.risks().to_vec();
    risks.retain(|risk| store.is_warning_due(risk));
    risks
}

/// Returns the warning that another job works in the folder.
pub(super) fn shared_folder(other: &JobId, folder: &str) -> String {
    format!(
        "job {other} works in the same folder, {folder}: their changes can conflict; --worktree \
         gives a job a folder of its own"
    )
}

/// Launches the job's worker. If that fails, the job is removed, or recorded as failed.
pub(super) fn launch_or_fail(
    dir: &JobDir,
    lock: Lock,
    plan: &mut DetachPlan,
    env: &Env,
) -> Result<Launched, Error> {
    let error = match launch(dir, &lock, plan, env) {
        Ok(launched) => return Ok(launched),
        // The worker has not started, and this process still holds the lock.
        Err(LaunchError::NoSlot(why)) => {
            dir.discard()?;
            return Err(Error::NoSlot(why));
        }
        Err(LaunchError::Busy(why)) => {
            dir.discard()?;
            return Err(Error::Busy(why));
        }
        Err(error) => error,
    };
    drop(lock);
    let record = dir.load()?;
    match &error {
        LaunchError::ClaudeFailed => {
            let why = record.error.unwrap_or_else(|| error.to_string());
            Err(Error::Launch { id: dir.id().to_string(), why })
        }
        LaunchError::WorkerDied(_) => {
            finalize_lost(dir, record, None);
            Err(Error::from_launch_error(dir.id(), &error))
        }
        LaunchError::WorkerFailed(_)
        | LaunchError::ScopeFailed(_)
        | LaunchError::NoSlot(_)
        | LaunchError::Busy(_) => {
            let verdict = Verdict::failed(Reason::LaunchFailed, error.to_string());
            finalize_lost(dir, record, Some(verdict));
            Err(Error::from_launch_error(dir.id(), &error))
        }
    }
}

/// Returns the status of a job whose worker was just launched.
pub(super) fn status_after_launch(launched: Launched) -> Status {
    if launched.is_queued { Status::Queued } else { Status::Running }
}

/// Another attempt that was begun.
pub(super) enum Begun {
    Launched(Recovered),
    /// Its engine has to start its worker.
    Unsubmitted(Box<Unsubmitted>),
}

impl Begun {
    /// Submits the job to its engine, if necessary.
    pub(super) fn submit(self, store: &Store) -> Result<Recovered, Error> {
        match self {
            Self::Launched(recovered) => Ok(recovered),
            Self::Unsubmitted(job) => {
                let recovered = Recovered::submitted(store, &job.record);
                for submitted in engine_jobs::submit(store, &[*job]) {
                    submitted?;
                }
                Ok(recovered)
            }
        }
    }
}

/// Launches another attempt, or prepares it for its engine. `begin` prepares the record while the lock
/// is held. Fails with `raced` if another process holds the lock. The warnings lack that about the
/// folder.
pub(super) fn begin_attempt(
    store: &Store,
    id: &JobId,
    mut spec: Spec,
    detach: DetachMode,
    env: &Env,
    raced: impl FnOnce() -> Error,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<Begun, Error> {
    let dir = &store.job(id);
    // All checks come before the first change of the record.
    check_cwd(&spec)?;
    check_claude_of_job(&mut spec, env)?;
    set_system_prompt_snapshot(&mut spec);
    if spec.engine.is_some() {
        let job = engine_jobs::begin_attempt(dir, spec, raced, begin)?;
        return Ok(Begun::Unsubmitted(Box::new(job)));
    }
    let mut plan = plan_detach(detach, store, id, &spec, env)?;
    // Keeps `clean` from removing the job's dependencies until the record shows that it waits.
    let others = store.lock_against_removal();
    let lock = match lock_ended(dir) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Err(raced()),
        // Another command has just removed the job.
        Err(_) if !dir.path().exists() => return Err(Error::NotFound(id.to_string())),
        Err(error) => return Err(error),
    };
    fault_point("recover:locked");
    let mut record = load_ended(dir, &lock)?;
    claim_and_begin(dir, &mut record, begin)?;
    record.spec = spec;
    // `--no-queue` applies to the start only; another attempt may wait for a slot.
    record.spec.queue_options.no_queue = false;
    record.worker.pid = None;
    record.worker.pid_start_time = None;
    record.set_host();
    record.worker.detached = Some(plan.expected());
    record.attempt.log_start = dir.length(OUTPUT);
    dir.open_inbox()?;
    dir.save(&record, false)?;
    drop(others);
    fault_point("recover:saved");
    let launched = launch_or_fail(dir, lock, &mut plan, env)?;
    let pid = launched.pid;
    let status = match record.released_question() {
        Some(_) => Status::Blocked,
        None => status_after_launch(launched),
    };
    let warnings = risks(store, &plan);
    Ok(Begun::Launched(Recovered::new(store, &record, Some(pid), status, warnings)))
}

/// Loads the record of an ended job, whose lock is held. Writes the verdict of a lost job if the
/// process that found it lost could not.
fn load_ended(dir: &JobDir, lock: &Lock) -> Result<Record, Error> {
    let record = dir.load()?;
    match dir.liveness_if_unlocked(&record) {
        Liveness::OtherMachine(host) => Err(Error::OtherHost(dir.id().to_string(), host)),
        Liveness::Lost => {
            let until = Instant::now() + SWEEP_TIMEOUT;
            Ok(write_lost_verdict(dir, record, None, Some(lock), until))
        }
        Liveness::Ended | Liveness::Live => Ok(record),
    }
}

/// Claims the next attempt from other machines and calls `begin` with its record.
fn claim_and_begin(
    dir: &JobDir,
    record: &mut Record,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<(), Error> {
    let attempt = record.attempt.number + 1;
    if let Some(host) = dir.claim_attempt(attempt)? {
        return Err(Error::OtherHost(dir.id().to_string(), host));
    }
    let begun = begin(dir, record);
    if begun.is_err() && dir.is_shared() {
        dir.revoke_claim(attempt);
    }
    begun
}

/// Checks the job's claude. If it is gone from its path, searches for another one: an update may
/// have moved it.
pub(super) fn check_claude_of_job(spec: &mut Spec, env: &Env) -> Result<(), Error> {
    if claude::is_executable(Path::new(&spec.claude)) {
        return check_claude(spec, env);
    }
    let path = std::mem::take(&mut spec.claude);
    check_claude(spec, env).map_err(|error| match error {
        Error::ClaudeNotFound(_) if !path.is_empty() => Error::ClaudeNotFound(format!(
            "the job's claude {path:?} is gone, and there is none on PATH"
        )),
        error => error,
    })
}

/// Locks an ended job; `None` if another process is continuing it. The worker holds the lock for a
/// moment after it has written the verdict.
pub(super) fn lock_ended(dir: &JobDir) -> Result<Option<Lock>, Error> {
    let until = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let lock = dir.try_lock()?;
        let ended = dir.load().is_ok_and(|record| !record.status.is_live());
        if lock.is_some() || !ended || Instant::now() >= until {
            return Ok(lock);
        }
        await_end(dir, until.saturating_duration_since(Instant::now()));
    }
}
