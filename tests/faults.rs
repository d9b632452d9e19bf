//! Real faults around a job: programs killed at each step, disks that are full, read-only or
//! without locks, files that other programs change, clocks that jump, and limits.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "faults/directory.rs"]
mod directory;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/log.rs"]
mod log;
#[path = "faults/old_kernel.rs"]
mod old_kernel;
#[path = "faults/record.rs"]
mod record;
#[path = "faults/recover.rs"]
mod recover;
mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Answer, Sandbox, await_file, eventually, install};

const WORKS: &str = "read\ninit\nspawn $DIR/child\nsay hi\nresult ok\neof";
const START: [&str; 4] = ["start", "j", "--prompt", "x"];
/// The files of an ended job.
const FILES: [&str; 8] = [
    "events.ndjson",
    "inbox",
    "lock",
    "meta.json",
    "output.log",
    "prompt.txt",
    "result.json",
    "stderr.log",
];

/// Asserts that the job has no other files; `turns.ndjson` exists only if the worker lived to the
/// end of a turn.
#[track_caller]
fn assert_tidy(sandbox: &Sandbox, point: &str) {
    let mut files = sandbox.files("j");
    files.retain(|name| name != "turns.ndjson");
    assert_eq!(files, FILES, "{point}");
    let inbox: Vec<_> = fs::read_dir(sandbox.job("j").join("inbox")).unwrap().flatten().collect();
    let is_state =
        |entry: &fs::DirEntry| [".closed", ".desk"].map(Into::into).contains(&entry.file_name());
    assert!(inbox.iter().all(is_state), "{point}: {inbox:?}");
}

fn events(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("events.ndjson")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn assert_in_order(sandbox: &Sandbox, id: &str) {
    let numbers: Vec<u64> =
        events(sandbox, id).iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// After a fault: asserts that the job has really ended or can be recovered, and that nothing is
/// left behind.
#[track_caller]
fn assert_recovered(sandbox: &Sandbox, point: &str) {
    let status = sandbox.status("j");
    sandbox.assert_nothing_left("j");
    if status["status"] != "completed" {
        assert_eq!(status["reason"], "worker_died", "{point}: {status:?}");
        assert!(status.text("hint").starts_with("claudejob recover j"), "{point}");
        let recovered = sandbox.run(["recover", "j"]);
        assert_eq!(recovered.code, 0, "{point}: {recovered:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
    }
    assert_eq!(sandbox.run(["result", "j"])["result"], "ok", "{point}");
    assert_tidy(sandbox, point);
    assert_in_order(sandbox, "j");
    let refused = sandbox.run(["recover", "j"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"not_recoverable".into()), "{point}");
}

#[test]
#[cfg_attr(not(target_env = "gnu"), ignore = "needs a preloaded library")]
fn clock_jumps_change_no_duration_and_no_order() {
    let mut sandbox = Sandbox::new(
        "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nsay a\ntouch $DIR/up2\nwait-file $DIR/go2\n\
         result ok\neof",
    );
    sandbox.shift_clock(0);
    sandbox.start("j", &["--timeout", "10m"]);
    await_file(&sandbox.path("up"));
    sandbox.shift_clock(86_400 * 30);
    assert_eq!(sandbox.status("j")["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.path("up2"));
    sandbox.shift_clock(-86_400 * 30);
    fs::write(sandbox.path("go2"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    let record = fs::read(sandbox.job("j").join("meta.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert!(record["elapsedMs"].as_u64().unwrap() < 600_000, "{record}");
    assert!(record["endedAt"].as_str() < record["startedAt"].as_str(), "the clock was set back");
    assert_in_order(&sandbox, "j");
    let shown = sandbox.run(["status", "j", "--plain"]).stdout;
    assert!(!shown.contains("30d"), "{shown}");
}

#[test]
fn replacing_the_program_does_not_affect_running_jobs() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
    let program = sandbox.path("claudejob");
    let replace = || {
        install(&sandbox.path("coming"), &fs::read(env!("CARGO_BIN_EXE_claudejob")).unwrap());
        fs::rename(sandbox.path("coming"), &program).unwrap();
    };
    replace();
    let call = |arguments: &[&str]| {
        let like = sandbox.command(arguments);
        let mut command = Command::new(&program);
        command.args(like.get_args()).current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::from_command(command, Vec::new())
    };
    assert_eq!(call(&START).code, 0);
    await_file(&sandbox.path("up"));
    replace();
    assert_eq!(call(&["status", "j"])["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    call(&["wait", "j"]).expect_end(0, "completed", None);
}

#[test]
fn refuses_an_endless_prompt() {
    let sandbox = Sandbox::new(WORKS);
    for (verb, option) in [("start", "--prompt-file"), ("send", "--message-file")] {
        let answer = sandbox.run([verb, "j", option, "/dev/zero"]);
        let code = if verb == "start" { "prompt_too_long" } else { "message_too_long" };
        assert_eq!((answer.code, answer.text("code")), (1, code), "{answer:?}");
        assert!(answer.text("error").contains("is longer than 10"), "{answer:?}");
    }
    let mut command = sandbox.command(["start", "j", "--prompt", "-"]);
    let output = command.stdin(fs::File::open("/dev/zero").unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("prompt_too_long"), "{output:?}");
    assert!(!sandbox.job("j").exists());
}

#[test]
fn a_waiting_caller_hides_the_prompt_in_its_arguments() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let calls: [&[&str]; 3] = [
        &["start", "j", "--prompt", "SECRET", "--wait", "1m"],
        &["send", "j", "--message", "SECRET", "--wait", "1m"],
        &["send", "j", "--message=SECRET", "--wait", "1m"],
    ];
    let mut waiting = Vec::new();
    for call in calls {
        let mut command = sandbox.command(call);
        waiting.push(command.stdout(Stdio::null()).spawn().unwrap());
        await_file(&sandbox.path("up"));
        let arguments = format!("/proc/{}/cmdline", waiting.last().unwrap().id());
        let shown =
            || fs::read(&arguments).ok().map(|it| String::from_utf8_lossy(&it).into_owned());
        eventually("the text to be hidden", || {
            let shown = shown()?;
            (shown.contains("--wait") && !shown.contains("SECRET")).then_some(())
        });
    }
    sandbox.run(["kill", "j"]);
    for mut child in waiting {
        child.wait().unwrap();
    }
}

#[test]
fn a_start_that_cannot_answer_says_the_job_runs() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sandbox.command(START).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("job j was started"), "{said}");
    assert!(said.contains("claudejob status j"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    sandbox.wait("j").expect_end(0, "completed", None);
}
