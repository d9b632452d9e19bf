//! Waits without tasks, and the answers of the tools.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Sandbox, await_file, eventually};
use crate::{McpClient, QUESTION};

#[test]
fn a_job_is_started_watched_and_read() {
    let sandbox = Sandbox::new(
        "read $DIR/message\ninit\nsay hello\ntouch $DIR/up\nhear $DIR/heard\nwait-file $DIR/go\n\
         result the answer\neof",
    );
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let arguments = json!({
        "prompt": "--help; $(rm -rf ~)", "jobId": "j", "label": ["project=app"], "model": "",
        "maxBudgetUsd": 2.5, "timeout": "30m",
    });
    let started = client.data("start_coding_job", arguments);
    assert_eq!((&started["jobId"], &started["status"]), (&json!("j"), &json!("running")));
    await_file(&sandbox.path("up"));
    let prompt = fs::read_to_string(sandbox.job("j").join("prompt.txt")).unwrap();
    assert_eq!(prompt, "--help; $(rm -rf ~)");
    let status = client.data("job_status", json!({"jobId": "j"}));
    assert_eq!(status["cwd"], sandbox.work().to_str().unwrap());
    // The worker reads it after claude has written it.
    let log = sandbox.job("j").join("output.log");
    eventually("hello", || fs::read_to_string(&log).unwrap().contains("hello").then_some(()));
    let logs = client.data("job_logs", json!({"jobId": "j"}));
    assert!(logs["tail"].as_str().unwrap().contains("hello"), "{logs}");
    let listed = client.data("list_jobs", json!({"label": "project=app", "status": ["running"]}));
    assert_eq!(listed["jobs"][0]["jobId"], "j");
    client.data("send_to_job", json!({"jobId": "j", "text": "--all"}));
    assert_eq!(client.data("job_result", json!({"jobId": "j"}))["result"], Value::Null);

    let waiting = client.begin_tool("wait_for_jobs", json!({"label": ["project=app"]}));
    let progress = client.read();
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], waiting);
    assert!(progress["params"]["message"].as_str().unwrap().contains("running"), "{progress}");
    // Other requests are answered meanwhile.
    let ping = client.begin("ping", json!({}));
    client.answer(ping);
    fs::write(sandbox.path("go"), "").unwrap();
    let waited = client.answer(waiting)["result"].take();
    client.check("wait_for_jobs", &waited);
    let waited = &waited["structuredContent"];
    assert_eq!(
        (&waited["stillRunning"], &waited["jobs"][0]["result"]),
        (&json!(false), &json!("the answer"))
    );
    let result = client.data("job_result", json!({"jobId": "j"}));
    assert_eq!(result["result"], "the answer");
    client.finish();
}

#[test]
fn a_cancelled_wait_has_no_answer_and_the_job_goes_on() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let waiting =
        client.begin_tool("start_coding_job", json!({"jobId": "j", "prompt": "w", "wait": true}));
    assert_eq!(client.read()["method"], "notifications/progress");
    let params = json!({ "requestId": waiting, "reason": "the user pressed Escape" });
    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params,
    }));
    assert_eq!(client.data("job_status", json!({"jobId": "j"}))["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    client.finish();
}

#[test]
fn a_failed_job_is_data_and_no_error() {
    let sandbox = Sandbox::new("read\ninit\nstderr oh\nexit 1");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let arguments = json!({"jobId": "j", "prompt": "w", "wait": true});
    let waited = client.data("start_coding_job", arguments);
    assert_eq!(waited["jobs"][0]["status"], "failed", "{waited}");
    assert_eq!(waited["stillRunning"], false);
    assert_eq!(client.data("job_result", json!({"jobId": "j"}))["status"], "failed");
    client.data("kill_job", json!({"jobId": "j"}));
    client.finish();
}

#[test]
fn answers_are_short_unless_all_is_wanted() {
    let sandbox = Sandbox::new(&format!("read\ninit\nresult {}\neof", "word ".repeat(40_000)));
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    for id in ["a", "b", "c"] {
        client.data("start_coding_job", json!({"jobId": id, "prompt": "w", "wait": true}));
    }
    let length = |result: &Value| {
        assert_ne!(result["isError"], true);
        result["content"][0]["text"].as_str().unwrap().chars().count()
    };
    for (tool, arguments) in [
        ("job_result", json!({"jobId": "a"})),
        ("job_logs", json!({"jobId": "a"})),
        ("list_jobs", json!({})),
        ("wait_for_jobs", json!({"jobIds": ["a", "b", "c"]})),
    ] {
        let length = length(&client.call(tool, arguments));
        assert!(length < 8_000, "{tool}: {length}");
    }
    let full = length(&client.call("job_result", json!({"jobId": "a", "full": true})));
    assert!((50_000..=60_000).contains(&full), "{full}");
    client.finish();
}

#[test]
fn a_killed_job_ends_the_wait() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let waiting =
        client.begin_tool("start_coding_job", json!({"jobId": "j", "prompt": "w", "wait": true}));
    assert_eq!(client.read()["method"], "notifications/progress");
    let killed =
        client.begin("tools/call", json!({"name": "kill_job", "arguments": {"jobId": "j"}}));
    // A slow kill is progress of the wait, too.
    let mut next_answer = || loop {
        let message = client.read();
        if message["method"] != "notifications/progress" {
            return message;
        }
    };
    let mut answers = [next_answer(), next_answer()];
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!(waiting), &json!(killed)));
    let waited = &answers[0]["result"]["structuredContent"];
    assert_eq!(waited["jobs"][0]["status"], "killed", "{waited}");
    sandbox.assert_nothing_left("j");
    client.finish();
}

#[test]
fn a_job_does_not_inherit_the_clients_session() {
    let mut sandbox = Sandbox::new("env $DIR/env\nread\ninit\nresult ok\neof");
    sandbox.set("CLAUDECODE", "1");
    sandbox.set("CLAUDE_CODE_ENTRYPOINT", "cli");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    client.data("start_coding_job", json!({"jobId": "j", "prompt": "w", "wait": true}));
    let environment = fs::read(sandbox.path("env")).unwrap();
    let environment: Value = serde_json::from_slice(&environment).unwrap();
    assert_eq!(environment["CLAUDEJOB_ID"], "j");
    assert_eq!(environment["CLAUDE_CODE_ENTRYPOINT"], Value::Null);
    client.finish();
}

#[test]
fn a_wait_says_that_other_jobs_are_still_running() {
    let script =
        format!("read\ninit\nonce $DIR/asked {QUESTION}\nwait-file $DIR/go\nresult ok\neof");
    let sandbox = Sandbox::new(&script);
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let asking = client
        .data("start_coding_job", json!({"jobId": "a", "prompt": "w", "ask": true, "wait": true}));
    assert_eq!(asking["stillRunning"], false, "{asking}");
    client.data("start_coding_job", json!({"jobId": "b", "prompt": "w"}));
    let both = client.data("wait_for_jobs", json!({"jobIds": ["a", "b"]}));
    assert_eq!(
        (&both["jobs"][0]["status"], &both["jobs"][1]["status"]),
        (&json!("blocked"), &json!("running"))
    );
    assert_eq!(both["stillRunning"], true, "{both}");
    for id in ["a", "b"] {
        assert_eq!(client.data("kill_job", json!({ "jobId": id }))["killed"], true);
    }
    client.finish();
}
