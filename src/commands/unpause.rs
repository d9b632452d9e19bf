//! `unpause`: lets paused jobs continue.

use clap::Args;

use super::Call;
use super::freezing::thaw;
use super::observe::observe;
use super::pause::{PauseAnswer, queue_error, scopes};
use super::several::FailedJob;
use crate::arguments::SelectorArgs;
use crate::error::{Error, ExitStatus};
use crate::queue::{PauseScope, Queue};
use crate::store::Store;

/// Arguments of `unpause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob unpause\n  claudejob unpause -g web\n  claudejob unpause \
    --all\n\nWithout arguments it undoes claudejob pause without arguments; pauses of groups and \
    jobs stay.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: the whole queue]")),
    mut_arg("group", |arg| arg.help("Let this group continue (repeatable)"))
)]
pub(crate) struct UnpauseArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Undo every pause, also of groups and jobs
    #[arg(long, conflicts_with_all = ["ids", "job_id", "label", "group", "status", "since"])]
    all: bool,
}

impl UnpauseArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let paused = Queue::for_jobs_dir(store.root()).paused();
        let scopes = if self.all { paused.pauses() } else { scopes(call, &store, self.targets)? };
        call.print(&unpause(&store, scopes)?)
    }
}

/// Removes these pauses, and lets the frozen jobs among them continue.
pub(super) fn unpause(store: &Store, scopes: Vec<PauseScope>) -> Result<PauseAnswer, Error> {
    let queue = Queue::for_jobs_dir(store.root());
    let paused = queue.paused();
    let mut failed = Vec::new();
    let mut pauses = Vec::new();
    for scope in scopes {
        // The pause of a job that was removed by hand can be undone.
        if let PauseScope::Job(id) = &scope
            && !paused.jobs.contains(id)
            && let Err(error) = observe(store, id)
        {
            failed.push(FailedJob::new(store, id.clone(), &error));
        } else {
            pauses.push(scope);
        }
    }
    if !pauses.is_empty() {
        queue.unpause(&pauses).map_err(|error| queue_error(&queue, error))?;
    }
    let thawed = thaw(store, &queue, &pauses)?;
    failed.extend(thawed.failed);
    let continued = thawed.done;
    let mut undone = paused.pauses();
    undone.retain(|pause| pauses.contains(pause));
    let answer = PauseAnswer::new(store, &queue, pauses, failed);
    Ok(PauseAnswer { continued, undone, ..answer })
}
