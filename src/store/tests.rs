mod fuzz;

use std::fs::File;

use super::job_dir::decode_record;
use super::*;
use crate::job::{Outcome, Spec, Status};

fn record(id: &str) -> Record {
    let now = Timestamp::from_epoch_ms(1_795_204_010_508).unwrap();
    Record::new(JobId::parse(id).unwrap(), Spec::default(), "do it".to_owned(), now)
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("state/jobs"));
    (folder, store)
}

/// Waits until the lock of a directory is free: a process that a parallel test is just starting has
/// copies of this one's descriptors until it executes its program.
fn await_free(directory: &Path) {
    let file = File::open(directory).unwrap();
    file.lock().unwrap();
    file.unlock().unwrap();
}

#[test]
fn publishes_a_job_complete_and_locked() {
    let (_folder, store) = store();
    let record = record("a");
    let (job, lock) = store.create(&record, "the prompt").unwrap();
    assert_eq!(job.load().unwrap(), record);
    assert_eq!(fs::read_to_string(job.file(PROMPT)).unwrap(), "the prompt");
    assert!(job.is_held().unwrap());
    assert!(job.try_lock().unwrap().is_none());
    lock.release();
    assert!(!job.is_held().unwrap());
    assert_eq!(store.ids().unwrap(), [record.job_id]);
    assert_eq!(fs::read_dir(store.root().join(".new")).unwrap().count(), 0);
}

#[test]
fn refuses_an_id_in_use() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "first").unwrap();
    assert!(matches!(store.create(&record("a"), "second"), Err(CreateError::Exists)));
    assert_eq!(fs::read_to_string(job.file(PROMPT)).unwrap(), "first");
    assert_eq!(fs::read_dir(store.root().join(".new")).unwrap().count(), 0);
}

#[test]
fn only_the_owner_can_access_files() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(store.root()), 0o700);
    assert_eq!(mode(job.path()), 0o700);
    for name in [RECORD, PROMPT, LOCK] {
        assert_eq!(mode(&job.file(name)), 0o600, "{name}");
    }
}

#[test]
fn refuses_a_directory_that_others_can_write_to() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = store();
    fs::create_dir_all(store.root()).unwrap();
    fs::set_permissions(store.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = store.create(&record("a"), "x").unwrap_err();
    assert!(error.to_string().contains("others can write"), "{error}");
    assert!(store.ids().unwrap().is_empty());
}

#[test]
fn readers_do_not_take_each_other_for_a_worker() {
    let (_folder, store) = store();
    let (job, lock) = store.create(&record("a"), "x").unwrap();
    lock.release();
    let reader = File::open(job.file(LOCK)).unwrap();
    reader.lock_shared().unwrap();
    assert!(!job.is_held().unwrap());
}

#[test]
fn distinguishes_invalid_records_from_missing_jobs() {
    let (_folder, store) = store();
    let id = JobId::parse("a").unwrap();
    assert!(matches!(store.job(&id).load(), Err(LoadError::NotFound(_))));
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    for broken in ["", "{", "[]", "{\"jobId\":\"../x\",\"status\":\"running\"}", "\0\0\0\0"] {
        fs::write(job.file(RECORD), broken).unwrap();
        assert!(matches!(job.load(), Err(LoadError::Unreadable { .. })), "{broken:?}");
    }
    fs::remove_file(job.file(RECORD)).unwrap();
    assert!(matches!(job.load(), Err(LoadError::Unreadable { .. })));
}

#[test]
fn reads_a_record_of_the_node_skill() {
    let text = br#"{"jobId":"old-1","pid":4242,"status":"completed","prompt":"Fix\nthe bug","cwd":"/srv/app",
        "model":"opus","allowedTools":["Bash","Read"],"startedAt":"2025-11-02T08:00:00.000Z",
        "endedAt":"2025-11-02T08:10:00.000Z","error":null,"rateLimited":false}"#;
    let record = decode_record(text).unwrap();
    assert_eq!((record.version, record.status), (0, Status::Completed));
    assert_eq!((record.prompt.as_str(), record.spec.cwd.as_str()), ("Fix the bug", "/srv/app"));
    assert_eq!(record.spec.options.allowed_tools, ["Bash", "Read"]);
    assert!(!record.is_writable());
}

#[test]
fn reads_a_record_of_a_newer_version() {
    let text =
        br#"{"version":99,"jobId":"a","status":"failed","reason":"auth","hologram":{"x":1}}"#;
    let record = decode_record(text).unwrap();
    assert_eq!(record.version, 99);
    assert!(!record.is_writable());
}

#[test]
fn ignores_unknown_fields_of_any_content() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for unknown in [r#""\ud800""#, "1e400", deep.as_str(), "-99999999999999999999999"] {
        let text = format!(
            r#"{{"x":{unknown},"version":99,"jobId":"a","pid":7,"status":"running",
                "exit":{{"code":1,"signal":null,"x":{unknown}}},
                "spec":{{"x":{unknown},"maxTurns":3,"cwd":"/srv","admission":{{"x":{unknown}}}}}}}"#
        );
        let record = decode_record(text.as_bytes()).expect(unknown);
        assert_eq!((record.worker.pid, record.ending.exit.unwrap().code), (Some(7), Some(1)));
        assert_eq!((record.spec.limits.max_turns, record.spec.cwd.as_str()), (Some(3), "/srv"));
    }
}

#[test]
fn reads_a_record_of_the_first_version() {
    let text = include_bytes!("../../tests/fixtures/meta-v1.json");
    let record = decode_record(text).unwrap();
    assert!(record.is_writable());
    assert_eq!(record.status, Status::Completed);
    assert_eq!(record.progress.num_turns, 3);
}

#[test]
fn reads_a_record_of_the_second_version() {
    let text = include_bytes!("../../tests/fixtures/meta-v2.json");
    let record = decode_record(text).unwrap();
    assert_eq!(
        (record.attempt.number, record.progress.num_turns, record.session.began),
        (2, 1, true)
    );
    assert_eq!(record.attempt.earlier.cost_usd, Some(0.25));
    assert!(record.worker.detached.unwrap().cgroup.unwrap().ends_with(".scope"));
}

#[test]
fn ignores_unknown_reasons() {
    let text = br#"{"version":99,"jobId":"a","status":"failed","reason":"bored","error":"why"}"#;
    let record = decode_record(text).unwrap();
    assert_eq!((record.reason, record.error.as_deref()), (None, Some("why")));
}

#[test]
fn lists_only_directories_with_an_id() {
    let (_folder, store) = store();
    store.create(&record("a"), "x").unwrap();
    fs::write(store.root().join("file"), "").unwrap();
    fs::create_dir(store.root().join("not a job")).unwrap();
    std::os::unix::fs::symlink("/etc", store.root().join("link")).unwrap();
    assert_eq!(store.ids().unwrap().len(), 1);
}

#[test]
fn clears_the_leftovers_of_a_dead_start() {
    let (_folder, store) = store();
    let (_job, _lock) = store.create(&record("a"), "x").unwrap();
    let staging = store.root().join(".new");
    fs::create_dir(staging.join("unfinished")).unwrap();
    fs::write(staging.join("unfinished/meta.json"), "{").unwrap();
    fs::write(staging.join("file"), "").unwrap();
    std::os::unix::fs::symlink(store.root(), staging.join("link")).unwrap();
    // While another process uses the directory, the entries may be its own.
    let other = File::open(&staging).unwrap();
    other.lock_shared().unwrap();
    store.create(&record("b"), "x").unwrap();
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 3);
    other.unlock().unwrap();
    await_free(&staging);
    store.create(&record("c"), "x").unwrap();
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert_eq!(store.ids().unwrap().len(), 3);
}

#[test]
fn keeps_a_staged_job_whose_lock_is_held() {
    let (_folder, store) = store();
    store.create(&record("a"), "x").unwrap();
    let staging = store.root().join(".new");
    let staged = JobDir::at(staging.join("b")).unwrap();
    fs::create_dir(staged.path()).unwrap();
    let lock = staged.create_lock().unwrap().unwrap();
    store.clear_leftovers().unwrap();
    assert!(staged.is_held().unwrap());
    lock.release();
    await_free(&staging);
    store.clear_leftovers().unwrap();
    assert!(!staged.path().exists());
    // The process that builds it notices that, and builds another one.
    assert!(staged.create_lock().unwrap().is_none());
}

#[test]
fn leaves_no_temporary_files_at_the_end() {
    let (_folder, store) = store();
    let mut record = record("a");
    let (job, _lock) = store.create(&record, "x").unwrap();
    job.reserve(1_000);
    fs::write(job.file("result.json.tmp"), "{").unwrap();
    let names = || {
        let entries = fs::read_dir(job.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names().len(), 7, "{:?}", names());
    record.end(&crate::job::Verdict::Completed, record.times.started_at.unwrap());
    job.save_outcome(&Outcome::from_record(&record), None).unwrap();
    job.save_end(&record).unwrap();
    assert_eq!(names(), ["lock", "meta.json", "prompt.txt", "result.json"]);
    assert_eq!(job.load().unwrap(), record);
}

#[test]
fn refuses_links_and_pipes() {
    let (folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    let outside = folder.path().join("outside");
    fs::write(&outside, fs::read(job.file(RECORD)).unwrap()).unwrap();
    fs::remove_file(job.file(RECORD)).unwrap();
    std::os::unix::fs::symlink(&outside, job.file(RECORD)).unwrap();
    assert!(job.load().unwrap_err().to_string().contains("symbolic link"));
    nix::unistd::mkfifo(&job.file(OUTPUT), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(job.open(OUTPUT).is_err());
    std::os::unix::fs::symlink(job.path(), store.root().join("b")).unwrap();
    let alias = store.job(&JobId::parse("b").unwrap());
    assert!(matches!(alias.check(), Err(LoadError::Unreadable { .. })));
}

#[test]
fn continues_event_numbers_after_a_torn_line() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    assert_eq!(job.open_events().unwrap().1, 0);
    let whole = "{\"seq\":6,\"event\":\"a\"}\n{\"seq\":7,\"event\":\"b\"}\n";
    fs::write(job.file(EVENTS), format!("{whole}{{\"seq\":8,\"ev")).unwrap();
    assert_eq!(job.open_events().unwrap().1, 7);
    assert!(fs::read_to_string(job.file(EVENTS)).unwrap().ends_with("\"ev\n"));
}

#[test]
fn ignores_the_host_name_on_a_local_file_system() {
    let (_folder, store) = store();
    let mut record = record("a");
    record.set_host();
    let (job, lock) = store.create(&record, "the prompt").unwrap();
    lock.release();
    assert_eq!(job.liveness(&record).unwrap(), Liveness::Lost);
    record.worker.host = Some("elsewhere".to_owned());
    let expected = match job.is_shared() {
        true => Liveness::OtherMachine("elsewhere".to_owned()),
        false => Liveness::Lost,
    };
    assert_eq!(job.liveness(&record).unwrap(), expected);
    record.status = Status::Failed;
    assert_eq!(
        job.liveness(&record).unwrap(),
        Liveness::Ended,
        "an ended job is not bound to its host"
    );
}

#[test]
fn needs_no_claim_on_a_local_file_system() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "the prompt").unwrap();
    assert_eq!([1, 2].map(|_| job.claim_attempt(2).unwrap()), [None, None]);
    assert_eq!(job.file(".attempt-2").exists(), job.is_shared());
}
