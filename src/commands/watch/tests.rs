use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;
use crate::store::{EVENTS, OUTPUT, RECORD};

const FENCE: usize = 9;

/// Jobs in a temporary directory, and a watch of them. The system reports events in order: a
/// change of the job with the index [`FENCE`] comes after all notices of earlier changes.
struct Fixture {
    root: tempfile::TempDir,
    watch: Watch,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self { root: tempfile::tempdir().unwrap(), watch: Watch::new() };
        let fence = fixture.job("fence");
        fixture.append("fence", EVENTS);
        fixture.watch.add_files(FENCE, &fence, &[EVENTS]);
        fixture
    }

    fn job(&self, id: &str) -> JobDir {
        let path = self.root.path().join(id);
        fs::create_dir(&path).unwrap();
        JobDir::at(path).unwrap()
    }

    fn append(&self, id: &str, file: &str) {
        let path = self.root.path().join(id).join(file);
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(b"x\n").unwrap();
    }

    fn replace(&self, id: &str, file: &str) {
        let path = self.root.path().join(id).join(file);
        fs::write(path.with_extension("tmp"), "x").unwrap();
        fs::rename(path.with_extension("tmp"), path).unwrap();
    }

    #[track_caller]
    fn assert_notices(&mut self, expected: &[Notice]) {
        self.append("fence", EVENTS);
        let mut notices = Vec::new();
        loop {
            let notice = self.watch.next();
            if notice == Notice::Changed(FENCE) {
                break;
            }
            notices.push(notice);
        }
        // If a file is watched late, earlier changes cause one notice or more.
        notices.dedup();
        assert_eq!(notices, expected);
    }
}

#[test]
fn reports_only_watched_files() {
    let mut fixture = Fixture::new();
    let job = fixture.job("j");
    fixture.append("j", EVENTS);
    fixture.watch.add_files(1, &job, &[EVENTS]);
    let unrelated = |fixture: &Fixture| {
        fixture.append("j", OUTPUT);
        fixture.replace("j", RECORD);
    };
    unrelated(&fixture);
    fixture.assert_notices(&[]);
    fixture.append("j", EVENTS);
    fixture.assert_notices(&[Notice::Changed(1)]);

    // The record is replaced: its directory is watched, and other files still cause no notice.
    let other = fixture.job("k");
    fixture.watch.add_files(2, &other, &[RECORD]);
    for file in [OUTPUT, EVENTS] {
        fixture.append("k", file);
        fixture.assert_notices(&[]);
    }
    fixture.replace("k", RECORD);
    fixture.assert_notices(&[Notice::Changed(2)]);
    fixture.replace("k", RECORD);
    fixture.assert_notices(&[Notice::Changed(2)]);
}

#[test]
fn watches_files_created_or_replaced_later() {
    let mut fixture = Fixture::new();
    let job = fixture.job("j");
    let events = job.file(EVENTS);
    fixture.watch.add_files(1, &job, &[EVENTS]);
    let changed = [Notice::Changed(1)];
    for make in [Fixture::append, Fixture::replace] {
        fixture.append("j", OUTPUT);
        fixture.assert_notices(&[]);
        make(&fixture, "j", EVENTS);
        fixture.assert_notices(&changed);
        // After the notice, the new file itself is watched.
        fixture.append("j", EVENTS);
        fixture.assert_notices(&changed);
        fixture.append("j", OUTPUT);
        fixture.assert_notices(&[]);
        // The file's writer may have it open.
        let open = fs::File::open(&events).unwrap();
        fs::remove_file(&events).unwrap();
        fixture.assert_notices(&changed);
        drop(open);
    }
    fixture.append("j", EVENTS);
    fixture.assert_notices(&changed);
    fixture.replace("j", EVENTS);
    fixture.assert_notices(&changed);
    fixture.append("j", EVENTS);
    fixture.assert_notices(&changed);
    fs::rename(&events, job.file("away")).unwrap();
    fixture.assert_notices(&changed);
    fs::remove_dir_all(job.path()).unwrap();
    // Not before the fence: a process that a parallel test is just starting may have a copy of the
    // open directory, whose end is reported when nobody has it open.
    assert_eq!(fixture.watch.next(), Notice::Changed(1));
}

#[test]
fn reports_removal_of_directory_with_open_file() {
    let mut fixture = Fixture::new();
    let [job, other] = ["j", "other"].map(|id| fixture.job(id));
    fixture.append("j", OUTPUT);
    let open = fs::File::open(job.file(OUTPUT)).unwrap();
    let mut watch = Watch::for_files(&job, &[EVENTS]);
    watch.add_files(FENCE, &JobDir::at(fixture.root.path().join("fence")).unwrap(), &[EVENTS]);
    fixture.watch = watch;
    fs::remove_dir(other.path()).unwrap();
    fixture.assert_notices(&[]);
    fs::remove_dir_all(job.path()).unwrap();
    fixture.assert_notices(&[Notice::Changed(0)]);
    drop(open);
}

#[test]
fn reports_new_job_by_name() {
    let mut fixture = Fixture::new();
    let jobs = fixture.job("jobs");
    fixture.watch.add_root(jobs.path());
    let made = fixture.job("made");
    fs::rename(made.path(), jobs.file("j")).unwrap();
    fixture.assert_notices(&[Notice::Appeared("j".to_owned())]);
    fs::remove_dir_all(jobs.path()).unwrap();
    assert_eq!(fixture.watch.next(), Notice::Root, "it may be made again");
}
