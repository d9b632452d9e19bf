//! `recover`: continues interrupted jobs with another attempt.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::host_takeover::{refuse_other_host, take_over, take_over_all};
pub(crate) use super::launching::Recovered;
use super::launching::launch_attempt;
use super::observe::{observe, try_load_checked};
use super::several::FailedJob;
use crate::arguments::{FORCE_HOST, JobName};
use crate::claude::Env;
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Reason, Record, Status};
use crate::launch::DetachMode;
use crate::output::{Answer, BOLD, RED, painted, push_marked, push_warning};
use crate::store::Store;

/// Arguments of `recover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob recover fix-login\n  claudejob recover --all\n\n\
    Claude continues its conversation, or gets the prompt again if it had none yet. A job that \
    failed because its dependency was interrupted waits for that job again. Jobs that were \
    killed, ended by themselves or were started with --no-recover are not changed. The \
    environment is the caller's, because none was stored.",
    mut_group("JobName", |group| group.arg("all"))
)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    target: JobName,
    /// Recover every interrupted job and the jobs that need it
    #[arg(long)]
    all: bool,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    detach: DetachMode,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl RecoverArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let env = &call.env;
        if self.all {
            if self.force_host {
                take_over_all(&store)?;
            }
            return call.print(&recover_all(&store, self.detach, env)?);
        }
        let id = call.job(&store, &self.target)?;
        if self.force_host {
            take_over(&store, std::slice::from_ref(&id))?;
        }
        call.print(&recover(&store, &id, self.detach, env)?)
    }
}

/// The jobs that were recovered.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RecoverAllAnswer {
    /// The jobs that continue.
    pub recovered: Vec<Recovered>,
    /// The interrupted jobs that could not be recovered.
    pub failed: Vec<FailedJob>,
}

impl Answer for Recovered {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        let how = if self.resumes {
            "continues its conversation"
        } else {
            "starts again from its prompt"
        };
        let mut text = format!("Job {id} {how} (attempt {}).\n", self.attempt);
        for warning in &self.warnings {
            push_warning(&mut text, warning);
        }
        text
    }
}

impl Answer for RecoverAllAnswer {
    fn text(&self) -> String {
        if self.recovered.is_empty() && self.failed.is_empty() {
            return "Nothing to recover.\n".to_owned();
        }
        let mut text: String = self.recovered.iter().map(Recovered::text).collect();
        for failure in &self.failed {
            let what = format!("{}: {}", failure.job_id, failure.error);
            push_marked(&mut text, RED.bold(), "error:", &what);
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        if self.failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Recovers one job.
fn recover(store: &Store, id: &JobId, detach: DetachMode, env: &Env) -> Result<Recovered, Error> {
    let observed = observe(store, id)?;
    refuse_other_host(&observed.dir, &observed.record)?;
    if !observed.record.is_recoverable() {
        return Err(Error::NotRecoverable(id.to_string(), refusal_reason(&observed.record)));
    }
    begin_recovery(store, id, observed.record, detach, env)
}

/// Recovers every interrupted job, dependencies first: jobs that wait for them have failed until
/// then. A job that failed because of a dependency is recovered only if the dependency is. Jobs
/// that another `recover` recovers at the same time are skipped.
fn recover_all(store: &Store, detach: DetachMode, env: &Env) -> Result<RecoverAllAnswer, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    let mut interrupted = Vec::new();
    for id in ids {
        if let Ok(observed) = try_load_checked(store, &id)
            && observed.record.is_cut_off()
        {
            interrupted.push((id, observed.record.spec.dependencies().cloned().collect()));
        }
    }
    let mut answer = RecoverAllAnswer::default();
    for id in in_dependency_order(interrupted) {
        let Ok(observed) = try_load_checked(store, &id) else { continue };
        if !observed.record.is_cut_off() || would_fail_again(store, &observed.record) {
            continue;
        }
        match begin_recovery(store, &id, observed.record, detach, env) {
            Ok(recovered) => answer.recovered.push(recovered),
            Err(Error::NotRecoverable(..)) => {}
            Err(error) => answer.failed.push(FailedJob::new(store, id, &error)),
        }
    }
    Ok(answer)
}

/// Returns whether the job failed because of a dependency that has still failed.
fn would_fail_again(store: &Store, record: &Record) -> bool {
    record.reason == Some(Reason::DependencyFailed)
        && record.spec.after.iter().any(|id| has_failed(store, id))
}

fn has_failed(store: &Store, id: &JobId) -> bool {
    match try_load_checked(store, id) {
        Ok(observed) => !observed.live && observed.record.status != Status::Completed,
        Err(_) => false,
    }
}

/// Sorts jobs, given with their dependencies, so that each one comes after its dependencies.
fn in_dependency_order(mut jobs: Vec<(JobId, Vec<JobId>)>) -> Vec<JobId> {
    let mut ordered = Vec::new();
    while !jobs.is_empty() {
        let unordered: BTreeSet<JobId> = jobs.iter().map(|(id, _)| id.clone()).collect();
        let waits = |(_, dependencies): &(JobId, Vec<JobId>)| {
            dependencies.iter().any(|id| unordered.contains(id))
        };
        let (mut waiting, ready): (Vec<_>, Vec<_>) = jobs.into_iter().partition(waits);
        if ready.is_empty() {
            // A cycle, which `start` refuses: no order is better than another.
            ordered.extend(waiting.drain(..).map(|(id, _)| id));
        }
        ordered.extend(ready.into_iter().map(|(id, _)| id));
        jobs = waiting;
    }
    ordered
}

fn refusal_reason(record: &Record) -> String {
    match record.status {
        Status::Killed => "it was killed, which is final".to_owned(),
        Status::Completed => "it has completed".to_owned(),
        Status::Failed if record.spec.retry.no_recover => {
            "it was started with --no-recover, or killed after its failure".to_owned()
        }
        Status::Failed if !record.is_writable() => {
            "its record was written by another version of this program".to_owned()
        }
        Status::Failed => {
            let reason = record.reason.map_or("an unknown reason", |reason| reason.as_str());
            format!("it was not interrupted, it failed by itself ({reason})")
        }
        live => format!("it is {live}"),
    }
}

fn begin_recovery(
    store: &Store,
    id: &JobId,
    record: Record,
    detach: DetachMode,
    env: &Env,
) -> Result<Recovered, Error> {
    launch_attempt(
        store,
        id,
        record.spec,
        detach,
        env,
        || raced(id),
        |_, record| {
            if !record.is_recoverable() {
                return Err(raced(id));
            }
            record.begin_recovery();
            Ok(())
        },
    )
}

fn raced(id: &JobId) -> Error {
    Error::NotRecoverable(id.to_string(), "another command has just recovered it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_jobs_after_their_dependencies() {
        for (jobs, expected) in [
            ("", ""),
            ("a b c", "a b c"),
            ("a:z b z", "b z a"),
            ("a:b,c b:c c", "c b a"),
            ("a:gone b", "a b"),
            ("a:b b:a c", "c a b"),
        ] {
            let id = |text: &str| JobId::parse(text).unwrap();
            let parse = |word: &str| {
                let (job, dependencies) = word.split_once(':').unwrap_or((word, ""));
                let dependencies = dependencies.split(',').filter(|id| !id.is_empty());
                (id(job), dependencies.map(id).collect())
            };
            let ordered = in_dependency_order(jobs.split_whitespace().map(parse).collect());
            let expected: Vec<JobId> = expected.split_whitespace().map(id).collect();
            assert_eq!(ordered, expected, "{jobs}");
        }
    }
}
