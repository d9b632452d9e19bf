//! Processes of a job after claude or its worker was killed.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::{is_alive, pid_in, processes_of, program_of, send};
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;
use crate::support::{await_file, eventually};

each_cli!(a_killed_claude_continues_its_session);
fn a_killed_claude_continues_its_session(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::bash("echo once >> deeds.txt"),
            Step::text("unheard").held(),
            Step::text("Done after all."),
        ],
    );
    sandbox.start("crashed", &["--retries", "2", "--max-backoff", "200ms"]);
    sandbox.api.wait_for_request(2);
    send(sandbox.claude_pid("crashed"), Signal::SIGKILL);
    sandbox.api.wait_for_request(3);
    sandbox.api.release();
    let result = sandbox.wait("crashed");
    result.expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(sandbox.work().join("deeds.txt")).unwrap(), "once\n");
}

/// A script that leaves every kind of child that a shell can leave. Each writes its PID into a file
/// named after its kind when it is running.
const CHILDREN: &str = r#"#!/bin/bash
hold() { echo $$ > "$1.new"; mv "$1.new" "$1"; exec tail -f /dev/null; }
if [ -n "$1" ]; then hold "$1"; fi
setsid "$0" session &
nohup "$0" nohup > /dev/null 2>&1 &
"$0" disowned & disown
(setsid "$0" orphan &)
"#;
/// More of them, which have lost the environment that marks a process of the job.
const UNMARKED_CHILDREN: &str = r#"
env -i PATH="$PATH" setsid "$0" clean &
env -i PATH="$PATH" bash -c 'trap "" INT TERM HUP; (setsid "$0" stubborn &)' "$0"
"#;
const KINDS: [&str; 5] = ["session", "nohup", "disowned", "orphan", "shell"];
const UNMARKED_KINDS: [&str; 2] = ["clean", "stubborn"];

each_cli!(a_kill_leaves_no_process, "needs claude from npm, setsid(1) and /proc");
fn a_kill_leaves_no_process(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::bash("./children"), Step::text("never reached")]);
    let work = sandbox.work();
    program(&work.join("children"), &[CHILDREN, UNMARKED_CHILDREN, "hold shell\n"].concat());
    sandbox.start("kill", &[]);
    for kind in KINDS.iter().chain(&UNMARKED_KINDS) {
        await_file(&work.join(kind));
    }
    assert!(processes_of(&sandbox.job("kill")).len() >= 4, "claude and its shells bear the mark");

    let killed = sandbox.run(["kill", "kill"]);

    sandbox.assert_nothing_left("kill");
    for kind in KINDS.iter().chain(&UNMARKED_KINDS) {
        assert!(!is_alive(pid_in(&work.join(kind))), "{kind} is still alive after {killed:?}");
    }
    assert_eq!((killed.code, &killed["killed"]), (0, &Value::Bool(true)), "{killed:?}");
    let status = sandbox.status("kill");
    assert_eq!(status["status"], "killed");
    assert!(!status.text("sessionId").is_empty());
    assert!(status["costUsd"].as_f64().is_some_and(|cost| cost > 0.0), "{status:?}");
    assert_eq!(sandbox.wait("kill").code, 3);
    let again = sandbox.run(["kill", "kill"]);
    assert_eq!((again.code, again.text("status")), (0, "killed"), "{again:?}");
}

each_cli!(a_killed_job_can_be_resumed);
fn a_killed_job_can_be_resumed(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::Hang, Step::text("went on"), Step::text("and on")]);
    sandbox.start("first", &[]);
    sandbox.api.wait_for_request(1);
    // Claude reports its session, and that a turn is open, in any order with its request.
    eventually("the session", || {
        let log = fs::read_to_string(sandbox.job("first").join("output.log")).ok()?;
        log.contains("\"subtype\":\"init\"").then_some(())
    });
    let killed = sandbox.run(["kill", "first"]);
    assert_eq!(killed["killed"], true, "{killed:?}");
    let first = sandbox.status("first");

    let result = sandbox.run_job("second", &["--resume", first.text("sessionId")]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "went on");
    assert_eq!(result["session_id"], first["sessionId"]);
    assert!(sandbox.api.wait_for_request(2).messages > 1, "the conversation was continued");
    // And the job itself: only `recover` refuses a killed job.
    assert_eq!(sandbox.run(["recover", "first"])["code"], "not_recoverable");
    assert_eq!(sandbox.run(["resume", "first", "--message", "go on"]).code, 0);
    let again = sandbox.wait("first");
    again.expect_end(0, "completed", None);
    assert_eq!((&again["result"], &again["attempt"]), (&"and on".into(), &2.into()));
}

each_cli!(a_killed_worker_leaves_no_process, "needs claude from npm, setsid(1) and /proc");
fn a_killed_worker_leaves_no_process(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::bash("./children"), Step::text("never reached")]);
    let work = sandbox.work();
    program(&work.join("children"), &[CHILDREN, "hold shell\n"].concat());
    let started = sandbox.start("worker", &[]);
    for kind in KINDS {
        await_file(&work.join(kind));
    }
    let worker = started["pid"].as_i64().unwrap() as i32;
    let mut claude = processes_of(&sandbox.job("worker"));
    claude.retain(|&pid| pid != worker && !["bash", "tail"].contains(&program_of(pid).as_str()));
    assert!(!claude.is_empty(), "claude runs");

    send(worker, Signal::SIGKILL);

    // The kernel sends claude its signal when the worker is gone, which takes some time.
    eventually("claude's end", || claude.iter().all(|&pid| !is_alive(pid)).then_some(()));
    let result = sandbox.wait("worker");
    result.expect_end(1, "failed", Some("worker_died"));
    sandbox.assert_nothing_left("worker");
    let listed = sandbox.run(["list"]);
    assert_eq!(listed.json[0]["reason"], "worker_died", "{listed:?}");
    assert_eq!(sandbox.api.requests(), 1);
}

fn program(file: &Path, body: &str) {
    crate::support::install(file, body.as_bytes());
}
