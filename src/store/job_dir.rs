//! A job's directory: its record, its other files, and its removal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, read_bounded, read_with_metadata, write, write_durably};
use super::node_skill;
use super::owner::Owner;
use super::staging::{Staging, remove_staged};
use super::summaries::{ReadSummary, Stamp, StampedFile};
use super::{Context, EVENTS, LoadError, OUTPUT, RECORD, RESULT, StoreError, UNCONFIRMED_RESULT};
use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{JobId, Outcome, Record, Summary, Timestamp};
use crate::json;
use crate::process::begin_writeback;

/// Bytes at the end of the events in which the last event is searched.
const EVENTS_TAIL_BYTES: u64 = 16 << 10;
/// The program's own records are far smaller; a foreign file may be of any size.
const MAX_RECORD_BYTES: u64 = 8 << 20;

/// A job's directory.
#[derive(Clone, Debug)]
pub(crate) struct JobDir {
    pub(super) id: JobId,
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
}

impl JobDir {
    /// Returns the directory of a job in the jobs directory `root`, whether or not it exists.
    pub(crate) fn new(root: &Path, id: &JobId) -> Self {
        Self { id: id.clone(), path: root.join(id.as_str()), owner: Owner::default() }
    }

    /// Returns the job's directory at this absolute path; `None` if its name is not a job's id.
    pub(crate) fn at(path: PathBuf) -> Option<Self> {
        let id = JobId::parse(path.file_name()?.to_str()?).ok()?;
        Some(Self { id, path, owner: Owner::default() })
    }

    /// Returns the directory at `path` in which the job is built or deleted.
    pub(super) fn staged(path: PathBuf, id: &JobId) -> Self {
        Self { id: id.clone(), path, owner: Owner::default() }
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the jobs directory that contains it.
    pub(crate) fn root(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Returns what distinguishes the directory from an earlier one at its path; `None` if there is
    /// none. The inode number of a removed directory can be reused, so the time of birth is included,
    /// if the file system records it.
    pub(crate) fn identity(&self) -> Option<DirIdentity> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        let born = metadata.created().ok();
        Some(DirIdentity { device: metadata.dev(), number: metadata.ino(), born })
    }

    /// Reads the record.
    pub(crate) fn load(&self) -> Result<Record, LoadError> {
        if self.is_claimed() {
            return self.load_file(&self.file(RECORD));
        }
        let record = self.load_file(&self.path.join(RECORD))?;
        if record.spec.engine.is_some() { self.load_of_owner(record) } else { Ok(record) }
    }

    /// Reads the record in this file.
    pub(super) fn load_file(&self, path: &Path) -> Result<Record, LoadError> {
        let text = match read_bounded(path, MAX_RECORD_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.path.is_dir() {
                    let why = "the file is missing".to_owned();
                    return Err(self.unreadable(path.to_owned(), why));
                }
                return Err(LoadError::NotFound(self.id.clone()));
            }
            text => text.context("read", path)?,
        };
        let mut record =
            decode_record(&text).map_err(|why| self.unreadable(path.to_owned(), why))?;
        if record.is_of_node_skill() {
            node_skill::end_if_dead(self, &mut record);
        }
        Ok(record)
    }

    /// Decodes the text of a record of a job with an engine.
    pub(super) fn decode(text: &[u8]) -> Option<Record> {
        decode_record(text).ok()
    }

    pub(super) fn unreadable(&self, path: PathBuf, why: String) -> LoadError {
        LoadError::Unreadable { id: self.id.clone(), path, why }
    }

    /// Reads the summary of the record.
    pub(super) fn summary_of_file(&self) -> Result<ReadSummary, LoadError> {
        let path = self.path.join(RECORD);
        let (text, metadata) =
            read_with_metadata(&path, MAX_RECORD_BYTES).context("read", &path)?;
        match json::from_bytes::<Summary>(&text) {
            Ok(summary) if summary.spec.engine.is_some() => self.summary_of_owner(summary, text),
            Ok(summary) => {
                let stamp = Stamp::new(StampedFile::Record, &metadata);
                Ok(ReadSummary { summary, stamp, is_constant: false, record: None })
            }
            Err(error) => Err(self.unreadable(path, error.to_string())),
        }
    }

    /// Reads the result, which may be that of an earlier attempt; returns `None` if it is missing or
    /// unreadable.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        json::from_bytes(&read_bounded(&self.file(RESULT), 64 << 20).ok()?).ok()
    }

    /// Returns the first line of the answer of a job that has one.
    pub(crate) fn first_line_of_answer(&self) -> Option<String> {
        /// The part of the result that is needed here.
        #[derive(serde::Deserialize)]
        struct AnswerText {
            #[serde(default)]
            result: Option<String>,
            #[serde(default)]
            structured_output: Option<serde_json::Value>,
        }
        if self.is_on_engine() {
            self.find_owner();
        }
        let text = read_bounded(&self.file(RESULT), 64 << 20).ok()?;
        let answer: AnswerText = json::from_bytes(&text).ok()?;
        match (answer.result, answer.structured_output) {
            (Some(text), _) => text.trim().lines().next().map(str::to_owned),
            (None, Some(output)) => Some(output.to_string()),
            (None, None) => None,
        }
    }

    /// Renames a result that does not follow from the job's log.
    pub(crate) fn set_result_aside(&self) -> Result<(), StoreError> {
        let path = self.file(RESULT);
        fs::rename(&path, self.file(UNCONFIRMED_RESULT)).context("set aside", &path)
    }

    /// Refuses a path that is not a directory, such as a link.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(LoadError::NotFound(self.id.clone()))
            }
            Err(error) => Err(error).context("examine", &self.path)?,
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => {
                let why = "it is not a directory".to_owned();
                Err(self.unreadable(self.path.clone(), why))
            }
        }
    }

    /// Reads the record, and refuses a path that is not a directory.
    pub(crate) fn load_checked(&self) -> Result<Record, LoadError> {
        self.check()?;
        self.load()
    }

    /// Replaces the record. `may_use_reserve`: on a full disk the reserve is used.
    pub(crate) fn save(&self, record: &Record, may_use_reserve: bool) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).context("write", &self.file(RECORD))?;
        let written = self.write_temporary(RECORD, &text, may_use_reserve)?;
        self.publish_file(&written, RECORD)
    }

    /// Replaces the record for the last time, and removes the temporary files and the reserve.
    pub(crate) fn save_end(&self, record: &Record) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).context("write", &self.file(RECORD))?;
        if let Some(number) = self.own_epoch() {
            return self.link_end(number, &text);
        }
        let written = match self.sync_written_ahead(&text) {
            Ok(Some(written)) => written,
            Ok(None) | Err(_) => self.write_temporary(RECORD, &text, true)?,
        };
        fault_point("end:record-written");
        // Removed before the record says that the job has ended: after that no process cleans up.
        let _ = fs::remove_file(self.temporary(RESULT));
        self.release_reserve_except(&written);
        self.publish_file(&written, RECORD)
    }

    /// Replaces the result. On a full disk its long texts are truncated. A `record` that is saved next
    /// is written ahead, so that both share one commit of the file system's journal.
    pub(crate) fn save_outcome(
        &self,
        outcome: &Outcome,
        record: Option<&Record>,
    ) -> Result<(), StoreError> {
        let path = self.file(RESULT);
        let text = serde_json::to_vec(outcome).context("write", &path)?;
        // A claimed job ends by a file that no process has written before.
        if let Some(record) = record
            && !self.is_claimed()
        {
            self.write_ahead(record);
        }
        let written = match self.write_temporary(RESULT, &text, true) {
            Ok(written) => written,
            Err(error) => {
                let short = outcome.clone().truncated();
                let short = serde_json::to_vec(&short).context("write", &path)?;
                self.write_temporary(RESULT, &short, true).map_err(|_| error)?
            }
        };
        fault_point("end:outcome-written");
        self.publish_file(&written, RESULT)
    }

    /// Returns the time of the last activity: when a file of the job was last written.
    pub(crate) fn last_activity_at(&self, record: &Record) -> Timestamp {
        let [meta, output, events] = [RECORD, OUTPUT, EVENTS].map(|name| self.written_at(name));
        let times = [meta, output, events, record.times.last_event_at, record.times.started_at];
        times.into_iter().flatten().max().unwrap_or_else(clock::now)
    }

    fn written_at(&self, name: &str) -> Option<Timestamp> {
        let at = fs::metadata(self.file(name)).ok()?.modified().ok()?;
        let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Timestamp::from_epoch_ms(i64::try_from(since.as_millis()).ok()?)
    }

    /// Returns the bytes that the job's files occupy on disk, as far as they can be read. Links are
    /// not followed.
    pub(crate) fn disk_usage(&self) -> u64 {
        fn usage_of(path: &Path, depth: usize) -> u64 {
            let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
            let own = metadata.blocks() * 512;
            if !metadata.is_dir() || depth == 0 {
                return own;
            }
            own + files::entries(path).map(|entry| usage_of(&entry.path(), depth - 1)).sum::<u64>()
        }
        // A job has no deeper directories. The limit bounds the time that foreign ones take.
        usage_of(&self.path, 4)
    }

    /// Removes the job. Its directory is moved into the staging directory first, so that no reader
    /// sees a part of it. Links are not followed. Only the holder of the lock may call this. Returns
    /// the error if the job's cost could not be saved: its record then stays in the staging directory
    /// until that is possible.
    pub(crate) fn discard(&self) -> Result<Option<StoreError>, StoreError> {
        let root = self.root();
        let staging = Staging::open(root)?;
        let away = staging.new_path();
        // Like the steps that follow, this needs no space on the disk.
        fs::rename(&self.path, &away).context("remove", &self.path)?;
        fault_point("discard:renamed");
        Ok(remove_staged(root, &away).err())
    }

    /// Writes a complete and durable file beside the one that it will replace. Only the holder of the
    /// lock writes, so the temporary name need not be unique.
    fn write_temporary(
        &self,
        name: &str,
        text: &[u8],
        may_use_reserve: bool,
    ) -> Result<PathBuf, StoreError> {
        let temporary = self.temporary(name);
        match write_durably(&temporary, text) {
            Ok(()) => Ok(temporary),
            Err(error) if may_use_reserve && error.is_full() => {
                self.write_in_reserve(text).map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a record that will be saved next to the file that [`save_end`](Self::save_end) uses,
    /// without waiting for the disk. If this fails, `save_end` writes it again.
    fn write_ahead(&self, record: &Record) {
        let temporary = self.temporary(RECORD);
        let text = serde_json::to_vec(record).unwrap_or_default();
        match write(&temporary, &text) {
            Ok(file) => begin_writeback(file.as_fd()),
            Err(_) => drop(fs::remove_file(temporary)),
        }
    }

    /// Syncs the record that was written ahead. Returns `None` if its content is not `text`.
    fn sync_written_ahead(&self, text: &[u8]) -> io::Result<Option<PathBuf>> {
        let temporary = self.temporary(RECORD);
        if read_bounded(&temporary, text.len() as u64 + 1)? != text {
            return Ok(None);
        }
        files::open(&temporary, OpenOptions::new().write(true))?.sync_data()?;
        Ok(Some(temporary))
    }

    /// Renames a complete file to `name`. Readers see the old or the new contents, after a crash, too.
    pub(super) fn publish_file(&self, written: &Path, name: &str) -> Result<(), StoreError> {
        let path = self.file(name);
        fs::rename(written, &path).context("replace", &path)
    }

    pub(super) fn temporary(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.tmp"))
    }

    /// Opens a file of the job for appending, and creates it if it is missing.
    pub(crate) fn append(&self, name: &str) -> Result<File, StoreError> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.append(true).read(true).create(true));
        file.context("open", &path)
    }

    /// Returns the length of a file of the job, 0 if it is missing.
    pub(crate) fn length(&self, name: &str) -> u64 {
        files::length(&self.file(name))
    }

    /// Opens the events for appending, and returns the number of the last one.
    pub(crate) fn open_events(&self) -> Result<(File, u64), StoreError> {
        let file = self.append_lines(EVENTS, b"\n")?;
        let last = self.last_line(EVENTS, EVENTS_TAIL_BYTES, |line| {
            json::from_bytes::<NumberedEvent>(line).ok()
        });
        Ok((file, last.map_or(0, |event| event.seq)))
    }

    /// Opens a file of the job for reading; returns `None` if it does not exist.
    pub(crate) fn open(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.file(name);
        match files::open_to_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).context("open", &path),
        }
    }

    /// Returns the end of a file of the job: at most `max_bytes`, and none before `start`. Empty if the
    /// file cannot be read.
    pub(crate) fn tail(&self, name: &str, start: u64, max_bytes: u64) -> Vec<u8> {
        read_tail(&self.file(name), start, max_bytes).unwrap_or_default()
    }
}

fn read_tail(path: &Path, start: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = files::open_to_read(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(max_bytes))))?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Distinguishes a directory from another one at the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirIdentity {
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
    let text = &json::text_of(text);
    let mut record = Record::from_json(text).map_err(|error| error.to_string())?;
    if record.is_of_node_skill() {
        record.complete_from_node_skill(text);
    }
    Ok(record)
}
