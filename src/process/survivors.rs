//! Processes that were sent SIGKILL, until they have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::ProcessHandle;
use super::proc::{Process, ProcessId};
use crate::job::{LeftProcess, LeftReason};

/// Processes that were sent SIGKILL, or could not be.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    /// Each with what it can be waited for by; `None` if it may not be signalled.
    signalled: BTreeMap<ProcessId, Option<ProcessHandle>>,
    /// How many have ended.
    pub ended: usize,
}

impl Survivors {
    /// Sends SIGKILL to a process unless that was done before; says whether it was not.
    /// `belongs` looks at the process once more when it is held: until then its number can have
    /// passed to another one.
    pub fn kill(&mut self, id: ProcessId, belongs: impl FnOnce() -> bool) -> bool {
        if self.signalled.contains_key(&id) {
            return false;
        }
        // It has ended, or there is no descriptor left: then the next walk comes back to it.
        let Ok(target) = ProcessHandle::open(id.pid) else { return true };
        if !belongs() {
            return true;
        }
        match target.signal(Signal::SIGKILL) {
            Ok(()) => self.signalled.insert(id, Some(target)),
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                self.signalled.insert(id, None)
            }
            Err(_) => None,
        };
        true
    }

    /// Closes the descriptors of those that are none of the living.
    pub fn forget_ended(&mut self, living: &[ProcessId]) {
        let living: BTreeSet<&ProcessId> = living.iter().collect();
        let mut ended = 0;
        self.signalled.retain(|id, target| {
            let lives = living.contains(id);
            ended += usize::from(!lives && target.is_some());
            lives
        });
        self.ended += ended;
    }

    /// Whether the process may not be signalled.
    pub fn is_refused(&self, id: ProcessId) -> bool {
        matches!(self.signalled.get(&id), Some(None))
    }

    /// Sleeps until one of these has ended, or for `most`.
    pub fn wait(&self, living: &[ProcessId], most: Duration) {
        #[cfg(target_os = "linux")]
        {
            use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
            let targets = living.iter().filter_map(|id| self.signalled.get(id)?.as_ref());
            let mut fds: Vec<PollFd> =
                targets.map(|target| PollFd::new(target.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO));
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = living;
            std::thread::sleep(most);
        }
    }

    /// Those of these that live, and why.
    pub fn left(&self, living: &[ProcessId]) -> Vec<LeftProcess> {
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
