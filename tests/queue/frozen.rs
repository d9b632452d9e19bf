//! `pause --stop` and `unpause` of running jobs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::processes::{is_alive, is_stopped, kill, pid_in, processes_of, send};
use super::support::{Sandbox, await_file, eventually};
use super::{GATED, await_start, events, record, release, worker_of};

/// The processes of a job but its worker.
fn tree(sandbox: &Sandbox, id: &str) -> Vec<i32> {
    let mut pids = processes_of(&sandbox.job(id));
    let worker = worker_of(sandbox, id);
    pids.retain(|&pid| pid != worker && is_alive(pid));
    pids
}

fn all_stopped(pids: &[i32]) -> bool {
    pids.iter().all(|&pid| is_stopped(pid))
}

#[test]
fn freezes_the_whole_tree_and_continues_it() {
    let script = "read\ninit\nspawn $DIR/one\nspawn-stubborn $DIR/two\nsay hi\ntouch $DIR/begun\n\
                  wait-file $DIR/go\nresult ok\neof";
    let sandbox = Sandbox::new(script);
    sandbox.start("a", &[]);
    await_file(&sandbox.path("begun"));
    let paused = sandbox.run(["pause", "--stop"]);
    assert_eq!((paused.code, &paused["stopped"]), (0, &json!(["a"])), "{paused:?}");
    assert_eq!(paused["running"], 0, "{paused:?}");
    let pids = tree(&sandbox, "a");
    assert!(pids.len() >= 3 && all_stopped(&pids), "{pids:?}");
    let status = sandbox.status("a");
    assert_eq!(
        (&status["status"], &status["hint"]),
        (&"running".into(), &"claudejob unpause a".into())
    );
    let wait = &status["waitingFor"];
    assert_eq!((&wait["kind"], &wait["hint"]), (&"paused".into(), &"claudejob unpause a".into()));
    assert!(wait["why"].as_str().unwrap().starts_with("it is frozen since "), "{wait}");
    assert!(status["frozenAt"].is_string() && status["activity"].is_null(), "{status:?}");
    // It keeps its slot.
    let held = sandbox.start("b", &["--max-parallel", "1"]);
    assert_eq!(held["status"], "queued");
    // Again, as text.
    let text = sandbox.run(["pause", "--stop", "--plain"]).stdout;
    let said = "The queue is paused: 1 job is held.\nFrozen: a.\n";
    assert_eq!(text, format!("{said}hint: claudejob unpause\n"));
    fs::write(sandbox.path("go"), "").unwrap();
    let unpaused = sandbox.run(["unpause"]);
    assert_eq!((unpaused.code, &unpaused["continued"]), (0, &json!(["a"])), "{unpaused:?}");
    sandbox.wait("a").expect_end(0, "completed", None);
    sandbox.wait("b").expect_end(0, "completed", None);
    let status = sandbox.status("a");
    assert_eq!((&status["frozenAt"], &status["waitingFor"]), (&Value::Null, &Value::Null));
    let kinds: Vec<Value> = events(&sandbox, "a").iter().map(|it| it["event"].clone()).collect();
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str().unwrap()).collect();
    let of_freeze: Vec<&&str> =
        kinds.iter().filter(|kind| ["frozen", "thawed"].contains(kind)).collect();
    assert_eq!(of_freeze, [&"frozen", &"frozen", &"thawed"]);
}

#[test]
fn freezes_processes_that_start_others_continuously() {
    for mode in ["fork", "setsid"] {
        let script = format!(
            "read\ninit\nspawn-chain $DIR/chain {mode}\nspawn-chain $DIR/chain2 {mode}\n\
             touch $DIR/begun\nwait-file $DIR/go\nresult ok\neof"
        );
        let sandbox = Sandbox::new(&script);
        sandbox.start("a", &[]);
        await_file(&sandbox.path("begun"));
        let paused = sandbox.run(["pause", "a", "--stop"]);
        assert_eq!((paused.code, &paused["stopped"]), (0, &json!(["a"])), "{paused:?}");
        let before = tree(&sandbox, "a");
        assert!(before.len() >= 3 && all_stopped(&before), "{mode}: {before:?}");
        // No new process appears.
        sandbox.status("a");
        assert_eq!(tree(&sandbox, "a"), before, "{mode}");
        assert_eq!(sandbox.run(["unpause", "a"])["continued"], json!(["a"]));
        eventually("the chain", || (tree(&sandbox, "a") != before).then_some(()));
        sandbox.run(["pause", "a", "--stop"]);
        assert_eq!(sandbox.run(["kill", "a"])["killed"], true);
        sandbox.assert_nothing_left("a");
    }
}

#[test]
fn a_kill_of_a_frozen_job_works_at_once() {
    let script =
        "ignore INT\nread\ninit\nsay hi\ntool Bash x\nspawn-stubborn $DIR/child\nhear\nhang";
    let sandbox = Sandbox::new(script);
    sandbox.start("a", &[]);
    await_file(&sandbox.path("child"));
    sandbox.run(["pause", "--stop"]);
    let child = pid_in(&sandbox.path("child"));
    assert!(is_stopped(child));
    let killed = sandbox.run(["kill", "a"]);
    assert_eq!((&killed["killed"], &killed["left"]), (&true.into(), &json!([])), "{killed:?}");
    sandbox.assert_nothing_left("a");
    assert!(!is_alive(child));
    sandbox.wait("a").expect_end(3, "killed", None);
    assert_eq!(sandbox.status("a")["frozenAt"], Value::Null);
}

#[test]
fn a_frozen_tree_of_a_dead_worker_is_ended() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\nspawn-clean $DIR/clean\nhang");
    sandbox.start("a", &[]);
    await_file(&sandbox.path("clean"));
    let pids = ["child", "clean"].map(|name| pid_in(&sandbox.path(name)));
    sandbox.run(["pause", "--stop"]);
    assert!(all_stopped(&pids));
    kill(worker_of(&sandbox, "a"));
    let status = sandbox.status("a");
    assert_eq!((&status["reason"], &status["frozenAt"]), (&"worker_died".into(), &Value::Null));
    sandbox.assert_nothing_left("a");
    kill(pids[1]);
    let held = sandbox.run(["recover", "a"]);
    assert_eq!(held["status"], "queued", "{held:?}");
    let unpaused = sandbox.run(["unpause"]);
    assert_eq!(unpaused["continued"], json!([]), "{unpaused:?}");
    sandbox.run(["kill", "a"]);
    for name in ["child", "clean"] {
        kill(pid_in(&sandbox.path(name)));
    }
}

#[test]
fn freezes_and_continues_only_what_is_named() {
    let sandbox = Sandbox::new(GATED);
    for (id, options) in [("web", &["-g", "web"][..]), ("a", &["-l", "kind=x"]), ("b", &[])] {
        sandbox.start(id, options);
        await_start(&sandbox, id);
    }
    let claude = |id: &str| sandbox.claude_pid(id);
    let paused = sandbox.run(["pause", "--stop", "-g", "web"]);
    assert_eq!(paused["stopped"], json!(["web"]), "{paused:?}");
    let paused = sandbox.run(["pause", "--stop", "-l", "kind=x"]);
    assert_eq!((&paused["stopped"], &paused["paused"]["jobs"]), (&json!(["a"]), &json!(["a"])));
    assert!(is_stopped(claude("web")) && is_stopped(claude("a")) && !is_stopped(claude("b")));
    let ids = sandbox.run(["pause", "--stop", "a", "b", "nobody", "-q"]);
    assert_eq!((ids.code, ids.stdout.as_str()), (4, "a\nb\n"), "{ids:?}");
    assert!(ids.stderr.contains("no job named 'nobody'"), "{ids:?}");
    assert_eq!(sandbox.run(["unpause", "b", "-o", "ids"]).stdout, "b\n");
    // Other pauses hold them.
    assert_eq!(sandbox.run(["unpause"])["continued"], json!([]));
    sandbox.run(["pause"]);
    assert_eq!(sandbox.run(["unpause", "-g", "web"])["continued"], json!([]));
    assert!(is_stopped(claude("web")));
    // A job that is named continues, whatever else is paused.
    assert_eq!(sandbox.run(["unpause", "a"])["continued"], json!(["a"]));
    assert!(!is_stopped(claude("a")) && is_stopped(claude("web")));
    assert_eq!(sandbox.run(["unpause", "--all"])["continued"], json!(["web"]));
    for id in ["web", "a", "b"] {
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn freezes_blocked_and_idle_jobs() {
    let script = "read\ninit\nonce $DIR/first result one\nhear $DIR/heard\nresult two\neof";
    let sandbox = Sandbox::new(script);
    sandbox.start("a", &["--keep-alive"]);
    eventually("idle", || (record(&sandbox, "a")["status"] == "idle").then_some(()));
    assert_eq!(sandbox.run(["pause", "a", "--stop"])["stopped"], json!(["a"]));
    let status = sandbox.status("a");
    assert_eq!(
        (&status["status"], &status["waitingFor"]["kind"]),
        (&"idle".into(), &"paused".into())
    );
    // A message waits for the thaw.
    let sent = sandbox.run(["send", "a", "--message", "more"]);
    assert_eq!((sent.code, &sent["hint"]), (0, &"claudejob unpause a".into()), "{sent:?}");
    assert!(!sandbox.path("heard").exists());
    let finished = sandbox.run(["finish", "a"]);
    assert_eq!(
        (&finished["finished"], &finished["hint"]),
        (&false.into(), &"claudejob unpause a".into())
    );
    sandbox.run(["unpause", "a"]);
    let end = sandbox.wait("a");
    assert_eq!(end["result"], "two", "{end:?}");
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "more\n");
}

#[test]
fn an_unpause_during_the_freeze_wins() {
    let mut sandbox = Sandbox::new(GATED);
    let reached = sandbox.path("reached");
    sandbox.set("CLAUDEJOB_STOP_AT", "worker:freezing");
    sandbox.set("CLAUDEJOB_STOP_FILE", &reached);
    sandbox.start("a", &[]);
    sandbox.unset("CLAUDEJOB_STOP_AT");
    sandbox.unset("CLAUDEJOB_STOP_FILE");
    await_start(&sandbox, "a");
    // Its worker stops after it has read the pause.
    let paused = sandbox.run(["pause", "--stop"]);
    assert_eq!((paused.code, &paused["failed"][0]["code"]), (75, &"busy".into()), "{paused:?}");
    let worker = worker_of(&sandbox, "a");
    eventually("the stop", || is_stopped(worker).then_some(()));
    assert_eq!(sandbox.run(["unpause"])["continued"], json!([]));
    send(worker, Signal::SIGCONT);
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    let thawed = events(&sandbox, "a").into_iter().find(|event| event["event"] == "thawed");
    assert_eq!(thawed.unwrap()["number"], 0);
}

#[test]
fn a_stopped_worker_freezes_nothing_after_unpause() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    await_start(&sandbox, "a");
    let worker = worker_of(&sandbox, "a");
    send(worker, Signal::SIGSTOP);
    eventually("the stop", || is_stopped(worker).then_some(()));
    let paused = sandbox.run(["pause", "--stop"]);
    assert_eq!((paused.code, &paused["failed"][0]["code"]), (75, &"busy".into()), "{paused:?}");
    sandbox.run(["unpause"]);
    send(worker, Signal::SIGCONT);
    release(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    let events = events(&sandbox, "a");
    assert!(events.iter().all(|event| event["event"] != "frozen"), "{events:?}");
}

#[test]
fn a_job_that_calls_pause_is_not_frozen() {
    let mut sandbox = Sandbox::new(GATED);
    for id in ["a", "b"] {
        sandbox.start(id, &[]);
        await_start(&sandbox, id);
    }
    sandbox.set("CLAUDEJOB_DIR", sandbox.job("a"));
    let paused = sandbox.run(["pause", "--stop"]);
    sandbox.unset("CLAUDEJOB_DIR");
    assert_eq!((paused.code, &paused["stopped"]), (1, &json!(["b"])), "{paused:?}");
    let failed = &paused["failed"][0];
    assert_eq!((&failed["jobId"], &failed["code"]), (&"a".into(), &"not_frozen".into()));
    // An interrupt of a frozen job is answered at once, and waits in its input.
    let interrupted = sandbox.run(["interrupt", "b"]);
    assert_eq!((interrupted.code, &interrupted["hint"]), (1, &"claudejob unpause b".into()));
    sandbox.run(["unpause"]);
    for id in ["a", "b"] {
        release(&sandbox, id);
        sandbox.wait(id);
    }
}

#[test]
fn a_job_started_by_a_frozen_job_goes_on() {
    let sandbox =
        Sandbox::new("read\ninit\ntouch $DIR/inner-runs\nwait-file $DIR/go\nresult ok\neof");
    let outer = sandbox.path("outer");
    let program = env!("CARGO_BIN_EXE_claudejob");
    let fake = super::support::sandbox::fake_claude();
    let script = format!(
        "#!/bin/sh\nCLAUDE_SKILL_CLAUDE={} {program} start inner --prompt x >/dev/null\nexec sleep 600\n",
        fake.display()
    );
    super::support::install(&outer, script.as_bytes());
    sandbox.start("outer", &["--claude", outer.to_str().unwrap()]);
    await_file(&sandbox.path("inner-runs"));
    eventually("sleep", || {
        let pids = tree(&sandbox, "outer");
        pids.iter().any(|&pid| super::support::processes::program_of(pid) == "sleep").then_some(())
    });
    let paused = sandbox.run(["pause", "outer", "--stop"]);
    assert_eq!(paused["stopped"], json!(["outer"]), "{paused:?}");
    assert!(is_stopped(sandbox.claude_pid("outer")));
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("inner").expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["kill", "outer"])["killed"], true);
}
