//! Whole jobs with the real CLI and a scripted API, through the real binary.
//!
//! Each test runs against the oldest and the newest version of the CLI, which are installed once
//! from npm; its name ends in the version: `cargo test --test real_cli cli_ -- --ignored`.
//! `CLAUDEJOB_TEST_CLAUDE=PATH` names one more CLI for `cargo test --test real_cli another_cli --
//! --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;

use serde_json::Value;
use support::real_claude::{Cli, RealSandbox, tested};
use support::scripted_api::Step;

/// Defines the tests of a function: one for each version of the CLI.
macro_rules! each_cli {
    ($name:ident) => {
        each_cli!($name, "needs claude, which it installs from npm");
    };
    ($name:ident, $needs:literal) => {
        mod $name {
            use crate::support::real_claude::Cli;

            #[test]
            #[ignore = $needs]
            fn cli_2_1_197() {
                super::$name(Cli::Oldest);
            }

            #[test]
            #[ignore = $needs]
            fn cli_2_1_332() {
                super::$name(Cli::Newest);
            }

            #[test]
            #[ignore = "needs CLAUDEJOB_TEST_CLAUDE"]
            fn another_cli() {
                super::$name(Cli::Other);
            }
        }
    };
}

/// Defines the tests of a function that needs a feature of the newest version that the oldest
/// lacks.
macro_rules! newest_cli {
    ($name:ident, $reason:literal) => {
        #[doc = $reason]
        mod $name {
            use crate::support::real_claude::Cli;

            #[test]
            #[ignore = "needs claude, which it installs from npm"]
            fn cli_2_1_332() {
                super::$name(Cli::Newest);
            }

            #[test]
            #[ignore = "needs CLAUDEJOB_TEST_CLAUDE"]
            fn another_cli() {
                super::$name(Cli::Other);
            }
        }
    };
}

#[path = "real_cli/background.rs"]
mod background;
#[path = "real_cli/conversation.rs"]
mod conversation;
#[path = "real_cli/failures.rs"]
mod failures;
#[path = "real_cli/mcp.rs"]
mod mcp;
#[path = "real_cli/nested.rs"]
mod nested;
#[path = "real_cli/open.rs"]
mod open;
#[path = "real_cli/processes.rs"]
mod processes;
#[path = "real_cli/questions.rs"]
mod questions;
#[path = "real_cli/rate_limits.rs"]
mod rate_limits;
#[path = "real_cli/resume.rs"]
mod resume;
#[path = "real_cli/silent.rs"]
mod silent;
#[path = "real_cli/truth.rs"]
mod truth;
#[path = "real_cli/worktrees.rs"]
mod worktrees;

#[test]
fn test_names_match_the_tested_versions() {
    let names = [tested::OLDEST, tested::NEWEST].map(|v| format!("cli_{}", v.replace('.', "_")));
    assert_eq!(names, ["cli_2_1_197", "cli_2_1_332"]);
}

each_cli!(an_answer);
fn an_answer(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("All tests pass.").held()]);
    let started = sandbox.start("answer", &[]);
    assert_eq!(started["jobId"], "answer");
    assert_eq!(started["status"], "running");
    sandbox.api.release();

    let result = sandbox.wait("answer");

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "All tests pass.");
    assert_eq!(result["num_turns"], 1);
    assert!(result["cost_usd"].as_f64().unwrap() > 0.0);
    let status = sandbox.status("answer");
    assert_eq!(status["sessionId"], result["session_id"]);
    assert_eq!(status["error"], Value::Null);
    assert_eq!(status["rateLimited"], false);
    assert!(status.text("endedAt") >= status.text("startedAt"));
    let seen = sandbox.api.wait_for_request(1);
    assert!(seen.last.to_string().contains("work"), "the prompt arrived: {}", seen.last);
    let kill = sandbox.run(["kill", "answer"]);
    assert_eq!((&kill["killed"], kill.text("status")), (&Value::Bool(false), "completed"));
}

each_cli!(a_tool_call_changes_a_file_in_cwd);
fn a_tool_call_changes_a_file_in_cwd(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [Step::bash("pwd > where.txt && echo new > notes.txt"), Step::text("Wrote the notes.")],
    );
    let cwd = sandbox.path("a directory of its own");
    fs::create_dir(&cwd).unwrap();
    fs::write(cwd.join("notes.txt"), "old\n").unwrap();

    let result = sandbox.run_job("tool", &["--cwd", cwd.to_str().unwrap()]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Wrote the notes.");
    assert_eq!(result["num_turns"], 2);
    assert_eq!(fs::read_to_string(cwd.join("notes.txt")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(cwd.join("where.txt")).unwrap().trim(), cwd.to_str().unwrap());
    let logs = sandbox.run(["logs", "tool"]);
    assert!(logs.text("tail").contains("Bash"), "{logs:?}");
}

/// Starts the job `long` with a prompt of this size.
fn start_with_prompt_of(sandbox: &RealSandbox, size: usize) {
    const LINE: &str = "a line of a long prompt\n";
    let prompt = sandbox.path("prompt");
    fs::write(&prompt, LINE.repeat(size / LINE.len() + 1)).unwrap();
    let started =
        sandbox.run(["start", "--job-id", "long", "--prompt-file", prompt.to_str().unwrap()]);
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(
        fs::read(sandbox.job("long").join("prompt.txt")).unwrap(),
        fs::read(prompt).unwrap()
    );
}

each_cli!(a_prompt_of_a_megabyte);
fn a_prompt_of_a_megabyte(cli: Cli) {
    const SIZE: usize = 1024 * 1024;
    let sandbox = RealSandbox::new(cli, [Step::text("read it all")]);
    start_with_prompt_of(&sandbox, SIZE);

    sandbox.wait("long").expect_end(0, "completed", None);
    assert!(sandbox.api.wait_for_request(1).bytes > SIZE);
}

each_cli!(a_prompt_of_ten_megabytes);
fn a_prompt_of_ten_megabytes(cli: Cli) {
    const SIZE: usize = 10_000_000;
    let sandbox = RealSandbox::new(cli, [Step::text("read it all")]);
    start_with_prompt_of(&sandbox, SIZE);

    let result = sandbox.wait("long");

    if cli == Cli::Oldest {
        result.expect_end(0, "completed", None);
        assert!(sandbox.api.wait_for_request(1).bytes > SIZE);
    } else {
        // 2.1.332 refuses a prompt beyond the context window without asking the API.
        result.expect_end(1, "failed", Some("prompt_too_long"));
        assert_eq!(sandbox.api.requests(), 0);
    }
}
