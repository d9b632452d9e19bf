//! `pause`: holds queued jobs back.

use std::io;

use clap::Args;
use serde::Serialize;

use super::observe::observe;
use super::{Call, JobFailure};
use crate::arguments::{JobIdsArgs, group};
use crate::error::{Error, ExitStatus, NOT_FOUND};
use crate::job::JobId;
use crate::output::{Answer, RED, push_marked};
use crate::queue::{PauseScope, PauseSet, Queue, QueueBusy, Ticket};
use crate::store::{Store, addressed};
use crate::text::plural;

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob pause\n  claudejob pause --group web\n  claudejob pause \
    fix-login\n\nJobs that run go on; their next attempt waits. claudejob unpause lets the jobs \
    continue.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: the whole queue]"))
)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    targets: JobIdsArgs,
    /// PauseScope this group, with jobs to come (repeatable)
    #[arg(short, long, value_name = "NAME", value_parser = group, conflicts_with_all = ["ids", "job_id"])]
    group: Vec<String>,
}

impl PauseArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let ids = call.jobs(&store, &self.targets)?;
        let mut failed = Vec::new();
        let mut pauses: Vec<PauseScope> = self.group.into_iter().map(PauseScope::Group).collect();
        for id in &ids {
            match check_live(&store, id) {
                Ok(()) => pauses.push(PauseScope::Job(id.clone())),
                Err(error) => failed.push(JobFailure::from_error(id.clone(), &error)),
            }
        }
        if ids.is_empty() && pauses.is_empty() {
            pauses.push(PauseScope::All);
        }
        let queue = Queue::for_jobs_dir(store.root());
        if !pauses.is_empty() {
            queue.pause(&pauses).map_err(|error| queue_error(&queue, error))?;
        }
        for id in &ids {
            // A job that has ended meanwhile takes its pause with it.
            if let Err(error) = check_live(&store, id)
                && !failed.iter().any(|failure| failure.job_id == *id)
            {
                queue.remove_pause_of(id);
                failed.push(JobFailure::from_error(id.clone(), &error));
            }
        }
        call.print(&PauseAnswer::new(&store, &queue, failed))
    }
}

/// Returns an error if the job has ended.
fn check_live(store: &Store, id: &JobId) -> Result<(), Error> {
    let observed = observe(store, id)?;
    if observed.live {
        return Ok(());
    }
    Err(Error::JobEnded(id.to_string(), observed.record.status.to_string()))
}

/// Converts an error of the queue.
pub(super) fn queue_error(queue: &Queue, error: io::Error) -> Error {
    if QueueBusy::is_in(&error) {
        return Error::Busy(error.to_string());
    }
    Error::Store(queue.error(error))
}

/// All that is paused after a `pause` or an `unpause`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct PauseAnswer {
    /// All that is paused now.
    pub paused: PauseSet,
    /// Number of paused jobs that hold a slot and go on.
    pub running: usize,
    /// Number of jobs that wait in the queue because they are paused.
    pub held: usize,
    /// The jobs for which the call failed.
    pub failed: Vec<JobFailure>,
    /// The command that removes the pauses, as `sh` takes it; null if nothing is paused.
    pub hint: Option<String>,
}

impl PauseAnswer {
    pub(super) fn new(store: &Store, queue: &Queue, failed: Vec<JobFailure>) -> Self {
        let paused = queue.paused();
        let hint = match paused.pauses().as_slice() {
            [] => None,
            [PauseScope::All] => Some("claudejob unpause"),
            _ => Some("claudejob unpause --all"),
        };
        let count = |tickets: Vec<Ticket>| {
            let is_counted =
                |ticket: &&Ticket| paused.holds(ticket) && store.job(&ticket.job_id).may_live();
            tickets.iter().filter(is_counted).count()
        };
        Self {
            running: count(queue.running_tickets()),
            held: count(queue.waiting_tickets().0),
            hint: hint.map(|hint| addressed(store.root(), hint.to_owned())),
            paused,
            failed,
        }
    }
}

impl Answer for PauseAnswer {
    fn text(&self) -> String {
        let mut text = match describe(&self.paused) {
            None => "Nothing is paused.\n".to_owned(),
            Some(what) => {
                let goes = if self.running == 1 { "goes" } else { "go" };
                let are = if self.held == 1 { "is" } else { "are" };
                let running = plural(self.running, "running job");
                format!("{what} paused: {running} {goes} on, {} {are} held.\n", self.held)
            }
        };
        for failure in &self.failed {
            let what = format!("{}: {}", failure.job_id, failure.error);
            push_marked(&mut text, RED.bold(), "failed:", &what);
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        let mut status = ExitStatus::Done;
        for failure in &self.failed {
            status = match failure.code {
                NOT_FOUND => return ExitStatus::NotFound,
                "busy" if status == ExitStatus::Done => ExitStatus::TryAgain,
                "busy" => status,
                _ => ExitStatus::Failed,
            };
        }
        status
    }
}

/// Returns the beginning of a sentence that names what is paused; `None` if nothing is.
fn describe(paused: &PauseSet) -> Option<String> {
    let mut names = Vec::new();
    for pause in paused.pauses() {
        let is_first = names.is_empty();
        names.push(match pause {
            PauseScope::All => "The queue".to_owned(),
            PauseScope::Group(group) if is_first => format!("Group {group}"),
            PauseScope::Group(group) => format!("group {group}"),
            PauseScope::Job(job) if is_first => format!("Job {job}"),
            PauseScope::Job(job) => format!("job {job}"),
        });
    }
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is")),
        [first @ .., last] => Some(format!("{} and {last} are", first.join(", "))),
    }
}
