//! A job's lock: a job is live while its lock is held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::flock::{LockMode, holder_of, try_lock};
use super::notifications::is_notifications_dir;
use super::{Context, JobDir, LOCK, StoreError, files, lock_holder};
use crate::process::{self, ProcessId};

/// How often the lock is tried again while only readers hold it.
const MAX_LOCK_TRIES: usize = 100;

/// The held lock of a job (flock(2), through std). It belongs to the open file description, so it is
/// passed on with the descriptor. It is released when the last descriptor is closed, at the latest
/// when its holder exits.
#[derive(Debug)]
pub(crate) struct Lock(pub(super) File);

impl Lock {
    /// Wraps the descriptor of a lock that another process passed on.
    pub(crate) fn inherited(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }

    /// Writes this process's id into the file, for the processes that wait for the lock, and whether
    /// it yields the lock when it gets SIGUSR1.
    pub(crate) fn record_holder(&self, yields: bool) {
        lock_holder::write(&self.0, yields);
    }
}

#[cfg(test)]
impl Lock {
    /// Releases the lock at once, though a process that a parallel test is just starting has a copy
    /// of the descriptor until it executes its program.
    pub(crate) fn release(self) {
        self.0.unlock().unwrap();
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl JobDir {
    /// Creates and takes the lock of a job that is being built. Returns `None` if another process
    /// took the directory for a leftover and removed it.
    pub(super) fn create_lock(&self) -> Result<Option<Lock>, StoreError> {
        let path = self.file(LOCK);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context("create", &path)?,
        };
        if !try_lock(&file, &path, LockMode::Exclusive)? {
            return Ok(None);
        }
        if file.metadata().context("examine", &path)?.nlink() == 0 {
            return Ok(None);
        }
        Ok(Some(Lock(file)))
    }

    /// Takes the lock. Returns `None` if another process holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_lock()?;
        for _ in 0..MAX_LOCK_TRIES {
            if try_lock(&file, &path, LockMode::Exclusive)? {
                return Ok(Some(Lock(file)));
            }
            // Readers that probe the lock hold it, too, for microseconds.
            if self.is_held()? {
                return Ok(None);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(None)
    }

    /// Whether a process holds the lock, so that the job is live. Probes with a shared lock, so that
    /// two readers do not take each other for a worker.
    pub(crate) fn is_held(&self) -> Result<bool, StoreError> {
        let (path, file) = self.open_lock()?;
        Ok(!try_lock(&file, &path, LockMode::Shared)?)
    }

    /// Returns the process that took the lock, if the system knows it. It may have passed the lock on
    /// to another one.
    pub(crate) fn lock_holder(&self) -> Option<i32> {
        holder_of(&self.open_lock().ok()?.1)
    }

    /// Blocks until the lock is free, and the job of another machine or of an engine has ended.
    pub(crate) fn wait_released(&self) -> Result<(), StoreError> {
        let (path, file) = self.open_lock()?;
        loop {
            match file.lock_shared() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done.context("lock", &path)?,
            }
        }
        drop(file);
        // Neither locks nor events of another machine are visible here.
        while self.needs_polling() {
            std::thread::sleep(self.poll_interval());
        }
        Ok(())
    }

    fn open_lock(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.file(LOCK);
        let file = files::open_to_read(&path).context("open", &path)?;
        Ok((path, file))
    }
}

/// Whether a process with this marker survives the end of the job from which it was started: it is
/// the worker of the job in the marker's directory, or it delivers the notifications of a job, or a
/// command that did has left it.
///
/// Any process can have a marker and hold a lock. The worker is the process that the job's record
/// names and that holds the job's lock; while the worker starts, the record names none.
pub(crate) fn is_independent(marker: &Path, process: ProcessId) -> bool {
    if is_notifications_dir(marker) {
        return true;
    }
    let Some(dir) = JobDir::at(marker.to_owned()) else { return false };
    let Ok(record) = dir.load() else { return false };
    let is_named = match record.worker.pid {
        Some(pid) => {
            let start_time = record.worker.pid_start_time.unwrap_or(process.start_time);
            ProcessId { pid, start_time } == process
        }
        None => record.status.is_live(),
    };
    is_named && process::holds_lock(process.pid, &dir.file(LOCK))
}
