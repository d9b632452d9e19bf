//! The lock of the queue (flock(2)), in generations, so that a stopped holder keeps no one out.
//!
//! `.queue/desk` is the first generation, `.queue/desk.1` the second: the latest one that exists
//! is the valid one. The holder writes its process id and a counter into the file. If these do not
//! change for [`PROGRESS_TIMEOUT`], a waiting process creates the next generation. A holder that
//! continues later finds that generation and decides again before it writes. A write between its
//! last check and the stop is caught by [`Queue::confirm`](super::Queue::confirm).

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::{open_or_create, overwrite, read_text};
use super::{QUEUE_LOCK, Queue};
use crate::fault_point::fault_point;

/// How long a holder may take for one step of its work, and a worker to answer an offer.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// The pauses between two attempts to take the lock.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// How often the holder of a later generation tries to lock the first one as well, to keep out
/// workers of earlier versions, which know no other.
const MAX_FIRST_TRIES: usize = 5;

/// The queue's lock while this process holds it.
#[derive(Debug)]
pub(crate) struct QueueLock {
    file: File,
    /// The first generation, if it could be locked as well.
    _first: Option<File>,
    folder: PathBuf,
    generation: u32,
    counter: Cell<u64>,
}

/// State of an attempt to take the lock, between two polls.
#[derive(Debug)]
pub(crate) struct QueueLockPoll {
    /// The generation, the holder's last text in it, and when that text was first seen.
    seen: Option<(u32, String, Instant)>,
    pause: Duration,
}

/// The lock cannot be taken: its holder makes no progress, and the next generation cannot be
/// created.
#[derive(Debug, thiserror::Error)]
#[error("process {holder} holds {path:?} and makes no progress; it may be stopped ({source})")]
pub(crate) struct QueueBusy {
    holder: String,
    path: PathBuf,
    source: io::Error,
}

impl QueueBusy {
    /// Returns whether an operation failed with this error.
    pub(crate) fn is_in(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Self>())
    }
}

impl Default for QueueLockPoll {
    fn default() -> Self {
        Self { seen: None, pause: FIRST_PAUSE }
    }
}

impl QueueLockPoll {
    /// Returns how long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Returns whether the holder has made no progress for [`PROGRESS_TIMEOUT`].
    fn is_stuck(&mut self, generation: u32, holder: String) -> bool {
        match &self.seen {
            Some((seen, text, since)) if *seen == generation && *text == holder => {
                since.elapsed() >= PROGRESS_TIMEOUT
            }
            _ => {
                self.seen = Some((generation, holder, Instant::now()));
                false
            }
        }
    }
}

impl QueueLock {
    /// Returns whether no later generation exists: no other process has decided anything meanwhile.
    pub(crate) fn is_latest(&self) -> bool {
        !generation_path(&self.folder, self.generation + 1).exists()
    }

    /// Shows waiting processes that the holder makes progress.
    pub(crate) fn report_progress(&self) {
        let counter = self.counter.get() + 1;
        self.counter.set(counter);
        let _ = overwrite(&self.file, &format!("{} {counter}", std::process::id()));
    }
}

impl Queue {
    /// Takes the lock. Waits without a bound only for a holder that makes progress, for any other
    /// one [`PROGRESS_TIMEOUT`] at most.
    pub(crate) fn lock(&self) -> io::Result<QueueLock> {
        let mut poll = QueueLockPoll::default();
        loop {
            if let Some(lock) = self.try_lock(&mut poll)? {
                return Ok(lock);
            }
            std::thread::sleep(poll.pause());
        }
    }

    /// The same, but gives up with `None` after pauses of `max_wait` in total.
    pub(crate) fn lock_within(
        &self,
        max_wait: Duration,
        poll: &mut QueueLockPoll,
    ) -> io::Result<Option<QueueLock>> {
        // Counts the pauses, not the time: this process may have been stopped itself.
        let mut paused = Duration::ZERO;
        loop {
            let lock = self.try_lock(poll)?;
            if lock.is_some() || paused >= max_wait {
                return Ok(lock);
            }
            let pause = poll.pause();
            std::thread::sleep(pause);
            paused += pause;
        }
    }

    /// Takes the lock if it is free. After `None` the caller tries again, after a
    /// [pause](QueueLockPoll::pause) and with the same `poll`.
    pub(crate) fn try_lock(&self, poll: &mut QueueLockPoll) -> io::Result<Option<QueueLock>> {
        let folder = &self.path;
        let first = self.open_first_generation()?;
        let mut generation = 0;
        while generation_path(folder, generation + 1).exists() {
            generation += 1;
        }
        let path = generation_path(folder, generation);
        let (file, first) =
            if generation == 0 { (first, None) } else { (open_or_create(&path)?, Some(first)) };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                let holder = holder_in(&path);
                if poll.is_stuck(generation, holder.clone())
                    && let Err(source) = create_generation(folder, generation + 1)
                {
                    let holder = holder.split_whitespace().next().unwrap_or("unknown").to_owned();
                    let busy = QueueBusy { holder, path, source };
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, busy));
                }
                return Ok(None);
            }
        }
        let first = match first {
            Some(first) if try_lock_often(&first) => Some(first),
            _ => None,
        };
        let counter = match holder_in(&path).split_whitespace().nth(1) {
            Some(counter) => counter.parse().unwrap_or_default(),
            None => 0,
        };
        let lock = QueueLock {
            file,
            _first: first,
            folder: folder.clone(),
            generation,
            counter: Cell::new(counter),
        };
        lock.report_progress();
        fault_point("queue:locked");
        // This process may have been stopped between opening and locking the file.
        if !lock.is_latest() {
            return Ok(None);
        }
        *poll = QueueLockPoll::default();
        Ok(Some(lock))
    }

    fn open_first_generation(&self) -> io::Result<File> {
        let path = self.path.join(QUEUE_LOCK);
        match open_or_create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_dirs()?;
                open_or_create(&path)
            }
            file => file,
        }
    }
}

/// Tries several times to lock the first generation as well.
fn try_lock_often(first: &File) -> bool {
    for _ in 0..MAX_FIRST_TRIES {
        if first.try_lock().is_ok() {
            return true;
        }
        std::thread::sleep(FIRST_PAUSE);
    }
    false
}

fn generation_path(folder: &Path, generation: u32) -> PathBuf {
    match generation {
        0 => folder.join(QUEUE_LOCK),
        _ => folder.join(format!("{QUEUE_LOCK}.{generation}")),
    }
}

fn create_generation(folder: &Path, generation: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    match options.open(generation_path(folder, generation)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Another process has created it.
        _ => Ok(()),
    }
}

/// Returns the process id and the counter that the holder wrote last.
fn holder_in(path: &Path) -> String {
    read_text(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (tempfile::TempDir, Queue) {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::for_jobs_dir(&folder.path().canonicalize().unwrap().join("jobs"));
        (folder, queue)
    }

    /// Makes it look as if the holder had made no progress for too long.
    fn expire(poll: &mut QueueLockPoll) {
        let (_, _, since) = poll.seen.as_mut().unwrap();
        *since = since.checked_sub(PROGRESS_TIMEOUT).unwrap();
    }

    #[test]
    fn replaces_a_lock_whose_holder_makes_no_progress() {
        let (_folder, queue) = queue();
        let stopped = queue.lock().unwrap();
        let mut poll = QueueLockPoll::default();
        assert!(queue.try_lock(&mut poll).unwrap().is_none());
        expire(&mut poll);
        assert!(queue.try_lock(&mut poll).unwrap().is_none());
        assert!(!stopped.is_latest());
        let next = queue.try_lock(&mut poll).unwrap().unwrap();
        assert!(next.is_latest());
        // A released old generation is not taken: the new one is valid.
        drop(stopped);
        assert!(queue.try_lock(&mut poll).unwrap().is_none());
        drop(next);
        assert_eq!(queue.lock().unwrap().generation, 1);
    }

    #[test]
    fn waits_for_a_holder_that_makes_progress() {
        let (_folder, queue) = queue();
        let lock = queue.lock().unwrap();
        let mut poll = QueueLockPoll::default();
        assert!(queue.try_lock(&mut poll).unwrap().is_none());
        expire(&mut poll);
        lock.report_progress();
        assert!(queue.try_lock(&mut poll).unwrap().is_none());
        assert!(lock.is_latest());
    }

    #[test]
    fn a_later_generation_locks_the_first_one_too() {
        let (_folder, queue) = queue();
        queue.lock().unwrap().file.unlock().unwrap();
        create_generation(&queue.path, 1).unwrap();
        let lock = queue.lock().unwrap();
        assert_eq!(lock.generation, 1);
        let earlier = open_or_create(&queue.path.join(QUEUE_LOCK)).unwrap();
        assert!(earlier.try_lock().is_err());
        drop(lock);
        // A process that a parallel test starts holds it until it executes its program.
        earlier.lock().unwrap();
    }

    #[test]
    fn the_busy_error_names_the_holder() {
        let busy = QueueBusy {
            holder: "7".to_owned(),
            path: PathBuf::from("desk"),
            source: io::ErrorKind::StorageFull.into(),
        };
        let error = io::Error::new(io::ErrorKind::ResourceBusy, busy);
        assert!(
            QueueBusy::is_in(&error) && error.to_string().starts_with("process 7 holds"),
            "{error}"
        );
    }
}
