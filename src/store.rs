//! The jobs directory: paths, creating, loading, replacing, scanning, locking.
//!
//! The directory is the database. A job is published by renaming its complete, locked directory
//! into place, so there is no half-made job to be seen; a record is replaced by renaming a
//! complete file over it, so there is no half-written one. The lock says whether a job is live:
//! the kernel lets go of it when its holder dies.

mod address;
mod diagnostics;
mod files;
mod flock;
mod host;
mod inbox;
mod job_dir;
mod lock;
mod notifications;
mod removed_costs;
mod reserve;
mod staging;
mod stderr_mark;
mod summaries;
mod wake_fifo;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use address::{Address, addressed, default_root};
pub use diagnostics::{WriteProbe, try_lock_in};
pub use files::{create_directory, open as open_ordinary};
pub use flock::LOCK_TIMEOUT as LOCK_BOUND;
pub use inbox::{InboxItem, undelivered_messages};
pub use job_dir::{DirIdentity, JobDir, legacy_is_dead};
pub use lock::{Lock, is_independent};
pub use stderr_mark::StderrMark;
pub use summaries::{Ended, Listed, Summaries};
pub use wake_fifo::{notify, open_wake_fifo};

use files::{sync_directory, write};
use flock::{LockMode, lock_bounded};
use staging::{Staging, publish};

use crate::fault_point::fault_point;
use crate::job::{JobId, Record, Timestamp};
use crate::process::begin_writeback;

/// A job's record.
pub const RECORD: &str = "meta.json";
/// The prompt as given.
pub const PROMPT: &str = "prompt.txt";
/// A result that was found and does not follow from the log.
pub const UNCONFIRMED_RESULT: &str = "result.unconfirmed.json";
/// Claude's stdout.
pub const OUTPUT: &str = "output.log";
/// Claude's stderr, and what a worker that crashes says.
pub const STDERR: &str = "stderr.log";
/// Where stderr stands among stdout.
pub const STDERR_MARKS: &str = "stderr.marks";
/// The numbered events.
pub const EVENTS: &str = "events.ndjson";
/// The end of each turn.
pub const TURNS: &str = "turns.ndjson";
/// The verdict with the answer.
pub const RESULT: &str = "result.json";
/// The lock.
pub const LOCK: &str = "lock";

/// Says that a caller was warned that the container ends its jobs.
pub const CONTAINER_WARNED: &str = ".container-warned";

/// An operation on the jobs directory failed. The words fit after "could not".
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {path}: {source}")]
pub struct StoreError {
    /// What was being done.
    pub operation: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What went wrong.
    pub source: io::Error,
}

impl StoreError {
    /// The disk, or our share of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// The file system cannot lock files, or its lock service does not answer.
    pub fn is_without_locks(&self) -> bool {
        use nix::libc::{ENOLCK, ENOSYS, EOPNOTSUPP};
        let errno = self.source.raw_os_error();
        self.operation == "lock" && matches!(errno, Some(ENOLCK | ENOSYS | EOPNOTSUPP))
    }
}

/// Why a job could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The id is in use.
    #[error("a job of this id exists")]
    Exists,
    /// Something else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a job could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such job.
    #[error("there is no job of this id")]
    NotFound,
    /// The record is there, but cannot be understood.
    #[error("{path} is no record: {why}")]
    Unreadable {
        /// The record's path.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

trait Context<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError {
            operation,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// The jobs directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The jobs directory at this absolute path, which need not exist yet. Links are resolved: a
    /// job's processes bear the path as their mark, so that it must be the same however the
    /// directory is called.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let link = fs::symlink_metadata(path).is_ok_and(|about| {
            about.is_symlink() && ![0, nix::unistd::geteuid().as_raw()].contains(&about.uid())
        });
        if link {
            let why = "it is a link that belongs to another user";
            let error = io::Error::new(io::ErrorKind::PermissionDenied, why);
            return Err(error).context("trust", path);
        }
        let store = Self::at_resolved(path);
        store.check()?;
        Ok(store)
    }

    /// The jobs directory at this absolute path without links.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The jobs directory at this absolute path, whose links are resolved. It is not looked at.
    pub fn at_resolved(path: &Path) -> Self {
        Self::at(resolve_links(path))
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a job, whether or not it exists.
    pub fn job(&self, id: &JobId) -> JobDir {
        JobDir::at(self.root.join(id.as_str()))
    }

    /// Keeps all jobs while a job is made that waits for some of them: as long as this is held,
    /// none is [cleaned away](Self::lock_removal). `None` where it cannot be had within a moment,
    /// or no directory can be locked (flock(2) on NFS): a small chance is left then.
    pub fn lock_against_removal(&self) -> Option<Lock> {
        self.lock_root(LockMode::Shared)
    }

    /// Held while jobs are chosen and removed: nobody [comes to wait](Self::lock_others) for one
    /// of them. `None` as there.
    pub fn lock_removal(&self) -> Option<Lock> {
        self.lock_root(LockMode::Exclusive)
    }

    fn lock_root(&self, mode: LockMode) -> Option<Lock> {
        let root = files::open_directory(&self.root).ok()?;
        // What its holder does, which may be stopped, leaves no trace in it.
        lock_bounded(&root, &self.root, mode, LOCK_BOUND, |_| (None, ())).ok()?;
        Some(Lock(root))
    }

    /// Makes a job: its directory with `prompt` and the record, locked, complete and durable
    /// before it gets its name. The lock comes back held.
    pub fn create(&self, record: &Record, prompt: &str) -> Result<(JobDir, Lock), CreateError> {
        create_directory(&self.root, true)?;
        self.check()?;
        let staging = Staging::open(&self.root)?;
        let (staged, lock) = staging.create_job_dir()?;
        match self.fill_and_publish(&staged, record, prompt) {
            Ok(job) => Ok((job, lock)),
            Err(error) => {
                let _ = fs::remove_dir_all(staged.path());
                Err(error)
            }
        }
    }

    fn fill_and_publish(
        &self,
        staged: &JobDir,
        record: &Record,
        prompt: &str,
    ) -> Result<JobDir, CreateError> {
        let path = staged.file(RECORD);
        let text = serde_json::to_vec(record).context("write", &path)?;
        let prompt_path = staged.file(PROMPT);
        let files = [
            (&prompt_path, write(&prompt_path, prompt.as_bytes())?),
            (&path, write(&path, &text)?),
        ];
        // The blocks of both are asked for before anything is synced: a file system with a journal
        // then commits all of it with the directory, and the files' own syncs find that done.
        for (_, file) in &files {
            begin_writeback(file.as_fd());
        }
        sync_directory(staged.path())?;
        for (path, file) in files {
            file.sync_data().context("write", path)?;
        }
        fault_point("start:written");
        let job = self.job(&record.job_id);
        publish(staged.path(), job.path())?;
        fault_point("start:published");
        sync_directory(&self.root)?;
        Ok(job)
    }

    /// Refuses a directory that is not ours alone: whoever could write here could make us run
    /// what they like, and whoever owns it could make us signal what they like. One that does not
    /// exist yet is fine.
    fn check(&self) -> Result<(), StoreError> {
        let us = nix::unistd::geteuid().as_raw();
        let refuse = |why| {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).context("trust", &self.root)
        };
        let about = match fs::metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            about => about.context("look at", &self.root)?,
        };
        if about.uid() != us {
            refuse("it belongs to another user")
        } else if about.mode() & 0o022 != 0 {
            refuse("others can write to it (chmod go-w)")
        } else {
            Ok(())
        }
    }

    /// Clears away what a `start` or `clean` that died has left, unless somebody is at it.
    pub fn clear_leftovers(&self) -> Result<(), StoreError> {
        staging::clear(&self.root)
    }

    /// Makes an empty file in the jobs directory. Returns false if it existed before, so that of
    /// several callers only one does what is to be done once.
    pub fn create_marker(&self, name: &str) -> bool {
        let mut options = fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(self.root.join(name));
        !made.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
    }

    /// Returns the US dollars of removed jobs that had all these labels and ended at `since` or
    /// later, each counted once. The `present` jobs, by id and start time, are left out: a caller
    /// that has summed them before misses none that is removed in the meantime.
    pub fn cost_of_removed(
        &self,
        present: &BTreeSet<(JobId, Option<Timestamp>)>,
        labels: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> f64 {
        // These are read first: a cost that is saved in the meantime is found in the file.
        let being_removed = staging::staged_records(&self.root);
        removed_costs::sum(&self.root, being_removed, present, labels, since)
    }

    /// The names of the jobs, in no order. Only directories whose name is a job's id count;
    /// anything else in there is not ours.
    pub fn ids(&self) -> Result<Vec<JobId>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context("read", &self.root)?,
        };
        Ok(entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| JobId::parse(entry.file_name().to_str()?).ok())
            .collect())
    }
}

/// The path without links as far as it exists.
fn resolve_links(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => resolve_links(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
