//! The preparation of a job's directory before claude: the process that the worker starts makes the
//! worktree, runs the setup command, and then becomes claude.
//!
//! So all that applies to claude applies to the preparation: signals, timeouts, `kill`, the sweep of
//! its processes and stderr.log.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::git::{REPOSITORY_VARIABLES, query};
use super::make::{MARK_START, WorktreeDraft};
use super::users::worker_in;
use crate::claude::own_executable;
use crate::fault_point::fault_point;
use crate::hidden_verbs;
use crate::job::{JobId, PREPARATION_FAILED, Spec, short_hash};
use crate::process;
use crate::store::{JobDir, Preparation, PreparationStep, STDERR, Store};
use crate::text::{last_line, one_line};

/// Name of the file in the git directory of a worktree that contains the completed setup command.
const SETUP_MARK: &str = "claudejob-setup";
/// How long a claude that is missing is awaited: an update may be replacing it.
const CLAUDE_TIMEOUT: Duration = Duration::from_secs(5);
const CLAUDE_INTERVAL: Duration = Duration::from_millis(200);
/// Part of the setup command's output that is read for its last line.
const TAIL_BYTES: u64 = 4 << 10;
const MAX_LINE_CHARS: usize = 300;

/// Returns the command that prepares the job's directory and then runs `command` in it: the same
/// command if the job needs no preparation.
pub(crate) fn prepared(command: Command, spec: &Spec, job_dir: &Path) -> Command {
    if !spec.needs_preparation() {
        return command;
    }
    let mut outer = Command::new(own_executable());
    outer.arg(hidden_verbs::PREPARE).arg(job_dir);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if spec.worktree.is_some() {
        for name in REPOSITORY_VARIABLES {
            outer.env_remove(name);
        }
    }
    // The directory of the job may not exist yet.
    outer.current_dir("/");
    outer
}

/// Prepares the directory of a job and becomes claude. This is the hidden command that [`prepared`]
/// returns. Returns an exit status only if that fails.
pub(crate) fn run(job_dir: PathBuf, program: &OsString, args: &[OsString]) -> io::Result<u8> {
    let prepared = match JobDir::at(job_dir) {
        Some(job) => prepare_directory(&job),
        None => Err("not a directory of a job".to_owned()),
    };
    let why = match prepared {
        Ok(cwd) => become_claude(&cwd, program, args),
        Err(why) => why,
    };
    // The last line of stderr is the error of the job.
    writeln!(io::stderr(), "{}", one_line(&why, 1_000))?;
    Ok(PREPARATION_FAILED)
}

/// Makes the worktree of a job and runs its setup command, as far as that was not done before.
/// Returns the directory in which claude works. The job is not live, or this is its preparation.
pub(crate) fn prepare_directory(job: &JobDir) -> Result<String, String> {
    let record = job.load().map_err(|error| error.to_string())?;
    let spec = &record.spec;
    let mut state = job.preparation();
    if let Some(worktree) = &spec.worktree {
        enter_step(job, &mut state, PreparationStep::Worktree)?;
        // Claude works in a complete worktree only, whatever the file says.
        let is_complete = state.has_worktree || record.session.began;
        let mark = lock_reason(job, &record.job_id);
        let draft = WorktreeDraft { worktree, mark, is_complete };
        draft.make(|path| worker_in(&Store::at(job.root().to_owned()), path, &record))?;
        fault_point("prepare:made");
        state.has_worktree = true;
        save(job, &state)?;
        fault_point("prepare:saved");
        draft.finish()?;
    }
    check_folder(spec)?;
    if let Some(setup) = &spec.setup {
        run_setup(job, &mut state, spec, setup)?;
        check_folder(spec)?;
    }
    state.step = None;
    state.stderr_end = job.length(STDERR);
    save(job, &state)?;
    Ok(spec.cwd.clone())
}

fn check_folder(spec: &Spec) -> Result<(), String> {
    if Path::new(&spec.cwd).is_dir() {
        return Ok(());
    }
    Err(format!("the directory {} is missing", spec.cwd))
}

/// Returns the reason for which git locks the job's worktree until it is complete. It names this job
/// among those of all jobs directories.
pub(crate) fn lock_reason(job: &JobDir, id: &JobId) -> String {
    let place = short_hash(&job.path().to_string_lossy());
    format!("{MARK_START}{id} ({place:08x})")
}

fn enter_step(job: &JobDir, state: &mut Preparation, step: PreparationStep) -> Result<(), String> {
    state.step = Some(step);
    save(job, state)
}

fn save(job: &JobDir, state: &Preparation) -> Result<(), String> {
    job.save_preparation(state).map_err(|error| error.to_string())
}

/// Runs the setup command, unless it was completed in this directory before.
fn run_setup(
    job: &JobDir,
    state: &mut Preparation,
    spec: &Spec,
    setup: &str,
) -> Result<(), String> {
    let mark = match &spec.worktree {
        Some(worktree) => Some(git_dir(&worktree.path)?.join(SETUP_MARK)),
        None => None,
    };
    let is_done = match &mark {
        Some(mark) => std::fs::read(mark).is_ok_and(|done| done == setup.as_bytes()),
        None => state.setup.as_deref() == Some(setup),
    };
    if is_done {
        return Ok(());
    }
    enter_step(job, state, PreparationStep::Setup)?;
    fault_point("prepare:setup");
    let start = job.length(STDERR);
    let mut command = Command::new("sh");
    command.arg("-c").arg(setup).current_dir(&spec.cwd).env("PWD", &spec.cwd);
    let status = process::run_to_stderr(&mut command)
        .map_err(|error| format!("the setup command could not be run: {error}"))?;
    if !status.success() {
        let said = job.tail(STDERR, start, TAIL_BYTES);
        let said = String::from_utf8_lossy(&said);
        let last = one_line(last_line(&said), MAX_LINE_CHARS);
        let before = if last.is_empty() { "" } else { ": " };
        let how = match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        };
        return Err(format!("the setup command failed ({how}){before}{last}"));
    }
    fault_point("prepare:set-up");
    match &mark {
        Some(mark) => std::fs::write(mark, setup)
            .map_err(|error| format!("could not write {}: {error}", mark.display())),
        None => {
            state.setup = Some(setup.to_owned());
            save(job, state)
        }
    }
}

/// Returns the git directory of a worktree, which is removed with it.
fn git_dir(path: &str) -> Result<PathBuf, String> {
    let answer = query(Path::new(path), &["rev-parse", "--absolute-git-dir"]);
    let answer = answer.map_err(|error| error.to_string())?;
    if !answer.is_success {
        return Err(format!("{path} is not a worktree: {}", answer.message));
    }
    answer.text().map(PathBuf::from).map_err(|error| error.to_string())
}

/// Replaces this process with claude. Returns why that failed.
fn become_claude(cwd: &str, program: &OsString, args: &[OsString]) -> String {
    fault_point("prepare:ready");
    let until = Instant::now() + CLAUDE_TIMEOUT;
    loop {
        let mut command = Command::new(program);
        command.args(args).current_dir(cwd).env("PWD", cwd);
        let error = process::exec(&mut command);
        let may_pass =
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ExecutableFileBusy);
        if !may_pass || Instant::now() >= until {
            let program = Path::new(program).display();
            return format!("claude could not be started: {program}: {error}");
        }
        std::thread::sleep(CLAUDE_INTERVAL);
    }
}
