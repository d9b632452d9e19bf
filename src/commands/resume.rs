//! `resume`: continues ended jobs in the same conversations.

use std::time::Instant;

use clap::Args;

use super::Call;
use super::engine_jobs::Ask;
use super::failed_dependency::refuse_failed_dependency;
use super::host_takeover::refuse_other_host;
use super::launching::{Begun, Recovered, begin_attempt, folder_warning};
use super::recover::{RecoverAllAnswer, dependencies_first, observe_with_engine};
use super::selecting::Among;
use crate::arguments::{MessageArgs, RunOptions, SelectorArgs};
use crate::claude::{self, Env};
use crate::error::{Error, ExitStatus};
use crate::finalize::SWEEP_TIMEOUT;
use crate::job::{InboxMessage, JobId, Record, SpecChange};
use crate::launch::DetachMode;
use crate::store::{JobDir, Store};

/// Message to claude if the caller gives none.
const DEFAULT_MESSAGE: &str = "Go on with the task.";

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob resume fix-login -p \"Now the logout test\"\n  \
    claudejob resume --all --since 1d\n\n\
    It starts another attempt of the same job: log, turns and cost accumulate. Messages that \
    were not delivered before come first. The given options replace those of the job, for later \
    attempts as well.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Resume every failed or killed job
    #[arg(long, help_heading = "Selection")]
    all: bool,
    #[command(flatten)]
    pub message: MessageArgs,
    #[command(flatten)]
    options: RunOptions,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    detach: DetachMode,
}

impl ResumeArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let among = if self.all { Among::Unsuccessful } else { Among::Ended };
        let selected = call.select(&store, self.targets, self.all, among)?.required()?;
        let message = self.message.read()?;
        let change = self.options.into_change();
        let request = |id: &JobId| ResumeRequest {
            id: id.clone(),
            message: message.clone(),
            change: change.clone(),
            detach: self.detach,
        };
        if let ([id], false) = (selected.ids.as_slice(), selected.is_several()) {
            return call.print(&resume(&store, request(id), &call.env)?);
        }
        let mut begun = Vec::new();
        let ask = Ask::about(selected.ids.len());
        for id in dependencies_first(&store, &selected.ids) {
            let result = begin(&store, request(&id), &call.env, ask);
            begun.push((id, result));
        }
        call.print(&RecoverAllAnswer::submit(&store, begun))
    }
}

/// A job to resume, with changes.
#[derive(Debug)]
pub(crate) struct ResumeRequest {
    pub id: JobId,
    /// Message to claude; `None` for the default.
    pub message: Option<String>,
    /// Options that replace the job's own.
    pub change: SpecChange,
    /// How the job is detached from this process.
    pub detach: DetachMode,
}

/// Resumes the job: starts another attempt with its session, which begins with the undelivered
/// messages, followed by this message. If claude never began a session, the attempt begins with
/// the prompt, after the job's dependencies.
pub(crate) fn resume(store: &Store, request: ResumeRequest, env: &Env) -> Result<Recovered, Error> {
    begin(store, request, env, Ask::One)?.submit(store)
}

/// Like [`resume`], but leaves the submission of a job with an engine to the caller.
fn begin(store: &Store, request: ResumeRequest, env: &Env, ask: Ask) -> Result<Begun, Error> {
    let (id, message) = (request.id, request.message);
    let mut observed = observe_with_engine(store, &id, ask, Instant::now() + SWEEP_TIMEOUT)?;
    refuse_other_host(&observed.dir, &observed.record)?;
    if let Some(why) = refusal_reason(&observed.record) {
        return Err(Error::NotResumable(id.to_string(), why));
    }
    refuse_failed_dependency(store, &observed.record)?;
    if let Some(profile) = &request.change.profile {
        observed.record.spec.profile = Some(profile.clone());
    }
    let env = &*env.for_job(&observed.record.spec)?;
    check_session(&observed.record, env)?;
    let mut spec = observed.record.into_request();
    let model = request.change.model.clone();
    // The session began with another system prompt, which claude may have recorded.
    spec.session.fresh_system_prompt |= request.change.append_system_prompt.is_some();
    request.change.apply(&mut spec);
    let begin = |dir: &JobDir, record: &mut Record| -> Result<(), Error> {
        if let Some(why) = refusal_reason(record) {
            return Err(Error::NotResumable(id.to_string(), why));
        }
        dir.open_inbox()?;
        // Messages that an interrupted turn had received are part of the conversation.
        for number in dir.aside_numbers() {
            dir.remove_message(number);
        }
        let text = match message {
            None if record.has_session() => Some(DEFAULT_MESSAGE.to_owned()),
            message => message,
        };
        if let (Some(text), Some(identity)) = (text, dir.identity()) {
            let uuid = uuid::Uuid::new_v4().to_string();
            dir.post(&InboxMessage::Message { uuid, text }, &identity)?;
        }
        record.begin_resumption();
        if model.is_some() {
            record.model = model;
        }
        Ok(())
    };
    let raced = || {
        Error::NotResumable(
            id.to_string(),
            "another command resumes it, or has opened its session".to_owned(),
        )
    };
    let cwd = spec.cwd.clone();
    let mut begun = begin_attempt(store, &id, spec, request.detach, env, raced, begin)?;
    if let Begun::Launched(resumed) = &mut begun {
        resumed.warnings.extend(folder_warning(store, &id, &cwd));
    }
    Ok(begun)
}

/// Refuses a job whose conversation file was seen earlier and has been removed. A conversation that
/// was never seen, such as one inside a container, may exist.
pub(super) fn check_session(record: &Record, env: &Env) -> Result<(), Error> {
    let (Some(file), Some(session)) = (record.session_file(), &record.session.id) else {
        return Ok(());
    };
    let exists = file.exists() || claude::session_file(env, &record.spec.cwd, session).is_some();
    if exists || !record.session.began {
        return Ok(());
    }
    Err(Error::SessionGone {
        id: record.job_id.to_string(),
        file: file.display().to_string(),
        recoverable: record.is_recoverable(),
    })
}

fn refusal_reason(record: &Record) -> Option<String> {
    if record.status.is_live() {
        Some(format!("it is {}: use send", record.status))
    } else if !record.is_writable() {
        Some("its record was written by another version of this program".to_owned())
    } else {
        None
    }
}
