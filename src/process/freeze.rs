//! Freezing and thawing all descendants of this process, which must be a child subreaper.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::descendants::IsIndependent;
use super::proc::{self, Process, ProcessId, descends_from};
use super::{ProcessHandle, own_pid};

/// The descendants of a worker, except independent processes and their descendants.
pub(crate) struct ProcessTree<'a> {
    job_dir: &'a Path,
    is_independent: IsIndependent<'a>,
    signalled: BTreeSet<ProcessId>,
    refused: BTreeSet<ProcessId>,
    /// Process ids of processes that had ended when they were found.
    ended: BTreeSet<i32>,
}

/// Result of a search for processes that are to be stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FreezeProgress {
    /// Number of processes that are stopped.
    pub stopped: usize,
    /// Number of processes that are not: they were just sent SIGSTOP, or may not be signalled.
    pub running: usize,
    /// Only processes that may not be signalled are left.
    pub is_settled: bool,
    /// Some were sent SIGSTOP for the first time, and may have started others before.
    pub has_new: bool,
}

impl<'a> ProcessTree<'a> {
    /// For this process, which must be the worker of the job in this directory.
    pub(crate) fn of_worker(job_dir: &'a Path, is_independent: IsIndependent<'a>) -> Self {
        let (signalled, refused) = (BTreeSet::new(), BTreeSet::new());
        Self { job_dir, is_independent, signalled, refused, ended: BTreeSet::new() }
    }

    /// Sends SIGSTOP to the processes whose parents are stopped. Must be repeated, with reaping in
    /// between, until it is settled.
    ///
    /// If a parent were just exiting, the kernel would send SIGHUP to its stopped child, as a member
    /// of a process group that has become orphaned.
    pub(crate) fn freeze(&mut self) -> io::Result<FreezeProgress> {
        let mut found = FreezeProgress { is_settled: true, ..FreezeProgress::default() };
        let (mut signalled, mut refused) =
            (std::mem::take(&mut self.signalled), std::mem::take(&mut self.refused));
        let mut ended = std::mem::take(&mut self.ended);
        let walked = self.walk(|pid, process| {
            let Some(process) = process else {
                // Its children were adopted, perhaps after the list that has them was read.
                if ended.insert(pid) {
                    found.is_settled = false;
                }
                return false;
            };
            if is_stopped(process) {
                found.stopped += 1;
                return true;
            }
            found.running += 1;
            let id = process.id;
            if refused.contains(&id) {
                return true;
            }
            found.is_settled = false;
            found.has_new |= signalled.insert(id);
            if let Err(error) = signal(id, Signal::SIGSTOP)
                && error.raw_os_error() == Some(Errno::EPERM as i32)
            {
                refused.insert(id);
            }
            // It may wait for a child that it shares its memory with (vfork(2)).
            process.state == 'D'
        });
        (self.signalled, self.refused, self.ended) = (signalled, refused, ended);
        walked.map(|()| found)
    }

    /// Continues the processes, children first: a parent does not find a child that stands still.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let mut processes = Vec::new();
        self.walk(|_, process| {
            processes.extend(process.map(|process| process.id));
            true
        })?;
        for id in processes.into_iter().rev() {
            // A process of another user was not stopped either.
            let _ = signal(id, Signal::SIGCONT);
        }
        Ok(())
    }

    /// Calls `visit` with each process, parents first, and then with its children if that returns
    /// true. A process that has ended is `None`.
    fn walk(&self, mut visit: impl FnMut(i32, Option<&Process>) -> bool) -> io::Result<()> {
        let mut below = proc::children(own_pid())?;
        let mut index = 0;
        while let Some(&pid) = below.get(index) {
            index += 1;
            let Some(process) = Process::living(pid) else {
                visit(pid, None);
                continue;
            };
            let markers = process.markers();
            let mut others = markers.iter().filter(|marker| *marker != self.job_dir);
            if others.any(|marker| (self.is_independent)(marker, process.id)) {
                continue;
            }
            if visit(pid, Some(&process)) {
                below.extend(proc::children(pid).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Whether the process is stopped, by a signal or by a debugger.
fn is_stopped(process: &Process) -> bool {
    matches!(process.state, 'T' | 't')
}

/// Sends a signal to a descendant. Does nothing if it has ended.
fn signal(id: ProcessId, signal: Signal) -> io::Result<()> {
    let Ok(handle) = ProcessHandle::open(id.pid) else { return Ok(()) };
    // Its number may have been given to another process before the handle was opened.
    if ProcessId::from_pid(id.pid) != Some(id) || !descends_from(id.pid, own_pid()) {
        return Ok(());
    }
    handle.signal(signal)
}
