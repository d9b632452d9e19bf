//! `finish`: ends a kept-alive job after its current turn.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::observe::observe;
use super::recipient::Recipient;
use super::watch::await_end;
use crate::arguments::JobName;
use crate::error::{Error, ExitStatus};
use crate::job::{InboxMessage, JobId, Status, WaitKind, WaitingFor};
use crate::output::{Answer, BOLD, painted, sentence};
use crate::store::{Store, addressed};
use crate::text::harmless;

/// Time limit for an idle claude to exit.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);

/// Arguments of `finish`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob finish helper")]
pub(crate) struct FinishArgs {
    #[command(flatten)]
    target: JobName,
}

impl FinishArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        call.print(&finish(&store, &call.job(&store, &self.target)?)?)
    }
}

/// The result of a `finish`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinishAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job has ended; otherwise it ends when `waitingFor` is over.
    pub finished: bool,
    /// The job's status.
    pub status: Status,
    /// What delays the end; null if the job has ended.
    pub waiting_for: Option<WaitingFor>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

impl Answer for FinishAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        match &self.waiting_for {
            None => format!("Job {id} is {}.\n", self.status),
            Some(wait) => {
                let why = harmless(&wait.why);
                sentence(&format!(
                    "Job {id} is {} and will finish; waiting for: {why}.",
                    self.status
                ))
            }
        }
    }
}

/// Ends a kept-alive job after its current turn.
pub(crate) fn finish(store: &Store, id: &JobId) -> Result<FinishAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let dir = &recipient.dir;
    let is_kept_alive = dir.load().is_ok_and(|record| record.spec.keep_alive.enabled);
    if !is_kept_alive {
        let why = "it was started without --keep-alive and ends by itself".to_owned();
        return Err(Error::NotKeptAlive(id.to_string(), why));
    }
    recipient.post(store, &InboxMessage::Finish)?;
    await_end(dir, FINISH_TIMEOUT);
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    let finished = !status.is_live();
    let wait = match observed.record.waiting_for() {
        Some(wait) => wait.map_hint(|hint| addressed(store.root(), hint)),
        None => WaitingFor::new(WaitKind::Turn, None, "the current turn"),
    };
    let waiting_for = if finished { None } else { Some(wait) };
    Ok(FinishAnswer { job_id: id.clone(), finished, status, waiting_for, hint })
}
