//! `rerun`: starts a new job with the request of another.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Call;
use super::observe::observe;
use super::start::{MAX_PROMPT_BYTES, StartAnswer, StartRequest, start};
use super::wait::print_or_wait;
use crate::arguments::{JobName, RunOptions, duration, parse_job_id, read_file, read_text};
use crate::claude::{self, Env};
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Record, Spec, SpecChange, Worktree};
use crate::launch::DetachMode;
use crate::store::{JobDir, PROMPT, Store};

/// Arguments of `rerun`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob rerun fix-login\n  claudejob rerun fix-login -m opus -p \
    \"Fix the logout test\"\n\nThe new job has the options of the other one, its labels and its \
    group, without --start-delay, --budget-usd and what the other one learned since. The given \
    options replace those of the request."
)]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    target: JobName,
    /// Name the new job [default: made from the time]
    #[arg(short, long, value_name = "ID")]
    name: Option<String>,
    /// Set another prompt; - reads it from stdin
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Read another prompt from a file
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    #[command(flatten)]
    options: RunOptions,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    detach: DetachMode,
    /// Wait until the job has ended, at most for DURATION
    ///
    /// Output and exit code are those of claudejob wait.
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    wait: Option<Option<Duration>>,
}

impl RerunArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let wait = self.wait;
        let request = RerunRequest {
            old: call.job(&store, &self.target)?,
            id: self.name.as_deref().map(parse_job_id).transpose()?,
            prompt: match (&self.prompt, &self.prompt_file) {
                (Some(text), _) => Some(read_text(text, MAX_PROMPT_BYTES)?),
                (None, Some(file)) => Some(read_file(file, MAX_PROMPT_BYTES)?),
                (None, None) => None,
            },
            change: self.options.into_change(),
            detach: self.detach,
        };
        let answer = rerun(&store, request, &call.env)?;
        print_or_wait(call, &store, &answer, &answer.job_id, wait)
    }
}

/// A job to run again, with changes.
struct RerunRequest {
    old: JobId,
    /// The new job's id; `None` to generate one.
    id: Option<JobId>,
    /// Another prompt.
    prompt: Option<Vec<u8>>,
    /// Options that replace those of the old request.
    change: SpecChange,
    detach: DetachMode,
}

/// Starts a new job with the request of another, which may be live.
fn rerun(store: &Store, request: RerunRequest, env: &Env) -> Result<StartAnswer, Error> {
    let RerunRequest { old, id, prompt, change, detach } = request;
    let observed = observe(store, &old)?;
    if let Some(why) = refusal_reason(&observed.record) {
        return Err(Error::NotRerunnable(old.to_string(), why.to_owned()));
    }
    let prompt = match prompt {
        Some(prompt) => prompt,
        None => read_prompt(&observed.dir)?,
    };
    let request = observed.record.into_request();
    let mut spec = Spec { start_delay_ms: 0, rerun_of: Some(old), ..request };
    change.apply(&mut spec);
    if let Some(worktree) = spec.worktree.take() {
        // The new job gets a worktree of its own.
        spec.cwd = worktree.source_dir;
        spec.worktree = Some(Worktree::requested(worktree.request));
    }
    // An update may have moved it. Then another one is searched for.
    if spec.replay.is_none() && !claude::is_executable(spec.claude.as_ref()) {
        spec.claude.clear();
    }
    let mut warnings = Vec::new();
    for dependencies in [&mut spec.after, &mut spec.after_any] {
        dependencies.retain(|id| {
            let is_known = store.job(id).check().is_ok();
            if !is_known {
                warnings.push(format!("it does not wait for job {id}, which is gone"));
            }
            is_known
        });
    }
    let request = StartRequest { id, prompt, spec, detach, ..StartRequest::default() };
    let mut answer = start(store, request, env)?;
    answer.warnings.splice(0..0, warnings);
    Ok(answer)
}

/// Returns why the request of this job cannot be used again.
fn refusal_reason(record: &Record) -> Option<&'static str> {
    if !record.is_writable() {
        return Some("its record was written by another version of this program");
    }
    let session = &record.spec.session;
    if record.status.is_live() && session.resume.is_some() && !session.fork {
        return Some("it is live and continues a session in which only one job can work");
    }
    None
}

fn read_prompt(dir: &JobDir) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::PromptUnreadable(dir.file(PROMPT).display().to_string(), error);
    let file = dir.open(PROMPT)?;
    let file = file.ok_or_else(|| unreadable(std::io::ErrorKind::NotFound.into()))?;
    let mut prompt = Vec::new();
    file.take(MAX_PROMPT_BYTES as u64 + 1).read_to_end(&mut prompt).map_err(unreadable)?;
    Ok(prompt)
}
