//! A job's directory: its record, its files, its end.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, read_bounded, read_measured, write, write_durably};
use super::staging::{Staging, remove_staged};
use super::{Context, EVENTS, LoadError, RECORD, RESULT, StoreError, UNCONFIRMED_RESULT};
use crate::fault_point::fault_point;
use crate::job::{Outcome, Record, Status, Summary};
use crate::process::begin_writeback;

/// Bytes at the end of the events in which the last one is looked for.
const EVENTS_TAIL_BYTES: u64 = 16 << 10;
/// Bytes of a record that are read at most; ours are far smaller, a foreign file may not be.
const MAX_RECORD_BYTES: u64 = 8 << 20;

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

    /// The jobs directory in which it lies.
    pub fn root(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What tells the directory from an earlier one at its path; `None` where there is none. The
    /// number of one that is gone can be given again, so the time of its birth belongs to it, where
    /// the file system knows that.
    pub fn identity(&self) -> Option<DirIdentity> {
        let about = fs::symlink_metadata(&self.path).ok()?;
        Some(DirIdentity { device: about.dev(), number: about.ino(), born: about.created().ok() })
    }

    /// The record as it stands on disk.
    pub fn load(&self) -> Result<Record, LoadError> {
        let path = self.file(RECORD);
        let text = match read_bounded(&path, MAX_RECORD_BYTES) {
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

    /// Of the record only what lists and sums need, and what is known of its file.
    pub(super) fn summary_of_file(&self) -> Result<(Summary, Metadata), LoadError> {
        let path = self.file(RECORD);
        let (text, about) = read_measured(&path, MAX_RECORD_BYTES).context("read", &path)?;
        match serde_json::from_slice(&text) {
            Ok(summary) => Ok((summary, about)),
            Err(error) => Err(LoadError::Unreadable { path, why: error.to_string() }),
        }
    }

    /// Of the record only what lists and sums need.
    pub fn summary(&self) -> Result<Summary, LoadError> {
        self.summary_of_file().map(|(summary, _)| summary)
    }

    /// The result as it stands on disk, which may be that of an earlier attempt; `None` where there
    /// is none, or none that can be read.
    pub fn outcome(&self) -> Option<Outcome> {
        serde_json::from_slice(&read_bounded(&self.file(RESULT), 64 << 20).ok()?).ok()
    }

    /// Sets aside a result that does not follow from the job's log.
    pub fn set_result_aside(&self) -> Result<(), StoreError> {
        let path = self.file(RESULT);
        fs::rename(&path, self.file(UNCONFIRMED_RESULT)).context("set aside", &path)
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
        let text = serde_json::to_vec(record).context("write", &self.file(RECORD))?;
        let written = self.write_temporary(RECORD, &text, dip)?;
        self.publish_file(&written, RECORD)
    }

    /// Replaces the record for the last time, and leaves nothing else behind.
    pub fn save_end(&self, record: &Record) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).context("write", &self.file(RECORD))?;
        let written = match self.sync_written_ahead(&text) {
            Ok(Some(written)) => written,
            Ok(None) | Err(_) => self.write_temporary(RECORD, &text, true)?,
        };
        fault_point("end:record-written");
        // Before the record says that the job has ended: after that nobody comes to tidy up.
        let _ = fs::remove_file(self.temporary(RESULT));
        self.release_reserve_except(&written);
        self.publish_file(&written, RECORD)
    }

    /// Replaces the result. On a full disk it is written without what can be long. A `record` that
    /// is to be saved next is written as well, so that both share one commit of the file system's
    /// journal.
    pub fn save_outcome(
        &self,
        outcome: &Outcome,
        record: Option<&Record>,
    ) -> Result<(), StoreError> {
        let path = self.file(RESULT);
        let text = serde_json::to_vec(outcome).context("write", &path)?;
        if let Some(record) = record {
            self.write_ahead(record);
        }
        let written = self.write_temporary(RESULT, &text, true).or_else(|error| {
            let short = serde_json::to_vec(&outcome.clone().truncated()).context("write", &path)?;
            self.write_temporary(RESULT, &short, true).map_err(|_| error)
        })?;
        fault_point("end:outcome-written");
        self.publish_file(&written, RESULT)
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
        let root = self.root();
        let staging = Staging::open(root)?;
        let away = staging.new_path();
        // Needs no room on the disk, as little as what follows.
        fs::rename(&self.path, &away).context("remove", &self.path)?;
        fault_point("discard:renamed");
        Ok(remove_staged(root, &away).err())
    }

    /// A complete and durable file beside the one it is to replace. Only the holder of the lock
    /// writes, so the temporary name needs nothing to make it unique.
    fn write_temporary(&self, name: &str, text: &[u8], dip: bool) -> Result<PathBuf, StoreError> {
        let temporary = self.temporary(name);
        match write_durably(&temporary, text) {
            Ok(()) => Ok(temporary),
            Err(error) if dip && error.is_full() => self.write_in_reserve(text).map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    /// Writes a record that is about to be saved where [`save_end`](Self::save_end) finds it, and
    /// does not wait for the disk. Where this fails nothing is lost: it is written again then.
    fn write_ahead(&self, record: &Record) {
        let temporary = self.temporary(RECORD);
        let text = serde_json::to_vec(record).unwrap_or_default();
        match write(&temporary, &text) {
            Ok(file) => begin_writeback(file.as_fd()),
            Err(_) => drop(fs::remove_file(temporary)),
        }
    }

    /// Waits until the disk has the record that was written ahead, if it is this one.
    fn sync_written_ahead(&self, text: &[u8]) -> io::Result<Option<PathBuf>> {
        let temporary = self.temporary(RECORD);
        if read_bounded(&temporary, text.len() as u64 + 1)? != text {
            return Ok(None);
        }
        files::open(&temporary, OpenOptions::new().write(true))?.sync_data()?;
        Ok(Some(temporary))
    }

    /// Whoever reads sees the old or the new contents, and so does whoever reads after a crash.
    fn publish_file(&self, written: &Path, name: &str) -> Result<(), StoreError> {
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
        let tail = self.tail(EVENTS, 0, EVENTS_TAIL_BYTES);
        if !tail.is_empty() && !tail.ends_with(b"\n") {
            file.write_all(b"\n").context("write", &self.file(EVENTS))?;
        }
        let last = tail.split(|&byte| byte == b'\n').rev().find_map(|line| {
            serde_json::from_slice::<NumberedEvent>(line).ok().map(|numbered| numbered.seq)
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
}

/// What [`JobDir::identity`] sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirIdentity {
    device: u64,
    number: u64,
    born: Option<SystemTime>,
}

#[derive(serde::Deserialize)]
struct NumberedEvent {
    seq: u64,
}

/// Decodes a record of any version.
pub(super) fn decode_record(text: &[u8]) -> Result<Record, String> {
    if text.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let mut record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if record.version == 0 {
        // The Node skill kept the whole prompt and the folder at the top.
        let legacy: LegacyRecord = serde_json::from_slice(text).unwrap_or_default();
        record.prompt = crate::text::one_line(&record.prompt, 200);
        record.attempt = record.attempt.max(1);
        record.spec.cwd = legacy.cwd.unwrap_or_default();
        record.spec.allowed_tools = legacy.allowed_tools.unwrap_or_default();
    }
    Ok(record)
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LegacyRecord {
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
