//! Jobs that are kept alive: idle jobs, restarts of claude, and `finish`.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::send;
use crate::support::{Answer, Sandbox, await_file, eventually};
use crate::{lines, turns};

fn await_status(sandbox: &Sandbox, id: &str, status: &str) {
    eventually(status, || (sandbox.status(id)["status"] == status).then_some(()));
}

#[test]
fn a_kept_alive_job_answers_until_it_is_finished() {
    let sandbox = Sandbox::new("read\ninit\nresult one\nhear-all $DIR/heard");
    sandbox.start("j", &["--keep-alive"]);
    await_status(&sandbox, "j", "idle");
    assert_eq!(sandbox.run(["result", "j"])["result"], "one");
    let answer = sandbox.run(["send", "j", "--message", "two", "--wait", "1m"]);
    assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
    assert_eq!(answer["status"], "idle");
    assert_eq!(sandbox.run(["result", "j"])["result"], "heard two");
    let said = sandbox.run(["send", "j", "--message", "three", "--follow", "--plain"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("three") && said.stdout.contains("= done"), "{said:?}");
    let followed = sandbox.run(["send", "j", "--message", "four", "--follow"]);
    let last: Value = serde_json::from_str(followed.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["turn"]["result"], "heard four", "{followed:?}");
    assert_eq!(last["turn"]["durationMs"], 81);
    assert_eq!(last["turn"]["sessionId"], sandbox.status("j")["sessionId"]);
    await_status(&sandbox, "j", "idle");
    assert_eq!(sandbox.run(["wait", "j", "--timeout", "100ms"]).code, 124);
    let end = sandbox.run(["finish", "j"]);
    assert_eq!((end.code, &end["finished"]), (0, &true.into()), "{end:?}");
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(turns(&sandbox, "j").len(), 4);
    sandbox.start("k", &["--keep-alive", "--idle-timeout", "200ms"]);
    sandbox.wait("k").expect_end(0, "completed", None);
    sandbox.script("read\ninit\nhear\nresult ok\neof");
    sandbox.start("l", &[]);
    assert_eq!(sandbox.run(["finish", "l"])["code"], "not_kept_alive");
}

/// A line of the turn that has the record saved at once, and the lines after it arrive together.
#[test]
fn a_job_is_idle_when_its_answer_can_be_read() {
    let recorded = include_str!("../fixtures/transcripts/2.1.332/success.ndjson");
    let retry =
        r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":0}"#;
    let mut sandbox = Sandbox::new("read\nplay $DIR/turn\neof");
    fs::write(sandbox.path("turn"), format!("{retry}\n{recorded}")).unwrap();
    let start = ["start", "--job-id", "j", "--prompt", "work", "--keep-alive"];
    sandbox.pause_at("end:outcome-written", start, |sandbox| {
        assert_eq!(sandbox.status("j")["status"], "running");
    });
    await_status(&sandbox, "j", "idle");
    assert!(sandbox.run(["result", "j"])["result"].is_string());
    sandbox.run(["finish", "j"]);
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_job_with_a_waiting_message_is_not_idle() {
    let rests = "session\nread\ninit\nresult one\nwait-file $DIR/go\nhear $DIR/heard\n\
                 wait-file $DIR/on\nresult two\nhear-all $DIR/heard";
    let sandbox = Sandbox::new(rests);
    let is_running = |when: &str| {
        for verb in ["status", "result"] {
            assert_eq!(sandbox.run([verb, "j"])["status"], "running", "{verb} {when}");
        }
        assert_eq!(sandbox.run(["list"]).json[0]["status"], "running", "{when}");
        let waited = sandbox.run(["wait", "j", "--timeout", "10ms"]);
        assert_eq!((waited.code, &waited["status"]), (124, &"running".into()), "{when}");
    };
    sandbox.start("j", &["--keep-alive"]);
    await_status(&sandbox, "j", "idle");
    assert_eq!(sandbox.run(["send", "j", "--message", "two"])["status"], "running");
    is_running("sent");
    // Claude is slow to accept the message: the worker does not wait for that.
    let record = sandbox.job("j").join("meta.json");
    eventually("a worker that calls it idle", || {
        fs::read_to_string(&record).unwrap().contains("\"status\":\"idle\"").then_some(())
    });
    is_running("still in the inbox");
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.path("heard"));
    is_running("taken in");
    fs::write(sandbox.path("on"), "").unwrap();
    await_status(&sandbox, "j", "idle");
    assert_eq!(sandbox.run(["result", "j"])["result"], "two");
    for n in 0..20 {
        let answer = sandbox.run(["send", "j", "--message", &n.to_string(), "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], format!("heard {n}"), "{answer:?}");
        assert_eq!(answer["status"], "idle", "{answer:?}");
    }
    // The same after the job has ended and is resumed.
    assert_eq!(sandbox.run(["finish", "j"])["finished"], true);
    sandbox.script("session\nwait-file $DIR/again\nhear-all $DIR/heard");
    sandbox.run(["resume", "j", "--message", "three"]);
    eventually("a worker that calls it idle", || {
        fs::read_to_string(&record).unwrap().contains("\"status\":\"idle\"").then_some(())
    });
    is_running("resumed");
    fs::write(sandbox.path("again"), "").unwrap();
    await_status(&sandbox, "j", "idle");
    assert_eq!(sandbox.run(["result", "j"])["result"], "heard three");
    assert_eq!(sandbox.run(["finish", "j"])["finished"], true);
}

#[test]
fn twenty_senders_to_one_job_get_their_own_answers() {
    let sandbox = Sandbox::new("read\ninit\nresult one\nhear-all $DIR/heard");
    sandbox.start("j", &["--keep-alive"]);
    thread::scope(|scope| {
        for sender in 0..20 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for n in 0..if sender < 10 { 3 } else { 2 } {
                    let text = format!("{sender}-{n}");
                    let answer = sandbox.run(["send", "j", "--message", &text, "--wait", "1m"]);
                    assert_eq!(answer["turn"]["result"], format!("heard {text}"), "{answer:?}");
                }
            });
        }
    });
    assert_eq!(sandbox.run(["finish", "j"])["finished"], true);
    let mut heard = lines(&sandbox, "heard");
    let all = heard.len();
    heard.sort();
    heard.dedup();
    assert_eq!((all, heard.len()), (50, 50));
    let numbers: Vec<u64> = turns(&sandbox, "j")
        .iter()
        .flat_map(|turn| turn["messages"].as_array().unwrap().clone())
        .map(|number| number.as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>(), "in the order of arrival");
}

#[test]
fn restarts_a_claude_killed_between_or_in_turns() {
    let sandbox = Sandbox::new("session\nread\ninit\nresult one\nhear-all $DIR/heard");
    sandbox.start("idle", &["--keep-alive"]);
    await_status(&sandbox, "idle", "idle");
    sandbox.script("args $DIR/args\nsession\nhear-all $DIR/heard");
    send(sandbox.claude_pid("idle"), Signal::SIGKILL);
    let answer = sandbox.run(["send", "idle", "--message", "two", "--wait", "1m"]);
    assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
    assert!(fs::read_to_string(sandbox.path("args")).unwrap().contains("--resume"));
    assert_eq!(sandbox.status("idle")["attempt"], 2);
    assert_eq!(sandbox.run(["finish", "idle"])["finished"], true);

    sandbox.script("session\nread\ninit\nsay hi\ntouch $DIR/up\nhang");
    sandbox.start("busy", &["--keep-alive"]);
    await_file(&sandbox.path("up"));
    sandbox.script("session\nread $DIR/said\ninit\nresult done\nhear-all $DIR/heard");
    send(sandbox.claude_pid("busy"), Signal::SIGKILL);
    await_status(&sandbox, "busy", "idle");
    assert_eq!(sandbox.run(["result", "busy"])["result"], "done");
    assert!(fs::read_to_string(sandbox.path("said")).unwrap().contains("You were interrupted"));
    assert_eq!(sandbox.run(["finish", "busy"])["finished"], true);
}

#[test]
fn recovers_an_idle_job_as_idle() {
    let sandbox = Sandbox::new("session\nread\ninit\nresult one\nhear-all $DIR/heard");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let id = signal.as_str();
        sandbox.script("session\nread\ninit\nresult one\nhear-all $DIR/heard");
        let worker = sandbox.start(id, &["--keep-alive"])["pid"].as_i64().unwrap() as i32;
        // The line of the turn comes after the record.
        let log = sandbox.job(id).join("turns.ndjson");
        eventually("the end of its turn", || {
            fs::read_to_string(&log).ok()?.ends_with('\n').then_some(())
        });
        send(worker, signal);
        // No caller has finished the job. The worker exits after it has recorded the end.
        assert_eq!(sandbox.wait(id)["status"], "failed");
        sandbox.script("session\nhear-all $DIR/heard");
        assert_eq!(sandbox.run(["recover", id]).code, 0);
        await_status(&sandbox, id, "idle");
        let answer = sandbox.run(["send", id, "--message", "two", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
        assert_eq!(sandbox.run(["finish", id])["finished"], true);
        sandbox.wait(id).expect_end(0, "completed", None);
        assert_eq!(turns(&sandbox, id).len(), 2, "no unrequested turn");
    }
}

#[test]
fn limits_the_number_of_restarts() {
    let sandbox = Sandbox::new("session\nread\ninit\ndie KILL");
    let end = sandbox.run_job("j", &["--keep-alive", "--max-restarts", "1"]);
    end.expect_end(1, "failed", Some("no_result"));
    assert_eq!(end["attempt"], 2);
    sandbox.run_job("n", &["--keep-alive", "--restart", "no"]).expect_end(
        1,
        "failed",
        Some("no_result"),
    );
    // A kill does not wait for the next attempt.
    sandbox.start("k", &["--keep-alive"]);
    let events = sandbox.job("k").join("events.ndjson");
    eventually("the wait", || {
        fs::read_to_string(&events).unwrap().contains("restarting").then_some(())
    });
    assert_eq!(sandbox.run(["kill", "k"])["killed"], true);
}

#[test]
fn restarts_a_claude_that_an_update_replaces() {
    let mut sandbox = Sandbox::new(
        "session\nread\ninit\nonce $DIR/once wait-file $DIR/go\nonce $DIR/died die KILL\n\
         result done\neof",
    );
    let program = sandbox.path("claude");
    let away = sandbox.path("claude.old");
    crate::support::install(&program, &fs::read(crate::support::sandbox::fake_claude()).unwrap());
    sandbox.set("CLAUDE_SKILL_CLAUDE", &program);
    for (id, options, retries) in [
        ("one-shot", &["--retries", "9999", "--max-backoff", "300ms"][..], "retrying"),
        ("kept", &["--keep-alive"], "restarting"),
    ] {
        for file in ["once", "go", "died"] {
            let _ = fs::remove_file(sandbox.path(file));
        }
        sandbox.start(id, options);
        await_file(&sandbox.path("once"));
        fs::rename(&program, &away).unwrap();
        fs::write(sandbox.path("go"), "").unwrap();
        let is_told = |status: &Answer| status["warnings"].to_string().contains("claude is gone");
        let status = eventually("the second attempt", || Some(sandbox.status(id)).filter(is_told));
        let events = fs::read_to_string(sandbox.job(id).join("events.ndjson")).unwrap();
        let failed = events.find("launch_failed").unwrap();
        assert!(events[failed..].contains(retries), "{events}");
        if id == "kept" {
            assert_eq!(
                (&status["status"], &status["waitingFor"]["kind"]),
                (&"running".into(), &"retry".into())
            );
        }
        fs::rename(&away, &program).unwrap();
        if id == "kept" {
            eventually("idle", || (sandbox.status(id)["status"] == "idle").then_some(()));
            sandbox.run(["finish", id]);
        }
        let result = sandbox.wait(id);
        result.expect_end(0, "completed", None);
        assert_eq!(result["result"], "done");
    }
    fs::remove_file(&program).unwrap();
    let mut path = sandbox.path("nothing").into_os_string();
    path.push(":/usr/bin");
    sandbox.set("PATH", path);
    let gone = sandbox.run(["resume", "kept"]);
    assert_eq!((gone.code, &gone["code"]), (1, &"claude_not_found".into()), "{gone:?}");
    assert!(gone.text("error").contains(program.to_str().unwrap()), "{gone:?}");
}

/// Asserts that `finish` of a kept-alive job that does not end soon names this kind of wait.
#[track_caller]
fn assert_finish_waits_for(script: &str, status: &str, kind: &str, has_end: bool) {
    let sandbox = Sandbox::new(script);
    sandbox.start("j", &["--keep-alive"]);
    await_file(&sandbox.path("up"));
    eventually(status, || (sandbox.status("j")["status"] == status).then_some(()));
    let finish = sandbox.run(["finish", "j"]);
    assert_eq!((finish.code, &finish["finished"]), (0, &false.into()), "{finish:?}");
    assert_eq!(finish["waitingFor"]["kind"], kind, "{finish:?}");
    assert_eq!(finish["waitingFor"]["until"].is_string(), has_end, "{finish:?}");
    sandbox.run(["kill", "j"]);
}

#[test]
fn finish_says_that_claude_has_not_ended() {
    // It does not end, and is not silent: after 10 s of silence it would be terminated.
    let alive = r#"json {"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}"#;
    let stays = format!("sh sleep 2\n{alive}\n").repeat(15);
    let script = format!("read\ninit\nresult one\ntouch $DIR/up\neof\n{stays}hang");
    assert_finish_waits_for(&script, "idle", "exit", true);
}

#[test]
fn finish_says_that_a_turn_is_in_progress() {
    assert_finish_waits_for("read\ninit\nsay one\ntouch $DIR/up\nhang", "running", "turn", false);
}
