//! Starts the process that delivers a job's notifications.

use std::os::fd::AsFd;
use std::process::Command;

use crate::hidden_verbs;
use crate::process;
use crate::store::{JobDir, Lock};

/// Starts the [notifier](crate::notifier) of a job as a detached process. Its marker differs from
/// the job's, so that it is not ended with the job's processes.
pub(crate) fn spawn_notifier(job: &JobDir) {
    // A running notifier may have read the events for the last time: the new one waits for its
    // lock.
    spawn(job, job.try_lock_notifications().ok().flatten().as_ref());
}

/// The same, unless a notifier of the job is running.
pub(crate) fn spawn_notifier_if_idle(job: &JobDir) {
    if let Ok(Some(lock)) = job.try_lock_notifications() {
        spawn(job, Some(&lock));
    }
}

/// Starts a notifier that inherits the lock. It counts as running from now on, because the lock is
/// never free in between.
fn spawn(job: &JobDir, lock: Option<&Lock>) {
    let mut command = Command::new(crate::claude::own_executable());
    command.arg(hidden_verbs::NOTIFIER).arg(job.path());
    process::set_marker(&mut command, &job.notifications_dir());
    if lock.is_some() {
        command.arg("locked");
    }
    // If this fails, the next program that reads the job after its end starts another.
    if let Ok(notifier) = process::spawn_detached(&mut command, lock.map(AsFd::as_fd)) {
        process::detach(notifier);
    }
}
