//! Slots, order, dependencies and retries, with jobs of the fake claude.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the figures are printed with --nocapture")]

#[path = "../support/mod.rs"]
mod support;

mod dependencies;
mod fleet;
mod frozen;
mod paused;
mod rate_limits;
mod requeue;
mod stopped;
mod update;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{is_alive, send};
use support::{Sandbox, eventually};

/// Appends its id to `order` when it starts, and ends when the test releases it.
const GATED: &str = "read\ninit\nappend $DIR/order $JOB\nwait-file $DIR/go-$JOB\nresult ok\neof";
const QUICK: &str = "read\ninit\nappend $DIR/order $JOB\nresult ok\neof";

fn order(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn release(sandbox: &Sandbox, id: &str) {
    fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
}

fn await_start(sandbox: &Sandbox, id: &str) {
    eventually(&format!("{id} to begin"), || order(sandbox).contains(&id.to_owned()).then_some(()));
}

fn worker_of(sandbox: &Sandbox, id: &str) -> i32 {
    record(sandbox, id)["pid"].as_i64().unwrap() as i32
}

/// The record on disk, read without the program.
fn record(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(sandbox.job(id).join("meta.json")).unwrap()).unwrap()
}

fn events(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("events.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn runs_by_priority_and_then_in_order() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    assert_eq!(sandbox.start("a", &one)["status"], "running");
    for (id, priority) in [("b", "0"), ("c", "0"), ("d", "5"), ("e", "-5")] {
        let answer = sandbox.start(id, &[&one[..], &["--priority", priority]].concat());
        assert_eq!(answer["status"], "queued", "{answer:?}");
    }
    for (id, position) in [("d", 1), ("b", 2), ("c", 3), ("e", 4)] {
        let status = sandbox.status(id);
        assert_eq!((status.text("status"), &status["position"]), ("queued", &position.into()));
    }
    let list = sandbox.run(["list", "--status", "queued"]);
    let positions: BTreeMap<&str, u64> = list
        .json
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["jobId"].as_str().unwrap(), job["position"].as_u64().unwrap()))
        .collect();
    assert_eq!(positions, [("b", 2), ("c", 3), ("d", 1), ("e", 4)].into());
    for id in ["a", "d", "b", "c", "e"] {
        await_start(&sandbox, id);
        release(&sandbox, id);
    }
    for id in ["a", "b", "c", "d", "e"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    assert_eq!(order(&sandbox), ["a", "d", "b", "c", "e"]);
    assert!(record(&sandbox, "e")["queuedMs"].as_u64().unwrap() > 0);
    assert_eq!(sandbox.status("e")["position"], Value::Null);
}

#[test]
fn the_slot_of_a_killed_worker_is_free_at_once() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    let worker = sandbox.start("a", &one)["pid"].as_i64().unwrap() as i32;
    sandbox.start("b", &one);
    sandbox.start("c", &one);
    await_start(&sandbox, "a");
    send(worker, Signal::SIGKILL);
    await_start(&sandbox, "b");
    // Its end is written without a caller.
    eventually("the verdict on a", || {
        (record(&sandbox, "a")["reason"] == "worker_died").then_some(())
    });
    sandbox.assert_nothing_left("a");
    assert_eq!(sandbox.status("c")["position"], 1);
    // The worker that acts as scheduler dies as well.
    send(worker_of(&sandbox, "c"), Signal::SIGKILL);
    sandbox.start("d", &one);
    release(&sandbox, "b");
    await_start(&sandbox, "d");
    release(&sandbox, "d");
    sandbox.wait("d").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("c")["reason"], "worker_died");
}

#[test]
fn a_killed_queued_job_leaves_the_queue_at_once() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    for id in ["a", "b", "c"] {
        sandbox.start(id, &one);
    }
    let killed = sandbox.run(["kill", "b"]);
    assert_eq!((killed.code, killed.text("status")), (0, "killed"));
    assert_eq!(sandbox.status("c")["position"], 1);
    await_start(&sandbox, "a");
    release(&sandbox, "a");
    await_start(&sandbox, "c");
    release(&sandbox, "c");
    sandbox.wait("c").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox), ["a", "c"]);
    let result = sandbox.run(["result", "b"]);
    assert_eq!((result.text("status"), &result["num_turns"]), ("killed", &0.into()));
}

#[test]
fn a_group_runs_one_job_at_a_time() {
    let sandbox = Sandbox::new(GATED);
    let group = ["--group", "app"];
    sandbox.start("a1", &group);
    assert_eq!(sandbox.start("a2", &group)["status"], "queued");
    assert_eq!(sandbox.start("b", &["--group", "other"])["status"], "running");
    assert_eq!(sandbox.status("a2")["group"], "app");
    for id in ["a1", "b"] {
        await_start(&sandbox, id);
    }
    release(&sandbox, "a1");
    await_start(&sandbox, "a2");
    for id in ["a2", "b"] {
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn no_queue_refuses_and_leaves_nothing() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "1"]);
    let start = ["start", "b", "--prompt", "x", "--max-parallel", "1", "--no-queue"];
    let refused = sandbox.run(start);
    assert_eq!((refused.code, refused.text("code")), (75, "no_slot"));
    assert!(!sandbox.job("b").exists());
    assert_eq!(sandbox.run(["status", "b"]).code, 4);
    await_start(&sandbox, "a");
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    release(&sandbox, "b");
    assert_eq!(sandbox.run(start)["status"], "running");
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn stagger_separates_the_starts_of_claude() {
    let sandbox = Sandbox::new(QUICK);
    // The first one is admitted after this, and on a busy machine launched some time later.
    let began = chrono::Utc::now();
    sandbox.start("a", &[]);
    sandbox.start("b", &["--stagger", "3s"]);
    sandbox.wait("b").expect_end(0, "completed", None);
    let events = events(&sandbox, "b");
    let launched = events.iter().find(|event| event["event"] == "launched").unwrap();
    let launched = chrono::DateTime::parse_from_rfc3339(launched["at"].as_str().unwrap()).unwrap();
    let apart = launched.to_utc() - began;
    assert!(apart.num_milliseconds() >= 2_900, "{apart}");
}

#[test]
fn a_long_stagger_delays_no_other_job() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.start("slow", &["--stagger", "1h"])["status"], "queued");
    sandbox.run_job("b", &["--stagger", "10ms"]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("slow")["status"], "queued");
    sandbox.run(["kill", "slow"]);
}

#[test]
fn a_delayed_job_waits_without_a_slot() {
    let sandbox = Sandbox::new(QUICK);
    let one = ["--max-parallel", "1"];
    let later = sandbox.start("later", &[&["--start-delay", "1h"], &one[..]].concat());
    assert_eq!(later["status"], "queued");
    let (status, listed) = (sandbox.status("later"), sandbox.run(["list"]).json);
    assert!(status["startsAt"].as_str() > status["startedAt"].as_str(), "{status:?}");
    assert_eq!(listed[0]["startsAt"], status["startsAt"]);
    sandbox.run_job("now", &one).expect_end(0, "completed", None);
    let began = Instant::now();
    sandbox.start("soon", &[&["--start-delay", "700ms"], &one[..]].concat());
    sandbox.wait("soon").expect_end(0, "completed", None);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(order(&sandbox), ["now", "soon"]);
    assert_eq!(sandbox.status("later")["status"], "queued");
}

#[test]
fn leaves_a_job_without_its_lock_alone() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "2"]);
    await_start(&sandbox, "a");
    fs::remove_file(sandbox.job("a").join("lock")).unwrap();
    release(&sandbox, "b");
    sandbox.run_job("b", &["--max-parallel", "2"]).expect_end(0, "completed", None);
    // It keeps its slot nevertheless.
    sandbox.start("c", &["--max-parallel", "1"]);
    sandbox.start("d", &["--after", "a"]);
    eventually("d to wait", || {
        let waits = |event: &Value| event["event"] == "queued";
        events(&sandbox, "d").iter().any(waits).then_some(())
    });
    assert!(is_alive(sandbox.claude_pid("a")) && is_alive(worker_of(&sandbox, "a")));
    for id in ["a", "c", "d"] {
        release(&sandbox, id);
    }
    for id in ["c", "d"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn kills_a_job_without_its_lock() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    await_start(&sandbox, "a");
    let worker = worker_of(&sandbox, "a");
    fs::remove_file(sandbox.job("a").join("lock")).unwrap();
    let status = sandbox.status("a");
    assert_eq!(
        (&status["status"], &status["warnings"]),
        (&"running".into(), &Value::Array(vec![]))
    );
    assert_eq!(sandbox.run(["kill", "a"])["status"], "killed");
    assert!(!is_alive(worker));
}

#[test]
fn restarts_a_crashed_claude_in_its_session() {
    let sandbox = Sandbox::new(
        "session\nread $DIR/heard\ninit\nwork 2\nonce $DIR/crashed die KILL\nresult ok\neof",
    );
    let result = sandbox.run_job("a", &["--retries", "2", "--max-backoff", "50ms"]);
    result.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["attempt"], 2);
    let work = fs::read_to_string(sandbox.path("work/a")).unwrap();
    assert_eq!(work, "1\n2\n", "no step was done twice");
    let names: Vec<String> =
        events(&sandbox, "a").iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
    assert!(names.contains(&"retrying".to_owned()), "{names:?}");
    assert!(fs::read_to_string(sandbox.path("heard")).unwrap().contains("interrupted"));
}

#[test]
fn a_claude_that_keeps_crashing_fails() {
    let sandbox = Sandbox::new("read\ninit\nappend $DIR/order $JOB\ndie SEGV");
    let result = sandbox.run_job("a", &["--retries", "2", "--max-backoff", "20ms"]);
    result.expect_end(1, "failed", Some("no_result"));
    assert_eq!(order(&sandbox).len(), 3);
    assert!(result.text("error").contains("SIGSEGV"), "{result:?}");
    assert!(result.text("error").contains("3 attempts"), "{result:?}");
}

#[test]
fn kill_and_shutdown_end_a_backoff_at_once() {
    let sandbox = Sandbox::new("read\ninit\nrefused 502\nexit 1");
    sandbox.start("a", &["--retries", "9"]);
    sandbox.start("b", &["--retries", "9"]);
    for id in ["a", "b"] {
        let is_over = || sandbox.status(id)["attempt"].as_u64() >= Some(2);
        eventually("the end of the first attempt", || is_over().then_some(()));
    }
    let killed = sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, killed.text("status")), (0, "killed"));
    send(worker_of(&sandbox, "b"), Signal::SIGTERM);
    let ended = sandbox.wait("b");
    ended.expect_end(1, "failed", Some("terminated"));
    assert!(sandbox.status("b").text("hint").contains("recover b"));
}

#[test]
fn a_removed_ticket_is_restored() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    for id in ["a", "b", "c"] {
        sandbox.start(id, &one);
    }
    await_start(&sandbox, "a");
    // Not the directory: a worker may be restoring its ticket by now.
    let tickets = fs::read_dir(sandbox.jobs().join(".queue/waiting")).unwrap();
    let tickets: Vec<_> = tickets.map(|ticket| ticket.unwrap().path()).collect();
    for ticket in tickets {
        fs::remove_file(ticket).unwrap();
    }
    for id in ["a", "b", "c"] {
        release(&sandbox, id);
    }
    for id in ["a", "b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn a_job_runs_when_the_queue_is_unusable() {
    let sandbox = Sandbox::new(QUICK);
    fs::create_dir_all(sandbox.jobs()).unwrap();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    fs::write(sandbox.jobs().join(".queue"), "no folder").unwrap();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    let warnings = sandbox.status("a")["warnings"].to_string();
    assert!(warnings.contains("the queue"), "{warnings}");
}
