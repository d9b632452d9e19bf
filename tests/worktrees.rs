//! Jobs in git worktrees of their own, with the fake claude.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "worktrees/changes.rs"]
mod changes;
#[path = "worktrees/copies.rs"]
mod copies;
#[path = "worktrees/crashes.rs"]
mod crashes;
#[path = "worktrees/folders.rs"]
mod folders;
#[path = "worktrees/hidden_work.rs"]
mod hidden_work;
#[path = "worktrees/odd_repositories.rs"]
mod odd_repositories;
#[path = "worktrees/options.rs"]
mod options;
#[path = "worktrees/removal.rs"]
mod removal;
#[path = "worktrees/repositories.rs"]
mod repositories;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Answer, Sandbox, eventually};

const WORKS: &str = "read\ninit\nresult ok\neof";

/// Runs git with nothing of this machine's configuration, and returns its output.
#[track_caller]
fn git(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    // Without the maintenance that a commit leaves in the background: a process in a worktree keeps
    // the worktree.
    command.args(["-c", "maintenance.auto=false"]).args(arguments);
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
    {
        command.env(name, "x@example.org");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Makes a repository with a folder `sub` and one commit.
fn repository(dir: &Path, options: &[&str]) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    git(dir, &[&["init", "--quiet", "--initial-branch", "main"], options].concat());
    fs::write(dir.join("sub/file"), "1\n").unwrap();
    fs::write(dir.join(".gitignore"), "*.secret\n").unwrap();
    git(dir, &["add", "."]);
    git(dir, &["commit", "--quiet", "--message", "Begin"]);
}

/// A sandbox whose working directory is a repository.
fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new(WORKS);
    repository(&sandbox.work(), &[]);
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
    {
        sandbox.set(name, "x@example.org");
    }
    sandbox
}

/// The worktree of a job in the usual place.
fn tree(sandbox: &Sandbox, id: &str) -> std::path::PathBuf {
    sandbox.work().join(".claude/worktrees").join(id)
}

/// The worktree as `status` shows it once git answers within the time that it has for that.
#[track_caller]
fn inspected(sandbox: &Sandbox, id: &str) -> Value {
    eventually("git to answer", || {
        let worktree = sandbox.status(id)["worktree"].clone();
        worktree["dirty"].is_u64().then_some(worktree)
    })
}

/// Asserts that the worktree is complete: on its branch, with all files and without changes.
#[track_caller]
fn assert_complete(dir: &Path, branch: &str) {
    assert_eq!(git(dir, &["symbolic-ref", "--short", "HEAD"]), branch);
    assert_eq!(git(dir, &["status", "--porcelain"]), "", "{}", dir.display());
    assert_eq!(fs::read_to_string(dir.join("sub/file")).unwrap(), "1\n");
}

#[track_caller]
fn assert_refused(answer: &Answer, code: &str) {
    assert_eq!((answer.code, answer["code"].as_str()), (1, Some(code)), "{answer:?}");
    assert!(!answer.text("hint").is_empty());
}
