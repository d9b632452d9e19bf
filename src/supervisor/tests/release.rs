//! Questions that wait without a claude.

use super::*;
use crate::job::InboxMessage;

const ASKS: &str = r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"T","tool_use_id":"t","input":{"a":1}}}"#;
const INTERRUPTED: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools","num_turns":1,"permission_denials":[{"tool_name":"T","tool_use_id":"t"}]}"#;

fn told(rig: &mut Rig, directive: InboxMessage) -> Vec<&'static str> {
    rig.take(Input::Message { number: 1, directive: Ok(directive) }).wants()
}

fn asks() -> Rig {
    let mut rig = Rig::launched(Spec { timeout_ms: Some(60_000), ..Spec::default() });
    rig.hear(INIT).hear(ASKS);
    rig
}

/// Ends claude, and gives the conclusion.
fn concludes(rig: &mut Rig) -> Conclusion {
    rig.hear(INTERRUPTED);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(1), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    rig.supervisor.conclude(rig.now, &Evidence::default(), Vec::new).0
}

fn released() -> Rig {
    let mut rig = asks();
    assert_eq!(told(&mut rig, InboxMessage::Release), ["take out", "request"]);
    assert_eq!(concludes(&mut rig), Conclusion::NextAttempt);
    rig
}

#[test]
fn a_question_waits_without_claude_for_as_long_as_it_takes() {
    let mut rig = released();
    assert_eq!(rig.supervisor.deadline(), None);
    rig.now.mono += Duration::from_secs(86_400);
    let record = rig.supervisor.record();
    assert_eq!((record.status, record.attempt, record.denied), (Status::Blocked, 2, 0));
    let response = serde_json::json!({"behavior": "allow", "updatedInput": {"a": 1}});
    let answer = InboxMessage::Answer { request_id: "r".to_owned(), response };
    assert_eq!(told(&mut rig, answer), ["take out", "enter"]);
    rig.take(Input::Admitted).take(launched(79));
    // Its time goes on where it stopped.
    assert!(rig.supervisor.timeout().unwrap() > rig.now.mono);
    assert!(rig.supervisor.opening().text.contains(r#"T {"a":1}"#));
    assert_eq!(rig.supervisor.opening().resume.as_deref(), Some("s"));
    // Allowed once, and nothing else.
    for (input, wants) in
        [(r#"{"a":2}"#, &[][..]), (r#"{"a":1}"#, &["respond"]), ("{\"a\":1}", &[])]
    {
        rig.hear(&ASKS.replace(r#"{"a":1}"#, input));
        let wanted: Vec<_> = rig.wants().into_iter().filter(|it| *it == "respond").collect();
        assert_eq!(wanted, wants, "{input}");
    }
}

#[test]
fn an_answer_is_given_again_until_a_claude_works_on_it() {
    let mut rig = released();
    let response = serde_json::json!({"behavior": "deny", "message": "never"});
    let answer = InboxMessage::Answer { request_id: "r".to_owned(), response };
    told(&mut rig, answer);
    // Its worker dies before claude has said anything.
    let record = rig.supervisor.record().clone();
    assert_eq!(record.blocked, None);
    let next = Supervisor::new(record, 80, None, rig.now);
    assert!(next.opening().text.contains("never"));
    rig.take(Input::Admitted).take(launched(79));
    rig.hear(INIT).hear(
        r#"{"type":"assistant","message":{"model":"m","content":[{"type":"text","text":"so"}]}}"#,
    );
    rig.pass(2);
    assert_eq!(rig.supervisor.record().released, None);
}

#[test]
fn whoever_ends_the_job_ends_it_whatever_was_released() {
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
    told(&mut rig, InboxMessage::Release);
    rig.take(Input::KillRequested);
    assert!(matches!(concludes(&mut rig), Conclusion::Ended(end) if end.status == Status::Killed));
}

#[test]
fn what_asks_nothing_is_not_released() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    assert_eq!(told(&mut rig, InboxMessage::Release), ["take out"]);
    assert_eq!(rig.supervisor.record().released, None);
}
