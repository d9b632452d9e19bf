//! Slurm as an engine: `sbatch`, `squeue` and `scancel`, which are found on PATH.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use super::engine::{
    Engine, EngineError, EngineJob, EngineSignal, EngineStates, EngineStatus, Submission,
};
use crate::claude;
use crate::hidden_verbs;
use crate::job::{EngineKind, EngineOptions, EngineRef, SUBMISSION};
use crate::process;
use crate::store::ENGINE_LOG;
use crate::text::{last_line, one_line, shell_quote};

/// Largest output of a command, enough for a line each of half a million jobs.
const MAX_OUTPUT_BYTES: usize = 32 << 20;
/// `MaxArraySize` of a cluster that does not say it: Slurm's default.
const DEFAULT_MAX_ARRAY_SIZE: usize = 1001;
/// Largest length of the ids in a batch script, which is an argument of `sbatch`.
const MAX_SCRIPT_BYTES: usize = 100_000;
/// Most jobs that a command names.
const MAX_NAMED_JOBS: usize = 1000;
/// What `squeue` prints of a job: a line with these fields.
const QUEUE_FORMAT: &str = "JobArrayID:|,State:|,RestartCnt:|,NodeList:|,Reason:|,Comment:";
/// Seconds before its time limit at which a job gets SIGTERM: enough for the ladder of a kill.
const TERM_BEFORE_LIMIT: &str = "--signal=B:TERM@60";

/// Parts of messages about failures that pass.
const TEMPORARY: [&str; 5] = [
    "Unable to contact slurm controller",
    "timed out",
    "Zero Bytes were transmitted",
    "temporarily unable to accept job",
    "Transport endpoint",
];
/// Parts of messages about jobs that have ended.
const GONE: [&str; 2] = ["Invalid job id", "already completing or completed"];

/// The Slurm cluster of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slurm {
    /// Time limit of each command.
    pub timeout: Duration,
}

impl Slurm {
    /// Runs a command of Slurm and returns its output.
    fn run<I>(self, program: &'static str, arguments: I) -> Result<String, EngineError>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = Command::new(program);
        command.args(arguments);
        let error = |why: String| {
            let is_temporary = TEMPORARY.iter().any(|part| why.contains(part));
            EngineError { is_temporary, ..EngineError::new(program, why) }
        };
        let output = process::run_with_outputs(command, self.timeout, MAX_OUTPUT_BYTES)
            .map_err(|io_error| error(io_error.to_string()))?;
        let Some(exit) = output.exit else {
            let why = format!("it timed out after {} s", self.timeout.as_secs());
            return Err(EngineError { may_have_worked: true, ..error(why) });
        };
        if exit.code == Some(0) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(error(message(&output.stderr)))
    }

    /// Returns the cluster's settings.
    pub(crate) fn config(self) -> Result<String, EngineError> {
        self.run("scontrol", ["show", "config"])
    }

    /// Returns how many tasks an array may have.
    fn max_array_size(self) -> usize {
        let config = self.config();
        let size = config.ok().and_then(|text| setting(&text, "MaxArraySize")?.parse().ok());
        size.unwrap_or(DEFAULT_MAX_ARRAY_SIZE)
    }

    /// Submits a job, or the tasks of an array, and returns the id.
    pub(crate) fn sbatch(self, arguments: &[String]) -> Result<String, EngineError> {
        let output = self.run("sbatch", arguments)?;
        // `ID` or `ID;CLUSTER`. A site's plugin may print lines before.
        let id = output.lines().last().and_then(|line| line.split(';').next()).unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            let why = format!("it printed no job id: {}", one_line(&output, 200));
            return Err(EngineError { may_have_worked: true, ..EngineError::new("sbatch", why) });
        }
        Ok(id.to_owned())
    }
}

impl Engine for Slurm {
    fn submit(&self, jobs: &[Submission<'_>]) -> Vec<Result<EngineRef, EngineError>> {
        let most = if jobs.len() > 1 { self.max_array_size() } else { 1 };
        let mut results = Vec::new();
        while let [first, ..] = &jobs[results.len()..]
            && results.iter().all(Result::is_ok)
        {
            let rest = &jobs[results.len()..];
            let jobs = &rest[..count_of_array(first, rest, most)];
            let word = uuid::Uuid::new_v4().simple();
            let name = format!("{SUBMISSION}{}:{word}", first.dir.id());
            // If this process dies before it knows the ids, the jobs are found by this name.
            for (job, reference) in jobs.iter().zip(tasks(&name, jobs.len())) {
                let _ = job.dir.save_engine_ref(&reference);
            }
            match self.sbatch(&arguments(first, jobs, &name)) {
                Ok(id) => results.extend(tasks(&id, jobs.len()).map(Ok)),
                Err(error) => results.resize(results.len() + jobs.len(), Err(error)),
            }
        }
        results
    }

    fn query(&self, jobs: Option<&[EngineRef]>) -> Result<EngineStates, EngineError> {
        let (option, value) = match jobs {
            Some(jobs) if jobs.len() <= MAX_NAMED_JOBS && !jobs.iter().any(EngineRef::is_name) => {
                ("-j", jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>().join(","))
            }
            _ => ("-u", nix::unistd::geteuid().to_string()),
        };
        match self.run("squeue", ["-h", "-r", "-t", "all", "-O", QUEUE_FORMAT, option, &value]) {
            Err(error) if is_gone(&error) => Ok(EngineStates::new()),
            output => output.map(|output| states(&output)),
        }
    }

    fn signal(&self, jobs: &[EngineRef], signal: EngineSignal) -> Result<(), EngineError> {
        let options: &[&str] = match signal {
            EngineSignal::End => &[],
            // To the batch process alone, which is the worker.
            EngineSignal::Kill => &["-b", "-s", "USR1"],
            EngineSignal::Inbox => &["-b", "-s", "USR2"],
        };
        let ids = jobs.iter().filter(|job| !job.is_name()).map(|job| job.id.as_str());
        for ids in ids.collect::<Vec<_>>().chunks(MAX_NAMED_JOBS) {
            match self.run("scancel", options.iter().chain(ids)) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns what one job with this id or name is called, or each task of an array.
fn tasks(job: &str, count: usize) -> impl Iterator<Item = EngineRef> {
    let task = move |index| if count == 1 { job.to_owned() } else { format!("{job}_{index}") };
    (0..count).map(task).map(EngineRef::from_id)
}

fn is_gone(error: &EngineError) -> bool {
    GONE.iter().any(|part| error.why.contains(part))
}

/// Returns the message of a command that failed: the last line of its stderr, without its name.
fn message(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match last_line(&text) {
        "" => "it failed without a message".to_owned(),
        line => one_line(line.split_once(" error: ").map_or(line, |(_, message)| message), 300),
    }
}

/// Returns a value of the cluster's settings.
pub(crate) fn setting<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    let mut settings = config.lines().filter_map(|line| line.split_once('='));
    settings.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Returns the jobs in the output of `squeue`, by their ids and by the names of their submissions.
fn states(output: &str) -> EngineStates {
    let mut states = EngineStates::new();
    for line in output.lines() {
        let fields: Vec<&str> = line.splitn(6, '|').collect();
        let [id, state, restarts, node, why, comment] = *fields.as_slice() else { continue };
        let status = match state {
            "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" => {
                EngineStatus::Pending(why.to_owned())
            }
            "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL"
            | "OUT_OF_MEMORY" | "PREEMPTED" | "REVOKED" | "TIMEOUT" => {
                EngineStatus::Ended(state.to_owned())
            }
            // Also in a state that only a newer Slurm knows: it has not ended.
            _ => EngineStatus::Running {
                node: node.to_owned(),
                restarts: restarts.parse().unwrap_or_default(),
            },
        };
        let job = EngineJob { id: id.to_owned(), status };
        if comment.starts_with(SUBMISSION) {
            let task = id.split_once('_').map_or(String::new(), |(_, task)| format!("_{task}"));
            states.insert(format!("{comment}{task}"), job.clone());
        }
        states.insert(id.to_owned(), job);
    }
    states
}

/// Returns how many of the first jobs, at least one, can be the tasks of one array: those with the same
/// options.
fn count_of_array(first: &Submission<'_>, jobs: &[Submission<'_>], most: usize) -> usize {
    let options = shared_options(first);
    let mut bytes = 0;
    let fits = |job: &&Submission<'_>| {
        bytes += job.dir.id().as_str().len() + 1;
        let is_same = task_limit(job) == task_limit(first) && shared_options(job) == options;
        is_same && bytes <= MAX_SCRIPT_BYTES
    };
    jobs.iter().take(most).take_while(fits).count().max(1)
}

/// Returns the limit of the tasks of the job's array that may run at the same time, as `--array` takes it.
fn task_limit(job: &Submission<'_>) -> String {
    let queue = &job.spec.queue_options;
    let limit = match (&queue.group, queue.max_parallel) {
        (Some(_), 0) => queue.group_limit,
        (Some(_), most) => most.min(queue.group_limit),
        (None, most) => most,
    };
    if limit == 0 { String::new() } else { format!("%{limit}") }
}

/// Returns the options of `sbatch` that do not depend on the job's name.
fn shared_options(job: &Submission<'_>) -> Vec<String> {
    let engine = job.spec.engine.clone().unwrap_or_else(|| EngineOptions::new(EngineKind::Slurm));
    // Options of the caller prevail over these.
    let mut options = ["--requeue", TERM_BEFORE_LIMIT, "--chdir=/"].map(str::to_owned).to_vec();
    if job.delay.as_secs() > 0 {
        options.push(format!("--begin=now+{}", job.delay.as_secs()));
    }
    if let Some(bytes) = job.spec.limits.memory_max {
        options.push(format!("--mem={}K", bytes.div_ceil(1024)));
    }
    options.extend(engine.args);
    // These prevail over options of the caller: the environment could bring a key into Slurm's files.
    let names = engine.export_env.join(",");
    let export = if names.is_empty() { "NONE" } else { &names };
    options.extend(["--parsable", "--open-mode=append", "--get-user-env"].map(str::to_owned));
    options.push(format!("--export={export}"));
    // The worker waits for those without an id.
    let after = job.after.iter().filter(|it| !it.is_name());
    let mut after: Vec<String> = after.map(|it| format!("afterany:{}", it.id)).collect();
    if let Some(group) = &job.spec.queue_options.group {
        options.push(format!("--job-name=claudejob-group-{group}"));
        after.push("singleton".to_owned());
    }
    if !after.is_empty() {
        options.push(format!("--dependency={}", after.join(",")));
    }
    options
}

/// Returns the arguments of `sbatch` for one job, or for several with the same options.
fn arguments(first: &Submission<'_>, jobs: &[Submission<'_>], name: &str) -> Vec<String> {
    let id = first.dir.id();
    let mut arguments = shared_options(first);
    if first.spec.queue_options.group.is_none() {
        arguments.push(format!("--job-name=claudejob-{id}"));
    }
    arguments.push(format!("--comment={name}"));
    if let [one] = jobs {
        let log = one.dir.file(ENGINE_LOG).to_string_lossy().replace('%', "%%");
        arguments.push(format!("--output={log}"));
    } else {
        arguments.push(format!("--array=0-{}{}", jobs.len() - 1, task_limit(first)));
        // Each task has its own log, which the script opens.
        arguments.push("--output=/dev/null".to_owned());
    }
    arguments.push(format!("--wrap={}", script(first, jobs)));
    arguments
}

/// Returns the batch script without its first line, `#!/bin/sh`, which `sbatch --wrap` adds. The
/// worker becomes the batch process, so that signals reach it and its exit code is that of the job.
fn script(first: &Submission<'_>, jobs: &[Submission<'_>]) -> String {
    let program = shell_quote(&claude::own_executable().to_string_lossy());
    let root = shell_quote(&first.dir.root().to_string_lossy());
    let ids: Vec<&str> = jobs.iter().map(|job| job.dir.id().as_str()).collect();
    format!(
        "set -- {}\nshift \"${{SLURM_ARRAY_TASK_ID:-0}}\"\n\
         exec {program} {} {root}/\"$1\" >>{root}/\"$1\"/{ENGINE_LOG} 2>&1",
        ids.join(" "),
        hidden_verbs::WORKER_HERE,
    )
}

#[cfg(test)]
mod tests;
