//! Pauses: files in `.queue/paused` that keep jobs from being admitted.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use serde::Serialize;

use super::files::{create_dir, create_file};
use super::{Queue, Ticket};
use crate::fault_point::fault_point;
use crate::job::{JobId, WaitKind, WaitingFor};

/// Directory of the pauses. Workers of versions that do not know it admit paused jobs.
pub(super) const PAUSED: &str = "paused";
/// Name of the file that pauses every job. A job id cannot begin with `@`.
const ALL: &str = "@all";
/// Begins the name of a file that pauses a group.
const GROUP_PREFIX: &str = "@group.";

/// What is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PauseScope {
    /// Every job.
    All,
    /// The jobs of a group.
    Group(String),
    Job(JobId),
}

impl PauseScope {
    fn file_name(&self) -> String {
        match self {
            Self::All => ALL.to_owned(),
            Self::Group(group) => format!("{GROUP_PREFIX}{group}"),
            Self::Job(id) => id.to_string(),
        }
    }

    /// Returns a sentence that says what is paused.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::All => "the queue is paused".to_owned(),
            Self::Group(group) => format!("group {group} is paused"),
            Self::Job(_) => "it is paused".to_owned(),
        }
    }

    /// Returns the wait of a job that this pause holds back.
    pub(crate) fn waiting_for(&self) -> WaitingFor {
        let hint = match self {
            Self::All => "claudejob unpause".to_owned(),
            Self::Group(group) => format!("claudejob unpause --group {group}"),
            Self::Job(id) => format!("claudejob unpause {id}"),
        };
        WaitingFor { hint: Some(hint), ..WaitingFor::new(WaitKind::Paused, None, self.why()) }
    }
}

/// All that is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PauseSet {
    /// The whole queue is paused.
    pub all: bool,
    /// The groups that are paused.
    pub groups: BTreeSet<String>,
    /// The jobs that are paused by id.
    pub jobs: BTreeSet<JobId>,
}

impl PauseSet {
    /// Returns the pause that applies to a job; `None` if none does.
    pub(crate) fn find(&self, job: &JobId, group: Option<&str>) -> Option<PauseScope> {
        if self.all {
            return Some(PauseScope::All);
        }
        if let Some(group) = group
            && self.groups.contains(group)
        {
            return Some(PauseScope::Group(group.to_owned()));
        }
        if self.jobs.contains(job) { Some(PauseScope::Job(job.clone())) } else { None }
    }

    /// Returns whether the job of this ticket is paused.
    pub(crate) fn holds(&self, ticket: &Ticket) -> bool {
        self.find(&ticket.job_id, ticket.options.group.as_deref()).is_some()
    }

    /// Returns each pause.
    pub(crate) fn pauses(&self) -> Vec<PauseScope> {
        let mut pauses = Vec::new();
        if self.all {
            pauses.push(PauseScope::All);
        }
        pauses.extend(self.groups.iter().cloned().map(PauseScope::Group));
        pauses.extend(self.jobs.iter().cloned().map(PauseScope::Job));
        pauses
    }

    /// Adds the pause of a file with this name; any other file means nothing.
    fn add_file(&mut self, name: &str) {
        if name == ALL {
            self.all = true;
        } else if let Some(group) = name.strip_prefix(GROUP_PREFIX) {
            self.groups.insert(group.to_owned());
        } else if let Ok(job) = JobId::parse(name) {
            self.jobs.insert(job);
        }
    }
}

impl FromIterator<PauseScope> for PauseSet {
    fn from_iter<I: IntoIterator<Item = PauseScope>>(scopes: I) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            match scope {
                PauseScope::All => set.all = true,
                PauseScope::Group(group) => drop(set.groups.insert(group)),
                PauseScope::Job(job) => drop(set.jobs.insert(job)),
            }
        }
        set
    }
}

impl Queue {
    /// Returns all that is paused.
    pub(crate) fn paused(&self) -> PauseSet {
        let mut set = PauseSet::default();
        for name in self.file_names(PAUSED) {
            set.add_file(&name);
        }
        set
    }

    /// Pauses these jobs: when this returns, none of them is admitted any more.
    pub(crate) fn pause(&self, pauses: &[PauseScope]) -> io::Result<()> {
        loop {
            let lock = self.lock()?;
            create_dir(&self.path.join(PAUSED))?;
            for pause in pauses {
                create_file(&self.path.join(PAUSED).join(pause.file_name()))?;
            }
            fault_point("queue:paused");
            // Others may have decided since this process took the lock. They are waited for.
            if lock.is_latest() {
                break;
            }
        }
        // Jobs that waited behind the paused ones may be next.
        self.notify();
        Ok(())
    }

    /// Removes these pauses and wakes the workers that can admit jobs.
    pub(crate) fn unpause(&self, pauses: &[PauseScope]) -> io::Result<()> {
        let lock = self.lock()?;
        for pause in pauses {
            match fs::remove_file(self.path.join(PAUSED).join(pause.file_name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        drop(lock);
        self.notify();
        Ok(())
    }

    /// Removes the pause of a job that has ended. Pauses of its group and of the queue stay.
    pub(crate) fn remove_pause_of(&self, job: &JobId) {
        let _ = fs::remove_file(self.path.join(PAUSED).join(job.as_str()));
    }
}
