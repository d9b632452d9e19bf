//! What a job is told while it runs.

use super::*;
use crate::job::InboxMessage;

fn message(number: u64, uuid: &str) -> Input<'static> {
    let (uuid, text) = (uuid.to_owned(), "and this".to_owned());
    Input::Message { number, directive: Ok(InboxMessage::Message { uuid, text }) }
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
fn a_message_in_a_turn_is_taken_into_it() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT);
    assert_eq!(rig.take(message(1, "u1")).wants(), ["tell"]);
    assert_eq!(rig.hear(&taken("u1")).wants(), ["set aside"]);
    rig.hear(OK);
    assert_eq!((turns(&rig), rig.wants()), (vec![vec![1]], vec!["take out", "close"]));
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn a_message_that_the_turn_did_not_take_in_has_one_of_its_own() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message(1, "u1"));
    assert_eq!(rig.hear(OK).wants(), [""; 0], "stdin stays open");
    rig.hear(INIT).hear(&taken("u1")).hear(TEXT);
    assert_eq!(rig.hear(OK).wants(), ["take out", "close"]);
    assert_eq!(turns(&rig), [[1]]);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn a_message_that_is_never_taken_in_does_not_hold_the_job() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(message(1, "u1")).hear(OK);
    assert_eq!(wants(&rig.pass(10)), ["close"]);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn a_message_that_comes_too_late_stays_where_it_is() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    assert_eq!(rig.take(message(1, "u1")).wants(), [""; 0]);
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    assert_eq!(rig.take(message(1, "u1")).wants(), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_taken_out_and_told() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    rig.take(Input::Message { number: 4, directive: Err("no JSON".to_owned()) });
    assert_eq!(rig.wants(), ["take out"]);
    assert!(rig.supervisor.record().warnings[0].contains("message 4 could not be read"));
    rig.hear(OK);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn an_interrupt_stops_a_turn_and_nothing_else() {
    let interrupt = || Input::Message { number: 1, directive: Ok(InboxMessage::Interrupt) };
    let mut rig = Rig::launched(Spec::default());
    assert_eq!(rig.take(interrupt()).wants(), ["take out"], "no turn has begun");
    rig.hear(INIT).hear(TEXT);
    assert_eq!(rig.take(interrupt()).wants(), ["take out", "interrupt"]);
    let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools"}"#;
    assert_eq!(rig.hear(aborted).wants(), ["close"]);
    assert_eq!(rig.ends(0).0, failed(Reason::Interrupted));
}

#[test]
fn what_was_not_delivered_is_in_the_result() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(0), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let left = || vec![UndeliveredMessage { number: 3, text: "late".to_owned() }];
    let (conclusion, _) = rig.supervisor.conclude(rig.now, &Evidence::default(), left);
    let Conclusion::Ended(outcome) = conclusion else { panic!() };
    assert_eq!((outcome.status, outcome.undelivered.len()), (Status::Completed, 1));
    assert!(outcome.warnings[0].contains("1 message not delivered"), "{:?}", outcome.warnings);
}

#[test]
fn messages_that_claude_repeats_unasked_are_no_reason_to_save() {
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
