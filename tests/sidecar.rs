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
    output: Lines<BufReader<ChildStdout>>,
}

impl Sidecar {
    fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(["sidecar"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sidecar = Self { child, stdin, output };
        assert_eq!(sidecar.read_line()["type"], "ready");
        sidecar
    }

    fn write(&mut self, line: &Value) {
        self.write_line(&line.to_string());
    }

    fn write_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn read_line(&mut self) -> Value {
        let line = serde_json::from_str(&self.output.next().unwrap().unwrap()).unwrap();
        support::schema::check(&["sidecar"], &line);
        line
    }

    /// The output up to and including the first line of this type.
    fn read_until(&mut self, kind: &str) -> Vec<Value> {
        let mut output = Vec::new();
        loop {
            output.push(self.read_line());
            if output.last().unwrap()["type"] == kind {
                return output;
            }
        }
    }

    /// Closes its input, and returns its output until it ends by itself.
    fn finish(mut self) -> Vec<Value> {
        self.stdin = None;
        let lines = self.output.by_ref().map(Result::unwrap);
        let output: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
        assert!(self.child.wait().unwrap().success());
        output.iter().for_each(|line| support::schema::check(&["sidecar"], line));
        output
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn events(output: &[Value]) -> Vec<Value> {
    output
        .iter()
        .filter(|line| line["type"] == "agent_event")
        .map(|line| line["event"].clone())
        .collect()
}

#[test]
fn a_query_outlives_its_sidecar_and_keeps_its_events() {
    let sandbox = Sandbox::new(
        "read\ninit\nstderr a word\nsay one\nsay two\ntouch $DIR/up\nwait-file $DIR/go\nsay three\n\
         fill 300000 5\nresult ok\neof",
    );
    let mut first = Sidecar::start(&sandbox);
    first.write(&json!({"type": "ping"}));
    assert_eq!(first.read_line()["type"], "pong");
    first.write(&json!({"type": "query", "sessionId": "s", "prompt": "work", "maxTurns": 3}));
    assert_eq!(first.read_until("agent_started").last().unwrap()["sessionId"], "s");
    let mut output = first.read_until("agent_event");
    output.extend(first.read_until("agent_event"));
    await_file(&sandbox.path("up"));
    first.kill();
    let offset = output.last().unwrap()["offset"].as_u64().unwrap();
    fs::write(sandbox.path("go"), "").unwrap();
    let mut second = Sidecar::start(&sandbox);
    second.write(
        &json!({"type": "attach", "sessionId": "s", "sinceOffset": offset, "sinceLogOffset": 0}),
    );
    output.extend(second.read_until("agent_stopped"));
    let log = fs::read_to_string(sandbox.job("s").join("output.log")).unwrap();
    let logged: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events(&output) == logged, "{} output, {} logged", events(&output).len(), logged.len());
    let stopped = output.last().unwrap();
    assert_eq!((&stopped["exitCode"], &stopped["status"]), (&0.into(), &"completed".into()));
    assert_eq!(stopped["signal"], Value::Null);
    assert!(output.iter().any(|line| line["type"] == "agent_log" && line["line"] == "a word"));
    // A plain job.
    assert_eq!(sandbox.run(["result", "s"])["result"], "ok");
    second.kill();
}

#[test]
fn names_the_signal_that_ended_claude() {
    let sandbox = Sandbox::new("read\ninit\ndie KILL");
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.write(&json!({"type": "query", "sessionId": "s", "prompt": "work"}));
    let output = sidecar.read_until("agent_stopped");
    let stopped = output.last().unwrap();
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
        sidecar.write(&first);
        if status == "killed" {
            await_file(&sandbox.path("up"));
            sidecar.write(&json!({"type": "stop", "sessionId": id}));
        }
        assert_eq!(sidecar.read_until("agent_stopped").pop().unwrap()["status"], status);
        let begins = fs::metadata(sandbox.job(id).join("output.log")).unwrap().len() as usize;

        sandbox.script("args $DIR/args\nhear $DIR/heard-$JOB\ninit\nresult two\neof");
        let mut second = query(id, "two");
        second["resumeSessionId"] = "another".into();
        sidecar.write(&second);
        assert_eq!(sidecar.read_until("error").pop().unwrap()["code"], "session_mismatch");
        let session = sandbox.status(id)["sessionId"].clone();
        second["resumeSessionId"] = session.clone();
        second["maxBudgetUsd"] = 2.into();
        second["permissionMode"] = "plan".into();
        sidecar.write(&second);
        let output = sidecar.read_until("agent_stopped");
        assert_eq!(
            (&output[0]["type"], &output[0]["jobId"]),
            (&"agent_started".into(), &id.into())
        );
        assert_eq!(output.last().unwrap()["status"], "completed");
        assert_eq!(events(&output), logged(&sandbox, id, begins), "nothing old, nothing twice");
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
fn reports_each_query_of_a_session_completely() {
    let sandbox = Sandbox::new("hear\ninit\nresult ok\neof");
    let mut sidecar = Sidecar::start(&sandbox);
    let mut output = Vec::new();
    for _ in 0..8 {
        sidecar.write(&query("s", "more"));
        let one = sidecar.read_until("agent_stopped");
        let kinds: Vec<&str> = one.iter().map(|line| line["type"].as_str().unwrap()).collect();
        let (first, events) = kinds.split_first().unwrap();
        assert_eq!((*first, kinds.len()), ("agent_started", 5), "{kinds:?}");
        assert!(events[..3].iter().all(|kind| *kind == "agent_event"), "{kinds:?}");
        output.extend(one);
    }
    assert_eq!(events(&output), logged(&sandbox, "s", 0));
    // The same for a sidecar that repeats the output from its start.
    for _ in 0..8 {
        sidecar.write(&json!({"type": "attach", "sessionId": "s"}));
        assert_eq!(events(&sidecar.read_until("agent_stopped")).len(), 24);
    }
    sidecar.kill();
}

#[test]
fn a_query_for_an_idle_session_is_its_next_message() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    let result = |output: &[Value]| {
        let result = output.iter().find(|line| line["event"]["type"] == "result");
        result.map(|line| line["event"]["result"].as_str().unwrap().to_owned())
    };
    let until_result = |sidecar: &mut Sidecar| {
        let mut output = Vec::new();
        while result(&output).is_none() {
            output.push(sidecar.read_line());
        }
        output
    };
    let mut first = Sidecar::start(&sandbox);
    let mut asked = query("s", "one");
    asked["keepAlive"] = true.into();
    first.write(&asked);
    assert_eq!(result(&until_result(&mut first)).unwrap(), "heard one");
    // At once: the record may say a short time later that it is idle. The sidecar waits a second.
    let begins = eventually("the query to be accepted", || {
        first.write(&query("s", "two"));
        let line = first.read_line();
        (line["code"] != "job_exists").then_some(line)
    });
    assert_eq!(begins["type"], "agent_started");
    assert_eq!(result(&until_result(&mut first)).unwrap(), "heard two");
    first.kill();
    eventually("it to be idle", || (sandbox.status("s")["status"] == "idle").then_some(()));
    // A later sidecar reports only the new turn.
    let begins = fs::metadata(sandbox.job("s").join("output.log")).unwrap().len() as usize;
    let mut second = Sidecar::start(&sandbox);
    asked = query("s", "three");
    asked["resumeSessionId"] = "another".into();
    second.write(&asked);
    assert_eq!(second.read_until("error").pop().unwrap()["code"], "session_mismatch");
    asked["resumeSessionId"] = sandbox.status("s")["sessionId"].clone();
    second.write(&asked);
    assert_eq!(events(&second.finish()), logged(&sandbox, "s", begins));
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(sandbox.status("s")["attempt"], 1);
}

#[test]
fn refuses_a_query_for_a_missing_conversation() {
    let sandbox = Sandbox::new("hear\ninit\nresult ok\neof");
    let folder = sandbox.path("home").join(".claude/projects/folder");
    let file = folder.join("7f3a.jsonl");
    fs::create_dir_all(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let mut sidecar = Sidecar::start(&sandbox);
    let mut asked = query("s", "one");
    asked["resumeSessionId"] = "7f3a".into();
    sidecar.write(&asked);
    assert_eq!(sidecar.read_until("agent_stopped").pop().unwrap()["status"], "completed");
    fs::remove_file(&file).unwrap();
    sidecar.write(&query("s", "two"));
    assert_eq!(sidecar.read_until("error").pop().unwrap()["code"], "session_gone");
    assert_eq!(sandbox.status("s")["status"], "completed");
    sidecar.kill();
}

#[test]
fn maps_and_keeps_session_ids_that_are_not_job_ids() {
    let sandbox =
        Sandbox::new("read\ninit\nstderr a word\ntouch $DIR/up\nhear $DIR/heard\nresult ok\neof");
    let (session, id) = ("Chat 42/ä", "Chat-42-d548743e2b455a21");
    let mut first = Sidecar::start(&sandbox);
    first.write(&json!({"type": "query", "sessionId": session, "prompt": "work"}));
    let started = first.read_until("agent_started").pop().unwrap();
    assert_eq!((&started["sessionId"], &started["jobId"]), (&session.into(), &id.into()));
    await_file(&sandbox.path("up"));
    first.kill();
    // A later sidecar finds the job by the session's id.
    let mut second = Sidecar::start(&sandbox);
    second.write(&json!({"type": "attach", "sessionId": session}));
    second.write(&json!({"type": "message", "sessionId": session, "text": "more"}));
    let output = second.read_until("agent_stopped");
    assert!(output.iter().all(|line| line["sessionId"] == session), "{output:#?}");
    let kinds = ["agent_started", "agent_event", "agent_log", "agent_stopped"];
    assert!(
        kinds.iter().all(|kind| output.iter().any(|line| line["type"] == *kind)),
        "{output:#?}"
    );
    assert_eq!(sandbox.status(id)["labels"], json!({"session": session}));
    let listed = sandbox.run(["list", "--all", "--label", &format!("session={session}")]);
    assert_eq!(listed.json[0]["jobId"], id);

    let long = "ä".repeat(1_000);
    second.write(&json!({"type": "query", "sessionId": long, "prompt": "work"}));
    let started = second.read_until("agent_started").pop().unwrap();
    let label = &sandbox.status(started["jobId"].as_str().unwrap())["labels"]["session"];
    assert_eq!(label, &"ä".repeat(128));
    second.write(&json!({"type": "stop", "sessionId": long}));
    assert_eq!(second.read_until("agent_stopped").pop().unwrap()["sessionId"], long);
    second.kill();
}

#[test]
fn a_sidecar_keeps_nothing_of_an_ended_job() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut sidecar = Sidecar::start(&sandbox);
    for id in ["a", "b"] {
        sidecar.write(&json!({"type": "query", "sessionId": id, "prompt": "work"}));
        sidecar.read_until("agent_stopped");
    }
    let pid = sidecar.child.id() as i32;
    eventually("its children to be gone", || children_of(pid).is_empty().then_some(()));
    eventually("its watches to be gone", || {
        (!has_open(pid, Path::new("anon_inode:inotify"))).then_some(())
    });
    sidecar.kill();
}

#[test]
fn reports_invalid_requests_and_continues() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\nhear $DIR/heard\ntouch $DIR/up\nhang");
    let mut sidecar = Sidecar::start(&sandbox);
    let mut code = |line: &str| {
        sidecar.write_line(line);
        let output = sidecar.read_until("error");
        output.last().unwrap()["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code("{"), "invalid_json");
    assert_eq!(code("{\"type\":\"dance\"}"), "unknown_type");
    assert_eq!(code("{\"type\":\"query\"}"), "invalid_message");
    assert_eq!(code("{\"type\":\"stop\",\"sessionId\":\"nobody\"}"), "not_found");
    assert_eq!(code("{\"type\":\"attach\",\"sessionId\":\"../x\"}"), "not_found");
    assert_eq!(code("{\"type\":\"attach\",\"sessionId\":\"\"}"), "invalid_job_id");
    assert_eq!(code("{\"type\":\"query\",\"sessionId\":\"\",\"prompt\":\"x\"}"), "invalid_job_id");
    assert_eq!(code("{\"type\":\"query\",\"sessionId\":\"s\",\"prompt\":\"\"}"), "empty_prompt");
    sidecar.write(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    sidecar.read_until("agent_started");
    sidecar.write(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    let refused = sidecar.read_until("error").pop().unwrap();
    assert_eq!(refused["code"], "job_exists");
    assert!(refused["error"].as_str().unwrap().contains("a message at any time"), "{refused}");
    sidecar.write(&json!({"type": "message", "sessionId": "s", "text": "and this"}));
    await_file(&sandbox.path("up"));
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "and this\n");
    sidecar.write(&json!({"type": "answer", "sessionId": "s", "allow": true}));
    assert_eq!(sidecar.read_until("error").last().unwrap()["code"], "nothing_asked");
    sidecar.write(&json!({"type": "stop", "sessionId": "s"}));
    let stopped = sidecar.read_until("agent_stopped");
    assert_eq!(stopped.last().unwrap()["status"], "killed");
    assert_eq!(sidecar.finish(), [Value::Null; 0]);
}

#[test]
fn reports_sessions_to_their_end_after_eof() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay one\ntouch $DIR/up-$JOB\nwait-file $DIR/go\nsay two\nresult ok\neof",
    );
    let mut sidecar = Sidecar::start(&sandbox);
    for id in ["a", "b"] {
        sidecar.write(&json!({"type": "query", "sessionId": id, "prompt": "work"}));
        await_file(&sandbox.path(&format!("up-{id}")));
    }
    sidecar.stdin = None;
    fs::write(sandbox.path("go"), "").unwrap();
    let output = sidecar.finish();
    for id in ["a", "b"] {
        let of_one: Vec<Value> =
            output.iter().filter(|line| line["sessionId"] == id).cloned().collect();
        assert_eq!(events(&of_one).last().unwrap()["result"], "ok");
        let stopped = of_one.last().unwrap();
        assert_eq!(
            (&stopped["type"], &stopped["status"]),
            (&"agent_stopped".into(), &"completed".into())
        );
    }
}

#[test]
fn does_not_wait_for_idle_sessions_after_eof() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.write(&json!({"type": "query", "sessionId": "s", "prompt": "one", "keepAlive": true}));
    sidecar.read_until("agent_started");
    sidecar.write(&json!({"type": "message", "sessionId": "s", "text": "two"}));
    let output = sidecar.finish();
    let last = events(&output).pop().unwrap();
    assert_eq!((&last["type"], &last["result"]), (&"result".into(), &"heard two".into()));
    assert!(output.iter().all(|line| line["type"] != "agent_stopped"), "{output:#?}");
    assert_eq!(sandbox.status("s")["status"], "idle");

    // Nobody can answer claude's request any more.
    sandbox.script(&format!("read\ninit\n{PERMISSION}\nhang"));
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.write(&json!({"type": "query", "sessionId": "t", "prompt": "one", "ask": true}));
    let last = events(&sidecar.finish()).pop().unwrap();
    assert_eq!(last["type"], "control_request");
    assert_eq!(sandbox.status("t")["status"], "blocked");
}

#[test]
fn stops_a_session_that_was_stopped_before_eof() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    for (id, keep_alive) in [("idle", true), ("busy", false)] {
        let mut sidecar = Sidecar::start(&sandbox);
        let query =
            json!({"type": "query", "sessionId": id, "prompt": "x", "keepAlive": keep_alive});
        sidecar.write(&query);
        sidecar.read_until("agent_started");
        if keep_alive {
            eventually("it to be idle", || (sandbox.status(id)["status"] == "idle").then_some(()));
            sandbox.script("read\ninit\nhang");
        }
        sidecar.write(&json!({"type": "stop", "sessionId": id}));
        let stopped = sidecar.finish().pop().unwrap();
        assert_eq!(
            (&stopped["type"], &stopped["status"]),
            (&"agent_stopped".into(), &"killed".into())
        );
    }
    // The same if the program that embeds the sidecar ends.
    let mut sidecar = Sidecar::start(&sandbox);
    sidecar.write(&json!({"type": "query", "sessionId": "s", "prompt": "x"}));
    sidecar.read_until("agent_started");
    sidecar.write(&json!({"type": "stop", "sessionId": "s"}));
    let Sidecar { mut child, stdin, output } = sidecar;
    drop((stdin, output));
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.status("s")["status"], "killed");
}

#[test]
fn a_sidecar_without_a_reader_ends_but_not_its_jobs() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up-$JOB\nhang");
    for (id, input_ends) in [("a", false), ("b", true)] {
        let mut sidecar = Sidecar::start(&sandbox);
        sidecar.write(&json!({"type": "query", "sessionId": id, "prompt": "x"}));
        sidecar.read_until("agent_started");
        await_file(&sandbox.path(&format!("up-{id}")));
        if input_ends {
            sidecar.stdin = None;
        }
        drop(sidecar.output);
        assert!(sidecar.child.wait().unwrap().success());
        assert_eq!(sandbox.status(id)["status"], "running");
    }
}
