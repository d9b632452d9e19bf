//! Submission of jobs on a cluster.

use super::batch::EarlierJobs;
use super::options::{DEFAULT_MAX_PARALLEL, DEFAULT_STAGGER};
use super::{StartAnswer, next_commands};
use crate::claude::{self, Env, LoginSource};
use crate::commands::engine_jobs::{self, Unsubmitted};
use crate::error::Error;
use crate::job::{self, QueueOptions, Record, Spec, Status, WaitKind, WaitingFor, milliseconds};
use crate::launch::DetachMode;
use crate::store::{JobDir, Store, addressed};

/// Submits a job that was created, or leaves that to the batch to which it belongs.
pub(super) fn submit(
    store: &Store,
    dir: JobDir,
    record: Record,
    detach: DetachMode,
    env: &Env,
    earlier: Option<&mut EarlierJobs>,
) -> Result<StartAnswer, Error> {
    let mut why = "it was submitted".to_owned();
    let mut warnings = ignored_options(&record.spec.queue_options, detach, earlier.is_none());
    warnings.extend(login_warning(&record.spec, env));
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

/// Returns warnings about options that have no effect on a cluster.
fn ignored_options(options: &QueueOptions, detach: DetachMode, is_single: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    for (option, is_given, instead) in [
        ("--no-queue", options.no_queue, "the scheduler decides when the job starts"),
        ("--priority", options.priority != 0, "use --on-arg=--nice=N or --on-arg=--qos=NAME"),
        (
            "--max-parallel",
            is_single && ![0, DEFAULT_MAX_PARALLEL].contains(&options.max_parallel),
            "it limits the jobs of one --from file",
        ),
        // A shorter one than the default asks for nothing that a cluster does not do.
        (
            "--stagger",
            options.stagger_ms > milliseconds(DEFAULT_STAGGER),
            "the scheduler decides when the job starts",
        ),
        ("--detach", detach != DetachMode::Auto, "the scheduler starts the job"),
        (
            "--group-limit",
            is_single && options.group_limit > 1,
            "jobs of a group run one after the other, but for those of one --from file",
        ),
    ] {
        if is_given {
            warnings.push(format!("{option} has no effect on a cluster: {instead}"));
        }
    }
    warnings
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
