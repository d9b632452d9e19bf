//! Summaries of the jobs that have ended, and the file that keeps them, so that `list`, `stats`,
//! `clean` and budgets need not open every record.
//!
//! The file is a cache and can be deleted at any time. Each use checks each line against the job's
//! record: a line is used only while the record is the same file with the same times and size as
//! when it was read. Every save of a record replaces its file. The record of a live job is always
//! read.
//!
//! Where other machines share the file system, a change of a record may become visible late, and the
//! cache has only jobs with an engine: the record that ends such a job never changes, and a process
//! that continues the job makes an entry in its directory of epochs, whose times then change.

mod cache_line;
mod read;

use std::borrow::Cow;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::{EPOCHS, RECORD, Store, StoreError, files};
use crate::job::{FORMAT_VERSION, JobId, Status, Summary, Timestamp};
use crate::json;
use crate::process::machine::{self, MachineIdentity};
use cache_line::CacheLine;

pub(crate) use read::LoadedJob;
pub(super) use read::{ReadSummary, RecordText};

/// Name of the cache in the jobs directory. A job's id cannot begin with a dot.
const CACHE: &str = ".summaries";
/// Name of the file that is renamed to it, where no other machine shares the file system.
const TEMPORARY: &str = ".summaries.tmp";
/// First line of the cache, without the version that follows.
const TITLE: &str = "claudejob summaries ";
/// Version of the cache's format. The cache of a newer version is neither used nor overwritten.
const VERSION: u32 = 4;
/// Enough for half a million jobs.
const MAX_CACHE_BYTES: u64 = 256 << 20;
const MAX_LINE_BYTES: usize = 4 << 10;
/// Minimum number of jobs for which the cache is used, and of new lines for which it is written.
const MIN_CACHED_JOBS: usize = 100;
/// Time for which a record has to be unchanged before its summary is cached: the clock of a file
/// system is coarse, and a new file may get the inode number of the file that it replaces.
const MIN_RECORD_AGE: Duration = Duration::from_secs(2);
/// The same where other machines share the file system: longer than the time for which their clocks
/// may differ (Slurm's authentication refuses more) and old contents may be seen.
const MIN_SHARED_AGE: Duration = Duration::from_secs(360);

/// The summaries of the jobs that have ended: the lines of the cache, followed by new lines in
/// memory.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    file: Option<File>,
    file_length: u64,
    text: Vec<u8>,
}

/// A job of a jobs directory.
#[derive(Debug)]
pub(crate) struct Listed {
    pub id: JobId,
    /// `None` for a job whose record the caller has to read: the job is live or lost, its engine may
    /// start it again, its record cannot be read, or the Node skill wrote it.
    pub ended: Option<EndedJob>,
    /// The record that was read of such a job with an engine, if the caller wants records.
    pub loaded: Option<Box<LoadedJob>>,
}

/// A job that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedJob {
    pub status: Status,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Whether its notifications have recipients.
    pub has_recipients: bool,
    line: LineRange,
}

/// Position of a line in the [`Summaries`], in bytes.
#[derive(Clone, Copy, Debug)]
struct LineRange {
    start: u64,
    length: u32,
}

/// A file or directory that changes with a job's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StampedFile {
    Record,
    /// The directory of a job's owners, if the job has ended.
    Epochs,
}

/// Distinguishes a record from the one that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: StampedFile,
    number: u64,
    size: u64,
    /// Time of the last change of the content, in nanoseconds since 1970.
    modified: i64,
    /// Time of the last change of the inode, such as by a rename.
    changed: i64,
}

impl Summaries {
    /// Returns the summary of a job.
    pub(crate) fn get(&self, ended: &EndedJob) -> Option<Summary> {
        let line = self.line(ended.line).ok()?;
        json::from_bytes(&line[memchr::memchr(b'{', &line)?..]).ok()
    }

    /// Returns the summary of a job, from its record if necessary; `None` if it cannot be read.
    pub(crate) fn get_or_load(&self, store: &Store, job: &Listed) -> Option<Summary> {
        if let Some(ended) = &job.ended
            && let Some(summary) = self.get(ended)
        {
            return Some(summary);
        }
        if let Some(loaded) = &job.loaded {
            return Some(Summary::from(loaded.record.clone()));
        }
        store.job(&job.id).load().ok().map(Summary::from)
    }

    fn line(&self, LineRange { start, length }: LineRange) -> io::Result<Vec<u8>> {
        let mut line = vec![0; length as usize];
        match (start.checked_sub(self.file_length), &self.file) {
            (None, Some(file)) => file.read_exact_at(&mut line, start)?,
            (start, _) => {
                let start = start.unwrap_or_default() as usize;
                line.copy_from_slice(&self.text[start..start + length as usize]);
            }
        }
        Ok(line)
    }

    /// Adds the line of a job to the lines in memory.
    fn add(&mut self, id: &JobId, stamp: &Stamp, summary: &Summary) -> Option<EndedJob> {
        let fields = CacheLine::new(id, *stamp, summary);
        let line = fields.to_text(&serde_json::to_string(summary).ok()?);
        let start = self.file_length + self.text.len() as u64;
        self.text.extend_from_slice(line.as_bytes());
        let range = LineRange { start, length: u32::try_from(line.len()).ok()? };
        Some(fields.ended(range))
    }
}

impl Store {
    /// Returns the jobs in the order of their ids. Reads each record that the cache lacks once.
    pub(crate) fn summaries(&self) -> Result<(Summaries, Vec<Listed>), StoreError> {
        self.summaries_at(SystemTime::now(), machine::is_shared, false)
    }

    /// As [`summaries`](Self::summaries), with the records that were read and are not final.
    pub(crate) fn summaries_with_records(&self) -> Result<(Summaries, Vec<Listed>), StoreError> {
        self.summaries_at(SystemTime::now(), machine::is_shared, true)
    }

    /// As [`summaries`](Self::summaries). `now` is the time before any record is read. `is_shared`:
    /// other machines may use the directory's file system at the same time.
    fn summaries_at(
        &self,
        now: SystemTime,
        is_shared: impl FnOnce(&Path) -> bool,
        keeps_records: bool,
    ) -> Result<(Summaries, Vec<Listed>), StoreError> {
        let mut ids = self.ids()?;
        ids.sort_unstable();
        let is_cached = ids.len() >= MIN_CACHED_JOBS;
        let is_shared = is_cached && is_shared(&self.root);
        let mut collector = Collector {
            store: self,
            now,
            is_cached,
            is_shared,
            summaries: Summaries::default(),
            cacheable: Vec::new(),
            new_lines: 0,
            loaded: if keeps_records { Some(Vec::new()) } else { None },
        };
        let cache = if is_cached { Cache::open(&self.root) } else { None };
        let ended = match cache {
            Some((cache, root)) => collector.compare(cache, &root, &ids),
            None => ids.iter().map(|id| collector.read(id)).collect(),
        };
        if is_cached && collector.new_lines >= MIN_CACHED_JOBS.max(ids.len() / 100) {
            // A failure costs only that the records are read again.
            let temporary = temporary_name(is_shared);
            let _ = collector.summaries.write(&self.root, &temporary, &collector.cacheable);
        }
        let mut jobs = Vec::with_capacity(ids.len());
        // In the order of the ids, too.
        let mut loaded = collector.loaded.unwrap_or_default().into_iter().peekable();
        for (id, ended) in ids.into_iter().zip(ended) {
            let loaded = loaded.next_if(|job| *job.dir.id() == id).map(Box::new);
            jobs.push(Listed { id, ended, loaded });
        }
        Ok((collector.summaries, jobs))
    }
}

/// Collects the summaries of jobs in the order of their ids.
struct Collector<'a> {
    store: &'a Store,
    now: SystemTime,
    is_cached: bool,
    /// Other machines may use the file system at the same time.
    is_shared: bool,
    summaries: Summaries,
    /// The lines of a new cache.
    cacheable: Vec<LineRange>,
    /// Number of `cacheable` lines that the old cache does not have.
    new_lines: usize,
    /// Records that are not final; `None` if the caller wants none.
    loaded: Option<Vec<LoadedJob>>,
}

impl Collector<'_> {
    /// Uses the summaries of the cache whose records did not change, and reads the other records.
    fn compare(&mut self, mut cache: Cache, root: &File, ids: &[JobId]) -> Vec<Option<EndedJob>> {
        self.summaries.file = cache.file.get_ref().get_ref().try_clone().ok();
        self.summaries.file_length = cache.length;
        // A second thread takes stamps from the end, until the two meet: on many jobs these calls
        // are most of the work.
        let left = AtomicUsize::new(ids.len());
        thread::scope(|scope| {
            let helper =
                thread::Builder::new().spawn_scoped(scope, || stamps_from_end(root, ids, &left));
            let mut ended = Vec::with_capacity(ids.len());
            for id in ids {
                if !take_one(&left) {
                    break;
                }
                ended.push(self.find(&mut cache, id, |file| Stamp::now(root, id, file)));
            }
            let stamps = match helper.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(stamps)) => stamps,
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => Vec::new(),
            };
            for (id, stamp) in ids[ended.len()..].iter().zip(stamps.into_iter().rev()) {
                ended.push(self.find(&mut cache, id, |file| match stamp {
                    Some(stamp) if stamp.file == file => Some(stamp),
                    _ => Stamp::now(root, id, file),
                }));
            }
            ended
        })
    }

    fn find(
        &mut self,
        cache: &mut Cache,
        id: &JobId,
        stamp: impl FnOnce(StampedFile) -> Option<Stamp>,
    ) -> Option<EndedJob> {
        if let Some((known, ended)) = cache.find(id)
            && stamp(known.file) == Some(known)
        {
            self.cacheable.push(ended.line);
            return Some(ended);
        }
        self.read(id)
    }

    /// Reads a job's record.
    fn read(&mut self, id: &JobId) -> Option<EndedJob> {
        let dir = self.store.job(id);
        let read = dir.summary_of_file().ok()?;
        if !is_final(&read.summary, id) {
            if let Some(loaded) = &mut self.loaded {
                loaded.extend(read.into_loaded(dir));
            }
            return None;
        }
        let is_stable = self.is_cached && self.is_stable(&read) && is_lossless(&read.summary);
        let ReadSummary { summary, stamp, .. } = read;
        let ended = self.summaries.add(id, &stamp, &summary.shortened())?;
        if is_stable && ended.line.length as usize <= MAX_LINE_BYTES {
            self.cacheable.push(ended.line);
            self.new_lines += 1;
        }
        Some(ended)
    }

    /// Whether a change of the record will change its stamp.
    fn is_stable(&self, read: &ReadSummary) -> bool {
        let may_be_cached = match read.stamp.file {
            StampedFile::Record => !self.is_shared,
            StampedFile::Epochs => read.is_constant,
        };
        let age = if self.is_shared { MIN_SHARED_AGE } else { MIN_RECORD_AGE };
        may_be_cached && read.stamp.is_older_than(age, self.now)
    }
}

/// Returns the stamps of the jobs from the last one on, until none is left.
fn stamps_from_end(root: &File, ids: &[JobId], left: &AtomicUsize) -> Vec<Option<Stamp>> {
    let mut stamps = Vec::new();
    // In most jobs directories all jobs are of one kind. Other stamps are taken later.
    let mut file = StampedFile::Epochs;
    for id in ids.iter().rev() {
        if !take_one(left) {
            break;
        }
        let mut stamp = Stamp::now(root, id, file);
        if stamp.is_none() && file == StampedFile::Epochs {
            file = StampedFile::Record;
            stamp = Stamp::now(root, id, file);
        }
        stamps.push(stamp);
    }
    stamps
}

/// Takes one of the jobs that are left; returns false if there is none.
fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Whether the record alone says how the job ended. A live job may be a lost one, an engine may start a
/// job again that was cut off, the records of the Node skill are decoded differently, and the directory
/// of a job may have been renamed.
fn is_final(summary: &Summary, id: &JobId) -> bool {
    let may_restart = summary.spec.engine.is_some() && summary.end_state().is_cut_off();
    !may_restart
        && !summary.status.is_live()
        && !summary.is_of_node_skill()
        && summary.job_id == *id
}

/// Whether every version of the program would decode the same summary from the job's own record.
fn is_lossless(summary: &Summary) -> bool {
    let has_reason = summary.status != Status::Failed || summary.reason.is_some();
    summary.version <= FORMAT_VERSION && has_reason
}

impl StampedFile {
    fn name(self) -> &'static str {
        match self {
            Self::Record => RECORD,
            Self::Epochs => EPOCHS,
        }
    }
}

impl Stamp {
    pub(super) fn new(file: StampedFile, metadata: &Metadata) -> Self {
        Self {
            file,
            number: metadata.ino(),
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the stamp of a file of a job as it is now.
    fn now(root: &File, id: &JobId, file: StampedFile) -> Option<Self> {
        let path = [id.as_str(), file.name()].join("/");
        let metadata = fstatat(root, path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(Self {
            file,
            number: metadata.st_ino,
            size: metadata.st_size as u64,
            modified: nanoseconds(metadata.st_mtime, metadata.st_mtime_nsec),
            changed: nanoseconds(metadata.st_ctime, metadata.st_ctime_nsec),
        })
    }

    /// Whether the file was last changed at least this time before `now`.
    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH + age).unwrap_or_default();
        self.modified.max(self.changed) < i64::try_from(since.as_nanos()).unwrap_or_default()
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)
}

/// Reads the cache line by line, in the order of the jobs' ids.
struct Cache {
    file: BufReader<io::Take<File>>,
    length: u64,
    line: Vec<u8>,
    range: LineRange,
}

impl Cache {
    /// Opens the cache, and the directory for the stamps; `None` if there is no usable cache.
    fn open(root: &Path) -> Option<(Self, File)> {
        let file = files::open_to_read(&root.join(CACHE)).ok()?;
        let length = file.metadata().ok()?.len().min(MAX_CACHE_BYTES);
        let file = BufReader::with_capacity(64 << 10, file.take(MAX_CACHE_BYTES));
        let range = LineRange { start: 0, length: 0 };
        let mut cache = Self { file, length, line: Vec::new(), range };
        cache.advance();
        if version(&cache.line) != Some(VERSION) {
            return None;
        }
        cache.advance();
        Some((cache, File::open(root).ok()?))
    }

    /// Reads the next line; an empty one means the end.
    fn advance(&mut self) {
        self.range.start += u64::from(self.range.length);
        self.line.clear();
        if self.file.read_until(b'\n', &mut self.line).is_err() {
            self.line.clear();
        }
        self.range.length = self.line.len() as u32;
    }

    /// Returns the line of a job. The ids of successive calls ascend: the lines that are skipped are
    /// damaged or belong to removed jobs.
    fn find(&mut self, id: &JobId) -> Option<(Stamp, EndedJob)> {
        while !self.line.is_empty() {
            match CacheLine::parse(&self.line) {
                Some(line) if line.id > id.as_str() => return None,
                Some(line) if line.id == id.as_str() => {
                    return Some((line.stamp, line.ended(self.range)));
                }
                _ => self.advance(),
            }
        }
        None
    }
}

/// Returns the name of the file that is renamed to the cache. Another machine may not see its lock, and
/// would write to the same file.
fn temporary_name(is_shared: bool) -> Cow<'static, str> {
    if is_shared {
        let host = MachineIdentity::own().host.replace('/', "_");
        Cow::Owned(format!("{CACHE}.{host}.tmp"))
    } else {
        Cow::Borrowed(TEMPORARY)
    }
}

/// Returns the version of a cache by its first line.
fn version(line: &[u8]) -> Option<u32> {
    str::from_utf8(line).ok()?.strip_prefix(TITLE)?.trim_end().parse().ok()
}

impl Summaries {
    /// Replaces the cache by these lines, unless another process is replacing it or a newer version of
    /// the program has written it.
    fn write(&self, root: &Path, temporary: &str, lines: &[LineRange]) -> io::Result<()> {
        let mut first = Vec::new();
        if let Ok(file) = files::open_to_read(&root.join(CACHE)) {
            BufReader::new(file.take(100)).read_until(b'\n', &mut first)?;
        }
        if version(&first) > Some(VERSION) {
            return Ok(());
        }
        let path = root.join(temporary);
        let mut options = OpenOptions::new();
        let file = files::open(&path, options.write(true).create(true))?;
        // The previous holder of the lock may have renamed the file: then it is the cache.
        file.try_lock()?;
        if fs::symlink_metadata(&path)?.ino() != file.metadata()?.ino() {
            return Ok(());
        }
        // Not synced: the checksum of a line that a crash has torn does not match.
        let written =
            self.write_lines(&file, lines).and_then(|()| fs::rename(&path, root.join(CACHE)));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn write_lines(&self, file: &File, lines: &[LineRange]) -> io::Result<()> {
        file.set_len(0)?;
        let mut out = BufWriter::with_capacity(64 << 10, file);
        writeln!(out, "{TITLE}{VERSION}")?;
        for range in lines {
            out.write_all(&self.line(*range)?)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests;
