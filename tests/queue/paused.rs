//! `pause` and `unpause` of the queue, of groups and of jobs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::processes::{is_stopped, kill, send};
use super::support::{Sandbox, eventually};
use super::{GATED, QUICK, await_start, order, record, release, worker_of};

const ONE: [&str; 2] = ["--max-parallel", "1"];

#[test]
fn a_paused_queue_starts_nothing_until_unpause() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    await_start(&sandbox, "a");
    let paused = sandbox.run(["pause"]);
    assert_eq!(paused["paused"], json!({"all": true, "groups": [], "jobs": []}), "{paused:?}");
    assert_eq!((&paused["running"], &paused["held"]), (&1.into(), &0.into()));
    assert_eq!(paused["hint"], "claudejob unpause");
    // It needs no slot, and is held nevertheless.
    let start = sandbox.start("b", &[]);
    assert_eq!(start["status"], "queued", "{start:?}");
    let wait = json!({"kind": "paused", "until": null, "why": "the queue is paused",
        "hint": "claudejob unpause"});
    assert_eq!(start["waitingFor"], wait);
    let status = sandbox.status("b");
    assert_eq!((&status["waitingFor"], &status["hint"]), (&wait, &"claudejob unpause".into()));
    let list = sandbox.run(["list", "--status", "queued"]);
    assert_eq!(list.json[0]["waitingFor"]["kind"], "paused", "{list:?}");
    let refused = sandbox.run(["start", "c", "-p", "x", "--no-queue"]);
    assert_eq!((refused.code, &refused["code"]), (75, &"no_slot".into()));
    assert_eq!(refused["error"], "no free slot: the queue is paused");
    // The running job goes on.
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    // Again: nothing changes.
    let text = sandbox.run(["pause", "--plain"]);
    assert_eq!(text.stdout, "The queue is paused: 1 job is held.\nhint: claudejob unpause\n");
    assert_eq!(sandbox.status("b")["status"], "queued");
    assert_eq!(order(&sandbox), ["a"]);

    let unpaused = sandbox.run(["unpause"]);
    assert_eq!(unpaused["paused"]["all"], false, "{unpaused:?}");
    assert_eq!((unpaused.code, &unpaused["hint"]), (0, &json!(null)));
    await_start(&sandbox, "b");
    release(&sandbox, "b");
    sandbox.wait("b").expect_end(0, "completed", None);
    let text = sandbox.run(["unpause", "--plain"]);
    assert_eq!((text.code, text.stdout.as_str()), (0, "Nothing is paused.\n"));
    assert_eq!(
        sandbox.run(["pause", "--plain"]).stdout.lines().next(),
        Some("The queue is paused.")
    );
    let text = sandbox.run(["unpause", "--plain"]).stdout;
    assert_eq!(text, "The queue is no longer paused.\n");
}

#[test]
fn a_paused_group_or_job_holds_up_no_other() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &ONE);
    await_start(&sandbox, "a");
    for (id, options) in [("web", &["-g", "web"][..]), ("b", &[]), ("c", &[])] {
        sandbox.start(id, &[&ONE, options].concat());
    }
    let group = sandbox.run(["pause", "-g", "web"]);
    assert_eq!(group["paused"]["groups"], json!(["web"]), "{group:?}");
    let job = sandbox.run(["pause", "b", "--plain"]);
    let text = "Group web and job b are paused: 2 jobs are held.\n\
                hint: claudejob unpause --all\n";
    assert_eq!(job.stdout, text, "{job:?}");
    let wait = &sandbox.status("web")["waitingFor"];
    assert_eq!(wait["hint"], "claudejob unpause --group web", "{wait}");
    let wait = &sandbox.status("b")["waitingFor"];
    assert_eq!(
        (&wait["why"], &wait["hint"]),
        (&"it is paused".into(), &"claudejob unpause b".into())
    );
    release(&sandbox, "a");
    await_start(&sandbox, "c");
    release(&sandbox, "c");
    sandbox.wait("c").expect_end(0, "completed", None);
    // A job to come.
    assert_eq!(sandbox.start("web2", &["-g", "web"])["waitingFor"]["kind"], "paused");
    // Only the pause of the whole queue would end.
    let unpaused = sandbox.run(["unpause"]);
    assert_eq!(unpaused["hint"], "claudejob unpause --all", "{unpaused:?}");
    assert_eq!(order(&sandbox), ["a", "c"]);
    let text = sandbox.run(["unpause", "b", "--plain"]).stdout;
    assert!(
        text.starts_with("Job b is no longer paused.\nGroup web is paused: 2 jobs are held.\n")
    );
    await_start(&sandbox, "b");
    sandbox.run(["unpause", "--all"]);
    release(&sandbox, "b");
    for id in ["web", "web2"] {
        await_start(&sandbox, id);
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn a_pause_lets_a_later_job_pass() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    await_start(&sandbox, "a");
    // It accepts only one slot, and holds up those behind it.
    sandbox.start("b", &ONE);
    sandbox.start("c", &["--max-parallel", "2"]);
    assert_eq!(sandbox.status("c")["status"], "queued");
    sandbox.run(["pause", "b"]);
    await_start(&sandbox, "c");
    sandbox.run(["unpause", "--all"]);
    for id in ["a", "c", "b"] {
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn the_pause_of_a_job_ends_with_the_job() {
    let sandbox = Sandbox::new(GATED);
    let files = || fs::read_dir(sandbox.jobs().join(".queue/paused")).unwrap().count();
    sandbox.start("a", &[]);
    await_start(&sandbox, "a");
    sandbox.run(["pause", "a"]);
    assert_eq!(files(), 1);
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(files(), 0);
    let ended = sandbox.run(["pause", "a"]);
    assert_eq!((ended.code, &ended["failed"][0]["code"]), (1, &"job_ended".into()), "{ended:?}");
    let unknown = sandbox.run(["pause", "a", "x"]);
    assert_eq!((unknown.code, &unknown["failed"][1]["code"]), (4, &"not_found".into()));
    assert_eq!(files(), 0);
    // A lost job.
    sandbox.run(["pause"]);
    sandbox.start("b", &[]);
    sandbox.run(["pause", "b"]);
    kill(worker_of(&sandbox, "b"));
    assert_eq!(sandbox.status("b")["reason"], "worker_died");
    assert_eq!(files(), 1);
    // A job that is continued waits as well.
    let resumed = sandbox.run(["resume", "a"]);
    assert_eq!(resumed["status"], "queued", "{resumed:?}");
    sandbox.run(["unpause"]);
    sandbox.wait("a").expect_end(0, "completed", None);
}

#[test]
fn a_killed_paused_job_leaves_the_queue() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run(["pause"]);
    sandbox.start("a", &[]);
    assert_eq!(sandbox.run(["kill", "a"])["killed"], true);
    sandbox.wait("a").expect_end(3, "killed", None);
    assert_eq!(order(&sandbox), [""; 0]);
}

#[test]
fn a_restart_waits_while_the_job_is_paused() {
    let script = "append $DIR/order $JOB\nread\ninit\nresult one\nwait-file $DIR/go\nexit 1";
    let sandbox = Sandbox::new(script);
    sandbox.start("a", &["--keep-alive", "--restart", "on-failure"]);
    eventually("idle", || (record(&sandbox, "a")["status"] == "idle").then_some(()));
    sandbox.run(["pause", "a"]);
    sandbox.script("append $DIR/order again\ninit\nread\nresult two\neof");
    fs::write(sandbox.path("go"), "").unwrap();
    eventually("queued", || (record(&sandbox, "a")["status"] == "queued").then_some(()));
    assert_eq!(order(&sandbox), ["a"]);
    sandbox.run(["unpause", "a"]);
    await_start(&sandbox, "again");
    sandbox.run(["kill", "a"]);
}

#[test]
fn a_worker_stopped_before_admission_stays_paused() {
    let mut sandbox = Sandbox::new(GATED);
    let start = ["start", "b", "-p", "work"];
    let stopped = sandbox.pause_at("queue:entering", start, |sandbox| {
        let paused = sandbox.run(["pause"]);
        assert_eq!(paused.code, 0, "{paused:?}");
    });
    assert_eq!(stopped["status"], "queued", "{stopped:?}");
    assert_eq!(sandbox.status("b")["waitingFor"]["kind"], "paused");
    assert_eq!(order(&sandbox), [""; 0]);
    sandbox.run(["unpause"]);
    await_start(&sandbox, "b");
    release(&sandbox, "b");
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn a_stopped_pause_holds_up_no_job() {
    let mut sandbox = Sandbox::new(GATED);
    let paused = sandbox.pause_at("queue:paused", ["pause"], |sandbox| {
        // It reads the pause that is written already.
        assert_eq!(sandbox.start("a", &[])["status"], "queued");
    });
    assert_eq!(paused["held"], 1, "{paused:?}");
    sandbox.run(["unpause"]);
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
}

#[test]
fn stopped_workers_hold_up_neither_pause_nor_others() {
    let sandbox = Sandbox::new(GATED);
    sandbox.run(["pause"]);
    for id in ["a", "b"] {
        sandbox.start(id, &ONE);
    }
    let worker = worker_of(&sandbox, "a");
    send(worker, Signal::SIGSTOP);
    eventually("the stop of a", || is_stopped(worker).then_some(()));
    assert_eq!(sandbox.run(["pause"])["held"], 2);
    sandbox.run(["unpause"]);
    await_start(&sandbox, "b");
    sandbox.run(["pause"]);
    send(worker, Signal::SIGCONT);
    release(&sandbox, "b");
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["waitingFor"]["kind"], "paused");
    assert_eq!(order(&sandbox), ["b"]);
    sandbox.run(["unpause"]);
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
}

#[test]
fn a_foreign_file_among_the_pauses_harms_no_terminal() {
    let sandbox = Sandbox::new("");
    sandbox.run(["pause"]);
    let file = sandbox.jobs().join(".queue/paused/@group.\u{1b}[2J");
    fs::write(&file, "").unwrap();
    let text = sandbox.run(["pause", "--plain"]).stdout;
    assert!(text.contains("[2J") && !text.contains('\u{1b}'), "{text:?}");
    assert_eq!(sandbox.run(["unpause", "--all"])["hint"], json!(null));
    assert!(!file.exists());
}
