//! Killing all descendants of this process, which must be a child subreaper, so that the processes
//! that they start stay its descendants.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::proc::{self, Process, ProcessId, descends_from};
use super::survivors::Survivors;
use super::{TOO_FAST, own_pid};
use crate::job::Leftovers;

/// Returns whether a process with this marker continues although the job ends: it is the worker of
/// another job, or a notifier.
pub(super) type IsIndependent<'a> = &'a dyn Fn(&Path, ProcessId) -> bool;

/// How long to wait for a process that may not be signalled to end by itself.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(1);

/// Result of a walk over the descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillProgress {
    /// Only independent processes were found.
    Nothing,
    /// Some were sent SIGKILL for the first time, and may have started others before.
    More,
    /// All that live were sent SIGKILL before, or may not be signalled.
    Dying,
}

/// Kills the descendants of this process.
#[derive(Debug)]
pub(crate) struct Descendants {
    job_dir: PathBuf,
    survivors: Survivors,
    living: Vec<ProcessId>,
    unlisted: Option<String>,
    refused_since: Option<Instant>,
}

impl Descendants {
    /// For this process, which must be the worker of the job in this directory.
    pub(crate) fn of_worker(job_dir: &Path) -> Self {
        Self {
            job_dir: job_dir.to_owned(),
            survivors: Survivors::default(),
            living: Vec::new(),
            unlisted: None,
            refused_since: None,
        }
    }

    /// Sends SIGKILL to every descendant, except independent processes and their descendants. Must be
    /// repeated, with reaping in between, until it finds nothing: a child of this process stays in
    /// its list until it is reaped, so that an empty list proves that there is none.
    pub(crate) fn kill(&mut self, is_independent: IsIndependent<'_>) -> io::Result<KillProgress> {
        self.living.clear();
        let own = own_pid();
        let mut below = match proc::children(own) {
            Ok(children) => children,
            Err(error) => {
                self.unlisted = Some(error.to_string());
                return Err(error);
            }
        };
        self.unlisted = None;
        let mut children_left = below.len();
        let mut found = KillProgress::Nothing;
        let mut index = 0;
        while let Some(&pid) = below.get(index) {
            index += 1;
            let is_child = children_left > 0;
            children_left = children_left.saturating_sub(1);
            let Some(process) = Process::living(pid) else {
                // A child that had ended, but was not reaped when the list was read, may have left
                // children that the kernel appended to the list since.
                if is_child {
                    found = KillProgress::More;
                }
                continue;
            };
            if self.is_independent(&process, is_independent) {
                continue;
            }
            let id = process.id;
            let is_new = self.survivors.kill(id, || is_child || descends_from(pid, own));
            found = if is_new || found == KillProgress::More {
                KillProgress::More
            } else {
                KillProgress::Dying
            };
            self.living.push(id);
            // Read after the signal: a process that was sent SIGKILL starts no other.
            below.extend(proc::children(pid).unwrap_or_default());
        }
        self.survivors.forget_ended(&self.living);
        Ok(found)
    }

    fn is_independent(&self, process: &Process, is_independent: IsIndependent<'_>) -> bool {
        let markers = process.markers();
        markers.iter().any(|marker| *marker != self.job_dir && is_independent(marker, process.id))
    }

    /// Returns the number of processes that have ended.
    pub(crate) fn ended(&self) -> usize {
        self.survivors.ended
    }

    /// Returns whether all that live may not be signalled, and had time to end by themselves.
    pub(crate) fn only_refused(&mut self) -> bool {
        if self.living.is_empty() || !self.living.iter().all(|id| self.survivors.is_refused(*id)) {
            self.refused_since = None;
            return false;
        }
        self.refused_since.get_or_insert_with(Instant::now).elapsed() >= REFUSED_TIMEOUT
    }

    /// Returns the processes that are left after the last walk, which has found some.
    pub(crate) fn left(&self) -> Leftovers {
        let processes = self.survivors.left(&self.living);
        let unlisted = match &self.unlisted {
            None if processes.is_empty() => Some(TOO_FAST.to_owned()),
            unlisted => unlisted.clone(),
        };
        Leftovers { processes, unlisted }
    }
}
