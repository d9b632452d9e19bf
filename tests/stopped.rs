//! Processes that are stopped (SIGSTOP) while they hold something that others need: no process
//! waits for them without a bound, `kill` works beside each of them, and they do no harm when they
//! continue.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;

use serde_json::json;
use support::processes::{is_alive, kill, processes_of};
use support::{Sandbox, await_file, eventually};

const QUICK: &str = "read\ninit\nresult done\neof";

fn staged(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.jobs().join(".new")).unwrap().count()
}

/// Starts, shows, removes and counts jobs beside a stopped process.
#[track_caller]
fn assert_all_works(sandbox: &Sandbox) {
    sandbox.run_job("other", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["clean", "other"])["removed"], 1);
    assert_eq!(sandbox.run(["list", "--all"]).code, 0);
    assert_eq!(sandbox.run(["clean"]).code, 0);
}

#[test]
fn leaves_a_job_being_built_by_a_stopped_start_alone() {
    for point in ["start:staged", "start:written"] {
        let mut sandbox = Sandbox::new(QUICK);
        let start = ["start", "a", "--prompt", "work"];
        let started = sandbox.pause_at(point, start, assert_all_works);
        assert_eq!(started.code, 0, "{point}: {started:?}");
        sandbox.wait("a").expect_end(0, "completed", None);
        assert_eq!(staged(&sandbox), 0, "{point}");
    }
}

#[test]
fn a_stopped_clean_blocks_no_start_and_no_clean() {
    for point in ["discard:renamed", "staging:clearing"] {
        let mut sandbox = Sandbox::new(QUICK);
        for id in ["a", "b"] {
            sandbox.run_job(id, &[]);
        }
        if point == "staging:clearing" {
            sandbox.break_at("discard:renamed", ["clean", "b"]);
        }
        let cleaned = sandbox.pause_at(point, ["clean", "a"], assert_all_works);
        assert_eq!((cleaned.code, &cleaned["removed"]), (0, &1.into()), "{point}: {cleaned:?}");
        sandbox.run(["clean"]);
        assert_eq!(staged(&sandbox), 0, "{point}");
    }
}

#[test]
fn a_stopped_notifier_blocks_nobody_and_delivers_once() {
    let mut sandbox = Sandbox::new(QUICK);
    let notified = sandbox.path("notified");
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", notified.display());
    let start = ["start", "a", "--prompt", "work", "--on-event", &command, "--wait", "1m"];
    sandbox.pause_at("notifier:locked", start, |sandbox| {
        let [notifier] = processes_of(&sandbox.job("a").join("notifications"))[..] else {
            panic!()
        };
        let busy = sandbox.run(["redeliver", "a"]);
        assert_eq!((busy.code, busy.text("code")), (75, "busy"), "{busy:?}");
        assert!(busy.text("error").contains(&format!("process {notifier} holds")), "{busy:?}");
        assert_eq!(sandbox.status("a")["undeliveredNotifications"][0]["event"], "completed");
        assert_eq!(sandbox.run(["kill", "a"])["status"], "completed");
        assert_all_works(sandbox);
    });
    eventually("the delivery", || {
        (sandbox.status("a")["undeliveredNotifications"] == json!([])).then_some(())
    });
    assert_eq!(fs::read_to_string(&notified).unwrap(), "completed\n");
}

/// A lost job: its worker was killed and nothing has read it since.
fn lost(sandbox: &Sandbox) {
    let worker = sandbox.start("a", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    kill(worker);
    eventually("the end of the worker", || (!is_alive(worker)).then_some(()));
}

const HANGS: &str = "read\ninit\nsay hi\ntouch $DIR/up\nhang";

#[test]
fn kills_a_job_while_a_stopped_command_finalizes_it() {
    for point in ["settle:locked", "settle:told", "end:outcome-written", "end:record-written"] {
        let mut sandbox = Sandbox::new(HANGS);
        lost(&sandbox);
        // The kill continues it.
        let list = sandbox.pause_at(point, ["list"], |sandbox| {
            assert_eq!(sandbox.run(["list"]).code, 0);
            let killed = sandbox.run(["kill", "a"]);
            assert_eq!(
                (killed.code, &killed["status"]),
                (1, &"failed".into()),
                "{point}: {killed:?}"
            );
            assert_eq!(sandbox.run(["recover", "a"])["code"], "not_recoverable", "{point}");
            sandbox.script(QUICK);
            assert_all_works(sandbox);
        });
        assert_eq!(list.json[0]["reason"], "worker_died", "{point}: {list:?}");
    }
}

#[test]
fn kills_a_job_whose_start_was_stopped() {
    for point in ["start:published", "start:spawned"] {
        let mut sandbox = Sandbox::new(HANGS);
        let start = ["start", "a", "--prompt", "work"];
        sandbox.pause_at(point, start, |sandbox| {
            let killed = sandbox.run(["kill", "a"]);
            let is_killed = (killed.code, &killed["killed"]) == (0, &true.into());
            assert!(is_killed, "{point}: {killed:?} {:?}", sandbox.status("a"));
        });
        assert_eq!(sandbox.status("a")["status"], "killed", "{point}");
    }
}

#[test]
fn kills_a_job_whose_finalizer_stays_stopped() {
    let mut sandbox = Sandbox::new(HANGS);
    lost(&sandbox);
    sandbox.set("CLAUDEJOB_STAY_STOPPED", "1");
    let list = sandbox.pause_at("settle:locked", ["list"], |sandbox| {
        let killed = sandbox.run(["kill", "a"]);
        assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    });
    assert!(list.code != 0, "{list:?}");
    assert_eq!(sandbox.status("a")["status"], "killed");
}
