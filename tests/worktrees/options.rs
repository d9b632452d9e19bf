//! The options, the answers, and what is reused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
#[cfg(target_os = "linux")]
use std::path::Path;

use serde_json::Value;

use crate::support::sandbox::example;
#[cfg(target_os = "linux")]
use crate::support::terminal::Terminal;
use crate::support::{Sandbox, await_file, eventually};
use crate::{WORKS, assert_complete, assert_refused, git, inspected, sandbox, tree};

#[test]
fn a_job_works_in_a_worktree_of_its_own() {
    let mut sandbox = sandbox();
    sandbox.script("env $DIR/env\nread\ninit\nresult ok\neof");
    sandbox.set("GIT_DIR", "/nowhere");
    sandbox.set("GIT_INDEX_FILE", "/nowhere/index");
    let work = sandbox.work();
    fs::write(work.join("sub/file"), "changed\n").unwrap();
    let sub = work.join("sub");
    let started = sandbox.start("a", &["--worktree", "--cwd", sub.to_str().unwrap()]);
    let warnings = started["warnings"].to_string();
    assert!(warnings.contains("1 uncommitted change"), "{warnings}");
    sandbox.wait("a").expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    assert_complete(&dir, "claudejob/a");
    assert_eq!(fs::read_to_string(sub.join("file")).unwrap(), "changed\n");
    let env = fs::read_to_string(sandbox.path("env")).unwrap();
    let env: Value = serde_json::from_str(&env).unwrap();
    assert_eq!(env["PWD"], format!("{}/sub", dir.display()));
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_TERMINAL_PROMPT", "LANGUAGE"] {
        assert!(env[name].is_null(), "{env}");
    }

    let base = git(&work, &["rev-parse", "HEAD"]);
    let worktree = serde_json::json!({
        "path": dir, "branch": "claudejob/a", "base": base, "baseRef": "refs/heads/main",
        "commits": 0, "dirty": 0,
    });
    assert_eq!(inspected(&sandbox, "a"), worktree);
    eventually("git to answer", || {
        let result = sandbox.run(["result", "a"])["worktree"].clone();
        (result == worktree).then_some(())
    });
    fs::write(dir.join("new"), "").unwrap();
    git(&dir, &["add", "new"]);
    git(&dir, &["commit", "--quiet", "--message", "Work"]);
    fs::write(dir.join("untracked"), "").unwrap();
    let worktree = inspected(&sandbox, "a");
    assert_eq!((&worktree["commits"], &worktree["dirty"]), (&1.into(), &1.into()));
    let line = " worktree branch claudejob/a from main, 1 commit, 1 uncommitted change\n";
    eventually(line, || {
        let text = sandbox.run(["status", "a", "-o", "text"]).stdout;
        text.contains(line).then_some(())
    });
    let list = sandbox.run(["list", "--all"]);
    assert_eq!(list.json[0]["branch"], "claudejob/a", "{list:?}");
    let wide = sandbox.run(["list", "--all", "-o", "wide"]).stdout;
    assert!(wide.contains("BRANCH") && wide.contains("claudejob/a"), "{wide}");
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(sandbox.status("a")["worktree"]["commits"], Value::Null);
}

#[test]
fn a_job_without_a_worktree_has_none() {
    let sandbox = sandbox();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["worktree"], Value::Null);
    assert_eq!(sandbox.run(["result", "a"])["worktree"], Value::Null);
    assert!(!sandbox.work().join(".claude").exists());
    assert_eq!(git(&sandbox.work(), &["branch", "--format=%(refname:short)"]), "main");
}

#[test]
fn included_files_are_copied_and_nothing_else() {
    let sandbox = sandbox();
    let work = sandbox.work();
    fs::write(work.join(".worktreeinclude"), "*.secret\n/config/\n!no.secret\nfile\n").unwrap();
    fs::create_dir(work.join("config")).unwrap();
    fs::write(work.join("config/x y"), "2").unwrap();
    fs::write(work.join("run.secret"), "3").unwrap();
    fs::set_permissions(work.join("run.secret"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("run.secret", work.join("link.secret")).unwrap();
    fs::write(work.join("no.secret"), "").unwrap();
    fs::write(work.join("other"), "").unwrap();
    fs::write(work.join("sub/file"), "changed\n").unwrap();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    let dir = tree(&sandbox, "a");
    assert_eq!(fs::read_to_string(dir.join("config/x y")).unwrap(), "2");
    assert_eq!(fs::read_to_string(dir.join("run.secret")).unwrap(), "3");
    let mode = fs::metadata(dir.join("run.secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(fs::read_link(dir.join("link.secret")).unwrap().to_str(), Some("run.secret"));
    assert!(!dir.join("no.secret").exists() && !dir.join("other").exists());
    assert_eq!(fs::read_to_string(dir.join("sub/file")).unwrap(), "1\n");
    // A second worktree does not contain the first.
    sandbox.run_job("b", &["--worktree"]).expect_end(0, "completed", None);
    assert!(!tree(&sandbox, "b").join(".claude").exists());
    let exclude = fs::read_to_string(work.join(".git/info/exclude")).unwrap();
    assert_eq!(exclude.matches("/.claude/worktrees/").count(), 1, "{exclude}");
}

#[test]
fn a_new_directory_of_worktrees_is_ignored() {
    let sandbox = sandbox();
    let work = sandbox.work();
    for id in ["a", "b"] {
        let options = ["--worktree", "--worktree-dir", "all [of] them/x"];
        sandbox.run_job(id, &options).expect_end(0, "completed", None);
    }
    assert_eq!(git(&work, &["status", "--porcelain"]), "");
    let exclude = fs::read_to_string(work.join(".git/info/exclude")).unwrap();
    assert_eq!(exclude.matches("/all \\[of] them/x/").count(), 1, "{exclude}");
    // A directory with other files is not hidden.
    fs::create_dir(work.join("mixed")).unwrap();
    fs::write(work.join("mixed/file"), "").unwrap();
    let options = ["--worktree", "--worktree-dir", "mixed"];
    sandbox.run_job("c", &options).expect_end(0, "completed", None);
    assert_eq!(git(&work, &["status", "--porcelain"]), "?? mixed/");
    for id in ["a", "b", "c"] {
        assert_eq!(sandbox.run(["rm", id])["removed"], 1);
    }
}

#[test]
fn a_link_does_not_lead_copies_out_of_the_worktree() {
    let sandbox = sandbox();
    let work = sandbox.work();
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, work.join("link")).unwrap();
    git(&work, &["add", "link"]);
    git(&work, &["commit", "--quiet", "--message", "Link"]);
    fs::remove_file(work.join("link")).unwrap();
    fs::create_dir(work.join("link")).unwrap();
    fs::write(work.join("link/x.secret"), "").unwrap();
    fs::write(work.join(".worktreeinclude"), "*.secret\n").unwrap();
    sandbox.run_job("a", &["--worktree"]).expect_end(0, "completed", None);
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_setup_runs_once_without_the_workers_files() {
    let sandbox = sandbox();
    sandbox.script("session\nread\ninit\nresult ok\neof");
    let setup = format!(
        "echo said; pwd >> {0}/ran; ls -l /proc/self/fd > {0}/fds; cat > {0}/stdin",
        sandbox.path("").display()
    );
    for (id, options) in [("a", vec!["--worktree"]), ("b", vec![])] {
        let options = [&options[..], &["--setup", &setup]].concat();
        sandbox.run_job(id, &options).expect_end(0, "completed", None);
        let again = sandbox.run(["resume", id, "--message", "more"]);
        assert_eq!(again.code, 0, "{again:?}");
        sandbox.wait(id).expect_end(0, "completed", None);
        let stderr = fs::read_to_string(sandbox.job(id).join("stderr.log")).unwrap();
        assert_eq!(stderr.matches("said").count(), 1, "{stderr}");
        // Claude's stdout is the stream.
        let output = fs::read_to_string(sandbox.job(id).join("output.log")).unwrap();
        assert!(!output.contains("said"), "{output}");
    }
    let ran = fs::read_to_string(sandbox.path("ran")).unwrap();
    let expected = format!("{}\n{}\n", tree(&sandbox, "a").display(), sandbox.work().display());
    assert_eq!(ran, expected);
    assert_eq!(fs::read_to_string(sandbox.path("stdin")).unwrap(), "", "the prompt is claude's");
    let fds = fs::read_to_string(sandbox.path("fds")).unwrap();
    assert!(!fds.contains("/lock") && !fds.contains(" 4 ->"), "{fds}");
}

#[test]
fn a_failed_setup_fails_the_job_with_its_last_line() {
    let mut sandbox = sandbox();
    sandbox.set("CLAUDE_SKILL_RETRIES", "3");
    let setup = "[ -e $FAKE_DIR/ok ] || { echo first >&2; echo; echo 'no such package'; exit 3; }";
    for (id, options) in [("a", vec!["--worktree"]), ("b", vec!["--keep-alive"])] {
        let options = [&options[..], &["--setup", setup]].concat();
        let ended = sandbox.run_job(id, &options);
        ended.expect_end(1, "failed", Some("launch_failed"));
        let error = "the setup command failed (exit code 3): no such package";
        assert_eq!(ended.text("error"), error);
        assert_eq!(sandbox.status(id)["attempt"], 1);
        let hint = sandbox.status(id).text("hint").to_owned();
        assert!(hint.starts_with(&format!("claudejob logs {id} --stderr")), "{hint}");
    }
    // The cause is corrected.
    fs::write(sandbox.path("ok"), "").unwrap();
    assert_eq!(sandbox.run(["resume", "a"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["attempt"], 2);
}

#[test]
fn a_setup_that_deletes_the_directory_is_named() {
    let sandbox = sandbox();
    let ended = sandbox.run_job("a", &["--worktree", "--setup", "rm -r \"$PWD\""]);
    ended.expect_end(1, "failed", Some("launch_failed"));
    let dir = tree(&sandbox, "a");
    assert_eq!(ended.text("error"), format!("the directory {} is missing", dir.display()));
}

#[test]
fn an_exit_status_of_claude_itself_is_no_failed_setup() {
    let sandbox = sandbox();
    sandbox.script("read\ninit\nstderr oops\nexit 113");
    sandbox.run_job("a", &["--worktree"]).expect_end(1, "failed", Some("no_result"));
    sandbox.script("read\nstderr oops\nexit 113");
    sandbox.run_job("b", &[]).expect_end(1, "failed", Some("claude_refused"));
}

#[test]
fn the_preparation_is_no_complaint_of_claude() {
    let sandbox = sandbox();
    let options = ["--worktree", "--setup", "echo error: of the setup", "--retries", "0"];
    sandbox.script("stderr error: unknown option\nexit 1");
    let ended = sandbox.run_job("a", &options);
    ended.expect_end(1, "failed", Some("claude_refused"));
    assert_eq!(ended.text("error"), "error: unknown option");
    sandbox.script("read\ninit\ndie KILL");
    let ended = sandbox.run_job("b", &options);
    ended.expect_end(1, "failed", Some("no_result"));
    assert_eq!(ended.text("error"), "claude was ended by SIGKILL in the middle of its work");
    let events = fs::read_to_string(sandbox.job("b").join("events.ndjson")).unwrap();
    assert!(!events.contains("of the setup") && !events.contains("HEAD is now"), "{events}");
    // Everything is in the log.
    let stderr = fs::read_to_string(sandbox.job("b").join("stderr.log")).unwrap();
    assert!(stderr.contains("HEAD is now") && stderr.contains("of the setup"), "{stderr}");
}

#[test]
fn a_kill_ends_the_setup() {
    let sandbox = sandbox();
    let setup = format!("echo $$ > {}; sleep 1000", sandbox.path("setup").display());
    sandbox.start("a", &["--worktree", "--setup", &setup]);
    await_file(&sandbox.path("setup"));
    let status = sandbox.status("a");
    assert_eq!(status["activity"]["text"], "running the setup command", "{status:?}");
    assert_eq!(sandbox.run(["kill", "a"]).code, 0);
    sandbox.wait("a").expect_end(3, "killed", None);
    sandbox.assert_nothing_left("a");
}

#[test]
fn a_named_worktree_is_used_again() {
    let sandbox = sandbox();
    sandbox.run_job("a", &["--worktree=x", "--setup", "echo said"]);
    let dir = tree(&sandbox, "x");
    assert_complete(&dir, "claudejob/x");
    fs::write(dir.join("kept"), "").unwrap();
    sandbox.script("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("b", &["--worktree=x", "--setup", "echo said"]);
    await_file(&sandbox.path("up"));
    let refused = sandbox.run(["start", "c", "-p", "x", "--worktree=x"]);
    assert_refused(&refused, "worktree_in_use");
    assert!(refused.text("error").contains("job b works"), "{refused:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("b").expect_end(0, "completed", None);
    assert!(dir.join("kept").exists());
    let stderr = fs::read_to_string(sandbox.job("b").join("stderr.log")).unwrap_or_default();
    assert!(!stderr.contains("said"), "{stderr}");
    git(&dir, &["checkout", "--quiet", "-b", "other"]);
    let refused = sandbox.run(["start", "c", "-p", "x", "--worktree=x"]);
    assert_refused(&refused, "worktree_exists");
    let refused = sandbox.run(["start", "c", "-p", "x", "--worktree=../x"]);
    assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
}

#[test]
fn jobs_follow_each_other_in_a_named_worktree() {
    let sandbox = sandbox();
    sandbox.script("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("a", &["--worktree=x"]);
    let refused = sandbox.run(["start", "b", "-p", "x", "--worktree=x"]);
    assert_refused(&refused, "worktree_in_use");
    sandbox.start("b", &["--worktree=x", "--after", "a"]);
    sandbox.start("third", &["--worktree=x", "--after", "b"]);
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("third").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "x"), "claudejob/x");

    // The second of two jobs whose worktree was not there at their start.
    sandbox.script("read\ninit\nwait-file $DIR/gate\nresult ok\neof");
    sandbox.start("gate", &[]);
    sandbox.start("c", &["--worktree=y", "--after", "gate", "--setup", "touch kept"]);
    let refused = sandbox.run(["start", "d", "-p", "x", "--worktree=y"]);
    assert_refused(&refused, "worktree_in_use");
    sandbox.start("d", &["--worktree=y", "--after", "c"]);
    fs::write(sandbox.path("gate"), "").unwrap();
    sandbox.wait("d").expect_end(0, "completed", None);
    assert!(tree(&sandbox, "y").join("kept").exists());
}

#[test]
fn a_job_begins_while_its_follower_is_created() {
    let mut sandbox = sandbox();
    sandbox.script("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("a", &["--worktree=x"]);
    sandbox.start("b", &["--worktree=x", "--after", "a"]);
    let args = ["start", "third", "-p", "x", "--worktree=x", "--after", "b"];
    sandbox.pause_at("start:published", args, |sandbox| {
        fs::write(sandbox.path("go"), "").unwrap();
        sandbox.wait("b").expect_end(0, "completed", None);
    });
    sandbox.wait("third").expect_end(0, "completed", None);
}

#[test]
fn a_follower_starts_while_the_worktree_is_made() {
    let mut sandbox = sandbox();
    let args = ["start", "a", "-p", "x", "--worktree=x"];
    sandbox.pause_at("prepare:adding", args, |sandbox| {
        // As git leaves it for a moment: a folder with files and a branch, which are not yet in
        // its list of worktrees.
        let dir = tree(sandbox, "x");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("part"), "").unwrap();
        git(&sandbox.work(), &["branch", "claudejob/x"]);
        let refused = sandbox.run(["start", "b", "-p", "x", "--worktree=x"]);
        assert_refused(&refused, "worktree_in_use");
        sandbox.start("b", &["--worktree=x", "--after", "a"]);
        fs::remove_dir_all(&dir).unwrap();
    });
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "x"), "claudejob/x");
}

#[test]
fn a_rerun_has_a_worktree_of_its_own() {
    let sandbox = sandbox();
    let sub = sandbox.work().join("sub");
    sandbox.run_job("a", &["--worktree", "--setup", "echo said", "-C", sub.to_str().unwrap()]);
    assert_eq!(sandbox.run(["rerun", "a", "--name", "b"]).code, 0);
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_complete(&tree(&sandbox, "b"), "claudejob/b");
    let status = sandbox.status("b");
    assert_eq!(status["cwd"], tree(&sandbox, "b").join("sub").to_str().unwrap());
    let stderr = fs::read_to_string(sandbox.job("b").join("stderr.log")).unwrap();
    assert!(stderr.contains("said"));
}

#[test]
fn a_queued_job_has_no_worktree_yet() {
    let sandbox = sandbox();
    sandbox.start("a", &["--worktree", "--start-delay", "1h"]);
    let status = sandbox.status("a");
    assert_eq!(status["worktree"]["branch"], "claudejob/a");
    assert_eq!(status["worktree"]["dirty"], Value::Null);
    assert!(!sandbox.work().join(".claude").exists());
    // Its names are not taken by the record alone.
    sandbox.run(["kill", "a"]);
    assert_eq!(git(&sandbox.work(), &["branch", "--format=%(refname:short)"]), "main");
}

#[test]
fn a_deleted_folder_is_made_again_from_its_branch() {
    let sandbox = sandbox();
    sandbox.script("session\nread\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--worktree", "--setup", "echo said"]);
    let dir = tree(&sandbox, "a");
    fs::write(dir.join("new"), "").unwrap();
    git(&dir, &["add", "new"]);
    git(&dir, &["commit", "--quiet", "--message", "Work"]);
    let commit = git(&dir, &["rev-parse", "HEAD"]);
    fs::remove_dir_all(&dir).unwrap();
    let resume = ["resume", "a", "--message", "more"];
    assert_eq!(sandbox.run(resume).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_complete(&dir, "claudejob/a");
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), commit);
    let stderr = fs::read_to_string(sandbox.job("a").join("stderr.log")).unwrap();
    assert_eq!(stderr.matches("said").count(), 2, "{stderr}");

    fs::remove_dir_all(&dir).unwrap();
    git(&sandbox.work(), &["worktree", "prune"]);
    git(&sandbox.work(), &["branch", "--quiet", "-D", "claudejob/a"]);
    assert_eq!(sandbox.run(resume).code, 0);
    let ended = sandbox.wait("a");
    ended.expect_end(1, "failed", Some("launch_failed"));
    assert!(ended.text("error").contains("is gone, and so is its branch claudejob/a"), "{ended:?}");
    assert!(!dir.exists());
}

#[test]
#[cfg(target_os = "linux")]
fn recover_and_open_make_a_deleted_folder_again() {
    let sandbox = sandbox();
    sandbox.script("session\nread\ninit\nhang");
    let dir = tree(&sandbox, "a");
    sandbox.start("a", &["--worktree", "--setup", "echo said"]);
    // From its first event.
    eventually("claude", || sandbox.status("a")["model"].as_str().map(drop));
    crate::support::processes::kill(sandbox.status("a")["pid"].as_i64().unwrap() as i32);
    sandbox.wait("a").expect_end(1, "failed", Some("worker_died"));
    fs::remove_dir_all(&dir).unwrap();
    sandbox.script("session\nread\ninit\nresult ok\neof");
    assert_eq!(sandbox.run(["recover", "a"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_complete(&dir, "claudejob/a");

    fs::remove_dir_all(sandbox.work().join(".claude")).unwrap();
    sandbox.script("print opened\nsh pwd > $FAKE_DIR/opened-in");
    let terminal = Terminal::start(sandbox.command(["open", "a"]));
    terminal.await_text("opened");
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    let opened_in = fs::read_to_string(sandbox.path("opened-in")).unwrap();
    assert_eq!(Path::new(opened_in.trim()), dir);
    assert_complete(&dir, "claudejob/a");
    assert!(output.contains("Preparing worktree") && output.contains("said"), "{output}");

    // It cannot be made again.
    git(&sandbox.work(), &["worktree", "remove", dir.to_str().unwrap()]);
    git(&sandbox.work(), &["branch", "--quiet", "-D", "claudejob/a"]);
    let (code, output) = Terminal::start(sandbox.command(["open", "a"])).finish();
    let words: Vec<&str> = output.split_whitespace().collect();
    let output = words.join(" ");
    assert!(code == 1 && output.contains("so is its branch claudejob/a hint: "), "{output}");
}

#[test]
fn a_retry_reuses_the_worktree() {
    let mut sandbox = sandbox();
    sandbox.set("CLAUDE_SKILL_RETRIES", "1");
    sandbox.script("read\ninit\nonce $DIR/first die KILL\nresult ok\neof");
    let options = ["--worktree", "--setup", "echo said; touch kept", "--max-backoff", "0"];
    sandbox.run_job("a", &options).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["attempt"], 2);
    assert_eq!(inspected(&sandbox, "a")["dirty"], 1);
    let stderr = fs::read_to_string(sandbox.job("a").join("stderr.log")).unwrap();
    assert_eq!(stderr.matches("said").count(), 1, "{stderr}");
}

#[test]
fn the_configuration_file_sets_the_options() {
    let mut sandbox = sandbox();
    let config = sandbox.path("home/.config/claudejob");
    fs::create_dir_all(&config).unwrap();
    let dir = sandbox.path("trees");
    let text = format!(
        "worktree = true\nworktree-dir = '{}'\nworktree-base = 'main'\nsetup = 'echo said'\n",
        dir.display()
    );
    fs::write(config.join("config.toml"), text).unwrap();
    sandbox.unset("XDG_CONFIG_HOME");
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_complete(&dir.join("a"), "claudejob/a");
    let stderr = fs::read_to_string(sandbox.job("a").join("stderr.log")).unwrap();
    assert!(stderr.contains("said"), "{stderr}");
    let exclude = fs::read_to_string(sandbox.work().join(".git/info/exclude")).unwrap_or_default();
    assert!(!exclude.contains("worktrees"), "{exclude}");
    fs::write(config.join("config.toml"), "worktree = false\n").unwrap();
    sandbox.run_job("b", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("b")["worktree"], Value::Null);
}

#[test]
fn a_claude_that_is_gone_is_named() {
    let sandbox = Sandbox::new(WORKS);
    let claude = sandbox.path("claude");
    symlink(example("fake-claude"), &claude).unwrap();
    let gone = format!("rm {}", claude.display());
    let options = ["--claude", claude.to_str().unwrap(), "--setup", &gone];
    let ended = sandbox.run_job("a", &options);
    ended.expect_end(1, "failed", Some("launch_failed"));
    assert!(ended.text("error").contains("claude could not be started"), "{ended:?}");
}
