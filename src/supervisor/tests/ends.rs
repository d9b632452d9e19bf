//! Ends that look better, or worse, than they are.

use super::*;
use crate::job::{InboxMessage, WaitKind};

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
        keep_alive: true,
        restart: true,
        max_restarts: 3,
        idle_timeout_ms: 3_600_000,
        background_wait_ms: 20_000,
        ..Spec::default()
    }
}

fn finish() -> Input<'static> {
    Input::Message { number: 9, directive: Ok(InboxMessage::Finish) }
}

fn message() -> Input<'static> {
    let directive = InboxMessage::Message { uuid: "u".to_owned(), text: "more".to_owned() };
    Input::Message { number: 1, directive: Ok(directive) }
}

/// Claude ends like this, and the verdict is asked for.
fn ends(rig: &mut Rig, exit: Exit, stderr: &str) -> Conclusion {
    rig.take(Input::OutputClosed);
    rig.take(exited(exit));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let evidence = Evidence { stderr, ..Evidence::default() };
    rig.supervisor.conclude(rig.now, &evidence, Vec::new).0
}

fn verdict(rig: &Rig) -> Verdict2 {
    let record = rig.supervisor.record();
    Verdict2(record.status, record.reason)
}

#[test]
fn a_success_without_an_answer_is_none() {
    for (line, expected) in [
        (ABORTED, failed(Reason::Interrupted)),
        (SILENT, failed(Reason::NoAnswer)),
        (STRUCTURED, COMPLETED),
    ] {
        assert_eq!(Rig::launched(Spec::default()).hear(INIT).hear(line).ends(0).0, expected);
    }
}

#[test]
fn a_turn_whose_last_word_is_an_error_of_the_cli_is_no_success() {
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
fn a_limit_that_has_passed_is_not_why_another_request_was_refused() {
    let mut rig = Rig::launched(Spec { retries: 3, ..Spec::default() });
    rig.hear(INIT).hear(LIMIT).hear(BAD_REQUEST);
    assert_eq!(rig.ends(1).0, failed(Reason::ApiError));
}

#[test]
fn a_job_that_was_kept_alive_ends_as_its_last_turn_did() {
    let strict = || Spec { fail_on_denial: true, ..kept_alive() };
    for (spec, turns, expected) in [
        (kept_alive(), vec![OK], COMPLETED),
        (kept_alive(), vec![UNAUTHORIZED], failed(Reason::Auth)),
        (kept_alive(), vec![UNAUTHORIZED, OK], COMPLETED),
        (kept_alive(), vec![OK, STOPPED], COMPLETED),
        (kept_alive(), vec![DENIED], COMPLETED),
        (strict(), vec![DENIED, OK], failed(Reason::PermissionDenied)),
    ] {
        // By its finish, by its time, and after a claude that knows nothing of those turns.
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
fn a_job_that_is_to_finish_does_so_whatever_it_is_at() {
    // While its claude is away.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.take(finish());
    rig.pass(2);
    rig.take(launched(79));
    assert_eq!(wants(&rig.pass(1)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    // The same, but a message is there as well: it has its answer first.
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
    // While background work is waited for, which does not end.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK).take(finish());
    assert_eq!(wants(&rig.pass(20)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    // One that is not to finish waits with its background work.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    assert_eq!(wants(&rig.pass(20)), Vec::<&str>::new());
    assert_eq!(rig.supervisor.record().status, Status::Idle);
}

#[test]
fn an_idle_claude_that_goes_away_is_started_again_whatever_its_last_turn_was() {
    for turn in [OK, STOPPED, UNAUTHORIZED] {
        let mut rig = Rig::launched(kept_alive());
        rig.hear(INIT).hear(turn);
        assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt, "{turn}");
        // Ended from outside, it had refused nothing, whatever Node has to say.
        rig.pass(2);
        rig.take(launched(79));
        let ended = Exit { code: Some(137), signal: None };
        assert_eq!(ends(&mut rig, ended, "(node:1) Warning"), Conclusion::NextAttempt, "{turn}");
    }
}

#[test]
fn a_claude_that_is_killed_with_a_message_on_its_way_was_not_done() {
    let mut rig = Rig::launched(Spec { retries: 1, ..Spec::default() });
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
fn a_turn_that_begins_after_the_input_was_closed_has_its_time() {
    let mut rig = Rig::launched(Spec { background_wait_ms: 60_000, ..Spec::default() });
    rig.hear(INIT);
    assert_eq!(rig.hear(OK).wants(), ["close"]);
    rig.hear(INIT).hear(TEXT);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    rig.hear(OK);
    assert_eq!(wants(&rig.pass(9)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["TERM"]);
}

#[test]
fn what_earlier_attempts_came_to_is_not_forgotten() {
    const OVERLOADED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"busy","permission_denials":[{"tool_name":"Bash"}],"duration_ms":7,"num_turns":1}"#;
    const FINE: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","duration_ms":5,"num_turns":1}"#;
    for (fail_on_denial, expected) in [(true, failed(Reason::PermissionDenied)), (false, COMPLETED)]
    {
        let mut rig = Rig::launched(Spec { retries: 1, fail_on_denial, ..Spec::default() });
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
    // Where nothing but the record is left of it.
    let mut record = Rig::launched(Spec { fail_on_denial: true, ..Spec::default() });
    record.hear(INIT).hear(DENIED);
    record.supervisor.record.denied = 1;
    let mut record = record.supervisor.record().clone();
    record.begin_attempt();
    let (lost, _) = recovery::inquire(&record, &format!("{INIT}\n{FINE}\n"), None);
    assert_eq!(lost.reason, Some(Reason::PermissionDenied));

    // An answer stays that of the last turn that gave one.
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(FINE);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.pass(2);
    rig.take(launched(79)).take(finish());
    let (_, outcome) = rig.ends(0);
    assert_eq!((outcome.result.as_deref(), outcome.duration_ms), (Some("ok"), Some(5)));
}

#[test]
fn what_another_worker_came_to_is_taken_over() {
    let mut before = Rig::launched(kept_alive());
    before.hear(INIT).hear(DENIED);
    let outcome = before.supervisor.outcome();
    for (resumed, answer, denials) in [(false, Some("ok"), 1), (true, None, 0)] {
        let mut record = before.supervisor.record().clone();
        record.begin_attempt();
        record.resumed = resumed;
        let now = before.now;
        let mut next = Supervisor::new(record, 90, None, now);
        next.continue_from(outcome.clone());
        let next = next.outcome();
        assert_eq!((next.result.as_deref(), next.permission_denials.len()), (answer, denials));
        assert_eq!(next.duration_ms, outcome.duration_ms);
    }
}

#[test]
fn what_a_lost_worker_leaves_open_is_not_done() {
    let lost = |spec: Spec, log: &[&str], undelivered: usize| {
        let mut rig = Rig::launched(spec);
        for line in log {
            rig.hear(line);
        }
        let record = rig.supervisor.record().clone();
        let mut inquest = PostMortem::new(record, 9, rig.now.wall);
        for line in log {
            let bytes = line.as_bytes();
            inquest.line(Line { bytes, length: bytes.len() as u64 });
        }
        let message = UndeliveredMessage { number: 1, text: "more".to_owned() };
        inquest.conclude(None, None, Some("boot"), vec![message; undelivered]).0
    };
    let ended = lost(Spec::default(), &[INIT, OK], 0);
    assert_eq!((ended.status, ended.was_idle), (Status::Completed, false));
    // A message had been accepted.
    assert_eq!(lost(Spec::default(), &[INIT, OK], 1).reason, Some(Reason::WorkerDied));
    // A conversation ends when somebody says so, and goes on where it stood.
    for (log, at_rest) in
        [(&[INIT, OK][..], true), (&[INIT, OK, INIT, TEXT], false), (&[INIT], false)]
    {
        let mut record = lost(kept_alive(), log, 0);
        assert_eq!(
            (record.reason, record.was_idle),
            (Some(Reason::WorkerDied), at_rest),
            "{log:?}"
        );
        record.begin_attempt();
        let opening = FirstPrompt::of(&record);
        assert_eq!((opening.text.is_empty(), opening.prompt), (at_rest, false));
    }
}

#[test]
fn an_idle_job_that_has_something_to_do_again_is_not_idle() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    rig.pass(20);
    assert_eq!(rig.supervisor.record().status, Status::Idle);
    // Words beside a turn change nothing; what had its time is not waited for again.
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
fn an_idle_claude_that_refuses_or_ends_over_its_error_is_not_started_again_in_vain() {
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
    assert!(rig.supervisor.opening().prompt && !rig.supervisor.is_backing_off());

    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(UNAUTHORIZED);
    assert!(matches!(ends(&mut rig, refused, ""), Conclusion::Ended(_)));
    assert_eq!(verdict(&rig), failed(Reason::Auth));
}

#[test]
fn an_answer_stays_one_where_background_work_is_lost_with_its_claude() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(TASK).hear(OK);
    rig.pass(20);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    rig.pass(2);
    rig.take(launched(79)).take(finish());
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn how_the_last_turn_failed_is_known_to_the_next_worker() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(UNAUTHORIZED);
    let mut record = rig.supervisor.record().clone();
    record.begin_attempt();
    record.was_idle = true;
    // It goes away before it had its turn, and is as it was.
    let (mut record, _) = recovery::inquire(&record, "", None);
    assert!(record.was_idle);
    record.begin_attempt();
    let mut next =
        Rig { supervisor: Supervisor::new(record, 90, None, rig.now), ..Rig::new(Spec::default()) };
    assert!(!next.supervisor.opening().prompt && next.supervisor.opening().text.is_empty());
    next.take(launched(91)).take(finish());
    assert_eq!(next.ends(0).0, failed(Reason::Auth));
}

#[test]
fn a_shutdown_that_ends_an_idle_claude_first_leaves_the_job_at_rest() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    rig.take(Input::OutputClosed).take(Input::TerminateRequested);
    assert!(matches!(
        ends(&mut rig, Exit { code: Some(143), signal: None }, ""),
        Conclusion::Ended(_)
    ));
    assert_eq!(verdict(&rig), failed(Reason::Terminated));
    assert!(rig.supervisor.record().was_idle);
}

#[test]
fn a_turn_after_the_input_was_closed_can_stall_as_any_other() {
    let spec =
        Spec { background_wait_ms: 600_000, stall_timeout_ms: Some(60_000), ..Spec::default() };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT);
    assert_eq!(rig.hear(OK).wants(), ["close"]);
    rig.hear(INIT);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["INT"]);
}

#[test]
fn only_the_time_that_was_waited_is_counted() {
    let mut rig = Rig::launched(Spec { retries: 1, max_backoff_ms: 600_000, ..Spec::default() });
    rig.hear(INIT).hear(r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"num_turns":1}"#);
    assert_eq!(ends(&mut rig, Exit { code: Some(1), signal: None }, ""), Conclusion::NextAttempt);
    rig.pass(1);
    rig.take(Input::KillRequested);
    rig.concluded("");
    assert_eq!(rig.supervisor.record().limited_ms, 1_000);
}

#[test]
fn a_request_that_claude_takes_back_is_not_remembered() {
    let mut rig = Rig::launched(Spec { block_timeout_ms: Some(60_000), ..Spec::default() });
    for _ in 0..3 {
        rig.hear(INIT).hear(ASK).hear(ANSWERED);
        rig.pass(50);
    }
    rig.hear(ASK);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["respond"]);
}

#[test]
fn a_claude_that_cannot_be_started_again_is_tried_again() {
    let one_shot = Spec { retries: 3, max_backoff_ms: 60_000, ..Spec::default() };
    for (spec, attempts, wait) in [(one_shot, 4, 6), (kept_alive(), 4, 2)] {
        let keep_alive = spec.keep_alive;
        let mut rig = Rig::launched(spec);
        rig.supervisor.expect_session("s".to_owned());
        rig.hear(INIT).hear(TEXT);
        assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
        let opening = rig.supervisor.opening().clone();
        rig.now.mono += Duration::from_secs(10);
        rig.take(Input::Tick);
        rig.take(Input::Admitted);
        rig.take(Input::LaunchFailed("claude is gone".to_owned()));
        let conclude =
            |rig: &mut Rig| rig.supervisor.conclude(rig.now, &Evidence::default(), Vec::new).0;
        assert_eq!(conclude(&mut rig), Conclusion::NextAttempt, "keep_alive {keep_alive}");
        let record = rig.supervisor.record();
        let waiting = record.waiting_for.clone().unwrap();
        assert_eq!((record.status, record.attempt), (Status::Running, 3));
        assert_eq!(waiting.kind, WaitKind::Retry);
        assert!(waiting.until.unwrap().since(rig.now.wall) >= Duration::from_secs(wait));
        assert_eq!(record.warnings.last().unwrap(), "claude is gone");
        assert_eq!(*rig.supervisor.opening(), opening, "nothing was said meanwhile");

        // It is there again.
        let mut kept = rig;
        kept.now.mono += Duration::from_secs(60);
        kept.take(Input::Tick);
        kept.take(Input::Admitted);
        if keep_alive {
            kept.take(launched(80));
            assert_eq!(kept.supervisor.record().status, Status::Running);
            continue;
        }
        // It never comes back.
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
fn a_restart_that_is_waited_for_is_shown() {
    let mut rig = Rig::launched(kept_alive());
    rig.hear(INIT).hear(OK);
    assert_eq!(ends(&mut rig, KILLED_BY_SIGNAL, ""), Conclusion::NextAttempt);
    let waiting = rig.supervisor.record().waiting_for.clone().unwrap();
    assert_eq!(waiting.kind, WaitKind::Retry);
    assert_eq!(waiting.until.unwrap().since(rig.now.wall), Duration::from_secs(1));
}
