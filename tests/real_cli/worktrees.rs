//! A job in a worktree of its own: the CLI works, commits and continues its conversation in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

#[track_caller]
fn git(dir: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    let mut command = Command::new("git");
    let output = command.current_dir(dir).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

each_cli!(commits_and_is_resumed_in_its_worktree);
fn commits_and_is_resumed_in_its_worktree(cli: Cli) {
    let commit = "echo 1 > new && git add new && git -c user.name=x -c user.email=x@example.org \
                  commit --quiet --message Work";
    let sandbox = RealSandbox::new(
        cli,
        [Step::Bash(commit.to_owned()), Step::text("committed"), Step::text("continued")],
    );
    let work = sandbox.work();
    git(&work, &["init", "--quiet", "--initial-branch", "main"]);
    git(&work, &["commit", "--quiet", "--allow-empty", "--message", "Begin"]);
    let ended = sandbox.run_job("j", &["--worktree", "--setup", "echo ready"]);
    ended.expect_end(0, "completed", None);
    assert_eq!(ended["worktree"]["commits"], 1, "{ended:?}");
    assert_eq!(ended["worktree"]["dirty"], 0);
    assert_eq!(git(&work, &["show", "claudejob/j:new"]), "1");
    assert_eq!(git(&work, &["status", "--porcelain"]), "");
    // Also in a worktree that is made again.
    fs::remove_dir_all(work.join(".claude/worktrees/j")).unwrap();
    let session = ended["session_id"].clone();
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    let ended = sandbox.wait("j");
    ended.expect_end(0, "completed", None);
    assert_eq!((&ended["result"], &ended["session_id"]), (&"continued".into(), &session));
    let seen = sandbox.api.wait_for_request(3).text;
    assert!(seen.contains("committed"), "it continues its conversation: {seen}");
}
