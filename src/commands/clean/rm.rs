//! `rm`: removes the ended jobs that the caller names or selects.

use clap::Args;

use super::{CleanOptions, clean};
use crate::arguments::{FORCE_HOST, SelectorArgs};
use crate::commands::Call;
use crate::commands::naming::no_job_given;
use crate::commands::selecting::take_over_selected;
use crate::error::{Error, ExitStatus};

/// Arguments of `rm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob rm fix-login\n  claudejob rm --label project=app --status failed\n\n\
    A live job is an error: kill it first. A selection considers ended jobs only. It never removes \
    a job that a queued job waits for, or that has undelivered notifications (list --undelivered), \
    unless the job is named and they are no longer tried. A job with a worktree is removed \
    together with that and its branch, but only if no work is lost: no changed or untracked file \
    (ignored files are deleted), and every commit in the base of the branch or in its upstream."
)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Show what would be removed, without removing it
    #[arg(long)]
    dry_run: bool,
    /// Remove the jobs without their worktrees
    #[arg(long)]
    keep_worktree: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl RmArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        self.targets.check_exclusive()?;
        let mut options = CleanOptions {
            keep: Some(0),
            dry_run: self.dry_run,
            keep_worktree: self.keep_worktree,
            filter: self.targets.filter.clone().into_filter(),
            ..CleanOptions::default()
        };
        let ids = options.named_jobs(call, &store, &self.targets)?;
        options.drop_failed_notifications = !ids.is_empty();
        // Without both, `clean` would consider every job.
        if ids.is_empty() && self.targets.filter.is_empty() {
            return Err(no_job_given());
        }
        if self.force_host && !self.dry_run {
            take_over_selected(&store, &ids, &self.targets.filter)?;
        }
        call.print(&clean(&store, &ids, None, &options)?)
    }
}
