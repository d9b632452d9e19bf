//! What a job has changed: `diff`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::terminal::run_on_terminal;
use crate::{assert_refused, git, sandbox, tree};

/// Makes a change of each kind in a working tree.
fn change(dir: &Path) {
    fs::write(dir.join("committed"), "1\n2\n").unwrap();
    git(dir, &["add", "committed"]);
    git(dir, &["commit", "--quiet", "--message", "Work"]);
    fs::write(dir.join("sub/file"), "1\nchanged\n").unwrap();
    fs::write(dir.join("staged"), "s\n").unwrap();
    git(dir, &["add", "staged"]);
    fs::write(dir.join("untracked"), "u\n").unwrap();
    fs::write(dir.join("ignored.secret"), "i\n").unwrap();
}

fn file(path: &str, added: u64, deleted: u64) -> serde_json::Value {
    json!({ "path": path, "oldPath": null, "added": added, "deleted": deleted })
}

#[test]
fn shows_commits_changes_and_new_files() {
    let mut sandbox = sandbox();
    // Some editors set it for what they run.
    sandbox.set("GIT_LITERAL_PATHSPECS", "1");
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    change(&dir);
    let before = git(&dir, &["status", "--porcelain", "--ignored"]);
    let answer = sandbox.run(["diff", "a"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let files = [
        file("committed", 2, 0),
        file("staged", 1, 0),
        file("sub/file", 1, 0),
        file("untracked", 1, 0),
    ];
    assert_eq!(answer["files"], json!(files));
    assert_eq!(answer["base"], base);
    assert_eq!(answer["head"], git(&dir, &["rev-parse", "HEAD"]));
    for line in ["+2\n", "+changed\n", "+s\n", "+u\n"] {
        assert!(answer.text("patch").contains(line), "{answer:?}");
    }
    assert!(!answer.text("patch").contains("ignored"), "{answer:?}");
    assert_eq!(answer["warnings"], json!([]));
    assert_eq!(git(&dir, &["status", "--porcelain", "--ignored"]), before);

    let stat = sandbox.run(["diff", "a", "--stat"]);
    assert_eq!((&stat["files"], &stat["patch"]), (&answer["files"], &json!(null)));
    let part = sandbox.run(["diff", "a", "--", "sub", "staged"]);
    assert_eq!(part["files"], json!([file("staged", 1, 0), file("sub/file", 1, 0)]));
    // The patch makes the same files of the base.
    let raw = sandbox.run(["diff", "a", "--raw"]);
    let patch = sandbox.path("patch");
    fs::write(&patch, &raw.stdout).unwrap();
    git(&sandbox.work(), &["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(sandbox.work().join("untracked")).unwrap(), "u\n");
}

/// Git compares times in seconds, and looks into a file that changed in the second of the index.
#[test]
fn shows_a_change_in_the_second_of_the_checkout() {
    let sandbox = sandbox();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    let file = dir.join("sub/file");
    loop {
        fs::write(&file, "1\n").unwrap();
        let before = fs::metadata(&file).unwrap().ctime();
        git(&dir, &["update-index", "--refresh"]);
        fs::write(&file, "2\n").unwrap();
        if fs::metadata(&file).unwrap().ctime() == before {
            break;
        }
    }
    // A copy of the index is younger.
    let changed = fs::metadata(&file).unwrap().modified().unwrap();
    while changed.elapsed().unwrap_or_default() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(20));
    }
    let changes = sandbox.run(["diff", "a"]);
    assert_eq!(changes["files"][0]["path"], "sub/file", "{changes:?}");
}

#[test]
fn an_answer_for_an_agent_is_bounded() {
    let sandbox = sandbox();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    for n in 0..100 {
        fs::write(dir.join(format!("file-{n}")), "a \"quoted\" line\n".repeat(20)).unwrap();
    }
    for options in [vec![], vec!["--stat"]] {
        let answer = sandbox.run([&["diff", "a", "--max-chars", "4000"], &options[..]].concat());
        assert!(answer.stdout.chars().count() <= 4_001, "{}", answer.stdout.len());
        assert_eq!(answer["truncated"], true, "{answer:?}");
        let shown = answer["files"].as_array().unwrap().len() as u64;
        assert!(shown > 5, "{answer:?}");
        assert_eq!(answer["omittedFiles"], 100 - shown);
        assert!(answer.text("hint").contains("claudejob diff a --raw"), "{answer:?}");
    }
    let whole = sandbox.run(["diff", "a"]);
    assert_eq!((&whole["truncated"], &whole["hint"]), (&json!(false), &json!(null)));
}

#[test]
fn git_prints_on_a_terminal_with_its_pager() {
    let mut sandbox = sandbox();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    sandbox.set("TERM", "xterm");
    sandbox.set("GIT_PAGER", "echo paged; sed 's/^/paged: /'");
    for options in [vec![], vec!["--stat"]] {
        let call = sandbox.command([&["diff", "a"], &options[..]].concat());
        let (code, screen) = run_on_terminal(call, "");
        assert!(code == 0 && screen == "No changes.\r\n", "{screen:?}");
    }
    change(&tree(&sandbox, "a"));
    let (code, screen) = run_on_terminal(sandbox.command(["diff", "a"]), "");
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("paged: ") && screen.contains("\u{1b}[32m"), "{screen:?}");
    assert!(screen.contains("changed"), "{screen}");
    let (code, screen) = run_on_terminal(sandbox.command(["diff", "a", "--stat"]), "");
    assert!(code == 0 && screen.contains("4 files changed"), "{screen:?}");
}

#[test]
fn a_branch_shows_the_changes_without_its_folder() {
    let sandbox = sandbox();
    let sub = sandbox.work().join("sub");
    let options = ["--worktree", "--cwd", sub.to_str().unwrap()];
    sandbox.run_job("a", &options).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    change(&dir);
    git(&dir, &["add", "sub/file"]);
    git(&dir, &["commit", "--quiet", "--message", "More"]);
    fs::remove_dir_all(&dir).unwrap();
    let answer = sandbox.run(["diff", "a"]);
    assert_eq!(answer["files"][0]["path"], "committed", "{answer:?}");
    assert!(answer["warnings"][0].as_str().unwrap().contains("the worktree is gone"), "{answer:?}");
    // Paths begin in the job's directory, as before.
    let answer = sandbox.run(["diff", "a", "--", "file"]);
    assert_eq!(answer["files"], json!([file("sub/file", 1, 0)]), "{answer:?}");
    git(&sandbox.work(), &["worktree", "prune"]);
    git(&sandbox.work(), &["branch", "-D", "claudejob/a"]);
    assert_refused(&sandbox.run(["diff", "a"]), "no_diff");
}

#[test]
fn a_conflict_does_not_hide_changes() {
    let sandbox = sandbox();
    let work = sandbox.work();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    for (dir, text) in [(&work, "main\n"), (&dir, "job\n")] {
        fs::write(dir.join("sub/file"), text).unwrap();
        git(dir, &["commit", "--quiet", "--all", "--message", "Change"]);
    }
    let merged = std::process::Command::new("git")
        .current_dir(&dir)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.org", "merge", "main"])
        .output()
        .unwrap();
    assert!(!merged.status.success(), "{merged:?}");
    let answer = sandbox.run(["diff", "a"]);
    assert_eq!(answer["files"][0]["path"], "sub/file", "{answer:?}");
    assert!(answer.text("patch").contains("+job"), "{answer:?}");
    assert_eq!(git(&dir, &["status", "--porcelain"]), "UU sub/file");
}

#[test]
fn without_a_worktree_the_start_counts() {
    let sandbox = sandbox();
    let work = sandbox.work();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    git(&work, &["pack-refs", "--all"]);
    sandbox.run_job("packed", &[]).expect_end(0, "completed", None);
    git(&work, &["checkout", "--quiet", "--detach"]);
    sandbox.run_job("detached", &[]).expect_end(0, "completed", None);
    let linked = sandbox.path("linked");
    git(&work, &["worktree", "add", "--quiet", "-b", "l", linked.to_str().unwrap()]);
    let cwd = ["--cwd", linked.to_str().unwrap()];
    sandbox.run_job("linked", &cwd).expect_end(0, "completed", None);
    for (id, dir) in [("a", &work), ("linked", &linked)] {
        change(dir);
        let answer = sandbox.run(["diff", id]);
        assert_eq!(answer["files"].as_array().map(Vec::len), Some(4), "{answer:?}");
        assert!(answer["warnings"][0].as_str().unwrap().contains("no worktree"), "{answer:?}");
    }
    for id in ["packed", "detached"] {
        let answer = sandbox.run(["diff", id, "--stat"]);
        assert_eq!(answer["files"].as_array().map(Vec::len), Some(4), "{answer:?}");
    }
}

#[test]
fn says_why_changes_are_not_known() {
    let sandbox = sandbox();
    let plain = sandbox.path("plain");
    fs::create_dir(&plain).unwrap();
    let cwd = ["--cwd", plain.to_str().unwrap()];
    sandbox.run_job("a", &cwd).expect_end(0, "completed", None);
    let refused = sandbox.run(["diff", "a"]);
    assert_refused(&refused, "no_diff");
    assert!(refused.text("error").contains("had no commit"), "{refused:?}");
    // A start reads no file that blocks.
    let fifo = plain.join(".git");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox.run_job("b", &cwd).expect_end(0, "completed", None);
    let queued = ["--worktree", "--start-delay", "1h"];
    sandbox.start("later", &queued);
    let refused = sandbox.run(["diff", "later"]);
    assert_refused(&refused, "no_diff");
    assert!(refused.text("error").contains("not been made yet"), "{refused:?}");
    assert_eq!(sandbox.run(["kill", "later"]).code, 0);
}
