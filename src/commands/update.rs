//! `update`: changes the place of queued jobs in the queue.

use clap::Args;
use serde::Serialize;

use super::Call;
use super::engine_jobs::Ask;
use super::observe::observe;
use super::requests::{WorkerReply, request};
use super::selecting::Among;
use super::several::Several;
use super::shortened::ArrayLimit;
use super::status::status_view;
use crate::arguments::{SelectorArgs, group};
use crate::error::{Error, ExitStatus};
use crate::job::{AppliedTo, InboxMessage, JobId, QueueChange, Status};
use crate::output::{Answer, BOLD, painted};
use crate::store::Store;

/// Arguments of `update`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob update fix-login --priority 10\n  claudejob update -l \
    kind=test --set-group tests --group-limit 2"
)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Change every queued job
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What to change.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// Set the priority, from -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: Option<i32>,
    /// Queue the jobs while N jobs are running; 0: no limit
    #[arg(long, value_name = "N")]
    max_parallel: Option<u32>,
    /// Move the jobs to this group
    #[arg(long, value_name = "NAME", value_parser = group)]
    set_group: Option<String>,
    /// Limit the running jobs of the group
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    group_limit: Option<u32>,
}

impl UpdateArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let mut selected = call.select(&store, self.targets, self.all, Among::Live)?.required()?;
        if selected.is_selection {
            selected.ids.retain(|id| check_queued(&store, id).is_ok());
        }
        let ChangeArgs { priority, max_parallel, set_group, group_limit } = self.change;
        let change = QueueChange { priority, max_parallel, group: set_group, group_limit };
        let mut queued = selected.ids.clone();
        queued.retain(|id| check_queued(&store, id).is_ok());
        let mut replies = request(&store, &queued, &InboxMessage::Requeue(change));
        let answers = Several::of(&store, selected, |id| match replies.remove(id) {
            Some(reply) => UpdateAnswer::new(&store, id, &reply?),
            None => Err(check_queued(&store, id).err().unwrap_or_else(|| changed_error(id))),
        })?;
        call.print(&answers.within(ArrayLimit::new(call, &store, call.bound(), "status")))
    }
}

/// Returns an error unless the job is in the queue of this machine.
fn check_queued(store: &Store, id: &JobId) -> Result<(), Error> {
    let record = observe(store, id)?.record;
    match record.status {
        Status::Queued if record.spec.engine.is_some() => {
            let why = "it waits in the queue of its cluster, which scontrol update changes";
            Err(Error::NotQueued(id.to_string(), why.to_owned()))
        }
        Status::Queued => Ok(()),
        status => Err(Error::NotQueued(id.to_string(), format!("it is {status}"))),
    }
}

/// Returns the error for a job that was resumed during the call.
fn changed_error(id: &JobId) -> Error {
    Error::NotQueued(id.to_string(), "it was not queued before".to_owned())
}

/// A job with other conditions of admission.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// Number of jobs that may run at once, this one included; 0 for any number.
    pub max_parallel: u32,
    /// Its group.
    pub group: Option<String>,
    /// Number of jobs of the group that may run at once.
    pub group_limit: u32,
    /// Position among the jobs that wait for a slot, from 1; null while it waits for something else.
    pub position: Option<usize>,
    /// `queue`: the job's place in the queue has changed; `later`: the change applies when the job
    /// asks for a slot the next time.
    pub applied: AppliedTo,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

impl UpdateAnswer {
    fn new(store: &Store, id: &JobId, reply: &WorkerReply) -> Result<Self, Error> {
        let Some(applied) = reply.applied else {
            let why = "its worker is of an earlier version of this program";
            return Err(Error::NotQueued(id.to_string(), why.to_owned()));
        };
        let record = observe(store, id)?.record;
        let view = status_view(store, &record, Ask::One);
        let options = record.spec.queue_options;
        Ok(Self {
            job_id: view.job_id,
            status: view.status,
            priority: options.priority,
            max_parallel: options.max_parallel,
            group: options.group,
            group_limit: options.group_limit,
            position: view.position,
            applied,
            hint: view.hint,
        })
    }
}

impl Answer for UpdateAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        let place = match (self.applied, self.position) {
            (AppliedTo::Queue, Some(position)) => format!("is number {position} in the queue"),
            (AppliedTo::Queue, None) => format!("is {}", self.status),
            (AppliedTo::Later, _) => "asks for its next slot like this".to_owned(),
        };
        let group = match &self.group {
            Some(group) => format!(", group {group} (limit {})", self.group_limit),
            None => String::new(),
        };
        let (priority, slots) = (self.priority, self.max_parallel);
        format!("Job {id} {place}: priority {priority}, max-parallel {slots}{group}.\n")
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(vec![self.job_id.clone()])
    }
}
