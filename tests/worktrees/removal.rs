//! `clean` and `rm` of jobs with worktrees: no work is lost.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Answer, Sandbox, install};
use crate::{git, sandbox, tree};

/// Runs a job with a worktree of its own.
#[track_caller]
pub(crate) fn finished(id: &str) -> Sandbox {
    let sandbox = sandbox();
    sandbox.run_job(id, &["--worktree"]).expect_end(0, "completed", None);
    sandbox
}

pub(crate) fn commit(dir: &Path, name: &str) {
    fs::write(dir.join(name), "").unwrap();
    git(dir, &["add", name]);
    git(dir, &["commit", "--quiet", "--message", name]);
}

fn branches(sandbox: &Sandbox) -> String {
    git(&sandbox.work(), &["branch", "--format=%(refname:short)", "--list", "claudejob*"])
}

/// Asserts that neither the job nor its worktree was removed, and why.
#[track_caller]
pub(crate) fn assert_stays(sandbox: &Sandbox, answer: &Answer, why: &str) {
    assert_eq!((answer.code, &answer["removed"]), (1, &0.into()), "{why}: {answer:?}");
    let error = answer["left"][0]["error"].as_str().unwrap();
    assert!(error.contains(why), "{why}: {error}");
    assert_eq!(sandbox.run(["status", "a"]).code, 0);
}

#[track_caller]
pub(crate) fn assert_removed(sandbox: &Sandbox, answer: &Answer) {
    assert_eq!((answer.code, &answer["removed"]), (0, &1.into()), "{answer:?}");
    assert!(!tree(sandbox, "a").exists());
    assert_eq!(branches(sandbox), "");
    assert_eq!(git(&sandbox.work(), &["worktree", "list"]).lines().count(), 1);
    assert_eq!(sandbox.run(["status", "a"]).code, 4);
}

#[test]
fn removes_a_worktree_whose_work_is_merged() {
    let sandbox = finished("a");
    let dir = tree(&sandbox, "a");
    commit(&dir, "work");
    fs::write(dir.join("ignored.secret"), "").unwrap();
    let why = "main lacks 1 commit of its branch claudejob/a";
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), why);
    assert_stays(&sandbox, &sandbox.run(["clean", "a", "--dry-run"]), why);
    git(&sandbox.work(), &["merge", "--quiet", "claudejob/a"]);
    let dry = sandbox.run(["rm", "a", "--dry-run"]);
    assert!(dry["removed"] == 1 && dir.exists(), "{dry:?}");
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn a_merge_into_the_upstream_counts() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let origin = sandbox.path("origin");
    git(&work, &["clone", "--quiet", "--bare", ".", origin.to_str().unwrap()]);
    git(&work, &["remote", "add", "origin", origin.to_str().unwrap()]);
    git(&work, &["fetch", "--quiet"]);
    git(&work, &["branch", "--quiet", "--set-upstream-to", "origin/main"]);
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    commit(&tree(&sandbox, "a"), "work");
    git(&tree(&sandbox, "a"), &["push", "--quiet", "-u", "origin", "claudejob/a"]);
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "main lacks 1 commit");
    git(&work, &["push", "--quiet", "origin", "claudejob/a:main"]);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    let config = fs::read_to_string(work.join(".git/config")).unwrap();
    assert!(!config.contains("claudejob/a"), "{config}");
}

#[test]
fn work_in_a_worktree_keeps_it() {
    let sandbox = finished("a");
    let (work, dir) = (sandbox.work(), tree(&sandbox, "a"));
    let own = work.join(".git/worktrees/a");
    let rm = || sandbox.run(["rm", "a"]);
    fs::write(dir.join("untracked"), "").unwrap();
    git(&work, &["config", "status.showUntrackedFiles", "no"]);
    assert_stays(&sandbox, &rm(), "1 uncommitted change");
    fs::remove_file(dir.join("untracked")).unwrap();
    fs::write(dir.join("sub/file"), "changed").unwrap();
    assert_stays(&sandbox, &rm(), "1 uncommitted change");
    git(&dir, &["update-index", "--assume-unchanged", "sub/file"]);
    assert_stays(&sandbox, &rm(), "git ignores changes of sub/file");
    git(&dir, &["update-index", "--no-assume-unchanged", "sub/file"]);
    git(&dir, &["checkout", "--quiet", "sub/file"]);
    for (name, why) in [("MERGE_HEAD", "a merge"), ("rebase-merge", "a rebase")] {
        fs::write(own.join(name), "").unwrap();
        assert_stays(&sandbox, &rm(), &format!("{why} is in progress"));
        fs::remove_file(own.join(name)).unwrap();
    }
    git(&work, &["worktree", "lock", "--reason", "mine", dir.to_str().unwrap()]);
    assert_stays(&sandbox, &rm(), "locked: mine");
    git(&work, &["worktree", "unlock", dir.to_str().unwrap()]);
    git(&dir, &["checkout", "--quiet", "--detach"]);
    commit(&dir, "detached");
    assert_stays(&sandbox, &rm(), "not on its branch claudejob/a");
    git(&dir, &["branch", "kept"]);
    git(&dir, &["checkout", "--quiet", "claudejob/a"]);
    // An ignored worktree within it.
    git(&dir, &["worktree", "add", "--quiet", ".claude/worktrees/x", "-b", "x"]);
    assert_stays(&sandbox, &rm(), "is in it");
    git(&dir, &["worktree", "remove", ".claude/worktrees/x"]);
    git(&work, &["config", "--unset", "status.showUntrackedFiles"]);
    assert_removed(&sandbox, &rm());
}

#[test]
fn work_that_git_does_not_show_keeps_a_worktree() {
    let sandbox = finished("a");
    let (work, dir) = (sandbox.work(), tree(&sandbox, "a"));
    let rm = || sandbox.run(["rm", "a"]);
    let skipped = OsStr::from_bytes(b"n\xff");
    fs::write(dir.join(skipped), "").unwrap();
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "--quiet", "--message", "odd"]);
    git(&work, &["merge", "--quiet", "claudejob/a"]);
    let mut skip = Command::new("git");
    skip.current_dir(&dir).args(["update-index", "--skip-worktree"]).arg(skipped);
    assert!(skip.status().unwrap().success());
    fs::write(dir.join(skipped), "changed").unwrap();
    assert_stays(&sandbox, &rm(), "git ignores changes of n");
    fs::remove_file(dir.join(skipped)).unwrap();
    symlink("nowhere", dir.join(skipped)).unwrap();
    assert_stays(&sandbox, &rm(), "git ignores changes of n");
    fs::remove_file(dir.join(skipped)).unwrap();
    // Only a ref of the worktree has the commit.
    commit(&dir, "work");
    git(&dir, &["update-ref", "refs/worktree/kept", "HEAD"]);
    git(&dir, &["reset", "--quiet", "--hard", "HEAD^"]);
    assert_stays(&sandbox, &rm(), "refs/worktree/kept");
    git(&dir, &["update-ref", "-d", "refs/worktree/kept"]);
    // A file in the directory of a submodule that is not checked out.
    let head = git(&work, &["rev-parse", "HEAD"]);
    git(&dir, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},module")]);
    fs::create_dir(dir.join("module")).unwrap();
    git(&dir, &["commit", "--quiet", "--message", "module"]);
    git(&work, &["merge", "--quiet", "claudejob/a"]);
    fs::write(dir.join("module/new"), "").unwrap();
    assert_stays(&sandbox, &rm(), "git ignores the files in module");
    fs::remove_file(dir.join("module/new")).unwrap();
    // A program that watches the files, and has seen nothing.
    let watcher = sandbox.path("watcher");
    install(&watcher, b"#!/bin/sh\nprintf 'token\\0'\n");
    git(&dir, &["config", "core.fsmonitor", watcher.to_str().unwrap()]);
    git(&dir, &["status"]);
    fs::write(dir.join("sub/file"), "changed").unwrap();
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
    assert_stays(&sandbox, &rm(), "1 uncommitted change");
    fs::write(dir.join("sub/file"), "1\n").unwrap();
    assert_removed(&sandbox, &rm());
}

#[test]
fn a_state_that_is_unknown_keeps_the_job() {
    let mut sandbox = finished("a");
    let work = sandbox.work();
    let git_dir = sandbox.path("moved");
    fs::rename(work.join(".git"), &git_dir).unwrap();
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "is gone");
    fs::rename(&git_dir, work.join(".git")).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    sandbox.set("PATH", sandbox.path("nowhere"));
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "could not run git");
    sandbox.set("PATH", path);
    git(&work, &["checkout", "--quiet", "-b", "other"]);
    git(&work, &["branch", "-D", "main"]);
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "refs/heads/main, is gone");
    git(&work, &["branch", "main"]);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn clean_counts_the_jobs_that_stay() {
    let sandbox = finished("a");
    for id in ["b", "c"] {
        sandbox.run_job(id, &["--worktree"]).expect_end(0, "completed", None);
    }
    for id in ["a", "b"] {
        fs::write(tree(&sandbox, id).join("new"), "").unwrap();
    }
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &1.into()), "{cleaned:?}");
    assert_eq!(cleaned["jobs"][0], "c");
    let warning = cleaned["warnings"][0].as_str().unwrap();
    assert!(warning.contains(": b, a; of b: "), "{warning}");
    assert!(warning.contains("2 jobs stay") && warning.contains("uncommitted"), "{warning}");
    // Each start with CLAUDE_SKILL_KEEP removes the same.
    let mut sandbox = sandbox;
    sandbox.set("CLAUDE_SKILL_KEEP", "0");
    sandbox.run_job("d", &[]).expect_end(0, "completed", None);
    assert_eq!(branches(&sandbox), "claudejob/a\nclaudejob/b");
    assert_eq!(sandbox.run(["status", "a"]).code, 0);

    let kept = sandbox.run(["rm", "a", "--keep-worktree"]);
    assert_eq!((kept.code, &kept["removed"]), (0, &1.into()), "{kept:?}");
    assert_eq!(kept["worktrees"][0]["branch"], "claudejob/a", "{kept:?}");
    assert!(tree(&sandbox, "a").join("new").exists());
}

#[test]
fn the_last_job_of_a_worktree_removes_it() {
    let sandbox = sandbox();
    let dir = tree(&sandbox, "shared");
    for id in ["a", "b"] {
        sandbox.run_job(id, &["--worktree=shared"]).expect_end(0, "completed", None);
    }
    fs::write(dir.join("new"), "").unwrap();
    let removed = sandbox.run(["rm", "a"]);
    assert_eq!((removed.code, &removed["removed"]), (0, &1.into()), "{removed:?}");
    let left = sandbox.run(["rm", "b"]);
    assert_eq!(left.code, 1, "{left:?}");
    assert!(dir.join("new").exists());
    // A job that began in its own worktree does not make its branch the base.
    let cwd = dir.to_str().unwrap();
    let own = [
        "--worktree=shared",
        "--cwd",
        cwd,
        "--worktree-dir",
        dir.parent().unwrap().to_str().unwrap(),
    ];
    sandbox.run_job("c", &own).expect_end(0, "completed", None);
    commit(&dir, "work");
    fs::remove_file(dir.join("new")).unwrap();
    assert_eq!(sandbox.run(["rm", "b"]).code, 0);
    let left = sandbox.run(["rm", "c"]);
    assert_eq!(left.code, 1, "{left:?}");
    assert!(dir.join("work").exists());
    git(&sandbox.work(), &["merge", "--quiet", "claudejob/shared"]);
    assert_eq!(sandbox.run(["rm", "c"]).code, 0);
    assert!(!dir.exists() && branches(&sandbox).is_empty());
}

#[test]
fn a_live_job_keeps_the_worktree() {
    let sandbox = sandbox();
    sandbox.run_job("a", &["--worktree=shared"]).expect_end(0, "completed", None);
    sandbox.script("read\ninit\nhang");
    sandbox.start("live", &["--worktree=shared"]);
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "job live works in its worktree");
    assert_eq!(sandbox.run(["kill", "live"]).code, 0);
    // One that has no worktree of its own.
    let link = sandbox.path("link");
    symlink(tree(&sandbox, "shared").join("sub"), &link).unwrap();
    sandbox.start("guest", &["--cwd", link.to_str().unwrap()]);
    let left = sandbox.run(["rm", "a", "live"]);
    assert!(left["removed"] == 0 && left.stdout.contains("job guest works in"), "{left:?}");
    assert_eq!(sandbox.run(["kill", "guest"]).code, 0);
    assert_eq!(sandbox.run(["rm", "a", "live"]).code, 0);
    assert!(!tree(&sandbox, "shared").exists());
}

#[test]
fn a_worktree_whose_preparation_failed_is_removed() {
    let sandbox = sandbox();
    let hook = sandbox.work().join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    install(&hook, b"#!/bin/sh\necho refused; exit 1\n");
    sandbox.run_job("a", &["--worktree"]).expect_end(1, "failed", Some("launch_failed"));
    let dir = tree(&sandbox, "a");
    fs::write(dir.join("new"), "").unwrap();
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "1 uncommitted change");
    fs::remove_file(dir.join("new")).unwrap();
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn a_killed_removal_is_completed_by_the_next() {
    for point in ["clean:marked", "clean:worktree-removed", "clean:branch-removed"] {
        let mut sandbox = finished("a");
        sandbox.break_at(point, ["rm", "a"]);
        assert_eq!(sandbox.run(["status", "a"]).code, 0, "{point}");
        assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    }
    // Git was killed as well, and had deleted some files.
    for deleted in ["sub/file", ".git"] {
        let mut sandbox = finished("a");
        sandbox.break_at("clean:marked", ["rm", "a"]);
        let dir = tree(&sandbox, "a");
        fs::remove_file(dir.join(deleted)).unwrap();
        fs::write(dir.join("new"), "").unwrap();
        assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "uncommitted change");
        fs::remove_file(dir.join("new")).unwrap();
        assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    }
    let sandbox = finished("a");
    fs::remove_file(tree(&sandbox, "a").join("sub/file")).unwrap();
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "1 uncommitted change");
}

#[test]
fn a_deleted_folder_and_an_unmade_one_lose_nothing() {
    let sandbox = finished("a");
    let dir = tree(&sandbox, "a");
    commit(&dir, "work");
    fs::remove_dir_all(&dir).unwrap();
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "main lacks 1 commit");
    git(&sandbox.work(), &["merge", "--quiet", "claudejob/a"]);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    sandbox.start("a", &["--worktree", "--start-delay", "1h"]);
    assert_eq!(sandbox.run(["kill", "a"]).code, 0);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn a_race_with_new_work_loses_nothing() {
    let mut sandbox = finished("a");
    let dir = tree(&sandbox, "a");
    let answer = sandbox.pause_at("clean:marked", ["rm", "a"], |_| {
        fs::write(dir.join("new"), "").unwrap();
    });
    assert_stays(&sandbox, &answer, "git could not remove its worktree");
    fs::remove_file(dir.join("new")).unwrap();
    let answer = sandbox.pause_at("clean:worktree-removed", ["rm", "a"], |sandbox| {
        let work = sandbox.work();
        let tree = git(&work, &["rev-parse", "HEAD^{tree}"]);
        let new = git(&work, &["commit-tree", &tree, "-p", "HEAD", "-m", "New"]);
        git(&work, &["update-ref", "refs/heads/claudejob/a", &new]);
    });
    assert_stays(&sandbox, &answer, "could not delete the branch");
    assert_eq!(branches(&sandbox), "claudejob/a");
}

#[test]
fn without_a_base_any_other_branch_counts() {
    let sandbox = sandbox();
    let work = sandbox.work();
    git(&work, &["checkout", "--quiet", "--detach"]);
    commit(&work, "detached");
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    commit(&tree(&sandbox, "a"), "work");
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "every other branch lacks");
    git(&work, &["branch", "other", "claudejob/a"]);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn submodules_keep_a_worktree() {
    let sandbox = sandbox();
    let (work, module) = (sandbox.work(), sandbox.path("module"));
    crate::repository(&module, &[]);
    let local = ["-c", "protocol.file.allow=always", "submodule", "--quiet"];
    git(&work, &[&local[..], &["add", module.to_str().unwrap(), "module"]].concat());
    git(&work, &["commit", "--quiet", "--message", "Module"]);
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    git(&dir, &[&local[..], &["update", "--init"]].concat());
    commit(&dir.join("module"), "work");
    git(&dir.join("module"), &["checkout", "--quiet", "HEAD~1"]);
    assert_stays(&sandbox, &sandbox.run(["rm", "a"]), "submodules");
    assert!(!work.join(".git/worktrees/a/claudejob-removal").exists());
    assert!(dir.join("module/sub/file").exists());
}
