//! Waiting for something to happen to jobs, without polling: their files are written, their locks
//! are released, and new jobs appear.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::JobDir;

/// How often the files of a job of another machine are read.
const LOOK_ELSEWHERE: Duration = Duration::from_secs(1);
/// How often files are read of which the system gives no events.
const LOOK_OFTEN: Duration = Duration::from_millis(200);
/// The same for many files.
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// Number of files from which on they are read less often.
const MANY: usize = 100;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Notice {
    /// The worker of the job at this place has ended.
    Ended(usize),
    /// A watched file of the job at this place was written, made or removed.
    Changed(usize),
    /// A file or directory of this name came into the jobs directory.
    Appeared(String),
    /// There may be new jobs.
    Root,
}

/// Watches jobs, each by its place in a list of the caller's.
pub(super) struct Watch {
    notices: Receiver<Notice>,
    tell: Sender<Notice>,
    files: FileWatches,
    /// The places of jobs whose end is waited for.
    awaited: HashSet<usize>,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let (tell, notices) = channel();
        let files = FileWatches::start(Poller { tell: tell.clone(), polled: Arc::default() });
        Self { notices, tell, files, awaited: HashSet::new() }
    }

    /// Watches files of one job, at place 0, and whether its directory is removed.
    pub(super) fn of_files(job: &JobDir, names: &'static [&'static str]) -> Self {
        let mut watch = Self::new();
        watch.add_files(0, job, names);
        watch.files.add_removal(0, job.path());
        watch
    }

    /// Watches files of a job, also those that do not exist yet. What is written to the job's other
    /// files wakes nobody.
    pub(super) fn add_files(&mut self, place: usize, job: &JobDir, names: &'static [&'static str]) {
        self.files.add(place, job.path(), names);
        // No event of another machine reaches here, even where its lock does.
        if job.may_live_elsewhere() {
            let (tell, job) = (self.tell.clone(), job.clone());
            std::thread::spawn(move || {
                while tell.send(Notice::Changed(place)).is_ok() && job.may_live_elsewhere() {
                    std::thread::sleep(LOOK_ELSEWHERE);
                }
            });
        }
    }

    /// Watches for the end of a live job's worker, which may write nothing. The end of a job
    /// without a lock is told a moment later. Does nothing for a job whose end is watched for.
    pub(super) fn add_end(&mut self, place: usize, job: &JobDir) {
        if !self.awaited.insert(place) {
            return;
        }
        let (tell, job) = (self.tell.clone(), job.clone());
        // A thread sleeps in flock(2) for each; it ends with the process at the latest.
        std::thread::spawn(move || {
            if job.wait_released().is_err() {
                std::thread::sleep(LOOK_OFTEN);
            }
            let _ = tell.send(Notice::Ended(place));
        });
    }

    /// Whether the end of the job at this place is watched for.
    pub(super) fn awaits_end(&self, place: usize) -> bool {
        self.awaited.contains(&place)
    }

    /// Watches the jobs directory for new jobs.
    pub(super) fn add_root(&mut self, root: &Path) {
        self.files.add_root(root);
    }

    /// Returns a sender whose notices [`Self::next`] gives as well.
    pub(super) fn waker(&self) -> Sender<Notice> {
        self.tell.clone()
    }

    /// What happens next, however long that takes.
    pub(super) fn next(&mut self) -> Notice {
        // One sender is our own: this comes back only with a notice.
        let notice = self.notices.recv().unwrap_or(Notice::Root);
        self.note_end(&notice);
        notice
    }

    /// What happens next, or `None` at `deadline`.
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
        if let Notice::Ended(place) = notice {
            self.awaited.remove(place);
        }
    }
}

/// Sleeps until the job's worker ends, or until `most` is over.
pub(super) fn await_end(job: &JobDir, most: Duration) {
    let (tell, ended) = channel();
    let job = job.clone();
    std::thread::spawn(move || {
        let _ = job.wait_released();
        let _ = tell.send(());
    });
    let _ = ended.recv_timeout(most);
}

/// Gives notices again and again where the system has no events for files, or no more of them for
/// this user.
#[derive(Clone)]
struct Poller {
    tell: Sender<Notice>,
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
            std::thread::sleep(if polled.len() < MANY { LOOK_OFTEN } else { LOOK_SELDOM });
            for notice in polled {
                if self.tell.send(notice).is_err() {
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

    fn add(&mut self, place: usize, _directory: &Path, _names: &'static [&'static str]) {
        self.0.add(Notice::Changed(place));
    }

    fn add_removal(&mut self, place: usize, _directory: &Path) {
        self.0.add(Notice::Changed(place));
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
    use crate::store::META;

    /// Files of many jobs, watched by one inotify(7) and one thread.
    ///
    /// A file that is appended to is watched itself, so that what is written to others is no event.
    /// Its directory is watched only until the file exists. The record is replaced whole: for that
    /// it is always the directory.
    pub(super) struct FileWatches {
        /// `None`: this user has no more of them.
        shared: Option<Arc<Shared>>,
        poller: Poller,
        /// The thread ends when this is closed.
        _stop: Option<PipeWriter>,
    }

    struct Shared {
        inotify: Inotify,
        state: Mutex<State>,
        poller: Poller,
    }

    #[derive(Default)]
    struct State {
        jobs: HashMap<usize, Job>,
        watched: HashMap<WatchDescriptor, Watched>,
    }

    #[derive(Clone)]
    struct Job {
        directory: PathBuf,
        names: &'static [&'static str],
    }

    #[derive(Clone, Copy)]
    enum Watched {
        Root,
        /// The directory in which that of the job at this place is.
        Parent(usize),
        /// The directory of the job at this place.
        Directory(usize),
        /// A file of the job at this place.
        File(usize),
    }

    impl FileWatches {
        pub(super) fn start(poller: Poller) -> Self {
            let start = || -> std::io::Result<(Arc<Shared>, PipeWriter)> {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                let (stopped, stop) = pipe()?;
                let state = Mutex::default();
                let shared = Arc::new(Shared { inotify, state, poller: poller.clone() });
                let watcher = shared.clone();
                std::thread::Builder::new().spawn(move || watcher.run(&stopped))?;
                Ok((shared, stop))
            };
            let (shared, stop) = start().ok().unzip();
            Self { shared, poller, _stop: stop }
        }

        pub(super) fn add(
            &mut self,
            place: usize,
            directory: &Path,
            names: &'static [&'static str],
        ) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Changed(place)) };
            let mut state = shared.state();
            state.jobs.insert(place, Job { directory: directory.to_owned(), names });
            shared.watch_job(&mut state, place);
        }

        /// Watches whether the directory of a job goes. That is no event of its own while a file
        /// that was in it is open.
        pub(super) fn add_removal(&mut self, place: usize, directory: &Path) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Changed(place)) };
            let mut state = shared.state();
            let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
            match shared.inotify.add_watch(directory.parent().unwrap_or(directory), flags) {
                Ok(wd) => drop(state.watched.insert(wd, Watched::Parent(place))),
                Err(Errno::ENOENT) => {}
                Err(_) => self.poller.add(Notice::Changed(place)),
            }
        }

        pub(super) fn add_root(&mut self, root: &Path) {
            let Some(shared) = &self.shared else { return self.poller.add(Notice::Root) };
            let mut state = shared.state();
            match shared.inotify.add_watch(root, AddWatchFlags::IN_MOVED_TO) {
                Ok(wd) => drop(state.watched.insert(wd, Watched::Root)),
                Err(_) => self.poller.add(Notice::Root),
            }
        }
    }

    impl Shared {
        fn state(&self) -> MutexGuard<'_, State> {
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
                    self.take(&mut state, &event, &mut notices);
                }
                drop(state);
                // Several in a row are one.
                notices.dedup();
                for notice in notices {
                    if self.poller.tell.send(notice).is_err() {
                        return;
                    }
                }
            }
        }

        fn take(&self, state: &mut State, event: &InotifyEvent, notices: &mut Vec<Notice>) {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // Which ones were lost is not known.
                notices.push(Notice::Root);
                notices.extend(state.jobs.keys().map(|place| Notice::Changed(*place)));
                return;
            }
            let Some(watched) = state.watched.get(&event.wd).copied() else { return };
            let name = event.name.as_ref().and_then(|name| name.to_str());
            match (watched, name) {
                (Watched::Root, Some(name)) => notices.push(Notice::Appeared(name.to_owned())),
                (Watched::Root, None) => {
                    // The jobs directory is gone, and may be made again.
                    state.watched.remove(&event.wd);
                    self.poller.add(Notice::Root);
                }
                (Watched::Parent(place), _) => {
                    let job = state.jobs.get(&place);
                    let own = job.and_then(|job| job.directory.file_name());
                    // Without a name it is the jobs directory that is gone.
                    if event.name.is_none() || event.name.as_deref() == own {
                        notices.push(Notice::Changed(place));
                    }
                }
                (Watched::Directory(place), Some(name)) => {
                    let names = state.jobs.get(&place).map_or(&[][..], |job| job.names);
                    if !names.contains(&name) {
                        return;
                    }
                    if name != META {
                        self.watch_anew(state, event.wd, place);
                    }
                    notices.push(Notice::Changed(place));
                }
                (Watched::File(place), _) if event.mask.contains(AddWatchFlags::IN_MODIFY) => {
                    notices.push(Notice::Changed(place));
                }
                // It was removed, moved or replaced.
                (Watched::Directory(place) | Watched::File(place), _) => {
                    self.watch_anew(state, event.wd, place);
                    notices.push(Notice::Changed(place));
                }
            }
        }

        fn watch_anew(&self, state: &mut State, wd: WatchDescriptor, place: usize) {
            self.unwatch(state, wd);
            self.watch_job(state, place);
        }

        fn unwatch(&self, state: &mut State, wd: WatchDescriptor) {
            state.watched.remove(&wd);
            // Fails where the file is gone, and its watch with it.
            let _ = self.inotify.rm_watch(wd);
        }

        fn watch_job(&self, state: &mut State, place: usize) {
            let Some(job) = state.jobs.get(&place).cloned() else { return };
            match self.try_watch_job(state, place, &job) {
                // A job that is removed gives no more events.
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(_) => self.poller.add(Notice::Changed(place)),
            }
        }

        fn try_watch_job(&self, state: &mut State, place: usize, job: &Job) -> nix::Result<()> {
            if self.watch_files(state, place, job)? {
                return Ok(());
            }
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            let flags = flags | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
            let directory = self.inotify.add_watch(&job.directory, flags)?;
            state.watched.insert(directory, Watched::Directory(place));
            // They may have been made before the directory was watched.
            if self.watch_files(state, place, job)? {
                self.unwatch(state, directory);
            }
            Ok(())
        }

        /// Watches the files that exist; says whether the directory need not be watched.
        fn watch_files(&self, state: &mut State, place: usize, job: &Job) -> nix::Result<bool> {
            // The number of links is an attribute: it changes when the file is removed, which may
            // be open.
            let flags = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_DONT_FOLLOW;
            let mut are_all = true;
            for name in job.names {
                if *name == META {
                    are_all = false;
                    continue;
                }
                match self.inotify.add_watch(&job.directory.join(name), flags) {
                    Ok(wd) => {
                        state.watched.insert(wd, Watched::File(place));
                    }
                    Err(Errno::ENOENT) => are_all = false,
                    Err(error) => return Err(error),
                }
            }
            Ok(are_all)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::store::{EVENTS, META, OUTPUT};

    const FENCE: usize = 9;

    /// Jobs in a directory of their own, and a watch over them. The system gives events in the
    /// order in which they happen: a change of the job at the place [`FENCE`] comes after all
    /// notices of what was done before it.
    struct Stage {
        root: tempfile::TempDir,
        watch: Watch,
    }

    impl Stage {
        fn new() -> Self {
            let mut stage = Self { root: tempfile::tempdir().unwrap(), watch: Watch::new() };
            let fence = stage.job("fence");
            stage.append("fence", EVENTS);
            stage.watch.add_files(FENCE, &fence, &[EVENTS]);
            stage
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
            // Where a file is watched late, what happened meanwhile is told once or more.
            notices.dedup();
            assert_eq!(notices, expected);
        }
    }

    #[test]
    fn only_the_files_that_are_watched_wake() {
        let mut stage = Stage::new();
        let job = stage.job("j");
        stage.append("j", EVENTS);
        stage.watch.add_files(1, &job, &[EVENTS]);
        let unrelated = |stage: &Stage| {
            stage.append("j", OUTPUT);
            stage.replace("j", META);
        };
        unrelated(&stage);
        stage.assert_notices(&[]);
        stage.append("j", EVENTS);
        stage.assert_notices(&[Notice::Changed(1)]);

        // The record is replaced: its directory is watched, and other files still wake nobody.
        let other = stage.job("k");
        stage.watch.add_files(2, &other, &[META]);
        for file in [OUTPUT, EVENTS] {
            stage.append("k", file);
            stage.assert_notices(&[]);
        }
        stage.replace("k", META);
        stage.assert_notices(&[Notice::Changed(2)]);
        stage.replace("k", META);
        stage.assert_notices(&[Notice::Changed(2)]);
    }

    #[test]
    fn files_that_are_made_later_or_anew_are_watched() {
        let mut stage = Stage::new();
        let job = stage.job("j");
        let events = job.file(EVENTS);
        stage.watch.add_files(1, &job, &[EVENTS]);
        let changed = [Notice::Changed(1)];
        for make in [Stage::append, Stage::replace] {
            stage.append("j", OUTPUT);
            stage.assert_notices(&[]);
            make(&stage, "j", EVENTS);
            stage.assert_notices(&changed);
            // Whoever is told of it has it watched.
            stage.append("j", EVENTS);
            stage.assert_notices(&changed);
            stage.append("j", OUTPUT);
            stage.assert_notices(&[]);
            // Its writer may have it open.
            let open = fs::File::open(&events).unwrap();
            fs::remove_file(&events).unwrap();
            stage.assert_notices(&changed);
            drop(open);
        }
        stage.append("j", EVENTS);
        stage.assert_notices(&changed);
        stage.replace("j", EVENTS);
        stage.assert_notices(&changed);
        stage.append("j", EVENTS);
        stage.assert_notices(&changed);
        fs::rename(&events, job.file("away")).unwrap();
        stage.assert_notices(&changed);
        fs::remove_dir_all(job.path()).unwrap();
        stage.assert_notices(&changed);
    }

    #[test]
    fn the_removal_of_a_directory_is_told_while_a_file_in_it_is_open() {
        let mut stage = Stage::new();
        let [job, other] = ["j", "other"].map(|id| stage.job(id));
        stage.append("j", OUTPUT);
        let open = fs::File::open(job.file(OUTPUT)).unwrap();
        let mut watch = Watch::of_files(&job, &[EVENTS]);
        watch.add_files(FENCE, &JobDir::at(stage.root.path().join("fence")), &[EVENTS]);
        stage.watch = watch;
        fs::remove_dir(other.path()).unwrap();
        stage.assert_notices(&[]);
        fs::remove_dir_all(job.path()).unwrap();
        stage.assert_notices(&[Notice::Changed(0)]);
        drop(open);
    }

    #[test]
    fn a_new_job_is_told_by_its_name() {
        let mut stage = Stage::new();
        let jobs = stage.job("jobs");
        stage.watch.add_root(jobs.path());
        let made = stage.job("made");
        fs::rename(made.path(), jobs.file("j")).unwrap();
        stage.assert_notices(&[Notice::Appeared("j".to_owned())]);
        fs::remove_dir_all(jobs.path()).unwrap();
        assert_eq!(stage.watch.next(), Notice::Root, "it may be made again");
    }
}
