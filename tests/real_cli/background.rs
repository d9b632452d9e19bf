//! Background work and wakeups.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::{is_alive, pid_in, send};
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;
use crate::support::{await_file, eventually};

each_cli!(background_work_gets_the_turn_that_follows_it);
fn background_work_gets_the_turn_that_follows_it(cli: Cli) {
    // From the wait on, longer than the five seconds after which the CLI stops background work once
    // stdin is closed.
    let work = "until [ -e go ]; do sleep 0.1; done; sleep 7 && echo 42";
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::BackgroundBash(work.to_owned()),
            Step::text("started it"),
            Step::text("it printed 42"),
        ],
    );
    sandbox.start("background", &[]);
    eventually("the wait for it", || {
        (sandbox.status("background")["waitingFor"]["kind"] == "background").then_some(())
    });
    fs::write(sandbox.work().join("go"), "").unwrap();

    let result = sandbox.wait("background");

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
            Step::text("started it").held(),
        ],
    );
    sandbox.start("background", &["--background-wait", "0s"]);
    let pid = sandbox.work().join("pid");
    await_file(&pid);
    sandbox.api.release();

    let result = sandbox.wait("background");

    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "started it");
    let warnings = sandbox.status("background")["warnings"].to_string();
    assert!(warnings.contains("stopped"), "{warnings}");
    assert!(!is_alive(pid_in(&pid)));
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
