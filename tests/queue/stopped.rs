//! Processes that are stopped while they use the queue (SIGSTOP, or a frozen control group): no
//! other process waits for them, and they work correctly when they are continued.

use std::fs;

use nix::sys::signal::Signal;

use super::support::processes::{is_stopped, kill, send};
use super::support::{Sandbox, eventually};
use super::{GATED, QUICK, await_start, order, release, worker_of};

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
    await_start(sandbox, id);
    release(sandbox, id);
    sandbox.wait(id).expect_end(0, "completed", None);
}

#[test]
fn a_stopped_holder_of_the_queue_lock_blocks_nobody() {
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
fn kills_a_stopped_holder_of_the_queue_lock() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.pause_at("queue:locked", start_of("b", &[]), |sandbox| {
        assert_eq!(sandbox.run(["kill", "b"]).text("status"), "killed");
        sandbox.run_job("new", &[]).expect_end(0, "completed", None);
    });
}

#[test]
fn a_worker_stopped_before_admission_keeps_the_limit() {
    let mut sandbox = Sandbox::new(GATED);
    let stopped = sandbox.pause_at("queue:entering", start_of("b", &ONE), |sandbox| {
        assert_eq!(sandbox.start("c", &ONE)["status"], "running");
        await_start(sandbox, "c");
    });
    assert_eq!(stopped["status"], "queued", "{stopped:?}");
    assert_eq!(order(&sandbox), ["c"]);
    ends(&sandbox, "c");
    ends(&sandbox, "b");
}

#[test]
fn a_worker_stopped_at_the_head_is_admitted_later() {
    for point in ["queue:locked", "queue:admitting"] {
        let mut sandbox = Sandbox::new(GATED);
        sandbox.start("a", &ONE);
        await_start(&sandbox, "a");
        // One of its first checks: no slot is free.
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
        release(&sandbox, "a");
        await_start(&sandbox, "c");
        assert!(is_stopped(worker));
        send(worker, Signal::SIGCONT);
        // It is next again.
        let called = || fs::read_dir(sandbox.jobs().join(".queue/called")).unwrap().count();
        eventually("b to come", || (called() == 0).then_some(()));
        release(&sandbox, "c");
        await_start(&sandbox, "b");
        assert_eq!(order(&sandbox), ["a", "c", "b"]);
        ends(&sandbox, "b");
        ends(&sandbox, "d");
    }
}

#[test]
fn several_queued_workers_may_be_stopped_at_once() {
    let sandbox = Sandbox::new(GATED);
    for id in ["a", "b", "c", "d", "e"] {
        sandbox.start(id, &ONE);
    }
    await_start(&sandbox, "a");
    let stopped = ["b", "c", "d"].map(|id| stop(&sandbox, id));
    release(&sandbox, "a");
    ends(&sandbox, "e");
    // The next worker takes the slot.
    for (id, worker) in ["b", "c", "d"].into_iter().zip(stopped) {
        send(worker, Signal::SIGCONT);
        release(&sandbox, id);
    }
    for id in ["b", "c", "d"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    assert_eq!(order(&sandbox)[..2], ["a", "e"]);
}

#[test]
fn frees_the_slot_of_a_worker_stopped_at_its_end() {
    let mut sandbox = Sandbox::new(GATED);
    let reached = sandbox.path("reached");
    sandbox.set("CLAUDEJOB_STOP_AT", "queue:left");
    sandbox.set("CLAUDEJOB_STOP_FILE", &reached);
    sandbox.start("a", &ONE);
    sandbox.unset("CLAUDEJOB_STOP_AT");
    sandbox.unset("CLAUDEJOB_STOP_FILE");
    sandbox.start("b", &ONE);
    await_start(&sandbox, "a");
    release(&sandbox, "a");
    ends(&sandbox, "b");
    let worker = worker_of(&sandbox, "a");
    eventually("the stop of a", || is_stopped(worker).then_some(()));
    send(worker, Signal::SIGCONT);
    sandbox.wait("a").expect_end(0, "completed", None);
}

#[test]
fn frees_the_slot_of_a_job_that_is_being_finalized() {
    let mut sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    kill(worker_of(&sandbox, "a"));
    let status = sandbox.pause_at("settle:locked", ["status", "a"], |sandbox| {
        sandbox.start("b", &ONE);
        ends(sandbox, "b");
    });
    assert_eq!(status["reason"], "worker_died");
    sandbox.assert_nothing_left("a");
}
