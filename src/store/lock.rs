//! A job's lock, which says whether it is live.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::flock::holder_of;
use super::{Context, JobDir, LOCK, StoreError, files};
use crate::process::{self, JobMarker, ProcessId};

/// How often the lock is tried again where only readers hold it.
const MAX_READERS_WAITED_FOR: usize = 100;

/// How often is looked at the record of a job of another machine whose end is waited for.
const REMOTE_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The lock of a job, held (flock(2), through std). It belongs to the open file description, so
/// it is handed on with the descriptor; it ends when the last descriptor is closed, at the latest
/// with its holder.
#[derive(Debug)]
pub struct Lock(pub(super) File);

impl Lock {
    /// The lock behind a descriptor that was handed on.
    pub fn inherited(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }

    /// Writes this process's id into the file, for those who wait for the lock.
    pub fn record_holder(&self) {
        let _ = self.0.write_all_at(format!("{:<15}\n", std::process::id()).as_bytes(), 0);
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl JobDir {
    /// Makes the lock of a job that is being built, and takes it. `None`: another process took the
    /// directory for a leftover and removed it.
    pub(super) fn create_lock(&self) -> Result<Option<Lock>, StoreError> {
        let path = self.file(LOCK);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context("create", &path)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
        }
        let is_there = file.metadata().context("look at", &path)?.nlink() > 0;
        Ok(is_there.then_some(Lock(file)))
    }

    /// Takes the lock, if nobody holds it. `None`: somebody does.
    pub fn try_lock(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_lock()?;
        for _ in 0..MAX_READERS_WAITED_FOR {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Lock(file))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
            }
            // Those who only look hold it, too, for microseconds.
            if self.is_held()? {
                return Ok(None);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(None)
    }

    /// Whether anybody holds the lock: the job is live. Probed shared, so that two who look do
    /// not take each other for a worker.
    pub fn is_held(&self) -> Result<bool, StoreError> {
        let (path, file) = self.open_lock()?;
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    /// Whether the job may be live: somebody holds the lock, or it cannot be asked. Without a lock
    /// it is its worker that tells, where processes can be looked at.
    pub fn may_live(&self) -> bool {
        match self.is_held() {
            Ok(held) => held,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                self.path().is_dir() && matches!(JobMarker::new(self.path()).worker(), Ok(Some(_)))
            }
            Err(_) => true,
        }
    }

    /// The process that took the lock, where the system tells: not the one that it was handed on
    /// to.
    pub fn lock_holder(&self) -> Option<i32> {
        holder_of(&self.open_lock().ok()?.1)
    }

    /// Sleeps until nobody holds the lock, or the job of another machine has ended.
    pub fn wait_released(&self) -> Result<(), StoreError> {
        let (path, file) = self.open_lock()?;
        loop {
            match file.lock_shared() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done.context("lock", &path)?,
            }
        }
        // No lock and no event of another machine reaches here.
        while self.may_live_elsewhere() {
            std::thread::sleep(REMOTE_POLL_INTERVAL);
        }
        Ok(())
    }

    fn open_lock(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.file(LOCK);
        let file = files::open(&path, OpenOptions::new().read(true)).context("open", &path)?;
        Ok((path, file))
    }
}

/// Whether a process that is marked with this directory goes on although the job from within
/// which it was started ends: it is the worker of the job in that directory, or it delivers the
/// notifications of a job or was left running by a command that did.
///
/// Anybody can mark a process and hold a lock. The worker is the one that the job's record names
/// and that holds the job's lock; while it starts, the record names none.
pub fn is_independent(marker: &Path, process: ProcessId) -> bool {
    let dir = JobDir::at(marker.to_owned());
    if dir.is_notifications_dir() {
        return true;
    }
    let Ok(record) = dir.load() else { return false };
    let is_named = match record.pid {
        Some(pid) => {
            let start_time = record.pid_start_time.unwrap_or(process.start_time);
            ProcessId { pid, start_time } == process
        }
        None => record.status.is_live(),
    };
    is_named && process::holds_lock(process.pid, &dir.file(LOCK))
}
