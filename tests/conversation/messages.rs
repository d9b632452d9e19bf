//! Messages and interrupts: who receives them, in which order, and how often.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::processes::kill;
use crate::support::{Answer, Sandbox, await_file, eventually};
use crate::{await_heard, inbox, lines, turns};

#[test]
fn a_sender_gets_the_answer_of_the_running_turn() {
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
fn accepts_a_delivered_message_after_the_job_ended() {
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
fn a_turn_resumed_after_a_crash_keeps_its_messages() {
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
fn redelivers_a_message_lost_with_its_conversation() {
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
fn delivers_messages_of_20_senders_once_and_in_order() {
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
        // A message after the last result was refused, and its sender knows that.
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
fn resume_delivers_undelivered_messages_first() {
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
fn a_killed_worker_loses_and_repeats_no_message() {
    let sandbox =
        Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\ntouch $DIR/one\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    sandbox.run(["send", "j", "--message", "one"]);
    await_file(&sandbox.path("one"));
    let log = sandbox.job("j").join("output.log");
    eventually("the confirmation", || {
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
fn an_interrupt_without_effect_says_why() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\nhang");
    sandbox.start("j", &[]);
    // Before that there is no turn to interrupt.
    await_heard(&sandbox, "j", "hi");
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
fn an_interrupt_without_a_turn_is_answered_at_once() {
    // The limit is not over before the test.
    let sandbox =
        Sandbox::new("touch $DIR/up-$JOB\nwait-file $DIR/go-$JOB\nlimit 3600\nrefused 429");
    fs::write(sandbox.path("go-backoff"), "").unwrap();
    sandbox.start("starting", &[]);
    await_file(&sandbox.path("up-starting"));
    sandbox.start("backoff", &["--retries", "1"]);
    eventually("the pause", || {
        (sandbox.status("backoff")["waitingFor"]["kind"] == "limit").then_some(())
    });
    sandbox.start("queued", &["--max-parallel", "1"]);
    sandbox.start("later", &["--start-delay", "1h"]);
    for id in ["starting", "backoff", "queued", "later"] {
        let before = Instant::now();
        let answer = sandbox.run(["interrupt", id]);
        assert!(before.elapsed() < Duration::from_secs(7), "{answer:?}");
        assert_eq!((answer.code, &answer["interrupted"]), (1, &false.into()), "{answer:?}");
        let error = answer.text("error");
        let expected = if ["queued", "later"].contains(&id) {
            "it has not started"
        } else {
            "no turn is running"
        };
        assert_eq!(error, expected, "{id}: {answer:?}");
        assert!(answer["hint"].is_string(), "{answer:?}");
    }
    // Afterwards: the end of a job lets the queued one begin.
    for id in ["queued", "later", "starting", "backoff"] {
        assert_eq!(sandbox.run(["kill", id]).code, 0);
    }
}

#[test]
fn refuses_invalid_messages_and_keeps_the_job_running() {
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
    assert_eq!(sandbox.run(["send", "j"])["code"], "empty_message");
    assert_eq!(sandbox.run(["send", "nobody", "--message", "x"]).code, 4);
    assert_eq!(sandbox.run(["resume", "j"])["code"], "not_resumable");
    // A foreign file in the inbox.
    let job = sandbox.job("j");
    let foreign = job.join("inbox/0000000007.json");
    fs::write(job.join("foreign"), "{\"kind\":\"dance\"}").unwrap();
    fs::rename(job.join("foreign"), &foreign).unwrap();
    fs::write(job.join("inbox/.bell"), "!").unwrap();
    eventually("the refusal", || {
        let events = fs::read_to_string(job.join("events.ndjson")).unwrap();
        events.contains("message_refused").then_some(())
    });
    // Its number is free again after that.
    eventually("its removal", || (!foreign.exists()).then_some(()));
    // Ten million bytes are within the limit.
    let big = "y".repeat(10_000_000);
    let answer = sandbox.run_with_stdin(["send", "j", "--message", "-"], big.as_str());
    assert_eq!((answer.code, answer["message"].as_u64()), (0, Some(1)), "{}", answer.stdout);
    fs::write(sandbox.path("go"), "").unwrap();
    let end = sandbox.wait("j");
    end.expect_end(0, "completed", None);
    assert!(end["warnings"].to_string().contains("message 7 could not be read"), "{end:?}");
    assert!(lines(&sandbox, "heard")[0] == big);
}

#[test]
fn an_invalid_id_is_reported_before_the_message() {
    let sandbox = Sandbox::new("");
    for arguments in [&["send", "a/b"][..], &["send", "a/b", "--message", ""]] {
        assert_eq!(sandbox.run(arguments)["code"], "invalid_job_id", "{arguments:?}");
    }
    assert_eq!(sandbox.run(["resume", "a/b", "--message", ""])["code"], "invalid_job_id");
}

#[test]
fn a_message_is_an_argument_a_file_or_stdin() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hi\ntouch $DIR/up\nhear $DIR/heard\nhear $DIR/heard\nhear $DIR/heard\n\
         hear $DIR/heard\nresult all\neof",
    );
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    for (arguments, stdin) in
        [(&["one two"][..], "no"), (&["-"], "from -"), (&[], "stdin"), (&["-p", "-x"], "no")]
    {
        let answer = sandbox.run_with_stdin([&["send", "j"], arguments].concat(), stdin);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    assert_eq!(sandbox.run(["send", "j", "one", "-p", "two"]).code, 2);
    assert_eq!(sandbox.run(["send", "j"])["code"], "empty_message");
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(lines(&sandbox, "heard"), ["one two", "from -", "stdin", "-x"]);
}
