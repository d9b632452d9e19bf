//! Messages to a running job.

use super::*;
use crate::job::InboxMessage;

fn message(number: u64, uuid: &str) -> Input<'static> {
    let (uuid, text) = (uuid.to_owned(), "and this".to_owned());
    Input::Message { number, message: Ok(InboxMessage::Message { uuid, text }) }
}

fn taken(uuid: &str) -> String {
    format!(
        r#"{{"type":"user","isReplay":true,"uuid":"{uuid}","message":{{"role":"user","content":"and this"}}}}"#
    )
}

fn turns(rig: &Rig) -> Vec<Vec<u64>> {
    let turns = rig.effects.iter().filter_map(|effect| match effect {
        Effect::AppendTurn(end) => Some(end.messages.clone()),
        _ => None,
    });
    turns.collect()
}

#[test]
fn accepts_a_message_within_a_turn() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT);
    assert_eq!(rig.take(message(1, "u1")).wants(), ["send"]);
    assert_eq!(rig.hear(&taken("u1")).wants(), ["set aside"]);
    rig.hear(OK);
    assert_eq!((turns(&rig), rig.wants()), (vec![vec![1]], vec!["take out", "close"]));
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn gives_an_unaccepted_message_its_own_turn() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message(1, "u1"));
    assert_eq!(rig.hear(OK).wants(), [""; 0], "stdin stays open");
    rig.hear(INIT).hear(&taken("u1")).hear(TEXT);
    assert_eq!(rig.hear(OK).wants(), ["take out", "close"]);
    assert_eq!(turns(&rig), [[1]]);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn does_not_wait_for_a_message_never_accepted() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message(1, "u1")).hear(OK);
    assert_eq!(wants(&rig.pass(10)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn leaves_late_messages_in_the_inbox() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    assert_eq!(rig.take(message(1, "u1")).wants(), [""; 0]);
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    assert_eq!(rig.take(message(1, "u1")).wants(), [""; 0]);
}

#[test]
fn removes_and_reports_unreadable_messages() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    rig.take(Input::Message { number: 4, message: Err("no JSON".to_owned()) });
    assert_eq!(rig.wants(), ["take out"]);
    assert!(rig.supervisor.record().warnings[0].contains("message 4 could not be read"));
    rig.hear(OK);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn interrupt_stops_only_the_turn() {
    let interrupt = || Input::Message { number: 1, message: Ok(InboxMessage::Interrupt) };
    let mut rig = Rig::launched(Spec::default());
    assert_eq!(rig.take(interrupt()).wants(), ["take out"], "no turn has begun");
    rig.hear(INIT).hear(TEXT);
    assert_eq!(rig.take(interrupt()).wants(), ["take out", "interrupt"]);
    let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools"}"#;
    assert_eq!(rig.hear(aborted).wants(), ["close"]);
    assert_eq!(rig.ends(0).0, failed(Reason::Interrupted));
}

#[test]
fn lists_undelivered_messages_in_the_result() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(0), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let left = vec![UndeliveredMessage { number: 3, text: "late".to_owned() }];
    let conclusion = rig.conclude_with(&Evidence::default(), left);
    let Conclusion::Ended(outcome) = conclusion else { panic!() };
    assert_eq!((outcome.status, outcome.undelivered.len()), (Status::Completed, 1));
    assert!(outcome.warnings[0].contains("1 message not delivered"), "{:?}", outcome.warnings);
}

#[test]
fn does_not_save_for_repeated_unknown_messages() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message(1, "u1"));
    let saves = |rig: &Rig| rig.effects.iter().any(|effect| matches!(effect, Effect::Save));
    rig.hear(&taken("u1"));
    assert!(saves(&rig), "it was expected");
    for _ in 0..3 {
        rig.hear(&taken("u1"));
        assert!(!saves(&rig), "it is known");
        rig.hear(&taken("x"));
        assert!(!saves(&rig), "nobody sent it");
    }
}
