//! Waits as tasks of the client.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Sandbox, eventually};
use crate::{McpClient, PERMISSION, QUESTION};

fn capabilities() -> Value {
    json!({
        "elicitation": { "form": {} },
        "extensions": { "io.modelcontextprotocol/tasks": {} },
    })
}

/// Asks for the task until it has this status.
#[track_caller]
fn await_status(client: &mut McpClient, task: &str, status: &str) -> Value {
    eventually(status, || {
        let got = client.request("tasks/get", json!({ "taskId": task }));
        assert_eq!((&got["resultType"], &got["taskId"]), (&json!("complete"), &json!(task)));
        (got["status"] == status).then_some(got)
    })
}

#[test]
fn a_task_lives_as_long_as_the_jobs() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nwait-file $DIR/go\nresult ok\neof");
    let mut client = McpClient::modern(&sandbox, &capabilities());
    let task = client.call("start_coding_job", json!({"jobId": "a", "prompt": "w", "wait": true}));
    assert_eq!((&task["resultType"], &task["taskId"]), (&json!("task"), &json!("a")), "{task}");
    assert_eq!((&task["status"], &task["ttlMs"]), (&json!("working"), &Value::Null));
    client.data("start_coding_job", json!({"jobId": "b", "prompt": "w"}));
    let both = client.call("wait_for_jobs", json!({"jobIds": ["a", "b"]}));
    assert_eq!(both["taskId"], "a,b", "{both}");
    await_status(&mut client, "a", "working");
    client.finish();

    // A later server answers as well.
    let mut client = McpClient::modern(&sandbox, &capabilities());
    await_status(&mut client, "a,b", "working");
    fs::write(sandbox.path("go"), "").unwrap();
    let done = await_status(&mut client, "a,b", "completed");
    client.check("wait_for_jobs", &done["result"]);
    let jobs = &done["result"]["structuredContent"]["jobs"];
    assert_eq!((&jobs[0]["jobId"], &jobs[1]["status"]), (&json!("a"), &json!("completed")));
    // What has ended needs no task.
    let ended = client.data("wait_for_jobs", json!({"jobIds": ["a"]}));
    assert_eq!(ended["jobs"][0]["result"], "ok");
    client.finish();
}

#[test]
fn a_cancelled_task_does_not_end_the_job() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    let mut client = McpClient::modern(&sandbox, &capabilities());
    client.call("start_coding_job", json!({"jobId": "j", "prompt": "w", "wait": true}));
    client.request("tasks/cancel", json!({"taskId": "j"}));
    await_status(&mut client, "j", "cancelled");
    assert_eq!(sandbox.status("j")["status"], "running");
    // Another wait for it is another task.
    client.call("wait_for_jobs", json!({"jobIds": ["j"]}));
    await_status(&mut client, "j", "working");
    fs::write(sandbox.path("go"), "").unwrap();
    await_status(&mut client, "j", "completed");
    client.finish();
}

#[test]
fn a_blocked_job_asks_through_its_task() {
    for (action, behavior) in [("accept", Some("allow")), ("decline", None), ("cancel", None)] {
        let sandbox = Sandbox::new(&format!(
            "read\ninit\nwait-file $DIR/go\n{PERMISSION}\nread $DIR/answer\nresult ok\neof"
        ));
        let mut client = McpClient::modern(&sandbox, &capabilities());
        let arguments = json!({"jobId": "j", "prompt": "w", "ask": true, "wait": true});
        assert_eq!(client.call("start_coding_job", arguments)["taskId"], "j");
        fs::write(sandbox.path("go"), "").unwrap();
        let asked = await_status(&mut client, "j", "input_required");
        let (key, request) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(request["method"], "elicitation/create");
        let response = json!({ "action": action, "content": { "decision": "allow" } });
        let update = json!({ "taskId": "j", "inputResponses": { key: response } });
        assert_eq!(client.request("tasks/update", update)["resultType"], "complete");
        let done = await_status(&mut client, "j", "completed");
        let job = &done["result"]["structuredContent"]["jobs"][0];
        match behavior {
            Some(behavior) => {
                assert_eq!(job["status"], "completed", "{done}");
                let answer = fs::read(sandbox.path("answer")).unwrap();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["response"]["response"]["behavior"], behavior);
            }
            None => {
                assert_eq!(job["status"], "blocked", "{done}");
                assert!(!sandbox.path("answer").exists());
            }
        }
        client.finish();
    }
}

#[test]
fn a_blocked_task_shows_the_question() {
    let sandbox =
        Sandbox::new(&format!("read\ninit\n{QUESTION}\nread $DIR/answer\nresult ok\neof"));
    let mut client = McpClient::modern(&sandbox, &capabilities());
    let arguments = json!({"jobId": "j", "prompt": "w", "ask": true});
    client.data("start_coding_job", arguments);
    let asked = await_status(&mut client, "j", "input_required");
    assert_eq!(asked["statusMessage"], "blocked: Which database?");
    client.finish();
}
