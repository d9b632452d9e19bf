//! Staging directory: jobs are built and deleted here, invisible to readers.
//!
//! Whoever builds or deletes a job holds the job's own lock, so a staged job whose lock is free was
//! left behind by a process that died. Nobody waits for another process here, which may be stopped.
//! The staging directory itself is locked as well: earlier versions know only that lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::removed_costs::RemovedCost;
use super::{Context, CreateError, JobDir, LOCK, Lock, RECORD, StoreError, files};
use crate::fault_point::fault_point;
use crate::job::Record;

/// Its name in the jobs directory. No job's name: it begins with a dot.
const STAGING: &str = ".new";
/// How often a directory is made again that another process took for a leftover.
const TRIES: usize = 100;

/// The staging directory, open. While it is, no earlier version clears it.
pub(super) struct Staging {
    path: PathBuf,
    _in_use: File,
}

impl Staging {
    /// Opens the staging directory of a jobs directory, and clears away what a `start` or `clean`
    /// that died has left.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(STAGING);
        files::create_directory(&path, false)?;
        let file = files::open_directory(&path).context("open", &path)?;
        let mut leftovers = fs::read_dir(&path).context("read", &path)?.peekable();
        if leftovers.peek().is_some() && file.try_lock().is_ok() {
            fault_point("staging:clearing");
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                clear_entry(root, &entry.path());
            }
        }
        // Another process may be clearing it, and be stopped at that. It leaves alone what is
        // locked, unless it is of an earlier version.
        match file.try_lock_shared() {
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(Self { path, _in_use: file }),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    /// A path in it that nobody uses.
    pub(super) fn new_path(&self) -> PathBuf {
        self.path.join(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Makes a directory in it for a job, locked.
    pub(super) fn create_job_dir(&self) -> Result<(JobDir, Lock), StoreError> {
        let mut tries = 0;
        loop {
            let staged = JobDir::at(self.new_path());
            files::create_directory(staged.path(), false)?;
            fault_point("start:staged");
            match staged.create_lock() {
                Ok(Some(lock)) => return Ok((staged, lock)),
                // Another process has cleared it away.
                Ok(None) if tries < TRIES => tries += 1,
                failed => {
                    let _ = fs::remove_dir_all(staged.path());
                    let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
                    failed?.ok_or_else(busy).context("lock", staged.path())?;
                }
            }
        }
    }
}

/// Removes an entry of the staging directory, unless a process is at it.
fn clear_entry(root: &Path, entry: &Path) {
    match fs::remove_dir(entry) {
        // It was empty: whoever made it makes another.
        Ok(()) => return,
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(_) => {
            let _ = files::remove(entry);
            return;
        }
    }
    // The lock is the first file of a directory that is being built, and the last of one that is
    // being deleted.
    let _lock = match JobDir::at(entry.to_owned()).try_lock() {
        Ok(None) => return,
        Ok(lock) => lock,
        Err(_) => None,
    };
    let _ = remove_staged(root, entry);
}

/// Removes something that lies in the staging directory of a jobs directory. What it has cost is
/// noted when all but its record and its lock is gone, and then the rest goes: so a full disk has
/// room for the note, and nothing is forgotten, whoever dies in between. If it cannot be noted the
/// record stays, for whoever comes next.
pub(super) fn remove_staged(root: &Path, entry: &Path) -> Result<(), StoreError> {
    if let Some(spent) = staged_record(entry).and_then(RemovedCost::of) {
        for part in fs::read_dir(entry).into_iter().flatten().flatten() {
            if part.file_name() != RECORD && part.file_name() != LOCK {
                let _ = files::remove(&part.path());
            }
        }
        spent.note(root)?;
        fault_point("discard:noted");
        // First, so that it is not noted again should anything else not go.
        let _ = files::remove(&entry.join(RECORD));
    }
    // Should this fail whoever comes next clears it away.
    let _ = files::remove(entry);
    Ok(())
}

/// The records of those who lie in the staging directory of a jobs directory.
pub(super) fn staged_records(root: &Path) -> Vec<Record> {
    let path = root.join(STAGING);
    let entries = files::open_directory(&path).and_then(|_| fs::read_dir(&path));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| staged_record(&entry.path()))
        .collect()
}

fn staged_record(entry: &Path) -> Option<Record> {
    let job = JobDir::at(entry.to_owned());
    job.check().and_then(|()| job.load()).ok()
}

/// The number of entries of the staging directory that no process is at.
pub(super) fn leftovers(root: &Path) -> Result<usize, StoreError> {
    let path = root.join(STAGING);
    let entries = match files::open_directory(&path).and_then(|_| fs::read_dir(&path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.context("read", &path)?,
    };
    let is_left = |entry: &fs::DirEntry| !JobDir::at(entry.path()).is_held().unwrap_or(false);
    Ok(entries.flatten().filter(is_left).count())
}

/// Clears the staging directory of a jobs directory, if there is one.
pub(super) fn clear(root: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(root.join(STAGING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Staging::open(root).map(drop),
    }
}

/// Gives the finished directory its name, unless the name is taken.
pub(super) fn publish(staged: &Path, name: &Path) -> Result<(), CreateError> {
    #[cfg(target_os = "linux")]
    {
        use nix::errno::Errno;
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, staged, AT_FDCWD, name, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => return Err(CreateError::Exists),
            // Some file systems do not know the flag.
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            done => return Ok(done.context("create", name)?),
        }
    }
    // A rename replaces at most an empty directory, and a job's is never empty.
    match fs::rename(staged, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CreateError::Exists),
        done => Ok(done.context("create", name)?),
    }
}
