//! A reference model of the verdict: random sequences of events, judged from their meaning by a
//! few lines that share no code with the program and never see the JSON.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::fuzz::{config, run_in};
use super::*;

/// An event of claude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    /// A message from outside is accepted.
    Message,
    Text,
    Call,
    CallEnds,
    TaskStarts,
    TaskEnds,
    TaskStops,
    SchedulesWakeup,
    CancelsWakeup,
    WakeupFires,
    Answers,
    SaysNothing,
    /// A result without a request to the model.
    NotAsked,
    Fails(Reason),
}

const STEPS: [Step; 19] = [
    Step::Begin,
    Step::Message,
    Step::Text,
    Step::Call,
    Step::CallEnds,
    Step::TaskStarts,
    Step::TaskEnds,
    Step::TaskStops,
    Step::SchedulesWakeup,
    Step::CancelsWakeup,
    Step::WakeupFires,
    // Twice as often as the others.
    Step::Answers,
    Step::Answers,
    Step::SaysNothing,
    Step::NotAsked,
    Step::Fails(Reason::MaxTurns),
    Step::Fails(Reason::Interrupted),
    Step::Fails(Reason::Overloaded),
    Step::Fails(Reason::PromptTooLong),
];

impl Step {
    fn line(self) -> &'static str {
        match self {
            Self::Begin => INIT,
            Self::Message => {
                r#"{"type":"user","isReplay":true,"uuid":"u","message":{"content":"more"}}"#
            }
            Self::Text => TEXT,
            Self::Call => {
                r#"{"type":"assistant","message":{"id":"m2","content":[{"type":"tool_use","id":"t","name":"Read","input":{}}]}}"#
            }
            Self::CallEnds => ANSWERED,
            Self::TaskStarts => TASK,
            Self::TaskEnds => TASK_DONE,
            Self::TaskStops => TASK_STOPPED,
            Self::SchedulesWakeup => {
                r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"wk"}]},"tool_use_result":{"scheduledFor":60000}}"#
            }
            Self::CancelsWakeup => {
                r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"wk"}]},"tool_use_result":{"scheduledFor":0,"stopped":true}}"#
            }
            Self::WakeupFires => {
                r#"{"type":"command_lifecycle","command_uuid":"w","state":"started","wakeup_source":"loop_wakeup"}"#
            }
            Self::Answers => OK,
            Self::SaysNothing => {
                r#"{"type":"result","subtype":"success","is_error":false,"result":" ","usage":{"input_tokens":5,"output_tokens":1}}"#
            }
            Self::NotAsked => {
                r#"{"type":"result","subtype":"success","is_error":false,"result":"/help isn't available","num_turns":0,"total_cost_usd":0,"usage":{"input_tokens":0,"output_tokens":0},"model_usage_since_last_result":{}}"#
            }
            Self::Fails(Reason::MaxTurns) => {
                r#"{"type":"result","subtype":"error_max_turns","is_error":true}"#
            }
            Self::Fails(Reason::Interrupted) => {
                r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools"}"#
            }
            Self::Fails(Reason::Overloaded) => {
                r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"no"}"#
            }
            Self::Fails(_) => {
                r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":400,"result":"prompt is too long: 2 > 1"}"#
            }
        }
    }
}

/// What a turn has said so far.
#[derive(Default)]
struct Turn {
    model_spoke: bool,
    /// Whether text followed the last tool call.
    ends_with_text: bool,
}

/// A job whose claude exits by itself, with 0, after the last event.
#[derive(Default)]
struct Reference {
    turn: Option<Turn>,
    /// How the last turn ended.
    last: Option<Result<(), Reason>>,
    /// Whether the last message from outside has an answer.
    has_answer: bool,
    task_runs: bool,
    /// Whether claude is about to begin a turn on a task that has ended.
    owes_turn: bool,
    wakeup_is_set: bool,
    /// Whether claude was told that no message follows: what it still runs is not awaited.
    is_dismissed: bool,
}

impl Reference {
    fn take(&mut self, step: Step) {
        match step {
            Step::TaskStarts => self.task_runs = true,
            Step::TaskEnds | Step::TaskStops => {
                let is_between_turns = self.turn.is_none() && self.last.is_some();
                if self.task_runs && is_between_turns && step == Step::TaskEnds {
                    self.owes_turn = true;
                }
                self.task_runs = false;
            }
            Step::Answers | Step::SaysNothing | Step::NotAsked | Step::Fails(_) => {
                self.end_turn(step);
            }
            _ => self.act(step),
        }
        let is_at_rest =
            self.last.is_some() && self.turn.is_none() && !self.task_runs && !self.owes_turn;
        let has_failed = matches!(self.last, Some(Err(reason)) if reason != Reason::PromptRejected);
        let awaits_wakeup = self.wakeup_is_set && !has_failed;
        if is_at_rest && !awaits_wakeup {
            self.is_dismissed = true;
        }
    }

    /// Takes what belongs to a turn and does not end it.
    fn act(&mut self, step: Step) {
        self.owes_turn = false;
        let turn = self.turn.get_or_insert_default();
        match step {
            Step::Text => (turn.model_spoke, turn.ends_with_text) = (true, true),
            Step::Call => (turn.model_spoke, turn.ends_with_text) = (true, false),
            Step::Message => self.has_answer = false,
            Step::SchedulesWakeup => self.wakeup_is_set = true,
            Step::CancelsWakeup | Step::WakeupFires => self.wakeup_is_set = false,
            _ => {}
        }
    }

    fn end_turn(&mut self, result: Step) {
        self.owes_turn = false;
        let turn = self.turn.take().unwrap_or_default();
        self.last = Some(match result {
            Step::Fails(reason) => Err(reason),
            Step::NotAsked if !turn.model_spoke => Err(Reason::PromptRejected),
            _ => Ok(()),
        });
        let says = result != Step::SaysNothing || turn.ends_with_text;
        if self.last == Some(Ok(())) && says {
            self.has_answer = true;
        }
    }

    fn verdict(&self, is_torn: bool) -> Verdict2 {
        let is_left = (self.task_runs || self.owes_turn) && !self.is_dismissed;
        match self.last {
            None => failed(Reason::NoResult),
            Some(_) if self.turn.is_some() => failed(Reason::NoResult),
            // What the API or the user refused is known, whatever came after it.
            Some(Err(reason)) if reason != Reason::PromptRejected => failed(reason),
            Some(_) if is_torn || is_left => failed(Reason::NoResult),
            Some(_) if self.wakeup_is_set => failed(Reason::WakeupMissed),
            Some(Err(reason)) => failed(reason),
            Some(Ok(())) if !self.has_answer => failed(Reason::NoAnswer),
            Some(Ok(())) => COMPLETED,
        }
    }
}

proptest! {
    // Many: the sequences that matter are rare, and each is short.
    #![proptest_config(config(4_000))]

    #[test]
    fn verdicts_agree_with_the_reference(
        steps in vec(select(&STEPS[..]), 0..14),
        is_torn in proptest::bool::weighted(0.1),
    ) {
        let mut reference = Reference::default();
        let mut stream = String::new();
        for step in steps {
            reference.take(step);
            stream += step.line();
            stream.push('\n');
        }
        if is_torn {
            stream += "{\"type\":\"sys";
        }
        let expected = reference.verdict(is_torn);

        let (record, _) = run_in(stream.as_bytes(), &[usize::MAX]);
        prop_assert_eq!(Verdict2(record.status, record.reason), expected, "{}", stream);
        // The stream of a lost job does not tell whether claude was dismissed.
        reference.is_dismissed = false;
        let expected = reference.verdict(is_torn);
        let record = Rig::launched(Spec::default()).supervisor.record().clone();
        let (lost, _) = recovery::examine(&record, &stream, None);
        prop_assert_eq!(lost.status == Status::Completed, expected == COMPLETED, "{}", stream);
    }
}
