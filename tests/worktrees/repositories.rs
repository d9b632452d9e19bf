//! Repositories of every kind: each works or is refused by name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use crate::support::{Sandbox, install};
use crate::{WORKS, assert_complete, assert_refused, git, inspected, repository, sandbox, tree};

#[track_caller]
fn refuse(sandbox: &Sandbox, dir: &Path, options: &[&str], code: &str) {
    let dir = dir.to_str().unwrap();
    let args = [&["start", "a", "-p", "x", "--worktree", "-C", dir], options].concat();
    assert_refused(&sandbox.run(&args), code);
    // Nothing was written.
    assert!(!sandbox.job("a").exists());
}

#[test]
fn refuses_by_name_what_cannot_work() {
    let sandbox = sandbox();
    let work = sandbox.work();
    refuse(&sandbox, &sandbox.path("home"), &[], "not_a_repository");
    refuse(&sandbox, &work.join(".git"), &[], "not_a_repository");
    refuse(&sandbox, &work, &["--worktree-base", "nowhere"], "unknown_base");
    refuse(&sandbox, &work, &["--worktree-base=-x"], "unknown_base");
    let bare = sandbox.path("bare");
    git(&work, &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    refuse(&sandbox, &bare, &[], "bare_repository");
    let empty = sandbox.path("empty");
    fs::create_dir(&empty).unwrap();
    git(&empty, &["init", "--quiet"]);
    refuse(&sandbox, &empty, &[], "no_commit");
    fs::create_dir(work.join("untracked")).unwrap();
    refuse(&sandbox, &work.join("untracked"), &[], "folder_not_in_base");
    git(&work, &["branch", "claudejob/a"]);
    refuse(&sandbox, &work, &[], "branch_exists");
    git(&work, &["branch", "-D", "claudejob/a"]);
    fs::create_dir_all(tree(&sandbox, "a")).unwrap();
    fs::write(tree(&sandbox, "a").join("x"), "").unwrap();
    refuse(&sandbox, &work, &[], "worktree_exists");
    fs::remove_file(tree(&sandbox, "a").join("x")).unwrap();
    let line_break = sandbox.path("line\nbreak");
    repository(&line_break, &[]);
    refuse(&sandbox, &line_break, &[], "bad_worktree_path");
    // An empty folder is no obstruction.
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
}

#[test]
fn refuses_a_git_that_is_missing_or_too_old() {
    let mut sandbox = sandbox();
    let programs = sandbox.path("programs");
    fs::create_dir(&programs).unwrap();
    sandbox.set("PATH", &programs);
    let work = sandbox.work();
    refuse(&sandbox, &work, &[], "git_not_found");
    install(&programs.join("git"), b"#!/bin/sh\necho git version 2.7.4\n");
    refuse(&sandbox, &work, &[], "bad_worktree_path");
    install(
        &programs.join("git"),
        b"#!/bin/sh\ncase \"$*\" in *--version) echo git version 2.7.4;; *) exit 128;; esac\n",
    );
    refuse(&sandbox, &work, &[], "git_too_old");
    assert!(sandbox.run(["start", "b", "-p", "x", "--worktree"]).text("error").contains("2.34"));
}

#[test]
fn ids_become_valid_names_of_branches() {
    let sandbox = sandbox();
    for (id, branch) in [("a..b", "claudejob/a.b-91beab8e"), ("x.lock", "claudejob/x-")] {
        sandbox.run_job(id, &["--worktree"]).expect_end(0, "completed", None);
        let found = sandbox.status(id)["worktree"]["branch"].as_str().unwrap().to_owned();
        assert!(found.starts_with(branch), "{found}");
        assert_complete(&tree(&sandbox, id), &found);
    }
}

#[test]
fn a_branch_named_claudejob_changes_the_names() {
    let sandbox = sandbox();
    git(&sandbox.work(), &["branch", "claudejob"]);
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "a"), "claudejob-a");
}

#[test]
fn a_bare_repository_needs_a_place() {
    let sandbox = sandbox();
    let bare = sandbox.path("bare.git");
    git(&sandbox.work(), &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let (bare, trees) = (bare.to_str().unwrap(), sandbox.path("trees"));
    let trees = trees.to_str().unwrap();
    let options = ["--worktree", "-C", bare, "--worktree-dir", trees];
    sandbox.run_job("a", &options).expect_end(0, "completed", None);
    assert_complete(&sandbox.path("trees/a"), "claudejob/a");
    // Also from a worktree of it.
    let linked = sandbox.path("trees/a/sub");
    let linked = linked.to_str().unwrap();
    let refused = sandbox.run(["start", "b", "-p", "x", "--worktree", "-C", linked]);
    assert_refused(&refused, "bare_repository");
    let options = ["--worktree", "-C", linked, "--worktree-dir", trees];
    sandbox.run_job("b", &options).expect_end(0, "completed", None);
    assert_complete(&sandbox.path("trees/b"), "claudejob/b");
}

#[test]
fn a_linked_worktree_leads_to_the_main_one() {
    let sandbox = sandbox();
    let linked = sandbox.path("linked");
    git(&sandbox.work(), &["worktree", "add", "--quiet", "-b", "l", linked.to_str().unwrap()]);
    fs::write(linked.join("new"), "").unwrap();
    git(&linked, &["add", "new"]);
    git(&linked, &["commit", "--quiet", "--message", "Linked"]);
    let options = ["--worktree", "-C", linked.to_str().unwrap()];
    sandbox.run_job("a", &options).expect_end(0, "completed", None);
    // Its branch begins where the caller is.
    assert!(tree(&sandbox, "a").join("new").exists());
    let status = sandbox.status("a");
    assert_eq!(status["worktree"]["baseRef"], "refs/heads/l");
    // A job in the worktree of a job.
    let inner = tree(&sandbox, "a");
    sandbox.run_job("b", &["--worktree", "-C", inner.to_str().unwrap()]);
    assert_complete(&tree(&sandbox, "b"), "claudejob/b");
}

#[test]
fn a_detached_head_and_other_bases_work() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let first = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["tag", "v1"]);
    fs::write(work.join("second"), "").unwrap();
    git(&work, &["add", "second"]);
    git(&work, &["commit", "--quiet", "--message", "Second"]);
    for (id, base, name) in [
        ("a", "v1", Some("refs/tags/v1")),
        ("b", &first[..10], None),
        ("c", "main~1", None),
        ("d", "main^{tree}", None),
    ] {
        let args = ["start", id, "-p", "x", "--worktree", "--worktree-base", base];
        let started = sandbox.run(args);
        if id == "d" {
            assert_refused(&started, "unknown_base");
            continue;
        }
        sandbox.wait(id).expect_end(0, "completed", None);
        let status = sandbox.status(id);
        assert_eq!(status["worktree"]["base"], first.as_str(), "{base}");
        assert_eq!(status["worktree"]["baseRef"].as_str(), name, "{base}");
    }
    git(&work, &["checkout", "--quiet", "--detach", "v1"]);
    sandbox.run_job("e", &["--worktree"]).expect_end(0, "completed", None);
    let status = sandbox.status("e");
    assert_eq!(status["worktree"]["base"], first.as_str());
    assert!(status["worktree"]["baseRef"].is_null());
}

#[test]
fn submodules_are_empty_and_their_own_worktrees_work() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let library = sandbox.path("library");
    repository(&library, &[]);
    let allow = ["-c", "protocol.file.allow=always"];
    let add = ["submodule", "--quiet", "add", library.to_str().unwrap(), "lib"];
    git(&work, &[&allow[..], &add].concat());
    git(&work, &["commit", "--quiet", "--message", "Module"]);
    let setup = "git -c protocol.file.allow=always submodule --quiet update --init";
    let started = sandbox.start("a", &["--worktree", "--setup", setup]);
    let warnings = started["warnings"].to_string();
    assert!(warnings.contains("--setup 'git submodule update --init'"), "{warnings}");
    sandbox.wait("a").expect_end(0, "completed", None);
    assert!(tree(&sandbox, "a").join("lib/sub/file").exists());

    let lib = work.join("lib");
    let options = ["--worktree", "-C", lib.to_str().unwrap()];
    sandbox.run_job("b", &options).expect_end(0, "completed", None);
    let dir = lib.join(".claude/worktrees/b");
    assert_complete(&dir, "claudejob/b");
    assert_eq!(git(&lib, &["status", "--porcelain"]), "");
}

#[test]
fn shallow_sha256_and_linked_paths_work() {
    let sandbox = sandbox();
    let shallow = sandbox.path("shallow");
    let url = format!("file://{}", sandbox.work().display());
    git(&sandbox.work(), &["clone", "--quiet", "--depth", "1", &url, shallow.to_str().unwrap()]);
    let sha256 = sandbox.path("sha256");
    repository(&sha256, &["--object-format", "sha256"]);
    let link = sandbox.path("link");
    symlink(&sha256, &link).unwrap();
    for (id, dir) in [("a", &shallow), ("b", &sha256), ("c", &link)] {
        let options = ["--worktree", "-C", dir.to_str().unwrap()];
        sandbox.run_job(id, &options).expect_end(0, "completed", None);
        let path = dir.canonicalize().unwrap().join(".claude/worktrees").join(id);
        assert_complete(&path, &format!("claudejob/{id}"));
        assert_eq!(inspected(&sandbox, id)["commits"], 0);
    }
}

#[test]
fn ten_jobs_at_once_have_ten_worktrees() {
    let sandbox = sandbox();
    let ids: Vec<String> = (0..10).map(|n| format!("j{n}")).collect();
    thread::scope(|scope| {
        for id in &ids {
            let sandbox = &sandbox;
            scope.spawn(move || {
                sandbox.run_job(id, &["--worktree"]).expect_end(0, "completed", None);
            });
        }
    });
    for id in &ids {
        assert_complete(&tree(&sandbox, id), &format!("claudejob/{id}"));
    }
    let exclude = fs::read_to_string(sandbox.work().join(".git/info/exclude")).unwrap();
    assert_eq!(exclude.matches("worktrees").count(), 1, "{exclude}");
}

#[test]
fn a_locked_ref_is_awaited() {
    let sandbox = sandbox();
    let locks = sandbox.work().join(".git/refs/heads/claudejob");
    fs::create_dir_all(&locks).unwrap();
    fs::write(locks.join("a.lock"), "").unwrap();
    sandbox.start("a", &["--worktree"]);
    let log = sandbox.job("a").join("stderr.log");
    crate::support::eventually("the first try", || {
        fs::read_to_string(&log).ok()?.contains("File exists").then_some(())
    });
    let status = sandbox.status("a");
    assert_eq!(status["activity"]["text"], "preparing the worktree");
    fs::remove_file(locks.join("a.lock")).unwrap();
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "a"), "claudejob/a");
}

#[test]
fn a_job_of_a_git_hook_works_in_its_worktree() {
    let sandbox = Sandbox::new(WORKS);
    let work = sandbox.work();
    repository(&work, &[]);
    let program = env!("CARGO_BIN_EXE_claudejob");
    let hook = format!("#!/bin/sh\nexec {program} start a -p x --worktree\n");
    install(&work.join(".git/hooks/post-commit"), hook.as_bytes());
    fs::write(work.join("new"), "").unwrap();
    let mut add = sandbox.command(["--version"]);
    let variables: Vec<_> =
        add.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap_or_default().to_owned())).collect();
    add.arg("");
    for args in [&["add", "new"][..], &["commit", "--quiet", "-m", "Hook"]] {
        let mut command = std::process::Command::new("git");
        command.env_clear().envs(variables.clone()).current_dir(&work);
        command.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "a"), "claudejob/a");
    assert!(tree(&sandbox, "a").join("new").exists());
    assert_eq!(git(&work, &["status", "--porcelain"]), "");
}
