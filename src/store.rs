//! The jobs directory: paths, creating, loading, replacing, scanning, locking.
//!
//! The directory is the database. A job is published by renaming its complete, locked directory
//! into place, so there is no half-made job to be seen; a record is replaced by renaming a
//! complete file over it, so there is no half-written one. The lock says whether a job is live:
//! the kernel lets go of it when its holder dies.

mod files;
mod inbox;
mod ledger;
mod news;
mod nursery;
mod reserve;
mod survey;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use inbox::{Item, undelivered};
pub use survey::{Probe, try_lock_in};

use files::{make_directory, read_bounded, sync_directory, write, write_durably};
use nursery::{Nursery, publish, unmake};

use crate::checkpoint::checkpoint;
use crate::job::{JobId, Outcome, Record, Status, Timestamp};

/// A job's record.
pub const META: &str = "meta.json";
/// The prompt as given.
pub const PROMPT: &str = "prompt.txt";
/// Claude's stdout.
pub const OUTPUT: &str = "output.log";
/// Claude's stderr, and what a worker that crashes says.
pub const STDERR: &str = "stderr.log";
/// The numbered events.
pub const EVENTS: &str = "events.ndjson";
/// The end of each turn.
pub const TURNS: &str = "turns.ndjson";
/// The verdict with the answer.
pub const RESULT: &str = "result.json";
/// The lock.
pub const LOCK: &str = "lock";

/// How often the lock is tried again where only readers hold it.
const LOOKERS_WAITED_FOR: usize = 100;
/// Bytes at the end of the events in which the last one is looked for.
const EVENTS_TAIL: u64 = 16 << 10;
/// Bytes of a record that are read at most; ours are far smaller, a foreign file may not be.
const RECORD_READ: u64 = 8 << 20;

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
        let store = Self::at(resolved(path));
        store.check()?;
        Ok(store)
    }

    /// The jobs directory at this absolute path without links.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a job, whether or not it exists.
    pub fn job(&self, id: &JobId) -> JobDir {
        JobDir { path: self.root.join(id.as_str()) }
    }

    /// Keeps all jobs while a job is made that waits for some of them: as long as this is held,
    /// none is [cleaned away](Self::lock_removal).
    pub fn lock_others(&self) -> Option<Lock> {
        let root = files::open_directory(&self.root).ok()?;
        root.lock_shared().ok().map(|()| Lock(root))
    }

    /// Held while jobs are chosen and removed: nobody [comes to wait](Self::lock_others) for one
    /// of them. Waits for those who are at it. `None` where a directory cannot be locked (flock(2)
    /// on NFS): then that small chance is left.
    pub fn lock_removal(&self) -> Option<Lock> {
        let root = files::open_directory(&self.root).ok()?;
        root.lock().ok().map(|()| Lock(root))
    }

    /// Makes a job: its directory with `prompt` and the record, locked, complete and durable
    /// before it gets its name. The lock comes back held.
    pub fn create(&self, record: &Record, prompt: &str) -> Result<(JobDir, Lock), CreateError> {
        make_directory(&self.root, true)?;
        self.check()?;
        let nursery = Nursery::enter(&self.root)?;
        let unborn = nursery.cradle()?;
        checkpoint("start:cradle");
        let made = self.fill(&unborn, record, prompt);
        if made.is_err() {
            let _ = fs::remove_dir_all(&unborn);
        }
        made
    }

    fn fill(
        &self,
        unborn: &Path,
        record: &Record,
        prompt: &str,
    ) -> Result<(JobDir, Lock), CreateError> {
        let at = JobDir { path: unborn.to_owned() };
        let lock = at.create_lock()?;
        // Both are written before either is synced: a file system with a journal then commits it
        // once for the two.
        let path = at.file(META);
        let text = serde_json::to_vec(record).context("write", &path)?;
        let files =
            [(at.file(PROMPT), prompt.as_bytes()), (path, text.as_slice())].map(|(path, text)| {
                let file = write(&path, text);
                (path, file)
            });
        for (path, file) in files {
            file?.sync_data().context("write", &path)?;
        }
        sync_directory(unborn)?;
        checkpoint("start:written");
        let job = self.job(&record.job_id);
        publish(unborn, &job.path)?;
        checkpoint("start:published");
        sync_directory(&self.root)?;
        Ok((job, lock))
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
        nursery::clear(&self.root)
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
fn resolved(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_owned(),
    }
}

/// A job's directory.
#[derive(Clone, Debug)]
pub struct JobDir {
    path: PathBuf,
}

impl JobDir {
    /// The job's directory at this absolute path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The record as it stands on disk.
    pub fn load(&self) -> Result<Record, LoadError> {
        let path = self.file(META);
        let text = match read_bounded(&path, RECORD_READ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.path.is_dir() {
                    let why = "the file is missing".to_owned();
                    return Err(LoadError::Unreadable { path, why });
                }
                return Err(LoadError::NotFound);
            }
            text => text.context("read", &path)?,
        };
        decode_record(&text).map_err(|why| LoadError::Unreadable { path, why })
    }

    /// Of the record only what a list is ordered by.
    pub fn glance(&self) -> Result<Glance, LoadError> {
        self.part()
    }

    /// Of the record only what `T` wants to know.
    pub fn part<T: serde::de::DeserializeOwned>(&self) -> Result<T, LoadError> {
        let path = self.file(META);
        let text = read_bounded(&path, RECORD_READ).context("read", &path)?;
        let why = |error: serde_json::Error| error.to_string();
        serde_json::from_slice(&text)
            .map_err(|error| LoadError::Unreadable { path, why: why(error) })
    }

    /// The result as it stands on disk, which may be that of an earlier attempt; `None` where there
    /// is none, or none that can be read.
    pub fn outcome(&self) -> Option<Outcome> {
        serde_json::from_slice(&read_bounded(&self.file(RESULT), 64 << 20).ok()?).ok()
    }

    /// Refuses a job's directory that leads elsewhere.
    pub fn check(&self) -> Result<(), LoadError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LoadError::NotFound),
            Err(error) => Err(error).context("look at", &self.path)?,
            Ok(about) if about.is_dir() => Ok(()),
            Ok(_) => {
                let why = "it is no directory".to_owned();
                Err(LoadError::Unreadable { path: self.path.clone(), why })
            }
        }
    }

    /// Replaces the record. On a full disk `dip` says that the room set aside may be used.
    pub fn save(&self, record: &Record, dip: bool) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).context("write", &self.file(META))?;
        let written = self.write_aside(META, &text, dip)?;
        self.put(&written, META)
    }

    /// Replaces the record for the last time, and leaves nothing else behind.
    pub fn save_end(&self, record: &Record) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).context("write", &self.file(META))?;
        let written = self.write_aside(META, &text, true)?;
        checkpoint("end:record-written");
        // Before the record says that the job has ended: after that nobody comes to tidy up.
        let _ = fs::remove_file(self.temporary(RESULT));
        self.release_reserve_but(&written);
        self.put(&written, META)
    }

    /// Replaces the result. On a full disk it is written without what can be long.
    pub fn save_outcome(&self, outcome: &Outcome) -> Result<(), StoreError> {
        let path = self.file(RESULT);
        let text = serde_json::to_vec(outcome).context("write", &path)?;
        let written = self.write_aside(RESULT, &text, true).or_else(|error| {
            let short = serde_json::to_vec(&outcome.clone().shortened()).context("write", &path)?;
            self.write_aside(RESULT, &short, true).map_err(|_| error)
        })?;
        checkpoint("end:outcome-written");
        self.put(&written, RESULT)
    }

    /// Bytes of the disk that the job takes, as far as they can be counted: its own files, and
    /// nothing that a link leads to.
    pub fn disk_usage(&self) -> u64 {
        fn of(path: &Path, depth: usize) -> u64 {
            let Ok(about) = fs::symlink_metadata(path) else { return 0 };
            let own = about.blocks() * 512;
            if !about.is_dir() || depth == 0 {
                return own;
            }
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            own + entries.map(|entry| of(&entry.path(), depth - 1)).sum::<u64>()
        }
        // A job has no deeper folders; whoever made some may wait.
        of(&self.path, 4)
    }

    /// Takes the whole job away, out of sight first, so that nobody sees a part of it. Links are
    /// not followed. Only the holder of the lock may do so. Gives what was in the way of noting
    /// what the job has cost: its record then stays out of sight until that can be done.
    pub fn discard(&self) -> Result<Option<StoreError>, StoreError> {
        let root = self.path.parent().unwrap_or(&self.path);
        let nursery = Nursery::enter(root)?;
        let away = nursery.room();
        // Needs no room on the disk, as little as what follows.
        fs::rename(&self.path, &away).context("remove", &self.path)?;
        checkpoint("discard:renamed");
        Ok(unmake(root, &away).err())
    }

    /// A complete and durable file beside the one it is to replace. Only the holder of the lock
    /// writes, so the temporary name needs nothing to make it unique.
    fn write_aside(&self, name: &str, text: &[u8], dip: bool) -> Result<PathBuf, StoreError> {
        let temporary = self.temporary(name);
        match write_durably(&temporary, text) {
            Ok(()) => Ok(temporary),
            Err(error) if dip && error.is_full() => self.write_in_reserve(text).map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    /// Whoever reads sees the old or the new contents, and so does whoever reads after a crash.
    fn put(&self, written: &Path, name: &str) -> Result<(), StoreError> {
        let path = self.file(name);
        fs::rename(written, &path).context("replace", &path)
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.tmp"))
    }

    /// Opens a file of the job for appending; it is made where it is missing.
    pub fn append(&self, name: &str) -> Result<File, StoreError> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.append(true).read(true).create(true).mode(0o600));
        file.context("open", &path)
    }

    /// The length of a file of the job; 0 where there is none.
    pub fn length(&self, name: &str) -> u64 {
        fs::symlink_metadata(self.file(name)).map_or(0, |about| about.len())
    }

    /// Opens the numbered events for appending, and gives the number of the last. A line that a
    /// dead worker left torn is ended first.
    pub fn open_events(&self) -> Result<(File, u64), StoreError> {
        use std::io::Write;
        let mut file = self.append(EVENTS)?;
        let tail = self.tail(EVENTS, 0, EVENTS_TAIL);
        if !tail.is_empty() && !tail.ends_with(b"\n") {
            file.write_all(b"\n").context("write", &self.file(EVENTS))?;
        }
        let last = tail.split(|&byte| byte == b'\n').rev().find_map(|line| {
            serde_json::from_slice::<Numbered>(line).ok().map(|numbered| numbered.seq)
        });
        Ok((file, last.unwrap_or_default()))
    }

    /// Opens a file of the job for reading; `None` where it does not exist.
    pub fn open(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.file(name);
        match files::open(&path, OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).context("open", &path),
        }
    }

    /// The last bytes of a file of the job from `start` on, at most `most`; empty where it cannot
    /// be read.
    pub fn tail(&self, name: &str, start: u64, most: u64) -> Vec<u8> {
        use std::io::{Read, Seek, SeekFrom};
        let read = || -> io::Result<Vec<u8>> {
            let mut file = files::open(&self.file(name), OpenOptions::new().read(true))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(start.max(length.saturating_sub(most))))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().unwrap_or_default()
    }

    fn create_lock(&self) -> Result<Lock, StoreError> {
        let path = self.file(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .context("create", &path)?;
        file.lock().context("lock", &path)?;
        Ok(Lock(file))
    }

    /// Takes the lock, if nobody holds it. `None`: somebody does.
    pub fn try_lock(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.open_lock()?;
        for _ in 0..LOOKERS_WAITED_FOR {
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

    /// Sleeps until nobody holds the lock.
    pub fn wait_released(&self) -> Result<(), StoreError> {
        let (path, file) = self.open_lock()?;
        loop {
            match file.lock_shared() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.context("lock", &path),
            }
        }
    }

    fn open_lock(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.file(LOCK);
        let file = files::open(&path, OpenOptions::new().read(true)).context("open", &path)?;
        Ok((path, file))
    }
}

/// The lock of a job, held (flock(2), through std). It belongs to the open file description, so
/// it is handed on with the descriptor; it ends when the last descriptor is closed, at the latest
/// with its holder.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The lock behind a descriptor that was handed on.
    pub fn handed(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the directory is that of a live job: what a process's mark points to.
pub fn is_live_job(path: &Path) -> bool {
    JobDir::at(path.to_owned()).is_held().unwrap_or(false)
}

/// What [`JobDir::glance`] sees.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Glance {
    /// How the job is recorded to stand.
    pub status: Status,
    /// When it was asked for.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}

#[derive(serde::Deserialize)]
struct Numbered {
    seq: u64,
}

/// Decodes a record of any version.
fn decode_record(text: &[u8]) -> Result<Record, String> {
    if text.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let mut record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if record.version == 0 {
        // The Node skill kept the whole prompt and the folder at the top.
        let legacy: Legacy = serde_json::from_slice(text).unwrap_or_default();
        record.prompt = crate::text::one_line(&record.prompt, 200);
        record.spec.cwd = legacy.cwd.unwrap_or_default();
        record.spec.allowed_tools = legacy.allowed_tools.unwrap_or_default();
    }
    Ok(record)
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Legacy {
    cwd: Option<String>,
    allowed_tools: Option<Vec<String>>,
}

/// What a record of the Node skill, which has no lock, can be taken for: a status that says live
/// is believed only while a process of its number exists.
pub fn legacy_is_dead(record: &Record) -> bool {
    record.status.is_live()
        && record.status != Status::Queued
        && !record.pid.is_some_and(crate::process::exists)
}

#[cfg(test)]
mod tests;
