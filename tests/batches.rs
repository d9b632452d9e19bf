//! `start --from`: many jobs by one call.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Answer, Sandbox};

const QUICK: &str = "read\ninit\nresult ok\neof";

/// Writes the lines into a file of the sandbox and returns its path.
fn file(sandbox: &Sandbox, lines: &str) -> String {
    let path = sandbox.path("batch.ndjson");
    fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts the jobs of these lines.
#[track_caller]
fn start(sandbox: &Sandbox, lines: &str, options: &[&str]) -> Answer {
    let file = file(sandbox, lines);
    sandbox.run([&["start", "--from", &file], options].concat())
}

#[track_caller]
fn started(sandbox: &Sandbox, lines: &str, options: &[&str]) -> Answer {
    let answer = start(sandbox, lines, options);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn record(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.job(id).join("meta.json")).unwrap()).unwrap()
}

/// The request of a job, from its record.
fn spec(sandbox: &Sandbox, id: &str) -> Value {
    record(sandbox, id)["spec"].take()
}

fn prompt(sandbox: &Sandbox, id: &str) -> String {
    fs::read_to_string(sandbox.job(id).join("prompt.txt")).unwrap()
}

#[test]
fn each_line_is_a_job_with_its_options() {
    let sandbox = Sandbox::new(QUICK);
    fs::create_dir(sandbox.work().join("sub")).unwrap();
    fs::write(sandbox.work().join("task.md"), "From a file").unwrap();
    let lines = "\u{feff}{\"jobId\":\"a\",\"prompt\":\"One\",\"cwd\":\"sub\",\"model\":\"opus\",\
        \"label\":{\"x\":\"1\"},\"allowedTools\":[\"Read\",\"Edit\"]}\r\n\r\n  \n\
        {\"jobId\":\"b\",\"promptFile\":\"task.md\",\"maxTurns\":7,\"model\":null}\n\
        {\"jobId\":\"c\",\"prompt\":\"--help -\\u00e4\",\"after\":\"a\",\"ask\":true}";
    let answer = started(&sandbox, lines, &["-m", "haiku", "--set-label", "run=1"]);
    assert_eq!(answer["started"], 3);
    assert_eq!((&answer["existing"], &answer["failed"]), (&json!(0), &json!(0)));
    let jobs: Vec<_> = answer["jobs"].as_array().unwrap().iter().collect();
    let lines: Vec<_> = jobs.iter().map(|job| (&job["line"], job["jobId"].clone())).collect();
    let expected = [(&json!(1), json!("a")), (&json!(4), json!("b")), (&json!(5), json!("c"))];
    assert_eq!(lines, expected);
    assert!(answer.text("hint").ends_with("claudejob wait --label run=1"), "{answer:?}");
    let waited = sandbox.run(["wait", "--label", "run=1"]);
    assert_eq!((waited.code, waited.json.as_array().unwrap().len()), (0, 3), "{waited:?}");

    let (a, b, c) = (spec(&sandbox, "a"), spec(&sandbox, "b"), spec(&sandbox, "c"));
    assert_eq!(a["cwd"], sandbox.work().join("sub").to_str().unwrap());
    assert_eq!((&a["model"], &b["model"]), (&json!("opus"), &json!("haiku")));
    assert_eq!(a["labels"], json!({ "run": "1", "x": "1" }));
    assert_eq!(a["allowedTools"], json!(["Read", "Edit"]));
    assert_eq!((&b["maxTurns"], &c["after"]), (&json!(7), &json!(["a"])));
    assert_eq!(prompt(&sandbox, "b"), "From a file");
    assert_eq!(prompt(&sandbox, "c"), "--help -ä");
}

#[test]
fn a_line_prevails_over_the_call_and_the_file() {
    let sandbox = Sandbox::new(QUICK);
    let config = sandbox.path("home/.config/claudejob");
    fs::create_dir_all(&config).unwrap();
    let text = "fail-on-denial = true\nlabel = [\"c=1\"]\neffort = \"low\"\n\
        [profile.p]\neffort = \"high\"\n";
    fs::write(config.join("config.toml"), text).unwrap();
    fs::write(sandbox.work().join("task.md"), "Common").unwrap();
    let lines = "{\"jobId\":\"a\",\"prompt\":\"Own\",\"failOnDenial\":false,\"label\":[]}\n\
        {\"jobId\":\"b\",\"profile\":\"p\",\"claudeArgs\":[\"--chrome\"]}\n";
    let call = ["-f", "task.md", "--fail-on-mcp", "--wait", "--", "--debug"];
    let answer = started(&sandbox, lines, &call);
    assert_eq!(answer.json.as_array().unwrap().len(), 2, "{answer:?}");
    let (a, b) = (spec(&sandbox, "a"), spec(&sandbox, "b"));
    assert_eq!((prompt(&sandbox, "a"), prompt(&sandbox, "b")), ("Own".into(), "Common".into()));
    assert_eq!((&a["labels"], &b["labels"]), (&json!({}), &json!({ "c": "1" })));
    assert_eq!((&a["effort"], &b["effort"]), (&json!("low"), &json!("high")));
    assert_eq!((&a["failOnDenial"], &b["failOnDenial"]), (&json!(false), &json!(true)));
    assert_eq!((&a["failOnMcp"], &b["failOnMcp"]), (&json!(true), &json!(true)));
    assert_eq!((&a["extraArgs"], &b["extraArgs"]), (&json!(["--debug"]), &json!(["--chrome"])));
}

#[test]
fn an_error_in_a_line_starts_nothing() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("old", &[]);
    let fine = "{\"jobId\":\"fine\",\"prompt\":\"x\"}";
    for (line, why) in [
        ("{\"promt\":\"x\"}", "line 3: unknown key 'promt': did you mean 'prompt'?"),
        ("{\"prompt\":\"x\",\"wait\":true}", "line 3: unknown key 'wait'"),
        ("{\"prompt\":\"x\",\"jobsDir\":\"/tmp\"}", "line 3: unknown key 'jobsDir'"),
        ("{\"prompt\":\"x\"", "line 3: not a JSON object"),
        ("[]", "line 3: not a JSON object"),
        ("{\"prompt\":\"x\",\"prompt\":\"y\"}", "line 3: the key 'prompt' occurs twice"),
        ("{\"prompt\":7}", "line 3: 'prompt' takes a text"),
        ("{\"model\":\"opus\"}", "line 3: no prompt"),
        ("{\"prompt\":\" \"}", "line 3: the prompt is empty"),
        ("{\"prompt\":\"a\\u0000b\"}", "line 3: the prompt contains a NUL"),
        ("{\"prompt\":\"-\"}", "line 3: the prompt '-' is stdin"),
        ("{\"prompt\":\"x\",\"promptFile\":\"y\"}", "'prompt' cannot be used with 'promptFile'"),
        ("{\"promptFile\":\"nowhere\"}", "line 3: could not read the prompt from nowhere"),
        ("{\"prompt\":\"x\",\"timeout\":\"soon\"}", "invalid value 'soon' for 'timeout'"),
        ("{\"prompt\":\"x\",\"timeout\":600}", "line 3: 'timeout' takes a text"),
        ("{\"prompt\":\"x\",\"maxTurns\":0}", "'maxTurns'"),
        ("{\"maxTurns\":1e400}", "line 3: invalid value of 'maxTurns': number out of range"),
        ("{\"prompt\":\"x\",\"priority\":5000}", "'priority'"),
        ("{\"prompt\":\"x\",\"idleTimeout\":\"5m\"}", "keepAlive"),
        ("{\"prompt\":\"x\",\"fork\":true}", "line 3: fork needs resume or resumeJob"),
        ("{\"prompt\":\"x\",\"cwd\":\"nowhere\"}", "line 3: invalid working directory"),
        ("{\"prompt\":\"x\",\"claude\":\"/nowhere\"}", "line 3: no such file"),
        ("{\"prompt\":\"x\",\"profile\":\"p\"}", "line 3: no profile named 'p'"),
        ("{\"prompt\":\"x\",\"permissionMode\":\"al\"}", "line 3: invalid value 'al'"),
        ("{\"prompt\":\"x\",\"jobId\":\"a/b\"}", "line 3: invalid job id 'a/b'"),
        ("{\"prompt\":\"x\",\"jobId\":\"old\"}", "line 3: job 'old' already exists"),
        (fine, "line 3: line 1 has the same jobId 'fine'"),
        ("{\"prompt\":\"x\",\"after\":\"gone\"}", "line 3: no job named 'gone' to wait for"),
        (
            "{\"prompt\":\"x\",\"jobId\":\"s\",\"after\":\"s\"}",
            "line 3: job 's' would wait for itself",
        ),
        ("{\"prompt\":\"x\",\"resumeJob\":\"gone\"}", "line 3: no job named 'gone'"),
        ("{\"prompt\":\"x\",\"label\":{\"a=\":\"b\"}}", "line 3: the key 'a=' of 'label'"),
    ] {
        let answer = start(&sandbox, &format!("{fine}\n\n{line}\n"), &[]);
        assert_eq!((answer.code, &answer["code"]), (2, &json!("bad_batch")), "{line}: {answer:?}");
        let error = answer.text("error");
        assert!(error.starts_with("nothing was started: 1 line of "), "{error}");
        assert!(error.contains(why), "{line}: {error}");
        assert!(!sandbox.job("fine").exists(), "{line}");
    }
}

#[test]
fn ten_lines_with_errors_are_named() {
    let sandbox = Sandbox::new(QUICK);
    let lines = "{\"prompt\":\"x\",\"a\":1}\n".repeat(12);
    let answer = sandbox.run_with_stdin(["start", "--from", "-"], lines);
    assert_eq!((answer.code, &answer["code"]), (2, &json!("bad_batch")), "{answer:?}");
    let error = answer.text("error");
    assert!(error.starts_with("nothing was started: 12 lines of stdin are invalid\n"), "{error}");
    assert!(error.contains("\nline 10: ") && !error.contains("\nline 11: "), "{error}");
    assert!(error.ends_with("\n… and 2 more"), "{error}");
    assert!(answer.text("hint").starts_with("claudejob start --from-schema"), "{answer:?}");
    let circle = "{\"jobId\":\"a\",\"prompt\":\"x\",\"after\":\"b\"}\n\
        {\"jobId\":\"b\",\"prompt\":\"x\",\"afterAny\":[\"a\"]}\n";
    let answer = start(&sandbox, circle, &[]);
    let error = answer.text("error");
    for line in ["line 1: job 'a' would wait", "line 2: job 'b' would wait"] {
        assert!(error.contains(line), "{error}");
    }
    assert!(!sandbox.jobs().exists());
}

#[test]
fn refuses_a_batch_that_cannot_be_started() {
    let mut sandbox = Sandbox::new(QUICK);
    let line = "{\"prompt\":\"x\"}\n";
    let refused = |answer: &Answer, exit: i32, code: &str, text: &str| {
        assert_eq!((answer.code, &answer["code"]), (exit, &json!(code)), "{answer:?}");
        assert!(answer.text("error").contains(text), "{answer:?}");
    };
    refused(&start(&sandbox, "\n\r\n", &[]), 2, "bad_batch", "no jobs");
    refused(&start(&sandbox, &line.repeat(10_001), &[]), 2, "bad_batch", "10001 jobs");
    refused(&start(&sandbox, line, &["-n", "x"]), 2, "usage", "cannot be used with");
    refused(&start(&sandbox, line, &["x"]), 2, "usage", "cannot be used with");
    refused(&start(&sandbox, line, &["--if-absent"]), 2, "bad_batch", "line 1: no 'jobId'");
    refused(&start(&sandbox, "{}", &["-p", "-"]), 2, "bad_batch", "'-' is stdin");
    let nowhere = sandbox.run(["start", "--from", "nowhere"]);
    refused(&nowhere, 2, "bad_batch", "could not read nowhere");
    let latin =
        sandbox.run_with_stdin(["start", "--from", "-"], b"{}\n{\"prompt\":\"\xe4\"}".to_vec());
    refused(&latin, 2, "bad_batch", "line 2 of '-' is not valid UTF-8");
    let no_file = sandbox.run(["start", "--set-label", "a=b", "-p", "x"]);
    refused(&no_file, 2, "usage", "--from");
    let labels = format!("{{\"prompt\":\"x\",\"label\":[{}]}}", ["\"a=b\""; 1].join(","));
    let many: Vec<String> = (0..10).map(|n| format!("--set-label=l{n}=x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(&start(&sandbox, &labels, &many), 2, "bad_batch", "line 1: at most 10 labels");
    sandbox.unset("ANTHROPIC_API_KEY");
    refused(&start(&sandbox, &line.repeat(3), &[]), 1, "not_logged_in", "no credentials");
    assert!(!sandbox.jobs().exists());
}

#[test]
fn a_job_may_wait_for_one_of_a_later_line() {
    let sandbox = Sandbox::new(QUICK);
    let lines = "{\"jobId\":\"last\",\"prompt\":\"x\",\"after\":[\"middle\",\"first\"]}\n\
        {\"jobId\":\"middle\",\"prompt\":\"x\",\"afterAny\":\"first\"}\n\
        {\"jobId\":\"first\",\"prompt\":\"x\"}\n";
    let answer = started(&sandbox, lines, &["-q"]);
    assert_eq!(answer.stdout, "last\nmiddle\nfirst\n");
    assert_eq!(sandbox.run(["wait", "last", "middle", "first"]).code, 0);
    let at = |id: &str, field: &str| record(&sandbox, id)[field].as_str().unwrap().to_owned();
    assert!(at("first", "endedAt") <= at("middle", "endedAt"));
    assert!(at("middle", "endedAt") <= at("last", "endedAt"));
}

#[test]
fn a_batch_is_repeatable_with_if_absent() {
    let mut sandbox = Sandbox::new("read\ninit\nhang");
    let line = |id: &str| format!("{{\"jobId\":\"{id}\",\"prompt\":\"x\"}}\n");
    let lines = ["a", "b", "c"].map(line).concat();
    let from = file(&sandbox, &lines);
    // The call is killed after its first job.
    let killed = sandbox.break_at("start:launched", ["start", "--from", &from, "--if-absent"]);
    assert_eq!((killed.code, killed.stdout.as_str()), (-1, ""), "{killed:?}");
    assert!(sandbox.job("a").exists() && !sandbox.job("b").exists());
    let again = started(&sandbox, &lines, &["--if-absent"]);
    assert_eq!((&again["started"], &again["existing"]), (&json!(2), &json!(1)), "{again:?}");
    assert_eq!(again["jobs"][0]["existing"], true);
    assert_eq!(again["jobs"][0]["status"], "running");
    assert!(again.text("hint").ends_with("wait a b c"), "{again:?}");
    let third = started(&sandbox, &lines, &["--if-absent"]);
    assert_eq!((&third["started"], &third["existing"]), (&json!(0), &json!(3)), "{third:?}");
}

#[test]
fn a_job_whose_start_was_cut_off_is_started_again() {
    let mut sandbox = Sandbox::new(QUICK);
    let lines = "{\"jobId\":\"b\",\"prompt\":\"x\",\"after\":\"a\"}\n\
        {\"jobId\":\"a\",\"prompt\":\"x\"}\n";
    let from = file(&sandbox, lines);
    // The call is killed when the job has a directory, and no worker yet.
    let killed = sandbox.break_at("start:published", ["start", "--from", &from, "--if-absent"]);
    assert_eq!(killed.code, -1, "{killed:?}");
    assert!(sandbox.job("a").exists() && !sandbox.job("b").exists());
    let again = started(&sandbox, lines, &["--if-absent"]);
    assert_eq!((&again["started"], &again["existing"]), (&json!(1), &json!(1)), "{again:?}");
    for id in ["a", "b"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    // It has run, and so it is left alone from now on.
    started(&sandbox, lines, &["--if-absent"]);
    assert_eq!(sandbox.status("a")["attempt"], 2);
}

#[test]
fn two_calls_start_a_cut_off_job_once() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.break_at("start:published", ["start", "a", "-p", "x"]);
    assert_eq!(sandbox.status("a")["reason"], "worker_died");
    let call = ["start", "a", "-p", "x", "--if-absent"];
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..2).map(|_| scope.spawn(|| sandbox.command(call).output().unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for output in outputs {
        assert!(output.status.success(), "{output:?}");
    }
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["attempt"], 2);
}

#[test]
fn the_lines_after_a_failed_start_are_not_tried() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let lines = "{\"jobId\":\"a\",\"prompt\":\"x\",\"maxParallel\":1}\n\n\
        {\"jobId\":\"b\",\"prompt\":\"x\",\"maxParallel\":1,\"noQueue\":true}\n\
        {\"jobId\":\"c\",\"prompt\":\"x\"}\n";
    let answer = start(&sandbox, lines, &["--set-label", "run=1", "--wait"]);
    assert_eq!(answer.code, 75, "{answer:?}");
    assert_eq!((&answer["started"], &answer["failed"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&answer["failure"]["code"], &answer["failure"]["line"]),
        (&json!("no_slot"), &json!(3))
    );
    assert_eq!(answer["nextLine"], 3);
    assert!(!sandbox.job("b").exists() && !sandbox.job("c").exists());
    let hint = answer.text("hint");
    assert!(
        hint.starts_with("tail -n +3 -- ") && hint.contains(" --from - --set-label run=1"),
        "{hint}"
    );

    // The hint starts the rest, once there is a slot.
    assert_eq!(sandbox.run(["kill", "a"])["killed"], true);
    sandbox.script(QUICK);
    let program = format!("alias claudejob={}\n", env!("CARGO_BIN_EXE_claudejob"));
    let mut shell = sandbox.command(["x"; 0]);
    let environment: Vec<_> =
        shell.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    shell = std::process::Command::new("sh");
    shell.env_clear().current_dir(sandbox.work()).args(["-c", &format!("{program}{hint}")]);
    for (name, value) in environment {
        shell.env(name, value.unwrap_or_default());
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for id in ["b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn lines_have_worktrees_of_their_own() {
    let sandbox = Sandbox::new(QUICK);
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.current_dir(sandbox.work()).env("HOME", sandbox.path("home"));
        command.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    git(&["branch", "claudejob/taken"]);
    let line = |id: &str, rest: &str| format!("{{\"jobId\":\"{id}\",\"prompt\":\"x\"{rest}}}\n");
    let taken = [line("a", ""), line("taken", "")].concat();
    let answer = start(&sandbox, &taken, &["--worktree"]);
    assert_eq!((answer.code, &answer["code"]), (2, &json!("bad_batch")), "{answer:?}");
    assert!(answer.text("error").contains("\nline 2: ") && !sandbox.jobs().exists(), "{answer:?}");

    let named = |id: &str, rest: &str| line(id, &format!(",\"worktree\":\"n\"{rest}"));
    let shared = [named("a", ""), named("b", ",\"after\":\"a\""), named("c", "")].concat();
    let answer = start(&sandbox, &shared, &[]);
    assert!(answer.text("error").contains("\nline 3: line 2 has the same worktree"), "{answer:?}");
    let twice = [line("n", ""), named("b", "")].concat();
    assert_eq!(start(&sandbox, &twice, &["--worktree"])["code"], "bad_batch");
    assert!(!sandbox.jobs().exists());
    let chain = [
        named("third", ",\"after\":\"second\""),
        named("second", ",\"after\":\"first\""),
        named("first", ""),
    ];
    started(&sandbox, &chain.concat(), &[]);
    for id in ["first", "second", "third"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }

    fs::write(sandbox.work().join("new"), "").unwrap();
    let lines =
        [line("a", ""), line("b", ",\"worktree\":\"named\""), line("c", ",\"worktree\":false")];
    let answer = started(&sandbox, &lines.concat(), &["--worktree"]);
    let uncommitted: Vec<_> = answer["warnings"].as_array().unwrap().iter().collect();
    let count = uncommitted.iter().filter(|text| text.as_str().unwrap().contains("commit")).count();
    assert_eq!(count, 1, "the same warning once: {answer:?}");
    for id in ["a", "b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    let branches = git(&["branch", "--format=%(refname:short)", "--list", "claudejob/*"]);
    assert_eq!(branches, "claudejob/a\nclaudejob/n\nclaudejob/named\nclaudejob/taken\n");
    assert_eq!(spec(&sandbox, "c")["cwd"], sandbox.work().to_str().unwrap());
}

#[test]
fn lines_with_worktrees_share_what_git_says() {
    let mut sandbox = Sandbox::new(QUICK);
    let made = std::process::Command::new("sh")
        .args([
            "-c",
            "git init -q && git -c user.name=x -c user.email=x commit -q --allow-empty -m x",
        ])
        .current_dir(sandbox.work())
        .status()
        .unwrap();
    assert!(made.success());
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    let path = sandbox.environment()[std::ffi::OsStr::new("PATH")].to_str().unwrap().to_owned();
    let (calls, git) = (sandbox.path("calls"), bin.join("git"));
    let body = format!("#!/bin/sh\necho x >> {}\nPATH={path}; exec git \"$@\"\n", calls.display());
    support::install(&git, body.as_bytes());
    sandbox.set("PATH", format!("{}:{path}", bin.display()));
    let mut lines = String::new();
    for number in 0..40 {
        lines += &format!("{{\"jobId\":\"j{number}\",\"prompt\":\"x\"}}\n");
    }
    let answer = start(&sandbox, &(lines + "{}"), &["--worktree"]);
    assert!(answer.text("error").contains("line 41: no prompt"), "{answer:?}");
    let calls = fs::read_to_string(calls).unwrap().lines().count();
    assert!(calls < 20, "git was called {calls} times");
}

#[test]
fn a_long_answer_is_shortened_for_agents() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("AI_AGENT", "test");
    let mut lines = String::new();
    for number in 0..60 {
        lines += &format!("{{\"jobId\":\"job-{number:0>100}\",\"prompt\":\"x\"}}\n");
    }
    let answer = started(&sandbox, &lines, &["--max-parallel", "3"]);
    assert!(answer.stdout.chars().count() <= 8_001, "{}", answer.stdout.len());
    assert_eq!(answer["started"], 60);
    let shown = answer["jobs"].as_array().unwrap().len();
    assert_eq!(json!(60 - shown), answer["omitted"]);
    assert!(shown > 20, "{shown}");
    assert_eq!(sandbox.run(["wait", "--all", "-q"]).code, 0);
}

#[test]
fn two_hundred_jobs_start_in_seconds() {
    let sandbox = Sandbox::new(QUICK);
    let mut lines = String::new();
    for number in 0..200 {
        lines += &format!("{{\"prompt\":\"Task {number}\"}}\n");
    }
    let began = Instant::now();
    let call = ["--group", "g", "--group-limit", "3", "--set-label", "run=1"];
    let answer = started(&sandbox, &lines, &call);
    let took = began.elapsed();
    assert_eq!(answer["started"], 200, "{answer:?}");
    let same_folder = answer["warnings"].to_string().matches("same folder").count();
    assert_eq!(same_folder, 1, "one warning: {answer:?}");
    // Far more than on an idle machine.
    assert!(took < Duration::from_secs(300), "{took:?}");
    let results = sandbox.run(["wait", "--label", "run=1", "-q"]);
    assert_eq!(results.code, 0, "{results:?}");
    let results = sandbox.run(["result", "--label", "run=1", "-o", "ndjson"]);
    assert_eq!(results.stdout.lines().count(), 200);
}

#[test]
fn the_schema_of_a_line_is_printed() {
    let sandbox = Sandbox::new("");
    let answer = sandbox.run(["start", "--from-schema"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(answer["properties"]["promptFile"]["type"], "string");
    jsonschema::draft202012::meta::validate(&answer.json).unwrap();
    assert!(!sandbox.jobs().exists());
}
