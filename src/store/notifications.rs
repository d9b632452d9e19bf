//! `news/`: what others are to be told of a job, and who has been told.
//!
//! The journal is appended to: what is to be told, once the record says that it has happened, and
//! then each delivery. An end that is not noted, because somebody died in between or the disk was
//! full, is due by its record alone. So nothing is forgotten, and nothing is told that is not so.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flock::{LockMode, lock_bounded};
use super::{Context, JobDir, Lock, StoreError, files};
use crate::job::{FORMAT_VERSION, Notification, NotifyEvent, Record, Spec, Timestamp};

/// Name of the directory in the job's directory. Processes that deliver notifications have its path
/// as their marker, so that no sweep of the job ends them. The notifier holds the `lock` in it.
const NOTIFICATIONS: &str = "notifications";
/// Name that earlier versions use. A job that has a directory of this name continues to use it.
const LEGACY_NOTIFICATIONS: &str = "news";
const NOTIFICATION_LOG: &str = "journal.ndjson";
const MAX_LOG_BYTES: u64 = 4 << 20;

/// One line of the journal.
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

/// Those who are told of a job.
pub fn recipients(spec: &Spec) -> Vec<String> {
    let commands = (1..=spec.on_event.len()).map(|place| format!("command {place}"));
    commands.chain(spec.wake.iter().map(|_| "wake".to_owned())).collect()
}

fn is_wanted(spec: &Spec, event: NotifyEvent) -> bool {
    let wanted = spec.on_event_filter.is_empty() || spec.on_event_filter.contains(&event);
    wanted && !recipients(spec).is_empty()
}

/// The process that holds the lock, as it wrote it there: the system names the one that took it,
/// and a lock that was handed on has another holder.
fn written_holder(file: &File) -> Option<i32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

/// The number, attempt and event of what is to be told.
fn due_notification(line: &NotificationLine) -> Option<(u64, u32, NotifyEvent)> {
    match line {
        NotificationLine::Due { number, attempt, event, .. } => Some((*number, *attempt, *event)),
        NotificationLine::Delivery { .. } => None,
    }
}

impl JobDir {
    /// Returns the directory of the job's notifications, whether or not it exists.
    pub fn notifications_dir(&self) -> JobDir {
        let legacy = self.file(LEGACY_NOTIFICATIONS);
        JobDir::at(if legacy.is_dir() { legacy } else { self.file(NOTIFICATIONS) })
    }

    /// Whether this is the notifications directory of a job that has recipients, and not the
    /// directory of a job.
    pub(super) fn is_notifications_dir(&self) -> bool {
        let Some(job) = self.path().parent() else { return false };
        let names = [NOTIFICATIONS, LEGACY_NOTIFICATIONS];
        self.path().file_name().is_some_and(|name| names.iter().any(|known| name == *known))
            && self.path().is_dir()
            && Self::at(job.to_owned())
                .load()
                .is_ok_and(|record| !recipients(&record.spec).is_empty())
    }

    /// Whether a notification of the job was ever due.
    pub fn has_notifications(&self) -> bool {
        self.notifications_dir().path().is_dir()
    }

    /// Notes durably that others are to be told. An end is noted once for each attempt, whoever
    /// comes to it. Says whether anybody is to be told.
    pub fn record_due(
        &self,
        spec: &Spec,
        event: NotifyEvent,
        attempt: u32,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        if !is_wanted(spec, event) {
            return Ok(false);
        }
        files::create_directory(self.notifications_dir().path(), false)?;
        let mut number = 0;
        for (last, of, known) in self.notification_log().iter().filter_map(due_notification) {
            let are_ends = known != NotifyEvent::Blocked && event != NotifyEvent::Blocked;
            if of == attempt && are_ends {
                return Ok(true);
            }
            number = number.max(last);
        }
        self.note(&NotificationLine::Due { number: number + 1, at, attempt, event }, true)?;
        Ok(true)
    }

    /// Notes the end of a job that is due and was not noted when it came. To be done before it is
    /// told: what cannot be noted would be told again and again.
    pub fn record_end_due(&self, record: &Record, at: Timestamp) -> Result<(), StoreError> {
        match self.unrecorded_end(record, &self.notification_log()) {
            Some((_, attempt, event)) => {
                self.record_due(&record.spec, event, attempt, at).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Notes that a delivery is being tried: whoever tries it may not live to note how it went.
    pub fn record_try(&self, errand: &Notification, at: Timestamp) -> Result<(), StoreError> {
        self.record_attempt(errand, at, false, None)
    }

    /// Notes how a delivery went.
    pub fn record_delivery(&self, errand: &Notification, at: Timestamp) -> Result<(), StoreError> {
        self.record_attempt(errand, at, errand.error.is_none(), errand.error.clone())
    }

    fn record_attempt(
        &self,
        Notification { number, to, tries, .. }: &Notification,
        at: Timestamp,
        delivered: bool,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let (number, to, tries) = (*number, to.clone(), *tries);
        self.note(&NotificationLine::Delivery { number, at, to, delivered, tries, error }, false)
    }

    /// What is still to be told of the job of this record, in order: also what somebody gave up.
    pub fn notifications(&self, record: &Record) -> Vec<Notification> {
        // Of most jobs nobody is told: that costs no look at their files.
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
        let mut errands = Vec::new();
        let unnoted = self.unrecorded_end(record, &lines);
        for (number, _, event) in lines.iter().filter_map(due_notification).chain(unnoted) {
            for to in &recipients {
                let (tries, error) = match deliveries.get(&(number, to.as_str())) {
                    Some((true, ..)) => continue,
                    Some((false, tries, error)) => (*tries, error.clone()),
                    None => (0, None),
                };
                errands.push(Notification { number, event, to: to.clone(), tries, error });
            }
        }
        errands
    }

    /// Takes the lock of the process that delivers notifications. Fails as busy when its holder
    /// notes nothing for as long as `bound`: it may be stopped.
    pub fn lock_notifications(&self, bound: Duration) -> Result<Lock, StoreError> {
        let (path, file) = self.open_notifications_lock()?;
        lock_bounded(&file, &path, LockMode::Exclusive, bound, |file| {
            (written_holder(file), self.notifications_dir().length(NOTIFICATION_LOG))
        })?;
        Ok(Lock(file))
    }

    /// Takes the lock of whoever delivers, if nobody does. `None`: somebody does.
    pub fn try_lock_notifications(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_notifications_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    fn open_notifications_lock(&self) -> Result<(PathBuf, File), StoreError> {
        // Of an end that could not be noted not even that is there.
        files::create_directory(self.notifications_dir().path(), false)?;
        let path = self.notifications_dir().file(super::LOCK);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.read(true).write(true).create(true).mode(0o600));
        let file = file.context("open", &path)?;
        Ok((path, file))
    }

    /// The end of the job of this record, if somebody wants to know of it and the journal does
    /// not: in the form of [`due`], numbered as it would be noted.
    fn unrecorded_end(
        &self,
        record: &Record,
        journal: &[NotificationLine],
    ) -> Option<(u64, u32, NotifyEvent)> {
        // What another version has told, and how it noted that, is not known here.
        let ended = !record.status.is_live() && record.version == FORMAT_VERSION;
        let event = NotifyEvent::from_status(record.status).filter(|_| ended)?;
        let noted = || journal.iter().filter_map(due_notification);
        let is_end = |event| event != NotifyEvent::Blocked;
        let is_noted = noted().any(|(_, of, known)| of == record.attempt && is_end(known));
        let unnoted = is_wanted(&record.spec, event) && !is_noted;
        // It can stand where a very long journal is not read any more.
        let is_read = || self.notifications_dir().length(NOTIFICATION_LOG) < MAX_LOG_BYTES;
        let number = noted().map(|(number, ..)| number).max().unwrap_or_default() + 1;
        (unnoted && is_read()).then_some((number, record.attempt, event))
    }

    fn notification_log(&self) -> Vec<NotificationLine> {
        let path = self.notifications_dir().file(NOTIFICATION_LOG);
        let text = files::read_bounded(&path, MAX_LOG_BYTES).unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    fn note(&self, line: &NotificationLine, durable: bool) -> Result<(), StoreError> {
        let path = self.notifications_dir().file(NOTIFICATION_LOG);
        let file = files::append_line(&path, line)?;
        if durable {
            file.sync_data().context("write", &path)?;
        }
        Ok(())
    }
}
