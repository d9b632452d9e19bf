//! Programs that are killed at each of their steps.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::processes::{is_stopped, kill, send};
use crate::support::{Answer, Sandbox, await_file, eventually};
use crate::{START, WORKS, assert_in_order, assert_recovered, assert_tidy, events};

#[test]
fn a_killed_start_leaves_a_complete_job_or_none() {
    for (point, is_there) in [
        ("start:staged", false),
        ("start:written", false),
        ("start:published", true),
        ("start:spawned", true),
    ] {
        let mut sandbox = Sandbox::new(WORKS);
        sandbox.break_at(point, START);
        if !is_there {
            assert_eq!(sandbox.run(["status", "j"])["code"], "not_found", "{point}");
            assert_eq!(sandbox.run(START).code, 0, "{point}");
        }
        // A running worker continues without its `start`.
        sandbox.run(["wait", "j"]);
        assert_recovered(&sandbox, point);
        assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0, "{point}");
    }
}

#[test]
fn recovers_after_a_worker_is_killed_at_any_step() {
    for point in [
        "worker:began",
        "worker:launched",
        "worker:recorded",
        "worker:heard",
        "worker:logged",
        "worker:closing",
        "worker:reaping",
        "worker:swept",
        "end:outcome-written",
        "end:outcome-saved",
        "end:record-written",
        "end:saved",
    ] {
        let mut sandbox = Sandbox::new(WORKS);
        let start = sandbox.break_at(point, START);
        let before_the_report = ["worker:began", "worker:launched", "worker:recorded"];
        if before_the_report.contains(&point) {
            assert_eq!(start["code"], "launch_failed", "{point}");
        } else {
            assert_eq!(start.code, 0, "{point}: {start:?}");
        }
        assert_recovered(&sandbox, point);
    }
}

#[test]
fn finalizes_after_another_reader_was_killed() {
    for point in ["settle:locked", "settle:told", "end:outcome-written", "end:record-written"] {
        let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        kill(worker);
        sandbox.break_at(point, ["status", "j"]);
        sandbox.status("j");
        let lost = events(&sandbox, "j").iter().filter(|event| event["event"] == "lost").count();
        assert_eq!(lost, 1, "{point}");
        sandbox.script(WORKS);
        assert_recovered(&sandbox, point);
    }
}

#[test]
fn recovers_after_another_recover_was_killed() {
    for point in ["recover:locked", "recover:saved", "start:spawned", "worker:recorded"] {
        let mut sandbox = Sandbox::new("read\ninit\ndie KILL");
        sandbox.run_job("j", &[]).expect_end(1, "failed", Some("no_result"));
        sandbox.script(WORKS);
        sandbox.break_at(point, ["recover", "j"]);
        sandbox.run(["wait", "j"]);
        let status = sandbox.status("j");
        if status["status"] == "failed" {
            assert!(status["hint"].is_string(), "{point}: {status:?}");
            assert_eq!(sandbox.run(["recover", "--all"])["recovered"][0]["jobId"], "j", "{point}");
            sandbox.wait("j");
        }
        assert_eq!(sandbox.run(["result", "j"])["result"], "ok", "{point}");
        assert_tidy(&sandbox, point);
        assert_in_order(&sandbox, "j");
    }
}

#[test]
fn keeps_a_verdict_that_was_half_written() {
    for point in ["end:outcome-saved", "end:record-written"] {
        let mut sandbox = Sandbox::new("read\ninit\nsay hi\ndie KILL");
        sandbox.break_at(point, START);
        let status = sandbox.status("j");
        assert_eq!(status["reason"], "no_result", "{point}: {status:?}");
        sandbox.script("args $DIR/args\nread\ninit\nresult ok\neof");
        // The log says what claude had begun, the result says how it ended.
        assert_eq!(sandbox.run(["recover", "j"])["resumes"], true, "{point}");
        sandbox.wait("j").expect_end(0, "completed", None);
        assert!(fs::read_to_string(sandbox.path("args")).unwrap().contains("--resume"));
    }
}

#[test]
fn a_killed_kill_still_kills_the_job() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    sandbox.break_at("kill:asked", ["kill", "j"]);
    sandbox.wait("j").expect_end(3, "killed", None);
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
}

#[test]
fn a_kill_spares_an_attempt_resumed_after_it() {
    let mut sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let answer = sandbox.pause_at("kill:ended", ["kill", "j"], |sandbox| {
        sandbox.script("read\ninit\nwait-file $DIR/go\nresult ok\neof");
        assert_eq!(sandbox.run(["resume", "j"])["attempt"], 2);
    });
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    assert!(answer["warnings"].to_string().contains("resumed"), "{answer:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_kill_survives_a_concurrent_reader_or_recover() {
    for point in ["kill:looked", "kill:alone"] {
        for verb in ["status", "recover"] {
            let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\nhang");
            let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
            let lose = || {
                kill(worker);
            };
            if point == "kill:alone" {
                lose();
            }
            let answer = sandbox.pause_at(point, ["kill", "j"], |sandbox| {
                if point == "kill:looked" {
                    lose();
                }
                assert_eq!(sandbox.run([verb, "j"]).code, 0);
            });
            // An end that another process has written, and may have sent notifications of, stays.
            let (status, last) = match verb {
                "status" => ("failed", "kill_requested"),
                _ => ("killed", "finished"),
            };
            let killed = status == "killed";
            assert_eq!(
                (answer.code, &answer["killed"]),
                (i32::from(!killed), &killed.into()),
                "{verb}: {answer:?}"
            );
            sandbox.assert_nothing_left("j");
            assert_eq!(sandbox.wait("j")["status"], status, "{point}, {verb}");
            assert_eq!(sandbox.run(["result", "j"])["status"], status);
            assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
            assert_eq!(sandbox.run(["recover", "--all"])["recovered"], serde_json::json!([]));
            assert_in_order(&sandbox, "j");
            assert_eq!(events(&sandbox, "j").pop().unwrap()["event"], last);
        }
    }
}

#[test]
fn kills_a_job_during_its_recovery() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("its end", || (sandbox.status("j")["reason"] == "worker_died").then_some(()));
    let mut kill = None;
    sandbox.pause_at("recover:locked", ["recover", "j"], |sandbox| {
        let checked = sandbox.path("checked");
        let mut command = sandbox.command(["kill", "j"]);
        command.env("CLAUDEJOB_STOP_AT", "kill:looked").env("CLAUDEJOB_STOP_FILE", &checked);
        kill = Some(std::thread::spawn(move || Answer::from_command(command, Vec::new())));
        let pid = eventually("the check", || fs::read_to_string(&checked).ok()?.parse().ok());
        eventually("the stop", || is_stopped(pid).then_some(()));
        send(pid, Signal::SIGCONT);
    });
    let answer = kill.unwrap().join().unwrap();
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
}

#[test]
fn recovers_after_claude_is_killed_at_any_step() {
    for step in ["", "read", "init", "spawn $DIR/child", "say hi", "tool Bash ls"] {
        let steps: Vec<&str> = ["read", "init", "spawn $DIR/child", "say hi", "tool Bash ls"]
            .into_iter()
            .take_while(|at| *at != step)
            .chain([step])
            .filter(|at| !at.is_empty())
            .collect();
        let sandbox = Sandbox::new(&format!("{}\ndie KILL", steps.join("\n")));
        sandbox.run_job("j", &[]).expect_end(1, "failed", Some("no_result"));
        sandbox.assert_nothing_left("j");
        sandbox.script("args $DIR/args\nread $DIR/said\ninit\nresult ok\neof");
        let recovered = sandbox.run(["recover", "j"]);
        assert_eq!(recovered["attempt"], 2, "{step}: {recovered:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        let said = fs::read_to_string(sandbox.path("said")).unwrap();
        let began = steps.contains(&"init");
        assert_eq!(args.contains("--resume"), began, "{step}");
        assert_eq!(said.contains("You were interrupted"), began, "{step}");
        assert_eq!(said.contains("\"work\""), !began, "{step}");
        assert_eq!(recovered["resumes"], began, "{step}");
    }
}
