mod interleaving;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::job::{JobId, Record, Spec, Timestamp};
use crate::store::{Lock, Store};

/// A locked job in a temporary directory.
struct Job {
    _folder: tempfile::TempDir,
    store: Store,
    dir: JobDir,
    lock: Option<Lock>,
}

impl Job {
    fn new() -> Self {
        // In memory if possible, because each message is synced.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let store = Store::at(folder.path().to_owned());
        let (dir, lock) = store.create(&record(), "x").unwrap();
        Self { _folder: folder, store, dir, lock: Some(lock) }
    }

    fn open() -> Self {
        let job = Self::new();
        job.dir.open_inbox().unwrap();
        job
    }

    fn post(&self, text: &str) -> Option<u64> {
        try_post(&self.dir, text).unwrap()
    }

    fn inbox(&self) -> PathBuf {
        self.dir.file(INBOX)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.inbox()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn record() -> Record {
    let now = Timestamp::from_epoch_ms(1_795_204_010_508).unwrap();
    Record::new(JobId::parse("j").unwrap(), Spec::default(), "x".to_owned(), now)
}

fn message(text: &str) -> InboxMessage {
    InboxMessage::Message { uuid: format!("uuid of {text}"), text: text.to_owned() }
}

fn try_post(dir: &JobDir, text: &str) -> Result<Option<u64>, StoreError> {
    dir.post(&message(text), &dir.identity().unwrap())
}

fn texts(items: &[InboxItem]) -> Vec<(u64, &str)> {
    let text = |item: &'_ InboxItem| match &item.content {
        Ok(InboxMessage::Message { .. }) => true,
        _ => panic!("no message: {item:?}"),
    };
    assert!(items.iter().all(text));
    let pairs = items.iter().filter_map(|item| match &item.content {
        Ok(InboxMessage::Message { text, .. }) => Some((item.number, text.as_str())),
        _ => None,
    });
    pairs.collect()
}

fn received(dir: &JobDir) -> Vec<InboxItem> {
    dir.receive(&BTreeSet::new()).unwrap()
}

#[test]
fn numbers_messages_and_reports_undelivered_ones() {
    let job = Job::open();
    assert_eq!(["a", "b", "c"].map(|text| job.post(text)), [Some(1), Some(2), Some(3)]);
    assert_eq!(texts(&received(&job.dir)), [(1, "a"), (2, "b"), (3, "c")]);
    assert!(job.dir.remove_message(3), "the highest one");
    job.dir.set_aside(2);
    job.dir.post(&InboxMessage::Finish, &job.dir.identity().unwrap()).unwrap();
    assert_eq!(texts(&job.dir.close_inbox().unwrap()), [(1, "a")]);
    assert_eq!(job.post("late"), None);
    assert_eq!(job.names(), [".closed", ".desk", ".taken", "0000000001.json"]);
    job.dir.open_inbox().unwrap();
    assert_eq!(job.post("d"), Some(5), "each number is used once");
    job.dir.restore_aside();
    assert_eq!(texts(&received(&job.dir)), [(1, "a"), (2, "b"), (5, "d")]);
}

#[test]
fn reuses_no_number_after_inbox_files_were_lost() {
    let job = Job::open();
    for text in ["a", "b"] {
        job.post(text);
    }
    for item in received(&job.dir) {
        job.dir.remove_message(item.number);
    }
    fs::write(job.dir.file(TURNS), "{\"messages\":[1]}\n{\"messages\":[7]}\ntorn").unwrap();
    for name in [".open", ".desk"] {
        fs::write(job.inbox().join(name), "garbage").unwrap();
    }
    job.dir.open_inbox().unwrap();
    assert_eq!(job.post("c"), Some(8));
}

#[test]
fn a_file_with_a_high_number_blocks_no_message() {
    for (name, next) in [
        ("9999999999.json", 10_000_000_000),
        ("99999999999.json", 100_000_000_000),
        ("999999999999999.json", 1),
        ("1000000000000000.json", 1),
        ("00000000005.json", 1),
        ("18446744073709551615.json", 1),
        ("99999999999999999999999.json", 1),
    ] {
        let job = Job::open();
        fs::write(job.inbox().join(name), "garbage").unwrap();
        assert_eq!(job.post("a"), Some(next), "{name}");
        let items = job.dir.pending(&BTreeSet::new()).unwrap();
        let ours = items.iter().find(|item| item.number == next).unwrap();
        assert_eq!(ours.content, Ok(message("a")), "{name}");
    }
}

#[test]
fn accepts_nothing_after_the_highest_number() {
    let job = Job::open();
    let highest = job.inbox().join("999999999999999.json");
    fs::write(&highest, serde_json::to_vec(&InboxMessage::Interrupt).unwrap()).unwrap();
    let error = try_post(&job.dir, "a").unwrap_err();
    assert!(error.to_string().contains("no number is left after 999999999999999"), "{error}");
}

#[test]
fn skips_foreign_files_with_the_name_of_a_message() {
    let job = Job::open();
    let at = |number| job.inbox().join(file_name(number));
    fs::create_dir(at(1)).unwrap();
    nix::unistd::mkfifo(&at(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/etc/passwd", at(3)).unwrap();
    assert_eq!(job.post("a"), Some(4));
    let items = received(&job.dir);
    assert_eq!(items.iter().filter(|item| item.content.is_err()).count(), 3);
    assert_eq!([1, 2, 3].map(|number| job.dir.remove_message(number)), [false, true, true]);
    assert_eq!(texts(&job.dir.close_inbox().unwrap()), [(4, "a")]);
}

#[test]
fn posts_only_to_the_job_with_the_identity() {
    let mut job = Job::open();
    let meant = job.dir.identity().unwrap();
    let path = job.dir.path().to_owned();
    fs::rename(&path, job.store.root().join("away")).unwrap();
    assert_eq!(job.dir.post(&message("a"), &meant).unwrap(), None, "it was removed");
    let (_, lock) = job.store.create(&record(), "another").unwrap();
    job.lock = Some(lock);
    job.dir.open_inbox().unwrap();
    assert_eq!(job.dir.post(&message("a"), &meant).unwrap(), None, "another job has its path");
    assert_eq!(job.names(), [".open"]);
}

#[test]
fn withdraws_a_message_after_the_job_has_ended() {
    let mut job = Job::open();
    let number = job.post("a").unwrap();
    let mut record = job.dir.load().unwrap();
    record.end(&crate::job::Verdict::Completed, record.times.started_at.unwrap());
    job.dir.save(&record, false).unwrap();
    assert!(!job.dir.withdraw(number).unwrap(), "another process holds the lock and reads it");
    job.lock.take().unwrap().release();
    assert!(job.dir.withdraw(number).unwrap());
    assert_eq!(job.names(), [".desk", ".open"]);
    let number = job.post("b").unwrap();
    assert_eq!(texts(&job.dir.close_inbox().unwrap()), [(number, "b")]);
    assert!(!job.dir.withdraw(number).unwrap(), "it was reported");
}

/// Posts a message as `send` of an earlier version does.
fn post_as_earlier_version(inbox: &Path, text: &str) -> Option<u64> {
    let _lock = legacy::lock(inbox, LockMode::Exclusive).unwrap();
    let legacy = LegacyState::read(inbox);
    if legacy.closed {
        return None;
    }
    let number = legacy.last.max(highest_in(inbox).unwrap()) + 1;
    let temporary = inbox.join(format!(".{number}.tmp"));
    fs::write(&temporary, serde_json::to_vec(&message(text)).unwrap()).unwrap();
    LegacyState { last: number, closed: false }.write(inbox);
    fs::rename(&temporary, inbox.join(file_name(number))).unwrap();
    Some(number)
}

#[test]
fn accepts_messages_of_earlier_versions() {
    let job = Job::open();
    let old = |text| post_as_earlier_version(&job.inbox(), text);
    assert_eq!((old("a"), job.post("b"), old("c")), (Some(1), Some(2), Some(3)));
    let items = received(&job.dir);
    assert_eq!(texts(&items), [(1, "a"), (2, "b"), (3, "c")]);
    for item in items {
        job.dir.remove_message(item.number);
    }
    assert_eq!((old("d"), job.post("e")), (Some(4), Some(5)));
    assert_eq!(texts(&job.dir.close_inbox().unwrap()), [(4, "d"), (5, "e")]);
    assert_eq!(old("f"), None);
    job.dir.open_inbox().unwrap();
    assert_eq!(old("g"), Some(6));
}

#[test]
fn a_stopped_earlier_version_blocks_no_message() {
    let job = Job::open();
    let lock = legacy::lock(&job.inbox(), LockMode::Exclusive).unwrap();
    assert_eq!(job.post("a"), Some(2), "the stopped process may have counted to 1");
    let first = job.inbox().join(file_name(1));
    fs::write(&first, serde_json::to_vec(&message("old")).unwrap()).unwrap();
    assert_eq!(texts(&received(&job.dir)), [(1, "old"), (2, "a")]);
    assert_eq!(job.dir.close_inbox().unwrap().len(), 2);
    drop(lock);
}

#[test]
fn posts_to_a_worker_of_an_earlier_version() {
    let job = Job::new();
    assert_eq!(job.post("a"), Some(1));
    let inbox = job.inbox();
    fs::remove_file(inbox.join(file_name(1))).unwrap();
    assert_eq!(job.post("b"), Some(2), "each number is used once");
    let lock = legacy::lock(&inbox, LockMode::Exclusive).unwrap();
    let error = try_post(&job.dir, "c").unwrap_err();
    assert!(error.to_string().contains("makes no progress"), "{error}");
    // It closes the inbox with the lock held.
    LegacyState { last: 2, closed: true }.write(&inbox);
    drop(lock);
    assert_eq!(job.post("d"), None);
    assert_eq!(job.names(), [".desk", "0000000002.json"]);
}
