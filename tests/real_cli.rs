//! Whole jobs with the real CLI and a scripted API, through the real binary.
//!
//! Each test runs against the oldest and the newest version of the CLI, which are installed once
//! from npm; its name ends in the version. Where they cannot be installed the tests are skipped
//! with a notice, and fail where `CI` is set. `CLAUDEJOB_TEST_CLAUDE=PATH` names one more CLI for
//! `cargo test --test real_cli another_cli -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{is_alive, pid_in, processes_of, program_of, send};
use support::real_claude::{Cli, RealSandbox, tested};
use support::scripted_api::Step;
use support::{Answer, await_file, eventually};

/// Makes tests of a function: one for each version of the CLI.
macro_rules! each_cli {
    ($name:ident $(, #[$attribute:meta])*) => {
        mod $name {
            use crate::support::real_claude::Cli;

            #[test]
            $(#[$attribute])*
            fn cli_2_1_197() {
                super::$name(Cli::Oldest);
            }

            #[test]
            $(#[$attribute])*
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

/// Makes tests of a function that needs what the newest version has and the oldest has not.
macro_rules! newest_cli {
    ($name:ident, $reason:literal) => {
        #[doc = $reason]
        mod $name {
            use crate::support::real_claude::Cli;

            #[test]
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

/// A sandbox for these steps, or the end of the test where the CLI cannot be installed.
macro_rules! sandbox {
    ($cli:expr $(, $step:expr)* $(,)?) => {
        match RealSandbox::new($cli, [$($step),*]) {
            Some(sandbox) => sandbox,
            None => return,
        }
    };
}

#[path = "real_cli/nested.rs"]
mod nested;
#[path = "real_cli/resume.rs"]
mod resume;
#[path = "real_cli/silent.rs"]
mod silent;
#[path = "real_cli/truth.rs"]
mod truth;

#[test]
fn the_tests_bear_the_names_of_the_tested_versions() {
    let names = [tested::OLDEST, tested::NEWEST].map(|v| format!("cli_{}", v.replace('.', "_")));
    assert_eq!(names, ["cli_2_1_197", "cli_2_1_332"]);
}

each_cli!(an_answer);
fn an_answer(cli: Cli) {
    let sandbox = sandbox!(cli, Step::text("All tests pass."));
    let started = sandbox.start("answer", &[]);
    assert_eq!(started["jobId"], "answer");
    assert_eq!(started["status"], "running");

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
    let sandbox = sandbox!(
        cli,
        Step::bash("pwd > where.txt && echo new > notes.txt"),
        Step::text("Wrote the notes.")
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

each_cli!(a_rate_limit_is_told_while_it_lasts);
fn a_rate_limit_is_told_while_it_lasts(cli: Cli) {
    // The second refusal waits for the test, so that the first stays in force for as long as the
    // test looks.
    let limited = Step::RateLimited { retry_after: 1 };
    let sandbox = sandbox!(cli, limited.clone(), limited.held(), Step::text("recovered"));
    sandbox.start("limited", &[]);
    sandbox.api.wait_for_request(2);

    let waiting = eventually("a status that says `rateLimited`", || {
        Some(sandbox.status("limited")).filter(|status| status["rateLimited"] == true)
    });

    assert_eq!(waiting["status"], "running");
    let retry_at = waiting.text("retryAt");
    assert!(retry_at > waiting.text("startedAt"), "{waiting:?}");
    sandbox.api.release();
    let result = sandbox.wait("limited");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "recovered");
    let after = sandbox.status("limited");
    assert_eq!((&after["rateLimited"], &after["retryAt"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(sandbox.api.requests(), 3);
}

each_cli!(a_rate_limit_for_ever_fails);
fn a_rate_limit_for_ever_fails(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::RateLimited { retry_after: 1 });
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "2");

    let result = sandbox.run_job("limited", &[]);

    result.expect_end(75, "failed", Some("rate_limit"));
    assert!(!result.text("error").is_empty());
    assert_eq!(sandbox.status("limited")["rateLimited"], true);
}

/// The login of a subscription, whose limits the CLI tells of, and no retries of its own.
fn subscribe(sandbox: &mut RealSandbox) {
    sandbox.unset("ANTHROPIC_API_KEY");
    sandbox.set("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-test");
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");
}

each_cli!(a_rate_limit_for_ever_fails_after_the_retries);
fn a_rate_limit_for_ever_fails_after_the_retries(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::RateLimited { retry_after: 1 });
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");

    let result = sandbox.run_job("limited", &["--retries", "2", "--max-backoff", "300ms"]);

    result.expect_end(75, "failed", Some("rate_limit"));
    assert!(result.text("error").contains("(3 attempts)"), "{result:?}");
    let status = sandbox.status("limited");
    assert_eq!((&status["attempt"], &status["rateLimited"]), (&3.into(), &true.into()));
    assert_eq!(sandbox.api.requests(), 3);
}

each_cli!(a_retry_goes_on_where_the_limit_cut_it_off);
fn a_retry_goes_on_where_the_limit_cut_it_off(cli: Cli) {
    let mut sandbox = sandbox!(
        cli,
        Step::bash("echo once >> deeds.txt"),
        Step::RateLimited { retry_after: 1 },
        Step::text("All done."),
    );
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");

    let result = sandbox.run_job("limited", &["--retries", "3", "--max-backoff", "300ms"]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "All done.");
    assert_eq!(sandbox.status("limited")["attempt"], 2);
    let deeds = fs::read_to_string(sandbox.work().join("deeds.txt")).unwrap();
    assert_eq!(deeds, "once\n", "the tool call is not done twice");
    let last = sandbox.api.wait_for_request(3);
    assert!(last.last.to_string().contains("request failed"), "{}", last.last);
    assert!(last.messages >= 3, "the conversation is there: {last:?}");
}

each_cli!(the_end_of_a_limit_is_waited_for);
fn the_end_of_a_limit_is_waited_for(cli: Cli) {
    let mut sandbox = sandbox!(
        cli,
        Step::bash("echo once >> deeds.txt"),
        Step::LimitedFor(5),
        Step::text("Back again."),
    );
    subscribe(&mut sandbox);
    sandbox.start("limited", &["--retries", "1"]);
    let waiting = eventually("the wait for the limit's end", || {
        Some(sandbox.status("limited")).filter(|status| status["attempt"] == 2)
    });
    assert_eq!((waiting.text("status"), &waiting["rateLimited"]), ("running", &true.into()));
    let time = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap();
    let log = fs::read_to_string(sandbox.job("limited").join("output.log")).unwrap();
    let (_, reset) = log.split_once("\"resetsAt\":").unwrap();
    let reset: i64 = reset.split(',').next().unwrap().parse().unwrap();
    // Another job does not run into the same wall.
    assert_eq!(sandbox.start("other", &[])["status"], "queued");

    sandbox.wait("limited").expect_end(0, "completed", None);
    sandbox.wait("other").expect_end(0, "completed", None);

    let events = fs::read_to_string(sandbox.job("limited").join("events.ndjson")).unwrap();
    let launched: Vec<_> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "launched")
        .map(|event| time(event["at"].as_str().unwrap()))
        .collect();
    let late = launched[1].timestamp_millis() - reset * 1_000;
    assert!((0..1_000).contains(&late), "{late} ms after the limit's end");
    assert_eq!(fs::read_to_string(sandbox.work().join("deeds.txt")).unwrap(), "once\n");
}

each_cli!(a_limit_that_lasts_too_long_is_told_and_not_waited_for);
fn a_limit_that_lasts_too_long_is_told_and_not_waited_for(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::LimitedFor(3_600));
    subscribe(&mut sandbox);

    let result = sandbox.run_job("limited", &["--retries", "3", "--max-wait", "10m"]);

    result.expect_end(75, "failed", Some("rate_limit"));
    let status = sandbox.status("limited");
    assert!(status.text("resumableAt") > status.text("endedAt"), "{status:?}");
    assert!(result.text("error").contains(status.text("resumableAt")), "{result:?}");
}

each_cli!(a_claude_that_is_killed_goes_on_in_its_session);
fn a_claude_that_is_killed_goes_on_in_its_session(cli: Cli) {
    let sandbox = sandbox!(
        cli,
        Step::bash("echo once >> deeds.txt"),
        Step::text("unheard").held(),
        Step::text("Done after all."),
    );
    sandbox.start("crashed", &["--retries", "2", "--max-backoff", "200ms"]);
    sandbox.api.wait_for_request(2);
    send(sandbox.claude_pid("crashed"), Signal::SIGKILL);
    sandbox.api.wait_for_request(3);
    sandbox.api.release();
    let result = sandbox.wait("crashed");
    result.expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(sandbox.work().join("deeds.txt")).unwrap(), "once\n");
}

each_cli!(an_overloaded_api_fails);
fn an_overloaded_api_fails(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::Overloaded);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "1");

    let result = sandbox.run_job("overloaded", &[]);

    result.expect_end(75, "failed", Some("overloaded"));
}

each_cli!(a_server_error_that_passes_is_no_failure);
fn a_server_error_that_passes_is_no_failure(cli: Cli) {
    let sandbox = sandbox!(cli, Step::ServerError, Step::text("ok"));

    let result = sandbox.run_job("error", &[]);

    result.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("error")["rateLimited"], false);
}

each_cli!(an_answer_that_breaks_off_fails);
fn an_answer_that_breaks_off_fails(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::Cut);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "1");

    let result = sandbox.run_job("cut", &[]);

    // The oldest version does not tell a lost connection from a broken answer.
    let code = if cli == Cli::Oldest { 1 } else { 75 };
    result.expect_end(code, "failed", Some("api_error"));
    assert!(result.text("error").contains("malformed"), "{result:?}");
}

each_cli!(a_bad_key_fails_before_the_cli_gives_up);
fn a_bad_key_fails_before_the_cli_gives_up(cli: Cli) {
    let sandbox = sandbox!(cli, Step::BadKey);

    let result = sandbox.run_job("key", &[]);

    result.expect_end(1, "failed", Some("auth"));
    // The CLI alone tries eleven times.
    assert!(sandbox.api.requests() <= 5, "{} requests", sandbox.api.requests());
    sandbox.assert_nothing_left("key");
}

each_cli!(a_login_that_only_the_cli_finds_wanting);
fn a_login_that_only_the_cli_finds_wanting(cli: Cli) {
    let mut sandbox = sandbox!(cli, Step::text("never asked"));
    sandbox.unset("ANTHROPIC_API_KEY");
    fs::create_dir(sandbox.path("home/.claude")).unwrap();
    fs::write(sandbox.path("home/.claude/.credentials.json"), "{}").unwrap();

    let result = sandbox.run_job("login", &[]);

    result.expect_end(1, "failed", Some("auth"));
    assert!(result.text("error").contains("Not logged in"), "{result:?}");
    assert_eq!(sandbox.api.requests(), 0);
}

each_cli!(the_last_turn_allowed_keeps_what_was_done);
fn the_last_turn_allowed_keeps_what_was_done(cli: Cli) {
    let sandbox = sandbox!(cli, Step::bash("echo 1"));

    let result = sandbox.run_job("turns", &["--max-turns", "2"]);

    result.expect_end(1, "failed", Some("max_turns"));
    let status = sandbox.status("turns");
    assert!(status["numTurns"].as_u64().unwrap() >= 2, "{status:?}");
    assert!(status["costUsd"].as_f64().unwrap() > 0.0, "{status:?}");
}

each_cli!(a_budget_that_is_spent_keeps_what_was_done);
fn a_budget_that_is_spent_keeps_what_was_done(cli: Cli) {
    let sandbox = sandbox!(cli, Step::bash("echo 1"));

    let result = sandbox.run_job("budget", &["--max-budget-usd", "0.01"]);

    result.expect_end(1, "failed", Some("max_budget"));
    assert!(sandbox.status("budget")["costUsd"].as_f64().unwrap() >= 0.01);
}

each_cli!(background_work_gets_the_turn_that_follows_it);
fn background_work_gets_the_turn_that_follows_it(cli: Cli) {
    // Longer than the five seconds after which the CLI stops background work once stdin is closed.
    let sandbox = sandbox!(
        cli,
        Step::BackgroundBash("sleep 7 && echo 42".to_owned()),
        Step::text("started it"),
        Step::text("it printed 42"),
    );

    let result = sandbox.run_job("background", &[]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "it printed 42");
    assert_eq!(result["num_turns"], 3, "of both results: {result:?}");
    assert_eq!(sandbox.status("background")["warnings"], serde_json::json!([]));
}

each_cli!(background_work_that_is_not_waited_for_is_a_warning);
fn background_work_that_is_not_waited_for_is_a_warning(cli: Cli) {
    let sandbox = sandbox!(
        cli,
        Step::BackgroundBash(
            "echo $$ > pid.new && mv pid.new pid && exec tail -f /dev/null".into()
        ),
        Step::text("started it"),
    );

    let result = sandbox.run_job("background", &["--background-wait", "0s"]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "started it");
    let warnings = sandbox.status("background")["warnings"].to_string();
    assert!(warnings.contains("stopped"), "{warnings}");
    assert!(!is_alive(pid_in(&sandbox.work().join("pid"))));
}

newest_cli!(a_wakeup_is_outstanding_work, "2.1.197 refuses ScheduleWakeup without a terminal.");
fn a_wakeup_is_outstanding_work(cli: Cli) {
    let input = serde_json::json!({"delaySeconds": 60, "reason": "CI", "prompt": "look again"});
    let wakeup = Step::Tool { name: "ScheduleWakeup".to_owned(), input };
    let sandbox = sandbox!(cli, wakeup, Step::text("I will look again in a minute."));
    sandbox.start("wakeup", &[]);

    let waiting = eventually("the wait for the wakeup", || {
        let status = sandbox.status("wakeup");
        (status["waitingFor"]["kind"] == "wakeup" || status["endedAt"] != Value::Null)
            .then_some(status)
    });

    assert_eq!(waiting["status"], "running", "{waiting:?}");
    assert!(waiting["waitingFor"]["until"].is_string(), "{waiting:?}");
    send(sandbox.claude_pid("wakeup"), Signal::SIGKILL);
    sandbox.wait("wakeup").expect_end(1, "failed", Some("wakeup_missed"));
}

/// A script that leaves children of every kind that a shell can leave. Each writes its PID into a
/// file of its kind's name when it stands.
const CHILDREN: &str = r#"#!/bin/bash
hold() { echo $$ > "$1.new"; mv "$1.new" "$1"; exec tail -f /dev/null; }
if [ -n "$1" ]; then hold "$1"; fi
setsid "$0" session &
nohup "$0" nohup > /dev/null 2>&1 &
"$0" disowned & disown
(setsid "$0" orphan &)
"#;
/// More of them, which have lost the environment that marks a process of the job.
const UNMARKED_CHILDREN: &str = r#"
env -i PATH="$PATH" setsid "$0" clean &
env -i PATH="$PATH" bash -c 'trap "" INT TERM HUP; (setsid "$0" stubborn &)' "$0"
"#;
const KINDS: [&str; 5] = ["session", "nohup", "disowned", "orphan", "shell"];
const UNMARKED_KINDS: [&str; 2] = ["clean", "stubborn"];

each_cli!(a_kill_leaves_no_process, #[cfg_attr(not(target_os = "linux"), ignore = "needs setsid(1) and /proc")]);
fn a_kill_leaves_no_process(cli: Cli) {
    let sandbox = sandbox!(cli, Step::bash("./children"), Step::text("never reached"));
    let work = sandbox.work();
    program(&work.join("children"), &[CHILDREN, UNMARKED_CHILDREN, "hold shell\n"].concat());
    sandbox.start("kill", &[]);
    for kind in KINDS.iter().chain(&UNMARKED_KINDS) {
        await_file(&work.join(kind));
    }
    assert!(processes_of(&sandbox.job("kill")).len() >= 4, "claude and its shells bear the mark");

    let killed = sandbox.run(["kill", "kill"]);

    sandbox.assert_nothing_left("kill");
    for kind in KINDS.iter().chain(&UNMARKED_KINDS) {
        assert!(!is_alive(pid_in(&work.join(kind))), "{kind} goes on after {killed:?}");
    }
    assert_eq!((killed.code, &killed["killed"]), (0, &Value::Bool(true)), "{killed:?}");
    let status = sandbox.status("kill");
    assert_eq!(status["status"], "killed");
    assert!(!status.text("sessionId").is_empty());
    assert!(status["costUsd"].as_f64().is_some_and(|cost| cost > 0.0), "{status:?}");
    assert_eq!(sandbox.wait("kill").code, 3);
    let again = sandbox.run(["kill", "kill"]);
    assert_eq!((again.code, again.text("status")), (0, "killed"), "{again:?}");
}

each_cli!(a_killed_job_can_be_resumed);
fn a_killed_job_can_be_resumed(cli: Cli) {
    let sandbox = sandbox!(cli, Step::Hang, Step::text("went on"), Step::text("and on"));
    sandbox.start("first", &[]);
    sandbox.api.wait_for_request(1);
    let killed = sandbox.run(["kill", "first"]);
    assert_eq!(killed["killed"], true, "{killed:?}");
    let first = sandbox.status("first");

    let result = sandbox.run_job("second", &["--resume", first.text("sessionId")]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "went on");
    assert_eq!(result["session_id"], first["sessionId"]);
    assert!(sandbox.api.wait_for_request(2).messages > 1, "the conversation went on");
    // And the job itself: killed is for good only for recover.
    assert_eq!(sandbox.run(["recover", "first"])["code"], "not_recoverable");
    assert_eq!(sandbox.run(["resume", "first", "--message", "go on"]).code, 0);
    let again = sandbox.wait("first");
    again.expect_end(0, "completed", None);
    assert_eq!((&again["result"], &again["attempt"]), (&"and on".into(), &2.into()));
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
    let sandbox = sandbox!(cli, Step::text("read it all"));
    start_with_prompt_of(&sandbox, SIZE);

    sandbox.wait("long").expect_end(0, "completed", None);
    assert!(sandbox.api.wait_for_request(1).bytes > SIZE);
}

each_cli!(a_prompt_of_ten_megabytes);
fn a_prompt_of_ten_megabytes(cli: Cli) {
    const SIZE: usize = 10_000_000;
    let sandbox = sandbox!(cli, Step::text("read it all"));
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

each_cli!(a_session_that_does_not_exist);
fn a_session_that_does_not_exist(cli: Cli) {
    let sandbox = sandbox!(cli, Step::text("never asked"));
    let session = "11111111-1111-4111-8111-111111111111";

    let result = sandbox.run_job("resume", &["--resume", session]);

    result.expect_end(1, "failed", Some("claude_refused"));
    let line = format!("No conversation found with session ID: {session}");
    assert!(result.text("error").contains(&line), "{result:?}");
    let stderr = sandbox.run(["logs", "resume", "--stderr"]);
    assert!(stderr.text("tail").contains(&line), "{stderr:?}");
}

each_cli!(an_option_that_the_cli_does_not_know);
fn an_option_that_the_cli_does_not_know(cli: Cli) {
    let sandbox = sandbox!(cli, Step::text("never asked"));

    let started =
        sandbox.run(["start", "--job-id", "option", "--prompt", "work", "--", "--no-such-option"]);
    assert_eq!(started.code, 0, "{started:?}");
    let result = sandbox.wait("option");

    result.expect_end(1, "failed", Some("claude_refused"));
    assert!(result.text("error").contains("--no-such-option"), "{result:?}");
}

const SCHEMA: &str =
    r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}"#;

each_cli!(an_answer_that_misses_its_schema);
fn an_answer_that_misses_its_schema(cli: Cli) {
    let sandbox = sandbox!(cli, Step::text("not json"));

    let result = sandbox.run_job("schema", &["--json-schema", SCHEMA]);

    result.expect_end(1, "failed", Some("invalid_output"));
}

/// A use of a tool outside of `cwd`, where no rule allows it.
fn forbid(sandbox: &RealSandbox) {
    let path = sandbox.path("home/outside.txt").to_str().unwrap().to_owned();
    sandbox.api.push(Step::Write { path, content: "hello\n".to_owned() });
    sandbox.api.push(Step::text("I could not."));
}

each_cli!(a_denied_permission_is_named);
fn a_denied_permission_is_named(cli: Cli) {
    let sandbox = sandbox!(cli);
    forbid(&sandbox);

    let result = sandbox.run_job("denied", &["--permission-mode", "default"]);

    result.expect_end(0, "completed", None);
    let denials = result["permission_denials"].as_array().unwrap();
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert!(denials[0].to_string().contains("Write"), "{denials:?}");
}

each_cli!(a_denied_permission_fails_where_that_was_asked_for);
fn a_denied_permission_fails_where_that_was_asked_for(cli: Cli) {
    let sandbox = sandbox!(cli);
    forbid(&sandbox);

    let result = sandbox.run_job("denied", &["--permission-mode", "default", "--fail-on-denial"]);

    result.expect_end(1, "failed", Some("permission_denied"));
}

each_cli!(a_job_that_runs_out_of_time);
fn a_job_that_runs_out_of_time(cli: Cli) {
    let sandbox = sandbox!(cli, Step::Hang);

    let result = sandbox.run_job("timeout", &["--timeout", "2s"]);

    result.expect_end(1, "failed", Some("timeout"));
    sandbox.assert_nothing_left("timeout");
}

each_cli!(nothing_works_on_after_the_worker_was_killed, #[cfg_attr(not(target_os = "linux"), ignore = "needs setsid(1) and /proc")]);
fn nothing_works_on_after_the_worker_was_killed(cli: Cli) {
    let sandbox = sandbox!(cli, Step::bash("./children"), Step::text("never reached"));
    let work = sandbox.work();
    program(&work.join("children"), &[CHILDREN, "hold shell\n"].concat());
    let started = sandbox.start("worker", &[]);
    for kind in KINDS {
        await_file(&work.join(kind));
    }
    let worker = started["pid"].as_i64().unwrap() as i32;
    let mut claude = processes_of(&sandbox.job("worker"));
    claude.retain(|&pid| pid != worker && !["bash", "tail"].contains(&program_of(pid).as_str()));
    assert!(!claude.is_empty(), "claude runs");

    send(worker, Signal::SIGKILL);

    // The kernel sends claude its signal when the worker is gone, which takes a moment.
    eventually("claude's end", || claude.iter().all(|&pid| !is_alive(pid)).then_some(()));
    let result = sandbox.wait("worker");
    result.expect_end(1, "failed", Some("worker_died"));
    sandbox.assert_nothing_left("worker");
    let listed = sandbox.run(["list"]);
    assert_eq!(listed.json[0]["reason"], "worker_died", "{listed:?}");
    assert_eq!(sandbox.api.requests(), 1);
}

each_cli!(a_message_during_a_tool_call_is_taken_into_the_turn);
fn a_message_during_a_tool_call_is_taken_into_the_turn(cli: Cli) {
    let sandbox = sandbox!(
        cli,
        Step::bash("touch $HOME/../up; while [ ! -e $HOME/../go ]; do sleep 0.05; done"),
        Step::text("Both done.")
    );
    sandbox.start("steered", &[]);
    await_file(&sandbox.path("up"));

    let sent = sandbox.run(["send", "steered", "--message", "and the docs, please"]);

    assert_eq!((sent.code, &sent["message"]), (0, &1.into()), "{sent:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    let result = sandbox.wait("steered");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Both done.");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("and the docs, please"), "{}", seen.last);
    assert_eq!(sandbox.api.requests(), 2, "one turn for both");
    let turns = fs::read_to_string(sandbox.job("steered").join("turns.ndjson")).unwrap();
    assert!(turns.contains("\"messages\":[1]") && turns.lines().count() == 1, "{turns}");
}

each_cli!(an_interrupt_in_a_tool_or_an_answer_keeps_the_session);
fn an_interrupt_in_a_tool_or_an_answer_keeps_the_session(cli: Cli) {
    for step in [
        Step::bash("touch $HOME/../up; tail -f /dev/null"),
        Step::Slow(std::time::Duration::from_secs(60)),
    ] {
        let in_tool = matches!(step, Step::Bash(_));
        let sandbox = sandbox!(cli, step, Step::text("Went on."));
        sandbox.start("halted", &[]);
        if in_tool {
            await_file(&sandbox.path("up"));
        } else {
            sandbox.api.wait_for_request(1);
            let log = sandbox.job("halted").join("output.log");
            eventually("the turn", || {
                fs::read_to_string(&log).ok()?.contains("\"subtype\":\"init\"").then_some(())
            });
        }

        let answer = sandbox.run(["interrupt", "halted"]);

        assert_eq!((answer.code, &answer["interrupted"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("halted").expect_end(1, "failed", Some("interrupted"));
        sandbox.assert_nothing_left("halted");
        let resumed = sandbox.run(["resume", "halted", "--message", "go on"]);
        assert_eq!(resumed.code, 0, "{resumed:?}");
        let result = sandbox.wait("halted");
        result.expect_end(0, "completed", None);
        assert_eq!((&result["result"], &result["attempt"]), (&"Went on.".into(), &2.into()));
        let seen = sandbox.api.wait_for_request(2);
        assert!(seen.messages > 1, "the conversation so far was sent along");
    }
}

each_cli!(a_job_that_is_kept_alive_outlives_its_claude_between_turns_and_in_one);
fn a_job_that_is_kept_alive_outlives_its_claude_between_turns_and_in_one(cli: Cli) {
    let sandbox = sandbox!(
        cli,
        Step::text("One."),
        Step::text("Two."),
        Step::bash("touch $HOME/../up; tail -f /dev/null"),
        Step::text("Three, after all.")
    );
    let idle = |result: &str| {
        eventually(result, || {
            let idle = sandbox.status("kept")["status"] == "idle";
            (idle && sandbox.run(["result", "kept"])["result"] == result).then_some(())
        });
    };
    sandbox.start("kept", &["--keep-alive"]);
    idle("One.");
    let session = sandbox.status("kept").text("sessionId").to_owned();
    eventually("the conversation", || is_on_disk(&sandbox, &session).then_some(()));

    send(sandbox.claude_pid("kept"), Signal::SIGKILL);
    let second = sandbox.run(["send", "kept", "--message", "and then?", "--wait", "1m"]);

    assert_eq!(second["turn"]["result"], "Two.", "{second:?}");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.messages >= 3, "it knows the conversation: {}", seen.messages);
    sandbox.run(["send", "kept", "--message", "now the long one"]);
    await_file(&sandbox.path("up"));
    send(sandbox.claude_pid("kept"), Signal::SIGKILL);
    idle("Three, after all.");
    let last = sandbox.api.wait_for_request(4).last.to_string();
    assert!(last.contains("You were interrupted"), "{last}");
    assert_eq!(sandbox.run(["finish", "kept"])["finished"], true);
    let end = sandbox.wait("kept");
    end.expect_end(0, "completed", None);
    assert_eq!((&end["attempt"], &end["result"]), (&3.into(), &"Three, after all.".into()));
    sandbox.assert_nothing_left("kept");
}

each_cli!(a_question_is_answered_by_label_and_in_free_words);
fn a_question_is_answered_by_label_and_in_free_words(cli: Cli) {
    for (given, said) in
        [(["--choice", "Postgres"], "Postgres"), (["--text", "a plain file"], "a plain file")]
    {
        let sandbox = sandbox!(cli, Step::Ask("Which database?".to_owned()), Step::text("Noted."));
        sandbox.start("asks", &["--ask"]);

        let blocked = sandbox.run(["wait", "asks", "--timeout", "1m"]);

        assert_eq!((blocked.code, &blocked["status"]), (5, &"blocked".into()), "{blocked:?}");
        assert_eq!(blocked["blocked"]["questions"][0]["question"], "Which database?");
        let answer = sandbox.run([&["answer", "asks"], &given[..]].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("asks").expect_end(0, "completed", None);
        let seen = sandbox.api.wait_for_request(2);
        assert!(seen.last.to_string().contains(said), "{}", seen.last);
    }
}

each_cli!(an_answer_reaches_the_conversation_of_a_claude_that_was_released);
fn an_answer_reaches_the_conversation_of_a_claude_that_was_released(cli: Cli) {
    let sandbox = sandbox!(cli, Step::Ask("Which database?".to_owned()), Step::text("Noted."));
    sandbox.start("asks", &["--ask", "--fail-on-denial"]);
    sandbox.run(["wait", "asks", "--timeout", "1m"]);

    let released = sandbox.run(["answer", "asks", "--release"]);

    assert_eq!((released.code, &released["released"]), (0, &true.into()), "{released:?}");
    let status = sandbox.status("asks");
    assert_eq!((status.text("status"), &status["costIsLowerBound"]), ("blocked", &false.into()));
    assert_eq!(sandbox.run(["answer", "asks", "--choice", "Postgres"])["answered"], true);
    sandbox.wait("asks").expect_end(0, "completed", None);
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("Answer: Postgres"), "{}", seen.last);
    assert_eq!(sandbox.status("asks")["warnings"], serde_json::json!([]));
}

each_cli!(a_permission_is_given_and_one_is_not);
fn a_permission_is_given_and_one_is_not(cli: Cli) {
    for (given, is_there) in
        [(&["--allow"][..], true), (&["--deny", "--message", "not there"], false)]
    {
        let sandbox = sandbox!(cli);
        forbid(&sandbox);
        sandbox.start("asks", &["--ask", "--permission-mode", "default"]);

        let blocked = sandbox.run(["wait", "asks", "--timeout", "1m"]);

        assert_eq!(blocked.code, 5, "{blocked:?}");
        let asked = &blocked["blocked"];
        assert_eq!((&asked["kind"], &asked["toolName"]), (&"permission".into(), &"Write".into()));
        let answer = sandbox.run([&["answer", "asks"], given].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("asks").expect_end(0, "completed", None);
        let seen = sandbox.api.wait_for_request(2);
        assert_eq!(seen.last.to_string().contains("not there"), !is_there, "{}", seen.last);
        assert_eq!(sandbox.path("home/outside.txt").exists(), is_there);
    }
}

each_cli!(a_completed_job_is_asked_again_and_another_goes_on_from_a_copy);
fn a_completed_job_is_asked_again_and_another_goes_on_from_a_copy(cli: Cli) {
    let sandbox = sandbox!(cli, Step::text("One."), Step::text("Two."), Step::text("Three."));
    let first = sandbox.run_job("asked", &[]);
    first.expect_end(0, "completed", None);

    assert_eq!(sandbox.run(["resume", "asked", "--message", "and then?"]).code, 0);

    let second = sandbox.wait("asked");
    second.expect_end(0, "completed", None);
    assert_eq!((&second["result"], &second["num_turns"]), (&"Two.".into(), &2.into()));
    assert_eq!(second["session_id"], first["session_id"]);
    // Both turns cost the same. The total that 2.1.332 reports goes on from that of the first
    // process, where 2.1.197 begins anew.
    let cost = |answer: &Answer| answer["cost_usd"].as_f64().unwrap();
    assert!((cost(&second) - 2.0 * cost(&first)).abs() < 1e-9, "{first:?} {second:?}");
    let copy = ["start", "copy", "--resume-job", "asked", "--fork", "--prompt", "as an aside"];
    assert_eq!(sandbox.run(copy).code, 0);
    let third = sandbox.wait("copy");
    third.expect_end(0, "completed", None);
    assert_ne!(third["session_id"], first["session_id"]);
    let seen = sandbox.api.wait_for_request(3);
    assert!(seen.messages >= 5, "the copy knows the conversation: {}", seen.messages);
}

/// Whether claude has the conversation of this session on its disk.
fn is_on_disk(sandbox: &RealSandbox, session: &str) -> bool {
    let projects = sandbox.path("home/.claude/projects");
    let folders = fs::read_dir(projects).into_iter().flatten().flatten();
    folders.into_iter().any(|folder| folder.path().join(format!("{session}.jsonl")).exists())
}

each_cli!(a_job_whose_worker_was_killed_goes_on_with_its_conversation);
fn a_job_whose_worker_was_killed_goes_on_with_its_conversation(cli: Cli) {
    let sandbox = sandbox!(
        cli,
        Step::bash("echo once >> $HOME/../deeds"),
        Step::bash("touch $HOME/../up; tail -f /dev/null"),
        Step::text("Done after all.")
    );
    let started = sandbox.start("cut", &[]);
    let worker = i32::try_from(started["pid"].as_i64().unwrap()).unwrap();
    await_file(&sandbox.path("up"));
    let session = sandbox.status("cut").text("sessionId").to_owned();
    eventually("the conversation", || is_on_disk(&sandbox, &session).then_some(()));
    send(worker, Signal::SIGKILL);
    sandbox.wait("cut").expect_end(1, "failed", Some("worker_died"));
    assert!(sandbox.status("cut").text("hint").contains("recover"));

    let recovered = sandbox.run(["recover", "cut"]);

    assert_eq!((recovered.code, &recovered["resumes"]), (0, &true.into()), "{recovered:?}");
    let result = sandbox.wait("cut");
    result.expect_end(0, "completed", None);
    assert_eq!(
        (result["result"].as_str(), result["session_id"].as_str()),
        (Some("Done after all."), Some(session.as_str()))
    );
    assert_eq!(fs::read_to_string(sandbox.path("deeds")).unwrap(), "once\n");
    let seen = sandbox.api.wait_for_request(3);
    assert!(seen.messages > 3, "the conversation so far was sent along");
    assert!(seen.last.to_string().contains("You were interrupted"), "{}", seen.last);
    let status = sandbox.status("cut");
    assert_eq!(status["attempt"], 2);
}

each_cli!(a_job_whose_conversation_never_reached_the_disk_gets_its_prompt_again);
fn a_job_whose_conversation_never_reached_the_disk_gets_its_prompt_again(cli: Cli) {
    // Killed while the first answer is awaited: the session was announced, and is nowhere.
    let sandbox = sandbox!(cli, Step::Hang, Step::text("Begun again."));
    sandbox.start("early", &[]);
    sandbox.api.wait_for_request(1);
    eventually("the session", || {
        let log = fs::read_to_string(sandbox.job("early").join("output.log")).ok()?;
        log.contains("\"subtype\":\"init\"").then_some(())
    });
    let claude = processes_of(&sandbox.job("early"))
        .into_iter()
        .find(|&pid| program_of(pid) != "claudejob")
        .unwrap();
    send(claude, Signal::SIGKILL);
    sandbox.wait("early").expect_end(1, "failed", Some("no_result"));

    assert_eq!(sandbox.run(["recover", "--all"])["recovered"][0]["jobId"], "early");

    let result = sandbox.wait("early");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Begun again.");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("work"), "the prompt came again: {}", seen.last);
}

fn program(file: &Path, body: &str) {
    support::install(file, body.as_bytes());
}
