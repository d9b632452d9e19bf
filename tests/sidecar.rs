//! The sidecar, driven as a program that embeds it does, and killed in the middle of a query.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use support::processes::{children_of, has_open};
use support::{Sandbox, await_file, eventually};

const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"x"}}}"#;

struct Sidecar {
    child: Child,
    stdin: Option<ChildStdin>,
    told: Lines<BufReader<ChildStdout>>,
}

impl Sidecar {
    fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(["sidecar"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sidecar = Self { child, stdin, told };
        assert_eq!(sidecar.hear()["type"], "ready");
        sidecar
    }

    fn say(&mut self, line: &Value) {
        self.say_text(&line.to_string());
    }

    fn say_text(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let line = serde_json::from_str(&self.told.next().unwrap().unwrap()).unwrap();
        support::schema::check(&["sidecar"], &line);
        line
    }

    /// What is told up to the first line of this type, which comes last.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut told = Vec::new();
        loop {
            told.push(self.hear());
            if told.last().unwrap()["type"] == kind {
                return told;
            }
        }
    }

    /// Ends its input, and gives what it tells until it ends by itself.
    fn finish(mut self) -> Vec<Value> {
        self.stdin = None;
        let lines = self.told.by_ref().map(Result::unwrap);
        let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
        assert!(self.child.wait().unwrap().success());
        told.iter().for_each(|line| support::schema::check(&["sidecar"], line));
        told
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn events(told: &[Value]) -> Vec<Value> {
    told.iter()
        .filter(|line| line["type"] == "agent_event")
        .map(|line| line["event"].clone())
        .collect()
}

#[test]
fn a_query_outlives_its_sidecar_and_no_event_is_lost_or_doubled() {
    let sandbox = Sandbox::new(
        "read\ninit\nstderr a word\nsay one\nsay two\ntouch $DIR/up\nwait-file $DIR/go\nsay three\n\
         fill 300000 5\nresult ok\neof",
    );
    let mut first = Sidecar::start(&sandbox);
    first.say(&json!({"type": "ping"}));
    assert_eq!(first.hear()["type"], "pong");
    first.say(&json!({"type": "query", "sessionId": "s", "prompt": "work", "maxTurns": 3}));
    assert_eq!(first.until("agent_started").last().unwrap()["sessionId"], "s");
    let mut told = first.until("agent_event");
    told.extend(first.until("agent_event"));
    await_file(&sandbox.path("up"));
    first.kill();
    let offset = told.last().unwrap()["offset"].as_u64().unwrap();
    fs::write(sandbox.path("go"), "").unwrap();
    let mut second = Sidecar::start(&sandbox);
    second.say(
        &json!({"type": "attach", "sessionId": "s", "sinceOffset": offset, "sinceLogOffset": 0}),
    );
    told.extend(second.until("agent_stopped"));
    let log = fs::read_to_string(sandbox.job("s").join("output.log")).unwrap();
    let logged: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events(&told) == logged, "{} told, {} logged", events(&told).len(), logged.len());
    let stopped = told.last().unwrap();
    assert_eq!((&stopped["exitCode"], &stopped["status"]), (&0.into(), &"completed".into()));
    assert_eq!(stopped["signal"], Value::Null);
    assert!(told.iter().any(|line| line["type"] == "agent_log" && line["line"] == "a word"));
    // An ordinary job.
    assert_eq!(sandbox.run(["result", "s"])["result"], "ok");
    second.kill();
}

#[test]
fn the_signal_that_ended_claude_is_told_by_its_name() {
    let sandbox = Sandbox::new("read\ninit\ndie KILL");
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.say(&json!({"type": "query", "sessionId": "s", "prompt": "work"}));
    let told = sidecar.until("agent_stopped");
    let stopped = told.last().unwrap();
    assert_eq!((&stopped["signal"], &stopped["exitCode"]), (&"SIGKILL".into(), &Value::Null));
    sidecar.kill();
}

/// A query with the prompt `text`.
fn query(session: &str, text: &str) -> Value {
    json!({"type": "query", "sessionId": session, "prompt": text})
}

/// The events in a part of the job's log.
fn logged(sandbox: &Sandbox, id: &str, from: usize) -> Vec<Value> {
    let log = fs::read(sandbox.job(id).join("output.log")).unwrap();
    let lines = log[from..].split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn a_query_for_a_session_that_has_ended_resumes_it() {
    let sandbox = Sandbox::new("");
    for (id, script, status) in [
        ("completed", "hear $DIR/heard-$JOB\ninit\nresult one\neof", "completed"),
        ("failed", "hear $DIR/heard-$JOB\ninit\ndie KILL", "failed"),
        ("killed", "hear $DIR/heard-$JOB\ninit\ntouch $DIR/up\nhang", "killed"),
    ] {
        sandbox.script(script);
        let mut sidecar = Sidecar::start(&sandbox);
        let mut first = query(id, "one");
        first["maxTurns"] = 9.into();
        sidecar.say(&first);
        if status == "killed" {
            await_file(&sandbox.path("up"));
            sidecar.say(&json!({"type": "stop", "sessionId": id}));
        }
        assert_eq!(sidecar.until("agent_stopped").pop().unwrap()["status"], status);
        let begins = fs::metadata(sandbox.job(id).join("output.log")).unwrap().len() as usize;

        sandbox.script("args $DIR/args\nhear $DIR/heard-$JOB\ninit\nresult two\neof");
        let mut second = query(id, "two");
        second["resumeSessionId"] = "another".into();
        sidecar.say(&second);
        assert_eq!(sidecar.until("error").pop().unwrap()["code"], "session_mismatch");
        let session = sandbox.status(id)["sessionId"].clone();
        second["resumeSessionId"] = session.clone();
        second["maxBudgetUsd"] = 2.into();
        second["permissionMode"] = "plan".into();
        sidecar.say(&second);
        let told = sidecar.until("agent_stopped");
        assert_eq!((&told[0]["type"], &told[0]["jobId"]), (&"agent_started".into(), &id.into()));
        assert_eq!(told.last().unwrap()["status"], "completed");
        assert_eq!(events(&told), logged(&sandbox, id, begins), "nothing old, nothing twice");
        let heard = fs::read_to_string(sandbox.path(&format!("heard-{id}"))).unwrap();
        assert_eq!(heard, "one\ntwo\n");
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        let session = format!("\"--resume\",{session}");
        for part in [&session, "\"--max-turns\",\"9\"", "\"--max-budget-usd\",\"2\"", "\"plan\""] {
            assert!(args.contains(part), "{part}: {args}");
        }
        sidecar.kill();
    }
}

#[test]
fn each_of_many_queries_for_one_session_is_told_from_its_start_to_its_end() {
    let sandbox = Sandbox::new("hear\ninit\nresult ok\neof");
    let mut sidecar = Sidecar::start(&sandbox);
    let mut told = Vec::new();
    for _ in 0..8 {
        sidecar.say(&query("s", "more"));
        let one = sidecar.until("agent_stopped");
        let kinds: Vec<&str> = one.iter().map(|line| line["type"].as_str().unwrap()).collect();
        let (first, events) = kinds.split_first().unwrap();
        assert_eq!((*first, kinds.len()), ("agent_started", 5), "{kinds:?}");
        assert!(events[..3].iter().all(|kind| *kind == "agent_event"), "{kinds:?}");
        told.extend(one);
    }
    assert_eq!(events(&told), logged(&sandbox, "s", 0));
    // The same for one that is told again from its start.
    for _ in 0..8 {
        sidecar.say(&json!({"type": "attach", "sessionId": "s"}));
        assert_eq!(events(&sidecar.until("agent_stopped")).len(), 24);
    }
    sidecar.kill();
}

#[test]
fn a_query_for_an_idle_session_is_its_next_message() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    let result = |told: &[Value]| {
        let result = told.iter().find(|line| line["event"]["type"] == "result");
        result.map(|line| line["event"]["result"].as_str().unwrap().to_owned())
    };
    let until_result = |sidecar: &mut Sidecar| {
        let mut told = Vec::new();
        while result(&told).is_none() {
            told.push(sidecar.hear());
        }
        told
    };
    let mut first = Sidecar::start(&sandbox);
    let mut asked = query("s", "one");
    asked["keepAlive"] = true.into();
    first.say(&asked);
    assert_eq!(result(&until_result(&mut first)).unwrap(), "heard one");
    // At once: the record may say a moment later that it is idle.
    first.say(&query("s", "two"));
    let told = until_result(&mut first);
    assert_eq!(result(&told).unwrap(), "heard two");
    assert_eq!(told[0]["type"], "agent_started");
    first.kill();
    // A later sidecar tells of the new turn alone.
    let begins = fs::metadata(sandbox.job("s").join("output.log")).unwrap().len() as usize;
    let mut second = Sidecar::start(&sandbox);
    asked = query("s", "three");
    asked["resumeSessionId"] = "another".into();
    second.say(&asked);
    assert_eq!(second.until("error").pop().unwrap()["code"], "session_mismatch");
    asked["resumeSessionId"] = sandbox.status("s")["sessionId"].clone();
    second.say(&asked);
    assert_eq!(events(&second.finish()), logged(&sandbox, "s", begins));
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(sandbox.status("s")["attempt"], 1);
}

#[test]
fn a_query_is_refused_where_the_conversation_is_gone() {
    let sandbox = Sandbox::new("hear\ninit\nresult ok\neof");
    let folder = sandbox.path("home").join(".claude/projects/folder");
    let file = folder.join("7f3a.jsonl");
    fs::create_dir_all(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let mut sidecar = Sidecar::start(&sandbox);
    let mut asked = query("s", "one");
    asked["resumeSessionId"] = "7f3a".into();
    sidecar.say(&asked);
    assert_eq!(sidecar.until("agent_stopped").pop().unwrap()["status"], "completed");
    fs::remove_file(&file).unwrap();
    sidecar.say(&query("s", "two"));
    assert_eq!(sidecar.until("error").pop().unwrap()["code"], "session_gone");
    assert_eq!(sandbox.status("s")["status"], "completed");
    sidecar.kill();
}

#[test]
fn a_session_id_that_is_no_job_id_is_mapped_and_kept() {
    let sandbox =
        Sandbox::new("read\ninit\nstderr a word\ntouch $DIR/up\nhear $DIR/heard\nresult ok\neof");
    let (session, id) = ("Chat 42/ä", "Chat-42-d548743e2b455a21");
    let mut first = Sidecar::start(&sandbox);
    first.say(&json!({"type": "query", "sessionId": session, "prompt": "work"}));
    let started = first.until("agent_started").pop().unwrap();
    assert_eq!((&started["sessionId"], &started["jobId"]), (&session.into(), &id.into()));
    await_file(&sandbox.path("up"));
    first.kill();
    // Whoever comes later finds the job by the session's id.
    let mut second = Sidecar::start(&sandbox);
    second.say(&json!({"type": "attach", "sessionId": session}));
    second.say(&json!({"type": "message", "sessionId": session, "text": "more"}));
    let told = second.until("agent_stopped");
    assert!(told.iter().all(|line| line["sessionId"] == session), "{told:#?}");
    let kinds = ["agent_started", "agent_event", "agent_log", "agent_stopped"];
    assert!(kinds.iter().all(|kind| told.iter().any(|line| line["type"] == *kind)), "{told:#?}");
    assert_eq!(sandbox.status(id)["labels"], json!({"session": session}));
    let listed = sandbox.run(["list", "--all", "--label", &format!("session={session}")]);
    assert_eq!(listed.json[0]["jobId"], id);

    let long = "ä".repeat(1_000);
    second.say(&json!({"type": "query", "sessionId": long, "prompt": "work"}));
    let started = second.until("agent_started").pop().unwrap();
    let label = &sandbox.status(started["jobId"].as_str().unwrap())["labels"]["session"];
    assert_eq!(label, &"ä".repeat(128));
    second.say(&json!({"type": "stop", "sessionId": long}));
    assert_eq!(second.until("agent_stopped").pop().unwrap()["sessionId"], long);
    second.kill();
}

#[test]
fn a_sidecar_keeps_nothing_of_a_job_that_has_ended() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut sidecar = Sidecar::start(&sandbox);
    for id in ["a", "b"] {
        sidecar.say(&json!({"type": "query", "sessionId": id, "prompt": "work"}));
        sidecar.until("agent_stopped");
    }
    let pid = sidecar.child.id() as i32;
    eventually("its children to be gone", || children_of(pid).is_empty().then_some(()));
    eventually("its watches to be gone", || {
        (!has_open(pid, Path::new("anon_inode:inotify"))).then_some(())
    });
    sidecar.kill();
}

#[test]
fn what_cannot_be_done_is_told_and_the_sidecar_goes_on() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\nhear $DIR/heard\ntouch $DIR/up\nhang");
    let mut sidecar = Sidecar::start(&sandbox);
    let mut code = |line: &str| {
        sidecar.say_text(line);
        let told = sidecar.until("error");
        told.last().unwrap()["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code("{"), "invalid_json");
    assert_eq!(code("{\"type\":\"dance\"}"), "unknown_type");
    assert_eq!(code("{\"type\":\"query\"}"), "invalid_message");
    assert_eq!(code("{\"type\":\"stop\",\"sessionId\":\"nobody\"}"), "not_found");
    assert_eq!(code("{\"type\":\"attach\",\"sessionId\":\"../x\"}"), "not_found");
    assert_eq!(code("{\"type\":\"attach\",\"sessionId\":\"\"}"), "invalid_job_id");
    assert_eq!(code("{\"type\":\"query\",\"sessionId\":\"\",\"prompt\":\"x\"}"), "invalid_job_id");
    assert_eq!(code("{\"type\":\"query\",\"sessionId\":\"s\",\"prompt\":\"\"}"), "empty_prompt");
    sidecar.say(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    sidecar.until("agent_started");
    sidecar.say(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    let refused = sidecar.until("error").pop().unwrap();
    assert_eq!(refused["code"], "job_exists");
    assert!(refused["error"].as_str().unwrap().contains("a message at any time"), "{refused}");
    sidecar.say(&json!({"type": "message", "sessionId": "s", "text": "and this"}));
    await_file(&sandbox.path("up"));
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "and this\n");
    sidecar.say(&json!({"type": "answer", "sessionId": "s", "allow": true}));
    assert_eq!(sidecar.until("error").last().unwrap()["code"], "nothing_asked");
    sidecar.say(&json!({"type": "stop", "sessionId": "s"}));
    let stopped = sidecar.until("agent_stopped");
    assert_eq!(stopped.last().unwrap()["status"], "killed");
    assert_eq!(sidecar.finish(), [Value::Null; 0]);
}

#[test]
fn sessions_are_reported_to_their_end_after_the_input_has_ended() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay one\ntouch $DIR/up-$JOB\nwait-file $DIR/go\nsay two\nresult ok\neof",
    );
    let mut sidecar = Sidecar::start(&sandbox);
    for id in ["a", "b"] {
        sidecar.say(&json!({"type": "query", "sessionId": id, "prompt": "work"}));
        await_file(&sandbox.path(&format!("up-{id}")));
    }
    sidecar.stdin = None;
    fs::write(sandbox.path("go"), "").unwrap();
    let told = sidecar.finish();
    for id in ["a", "b"] {
        let of_one: Vec<Value> =
            told.iter().filter(|line| line["sessionId"] == id).cloned().collect();
        assert_eq!(events(&of_one).last().unwrap()["result"], "ok");
        let stopped = of_one.last().unwrap();
        assert_eq!(
            (&stopped["type"], &stopped["status"]),
            (&"agent_stopped".into(), &"completed".into())
        );
    }
}

#[test]
fn a_session_at_rest_is_not_waited_for_after_the_input_has_ended() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.say(&json!({"type": "query", "sessionId": "s", "prompt": "one", "keepAlive": true}));
    sidecar.until("agent_started");
    sidecar.say(&json!({"type": "message", "sessionId": "s", "text": "two"}));
    let told = sidecar.finish();
    let last = events(&told).pop().unwrap();
    assert_eq!((&last["type"], &last["result"]), (&"result".into(), &"heard two".into()));
    assert!(told.iter().all(|line| line["type"] != "agent_stopped"), "{told:#?}");
    assert_eq!(sandbox.status("s")["status"], "idle");

    // Nobody can answer any more what claude asks.
    sandbox.script(&format!("read\ninit\n{PERMISSION}\nhang"));
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.say(&json!({"type": "query", "sessionId": "t", "prompt": "one", "ask": true}));
    let last = events(&sidecar.finish()).pop().unwrap();
    assert_eq!(last["type"], "control_request");
    assert_eq!(sandbox.status("t")["status"], "blocked");
}

#[test]
fn a_session_that_was_stopped_before_the_input_ended_is_stopped() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    for (id, keep_alive) in [("idle", true), ("busy", false)] {
        let mut sidecar = Sidecar::start(&sandbox);
        let query =
            json!({"type": "query", "sessionId": id, "prompt": "x", "keepAlive": keep_alive});
        sidecar.say(&query);
        sidecar.until("agent_started");
        if keep_alive {
            eventually("it to be idle", || (sandbox.status(id)["status"] == "idle").then_some(()));
            sandbox.script("read\ninit\nhang");
        }
        sidecar.say(&json!({"type": "stop", "sessionId": id}));
        let stopped = sidecar.finish().pop().unwrap();
        assert_eq!(
            (&stopped["type"], &stopped["status"]),
            (&"agent_stopped".into(), &"killed".into())
        );
    }
    // Also if the program ends that embeds the sidecar.
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.say(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    sidecar.until("agent_started");
    sidecar.say(&json!({"type": "stop", "sessionId": "s"}));
    let Sidecar { mut child, stdin, told } = sidecar;
    drop((stdin, told));
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.status("s")["status"], "killed");
}

#[test]
fn a_sidecar_that_nobody_reads_ends_and_its_jobs_go_on() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up-$JOB\nhang");
    for (id, input_ends) in [("a", false), ("b", true)] {
        let mut sidecar = Sidecar::start(&sandbox);
        sidecar.say(&json!({"type": "query", "sessionId": id, "prompt": "x"}));
        sidecar.until("agent_started");
        await_file(&sandbox.path(&format!("up-{id}")));
        if input_ends {
            sidecar.stdin = None;
        }
        drop(sidecar.told);
        assert!(sidecar.child.wait().unwrap().success());
        assert_eq!(sandbox.status(id)["status"], "running");
    }
}
