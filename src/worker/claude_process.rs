//! Starting and signalling claude, and killing the processes that it leaves.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;

use super::input::ClaudeInput;
use super::stderr_marks::StderrMarks;
use super::{LaunchState, Worker};
use crate::claude::{self, SessionStart};
use crate::fault_point::fault_point;
use crate::job::{Leftovers, Spec};
use crate::process::{self, Descendants, KillProgress, Reaped};
use crate::store::{PROMPT, STDERR, is_independent};
use crate::stream::LineSplitter;
use crate::supervisor::{Input, TermSignal};
use crate::text::{clip, last_lines};
use crate::worktree;

/// How long a job must run before disk space is reserved for its verdict.
const RESERVE_DELAY: Duration = Duration::from_secs(1);
const MAX_PROGRAM_CHARS: usize = 500;
/// Characters of the end of stderr in the event of claude's exit, and bytes that are read for them.
const MAX_STDERR_CHARS: usize = 1_000;
const STDERR_TAIL_BYTES: u64 = 4 * MAX_STDERR_CHARS as u64 + 4;
/// How long a sweep may keep the worker from handling other events.
const MAX_SWEEP_SLICE: Duration = Duration::from_millis(20);
/// How often a sweep repeats after all that live were sent SIGKILL, if no end of a child wakes it.
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);

/// Describes why claude could not be started. The system's error does not say which file is missing.
fn launch_error(spec: &Spec, error: &io::Error) -> String {
    let program = &spec.claude;
    if error.kind() == io::ErrorKind::NotFound && spec.replay.is_none() {
        if !Path::new(&spec.cwd).is_dir() {
            return format!(
                "claude could not be started: its working directory {} is gone",
                spec.cwd
            );
        }
        if !Path::new(program).exists() {
            return format!("claude could not be started: {program} is gone");
        }
    }
    format!("{program} could not be started: {error}")
}

/// A claude that was started.
struct Launch {
    pid: i32,
    session_id: String,
    program: String,
    arguments: Vec<String>,
    stdout: pipe::Receiver,
}

impl Worker {
    /// Starts claude.
    pub(super) fn launch(&mut self) {
        match self.try_launch() {
            Ok(Launch { pid, session_id, program, arguments, stdout }) => {
                self.reserve_at = Some(Instant::now() + RESERVE_DELAY);
                self.admission.record_claude(pid);
                self.take(Input::Launched { pid, session_id, program, arguments });
                self.stdout = Some(stdout);
            }
            Err(error) => {
                let error = launch_error(&self.supervisor.record().spec, &error);
                self.stdout = None;
                self.take(Input::LaunchFailed(error));
            }
        }
    }

    fn try_launch(&mut self) -> io::Result<Launch> {
        let record = self.supervisor.record();
        let opening = self.supervisor.first_prompt().clone();
        let session_id = opening.resume.clone();
        let session_id = session_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let session = match opening.resume {
            Some(_) => SessionStart::Resume { id: &session_id, fork: opening.fork },
            None => SessionStart::New(&session_id),
        };
        let command = claude::command(&record.spec, &record.job_id, self.job.path(), &session);
        let program = clip(&command.get_program().to_string_lossy(), MAX_PROGRAM_CHARS);
        let arguments = claude::redacted_arguments(command.get_args());
        let mut command = worktree::prepared(command, &record.spec, self.job.path());
        let (stderr, stderr_start) = self.open_stderr()?;
        command.stderr(stderr);
        self.launch_state = LaunchState {
            stderr_start,
            out_of_memory_kills: process::out_of_memory_kills(),
            login: self.admission.login(&self.supervisor.record().spec),
            login_stamp: claude::stored_login_stamp(),
        };
        let prompt =
            if opening.prompt { self.job.open(PROMPT).map_err(io::Error::other)? } else { None };
        if opening.prompt && prompt.is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "prompt.txt is gone"));
        }
        self.lines = LineSplitter::default();
        self.seen_messages.clear();
        self.take(Input::LogOpened { length: self.log.length() });
        let mut child = process::spawn_claude(&mut command)?;
        if let Some(stdin) = child.stdin.take() {
            let pipe = pipe::Sender::from_owned_fd(stdin.into())?;
            self.stdin = ClaudeInput::new(pipe, &opening.text, prompt);
        }
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        self.stderr_marks.watch_stdout(&stdout);
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        let pid = child.id() as i32;
        self.claude = Some(child);
        Ok(Launch { pid, session_id, program, arguments, stdout })
    }

    /// Opens the file for claude's stderr, and watches it. Returns the length that it has already.
    fn open_stderr(&mut self) -> io::Result<(Stdio, u64)> {
        let Ok(file) = self.job.append(STDERR) else {
            self.stderr_marks = StderrMarks::default();
            return Ok((Stdio::null(), 0));
        };
        let length = file.metadata()?.len();
        self.stderr_marks = StderrMarks::for_job(&self.job, file.try_clone().ok());
        // The stderr of earlier attempts comes before the output of this one.
        self.stderr_marks.mark_all(&self.job, self.log.length());
        self.stderr_marks.watch();
        Ok((file.into(), length))
    }

    /// Returns the end of what claude has written to stderr in this attempt, or, if claude was not
    /// started, of what its preparation has written.
    pub(super) fn stderr_of_attempt(&self, max_bytes: u64) -> Vec<u8> {
        let mut start = self.launch_state.stderr_start;
        if self.supervisor.record().spec.needs_preparation() {
            start = start.max(self.job.preparation().stderr_end);
        }
        self.job.tail(STDERR, start, max_bytes)
    }

    pub(super) fn signal(&mut self, stop: TermSignal) {
        let signal = match stop {
            TermSignal::Request => {
                self.stdin.request("claudejob-stop", &serde_json::json!({"subtype": "interrupt"}));
                // A stopped process would not react to the request.
                if let Some(claude) = &self.claude {
                    let _ = kill(Pid::from_raw(claude.id() as i32), Signal::SIGCONT);
                }
                return;
            }
            TermSignal::Interrupt => Signal::SIGINT,
            TermSignal::Terminate => Signal::SIGTERM,
        };
        // It is a child that was not reaped yet, so that the process id is still its own.
        if let Some(claude) = &self.claude {
            let _ = kill(Pid::from_raw(claude.id() as i32), signal);
            // A stopped process would not react to the signal.
            let _ = kill(Pid::from_raw(claude.id() as i32), Signal::SIGCONT);
        }
    }

    pub(super) fn reap(&mut self) {
        fault_point("worker:reaping");
        self.reap_children();
        if self.sweep.is_some() {
            self.continue_sweep();
        }
    }

    /// Reaps the children that have ended. Returns whether there are others.
    fn reap_children(&mut self) -> bool {
        loop {
            match process::reap() {
                Reaped::Ended(pid, exit) => {
                    if self.claude.as_ref().is_some_and(|claude| claude.id() as i32 == pid) {
                        self.claude = None;
                        let stderr = self.stderr_of_attempt(STDERR_TAIL_BYTES);
                        let stderr = last_lines(&stderr, MAX_STDERR_CHARS);
                        self.take(Input::Exited { exit, stderr });
                    }
                }
                Reaped::AllLive => return true,
                Reaped::NoChildren => return false,
            }
        }
    }

    pub(super) fn continue_sweep(&mut self) {
        let Some(mut sweep) = self.sweep.take() else { return };
        let slice_end = Instant::now() + MAX_SWEEP_SLICE;
        loop {
            if !self.reap_children() {
                // This process is a subreaper: it has no descendants.
                return self.finish_sweep(&sweep.descendants, Leftovers::default());
            }
            let found = sweep.descendants.kill(&is_independent);
            if matches!(found, Ok(KillProgress::Nothing)) {
                return self.finish_sweep(&sweep.descendants, Leftovers::default());
            }
            if found.is_err()
                && let Some(claude) = &self.claude
            {
                // The descendants are not known. Claude is a child that was not reaped yet, so that the
                // process id is its own, and that of its group.
                let _ = killpg(Pid::from_raw(claude.id() as i32), Signal::SIGKILL);
            }
            let now = Instant::now();
            if now >= sweep.until || sweep.descendants.only_refused() {
                let left = sweep.descendants.left();
                return self.finish_sweep(&sweep.descendants, left);
            }
            let is_dying = !matches!(found, Ok(KillProgress::More));
            if is_dying || now >= slice_end {
                sweep.continue_at = if is_dying { now + SWEEP_INTERVAL } else { now };
                self.sweep = Some(sweep);
                return;
            }
        }
    }

    fn finish_sweep(&mut self, descendants: &Descendants, left: Leftovers) {
        self.take(Input::Swept { ended: descendants.ended(), left });
    }
}
