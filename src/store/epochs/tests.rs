use std::collections::BTreeSet;

use super::*;
use crate::job::{
    EngineOptions, InboxMessage, JobId, Reason, Record, Spec, Status, Timestamp, Verdict,
};
use crate::store::{LOCK, OUTPUT, Store};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_epoch_ms(1_795_204_010_508 + ms).unwrap()
}

/// A job with an engine in a jobs directory of its own.
fn job() -> (tempfile::TempDir, JobDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("jobs"));
    let engine = serde_json::from_str::<EngineOptions>(r#"{"kind": "slurm"}"#).unwrap();
    let spec = Spec { engine: Some(engine), ..Spec::default() };
    let mut record = Record::new(JobId::parse("a").unwrap(), spec, "do it".to_owned(), at(0));
    record.status = Status::Queued;
    let (job, _lock) = store.create(&record, "the prompt").unwrap();
    (folder, job)
}

fn claim() -> Claim {
    Claim::new(ClaimKind::Worker, None)
}

/// Claims the job and begins to work.
fn own(job: &JobDir, number: u32) -> JobDir {
    let owner = job.claim_epoch(number, &claim()).unwrap().unwrap();
    owner.copy_predecessor().unwrap();
    let mut record = owner.load().unwrap();
    record.status = Status::Running;
    record.attempt.number = number;
    owner.save(&record, false).unwrap();
    owner.publish_epoch().unwrap()
}

fn end(owner: &JobDir, verdict: &Verdict) -> Result<(), StoreError> {
    let mut record = owner.load().unwrap();
    record.end(verdict, at(1));
    owner.save_end(&record)
}

#[test]
fn readers_follow_the_owner() {
    let (_folder, job) = job();
    assert_eq!(job.load().unwrap().status, Status::Queued);
    let first = own(&job, 1);
    fs::write(first.file(OUTPUT), "one\n").unwrap();
    assert_eq!(job.load().unwrap().attempt.number, 1);
    assert_eq!(job.length(OUTPUT), 4);
    assert_eq!(fs::read_to_string(job.file(PROMPT)).unwrap(), "the prompt");

    let second = job.claim_epoch(2, &claim()).unwrap().unwrap();
    second.copy_predecessor().unwrap();
    fs::write(first.file(OUTPUT), "one\nof the first").unwrap();
    assert_eq!(job.load().unwrap().attempt.number, 1, "until the files are complete");
    let second = second.publish_epoch().unwrap();
    fs::write(second.file(OUTPUT), "one\ntwo\n").unwrap();
    let mut late = first.load().unwrap();
    late.error = Some("late".to_owned());
    first.save(&late, false).unwrap();
    assert_eq!(job.load().unwrap().error, None);
    assert_eq!(job.length(OUTPUT), 8, "what a successor has is not what the predecessor writes");
    assert!(first.is_superseded() && !second.is_superseded());
}

#[test]
fn the_end_is_that_of_the_last_owner() {
    let (_folder, job) = job();
    let first = own(&job, 1);
    let second = own(&job, 2);
    let lost = end(&first, &Verdict::Completed).unwrap_err();
    assert!(lost.is_lost_job(), "{lost}");
    assert_eq!(lost.to_string().rsplit(": ").next(), Some(LOST));
    assert_eq!(first.load().unwrap().status, Status::Running, "it has no verdict");
    assert_eq!(job.load().unwrap().status, Status::Running);

    let failed = Verdict::failed(Reason::Terminated, "terminated");
    end(&second, &failed).unwrap();
    assert!(!second.is_superseded(), "the end is its own");
    end(&second, &Verdict::Killed).unwrap();
    assert_eq!(job.load().unwrap().status, Status::Failed, "an end never changes");
    assert!(job.claim_epoch(3, &claim()).unwrap().is_none());
    let last = job.last_entry().unwrap().unwrap();
    assert!(last.number == 3 && matches!(last.entry, EpochEntry::End(_)), "{last:?}");

    let third = own(&job, 4);
    assert_eq!(job.load().unwrap().status, Status::Running);
    end(&third, &Verdict::Completed).unwrap();
    assert_eq!(job.load().unwrap().status, Status::Completed);
    assert_eq!(job.summary_of_file().unwrap().summary.status, Status::Completed);
}

#[test]
fn a_verdict_counts_when_it_is_linked() {
    let (_folder, job) = job();
    let owner = own(&job, 1);
    let mut record = owner.load().unwrap();
    record.end(&Verdict::Completed, at(1));
    // What a worker has written that dies before the link.
    files::write(&owner.file(END), &serde_json::to_vec(&record).unwrap()).unwrap();
    assert_eq!(job.load().unwrap().status, Status::Running);
    let successor = job.claim_epoch(2, &claim()).unwrap().unwrap();
    successor.copy_predecessor().unwrap();
    assert!(!successor.file(END).exists());

    // A predecessor that died after the link, and before it replaced its record.
    let (_folder, job) = self::job();
    let owner = own(&job, 1);
    files::write(&owner.file(END), &serde_json::to_vec(&record).unwrap()).unwrap();
    assert!(link(&owner.file(END), &job.entry_path(2)).unwrap());
    assert_eq!(job.load().unwrap().status, Status::Completed);
    let successor = job.claim_epoch(3, &claim()).unwrap().unwrap();
    successor.copy_predecessor().unwrap();
    assert_eq!(successor.load().unwrap().status, Status::Completed);
}

#[test]
fn one_of_twenty_claims_wins() {
    let (_folder, job) = job();
    let winners = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| job.claim_epoch(1, &claim()).unwrap().is_some()))
            .collect();
        claims.into_iter().map(|claim| claim.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(winners, 1);
    let left: Vec<_> = files::entries(&job.epochs()).map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["1.json"]);
}

#[test]
fn the_number_of_names_decides_about_a_link() {
    let (_folder, job) = job();
    let dir = job.path();
    for name in ["mine", "other"] {
        fs::write(dir.join(name), name).unwrap();
    }
    assert!(link(&dir.join("mine"), &dir.join("entry")).unwrap());
    // The server has made the link, and refuses the repetition of the request.
    assert!(link(&dir.join("mine"), &dir.join("entry")).unwrap());
    assert!(!link(&dir.join("other"), &dir.join("entry")).unwrap());
    assert_eq!(fs::metadata(dir.join("other")).unwrap().nlink(), 1);
    assert!(link(&dir.join("gone"), &dir.join("free")).is_err());
}

#[test]
fn a_listing_that_is_out_of_date_is_completed() {
    let names = ["1.json", "1", "2.json", "2.lease", ".3.new", ".x.tmp", "03.json", "x.json", "4x"];
    assert_eq!(Listing::from_names(names.into_iter()), Listing { last: 2, owner: 1 });
    let (_folder, job) = job();
    assert!(job.last_entry().unwrap().is_none());
    for number in 1..=3 {
        own(&job, number);
    }
    assert_eq!(job.last_entry().unwrap().unwrap().number, 3);
}

#[test]
fn messages_stay_for_a_successor() {
    let (_folder, job) = job();
    job.open_inbox().unwrap();
    let identity = job.identity().unwrap();
    let post = |text: &str| {
        let message: InboxMessage = serde_json::from_value(serde_json::json!({
            "kind": "message", "uuid": text, "text": text
        }))
        .unwrap();
        job.post(&message, &identity).unwrap().unwrap()
    };
    let numbers = |items: Vec<crate::store::InboxItem>| -> Vec<u64> {
        items.iter().map(|item| item.number).collect()
    };
    let first = own(&job, 1);
    let (done, taken, open) = (post("done"), post("taken"), post("open"));
    assert_eq!(numbers(first.receive(&BTreeSet::new()).unwrap()), [done, taken, open]);
    first.set_aside(done);
    assert!(first.remove_message(done));
    first.set_aside(taken);
    assert_eq!(numbers(first.receive(&BTreeSet::new()).unwrap()), [open]);

    let second = own(&job, 2);
    // The first one revives.
    first.set_aside(open);
    first.close_inbox().unwrap();
    assert_eq!(numbers(second.receive(&BTreeSet::new()).unwrap()), [open]);
    assert_eq!(second.aside_numbers(), [taken]);
    assert_eq!(numbers(second.aside_items()), [taken]);
    second.keep_inbox_open();
    let later = post("later");
    second.restore_aside();
    assert_eq!(numbers(second.receive(&BTreeSet::new()).unwrap()), [taken, open, later]);
    assert_eq!(numbers(second.close_inbox().unwrap()), [taken, open, later]);
}

#[test]
fn locks_of_this_machine_show_who_has_ended() {
    let (_folder, job) = job();
    let claim = claim();
    let owner = job.claim_epoch(1, &claim).unwrap().unwrap();
    assert!(!job.claimer_has_ended(1, &claim), "it may be about to take its lock");
    owner.copy_predecessor().unwrap();
    let lock = owner.try_lock().unwrap().unwrap();
    let owner = owner.publish_epoch().unwrap();
    assert!(!job.claimer_has_ended(1, &claim));
    lock.release();
    assert!(job.claimer_has_ended(1, &claim));
    let _lock = owner.try_lock().unwrap().unwrap();
    let rebooted = Claim { boot_id: Some("another".to_owned()), ..claim.clone() };
    assert!(job.claimer_has_ended(1, &rebooted));
    let elsewhere = Claim { host: "another".to_owned(), ..claim };
    assert!(!job.claimer_has_ended(1, &elsewhere));
    assert!(owner.file(LOCK).exists() && owner.file(LOCK) != job.path().join(LOCK));
}

#[test]
fn a_list_has_the_records_that_are_not_final() {
    let (_folder, job) = job();
    let store = Store::at(job.root().to_owned());
    let listed = || {
        let (summaries, mut jobs) = store.summaries_with_records().unwrap();
        let listed = jobs.pop().unwrap();
        let summary = summaries.get_or_load(&store, &listed).unwrap();
        (listed.loaded.map(|loaded| loaded.record), summary.status)
    };
    let assert_loaded = |status: Status| {
        let (record, summary) = listed();
        let record = serde_json::to_value(record.unwrap()).unwrap();
        assert_eq!(record, serde_json::to_value(job.load().unwrap()).unwrap());
        assert_eq!((record["status"].as_str(), summary), (Some(status.as_str()), status));
    };
    assert_loaded(Status::Queued);
    let first = own(&job, 1);
    assert_loaded(Status::Running);
    end(&first, &Verdict::failed(Reason::WorkerDied, "cut off")).unwrap();
    assert_loaded(Status::Failed);
    let second = own(&job, 3);
    assert_loaded(Status::Running);
    end(&second, &Verdict::Completed).unwrap();
    assert!(matches!(listed(), (None, Status::Completed)));
    let (_, jobs) = store.summaries().unwrap();
    assert!(jobs.iter().all(|job| job.loaded.is_none()));
}
