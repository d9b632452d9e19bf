//! Starts workers, detached from the process that starts them. This is the only place that does.

mod cgroup_unit;
mod detach;
mod engine;
mod local;
mod notifier;
mod slurm;

use std::time::Duration;

use crate::job::EngineKind;
pub(crate) use slurm::{Slurm, setting as slurm_setting};

pub(crate) use cgroup_unit::SCOPE_PREFIX;
pub(crate) use detach::{DetachMode, DetachPlan, lingers};
pub(crate) use engine::{
    Engine, EngineError, EngineJob, EngineSignal, EngineStates, EngineStatus, Submission,
};
pub(crate) use local::{LaunchError, Launched, launch};
pub(crate) use notifier::{spawn_notifier, spawn_notifier_if_idle};

// The first byte of the report that a worker writes to the pipe of its starter. The two may be of
// different versions: these values never change.

/// Claude runs.
pub(crate) const LAUNCHED: u8 = b'R';
/// Claude could not be started; the record says why.
pub(crate) const LAUNCH_FAILED: u8 = b'F';
/// The job is queued.
pub(crate) const QUEUED: u8 = b'Q';
/// There is no slot for a job that does not want to wait; the reason follows. The worker has
/// changed nothing, and the job is to be removed.
pub(crate) const NO_SLOT: u8 = b'N';
/// The queue's lock cannot be taken; the reason follows. Otherwise as [`NO_SLOT`].
pub(crate) const BUSY: u8 = b'B';

/// Returns the engine, whose commands may take this time each.
pub(crate) fn engine(kind: EngineKind, timeout: Duration) -> Result<Box<dyn Engine>, EngineError> {
    match kind {
        EngineKind::Slurm => Ok(Box::new(Slurm { timeout })),
        EngineKind::Unknown => {
            Err(EngineError::new("claudejob", "the job's engine is known only to a newer version"))
        }
    }
}
