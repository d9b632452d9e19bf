//! The lock of the queue (flock(2)), in generations: a holder that was stopped keeps nobody out.
//!
//! `.queue/desk` is the first generation, `.queue/desk.1` the second: the latest that exists is
//! the one that counts. The holder writes its process id and a counter into it. Where these stay
//! the same for [`PATIENCE`], whoever waits creates the next generation. A holder that continues
//! later finds it, and decides anew before it writes. What it wrote between its last look and the
//! stop is caught where it matters: [`Queue::let_in`](super::Queue).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{DESK, Queue, open_own};
use crate::checkpoint::checkpoint;
use crate::store::open_ordinary;

/// How long a holder may take for one step of its work.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The pauses between two attempts to take the lock.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// How often a holder of a later generation tries the first one, for workers of earlier versions,
/// which know no other.
const TRIES_OF_FIRST: usize = 5;

/// The lock, held.
#[derive(Debug)]
pub struct Desk {
    file: File,
    /// The first generation, if it could be had as well.
    _first: Option<File>,
    folder: PathBuf,
    generation: u32,
    counter: std::cell::Cell<u64>,
}

/// An attempt to take the lock, from one poll to the next.
#[derive(Debug)]
pub struct DeskPoll {
    /// The generation and what its holder wrote last, and since when it is so.
    seen: Option<(u32, String, Instant)>,
    pause: Duration,
}

/// The lock cannot be had: its holder makes no progress, and there can be no next generation.
#[derive(Debug, thiserror::Error)]
#[error("process {holder} holds {path:?} and makes no progress; it may be stopped ({source})")]
pub struct Busy {
    holder: String,
    path: PathBuf,
    source: io::Error,
}

impl Busy {
    /// Whether this is why an operation failed.
    pub fn is_in(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Self>())
    }
}

impl Default for DeskPoll {
    fn default() -> Self {
        Self { seen: None, pause: FIRST_PAUSE }
    }
}

impl DeskPoll {
    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Whether the holder has written nothing for as long as it may.
    fn is_stuck(&mut self, generation: u32, holder: String) -> bool {
        match &self.seen {
            Some((seen, text, since)) if *seen == generation && *text == holder => {
                since.elapsed() >= PATIENCE
            }
            _ => {
                self.seen = Some((generation, holder, Instant::now()));
                false
            }
        }
    }
}

impl Desk {
    /// Whether no later generation exists: nobody has decided anything meanwhile.
    pub fn is_latest(&self) -> bool {
        !generation_path(&self.folder, self.generation + 1).exists()
    }

    /// Shows those who wait that the holder makes progress.
    pub fn progress(&self) {
        let counter = self.counter.get() + 1;
        self.counter.set(counter);
        let text = format!("{:<40}\n", format!("{} {counter}", std::process::id()));
        let _ = self.file.write_all_at(text.as_bytes(), 0);
    }
}

impl Queue {
    /// Takes the lock. Waits for holders that make progress, and for others no longer than
    /// [`PATIENCE`].
    pub fn desk(&self) -> io::Result<Desk> {
        let mut poll = DeskPoll::default();
        loop {
            if let Some(desk) = self.try_desk(&mut poll)? {
                return Ok(desk);
            }
            std::thread::sleep(poll.pause());
        }
    }

    /// The same, with pauses of at most this long together; `None` if that was not enough.
    pub fn desk_within(&self, most: Duration, poll: &mut DeskPoll) -> io::Result<Option<Desk>> {
        // By the pauses and not by the clock: we may have been stopped ourselves.
        let mut paused = Duration::ZERO;
        loop {
            let desk = self.try_desk(poll)?;
            if desk.is_some() || paused >= most {
                return Ok(desk);
            }
            let pause = poll.pause();
            std::thread::sleep(pause);
            paused += pause;
        }
    }

    /// Takes the lock if it is free. `None`: it is to be tried again after a
    /// [pause](DeskPoll::pause), with the same `poll`.
    pub fn try_desk(&self, poll: &mut DeskPoll) -> io::Result<Option<Desk>> {
        let folder = &self.path;
        let first = self.open_first_desk()?;
        let mut generation = 0;
        while generation_path(folder, generation + 1).exists() {
            generation += 1;
        }
        let path = generation_path(folder, generation);
        let (file, first) =
            if generation == 0 { (first, None) } else { (open_own(&path)?, Some(first)) };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                let holder = holder_in(&path);
                if poll.is_stuck(generation, holder.clone()) {
                    create_generation(folder, generation + 1).map_err(|source| {
                        let holder =
                            holder.split_whitespace().next().unwrap_or("unknown").to_owned();
                        let busy = Busy { holder, path, source };
                        io::Error::new(io::ErrorKind::ResourceBusy, busy)
                    })?;
                }
                return Ok(None);
            }
        }
        let counter = holder_in(&path).split_whitespace().nth(1).and_then(|it| it.parse().ok());
        let first = first.filter(|first| {
            (0..TRIES_OF_FIRST).any(|_| {
                let locked = first.try_lock().is_ok();
                if !locked {
                    std::thread::sleep(FIRST_PAUSE);
                }
                locked
            })
        });
        let counter = std::cell::Cell::new(counter.unwrap_or_default());
        let desk = Desk { file, _first: first, folder: folder.clone(), generation, counter };
        desk.progress();
        checkpoint("queue:desk");
        // It may have been stopped between the choice of the file and its lock.
        if !desk.is_latest() {
            return Ok(None);
        }
        *poll = DeskPoll::default();
        Ok(Some(desk))
    }

    fn open_first_desk(&self) -> io::Result<File> {
        let path = self.path.join(DESK);
        match open_own(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_rooms()?;
                open_own(&path)
            }
            file => file,
        }
    }
}

fn generation_path(folder: &Path, generation: u32) -> PathBuf {
    match generation {
        0 => folder.join(DESK),
        _ => folder.join(format!("{DESK}.{generation}")),
    }
}

fn create_generation(folder: &Path, generation: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    match options.open(generation_path(folder, generation)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Another has created it.
        _ => Ok(()),
    }
}

/// The process id and the counter that the holder wrote last.
fn holder_in(path: &Path) -> String {
    use std::io::Read;
    let mut text = String::new();
    let file = open_ordinary(path, OpenOptions::new().read(true));
    let _ = file.and_then(|file| file.take(64).read_to_string(&mut text));
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (tempfile::TempDir, Queue) {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::of(&folder.path().canonicalize().unwrap().join("jobs"));
        (folder, queue)
    }

    /// Lets the time of the holder that was seen run out.
    fn run_out(poll: &mut DeskPoll) {
        let (_, _, since) = poll.seen.as_mut().unwrap();
        *since = since.checked_sub(PATIENCE).unwrap();
    }

    #[test]
    fn a_holder_without_progress_is_overtaken_and_notices() {
        let (_folder, queue) = queue();
        let stopped = queue.desk().unwrap();
        let mut poll = DeskPoll::default();
        assert!(queue.try_desk(&mut poll).unwrap().is_none());
        run_out(&mut poll);
        assert!(queue.try_desk(&mut poll).unwrap().is_none());
        assert!(!stopped.is_latest());
        let next = queue.try_desk(&mut poll).unwrap().unwrap();
        assert!(next.is_latest());
        // The next one of these has a latest generation of its own.
        drop(stopped);
        assert!(queue.try_desk(&mut poll).unwrap().is_none());
        drop(next);
        assert_eq!(queue.desk().unwrap().generation, 1);
    }

    #[test]
    fn a_holder_that_makes_progress_is_waited_for() {
        let (_folder, queue) = queue();
        let desk = queue.desk().unwrap();
        let mut poll = DeskPoll::default();
        assert!(queue.try_desk(&mut poll).unwrap().is_none());
        run_out(&mut poll);
        desk.progress();
        assert!(queue.try_desk(&mut poll).unwrap().is_none());
        assert!(desk.is_latest());
    }

    #[test]
    fn workers_of_earlier_versions_are_kept_out_by_a_later_generation() {
        let (_folder, queue) = queue();
        drop(queue.desk().unwrap());
        create_generation(&queue.path, 1).unwrap();
        let desk = queue.desk().unwrap();
        assert_eq!(desk.generation, 1);
        let earlier = open_own(&queue.path.join(DESK)).unwrap();
        assert!(earlier.try_lock().is_err());
        drop(desk);
        assert!(earlier.try_lock().is_ok());
    }

    #[test]
    fn an_error_names_the_holder() {
        let busy = Busy {
            holder: "7".to_owned(),
            path: PathBuf::from("desk"),
            source: io::ErrorKind::StorageFull.into(),
        };
        let error = io::Error::new(io::ErrorKind::ResourceBusy, busy);
        assert!(Busy::is_in(&error) && error.to_string().starts_with("process 7 holds"), "{error}");
    }
}
