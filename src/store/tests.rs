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

#[test]
fn a_job_is_there_complete_and_locked_or_not_at_all() {
    let (_folder, store) = store();
    let record = record("a");
    let (job, lock) = store.create(&record, "the prompt").unwrap();
    assert_eq!(job.load().unwrap(), record);
    assert_eq!(fs::read_to_string(job.file(PROMPT)).unwrap(), "the prompt");
    assert!(job.is_held().unwrap());
    assert!(job.try_lock().unwrap().is_none());
    drop(lock);
    assert!(!job.is_held().unwrap());
    assert_eq!(store.ids().unwrap(), [record.job_id]);
    assert_eq!(fs::read_dir(store.root().join(".new")).unwrap().count(), 0);
}

#[test]
fn an_id_in_use_is_refused_and_its_job_unharmed() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "first").unwrap();
    assert!(matches!(store.create(&record("a"), "second"), Err(CreateError::Exists)));
    assert_eq!(fs::read_to_string(job.file(PROMPT)).unwrap(), "first");
    assert_eq!(fs::read_dir(store.root().join(".new")).unwrap().count(), 0);
}

#[test]
fn files_are_for_their_owner_alone() {
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
fn a_directory_that_others_can_write_to_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = store();
    fs::create_dir_all(store.root()).unwrap();
    fs::set_permissions(store.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = store.create(&record("a"), "x").unwrap_err();
    assert!(error.to_string().contains("others can write"), "{error}");
    assert!(store.ids().unwrap().is_empty());
}

#[test]
fn those_who_look_do_not_take_each_other_for_a_worker() {
    let (_folder, store) = store();
    let (job, lock) = store.create(&record("a"), "x").unwrap();
    drop(lock);
    let looking = File::open(job.file(LOCK)).unwrap();
    looking.lock_shared().unwrap();
    assert!(!job.is_held().unwrap());
}

#[test]
fn records_that_are_none_are_told_from_jobs_that_are_not_there() {
    let (_folder, store) = store();
    let id = JobId::parse("a").unwrap();
    assert!(matches!(store.job(&id).load(), Err(LoadError::NotFound)));
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    for broken in ["", "{", "[]", "{\"jobId\":\"../x\",\"status\":\"running\"}", "\0\0\0\0"] {
        fs::write(job.file(RECORD), broken).unwrap();
        assert!(matches!(job.load(), Err(LoadError::Unreadable { .. })), "{broken:?}");
    }
    fs::remove_file(job.file(RECORD)).unwrap();
    assert!(matches!(job.load(), Err(LoadError::Unreadable { .. })));
}

#[test]
fn a_record_of_the_node_skill_is_read() {
    let text = br#"{"jobId":"old-1","pid":4242,"status":"completed","prompt":"Fix\nthe bug","cwd":"/srv/app",
        "model":"opus","allowedTools":["Bash","Read"],"startedAt":"2025-11-02T08:00:00.000Z",
        "endedAt":"2025-11-02T08:10:00.000Z","error":null,"rateLimited":false}"#;
    let record = decode_record(text).unwrap();
    assert_eq!((record.version, record.status), (0, Status::Completed));
    assert_eq!((record.prompt.as_str(), record.spec.cwd.as_str()), ("Fix the bug", "/srv/app"));
    assert_eq!(record.spec.allowed_tools, ["Bash", "Read"]);
    assert!(!record.is_writable());
}

#[test]
fn a_record_of_a_newer_version_is_read_as_far_as_possible() {
    let text =
        br#"{"version":99,"jobId":"a","status":"failed","reason":"auth","hologram":{"x":1}}"#;
    let record = decode_record(text).unwrap();
    assert_eq!(record.version, 99);
    assert!(!record.is_writable());
}

#[test]
fn the_first_record_ever_written_still_loads() {
    let text = include_bytes!("../../tests/fixtures/meta-v1.json");
    let record = decode_record(text).unwrap();
    assert!(record.is_writable());
    assert_eq!(record.status, Status::Completed);
    assert_eq!(record.num_turns, 3);
}

#[test]
fn a_record_of_the_second_version_still_loads() {
    let text = include_bytes!("../../tests/fixtures/meta-v2.json");
    let record = decode_record(text).unwrap();
    assert_eq!((record.attempt, record.num_turns, record.session_began), (2, 1, true));
    assert_eq!(record.earlier.cost_usd, Some(0.25));
    assert!(record.detached.unwrap().cgroup.unwrap().ends_with(".scope"));
}

#[test]
fn words_of_a_newer_version_are_no_obstacle() {
    let text = br#"{"version":99,"jobId":"a","status":"failed","reason":"bored","error":"why"}"#;
    let record = decode_record(text).unwrap();
    assert_eq!((record.reason, record.error.as_deref()), (None, Some("why")));
}

#[test]
fn what_is_no_job_is_no_job() {
    let (_folder, store) = store();
    store.create(&record("a"), "x").unwrap();
    fs::write(store.root().join("file"), "").unwrap();
    fs::create_dir(store.root().join("not a job")).unwrap();
    std::os::unix::fs::symlink("/etc", store.root().join("link")).unwrap();
    assert_eq!(store.ids().unwrap().len(), 1);
}

#[test]
fn what_a_dead_start_left_is_cleared_by_the_next() {
    let (_folder, store) = store();
    let (_job, _lock) = store.create(&record("a"), "x").unwrap();
    let staging = store.root().join(".new");
    fs::create_dir(staging.join("unfinished")).unwrap();
    fs::write(staging.join("unfinished/meta.json"), "{").unwrap();
    fs::write(staging.join("file"), "").unwrap();
    std::os::unix::fs::symlink(store.root(), staging.join("link")).unwrap();
    // While another is at it, what lies there may be its own.
    let other = File::open(&staging).unwrap();
    other.lock_shared().unwrap();
    store.create(&record("b"), "x").unwrap();
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 3);
    drop(other);
    store.create(&record("c"), "x").unwrap();
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert_eq!(store.ids().unwrap().len(), 3);
}

#[test]
fn a_staged_job_whose_lock_is_held_is_left_alone() {
    let (_folder, store) = store();
    store.create(&record("a"), "x").unwrap();
    let staging = store.root().join(".new");
    let staged = JobDir::at(staging.join("b"));
    fs::create_dir(staged.path()).unwrap();
    let lock = staged.create_lock().unwrap().unwrap();
    assert_eq!(store.leftovers().unwrap(), 0);
    store.clear_leftovers().unwrap();
    assert!(staged.is_held().unwrap());
    drop(lock);
    assert_eq!(store.leftovers().unwrap(), 1);
    store.clear_leftovers().unwrap();
    assert!(!staged.path().exists());
    // Its builder notices that, and builds another.
    assert!(staged.create_lock().unwrap().is_none());
}

#[test]
fn nothing_but_the_record_and_the_result_is_left_at_the_end() {
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
    record.end(&crate::job::Verdict::Completed, record.started_at.unwrap());
    job.save_outcome(&Outcome::from_record(&record), None).unwrap();
    job.save_end(&record).unwrap();
    assert_eq!(names(), ["lock", "meta.json", "prompt.txt", "result.json"]);
    assert_eq!(job.load().unwrap(), record);
}

#[test]
fn a_link_or_a_pipe_in_place_of_a_file_is_refused_at_once() {
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
fn events_go_on_with_their_numbers_behind_a_torn_line() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "x").unwrap();
    assert_eq!(job.open_events().unwrap().1, 0);
    let whole = "{\"seq\":6,\"event\":\"a\"}\n{\"seq\":7,\"event\":\"b\"}\n";
    fs::write(job.file(EVENTS), format!("{whole}{{\"seq\":8,\"ev")).unwrap();
    assert_eq!(job.open_events().unwrap().1, 7);
    assert!(fs::read_to_string(job.file(EVENTS)).unwrap().ends_with("\"ev\n"));
}

#[test]
fn a_mark_is_made_once() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::at(root.path().to_owned());
    assert_eq!([1, 2].map(|_| store.create_marker(CONTAINER_WARNED)), [true, false]);
    assert_eq!(store.ids().unwrap(), []);
    let gone = Store::at(root.path().join("gone"));
    assert!(gone.create_marker(CONTAINER_WARNED), "where it cannot be noted it is done each time");
}

#[test]
fn the_name_of_the_machine_decides_nothing_on_a_local_file_system() {
    let (_folder, store) = store();
    let mut record = record("a");
    record.set_host();
    let (job, lock) = store.create(&record, "the prompt").unwrap();
    drop(lock);
    assert_eq!(job.other_host(&record), None);
    record.host = Some("elsewhere".to_owned());
    let expected = job.is_shared().then_some("elsewhere");
    assert_eq!(job.other_host(&record), expected);
    record.status = Status::Failed;
    assert_eq!(job.other_host(&record), None, "an ended job is everybody's");
}

#[test]
fn the_next_attempt_needs_no_claim_on_a_local_file_system() {
    let (_folder, store) = store();
    let (job, _lock) = store.create(&record("a"), "the prompt").unwrap();
    assert_eq!([1, 2].map(|_| job.claim_attempt(2).unwrap()), [None, None]);
    assert_eq!(job.file(".attempt-2").exists(), job.is_shared());
}
