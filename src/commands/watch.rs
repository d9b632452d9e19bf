//! Waiting for jobs to end, without polling: their locks are let go.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::store::JobDir;

/// How long a change can stay unseen where no event tells of it: a worker that was killed writes
/// nothing.
#[cfg(target_os = "linux")]
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The same where the system has no events for files.
const LOOK_OFTEN: Duration = Duration::from_millis(200);

/// The changes of a directory's files.
pub(super) struct Changes {
    #[cfg(target_os = "linux")]
    inotify: Option<nix::sys::inotify::Inotify>,
}

impl Changes {
    /// Of the files of this directory, from now on.
    #[cfg(target_os = "linux")]
    pub(super) fn of(directory: &Path) -> Self {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let watch = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
            inotify.add_watch(directory, flags)?;
            Ok(inotify)
        };
        // A user's watches can be used up: then we look often.
        Self { inotify: watch().ok() }
    }

    /// Of the records of jobs in these directories: each is renamed into place.
    #[cfg(target_os = "linux")]
    pub(super) fn of_records<'a>(directories: impl Iterator<Item = &'a Path>) -> Self {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let watch = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            for directory in directories {
                inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
            }
            Ok(inotify)
        };
        Self { inotify: watch().ok() }
    }

    /// Sleeps until something happens, however long that takes.
    #[cfg(target_os = "linux")]
    pub(super) fn wait_on(&mut self) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let Some(inotify) = &self.inotify else { return std::thread::sleep(LOOK_OFTEN) };
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of_records<'a>(_directories: impl Iterator<Item = &'a Path>) -> Self {
        Self {}
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn wait_on(&mut self) {
        std::thread::sleep(LOOK_OFTEN);
    }

    /// Sleeps until a file was written or renamed into it, or for `most`, or some seconds.
    #[cfg(target_os = "linux")]
    pub(super) fn wait(&mut self, most: Option<Duration>) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let most = most.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
        let Some(inotify) = &self.inotify else {
            return std::thread::sleep(most.min(LOOK_OFTEN));
        };
        let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::NONE);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], most);
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_directory: &Path) -> Self {
        Self {}
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn wait(&mut self, most: Option<Duration>) {
        std::thread::sleep(most.unwrap_or(LOOK_OFTEN).min(LOOK_OFTEN));
    }
}

/// Watches several jobs.
pub(super) struct Watch {
    notices: Receiver<Notice>,
    tell: Sender<Notice>,
    left: usize,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The job at this place of the list has ended.
    Ended(usize),
    /// Some job's record was written anew.
    Changed,
}

impl Watch {
    /// Watches these jobs; each is told once by its place in the list. A job without a lock that
    /// can be waited for counts as ended.
    pub(super) fn over(jobs: Vec<JobDir>) -> Self {
        let (tell, notices) = channel();
        let left = jobs.len();
        for (place, job) in jobs.into_iter().enumerate() {
            let tell = tell.clone();
            // A thread sleeps in flock(2) for each; it ends with the process at the latest.
            std::thread::spawn(move || {
                let _ = job.wait_released();
                let _ = tell.send(Notice::Ended(place));
            });
        }
        Self { notices, tell, left }
    }

    /// Watches the records of these jobs as well.
    pub(super) fn over_records(&mut self, jobs: &[JobDir]) {
        let mut changes = Changes::of_records(jobs.iter().map(JobDir::path));
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            loop {
                changes.wait_on();
                if tell.send(Notice::Changed).is_err() {
                    return;
                }
            }
        });
    }

    /// What is seen next, or `None` at `deadline` or when all jobs have ended.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Option<Notice> {
        if self.left == 0 {
            return None;
        }
        let next = match deadline {
            None => self.notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.notices.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let next = next.ok()?;
        self.left -= usize::from(next != Notice::Changed);
        Some(next)
    }
}

/// Sleeps until the job ends or `most` is over; says whether it ended.
pub(super) fn ends_within(job: &JobDir, most: Duration) -> bool {
    Watch::over(vec![job.clone()]).next(Some(Instant::now() + most)).is_some()
}
