//! Engines: schedulers that start workers on other machines.

use std::collections::HashMap;
use std::time::Duration;

use crate::job::{EngineRef, Spec};
use crate::store::JobDir;

/// A scheduler that starts workers.
///
/// Kubernetes would fit as well: `submit` creates a Job, `query` gets the pods, `cancel` deletes the
/// Job, and `wake` returns false, because the worker looks into its inbox from time to time.
pub(crate) trait Engine {
    /// Submits jobs, if possible several at once. Returns a result for each, up to the first that it
    /// does not accept and those that were submitted together with that one.
    fn submit(&self, jobs: &[Submission<'_>]) -> Vec<Result<EngineRef, EngineError>>;

    /// Returns the states of these jobs, or of all jobs of the user, by their ids. One that is missing
    /// has ended, and the engine has forgotten it.
    fn query(&self, jobs: Option<&[EngineRef]>) -> Result<EngineStates, EngineError>;

    /// Notifies the workers of running jobs, as far as there are any. Returns false if the engine cannot
    /// do so: the workers look into their inboxes from time to time.
    fn wake(&self, jobs: &[EngineRef], why: Wake) -> Result<bool, EngineError>;

    /// Ends the jobs, or removes them before they start. Succeeds if they have ended.
    fn cancel(&self, jobs: &[EngineRef]) -> Result<(), EngineError>;
}

/// The states of jobs by the engine's ids.
pub(crate) type EngineStates = HashMap<String, EngineStatus>;

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

/// Why a worker is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Kill,
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
