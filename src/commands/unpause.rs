//! `unpause`: lets paused jobs continue.

use clap::Args;

use super::observe::observe;
use super::pause::{PauseAnswer, queue_error};
use super::{Call, JobFailure};
use crate::arguments::{JobIdsArgs, group};
use crate::error::{Error, ExitStatus};
use crate::queue::{PauseScope, Queue};

/// Arguments of `unpause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob unpause\n  claudejob unpause --group web\n  claudejob \
    unpause --all\n\nWithout arguments it undoes claudejob pause without arguments; pauses of \
    groups and jobs stay.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: the whole queue]"))
)]
pub(crate) struct UnpauseArgs {
    #[command(flatten)]
    targets: JobIdsArgs,
    /// Let this group continue (repeatable)
    #[arg(short, long, value_name = "NAME", value_parser = group, conflicts_with_all = ["ids", "job_id"])]
    group: Vec<String>,
    /// Undo every pause, also of groups and jobs
    #[arg(long, conflicts_with_all = ["ids", "job_id", "group"])]
    all: bool,
}

impl UnpauseArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let queue = Queue::for_jobs_dir(store.root());
        let paused = queue.paused();
        let mut failed = Vec::new();
        let mut pauses: Vec<PauseScope> = self.group.into_iter().map(PauseScope::Group).collect();
        for id in call.jobs(&store, &self.targets)? {
            match observe(&store, &id) {
                // The pause of a job that was removed by hand can be undone.
                Err(error) if !paused.jobs.contains(&id) => {
                    failed.push(JobFailure::from_error(id, &error));
                }
                _ => pauses.push(PauseScope::Job(id)),
            }
        }
        if self.all {
            pauses = paused.pauses();
        } else if pauses.is_empty() && failed.is_empty() {
            pauses.push(PauseScope::All);
        }
        if !pauses.is_empty() {
            queue.unpause(&pauses).map_err(|error| queue_error(&queue, error))?;
        }
        call.print(&PauseAnswer::new(&store, &queue, failed))
    }
}
