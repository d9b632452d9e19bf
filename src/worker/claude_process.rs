//! Claude's process: how it is started and signalled, and how what it leaves is ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;

use super::Worker;
use super::input::ClaudeInput;
use super::stderr_marks::StderrMarks;
use crate::claude::{self, SessionStart};
use crate::fault_point::fault_point;
use crate::job::{Leftovers, Spec};
use crate::process::{self, Descendants, KillProgress, Reaped};
use crate::store::{PROMPT, STDERR, is_independent};
use crate::stream::LineSplitter;
use crate::supervisor::{Input, TermSignal};
use crate::text::{clip, last_lines};

/// How long a job has to live before room is set aside for its verdict.
const RESERVE_AFTER: Duration = Duration::from_secs(1);
/// Characters shown of the program's path.
const PROGRAM_SHOWN: usize = 500;
/// Characters of the end of stderr in the event of claude's end, and bytes that are read for them.
const STDERR_SHOWN: usize = 1_000;
const STDERR_TAIL: u64 = 4 * STDERR_SHOWN as u64 + 4;
/// How long a sweep goes on without a look at anything else.
const SWEEP_SLICE: Duration = Duration::from_millis(20);
/// How often a sweep looks again where all that live were sent SIGKILL, and no child's end wakes it
/// up.
const SWEEP_AGAIN: Duration = Duration::from_millis(10);

/// The sentence on a claude that could not be started. The system has one error for each file that
/// is missing, and does not say which.
fn launch_error(spec: &Spec, error: &io::Error) -> String {
    let program = &spec.claude;
    if error.kind() == io::ErrorKind::NotFound && spec.replay.is_none() {
        if !Path::new(&spec.cwd).is_dir() {
            return format!("claude could not be started: its folder {} is gone", spec.cwd);
        }
        if !Path::new(program).exists() {
            return format!("claude could not be started: {program} is gone");
        }
    }
    format!("{program} could not be started: {error}")
}

impl Worker {
    /// Starts claude; gives its stdout, or `None` if it could not be started.
    pub(super) fn launch(&mut self) -> Option<pipe::Receiver> {
        match self.try_launch() {
            Ok((pid, command, stdout)) => {
                self.reserve_at = Some(Instant::now() + RESERVE_AFTER);
                self.admission.occupy(pid);
                let program = clip(&command.get_program().to_string_lossy(), PROGRAM_SHOWN);
                let arguments = claude::redacted_arguments(command.get_args());
                self.take(Input::Launched { pid, program, arguments });
                Some(stdout)
            }
            Err(error) => {
                let error = launch_error(&self.supervisor.record().spec, &error);
                self.take(Input::LaunchFailed(error));
                None
            }
        }
    }

    pub(super) fn try_launch(&mut self) -> io::Result<(i32, Command, pipe::Receiver)> {
        let record = self.supervisor.record();
        let opening = self.supervisor.opening().clone();
        let session_id = opening.resume.clone();
        let session_id = session_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let session = match opening.resume {
            Some(_) => SessionStart::Resume { id: &session_id, fork: opening.fork },
            None => SessionStart::New(&session_id),
        };
        let mut command = claude::command(&record.spec, &record.job_id, self.job.path(), &session);
        self.stderr_start = 0;
        match self.job.append(STDERR) {
            Ok(file) => {
                self.stderr_start = file.metadata()?.len();
                self.stderr_marks = StderrMarks::of(&self.job, file.try_clone().ok());
                // What earlier attempts wrote stays before the output of this one.
                self.stderr_marks.note_all(&self.job, self.log.length());
                self.stderr_marks.watch();
                command.stderr(file)
            }
            Err(_) => {
                self.stderr_marks = StderrMarks::default();
                command.stderr(Stdio::null())
            }
        };
        let prompt =
            if opening.prompt { self.job.open(PROMPT).map_err(io::Error::other)? } else { None };
        if opening.prompt && prompt.is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "prompt.txt is gone"));
        }
        self.out_of_memory_kills = process::out_of_memory_kills();
        self.login_stamp = claude::stored_login_stamp();
        self.login = self.admission.login(&self.supervisor.record().spec);
        self.lines = LineSplitter::default();
        self.seen_messages.clear();
        self.supervisor.log_starts_at(self.log.length());
        let mut child = process::spawn_claude(&mut command)?;
        self.supervisor.expect_session(session_id);
        if let Some(stdin) = child.stdin.take() {
            let pipe = pipe::Sender::from_owned_fd(stdin.into())?;
            self.stdin = ClaudeInput::new(pipe, &opening.text, prompt);
        }
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        self.stderr_marks.watch_stdout(&stdout);
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        let pid = child.id() as i32;
        self.claude = Some(child);
        Ok((pid, command, stdout))
    }

    pub(super) fn signal(&mut self, stop: TermSignal) {
        let signal = match stop {
            TermSignal::Request => {
                self.stdin.request("claudejob-stop", &serde_json::json!({"subtype": "interrupt"}));
                // A claude that somebody has stopped could not hear it.
                if let Some(claude) = &self.claude {
                    let _ = kill(Pid::from_raw(claude.id() as i32), Signal::SIGCONT);
                }
                return;
            }
            TermSignal::Interrupt => Signal::SIGINT,
            TermSignal::Terminate => Signal::SIGTERM,
        };
        // It is our child and not reaped yet, so the number is still its own.
        if let Some(claude) = &self.claude {
            let _ = kill(Pid::from_raw(claude.id() as i32), signal);
            // A claude that somebody has stopped could not hear anything else.
            let _ = kill(Pid::from_raw(claude.id() as i32), Signal::SIGCONT);
        }
    }

    pub(super) fn reap(&mut self) {
        fault_point("worker:reaping");
        self.reap_children();
        if self.sweep.is_some() {
            self.sweep_on();
        }
    }

    /// Reaps the children that have ended; says whether there are others.
    fn reap_children(&mut self) -> bool {
        loop {
            match process::reap() {
                Reaped::Ended(pid, exit) => {
                    if self.claude.as_ref().is_some_and(|claude| claude.id() as i32 == pid) {
                        self.claude = None;
                        let stderr = self.job.tail(STDERR, self.stderr_start, STDERR_TAIL);
                        let stderr = last_lines(&stderr, STDERR_SHOWN);
                        self.take(Input::Exited { exit, stderr });
                    }
                }
                Reaped::AllLive => return true,
                Reaped::NoChildren => return false,
            }
        }
    }

    pub(super) fn sweep_on(&mut self) {
        let Some(mut sweep) = self.sweep.take() else { return };
        let slice_end = Instant::now() + SWEEP_SLICE;
        loop {
            if !self.reap_children() {
                // This process is a subreaper: there is nothing below it.
                return self.swept(&sweep.descendants, Leftovers::default());
            }
            let found = sweep.descendants.kill(&is_independent);
            if matches!(found, Ok(KillProgress::Nothing)) {
                return self.swept(&sweep.descendants, Leftovers::default());
            }
            if found.is_err()
                && let Some(claude) = &self.claude
            {
                // Nothing else is known. It is our child and not reaped yet, so that the number is
                // its own, and that of its group.
                let _ = killpg(Pid::from_raw(claude.id() as i32), Signal::SIGKILL);
            }
            let now = Instant::now();
            if now >= sweep.until || sweep.descendants.only_refused() {
                let left = sweep.descendants.left();
                return self.swept(&sweep.descendants, left);
            }
            let is_dying = !matches!(found, Ok(KillProgress::More));
            if is_dying || now >= slice_end {
                sweep.again = if is_dying { now + SWEEP_AGAIN } else { now };
                self.sweep = Some(sweep);
                return;
            }
        }
    }

    fn swept(&mut self, descendants: &Descendants, left: Leftovers) {
        self.take(Input::Swept { ended: descendants.ended(), left });
    }
}
