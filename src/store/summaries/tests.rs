use super::*;
use crate::job::{EngineOptions, Record, Spec, Verdict};
use crate::store::{Claim, ClaimKind};

const JOBS: usize = 105;

fn record(n: usize, verdict: Option<Verdict>) -> Record {
    let at = |s: usize| Timestamp::from_epoch_ms(1_795_204_010_000 + s as i64 * 1_000).unwrap();
    let id = JobId::parse(&format!("job-{n}")).unwrap();
    let labels = [("n".to_owned(), n.to_string())].into();
    let spec = Spec { labels, ..Spec::default() };
    let mut record = Record::new(id, spec, format!("do \"{n}\"\n"), at(n));
    record.cost.usd = Some(n as f64 / 100.0);
    if let Some(verdict) = verdict {
        record.end(&verdict, at(2 * n));
    }
    record
}

/// A jobs directory with jobs that have ended, on a file system that is not shared.
fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    assert!(!machine::is_shared(folder.path()), "this needs a local file system");
    let store = Store::at(folder.path().to_owned());
    for n in 0..JOBS {
        let verdict = match n % 3 {
            0 => Verdict::Completed,
            1 => Verdict::Killed,
            _ => Verdict::failed(crate::job::Reason::Timeout, "it took too long".to_owned()),
        };
        put(&store, &record(n, Some(verdict)));
    }
    (folder, store)
}

fn put(store: &Store, record: &Record) {
    let dir = store.job(&record.job_id);
    let _ = fs::create_dir(dir.path());
    dir.save(record, false).unwrap();
}

/// Returns a time at which all records are old enough to be cached.
fn later() -> SystemTime {
    SystemTime::now() + 2 * MIN_RECORD_AGE
}

fn cache(store: &Store) -> std::path::PathBuf {
    store.root().join(CACHE)
}

/// Returns the jobs and their summaries.
fn all_summaries(store: &Store) -> Vec<(JobId, Option<Summary>)> {
    let (summaries, jobs) = store.summaries_at(later(), |_| false, false).unwrap();
    let known = |job: Listed| {
        let summary = job.ended.map(|ended| {
            let summary = summaries.get(&ended).unwrap();
            assert_eq!(summary.status, ended.status);
            assert_eq!(summary.started_at, ended.started_at);
            assert_eq!(summary.ended_at, ended.ended_at);
            assert_eq!(summary.has_recipients(), ended.has_recipients);
            summary
        });
        (job.id, summary)
    };
    jobs.into_iter().map(known).collect()
}

/// Returns the number of summaries from the cache.
fn cached(store: &Store) -> usize {
    count_cached(&store.summaries_at(later(), |_| false, false).unwrap())
}

fn count_cached((summaries, jobs): &(Summaries, Vec<Listed>)) -> usize {
    let is_cached =
        |job: &&Listed| job.ended.is_some_and(|ended| ended.line.start < summaries.file_length);
    jobs.iter().filter(is_cached).count()
}

#[test]
fn a_damaged_cache_does_not_change_summaries() {
    let (_folder, store) = store();
    let right = all_summaries(&store);
    assert_eq!(right.len(), JOBS);
    assert!(right.iter().all(|(id, summary)| summary.as_ref().unwrap().job_id == *id));
    let whole = fs::read(cache(&store)).unwrap();
    assert_eq!(cached(&store), JOBS);
    assert_eq!(all_summaries(&store), right);

    let lines = whole.split_inclusive(|&byte| byte == b'\n');
    let one_line: usize = lines.take(2).map(<[u8]>::len).sum();
    let offsets = (0..one_line).chain((one_line..whole.len()).step_by(997));
    for offset in offsets {
        fs::write(cache(&store), &whole[..offset]).unwrap();
        assert_eq!(all_summaries(&store), right, "truncated at {offset}");
        let mut changed = whole.clone();
        changed[offset] = changed[offset].wrapping_add(1);
        fs::write(cache(&store), &changed).unwrap();
        assert_eq!(all_summaries(&store), right, "changed at {offset}");
    }
    for foreign in [&b""[..], b"\n", b"\0\xff", b"claudejob summaries 1\nx\n\n", b"[]"] {
        fs::write(cache(&store), foreign).unwrap();
        assert_eq!(all_summaries(&store), right);
        assert_eq!(fs::read(cache(&store)).unwrap(), whole, "it is replaced");
    }
    fs::remove_file(cache(&store)).unwrap();
    assert_eq!(all_summaries(&store), right);
    assert_eq!(fs::metadata(cache(&store)).unwrap().mode() & 0o777, 0o600);
    assert!(!store.root().join(TEMPORARY).exists());
}

#[test]
fn reads_a_replaced_record_again() {
    let (_folder, store) = store();
    all_summaries(&store);
    assert_eq!(cached(&store), JOBS);
    let id = JobId::parse("job-7").unwrap();
    let of =
        |id: &JobId| all_summaries(&store).into_iter().find(|(other, _)| other == id).unwrap().1;

    put(&store, &record(7, None));
    assert_eq!(of(&id), None, "it was resumed, and is live");
    put(&store, &record(7, Some(Verdict::Completed)));
    assert_eq!(of(&id).unwrap().status, Status::Completed);
    // Overwritten in place with the same size, which no version of this program does.
    let path = store.job(&id).file(RECORD);
    let text = fs::read_to_string(&path).unwrap().replace("0.07", "0.08");
    fs::write(&path, text).unwrap();
    assert_eq!(of(&id).unwrap().cost_usd, Some(0.08));
    fs::write(&path, "{").unwrap();
    assert_eq!(of(&id), None);
    fs::remove_dir_all(store.job(&id).path()).unwrap();
    assert_eq!(all_summaries(&store).len(), JOBS - 1);
    // A job of the same name, and one that came before all others.
    put(&store, &record(7, Some(Verdict::Killed)));
    let first = Record { job_id: JobId::parse("a").unwrap(), ..record(1, Some(Verdict::Killed)) };
    put(&store, &first);
    assert_eq!(of(&id).unwrap().status, Status::Killed);
    assert_eq!(all_summaries(&store).len(), JOBS + 1);
    assert_eq!(cached(&store), JOBS - 1, "two new jobs do not cause a rewrite");
}

#[test]
fn does_not_cache_a_record_that_just_changed() {
    let (_folder, store) = store();
    let record = |n| store.job(&JobId::parse(&format!("job-{n}")).unwrap()).file(RECORD);
    // Not the present time: the machine may have been busy since the records were written.
    let now = fs::metadata(record(0)).unwrap().modified().unwrap();
    for now in [now, now + MIN_RECORD_AGE / 2, now - Duration::from_secs(3600)] {
        let (_, jobs) = store.summaries_at(now, |_| false, false).unwrap();
        assert!(jobs.iter().all(|job| job.ended.is_some()));
        assert!(!cache(&store).exists(), "{now:?}");
    }
    // A modification time that was set back does not count: the change time is later.
    for n in 0..JOBS {
        let file = File::options().write(true).open(record(n)).unwrap();
        file.set_modified(now - Duration::from_secs(60)).unwrap();
    }
    store.summaries_at(now, |_| false, false).unwrap();
    assert!(!cache(&store).exists());
    store.summaries_at(later(), |_| false, false).unwrap();
    assert!(cache(&store).exists());
}

/// Ends a job with an engine by another owner.
fn end_on_engine(store: &Store, id: &str, verdict: &Verdict) {
    let job = store.job(&JobId::parse(id).unwrap());
    let number = job.last_entry().unwrap().map_or(0, |last| last.number) + 1;
    let claim = Claim::new(ClaimKind::Worker, None);
    let (owner, _lock) = job.begin_epoch(number, &claim).unwrap().unwrap();
    let mut record = owner.load().unwrap();
    record.end(verdict, Timestamp::from_epoch_ms(1_795_204_020_000).unwrap());
    owner.save_end(&record).unwrap();
}

#[test]
fn caches_the_ends_of_jobs_with_an_engine() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().to_owned());
    let engine = serde_json::from_str::<EngineOptions>(r#"{"kind": "slurm"}"#).unwrap();
    for n in 0..JOBS {
        let mut record = record(n, None);
        record.spec.engine = Some(engine.clone());
        store.create(&record, "do it").unwrap();
        end_on_engine(&store, record.job_id.as_str(), &Verdict::Completed);
    }
    put(&store, &record(JOBS, Some(Verdict::Killed)));
    let others_may_write =
        |age| store.summaries_at(SystemTime::now() + age, |_| true, false).unwrap();
    assert_eq!(count_cached(&others_may_write(2 * MIN_RECORD_AGE)), 0);
    assert!(!cache(&store).exists(), "clocks of machines differ");
    others_may_write(2 * MIN_SHARED_AGE);
    let read = others_may_write(2 * MIN_RECORD_AGE);
    assert_eq!((count_cached(&read), read.1.len()), (JOBS, JOBS + 1));
    assert_eq!(read.0.get(&read.1[0].ended.unwrap()).unwrap().status, Status::Completed);

    let job = store.job(&record(7, None).job_id);
    let claim = Claim::new(ClaimKind::Submit, None);
    let number = job.last_entry().unwrap().unwrap().number + 1;
    let (owner, _lock) = job.begin_epoch(number, &claim).unwrap().unwrap();
    let find = || all_summaries(&store).into_iter().find(|(id, _)| id == job.id()).unwrap().1;
    assert_eq!(cached(&store), JOBS - 1, "its files are a copy, and the record is not an end");
    owner.save(&record(7, None), false).unwrap();
    assert_eq!(find(), None, "it is live");
    end_on_engine(&store, "job-7", &Verdict::Killed);
    assert_eq!(find().unwrap().status, Status::Killed);
}

#[test]
fn caches_only_final_records() {
    let (_folder, store) = store();
    for n in 0..10 {
        put(&store, &record(n, None));
    }
    let mut newer = record(10, Some(Verdict::Killed));
    newer.version = FORMAT_VERSION + 1;
    put(&store, &newer);
    let elsewhere = store.job(&record(11, None).job_id).file("elsewhere");
    fs::rename(elsewhere.with_file_name(RECORD), &elsewhere).unwrap();
    std::os::unix::fs::symlink("elsewhere", elsewhere.with_file_name(RECORD)).unwrap();
    fs::rename(store.root().join("job-12"), store.root().join("renamed")).unwrap();
    let known = all_summaries(&store).into_iter().filter(|(_, summary)| summary.is_some()).count();
    assert_eq!(known, JOBS - 12, "the newer one is listed");
    assert_eq!(cached(&store), 0, "too few are left to be cached");
    for n in 0..10 {
        put(&store, &record(n, Some(Verdict::Killed)));
    }
    all_summaries(&store);
    assert_eq!(cached(&store), JOBS - 3);
}

#[test]
fn keeps_the_cache_of_a_newer_version_or_other_writer() {
    let (folder, store) = store();
    let newer = format!("{TITLE}{}\nwhatever it says\n", VERSION + 1);
    fs::write(cache(&store), &newer).unwrap();
    assert_eq!(all_summaries(&store).len(), JOBS);
    assert_eq!(fs::read_to_string(cache(&store)).unwrap(), newer);
    fs::remove_file(cache(&store)).unwrap();

    let writer = File::create(store.root().join(TEMPORARY)).unwrap();
    writer.lock().unwrap();
    assert_eq!(all_summaries(&store).len(), JOBS);
    assert!(!cache(&store).exists(), "another process writes it");
    writer.unlock().unwrap();

    let outside = folder.path().join(".outside");
    fs::write(&outside, "precious").unwrap();
    std::os::unix::fs::symlink(&outside, cache(&store)).unwrap();
    assert_eq!(all_summaries(&store).len(), JOBS);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
    assert_eq!(cached(&store), JOBS);
}
