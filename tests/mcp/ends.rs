//! The end of the client ends the server at once, and no job.

use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::McpClient;
use crate::support::processes::send;
use crate::support::{Sandbox, await_file};

/// Ends a server whose client waits for a job, and asserts that the job completes.
fn end_while_waiting(end: impl FnOnce(&mut McpClient)) {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    client.data("start_coding_job", json!({"jobId": "j", "prompt": "work"}));
    await_file(&sandbox.path("up"));
    client.begin_tool("wait_for_jobs", json!({"jobIds": ["j"]}));
    assert_eq!(client.read()["method"], "notifications/progress");
    end(&mut client);
    client.child.wait().unwrap();
    assert_eq!(sandbox.status("j")["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn the_end_of_the_input_ends_the_server_and_no_job() {
    end_while_waiting(|client| client.stdin = None);
}

#[test]
fn a_signal_ends_the_server_and_no_job() {
    end_while_waiting(|client| {
        send(i32::try_from(client.child.id()).unwrap(), Signal::SIGTERM);
    });
}

#[test]
fn a_closed_output_ends_the_server_and_no_job() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
    let mut command = sandbox.command(["mcp"]);
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "start_coding_job",
            "arguments": { "jobId": "j", "prompt": "work", "wait": true },
        },
    });
    writeln!(stdin, "{call}").unwrap();
    await_file(&sandbox.path("up"));
    drop(child.stdout.take());
    // The input stays open: another process may hold it.
    assert!(child.wait().unwrap().success());
    drop(stdin);
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn calls_under_way_are_finished_after_the_input() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let start = json!({
        "jsonrpc": "2.0", "id": "s", "method": "tools/call",
        "params": { "name": "start_coding_job", "arguments": { "jobId": "j", "prompt": "work" } },
    });
    let answer = sandbox.run_with_stdin(["mcp"], start.to_string());
    assert_eq!((answer.code, &answer["id"]), (0, &json!("s")), "{answer:?}");
    assert_eq!(answer["result"]["structuredContent"]["jobId"], "j");
    assert_eq!(answer.stderr, "");
    sandbox.wait("j").expect_end(0, "completed", None);
}
