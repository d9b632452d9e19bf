//! `notifications/`: the notifications of a job that are due, and their deliveries.
//!
//! A log records each notification once the job's record has the event, and then each delivery. The
//! end of a job that was not recorded here, because a process died before that or the disk was full,
//! is due by the job's record alone. So no notification is lost, and none reports an event that did
//! not happen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::flock::{LockMode, lock_bounded, try_lock};
use super::lines::json_lines;
use super::lock_holder::{written_holder, yielding_holder};
use super::{Context, JobDir, Lock, StoreError, files};
use crate::job::{FORMAT_VERSION, Notification, NotifyEvent, Record, Spec, Timestamp};
use crate::process::{self, JobMarker, ProcessHandle};

/// Name of the directory in the job's directory. Processes that deliver notifications have its path
/// as their marker, so that no sweep of the job ends them. The notifier holds the `lock` in it.
const NOTIFICATIONS: &str = "notifications";
/// Name that earlier versions use. A job that has a directory of this name continues to use it.
const LEGACY_NOTIFICATIONS: &str = "news";
const NOTIFICATION_LOG: &str = "journal.ndjson";
const MAX_LOG_BYTES: u64 = 4 << 20;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
enum NotificationLine {
    #[serde(rename_all = "camelCase")]
    Delivery {
        number: u64,
        at: Timestamp,
        to: String,
        delivered: bool,
        tries: u32,
        error: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Due { number: u64, at: Timestamp, attempt: u32, event: NotifyEvent },
}

fn recipients(spec: &Spec) -> Vec<String> {
    let notify = &spec.notify;
    crate::job::recipients(&notify.on_event, notify.wake.as_ref(), notify.openclaw.as_ref())
}

fn is_wanted(spec: &Spec, event: NotifyEvent) -> bool {
    let filter = &spec.notify.on_event_filter;
    (filter.is_empty() || filter.contains(&event)) && !recipients(spec).is_empty()
}

/// A notification that is due.
#[derive(Clone, Copy)]
struct DueEvent {
    number: u64,
    /// `None` if it is due only by the job's record.
    at: Option<Timestamp>,
    attempt: u32,
    event: NotifyEvent,
}

fn due_notifications(lines: &[NotificationLine]) -> Vec<DueEvent> {
    let mut due = Vec::new();
    for line in lines {
        if let NotificationLine::Due { number, at, attempt, event } = *line {
            due.push(DueEvent { number, at: Some(at), attempt, event });
        }
    }
    due
}

/// Whether the end of the attempt is among these notifications.
fn has_end(due: &[DueEvent], attempt: u32) -> bool {
    due.iter().any(|known| known.attempt == attempt && known.event != NotifyEvent::Blocked)
}

fn next_number(due: &[DueEvent]) -> u64 {
    due.iter().map(|known| known.number + 1).max().unwrap_or(1)
}

/// Whether a job's directory of notifications has this name.
pub(super) fn is_notifications_name(name: &str) -> bool {
    [NOTIFICATIONS, LEGACY_NOTIFICATIONS].contains(&name)
}

/// Whether this is the notifications directory of a job that has recipients, and not the directory
/// of a job.
pub(super) fn is_notifications_dir(path: &Path) -> bool {
    let names = [NOTIFICATIONS, LEGACY_NOTIFICATIONS];
    if !names.iter().any(|name| path.ends_with(name)) || !path.is_dir() {
        return false;
    }
    let Some(parent) = path.parent() else { return false };
    let Some(job) = JobDir::at(parent.to_owned()) else { return false };
    matches!(job.load(), Ok(record) if !recipients(&record.spec).is_empty())
}

impl JobDir {
    /// Returns the directory of the job's notifications, whether or not it exists.
    pub(crate) fn notifications_dir(&self) -> PathBuf {
        let legacy = self.file(LEGACY_NOTIFICATIONS);
        if legacy.is_dir() { legacy } else { self.file(NOTIFICATIONS) }
    }

    /// Whether a notification of the job was ever due.
    pub(crate) fn has_notifications(&self) -> bool {
        self.notifications_dir().is_dir()
    }

    /// Records durably that a notification is due. The end of an attempt is recorded once, whichever
    /// processes find it. Returns whether the event has recipients.
    pub(crate) fn record_due(
        &self,
        spec: &Spec,
        event: NotifyEvent,
        attempt: u32,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        if !is_wanted(spec, event) {
            return Ok(false);
        }
        files::create_directory(&self.notifications_dir(), false)?;
        let due = due_notifications(&self.notification_log());
        if event == NotifyEvent::Blocked || !has_end(&due, attempt) {
            let number = next_number(&due);
            self.append_to_log(&NotificationLine::Due { number, at, attempt, event }, true)?;
        }
        Ok(true)
    }

    /// Records the notification of a job's end that was not recorded when the job ended. This comes
    /// before its delivery: an end that cannot be recorded would be delivered again and again.
    pub(crate) fn record_end_due(&self, record: &Record, at: Timestamp) -> Result<(), StoreError> {
        let due = due_notifications(&self.notification_log());
        if let Some(DueEvent { attempt, event, .. }) = self.unrecorded_end(record, &due) {
            self.record_due(&record.spec, event, attempt, at)?;
        }
        Ok(())
    }

    /// Records that a delivery is being tried: the process that tries it may die before it records
    /// the result.
    pub(crate) fn record_try(
        &self,
        notification: &Notification,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.record_attempt(notification, at, false, None)
    }

    /// Records the result of a delivery.
    pub(crate) fn record_delivery(
        &self,
        notification: &Notification,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let error = notification.error.clone();
        self.record_attempt(notification, at, error.is_none(), error)
    }

    fn record_attempt(
        &self,
        Notification { number, to, tries, .. }: &Notification,
        at: Timestamp,
        delivered: bool,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let (number, to, tries) = (*number, to.clone(), *tries);
        let line = NotificationLine::Delivery { number, at, to, delivered, tries, error };
        self.append_to_log(&line, false)
    }

    /// Returns the notifications of the job that were not delivered, in order. Those whose delivery
    /// failed are included.
    pub(crate) fn notifications(&self, record: &Record) -> Vec<Notification> {
        // Most jobs have no recipients: their files need not be read.
        let recipients = recipients(&record.spec);
        if recipients.is_empty() {
            return Vec::new();
        }
        let lines = self.notification_log();
        let mut deliveries = BTreeMap::new();
        for line in &lines {
            if let NotificationLine::Delivery { number, to, delivered, tries, error, .. } = line {
                deliveries.insert((*number, to.as_str()), (*delivered, *tries, error.clone()));
            }
        }
        let mut due = due_notifications(&lines);
        due.extend(self.unrecorded_end(record, &due));
        let mut notifications = Vec::new();
        for DueEvent { number, at: due_at, event, .. } in due {
            for to in &recipients {
                let (tries, error) = match deliveries.get(&(number, to.as_str())) {
                    Some((true, ..)) => continue,
                    Some((false, tries, error)) => (*tries, error.clone()),
                    None => (0, None),
                };
                let (to, hint) = (to.clone(), None);
                let notification = Notification { number, event, to, tries, error, hint, due_at };
                notifications.push(notification);
            }
        }
        notifications
    }

    /// Takes the lock of the process that delivers notifications, which is asked to yield it. Fails
    /// as busy when its holder writes nothing to the log for `bound`: it may be stopped.
    pub(crate) fn lock_notifications(&self, bound: Duration) -> Result<Lock, StoreError> {
        let (path, file) = self.open_notifications_lock()?;
        let asked = Cell::new(None);
        lock_bounded(&file, &path, LockMode::Exclusive, bound, |file| {
            let yielding = yielding_holder(file);
            if yielding.is_some() && yielding != asked.replace(yielding) {
                self.ask_to_yield(file, &path);
            }
            (written_holder(file), self.notification_log_length())
        })?;
        Ok(Lock(file))
    }

    /// Asks the holder of this lock to end in its next pause. The process is opened before it is
    /// checked: its number cannot have been reused.
    fn ask_to_yield(&self, lock: &File, path: &Path) {
        let Some(holder) = yielding_holder(lock) else { return };
        let Ok(handle) = ProcessHandle::open(holder.pid) else { return };
        let is_holder = holder.is_alive()
            && JobMarker::new(&self.notifications_dir()).is_on(holder.pid)
            && process::holds_lock(holder.pid, path);
        if is_holder {
            let _ = handle.signal(Signal::SIGUSR1);
        }
    }

    /// Whether the process that holds the notification lock, or held it last, has ended in a pause
    /// or will do so if it was asked.
    pub(crate) fn notifier_yields(&self) -> bool {
        matches!(self.open_notifications_lock(), Ok((_, lock)) if yielding_holder(&lock).is_some())
    }

    /// Takes the lock of the process that delivers notifications. Returns `None` if another process
    /// holds it.
    pub(crate) fn try_lock_notifications(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_notifications_lock()?;
        let is_free = try_lock(&file, &path, LockMode::Exclusive)?;
        Ok(if is_free { Some(Lock(file)) } else { None })
    }

    fn open_notifications_lock(&self) -> Result<(PathBuf, File), StoreError> {
        // The directory is missing if the end could not be recorded.
        files::create_directory(&self.notifications_dir(), false)?;
        let path = self.notifications_dir().join(super::LOCK);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.read(true).write(true).create(true));
        let file = file.context("open", &path)?;
        Ok((path, file))
    }

    /// Returns the notification of the job's end if it is due and not among these of the log, with
    /// the number that it will get.
    fn unrecorded_end(&self, record: &Record, due: &[DueEvent]) -> Option<DueEvent> {
        // How another version of the program records a delivery is unknown.
        if record.status.is_live() || record.version != FORMAT_VERSION {
            return None;
        }
        let event = NotifyEvent::from_status(record.status)?;
        let attempt = record.attempt.number;
        if !is_wanted(&record.spec, event) || has_end(due, attempt) {
            return None;
        }
        // The part of a very long log that is not read may have it.
        if self.notification_log_length() >= MAX_LOG_BYTES {
            return None;
        }
        Some(DueEvent { number: next_number(due), at: None, attempt, event })
    }

    fn notification_log_length(&self) -> u64 {
        files::length(&self.notifications_dir().join(NOTIFICATION_LOG))
    }

    fn notification_log(&self) -> Vec<NotificationLine> {
        let path = self.notifications_dir().join(NOTIFICATION_LOG);
        match files::open_to_read(&path) {
            Ok(file) => json_lines(file.take(MAX_LOG_BYTES)).collect(),
            Err(_) => Vec::new(),
        }
    }

    fn append_to_log(&self, line: &NotificationLine, durable: bool) -> Result<(), StoreError> {
        let path = self.notifications_dir().join(NOTIFICATION_LOG);
        let file = files::append_line(&path, line)?;
        if durable {
            file.sync_data().context("write", &path)?;
        }
        Ok(())
    }
}
