//! The sidecar, driven as a program that embeds it does, and killed in the middle of a query.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use support::processes::children_of;
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
fn a_sidecar_keeps_no_process_of_a_job_that_has_ended() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut sidecar = Sidecar::start(&sandbox);
    for id in ["a", "b"] {
        sidecar.say(&json!({"type": "query", "sessionId": id, "prompt": "work"}));
        sidecar.until("agent_stopped");
    }
    let pid = sidecar.child.id() as i32;
    eventually("its children to be gone", || children_of(pid).is_empty().then_some(()));
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
    assert_eq!(sidecar.until("error").last().unwrap()["code"], "job_exists");
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
