//! Jobs that were cut off, or have ended, and go on: their places in the queue are new ones.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::processes::{kill, send};
use super::support::{Sandbox, eventually};
use super::{GATED, begun, let_go, order, record, worker_of};

const ONE: [&str; 2] = ["--max-parallel", "1"];

/// Kills the job's worker and waits for the job's end.
fn cut_off(sandbox: &Sandbox, id: &str) {
    send(worker_of(sandbox, id), Signal::SIGKILL);
    let lost = || (sandbox.status(id)["reason"] == "worker_died").then_some(());
    eventually(&format!("the end of {id}"), lost);
}

fn end_of(sandbox: &Sandbox, id: &str) {
    let_go(sandbox, id);
    sandbox.wait(id).expect_end(0, "completed", None);
}

#[test]
fn a_job_that_never_had_its_turn_begins_with_its_prompt_when_it_is_resumed() {
    let sandbox =
        Sandbox::new("once $DIR/failed die KILL\nread $DIR/heard\ninit\nsay fine\nresult ok\neof");
    sandbox.run_job("a", &[]).expect_end(1, "failed", Some("no_result"));
    let start = ["start", "b", "--after", "a", "--prompt", "the task", "--wait"];
    sandbox.run(start).expect_end(1, "failed", Some("dependency_failed"));
    assert_eq!(sandbox.run(["resume", "b"]).code, 0);
    sandbox.wait("b").expect_end(1, "failed", Some("dependency_failed"));
    assert_eq!(sandbox.run(["resume", "a"])["resumes"], false);
    sandbox.wait("a").expect_end(0, "completed", None);
    let resumed = sandbox.run(["resume", "b"]);
    assert_eq!((&resumed["resumes"], &resumed["attempt"]), (&false.into(), &3.into()));
    sandbox.wait("b").expect_end(0, "completed", None);
    assert!(fs::read_to_string(sandbox.path("heard")).unwrap().contains("the task"));
    // One that was killed before its turn as well.
    sandbox.start("c", &["--start-delay", "1h"]);
    sandbox.run(["kill", "c"]);
    assert_eq!(sandbox.run(["resume", "c"])["status"], "queued");
    sandbox.run(["kill", "c"]);
}

#[test]
fn a_job_that_is_taken_up_before_its_turn_still_waits_for_the_others() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    let worker = sandbox.start("b", &["--after", "a"])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("the end of b", || (sandbox.status("b")["reason"] == "worker_died").then_some(()));
    let recovered = sandbox.run(["recover", "b"]);
    assert_eq!((recovered.code, recovered.text("status")), (0, "queued"), "{recovered:?}");
    assert_eq!(sandbox.status("b")["waitsFor"], serde_json::json!(["a"]));
    begun(&sandbox, "a");
    for id in ["a", "b"] {
        let_go(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    // One that ran is not held up by them again.
    assert_eq!(order(&sandbox), ["a", "b"]);
}

#[test]
fn a_worker_that_dies_between_two_attempts_leaves_a_job_that_goes_on() {
    let sandbox = Sandbox::new(
        "session\nread\ninit\nwork 2\nonce $DIR/refused refused 429\nonce $DIR/left exit 1\nresult ok\neof",
    );
    let worker = sandbox.start("a", &["--retries", "9"])["pid"].as_i64().unwrap() as i32;
    eventually("the pause", || (sandbox.status("a")["attempt"] == 2).then_some(()));
    send(worker, Signal::SIGKILL);
    // The attempt before is over and done with: what it came to is not the job's end.
    eventually("the end", || (sandbox.status("a")["reason"] == "worker_died").then_some(()));
    let recovered = sandbox.run(["recover", "a"]);
    assert_eq!((recovered.code, &recovered["resumes"]), (0, &true.into()), "{recovered:?}");
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(sandbox.path("work/a")).unwrap(), "1\n2\n");
}

#[test]
fn a_job_that_had_a_slot_finds_it_again() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    begun(&sandbox, "a");
    cut_off(&sandbox, "a");
    let recovered = sandbox.run(["recover", "a"]);
    assert_eq!((recovered.code, recovered.text("status")), (0, "running"), "{recovered:?}");
    end_of(&sandbox, "a");
    // And it gives up one alone.
    sandbox.start("b", &ONE);
    end_of(&sandbox, "b");
}

#[test]
fn a_job_that_waited_for_a_slot_has_one_place_again() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    sandbox.start("b", &ONE);
    sandbox.start("c", &ONE);
    cut_off(&sandbox, "b");
    sandbox.run(["recover", "b"]);
    let place = |id| sandbox.status(id)["position"].clone();
    assert_eq!((place("b"), place("c")), (json!(2), json!(1)));
    begun(&sandbox, "a");
    for id in ["a", "c", "b"] {
        begun(&sandbox, id);
        end_of(&sandbox, id);
    }
}

#[test]
fn an_id_that_is_used_again_has_nothing_of_the_job_before() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    begun(&sandbox, "a");
    cut_off(&sandbox, "a");
    fs::remove_dir_all(sandbox.job("a")).unwrap();
    assert_eq!(sandbox.start("a", &ONE)["status"], "running");
    end_of(&sandbox, "a");
}

#[test]
fn a_place_of_a_dead_worker_does_not_come_to_life_with_the_next() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    begun(&sandbox, "a");
    kill(worker_of(&sandbox, "a"));
    // Nobody has looked, and the next of this name does not ask for a place for long.
    fs::remove_dir_all(sandbox.job("a")).unwrap();
    sandbox.start("a", &["--max-parallel", "1", "--start-delay", "1h"]);
    assert_eq!(sandbox.start("b", &ONE)["status"], "running");
    cut_off(&sandbox, "b");
    let places = |room| fs::read_dir(sandbox.jobs().join(".queue").join(room)).unwrap().count();
    assert_eq!((places("running"), places("waiting")), (0, 0));
    sandbox.run(["kill", "a"]);
}

#[test]
fn those_whose_workers_died_wait_for_each_other_and_not_for_their_own_places() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("x", &ONE);
    begun(&sandbox, "x");
    sandbox.start("j", &["--max-parallel", "1", "--after-any", "x"]);
    sandbox.start("r", &ONE);
    kill(worker_of(&sandbox, "x"));
    begun(&sandbox, "r");
    let waits = || {
        let mut names = fs::read_dir(sandbox.jobs().join(".queue/waiting")).unwrap().flatten();
        names.any(|name| name.file_name().to_string_lossy().ends_with(".j")).then_some(())
    };
    eventually("the place of j", waits);
    kill(worker_of(&sandbox, "j"));
    let recovered = sandbox.run(["recover", "--all"]);
    assert_eq!(recovered["recovered"].as_array().map(Vec::len), Some(2), "{recovered:?}");
    for id in ["r", "x", "j"] {
        end_of(&sandbox, id);
    }
}

#[test]
fn a_job_that_did_not_want_to_wait_can_wait_when_it_goes_on() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "1", "--no-queue"]);
    end_of(&sandbox, "a");
    fs::remove_file(sandbox.path("go-a")).unwrap();
    sandbox.start("b", &ONE);
    begun(&sandbox, "b");
    let resumed = sandbox.run(["resume", "a", "--message", "more"]);
    assert_eq!((resumed.code, resumed.text("status")), (0, "queued"), "{resumed:?}");
    end_of(&sandbox, "b");
    end_of(&sandbox, "a");
}

#[test]
fn those_that_others_wait_for_are_taken_up_first() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("zz", &[]);
    sandbox.start("aa", &["--after", "zz"]);
    begun(&sandbox, "zz");
    // The one that waits first: it would learn of the end of the other.
    for id in ["aa", "zz"] {
        cut_off(&sandbox, id);
    }
    let all = sandbox.run(["recover", "--all"]);
    let ids: Vec<&Value> =
        all["recovered"].as_array().unwrap().iter().map(|job| &job["jobId"]).collect();
    assert_eq!(ids, ["zz", "aa"], "{all:?}");
    end_of(&sandbox, "zz");
    end_of(&sandbox, "aa");
}

#[test]
fn those_that_fail_with_one_that_was_cut_off_are_taken_up_after_it() {
    let sandbox = Sandbox::new(GATED);
    let cwd = sandbox.path("elsewhere");
    fs::create_dir(&cwd).unwrap();
    sandbox.start("zz", &["--cwd", cwd.to_str().unwrap()]);
    sandbox.start("mm", &["--after", "zz"]);
    sandbox.start("aa", &["--after", "mm"]);
    sandbox.start("never", &["--after", "zz", "--no-recover"]);
    sandbox.start("after-never", &["--after", "never"]);
    begun(&sandbox, "zz");
    cut_off(&sandbox, "zz");
    for id in ["mm", "aa", "never", "after-never"] {
        sandbox.wait(id).expect_end(1, "failed", Some("dependency_failed"));
    }
    assert!(sandbox.status("aa").text("hint").starts_with("claudejob recover --all"));
    for id in ["never", "after-never"] {
        assert_eq!(sandbox.run(["recover", id])["code"], "not_recoverable", "{id}");
        let hint = format!("claudejob resume {id}  # after the job it waits for has completed");
        assert_eq!(sandbox.status(id)["hint"], hint);
    }
    // As long as it cannot go on they are left alone.
    fs::remove_dir(&cwd).unwrap();
    let all = sandbox.run(["recover", "--all"]);
    assert_eq!((&all["recovered"], &all["failed"][0]["jobId"]), (&json!([]), &"zz".into()));
    assert_eq!(sandbox.status("mm")["attempt"], 1);
    // One that is taken up before it fails with it again, and may go on as before.
    assert_eq!(sandbox.run(["recover", "mm"]).code, 0);
    sandbox.wait("mm").expect_end(1, "failed", Some("dependency_failed"));
    fs::create_dir(&cwd).unwrap();
    let all = sandbox.run(["recover", "--all"]);
    let ids: Vec<&Value> =
        all["recovered"].as_array().unwrap().iter().map(|job| &job["jobId"]).collect();
    assert_eq!(ids, ["zz", "mm", "aa"], "{all:?}");
    assert_eq!(sandbox.status("aa")["waitsFor"], json!(["mm"]));
    for id in ["zz", "mm", "aa"] {
        end_of(&sandbox, id);
    }
    assert_eq!(order(&sandbox), ["zz", "zz", "mm", "aa"]);
}

#[test]
fn the_end_of_a_job_is_written_by_whoever_comes_next() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    begun(&sandbox, "a");
    send(worker_of(&sandbox, "a"), Signal::SIGKILL);
    sandbox.start("b", &ONE);
    begun(&sandbox, "b");
    let written = || (record(&sandbox, "a")["reason"] == "worker_died").then_some(());
    eventually("the end of a, for which nobody asked", written);
    let lost = || fs::read_dir(sandbox.jobs().join(".queue/lost")).unwrap().count();
    eventually("its ticket to go", || (lost() == 0).then_some(()));
    end_of(&sandbox, "b");
}
