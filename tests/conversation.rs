//! Talking to jobs end to end, with the fake claude: messages, interrupts, and jobs that go on
//! after their end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "conversation/stopped.rs"]
mod stopped;
mod support;

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{kill, send};
use support::{Answer, Sandbox, await_file, eventually, pid_in};

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
fn a_message_that_was_heard_is_not_refused_because_the_job_has_ended_since() {
    let mut sandbox =
        Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\nresult both\neof");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let answer = sandbox.pause_at("send:accepted", ["send", "j", "--message", "more"], |sandbox| {
        sandbox.wait("j").expect_end(0, "completed", None);
    });
    assert_eq!((answer.code, &answer["message"]), (0, &1.into()), "{answer:?}");
    assert_eq!(answer["status"], "completed");
    assert_eq!(lines(&sandbox, "heard"), ["more"]);
}

#[test]
fn a_turn_that_goes_on_after_a_crash_has_the_messages_that_it_took_in() {
    let sandbox = Sandbox::new(
        "session\nread\ninit\nsay hi\ntouch $DIR/up\nonce $DIR/took hear $DIR/heard\n\
         once $DIR/died die KILL\nresult both\neof",
    );
    for retries in ["1", "0"] {
        for file in ["up", "took", "heard", "died"] {
            let _ = fs::remove_file(sandbox.path(file));
        }
        let id = format!("retries-{retries}");
        sandbox.start(&id, &["--retries", retries, "--max-backoff", "10ms"]);
        await_file(&sandbox.path("up"));
        if retries == "1" {
            let answer = sandbox.run(["send", &id, "--message", "more", "--wait", "1m"]);
            assert_eq!(answer["turn"]["result"], "both", "{answer:?}");
        } else {
            sandbox.run(["send", &id, "--message", "more"]);
            sandbox.wait(&id).expect_end(1, "failed", Some("no_result"));
            assert_eq!(sandbox.run(["recover", &id]).code, 0);
        }
        sandbox.wait(&id).expect_end(0, "completed", None);
        assert_eq!(lines(&sandbox, "heard"), ["more"], "once");
        assert_eq!(turns(&sandbox, &id)[0]["messages"], serde_json::json!([1]));
    }
}

#[test]
fn a_message_is_told_again_where_the_conversation_that_held_it_is_gone() {
    let sandbox = Sandbox::new(
        "session\nread\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\n\
         once $DIR/died die KILL\nresult both\neof",
    );
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    sandbox.run(["send", "j", "--message", "more"]);
    sandbox.wait("j").expect_end(1, "failed", Some("no_result"));
    fs::remove_dir_all(sandbox.path("sessions")).unwrap();
    assert_eq!(sandbox.run(["recover", "j"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(lines(&sandbox, "heard"), ["more", "more"]);
    assert_eq!(turns(&sandbox, "j")[0]["messages"], serde_json::json!([1]));
    assert_eq!(sandbox.status("j")["attempt"], 3);
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
    let undelivered = end["undeliveredMessages"].as_array().unwrap().len();
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
    assert_eq!(end["undelivered"], end["undeliveredMessages"], "the name of earlier versions");
    let texts: Vec<&str> = end["undeliveredMessages"]
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
    assert_eq!(end["undeliveredMessages"], serde_json::json!([]));
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
    kill(worker);
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "worker_died");
    let result = sandbox.run(["result", "j"]);
    assert_eq!(result["undeliveredMessages"][0]["text"], "two", "{result:?}");
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
fn an_interrupt_that_stops_no_turn_says_why() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\nhang");
    sandbox.start("j", &[]);
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| sandbox.run(["interrupt", "j"]));
        eventually("the interrupt", || {
            let events = fs::read_to_string(sandbox.job("j").join("events.ndjson")).unwrap();
            events.contains("interrupt_requested").then_some(())
        });
        assert_eq!(sandbox.run(["kill", "j"]).code, 0);
        call.join().unwrap()
    });
    assert_eq!(answer["interrupted"], false, "{answer:?}");
    assert_eq!(answer["error"], "it ended before the interrupt");
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
    fs::write(job.join("inbox/.bell"), "!").unwrap();
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

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"/etc/x","content":"hello"},"tool_use_id":"t2"}}"#;

fn answered(sandbox: &Sandbox, file: &str) -> Value {
    let line: Value = serde_json::from_slice(&fs::read(sandbox.path(file)).unwrap()).unwrap();
    assert_eq!(line["type"], "control_response");
    line["response"].clone()
}

#[test]
fn a_question_blocks_the_job_until_it_is_answered() {
    let script =
        format!("args $DIR/args\nread\ninit\n{QUESTION}\nread $DIR/answer\nresult ok\neof");
    for (given, said) in [(["--choice", "Postgres"], "Postgres"), (["--text", "a file"], "a file")]
    {
        let sandbox = Sandbox::new(&script);
        sandbox.start("j", &["--ask"]);
        let blocked = sandbox.run(["wait", "j", "--timeout", "1m"]);
        assert_eq!((blocked.code, &blocked["status"]), (5, &"blocked".into()), "{blocked:?}");
        let asked = &blocked["blocked"];
        assert_eq!((&asked["kind"], &asked["requestId"]), (&"question".into(), &"q1".into()));
        assert_eq!(asked["questions"][0]["options"][1]["label"], "Postgres");
        assert!(sandbox.run(["status", "j", "--full"])["blocked"]["input"].is_string());
        let listed = sandbox.run(["list"]).json[0].clone();
        assert_eq!(listed["blocked"]["questions"][0]["header"], "DB", "{listed}");
        assert_eq!(listed["status"], "blocked");
        let wrong = sandbox.run(["answer", "j", "--choice", "Oracle"]);
        assert_eq!((wrong.code, &wrong["code"]), (1, &"wrong_answer".into()));
        assert!(wrong.text("error").contains("SQLite, Postgres"), "{wrong:?}");
        assert_eq!(sandbox.run(["answer", "j", "--allow"])["code"], "wrong_answer");
        assert_eq!(sandbox.run(["answer", "j"]).code, 2);
        let answer = sandbox.run([&["answer", "j"], &given[..]].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        let response = answered(&sandbox, "answer");
        assert_eq!(response["request_id"], "q1");
        let input = &response["response"]["updatedInput"];
        assert_eq!(input["answers"]["Which database?"], said);
        assert_eq!(input["questions"][0]["header"], "DB");
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(args.contains("\"--permission-prompt-tool\",\"stdio\""), "{args}");
        assert_eq!(sandbox.run(["answer", "j", "--choice", "SQLite"])["code"], "job_ended");
    }
}

#[test]
fn of_two_answers_one_wins_and_of_two_requests_each_has_its_own() {
    let script = format!(
        "read\ninit\n{QUESTION}\n{PERMISSION}\ntouch $DIR/up\nread $DIR/a\nread $DIR/b\nresult ok\neof"
    );
    let sandbox = Sandbox::new(&script);
    sandbox.start("j", &["--ask"]);
    await_file(&sandbox.path("up"));
    eventually("both", || (sandbox.status("j")["blocked"]["others"][0] == "p1").then_some(()));
    let unnamed = sandbox.run(["answer", "j", "--deny"]);
    assert_eq!(unnamed["code"], "nothing_asked");
    assert!(unnamed.text("error").contains("q1, p1"), "{unnamed:?}");
    let deny = ["answer", "j", "--request-id", "p1", "--deny", "--message", "not there"];
    let answers: Vec<Answer> = thread::scope(|scope| {
        let calls: Vec<_> = (0..5).map(|_| scope.spawn(|| sandbox.run(deny))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.code == 0).count(), 1, "{answers:#?}");
    for answer in answers.iter().filter(|answer| answer.code != 0) {
        assert!(answer["answered"] == false || answer["code"] == "nothing_asked", "{answer:?}");
    }
    assert_eq!(sandbox.run(["answer", "j", "--choice", "DB=SQLite"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    let first = answered(&sandbox, "a");
    assert_eq!(first["response"], serde_json::json!({"behavior": "deny", "message": "not there"}));
    assert_eq!(answered(&sandbox, "b")["response"]["behavior"], "allow");
}

#[test]
fn a_request_that_nobody_answers_is_denied_in_time_and_one_that_is_called_off_is_gone() {
    let script = format!("read\ninit\n{PERMISSION}\nread $DIR/answer\nresult ok\neof");
    let sandbox = Sandbox::new(&script);
    sandbox.start("j", &["--ask", "--block-timeout", "500ms"]);
    let end = sandbox.run(["wait", "j", "--through-blocked", "--timeout", "1m"]);
    end.expect_end(0, "completed", None);
    assert_eq!(answered(&sandbox, "answer")["response"]["behavior"], "deny");
    assert!(end["warnings"].to_string().contains("--block-timeout"), "{end:?}");
    let called_off = r#"json {"type":"control_cancel_request","request_id":"p1"}"#;
    sandbox.script(&format!(
        "read\ninit\n{PERMISSION}\n{called_off}\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof"
    ));
    sandbox.start("k", &["--ask"]);
    await_file(&sandbox.path("up"));
    eventually("the end of it", || (sandbox.status("k")["status"] == "running").then_some(()));
    assert_eq!(sandbox.run(["answer", "k", "--allow"])["code"], "nothing_asked");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("k").expect_end(0, "completed", None);
}

#[test]
fn a_start_with_ask_does_not_wait_for_claude() {
    let sandbox = Sandbox::new("wait-file $DIR/go\nread\ninit\nresult ok\neof");
    let began = std::time::Instant::now();
    sandbox.start("j", &["--ask"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "claude has said nothing yet");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_claude_that_cannot_ask_is_told_by_the_verdict() {
    let sandbox = Sandbox::new("stderr error: unknown option '--permission-prompt-tool'\nexit 1");
    sandbox.start("j", &["--ask"]);
    let ended = sandbox.wait("j");
    ended.expect_end(1, "failed", Some("claude_refused"));
    assert!(ended.text("error").contains("--permission-prompt-tool"), "{ended:?}");
}

fn await_status(sandbox: &Sandbox, id: &str, status: &str) {
    eventually(status, || (sandbox.status(id)["status"] == status).then_some(()));
}

#[test]
fn a_job_that_is_kept_alive_answers_again_and_again_until_it_is_finished() {
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

#[test]
fn a_job_is_not_idle_while_a_message_waits_for_the_end_of_its_turn() {
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
    // Claude is slow to take it in: the worker does not wait for that.
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
    // The same where the job has ended and goes on.
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
fn twenty_senders_to_one_job_that_is_kept_alive_get_their_own_answers() {
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
fn a_claude_that_is_killed_between_turns_or_in_one_is_started_again() {
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
fn an_idle_job_whose_worker_goes_away_is_taken_up_idle() {
    let sandbox = Sandbox::new("session\nread\ninit\nresult one\nhear-all $DIR/heard");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let id = signal.as_str();
        sandbox.script("session\nread\ninit\nresult one\nhear-all $DIR/heard");
        let worker = sandbox.start(id, &["--keep-alive"])["pid"].as_i64().unwrap() as i32;
        await_status(&sandbox, id, "idle");
        send(worker, signal);
        // Nobody has said that it is done.
        await_status(&sandbox, id, "failed");
        sandbox.script("session\nhear-all $DIR/heard");
        assert_eq!(sandbox.run(["recover", id]).code, 0);
        await_status(&sandbox, id, "idle");
        let answer = sandbox.run(["send", id, "--message", "two", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
        assert_eq!(sandbox.run(["finish", id])["finished"], true);
        sandbox.wait(id).expect_end(0, "completed", None);
        assert_eq!(turns(&sandbox, id).len(), 2, "no turn that nobody asked for");
    }
}

#[test]
fn restarts_come_to_an_end() {
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
fn no_job_comes_unseen_while_one_begins_to_follow_all() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.start("a", &[]);
    let stopped = sandbox.path("stopped");
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    all.env("CLAUDEJOB_STOP_AT", "events:begun").env("CLAUDEJOB_STOP_FILE", &stopped);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    await_file(&stopped);
    eventually("its id", || {
        fs::metadata(&stopped).is_ok_and(|about| about.len() > 0).then_some(())
    });
    sandbox.start("b", &[]);
    send(pid_in(&stopped), Signal::SIGCONT);
    let told = BufReader::new(all.stdout.take().unwrap()).lines().map_while(Result::ok);
    let of_b = told.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    assert!(of_b.take(4).any(|event| event["jobId"] == "b"));
    all.kill().unwrap();
    all.wait().unwrap();
}

fn names(stdout: &str, id: &str) -> Vec<(u64, String)> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|event| event["jobId"] == id)
        .map(|event| (event["seq"].as_u64().unwrap(), event["event"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn events_are_numbered_followed_and_told_of_jobs_that_come_later() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nsay hi\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("a", &[]);
    // From the first, because nobody says when it listens.
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(all.stdout.take().unwrap()).lines();
    let one = thread::scope(|scope| {
        let one = scope.spawn(|| sandbox.run(["events", "a", "--follow"]));
        let worker = sandbox.start("b", &[])["pid"].as_i64().unwrap() as i32;
        // One that dies writes nothing, and is told all the same.
        let mut until = |id: &str, name: &str| loop {
            let line: Value = serde_json::from_str(&told.next().unwrap().unwrap()).unwrap();
            if line["jobId"] == id && line["event"] == name {
                return;
            }
        };
        until("b", "launched");
        send(worker, Signal::SIGKILL);
        until("b", "lost");
        fs::write(sandbox.path("go"), "").unwrap();
        until("a", "finished");
        one.join().unwrap()
    });
    all.kill().unwrap();
    all.wait().unwrap();
    let followed = names(&one.stdout, "a");
    let numbers: Vec<u64> = followed.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(followed.last().unwrap().1, "finished");
    let again = sandbox.run(["events", "a", "--since", "2"]);
    assert_eq!(names(&again.stdout, "a"), followed[2..]);
    assert!(names(&sandbox.run(["events", "--all"]).stdout, "b").iter().any(|e| e.1 == "lost"));
    assert_eq!(sandbox.run(["events", "nobody"]).code, 4);
}

#[test]
fn a_job_whose_id_is_used_again_is_told_of_from_its_beginning() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &[]);
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(all.stdout.take().unwrap()).lines();
    let mut told = String::new();
    let mut until = |id: &str, told: &mut String| loop {
        let line = lines.next().unwrap().unwrap();
        *told += &format!("{line}\n");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["jobId"] == id && event["event"] == "finished" {
            return;
        }
    };
    until("a", &mut told);
    for other in ["b", "c"] {
        assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
        sandbox.run_job("a", &[]);
        // Another one, so that a test that fails comes to an end.
        sandbox.run_job(other, &[]);
        until(other, &mut told);
    }
    all.kill().unwrap();
    all.wait().unwrap();
    let once = names(&sandbox.run(["events", "a"]).stdout, "a");
    assert_eq!(names(&told, "a"), [once.clone(), once.clone(), once].concat());
}

/// The follower of a job's events, after the launch of its claude was told.
fn follow_events(
    sandbox: &Sandbox,
    id: &str,
) -> (std::process::Child, impl Iterator<Item = String>) {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let mut command = sandbox.command(["events", id, "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"launched\"")));
    (follower, lines)
}

/// How often the threads of a process have gone to sleep.
#[cfg(target_os = "linux")]
fn sleeps(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let sleeps_of = |thread: fs::DirEntry| -> Option<u64> {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse().ok()
    };
    threads.filter_map(sleeps_of).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn lines_of_claude_without_an_event_do_not_wake_who_follows_events() {
    const LINES: u64 = 300;
    let lines = "say hi\nnap 20\n".repeat(LINES as usize);
    let sandbox = Sandbox::new(&format!(
        "read\ninit\nwait-file $DIR/go\n{lines}touch $DIR/said\nwait-file $DIR/end\nresult ok\neof"
    ));
    sandbox.start("j", &[]);
    let (mut follower, told) = follow_events(&sandbox, "j");
    let before = sleeps(follower.id());
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.path("said"));
    let slept = sleeps(follower.id()) - before;
    // It may not have been at rest yet.
    assert!(slept < LINES / 10, "it slept {slept} times");
    fs::write(sandbox.path("end"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    assert!(told.last().unwrap().contains("finished"));
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn who_follows_the_events_of_a_job_hears_that_its_directory_was_removed() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go");
    sandbox.start("j", &[]);
    let (mut follower, told) = follow_events(&sandbox, "j");
    fs::remove_dir_all(sandbox.job("j")).unwrap();
    assert!(told.last().unwrap().contains("not_found"));
    assert_eq!(follower.wait().unwrap().code(), Some(4));
    fs::write(sandbox.path("go"), "").unwrap();
}

#[test]
fn a_claude_that_an_update_replaces_is_started_again() {
    let mut sandbox = Sandbox::new(
        "session\nread\ninit\nonce $DIR/once wait-file $DIR/go\nonce $DIR/died die KILL\n\
         result done\neof",
    );
    let program = sandbox.path("claude");
    let away = sandbox.path("claude.old");
    support::install(&program, &fs::read(support::sandbox::fake_claude()).unwrap());
    sandbox.set("CLAUDE_SKILL_CLAUDE", &program);
    for (id, options, retries) in [
        ("one-shot", &["--retries", "9", "--max-backoff", "300ms"][..], "retrying"),
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

/// `finish` of a kept-alive job that does not end soon names this kind of wait.
#[track_caller]
fn finish_waits(script: &str, status: &str, kind: &str, has_end: bool) {
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
fn a_finish_says_that_claude_has_not_ended() {
    finish_waits("read\ninit\nresult one\ntouch $DIR/up\nhang", "idle", "exit", true);
}

#[test]
fn a_finish_says_that_a_turn_is_under_way() {
    finish_waits("read\ninit\nsay one\ntouch $DIR/up\nhang", "running", "turn", false);
}

#[test]
fn an_earlier_answer_stays_until_there_is_another() {
    let sandbox = Sandbox::new("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let one = serde_json::json!(
        {"attempt": 1, "result": "one", "structured_output": null, "partial": false}
    );
    for (attempt, end) in [(2, "exit 1"), (3, "die KILL"), (4, "hang")] {
        sandbox.script(&format!("hear\ninit\ntouch $DIR/up{attempt}\nwait-file $DIR/go\n{end}"));
        let _ = fs::remove_file(sandbox.path("go"));
        assert_eq!(sandbox.run(["resume", "j"])["attempt"], attempt);
        await_file(&sandbox.path(&format!("up{attempt}")));
        let running = sandbox.run(["result", "j"]);
        assert_eq!((&running["status"], &running["result"]), (&"running".into(), &Value::Null));
        assert_eq!(running["previousResult"], one);
        fs::write(sandbox.path("go"), "").unwrap();
        if end == "hang" {
            assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
        }
        let ended = sandbox.wait("j");
        assert_ne!(ended["status"], "completed");
        assert_eq!((&ended["attempt"], &ended["result"]), (&attempt.into(), &Value::Null));
        assert_eq!(ended["previousResult"], one, "{end}");
        assert_eq!(sandbox.run(["result", "j"])["previousResult"], one);
    }
    let text = sandbox.run(["result", "j", "--plain"]).stdout;
    assert!(text.contains("Result of attempt 1:\none"), "{text}");

    sandbox.script("hear\ninit\nresult five\neof");
    sandbox.run(["resume", "j"]);
    let ended = sandbox.wait("j");
    ended.expect_end(0, "completed", None);
    assert_eq!((&ended["result"], &ended["previousResult"]), (&"five".into(), &Value::Null));
}

#[test]
fn a_worker_that_dies_in_a_resumed_attempt_leaves_the_earlier_answer() {
    let sandbox = Sandbox::new("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]);
    sandbox.script("hear\ninit\ntouch $DIR/up\nhang");
    let resumed = sandbox.run(["resume", "j"]);
    await_file(&sandbox.path("up"));
    kill(i32::try_from(resumed["pid"].as_i64().unwrap()).unwrap());
    let lost = sandbox.wait("j");
    lost.expect_end(1, "failed", Some("worker_died"));
    assert_eq!(lost["previousResult"]["result"], "one");
}

#[test]
fn resume_replaces_model_tools_and_limits() {
    let mut sandbox = Sandbox::new("args $DIR/args\nhear\ninit\nresult ok\neof");
    let args = |sandbox: &Sandbox| fs::read_to_string(sandbox.path("args")).unwrap();
    sandbox.run_job("j", &["--model", "sonnet", "--max-turns", "9", "--allowed-tools", "Bash"]);
    assert!(!args(&sandbox).contains("--effort"));
    let change = [
        "--model",
        "opus",
        "--effort",
        "high",
        "--max-turns",
        "3",
        "--max-budget-usd",
        "2",
        "--allowed-tools",
        "Read,Grep",
        "--disallowed-tools",
        "Write",
        "--permission-mode",
        "plan",
        "--append-system-prompt",
        "two",
        "--timeout",
        "1h",
        "--stall-timeout",
        "0",
        "--tool-timeout",
        "5m",
    ];
    sandbox.set("FAKE_HELP", "  --system-prompt-snapshot <on|off>");
    // What holds for a start is no change of a job.
    sandbox.set("CLAUDE_SKILL_MODEL", "haiku");
    let given = "\"--permission-mode\",\"plan\",\"--model\",\"opus\",\"--effort\",\"high\",\
        \"--append-system-prompt\",\"two\",\"--max-turns\",\"3\",\"--max-budget-usd\",\"2\",\
        \"--allowedTools\",\"Read,Grep\",\"--disallowedTools\",\"Write\",\
        \"--system-prompt-snapshot\",\"off\"]";
    for change in [&change[..], &[]] {
        let answer = sandbox.run([&["resume", "j"][..], change].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        assert!(args(&sandbox).ends_with(given), "{}", args(&sandbox));
    }
    let record = fs::read_to_string(sandbox.job("j").join("meta.json")).unwrap();
    let spec = &serde_json::from_str::<Value>(&record).unwrap()["spec"];
    assert_eq!(
        (&spec["timeoutMs"], &spec["stallTimeoutMs"], &spec["toolTimeoutMs"]),
        (&3_600_000.into(), &Value::Null, &300_000.into())
    );
    // A claude that does not know the option would refuse to start.
    sandbox.set("FAKE_HELP", "  --append-system-prompt <prompt>");
    sandbox.run(["resume", "j", "--append-system-prompt", "three"]);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert!(!args(&sandbox).contains("snapshot"));
}

/// Asks QUESTION in its first run, and ends when it is interrupted and its input ends; the next run
/// does the rest.
fn asks_once(question: &str, rest: &str) -> String {
    format!(
        "hear $DIR/heard\ninit\nonce $DIR/asked {question}\nonce $DIR/up touch $DIR/up2\n\
         once $DIR/waited hear $DIR/heard\nonce $DIR/ended eof\nonce $DIR/left exit 1\n{rest}"
    )
}

fn pid_of(sandbox: &Sandbox, id: &str) -> i32 {
    sandbox.status(id)["pid"].as_i64().unwrap() as i32
}

#[test]
fn a_released_question_holds_no_slot_and_outlives_its_worker() {
    let mut sandbox = Sandbox::new(&asks_once(QUESTION, "result ok\neof"));
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "1");
    sandbox.start("j", &["--ask", "--fail-on-denial"]);
    sandbox.run(["wait", "j", "--timeout", "1m"]);
    assert_eq!(sandbox.start("next", &[])["status"], "queued");
    let released = sandbox.run(["answer", "j", "--release"]);
    assert_eq!(
        (released.code, &released["released"], &released["status"]),
        (0, &true.into(), &"blocked".into()),
        "{released:?}"
    );
    sandbox.wait("next").expect_end(0, "completed", None);
    let check = |attempt: u64| {
        let status = sandbox.status("j");
        assert_eq!((&status["status"], &status["attempt"]), (&"blocked".into(), &attempt.into()));
        assert_eq!(status["blocked"]["released"], true, "{status:?}");
        assert_eq!(status["waitingFor"]["kind"], "answer");
        assert_eq!(status["warnings"], serde_json::json!([]), "{status:?}");
        assert_eq!(sandbox.run(["wait", "j", "--timeout", "0s"]).code, 5);
        assert_eq!(sandbox.run(["interrupt", "j"])["interrupted"], false);
    };
    check(2);
    send(pid_of(&sandbox, "j"), Signal::SIGKILL);
    eventually("the loss", || (sandbox.status("j")["reason"] == "worker_died").then_some(()));
    assert_eq!(sandbox.run(["answer", "j", "--choice", "SQLite"])["code"], "job_ended");
    let recovered = sandbox.run(["recover", "j"]);
    assert_eq!(recovered["status"], "blocked", "{recovered:?}");
    check(3);
    let wrong = sandbox.run(["answer", "j", "--choice", "Oracle"]);
    assert_eq!(wrong["code"], "wrong_answer", "{wrong:?}");
    let answer = sandbox.run(["answer", "j", "--choice", "Postgres"]);
    assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
    sandbox.wait("j").expect_end(0, "completed", None);
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert!(heard.contains("Question: Which database?\nAnswer: Postgres"), "{heard}");
    assert_eq!(sandbox.status("j")["blocked"], Value::Null);
}

#[test]
fn a_released_call_that_is_allowed_is_made_without_another_question() {
    let again = PERMISSION.replace("p1", "p2");
    let rest = format!("{again}\nread $DIR/answer\nresult ok\neof");
    for (content, asks_again) in [("hello", false), ("other", true)] {
        let sandbox = Sandbox::new(&asks_once(PERMISSION, &rest.replace("hello", content)));
        sandbox.start("j", &["--ask"]);
        sandbox.run(["wait", "j", "--timeout", "1m"]);
        assert_eq!(sandbox.run(["answer", "j", "--release"])["released"], true);
        assert_eq!(sandbox.run(["answer", "j", "--allow"])["answered"], true);
        if asks_again {
            let asked = sandbox.run(["wait", "j", "--timeout", "1m"]);
            assert_eq!(asked["blocked"]["requestId"], "p2", "{asked:?}");
            sandbox.run(["answer", "j", "--allow"]);
        }
        sandbox.wait("j").expect_end(0, "completed", None);
        assert_eq!(answered(&sandbox, "answer")["request_id"], "p2");
    }
}

#[test]
fn a_released_job_is_killed_resumed_and_denied_in_time() {
    let sandbox = Sandbox::new(&asks_once(QUESTION, "result ok\neof"));
    let release = |id: &str, options: &[&str]| {
        for file in ["asked", "waited", "ended", "left", "up"] {
            let _ = fs::remove_file(sandbox.path(file));
        }
        sandbox.start(id, &[&["--ask"], options].concat());
        assert_eq!(sandbox.run(["wait", id, "--timeout", "1m"])["status"], "blocked");
        assert_eq!(sandbox.run(["answer", id, "--release"])["released"], true);
    };
    release("killed", &[]);
    assert_eq!(sandbox.run(["kill", "killed"])["status"], "killed");
    assert_eq!(sandbox.status("killed")["blocked"], Value::Null);
    assert_eq!(sandbox.run(["resume", "killed", "--message", "never mind"]).code, 0);
    sandbox.wait("killed").expect_end(0, "completed", None);
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert!(heard.ends_with("never mind\n") && !heard.contains("Answer:"), "{heard}");

    release("denied", &["--block-timeout", "2s"]);
    eventually("the end", || (sandbox.status("denied")["status"] == "completed").then_some(()));
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert!(heard.contains("Your question has no answer. Nobody is there"), "{heard}");
    assert!(sandbox.status("denied")["warnings"].to_string().contains("--block-timeout"));
    let late = sandbox.run(["answer", "denied", "--release"]);
    assert_eq!(late["code"], "job_ended", "{late:?}");
}
