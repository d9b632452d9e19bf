//! `news/`: what others are to be told of a job, and who has been told.
//!
//! The journal is appended to: first what is to be told, before the record says that it has
//! happened, then each delivery. So nothing is forgotten, whoever dies in between.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Context, JobDir, Lock, StoreError, files};
use crate::job::{Errand, Milestone, Spec, Timestamp};

/// The directory's name in that of the job. What delivers bears it as its mark, and holds the
/// `lock` in it, as a worker does with its job's: so no sweep of the job ends it.
const NEWS: &str = "news";
const JOURNAL: &str = "journal.ndjson";
/// Bytes of the journal that are read.
const JOURNAL_READ: u64 = 4 << 20;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
enum Line {
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
    Due { number: u64, at: Timestamp, attempt: u32, event: Milestone },
}

/// Those who are told of a job.
pub fn recipients(spec: &Spec) -> Vec<String> {
    let commands = (1..=spec.on_event.len()).map(|place| format!("command {place}"));
    commands.chain(spec.wake.iter().map(|_| "wake".to_owned())).collect()
}

impl JobDir {
    /// The directory that marks whoever delivers the job's news.
    pub fn news_dir(&self) -> JobDir {
        JobDir::at(self.file(NEWS))
    }

    /// Whether anybody ever was to be told of the job.
    pub fn has_news(&self) -> bool {
        self.file(NEWS).is_dir()
    }

    /// Notes durably that others are to be told. An end is noted once for each attempt, whoever
    /// comes to it. Says whether anybody is to be told.
    pub fn announce(
        &self,
        spec: &Spec,
        event: Milestone,
        attempt: u32,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let wanted = spec.on_event_filter.is_empty() || spec.on_event_filter.contains(&event);
        if !wanted || recipients(spec).is_empty() {
            return Ok(false);
        }
        files::make_directory(&self.file(NEWS), false)?;
        let lines = self.journal();
        let mut number = 0;
        for line in &lines {
            if let Line::Due { number: last, attempt: of, event: known, .. } = line {
                if *of == attempt && *known == event && event != Milestone::Blocked {
                    return Ok(true);
                }
                number = number.max(*last);
            }
        }
        self.note(&Line::Due { number: number + 1, at, attempt, event }, true)?;
        Ok(true)
    }

    /// Notes how a delivery went.
    pub fn note_delivery(&self, errand: &Errand, at: Timestamp) -> Result<(), StoreError> {
        let Errand { number, to, tries, error, .. } = errand.clone();
        let delivered = error.is_none();
        self.note(&Line::Delivery { number, at, to, delivered, tries, error }, false)
    }

    /// What is still to be told, in order: also what somebody gave up.
    pub fn errands(&self, spec: &Spec) -> Vec<Errand> {
        // Of most jobs nobody is told: that costs no look at their files.
        if recipients(spec).is_empty() {
            return Vec::new();
        }
        let lines = self.journal();
        let mut deliveries = BTreeMap::new();
        for line in &lines {
            if let Line::Delivery { number, to, delivered, tries, error, .. } = line {
                deliveries.insert((*number, to.as_str()), (*delivered, *tries, error.clone()));
            }
        }
        let mut errands = Vec::new();
        for line in &lines {
            let Line::Due { number, event, .. } = line else { continue };
            for to in recipients(spec) {
                let (tries, error) = match deliveries.get(&(*number, to.as_str())) {
                    Some((true, ..)) => continue,
                    Some((false, tries, error)) => (*tries, error.clone()),
                    None => (0, None),
                };
                errands.push(Errand { number: *number, event: *event, to, tries, error });
            }
        }
        errands
    }

    /// Takes the lock of whoever delivers; waits for another who does.
    pub fn lock_news(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.open_news_lock()?;
        file.lock().context("lock", &path)?;
        Ok(Lock(file))
    }

    /// Takes the lock of whoever delivers, if nobody does. `None`: somebody does.
    pub fn try_lock_news(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_news_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    fn open_news_lock(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.news_dir().file(super::LOCK);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.write(true).create(true).mode(0o600));
        let file = file.context("open", &path)?;
        Ok((path, file))
    }

    fn journal(&self) -> Vec<Line> {
        let path = self.file(NEWS).join(JOURNAL);
        let text = files::read_bounded(&path, JOURNAL_READ).unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    fn note(&self, line: &Line, durable: bool) -> Result<(), StoreError> {
        let path = self.file(NEWS).join(JOURNAL);
        let file = files::append_line(&path, line)?;
        if durable {
            file.sync_data().context("write", &path)?;
        }
        Ok(())
    }
}
