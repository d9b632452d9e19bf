//! A stage for measurements: a jobs directory of its own, the environment for claudejob in it, and
//! the jobs that run there. When the stage and its jobs go out of scope, also on an error or a
//! panic, processes are killed and files removed.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::fake::{self, Part};
use crate::gate::{self, Gate};
use crate::{Outcome, measure, proc};

/// The program under test, built with the release settings.
pub(crate) const CLAUDEJOB: &str = env!("CARGO_BIN_EXE_claudejob");

/// Where temporary files may become large: in the target directory.
const ON_DISK: &str = env!("CARGO_TARGET_TMPDIR");

pub(crate) struct Stage {
    root: TempDir,
    pub(crate) file_system: String,
    started: Cell<usize>,
}

impl Stage {
    pub(crate) fn on_disk() -> Outcome<Stage> {
        Stage::below(Path::new(ON_DISK))
    }

    /// In memory, if the machine has a directory for that.
    pub(crate) fn in_memory() -> Outcome<Option<Stage>> {
        let directory = Path::new("/dev/shm");
        if directory.is_dir() { Stage::below(directory).map(Some) } else { Ok(None) }
    }

    fn below(directory: &Path) -> Outcome<Stage> {
        let root = tempfile::Builder::new().prefix("claudejob-bench-").tempdir_in(directory)?;
        std::fs::create_dir(root.path().join("jobs"))?;
        let file_system = proc::file_system(root.path())?;
        Ok(Stage { root, file_system, started: Cell::new(0) })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn job_dir(&self, id: &str) -> PathBuf {
        self.path("jobs").join(id)
    }

    /// A program in an environment that holds nothing of the caller's but `PATH`.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.root.path())
            .env_clear()
            .env("HOME", self.root.path())
            .env("ANTHROPIC_API_KEY", "not-a-key")
            .env("IS_SANDBOX", "1")
            .env("CLAUDE_SKILL_JOBS_DIR", self.path("jobs"))
            // The start is measured, not the pause between two of them.
            .env("CLAUDE_SKILL_STAGGER", "0")
            .env("CLAUDE_SKILL_RETRIES", "0");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub(crate) fn claudejob(&self, args: &[&str]) -> Command {
        self.command(CLAUDEJOB, args)
    }

    /// The fake claude in this part, started by the bench itself.
    pub(crate) fn fake(&self, part: Part) -> Outcome<Command> {
        let program = std::env::current_exe()?;
        let mut command = self.command(&program.to_string_lossy(), &[]);
        command.env(fake::PART, part.name());
        Ok(command)
    }

    /// Starts a job and measures the time until the answer.
    pub(crate) fn start(&self, part: Part, gate: Option<&Gate>) -> Outcome<(Job<'_>, Duration)> {
        let (job, elapsed) = self.start_with(part, gate, |_| {})?;
        if job.is_queued { Err("the job was queued".into()) } else { Ok((job, elapsed)) }
    }

    /// The same with what `adjust` adds; the job may have to queue.
    pub(crate) fn start_with(
        &self,
        part: Part,
        gate: Option<&Gate>,
        adjust: impl FnOnce(&mut Command),
    ) -> Outcome<(Job<'_>, Duration)> {
        let number = self.started.get() + 1;
        self.started.set(number);
        let id = format!("bench-{number:06}");
        let mut command = self.claudejob(&["start", "--job-id", &id, "--prompt", "Tidy up."]);
        adjust(&mut command);
        command.env("CLAUDE_SKILL_CLAUDE", std::env::current_exe()?);
        command.env(fake::PART, part.name());
        if let Some(gate) = gate {
            command.env(gate::DIRECTORY_VARIABLE, &gate.directory);
        }
        // Before the start, so that an existing job is killed even if its answer cannot be parsed.
        let mut job = Job { stage: self, id, worker: 0, is_queued: false, ended: false };
        let run = measure::ask(&mut command)?;
        let answer: Value = serde_json::from_slice(&run.answer)?;
        job.is_queued = answer["status"] == "queued";
        job.worker = answer["pid"].as_u64().ok_or("start named no pid")?;
        Ok((job, run.elapsed))
    }

    /// A job that has answered and ended.
    pub(crate) fn finished_job(&self, part: Part) -> Outcome<String> {
        self.start(part, None)?.0.wait()
    }
}

/// A job on a stage; killed when it goes out of scope before it has ended.
pub(crate) struct Job<'stage> {
    stage: &'stage Stage,
    pub(crate) id: String,
    pub(crate) worker: u64,
    /// Whether it had to queue.
    pub(crate) is_queued: bool,
    ended: bool,
}

impl Job<'_> {
    /// Waits until the job has completed; its id stays valid.
    pub(crate) fn wait(mut self) -> Outcome<String> {
        let run = measure::ask(&mut self.stage.claudejob(&["wait", &self.id, "--timeout", "2m"]))?;
        let answer: Value = serde_json::from_slice(&run.answer)?;
        if answer["status"] != "completed" {
            return Err(format!("the job should have completed: {answer}").into());
        }
        self.ended = true;
        Ok(self.id.clone())
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Nothing can be done about a kill that fails, and not every job was created.
            let mut kill = self.stage.claudejob(&["kill", &self.id]);
            let _ = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
