//! Kernels and containers without pidfds and other recent system calls.

use std::fs;
use std::io::Read;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::faults::without_call;
use crate::support::processes::{is_stopped, kill, send};
use crate::support::{Answer, Sandbox, await_file, eventually, is_alive, pid_in};
use crate::{START, WORKS, assert_tidy};

const STUBBORN: &str = "ignore INT\nignore TERM\nread\ninit\nspawn $DIR/a\nspawn-clean $DIR/b\n\
                        spawn-stubborn $DIR/c\ntouch $DIR/up\nhang";
/// Each job ends when the test creates its file.
const GATED: &str = "read\ninit\ntouch $DIR/began-$JOB\nwait-file $DIR/go-$JOB\nresult ok\neof";
const ONE: [&str; 2] = ["--max-parallel", "1"];

fn on_old_kernel(script: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(script);
    sandbox.use_old_kernel();
    sandbox
}

fn worker_of(answer: &Answer) -> i32 {
    answer["pid"].as_i64().unwrap() as i32
}

/// Returns level and detail of the check `system` of `doctor`.
fn system_check(answer: &Answer) -> (String, String) {
    let checks = answer["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "system").unwrap();
    (check["level"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
}

#[test]
fn an_old_kernel_kills_stubborn_jobs() {
    let sandbox = on_old_kernel(STUBBORN);
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let children = ["a", "b", "c"].map(|name| pid_in(&sandbox.path(name)));
    let killed = sandbox.run(["kill", "j"]);
    assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    assert!(children.into_iter().all(|pid| !is_alive(pid)));
    sandbox.assert_nothing_left("j");
    sandbox.wait("j").expect_end(3, "killed", None);
    let (level, detail) = system_check(&sandbox.run(["doctor"]));
    assert!(level == "ok" && detail.starts_with("no pidfds"), "{level}: {detail}");
}

#[test]
fn an_old_kernel_ends_and_recovers_a_lost_job() {
    let sandbox = on_old_kernel("read\ninit\nspawn-stubborn $DIR/child\ntouch $DIR/up\nhang");
    let worker = worker_of(&sandbox.start("j", &[]));
    await_file(&sandbox.path("up"));
    kill(worker);
    assert_eq!(sandbox.status("j")["reason"], "worker_died");
    assert!(!is_alive(pid_in(&sandbox.path("child"))), "ended by the reader");
    sandbox.script(WORKS);
    let recovered = sandbox.run(["recover", "j"]);
    assert_eq!((recovered.code, recovered.text("status")), (0, "running"), "{recovered:?}");
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_tidy(&sandbox, "recovered");
}

#[test]
fn an_old_kernel_frees_the_slot_of_a_killed_worker() {
    let sandbox = on_old_kernel(GATED);
    let worker = worker_of(&sandbox.start("a", &ONE));
    for id in ["b", "c", "d"] {
        assert_eq!(sandbox.start(id, &ONE)["status"], "queued");
    }
    await_file(&sandbox.path("began-a"));
    assert_eq!(sandbox.run(["kill", "c"])["killed"], true);
    kill(worker);
    await_file(&sandbox.path("began-b"));
    assert!(!sandbox.path("began-d").exists(), "one slot");
    fs::write(sandbox.path("go-b"), "").unwrap();
    sandbox.wait("b").expect_end(0, "completed", None);
    fs::write(sandbox.path("go-d"), "").unwrap();
    sandbox.wait("d").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["reason"], "worker_died");
    assert!(!sandbox.path("began-c").exists(), "killed in the queue");
}

#[test]
fn an_old_kernel_freezes_and_continues_a_job() {
    let sandbox = on_old_kernel(GATED);
    sandbox.start("j", &[]);
    await_file(&sandbox.path("began-j"));
    let paused = sandbox.run(["pause", "--stop"]);
    assert_eq!((paused.code, &paused["stopped"]), (0, &json!(["j"])), "{paused:?}");
    let claude = sandbox.claude_pid("j");
    eventually("the stop", || is_stopped(claude).then_some(()));
    fs::write(sandbox.path("go-j"), "").unwrap();
    assert_eq!(sandbox.run(["unpause"])["continued"], json!(["j"]));
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn an_old_kernel_continues_a_stopped_worker() {
    let sandbox = on_old_kernel("read\ninit\ntouch $DIR/up\nhang");
    let worker = worker_of(&sandbox.start("j", &[]));
    await_file(&sandbox.path("up"));
    send(worker, Signal::SIGSTOP);
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
    sandbox.assert_nothing_left("j");
}

#[test]
fn a_job_on_an_old_kernel_inherits_nothing() {
    let sandbox = on_old_kernel("fds $DIR/fds\nread\ninit\ntouch $DIR/up\nhang");
    let pipes: Vec<_> = (0..50).map(|_| std::io::pipe().unwrap()).collect();
    for (_, writer) in &pipes {
        fcntl(writer, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    sandbox.start("j", &[]);
    for (mut reader, writer) in pipes {
        drop(writer);
        // Returns only when no process holds the other end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
    await_file(&sandbox.path("up"));
    let fds: Value = serde_json::from_slice(&fs::read(sandbox.path("fds")).unwrap()).unwrap();
    assert!(fds.as_object().unwrap().keys().eq(["0", "1", "2"]), "{fds}");
}

#[test]
fn kills_a_job_where_pidfds_are_forbidden() {
    // Docker's older profiles of system calls.
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let call = |arguments: &[&str]| {
        let command = sandbox.command(arguments);
        Answer::from_command(without_call(command, libc::SYS_pidfd_open, libc::EPERM), Vec::new())
    };
    assert_eq!(call(&START).code, 0);
    await_file(&sandbox.path("up"));
    let killed = call(&["kill", "j"]);
    assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    eventually("the verdict", || (sandbox.status("j")["status"] == "killed").then_some(()));
    assert_eq!(system_check(&call(&["doctor"])).0, "ok");
}
