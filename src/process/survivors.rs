//! Processes to which SIGKILL was sent, until they have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::ProcessHandle;
use super::proc::{Process, ProcessId};
use crate::job::{LeftProcess, LeftReason};

/// Processes to which SIGKILL was sent, or which may not be signalled.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    /// The handle by which each can be waited for; `None` if it may not be signalled.
    handles: BTreeMap<ProcessId, Option<ProcessHandle>>,
    /// Number of processes that have ended.
    pub ended: usize,
}

impl Survivors {
    /// Sends SIGKILL to a process unless that was done before; returns whether it was not.
    /// `belongs` checks the process again after its handle was opened: before, its number may have
    /// been given to another process.
    pub(super) fn kill(&mut self, id: ProcessId, belongs: impl FnOnce() -> bool) -> bool {
        if self.handles.contains_key(&id) {
            return false;
        }
        // It has ended, or no descriptor is free: then the next search finds it again.
        let Ok(handle) = ProcessHandle::open(id.pid) else { return true };
        if !belongs() {
            return true;
        }
        match handle.signal(Signal::SIGKILL) {
            Ok(()) => self.handles.insert(id, Some(handle)),
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                self.handles.insert(id, None)
            }
            Err(_) => None,
        };
        true
    }

    /// Adds a process that was sent SIGKILL by this handle. Returns false if it has ended, so that the
    /// number that `id` was read by may belong to another one.
    pub(super) fn add_killed(&mut self, id: ProcessId, handle: ProcessHandle) -> bool {
        let lives = !handle.has_ended();
        if lives {
            self.handles.insert(id, Some(handle));
        } else {
            self.ended += 1;
        }
        lives
    }

    /// Returns whether the process was sent SIGKILL, or may not be signalled.
    pub(super) fn contain(&self, id: ProcessId) -> bool {
        self.handles.contains_key(&id)
    }

    /// Adds the processes that have not ended to `living`, which lacks those that were found among the
    /// newest and have lost their environment since.
    pub(super) fn add_ending(&self, living: &mut Vec<ProcessId>) {
        for (id, handle) in &self.handles {
            if !living.contains(id) && handle.as_ref().is_some_and(|handle| !handle.has_ended()) {
                living.push(*id);
            }
        }
    }

    /// Closes the handles of the processes that are not among the living.
    pub(super) fn forget_ended(&mut self, living: &[ProcessId]) {
        let living: BTreeSet<&ProcessId> = living.iter().collect();
        let mut ended = 0;
        self.handles.retain(|id, handle| {
            let lives = living.contains(id);
            ended += usize::from(!lives && handle.is_some());
            lives
        });
        self.ended += ended;
    }

    /// Returns whether the process may not be signalled.
    pub(super) fn is_refused(&self, id: ProcessId) -> bool {
        matches!(self.handles.get(&id), Some(None))
    }

    /// Sleeps until one of these processes has ended, or for `timeout`; without pidfds always for
    /// that time.
    pub(super) fn wait(&self, living: &[ProcessId], timeout: Duration) {
        let mut fds = Vec::new();
        for id in living {
            if let Some(Some(handle)) = self.handles.get(id)
                && let Some(fd) = handle.pidfd()
            {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
            }
        }
        let _ = poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO));
    }

    /// Returns the processes among these that still live, with the reason.
    pub(super) fn left(&self, living: &[ProcessId]) -> Vec<LeftProcess> {
        let mut left = Vec::new();
        for id in living {
            let Some(process) = Process::living(id.pid) else { continue };
            if process.id != *id {
                continue;
            }
            let why = match process.state {
                _ if self.is_refused(*id) => LeftReason::OtherUser,
                'D' => LeftReason::Uninterruptible,
                _ => LeftReason::NotEnded,
            };
            let uid = process.uid().unwrap_or_default();
            let ProcessId { pid, start_time } = *id;
            left.push(LeftProcess { pid, start_time, uid, name: process.name, why });
        }
        left
    }
}
