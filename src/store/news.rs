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

use super::flock::{Mode, lock_bounded};
use super::{Context, JobDir, Lock, StoreError, files};
use crate::job::{Errand, FORMAT_VERSION, Milestone, Record, Spec, Timestamp};

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

fn is_wanted(spec: &Spec, event: Milestone) -> bool {
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
fn due(line: &Line) -> Option<(u64, u32, Milestone)> {
    match line {
        Line::Due { number, attempt, event, .. } => Some((*number, *attempt, *event)),
        Line::Delivery { .. } => None,
    }
}

impl JobDir {
    /// The directory that marks whoever delivers the job's news.
    pub fn news_dir(&self) -> JobDir {
        JobDir::at(self.file(NEWS))
    }

    /// Whether this is such a directory, and not that of a job: that of a job of which somebody is
    /// to be notified.
    pub(super) fn is_news_dir(&self) -> bool {
        let Some(job) = self.path().parent() else { return false };
        self.path().file_name().is_some_and(|name| name == NEWS)
            && self.path().is_dir()
            && Self::at(job.to_owned())
                .load()
                .is_ok_and(|record| !recipients(&record.spec).is_empty())
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
        if !is_wanted(spec, event) {
            return Ok(false);
        }
        files::make_directory(&self.file(NEWS), false)?;
        let mut number = 0;
        for (last, of, known) in self.journal().iter().filter_map(due) {
            let are_ends = known != Milestone::Blocked && event != Milestone::Blocked;
            if of == attempt && are_ends {
                return Ok(true);
            }
            number = number.max(last);
        }
        self.note(&Line::Due { number: number + 1, at, attempt, event }, true)?;
        Ok(true)
    }

    /// Notes the end of a job that is due and was not noted when it came. To be done before it is
    /// told: what cannot be noted would be told again and again.
    pub fn announce_end(&self, record: &Record, at: Timestamp) -> Result<(), StoreError> {
        match self.unnoted_end(record, &self.journal()) {
            Some((_, attempt, event)) => self.announce(&record.spec, event, attempt, at).map(drop),
            None => Ok(()),
        }
    }

    /// Notes that a delivery is being tried: whoever tries it may not live to note how it went.
    pub fn note_try(&self, errand: &Errand, at: Timestamp) -> Result<(), StoreError> {
        self.note_errand(errand, at, false, None)
    }

    /// Notes how a delivery went.
    pub fn note_delivery(&self, errand: &Errand, at: Timestamp) -> Result<(), StoreError> {
        self.note_errand(errand, at, errand.error.is_none(), errand.error.clone())
    }

    fn note_errand(
        &self,
        Errand { number, to, tries, .. }: &Errand,
        at: Timestamp,
        delivered: bool,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let (number, to, tries) = (*number, to.clone(), *tries);
        self.note(&Line::Delivery { number, at, to, delivered, tries, error }, false)
    }

    /// What is still to be told of the job of this record, in order: also what somebody gave up.
    pub fn errands(&self, record: &Record) -> Vec<Errand> {
        // Of most jobs nobody is told: that costs no look at their files.
        let recipients = recipients(&record.spec);
        if recipients.is_empty() {
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
        let unnoted = self.unnoted_end(record, &lines);
        for (number, _, event) in lines.iter().filter_map(due).chain(unnoted) {
            for to in &recipients {
                let (tries, error) = match deliveries.get(&(number, to.as_str())) {
                    Some((true, ..)) => continue,
                    Some((false, tries, error)) => (*tries, error.clone()),
                    None => (0, None),
                };
                errands.push(Errand { number, event, to: to.clone(), tries, error });
            }
        }
        errands
    }

    /// Takes the lock of the process that delivers notifications. Fails as busy when its holder
    /// notes nothing for as long as `bound`: it may be stopped.
    pub fn lock_news(&self, bound: Duration) -> Result<Lock, StoreError> {
        let (path, file) = self.open_news_lock()?;
        lock_bounded(&file, &path, Mode::Exclusive, bound, |file| {
            (written_holder(file), self.news_dir().length(JOURNAL))
        })?;
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
        // Of an end that could not be noted not even that is there.
        files::make_directory(&self.file(NEWS), false)?;
        let path = self.news_dir().file(super::LOCK);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.read(true).write(true).create(true).mode(0o600));
        let file = file.context("open", &path)?;
        Ok((path, file))
    }

    /// The end of the job of this record, if somebody wants to know of it and the journal does
    /// not: in the form of [`due`], numbered as it would be noted.
    fn unnoted_end(&self, record: &Record, journal: &[Line]) -> Option<(u64, u32, Milestone)> {
        // What another version has told, and how it noted that, is not known here.
        let ended = !record.status.is_live() && record.version == FORMAT_VERSION;
        let event = Milestone::of(record.status).filter(|_| ended)?;
        let noted = || journal.iter().filter_map(due);
        let is_end = |event| event != Milestone::Blocked;
        let is_noted = noted().any(|(_, of, known)| of == record.attempt && is_end(known));
        let unnoted = is_wanted(&record.spec, event) && !is_noted;
        // It can stand where a very long journal is not read any more.
        let is_read = || self.news_dir().length(JOURNAL) < JOURNAL_READ;
        let number = noted().map(|(number, ..)| number).max().unwrap_or_default() + 1;
        (unnoted && is_read()).then_some((number, record.attempt, event))
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
