//! `start`: a new job, detached.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::clean;
use super::observe::observe;
use super::resume::check_session;
use super::status::{Line, Waiting, standing};
use crate::claude::{self, Env};
use crate::clock;
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::finalize::finalize_lost;
use crate::job::{JobId, Reason, Record, Spec, Status, Summary, Verdict, WaitKind, WaitingFor};
use crate::launch::{DetachMode, DetachPlan, LaunchError, Launched, launch};
use crate::notifier;
use crate::store::{CONTAINER_WARNED, CreateError, JobDir, Listed, Lock, Store, addressed};
use crate::text::{format_window, one_line, round_usd};

/// Bytes that a prompt may have: what the API takes is far below it.
pub const PROMPT_MOST: usize = 10 << 20;
/// Characters of the prompt that the record keeps.
const PREVIEW: usize = 160;

/// What to start.
#[derive(Debug)]
pub struct StartRequest {
    /// The job's id; `None` for one made of the time.
    pub id: Option<JobId>,
    /// What to do.
    pub prompt: Vec<u8>,
    /// What else was asked. `claude` may be empty: then it is looked for.
    pub spec: Spec,
    /// An id in use is answered with its job.
    pub if_absent: bool,
    /// How the job is detached from us.
    pub detach: DetachMode,
    /// A job whose session this one goes on with, and in whose folder it works if `spec.cwd` is
    /// empty.
    pub resume_job: Option<JobId>,
    /// What jobs of its labels may have spent.
    pub budget: Option<Budget>,
}

/// `--budget-usd`.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// US dollars.
    pub usd: f64,
    /// Over so long, up to now.
    pub over: Duration,
}

/// The job that was started.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StartAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker.
    pub pid: Option<i32>,
    /// The job's status.
    pub status: Status,
    /// The job existed before (`--if-absent`).
    pub existing: bool,
    /// What would end the job before its time.
    pub warnings: Vec<String>,
    /// The jobs whose end a queued job waits for.
    pub waits_for: Vec<JobId>,
    /// Why the job is not working now; null while it works.
    pub waiting_for: Option<WaitingFor>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// Checks all that can be checked, makes the job, and puts its worker on its feet.
pub fn start(store: &Store, request: StartRequest, around: &Env) -> Result<StartAnswer, Error> {
    let StartRequest { id, prompt, mut spec, if_absent, detach, resume_job, budget } = request;
    if let Some(id) = &id
        && store.job(id).path().exists()
    {
        return existing(store, id, if_absent);
    }
    if let Some(why) = claude::refusal_reason(&spec.extra_args) {
        return Err(Error::Usage(why));
    }
    let prompt = check_prompt(prompt)?;
    let keep = keep(around)?;
    if let Some(old) = resume_job {
        take_over(store, &old, &mut spec, around)?;
    }
    check_cwd(&spec)?;
    check_claude(&mut spec, around)?;
    spec.fresh_system_prompt = spec.resume.is_some() && spec.append_system_prompt.is_some();
    set_system_prompt_snapshot(&mut spec);
    check_wake(&spec, around)?;
    let waits = spec.dependencies().next().is_some();
    let others = waits.then(|| store.lock_against_removal());
    check_others(store, id.as_ref(), &spec)?;
    if let Some(budget) = budget {
        check_budget(store, budget, &spec)?;
    }
    let preview = one_line(&prompt, PREVIEW);
    let (id, dir, lock, mut plan) = loop {
        let new = id.clone().unwrap_or_else(generated);
        let plan = make_plan(detach, store, &new, &spec, around)?;
        let mut record = Record::new(new.clone(), spec.clone(), preview.clone(), clock::now());
        record.detached = Some(plan.expected());
        record.set_host();
        match store.create(&record, &prompt) {
            Ok((dir, lock)) => break (new, dir, lock, plan),
            Err(CreateError::Exists) if id.is_none() => {}
            Err(CreateError::Exists) => return existing(store, &new, if_absent),
            Err(CreateError::Store(error)) => return Err(error.into()),
        }
    };
    drop(others);
    let launched = put_on_its_feet(&id, &dir, lock, &mut plan, around)?;
    fault_point("start:launched");
    // This job is none of those that count.
    if let Some(keep) = keep
        && store.ids().is_ok_and(|ids| ids.len() > keep.saturating_add(1))
    {
        // The job itself may have ended by now, and its end be waited for.
        let spare = Some(id.clone());
        let request =
            clean::CleanRequest { keep: Some(keep), spare, ..clean::CleanRequest::default() };
        // Upkeep is no reason for a job that runs to be called a failure.
        let _ = clean::clean(store, &request);
    }
    let warnings = warnings(store, &plan);
    let (pid, status) = (Some(launched.pid), status_of(launched));
    let waiting = if status == Status::Queued { waiting(store, &dir) } else { None };
    let waits_for = waiting.as_ref().map(|w| w.waits_for.clone()).unwrap_or_default();
    let waiting_for = waiting.map(|waiting| {
        let about_to_start = || WaitingFor::new(WaitKind::Slot, None, "it is about to start");
        let wait = waiting.waiting_for().unwrap_or_else(about_to_start);
        wait.map_hint(|hint| addressed(store.root(), hint))
    });
    let hint = Some(addressed(store.root(), format!("claudejob wait {id}")));
    let existing = false;
    Ok(StartAnswer { job_id: id, pid, status, existing, warnings, waits_for, waiting_for, hint })
}

/// The wait of a job that was just queued.
fn waiting(store: &Store, dir: &JobDir) -> Option<Waiting> {
    let record = dir.load().ok()?;
    // It may have started since its worker reported that it is queued.
    let queued = Record { status: Status::Queued, ..record };
    Line::of(store).waiting(store, &queued)
}

/// Refuses somebody to be woken up who cannot be reached this way.
fn check_wake(spec: &Spec, around: &Env) -> Result<(), Error> {
    let Some(wake) = &spec.wake else { return Ok(()) };
    check_wake_url(&wake.url).map_err(|why| Error::BadWakeUrl(wake.url.clone(), why))?;
    if let Some(name) = &wake.token_env {
        let value = around.get(name).map(OsString::as_os_str);
        notifier::check_token(name, value).map_err(Error::BadWakeToken)?;
    }
    Ok(())
}

fn check_wake_url(text: &str) -> Result<(), String> {
    let url: ureq::http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    let refuse = |why: &str| Err(why.to_owned());
    if url.scheme_str() != Some("http") {
        return refuse("only http is spoken here");
    }
    if text.contains('@') {
        return refuse("a token does not belong into it: use --wake-token-env");
    }
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return refuse("it names no host");
    };
    // What is no port counts as none with those who connect: the token would go to port 80.
    let behind_host = &authority.as_str()[authority.host().len()..];
    let has_port = behind_host.starts_with(':') && authority.port_u16().is_some_and(|n| n > 0);
    if !behind_host.is_empty() && !has_port {
        return refuse("its port is no number from 1 to 65535");
    }
    // It is stored, and a token is not: nor where somebody expects one. The parser drops a fragment.
    if url.query().is_some() || text.contains('#') {
        return refuse("it ends with its path: a token is given by --wake-token-env");
    }
    Ok(())
}

/// Refuses jobs to wait for that are not there, or that wait for this one: one of this id that
/// was removed.
fn check_others(store: &Store, own: Option<&JobId>, spec: &Spec) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<(JobId, JobId)> =
        spec.dependencies().map(|id| (id.clone(), id.clone())).collect();
    for (id, _) in &open {
        if Some(id) == own || store.job(id).check().is_err() {
            return Err(Error::UnknownDependency(id.to_string()));
        }
    }
    while let Some((id, first)) = open.pop() {
        if Some(&id) == own {
            return Err(Error::DependencyCycle(id.to_string(), first.to_string()));
        }
        // What has ended waits for nobody any more, and one that is gone neither.
        let Ok(record) = store.job(&id).load() else { continue };
        if record.status.is_live() && seen.insert(id) {
            open.extend(record.spec.dependencies().map(|id| (id.clone(), first.clone())));
        }
    }
    Ok(())
}

/// Refuses a job where those with its labels have spent what they may.
fn check_budget(store: &Store, budget: Budget, spec: &Spec) -> Result<(), Error> {
    let since = clock::now().before(budget.over);
    let mut spent = 0.0;
    let mut present = BTreeSet::new();
    let (summaries, jobs) = store.summaries()?;
    for Listed { id, ended } in jobs {
        // A removed job is not counted either if it ended before.
        if ended.as_ref().is_some_and(|job| job.ended_at.is_some_and(|at| at < since)) {
            continue;
        }
        let known = ended.and_then(|ended| summaries.get(&ended));
        let read = || store.job(&id).load().ok().map(Summary::from);
        // What a record that cannot be read has cost is not known.
        let Some(summary) = known.or_else(read) else { continue };
        let counts = summary.status.is_live() || summary.ended_at.is_none_or(|at| at >= since);
        if counts && summary.has_labels(&spec.labels) {
            spent += summary.cost_usd.unwrap_or_default();
        }
        present.insert((summary.job_id, summary.started_at));
    }
    fault_point("start:budget");
    spent = round_usd(spent + store.cost_of_removed(&present, &spec.labels, since));
    if spent < budget.usd {
        return Ok(());
    }
    let labels: Vec<String> = spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let by = match labels.as_slice() {
        [] => "all jobs".to_owned(),
        labels => format!("jobs with {}", labels.join(", ")),
    };
    let over = format_window(budget.over);
    Err(Error::BudgetExceeded { spent, budget: budget.usd, over, by })
}

/// Takes over the session of another job.
fn take_over(store: &Store, old: &JobId, spec: &mut Spec, around: &Env) -> Result<(), Error> {
    let record = observe(store, old)?.record;
    let refuse = |why: &str| Err(Error::NotResumable(old.to_string(), why.to_owned()));
    if record.status.is_live() && !spec.fork {
        return refuse("it is live: --fork goes on with a copy of its session");
    }
    check_session(&record, around)?;
    let Some(session) = record.session_id.filter(|_| record.session_began) else {
        return refuse("claude never began a session in it");
    };
    spec.resume = Some(session);
    if spec.cwd.is_empty() {
        // A session belongs to the folder in which it was begun.
        spec.cwd = record.spec.cwd;
    }
    Ok(())
}

/// How the job will be detached.
pub(super) fn make_plan(
    wish: DetachMode,
    store: &Store,
    id: &JobId,
    spec: &Spec,
    around: &Env,
) -> Result<DetachPlan, Error> {
    let folders = [store.root(), Path::new(&spec.cwd)];
    if spec.memory_max.is_some() {
        // Only a scope has such a limit.
        if wish == DetachMode::Session {
            return Err(Error::NoMemoryLimit("--detach session was asked for".to_owned()));
        }
        let plan = DetachPlan::new(DetachMode::Scope, id, &folders, around)
            .map_err(Error::NoMemoryLimit)?;
        return Ok(plan.with_memory_max(spec.memory_max));
    }
    DetachPlan::new(wish, id, &folders, around).map_err(Error::NoScope)
}

/// The risks that the caller is warned of: that of the container only once in a jobs directory.
pub(super) fn warnings(store: &Store, plan: &DetachPlan) -> Vec<String> {
    let mut warnings = plan.risks().to_vec();
    if let Some(risk) = plan.container_risk()
        && !store.create_marker(CONTAINER_WARNED)
    {
        warnings.retain(|warning| warning != risk);
    }
    warnings
}

fn generated() -> JobId {
    JobId::generated(clock::now(), uuid::Uuid::new_v4().as_u128() as u16)
}

fn existing(store: &Store, id: &JobId, if_absent: bool) -> Result<StartAnswer, Error> {
    if !if_absent {
        return Err(Error::Exists(id.to_string()));
    }
    let status = standing(store, &observe(store, id)?.record);
    Ok(StartAnswer {
        job_id: status.job_id,
        pid: status.pid,
        status: status.status,
        existing: true,
        warnings: Vec::new(),
        waits_for: status.waits_for,
        waiting_for: status.waiting_for,
        hint: status.hint,
    })
}

/// How many ended jobs are left at each start, if that is asked for.
fn keep(around: &Env) -> Result<Option<usize>, Error> {
    let Some(text) = around.get("CLAUDE_SKILL_KEEP") else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    let wrong = || Error::Usage(format!("CLAUDE_SKILL_KEEP is {text:?}, and must be a number"));
    number.ok_or_else(wrong).map(Some)
}

/// How a job stands whose worker was just launched.
pub(super) fn status_of(launched: Launched) -> Status {
    if launched.is_queued { Status::Queued } else { Status::Running }
}

/// Launches the job's worker. If that fails the job has failed.
pub(super) fn put_on_its_feet(
    id: &JobId,
    dir: &JobDir,
    lock: Lock,
    plan: &mut DetachPlan,
    around: &Env,
) -> Result<Launched, Error> {
    let error = match launch(dir, &lock, plan, around) {
        Ok(launched) => return Ok(launched),
        // Nothing has happened yet, and the lock is still held here.
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
    let record = dir.load().map_err(|error| Error::from_load_error(id.as_str(), error))?;
    match &error {
        LaunchError::ClaudeFailed => {
            let why = record.error.unwrap_or_else(|| error.to_string());
            Err(Error::Launch { id: id.to_string(), why })
        }
        LaunchError::WorkerDied(_) => {
            finalize_lost(dir, record, None);
            Err(Error::from_launch_error(id.as_str(), &error))
        }
        LaunchError::WorkerFailed(_)
        | LaunchError::ScopeFailed(_)
        | LaunchError::NoSlot(_)
        | LaunchError::Busy(_) => {
            let verdict = Verdict::failed(Reason::LaunchFailed, error.to_string());
            finalize_lost(dir, record, Some(verdict));
            Err(Error::from_launch_error(id.as_str(), &error))
        }
    }
}

fn check_prompt(prompt: Vec<u8>) -> Result<String, Error> {
    if prompt.len() > PROMPT_MOST {
        return Err(Error::PromptTooLong(PROMPT_MOST));
    }
    if let Some(at) = memchr::memchr(0, &prompt) {
        return Err(Error::PromptHasNul(at));
    }
    let prompt = String::from_utf8(prompt)
        .map_err(|error| Error::PromptNotUtf8(error.utf8_error().valid_up_to()))?;
    if prompt.trim().is_empty() { Err(Error::EmptyPrompt) } else { Ok(prompt) }
}

pub(super) fn check_cwd(spec: &Spec) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::BadCwd(PathBuf::from(&spec.cwd), why.to_owned()));
    match std::fs::metadata(&spec.cwd) {
        Err(error) => refuse(&error.to_string()),
        Ok(about) if !about.is_dir() => refuse("not a directory"),
        Ok(_) => match nix::unistd::access(spec.cwd.as_str(), nix::unistd::AccessFlags::X_OK) {
            Err(errno) => refuse(errno.desc()),
            Ok(()) => Ok(()),
        },
    }
}

pub(super) fn check_claude(spec: &mut Spec, around: &Env) -> Result<(), Error> {
    let long = claude::arguments(spec, &claude::SessionStart::New(""))
        .into_iter()
        .find(|a| a.len() > claude::MAX_ARGUMENT_BYTES);
    if let Some(argument) = long {
        let most = claude::MAX_ARGUMENT_BYTES;
        return Err(Error::Usage(format!(
            "an argument of {} bytes is longer than the system's {most}: give a file",
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
        let found = claude::find(around).ok_or_else(not_found)?;
        spec.claude = found.to_string_lossy().into_owned();
    } else if !claude::is_executable(Path::new(&spec.claude)) {
        let what =
            if Path::new(&spec.claude).exists() { "is no program to run" } else { "is not there" };
        return Err(Error::ClaudeNotFound(format!("{:?} {what}", spec.claude)));
    }
    if claude::refuses_root(around, spec) {
        return Err(Error::RootNeedsSandbox);
    }
    if claude::login(around, spec).is_none() {
        return Err(Error::NotLoggedIn);
    }
    Ok(())
}

/// Keeps `fresh_system_prompt` only where the job's claude knows the option for it.
pub(super) fn set_system_prompt_snapshot(spec: &mut Spec) {
    // Asked only where it matters: it starts claude.
    if spec.fresh_system_prompt {
        let option = claude::SYSTEM_PROMPT_SNAPSHOT;
        spec.fresh_system_prompt =
            spec.replay.is_none() && claude::supports_option(Path::new(&spec.claude), option);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_woken_up_at_a_host_and_a_port() {
        for good in [
            "http://gateway/",
            "http://localhost:1",
            "http://127.0.0.1:18789/hooks/wake",
            "http://[::1]",
            "http://[::1]:65535/hooks/wake",
        ] {
            assert_eq!(check_wake_url(good), Ok(()), "{good}");
        }
        for bad in [
            "gateway",
            "http://",
            "http://:80/",
            "http://token@/",
            "http://127.0.0.1:/hooks",
            "http://127.0.0.1:0/hooks",
            "http://127.0.0.1:99999/hooks",
            "http://127.0.0.1:hooks",
            "http://127.0.0.1:8080:80",
            "http://[::1]:/hooks",
            "http://[::1]:65536/hooks",
            "http://[::1]18789/hooks",
            "http://[::1]x:80/hooks",
            "http://::1:80/hooks",
            "http://gateway/hooks?",
            "http://gateway?token=x",
            "http://gateway/hooks#x",
        ] {
            assert!(check_wake_url(bad).is_err(), "{bad}");
        }
    }
}
