//! Bad input: an error as the protocol says, and the server goes on.

use serde_json::{Value, json};

use crate::McpClient;
use crate::support::Sandbox;

#[test]
fn bad_input_is_an_error_and_the_server_goes_on() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let named = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2030-01-01"}"#;
    for (line, id, code) in [
        ("{".to_owned(), Value::Null, -32700),
        ("\u{0}".to_owned(), Value::Null, -32700),
        ("x".repeat(1000), Value::Null, -32700),
        ("[]".to_owned(), Value::Null, -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#.to_owned(), Value::Null, -32600),
        ("1".to_owned(), Value::Null, -32600),
        ("{}".to_owned(), Value::Null, -32600),
        (r#"{"jsonrpc":"2.0"}"#.to_owned(), Value::Null, -32600),
        (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#.to_owned(), json!(7), -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(), Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_owned(), Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":7,"method":3}"#.to_owned(), json!(7), -32600),
        (r#"{"jsonrpc":"2.0","id":"s","method":"x"}"#.to_owned(), json!("s"), -32601),
        (r#"{"jsonrpc":"2.0","id":-1.5,"method":"x"}"#.to_owned(), json!(-1.5), -32601),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}"#.to_owned(), json!(7), -32602),
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(), json!(7), -32602),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}"#.to_owned(),
            json!(7),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"list_jobs","arguments":1}}"#
                .to_owned(),
            json!(7),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"taskId":"a/b"}}"#.to_owned(),
            json!(7),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"taskId":"gone"}}"#.to_owned(),
            json!(7),
            -32602,
        ),
        // The id of a request is found in what cannot be read otherwise.
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":1e999}}"#.to_owned(), json!(7), -32700),
        (
            format!(
                r#"{{"jsonrpc":"2.0","params":{}1{},"method":"ping","id":"d"}}"#,
                "[".repeat(200),
                "]".repeat(200)
            ),
            json!("d"),
            -32700,
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{{named}}}}}"#),
            json!(7),
            -32022,
        ),
    ] {
        client.send_line(line.as_bytes());
        let answer = client.read();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{line}");
        if code == -32022 {
            assert_eq!(answer["error"]["data"]["supported"][0], "2026-07-28", "{answer}");
        }
    }
    // Notifications and answers that nobody asked for get no answer.
    client.send(&json!({ "jsonrpc": "2.0", "method": "unknown", "params": [1] }));
    client.send(&json!({ "jsonrpc": "2.0", "id": 99, "result": {} }));
    client.send_line(b"  ");
    assert_eq!(client.request("ping", json!({})), json!({}));
    client.finish();
}

#[test]
fn wrong_arguments_are_errors_of_the_tool() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    for (tool, arguments, code, part) in [
        ("start_coding_job", json!({}), "usage", "needs the argument 'prompt'"),
        ("start_coding_job", json!({"prompt": 1}), "usage", "a string, not 1"),
        ("start_coding_job", json!({"prompt": "-"}), "usage", "'-' is no value"),
        ("start_coding_job", json!({"prompt": "x", "help": true}), "usage", "no argument 'help'"),
        ("start_coding_job", json!({"prompt": " "}), "empty_prompt", "empty"),
        ("start_coding_job", json!({"prompt": "x", "label": [1]}), "usage", "array of strings"),
        ("start_coding_job", json!({"prompt": "x", "jobId": "--help"}), "invalid_job_id", "--help"),
        ("start_coding_job", json!({"prompt": "x", "cwd": "/no/such"}), "bad_cwd", "/no/such"),
        ("job_logs", json!({"jobId": "x", "sinceOffset": -1}), "usage", "a whole number"),
        ("job_status", json!({"jobId": "gone"}), "not_found", "gone"),
        ("kill_job", json!({"jobId": "--all"}), "invalid_job_id", "--all"),
        ("send_to_job", json!({"jobId": "x", "text": "-"}), "usage", "'-' is no value"),
        ("start_coding_job", json!({"prompt": "x", "model": "a\0b"}), "usage", "NUL"),
        ("wait_for_jobs", json!({}), "usage", "jobIds or label"),
        ("wait_for_jobs", json!({"label": ["a=b"]}), "no_match", "no job"),
    ] {
        let result = client.call(tool, arguments.clone());
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        assert!(result.get("structuredContent").is_none());
        let text = result["content"][0]["text"].as_str().unwrap();
        let error: Value = serde_json::from_str(text).unwrap();
        assert_eq!(error["code"], code, "{tool} {arguments}: {error}");
        assert!(error["error"].as_str().unwrap().contains(part), "{error}");
    }
    assert_eq!(client.data("list_jobs", json!({}))["jobs"], json!([]));
    client.finish();
}

#[test]
fn long_prompts_arrive_and_longer_lines_do_not() {
    let sandbox = Sandbox::new("read $DIR/prompt\ninit\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let prompt = "é".repeat(5 << 20);
    let started = client.data("start_coding_job", json!({"jobId": "j", "prompt": prompt}));
    assert_eq!(started["jobId"], "j");
    assert_eq!(std::fs::read_to_string(sandbox.job("j").join("prompt.txt")).unwrap(), prompt);
    let long = client.call("start_coding_job", json!({"prompt": "x".repeat((10 << 20) + 1)}));
    assert_eq!(long["isError"], true);
    client.send_line(&vec![b'x'; (16 << 20) + 1]);
    let refused = client.read();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &json!(-32700)));
    let waited = client.data("wait_for_jobs", json!({"jobIds": ["j"]}));
    assert_eq!(waited["jobs"][0]["status"], "completed", "{waited}");
    client.finish();
}

#[test]
fn every_version_is_negotiated() {
    let sandbox = Sandbox::new("");
    for (asked, answered) in [
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2024-11-05"),
        ("2030-01-01", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let mut client = McpClient::start(&sandbox, None);
        let params = json!({ "protocolVersion": asked, "capabilities": {} });
        let result = client.request("initialize", params);
        assert_eq!(result["protocolVersion"], answered);
        assert!(result["instructions"].as_str().unwrap().contains("stillRunning"));
        client.finish();
    }
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let mut client = McpClient::modern(&sandbox, &tasks);
    let found = client.request("server/discover", json!({}));
    assert_eq!(found["supportedVersions"][0], "2026-07-28");
    assert!(found["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object());
    assert!(found["instructions"].as_str().unwrap().contains("a task that completes"));
    client.finish();
}

#[test]
fn a_text_that_was_cut_inside_a_character_is_accepted() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    client.send_line(
        br#"{"jsonrpc":"2.0","id":"cut","method":"tools/call","params":{"name":"start_coding_job","arguments":{"jobId":"j","prompt":"cut \ud83d"}}}"#,
    );
    let answer = client.read();
    assert_eq!(answer["result"]["structuredContent"]["jobId"], "j", "{answer}");
    let prompt = std::fs::read_to_string(sandbox.job("j").join("prompt.txt")).unwrap();
    assert_eq!(prompt, "cut \u{fffd}");
    sandbox.wait("j").expect_end(0, "completed", None);
    client.finish();
}

#[test]
fn errors_do_not_repeat_long_values() {
    let sandbox = Sandbox::new("");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    let long = "x".repeat(100_000);
    for (tool, arguments) in [
        ("job_status", json!({ "jobId": long })),
        ("start_coding_job", json!({ "prompt": "w", "cwd": long })),
        ("start_coding_job", json!({ "prompt": "w", "worktree": long })),
        ("start_coding_job", json!({ "prompt": "w", &long: 1 })),
        ("list_jobs", json!({ "status": long })),
    ] {
        let result = client.call(tool, arguments);
        assert_eq!(result["isError"], true);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.len() < 2_500, "{tool}: {}", text.len());
        let error: Value = serde_json::from_str(text).unwrap();
        assert!(error["code"].is_string() && error.get("hint").is_some(), "{error}");
    }
    for (method, params) in [
        (long.as_str(), json!({})),
        ("tools/call", json!({ "name": long })),
        ("tasks/get", json!({ "taskId": long })),
    ] {
        let id = client.begin(method, params);
        let answer = client.answer(id);
        assert!(answer["error"]["message"].as_str().unwrap().len() < 2_500);
    }
    client.finish();
}
