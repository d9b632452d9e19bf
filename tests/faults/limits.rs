//! Limits of the caller: descriptors, processes, memory, file sizes and CPU time.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::Resource;
use serde_json::Value;

use crate::support::faults::{as_user, change_owner, limited};
use crate::support::{Answer, Sandbox, await_file, install};
use crate::{START, WORKS};

#[test]
fn refuses_a_caller_without_file_descriptors() {
    let sandbox = Sandbox::new(WORKS);
    for limit in 4..12 {
        let id = format!("j{limit}");
        let call = sandbox.command(["start", &id, "--prompt", "x"]);
        let answer =
            Answer::from_command(limited(call, Resource::RLIMIT_NOFILE, limit), Vec::new());
        if answer.code == 0 {
            sandbox.wait(&id);
            continue;
        }
        // The job does not exist, or has failed and says why.
        let output = format!("{}{}", answer.stdout, answer.stderr);
        assert!(
            output.contains("Too many open files") || output.contains("died at once"),
            "{limit}: {output}"
        );
        let status = sandbox.run(["status", &id]);
        assert!(status.code == 4 || status["status"] == "failed", "{limit}: {status:?}");
        // The worker exits after its report to the caller.
        sandbox.wait(&id);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
#[ignore = "needs root"]
fn refuses_a_user_at_its_process_limit() {
    const USER: u32 = 54_322;
    let mut sandbox = Sandbox::new(WORKS);
    // The user must be able to reach the program, and the checkout may be closed to other users.
    for (from, name) in [
        (Path::new(env!("CARGO_BIN_EXE_claudejob")), "claudejob"),
        (&crate::support::sandbox::fake_claude(), "claude"),
    ] {
        install(&sandbox.path(name), &fs::read(from).unwrap());
    }
    sandbox.set("CLAUDE_SKILL_CLAUDE", sandbox.path("claude"));
    change_owner(&sandbox.path(""), USER);
    let mut output = Vec::new();
    for limit in 1..4 {
        let id = format!("j{limit}");
        let mut command = Command::new(sandbox.path("claudejob"));
        let like = sandbox.command(["start", &id, "--prompt", "x"]);
        command.args(like.get_args()).current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let command = limited(as_user(command, USER), Resource::RLIMIT_NPROC, limit);
        let answer = Answer::from_command(command, Vec::new());
        output.push(format!("{}{}", answer.stdout, answer.stderr));
        if answer.code == 0 {
            let mut wait = Command::new(sandbox.path("claudejob"));
            wait.args(["wait", &id]).env("CLAUDE_SKILL_JOBS_DIR", sandbox.jobs());
            Answer::from_command(as_user(wait, USER), Vec::new());
        }
    }
    change_owner(&sandbox.path(""), 0);
    // One process: `start` alone. Two: also its worker, but no claude.
    assert!(
        output[0].contains("launch_failed") && output[0].contains("Resource temporarily"),
        "{output:?}"
    );
    assert!(
        output[1].contains("launch_failed") && output[1].contains("Resource temporarily"),
        "{output:?}"
    );
    assert_eq!(sandbox.status("j2")["reason"], "launch_failed");
}

#[test]
fn reports_scarce_memory() {
    let sandbox = Sandbox::new(WORKS);
    // From far too little to enough: every failure is reported, and no process continues unnoticed.
    for megabytes in [4, 5, 6, 8, 12, 16, 64, 512] {
        let id = format!("j{megabytes}");
        let call = sandbox.command(["start", &id, "--prompt", "x"]);
        let answer =
            Answer::from_command(limited(call, Resource::RLIMIT_AS, megabytes << 20), Vec::new());
        let status = sandbox.run(["status", &id]);
        if answer.code == 0 {
            sandbox.wait(&id);
        } else {
            let failed = status["status"] == "failed" && status["error"].is_string();
            assert!(status.code == 4 || failed, "{megabytes}: {answer:?} {status:?}");
            // The worker exits after its report to the caller.
            sandbox.wait(&id);
        }
        sandbox.assert_nothing_left(&id);
    }
    assert_eq!(sandbox.status("j512")["status"], "completed");
}

/// Calls the program in a shell that has set these limits.
fn with_ulimit(sandbox: &Sandbox, limits: &str, arguments: &[&str]) -> Answer {
    let inner = sandbox.command(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.current_dir(sandbox.work());
    Answer::from_command(command, Vec::new())
}

#[test]
fn reports_a_file_size_limit_and_survives_it() {
    let sandbox = Sandbox::new("read\ninit\nfill 400000 1\nresult ok\neof");
    with_ulimit(&sandbox, "ulimit -c 0; ulimit -f 200", &START);
    let ended = sandbox.wait("j");
    ended.expect_end(0, "completed", None);
    let warnings = ended["warnings"].to_string();
    assert!(
        warnings.contains("output.log is incomplete: the caller's file size limit"),
        "{warnings}"
    );
    assert!(warnings.contains("bytes, ulimit -f"), "{warnings}");
}

#[test]
fn the_cpu_time_limit_applies_to_claude_only() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let start = with_ulimit(&sandbox, "ulimit -S -t 600; ulimit -H -t 900", &START);
    await_file(&sandbox.path("up"));
    let limit_of = |pid: i64| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap().to_owned();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let worker = start["pid"].as_i64().unwrap();
    assert_eq!(limit_of(worker), ["900", "900"]);
    let record: Value =
        serde_json::from_slice(&fs::read(sandbox.job("j").join("meta.json")).unwrap()).unwrap();
    assert_eq!(limit_of(record["claudePid"].as_i64().unwrap()), ["600", "900"]);
    let warnings = sandbox.status("j")["warnings"].to_string();
    assert!(warnings.contains("900 s, ulimit -t"), "{warnings}");
    sandbox.run(["kill", "j"]);
}
