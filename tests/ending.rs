//! The end of a job's processes, however they try to survive: none is left, or the answer names it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::faults::{as_user, change_owner};
use support::processes::{kill, send};
use support::{Answer, Sandbox, await_file, install, is_alive, pid_in};

/// Starts a job whose claude performs these steps and hangs, and returns the worker's PID.
#[track_caller]
fn start(sandbox: &Sandbox, steps: &str) -> i32 {
    sandbox.script(&format!("read\ninit\n{steps}\ntouch $DIR/up\nhang"));
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    worker
}

/// Asserts that neither a child of the fake claude nor any process that it started holds the
/// child's lock.
#[track_caller]
fn assert_ended(sandbox: &Sandbox, name: &str, how: &str) {
    let lock = File::open(sandbox.path(&format!("{name}.lock"))).unwrap();
    assert!(lock.try_lock().is_ok(), "{name} is still alive: {how}");
}

#[track_caller]
fn assert_killed(answer: &Answer, how: &str) {
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{how}: {answer:?}");
    assert_eq!(answer["left"], json!([]), "{how}: {answer:?}");
    assert!(!answer["warnings"].to_string().contains("process"), "{how}: {answer:?}");
}

#[test]
fn ends_a_process_whose_main_thread_has_ended() {
    for how in ["end", "kill", "worker dies, kill", "worker dies, status"] {
        let sandbox = Sandbox::new("read\ninit\nspawn-headless $DIR/a\nresult ok\neof");
        if how == "end" {
            let end = sandbox.run_job("j", &[]);
            end.expect_end(0, "completed", None);
            assert_eq!(end["warnings"], json!([]), "{end:?}");
        } else {
            let worker = start(&sandbox, "spawn-headless $DIR/a");
            if how != "kill" {
                kill(worker);
            }
            if how == "worker dies, status" {
                assert_eq!(sandbox.status("j")["reason"], "worker_died");
            } else {
                assert_killed(&sandbox.run(["kill", "j"]), how);
            }
        }
        assert_ended(&sandbox, "a", how);
    }
}

#[test]
fn a_process_that_is_slow_to_end_is_awaited() {
    let sandbox = Sandbox::new("");
    kill(start(&sandbox, "spawn-large $DIR/a"));
    assert_killed(&sandbox.run(["kill", "j"]), "");
    assert_ended(&sandbox, "a", "");
}

#[test]
fn ends_a_chain_of_processes() {
    for (mode, how) in [
        ("fork", "kill"),
        ("setsid", "kill"),
        ("exec", "kill"),
        ("fork", "worker dies, kill"),
        ("setsid", "worker dies, kill"),
        ("fork", "worker dies, status"),
        ("fork", "worker dies, recover"),
    ] {
        let sandbox = Sandbox::new("");
        let chains = ["a", "b"].map(|name| format!("spawn-chain $DIR/{name} {mode}"));
        let worker = start(&sandbox, &chains.join("\n"));
        if how != "kill" {
            kill(worker);
        }
        match how {
            "worker dies, status" => {
                assert_eq!(sandbox.status("j")["reason"], "worker_died");
            }
            "worker dies, recover" => {
                sandbox.script("read\ninit\nresult ok\neof");
                assert_eq!(sandbox.run(["recover", "j"]).code, 0);
            }
            _ => assert_killed(&sandbox.run(["kill", "j"]), &format!("{mode}, {how}")),
        }
        for name in ["a", "b"] {
            assert_ended(&sandbox, name, &format!("{mode}, {how}"));
        }
        if how == "worker dies, recover" {
            sandbox.wait("j").expect_end(0, "completed", None);
        }
    }
}

#[test]
fn ends_a_process_with_a_marker_of_its_own() {
    for how in ["kill", "worker dies, kill"] {
        let sandbox = Sandbox::new("");
        fs::create_dir_all(sandbox.path("made-up/notifications")).unwrap();
        fs::write(sandbox.path("made-up/lock"), "").unwrap();
        fs::create_dir_all(sandbox.path("held")).unwrap();
        let lock = File::create(sandbox.path("held/lock")).unwrap();
        lock.lock().unwrap();
        let marks = [
            ("a", "/etc/passwd"),
            ("b", "$DIR/made-up/notifications"),
            ("c", "$DIR/made-up"),
            ("d", "$DIR/held"),
            ("e", "$DIR/jobs/j/notifications"),
        ];
        let steps = marks.map(|(name, mark)| format!("spawn-marked $DIR/{name} {mark}"));
        let worker = start(&sandbox, &steps.join("\n"));
        let pids = marks.map(|(name, _)| pid_in(&sandbox.path(name)));
        if how != "kill" {
            kill(worker);
        }
        assert_killed(&sandbox.run(["kill", "j"]), how);
        let left: Vec<_> = marks.iter().zip(pids).filter(|(_, pid)| is_alive(*pid)).collect();
        assert!(left.is_empty(), "{how}: {left:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn reports_a_process_of_another_user() {
    const USER: u32 = 54_323;
    let mut sandbox = Sandbox::new("read\ninit\nspawn-root $DIR/a\ntouch $DIR/up\nhang");
    // The user must be able to reach the program, and the checkout may be closed to other users.
    let claude = support::sandbox::fake_claude();
    let programs = [
        (Path::new(env!("CARGO_BIN_EXE_claudejob")), "claudejob"),
        (&claude, "claude"),
        (&claude, "setuid-root"),
    ];
    for (from, name) in programs {
        install(&sandbox.path(name), &fs::read(from).unwrap());
    }
    sandbox.set("CLAUDE_SKILL_CLAUDE", sandbox.path("claude"));
    change_owner(&sandbox.path(""), USER);
    change_owner(&sandbox.path("setuid-root"), 0);
    let mode = fs::Permissions::from_mode(0o4755);
    fs::set_permissions(sandbox.path("setuid-root"), mode).unwrap();
    let call = |arguments: &[&str]| {
        let like = sandbox.command(arguments);
        let mut command = Command::new(sandbox.path("claudejob"));
        command.args(like.get_args()).current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::from_command(as_user(command, USER), Vec::new())
    };
    assert_eq!(call(&["start", "j", "--prompt", "x"]).code, 0);
    await_file(&sandbox.path("up"));
    let left = pid_in(&sandbox.path("a"));
    let (answer, status) = (call(&["kill", "j"]), call(&["status", "j"]));
    let lives = is_alive(left);
    kill(left);
    change_owner(&sandbox.path(""), 0);
    assert!(lives, "root's process was ended by another user");
    let name = "setuid-root";
    let warning =
        format!("1 process of another user (uid 0, pid {left}, {name}) could not be ended");
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    let process = &answer["left"][0];
    assert_eq!(
        [&process["pid"], &process["uid"], &process["name"], &process["why"]],
        [&json!(left), &json!(0), &json!(name), &json!("other_user")],
        "{answer:?}"
    );
    for warnings in [&answer["warnings"], &status["warnings"]] {
        assert!(warnings.as_array().unwrap().contains(&json!(warning)), "{warnings}");
    }
}

#[test]
fn kills_a_job_with_a_missing_or_open_directory() {
    for what in ["removed", "root removed", "open to others", "removed, worker dead"] {
        let sandbox = Sandbox::new("");
        let worker = start(&sandbox, "spawn $DIR/a\nspawn-clean $DIR/b");
        let mut pids = vec![worker, pid_in(&sandbox.path("a"))];
        if what == "removed, worker dead" {
            kill(worker);
        } else {
            pids.push(pid_in(&sandbox.path("b")));
        }
        let clean = pid_in(&sandbox.path("b"));
        match what {
            "root removed" => fs::remove_dir_all(sandbox.jobs()).unwrap(),
            "open to others" => {
                let mode = fs::Permissions::from_mode(0o777);
                fs::set_permissions(sandbox.jobs(), mode).unwrap();
            }
            _ => fs::remove_dir_all(sandbox.job("j")).unwrap(),
        }
        let answer = sandbox.run(["kill", "j"]);
        pids.retain(|pid| is_alive(*pid));
        // Nothing identifies it any more: documented.
        send(clean, nix::sys::signal::Signal::SIGKILL);
        assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{what}: {answer:?}");
        assert_eq!((&answer["record"], &answer["left"]), (&Value::Null, &json!([])), "{what}");
        assert!(pids.is_empty(), "{what}: {pids:?}");
        // No process is left to end.
        let again = sandbox.run(["kill", "j"]);
        let code = if what == "open to others" { "jobs_dir_denied" } else { "not_found" };
        assert_eq!(again["code"], code, "{what}: {again:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn claims_no_ended_process_without_proc() {
    let sandbox = Sandbox::new("");
    let worker = start(&sandbox, "spawn $DIR/a");
    let without_proc = |arguments: &[&str]| {
        let like = sandbox.command(arguments);
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(like.get_program()).args(like.get_args());
        command.current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::from_command(command, Vec::new())
    };
    let answer = without_proc(&["kill", "j"]);
    assert_eq!((answer.code, &answer["code"]), (1, &"signal_failed".into()), "{answer:?}");
    assert!(answer.text("error").contains("could not read /proc"), "{answer:?}");
    assert_eq!(sandbox.status("j")["status"], "running");
    kill(worker);
    let answer = without_proc(&["kill", "j"]);
    let left = pid_in(&sandbox.path("a"));
    assert!(is_alive(left), "it could not be found");
    kill(left);
    assert_eq!(answer["killed"], true, "{answer:?}");
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("may be left") && warnings.contains("/proc"), "{answer:?}");
}
