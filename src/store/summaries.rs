//! Summaries of the jobs that have ended, so that a list or a budget need not read every record.
//!
//! They are kept in a file of the jobs directory, which is a cache and nothing more: it can be
//! deleted at any time. A record is replaced by renaming a new file over it, so a summary holds as
//! long as the record is the same file with the same times and size. Each use looks at that. The
//! record of a live job is always read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use serde::{Deserialize, Serialize};

use super::{META, Store, StoreError, files, news};
use crate::job::{JobId, Record, Status, Timestamp};
use crate::parallel;

/// Name of the cache in the jobs directory. No job's name: it begins with a dot.
const CACHE: &str = ".summaries";
/// The file that is renamed to it.
const TEMPORARY: &str = ".summaries.tmp";
/// First words of the cache; its version and a checksum follow.
const MAGIC: &str = "claudejob-summaries";
/// Version of the cache's format. That of a newer version is not overwritten.
const VERSION: u32 = 1;
/// Bytes of the cache that are read: some hundred thousand jobs.
const CACHE_READ: u64 = 64 << 20;
/// Number of new summaries for which the cache is written. Fewer jobs need no cache.
const ENOUGH: usize = 100;
/// Nanoseconds for which a record has to be unchanged before its summary is kept: the clock of a
/// file system is coarse, and the number of a file that is gone is given again.
const SETTLED: i64 = 2_000_000_000;

/// The part of the record of a job that has ended which lists, budgets and `clean` need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The job's status.
    pub status: Status,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    /// Cost in US dollars as claude reported it.
    pub cost_usd: Option<f64>,
    /// Number of turns.
    pub num_turns: u64,
    /// Somebody is told of the job: whether that was done is not known here.
    pub has_recipients: bool,
    /// The job was cut off before its turn: it may wait for other jobs again.
    pub may_wait: bool,
    /// The group of jobs.
    pub group: Option<String>,
    /// Its labels, in the order of their keys.
    pub labels: Vec<(String, String)>,
}

impl Summary {
    /// The summary of a record; `None` of a live job, and of one of the Node skill, whose status
    /// is not certain.
    fn of(record: Record) -> Option<Self> {
        if record.status.is_live() || record.version == 0 {
            return None;
        }
        Some(Self {
            status: record.status,
            started_ms: record.started_at.map(Timestamp::epoch_ms),
            ended_ms: record.ended_at.map(Timestamp::epoch_ms),
            cost_usd: record.cost_usd,
            num_turns: record.num_turns,
            has_recipients: !news::recipients(&record.spec).is_empty(),
            may_wait: !record.had_turn
                && record.spec.others().next().is_some()
                && record.is_cut_off(),
            group: record.spec.admission.group,
            labels: record.spec.labels.into_iter().collect(),
        })
    }

    /// When the job was asked for.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_ms.and_then(Timestamp::from_epoch_ms)
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_ms.and_then(Timestamp::from_epoch_ms)
    }

    /// Whether the job has a label.
    pub fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.iter().any(|(k, v)| k == key && v == value)
    }
}

/// What tells a record from an earlier or later one of its job: the number of the file, the times
/// of its last change and of its last rename, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key(u64, i64, i64, i64);

impl Key {
    /// That of a job's record; `None` of what is no ordinary file.
    fn of(root: &impl AsFd, id: &JobId) -> Option<Self> {
        let path = [id.as_str(), META].join("/");
        let about = fstatat(root, path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        if SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return None;
        }
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        let modified = ns(about.st_mtime, about.st_mtime_nsec);
        let changed = ns(about.st_ctime, about.st_ctime_nsec);
        Some(Self(about.st_ino, modified, changed, about.st_size))
    }

    /// Whether the record was last changed some time before `now`, and not after it.
    fn is_settled(self, now: i64) -> bool {
        self.1.max(self.2) < now.saturating_sub(SETTLED)
    }
}

/// What was found in place of the cache.
#[derive(Debug, PartialEq)]
enum Cache {
    /// Summaries; none where there is no cache, or none that can be used.
    Known(HashMap<JobId, (Key, Summary)>),
    /// A newer version of this program has written it.
    Newer,
}

impl Cache {
    fn read(root: &Path) -> Self {
        let text = files::read_bounded(&root.join(CACHE), CACHE_READ).unwrap_or_default();
        Self::decode(&text)
    }

    fn decode(text: &[u8]) -> Self {
        let nothing = Self::Known(HashMap::new());
        let Some(end) = memchr::memchr(b'\n', text) else { return nothing };
        let (head, body) = (&text[..end], &text[end + 1..]);
        let Ok(head) = std::str::from_utf8(head) else { return nothing };
        let words: Vec<&str> = head.split(' ').collect();
        let [MAGIC, version, sum] = words[..] else { return nothing };
        match version.parse::<u32>() {
            Ok(VERSION) => {}
            Ok(version) if version > VERSION => return Self::Newer,
            _ => return nothing,
        }
        if sum != checksum(body) {
            return nothing;
        }
        let entries: Result<Vec<(JobId, Key, Summary)>, _> = serde_json::from_slice(body);
        let entries = entries.unwrap_or_default();
        Self::Known(entries.into_iter().map(|(id, key, summary)| (id, (key, summary))).collect())
    }
}

fn checksum(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("{:016x}", hasher.finish())
}

impl Store {
    /// The jobs, in no order, each with its summary; `None` of a job that has not ended, or whose
    /// record cannot be read: it has to be looked at.
    pub fn summaries(&self) -> Result<Vec<(JobId, Option<Summary>)>, StoreError> {
        self.summaries_at(nanoseconds(SystemTime::now()))
    }

    /// The same, with the time of day before any record is looked at.
    fn summaries_at(&self, now: i64) -> Result<Vec<(JobId, Option<Summary>)>, StoreError> {
        let ids = self.ids()?;
        let root = if ids.len() < ENOUGH { None } else { File::open(self.root()).ok() };
        let Some(root) = root else {
            let summarized = ids.into_iter().map(|id| {
                let summary = self.summarize(&id);
                (id, summary)
            });
            return Ok(summarized.collect());
        };
        let (keys, cache) = thread::scope(|scope| {
            let read = || Cache::read(self.root());
            let reader = thread::Builder::new().spawn_scoped(scope, read);
            let keys = parallel::map(&ids, |id| Key::of(&root, id));
            let cache = reader.ok().and_then(|reader| reader.join().ok());
            (keys, cache.unwrap_or_else(read))
        });
        let (mut known, may_write) = match cache {
            Cache::Known(known) => (known, true),
            Cache::Newer => (HashMap::new(), false),
        };
        let mut fresh = 0;
        let mut summaries = Vec::with_capacity(ids.len());
        let mut kept = Vec::with_capacity(ids.len());
        for (id, key) in ids.into_iter().zip(keys) {
            match known.remove(&id) {
                Some((old, summary)) if key == Some(old) => {
                    kept.push(key);
                    summaries.push((id, Some(summary)));
                }
                _ => {
                    let summary = self.summarize(&id);
                    let key = key.filter(|key| key.is_settled(now) && summary.is_some());
                    fresh += usize::from(key.is_some());
                    kept.push(key);
                    summaries.push((id, summary));
                }
            }
        }
        // What is left in `known` was removed.
        if may_write && fresh + known.len() >= ENOUGH {
            self.keep_summaries(&summaries, &kept);
        }
        Ok(summaries)
    }

    /// Replaces the cache. Where that fails, it stays as it is. It is not synced, and of two
    /// processes that write at once one may spoil the file of the other: the checksum tells.
    fn keep_summaries(&self, summaries: &[(JobId, Option<Summary>)], keys: &[Option<Key>]) {
        let all = summaries.iter().zip(keys);
        let entries = all.filter_map(|((id, summary), key)| Some((id, key.as_ref()?, summary)));
        let entries: Vec<(&JobId, &Key, &Option<Summary>)> = entries.collect();
        let Ok(body) = serde_json::to_string(&entries) else { return };
        let text = format!("{MAGIC} {VERSION} {}\n{body}", checksum(body.as_bytes()));
        let temporary = self.root().join(TEMPORARY);
        let written = files::write(&temporary, text.as_bytes());
        if written.is_err() || fs::rename(&temporary, self.root().join(CACHE)).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    fn summarize(&self, id: &JobId) -> Option<Summary> {
        let record = self.job(id).load().ok()?;
        // A job that somebody renamed is no simple case.
        if record.job_id == *id { Summary::of(record) } else { None }
    }
}

fn nanoseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::job::Spec;

    /// A jobs directory with `ENOUGH` jobs that ended some time ago.
    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().to_owned());
        for number in 0..ENOUGH {
            let id = JobId::parse(&format!("job-{number}")).unwrap();
            fs::create_dir(store.job(&id).path()).unwrap();
            store.job(&id).save(&record(&id, number), false).unwrap();
        }
        (dir, store)
    }

    fn record(id: &JobId, number: usize) -> Record {
        let at = Timestamp::from_epoch_ms(1_795_000_000_000).unwrap();
        let mut record = Record::new(id.clone(), Spec::default(), String::new(), at);
        record.status = Status::Completed;
        record.ended_at = Some(at.after(Duration::from_secs(number as u64)));
        record.cost_usd = Some(number as f64 / 7.0);
        record.spec.labels = [("part".to_owned(), format!("{number}\n\t\"é"))].into();
        record
    }

    fn sorted(store: &Store, now: i64) -> Vec<(JobId, Option<Summary>)> {
        let mut found = store.summaries_at(now).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn later() -> i64 {
        nanoseconds(SystemTime::now()) + SETTLED + 1_000_000_000
    }

    #[test]
    fn a_cache_that_is_deleted_cut_or_spoilt_changes_nothing() {
        let (_dir, store) = store();
        let cache = store.root().join(CACHE);
        let fresh = sorted(&store, later());
        assert!(fresh.iter().all(|(_, summary)| summary.is_some()));
        let text = fs::read(&cache).unwrap();
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!store.root().join(TEMPORARY).exists());
        assert_eq!(sorted(&store, later()), fresh, "from the cache");
        fs::remove_file(&cache).unwrap();
        assert_eq!(sorted(&store, later()), fresh, "without a cache");

        let Cache::Known(whole) = Cache::decode(&text) else { panic!() };
        assert_eq!(whole.len(), ENOUGH);
        let nothing = Cache::Known(HashMap::new());
        for length in 0..text.len() {
            assert_eq!(Cache::decode(&text[..length]), nothing, "{length}");
        }
        let body = memchr::memchr(b'\n', &text).unwrap();
        for place in 0..text.len() {
            let mut spoilt = text.clone();
            spoilt[place] ^= 0x11;
            let decoded = Cache::decode(&spoilt);
            // Another version is another format.
            assert!(decoded == nothing || place < body && decoded == Cache::Newer, "{place}");
        }
        for foreign in [&b""[..], b"\n", b"claudejob-summaries", b"[]\n[]", &[0xff; 100]] {
            fs::write(&cache, foreign).unwrap();
            assert_eq!(sorted(&store, later()), fresh);
            assert_ne!(fs::read(&cache).unwrap(), foreign, "it is replaced");
        }
        fs::remove_file(&cache).unwrap();
        fs::create_dir(&cache).unwrap();
        assert_eq!(sorted(&store, later()), fresh, "a directory in its place");
        assert!(!store.root().join(TEMPORARY).exists());
    }

    #[test]
    fn the_cache_of_a_newer_version_is_neither_used_nor_overwritten() {
        let (_dir, store) = store();
        let cache = store.root().join(CACHE);
        let fresh = sorted(&store, later());
        let newer = format!("{MAGIC} {} 0\n", VERSION + 1);
        fs::write(&cache, &newer).unwrap();
        assert_eq!(sorted(&store, later()), fresh);
        assert_eq!(fs::read_to_string(&cache).unwrap(), newer);
    }

    #[test]
    fn a_record_that_was_just_changed_is_not_kept() {
        let (_dir, store) = store();
        let cache = store.root().join(CACHE);
        let now = nanoseconds(SystemTime::now());
        for now in [now, now + SETTLED / 2, now - 3_600_000_000_000] {
            assert!(sorted(&store, now).iter().all(|(_, summary)| summary.is_some()));
            assert!(!cache.exists(), "{now}");
        }
        sorted(&store, later());
        assert!(cache.exists());
    }

    #[test]
    fn a_record_that_was_replaced_is_read_again() {
        let (_dir, store) = store();
        sorted(&store, later());
        let id = JobId::parse("job-7").unwrap();
        let mut record = store.job(&id).load().unwrap();
        let find =
            || sorted(&store, later()).into_iter().find(|(found, _)| *found == id).unwrap().1;
        record.status = Status::Running;
        store.job(&id).save(&record, false).unwrap();
        assert_eq!(find(), None, "it was resumed");
        record.status = Status::Killed;
        store.job(&id).save(&record, false).unwrap();
        assert_eq!(find().unwrap().status, Status::Killed);
        fs::write(store.job(&id).file(META), "{").unwrap();
        assert_eq!(find(), None, "it is torn");
        fs::remove_dir_all(store.job(&id).path()).unwrap();
        assert_eq!(store.summaries().unwrap().len(), ENOUGH - 1);
    }

    #[test]
    fn what_is_no_ordinary_record_is_not_kept() {
        let (_dir, store) = store();
        let id = JobId::parse("job-3").unwrap();
        let meta = store.job(&id).file(META);
        fs::rename(&meta, store.job(&id).file("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &meta).unwrap();
        let found = sorted(&store, later());
        assert!(found.iter().any(|(found, summary)| *found == id && summary.is_none()));
    }
}
