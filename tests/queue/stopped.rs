//! Processes that are stopped in the middle of the queue's business (SIGSTOP, or a frozen control
//! group): nobody else waits for them, and they go on rightly when they are continued.

use std::fs;

use nix::sys::signal::Signal;

use super::support::processes::{is_stopped, kill, send};
use super::support::{Sandbox, eventually};
use super::{GATED, QUICK, begun, let_go, order, worker_of};

const ONE: [&str; 2] = ["--max-parallel", "1"];

fn start_of<'a>(id: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["start", id, "--prompt", "work"], options].concat()
}

fn stop(sandbox: &Sandbox, id: &str) -> i32 {
    let worker = worker_of(sandbox, id);
    send(worker, Signal::SIGSTOP);
    eventually(&format!("the stop of {id}"), || is_stopped(worker).then_some(()));
    worker
}

fn ends(sandbox: &Sandbox, id: &str) {
    begun(sandbox, id);
    let_go(sandbox, id);
    sandbox.wait(id).expect_end(0, "completed", None);
}

#[test]
fn a_worker_that_is_stopped_with_the_lock_of_the_queue_keeps_nobody_out() {
    for point in ["queue:locked", "queue:entering"] {
        let mut sandbox = Sandbox::new(GATED);
        sandbox.start("a", &["--max-parallel", "2"]);
        let stopped = sandbox.pause_at(point, start_of("b", &["--max-parallel", "2"]), |sandbox| {
            assert_eq!(sandbox.start("new", &["--max-parallel", "2"])["status"], "running");
            assert_eq!(sandbox.status("a")["status"], "running");
            assert_eq!(sandbox.run(["kill", "a"]).text("status"), "killed");
            ends(sandbox, "new");
            // Again, by another process.
            sandbox.start("next", &["--max-parallel", "2"]);
            ends(sandbox, "next");
        });
        assert_eq!(stopped["status"], "running", "{point}: {stopped:?}");
        ends(&sandbox, "b");
    }
}

#[test]
fn a_job_whose_worker_is_stopped_with_the_lock_of_the_queue_can_be_killed() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.pause_at("queue:locked", start_of("b", &[]), |sandbox| {
        assert_eq!(sandbox.run(["kill", "b"]).text("status"), "killed");
        sandbox.run_job("new", &[]).expect_end(0, "completed", None);
    });
}

#[test]
fn a_worker_that_was_stopped_before_it_took_its_slot_takes_none_too_many() {
    let mut sandbox = Sandbox::new(GATED);
    let stopped = sandbox.pause_at("queue:entering", start_of("b", &ONE), |sandbox| {
        assert_eq!(sandbox.start("c", &ONE)["status"], "running");
        begun(sandbox, "c");
    });
    assert_eq!(stopped["status"], "queued", "{stopped:?}");
    assert_eq!(order(&sandbox), ["c"]);
    ends(&sandbox, "c");
    ends(&sandbox, "b");
}

#[test]
fn a_worker_that_is_stopped_when_it_is_its_turn_is_passed_over_and_has_it_later() {
    for point in ["queue:locked", "queue:admitting"] {
        let mut sandbox = Sandbox::new(GATED);
        sandbox.start("a", &ONE);
        begun(&sandbox, "a");
        // One of its first looks: nothing is free.
        let reached = sandbox.path("reached");
        sandbox.set("CLAUDEJOB_STOP_AT", point);
        sandbox.set("CLAUDEJOB_STOP_FILE", &reached);
        if point == "queue:admitting" {
            sandbox.start("b", &ONE);
        }
        sandbox.unset("CLAUDEJOB_STOP_AT");
        sandbox.unset("CLAUDEJOB_STOP_FILE");
        if point == "queue:locked" {
            sandbox.start("b", &ONE);
            stop(&sandbox, "b");
        }
        sandbox.start("c", &ONE);
        sandbox.start("d", &ONE);
        let worker = worker_of(&sandbox, "b");
        let_go(&sandbox, "a");
        begun(&sandbox, "c");
        assert!(is_stopped(worker));
        send(worker, Signal::SIGCONT);
        // It is next again.
        let called = || fs::read_dir(sandbox.jobs().join(".queue/called")).unwrap().count();
        eventually("b to come", || (called() == 0).then_some(()));
        let_go(&sandbox, "c");
        begun(&sandbox, "b");
        assert_eq!(order(&sandbox), ["a", "c", "b"]);
        ends(&sandbox, "b");
        ends(&sandbox, "d");
    }
}

#[test]
fn several_who_wait_may_be_stopped_at_once() {
    let sandbox = Sandbox::new(GATED);
    for id in ["a", "b", "c", "d", "e"] {
        sandbox.start(id, &ONE);
    }
    begun(&sandbox, "a");
    let stopped = ["b", "c", "d"].map(|id| stop(&sandbox, id));
    let_go(&sandbox, "a");
    ends(&sandbox, "e");
    // Whoever comes first takes the slot.
    for (id, worker) in ["b", "c", "d"].into_iter().zip(stopped) {
        send(worker, Signal::SIGCONT);
        let_go(&sandbox, id);
    }
    for id in ["b", "c", "d"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    assert_eq!(order(&sandbox)[..2], ["a", "e"]);
}

#[test]
fn a_slot_is_free_although_its_worker_was_stopped_before_it_could_say_so() {
    let mut sandbox = Sandbox::new(GATED);
    let reached = sandbox.path("reached");
    sandbox.set("CLAUDEJOB_STOP_AT", "queue:left");
    sandbox.set("CLAUDEJOB_STOP_FILE", &reached);
    sandbox.start("a", &ONE);
    sandbox.unset("CLAUDEJOB_STOP_AT");
    sandbox.unset("CLAUDEJOB_STOP_FILE");
    sandbox.start("b", &ONE);
    begun(&sandbox, "a");
    let_go(&sandbox, "a");
    ends(&sandbox, "b");
    let worker = worker_of(&sandbox, "a");
    assert!(is_stopped(worker));
    send(worker, Signal::SIGCONT);
    sandbox.wait("a").expect_end(0, "completed", None);
}

#[test]
fn a_slot_is_free_although_the_end_of_its_job_is_being_written() {
    let mut sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    begun(&sandbox, "a");
    kill(worker_of(&sandbox, "a"));
    let status = sandbox.pause_at("settle:locked", ["status", "a"], |sandbox| {
        sandbox.start("b", &ONE);
        ends(sandbox, "b");
    });
    assert_eq!(status["reason"], "worker_died");
    sandbox.assert_nothing_left("a");
}
