//! `start --from`: starts a job for each line of a file. All lines are checked before the first job
//! is started.

mod answer;
mod keys;
mod lines;
mod order;
mod parser;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::job_options::MAX_LABELS;
use super::{
    CheckedRequest, PassedChecks, StartAnswer, StartRequest, check, create, existing_answer,
    keep_from_env, remove_old_jobs,
};
use crate::arguments::label;
use crate::commands::Call;
use crate::commands::engine_jobs::{self, Unsubmitted};
use crate::commands::launching::{risks, shared_folder, warnings};
use crate::commands::selecting::Selected;
use crate::commands::wait::{WaitOptions, wait_and_print};
use crate::error::{Error, ExitStatus};
use crate::job::JobId;
use crate::launch::DetachPlan;
use crate::store::{Store, addressed};
use crate::text::{plural, shell_word};

pub(crate) use answer::BatchAnswer;
use lines::{BatchLine, JOB_ID, Pairs};
use order::{Node, order, worktree_conflicts};
use parser::LineParser;
pub(super) use schema::LineSchema;

/// Maximum number of lines that an error names.
const MAX_ERRORS: usize = 10;
/// Maximum number of ids in a hint.
const MAX_HINT_IDS: usize = 10;
/// Keys on which the check of claude and its login depends.
const CLAUDE_KEYS: [&str; 4] = ["claude", "profile", "permissionMode", "settings"];
/// Keys on which the check of the budget depends.
const BUDGET_KEYS: [&str; 2] = ["budgetUsd", "label"];

/// Options for many jobs.
#[derive(Debug, Args)]
pub(super) struct BatchArgs {
    /// Start a job for each line of a file; - reads stdin
    ///
    /// A line is a JSON object. Its keys are the names of the options of a job, such as jobId,
    /// prompt, promptFile, maxTurns or after. Options of the call apply to each line that does not
    /// set them. Paths are relative to the directory of the call. All lines are checked before the
    /// first job is started.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["id", "job_id", "from_schema"],
        help_heading = "Batch"
    )]
    pub from: Option<PathBuf>,
    /// Print the JSON schema of such a line
    #[arg(long, help_heading = "Batch")]
    pub from_schema: bool,
    /// Label all jobs of --from (repeatable)
    #[arg(
        long,
        value_name = "KEY=VALUE",
        value_parser = label,
        requires = "from",
        help_heading = "Batch"
    )]
    pub set_label: Vec<(String, String)>,
}

/// A call with a file of jobs.
pub(super) struct Batch<'a> {
    pub call: &'a Call,
    pub store: &'a Store,
    /// The file, or `-`.
    pub from: &'a Path,
    pub labels: &'a [(String, String)],
    pub if_absent: bool,
}

/// The jobs of a file that were created before another one.
#[derive(Default)]
pub(super) struct EarlierJobs {
    /// The first job in each folder.
    first_in_folder: BTreeMap<String, JobId>,
    /// The jobs that are submitted to their engine when all are created.
    pub(super) unsubmitted: Vec<Unsubmitted>,
}

impl EarlierJobs {
    /// Returns the warnings about a job that was just launched. It is enough to look for others in
    /// a folder once: all further jobs of the file have the same warning.
    pub(super) fn warnings(
        &mut self,
        store: &Store,
        plan: &DetachPlan,
        id: &JobId,
        folder: &str,
    ) -> Vec<String> {
        let Some(first) = self.first_in_folder.get(folder) else {
            self.first_in_folder.insert(folder.to_owned(), id.clone());
            return warnings(store, plan, id, folder);
        };
        // Without the list of its folder others do not find it, and nothing else is lost.
        let _ = store.join_folder(Path::new(folder), id);
        let mut warnings = risks(store, plan);
        let warning = shared_folder(first, folder);
        store.is_warning_due(&warning);
        warnings.push(warning);
        warnings
    }
}

/// A line that was checked.
struct PlannedLine {
    number: usize,
    job: PlannedJob,
}

enum PlannedJob {
    /// With the path of its worktree, if that is known.
    New(Box<CheckedRequest>, Option<String>),
    Existing(JobId),
}

/// Why a line cannot be used.
enum LineError {
    /// The line is wrong.
    Line(String),
    /// No line could be started.
    Call(Error),
}

impl From<String> for LineError {
    fn from(message: String) -> Self {
        Self::Line(message)
    }
}

/// The lines with errors.
#[derive(Default)]
struct LineErrors(Vec<(usize, String)>);

impl LineErrors {
    /// Returns the error that names these lines; nothing if there are none.
    fn check(mut self, from: &Path) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort();
        let name = if from == Path::new("-") { "stdin".into() } else { from.display().to_string() };
        let count = self.0.len();
        let are = if count == 1 { "is" } else { "are" };
        let mut text =
            format!("nothing was started: {} of {name} {are} invalid", plural(count, "line"));
        for (number, message) in self.0.iter().take(MAX_ERRORS) {
            text.push_str(&format!("\nline {number}: {message}"));
        }
        if count > MAX_ERRORS {
            text.push_str(&format!("\n… and {} more", count - MAX_ERRORS));
        }
        Err(Error::BadBatch(text))
    }
}

impl Batch<'_> {
    /// Checks all lines, starts their jobs, and prints the answer, or waits for the jobs.
    pub(super) fn run(&self, wait: Option<Option<Duration>>) -> Result<ExitStatus, Error> {
        let keep = keep_from_env(&self.call.env)?;
        let text = lines::read(self.from)?;
        let (plan, order) = self.plan(&lines::split(&text)?)?;
        let answer = self.start_all(&plan, &order);
        // Jobs of this file that have ended by now are kept, too.
        if let (Some(keep), Some(job)) = (keep, answer.jobs.last()) {
            remove_old_jobs(self.store, keep.max(answer.started), &job.job_id);
        }
        let answer = answer.arranged(self.call.bound());
        if let (Some(timeout), None) = (wait, &answer.failure) {
            let options = WaitOptions { timeout, ..WaitOptions::default() };
            let selected = Selected { ids: answer.ids, is_selection: true };
            return wait_and_print(self.call, self.store, &selected, &options);
        }
        self.call.print(&answer)
    }

    /// Checks all lines. Returns them, and the order in which their jobs are created.
    fn plan(&self, lines: &[BatchLine<'_>]) -> Result<(Vec<PlannedLine>, Vec<usize>), Error> {
        let mut parser = LineParser::new(self.call)?;
        let (mut ids, mut passed) = (BTreeMap::new(), PassedChecks::default());
        let mut errors = LineErrors::default();
        let mut plan = Vec::new();
        for line in lines {
            match self.plan_line(line, &mut parser, &mut ids, &mut passed) {
                Ok(job) => plan.push(PlannedLine { number: line.number, job }),
                Err(LineError::Line(message)) => errors.0.push((line.number, message)),
                Err(LineError::Call(error)) => return Err(error),
            }
        }
        // A dependency may be the job of a line with an error.
        let has_all = errors.0.is_empty();
        let mut nodes = Vec::new();
        for line in &plan {
            nodes.push(match &line.job {
                PlannedJob::New(request, worktree) => {
                    Node::new(request.id.clone(), &request.spec, worktree.clone())
                }
                PlannedJob::Existing(_) => Node::default(),
            });
        }
        let ordered = if has_all { order(self.store, &nodes) } else { Ok(Vec::new()) };
        let order = ordered.unwrap_or_else(|wrong| {
            for (at, error) in wrong {
                errors.0.push((plan[at].number, error.to_string()));
            }
            Vec::new()
        });
        for (at, earlier) in worktree_conflicts(&nodes, &order) {
            let message = format!(
                "line {} has the same worktree: wait for it with 'after', or use another name",
                plan[earlier].number
            );
            errors.0.push((plan[at].number, message));
        }
        errors.check(self.from)?;
        Ok((plan, order))
    }

    fn plan_line(
        &self,
        line: &BatchLine<'_>,
        parser: &mut LineParser<'_>,
        ids: &mut BTreeMap<JobId, usize>,
        passed: &mut PassedChecks,
    ) -> Result<PlannedJob, LineError> {
        let pairs = line.parse()?;
        let args = parser.parse(&pairs)?;
        let request = args.into_request();
        let mut request = request.map_err(|error| parser.message(&error))?;
        request.if_absent = self.if_absent;
        request.spec.labels.extend(self.labels.iter().cloned());
        if request.spec.labels.len() > MAX_LABELS {
            return Err(LineError::Line(format!("at most {MAX_LABELS} labels")));
        }
        match &request.id {
            Some(id) => {
                if let Some(other) = ids.insert(id.clone(), line.number) {
                    return Err(LineError::Line(format!(
                        "line {other} has the same {JOB_ID} '{id}'"
                    )));
                }
                if self.store.job(id).path().exists() {
                    return match self.if_absent {
                        true => Ok(PlannedJob::Existing(id.clone())),
                        false => Err(LineError::Line(Error::Exists(id.to_string()).to_string())),
                    };
                }
            }
            None if self.if_absent => {
                return Err(LineError::Line(format!(
                    "no '{JOB_ID}', by which --if-absent finds a job that exists"
                )));
            }
            None => {}
        }
        match self.check(request, passed) {
            Ok((checked, worktree)) => Ok(PlannedJob::New(Box::new(checked), worktree)),
            Err(error) if concerns_all_lines(&error, &pairs) => Err(LineError::Call(error)),
            Err(error) => Err(LineError::Line(parser.message(&error))),
        }
    }

    /// Returns the checked request with the path of its worktree.
    fn check(
        &self,
        request: StartRequest,
        passed: &mut PassedChecks,
    ) -> Result<(CheckedRequest, Option<String>), Error> {
        let checked = check(self.store, request, &self.call.env, passed)?;
        let Some(worktree) = &checked.worktree else { return Ok((checked, None)) };
        let mut spec = checked.spec.clone();
        let name = spec.worktree.as_ref().and_then(|worktree| worktree.request.name.as_ref());
        let named = name.and_then(|name| JobId::parse(name).ok());
        // The name of a worktree may depend on the job's id, which may not be known yet.
        let Some(id) = checked.id.clone().or(named) else { return Ok((checked, None)) };
        worktree.place(self.store, &id, &mut spec)?;
        Ok((checked, spec.worktree.map(|worktree| worktree.path)))
    }

    /// Starts the jobs, up to the first that cannot be started.
    fn start_all(&self, plan: &[PlannedLine], order: &[usize]) -> BatchAnswer {
        let mut answer = BatchAnswer::default();
        let mut earlier = EarlierJobs::default();
        // A job that exists may have to be started again, and others may wait for it.
        let is_existing = |at: &&usize| matches!(plan[**at].job, PlannedJob::Existing(_));
        let (existing, new): (Vec<&usize>, Vec<&usize>) = order.iter().partition(is_existing);
        for at in existing.into_iter().chain(new) {
            let PlannedLine { number, job } = &plan[*at];
            match self.start(job, &mut earlier) {
                Ok(started) => answer.add(*number, started),
                Err(error) => {
                    answer.fail(self.store, *number, &error);
                    break;
                }
            }
        }
        self.submit(&earlier.unsubmitted, &mut answer);
        if answer.failure.is_some() {
            self.add_continuation(&mut answer, plan);
        } else {
            answer.hint = Some(addressed(self.store.root(), self.wait_command(&answer)));
        }
        answer
    }

    /// Submits the jobs that were created for an engine, up to the first that it refuses. The others
    /// are removed.
    fn submit(&self, jobs: &[Unsubmitted], answer: &mut BatchAnswer) {
        let Some(first) = jobs.first() else { return };
        let results = match self.store.sync() {
            Ok(()) => engine_jobs::submit(self.store, jobs),
            Err(error) => {
                engine_jobs::discard(&first.dir);
                vec![Err(error.into())]
            }
        };
        let accepted = results.iter().take_while(|result| result.is_ok()).count();
        let Some(Err(error)) = results.get(accepted) else { return };
        for job in &jobs[results.len()..] {
            engine_jobs::discard(&job.dir);
        }
        let refused = &jobs[accepted..];
        let is_refused = |id: &JobId| refused.iter().any(|job| job.dir.id() == id);
        let line = answer.jobs.iter().find(|job| is_refused(&job.job_id)).map(|job| job.line);
        answer.jobs.retain(|job| !is_refused(&job.job_id));
        answer.started -= refused.len();
        answer.fail(self.store, line.unwrap_or_default(), error);
    }

    fn start(&self, job: &PlannedJob, earlier: &mut EarlierJobs) -> Result<StartAnswer, Error> {
        let request = match job {
            PlannedJob::Existing(id) => {
                return existing_answer(self.store, id, true, &self.call.env);
            }
            PlannedJob::New(request, _) => request,
        };
        create(self.store, request, &self.call.env, Some(earlier))
    }

    /// Says which lines have no job after a failure, and how they get one.
    fn add_continuation(&self, answer: &mut BatchAnswer, plan: &[PlannedLine]) {
        let has_job = |line: usize| answer.jobs.iter().any(|job| job.line == line);
        let next = plan.iter().map(|line| line.number).find(|number| !has_job(*number));
        let Some(next) = next else { return };
        let later: Vec<String> = answer
            .jobs
            .iter()
            .filter(|job| job.line > next)
            .map(|job| job.line.to_string())
            .collect();
        if !later.is_empty() {
            let lines = later.join(", ");
            answer.warnings.push(format!("jobs of later lines were started as well: {lines}"));
        }
        answer.next_line = Some(next);
        answer.hint = Some(self.call.continuation(self.from, next, self.if_absent));
    }

    /// Returns the command that waits for the jobs.
    fn wait_command(&self, answer: &BatchAnswer) -> String {
        if let Some((key, value)) = self.labels.first() {
            return format!("claudejob wait --label {}", shell_word(&format!("{key}={value}")));
        }
        if answer.jobs.len() > MAX_HINT_IDS {
            return "claudejob list  # --set-label run=NAME names all jobs of a file".to_owned();
        }
        let ids: Vec<&str> = answer.jobs.iter().map(|job| job.job_id.as_str()).collect();
        format!("claudejob wait {}", ids.join(" "))
    }
}

/// Returns whether an error is not that of one line: its cause is the same for all of them.
fn concerns_all_lines(error: &Error, pairs: &Pairs) -> bool {
    let sets_one_of = |keys: &[&str]| pairs.0.iter().any(|(key, _)| keys.contains(&key.as_str()));
    match error {
        Error::NotLoggedIn | Error::RootNeedsSandbox | Error::ClaudeNotFound(_) => {
            !sets_one_of(&CLAUDE_KEYS)
        }
        Error::BudgetExceeded { .. } => !sets_one_of(&BUDGET_KEYS),
        _ => false,
    }
}

impl Call {
    /// Returns the command that starts the jobs from this line on, for `sh`. With `repeats` it is the
    /// same call.
    fn continuation(&self, from: &Path, line: usize, repeats: bool) -> String {
        let is_stdin = from == Path::new("-");
        let mut command = "claudejob".to_owned();
        let mut args = self.args.iter().skip(1).map(|arg| arg.to_string_lossy());
        while let Some(arg) = args.next() {
            let is_from = arg == "--from" || arg.starts_with("--from=");
            if is_from && !repeats {
                if arg == "--from" {
                    args.next();
                }
                command.push_str(" --from -");
            } else {
                command.push(' ');
                command.push_str(&shell_word(&arg));
            }
        }
        match (repeats, is_stdin) {
            (true, _) => command,
            (false, true) => format!("{command}  # with the input from line {line} on"),
            (false, false) => {
                let file = shell_word(&from.to_string_lossy());
                format!("tail -n +{line} -- {file} | {command}")
            }
        }
    }
}
