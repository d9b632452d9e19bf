//! Workers and jobs that are killed or shut down.

use nix::sys::signal::Signal;

use crate::support::processes::{kill, send};
use crate::support::{Sandbox, await_file, is_alive, pid_in};

#[test]
fn a_killed_worker_leaves_no_process_and_a_verdict() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    let worker = sandbox.start("lost", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let child = pid_in(&sandbox.path("child"));
    kill(worker);
    let status = sandbox.status("lost");
    assert_eq!((&status["status"], &status["reason"]), (&"failed".into(), &"worker_died".into()));
    assert!(!is_alive(child), "ended by the reader that finds the job lost");
    sandbox.assert_nothing_left("lost");
    assert_eq!(sandbox.run(["list"]).json[0]["reason"], "worker_died");
    assert_eq!(sandbox.run(["start", "lost", "--prompt", "x"])["code"], "job_exists");
}

#[test]
fn kill_ends_stubborn_and_detached_processes() {
    let sandbox = Sandbox::new(
        "ignore INT\nignore TERM\nread\ninit\nspawn $DIR/a\nspawn-clean $DIR/b\n\
         spawn-stubborn $DIR/c\ntouch $DIR/up\nhang",
    );
    sandbox.start("k", &[]);
    await_file(&sandbox.path("up"));
    let children = ["a", "b", "c"].map(|name| pid_in(&sandbox.path(name)));
    let answer = sandbox.run(["kill", "k"]);
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    assert!(children.into_iter().all(|pid| !is_alive(pid)));
    sandbox.assert_nothing_left("k");
    assert_eq!(sandbox.run(["kill", "k"]).code, 0, "it is killed: asking again changes nothing");
    assert_eq!(sandbox.run(["wait", "k"]).code, 3);
}

#[test]
fn a_kill_changes_no_verdict() {
    let sandbox = Sandbox::new("read\ninit\nresult fine\neof");
    sandbox.run_job("done", &[]).expect_end(0, "completed", None);
    let answer = sandbox.run(["kill", "done"]);
    assert_eq!((answer.code, &answer["killed"]), (1, &false.into()));
    assert_eq!(sandbox.status("done")["status"], "completed");
}

#[test]
fn a_stopped_worker_obeys_kill() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let worker = sandbox.start("k", &[])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGSTOP);
    assert_eq!(sandbox.run(["kill", "k"])["killed"], true);
}

#[test]
fn a_shutdown_is_no_kill() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("t", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    send(worker, Signal::SIGTERM);
    sandbox.wait("t").expect_end(1, "failed", Some("terminated"));
}
