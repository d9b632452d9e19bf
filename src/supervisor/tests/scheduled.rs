//! Wake-ups and cron tasks of the agent are outstanding work.

use super::*;
use crate::job::{KeepAliveOptions, Limits, RetryOptions, WaitKind};

const WAKEUP: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"set"}]},"tool_use_result":{"scheduledFor":60000,"clampedDelaySeconds":60}}"#;
const WOKEN: &str = r#"{"type":"command_lifecycle","command_uuid":"c","state":"started","wakeup_source":"loop_wakeup","scheduled_for":60000}"#;
const CRON_FIRED: &str = r#"{"type":"command_lifecycle","command_uuid":"c","state":"started","wakeup_source":"schedule_wakeup"}"#;
const GREEN: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"result":"green","num_turns":1}"#;
const BROKEN: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":500,"result":"no","num_turns":1}"#;

fn cron(due: &str, recurring: bool) -> String {
    format!(
        r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t","content":"set"}}]}},"tool_use_result":{{"id":"c1","humanSchedule":"x","recurring":{recurring}{due}}}}}"#
    )
}

/// Advances both clocks.
fn pass(rig: &mut Rig, seconds: u64) -> Vec<Effect> {
    rig.now.wall = rig.now.wall.after(Duration::from_secs(seconds));
    rig.pass(seconds)
}

fn kind(rig: &Rig) -> Option<WaitKind> {
    rig.supervisor.record().waiting_for.as_ref().map(|waiting| waiting.kind)
}

#[test]
fn a_wakeup_is_awaited_and_its_turn_gives_the_answer() {
    let spec = Spec {
        limits: Limits { stall_timeout_ms: Some(10_000), ..spec_of("").limits },
        ..spec_of("")
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    assert_eq!(rig.wants(), [""; 0], "stdin stays open");
    let waiting = rig.supervisor.record().waiting_for.clone().unwrap();
    assert_eq!((waiting.kind, waiting.until), (WaitKind::Wakeup, Timestamp::from_epoch_ms(60_000)));
    assert!(rig.effects.contains(&Effect::Save), "at once");
    assert_eq!(wants(&pass(&mut rig, 60)), [""; 0], "it is no silence");
    rig.hear(WOKEN).hear(INIT);
    assert_eq!(kind(&rig), None);
    rig.hear(GREEN);
    assert_eq!(rig.wants(), ["close"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!((verdict, outcome.result.as_deref()), (COMPLETED, Some("green")));
}

#[test]
fn a_wakeup_that_does_not_come_is_missed() {
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    assert_eq!(wants(&pass(&mut rig, 179)), [""; 0]);
    assert_eq!(wants(&pass(&mut rig, 2)), ["close"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, failed(Reason::WakeupMissed));
    assert!(outcome.error.unwrap().contains("1970-01-01T00:01:00"));
    assert_eq!((outcome.result.as_deref(), outcome.partial), (Some("ok"), true));
}

#[test]
fn job_cut_off_before_its_wakeup_is_not_completed() {
    // Claude exits or crashes.
    for exit in [Exit { code: Some(0), signal: None }, Exit { code: None, signal: Some(9) }] {
        let (verdict, ..) = {
            let mut rig = Rig::launched(spec_of(""));
            rig.hear(INIT).hear(WAKEUP).hear(OK);
            rig.take(Input::OutputClosed);
            rig.take(exited(exit));
            rig.concludes("")
        };
        assert_eq!(verdict, failed(Reason::WakeupMissed), "{exit:?}");
    }
    // The timeout passes.
    let mut rig = Rig::launched(Spec {
        limits: Limits { timeout_ms: Some(30_000), ..spec_of("").limits },
        ..spec_of("")
    });
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    assert_eq!(wants(&pass(&mut rig, 30)), ["INT"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, failed(Reason::WakeupMissed));
    assert!(outcome.error.unwrap().contains("timeout of 30s"));
    // The worker dies.
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT);
    let log = [INIT, WAKEUP, OK].join("\n") + "\n";
    let record = rig.supervisor.record();
    let (record, _) = recovery::examine(record, &log, None);
    assert_eq!(record.reason, Some(Reason::WorkerDied));
}

#[test]
fn a_crash_before_a_wakeup_is_tried_again() {
    let spec = Spec {
        retry: RetryOptions { retries: 1, max_backoff_ms: 1_000, ..spec_of("").retry },
        ..spec_of("")
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: None, signal: Some(9) }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let conclusion = rig.conclude(&Evidence::default());
    assert_eq!(conclusion, Conclusion::NextAttempt);
    assert!(
        rig.supervisor.first_prompt().text.contains("wake-ups"),
        "it is told that they are gone"
    );
}

#[test]
fn a_wakeup_that_was_cancelled_or_refused_is_none() {
    let stopped = WAKEUP.replace("\"scheduledFor\":60000", "\"scheduledFor\":0,\"stopped\":true");
    let refused = WAKEUP.replace("60000", "0");
    for lines in [vec![WAKEUP, &*stopped], vec![&*refused]] {
        let mut rig = Rig::launched(spec_of(""));
        rig.hear(INIT);
        for line in &lines {
            rig.hear(line);
        }
        rig.hear(OK);
        assert_eq!(rig.wants(), ["close"], "{lines:?}");
        assert_eq!(rig.ends(0).0, COMPLETED);
    }
}

#[test]
fn awaits_one_shot_cron_tasks_of_unknown_time() {
    let known = cron(",\"nextFireAt\":60000.5", false);
    let unknown = cron("", false);
    for (line, fires) in [(&known, true), (&known, false), (&unknown, true), (&unknown, false)] {
        let mut rig = Rig::launched(spec_of(""));
        rig.hear(INIT).hear(line).hear(OK);
        assert_eq!(rig.wants(), [""; 0], "{line}");
        assert_eq!(kind(&rig), Some(WaitKind::Wakeup));
        if fires {
            pass(&mut rig, 59);
            // 2.1.197 does not announce the turn.
            if line == &known {
                rig.hear(CRON_FIRED);
            }
            rig.hear(INIT).hear(TEXT).hear(GREEN);
            assert_eq!(rig.wants(), ["close"], "{line}");
            assert_eq!(rig.ends(0).0, COMPLETED);
        } else {
            assert_eq!(wants(&pass(&mut rig, 200)), ["close", "TERM", "sweep"], "{line}");
            rig.take(Input::OutputClosed);
            rig.take(exited(Exit { code: None, signal: Some(9) }));
            assert_eq!(rig.concludes("").0, failed(Reason::WakeupMissed), "{line}");
        }
    }
}

#[test]
fn a_cron_task_that_was_deleted_is_not_awaited() {
    let delete = r#"{"type":"assistant","message":{"id":"m3","content":[{"type":"tool_use","id":"d","name":"CronDelete","input":{"id":"c1"}}]}}"#;
    let deleted = |error: bool| {
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"d","is_error":{error},"content":"x"}}]}}}}"#
        )
    };
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(&cron(",\"nextFireAt\":60000", false)).hear(delete);
    rig.hear(&deleted(true)).hear(delete).hear(&deleted(false)).hear(OK);
    assert_eq!(rig.wants(), ["close"]);
}

#[test]
fn a_recurring_cron_task_holds_the_job_for_a_while() {
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(&cron(",\"nextFireAt\":50000", true)).hear(OK);
    assert_eq!(kind(&rig), Some(WaitKind::Background));
    assert_eq!(wants(&pass(&mut rig, 50)), [""; 0]);
    // A turn in between does not extend the wait.
    rig.hear(CRON_FIRED).hear(INIT).hear(GREEN);
    assert_eq!(wants(&pass(&mut rig, 9)), [""; 0]);
    assert_eq!(wants(&pass(&mut rig, 2)), ["close"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, COMPLETED);
    assert!(outcome.warnings.iter().any(|text| text.contains("cron task")), "{outcome:?}");
}

#[test]
fn kept_alive_job_awaits_its_wakeup_before_idling() {
    let spec = Spec {
        keep_alive: KeepAliveOptions {
            enabled: true,
            idle_timeout_ms: 30_000,
            ..spec_of("").keep_alive
        },
        ..spec_of("")
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    assert_eq!(rig.supervisor.record().status, Status::Running);
    assert_eq!(wants(&pass(&mut rig, 60)), [""; 0], "--idle-timeout does not cut it off");
    rig.hear(WOKEN).hear(INIT).hear(GREEN);
    assert_eq!(
        (rig.supervisor.record().status, kind(&rig)),
        (Status::Idle, Some(WaitKind::Message))
    );
}

#[test]
fn a_turn_that_failed_is_not_held_for_its_wakeup() {
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(WAKEUP).hear(BROKEN);
    assert_eq!(rig.wants(), ["close"]);
    assert_eq!(rig.ends(1).0, failed(Reason::ApiError));
}

#[test]
fn gives_up_late_wakeups_despite_activity() {
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(WAKEUP).hear(OK);
    for _ in 0..11 {
        assert_eq!(wants(&pass(&mut rig, 16)), [""; 0]);
        rig.hear(r#"{"type":"system","subtype":"news"}"#);
    }
    assert_eq!(wants(&pass(&mut rig, 6)), ["close"]);
}

#[test]
fn a_wakeup_that_is_due_within_a_turn_fires_after_it() {
    let mut rig = Rig::launched(spec_of(""));
    let message = r#"{"type":"user","isReplay":true,"uuid":"u","message":{"content":"more"}}"#;
    rig.hear(INIT).hear(WAKEUP).hear(OK).hear(INIT).hear(message).hear(TEXT);
    assert_eq!(wants(&pass(&mut rig, 300)), [""; 0]);
    rig.hear(OK);
    assert_eq!(wants(&pass(&mut rig, 119)), [""; 0]);
    rig.hear(WOKEN).hear(INIT).hear(GREEN);
    assert_eq!(rig.wants(), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn a_follow_up_that_is_due_is_outstanding_work() {
    // A hook delays the turn after background work, and nothing is written meanwhile.
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(TASK).hear(OK).hear(TASK_DONE);
    assert_eq!(wants(&pass(&mut rig, 30)), ["close"]);
    rig.hear(INIT).hear(GREEN);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!((verdict, outcome.result.as_deref()), (COMPLETED, Some("green")));
    // A job that ends before that turn has not completed.
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(INIT).hear(TASK).hear(OK).hear(TASK_DONE);
    assert_eq!(wants(&pass(&mut rig, 80)), ["close", "TERM", "sweep"]);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(143), signal: None }));
    assert_eq!(rig.concludes("").0, failed(Reason::NoResult));
}
