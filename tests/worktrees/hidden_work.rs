//! Work in a worktree that git does not show, and that `clean` and `rm` do not remove.

use std::fs;
use std::process::Command;

use crate::removal::{assert_removed, assert_stays, commit, finished};
use crate::{git, repository, tree};

#[test]
fn commits_of_a_detached_head_keep_a_worktree() {
    let sandbox = finished("a");
    let (work, dir) = (sandbox.work(), tree(&sandbox, "a"));
    let rm = || sandbox.run(["rm", "a"]);
    git(&dir, &["checkout", "--quiet", "--detach"]);
    commit(&dir, "one");
    commit(&dir, "two");
    let made = git(&dir, &["rev-parse", "--short=10", "HEAD"]);
    git(&dir, &["checkout", "--quiet", "claudejob/a"]);
    let why =
        format!("no branch has 2 commits of its worktree, which git branch NAME {made} keeps");
    assert_stays(&sandbox, &rm(), &why);
    // Its reflog is what has them, also without its folder.
    let away = sandbox.path("away");
    fs::rename(&dir, &away).unwrap();
    assert_stays(&sandbox, &rm(), &why);
    fs::rename(&away, &dir).unwrap();
    git(&work, &["branch", "kept", &made]);
    // What was replaced on purpose, and what is in a stash, is not lost.
    commit(&dir, "three");
    git(&dir, &["commit", "--quiet", "--amend", "--message", "four"]);
    git(&dir, &["reset", "--quiet", "--hard", "HEAD^"]);
    fs::write(dir.join("sub/file"), "changed").unwrap();
    git(&dir, &["stash", "--quiet"]);
    git(&dir, &["checkout", "--quiet", "-b", "second"]);
    commit(&dir, "five");
    git(&dir, &["checkout", "--quiet", "claudejob/a"]);
    let removed = rm();
    assert_eq!((removed.code, &removed["removed"]), (0, &1.into()), "{removed:?}");
    assert_eq!(git(&work, &["show", "--format=%s", "--no-patch", "second"]), "five");
    assert!(git(&work, &["stash", "show", "--patch"]).contains("+changed"));
}

#[test]
fn a_process_in_a_worktree_keeps_it() {
    let sandbox = finished("a");
    let mut process = Command::new("sleep");
    let mut process = process.arg("1000").current_dir(tree(&sandbox, "a").join("sub")).spawn();
    let process = process.as_mut().unwrap();
    let why = format!("process {} (sleep) works in its worktree", process.id());
    let left = sandbox.run(["rm", "a"]);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_stays(&sandbox, &left, &why);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
}

#[test]
fn work_in_an_ignored_repository_keeps_a_worktree() {
    let sandbox = finished("a");
    let dir = tree(&sandbox, "a");
    let rm = || sandbox.run(["rm", "a"]);
    fs::write(sandbox.work().join(".git/info/exclude"), "/.claude/\n/ignored/\n").unwrap();
    // A clone, a repository without commits, and none.
    let deep = dir.join("ignored/deep");
    fs::create_dir_all(deep.join("empty")).unwrap();
    git(&deep.join("empty"), &["init", "--quiet"]);
    fs::create_dir_all(deep.join("none/.git")).unwrap();
    git(&deep, &["clone", "--quiet", sandbox.work().to_str().unwrap(), "module"]);
    let module = deep.join("module");
    commit(&module, "work");
    assert_stays(&sandbox, &rm(), "ignored/deep/module, which git ignores, has commits of its own");
    git(&module, &["push", "--quiet", "origin", "HEAD:elsewhere"]);
    fs::write(module.join("new"), "").unwrap();
    assert_stays(&sandbox, &rm(), "module, which git ignores, has uncommitted changes");
    git(&module, &["stash", "--quiet", "--include-untracked"]);
    assert_stays(&sandbox, &rm(), "has commits of its own");
    git(&module, &["stash", "drop", "--quiet"]);
    // A repository that was never pushed.
    repository(&deep.join("own"), &[]);
    assert_stays(&sandbox, &rm(), "ignored/deep/own, which git ignores, has commits of its own");
    fs::remove_dir_all(deep.join("own")).unwrap();
    assert_removed(&sandbox, &rm());
}
