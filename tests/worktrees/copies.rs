//! Files of `.worktreeinclude` that git does not ignore: an unchanged copy is no work of the job.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::removal::{assert_removed, assert_stays};
use crate::support::Sandbox;
use crate::{git, inspected, sandbox, tree};

/// Runs a job whose worktree has copies of `config/x y` and `config/link`.
#[track_caller]
fn finished() -> Sandbox {
    let sandbox = sandbox();
    let work = sandbox.work();
    fs::write(work.join(".worktreeinclude"), "/config/\n*.secret\n").unwrap();
    fs::create_dir(work.join("config")).unwrap();
    fs::write(work.join("config/x y"), "2").unwrap();
    fs::write(work.join("run.secret"), "ignored").unwrap();
    symlink("x y", work.join("config/link")).unwrap();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    assert!(tree(&sandbox, "a").join("config/x y").exists());
    sandbox
}

#[track_caller]
fn assert_changes(sandbox: &Sandbox, paths: &[&str]) {
    assert_eq!(inspected(sandbox, "a")["dirty"], paths.len());
    let answer = sandbox.run(["diff", "a"]);
    let files = answer["files"].as_array().unwrap().iter();
    let found: Vec<_> = files.map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(found, paths, "{answer:?}");
    if !paths.is_empty() {
        let answer = sandbox.run(["rm", "a"]);
        assert_stays(sandbox, &answer, &format!("{} uncommitted change", paths.len()));
    }
}

#[test]
fn an_unchanged_copy_is_no_work() {
    let sandbox = finished();
    let dir = tree(&sandbox, "a");
    assert_changes(&sandbox, &[]);
    let copy = dir.join("config/x y");
    fs::write(&copy, "3").unwrap();
    assert_changes(&sandbox, &["config/x y"]);
    fs::write(&copy, "2").unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    assert_changes(&sandbox, &["config/x y"]);
    let source = fs::metadata(sandbox.work().join("config/x y")).unwrap();
    fs::set_permissions(&copy, source.permissions()).unwrap();
    fs::remove_file(dir.join("config/link")).unwrap();
    symlink("x", dir.join("config/link")).unwrap();
    assert_changes(&sandbox, &["config/link"]);
    fs::remove_file(dir.join("config/link")).unwrap();
    fs::write(dir.join("config/new"), "").unwrap();
    assert_changes(&sandbox, &["config/new"]);
    fs::remove_file(dir.join("config/new")).unwrap();
    // The job adds it to a commit.
    git(&dir, &["add", "config/x y"]);
    assert_changes(&sandbox, &["config/x y"]);
    git(&dir, &["reset", "--quiet"]);
    assert_changes(&sandbox, &[]);
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));
    assert_eq!(fs::read_to_string(sandbox.work().join("config/x y")).unwrap(), "2");
}

#[test]
fn a_copy_whose_source_changed_is_work() {
    let sandbox = finished();
    let source = sandbox.work().join("config/x y");
    fs::write(&source, "new").unwrap();
    assert_changes(&sandbox, &["config/x y"]);
    fs::remove_file(&source).unwrap();
    assert_changes(&sandbox, &["config/x y"]);
    fs::write(&source, "2").unwrap();
    fs::remove_file(sandbox.work().join(".worktreeinclude")).unwrap();
    assert_changes(&sandbox, &["config/link", "config/x y"]);
}

#[test]
fn a_cut_off_removal_of_copies_loses_nothing() {
    let mut sandbox = finished();
    sandbox.break_at("clean:copies-removed", ["rm", "a"]);
    assert!(!tree(&sandbox, "a").join("config/x y").exists());
    assert_removed(&sandbox, &sandbox.run(["rm", "a"]));

    // New work stops the removal, and the copies are there again.
    let mut sandbox = finished();
    let dir = tree(&sandbox, "a");
    let answer = sandbox.pause_at("clean:copies-removed", ["rm", "a"], |_| {
        fs::write(dir.join("new"), "").unwrap();
    });
    assert_stays(&sandbox, &answer, "git could not remove its worktree");
    assert_eq!(fs::read_to_string(dir.join("config/x y")).unwrap(), "2");
    fs::remove_file(dir.join("new")).unwrap();
    // A copy that changes after the check is not deleted.
    let answer = sandbox.pause_at("clean:marked", ["rm", "a"], |_| {
        fs::write(dir.join("config/x y"), "late").unwrap();
    });
    assert_stays(&sandbox, &answer, "git could not remove its worktree");
    assert_eq!(fs::read_to_string(dir.join("config/x y")).unwrap(), "late");
}
