//! Sending somebody out with a job's news.

use std::os::fd::AsFd;
use std::process::Command;

use crate::process;
use crate::store::{JobDir, Lock};

/// Starts the [courier](crate::courier) of a job, which goes on by itself. Its mark is not the
/// job's: it outlives the job's sweep.
pub fn send_courier(job: &JobDir) {
    // One who is out already may have read the journal for the last time: another waits for it.
    send(job, job.try_lock_news().ok().flatten().as_ref());
}

/// The same, if none is out with the job's news.
pub fn send_courier_if_none_is_out(job: &JobDir) {
    if let Ok(Some(lock)) = job.try_lock_news() {
        send(job, Some(&lock));
    }
}

/// The lock passes to it without a moment in which nobody holds it, so that it counts as out from
/// now on.
fn send(job: &JobDir, lock: Option<&Lock>) {
    let mut command = Command::new(crate::claude::own_executable());
    command.arg("courier").arg(job.path());
    process::mark(&mut command, job.news_dir().path());
    if lock.is_some() {
        command.arg("locked");
    }
    // Should it fail, whoever looks at the job after its end sends another.
    if let Ok(courier) = process::spawn_detached(&mut command, lock.map(AsFd::as_fd)) {
        process::leave(courier);
    }
}
