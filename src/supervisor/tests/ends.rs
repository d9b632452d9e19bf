//! Ends that look better or worse than they are.

use super::*;
use crate::job::{
    AskOptions, FailOn, InboxMessage, KeepAliveOptions, Limits, RetryOptions, WaitKind,
};

const ABORTED: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"half","terminal_reason":"aborted_streaming","num_turns":1}"#;
const SILENT: &str = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1}"#;
const STRUCTURED: &str = r#"{"type":"result","subtype":"success","is_error":false,"structured_output":{},"num_turns":1}"#;
const UNAUTHORIZED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":401,"result":"no","num_turns":1}"#;
const BAD_REQUEST: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":400,"result":"no","num_turns":1}"#;
const STOPPED: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools","num_turns":1}"#;
const DENIED: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","permission_denials":[{"tool_name":"Bash"}],"num_turns":1}"#;

const TAKEN: &str =
    r#"{"type":"user","isReplay":true,"uuid":"u","message":{"role":"user","content":"more"}}"#;

const KILLED_BY_SIGNAL: Exit = Exit { code: None, signal: Some(9) };

fn kept_alive() -> Spec {
    Spec {
        keep_alive: KeepAliveOptions {
            enabled: true,
            restart: true,
            max_restarts: 3,
            idle_timeout_ms: 3_600_000,
        },
        limits: Limits { background_wait_ms: 20_000, ..Limits::default() },
        ..Spec::default()
    }
}

fn finish() -> Input<'static> {
    Input::Message { number: 9, message: Ok(InboxMessage::Finish) }
}

fn message() -> Input<'static> {
    let message = InboxMessage::Message { uuid: "u".to_owned(), text: "more".to_owned() };
    Input::Message { number: 1, message: Ok(message) }
}

/// Ends claude and returns the conclusion.
fn ends(rig: &mut Rig, exit: Exit, stderr: &str) -> Conclusion {
    rig.take(Input::OutputClosed);
    rig.take(exited(exit));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let evidence = Evidence { stderr, ..Evidence::default() };
    rig.conclude(&evidence)
}

fn verdict(rig: &Rig) -> Verdict2 {
    let record = rig.supervisor.record();
    Verdict2(record.status, record.reason)
}

#[test]
fn success_without_an_answer_fails() {
    for (line, expected) in [
        (ABORTED, failed(Reason::Interrupted)),
        (SILENT, failed(Reason::NoAnswer)),
        (STRUCTURED, COMPLETED),
    ] {
        assert_eq!(Rig::launched(Spec::default()).hear(INIT).hear(line).ends(0).0, expected);
    }
}

#[test]
fn cli_error_as_last_text_fails_the_turn() {
    const SAID: &str = r#"{"type":"assistant","error":"rate_limit","message":{"id":"m","model":"<synthetic>","content":[{"type":"text","text":"API Error: 429"}]}}"#;
    const NESTED: &str = r#"{"type":"assistant","error":"rate_limit","parent_tool_use_id":"t","message":{"id":"m","model":"<synthetic>","content":[{"type":"text","text":"API Error: 429"}]}}"#;
    const NESTED_TEXT: &str = r#"{"type":"assistant","parent_tool_use_id":"t","message":{"id":"m2","content":[{"type":"text","text":"hm"}]}}"#;
    for (lines, expected) in [
        (vec![INIT, SAID, OK], failed(Reason::RateLimit)),
        (vec![INIT, SAID, TEXT, OK], COMPLETED),
        (vec![INIT, SAID, OK, TEXT, OK], COMPLETED),
        (vec![INIT, TEXT, NESTED, OK], COMPLETED),
        (vec![INIT, SAID, NESTED_TEXT, OK], failed(Reason::RateLimit)),
    ] {
        let mut rig = Rig::launched(Spec::default());
        for line in &lines {
            rig.hear(line);
        }
        assert_eq!(rig.ends(0).0, expected, "{lines:?}");
    }
}

#[test]
fn past_limit_does_not_explain_a_later_refusal() {
    let retry = RetryOptions { retries: 3, ..RetryOptions::default() };
    let mut rig = Rig::launched(Spec { retry, ..Spec::default() });
    rig.hear(INIT).hear(LIMIT).hear(BAD_REQUEST);
    assert_eq!(rig.ends(1).0, failed(Reason::ApiError));
}

#[test]
fn kept_alive_job_ends_like_its_last_turn() {
    let strict =
        || Spec { fail_on: FailOn { denial: true, ..kept_alive().fail_on }, ..kept_alive() };
    for (spec, turns, expected) in [
        (kept_alive(), vec![OK], COMPLETED),
        (kept_alive(), vec![UNAUTHORIZED], failed(Reason::Auth)),
        (kept_alive(), vec![UNAUTHORIZED, OK], COMPLETED),
        (kept_alive(), vec![OK, STOPPED], COMPLETED),
        (kept_alive(), vec![DENIED], COMPLETED),
        (strict(), vec![DENIED, OK], failed(Reason::PermissionDenied)),
    ] {
        // By `finish`, by the idle timeout, and after a claude that did not see those turns.
        for way in ["finish", "time", "restart"] {
            let mut rig = Rig::launched(spec.clone());
            for turn in &turns {
                rig.hear(INIT).hear(turn);
            }
            if way == "restart" {
                assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
                rig.pass(2);
                rig.take(launched(79));
            }
            if way == "time" {
                assert_eq!(wants(&rig.pass(3_600)), ["close"]);
            } else {
                assert_eq!(rig.take(finish()).wants(), ["take out", "close"]);
            }
            assert!(matches!(
                ends(&mut rig, Exit { code: Some(0), signal: None }, ""),
                Conclusion::Ended(_)
            ));
            assert_eq!(verdict(&rig), expected, "{turns:?} by {way}");
        }
    }
}

#[test]
fn finishes_from_every_phase() {
    // While claude is being restarted.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.take(finish());
    rig.pass(2);
    rig.take(launched(79));
    assert_eq!(wants(&rig.pass(1)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    // The same with a message, which is answered first.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.take(message()).take(finish());
    rig.pass(2);
    rig.take(launched(79)).take(message());
    assert_eq!(wants(&rig.pass(1)), Vec::<&str>::new());
    rig.hear(INIT).hear(TAKEN).hear(TEXT);
    assert_eq!(rig.hear(OK).wants(), ["take out", "close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    // During the wait for background work that does not end.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK).take(finish());
    assert_eq!(wants(&rig.pass(20)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    // A job that is not finishing waits with its background work.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    assert_eq!(wants(&rig.pass(20)), Vec::<&str>::new());
    assert_eq!(rig.supervisor.record().status, Status::Idle);
}

#[test]
fn restarts_idle_claude_whatever_its_last_turn() {
    for turn in [OK, STOPPED, UNAUTHORIZED] {
        let mut rig = Rig::launched(kept_alive());
        rig.hear(INIT).hear(turn);
        assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt, "{turn}");
        // A claude that was ended from outside refused nothing, whatever Node writes.
        rig.pass(2);
        rig.take(launched(79));
        let ended = Exit { code: Some(137), signal: None };
        assert_eq!(ends(&mut rig, ended, "(node:1) Warning"), Conclusion::NextAttempt, "{turn}");
    }
}

#[test]
fn killed_claude_with_pending_message_is_cut_off() {
    let mut rig = Rig::launched(Spec {
        retry: RetryOptions { retries: 1, ..RetryOptions::default() },
        ..Spec::default()
    });
    rig.hear(INIT).take(message());
    rig.hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message());
    rig.hear(OK);
    assert!(matches!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::Ended(_)));
    assert_eq!(verdict(&rig), failed(Reason::NoResult));
}

#[test]
fn waits_for_turns_begun_after_input_closed() {
    let mut rig = Rig::launched(Spec {
        limits: Limits { background_wait_ms: 60_000, ..Limits::default() },
        ..Spec::default()
    });
    rig.hear(INIT);
    assert_eq!(rig.hear(OK).wants(), ["close"]);
    rig.hear(INIT).hear(TEXT);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    rig.hear(OK);
    assert_eq!(wants(&rig.pass(9)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["TERM"]);
}

#[test]
fn keeps_results_of_earlier_attempts() {
    const OVERLOADED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"busy","permission_denials":[{"tool_name":"Bash"}],"duration_ms":7,"num_turns":1}"#;
    const FINE: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","duration_ms":5,"num_turns":1}"#;
    for (fail_on_denial, expected) in [(true, failed(Reason::PermissionDenied)), (false, COMPLETED)]
    {
        let mut rig = Rig::launched(Spec {
            retry: RetryOptions { retries: 1, ..RetryOptions::default() },
            fail_on: FailOn { denial: fail_on_denial, ..FailOn::default() },
            ..Spec::default()
        });
        rig.hear(INIT).hear(OVERLOADED);
        assert_eq!(
            ends(&mut rig, Exit { code: Some(1), signal: None }, ""),
            Conclusion::NextAttempt
        );
        rig.pass(10);
        rig.take(Input::Admitted).take(launched(79)).hear(INIT).hear(FINE);
        let (verdict, outcome) = rig.ends(0);
        assert_eq!((verdict, outcome.duration_ms), (expected, Some(12)));
        assert_eq!(outcome.permission_denials.len(), 1);
        let told = if fail_on_denial { outcome.error.unwrap() } else { outcome.warnings.concat() };
        assert!(told.contains("Bash"), "{told}");
    }
    // With only the record.
    let mut record = Rig::launched(Spec {
        fail_on: FailOn { denial: true, ..FailOn::default() },
        ..Spec::default()
    });
    record.hear(INIT).hear(DENIED);
    record.supervisor.record.progress.denied = 1;
    let mut record = record.supervisor.record().clone();
    record.begin_attempt();
    let (lost, _) = recovery::examine(&record, &format!("{INIT}\n{FINE}\n"), None);
    assert_eq!(lost.reason, Some(Reason::PermissionDenied));

    // The answer remains that of the last turn that gave one.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(FINE);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.pass(2);
    rig.take(launched(79)).take(finish());
    let (_, outcome) = rig.ends(0);
    assert_eq!((outcome.result.as_deref(), outcome.duration_ms), (Some("ok"), Some(5)));
}

#[test]
fn continues_from_another_workers_outcome() {
    let mut before = Rig::launched(kept_alive());
    before.hear(INIT).hear(DENIED);
    let outcome = before.supervisor.outcome();
    for (resumed, answer, denials) in [(false, Some("ok"), 1), (true, None, 0)] {
        let mut record = before.supervisor.record().clone();
        record.begin_attempt();
        record.attempt.resumed = resumed;
        let outcome_before = Some(outcome.clone());
        let start = WorkerStart { pid: 90, outcome: outcome_before, ..WorkerStart::default() };
        let next = Supervisor::new(record, start, before.now).outcome();
        assert_eq!((next.result.as_deref(), next.permission_denials.len()), (answer, denials));
        assert_eq!(next.duration_ms, outcome.duration_ms);
    }
}

#[test]
fn lost_worker_with_open_work_is_not_completed() {
    let lost = |spec: Spec, log: &[&str], undelivered: usize| {
        let mut rig = Rig::launched(spec);
        for line in log {
            rig.hear(line);
        }
        let record = rig.supervisor.record().clone();
        let mut post_mortem = PostMortem::new(record, 9, rig.now.wall);
        for line in log {
            let bytes = line.as_bytes();
            post_mortem.line(Line { bytes, length: bytes.len() as u64 });
        }
        let message = UndeliveredMessage { number: 1, text: "more".to_owned() };
        post_mortem.conclude(None, None, Some("boot"), vec![message; undelivered]).0
    };
    let ended = lost(Spec::default(), &[INIT, OK], 0);
    assert_eq!((ended.status, ended.progress.was_idle), (Status::Completed, false));
    // A message had been accepted.
    assert_eq!(lost(Spec::default(), &[INIT, OK], 1).reason, Some(Reason::WorkerDied));
    // A conversation ends only on request, and is continued as it was.
    for (log, at_rest) in
        [(&[INIT, OK][..], true), (&[INIT, OK, INIT, TEXT], false), (&[INIT], false)]
    {
        let mut record = lost(kept_alive(), log, 0);
        assert_eq!(
            (record.reason, record.progress.was_idle),
            (Some(Reason::WorkerDied), at_rest),
            "{log:?}"
        );
        record.begin_attempt();
        let opening = FirstPrompt::for_record(&record);
        assert_eq!((opening.text.is_empty(), opening.prompt), (at_rest, false));
    }
}

#[test]
fn idle_job_with_new_work_is_running() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    rig.pass(20);
    assert_eq!(rig.supervisor.record().status, Status::Idle);
    // Text outside a turn changes nothing; a wait that has ended is not repeated.
    rig.hear(r#"{"type":"system","subtype":"status","status":null}"#);
    assert_eq!(rig.supervisor.record().status, Status::Idle);
    rig.hear(TASK_DONE).hear(INIT).hear(TEXT);
    assert_eq!(rig.supervisor.record().status, Status::Running);
    rig.hear(ASK);
    assert_eq!(rig.supervisor.record().status, Status::Blocked);
    rig.hear(ANSWERED).hear(OK);
    assert_eq!(rig.supervisor.record().status, Status::Idle);
}

#[test]
fn does_not_restart_claude_that_refuses_or_fails() {
    const UNKNOWN: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":0,"errors":["No conversation found with session ID: s"]}"#;
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.pass(2);
    rig.take(launched(79));
    assert_eq!(rig.supervisor.record().status, Status::Idle);
    rig.hear(UNKNOWN);
    let refused = Exit { code: Some(1), signal: None };
    assert_eq!(ends(&mut rig, refused, ""), Conclusion::NextAttempt);
    assert!(rig.supervisor.first_prompt().prompt && !is_backing_off(&rig.supervisor));

    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(UNAUTHORIZED);
    assert!(matches!(ends(&mut rig, refused, ""), Conclusion::Ended(_)));
    assert_eq!(verdict(&rig), failed(Reason::Auth));
}

#[test]
fn keeps_answer_when_background_work_is_lost() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    rig.pass(20);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.pass(2);
    rig.take(launched(79)).take(finish());
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn next_worker_knows_the_last_failure() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(UNAUTHORIZED);
    let mut record = rig.supervisor.record().clone();
    record.begin_attempt();
    record.progress.was_idle = true;
    // Claude exits before it was admitted, so the state is unchanged.
    let (mut record, _) = recovery::examine(&record, "", None);
    assert!(record.progress.was_idle);
    record.begin_attempt();
    let mut next = Rig { supervisor: new_worker(record, 90, rig.now), ..Rig::new(Spec::default()) };
    assert!(
        !next.supervisor.first_prompt().prompt && next.supervisor.first_prompt().text.is_empty()
    );
    next.take(launched(91)).take(finish());
    assert_eq!(next.ends(0).0, failed(Reason::Auth));
}

#[test]
fn shutdown_of_idle_claude_keeps_the_job_idle() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    rig.take(Input::OutputClosed).take(Input::TerminateRequested);
    assert!(matches!(
        ends(&mut rig, Exit { code: Some(143), signal: None }, ""),
        Conclusion::Ended(_)
    ));
    assert_eq!(verdict(&rig), failed(Reason::Terminated));
    assert!(rig.supervisor.record().progress.was_idle);
}

#[test]
fn turn_after_input_closed_can_stall() {
    let spec = Spec {
        limits: Limits {
            background_wait_ms: 600_000,
            stall_timeout_ms: Some(60_000),
            ..Limits::default()
        },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT);
    assert_eq!(rig.hear(OK).wants(), ["close"]);
    rig.hear(INIT);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["INT"]);
}

#[test]
fn counts_only_elapsed_waiting_time() {
    let mut rig = Rig::launched(Spec {
        retry: RetryOptions { retries: 1, max_backoff_ms: 600_000, ..RetryOptions::default() },
        ..Spec::default()
    });
    rig.hear(INIT).hear(r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"num_turns":1}"#);
    assert_eq!(ends(&mut rig, Exit { code: Some(1), signal: None }, ""), Conclusion::NextAttempt);
    rig.pass(1);
    rig.take(Input::KillRequested);
    rig.concluded("");
    assert_eq!(rig.supervisor.record().times.limited_ms, 1_000);
}

#[test]
fn forgets_cancelled_requests() {
    let mut rig = Rig::launched(Spec {
        ask: AskOptions { block_timeout_ms: Some(60_000), ..AskOptions::default() },
        ..Spec::default()
    });
    for _ in 0..3 {
        rig.hear(INIT).hear(ASK).hear(ANSWERED);
        rig.pass(50);
    }
    rig.hear(ASK);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["respond"]);
}

#[test]
fn retries_failed_restarts() {
    let one_shot = Spec {
        retry: RetryOptions { retries: 3, max_backoff_ms: 60_000, ..RetryOptions::default() },
        ..Spec::default()
    };
    for (spec, attempts, wait) in [(one_shot, 4, 6), (kept_alive(), 4, 2)] {
        let keep_alive = spec.keep_alive.enabled;
        let mut rig = Rig::launched(spec);
        rig.hear(INIT).hear(TEXT);
        assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
        let opening = rig.supervisor.first_prompt().clone();
        rig.now.mono += Duration::from_secs(10);
        rig.take(Input::Tick);
        rig.take(Input::Admitted);
        rig.take(Input::LaunchFailed("claude is gone".to_owned()));
        let conclude = |rig: &mut Rig| rig.conclude(&Evidence::default());
        assert_eq!(conclude(&mut rig), Conclusion::NextAttempt, "keep_alive {keep_alive}");
        let record = rig.supervisor.record();
        let waiting = record.waiting_for.clone().unwrap();
        assert_eq!((record.status, record.attempt.number), (Status::Running, 3));
        assert_eq!(waiting.kind, WaitKind::Retry);
        assert!(waiting.until.unwrap().since(rig.now.wall) >= Duration::from_secs(wait));
        assert_eq!(record.warnings.last().unwrap(), "claude is gone");
        assert_eq!(*rig.supervisor.first_prompt(), opening, "nothing was said meanwhile");

        // Claude can be started again.
        let mut kept = rig;
        kept.now.mono += Duration::from_secs(60);
        kept.take(Input::Tick);
        kept.take(Input::Admitted);
        if keep_alive {
            kept.take(launched(80));
            assert_eq!(kept.supervisor.record().status, Status::Running);
            continue;
        }
        // Claude can never be started.
        for _ in 3..attempts {
            kept.take(Input::LaunchFailed("claude is gone".to_owned()));
            assert_eq!(conclude(&mut kept), Conclusion::NextAttempt);
            kept.now.mono += Duration::from_secs(60);
            kept.take(Input::Tick);
            kept.take(Input::Admitted);
        }
        kept.take(Input::LaunchFailed("claude is gone".to_owned()));
        assert!(matches!(conclude(&mut kept), Conclusion::Ended(_)));
        let record = kept.supervisor.record();
        assert_eq!(record.reason, Some(Reason::LaunchFailed));
        assert_eq!(record.error.as_deref(), Some("claude is gone (4 attempts)"));
        assert!(record.is_recoverable());
    }
}

#[test]
fn shows_a_pending_restart() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    let waiting = rig.supervisor.record().waiting_for.clone().unwrap();
    assert_eq!(waiting.kind, WaitKind::Retry);
    assert_eq!(waiting.until.unwrap().since(rig.now.wall), Duration::from_secs(1));
}
