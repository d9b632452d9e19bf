//! `recover`: continues interrupted jobs with another attempt.

use std::collections::BTreeSet;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::engine_jobs::{self, Ask, settle};
use super::failed_dependency::failed_dependency;
use super::host_takeover::refuse_other_host;
pub(crate) use super::launching::Recovered;
use super::launching::{Begun, begin_attempt, folder_warning};
use super::observe::{Observed, try_load_checked, try_load_settled};
use super::selecting::{Among, take_over_selected};
use super::several::{FailedJob, failures, first_exit_status};
use crate::arguments::{FORCE_HOST, SelectorArgs};
use crate::claude::Env;
use crate::error::{Error, ExitStatus};
use crate::finalize::SWEEP_TIMEOUT;
use crate::job::{JobId, Record, Status};
use crate::launch::DetachMode;
use crate::output::{Answer, BOLD, painted, push_hint, push_warning};
use crate::store::{LoadError, Store};

/// Arguments of `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob recover --all\n  claudejob recover fix-login\n  \
    claudejob recover --label project=app\n\n\
    Claude continues its conversation, or gets the prompt again if it had none yet. A job that \
    failed because its dependency was interrupted waits for that job again. Jobs that were \
    killed, ended by themselves or were started with --no-recover are not changed. The \
    environment is the caller's, because none was stored.")]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Recover every interrupted job and the jobs that need it
    #[arg(long, help_heading = "Selection")]
    all: bool,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    detach: DetachMode,
    /// Use this profile of the configuration file
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl RecoverArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let named = call.named_jobs(None, &store, &self.targets)?;
        if self.force_host {
            take_over_selected(&store, &named, &self.targets.filter)?;
        }
        let selected =
            call.select(&store, self.targets, self.all, Among::Interrupted)?.required()?;
        let (detach, profile) = (self.detach, self.profile.as_deref());
        let deadline = Instant::now() + SWEEP_TIMEOUT;
        let recovery = Recovery { store: &store, detach, profile, env: &call.env, deadline };
        match selected.ids.as_slice() {
            [id] if !selected.is_several() => {
                call.print(&recovery.recover(id, Ask::One)?.submit(&store)?)
            }
            ids if !selected.is_selection => call.print(&recovery.recover_named(ids)),
            // A login that was refused is renewed by the caller, who then names or selects the job.
            ids if self.all => call.print(&recovery.recover_fitting(ids, Record::is_cut_off)),
            ids => call.print(&recovery.recover_fitting(ids, Record::is_recoverable)),
        }
    }
}

/// The jobs that continue, of several.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RecoverAllAnswer {
    /// The jobs that continue.
    pub recovered: Vec<Recovered>,
    /// The jobs that could not be recovered or resumed.
    pub failed: Vec<FailedJob>,
}

impl Recovered {
    /// Returns a sentence, and the warnings.
    fn sentence(&self) -> String {
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

impl Answer for Recovered {
    fn text(&self) -> String {
        let mut text = self.sentence();
        push_hint(&mut text, self.hint.as_deref());
        text
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(vec![self.job_id.clone()])
    }
}

impl Answer for RecoverAllAnswer {
    fn text(&self) -> String {
        if self.recovered.is_empty() && self.failed.is_empty() {
            return "No job to continue.\n".to_owned();
        }
        let mut text: String = self.recovered.iter().map(Recovered::sentence).collect();
        for failed in &self.failed {
            failed.push_to(&mut text);
        }
        text
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(self.recovered.iter().map(|job| job.job_id.clone()).collect())
    }

    fn failures(&self) -> String {
        failures(&self.failed)
    }

    fn exit_status(&self) -> ExitStatus {
        let failures: Vec<ExitStatus> = self.failed.iter().map(|job| job.exit_status).collect();
        first_exit_status(&failures).unwrap_or(ExitStatus::Done)
    }
}

impl RecoverAllAnswer {
    /// Returns the answer for jobs that were begun, after those with an engine were submitted together.
    pub(super) fn submit(store: &Store, begun: Vec<(JobId, Result<Begun, Error>)>) -> Self {
        let mut answer = Self::default();
        let mut unsubmitted = Vec::new();
        for (id, begun) in begun {
            match begun {
                Ok(Begun::Unsubmitted(job)) => unsubmitted.push(*job),
                Ok(Begun::Launched(recovered)) => answer.recovered.push(recovered),
                Err(error) => answer.failed.push(FailedJob::new(store, id, &error)),
            }
        }
        // The jobs after one that its engine refuses are not refused because of it.
        while !unsubmitted.is_empty() {
            let submitted = engine_jobs::submit(store, &unsubmitted);
            for (job, submitted) in unsubmitted.drain(..submitted.len()).zip(submitted) {
                match submitted {
                    Ok(_) => answer.recovered.push(Recovered::submitted(store, &job.record)),
                    Err(error) => {
                        answer.failed.push(FailedJob::new(store, job.dir.id().clone(), &error));
                    }
                }
            }
        }
        answer
    }
}

/// Recovers a job, with its profile.
pub(super) fn recover(store: &Store, id: &JobId, env: &Env) -> Result<Recovered, Error> {
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    Recovery { store, detach: DetachMode::Auto, profile: None, env, deadline }
        .recover(id, Ask::One)?
        .submit(store)
}

/// Observes a job, also by its engine.
pub(super) fn observe_with_engine(
    store: &Store,
    id: &JobId,
    ask: Ask,
    deadline: Instant,
) -> Result<Observed, LoadError> {
    let mut observed = try_load_settled(store, id, deadline)?;
    if observed.record.spec.engine.is_some() {
        observed.record = settle(&observed.dir, observed.record, ask).record;
    }
    Ok(observed)
}

/// How jobs are recovered.
struct Recovery<'a> {
    store: &'a Store,
    detach: DetachMode,
    /// The profile that replaces that of each job.
    profile: Option<&'a str>,
    env: &'a Env,
    /// When to stop waiting for verdicts that other processes are writing.
    deadline: Instant,
}

impl Recovery<'_> {
    fn observe(&self, id: &JobId, ask: Ask) -> Result<Observed, LoadError> {
        observe_with_engine(self.store, id, ask, self.deadline)
    }

    fn recover(&self, id: &JobId, ask: Ask) -> Result<Begun, Error> {
        let observed = self.observe(id, ask)?;
        refuse_other_host(&observed.dir, &observed.record)?;
        if !observed.record.is_recoverable() {
            return Err(Error::NotRecoverable(id.to_string(), refusal_reason(&observed.record)));
        }
        self.begin(id, observed.record)
    }

    /// Recovers each of these jobs, dependencies first.
    fn recover_named(&self, ids: &[JobId]) -> RecoverAllAnswer {
        let mut begun = Vec::new();
        for id in dependencies_first(self.store, ids) {
            let result = self.recover(&id, Ask::about(ids.len()));
            begun.push((id, result));
        }
        RecoverAllAnswer::submit(self.store, begun)
    }

    /// Recovers those of these jobs that fit, dependencies first: jobs that wait for them have failed
    /// until then. A job that failed because of a dependency is recovered only if the dependency is.
    /// Jobs that another `recover` recovers at the same time are skipped.
    fn recover_fitting(&self, ids: &[JobId], fits: fn(&Record) -> bool) -> RecoverAllAnswer {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut interrupted = Vec::new();
        for id in ids {
            if let Ok(observed) = self.observe(&id, Ask::Many)
                && fits(&observed.record)
            {
                interrupted.push((id, observed.record.spec.dependencies().cloned().collect()));
            }
        }
        let mut begun = Vec::new();
        for id in in_dependency_order(interrupted) {
            let Ok(observed) = try_load_checked(self.store, &id) else { continue };
            if !fits(&observed.record) || would_fail_again(self.store, &observed.record) {
                continue;
            }
            match self.begin(&id, observed.record) {
                Err(Error::NotRecoverable(..)) => {}
                result => begun.push((id, result)),
            }
        }
        RecoverAllAnswer::submit(self.store, begun)
    }

    fn begin(&self, id: &JobId, record: Record) -> Result<Begun, Error> {
        let mut spec = record.spec;
        if let Some(profile) = self.profile {
            spec.profile = Some(profile.to_owned());
        }
        let env = self.env.for_job(&spec)?;
        let cwd = spec.cwd.clone();
        let mut begun = begin_attempt(
            self.store,
            id,
            spec,
            self.detach,
            &env,
            || raced(id),
            |_, record| {
                if !record.is_recoverable() {
                    return Err(raced(id));
                }
                record.begin_recovery();
                Ok(())
            },
        )?;
        // Most jobs have shared their folder from the start, and their callers know it.
        if let Begun::Launched(recovered) = &mut begun
            && let Some(warning) = folder_warning(self.store, id, &cwd)
            && self.store.is_warning_due(&warning)
        {
            recovered.warnings.push(warning);
        }
        Ok(begun)
    }
}

/// Returns whether the job failed because of a dependency that has still failed.
fn would_fail_again(store: &Store, record: &Record) -> bool {
    failed_dependency(store, record).is_some()
}

/// Returns these jobs in an order in which each one comes after those that it needs.
pub(super) fn dependencies_first(store: &Store, ids: &[JobId]) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for id in ids {
        let dependencies = match try_load_checked(store, id) {
            Ok(observed) => observed.record.spec.dependencies().cloned().collect(),
            Err(_) => Vec::new(),
        };
        jobs.push((id.clone(), dependencies));
    }
    in_dependency_order(jobs)
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
