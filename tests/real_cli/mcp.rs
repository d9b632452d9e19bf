//! The real CLI as a client of the MCP server.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

/// A call of one of our tools by the model.
fn tool(name: &str, input: serde_json::Value) -> Step {
    Step::Tool { name: format!("mcp__claudejob__{name}"), input }
}

each_cli!(a_session_starts_a_job_and_reads_its_result);
fn a_session_starts_a_job_and_reads_its_result(cli: Cli) {
    let start = json!({ "prompt": "inner", "jobId": "inner", "wait": true });
    // The session and its job ask the same API, one after the other.
    let sandbox = RealSandbox::new(
        cli,
        [
            tool("start_coding_job", start),
            Step::text("The inner job is done."),
            tool("job_result", json!({ "jobId": "inner" })),
            Step::text("I have read the result."),
        ],
    );
    let server = json!({ "command": env!("CARGO_BIN_EXE_claudejob"), "args": ["mcp"] });
    let config = sandbox.path("mcp.json");
    fs::write(&config, json!({ "mcpServers": { "claudejob": server } }).to_string()).unwrap();

    let environment = sandbox.environment();
    let mut command = Command::new(&environment[OsStr::new("CLAUDE_SKILL_CLAUDE")]);
    command.env_clear().envs(environment).current_dir(sandbox.work()).stdin(Stdio::null());
    command.args(["-p", "Start a job", "--allowedTools", "mcp__claudejob"]);
    command.arg("--mcp-config").arg(&config).arg("--strict-mcp-config");
    command.args(["--output-format", "json"]);
    let output = command.output().unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("I have read the result."), "{text}");
    let inner = sandbox.wait("inner");
    inner.expect_end(0, "completed", None);
    assert_eq!(inner["result"], "The inner job is done.");
    let seen = sandbox.api.wait_for_request(4).last.to_string();
    assert!(seen.contains("The inner job is done."), "{seen}");
}
