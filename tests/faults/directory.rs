//! Jobs directories with other owners, links and foreign files, or without locks and inotify.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;

use crate::support::faults::{as_user, change_owner, without_call};
use crate::support::processes::{kill, send};
use crate::support::{Answer, Sandbox, await_file, eventually, is_alive, pid_in};
use crate::{START, WORKS};

#[test]
#[ignore = "needs root"]
fn no_verb_uses_a_directory_of_another_user() {
    let sandbox = Sandbox::new(WORKS);
    sandbox.run_job("j", &[]);
    change_owner(&sandbox.jobs(), 54_321);
    for call in [&["list"][..], &["status", "j"], &["kill", "j"], &["recover", "--all"], &START] {
        let refused = sandbox.run(call);
        assert_eq!(refused["code"], "jobs_dir_denied", "{call:?}: {refused:?}");
        assert!(refused.text("error").contains("another user"));
    }
    // And another user cannot read anything in it.
    change_owner(&sandbox.jobs(), 0);
    let theirs = as_user(Command::new("cat"), 54_321);
    let mut theirs = theirs;
    let output = theirs.arg(sandbox.job("j").join("prompt.txt")).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn follows_a_link_to_the_jobs_directory() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn-clean $DIR/child\ntouch $DIR/up\nhang");
    fs::create_dir(sandbox.path("real")).unwrap();
    fs::set_permissions(sandbox.path("real"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(sandbox.path("real"), sandbox.path("link")).unwrap();
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("link"));
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    send(worker, Signal::SIGSTOP);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("real"));
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
    assert!(!is_alive(pid_in(&sandbox.path("child"))));
    // A job id that leads out of the directory is not a job.
    std::os::unix::fs::symlink("/etc", sandbox.path("real/etc")).unwrap();
    assert_eq!(sandbox.run(["status", "etc"])["code"], "record_unreadable");
    assert_eq!(sandbox.run(["logs", "etc"])["code"], "record_unreadable");
}

#[test]
fn refuses_a_file_system_without_locks() {
    for errno in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP] {
        let sandbox = Sandbox::new(WORKS);
        let command = without_call(sandbox.command(START), libc::SYS_flock, errno);
        let refused = Answer::from_command(command, Vec::new());
        assert_eq!(refused["code"], "no_locks", "{refused:?}");
        assert_eq!(sandbox.run(["list"]).stdout, "[]\n");
    }
}

#[test]
fn receives_messages_without_inotify() {
    for (call, errno) in [(libc::SYS_inotify_init1, libc::EMFILE), (libc::SYS_mknodat, libc::EPERM)]
    {
        let sandbox = Sandbox::new("read\ninit\nresult one\nhear-all $DIR/heard");
        let start = [&START[..], &["--keep-alive"]].concat();
        let started =
            Answer::from_command(without_call(sandbox.command(start), call, errno), Vec::new());
        assert_eq!(started.code, 0, "{started:?}");
        eventually("idle", || (sandbox.status("j")["status"] == "idle").then_some(()));
        let answer = sandbox.run(["send", "j", "--message", "two", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
        assert_eq!(sandbox.run(["finish", "j"])["finished"], true);
    }
}

#[test]
fn leaves_foreign_files_in_a_job_alone() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let job = sandbox.job("j");
    fs::write(job.join("notes.txt"), "mine").unwrap();
    fs::create_dir(job.join("folder")).unwrap();
    nix::unistd::mkfifo(&job.join("result.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    kill(worker);
    // A FIFO under the name of one of our files blocks nobody.
    assert_eq!(sandbox.status("j")["reason"], "worker_died");
    assert_eq!(sandbox.run(["result", "j"])["reason"], "worker_died");
    sandbox.script(WORKS);
    assert_eq!(sandbox.run(["recover", "j"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(job.join("notes.txt")).unwrap(), "mine");
}
