//! Released questions.

use super::*;
use crate::job::{InboxMessage, Limits};

const ASKS: &str = r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"T","tool_use_id":"t","input":{"a":1}}}"#;
const INTERRUPTED: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools","num_turns":1,"permission_denials":[{"tool_name":"T","tool_use_id":"t"}]}"#;

fn take_message(rig: &mut Rig, message: InboxMessage) -> Vec<&'static str> {
    rig.take(Input::Message { number: 1, message: Ok(message) }).wants()
}

fn asks() -> Rig {
    let mut rig = Rig::launched(Spec {
        limits: Limits { timeout_ms: Some(60_000), ..Limits::default() },
        ..Spec::default()
    });
    rig.hear(INIT).hear(ASKS);
    rig
}

/// Ends claude and returns the conclusion.
fn concludes(rig: &mut Rig) -> Conclusion {
    rig.hear(INTERRUPTED);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(1), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    rig.conclude(&Evidence::default())
}

fn released() -> Rig {
    let mut rig = asks();
    assert_eq!(take_message(&mut rig, InboxMessage::Release), ["take out", "request"]);
    assert_eq!(concludes(&mut rig), Conclusion::NextAttempt);
    rig
}

#[test]
fn released_question_waits_without_claude() {
    let mut rig = released();
    assert_eq!(rig.supervisor.deadline(), None);
    rig.now.mono += Duration::from_secs(86_400);
    let record = rig.supervisor.record();
    assert_eq!(
        (record.status, record.attempt.number, record.progress.denied),
        (Status::Blocked, 2, 0)
    );
    let response = serde_json::json!({"behavior": "allow", "updatedInput": {"a": 1}});
    let answer = InboxMessage::Answer { request_id: "r".to_owned(), response };
    assert_eq!(take_message(&mut rig, answer), ["take out", "enter"]);
    rig.take(Input::Admitted).take(launched(79));
    // Its time continues where it stopped.
    assert!(rig.supervisor.timeout().unwrap() > rig.now.mono);
    assert!(rig.supervisor.first_prompt().text.contains(r#"T {"a":1}"#));
    assert_eq!(rig.supervisor.first_prompt().resume.as_deref(), Some("s"));
    // Allowed once and for this call only.
    for (input, wants) in
        [(r#"{"a":2}"#, &[][..]), (r#"{"a":1}"#, &["respond"]), ("{\"a\":1}", &[])]
    {
        rig.hear(&ASKS.replace(r#"{"a":1}"#, input));
        let wanted: Vec<_> = rig.wants().into_iter().filter(|it| *it == "respond").collect();
        assert_eq!(wanted, wants, "{input}");
    }
}

#[test]
fn sends_the_answer_until_claude_works_on_it() {
    let mut rig = released();
    let response = serde_json::json!({"behavior": "deny", "message": "never"});
    let answer = InboxMessage::Answer { request_id: "r".to_owned(), response };
    take_message(&mut rig, answer);
    // The worker dies before claude has answered.
    let record = rig.supervisor.record().clone();
    assert_eq!(record.blocked, None);
    let next = new_worker(record, 80, rig.now);
    assert!(next.first_prompt().text.contains("never"));
    rig.take(Input::Admitted).take(launched(79));
    rig.hear(INIT).hear(
        r#"{"type":"assistant","message":{"model":"m","content":[{"type":"text","text":"so"}]}}"#,
    );
    rig.pass(2);
    assert_eq!(rig.supervisor.record().progress.released, None);
}

#[test]
fn stop_request_ends_a_released_job() {
    for (input, verdict) in
        [(Input::KillRequested, KILLED), (Input::TerminateRequested, failed(Reason::Terminated))]
    {
        let mut rig = released();
        assert_eq!(rig.take(input).wants(), ["conclude"]);
        let outcome = rig.concluded("");
        assert_eq!(Verdict2(outcome.status, outcome.reason), verdict);
        let held = rig.supervisor.record().released_question().is_some();
        assert_eq!(held, verdict.0 == Status::Failed, "what is cut off goes on");
    }
    let mut rig = asks();
    take_message(&mut rig, InboxMessage::Release);
    rig.take(Input::KillRequested);
    assert!(matches!(concludes(&mut rig), Conclusion::Ended(end) if end.status == Status::Killed));
}

#[test]
fn does_not_release_without_a_question() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    assert_eq!(take_message(&mut rig, InboxMessage::Release), ["take out"]);
    assert_eq!(rig.supervisor.record().progress.released, None);
}
