//! Bounded waiting for a lock (flock(2)) that another process holds: that process may be stopped.

#[cfg(target_os = "linux")]
mod proc_locks;

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Context, StoreError};
#[cfg(target_os = "linux")]
pub(super) use proc_locks::holder_of;

/// Time for which the same holder of a lock may make no progress.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockMode {
    Shared,
    Exclusive,
}

/// Takes the lock of an open file if it is free; returns false if another process holds it.
pub(super) fn try_lock(file: &File, path: &Path, mode: LockMode) -> Result<bool, StoreError> {
    let locked = match mode {
        LockMode::Shared => file.try_lock_shared(),
        LockMode::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("lock", path),
    }
}

/// Whether no process of this machine holds the lock of this file.
pub(super) fn is_free(path: &Path) -> Result<bool, StoreError> {
    let file = super::files::open_to_read(path).context("open", path)?;
    try_lock(&file, path, LockMode::Shared)
}

/// Takes the lock of an open file. Fails as busy when its holder makes no progress for as long as
/// `bound`: `observe` returns the holder's process id and anything that changes with its progress.
pub(super) fn lock_bounded<P: PartialEq>(
    file: &File,
    path: &Path,
    mode: LockMode,
    bound: Duration,
    observe: impl Fn(&File) -> (Option<i32>, P),
) -> Result<(), StoreError> {
    let mut observed = None;
    let mut until = Instant::now() + bound;
    let mut pause = MIN_PAUSE;
    loop {
        if try_lock(file, path, mode)? {
            return Ok(());
        }
        let now = observe(file);
        if observed.as_ref() != Some(&now) {
            (observed, until) = (Some(now), Instant::now() + bound);
        } else if Instant::now() >= until {
            return Err(busy(now.0)).context("lock", path);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn busy(holder: Option<i32>) -> io::Error {
    let why = match holder {
        Some(pid) => format!("process {pid} holds it and makes no progress"),
        None => "a process holds it and makes no progress".to_owned(),
    };
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

/// The system does not tell which process holds a lock.
#[cfg(not(target_os = "linux"))]
pub(super) fn holder_of(_file: &File) -> Option<i32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_the_timeout_after_progress() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = file.reopen().unwrap();
        held.lock().unwrap();
        let steps = std::cell::Cell::new(0);
        let bound = Duration::from_millis(20);
        let began = Instant::now();
        let locked = lock_bounded(file.as_file(), file.path(), LockMode::Exclusive, bound, |_| {
            steps.set((steps.get() + 1).min(10));
            (Some(7), steps.get())
        });
        let error = locked.unwrap_err();
        assert!(error.to_string().contains("process 7 holds it"), "{error}");
        assert!(steps.get() == 10 && began.elapsed() >= bound);
        held.unlock().unwrap();
        lock_bounded(file.as_file(), file.path(), LockMode::Exclusive, bound, |_| (None, ()))
            .unwrap();
    }
}
