//! Staging directory: jobs are built and deleted here, invisible to readers.
//!
//! A process that builds or deletes a job holds the job's own lock, so a staged job whose lock is
//! free was left behind by a process that died. No process waits here for another one, which may be
//! stopped. The staging directory itself is locked as well, because earlier versions know only that
//! lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::flock::{LockMode, try_lock};
use super::removed_costs::RemovedCost;
use super::{Context, CreateError, JobDir, LOCK, Lock, RECORD, StoreError, files};
use crate::fault_point::fault_point;
use crate::job::{JobId, Record};

/// Name in the jobs directory. A job's id cannot begin with a dot.
const STAGING: &str = ".new";
/// How often a directory is created that another process takes for a leftover.
const MAX_CREATE_TRIES: usize = 100;

/// The open staging directory. Earlier versions do not clear it while it is open.
pub(super) struct Staging {
    path: PathBuf,
    _in_use: File,
}

impl Staging {
    /// Opens the staging directory of a jobs directory, and removes the leftovers of a `start` or
    /// `clean` that died.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(STAGING);
        files::create_directory(&path, false)?;
        let file = files::open_directory(&path).context("open", &path)?;
        let has_leftovers = fs::read_dir(&path).context("read", &path)?.next().is_some();
        if has_leftovers && file.try_lock().is_ok() {
            fault_point("staging:clearing");
            for entry in files::entries(&path) {
                clear_entry(root, &entry.path());
            }
        }
        // Another process may be clearing it, and may be stopped meanwhile. It leaves locked entries
        // alone, unless it is of an earlier version.
        try_lock(&file, &path, LockMode::Shared)?;
        Ok(Self { path, _in_use: file })
    }

    /// Returns an unused path in the staging directory.
    pub(super) fn new_path(&self) -> PathBuf {
        self.path.join(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Creates a directory for a job, locked.
    pub(super) fn create_job_dir(&self, id: &JobId) -> Result<(JobDir, Lock), StoreError> {
        for _ in 0..MAX_CREATE_TRIES {
            let staged = JobDir::staged(self.new_path(), id);
            files::create_directory(staged.path(), false)?;
            fault_point("start:staged");
            match staged.create_lock() {
                Ok(Some(lock)) => return Ok((staged, lock)),
                // Another process has removed it, or is removing it.
                Ok(None) => {}
                Err(error) => {
                    let _ = fs::remove_dir_all(staged.path());
                    return Err(error);
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy)).context("lock", &self.path)
    }
}

/// Removes an entry of the staging directory, unless a process holds its lock.
fn clear_entry(root: &Path, entry: &Path) {
    match fs::remove_dir(entry) {
        // It was empty: the process that created it creates another one.
        Ok(()) => return,
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(_) => {
            let _ = files::remove(entry);
            return;
        }
    }
    // The lock is the first file of a directory that is being built, and the last of one that is
    // being deleted.
    let mut _lock = None;
    if let Some(staged) = JobDir::at(entry.to_owned()) {
        _lock = match staged.try_lock() {
            Ok(None) => return,
            Ok(lock) => lock,
            Err(_) => None,
        };
    }
    let _ = remove_staged(root, entry);
}

/// Removes an entry of the staging directory of a jobs directory.
///
/// Everything but the record and the lock is removed first, then the job's cost is saved, then the
/// rest is removed. So a full disk has space for the cost, and it is not lost wherever the process
/// dies. If the cost cannot be saved, the record stays, and a later call tries again.
pub(super) fn remove_staged(root: &Path, entry: &Path) -> Result<(), StoreError> {
    if let Some(record) = staged_record(entry)
        && let Some(cost) = RemovedCost::from_record(record)
    {
        for part in files::entries(entry) {
            if part.file_name() != RECORD && part.file_name() != LOCK {
                let _ = files::remove(&part.path());
            }
        }
        cost.save(root)?;
        fault_point("discard:noted");
        // The record goes first, so that its cost is not saved again if another file stays.
        let _ = files::remove(&entry.join(RECORD));
    }
    // If this fails, the next process that opens the staging directory removes it.
    let _ = files::remove(entry);
    Ok(())
}

/// Returns the records in the staging directory of a jobs directory.
pub(super) fn staged_records(root: &Path) -> Vec<Record> {
    let path = root.join(STAGING);
    let mut records = Vec::new();
    if files::open_directory(&path).is_ok() {
        for entry in files::entries(&path) {
            records.extend(staged_record(&entry.path()));
        }
    }
    records
}

fn staged_record(entry: &Path) -> Option<Record> {
    let job = JobDir::at(entry.to_owned())?;
    job.load_checked().ok()
}

/// Removes the leftovers in the staging directory of a jobs directory, if there is one.
pub(super) fn clear(root: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(root.join(STAGING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Staging::open(root).map(drop),
    }
}

/// Renames a complete directory to its final name, unless that is taken.
pub(super) fn publish(staged: &Path, name: &Path) -> Result<(), CreateError> {
    #[cfg(target_os = "linux")]
    {
        use nix::libc::{EINVAL, ENOSYS};
        match crate::process::rename_to_free_name(staged, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(CreateError::Exists);
            }
            // Some file systems do not support it, nor do kernels before 3.15.
            Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ENOSYS)) => {}
            done => return Ok(done.context("create", name)?),
        }
    }
    // A rename replaces only an empty directory, and a job's is never empty.
    match fs::rename(staged, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CreateError::Exists),
        done => Ok(done.context("create", name)?),
    }
}
