//! Questions and permission requests: how they are answered, denied and released.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::send;
use crate::support::{Answer, Sandbox, await_file, eventually};

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"/etc/x","content":"hello"},"tool_use_id":"t2"}}"#;

fn response_in(sandbox: &Sandbox, file: &str) -> Value {
    let line: Value = serde_json::from_slice(&fs::read(sandbox.path(file)).unwrap()).unwrap();
    assert_eq!(line["type"], "control_response");
    line["response"].clone()
}

#[test]
fn a_question_blocks_the_job_until_it_is_answered() {
    let script =
        format!("args $DIR/args\nread\ninit\n{QUESTION}\nread $DIR/answer\nresult ok\neof");
    for (options, said) in
        [(["--choice", "Postgres"], "Postgres"), (["--text", "a file"], "a file")]
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
        let answer = sandbox.run([&["answer", "j"], &options[..]].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        let response = response_in(&sandbox, "answer");
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
fn texts_are_read_from_stdin() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\n{QUESTION}\nread $DIR/answer\n{PERMISSION}\nread $DIR/denial\n\
         hear $DIR/heard\nresult ok\nhear-all $DIR/heard"
    ));
    let odd = "`$HOME` \"it's\" -";
    let asked = |id: &str| {
        eventually("the request", || {
            (sandbox.status("j")["blocked"]["requestId"] == id).then_some(())
        });
    };
    sandbox.start("j", &["--ask"]);
    asked("q1");
    // No text of the caller is left out.
    for more in [&["--text", "x", "--message", "y"][..], &["--choice", "1", "--message", "y"]] {
        let refused = sandbox.run([&["answer", "j"], more].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
    }
    for option in [&["--text", "-"][..], &["--deny", "--message", "-"]] {
        let call = [&["answer", "j"], option].concat();
        for (stdin, code) in [
            (Vec::new(), "empty_message"),
            (b" \n".to_vec(), "empty_message"),
            (b"\xff".to_vec(), "prompt_not_utf8"),
            (vec![b'x'; 20 << 20], "message_too_long"),
        ] {
            let refused = sandbox.run_with_stdin(&call, stdin);
            assert_eq!((refused.code, refused.text("code")), (1, code));
        }
    }
    assert_eq!(sandbox.run(["answer", "j", "--text", ""])["code"], "empty_message");
    let text = format!("{odd}\nsecond line\n");
    let answer = sandbox.run_with_stdin(["answer", "j", "--text", "-"], text);
    assert_eq!(answer["answered"], true, "{answer:?}");
    asked("p1");
    let input = response_in(&sandbox, "answer")["response"]["updatedInput"].clone();
    assert_eq!(input["answers"]["Which database?"], format!("{odd}\nsecond line"));
    let deny = ["answer", "j", "--deny", "--message", "-"];
    assert_eq!(sandbox.run_with_stdin(deny, odd)["answered"], true);
    let send = sandbox.run_with_stdin(["send", "j", "--message", "-", "--wait", "1m"], odd);
    assert_eq!(send.code, 0, "{send:?}");
    assert_eq!(response_in(&sandbox, "denial")["response"]["message"], odd);
    sandbox.wait("j").expect_end(0, "completed", None);
    let resume = sandbox.run_with_stdin(["resume", "j", "--message", "-"], odd);
    assert_eq!(resume.code, 0, "{resume:?}");
    sandbox.run(["kill", "j"]);
    assert!(fs::read_to_string(sandbox.path("heard")).unwrap().contains(odd));
}

#[test]
fn one_of_two_answers_wins_for_each_request() {
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
    let first = response_in(&sandbox, "a");
    assert_eq!(first["response"], serde_json::json!({"behavior": "deny", "message": "not there"}));
    assert_eq!(response_in(&sandbox, "b")["response"]["behavior"], "allow");
}

#[test]
fn denies_expired_requests_and_drops_cancelled_ones() {
    let script = format!("read\ninit\n{PERMISSION}\nread $DIR/answer\nresult ok\neof");
    let sandbox = Sandbox::new(&script);
    sandbox.start("j", &["--ask", "--block-timeout", "500ms"]);
    let end = sandbox.run(["wait", "j", "--through-blocked", "--timeout", "1m"]);
    end.expect_end(0, "completed", None);
    assert_eq!(response_in(&sandbox, "answer")["response"]["behavior"], "deny");
    assert!(end["warnings"].to_string().contains("--block-timeout"), "{end:?}");
    let called_off = r#"json {"type":"control_cancel_request","request_id":"p1"}"#;
    sandbox.script(&format!(
        "read\ninit\n{PERMISSION}\n{called_off}\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof"
    ));
    sandbox.start("k", &["--ask"]);
    await_file(&sandbox.path("up"));
    eventually("the end of it", || {
        let events = fs::read_to_string(sandbox.job("k").join("events.ndjson")).unwrap();
        events.contains("\"unblocked\"").then_some(())
    });
    // The record follows the event.
    eventually("the record", || (sandbox.status("k")["status"] == "running").then_some(()));
    assert_eq!(sandbox.run(["answer", "k", "--allow"])["code"], "nothing_asked");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("k").expect_end(0, "completed", None);
}

#[test]
fn start_with_ask_does_not_wait_for_claude() {
    let sandbox = Sandbox::new("wait-file $DIR/go\nread\ninit\nresult ok\neof");
    // Several, because the machine can be slow for a while.
    let is_fast = |id: &&str| {
        let began = std::time::Instant::now();
        sandbox.start(id, &["--ask"]);
        began.elapsed() < std::time::Duration::from_secs(4)
    };
    let fast = ["j", "k", "l", "m"].iter().find(|id| is_fast(id));
    assert!(fast.is_some(), "claude has said nothing yet");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn the_verdict_reports_a_claude_that_cannot_ask() {
    let sandbox = Sandbox::new("stderr error: unknown option '--permission-prompt-tool'\nexit 1");
    sandbox.start("j", &["--ask"]);
    let ended = sandbox.wait("j");
    ended.expect_end(1, "failed", Some("claude_refused"));
    assert!(ended.text("error").contains("--permission-prompt-tool"), "{ended:?}");
}

/// Starts a job whose claude asks a question and ends when it is interrupted and its input ends.
/// When the job is blocked, the script is replaced: every later run of claude performs the rest.
#[track_caller]
fn start_asking(sandbox: &Sandbox, id: &str, options: &[&str], question: &str, rest: &str) {
    sandbox.script(&format!("hear $DIR/heard\ninit\n{question}\nhear $DIR/heard\neof\nexit 1"));
    sandbox.start(id, &[&["--ask"], options].concat());
    let blocked = sandbox.run(["wait", id, "--timeout", "1m"]);
    assert_eq!(blocked["status"], "blocked", "{blocked:?}");
    sandbox.script(&format!("hear $DIR/heard\ninit\n{rest}"));
}

fn pid_of(sandbox: &Sandbox, id: &str) -> i32 {
    sandbox.status(id)["pid"].as_i64().unwrap() as i32
}

#[test]
fn a_released_question_survives_without_a_slot() {
    let mut sandbox = Sandbox::new("");
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "1");
    start_asking(&sandbox, "j", &["--fail-on-denial"], QUESTION, "result ok\neof");
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
        // On a machine with many new processes those of a killed worker may not be listed in time.
        let is_unexpected = |warning: &Value| !warning.to_string().contains("may be left");
        let warnings = status["warnings"].as_array().unwrap();
        assert!(!warnings.iter().any(is_unexpected), "{status:?}");
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
fn an_allowed_released_call_is_not_asked_again() {
    let again = PERMISSION.replace("p1", "p2");
    let rest = format!("{again}\nread $DIR/answer\nresult ok\neof");
    for (content, asks_again) in [("hello", false), ("other", true)] {
        let sandbox = Sandbox::new("");
        start_asking(&sandbox, "j", &[], PERMISSION, &rest.replace("hello", content));
        assert_eq!(sandbox.run(["answer", "j", "--release"])["released"], true);
        assert_eq!(sandbox.run(["answer", "j", "--allow"])["answered"], true);
        if asks_again {
            let asked = sandbox.run(["wait", "j", "--timeout", "1m"]);
            assert_eq!(asked["blocked"]["requestId"], "p2", "{asked:?}");
            sandbox.run(["answer", "j", "--allow"]);
        }
        sandbox.wait("j").expect_end(0, "completed", None);
        assert_eq!(response_in(&sandbox, "answer")["request_id"], "p2");
    }
}

#[test]
fn released_jobs_can_be_killed_resumed_and_time_out() {
    let sandbox = Sandbox::new("");
    let release = |id: &str, options: &[&str]| {
        start_asking(&sandbox, id, options, QUESTION, "result ok\neof");
        assert_eq!(sandbox.run(["answer", id, "--release"])["released"], true);
    };
    release("killed", &[]);
    assert_eq!(sandbox.run(["kill", "killed"])["status"], "killed");
    assert_eq!(sandbox.status("killed")["blocked"], Value::Null);
    assert_eq!(sandbox.run(["resume", "killed", "--message", "never mind"]).code, 0);
    sandbox.wait("killed").expect_end(0, "completed", None);
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert!(heard.ends_with("never mind\n") && !heard.contains("Answer:"), "{heard}");

    release("denied", &["--block-timeout", "20s"]);
    eventually("the end", || (sandbox.status("denied")["status"] == "completed").then_some(()));
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert!(heard.contains("Your question has no answer. Nobody is there"), "{heard}");
    assert!(sandbox.status("denied")["warnings"].to_string().contains("--block-timeout"));
    let late = sandbox.run(["answer", "denied", "--release"]);
    assert_eq!(late["code"], "job_ended", "{late:?}");
}
