//! Waiting for jobs to end, without polling: their locks are let go.

use std::collections::HashSet;
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

/// How often is looked where the system gives no notice.
const LOOK_SELDOM: Duration = Duration::from_secs(1);

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
    pub(super) fn of(_directory: &Path) -> Self {
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
    records: Option<Watches>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The job at this place has ended.
    Ended(usize),
    /// Something was written in the directory of the job at this place.
    Changed(usize),
    /// There is a new directory.
    Root,
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
        Self { notices, tell, left, records: None }
    }

    /// Watches the records of these jobs as well.
    pub(super) fn over_records(&mut self, jobs: &[JobDir]) {
        let mut watches = Watches::telling(self.tell.clone());
        for (place, job) in jobs.iter().enumerate() {
            watches.add(job.path(), Look::Renames, Notice::Changed(place));
        }
        self.records = Some(watches);
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
        self.left -= usize::from(matches!(next, Notice::Ended(_)));
        Some(next)
    }
}

/// Sleeps until the job ends or `most` is over; says whether it ended.
pub(super) fn ends_within(job: &JobDir, most: Duration) -> bool {
    Watch::over(vec![job.clone()]).next(Some(Instant::now() + most)).is_some()
}

/// What is looked for in a directory.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// Files and directories that get their names.
    Renames,
    /// Those, and what is written.
    Writes,
}

/// Watches the directories of jobs, and that of all jobs for new ones: one watch each, and one
/// thread for them all.
pub(super) struct Folders {
    notices: Receiver<Notice>,
    watches: Watches,
    /// The places of jobs whose end is waited for.
    awaited: HashSet<usize>,
}

impl Default for Folders {
    fn default() -> Self {
        let (tell, notices) = channel();
        Self { notices, watches: Watches::telling(tell), awaited: HashSet::new() }
    }
}

impl Folders {
    /// Watches for new jobs.
    pub(super) fn watch_root(&mut self, root: &Path) {
        self.watches.add(root, Look::Renames, Notice::Root);
    }

    /// Watches what is written in a job's directory.
    pub(super) fn watch(&mut self, place: usize, job: &JobDir) {
        self.watches.add(job.path(), Look::Writes, Notice::Changed(place));
    }

    /// Watches for the end of a live job's worker, which may write nothing.
    pub(super) fn watch_end(&mut self, place: usize, job: &JobDir) {
        if self.awaited.insert(place) {
            let (tell, job) = (self.watches.tell.clone(), job.clone());
            std::thread::spawn(move || {
                let _ = job.wait_released();
                let _ = tell.send(Notice::Ended(place));
            });
        }
    }

    /// Returns a sender whose notices [`Self::next`] gives as well.
    pub(super) fn waker(&self) -> Sender<Notice> {
        self.watches.tell.clone()
    }

    /// What happens next, however long that takes.
    pub(super) fn next(&mut self) -> Notice {
        let notice = self.notices.recv().unwrap_or(Notice::Root);
        if let Notice::Ended(place) = notice {
            self.awaited.remove(&place);
        }
        notice
    }
}

/// Directories that are watched, and who is told. They are watched no longer than this is there:
/// whoever has it drops the receiver of its notices first.
struct Watches {
    tell: Sender<Notice>,
    #[cfg(target_os = "linux")]
    inotify: Option<linux::Many>,
}

impl Watches {
    fn telling(tell: Sender<Notice>) -> Self {
        Self {
            #[cfg(target_os = "linux")]
            inotify: linux::Many::start(&tell),
            tell,
        }
    }

    fn add(&mut self, directory: &Path, look: Look, what: Notice) {
        #[cfg(target_os = "linux")]
        if self.inotify.as_mut().is_some_and(|watches| watches.add(directory, look, what)) {
            return;
        }
        let _ = (directory, look);
        // No events for files, or no more of them for this user.
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            while tell.send(what).is_ok() {
                std::thread::sleep(LOOK_SELDOM);
            }
        });
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::os::fd::AsFd;
    use std::sync::mpsc::Sender;
    use std::sync::{Arc, Mutex, PoisonError};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

    use super::{Look, Notice, Path};

    type Places = Mutex<HashMap<WatchDescriptor, Notice>>;

    /// One inotify(7) for many directories.
    pub(super) struct Many {
        inotify: Arc<Inotify>,
        places: Arc<Places>,
    }

    impl Many {
        pub(super) fn start(tell: &Sender<Notice>) -> Option<Self> {
            let inotify =
                Arc::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?);
            let places = Arc::new(Places::default());
            let (watched, known, tell) = (inotify.clone(), places.clone(), tell.clone());
            std::thread::spawn(move || {
                loop {
                    let fds = &mut [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(fds, PollTimeout::NONE);
                    let events = watched.read_events().unwrap_or_default();
                    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut told = None;
                    for what in events.iter().filter_map(|event| known.get(&event.wd).copied()) {
                        // Several in a row are one.
                        if told != Some(what) && tell.send(what).is_err() {
                            return;
                        }
                        told = Some(what);
                    }
                }
            });
            Some(Self { inotify, places })
        }

        pub(super) fn add(&mut self, directory: &Path, look: Look, what: Notice) -> bool {
            let mut flags = AddWatchFlags::IN_MOVED_TO;
            if matches!(look, Look::Writes) {
                flags |= AddWatchFlags::IN_MODIFY;
            }
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let added = self.inotify.add_watch(directory, flags);
            added.is_ok_and(|wd| {
                places.insert(wd, what);
                true
            })
        }
    }

    impl Drop for Many {
        /// Ends the thread: the end of a watch is an event, of which nobody is told any more.
        fn drop(&mut self) {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            for wd in places.keys() {
                let _ = self.inotify.rm_watch(*wd);
            }
        }
    }
}
