//! Waits without polling for changes of jobs: writes to their files, releases of their locks, and
//! new jobs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::JobDir;

/// Poll interval for the files of a job of another machine.
const REMOTE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Poll interval for files without events from the system.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Poll interval for many files.
const SLOW_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of files from which the slow interval applies.
const SLOW_POLL_FILES: usize = 100;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Notice {
    /// The worker of the job with this index has ended.
    Ended(usize),
    /// A watched file of the job with this index was written, created or removed.
    Changed(usize),
    /// A file or directory with this name appeared in the jobs directory.
    Appeared(String),
    /// There may be new jobs.
    Root,
}

/// Watches jobs, each identified by an index that the caller chooses.
pub(super) struct Watch {
    notices: Receiver<Notice>,
    sender: Sender<Notice>,
    files: FileWatches,
    /// Indices of the jobs whose end is awaited.
    awaited: HashSet<usize>,
}

impl Watch {
    /// Returns a watch of nothing.
    pub(super) fn new() -> Self {
        let (sender, notices) = channel();
        let files = FileWatches::start(Poller { sender: sender.clone(), polled: Arc::default() });
        Self { notices, sender, files, awaited: HashSet::new() }
    }

    /// Watches files of one job, with index 0, and the removal of its directory.
    pub(super) fn for_files(job: &JobDir, names: &'static [&'static str]) -> Self {
        let mut watch = Self::new();
        watch.add_files(0, job, names);
        watch.files.add_removal(0, job.path());
        watch
    }

    /// Watches files of a job, including files that do not exist yet. Writes to other files of the
    /// job cause no notice.
    pub(super) fn add_files(&mut self, index: usize, job: &JobDir, names: &'static [&'static str]) {
        self.files.add(index, job.path(), names);
        // The kernel reports no writes of other machines, even if their locks are visible here.
        if job.may_live_elsewhere() {
            let (sender, job) = (self.sender.clone(), job.clone());
            std::thread::spawn(move || {
                while sender.send(Notice::Changed(index)).is_ok() && job.may_live_elsewhere() {
                    std::thread::sleep(REMOTE_POLL_INTERVAL);
                }
            });
        }
    }

    /// Watches for the end of a live job's worker, which may not write anything. For a job without a
    /// lock the notice comes a moment later. Does nothing if the end is already watched.
    pub(super) fn add_end(&mut self, index: usize, job: &JobDir) {
        if !self.awaited.insert(index) {
            return;
        }
        let (sender, job) = (self.sender.clone(), job.clone());
        // Each thread blocks in flock(2) and ends with the process at the latest.
        std::thread::spawn(move || {
            if job.wait_released().is_err() {
                std::thread::sleep(POLL_INTERVAL);
            }
            let _ = sender.send(Notice::Ended(index));
        });
    }

    /// Returns whether the end of the job with this index is watched.
    pub(super) fn awaits_end(&self, index: usize) -> bool {
        self.awaited.contains(&index)
    }

    /// Watches the jobs directory for new jobs.
    pub(super) fn add_root(&mut self, root: &Path) {
        self.files.add_root(root);
    }

    /// Returns a sender whose notices [`Self::next`] returns as well.
    pub(super) fn waker(&self) -> Sender<Notice> {
        self.sender.clone()
    }

    /// Waits for the next notice.
    pub(super) fn next(&mut self) -> Notice {
        // `self` holds a sender, so the channel is never disconnected.
        let notice = self.notices.recv().unwrap_or(Notice::Root);
        self.note_end(&notice);
        notice
    }

    /// Waits for the next notice until `deadline`; then returns `None`.
    pub(super) fn next_until(&mut self, deadline: Option<Instant>) -> Option<Notice> {
        let Some(deadline) = deadline else { return Some(self.next()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.notices.recv_timeout(left) {
            Ok(notice) => {
                self.note_end(&notice);
                Some(notice)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn note_end(&mut self, notice: &Notice) {
        if let Notice::Ended(index) = notice {
            self.awaited.remove(index);
        }
    }
}

/// Waits until the job's worker ends or the timeout is over.
pub(super) fn await_end(job: &JobDir, timeout: Duration) {
    let (sender, ended) = channel();
    let job = job.clone();
    std::thread::spawn(move || {
        let _ = job.wait_released();
        let _ = sender.send(());
    });
    let _ = ended.recv_timeout(timeout);
}

/// Sends notices periodically if the system has no file events, or no more watches for this user.
#[derive(Clone)]
struct Poller {
    sender: Sender<Notice>,
    polled: Arc<Mutex<HashSet<Notice>>>,
}

impl Poller {
    fn add(&self, notice: Notice) {
        let mut polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = polled.is_empty();
        polled.insert(notice);
        if is_first {
            let poller = self.clone();
            std::thread::spawn(move || poller.run());
        }
    }

    fn run(&self) {
        loop {
            let polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::thread::sleep(if polled.len() < SLOW_POLL_FILES {
                POLL_INTERVAL
            } else {
                SLOW_POLL_INTERVAL
            });
            for notice in polled {
                if self.sender.send(notice).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct FileWatches(Poller);

#[cfg(not(target_os = "linux"))]
impl FileWatches {
    fn start(poller: Poller) -> Self {
        Self(poller)
    }

    fn add(&mut self, index: usize, _directory: &Path, _names: &'static [&'static str]) {
        self.0.add(Notice::Changed(index));
    }

    fn add_removal(&mut self, index: usize, _directory: &Path) {
        self.0.add(Notice::Changed(index));
    }

    fn add_root(&mut self, _root: &Path) {
        self.0.add(Notice::Root);
    }
}

#[cfg(target_os = "linux")]
use linux::FileWatches;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::io::{PipeReader, PipeWriter, pipe};
    use std::os::fd::AsFd;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

    use super::{Notice, Poller};
    use crate::store::RECORD;

    /// Files of many jobs, watched by one inotify(7) and one thread.
    ///
    /// A file that grows is watched itself, so that writes to other files cause no event. Its
    /// directory is watched only until the file exists. The record is replaced by rename, so its
    /// directory is always watched.
    pub(super) struct FileWatches {
        /// `None` if this user has no more inotify instances.
        shared: Option<Arc<InotifyWatcher>>,
        poller: Poller,
        /// Closing this ends the thread.
        _stop: Option<PipeWriter>,
    }

    struct InotifyWatcher {
        inotify: Inotify,
        state: Mutex<WatchState>,
        poller: Poller,
    }

    #[derive(Default)]
    struct WatchState {
        jobs: HashMap<usize, WatchedJob>,
        watched: HashMap<WatchDescriptor, WatchTarget>,
    }

    #[derive(Clone)]
    struct WatchedJob {
        directory: PathBuf,
        names: &'static [&'static str],
    }

    #[derive(Clone, Copy)]
    enum WatchTarget {
        Root,
        /// The parent of the directory of the job with this index.
        Parent(usize),
        /// The directory of the job with this index.
        Directory(usize),
        /// A file of the job with this index.
        File(usize),
    }

    impl FileWatches {
        pub(super) fn start(poller: Poller) -> Self {
            let start = || -> std::io::Result<(Arc<InotifyWatcher>, PipeWriter)> {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                let (stopped, stop) = pipe()?;
                let state = Mutex::default();
                let shared = Arc::new(InotifyWatcher { inotify, state, poller: poller.clone() });
                let watcher = shared.clone();
                std::thread::Builder::new().spawn(move || watcher.run(&stopped))?;
                Ok((shared, stop))
            };
            let (shared, stop) = start().ok().unzip();
            Self { shared, poller, _stop: stop }
        }

        pub(super) fn add(
            &mut self,
            index: usize,
            directory: &Path,
            names: &'static [&'static str],
        ) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Changed(index)) };
            let mut state = shared.state();
            state.jobs.insert(index, WatchedJob { directory: directory.to_owned(), names });
            shared.watch_job(&mut state, index);
        }

        /// Watches for the removal of a job's directory. The directory itself gets no event while a
        /// file in it is open.
        pub(super) fn add_removal(&mut self, index: usize, directory: &Path) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Changed(index)) };
            let mut state = shared.state();
            let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
            match shared.inotify.add_watch(directory.parent().unwrap_or(directory), flags) {
                Ok(wd) => drop(state.watched.insert(wd, WatchTarget::Parent(index))),
                Err(Errno::ENOENT) => {}
                Err(_) => self.poller.add(Notice::Changed(index)),
            }
        }

        pub(super) fn add_root(&mut self, root: &Path) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Root) };
            let mut state = shared.state();
            match shared.inotify.add_watch(root, AddWatchFlags::IN_MOVED_TO) {
                Ok(wd) => drop(state.watched.insert(wd, WatchTarget::Root)),
                Err(_) => self.poller.add(Notice::Root),
            }
        }
    }

    impl InotifyWatcher {
        fn state(&self) -> MutexGuard<'_, WatchState> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn run(&self, stopped: &PipeReader) {
            loop {
                let fds = &mut [
                    PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
                    PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                ];
                let _ = poll(fds, PollTimeout::NONE);
                if fds[1].any() == Some(true) {
                    return;
                }
                let events = self.inotify.read_events().unwrap_or_default();
                let mut notices = Vec::new();
                let mut state = self.state();
                for event in events {
                    self.handle(&mut state, &event, &mut notices);
                }
                drop(state);
                // Equal notices in a row count as one.
                notices.dedup();
                for notice in notices {
                    if self.poller.sender.send(notice).is_err() {
                        return;
                    }
                }
            }
        }

        fn handle(&self, state: &mut WatchState, event: &InotifyEvent, notices: &mut Vec<Notice>) {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // It is unknown which events were lost.
                notices.push(Notice::Root);
                notices.extend(state.jobs.keys().map(|index| Notice::Changed(*index)));
                return;
            }
            let Some(watched) = state.watched.get(&event.wd).copied() else { return };
            let name = event.name.as_ref().and_then(|name| name.to_str());
            match (watched, name) {
                (WatchTarget::Root, Some(name)) => notices.push(Notice::Appeared(name.to_owned())),
                (WatchTarget::Root, None) => {
                    // The jobs directory is gone, and may be created again.
                    state.watched.remove(&event.wd);
                    self.poller.add(Notice::Root);
                }
                (WatchTarget::Parent(index), _) => {
                    let job = state.jobs.get(&index);
                    let own_name = job.and_then(|job| job.directory.file_name());
                    // An event without a name means that the jobs directory is gone.
                    if event.name.is_none() || event.name.as_deref() == own_name {
                        notices.push(Notice::Changed(index));
                    }
                }
                (WatchTarget::Directory(index), Some(name)) => {
                    let names = state.jobs.get(&index).map_or(&[][..], |job| job.names);
                    if !names.contains(&name) {
                        return;
                    }
                    if name != RECORD {
                        self.watch_again(state, event.wd, index);
                    }
                    notices.push(Notice::Changed(index));
                }
                (WatchTarget::File(index), _) if event.mask.contains(AddWatchFlags::IN_MODIFY) => {
                    notices.push(Notice::Changed(index));
                }
                // The file or directory was removed, moved or replaced.
                (WatchTarget::Directory(index) | WatchTarget::File(index), _) => {
                    self.watch_again(state, event.wd, index);
                    notices.push(Notice::Changed(index));
                }
            }
        }

        fn watch_again(&self, state: &mut WatchState, wd: WatchDescriptor, index: usize) {
            self.unwatch(state, wd);
            self.watch_job(state, index);
        }

        fn unwatch(&self, state: &mut WatchState, wd: WatchDescriptor) {
            state.watched.remove(&wd);
            // Fails if the file is gone, and its watch with it.
            let _ = self.inotify.rm_watch(wd);
        }

        fn watch_job(&self, state: &mut WatchState, index: usize) {
            let Some(job) = state.jobs.get(&index).cloned() else { return };
            match self.try_watch_job(state, index, &job) {
                // A removed job has no more events.
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(_) => self.poller.add(Notice::Changed(index)),
            }
        }

        fn try_watch_job(
            &self,
            state: &mut WatchState,
            index: usize,
            job: &WatchedJob,
        ) -> nix::Result<()> {
            if self.watch_files(state, index, job)? {
                return Ok(());
            }
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            let flags = flags | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
            let directory = self.inotify.add_watch(&job.directory, flags)?;
            state.watched.insert(directory, WatchTarget::Directory(index));
            // The files may have been created before the directory was watched.
            if self.watch_files(state, index, job)? {
                self.unwatch(state, directory);
            }
            Ok(())
        }

        /// Watches the existing files; returns true if the directory need not be watched.
        fn watch_files(
            &self,
            state: &mut WatchState,
            index: usize,
            job: &WatchedJob,
        ) -> nix::Result<bool> {
            // IN_ATTRIB reports the removal of a file that is open: its number of links changes.
            let flags = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_DONT_FOLLOW;
            let mut has_all = true;
            for name in job.names {
                if *name == RECORD {
                    has_all = false;
                    continue;
                }
                match self.inotify.add_watch(&job.directory.join(name), flags) {
                    Ok(wd) => {
                        state.watched.insert(wd, WatchTarget::File(index));
                    }
                    Err(Errno::ENOENT) => has_all = false,
                    Err(error) => return Err(error),
                }
            }
            Ok(has_all)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::store::{EVENTS, OUTPUT, RECORD};

    const FENCE: usize = 9;

    /// Jobs in a temporary directory, and a watch of them. The system reports events in order: a
    /// change of the job with the index [`FENCE`] comes after all notices of earlier changes.
    struct Fixture {
        root: tempfile::TempDir,
        watch: Watch,
    }

    impl Fixture {
        fn new() -> Self {
            let mut fixture = Self { root: tempfile::tempdir().unwrap(), watch: Watch::new() };
            let fence = fixture.job("fence");
            fixture.append("fence", EVENTS);
            fixture.watch.add_files(FENCE, &fence, &[EVENTS]);
            fixture
        }

        fn job(&self, id: &str) -> JobDir {
            let path = self.root.path().join(id);
            fs::create_dir(&path).unwrap();
            JobDir::at(path)
        }

        fn append(&self, id: &str, file: &str) {
            let path = self.root.path().join(id).join(file);
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.write_all(b"x\n").unwrap();
        }

        fn replace(&self, id: &str, file: &str) {
            let path = self.root.path().join(id).join(file);
            fs::write(path.with_extension("tmp"), "x").unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        }

        #[track_caller]
        fn assert_notices(&mut self, expected: &[Notice]) {
            self.append("fence", EVENTS);
            let mut notices = Vec::new();
            loop {
                let notice = self.watch.next();
                if notice == Notice::Changed(FENCE) {
                    break;
                }
                notices.push(notice);
            }
            // If a file is watched late, earlier changes cause one notice or more.
            notices.dedup();
            assert_eq!(notices, expected);
        }
    }

    #[test]
    fn reports_only_watched_files() {
        let mut fixture = Fixture::new();
        let job = fixture.job("j");
        fixture.append("j", EVENTS);
        fixture.watch.add_files(1, &job, &[EVENTS]);
        let unrelated = |fixture: &Fixture| {
            fixture.append("j", OUTPUT);
            fixture.replace("j", RECORD);
        };
        unrelated(&fixture);
        fixture.assert_notices(&[]);
        fixture.append("j", EVENTS);
        fixture.assert_notices(&[Notice::Changed(1)]);

        // The record is replaced: its directory is watched, and other files still cause no notice.
        let other = fixture.job("k");
        fixture.watch.add_files(2, &other, &[RECORD]);
        for file in [OUTPUT, EVENTS] {
            fixture.append("k", file);
            fixture.assert_notices(&[]);
        }
        fixture.replace("k", RECORD);
        fixture.assert_notices(&[Notice::Changed(2)]);
        fixture.replace("k", RECORD);
        fixture.assert_notices(&[Notice::Changed(2)]);
    }

    #[test]
    fn watches_files_created_or_replaced_later() {
        let mut fixture = Fixture::new();
        let job = fixture.job("j");
        let events = job.file(EVENTS);
        fixture.watch.add_files(1, &job, &[EVENTS]);
        let changed = [Notice::Changed(1)];
        for make in [Fixture::append, Fixture::replace] {
            fixture.append("j", OUTPUT);
            fixture.assert_notices(&[]);
            make(&fixture, "j", EVENTS);
            fixture.assert_notices(&changed);
            // After the notice, the new file itself is watched.
            fixture.append("j", EVENTS);
            fixture.assert_notices(&changed);
            fixture.append("j", OUTPUT);
            fixture.assert_notices(&[]);
            // The file's writer may have it open.
            let open = fs::File::open(&events).unwrap();
            fs::remove_file(&events).unwrap();
            fixture.assert_notices(&changed);
            drop(open);
        }
        fixture.append("j", EVENTS);
        fixture.assert_notices(&changed);
        fixture.replace("j", EVENTS);
        fixture.assert_notices(&changed);
        fixture.append("j", EVENTS);
        fixture.assert_notices(&changed);
        fs::rename(&events, job.file("away")).unwrap();
        fixture.assert_notices(&changed);
        fs::remove_dir_all(job.path()).unwrap();
        fixture.assert_notices(&changed);
    }

    #[test]
    fn reports_removal_of_directory_with_open_file() {
        let mut fixture = Fixture::new();
        let [job, other] = ["j", "other"].map(|id| fixture.job(id));
        fixture.append("j", OUTPUT);
        let open = fs::File::open(job.file(OUTPUT)).unwrap();
        let mut watch = Watch::for_files(&job, &[EVENTS]);
        watch.add_files(FENCE, &JobDir::at(fixture.root.path().join("fence")), &[EVENTS]);
        fixture.watch = watch;
        fs::remove_dir(other.path()).unwrap();
        fixture.assert_notices(&[]);
        fs::remove_dir_all(job.path()).unwrap();
        fixture.assert_notices(&[Notice::Changed(0)]);
        drop(open);
    }

    #[test]
    fn reports_new_job_by_name() {
        let mut fixture = Fixture::new();
        let jobs = fixture.job("jobs");
        fixture.watch.add_root(jobs.path());
        let made = fixture.job("made");
        fs::rename(made.path(), jobs.file("j")).unwrap();
        fixture.assert_notices(&[Notice::Appeared("j".to_owned())]);
        fs::remove_dir_all(jobs.path()).unwrap();
        assert_eq!(fixture.watch.next(), Notice::Root, "it may be made again");
    }
}
