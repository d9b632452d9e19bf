//! `.desk`: the lock of the inbox, and its state, as earlier versions of this program use them.
//!
//! They hold the lock while they post or close, and rename a message to its number, whatever has
//! that name. This version needs neither. It locks the file so that an old sender does not replace
//! its message and an old worker does not close the inbox meanwhile, and keeps the state up to date
//! so that an old sender finds the next number and the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::super::{Context, StoreError, files};

/// The file. Its name and format are those of a live job's earlier versions.
const DESK: &str = ".desk";
/// How long the same holder of the lock may make no progress.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often the lock is tried meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// The state as earlier versions read and write it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Desk {
    /// The number that was given out last.
    pub(super) last: u64,
    /// The job has ended.
    pub(super) closed: bool,
}

impl Desk {
    pub(super) fn read(inbox: &Path) -> Self {
        let text = files::read_bounded(&inbox.join(DESK), 1_000).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it in place, in one call, and without the lock: a process that holds that must not
    /// keep a job from its end.
    pub(super) fn write(self, inbox: &Path) {
        let text = format!("{:<60}\n", serde_json::to_string(&self).unwrap_or_default());
        let _ = open(inbox).map(|file| file.write_all_at(text.as_bytes(), 0));
    }
}

/// How the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Beside senders of this version, against those of earlier ones.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes the lock. Fails as busy if its holder makes no progress: it may be stopped.
pub(super) fn lock(inbox: &Path, mode: Mode) -> Result<File, StoreError> {
    let path = inbox.join(DESK);
    let file = open(inbox).context("open", &path)?;
    let mut holder = None;
    let mut until = Instant::now() + LOCK_WAIT;
    loop {
        let locked = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match locked {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
        }
        let seen = Some(holder_of(&file));
        if seen != holder {
            (holder, until) = (seen, Instant::now() + LOCK_WAIT);
        } else if Instant::now() >= until {
            return Err(busy(seen.and_then(|(pid, _)| pid))).context("lock", &path);
        }
        thread::sleep(LOCK_RETRY);
    }
}

/// The process that holds the lock, where the system tells, and when the file was last written.
fn holder_of(file: &File) -> (Option<i32>, Option<SystemTime>) {
    let Ok(about) = file.metadata() else { return (None, None) };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    (locks.lines().find_map(|lock| holder_in(lock, about.ino())), about.modified().ok())
}

/// The process of a line of `/proc/locks` (proc_locks(5)), if it holds a lock on this file:
/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn holder_in(lock: &str, inode: u64) -> Option<i32> {
    let fields: Vec<&str> = lock.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
    let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
    if is_it { pid.parse().ok().filter(|&pid| pid > 0) } else { None }
}

fn busy(holder: Option<i32>) -> io::Error {
    let holder = holder.map_or("a process".to_owned(), |pid| format!("process {pid}"));
    let why = format!("{holder} holds it and makes no progress");
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

fn open(inbox: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    files::open(&inbox.join(DESK), &mut options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let line = "2: FLOCK  ADVISORY  WRITE 4711 00:2d:5678 0 EOF";
        assert_eq!(holder_in(line, 5678), Some(4711));
        assert_eq!(holder_in(line, 678), None);
        assert_eq!(holder_in("2: -> FLOCK  ADVISORY  WRITE 4711 00:2d:5678 0 EOF", 5678), None);
        assert_eq!(holder_in("2: POSIX  ADVISORY  WRITE 4711 00:2d:5678 0 EOF", 5678), None);
        assert_eq!(holder_in("", 5678), None);
    }

    #[test]
    fn a_lock_that_is_held_for_ever_is_waited_for_two_seconds() {
        let inbox = tempfile::tempdir().unwrap();
        let held = lock(inbox.path(), Mode::Shared).unwrap();
        lock(inbox.path(), Mode::Shared).unwrap();
        let error = lock(inbox.path(), Mode::Exclusive).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy);
        if cfg!(target_os = "linux") {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
        drop(held);
        lock(inbox.path(), Mode::Exclusive).unwrap();
    }
}
