//! Waiting for admission, for the API, and for a silent claude.

use serde_json::Value;

use super::*;
use crate::job::{InboxMessage, KeepAliveOptions, Limits, RetryOptions};

const LIMITED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"limit","num_turns":1}"#;
const OVERLOADED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"overloaded","num_turns":1}"#;
const BROKEN: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":502,"result":"bad gateway","num_turns":1}"#;
const REFUSED: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":400,"result":"bad request","num_turns":1}"#;
const TURNS: &str =
    r#"{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":1}"#;
const RESET_IN_60: &str =
    r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":60}}"#;
const TOOL: &str = r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}"#;

fn patient(retries: u32) -> Spec {
    Spec {
        retry: RetryOptions {
            retries,
            max_backoff_ms: 600_000,
            max_wait_ms: 3_600_000,
            ..RetryOptions::default()
        },
        ..Spec::default()
    }
}

/// Ends an attempt after these lines and returns the conclusion.
fn ends_with(rig: &mut Rig, lines: &[&str], exit: Exit) -> Conclusion {
    for line in lines {
        rig.hear(line);
    }
    rig.take(Input::OutputClosed);
    rig.take(exited(exit));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    rig.conclude(&Evidence::default())
}

fn code(code: i32) -> Exit {
    Exit { code: Some(code), signal: None }
}

#[test]
fn retries_only_transient_failures() {
    let killed = Exit { code: None, signal: Some(9) };
    for (lines, exit, again) in [
        (vec![INIT, LIMITED], code(1), true),
        (vec![INIT, OVERLOADED], code(1), true),
        (vec![INIT, BROKEN], code(1), true),
        (vec![INIT, TEXT], killed, true),
        (vec![INIT, TEXT], code(139), true),
        (vec![INIT, REFUSED], code(1), false),
        (vec![INIT, TURNS], code(1), false),
        (vec![INIT, TEXT], code(0), false),
        (vec![INIT, OK], code(0), false),
        // A claude that refuses at once would do so again.
        (vec![], code(1), false),
    ] {
        let mut rig = Rig::launched(patient(1));
        let stderr_is_empty = !lines.is_empty();
        let conclusion = if stderr_is_empty {
            ends_with(&mut rig, &lines, exit)
        } else {
            rig.take(Input::OutputClosed);
            rig.take(exited(exit));
            rig.take(Input::Swept { ended: 0, left: Default::default() });
            let evidence = Evidence { stderr: "error: unknown option", ..Evidence::default() };
            rig.conclude(&evidence)
        };
        assert_eq!(conclusion == Conclusion::NextAttempt, again, "{lines:?} {exit:?}");
    }
    let mut rig = Rig::launched(patient(1));
    rig.hear(INIT).take(Input::KillRequested);
    assert!(matches!(ends_with(&mut rig, &[LIMITED], code(1)), Conclusion::Ended(_)));
    // Claude is done, and the job would be retried.
    let mut rig = Rig::launched(patient(1));
    rig.hear(INIT).hear(LIMITED);
    assert_eq!(rig.take(Input::KillRequested).wants(), ["INT"]);
    assert!(matches!(ends_with(&mut rig, &[], code(1)), Conclusion::Ended(_)));
    assert_eq!(rig.supervisor.record().status, Status::Killed);
}

#[test]
fn retry_frees_its_slot_and_resumes_the_session() {
    let mut rig = Rig::launched(patient(2));
    assert_eq!(ends_with(&mut rig, &[INIT, TEXT, LIMITED], code(1)), Conclusion::NextAttempt);
    assert_eq!(rig.wants(), ["limit", "leave"]);
    let record = rig.supervisor.record();
    assert_eq!(
        (record.status, record.limit.rate_limited, record.attempt.number),
        (Status::Running, true, 2)
    );
    let wait = record.limit.retry_at.unwrap().since(rig.now.wall);
    assert!((3_750..6_250).contains(&wait.as_millis()), "{wait:?}");
    let opening = rig.supervisor.first_prompt();
    assert_eq!((opening.resume.as_deref(), opening.prompt), (Some("s"), false));
    assert!(opening.text.contains("request failed"));

    assert_eq!(wants(&rig.pass(3)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(4)), ["enter"]);
    rig.take(Input::Queued(WaitReason::Slot));
    assert_eq!(rig.supervisor.record().status, Status::Queued);
    rig.take(Input::Admitted);
    assert_eq!(rig.wants(), ["launch"]);
    rig.take(launched(79));
    assert_eq!(rig.supervisor.record().limit.retry_at, None);
    let (verdict, outcome) = rig.hear(INIT).hear(TEXT).hear(OK).ends(0);
    assert_eq!((verdict, outcome.attempt), (COMPLETED, 2));
    assert!(!rig.supervisor.record().limit.rate_limited);
    assert!(rig.supervisor.record().times.limited_ms >= 3_750);
}

#[test]
fn doubles_pauses_up_to_the_retry_limit() {
    let spec =
        Spec { retry: RetryOptions { max_backoff_ms: 12_000, ..patient(3).retry }, ..patient(3) };
    let mut rig = Rig::launched(spec);
    let mut pauses = Vec::new();
    while ends_with(&mut rig, &[INIT, LIMITED], code(1)) == Conclusion::NextAttempt {
        let wait = rig.supervisor.record().limit.retry_at.unwrap().since(rig.now.wall).as_millis();
        pauses.push(wait);
        rig.pass(20);
        rig.take(Input::Admitted).take(launched(79));
    }
    let within = [(3_750, 6_250), (7_500, 12_000), (12_000, 12_000)];
    for (pause, (least, most)) in pauses.iter().zip(within) {
        assert!((least..=most).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 3);
    let record = rig.supervisor.record();
    assert_eq!((record.attempt.number, record.reason), (4, Some(Reason::RateLimit)));
    assert!(record.limit.rate_limited);
}

#[test]
fn waits_for_the_reported_end_of_a_limit() {
    let wait = |spec: Spec| {
        let mut rig = Rig::launched(spec);
        let conclusion = ends_with(&mut rig, &[INIT, RESET_IN_60, LIMITED], code(1));
        let record = rig.supervisor.record().clone();
        (conclusion, record)
    };
    let (conclusion, record) = wait(patient(1));
    assert_eq!(conclusion, Conclusion::NextAttempt);
    assert!((60_000..60_400).contains(&record.limit.retry_at.unwrap().epoch_ms()));

    let (conclusion, record) = wait(Spec {
        retry: RetryOptions { no_wait_for_reset: true, ..patient(1).retry },
        ..patient(1)
    });
    assert_eq!(conclusion, Conclusion::NextAttempt);
    assert!(record.limit.retry_at.unwrap().epoch_ms() < 10_000);

    for most in [60_000, 59_000] {
        // Other jobs may wait longer.
        let mut rig = Rig::launched(Spec {
            retry: RetryOptions { max_wait_ms: most, ..patient(1).retry },
            ..patient(1)
        });
        assert_eq!(rig.hear(RESET_IN_60).wants(), ["limit"], "{most}");
    }
    let (conclusion, record) = wait(Spec {
        retry: RetryOptions { max_wait_ms: 59_000, ..patient(1).retry },
        ..patient(1)
    });
    assert!(matches!(conclusion, Conclusion::Ended(_)));
    assert_eq!(record.reason, Some(Reason::RateLimit));
    assert_eq!(record.limit.resumable_at.unwrap().epoch_ms(), 60_000);
    assert!(record.error.unwrap().contains("1970-01-01T00:01:00"));

    let (conclusion, _) = wait(patient(0));
    assert!(matches!(conclusion, Conclusion::Ended(_)));
}

#[test]
fn the_end_of_a_limit_is_read_from_its_sentence() {
    let end = |spec, template: &str, sentence: &str| {
        let mut rig = Rig::launched(spec);
        let result = template.replace(r#""limit""#, &format!("{sentence:?}"));
        ends_with(&mut rig, &[INIT, &result], code(1));
        rig.supervisor.record().clone()
    };
    let spend_limit = LIMITED.replace("429", "400");
    for (template, sentence, ms) in [
        (LIMITED, "You've hit your limit · resets 7:49pm (UTC)", Some(71_340_000)),
        (LIMITED, "You've hit your limit · resets 7:49pm (America/New_York)", Some(2_940_000)),
        (LIMITED, "You've hit your limit · resets 7:49pm (there)", None),
        (
            &spend_limit,
            "API Error: 400 You have reached your specified API usage limits. You will regain \
             access on 1970-01-02 at 00:00 UTC.",
            Some(86_400_000),
        ),
        (&spend_limit, "You have reached your specified API usage limits.", None),
    ] {
        let record = end(Spec::default(), template, sentence);
        assert_eq!(record.reason, Some(Reason::RateLimit), "{sentence}");
        assert_eq!(record.limit.resumable_at.map(Timestamp::epoch_ms), ms, "{sentence}");
    }
    // The end is awaited, up to the limit of the caller.
    let record = end(patient(1), LIMITED, "resets 12:49am (UTC)");
    assert!((2_940_000..2_940_400).contains(&record.limit.retry_at.unwrap().epoch_ms()));
    let record = end(patient(1), LIMITED, "resets 1:01am (UTC)");
    assert_eq!(record.limit.resumable_at.map(Timestamp::epoch_ms), Some(3_660_000));
}

#[test]
fn limit_after_progress_is_not_counted() {
    let mut rig = Rig::launched(patient(1));
    for _ in 0..5 {
        let reset = rig.now.wall.epoch_ms() / 1_000 + 60;
        let event = RESET_IN_60.replace("60", &reset.to_string());
        let conclusion = ends_with(&mut rig, &[INIT, TEXT, &event, LIMITED], code(1));
        assert_eq!(conclusion, Conclusion::NextAttempt);
        rig.pass(61);
        rig.now.wall = rig.now.wall.after(Duration::from_secs(61));
        rig.take(Input::Admitted).take(launched(79));
    }
}

#[test]
fn limit_without_waiting_counts_as_an_attempt() {
    let over = RESET_IN_60.replace("60", "0");
    for (spec, event) in [
        (
            Spec {
                retry: RetryOptions { no_wait_for_reset: true, ..patient(1).retry },
                ..patient(1)
            },
            RESET_IN_60,
        ),
        (patient(1), over.as_str()),
    ] {
        let mut rig = Rig::launched(spec);
        let lines = [INIT, TEXT, event, LIMITED];
        assert_eq!(ends_with(&mut rig, &lines, code(1)), Conclusion::NextAttempt);
        rig.pass(10);
        rig.take(Input::Admitted).take(launched(79));
        assert!(matches!(ends_with(&mut rig, &lines, code(1)), Conclusion::Ended(_)), "{event}");
    }
}

#[test]
fn stop_request_while_claude_exits_is_final() {
    type Step = fn(&mut Rig);
    // When the request arrives: while claude exits, during the sweep, or while output is drained.
    let stopping: Step = |rig| {
        rig.take(Input::OutputClosed);
        rig.pass(10);
    };
    let sweeping: Step = |rig| {
        rig.take(exited(Exit { code: None, signal: Some(9) }));
    };
    let draining: Step = |rig| {
        rig.take(exited(Exit { code: None, signal: Some(9) }));
        rig.take(Input::Swept { ended: 0, left: Default::default() });
    };
    let killed = Exit { code: None, signal: Some(9) };
    for until in [stopping, sweeping, draining] {
        for (request, status, reason) in [
            (Input::KillRequested, Status::Killed, None),
            (Input::TerminateRequested, Status::Failed, Some(Reason::Terminated)),
        ] {
            let mut rig = Rig::launched(patient(3));
            rig.hear(INIT).hear(TEXT);
            until(&mut rig);
            rig.take(request);
            assert!(matches!(ends_with(&mut rig, &[], killed), Conclusion::Ended(_)));
            let record = rig.supervisor.record();
            assert_eq!((record.status, record.reason), (status, reason));
        }
        // A job with an answer keeps it.
        let mut rig = Rig::launched(patient(3));
        rig.hear(INIT).hear(OK);
        until(&mut rig);
        rig.take(Input::KillRequested);
        assert!(matches!(ends_with(&mut rig, &[], killed), Conclusion::Ended(_)));
        assert_eq!(rig.supervisor.record().status, Status::Completed);
    }
}

#[test]
fn first_wait_is_notof_elapsed_time() {
    for end in [Input::KillRequested, dependency_failed("a failed", false)] {
        let mut rig = Rig::new(Spec {
            limits: Limits { timeout_ms: Some(10_000), ..Limits::default() },
            ..Spec::default()
        });
        rig.take(Input::Queued(WaitReason::Slot));
        rig.pass(60);
        rig.take(end);
        rig.concluded("");
        let record = rig.supervisor.record();
        assert_eq!((record.times.elapsed_ms, record.times.queued_ms), (Some(0), 60_000));
    }
}

#[test]
fn queueing_time_is_notof_the_timeout() {
    let mut rig = Rig::new(Spec {
        limits: Limits { timeout_ms: Some(10_000), ..Limits::default() },
        ..Spec::default()
    });
    rig.take(Input::Queued(WaitReason::Slot));
    assert_eq!(rig.supervisor.record().status, Status::Queued);
    assert_eq!(wants(&rig.pass(60)), Vec::<&str>::new());
    rig.take(Input::Admitted);
    assert_eq!(rig.wants(), ["launch"]);
    rig.take(launched(78));
    assert_eq!(rig.supervisor.record().times.queued_ms, 60_000);
    assert_eq!(wants(&rig.pass(9)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["INT"]);
}

#[test]
fn pauses_between_attempts_count_for_the_timeout() {
    let mut rig = Rig::launched(Spec {
        limits: Limits { timeout_ms: Some(30_000), ..patient(9).limits },
        ..patient(9)
    });
    assert_eq!(
        ends_with(&mut rig, &[INIT, RESET_IN_60, LIMITED], code(1)),
        Conclusion::NextAttempt
    );
    assert_eq!(wants(&rig.pass(29)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["conclude"]);
    let (verdict, _) = {
        let outcome = rig.concluded("");
        (Verdict2(outcome.status, outcome.reason), outcome)
    };
    assert_eq!(verdict, failed(Reason::Timeout));
}

fn dependency_failed(error: &str, cut_off: bool) -> Input<'static> {
    Input::DependencyFailed(FailedDependency { error: error.to_owned(), cut_off })
}

#[test]
fn kills_a_waiting_job_at_once() {
    let mut rig = Rig::new(Spec::default());
    rig.take(Input::Queued(WaitReason::Jobs)).take(Input::KillRequested);
    assert_eq!(rig.wants(), ["conclude"]);
    assert_eq!(rig.concluded("").status, Status::Killed);

    let mut rig = Rig::new(Spec::default());
    rig.take(Input::Queued(WaitReason::Jobs));
    rig.take(dependency_failed("job a is killed", false));
    assert_eq!(rig.wants(), ["conclude"]);
    let outcome = rig.concluded("");
    assert_eq!(outcome.reason, Some(Reason::DependencyFailed));
    assert_eq!(outcome.error.as_deref(), Some("job a is killed"));
    assert!(!rig.supervisor.record().is_recoverable());

    // A dependency that was cut off may be continued, and this job with it: the record says so
    // before the result.
    let mut rig = Rig::new(Spec::default());
    rig.take(Input::Queued(WaitReason::Jobs));
    rig.take(dependency_failed("job a is failed (worker_died)", true));
    assert!(matches!(rig.effects[..], [Effect::Log(_), Effect::Save, Effect::Conclude]));
    rig.concluded("");
    assert!(rig.supervisor.record().is_recoverable());
}

#[test]
fn warns_of_silence_then_stops() {
    let spec = || Spec {
        limits: Limits {
            stall_timeout_ms: Some(60_000),
            tool_timeout_ms: 600_000,
            ..Limits::default()
        },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec());
    rig.hear(INIT);
    assert_eq!(wants(&rig.pass(29)), Vec::<&str>::new());
    rig.pass(1);
    assert!(rig.supervisor.record().warnings[0].contains("30s"), "{:?}", rig.supervisor.record());
    // Any output is enough.
    rig.hear(TEXT);
    assert_eq!(wants(&rig.pass(59)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["request"]);
    assert_eq!(rig.ends(0).0, failed(Reason::Stalled));

    // A tool may take longer, and claude may be silent while it waits for an answer or for the API.
    let mut rig = Rig::launched(spec());
    rig.hear(INIT).hear(TOOL);
    assert_eq!(wants(&rig.pass(599)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(1)), ["request"]);
    let mut rig = Rig::launched(spec());
    rig.hear(INIT).hear(ASK);
    assert_eq!(wants(&rig.pass(6_000)), Vec::<&str>::new());
    let mut rig = Rig::launched(spec());
    let hour = LIMIT.replace("2000", "3600000");
    rig.hear(INIT).hear(&hour);
    assert_eq!(wants(&rig.pass(3_600)), Vec::<&str>::new());
    assert_eq!(wants(&rig.pass(60)), ["request"]);
}

#[test]
fn silence_begins_with_new_input() {
    let spec = || Spec {
        limits: Limits {
            stall_timeout_ms: Some(60_000),
            tool_timeout_ms: 60_000,
            ..Limits::default()
        },
        ..Spec::default()
    };
    let answer = InboxMessage::Answer { request_id: "r".to_owned(), response: Value::Null };
    let message = InboxMessage::Message { uuid: "u".to_owned(), text: "more".to_owned() };
    let mut asking = Rig::launched(spec());
    asking.hear(INIT).hear(ASK);
    let mut idle = Rig::launched(Spec {
        keep_alive: KeepAliveOptions {
            enabled: true,
            idle_timeout_ms: 9_000_000,
            ..spec().keep_alive
        },
        ..spec()
    });
    idle.hear(INIT).hear(OK);
    for (mut rig, message, begins) in [(asking, answer, ""), (idle, message, INIT)] {
        rig.pass(3_600);
        rig.take(Input::Message { number: 1, message: Ok(message) });
        assert_eq!(wants(&rig.pass(9)), Vec::<&str>::new());
        rig.hear(begins);
        assert_eq!(wants(&rig.pass(20)), Vec::<&str>::new());
        assert!(rig.supervisor.record().warnings.is_empty(), "{:?}", rig.supervisor.record());
        rig.pass(20);
        assert_eq!(wants(&rig.pass(20)), ["request"]);
    }
}

#[test]
fn notifies_once_per_end_and_request() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(ASK);
    assert_eq!(rig.wants(), ["blocked"]);
    rig.hear(ANSWERED);
    assert_eq!(rig.wants(), Vec::<&str>::new());
    assert!(matches!(ends_with(&mut rig, &[TEXT, OK], code(0)), Conclusion::Ended(_)));
    assert_eq!(rig.wants(), ["completed"]);
}
