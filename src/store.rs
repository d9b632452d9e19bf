//! The jobs directory: paths, creating, loading, replacing, scanning, locking.
//!
//! The directory is the database. A job is published by renaming its complete, locked directory
//! into place, so readers never see an incomplete job. A record is replaced by renaming a complete
//! file over it, so readers never see an incomplete record. The lock says whether a job is live:
//! the kernel releases it when its holder dies.
//!
//! The names of files in a job's directory are a protocol: several versions of the program can use
//! the same live job.

mod address;
mod diagnostics;
mod epochs;
mod files;
mod flock;
mod folders;
mod host;
mod inbox;
mod job_dir;
mod lines;
mod liveness;
mod lock;
mod lock_holder;
mod node_skill;
mod notifications;
mod on_engine;
mod owner;
mod preparation;
mod removed_costs;
mod reserve;
mod staging;
mod stderr_mark;
mod summaries;
mod wake_fifo;
mod warned;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) use address::{
    Address, JOBS_DIR, addressed, addressed_from_anywhere, default_root, set_configured_root,
};
pub(crate) use diagnostics::{WriteProbe, try_lock_in};
pub(crate) use epochs::{
    Claim, ClaimKind, EpochEntry, LastEntry, Lease, LeaseTimes, LeaseWatch, NextStep,
};
pub(crate) use files::{create_directory, open as open_ordinary, open_to_read};
pub(crate) use flock::LOCK_TIMEOUT as LOCK_BOUND;
pub(crate) use inbox::{InboxItem, undelivered_messages};
pub(crate) use job_dir::{DirIdentity, JobDir};
pub(crate) use lines::{
    FileLine, LineReader, each_line, end_of_last_line, lines_back, start_of_last_lines,
};
pub(crate) use liveness::Liveness;
pub(crate) use lock::{Lock, is_independent};
pub(crate) use preparation::{Preparation, PreparationStep};
pub(crate) use stderr_mark::StderrMark;
pub(crate) use summaries::{EndedJob, Listed, LoadedJob, Summaries};
pub(crate) use wake_fifo::{notify, open_wake_fifo};

use files::{sync_directory, write};
use flock::{LockMode, lock_bounded};
use staging::{Staging, publish};

use crate::fault_point::fault_point;
use crate::job::{JobId, Record, Timestamp};
use crate::process::begin_writeback;

pub(crate) const RECORD: &str = "meta.json";
pub(crate) const PROMPT: &str = "prompt.txt";
/// A result that was set aside because it does not follow from the log.
pub(crate) const UNCONFIRMED_RESULT: &str = "result.unconfirmed.json";
/// Claude's stdout.
pub(crate) const OUTPUT: &str = "output.log";
/// Claude's stderr, and the message of a worker that crashes.
pub(crate) const STDERR: &str = "stderr.log";
/// Positions of stderr within stdout.
pub(crate) const STDERR_MARKS: &str = "stderr.marks";
/// The numbered events.
pub(crate) const EVENTS: &str = "events.ndjson";
/// The end of each turn.
pub(crate) const TURNS: &str = "turns.ndjson";
/// The job's [`Outcome`](crate::job::Outcome): the verdict with the answer.
pub(crate) const RESULT: &str = "result.json";
/// Directory of the owners, one after the other, of a job whose workers an engine starts.
pub(crate) const EPOCHS: &str = "epochs";
/// What an engine writes about a job, and the output of the program that it starts.
pub(crate) const ENGINE_LOG: &str = "engine.log";
/// Held exclusively while the job is live.
pub(crate) const LOCK: &str = "lock";

/// A failed operation on the jobs directory.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {path}: {source}")]
pub(crate) struct StoreError {
    /// Fits after "could not".
    pub operation: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl StoreError {
    /// Whether the disk or the user's quota is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the file system cannot lock files, or its lock service does not answer.
    pub(crate) fn is_without_locks(&self) -> bool {
        use nix::libc::{ENOLCK, ENOSYS, EOPNOTSUPP};
        let errno = self.source.raw_os_error();
        self.operation == "lock" && matches!(errno, Some(ENOLCK | ENOSYS | EOPNOTSUPP))
    }
}

/// Why a job could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("a job with this id exists")]
    Exists,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a job could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("no job has this id")]
    NotFound(JobId),
    /// The record exists, but cannot be decoded.
    #[error("invalid record: {path}: {why}")]
    Unreadable { id: JobId, path: PathBuf, why: String },
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

/// When a new job is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Now,
    /// By [`Store::sync`].
    Later,
}

/// The jobs directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the jobs directory at this absolute path, which need not exist yet. Links are
    /// resolved: the path is the marker of a job's processes, so it must be the same whatever path
    /// the caller uses.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Ok(metadata) = fs::symlink_metadata(path)
            && metadata.is_symlink()
            && ![0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid())
        {
            return untrusted(path, "it is a link that belongs to another user");
        }
        let store = Self::at_resolved(path);
        store.check()?;
        Ok(store)
    }

    /// Returns the jobs directory at this absolute path without links.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the jobs directory at this absolute path, whose links are resolved. Its owner and
    /// permissions are not checked.
    pub(crate) fn at_resolved(path: &Path) -> Self {
        Self::at(resolve_links(path))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of a job, whether or not it exists.
    pub(crate) fn job(&self, id: &JobId) -> JobDir {
        JobDir::new(&self.root, id)
    }

    /// Takes the lock that keeps jobs from being [removed](Self::lock_removal) while a job is
    /// created that waits for some of them. Returns `None` after a timeout, or if directories cannot
    /// be locked (flock(2) on NFS): then a job may be removed in the meantime, which is unlikely.
    pub(crate) fn lock_against_removal(&self) -> Option<Lock> {
        self.lock_root(LockMode::Shared)
    }

    /// Takes the lock that keeps jobs from [being created](Self::lock_against_removal) that wait for
    /// the jobs which the caller selects and removes. Returns `None` in the same cases.
    pub(crate) fn lock_removal(&self) -> Option<Lock> {
        self.lock_root(LockMode::Exclusive)
    }

    fn lock_root(&self, mode: LockMode) -> Option<Lock> {
        let root = files::open_directory(&self.root).ok()?;
        // The holder's progress cannot be observed: it leaves no trace in the directory.
        lock_bounded(&root, &self.root, mode, LOCK_BOUND, |_| (None, ())).ok()?;
        Some(Lock(root))
    }

    /// Creates a durable job, as [`create_synced`](Self::create_synced) does.
    #[cfg(test)]
    pub(crate) fn create(
        &self,
        record: &Record,
        prompt: &str,
    ) -> Result<(JobDir, Lock), CreateError> {
        self.create_synced(record, prompt, Sync::Now)
    }

    /// Creates a job: its directory with `prompt` and the record is locked, complete and, with
    /// [`Sync::Now`], durable before it gets its name. Otherwise [`sync`](Self::sync) makes many jobs
    /// durable at once, and none of them may start before that. Returns the lock held.
    pub(crate) fn create_synced(
        &self,
        record: &Record,
        prompt: &str,
        sync: Sync,
    ) -> Result<(JobDir, Lock), CreateError> {
        create_directory(&self.root, true)?;
        self.check()?;
        let staging = Staging::open(&self.root)?;
        let (staged, lock) = staging.create_job_dir(&record.job_id)?;
        match self.fill_and_publish(&staged, record, prompt, sync) {
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
        sync: Sync,
    ) -> Result<JobDir, CreateError> {
        if record.spec.engine.is_some() {
            create_directory(&staged.path().join(EPOCHS), false)?;
        }
        let path = staged.file(RECORD);
        let text = serde_json::to_vec(record).context("write", &path)?;
        let prompt_path = staged.file(PROMPT);
        let files = [
            (&prompt_path, write(&prompt_path, prompt.as_bytes())?),
            (&path, write(&path, &text)?),
        ];
        // The writeback of both files begins before anything is synced: a file system with a journal
        // then commits all of it with the directory, and the syncs of the files have nothing to do.
        for (_, file) in &files {
            begin_writeback(file.as_fd());
        }
        if sync == Sync::Now {
            sync_directory(staged.path())?;
            for (path, file) in files {
                file.sync_data().context("write", path)?;
            }
        }
        fault_point("start:written");
        let job = self.job(&record.job_id);
        publish(staged.path(), job.path())?;
        fault_point("start:published");
        if sync == Sync::Now {
            sync_directory(&self.root)?;
        }
        Ok(job)
    }

    /// Makes all jobs durable that were created with [`Sync::Later`].
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let root = files::open_directory(&self.root).context("write", &self.root)?;
        #[cfg(target_os = "linux")]
        let synced = nix::unistd::syncfs(&root);
        #[cfg(not(target_os = "linux"))]
        let synced: nix::Result<()> = {
            drop(root);
            nix::unistd::sync();
            Ok(())
        };
        synced.context("write", &self.root)
    }

    /// Refuses a directory that other users own or can write to: they could make this program run
    /// any command and signal any process. A directory that does not exist yet is accepted.
    fn check(&self) -> Result<(), StoreError> {
        let metadata = match fs::metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.context("examine", &self.root)?,
        };
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return untrusted(&self.root, "it belongs to another user");
        }
        if metadata.mode() & 0o022 != 0 {
            return untrusted(&self.root, "others can write to it (chmod go-w)");
        }
        Ok(())
    }

    /// Removes the leftovers of a `start` or `clean` that died. Entries whose lock is held stay.
    pub(crate) fn clear_leftovers(&self) -> Result<(), StoreError> {
        self.prune_folders();
        staging::clear(&self.root)
    }

    /// Returns whether a warning that holds for every job was not given for a day. It counts as given
    /// now.
    pub(crate) fn is_warning_due(&self, warning: &str) -> bool {
        warned::is_due(&self.root, warning)
    }

    /// Returns the US dollars of removed jobs that had all these labels and ended at `since` or
    /// later, each counted once. The `present` jobs, by id and start time, are left out: a caller
    /// that has summed them before misses none that is removed in the meantime.
    pub(crate) fn cost_of_removed(
        &self,
        present: &BTreeSet<(JobId, Option<Timestamp>)>,
        labels: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> f64 {
        // These are read first: a cost that is saved in the meantime is found in the file.
        let being_removed = staging::staged_records(&self.root);
        removed_costs::sum(&self.root, being_removed, present, labels, since)
    }

    /// Returns the ids of the jobs, unordered. Entries that are not a directory named like a job's
    /// id are skipped: this program did not create them.
    pub(crate) fn ids(&self) -> Result<Vec<JobId>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context("read", &self.root)?,
        };
        let mut ids = Vec::new();
        for entry in entries.flatten() {
            if let Ok(kind) = entry.file_type()
                && kind.is_dir()
                && let Some(name) = entry.file_name().to_str()
            {
                ids.extend(JobId::parse(name));
            }
        }
        Ok(ids)
    }
}

fn untrusted<T>(path: &Path, why: &str) -> Result<T, StoreError> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).context("trust", path)
}

/// Resolves the links of a path as far as it exists.
fn resolve_links(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => resolve_links(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
