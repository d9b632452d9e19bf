//! `open`: continues a job's session in the interactive claude.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::Call;
use super::finish::finish;
use super::host_takeover::refuse_other_host;
use super::interrupt::interrupt;
use super::kill::kill;
use super::launching::{check_claude_of_job, lock_ended};
use super::naming::is_confirmed;
use super::observe::{Observed, observe};
use super::resume::check_session;
use super::watch::Watch;
use crate::arguments::JobName;
use crate::claude::{self, Env};
use crate::error::{Error, ExitStatus, WorktreeError};
use crate::job::{JobId, Spec, Status};
use crate::output::{Answer, print_note};
use crate::process::run_in_foreground;
use crate::store::{JobDir, RECORD, Store, addressed};
use crate::text::{harmless, shell_word};
use crate::worktree;

/// How long the record of a running job may lack its session.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of `open`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob open fix-login\n  \
    claudejob open fix-login -- --model opus\n\n\
    A live job is interrupted first, after a question. Afterwards `claudejob resume` continues with \
    what was said.")]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    target: JobName,
    /// Interrupt a live job without a question
    #[arg(short, long, conflicts_with = "print")]
    yes: bool,
    /// Print the command instead of running it
    #[arg(long)]
    print: bool,
    /// More arguments for claude
    #[arg(last = true, value_name = "ARG")]
    args: Vec<OsString>,
}

/// The command that continues a job's session.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Claude's session.
    pub session_id: String,
    /// The directory in which the command must run.
    pub cwd: String,
    /// The command, as `sh` takes it. It contains no variables of the job's profile.
    pub command: String,
}

impl Answer for OpenAnswer {
    fn text(&self) -> String {
        harmless(&self.command) + "\n"
    }
}

impl OpenArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job_or_last(&store, &self.target)?;
        if !self.print && (!call.is_by_person() || call.printer.is_json()) {
            let hint = addressed(store.root(), format!("claudejob open {id} --print"));
            return Err(Error::NotATerminal { verb: "open", hint });
        }
        let (observed, session) = find_session(&store, &id)?;
        let profile = observed.record.spec.profile.as_deref();
        let env = &*call.env.with_profile(profile)?;
        check_session(&observed.record, env)?;
        let mut spec = observed.record.spec.clone();
        check_claude_of_job(&mut spec, env)?;
        if self.print {
            let command = shell_command(&spec, &session, &self.args, env);
            let (job_id, cwd) = (id, spec.cwd);
            return call.print(&OpenAnswer { job_id, session_id: session, cwd, command });
        }
        if spec.worktree.is_none() {
            check_folder(&spec)?;
        }
        if observed.live {
            self.end(&store, &observed)?;
        }
        let dir = &observed.dir;
        // Held as long as the session is open: no other command continues the job meanwhile.
        let Some(_lock) = lock_ended(dir)? else {
            return Err(Error::Busy(format!("another command continues job {id}")));
        };
        if spec.worktree.is_some() && check_folder(&spec).is_err() {
            prepare_folder(dir, &spec)?;
        }
        let mut command = claude::interactive_command(&spec, &session, env);
        command.args(&self.args);
        let status = run(&mut command)?;
        let resume = addressed(store.root(), format!("claudejob resume {id} -p \"…\""));
        print_note(&format!("Continue with what was said: {resume}\n"));
        Ok(if status { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// Ends the live job, after a question, so that it can be resumed.
    fn end(&self, store: &Store, observed: &Observed) -> Result<(), Error> {
        refuse_other_host(&observed.dir, &observed.record)?;
        let (id, status) = (&observed.record.job_id, observed.record.status);
        let question = format!("Job {id} is {status}. Interrupt it and open its session?");
        if !self.yes && !is_confirmed(&question)? {
            return Err(Error::Declined("opened"));
        }
        let has_turn = matches!(status, Status::Running | Status::Blocked);
        if has_turn {
            // Claude writes the session to its end, and reports its cost.
            interrupt(store, id)?;
        }
        if observe(store, id)?.record.status == Status::Idle {
            finish(store, id)?;
        }
        if observe(store, id)?.live {
            kill(store, id)?;
        }
        Ok(())
    }
}

/// Returns the job and its session. The record of a job that has just begun may lack it for a
/// moment.
fn find_session(store: &Store, id: &JobId) -> Result<(Observed, String), Error> {
    let mut watch = Watch::for_files(&store.job(id), &[RECORD]);
    let deadline = Instant::now() + RECORD_TIMEOUT;
    loop {
        let observed = observe(store, id)?;
        let record = &observed.record;
        let is_running = record.status == Status::Running && record.spec.replay.is_none();
        match record.session.id.clone() {
            Some(session) if record.session.began && record.spec.replay.is_none() => {
                return Ok((observed, session));
            }
            _ if is_running && watch.next_until(Some(deadline)).is_some() => {}
            _ => return Err(Error::NoSession(id.to_string())),
        }
    }
}

fn check_folder(spec: &Spec) -> Result<(), Error> {
    let why = match std::fs::metadata(&spec.cwd) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "not a directory".to_owned(),
        Err(_) if spec.worktree.is_some() => {
            "the worktree is gone; claudejob resume makes it again".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(Error::BadCwd(PathBuf::from(&spec.cwd), why))
}

/// Makes the deleted worktree of a job again, as another attempt would.
fn prepare_folder(dir: &JobDir, spec: &Spec) -> Result<(), Error> {
    match worktree::prepare_directory(dir) {
        Ok(_) => check_folder(spec),
        Err(why) => Err(WorktreeError::Gone(dir.id().to_string(), why).into()),
    }
}

/// Runs claude on the terminal. Returns whether it succeeded.
fn run(command: &mut Command) -> Result<bool, Error> {
    let status = run_in_foreground(command);
    let status = status.map_err(|error| Error::ClaudeNotFound(format!("claude: {error}")))?;
    if !status.success() {
        print_note(&format!("claude failed: {status}\n"));
    }
    Ok(status.success())
}

/// Returns the command for a shell. Of the environment it contains only the configuration directory.
fn shell_command(spec: &Spec, session: &str, args: &[OsString], env: &Env) -> String {
    let mut words = vec!["cd".to_owned(), shell_word(&spec.cwd), "&&".to_owned()];
    if let Some(dir) = env.get("CLAUDE_CONFIG_DIR") {
        words.push(format!("CLAUDE_CONFIG_DIR={}", shell_word(&dir.to_string_lossy())));
    }
    words.extend([shell_word(&spec.claude), "--resume".to_owned(), shell_word(session)]);
    for arg in args {
        words.push(shell_word(&arg.to_string_lossy()));
    }
    words.join(" ")
}
