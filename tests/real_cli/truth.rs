//! Verdicts that must not be better than the truth, and costs that must be complete.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::processes::send;
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::{ScriptedApi, Step};
use crate::support::{await_file, eventually};

/// Claude's events in the job's log.
fn stream(sandbox: &RealSandbox, id: &str) -> Vec<Value> {
    let log = fs::read_to_string(sandbox.job(id).join("output.log")).unwrap_or_default();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn await_event(sandbox: &RealSandbox, id: &str, kind: &str) {
    eventually(kind, || {
        stream(sandbox, id).iter().any(|event| event["type"] == kind).then_some(())
    });
}

fn settings(sandbox: &RealSandbox, settings: &Value) {
    let folder = sandbox.work().join(".claude");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("settings.json"), settings.to_string()).unwrap();
}

fn skill(sandbox: &RealSandbox, name: &str, fields: &str, body: &str) {
    let folder = sandbox.work().join(".claude/skills").join(name);
    fs::create_dir_all(&folder).unwrap();
    let text = format!("---\nname: {name}\ndescription: d\n{fields}---\n{body}\n");
    fs::write(folder.join("SKILL.md"), text).unwrap();
}

fn cost(answer: &Value) -> f64 {
    answer["costUsd"].as_f64().unwrap()
}

/// Asserts equality to a millionth of a dollar.
#[track_caller]
fn assert_cost(reported: f64, spent: f64) {
    assert!((reported - spent).abs() < 1e-6, "reported {reported}, spent {spent}");
}

each_cli!(a_prompt_refused_by_a_hook_is_rejected);
fn a_prompt_refused_by_a_hook_is_rejected(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("done")]);
    let hook = json!({"type": "command", "command": "echo NO-TICKET >&2; exit 2"});
    settings(&sandbox, &json!({"hooks": {"UserPromptSubmit": [{"hooks": [hook]}]}}));

    let result = sandbox.run_job("hook", &[]);

    result.expect_end(1, "failed", Some("prompt_rejected"));
    assert!(result.text("error").contains("NO-TICKET"), "{result:?}");
    assert_eq!(sandbox.api.requests(), 0);
}

each_cli!(a_command_without_a_model_call_is_rejected);
fn a_command_without_a_model_call_is_rejected(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("done")]);
    skill(&sandbox, "broken", "", "!`exit 3`\nDo it.");
    for (id, prompt) in [("help", "/help"), ("status", "/status"), ("preamble", "/broken")] {
        sandbox.run(["start", id, "--prompt", prompt]);
        let result = sandbox.wait(id);
        result.expect_end(1, "failed", Some("prompt_rejected"));
    }
    assert_eq!(sandbox.api.requests(), 0);
}

newest_cli!(
    a_local_command_completes_with_its_text,
    "2.1.197 does not mark the result of a local command."
);
fn a_local_command_completes_with_its_text(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("reviewed")]);
    skill(&sandbox, "forked", "context: fork\n", "Review it.");
    for (id, prompt, text) in [
        ("review", "/review", "reviewed"),
        ("fork", "/forked", "reviewed"),
        ("context", "/context", "## Context Usage"),
        ("compact", "/compact", "No messages to compact"),
    ] {
        sandbox.run(["start", id, "--prompt", prompt]);
        let result = sandbox.wait(id);
        result.expect_end(0, "completed", None);
        assert!(result.text("result").contains(text), "{prompt}: {result:?}");
    }
}

newest_cli!(
    a_command_is_sent_to_a_conversation,
    "2.1.197 does not mark the result of a local command."
);
fn a_command_is_sent_to_a_conversation(cli: Cli) {
    let sandbox =
        RealSandbox::new(cli, [Step::text("one"), Step::text("a summary"), Step::text("three")]);
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);

    sandbox.run(["resume", "j", "--message", "/compact"]);
    let result = sandbox.wait("j");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Compacted");

    sandbox.run(["resume", "j", "--message", "/help"]);
    let result = sandbox.wait("j");
    result.expect_end(1, "failed", Some("prompt_rejected"));
    assert_eq!(result["undeliveredMessages"], json!([]), "claude has heard it");
}

each_cli!(a_command_to_a_kept_alive_job_is_a_turn);
fn a_command_to_a_kept_alive_job_is_a_turn(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("one"), Step::text("two")]);
    sandbox.start("j", &["--keep-alive"]);
    eventually("idle", || (sandbox.status("j")["status"] == "idle").then_some(()));
    let sent = sandbox.run(["send", "j", "--message", "/help", "--wait", "3m"]);
    assert_eq!(sent["turn"]["messages"], json!([1]), "{sent:?}");
    let sent = sandbox.run(["send", "j", "--message", "go on", "--wait", "3m"]);
    assert_eq!(sent["turn"]["result"], "two", "{sent:?}");
    sandbox.run(["finish", "j"]);
    sandbox.wait("j").expect_end(0, "completed", None);
}

each_cli!(an_empty_answer_fails);
fn an_empty_answer_fails(cli: Cli) {
    for (id, steps) in [
        ("empty", vec![Step::Empty]),
        ("block", vec![Step::EmptyText]),
        ("thinking", vec![Step::Thinking]),
        ("tool", vec![Step::bash("echo hi"), Step::Empty]),
    ] {
        let sandbox = RealSandbox::new(cli, steps);
        let result = sandbox.run_job(id, &[]);
        result.expect_end(1, "failed", Some("no_answer"));
        assert_eq!(result["result"], Value::Null, "{id}");
    }
}

each_cli!(an_answer_outlives_an_empty_turn_after_it);
fn an_answer_outlives_an_empty_turn_after_it(cli: Cli) {
    for silent in [Step::Empty, Step::EmptyText, Step::Thinking] {
        let steps =
            [Step::BackgroundBash("sleep 1; echo 42".to_owned()), Step::text("the answer"), silent];
        let sandbox = RealSandbox::new(cli, steps);
        let result = sandbox.run_job("j", &[]);
        result.expect_end(0, "completed", None);
        assert_eq!(result["result"], "the answer");
    }
}

newest_cli!(waits_for_the_turn_of_a_wakeup, "2.1.197 refuses ScheduleWakeup without a terminal.");
fn waits_for_the_turn_of_a_wakeup(cli: Cli) {
    let input = json!({"delaySeconds": 60, "reason": "CI", "prompt": "look again"});
    let wakeup = Step::Tool { name: "ScheduleWakeup".to_owned(), input };
    let sandbox = RealSandbox::new(cli, [wakeup, Step::text("later"), Step::text("green")]);
    let result = sandbox.run_job("wakeup", &[]);
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "green");
}

each_cli!(waits_for_the_turn_of_a_cron_task);
fn waits_for_the_turn_of_a_cron_task(cli: Cli) {
    let input = json!({"cron": "* * * * *", "prompt": "tick", "recurring": false});
    let cron = Step::Tool { name: "CronCreate".to_owned(), input };
    let sandbox = RealSandbox::new(cli, [cron, Step::text("made"), Step::text("fired")]);
    let result = sandbox.run_job("cron", &[]);
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "fired");
}

each_cli!(a_recurring_cron_task_holds_a_job_for_some_time);
fn a_recurring_cron_task_holds_a_job_for_some_time(cli: Cli) {
    let input = json!({"cron": "0 0 1 1 *", "prompt": "tick", "recurring": true});
    let cron = Step::Tool { name: "CronCreate".to_owned(), input };
    let sandbox = RealSandbox::new(cli, [cron, Step::text("made")]);
    let result = sandbox.run_job("cron", &["--background-wait", "1s"]);
    result.expect_end(0, "completed", None);
    assert!(result["warnings"].to_string().contains("cron task"), "{result:?}");
}

each_cli!(shows_unfinished_background_work);
fn shows_unfinished_background_work(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [Step::BackgroundBash("exec tail -f /dev/null".to_owned()), Step::text("I started it.")],
    );
    sandbox.start("j", &[]);
    let status = eventually("the wait for it", || {
        let status = sandbox.status("j");
        (status["waitingFor"]["kind"] == "background").then_some(status)
    });
    assert_eq!((status.text("status"), &status["activity"]), ("running", &Value::Null));
    assert!(status["waitingFor"].to_string().contains("1 background task"), "{status:?}");
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
}

each_cli!(retries_a_lost_connection);
fn retries_a_lost_connection(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, []);
    // No server listens there for some time. At an address of its own, so that no other test takes
    // the port meanwhile.
    let host = if cli == Cli::Oldest { "127.0.0.2:0" } else { "127.0.0.3:0" };
    let gate = std::net::TcpListener::bind(host).unwrap();
    let address = gate.local_addr().unwrap().to_string();
    drop(gate);
    sandbox.set("ANTHROPIC_BASE_URL", format!("http://{address}"));
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");
    sandbox.start("j", &["--retries", "99", "--max-backoff", "300ms"]);
    let status = eventually("another attempt", || {
        let status = sandbox.status("j");
        (status["attempt"].as_u64() > Some(1)).then_some(status)
    });
    assert_eq!(status["status"], "running", "{status:?}");
    let _api = ScriptedApi::start_at(&address, [Step::text("hello")]);
    let result = sandbox.wait("j");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "hello");
}

each_cli!(a_permanently_lost_connection_is_transient);
fn a_permanently_lost_connection_is_transient(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, []);
    sandbox.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");
    let result = sandbox.run_job("j", &["--retries", "0"]);
    result.expect_end(75, "failed", Some("api_error"));
}

each_cli!(retries_a_temporarily_refused_login);
fn retries_a_temporarily_refused_login(cli: Cli) {
    // However often claude asks before the job ends it, it has no answer before the next attempt.
    let healed = Step::text("healed").held();
    let sandbox = RealSandbox::new(
        cli,
        [Step::bash("echo step"), Step::BadKey, Step::BadKey, Step::BadKey, healed],
    );
    sandbox.start("j", &["--max-backoff", "300ms"]);
    eventually("another attempt", || (sandbox.status("j")["attempt"] == 2).then_some(()));
    // The first claude may have begun to wait, too.
    sandbox.api.release();
    sandbox.api.release();
    let result = sandbox.wait("j");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "healed");
    assert_eq!(sandbox.status("j")["attempt"], 2);
}

each_cli!(a_prompt_too_long_for_the_api_has_its_own_reason);
fn a_prompt_too_long_for_the_api_has_its_own_reason(cli: Cli) {
    let message = "prompt is too long: 250000 tokens > 200000 maximum".to_owned();
    let kind = "invalid_request_error".to_owned();
    let sandbox = RealSandbox::new(cli, [Step::Error { status: 400, kind, message }]);
    sandbox.run_job("j", &[]).expect_end(1, "failed", Some("prompt_too_long"));
}

each_cli!(an_unavailable_api_looks_like_an_overloaded_one);
fn an_unavailable_api_looks_like_an_overloaded_one(cli: Cli) {
    let (kind, message) = ("api_error".to_owned(), "unavailable".to_owned());
    let mut sandbox = RealSandbox::new(cli, [Step::Error { status: 503, kind, message }]);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "1");
    sandbox.start("j", &["--retries", "0"]);
    let status = eventually("the limit", || {
        let status = sandbox.status("j");
        (status["rateLimited"] == true).then_some(status)
    });
    assert!(status["retryAt"].is_string() || status["endedAt"].is_string(), "{status:?}");
    sandbox.wait("j").expect_end(75, "failed", Some("overloaded"));
    assert_eq!(sandbox.status("j")["rateLimited"], true);
}

each_cli!(names_a_denial_reported_only_by_the_tool);
fn names_a_denial_reported_only_by_the_tool(cli: Cli) {
    let input = json!({"file_path": "secret.txt"});
    let read = Step::Tool { name: "Read".to_owned(), input };
    let sandbox = RealSandbox::new(cli, [read, Step::text("I could not read it.")]);
    fs::write(sandbox.work().join("secret.txt"), "x").unwrap();
    settings(&sandbox, &json!({"permissions": {"deny": ["Read(secret.txt)"]}}));
    let result = sandbox.run_job("j", &["--fail-on-denial"]);
    result.expect_end(1, "failed", Some("permission_denied"));
    let error = result.text("error");
    assert!(error.contains("Read") && error.contains("secret.txt"), "{error}");
    assert_eq!(result["partial"], true);
}

each_cli!(a_kill_keeps_the_cost);
fn a_kill_keeps_the_cost(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [Step::bash("touch up; exec tail -f /dev/null"), Step::text("never")],
    );
    sandbox.start("j", &[]);
    // The answer that called the tool is complete, and with it its price.
    await_file(&sandbox.work().join("up"));
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
    let status = sandbox.status("j");
    assert!(status["costUsd"].as_f64() > Some(0.0), "{status:?}");
    assert_eq!(status["costIsLowerBound"], false, "{status:?}");
}

// A start, a SIGKILL of claude, a recover, two resumes, and another job of the same session. Each
// request has the same price.
each_cli!(costs_add_up_to_the_total);
fn costs_add_up_to_the_total(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::bash("echo $$ > pid; exec tail -f /dev/null"),
            Step::text("recovered"),
            Step::text("resumed"),
            Step::text("resumed again"),
            Step::text("another job"),
        ],
    );
    sandbox.start("j", &[]);
    await_event(&sandbox, "j", "assistant");
    send(sandbox.claude_pid("j"), Signal::SIGKILL);
    sandbox.wait("j").expect_end(1, "failed", Some("no_result"));
    assert_eq!(sandbox.status("j")["costIsLowerBound"], true);

    assert_eq!(sandbox.run(["recover", "j"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    let price = cost(&sandbox.status("j").json);
    for message in ["one", "two"] {
        assert_eq!(sandbox.run(["resume", "j", "--message", message]).code, 0);
        sandbox.wait("j").expect_end(0, "completed", None);
    }
    sandbox.start("k", &["--resume-job", "j"]);
    sandbox.wait("k").expect_end(0, "completed", None);

    assert_eq!(sandbox.api.requests(), 5);
    let status = sandbox.status("j");
    assert_cost(cost(&status.json), 3.0 * price);
    assert_eq!(status["costIsLowerBound"], true, "the request of the killed attempt is in none");
    let result = sandbox.run(["result", "j"]);
    assert_cost(result["cost_usd"].as_f64().unwrap(), 3.0 * price);
    assert_cost(cost(&sandbox.status("k").json), price);
    assert_eq!(sandbox.status("k")["costIsLowerBound"], false);
    let stats = sandbox.run(["stats"]);
    assert_cost(cost(&stats["total"]), 4.0 * price);
    assert_eq!(stats["total"]["costIsLowerBound"], true);

    // Only actual costs count.
    let over = |times: f64| format!("{:.6}/day", times * price);
    let refused = sandbox.run(["start", "--prompt", "x", "--budget-usd", &over(3.5)]);
    assert_eq!(refused["code"], "budget_exceeded", "{refused:?}");
    sandbox.start("last", &["--budget-usd", &over(4.5)]);
    sandbox.wait("last").expect_end(0, "completed", None);
}
