//! Errors of the API and of the CLI, and limits that a job reaches.

use std::fs;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

each_cli!(an_overloaded_api_fails);
fn an_overloaded_api_fails(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::Overloaded]);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "1");

    let result = sandbox.run_job("overloaded", &[]);

    result.expect_end(75, "failed", Some("overloaded"));
}

each_cli!(a_transient_server_error_does_not_fail);
fn a_transient_server_error_does_not_fail(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::ServerError, Step::text("ok")]);

    let result = sandbox.run_job("error", &[]);

    result.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("error")["rateLimited"], false);
}

each_cli!(a_truncated_answer_fails);
fn a_truncated_answer_fails(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::Cut]);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "1");

    let result = sandbox.run_job("cut", &[]);

    // The oldest version does not distinguish a lost connection from a malformed answer.
    let code = if cli == Cli::Oldest { 1 } else { 75 };
    result.expect_end(code, "failed", Some("api_error"));
    assert!(result.text("error").contains("malformed"), "{result:?}");
}

each_cli!(a_bad_key_fails_before_the_cli_gives_up);
fn a_bad_key_fails_before_the_cli_gives_up(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::BadKey]);

    let result = sandbox.run_job("key", &[]);

    result.expect_end(1, "failed", Some("auth"));
    // The CLI alone tries eleven times.
    assert!(sandbox.api.requests() <= 5, "{} requests", sandbox.api.requests());
    sandbox.assert_nothing_left("key");
}

each_cli!(fails_on_a_login_that_only_the_cli_rejects);
fn fails_on_a_login_that_only_the_cli_rejects(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::text("never asked")]);
    sandbox.unset("ANTHROPIC_API_KEY");
    fs::create_dir(sandbox.path("home/.claude")).unwrap();
    fs::write(sandbox.path("home/.claude/.credentials.json"), "{}").unwrap();

    let result = sandbox.run_job("login", &[]);

    result.expect_end(1, "failed", Some("auth"));
    assert!(result.text("error").contains("Not logged in"), "{result:?}");
    assert_eq!(sandbox.api.requests(), 0);
}

each_cli!(reports_turns_and_cost_at_the_turn_limit);
fn reports_turns_and_cost_at_the_turn_limit(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::bash("echo 1")]);

    let result = sandbox.run_job("turns", &["--max-turns", "2"]);

    result.expect_end(1, "failed", Some("max_turns"));
    let status = sandbox.status("turns");
    assert!(status["numTurns"].as_u64().unwrap() >= 2, "{status:?}");
    assert!(status["costUsd"].as_f64().unwrap() > 0.0, "{status:?}");
}

each_cli!(reports_the_cost_at_the_budget_limit);
fn reports_the_cost_at_the_budget_limit(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::bash("echo 1")]);

    let result = sandbox.run_job("budget", &["--max-budget-usd", "0.01"]);

    result.expect_end(1, "failed", Some("max_budget"));
    assert!(sandbox.status("budget")["costUsd"].as_f64().unwrap() >= 0.01);
}

each_cli!(a_missing_session_is_refused);
fn a_missing_session_is_refused(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("never asked")]);
    let session = "11111111-1111-4111-8111-111111111111";

    let result = sandbox.run_job("resume", &["--resume", session]);

    result.expect_end(1, "failed", Some("claude_refused"));
    let line = format!("No conversation found with session ID: {session}");
    assert!(result.text("error").contains(&line), "{result:?}");
    let stderr = sandbox.run(["logs", "resume", "--stderr"]);
    assert!(stderr.text("tail").contains(&line), "{stderr:?}");
}

each_cli!(an_unknown_option_is_refused);
fn an_unknown_option_is_refused(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("never asked")]);

    let started =
        sandbox.run(["start", "--job-id", "option", "--prompt", "work", "--", "--no-such-option"]);
    assert_eq!(started.code, 0, "{started:?}");
    let result = sandbox.wait("option");

    result.expect_end(1, "failed", Some("claude_refused"));
    assert!(result.text("error").contains("--no-such-option"), "{result:?}");
}

const SCHEMA: &str =
    r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}"#;

each_cli!(an_answer_without_its_schema_fails);
fn an_answer_without_its_schema_fails(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("not json")]);

    let result = sandbox.run_job("schema", &["--json-schema", SCHEMA]);

    result.expect_end(1, "failed", Some("invalid_output"));
}

each_cli!(a_job_fails_at_its_timeout);
fn a_job_fails_at_its_timeout(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::Hang]);

    let result = sandbox.run_job("timeout", &["--timeout", "2s"]);

    result.expect_end(1, "failed", Some("timeout"));
    sandbox.assert_nothing_left("timeout");
}
