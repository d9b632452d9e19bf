//! Waits without polling for changes of jobs: writes to their files, releases of their locks, and
//! new jobs.

#[cfg(target_os = "linux")]
mod inotify;

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::process::exit;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::ExitStatus;
use crate::output::print_note_within;
use crate::process::{self, AwaitedSignals};
use crate::screen::{Key, Keyboard, restore_modes};
use crate::store::JobDir;
#[cfg(target_os = "linux")]
use inotify::InotifyWatches as FileWatches;

/// Poll interval for files without events from the system.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Poll interval for many files.
const SLOW_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of files from which the slow interval applies.
const SLOW_POLL_FILES: usize = 100;
/// Time limit for a signal to be taken as a notice, before it ends the process. It is waited for in
/// parts: a machine that stands still for seconds takes one of them only.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(1);
const SIGNAL_TIMEOUT_PARTS: u32 = 10;
/// Time limit for the last line on stderr.
pub(super) const NOTE_TIMEOUT: Duration = Duration::from_secs(1);

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Notice {
    /// The worker of the job with this index has ended.
    Ended(usize),
    /// A watched file of the job with this index was written, created or removed.
    Changed(usize),
    /// A file or directory with this name appeared in the jobs directory.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only inotify names it"))]
    Appeared(String),
    /// The file or directory with this name was removed from the jobs directory.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only inotify names it"))]
    Removed(String),
    /// Something changed in a watched directory.
    Directory,
    /// There may be new jobs.
    Root,
    /// This process got a signal.
    Signal(Signal),
    /// A line was typed; `None` at the end of the input.
    Typed(Option<String>),
    /// A key was typed on a terminal in raw mode.
    Key(Key),
    /// Another thread has done its work, whose result the receiver of the notice knows to find.
    Done,
}

/// Watches jobs, each identified by an index that the caller chooses.
pub(super) struct Watch {
    notices: Receiver<Notice>,
    sender: Sender<Notice>,
    files: FileWatches,
    /// Indices of the jobs whose end is awaited.
    awaited: HashSet<usize>,
    /// Told of each signal that was taken as a notice.
    taken: Option<Sender<()>>,
}

impl Watch {
    /// Returns a watch of nothing.
    pub(super) fn new() -> Self {
        let (sender, notices) = channel();
        let files = FileWatches::start(Poller { sender: sender.clone(), polled: Arc::default() });
        Self { notices, sender, files, awaited: HashSet::new(), taken: None }
    }

    /// Watches for the removal of a job's directory.
    pub(super) fn add_removal(&mut self, index: usize, job: &JobDir) {
        self.files.add_removal(index, job.path());
    }

    /// Watches files of one job, with index 0, and the removal of its directory.
    pub(super) fn for_files(job: &JobDir, names: &'static [&'static str]) -> Self {
        let mut watch = Self::new();
        watch.add_files(0, job, names);
        watch.add_removal(0, job);
        watch
    }

    /// Watches files of a job, including files that do not exist yet. Writes to other files of the
    /// job cause no notice.
    pub(super) fn add_files(&mut self, index: usize, job: &JobDir, names: &'static [&'static str]) {
        self.files.add(index, job.path(), names);
        // The kernel reports no writes of other machines, even if their locks are visible here.
        if job.needs_polling() {
            let (sender, job) = (self.sender.clone(), job.clone());
            std::thread::spawn(move || {
                while sender.send(Notice::Changed(index)).is_ok() && job.needs_polling() {
                    std::thread::sleep(job.poll_interval());
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
        // Each awaited lock is an open file, and this process needs others.
        let most = process::machine::open_files().map_or(u64::MAX, |files| files / 2);
        let is_polled = self.awaited.len() as u64 > most;
        // Each thread blocks in flock(2) and ends with the process at the latest.
        std::thread::spawn(move || {
            if is_polled {
                await_end_by_polling(&job);
            } else if job.wait_released().is_err() {
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

    /// Watches the jobs directory for new jobs and for the removal of jobs.
    pub(super) fn add_root_and_removals(&mut self, root: &Path) {
        self.files.add_root_and_removals(root);
    }

    /// Watches for files that appear in a directory, are replaced or removed there. Returns false if
    /// there is no such directory.
    pub(super) fn add_directory(&mut self, path: &Path) -> bool {
        self.files.add_directory(path)
    }

    /// Watches the files of a job no longer.
    pub(super) fn remove_files(&mut self, index: usize) {
        self.files.remove(index);
    }

    /// Returns a sender whose notices [`Self::next`] returns as well.
    pub(super) fn waker(&self) -> Sender<Notice> {
        self.sender.clone()
    }

    /// Makes a notice of each of these signals.
    pub(super) fn forward(&self, signals: AwaitedSignals) {
        let sender = self.waker();
        std::thread::spawn(move || {
            while let Some(signal) = signals.next() {
                let _ = sender.send(Notice::Signal(signal));
            }
        });
    }

    /// Makes a notice of each of these signals. A signal that is not taken in time ends the process,
    /// after `note` on stderr: nobody reads the output that it is writing.
    pub(super) fn forward_or_exit(&mut self, signals: AwaitedSignals, note: String) {
        let sender = self.waker();
        let (taken, takes) = channel();
        self.taken = Some(taken);
        std::thread::spawn(move || {
            while let Some(signal) = signals.next() {
                // Another thread may forward other signals.
                while takes.try_recv().is_ok() {}
                let _ = sender.send(Notice::Signal(signal));
                let part = SIGNAL_TIMEOUT / SIGNAL_TIMEOUT_PARTS;
                if (0..SIGNAL_TIMEOUT_PARTS).all(|_| takes.recv_timeout(part).is_err()) {
                    restore_modes();
                    if signal != Signal::SIGHUP {
                        print_note_within(note, NOTE_TIMEOUT);
                    }
                    exit(exit_status_for(signal) as i32);
                }
            }
        });
    }

    /// Makes a notice of each line on stdin, and of its end.
    pub(super) fn read_lines(&self) {
        let sender = self.waker();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let _ = sender.send(Notice::Typed(Some(line)));
            }
            let _ = sender.send(Notice::Typed(None));
        });
    }

    /// Makes a notice of each key, and of the end of the input, until the result is dropped. The
    /// terminal must be in raw mode.
    pub(super) fn read_keys(&self) -> io::Result<Keyboard> {
        let sender = self.waker();
        Keyboard::start(move |key| {
            sender.send(key.map_or(Notice::Typed(None), Notice::Key)).is_ok()
        })
    }

    /// Removes the notices of lines and keys that were typed so far.
    pub(super) fn discard_typed(&mut self) {
        let waiting: Vec<Notice> = self.notices.try_iter().collect();
        for notice in waiting {
            if !matches!(notice, Notice::Typed(Some(_)) | Notice::Key(_)) {
                let _ = self.sender.send(notice);
            }
        }
    }

    /// Waits for the next notice.
    pub(super) fn next(&mut self) -> Notice {
        // `self` holds a sender, so the channel is never disconnected.
        let notice = self.notices.recv().unwrap_or(Notice::Root);
        self.note(&notice);
        notice
    }

    /// Waits for the next notice until `deadline`; then returns `None`.
    pub(super) fn next_until(&mut self, deadline: Option<Instant>) -> Option<Notice> {
        let Some(deadline) = deadline else { return Some(self.next()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.notices.recv_timeout(left) {
            Ok(notice) => {
                self.note(&notice);
                Some(notice)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn note(&mut self, notice: &Notice) {
        match (notice, &self.taken) {
            (Notice::Ended(index), _) => {
                self.awaited.remove(index);
            }
            (Notice::Signal(_), Some(taken)) => {
                let _ = taken.send(());
            }
            _ => {}
        }
    }
}

/// Returns the exit status of a command that was ended by a signal: 128 and its number.
pub(super) fn exit_status_for(signal: Signal) -> ExitStatus {
    match signal {
        Signal::SIGHUP => ExitStatus::HungUp,
        Signal::SIGTERM => ExitStatus::Terminated,
        _ => ExitStatus::Left,
    }
}

/// Waits until the job's worker ends, without a file that is open all the time.
fn await_end_by_polling(job: &JobDir) {
    loop {
        std::thread::sleep(SLOW_POLL_INTERVAL);
        if !job.may_live() && !job.needs_polling() {
            return;
        }
    }
}

/// Waits until the job's worker ends or the timeout is over.
pub(super) fn await_end(job: &JobDir, timeout: Duration) {
    let mut watch = Watch::new();
    watch.add_end(0, job);
    watch.next_until(Some(Instant::now() + timeout));
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

    /// Makes this notice no longer.
    fn remove(&self, notice: &Notice) {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).remove(notice);
    }

    fn run(&self) {
        loop {
            let polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if polled.is_empty() {
                return;
            }
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

    fn add_root_and_removals(&mut self, root: &Path) {
        self.add_root(root);
    }

    fn add_directory(&mut self, _path: &Path) -> bool {
        self.0.add(Notice::Directory);
        true
    }

    fn remove(&mut self, index: usize) {
        self.0.remove(&Notice::Changed(index));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
