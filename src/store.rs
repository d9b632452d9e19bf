//! The jobs directory: paths, creating, loading, replacing, scanning, locking.
//!
//! The directory is the database. A job is published by renaming its complete, locked directory
//! into place, so there is no half-made job to be seen; a record is replaced by renaming a
//! complete file over it, so there is no half-written one. The lock says whether a job is live:
//! the kernel lets go of it when its holder dies.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use serde::Serialize;

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
/// The verdict with the answer.
pub const RESULT: &str = "result.json";
/// The lock.
pub const LOCK: &str = "lock";

/// Where jobs are made before they are published. No job's name: it begins with a dot.
const NURSERY: &str = ".new";
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
    /// The jobs directory at this absolute path, which need not exist yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its path.
    #[cfg(test)]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a job, whether or not it exists.
    pub fn job(&self, id: &JobId) -> JobDir {
        JobDir { path: self.root.join(id.as_str()) }
    }

    /// Makes a job: its directory with `prompt` and the record, locked, complete and durable
    /// before it gets its name. The lock comes back held.
    pub fn create(&self, record: &Record, prompt: &str) -> Result<(JobDir, Lock), CreateError> {
        let nursery = self.root.join(NURSERY);
        make_directory(&self.root, true)?;
        self.check_owner()?;
        make_directory(&nursery, false)?;
        discard_stillborn(&nursery);
        let unborn = nursery.join(uuid::Uuid::new_v4().simple().to_string());
        DirBuilder::new().mode(0o700).create(&unborn).context("create", &unborn)?;
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
        let job = self.job(&record.job_id);
        publish(unborn, &job.path)?;
        sync_directory(&self.root)?;
        Ok((job, lock))
    }

    /// Another user who could write here could make us run what they like.
    fn check_owner(&self) -> Result<(), StoreError> {
        let about = fs::metadata(&self.root).context("look at", &self.root)?;
        let ours = about.uid() == nix::unistd::geteuid().as_raw();
        if ours && about.mode() & 0o022 == 0 {
            return Ok(());
        }
        let why = "it belongs to another user, or others can write to it (chmod go-w)";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).context("trust", &self.root)
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
        let path = self.file(META);
        let text = read_bounded(&path, RECORD_READ).context("read", &path)?;
        let why = |error: serde_json::Error| error.to_string();
        serde_json::from_slice(&text)
            .map_err(|error| LoadError::Unreadable { path, why: why(error) })
    }

    /// The result as it stands on disk; `None` where there is none, or none that can be read.
    pub fn outcome(&self) -> Option<Outcome> {
        serde_json::from_slice(&read_bounded(&self.file(RESULT), 64 << 20).ok()?).ok()
    }

    /// Replaces the record. A record of another version is left as it is.
    pub fn save(&self, record: &Record) -> Result<(), StoreError> {
        self.replace(META, record)
    }

    /// Replaces the result.
    pub fn save_outcome(&self, outcome: &Outcome) -> Result<(), StoreError> {
        self.replace(RESULT, outcome)
    }

    /// Temporary file, fsync, rename: whoever reads sees the old or the new contents, and so does
    /// whoever reads after a crash. Only the holder of the lock writes, so the temporary name
    /// needs nothing to make it unique.
    fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let path = self.file(name);
        let temporary = self.file(&format!("{name}.tmp"));
        let text = serde_json::to_vec(value).context("write", &path)?;
        let replaced = write_durably(&temporary, &text)
            .and_then(|()| fs::rename(&temporary, &path).context("replace", &path));
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced
    }

    /// Opens a file of the job for appending; it is made where it is missing.
    pub fn append(&self, name: &str) -> Result<File, StoreError> {
        let path = self.file(name);
        let options = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        options.context("open", &path)
    }

    /// Opens a file of the job for reading; `None` where it does not exist.
    pub fn open(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.file(name);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).context("open", &path),
        }
    }

    /// The last bytes of a file of the job, at most `most`; empty where it cannot be read.
    pub fn tail(&self, name: &str, most: u64) -> Vec<u8> {
        use std::io::{Read, Seek, SeekFrom};
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.file(name))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
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
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
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
        let file = File::open(&path).context("open", &path)?;
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

fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let file = File::open(path)?;
    // A pipe or device under this name could block for ever.
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
    }
    let mut text = Vec::with_capacity(usize::try_from(about.len().min(most)).unwrap_or(0) + 1);
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

fn make_directory(path: &Path, parents: bool) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).recursive(parents).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.context("create", path),
    }
}

fn write_durably(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    write(path, text)?.sync_data().context("write", path)
}

fn write(path: &Path, text: &[u8]) -> Result<File, StoreError> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = options.context("create", path)?;
    file.write_all(text).context("write", path)?;
    Ok(file)
}

/// Makes what was created in or renamed into a directory durable.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).context("write", path)
}

/// Gives the finished directory its name, unless the name is taken.
fn publish(unborn: &Path, name: &Path) -> Result<(), CreateError> {
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, unborn, AT_FDCWD, name, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => return Err(CreateError::Exists),
            // Some file systems do not know the flag.
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            done => return Ok(done.context("create", name)?),
        }
    }
    // A rename replaces at most an empty directory, and a job's is never empty.
    match fs::rename(unborn, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CreateError::Exists),
        done => Ok(done.context("create", name)?),
    }
}

/// Removes what a `start` that died left in the nursery: whatever is unlocked and older than a
/// minute.
fn discard_stillborn(nursery: &Path) {
    const OLD: Duration = Duration::from_secs(60);
    let Ok(entries) = fs::read_dir(nursery) else { return };
    for entry in entries.flatten() {
        let made = entry.metadata().and_then(|about| about.modified());
        let age = made.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        let job = JobDir::at(entry.path());
        if age.is_ok_and(|age| age > OLD) && !job.is_held().unwrap_or(false) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
