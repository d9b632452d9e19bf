//! The process that delivers notifications, and the commands that it starts.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::{
    children_of, is_alive, kill, pid_in, processes_of, program_of, send,
};
use crate::support::{Sandbox, await_file, eventually};
use crate::{QUICK, delivered, lines};

/// A command that hangs at its first try and writes the PID of its notifier into the file
/// `notifier-ID`; later tries append the event to `notified-ID`.
fn hangs_once(sandbox: &Sandbox, id: &str) -> String {
    format!(
        "cd {}; if [ -e notifier-{id} ]; then echo $CLAUDEJOB_EVENT >> notified-{id}; exit; fi; \
         echo $PPID > .notifier; mv .notifier notifier-{id}; exec sleep 1000",
        sandbox.path("").display()
    )
}

/// The running notifiers of the job.
fn notifiers(sandbox: &Sandbox, id: &str) -> Vec<i32> {
    let out = processes_of(&sandbox.job(id).join("notifications"));
    out.into_iter().filter(|pid| program_of(*pid) == "claudejob").collect()
}

#[test]
fn readers_restart_a_killed_notifier() {
    let sandbox = Sandbox::new(QUICK);
    for (id, call) in [
        ("status", vec!["status", "status"]),
        ("wait", vec!["wait", "wait"]),
        ("list", vec!["list", "--undelivered"]),
        ("recover", vec!["recover", "--all"]),
        ("clean", vec!["clean", "--keep", "0"]),
        ("redeliver", vec!["redeliver"]),
    ] {
        sandbox.run_job(id, &["--on-event", &hangs_once(&sandbox, id)]);
        await_file(&sandbox.path(&format!("notifier-{id}")));
        let notifier = pid_in(&sandbox.path(&format!("notifier-{id}")));
        for pid in [vec![notifier], processes_of(&sandbox.job(id).join("notifications"))].concat() {
            kill(pid);
        }
        sandbox.run(&call);
        delivered(&sandbox, id);
        assert_eq!(lines(&sandbox, &format!("notified-{id}")), ["completed"], "{call:?}");
        assert_eq!(sandbox.status(id)["undelivered"], Value::Null);
    }
}

#[test]
fn many_readers_start_only_one_notifier() {
    let sandbox = Sandbox::new(QUICK);
    // Nobody checks whether it has started: it counts as running from its launch on.
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    for _ in 0..5 {
        sandbox.status("a");
        sandbox.run(["list", "--undelivered"]);
    }
    await_file(&sandbox.path("notifier-a"));
    assert_eq!(notifiers(&sandbox, "a"), [pid_in(&sandbox.path("notifier-a"))]);
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        send(pid, Signal::SIGKILL);
    }
}

#[test]
fn a_waiting_reader_reaps_its_notifier() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    await_file(&sandbox.path("notifier-a"));
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        kill(pid);
    }
    sandbox.script("read\ninit\nhang");
    sandbox.start("b", &[]);
    // It waits for one job and has started a notifier for the other.
    let mut waits = sandbox.command(["wait", "a", "b"]).stdout(Stdio::null()).spawn().unwrap();
    let notified = || (lines(&sandbox, "notified-a") == ["completed"]).then_some(());
    eventually("the notification", notified);
    let pid = waits.id() as i32;
    eventually("the notifier to be gone", || children_of(pid).is_empty().then_some(()));
    assert!(waits.try_wait().unwrap().is_none(), "it waits");
    sandbox.run(["kill", "b"]);
    waits.wait().unwrap();
}

#[test]
fn ends_the_command_of_a_killed_notifier_first() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    await_file(&sandbox.path("notifier-a"));
    let notifier = pid_in(&sandbox.path("notifier-a"));
    kill(notifier);
    // `mv` may still be ending.
    let left = eventually("the command to be alone", || {
        let left = processes_of(&sandbox.job("a").join("notifications"));
        (left.len() == 1 && program_of(left[0]) != "claudejob").then_some(left)
    });
    sandbox.status("a");
    eventually("the notification", || {
        (lines(&sandbox, "notified-a") == ["completed"]).then_some(())
    });
    let alive = is_alive(left[0]);
    send(left[0], Signal::SIGKILL);
    assert!(!alive);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
}

#[test]
fn gives_up_a_command_that_kills_its_notifier() {
    let sandbox = Sandbox::new(QUICK);
    let command =
        format!("echo x >> {}; kill -9 $PPID; sleep 1000", sandbox.path("tried").display());
    sandbox.run_job("a", &["--on-event", &command]);
    let notification = eventually("it to be given up", || {
        let notification = sandbox.status("a")["undelivered"][0].clone();
        notification["error"].is_string().then_some(notification)
    });
    assert_eq!(notification["error"], "the notifier was killed at each attempt");
    assert_eq!((&notification["tries"], lines(&sandbox, "tried").len()), (&4.into(), 4));
    // `redeliver` tries it again.
    assert_eq!(delivered(&sandbox, "a")[0]["tries"], 4);
    assert_eq!(sandbox.run(["redeliver"]).code, -1);
    assert_eq!(lines(&sandbox, "tried").len(), 5);
    eventually("it to be given up", || {
        sandbox.status("a")["undelivered"][0]["error"].is_string().then_some(())
    });
    delivered(&sandbox, "a");
}

#[test]
fn leaves_processes_of_a_finished_command_running() {
    let sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Write\",\"input\":{}}}\nread\nsay ok\nresult ok\neof",
    );
    let pid = |event: &str| sandbox.path(&format!("pid-{event}"));
    let command = format!(
        "setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > {}",
        pid("$CLAUDEJOB_EVENT").display()
    );
    sandbox.start("a", &["--ask", "--on-event", &command]);
    assert_eq!(sandbox.run(["wait", "a"]).code, 5);
    await_file(&pid("blocked"));
    // From now on its parent is the job's worker.
    eventually("the notifier's end", || notifiers(&sandbox, "a").is_empty().then_some(()));
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    await_file(&pid("completed"));
    eventually("the notifier's end", || notifiers(&sandbox, "a").is_empty().then_some(()));
    let left = ["blocked", "completed"].map(|event| pid_in(&pid(event)));
    let alive = left.map(is_alive);
    for pid in left {
        send(pid, Signal::SIGKILL);
    }
    assert_eq!(alive, [true, true]);
}
