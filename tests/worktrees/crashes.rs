//! Preparations that are cut off at each of their steps.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::processes::kill;
use crate::support::{Answer, Sandbox, await_file, eventually, pid_in};
use crate::{WORKS, assert_complete, git, sandbox, tree};

#[test]
fn a_cut_off_preparation_is_repeated() {
    for (point, runs) in [
        ("prepare:adding", 1),
        ("prepare:added", 1),
        ("prepare:copied", 1),
        ("prepare:made", 1),
        ("prepare:saved", 1),
        ("prepare:setup", 1),
        ("prepare:set-up", 2),
        ("prepare:ready", 1),
    ] {
        let mut sandbox = sandbox();
        let work = sandbox.work();
        fs::write(work.join(".worktreeinclude"), "*.secret\n").unwrap();
        fs::write(work.join("1.secret"), "1").unwrap();
        fs::write(work.join("2.secret"), "2").unwrap();
        let ran = format!("echo x >> {}", sandbox.path("ran").display());
        let args = ["start", "a", "-p", "x", "--worktree", "--setup", &ran];
        let worker = |sandbox: &Sandbox| {
            // The preparation runs while its worker records that it has begun.
            let pid = eventually("the record", || sandbox.status("a")["pid"].as_i64());
            kill(i32::try_from(pid).unwrap());
        };
        sandbox.pause_at(point, args, worker);
        let recovered = sandbox.run(["recover", "a"]);
        assert_eq!(recovered.code, 0, "{point}: {recovered:?}");
        sandbox.wait("a").expect_end(0, "completed", None);
        let dir = tree(&sandbox, "a");
        assert_complete(&dir, "claudejob/a");
        assert_eq!(fs::read_to_string(dir.join("1.secret")).unwrap(), "1", "{point}");
        assert_eq!(fs::read_to_string(dir.join("2.secret")).unwrap(), "2", "{point}");
        let ran = fs::read_to_string(sandbox.path("ran")).unwrap();
        assert_eq!(ran.lines().count(), runs, "{point}");
        let list = git(&work, &["worktree", "list", "--porcelain"]);
        assert_eq!(list.matches("worktree ").count(), 2, "{point}: {list}");
        assert!(!list.contains("locked"), "{point}: {list}");
    }
}

/// Makes the checkout of a file wait in the middle of it, after it has written its process id to
/// `reached`, until `go` exists.
fn slow_down_checkout(sandbox: &Sandbox) {
    let work = sandbox.work();
    let smudge = format!(
        "cat; echo $$ > {0}.new; mv {0}.new {0}; while [ ! -e {1} ]; do sleep 0.01; done",
        sandbox.path("reached").display(),
        sandbox.path("go").display()
    );
    git(&work, &["config", "filter.slow.smudge", &smudge]);
    fs::write(work.join(".gitattributes"), "slow filter=slow\n").unwrap();
    fs::write(work.join("slow"), "slow\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "Slow"]);
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

/// Kills the worker and git in the middle of the checkout, recovers the job, and asserts that its
/// worktree is complete.
#[track_caller]
fn recover_from_checkout(sandbox: &Sandbox) {
    let (reached, go) = (sandbox.path("reached"), sandbox.path("go"));
    await_file(&reached);
    let status = sandbox.status("a");
    assert_eq!(status["activity"]["text"], "preparing the worktree", "{status:?}");
    let filter = pid_in(&reached);
    // A git whose child was killed would remove the worktree.
    let git = parent_of(parent_of(filter));
    kill(i32::try_from(status["pid"].as_i64().unwrap()).unwrap());
    kill(git);
    assert_eq!(sandbox.run(["recover", "a"]).code, 0);
    fs::write(&go, "").unwrap();
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_complete(&tree(sandbox, "a"), "claudejob/a");
    assert_eq!(fs::read_to_string(tree(sandbox, "a").join("slow")).unwrap(), "slow\n");
    eventually("the end of the filter", || (!crate::support::is_alive(filter)).then_some(()));
}

#[test]
fn a_cut_off_checkout_is_repeated() {
    let sandbox = sandbox();
    slow_down_checkout(&sandbox);
    sandbox.start("a", &["--worktree"]);
    recover_from_checkout(&sandbox);
}

#[test]
fn a_cut_off_repeated_checkout_is_repeated() {
    let sandbox = sandbox();
    slow_down_checkout(&sandbox);
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.script("session\nread\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    fs::remove_dir_all(tree(&sandbox, "a")).unwrap();
    for file in ["go", "reached"] {
        fs::remove_file(sandbox.path(file)).unwrap();
    }
    assert_eq!(sandbox.run(["resume", "a"]).code, 0);
    recover_from_checkout(&sandbox);
}

#[test]
fn a_worktree_of_another_job_is_never_removed() {
    let sandbox = sandbox();
    let work = sandbox.work();
    // Both are decided before either is made, in different jobs directories.
    sandbox.script("read\ninit\ntouch $DIR/up\nwait-file $DIR/gate\nresult ok\neof");
    sandbox.start("gate", &[]);
    await_file(&sandbox.path("up"));
    sandbox.start("a", &["--worktree", "--after", "gate"]);
    sandbox.script(WORKS);
    let mut run = sandbox.command(["run", "-n", "a", "x", "--worktree", "-o", "json"]);
    run.env("CLAUDE_SKILL_JOBS_DIR", sandbox.path("other-jobs"));
    let ended = Answer::from_command(run, Vec::new());
    assert_eq!(ended.code, 0, "{ended:?}");
    let dir = tree(&sandbox, "a");
    fs::write(dir.join("kept"), "").unwrap();
    fs::write(sandbox.path("gate"), "").unwrap();
    let ended = sandbox.wait("a");
    ended.expect_end(1, "failed", Some("launch_failed"));
    assert!(ended.text("error").contains("another worktree was made in"), "{ended:?}");
    assert!(dir.join("kept").exists());
    assert_eq!(git(&work, &["worktree", "list"]).lines().count(), 2);
}

/// A git that was killed leaves such an entry, and then no git can list or make worktrees.
#[test]
fn a_broken_entry_blocks_no_job() {
    for (name, id) in [("other", "a"), ("a", "a")] {
        let sandbox = sandbox();
        let work = sandbox.work();
        let entry = work.join(".git/worktrees").join(name);
        fs::create_dir_all(&entry).unwrap();
        fs::write(entry.join("gitdir"), format!("{}/.git\n", tree(&sandbox, name).display()))
            .unwrap();
        fs::write(entry.join("HEAD"), "0000000000000000000000000000000000000000\n").unwrap();
        fs::write(entry.join("locked"), "initializing\n").unwrap();
        fs::write(entry.join("commondir"), "").unwrap();
        let entry = fs::File::open(&entry).unwrap();
        entry.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        sandbox.run_job(id, &["--worktree"]).expect_end(0, "completed", None);
        assert_complete(&tree(&sandbox, id), "claudejob/a");
        assert_eq!(git(&work, &["worktree", "list"]).lines().count(), 2);
    }
}

#[test]
fn a_cut_off_setup_runs_again() {
    let sandbox = sandbox();
    let setup = "echo $$ > $FAKE_DIR/new; mv $FAKE_DIR/new $FAKE_DIR/setup; touch kept; \
                 [ -e $FAKE_DIR/go ] || sleep 1000";
    sandbox.start("a", &["--worktree", "--setup", setup]);
    await_file(&sandbox.path("setup"));
    let first = pid_in(&sandbox.path("setup"));
    kill(i32::try_from(sandbox.status("a")["pid"].as_i64().unwrap()).unwrap());
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(sandbox.run(["recover", "a"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    assert!(!crate::support::is_alive(first));
    assert_ne!(pid_in(&sandbox.path("setup")), first);
    assert!(tree(&sandbox, "a").join("kept").exists());
}

#[test]
fn a_killed_checkout_is_repeated_by_recover() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let reached = sandbox.path("reached");
    let hook =
        format!("#!/bin/sh\n[ -e {0} ] || {{ touch {0}; sleep 1000; }}\n", reached.display());
    crate::support::install(&work.join(".git/hooks/post-checkout"), hook.as_bytes());
    sandbox.start("a", &["--worktree"]);
    await_file(&reached);
    assert_eq!(sandbox.run(["kill", "a"]).code, 0);
    sandbox.wait("a").expect_end(3, "killed", None);
    sandbox.assert_nothing_left("a");
    let again = sandbox.run(["rerun", "a", "--name", "b"]);
    assert_eq!(again.code, 0, "{again:?}");
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "b"), "claudejob/b");
}
