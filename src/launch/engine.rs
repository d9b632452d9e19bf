//! Engines: schedulers that start workers on other machines.

use std::collections::HashMap;
use std::time::Duration;

use crate::job::{EngineRef, Spec};
use crate::store::JobDir;

/// A scheduler that starts workers.
///
/// Kubernetes would fit as well: `submit` creates a Job, `query` gets the pods, and `signal` deletes the
/// Job or does nothing, because the worker looks into its inbox from time to time.
pub(crate) trait Engine {
    /// Submits jobs, if possible several at once. Returns a result for each, up to the first that it
    /// does not accept and those that were submitted together with that one.
    fn submit(&self, jobs: &[Submission<'_>]) -> Vec<Result<EngineRef, EngineError>>;

    /// Returns these jobs, or all jobs of the user, by their ids and by the names of their submissions.
    /// A missing one with an id has ended, and the engine has forgotten it.
    fn query(&self, jobs: Option<&[EngineRef]>) -> Result<EngineStates, EngineError>;

    /// Signals jobs, as far as they have ids and have not ended.
    fn signal(&self, jobs: &[EngineRef], signal: EngineSignal) -> Result<(), EngineError>;
}

/// What an engine knows about jobs.
pub(crate) type EngineStates = HashMap<String, EngineJob>;

/// A job as its engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineJob {
    pub id: String,
    pub status: EngineStatus,
}

/// A job to submit.
#[derive(Clone, Debug)]
pub(crate) struct Submission<'a> {
    pub dir: &'a JobDir,
    pub spec: &'a Spec,
    /// Time after which the job may start.
    pub delay: Duration,
    /// The engine's jobs that must have ended before this one starts.
    pub after: Vec<EngineRef>,
}

/// The state of a job as its engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineStatus {
    /// It waits, for the reason that the engine's word names.
    Pending(String),
    /// It runs on this machine, or its processes there are being ended. Counts how often the engine has
    /// started it again, or is to do so.
    Running { node: String, restarts: u32 },
    /// No process of it runs any more, and none will.
    Ended(String),
    /// The engine cannot be asked about it.
    Unknown,
}

/// What a job, or its worker, is to do. An engine may be unable to notify workers: these look into their
/// inboxes from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineSignal {
    /// The job is to end, or not to start.
    End,
    /// The worker is to end the job as killed.
    Kill,
    /// The worker is to look into its inbox.
    Inbox,
}

/// A failed call of an engine's command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program}: {why}")]
pub(crate) struct EngineError {
    pub program: &'static str,
    pub why: String,
    /// The call may succeed later.
    pub is_temporary: bool,
    /// The command may have had its effect nevertheless.
    pub may_have_worked: bool,
}

impl EngineError {
    pub(super) fn new(program: &'static str, why: impl Into<String>) -> Self {
        Self { program, why: why.into(), is_temporary: false, may_have_worked: false }
    }
}
