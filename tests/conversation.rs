//! Talking to jobs end to end, with the fake claude: messages, interrupts, and jobs that go on
//! after their end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::send;
use support::{Answer, Sandbox, await_file, eventually, is_alive};

fn lines(sandbox: &Sandbox, file: &str) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn turns(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("turns.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn inbox(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let entries = fs::read_dir(sandbox.job(id).join("inbox")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn a_message_is_taken_into_the_turn_and_its_sender_gets_the_answer() {
    let sandbox =
        Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\nresult both\neof");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let answer = sandbox.run(["send", "j", "--message", "and \"this\"", "--wait", "1m"]);
    assert_eq!((answer.code, &answer["message"]), (0, &1.into()), "{answer:?}");
    assert_eq!(answer["turn"]["result"], "both");
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(lines(&sandbox, "heard"), ["and \"this\""]);
    assert!(inbox(&sandbox, "j").is_empty());
    assert_eq!(turns(&sandbox, "j")[0]["messages"], serde_json::json!([1]));
    assert!(sandbox.run(["logs", "j"]).text("tail").contains("and \"this\""));
    let late = sandbox.run(["send", "j", "--message", "late"]);
    assert_eq!((late.code, &late["code"]), (1, &"job_ended".into()));
    assert!(late.text("hint").contains("resume"));
}

#[test]
fn twenty_senders_are_heard_once_each_and_in_their_order() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear-all $DIR/heard");
    sandbox.start("j", &["--background-wait", "1m"]);
    await_file(&sandbox.path("up"));
    let mut sent: Vec<(u64, String)> = thread::scope(|scope| {
        let senders: Vec<_> = (0..20)
            .map(|sender| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let send = |n: usize| {
                        let text = format!("{sender}-{n}");
                        let answer = sandbox.run(["send", "j", "--message", &text]);
                        (answer["message"].as_u64(), text)
                    };
                    (0..3).map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        let sent = senders.into_iter().flat_map(|sender| sender.join().unwrap());
        // Whoever came after the last result was refused, and knows it.
        sent.filter_map(|(number, text)| Some((number?, text))).collect()
    });
    let end = sandbox.wait("j");
    end.expect_end(0, "completed", None);
    sent.sort();
    let undelivered = end["undelivered"].as_array().map_or(0, Vec::len);
    let in_order: Vec<String> = sent.into_iter().map(|(_, text)| text).collect();
    let heard = lines(&sandbox, "heard");
    assert!(!heard.is_empty());
    assert_eq!(heard, in_order[..in_order.len() - undelivered]);
}

#[test]
fn what_was_not_heard_is_reported_and_comes_first_when_the_job_goes_on() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nwait-file $DIR/go\ndie KILL");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    for text in ["one", "two"] {
        assert_eq!(sandbox.run(["send", "j", "--message", text]).code, 0);
    }
    fs::write(sandbox.path("go"), "").unwrap();
    let end = sandbox.wait("j");
    end.expect_end(1, "failed", Some("no_result"));
    let texts: Vec<&str> = end["undelivered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["one", "two"]);
    sandbox.script("init\nhear-all $DIR/heard");
    let resumed = sandbox.run(["resume", "j", "--message", "three"]);
    assert_eq!((resumed.code, &resumed["attempt"]), (0, &2.into()), "{resumed:?}");
    let end = sandbox.wait("j");
    end.expect_end(0, "completed", None);
    assert_eq!(lines(&sandbox, "heard"), ["one", "two", "three"]);
    assert!(end["undelivered"].is_null() && inbox(&sandbox, "j").is_empty(), "{end:?}");
}

#[test]
fn a_worker_that_is_killed_loses_no_message_and_delivers_none_twice() {
    let sandbox =
        Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\ntouch $DIR/one\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    sandbox.run(["send", "j", "--message", "one"]);
    await_file(&sandbox.path("one"));
    let log = sandbox.job("j").join("output.log");
    eventually("the word of it", || {
        fs::read_to_string(&log).unwrap().contains("isReplay").then_some(())
    });
    sandbox.run(["send", "j", "--message", "two"]);
    send(worker, Signal::SIGKILL);
    eventually("the worker's end", || (!is_alive(worker)).then_some(()));
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "worker_died");
    let result = sandbox.run(["result", "j"]);
    assert_eq!(result["undelivered"][0]["text"], "two", "{result:?}");
    assert_eq!(inbox(&sandbox, "j").len(), 1);
    sandbox.script("init\nhear-all $DIR/heard");
    sandbox.run(["resume", "j", "--message", "three"]);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(lines(&sandbox, "heard"), ["one", "two", "three"]);
}

#[test]
fn an_interrupt_ends_the_turn_and_a_one_shot_job() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\ntool Bash ls\ntouch $DIR/up\nhear\neof");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let answer = sandbox.run(["interrupt", "j"]);
    assert_eq!((answer.code, &answer["interrupted"]), (0, &true.into()), "{answer:?}");
    sandbox.wait("j").expect_end(1, "failed", Some("interrupted"));
    assert_eq!(turns(&sandbox, "j")[0]["interrupted"], true);
    assert_eq!(sandbox.run(["interrupt", "j"])["code"], "job_ended");
}

#[test]
fn jobs_go_on_after_any_end() {
    for (script, end) in [
        ("session\nread\ninit\nsay hi\nresult one\neof", "completed"),
        ("session\nread\ninit\nsay hi\ntouch $DIR/up\nhang", "killed"),
        ("session\nread\ninit\nsay hi\nexit 3", "failed"),
    ] {
        let sandbox = Sandbox::new(script);
        sandbox.start("j", &[]);
        if end == "killed" {
            await_file(&sandbox.path("up"));
            sandbox.run(["kill", "j"]);
        }
        let first = sandbox.wait("j");
        assert_eq!(first["status"], end);
        sandbox.script("args $DIR/args\nsession\ninit\nhear-all $DIR/heard");
        assert_eq!(sandbox.run(["resume", "j"]).code, 0, "{end}");
        let second = sandbox.wait("j");
        second.expect_end(0, "completed", None);
        assert_eq!(second["session_id"], first["session_id"]);
        assert_eq!(second["attempt"], 2);
        assert_eq!(lines(&sandbox, "heard"), ["Go on with the task."]);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(args.contains("\"--resume\"") && !args.contains("--session-id"), "{args}");
        // As a job of its own, with a copy of the session.
        let options = ["start", "k", "--resume-job", "j", "--fork", "--prompt", "and now"];
        sandbox.script("args $DIR/args\nread $DIR/said\ninit\nresult two\neof");
        assert_eq!(sandbox.run(options).code, 0);
        sandbox.wait("k").expect_end(0, "completed", None);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(args.contains("--fork-session") && args.contains("\"--resume\""), "{args}");
    }
}

#[test]
fn what_cannot_be_said_is_refused_and_the_job_goes_on() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\nwait-file $DIR/go\nresult ok\neof",
    );
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let long = "x".repeat(10_000_001);
    for (message, code) in
        [("", "empty_message"), (" \n", "empty_message"), ("-", "message_too_long")]
    {
        let answer: Answer =
            sandbox.run_with_stdin(["send", "j", "--message", message], long.as_str());
        assert_eq!((answer.code, &answer["code"]), (1, &code.into()), "{answer:?}");
    }
    assert_eq!(sandbox.run(["send", "j"]).code, 2);
    assert_eq!(sandbox.run(["send", "nobody", "--message", "x"]).code, 4);
    assert_eq!(sandbox.run(["resume", "j"])["code"], "not_resumable");
    // Somebody else's file in the inbox.
    let job = sandbox.job("j");
    fs::write(job.join("foreign"), "{\"kind\":\"dance\"}").unwrap();
    fs::rename(job.join("foreign"), job.join("inbox/0000000007.json")).unwrap();
    eventually("the word of it", || {
        let events = fs::read_to_string(job.join("events.ndjson")).unwrap();
        events.contains("message_refused").then_some(())
    });
    // Ten million bytes are none too many.
    let big = "y".repeat(10_000_000);
    let answer = sandbox.run_with_stdin(["send", "j", "--message", "-"], big.as_str());
    assert_eq!((answer.code, answer["message"].as_u64()), (0, Some(1)), "{}", answer.stdout);
    fs::write(sandbox.path("go"), "").unwrap();
    let end = sandbox.wait("j");
    end.expect_end(0, "completed", None);
    assert!(end["warnings"].to_string().contains("message 7 could not be read"), "{end:?}");
    assert!(lines(&sandbox, "heard")[0] == big);
}
