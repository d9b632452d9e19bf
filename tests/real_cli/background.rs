//! Background work and wakeups.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::eventually;
use crate::support::processes::{is_alive, pid_in, send};
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

each_cli!(background_work_gets_the_turn_that_follows_it);
fn background_work_gets_the_turn_that_follows_it(cli: Cli) {
    // Longer than the five seconds after which the CLI stops background work once stdin is closed.
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::BackgroundBash("sleep 7 && echo 42".to_owned()),
            Step::text("started it"),
            Step::text("it printed 42"),
        ],
    );

    let result = sandbox.run_job("background", &[]);

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "it printed 42");
    assert_eq!(result["num_turns"], 3, "of both results: {result:?}");
    assert_eq!(sandbox.status("background")["warnings"], serde_json::json!([]));
}

each_cli!(warns_of_stopped_background_work);
fn warns_of_stopped_background_work(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::BackgroundBash(
                "echo $$ > pid.new && mv pid.new pid && exec tail -f /dev/null".into(),
            ),
            Step::text("started it"),
        ],
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
    let sandbox = RealSandbox::new(cli, [wakeup, Step::text("I will look again in a minute.")]);
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
