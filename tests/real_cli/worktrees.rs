//! A job in a worktree of its own: the CLI works, commits and continues its conversation in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::{ScriptedApi, Step};
use crate::support::{Answer, eventually};

#[track_caller]
fn git(dir: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    let mut command = Command::new("git");
    let output = command.current_dir(dir).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The worktree in the answer to a call, once git answers within the time that the call gives it.
#[track_caller]
fn inspected(call: impl Fn() -> Answer) -> Value {
    eventually("git to answer", || {
        let worktree = call()["worktree"].clone();
        worktree["dirty"].is_u64().then_some(worktree)
    })
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
    let worktree = inspected(|| sandbox.wait("j"));
    assert_eq!((&worktree["commits"], &worktree["dirty"]), (&1.into(), &0.into()), "{ended:?}");
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

each_cli!(ten_tasks_of_a_batch_have_ten_branches);
fn ten_tasks_of_a_batch_have_ten_branches(cli: Cli) {
    let sandbox = RealSandbox::new(cli, []);
    let work = sandbox.work();
    git(&work, &["init", "--quiet", "--initial-branch", "main"]);
    git(&work, &["commit", "--quiet", "--allow-empty", "--message", "Begin"]);
    let commit = "git add . && git -c user.name=x -c user.email=x@example.org commit --quiet \
                  --message Work";
    let (mut apis, mut lines) = (Vec::new(), String::new());
    for n in 0..10 {
        let mut steps = vec![Step::Bash(format!("echo {n} > task{n} && {commit}"))];
        if n == 7 {
            // It dies with a change that is not committed, once its conversation is on the disk: this CLI may
            // write it long after it has announced it.
            let dies = "echo half > half; until grep -qs tool_use ~/.claude/projects/*-t7/*.jsonl; do sleep 0.1; done; \
                        kill -9 $PPID";
            steps.insert(0, Step::Bash(dies.to_owned()));
        }
        steps.push(Step::Text(format!("did {n}")));
        let api = ScriptedApi::start(steps);
        let settings = json!({"env": {"ANTHROPIC_BASE_URL": api.url()}});
        let line = json!({"jobId": format!("t{n}"), "prompt": "Work", "settings": settings});
        lines += &format!("{line}\n");
        apis.push(api);
    }
    let options = ["--worktree", "--max-parallel", "3", "--set-label", "run=ten"];
    let call = [&["start", "--from", "-", "--if-absent"], &options[..]].concat();
    let started = sandbox.run_with_stdin(&call, lines.clone());
    assert_eq!((started.code, &started["started"]), (0, &10.into()), "{started:?}");
    let again = sandbox.run_with_stdin(&call, lines);
    assert_eq!((&again["started"], &again["existing"]), (&0.into(), &10.into()), "{again:?}");
    let table = sandbox.run(["wait", "--label", "run=ten", "--plain"]);
    assert_eq!(table.code, 1, "{table:?}");
    assert!(table.stdout.contains("\n10 jobs: 9 completed, 1 failed"), "{table:?}");

    let files = |n: usize| {
        let changes = sandbox.run(["diff", &format!("t{n}")]);
        let files = changes["files"].as_array().unwrap().iter();
        files.map(|file| file["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(files(7), ["half"]);
    assert_eq!(sandbox.status("t7")["reason"], "no_result");
    assert_eq!(inspected(|| sandbox.status("t7"))["dirty"], 1);
    assert_eq!(sandbox.run(["resume", "t7"]).code, 0);
    sandbox.wait("t7").expect_end(0, "completed", None);
    for n in 0..10 {
        let task = format!("task{n}");
        let expected = if n == 7 { vec!["half".to_owned(), task] } else { vec![task] };
        assert_eq!(files(n), expected);
        assert_eq!(git(&work, &["rev-list", "--count", &format!("main..claudejob/t{n}")]), "1");
    }
    let results = sandbox.run(["result", "--label", "run=ten", "--format", "ndjson"]);
    let mut answers: Vec<Value> = Vec::new();
    for line in results.stdout.lines() {
        answers.push(serde_json::from_str::<Value>(line).unwrap()["result"].clone());
    }
    answers.sort_by_key(Value::to_string);
    let expected: Vec<Value> = (0..10).map(|n| format!("did {n}").into()).collect();
    assert_eq!(answers, expected);

    git(&work, &["merge", "--quiet", "--no-edit", "claudejob/t0", "claudejob/t7"]);
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &2.into()), "{cleaned:?}");
    let warning = cleaned["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("8 jobs stay because of their worktrees: "), "{warning}");
    for n in 0..10 {
        let tree = work.join(format!(".claude/worktrees/t{n}"));
        let stays = n != 0 && n != 7;
        assert_eq!((tree.exists(), warning.contains(&format!("t{n}"))), (stays, stays), "{n}");
    }
    let left = git(&work, &["branch", "--format=%(refname:short)", "--list", "claudejob/*"]);
    assert_eq!(left.lines().count(), 8, "{left}");
}
