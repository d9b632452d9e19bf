//! Processes that are stopped (SIGSTOP) while they hold something that others need: nobody waits for
//! them without a bound, `kill` works beside each of them, and they do no harm when they continue.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;

use serde_json::json;
use support::processes::processes_of;
use support::{Sandbox, eventually};

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
fn a_start_that_is_stopped_while_it_builds_its_job_is_left_alone() {
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
fn a_clean_that_is_stopped_keeps_nobody_from_starting_and_removing() {
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
fn a_notifier_that_is_stopped_keeps_nobody_waiting_and_delivers_once() {
    let mut sandbox = Sandbox::new(QUICK);
    let told = sandbox.path("told");
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", told.display());
    let start = ["start", "a", "--prompt", "work", "--on-event", &command, "--wait", "1m"];
    sandbox.pause_at("notifier:locked", start, |sandbox| {
        let [notifier] = processes_of(&sandbox.job("a").join("news"))[..] else { panic!() };
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
    assert_eq!(fs::read_to_string(&told).unwrap(), "completed\n");
}
