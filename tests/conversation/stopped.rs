//! Senders that are stopped (SIGSTOP) at each of their steps, and continued.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use super::support::processes::kill;
use super::support::{Answer, Sandbox, await_file, eventually};
use super::{await_heard, inbox, lines, turns};

const STEPS: [&str; 9] = [
    "send:looked",
    "send:written",
    "send:locked",
    "send:numbered",
    "send:reserved",
    "send:checked",
    "send:linked",
    "send:posted",
    "send:accepted",
];
/// The steps from which on the message counts as accepted.
const ACCEPTED: [&str; 3] = ["send:linked", "send:posted", "send:accepted"];
const SEND: [&str; 4] = ["send", "j", "--message", "M"];
const TALKS: &str = "read\ninit\nresult one\nhear-all $DIR/heard";

/// How often the ended job has received the text or reports it as undelivered.
#[track_caller]
fn times_delivered(sandbox: &Sandbox, text: &str) -> usize {
    let result = sandbox.run(["result", "j", "--full"]);
    let undelivered = result["undeliveredMessages"].as_array().unwrap();
    let reported = undelivered.iter().filter(|message| message["text"] == text).count();
    reported + lines(sandbox, "heard").iter().filter(|heard| *heard == text).count()
}

/// Asserts that an accepted message was delivered or reported once, and a refused one was not.
#[track_caller]
fn assert_delivered_once(sandbox: &Sandbox, step: &str, answer: &Answer) {
    if answer.code == 0 {
        assert_eq!(times_delivered(sandbox, "M"), 1, "{step}: {answer:?}");
    } else {
        assert_eq!(answer["code"], "job_ended", "{step}: {answer:?}");
        assert!(!ACCEPTED.contains(&step), "{step}: {answer:?}");
        assert_eq!(times_delivered(sandbox, "M"), 0, "{step}: {answer:?}");
    }
    assert_tidy(sandbox, step);
}

/// Asserts that no sender has left a file.
#[track_caller]
fn assert_tidy(sandbox: &Sandbox, step: &str) {
    let entries = fs::read_dir(sandbox.job("j").join("inbox")).unwrap().flatten();
    let drafts: Vec<_> = entries.filter(|e| e.path().extension() == Some("tmp".as_ref())).collect();
    assert!(drafts.is_empty(), "{step}: {drafts:?}");
}

#[track_caller]
fn await_idle(sandbox: &Sandbox) {
    eventually("idleness", || (sandbox.status("j")["status"] == "idle").then_some(()));
}

#[track_caller]
fn finish(sandbox: &Sandbox) {
    let answer = sandbox.run(["finish", "j"]);
    assert_eq!((answer.code, &answer["finished"]), (0, &true.into()), "{answer:?}");
}

#[test]
fn a_stopped_sender_blocks_neither_job_nor_verbs() {
    for step in STEPS {
        let mut sandbox = Sandbox::new(
            "read\ninit\nsay hi\ntouch $DIR/up\nwait-file $DIR/go\nresult one\n\
             hear-all $DIR/heard",
        );
        sandbox.start("j", &[]);
        await_file(&sandbox.path("up"));
        let answer = sandbox.pause_at(step, SEND, |sandbox| {
            assert_eq!(sandbox.run(["list"]).json[0]["status"], "running", "{step}");
            let other = sandbox.run(["send", "j", "--message", "other"]);
            assert_eq!(other.code, 0, "{step}: {other:?}");
            fs::write(sandbox.path("go"), "").unwrap();
            sandbox.wait("j").expect_end(0, "completed", None);
        });
        assert_delivered_once(&sandbox, step, &answer);
        assert_eq!(times_delivered(&sandbox, "other"), 1, "{step}");
        let numbers: Vec<Value> = turns(&sandbox, "j")
            .iter()
            .flat_map(|t| t["messages"].as_array().unwrap().clone())
            .collect();
        let distinct: std::collections::BTreeSet<String> =
            numbers.iter().map(Value::to_string).collect();
        assert_eq!(numbers.len(), distinct.len(), "{step}: {numbers:?}");
    }
}

#[test]
fn interrupts_and_kills_a_job_with_a_stopped_sender() {
    for step in STEPS {
        let mut sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\nhang");
        sandbox.start("j", &["--keep-alive"]);
        await_file(&sandbox.path("up"));
        let answer = sandbox.pause_at(step, SEND, |sandbox| {
            if ["send:posted", "send:accepted"].contains(&step) {
                // The worker was told of the message.
                await_heard(sandbox, "j", "isReplay");
            }
            if !ACCEPTED.contains(&step) {
                let interrupted = sandbox.run(["interrupt", "j"]);
                assert_eq!(interrupted["interrupted"], true, "{step}: {interrupted:?}");
            }
            let killed = sandbox.run(["kill", "j"]);
            assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{step}: {killed:?}");
        });
        assert_delivered_once(&sandbox, step, &answer);
    }
}

#[test]
fn a_sender_continued_in_a_later_attempt_sends_once() {
    for step in STEPS {
        let mut sandbox = Sandbox::new(TALKS);
        sandbox.start("j", &["--keep-alive"]);
        await_idle(&sandbox);
        let answer = sandbox.pause_at(step, SEND, |sandbox| {
            finish(sandbox);
            sandbox.script("init\nhear-all $DIR/heard");
            assert_eq!(sandbox.run(["resume", "j", "--message", "again"]).code, 0);
            await_idle(sandbox);
        });
        assert_eq!(answer.code, 0, "{step}: {answer:?}");
        await_idle(&sandbox);
        finish(&sandbox);
        assert_delivered_once(&sandbox, step, &answer);
        assert_eq!(lines(&sandbox, "heard").len(), 2, "{step}");
    }
}

#[test]
fn a_message_does_not_reach_a_new_job_of_the_same_id() {
    for step in STEPS {
        let mut sandbox = Sandbox::new(TALKS);
        sandbox.start("j", &["--keep-alive"]);
        await_idle(&sandbox);
        let answer = sandbox.pause_at(step, SEND, |sandbox| {
            finish(sandbox);
            assert_eq!(sandbox.run(["clean", "j"]).code, 0);
            let _ = fs::remove_file(sandbox.path("heard"));
            sandbox.start("j", &["--keep-alive"]);
            await_idle(sandbox);
        });
        let code = if ACCEPTED.contains(&step) { "not_found" } else { "job_ended" };
        assert_eq!(answer["code"], code, "{step}: {answer:?}");
        assert!(inbox(&sandbox, "j").is_empty(), "{step}");
        assert_tidy(&sandbox, step);
        finish(&sandbox);
        assert!(lines(&sandbox, "heard").is_empty(), "{step}");
    }
}

#[test]
fn reports_or_refuses_messages_to_a_dying_worker() {
    for step in STEPS {
        let mut sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhang");
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        let answer = sandbox.pause_at(step, SEND, |sandbox| {
            kill(worker);
            assert_eq!(sandbox.status("j")["reason"], "worker_died", "{step}");
        });
        assert_delivered_once(&sandbox, step, &answer);
    }
    // Nothing reads the job before the sender continues.
    for step in STEPS {
        let mut sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhang");
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        let answer = sandbox.pause_at(step, SEND, |_| kill(worker));
        assert_eq!((answer.code, &answer["status"]), (0, &"failed".into()), "{step}: {answer:?}");
        assert_delivered_once(&sandbox, step, &answer);
    }
}

#[test]
fn the_lock_of_earlier_versions_blocks_no_end() {
    let sandbox = Sandbox::new(TALKS);
    sandbox.start("j", &["--keep-alive"]);
    await_idle(&sandbox);
    assert_eq!(sandbox.run(["send", "j", "--message", "one", "--wait", "1m"]).code, 0);
    let desk = File::open(sandbox.job("j").join("inbox/.desk")).unwrap();
    desk.lock().unwrap();
    let answer = sandbox.run(["send", "j", "--message", "two", "--wait", "1m"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    finish(&sandbox);
    assert_eq!(lines(&sandbox, "heard"), ["one", "two"]);
}

#[test]
fn delivers_messages_beside_a_high_numbered_file() {
    let put = |path: &Path| fs::write(path, "garbage").unwrap();
    for name in ["9999999999.json", "999999999999999.json", "99999999999999999999.json"] {
        let sandbox = Sandbox::new(TALKS);
        sandbox.start("j", &["--keep-alive"]);
        await_idle(&sandbox);
        put(&sandbox.job("j").join("inbox").join(name));
        let answer = sandbox.run(["send", "j", "--message", "M", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard M", "{name}: {answer:?}");
        let answer = sandbox.run(["send", "j", "--message", "N", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard N", "{name}: {answer:?}");
        finish(&sandbox);
    }
}
