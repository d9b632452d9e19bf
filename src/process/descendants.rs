//! The end of all processes below this one, which is a child subreaper: whatever they start stays
//! below it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::proc::{self, Process, ProcessId};
use super::survivors::Survivors;
use super::{MAX_ANCESTORS, TOO_FAST};
use crate::job::Leftovers;

/// Says of a process with this marker whether it goes on although the job ends: the worker of
/// another job, or what delivers notifications.
pub type IsIndependent<'a> = &'a dyn Fn(&Path, ProcessId) -> bool;

/// How long a process that may not be signalled gets to end by itself.
const REFUSED_TAKES: Duration = Duration::from_secs(1);

/// How a walk has found the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillProgress {
    /// There is none but independent ones.
    Nothing,
    /// Some were sent SIGKILL, and may have started others before.
    More,
    /// All that live were sent SIGKILL, or may not be.
    Dying,
}

/// Ends the processes below this one.
#[derive(Debug)]
pub struct Descendants {
    job_dir: PathBuf,
    survivors: Survivors,
    living: Vec<ProcessId>,
    unlisted: Option<String>,
    refused_since: Option<Instant>,
}

impl Descendants {
    /// Of the worker of the job in this directory, which must be this process.
    pub fn of_worker(job_dir: &Path) -> Self {
        Self {
            job_dir: job_dir.to_owned(),
            survivors: Survivors::default(),
            living: Vec::new(),
            unlisted: None,
            refused_since: None,
        }
    }

    /// Sends SIGKILL to every process below this one, but to independent ones and what is below
    /// them. To be repeated, with reaping in between, until it finds nothing: a child of this
    /// process stays in its list until it is reaped, so that an empty list is proof.
    pub fn kill(&mut self, is_independent: IsIndependent<'_>) -> io::Result<KillProgress> {
        self.living.clear();
        let own = std::process::id() as i32;
        let mut below = match proc::children(own) {
            Ok(children) => children,
            Err(error) => {
                self.unlisted = Some(error.to_string());
                return Err(error);
            }
        };
        self.unlisted = None;
        let mut is_child = below.len();
        let mut found = KillProgress::Nothing;
        let mut at = 0;
        while let Some(&pid) = below.get(at) {
            at += 1;
            let own_child = is_child > 0;
            is_child = is_child.saturating_sub(1);
            let Some(process) = Process::living(pid) else {
                // A child that had ended and was not reaped when the list was read may have left
                // others in it, behind the end.
                if own_child {
                    found = KillProgress::More;
                }
                continue;
            };
            if self.is_independent(&process, is_independent) {
                continue;
            }
            let id = process.id;
            let belongs = || own_child || descends_from(pid, own);
            let is_new = self.survivors.kill(id, belongs);
            found = if is_new || found == KillProgress::More {
                KillProgress::More
            } else {
                KillProgress::Dying
            };
            self.living.push(id);
            // Afterwards: one that was sent SIGKILL starts no other.
            below.extend(proc::children(pid).unwrap_or_default());
        }
        self.survivors.forget_ended(&self.living);
        Ok(found)
    }

    fn is_independent(&self, process: &Process, is_independent: IsIndependent<'_>) -> bool {
        let markers = process.markers();
        markers.iter().any(|marker| *marker != self.job_dir && is_independent(marker, process.id))
    }

    /// How many were sent SIGKILL.
    pub fn ended(&self) -> usize {
        self.survivors.ended
    }

    /// Whether all that live may not be signalled, and had time to end by themselves.
    pub fn only_refused(&mut self) -> bool {
        if self.living.is_empty() || !self.living.iter().all(|id| self.survivors.is_refused(*id)) {
            self.refused_since = None;
            return false;
        }
        self.refused_since.get_or_insert_with(Instant::now).elapsed() >= REFUSED_TAKES
    }

    /// What is left after the last walk, which has found something.
    pub fn left(&self) -> Leftovers {
        let processes = self.survivors.left(&self.living);
        let unlisted = match &self.unlisted {
            None if processes.is_empty() => Some(TOO_FAST.to_owned()),
            unlisted => unlisted.clone(),
        };
        Leftovers { processes, unlisted }
    }
}

/// Whether a process lives below `ancestor`.
fn descends_from(pid: i32, ancestor: i32) -> bool {
    let mut at = pid;
    for _ in 0..MAX_ANCESTORS {
        match proc::parent_of(at) {
            Some(parent) if parent == ancestor => return true,
            Some(parent) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}
