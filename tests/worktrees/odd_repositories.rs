//! Repositories with an odd configuration, or that are damaged.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Sandbox, install};
use crate::{assert_complete, assert_refused, git, inspected, sandbox, tree};

/// Writes the configuration of the sandbox's user.
fn configure(sandbox: &mut Sandbox, text: &str) {
    let file = sandbox.path("gitconfig");
    fs::write(&file, text).unwrap();
    sandbox.set("GIT_CONFIG_GLOBAL", file);
}

/// Runs a job in a worktree, which is complete, and removes both.
#[track_caller]
fn works(sandbox: &Sandbox, id: &str, dir: &Path) {
    let options = ["--worktree", "-C", dir.to_str().unwrap()];
    sandbox.run_job(id, &options).expect_end(0, "completed", None);
    let path = dir.join(".claude/worktrees").join(id);
    assert_complete(&path, &format!("claudejob/{id}"));
    assert_eq!(inspected(sandbox, id)["dirty"], 0, "git answers there");
    let removed = sandbox.run(["rm", id]);
    assert_eq!((removed.code, &removed["removed"]), (0, &1.into()), "{removed:?}");
    assert!(!path.exists());
}

/// Asserts that the preparation fails with this error, and that the job can be removed.
#[track_caller]
fn fails(sandbox: &Sandbox, id: &str, error: &str) {
    let ended = sandbox.run_job(id, &["--worktree"]);
    ended.expect_end(1, "failed", Some("launch_failed"));
    assert!(ended.text("error").contains(error), "{ended:?}");
    let removed = sandbox.run(["rm", id]);
    assert_eq!((removed.code, &removed["removed"]), (0, &1.into()), "{removed:?}");
    assert_eq!(git(&sandbox.work(), &["branch", "--format=%(refname:short)"]), "main");
}

/// Whether git is older than version 2.`minor`.
fn is_git_older(minor: u32) -> bool {
    let text = git(Path::new("/"), &["--version"]);
    let version = text.split_whitespace().nth(2).unwrap();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap());
    (parts.next().unwrap(), parts.next().unwrap()) < (2, minor)
}

#[test]
fn a_repository_of_another_user_must_be_allowed() {
    if is_git_older(36) {
        // Such a git may not check the owner.
        return;
    }
    let mut sandbox = sandbox();
    let work = sandbox.work();
    sandbox.set("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    configure(&mut sandbox, "");
    let refused = sandbox.run(["start", "a", "-p", "x", "--worktree"]);
    assert_refused(&refused, "unsafe_repository");
    let allow = format!("git config --global --add safe.directory {}", work.display());
    assert!(refused.text("hint").starts_with(&allow), "{refused:?}");
    assert!(!sandbox.job("a").exists());
    // Here, the worktree belongs to another user, too; its git directory is not named.
    let text = format!("[safe]\ndirectory={}\n", work.display());
    let own = format!("directory={}\n", tree(&sandbox, "a").display());
    configure(&mut sandbox, &(text + &own));
    works(&sandbox, "a", &work);
}

#[test]
fn a_git_that_refuses_bare_repositories_works() {
    let mut sandbox = sandbox();
    configure(&mut sandbox, "[safe]\nbareRepository=explicit\n");
    works(&sandbox, "a", &sandbox.work());
}

#[test]
fn a_configured_working_tree_works() {
    let sandbox = sandbox();
    let work = sandbox.work();
    git(&work, &["config", "core.worktree", work.to_str().unwrap()]);
    works(&sandbox, "a", &work);
    // The git directory is elsewhere, and each working tree has a configuration of its own.
    let separate = sandbox.path("separate");
    let option = format!("--separate-git-dir={}", sandbox.path("git").display());
    crate::repository(&separate, &[&option]);
    git(&separate, &["config", "extensions.worktreeConfig", "true"]);
    git(&separate, &["config", "--worktree", "core.bare", "false"]);
    works(&sandbox, "b", &separate);
}

#[test]
fn refs_in_a_table_work() {
    let sandbox = sandbox();
    let dir = sandbox.path("table");
    let mut init = std::process::Command::new("git");
    init.args(["init", "--quiet", "--ref-format=reftable"]).arg(&dir);
    if !init.status().unwrap().success() {
        // Git 2.45 was the first to know them.
        return;
    }
    crate::repository(&dir, &[]);
    git(&dir, &["checkout", "--quiet", "-B", "main"]);
    works(&sandbox, "a", &dir);
    sandbox.run_job("b", &["-C", dir.to_str().unwrap()]).expect_end(0, "completed", None);
    fs::write(dir.join("new"), "").unwrap();
    let changes = sandbox.run(["diff", "b"]);
    assert_eq!(changes["files"][0]["path"], "new", "{changes:?}");
}

#[test]
fn a_sparse_checkout_stays_sparse() {
    let sandbox = sandbox();
    let work = sandbox.work();
    fs::create_dir(work.join("large")).unwrap();
    fs::write(work.join("large/file"), "").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "Large"]);
    git(&work, &["sparse-checkout", "set", "sub"]);
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    // Before version 2.36, git checks out all files.
    assert_eq!(tree(&sandbox, "a").join("large").exists(), is_git_older(36));
    assert_eq!(sandbox.run(["rm", "a"])["removed"], 1);
}

#[test]
fn the_output_of_a_failed_hook_or_filter_is_the_error() {
    let mut sandbox = sandbox();
    let work = sandbox.work();
    let hooks = sandbox.path("hooks");
    fs::create_dir(&hooks).unwrap();
    install(&hooks.join("post-checkout"), b"#!/bin/sh\necho not here; exit 1\n");
    git(&work, &["config", "core.hooksPath", hooks.to_str().unwrap()]);
    fails(&sandbox, "a", "git could not make the worktree: not here");
    install(&hooks.join("post-checkout"), b"#!/bin/sh\nexit 1\n");
    fails(&sandbox, "silent", "without a message: perhaps a hook failed");
    git(&work, &["config", "--unset", "core.hooksPath"]);
    fs::write(work.join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
    fs::write(work.join("a.bin"), "").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "Large"]);
    let filter = "[filter \"lfs\"]\nprocess=missing-lfs filter-process\nrequired=true\n";
    configure(&mut sandbox, filter);
    fails(&sandbox, "b", "missing-lfs filter-process");
}

#[test]
fn a_repository_without_its_usual_files_works() {
    let sandbox = sandbox();
    let info = sandbox.work().join(".git/info");
    fs::remove_dir_all(&info).unwrap();
    works(&sandbox, "a", &sandbox.work());
    assert_eq!(fs::read_to_string(info.join("exclude")).unwrap(), "/.claude/worktrees/\n");
    fs::remove_dir_all(&info).unwrap();
    fs::write(&info, "").unwrap();
    fails(&sandbox, "b", "could not write info/exclude in ");
}

#[test]
fn a_repository_that_cannot_be_written_is_named() {
    if nix::unistd::geteuid().is_root() {
        // Permissions do not bind root.
        return;
    }
    let sandbox = sandbox();
    let git_dir = sandbox.work().join(".git");
    let set_mode = |mode| {
        for dir in [&git_dir, &git_dir.join("info/exclude")] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o500);
    let ended = sandbox.run_job("a", &["--worktree"]);
    set_mode(0o700);
    ended.expect_end(1, "failed", Some("launch_failed"));
    assert!(ended.text("error").contains("could not write info/exclude in "), "{ended:?}");
}

#[test]
fn names_that_are_not_utf8_are_refused_or_checked_out() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let odd = OsStr::from_bytes(b"n\xff \n");
    fs::create_dir(work.join(odd)).unwrap();
    fs::write(work.join(odd).join("x"), "").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "Odd"]);
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    assert!(tree(&sandbox, "a").join(odd).join("x").exists());
    let mut start = sandbox.command(["start", "b", "-p", "x", "--worktree"]);
    let output = start.current_dir(work.join(odd)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"bad_cwd\"") && !sandbox.job("b").exists(), "{said}");
    let spaces = sandbox.path("a \"\u{e4}\\ [b] $c");
    crate::repository(&spaces, &[]);
    works(&sandbox, "c", &spaces);
}
