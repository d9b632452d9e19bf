//! Watches files with inotify(7).

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
pub(super) struct InotifyWatches {
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
    /// A directory whose files are watched by their appearance.
    Files,
    /// The parent of the directory of the job with this index.
    Parent(usize),
    /// The directory of the job with this index.
    Directory(usize),
    /// A file of the job with this index.
    File(usize),
}

impl InotifyWatches {
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

    pub(super) fn add(&mut self, index: usize, directory: &Path, names: &'static [&'static str]) {
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
        self.add_root_with(root, AddWatchFlags::empty());
    }

    pub(super) fn add_root_and_removals(&mut self, root: &Path) {
        self.add_root_with(root, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM);
    }

    fn add_root_with(&mut self, root: &Path, flags: AddWatchFlags) {
        let Some(shared) = &self.shared else { return self.poller.add(Notice::Root) };
        let mut state = shared.state();
        match shared.inotify.add_watch(root, AddWatchFlags::IN_MOVED_TO | flags) {
            Ok(wd) => {
                state.watched.insert(wd, WatchTarget::Root);
                // It did not exist before.
                self.poller.remove(&Notice::Root);
            }
            Err(_) => self.poller.add(Notice::Root),
        }
    }

    pub(super) fn add_directory(&mut self, path: &Path) -> bool {
        let Some(shared) = &self.shared else {
            self.poller.add(Notice::Directory);
            return true;
        };
        let mut state = shared.state();
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        match shared.inotify.add_watch(path, flags) {
            Ok(wd) => drop(state.watched.insert(wd, WatchTarget::Files)),
            Err(Errno::ENOENT) => return false,
            Err(_) => self.poller.add(Notice::Directory),
        }
        true
    }

    pub(super) fn remove(&mut self, index: usize) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.state();
        state.jobs.remove(&index);
        let is_own = |target: &WatchTarget| match target {
            WatchTarget::Directory(at) | WatchTarget::File(at) => *at == index,
            WatchTarget::Root | WatchTarget::Files | WatchTarget::Parent(_) => false,
        };
        let watched = state.watched.iter().filter(|(_, target)| is_own(target));
        for wd in watched.map(|(wd, _)| *wd).collect::<Vec<WatchDescriptor>>() {
            shared.unwatch(&mut state, wd);
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
            (WatchTarget::Root, Some(name)) => {
                let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
                let name = name.to_owned();
                let is_gone = event.mask.intersects(gone);
                notices.push(if is_gone { Notice::Removed(name) } else { Notice::Appeared(name) });
            }
            (WatchTarget::Files, _) => notices.push(Notice::Directory),
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
