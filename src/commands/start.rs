//! `start`: starts a new, detached job.

mod args;
mod batch;
mod defaults;
mod engine;
mod engine_options;
mod existing;
mod job_options;
mod options;
mod passed_checks;
mod worktree;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Call;
use super::clean::{CleanOptions, clean};
use super::engine_jobs;
use super::launching::{
    check_cwd, launch_or_fail, plan_detach, set_system_prompt_snapshot, status_after_launch,
    warnings,
};
use super::observe::observe;
use super::resume::check_session;
use super::status::Waiting;
use super::wait::print_or_wait;
use crate::claude::{self, Env};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::fault_point::fault_point;
use crate::job::{self, JobId, Record, Spec, Status, Timestamp, WaitKind, WaitingFor};
use crate::launch::{DetachMode, Launched};
use crate::notifier;
use crate::openclaw;
use crate::output::{Answer, BOLD, DIM, color, painted, push_warning, sentence, wait_reason};
use crate::store::{CreateError, JobDir, Lock, Store, Sync, addressed};
use crate::text::one_line;

use worktree::NewWorktree;

pub(crate) use args::StartArgs;
#[cfg(test)]
pub(crate) use batch::BatchAnswer;
use batch::{Batch, EarlierJobs, LineSchema};
pub(super) use defaults::default_spec;
pub(super) use engine_options::On;
use existing::existing_answer;
pub(super) use job_options::{JobOptions, shorten_help};
use passed_checks::PassedChecks;

/// Maximum size of a prompt in bytes, far above the limit of the API.
pub(crate) const MAX_PROMPT_BYTES: usize = 10 << 20;
/// Number of characters of the prompt in the record.
const PREVIEW_CHARS: usize = 160;
/// How long a start looks for worktrees of old jobs that can be removed.
const MAX_CLEANUP_TIME: Duration = Duration::from_secs(1);

impl StartArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        if self.batch.from_schema {
            return call.print(&LineSchema::new());
        }
        let store = call.store()?;
        let wait = self.wait;
        if let Some(from) = &self.batch.from {
            let labels = &self.batch.set_label;
            let batch = Batch { call, store: &store, from, labels, if_absent: self.if_absent };
            return batch.run(wait);
        }
        let answer = start(&store, self.into_request()?, &call.env)?;
        print_or_wait(call, &store, &answer, &answer.job_id, wait)
    }
}

/// A job to start.
#[derive(Debug, Default)]
pub(crate) struct StartRequest {
    /// The job's id; `None` to generate one from the time.
    pub id: Option<JobId>,
    pub prompt: Vec<u8>,
    /// The job's options. If `claude` is empty, the program is searched for.
    pub spec: Spec,
    /// If the id is in use, return its job instead of an error.
    pub if_absent: bool,
    /// How the job is detached from this process.
    pub detach: DetachMode,
    /// A job whose session this one continues. If `spec.cwd` is empty, it also works in the
    /// directory of that job.
    pub resume_job: Option<JobId>,
    /// Budget of the jobs with the same labels.
    pub budget: Option<Budget>,
}

/// A budget for jobs (`--budget-usd`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub usd: f64,
    /// The period, up to now, whose costs count.
    pub over: Duration,
}

/// The job that was started.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker.
    pub pid: Option<i32>,
    /// The job's status.
    pub status: Status,
    /// The job existed before (`--if-absent`).
    pub existing: bool,
    /// Circumstances that could end the job early, each given once a day for a jobs directory.
    pub warnings: Vec<String>,
    /// The jobs whose end a queued job waits for.
    pub waits_for: Vec<JobId>,
    /// Why the job is not working now; null while it works.
    pub waiting_for: Option<WaitingFor>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
    /// The commands that show the output and the result, for people.
    #[serde(skip)]
    pub next: Vec<String>,
}

impl Answer for StartAnswer {
    fn text(&self) -> String {
        let id = &self.job_id;
        let how = if self.existing { "already exists and is" } else { "is" };
        let status = painted(color(self.status), self.status.as_str());
        let wait = match &self.waiting_for {
            Some(wait) => format!(": {}", wait_reason(wait)),
            None => String::new(),
        };
        let mut text =
            sentence(&format!("Job {} {how} {status}{wait}.", painted(BOLD, id.as_str())));
        let width = self.next.iter().map(String::len).max().unwrap_or(0);
        for (call, about) in self.next.iter().zip(["follow its output", "show its result"]) {
            let _ = writeln!(text, "  {call:<width$}  {}", painted(DIM, about));
        }
        for warning in &self.warnings {
            push_warning(&mut text, warning);
        }
        text
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(vec![self.job_id.clone()])
    }
}

/// Returns the commands that show a job's output and its result.
fn next_commands(store: &Store, id: &JobId) -> Vec<String> {
    let commands = [format!("claudejob logs -f {id}"), format!("claudejob result {id}")];
    commands.map(|command| addressed(store.root(), command)).to_vec()
}

/// A request that was checked, but for its dependencies.
struct CheckedRequest {
    id: Option<JobId>,
    prompt: String,
    spec: Spec,
    worktree: Option<Rc<NewWorktree>>,
    if_absent: bool,
    detach: DetachMode,
}

/// Checks the request, creates the job, and launches its worker.
pub(crate) fn start(store: &Store, request: StartRequest, env: &Env) -> Result<StartAnswer, Error> {
    if let Some(id) = &request.id
        && store.job(id).path().exists()
    {
        return existing_answer(store, id, request.if_absent, env);
    }
    let keep = keep_from_env(env)?;
    let checked = check(store, request, env, &mut PassedChecks::default())?;
    let answer = create(store, &checked, env, None)?;
    if let Some(keep) = keep {
        remove_old_jobs(store, keep, &answer.job_id);
    }
    Ok(answer)
}

/// Checks a request, but for its dependencies, and completes its specification.
fn check(
    store: &Store,
    request: StartRequest,
    env: &Env,
    passed: &mut PassedChecks,
) -> Result<CheckedRequest, Error> {
    let StartRequest { id, prompt, mut spec, if_absent, detach, resume_job, budget } = request;
    if let Some(why) = claude::refusal_reason(&spec.options.extra_args) {
        return Err(Error::Usage(why));
    }
    let prompt = check_prompt(prompt)?;
    let env = &*env.for_job(&spec)?;
    if let Some(old) = resume_job {
        continue_session(store, &old, &mut spec, env)?;
    }
    check_cwd(&spec)?;
    passed.check_claude(&mut spec, env)?;
    spec.session.fresh_system_prompt =
        spec.session.resume.is_some() && spec.options.append_system_prompt.is_some();
    set_system_prompt_snapshot(&mut spec);
    check_recipients(&mut spec, env)?;
    let worktree = passed.find_worktree(&mut spec)?;
    if let Some(budget) = budget {
        passed.check_budget(store, budget, &spec)?;
    }
    Ok(CheckedRequest { id, prompt, spec, worktree, if_absent, detach })
}

/// Creates the job of a checked request, and launches its worker. `earlier` are the jobs of the same
/// file, in which there is no circle.
fn create(
    store: &Store,
    request: &CheckedRequest,
    env: &Env,
    earlier: Option<&mut EarlierJobs>,
) -> Result<StartAnswer, Error> {
    let CheckedRequest { id, prompt, worktree, if_absent, detach, .. } = request;
    engine_jobs::check_dependencies(store, &request.spec)?;
    let mut spec = request.spec.clone();
    let (caller, env) = (env, &*env.for_job(&spec)?);
    let removal_lock = lock_others(store, &spec);
    match &earlier {
        Some(_) => check_that_dependencies_exist(store, &spec)?,
        None => check_dependencies(store, id.as_ref(), &spec)?,
    }
    let preview = one_line(prompt, PREVIEW_CHARS);
    let (now, mut step) = (clock::now(), 0);
    let (dir, lock, plan, record) = loop {
        let new = match id {
            Some(id) => id.clone(),
            None => unused_id(store, now, &mut step),
        };
        if let Some(worktree) = worktree {
            worktree.place(store, &new, &mut spec)?;
        }
        let mut record = Record::new(new.clone(), spec.clone(), preview.clone(), clock::now());
        let plan = if spec.engine.is_some() {
            record.status = Status::Queued;
            None
        } else {
            let plan = plan_detach(*detach, store, &new, &spec, env)?;
            record.worker.detached = Some(plan.expected());
            record.set_host();
            Some(plan)
        };
        // The jobs of a file are submitted together.
        let sync = if earlier.is_some() && plan.is_none() { Sync::Later } else { Sync::Now };
        match store.create_synced(&record, prompt, sync) {
            Ok((dir, lock)) => break (dir, lock, plan, record),
            Err(CreateError::Exists) if id.is_none() => step += 1,
            Err(CreateError::Exists) => return existing_answer(store, &new, *if_absent, caller),
            Err(CreateError::Store(error)) => return Err(error.into()),
        }
    };
    drop(removal_lock);
    let Some(mut plan) = plan else {
        drop(lock);
        return engine::submit(store, dir, record, *detach, env, earlier);
    };
    let launched = launch_or_fail(&dir, lock, &mut plan, env)?;
    fault_point("start:launched");
    let mut warnings = match earlier {
        Some(earlier) => earlier.warnings(store, &plan, dir.id(), &spec.cwd),
        None => warnings(store, &plan, dir.id(), &spec.cwd),
    };
    if let Some(worktree) = worktree {
        warnings.extend(worktree.warnings.iter().cloned());
    }
    let hint = job::wait(dir.id(), spec.keep_alive.enabled);
    Ok(answer(store, &dir, launched, hint, warnings))
}

/// Keeps `clean` from removing the jobs that the new one waits for, and the worktree that it may share
/// with ended ones.
fn lock_others(store: &Store, spec: &Spec) -> Option<Lock> {
    let shares_worktree =
        spec.worktree.as_ref().is_some_and(|worktree| worktree.request.name.is_some());
    if shares_worktree || spec.dependencies().next().is_some() {
        store.lock_against_removal()
    } else {
        None
    }
}

/// Removes all but the `keep` jobs that ended last. The job that was just started does not count: it
/// may have ended by now, and its caller may wait for its end.
fn remove_old_jobs(store: &Store, keep: usize, started: &JobId) {
    if store.ids().is_ok_and(|ids| ids.len() > keep.saturating_add(1)) {
        let options = CleanOptions {
            keep: Some(keep),
            worktrees_until: Some(Instant::now() + MAX_CLEANUP_TIME),
            ..CleanOptions::default()
        };
        // The job runs: a failed cleanup is not a failure of the start.
        let _ = clean(store, &[], Some(started), &options);
    }
}

/// Returns the answer for a job whose worker was just launched, with the hint for one that does not
/// have to wait.
fn answer(
    store: &Store,
    dir: &JobDir,
    launched: Launched,
    mut hint: String,
    warnings: Vec<String>,
) -> StartAnswer {
    let (pid, status) = (Some(launched.pid), status_after_launch(launched));
    let job_id = dir.id().clone();
    let mut waits_for = Vec::new();
    let mut waiting_for = None;
    if status == Status::Queued
        && let Some(waiting) = Waiting::of_new_job(store, dir)
    {
        let wait = match waiting.waiting_for() {
            Some(wait) => wait,
            None => WaitingFor::new(WaitKind::Slot, None, "it is about to start"),
        };
        waiting_for = Some(wait.map_hint(|hint| addressed(store.root(), hint)));
        hint = waiting.hint(store, &job_id).unwrap_or(hint);
        waits_for = waiting.waits_for;
    }
    let hint = Some(addressed(store.root(), hint));
    let next = next_commands(store, &job_id);
    let existing = false;
    StartAnswer { job_id, pid, status, existing, warnings, waits_for, waiting_for, hint, next }
}

/// Finds the command of OpenClaw, if it is a recipient. Refuses a `--wake-url` or its token if no
/// notification can be sent with it.
fn check_recipients(spec: &mut Spec, env: &Env) -> Result<(), Error> {
    if let Some(recipients) = &mut spec.notify.openclaw {
        recipients.command = openclaw::find(env).map_err(Error::NoOpenClaw)?;
    }
    let Some(wake) = &spec.notify.wake else { return Ok(()) };
    if let Err(why) = check_wake_url(&wake.url) {
        return Err(Error::BadWakeUrl(wake.url.clone(), why));
    }
    if let Some(name) = &wake.token_env {
        let value = env.get(name).map(OsString::as_os_str);
        notifier::check_token(name, value).map_err(Error::BadWakeToken)?;
    }
    Ok(())
}

fn check_wake_url(text: &str) -> Result<(), String> {
    let url: ureq::http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    if url.scheme_str() != Some("http") {
        return Err("only http is supported".to_owned());
    }
    if text.contains('@') {
        return Err("it must not contain a token: use --wake-token-env".to_owned());
    }
    let authority = match url.authority() {
        Some(authority) if !authority.host().is_empty() => authority,
        _ => return Err("it has no host".to_owned()),
    };
    // HTTP clients ignore an invalid port: the token would be sent to port 80.
    let after_host = &authority.as_str()[authority.host().len()..];
    let has_port = after_host.starts_with(':') && authority.port_u16().is_some_and(|n| n > 0);
    if !after_host.is_empty() && !has_port {
        return Err("its port must be a number from 1 to 65535".to_owned());
    }
    // The URL is stored, and a token must not be, wherever it is in the URL. The parser drops a
    // fragment.
    if url.query().is_some() || text.contains('#') {
        return Err("it must end with its path: for a token use --wake-token-env".to_owned());
    }
    Ok(())
}

/// Refuses dependencies that do not exist.
fn check_that_dependencies_exist(store: &Store, spec: &Spec) -> Result<(), Error> {
    for id in spec.dependencies() {
        if store.job(id).check().is_err() {
            return Err(Error::UnknownDependency(id.to_string()));
        }
    }
    Ok(())
}

/// Refuses dependencies that do not exist, or that depend on this id: on a job with the same id
/// that was removed.
fn check_dependencies(store: &Store, own: Option<&JobId>, spec: &Spec) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<(JobId, JobId)> =
        spec.dependencies().map(|id| (id.clone(), id.clone())).collect();
    check_that_dependencies_exist(store, spec)?;
    if let Some((id, _)) = open.iter().find(|(id, _)| Some(id) == own) {
        return Err(Error::UnknownDependency(id.to_string()));
    }
    while let Some((id, first)) = open.pop() {
        if Some(&id) == own {
            return Err(Error::DependencyCycle(id.to_string(), first.to_string()));
        }
        // A job that has ended or is gone no longer waits for anything.
        let Ok(record) = store.job(&id).load() else { continue };
        if record.status.is_live() && seen.insert(id) {
            open.extend(record.spec.dependencies().map(|id| (id.clone(), first.clone())));
        }
    }
    Ok(())
}

/// Makes the spec continue the session of another job.
fn continue_session(store: &Store, old: &JobId, spec: &mut Spec, env: &Env) -> Result<(), Error> {
    let record = observe(store, old)?.record;
    if record.status.is_live() && !spec.session.fork {
        let why = "it is live: use --fork to continue with a copy of its session";
        return Err(Error::NotResumable(old.to_string(), why.to_owned()));
    }
    check_session(&record, env)?;
    if record.session.id.is_none() || !record.session.began {
        let why = "claude never began a session for it";
        return Err(Error::NotResumable(old.to_string(), why.to_owned()));
    }
    spec.session.resume = record.session.id;
    if spec.cwd.is_empty() {
        // A session belongs to the directory in which it began.
        spec.cwd = record.spec.cwd;
    }
    Ok(())
}

/// Returns a generated id that no job has, and raises `step` to that of the id.
fn unused_id(store: &Store, now: Timestamp, step: &mut u32) -> JobId {
    loop {
        let id = JobId::generated(now, *step);
        if !store.job(&id).path().exists() {
            return id;
        }
        *step += 1;
    }
}

/// Returns how many ended jobs each start keeps, if `CLAUDE_SKILL_KEEP` is set.
fn keep_from_env(env: &Env) -> Result<Option<usize>, Error> {
    let Some(text) = env.get("CLAUDE_SKILL_KEEP") else { return Ok(None) };
    match text.to_string_lossy().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Error::Usage(format!("CLAUDE_SKILL_KEEP must be a number, but is {text:?}"))),
    }
}

fn check_prompt(prompt: Vec<u8>) -> Result<String, Error> {
    if prompt.len() > MAX_PROMPT_BYTES {
        return Err(Error::PromptTooLong(MAX_PROMPT_BYTES));
    }
    if let Some(at) = memchr::memchr(0, &prompt) {
        return Err(Error::PromptHasNul(at));
    }
    let prompt = String::from_utf8(prompt)
        .map_err(|error| Error::PromptNotUtf8(error.utf8_error().valid_up_to()))?;
    if prompt.trim().is_empty() { Err(Error::EmptyPrompt) } else { Ok(prompt) }
}

#[cfg(test)]
mod tests;
