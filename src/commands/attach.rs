//! `attach`: shows a job's conversation as it grows, with a line to type messages and answers in.

mod attached;
mod calls;
mod model;

use clap::Args;

use super::Call;
use crate::arguments::JobName;
use crate::error::{Error, ExitStatus};
use attached::AttachedJob;

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob attach fix-login\n\nA message goes to the running turn, begins a \
    turn of an idle job, or resumes a job that has ended. Ctrl-C interrupts the turn after a question, \
    Ctrl-D leaves; the job goes on."
)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    target: JobName,
}

impl AttachArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job_or_last(&store, &self.target)?;
        if !call.is_by_person() || !call.printer.is_screen() {
            let hint = format!("claudejob logs {id} --follow  # and: claudejob send {id} \"…\"");
            return Err(Error::NotATerminal { verb: "attach", hint });
        }
        AttachedJob::new(call, store, id)?.run()
    }
}
