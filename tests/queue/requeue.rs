//! Jobs that were lost, or have ended, and are recovered or resumed: they get new tickets in the
//! queue.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::processes::{kill, send};
use super::support::{Sandbox, eventually};
use super::{GATED, await_start, order, record, release, worker_of};

const ONE: [&str; 2] = ["--max-parallel", "1"];

/// Kills the job's worker and waits for the job's end.
fn lose(sandbox: &Sandbox, id: &str) {
    send(worker_of(sandbox, id), Signal::SIGKILL);
    let lost = || (sandbox.status(id)["reason"] == "worker_died").then_some(());
    eventually(&format!("the end of {id}"), lost);
}

fn release_and_wait(sandbox: &Sandbox, id: &str) {
    release(sandbox, id);
    sandbox.wait(id).expect_end(0, "completed", None);
}

#[test]
fn a_job_never_admitted_resumes_with_its_prompt() {
    let sandbox =
        Sandbox::new("once $DIR/failed die KILL\nread $DIR/heard\ninit\nsay fine\nresult ok\neof");
    sandbox.run_job("a", &[]).expect_end(1, "failed", Some("no_result"));
    let start = ["start", "b", "--after", "a", "--prompt", "the task", "--wait"];
    sandbox.run(start).expect_end(1, "failed", Some("dependency_failed"));
    let refused = sandbox.run(["resume", "b"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"dependency_failed".into()), "{refused:?}");
    assert_eq!(sandbox.status("b")["attempt"], 1);
    // In the order in which they need each other.
    let resumed = sandbox.run(["resume", "b", "a"]);
    let resumed = resumed["recovered"].as_array().unwrap();
    assert_eq!((&resumed[0]["jobId"], &resumed[0]["resumes"]), (&"a".into(), &false.into()));
    assert_eq!((&resumed[1]["resumes"], &resumed[1]["attempt"]), (&false.into(), &2.into()));
    sandbox.wait("b").expect_end(0, "completed", None);
    assert!(fs::read_to_string(sandbox.path("heard")).unwrap().contains("the task"));
    // The same for a job that was killed before it was admitted.
    sandbox.start("c", &["--start-delay", "1h"]);
    sandbox.run(["kill", "c"]);
    assert_eq!(sandbox.run(["resume", "c"])["status"], "queued");
    sandbox.run(["kill", "c"]);
}

#[test]
fn a_job_recovered_while_queued_keeps_waiting() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    let worker = sandbox.start("b", &["--after", "a"])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("the end of b", || (sandbox.status("b")["reason"] == "worker_died").then_some(()));
    let recovered = sandbox.run(["recover", "b"]);
    assert_eq!((recovered.code, recovered.text("status")), (0, "queued"), "{recovered:?}");
    assert_eq!(sandbox.status("b")["waitsFor"], serde_json::json!(["a"]));
    await_start(&sandbox, "a");
    for id in ["a", "b"] {
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    // A job that ran does not wait for its dependencies again.
    assert_eq!(order(&sandbox), ["a", "b"]);
}

#[test]
fn recovers_a_job_lost_between_two_attempts() {
    // If it is killed late, the second attempt has not ended either.
    let sandbox = Sandbox::new(
        "session\nread\ninit\nwork 2\nonce $DIR/refused refused 429\nonce $DIR/left exit 1\n\
         wait-file $DIR/go\nresult ok\neof",
    );
    let worker = sandbox.start("a", &["--retries", "9"])["pid"].as_i64().unwrap() as i32;
    eventually("the pause", || (sandbox.status("a")["attempt"] == 2).then_some(()));
    send(worker, Signal::SIGKILL);
    // The previous attempt is over: its outcome is not the job's end.
    eventually("the end", || (sandbox.status("a")["reason"] == "worker_died").then_some(()));
    fs::write(sandbox.path("go"), "").unwrap();
    let recovered = sandbox.run(["recover", "a"]);
    assert_eq!((recovered.code, &recovered["resumes"]), (0, &true.into()), "{recovered:?}");
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(sandbox.path("work/a")).unwrap(), "1\n2\n");
}

#[test]
fn a_recovered_job_gets_its_slot_back() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    lose(&sandbox, "a");
    let recovered = sandbox.run(["recover", "a"]);
    assert_eq!((recovered.code, recovered.text("status")), (0, "running"), "{recovered:?}");
    release_and_wait(&sandbox, "a");
    // And it releases only one slot.
    sandbox.start("b", &ONE);
    release_and_wait(&sandbox, "b");
}

#[test]
fn a_recovered_queued_job_has_one_ticket() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    sandbox.start("b", &ONE);
    sandbox.start("c", &ONE);
    lose(&sandbox, "b");
    sandbox.run(["recover", "b"]);
    let position = |id| sandbox.status(id)["position"].clone();
    assert_eq!((position("b"), position("c")), (json!(2), json!(1)));
    await_start(&sandbox, "a");
    for id in ["a", "c", "b"] {
        await_start(&sandbox, id);
        release_and_wait(&sandbox, id);
    }
}

#[test]
fn a_reused_id_inherits_no_ticket() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    lose(&sandbox, "a");
    fs::remove_dir_all(sandbox.job("a")).unwrap();
    assert_eq!(sandbox.start("a", &ONE)["status"], "running");
    release_and_wait(&sandbox, "a");
}

#[test]
fn a_reused_id_does_not_revive_a_dead_ticket() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    kill(worker_of(&sandbox, "a"));
    // Nothing has read the job, and the next one with this id does not need a ticket for a long
    // time.
    fs::remove_dir_all(sandbox.job("a")).unwrap();
    sandbox.start("a", &["--max-parallel", "1", "--start-delay", "1h"]);
    assert_eq!(sandbox.start("b", &ONE)["status"], "running");
    lose(&sandbox, "b");
    let tickets =
        |directory| fs::read_dir(sandbox.jobs().join(".queue").join(directory)).unwrap().count();
    assert_eq!((tickets("running"), tickets("waiting")), (0, 0));
    sandbox.run(["kill", "a"]);
}

#[test]
fn recovered_jobs_do_not_wait_for_their_old_tickets() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("x", &ONE);
    await_start(&sandbox, "x");
    sandbox.start("j", &["--max-parallel", "1", "--after-any", "x"]);
    sandbox.start("r", &ONE);
    kill(worker_of(&sandbox, "x"));
    await_start(&sandbox, "r");
    let waits = || {
        let mut names = fs::read_dir(sandbox.jobs().join(".queue/waiting")).unwrap().flatten();
        names.any(|name| name.file_name().to_string_lossy().ends_with(".j")).then_some(())
    };
    eventually("the ticket of j", waits);
    kill(worker_of(&sandbox, "j"));
    let recovered = sandbox.run(["recover", "--all"]);
    assert_eq!(recovered["recovered"].as_array().map(Vec::len), Some(2), "{recovered:?}");
    for id in ["r", "x", "j"] {
        release_and_wait(&sandbox, id);
    }
}

#[test]
fn a_resumed_no_queue_job_may_queue() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "1", "--no-queue"]);
    release_and_wait(&sandbox, "a");
    fs::remove_file(sandbox.path("go-a")).unwrap();
    sandbox.start("b", &ONE);
    await_start(&sandbox, "b");
    let resumed = sandbox.run(["resume", "a", "--message", "more"]);
    assert_eq!((resumed.code, resumed.text("status")), (0, "queued"), "{resumed:?}");
    release_and_wait(&sandbox, "b");
    release_and_wait(&sandbox, "a");
}

#[test]
fn recovers_dependencies_first() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("zz", &[]);
    sandbox.start("aa", &["--after", "zz"]);
    await_start(&sandbox, "zz");
    // The dependent first: it would notice the end of the other.
    for id in ["aa", "zz"] {
        lose(&sandbox, id);
    }
    let all = sandbox.run(["recover", "--all"]);
    let ids: Vec<&Value> =
        all["recovered"].as_array().unwrap().iter().map(|job| &job["jobId"]).collect();
    assert_eq!(ids, ["zz", "aa"], "{all:?}");
    release_and_wait(&sandbox, "zz");
    release_and_wait(&sandbox, "aa");
}

#[test]
fn recovers_dependents_after_a_lost_dependency() {
    let sandbox = Sandbox::new(GATED);
    let cwd = sandbox.path("elsewhere");
    fs::create_dir(&cwd).unwrap();
    sandbox.start("zz", &["--cwd", cwd.to_str().unwrap()]);
    sandbox.start("mm", &["--after", "zz"]);
    sandbox.start("aa", &["--after", "mm"]);
    sandbox.start("never", &["--after", "zz", "--no-recover"]);
    sandbox.start("after-never", &["--after", "never"]);
    await_start(&sandbox, "zz");
    lose(&sandbox, "zz");
    for id in ["mm", "aa", "never", "after-never"] {
        sandbox.wait(id).expect_end(1, "failed", Some("dependency_failed"));
    }
    assert!(sandbox.status("aa").text("hint").starts_with("claudejob recover --all"));
    for id in ["never", "after-never"] {
        assert_eq!(sandbox.run(["recover", id])["code"], "not_recoverable", "{id}");
        let hint = format!("claudejob resume {id}  # after the job it waits for has completed");
        assert_eq!(sandbox.status(id)["hint"], hint);
    }
    // As long as the dependency cannot be recovered they are left alone.
    fs::remove_dir(&cwd).unwrap();
    let all = sandbox.run(["recover", "--all"]);
    assert_eq!((&all["recovered"], &all["failed"][0]["jobId"]), (&json!([]), &"zz".into()));
    assert_eq!(sandbox.status("mm")["attempt"], 1);
    // A job that is recovered before its dependency fails with it again, and stays recoverable.
    assert_eq!(sandbox.run(["recover", "mm"]).code, 0);
    sandbox.wait("mm").expect_end(1, "failed", Some("dependency_failed"));
    fs::create_dir(&cwd).unwrap();
    let all = sandbox.run(["recover", "--all"]);
    let ids: Vec<&Value> =
        all["recovered"].as_array().unwrap().iter().map(|job| &job["jobId"]).collect();
    assert_eq!(ids, ["zz", "mm", "aa"], "{all:?}");
    assert_eq!(sandbox.status("aa")["waitsFor"], json!(["mm"]));
    for id in ["zz", "mm", "aa"] {
        release_and_wait(&sandbox, id);
    }
    assert_eq!(order(&sandbox), ["zz", "zz", "mm", "aa"]);
}

#[test]
fn the_next_worker_finalizes_a_lost_job() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    send(worker_of(&sandbox, "a"), Signal::SIGKILL);
    sandbox.start("b", &ONE);
    await_start(&sandbox, "b");
    let written = || (record(&sandbox, "a")["reason"] == "worker_died").then_some(());
    eventually("the end of a, without a reader", written);
    let lost = || fs::read_dir(sandbox.jobs().join(".queue/lost")).unwrap().count();
    eventually("its ticket to go", || (lost() == 0).then_some(()));
    release_and_wait(&sandbox, "b");
}
