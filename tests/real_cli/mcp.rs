//! The real CLI as a client of the MCP server.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::eventually;
use crate::support::processes::send;
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::sandbox::fake_claude;
use crate::support::scripted_api::Step;
use crate::support::terminal::Terminal;

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
    // By default the CLI begins without the server's tools after five seconds.
    command.env("MCP_CONNECT_TIMEOUT_MS", "60000");
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

newest_cli!(a_person_goes_on_and_is_woken_by_the_end, "The oldest version has no tasks.");
fn a_person_goes_on_and_is_woken_by_the_end(cli: Cli) {
    let start = json!({ "prompt": "inner", "jobId": "inner", "wait": true });
    let sandbox = RealSandbox::new(
        cli,
        [
            tool("start_coding_job", start),
            Step::text("STARTED"),
            Step::text("MEANWHILE"),
            tool("job_result", json!({ "jobId": "inner" })),
            Step::text("REPORTED"),
        ],
    );
    let script = "read\ninit\nwait-file $DIR/go\nresult The answer of the job.\neof";
    sandbox.script(script);
    let server = json!({
        "command": env!("CARGO_BIN_EXE_claudejob"),
        "args": ["mcp"],
        "env": {
            "CLAUDE_SKILL_CLAUDE": fake_claude(),
            "FAKE_CLAUDE": sandbox.path("script"),
            "FAKE_DIR": sandbox.path(""),
        },
    });
    let config = sandbox.path("mcp.json");
    fs::write(&config, json!({ "mcpServers": { "claudejob": server } }).to_string()).unwrap();
    // A person has answered the questions of the first start.
    let mut projects = json!({});
    projects[sandbox.work().to_str().unwrap()] = json!({ "hasTrustDialogAccepted": true });
    let settings = json!({
        "hasCompletedOnboarding": true,
        "customApiKeyResponses": { "approved": ["sk-ant-test"], "rejected": [] },
        "projects": projects,
    });
    fs::write(sandbox.path("home/.claude.json"), settings.to_string()).unwrap();
    let environment = sandbox.environment();
    let mut command = Command::new(&environment[OsStr::new("CLAUDE_SKILL_CLAUDE")]);
    command.env_clear().envs(environment).env("TERM", "xterm-256color");
    command.current_dir(sandbox.work()).args(["--allowedTools", "mcp__claudejob"]);
    command.arg("--mcp-config").arg(&config).arg("--strict-mcp-config");
    let mut terminal = Terminal::of_size(command, 100, 40);

    terminal.await_text("shift+tab");
    eventually("raw mode", || terminal.is_raw().then_some(()));
    terminal.press("begin");
    terminal.answer("begin", "\r");
    terminal.await_text("STARTED");
    terminal.answer("STARTED", "another");
    terminal.answer("another", "\r");
    terminal.await_text("MEANWHILE");
    assert_eq!(sandbox.status("inner")["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    terminal.await_text("REPORTED");
    let seen = sandbox.api.wait_for_request(5).last.to_string();
    assert!(seen.contains("The answer of the job."), "{seen}");

    send(terminal.pid(), Signal::SIGTERM);
    terminal.finish();
    sandbox.wait("inner").expect_end(0, "completed", None);
}
