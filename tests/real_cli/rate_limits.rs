//! Rate limits, and the retries after them.

use std::fs;

use serde_json::Value;

use crate::support::eventually;
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

each_cli!(reports_a_rate_limit_while_it_lasts);
fn reports_a_rate_limit_while_it_lasts(cli: Cli) {
    // The second refusal waits for the test, so that the first stays in force while the test reads
    // the status.
    let limited = Step::RateLimited { retry_after: 1 };
    let sandbox = RealSandbox::new(cli, [limited.clone(), limited.held(), Step::text("recovered")]);
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

each_cli!(a_lasting_rate_limit_fails);
fn a_lasting_rate_limit_fails(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::RateLimited { retry_after: 1 }]);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "2");

    let result = sandbox.run_job("limited", &[]);

    result.expect_end(75, "failed", Some("rate_limit"));
    assert!(!result.text("error").is_empty());
    assert_eq!(sandbox.status("limited")["rateLimited"], true);
}

/// Sets the login of a subscription, whose limits the CLI reports, and turns off the CLI's own
/// retries.
fn subscribe(sandbox: &mut RealSandbox) {
    sandbox.unset("ANTHROPIC_API_KEY");
    sandbox.set("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-test");
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");
}

each_cli!(a_lasting_rate_limit_fails_after_the_retries);
fn a_lasting_rate_limit_fails_after_the_retries(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::RateLimited { retry_after: 1 }]);
    sandbox.set("CLAUDE_CODE_MAX_RETRIES", "0");

    let result = sandbox.run_job("limited", &["--retries", "2", "--max-backoff", "300ms"]);

    result.expect_end(75, "failed", Some("rate_limit"));
    assert!(result.text("error").contains("(3 attempts)"), "{result:?}");
    let status = sandbox.status("limited");
    assert_eq!((&status["attempt"], &status["rateLimited"]), (&3.into(), &true.into()));
    assert_eq!(sandbox.api.requests(), 3);
}

each_cli!(a_retry_continues_after_a_rate_limit);
fn a_retry_continues_after_a_rate_limit(cli: Cli) {
    let mut sandbox = RealSandbox::new(
        cli,
        [
            Step::bash("echo once >> deeds.txt"),
            Step::RateLimited { retry_after: 1 },
            Step::text("All done."),
        ],
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

each_cli!(waits_for_the_end_of_a_limit);
fn waits_for_the_end_of_a_limit(cli: Cli) {
    let mut sandbox = RealSandbox::new(
        cli,
        [Step::bash("echo once >> deeds.txt"), Step::LimitedFor(30), Step::text("Back again.")],
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
    // Another job does not meet the same limit.
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
    assert!((0..20_000).contains(&late), "{late} ms after the limit's end");
    assert_eq!(fs::read_to_string(sandbox.work().join("deeds.txt")).unwrap(), "once\n");
}

each_cli!(does_not_wait_for_a_limit_that_lasts_too_long);
fn does_not_wait_for_a_limit_that_lasts_too_long(cli: Cli) {
    let mut sandbox = RealSandbox::new(cli, [Step::LimitedFor(3_600)]);
    subscribe(&mut sandbox);

    let result = sandbox.run_job("limited", &["--retries", "3", "--max-wait", "10m"]);

    result.expect_end(75, "failed", Some("rate_limit"));
    let status = sandbox.status("limited");
    assert!(status.text("resumableAt") > status.text("endedAt"), "{status:?}");
    assert!(result.text("error").contains(status.text("resumableAt")), "{result:?}");
}
