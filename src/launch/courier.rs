//! Sending somebody out with a job's news.

use std::process::Command;

use crate::process;
use crate::store::JobDir;

/// Starts the [courier](crate::courier) of a job, which goes on by itself. Its mark is not the
/// job's: it outlives the job's sweep.
pub fn send_courier(job: &JobDir) {
    let mut command = Command::new(crate::claude::own_executable());
    command.arg("courier").arg(job.path()).env(process::MARK, job.news_dir().path());
    // Should it fail, `list --undelivered` shows what was not told.
    let _ = process::spawn_detached(&mut command);
}
