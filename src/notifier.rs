//! The notifier: delivers a job's notifications in a process of its own, so that a command that
//! hangs does not delay the verdict.

mod message;
mod sending;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use crate::fault_point::fault_point;
use crate::job::Notification;
use crate::process;
use crate::store::{JobDir, LOCK_BOUND, LoadError, Lock};

pub(crate) use sending::check_token;

/// Pauses before each retry.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Delivers the notifications of the job in this directory. This is the hidden command that
/// [`crate::launch`] starts. `locked`: the starter passed the lock to this process.
pub(crate) fn run(job_dir: PathBuf, locked: bool) -> io::Result<()> {
    let job = JobDir::at(job_dir).ok_or(io::ErrorKind::InvalidInput)?;
    let lock = match locked {
        true => Lock::inherited(process::take_inherited_lock()?),
        // If the other notifier is stopped, the next command that reads the job starts another one.
        false => job.lock_notifications(max_attempt_duration(&job)).map_err(io::Error::other)?,
    };
    deliver(&job, &lock, false).map(drop).map_err(io::Error::other)
}

/// Returns the longest time between two lines that a notifier writes to its log.
fn max_attempt_duration(job: &JobDir) -> Duration {
    let [.., pause] = RETRY_PAUSES;
    sending::max_duration(job) + pause + LOCK_BOUND
}

/// Delivers all notifications again, including those that had failed. Returns those that failed.
pub(crate) fn redeliver(job: &JobDir) -> Result<Vec<Notification>, LoadError> {
    let lock = job.lock_notifications(LOCK_BOUND)?;
    deliver(job, &lock, true)
}

fn deliver(job: &JobDir, lock: &Lock, retry_failed: bool) -> Result<Vec<Notification>, LoadError> {
    lock.record_holder();
    fault_point("notifier:locked");
    // Processes that a command starts become children of this one when the command is killed.
    let _ = process::adopt_orphans();
    let record = job.load()?;
    job.record_end_due(&record, clock::now())?;
    // An earlier notifier was killed during this attempt, and its command may still run.
    if job.notifications(&record).iter().any(|it| it.error.is_none() && it.tries > 0) {
        sending::sweep(job);
    }
    let mut tried = Vec::new();
    loop {
        let left = job.notifications(&record);
        let next = left.iter().find(|notification| {
            let is_pending = notification.error.is_none() || retry_failed;
            is_pending && !tried.contains(&(notification.number, notification.to.clone()))
        });
        let Some(mut notification) = next.cloned() else { return Ok(left) };
        tried.push((notification.number, notification.to.clone()));
        // `redeliver` does not retry: its caller waits, and can repeat the call. An interrupted
        // attempt counts as one.
        let pauses = if retry_failed {
            Some(&[][..])
        } else {
            RETRY_PAUSES.get(notification.tries as usize..)
        };
        notification.error = deliver_with_retries(job, &mut notification, pauses);
        // If the result cannot be recorded, the notification is sent again later: twice is better
        // than never.
        let _ = job.record_delivery(&notification, clock::now());
    }
}

/// Sends a notification, and retries after each of these pauses; returns why it failed. `None` for
/// `pauses`: all attempts have been made.
fn deliver_with_retries(
    job: &JobDir,
    notification: &mut Notification,
    pauses: Option<&[Duration]>,
) -> Option<String> {
    let Some(pauses) = pauses else {
        return Some("the notifier was killed at each attempt".to_owned());
    };
    let mut pauses = pauses.iter();
    loop {
        notification.tries += 1;
        // If the attempt cannot be recorded, it is made all the same.
        let _ = job.record_try(notification, clock::now());
        let record = match job.load() {
            Ok(record) => record,
            Err(error) => return Some(error.to_string()),
        };
        let result = sending::send(job, &record, notification);
        let Err(failure) = result else { return None };
        match pauses.next() {
            Some(pause) if failure.is_retryable => std::thread::sleep(*pause),
            _ => return Some(failure.why),
        }
    }
}
