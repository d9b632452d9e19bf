//! Launch of a job's worker: the steps that `start`, `resume` and `recover` share.

use std::path::{Path, PathBuf};

use crate::claude::{self, Env};
use crate::error::Error;
use crate::finalize::finalize_lost;
use crate::job::{JobId, Reason, Spec, Status, Verdict};
use crate::launch::{DetachMode, DetachPlan, LaunchError, Launched, launch};
use crate::store::{CONTAINER_WARNED, JobDir, Lock, Store};

pub(super) fn check_cwd(spec: &Spec) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::BadCwd(PathBuf::from(&spec.cwd), why.to_owned()));
    match std::fs::metadata(&spec.cwd) {
        Err(error) => refuse(&error.to_string()),
        Ok(metadata) if !metadata.is_dir() => refuse("not a directory"),
        Ok(_) => match nix::unistd::access(spec.cwd.as_str(), nix::unistd::AccessFlags::X_OK) {
            Err(errno) => refuse(errno.desc()),
            Ok(()) => Ok(()),
        },
    }
}

pub(super) fn check_claude(spec: &mut Spec, env: &Env) -> Result<(), Error> {
    let long = claude::arguments(spec, &claude::SessionStart::New(""))
        .into_iter()
        .find(|a| a.len() > claude::MAX_ARGUMENT_BYTES);
    if let Some(argument) = long {
        let max = claude::MAX_ARGUMENT_BYTES;
        return Err(Error::Usage(format!(
            "an argument has {} bytes, more than the system's limit of {max}: use a file",
            argument.len()
        )));
    }
    if let Some(replay) = &spec.replay {
        if let Some(file) = &replay.file {
            let path = PathBuf::from(file);
            std::fs::File::open(&path).map_err(|error| Error::BadRecording(path, error))?;
        }
        return Ok(());
    }
    if spec.claude.is_empty() {
        let not_found = || Error::ClaudeNotFound("there is no claude on PATH".to_owned());
        let found = claude::find(env).ok_or_else(not_found)?;
        spec.claude = found.to_string_lossy().into_owned();
    } else if !claude::is_executable(Path::new(&spec.claude)) {
        let why = match Path::new(&spec.claude).exists() {
            true => "not an executable file",
            false => "no such file",
        };
        return Err(Error::ClaudeNotFound(format!("{why}: {:?}", spec.claude)));
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
    if spec.fresh_system_prompt {
        let option = claude::SYSTEM_PROMPT_SNAPSHOT;
        spec.fresh_system_prompt =
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
    if spec.memory_max.is_some() {
        // Only a scope has a memory limit.
        if mode == DetachMode::Session {
            return Err(Error::NoMemoryLimit("--detach session was requested".to_owned()));
        }
        let plan = DetachPlan::new(DetachMode::Scope, id, &directories, env)
            .map_err(Error::NoMemoryLimit)?;
        return Ok(plan.with_memory_max(spec.memory_max));
    }
    DetachPlan::new(mode, id, &directories, env).map_err(Error::NoScope)
}

/// Returns the risks to warn the caller of. The risk of a container is reported only once for a jobs
/// directory.
pub(super) fn warnings(store: &Store, plan: &DetachPlan) -> Vec<String> {
    let mut warnings = plan.risks().to_vec();
    if let Some(risk) = plan.container_risk()
        && !store.create_marker(CONTAINER_WARNED)
    {
        warnings.retain(|warning| warning != risk);
    }
    warnings
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
