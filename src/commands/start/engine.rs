//! Submission of jobs on a cluster.

use super::batch::EarlierJobs;
use super::{StartAnswer, next_commands};
use crate::claude::{self, Env, LoginSource};
use crate::commands::engine_jobs::{self, Unsubmitted};
use crate::error::Error;
use crate::job::{self, Record, Spec, Status, WaitKind, WaitingFor};
use crate::store::{JobDir, Store, addressed};

/// Submits a job that was created, or leaves that to the batch to which it belongs.
pub(super) fn submit(
    store: &Store,
    dir: JobDir,
    record: Record,
    env: &Env,
    earlier: Option<&mut EarlierJobs>,
) -> Result<StartAnswer, Error> {
    let mut why = "it was submitted".to_owned();
    let mut warnings = Vec::new();
    if let Some(warning) = login_warning(&record.spec, env) {
        warnings.push(warning);
    }
    let job_id = dir.id().clone();
    let wait = job::wait(&job_id, record.spec.keep_alive.enabled);
    let job = Unsubmitted { dir, record };
    match earlier {
        Some(earlier) => earlier.unsubmitted.push(job),
        None => {
            for submitted in engine_jobs::submit(store, &[job]) {
                why = format!("it was submitted as job {}", submitted?.id);
            }
        }
    }
    Ok(StartAnswer {
        next: next_commands(store, &job_id),
        pid: None,
        status: Status::Queued,
        existing: false,
        warnings,
        waits_for: Vec::new(),
        waiting_for: Some(WaitingFor::new(WaitKind::Engine, None, why)),
        hint: Some(addressed(store.root(), wait)),
        job_id,
    })
}

/// Returns a warning if claude's login is in a variable that does not reach the node.
fn login_warning(spec: &Spec, env: &Env) -> Option<String> {
    let engine = spec.engine.as_ref()?;
    if spec.replay.is_some() {
        return None;
    }
    match claude::login(env, spec)? {
        LoginSource::Variable(name)
            if !env.is_from_file(name) && !engine.export_env.iter().any(|given| given == name) =>
        {
            Some(format!(
                "the login in {name} does not reach the node: put it into a file for --env-file, or \
                 log in with claude there"
            ))
        }
        _ => None,
    }
}
