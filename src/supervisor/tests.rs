//! Tables over state and input, and the verdict of each recorded stream: whole, cut after each
//! line, and cut at each byte.

mod answers;
mod conversation;
mod costs;
mod ends;
mod frozen;
mod fuzz;
mod odd;
mod patience;
mod recording;
mod recovery;
mod reference;
mod release;
mod scheduled;
mod stopping;
mod streams;
mod transient;

use super::*;
use crate::job::{
    ClaudeOptions, EventLine, Exit, FailOn, JobId, LeftProcess, LeftReason, Leftovers, Limits,
    Outcome, Reason, Spec, Timestamp, UndeliveredMessage, WaitReason,
};
use crate::stream::{Line, LineSplitter};

const TRANSCRIPTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/transcripts/2.1.197");

/// A supervisor with a manual clock.
struct Rig {
    supervisor: Supervisor,
    now: Now,
    effects: Vec<Effect>,
}

impl Rig {
    fn new(spec: Spec) -> Self {
        let now = Now { mono: Duration::ZERO, wall: Timestamp::from_epoch_ms(0).unwrap() };
        let id = JobId::parse("job").unwrap();
        let record = Record::new(id, spec, "do it".to_owned(), now.wall);
        let boot_id = Some("boot".to_owned());
        let start = WorkerStart { pid: 77, boot_id, ..WorkerStart::default() };
        Self { supervisor: Supervisor::new(record, start, now), now, effects: Vec::new() }
    }

    /// Creates a rig whose claude runs.
    fn launched(spec: Spec) -> Self {
        let mut rig = Self::new(spec);
        rig.take(launched(78));
        rig
    }

    fn take(&mut self, input: Input<'_>) -> &mut Self {
        self.effects = self.supervisor.handle(self.now, input);
        self
    }

    fn hear(&mut self, line: &str) -> &mut Self {
        let bytes = line.as_bytes();
        self.take(Input::Line(Line { bytes, length: bytes.len() as u64 }))
    }

    /// Advances the clock by `seconds`, with a tick at each deadline on the way.
    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        let until = self.now.mono + Duration::from_secs(seconds);
        let mut effects = Vec::new();
        while let Some(at) = self.supervisor.deadline().filter(|at| *at <= until) {
            self.now.mono = self.now.mono.max(at);
            effects.extend(self.supervisor.handle(self.now, Input::Tick));
        }
        self.now.mono = until;
        effects
    }

    /// Returns the effects without the writing ones.
    fn wants(&self) -> Vec<&'static str> {
        wants(&self.effects)
    }

    fn ends(&mut self, code: i32) -> (Verdict2, Outcome) {
        self.take(Input::OutputClosed);
        self.take(exited(Exit { code: Some(code), signal: None }));
        self.concludes("")
    }

    fn concludes(&mut self, stderr: &str) -> (Verdict2, Outcome) {
        self.take(Input::Swept { ended: 0, left: Default::default() });
        self.pass(5);
        let outcome = self.concluded(stderr);
        (Verdict2(outcome.status, outcome.reason), outcome)
    }

    fn conclude(&mut self, evidence: &Evidence<'_>) -> Conclusion {
        self.conclude_with(evidence, Vec::new())
    }

    /// Ends the attempt, and the job if no other one follows.
    fn conclude_with(
        &mut self,
        evidence: &Evidence<'_>,
        undelivered: Vec<UndeliveredMessage>,
    ) -> Conclusion {
        self.take(Input::AttemptEnded(*evidence));
        if self.effects.contains(&Effect::PrepareAttempt) {
            return Conclusion::NextAttempt;
        }
        assert_eq!(self.effects, [Effect::CloseInbox]);
        self.take(Input::InboxClosed { undelivered });
        match self.effects.remove(0) {
            Effect::End(outcome) => Conclusion::Ended(outcome),
            effect => panic!("{effect:?}"),
        }
    }

    fn concluded(&mut self, stderr: &str) -> Outcome {
        let evidence = Evidence { stderr, ..Evidence::default() };
        match self.conclude(&evidence) {
            Conclusion::Ended(outcome) => *outcome,
            Conclusion::NextAttempt => panic!("another attempt"),
        }
    }
}

/// What follows an attempt.
#[derive(Debug, PartialEq)]
enum Conclusion {
    Ended(Box<Outcome>),
    NextAttempt,
}

/// Creates the supervisor of a worker with this process id.
fn new_worker(record: Record, pid: i32, now: Now) -> Supervisor {
    Supervisor::new(record, WorkerStart { pid, ..WorkerStart::default() }, now)
}

/// Whether the job waits for its next attempt.
fn is_backing_off(supervisor: &Supervisor) -> bool {
    matches!(
        supervisor.phase,
        WorkerPhase::Backoff { .. } | WorkerPhase::Waiting { .. } | WorkerPhase::Released { .. }
    )
}

fn launched(pid: i32) -> Input<'static> {
    let (session_id, program) = ("s".to_owned(), "claude".to_owned());
    Input::Launched { pid, session_id, program, arguments: Vec::new() }
}

fn exited(exit: Exit) -> Input<'static> {
    Input::Exited { exit, stderr: None }
}

fn wants(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Save | Effect::Log(_) | Effect::AppendTurn(_) => None,
        Effect::SendMessage { .. } => Some("send"),
        Effect::Respond { .. } => Some("respond"),
        Effect::Launch | Effect::Relaunch => Some("launch"),
        Effect::LeaveQueue => Some("leave"),
        Effect::EnterQueue => Some("enter"),
        Effect::Requeue(_) => Some("requeue"),
        Effect::Freeze(_) => Some("freeze"),
        Effect::CheckPause => None,
        Effect::Thaw => Some("thaw"),
        Effect::Limited(_) => Some("limit"),
        // Each attempt in which the model answers has this effect.
        Effect::Answered(_) => None,
        Effect::RecordNotification(event) => Some(event.as_str()),
        Effect::Interrupt(_) => Some("interrupt"),
        Effect::RemoveMessage(_) => Some("take out"),
        Effect::SetAside(_) => Some("set aside"),
        Effect::RestoreAside => Some("give back"),
        Effect::CloseInput => Some("close"),
        Effect::Signal(TermSignal::Request) => Some("request"),
        Effect::Signal(TermSignal::Interrupt) => Some("INT"),
        Effect::Signal(TermSignal::Terminate) => Some("TERM"),
        Effect::Sweep(_) => Some("sweep"),
        Effect::Conclude => Some("conclude"),
        Effect::PrepareAttempt | Effect::CloseInbox | Effect::End(_) => None,
    };
    effects.iter().filter_map(name).collect()
}

/// Status and reason of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict2(Status, Option<Reason>);

const COMPLETED: Verdict2 = Verdict2(Status::Completed, None);
const KILLED: Verdict2 = Verdict2(Status::Killed, None);

fn failed(reason: Reason) -> Verdict2 {
    Verdict2(Status::Failed, Some(reason))
}

const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s","model":"m"}"#;
const TEXT: &str =
    r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"text","text":"hm"}]}}"#;
const OK: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":1}"#;
const ASK: &str = r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"Write","input":{},"tool_use_id":"t"}}"#;
const ANSWERED: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":""}]}}"#;
const AUTH: &str = r#"{"type":"system","subtype":"api_retry","error":"authentication_failed"}"#;
const LIMIT: &str =
    r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":2000}"#;
const TASK: &str = r#"{"type":"system","subtype":"task_started","task_id":"b"}"#;
const TASK_DONE: &str =
    r#"{"type":"system","subtype":"task_notification","task_id":"b","status":"completed"}"#;
const TASK_STOPPED: &str =
    r#"{"type":"system","subtype":"task_notification","task_id":"b","status":"stopped"}"#;

/// The expected verdict of each recorded stream, and how its claude exited.
fn table() -> Vec<(&'static str, Verdict2, Exit, &'static str)> {
    let exit = |code| Exit { code: Some(code), signal: None };
    let row = |name, verdict, code| (name, verdict, exit(code), "");
    vec![
        row("success", COMPLETED, 0),
        row("tool_use", COMPLETED, 0),
        row("two_turns", COMPLETED, 0),
        row("steered_mid_turn", COMPLETED, 0),
        row("rate_limited_then_ok", COMPLETED, 0),
        row("server_error_then_ok", COMPLETED, 0),
        row("rate_limited_failed", failed(Reason::RateLimit), 1),
        row("overloaded_failed", failed(Reason::Overloaded), 1),
        row("bad_api_key", failed(Reason::Auth), 1),
        row("not_logged_in", failed(Reason::Auth), 1),
        row("malformed_api_answer", failed(Reason::ApiError), 1),
        row("max_turns", failed(Reason::MaxTurns), 1),
        row("max_budget", failed(Reason::MaxBudget), 1),
        row("permission_denied", COMPLETED, 0),
        row("permission_request", COMPLETED, 0),
        row("question", COMPLETED, 0),
        row("background_task", COMPLETED, 0),
        row("background_task_cut", COMPLETED, 0),
        row("structured_output", failed(Reason::InvalidOutput), 0),
        row("partial_messages", COMPLETED, 0),
        row("interrupted_by_control_request", failed(Reason::Interrupted), 1),
        row("interrupted_by_sigint", failed(Reason::Interrupted), 0),
        row("terminated_by_sigterm", failed(Reason::NoResult), 143),
        ("killed_by_sigkill", failed(Reason::NoResult), Exit { code: None, signal: Some(9) }, ""),
        (
            "unknown_session",
            failed(Reason::ClaudeRefused),
            exit(1),
            "No conversation found with session ID: 11111111-1111-4111-8111-111111111111",
        ),
        (
            "root_refused",
            failed(Reason::ClaudeRefused),
            exit(1),
            "--dangerously-skip-permissions cannot be used with root/sudo privileges",
        ),
        ("unknown_flag", failed(Reason::ClaudeRefused), exit(1), "error: unknown option '--no'"),
    ]
}

fn spec_of(name: &str) -> Spec {
    let json_schema = (name == "structured_output").then(|| "{}".to_owned());
    Spec {
        options: ClaudeOptions { json_schema, ..ClaudeOptions::default() },
        limits: Limits { background_wait_ms: 60_000, ..Limits::default() },
        ..Spec::default()
    }
}

/// Runs a stream of these bytes; claude then exits with `exit`.
fn run(name: &str, stream: &[u8], exit: Exit, stderr: &str) -> (Verdict2, Rig, Outcome) {
    let mut rig = Rig::launched(spec_of(name));
    let mut splitter = LineSplitter::default();
    splitter.push(stream, |line| {
        rig.take(Input::Line(line));
    });
    splitter.finish(|line| {
        rig.take(Input::Torn(line));
    });
    rig.take(Input::OutputClosed);
    rig.take(exited(exit));
    let (verdict, outcome) = rig.concludes(stderr);
    (verdict, rig, outcome)
}

fn transcript(name: &str) -> Vec<u8> {
    std::fs::read(format!("{TRANSCRIPTS}/{name}.ndjson")).unwrap()
}

#[test]
fn judges_every_recorded_stream() {
    let mut seen = 0;
    for (name, expected, exit, stderr) in table() {
        let (verdict, rig, outcome) = run(name, &transcript(name), exit, stderr);
        assert_eq!(verdict, expected, "{name}: {:?}", outcome.error);
        if verdict == failed(Reason::ClaudeRefused) {
            assert_eq!(outcome.error.as_deref(), Some(stderr), "{name}");
        }
        assert_eq!(outcome.error.is_some(), verdict.0 == Status::Failed, "{name}");
        assert_eq!(rig.supervisor.record().status, verdict.0);
        seen += 1;
    }
    assert_eq!(seen, std::fs::read_dir(TRANSCRIPTS).unwrap().count());
}

#[test]
fn a_kill_makes_every_unfinished_stream_killed() {
    for (name, _, exit, stderr) in table() {
        let stream = transcript(name);
        let mut rig = Rig::launched(spec_of(name));
        rig.take(Input::KillRequested);
        let mut splitter = LineSplitter::default();
        splitter.push(&stream, |line| {
            rig.take(Input::Line(line));
        });
        rig.take(Input::OutputClosed);
        rig.take(exited(exit));
        assert_eq!(rig.concludes(stderr).0, KILLED, "{name}");
    }
}

#[test]
fn a_cut_stream_is_never_falsely_completed() {
    for (name, expected, _, _) in table() {
        let stream = transcript(name);
        // A stream is done only if the last turn has its result and nothing is open. Cuts: near the
        // end of each line, inside each character, and every seventh byte.
        let is_tested = |cut: usize| {
            let near = &stream[cut.saturating_sub(3)..(cut + 3).min(stream.len())];
            cut.is_multiple_of(7) || near.contains(&b'\n') || stream[cut] & 0xc0 == 0x80
        };
        for cut in (0..stream.len()).filter(|cut| is_tested(*cut)) {
            let exit = Exit { code: None, signal: Some(9) };
            let (verdict, _, outcome) = run(name, &stream[..cut], exit, "");
            if verdict != COMPLETED {
                continue;
            }
            let heard = String::from_utf8_lossy(&stream[..cut]).into_owned();
            let last = heard.lines().rfind(|line| !line.is_empty()).unwrap();
            assert!(expected == COMPLETED, "{name} cut at {cut}");
            let whole_result = last.contains(r#""type":"result""#) && last.ends_with('}');
            let task_over = name == "background_task_cut" && last.contains(r#""subtype":"task_"#);
            assert!(whole_result || task_over, "{name} cut at {cut}: {last}");
            assert!(outcome.result.is_some(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn totals_of_recorded_streams() {
    let of = |name: &str| {
        let (_, _, exit, stderr) = table().into_iter().find(|row| row.0 == name).unwrap();
        let (_, rig, outcome) = run(name, &transcript(name), exit, stderr);
        (rig.supervisor.record().clone(), outcome)
    };
    let (record, outcome) = of("two_turns");
    assert_eq!((record.progress.num_turns, outcome.result.as_deref()), (2, Some("second answer")));
    assert_eq!(record.cost.usd, Some(0.0145));
    assert_eq!(of("background_task").1.result.as_deref(), Some("it printed 42"));
    let warnings = of("background_task_cut").0.warnings;
    assert!(warnings[0].contains("background task stopped before"), "{warnings:?}");
    for (name, limited) in [
        ("rate_limited_failed", true),
        ("overloaded_failed", true),
        ("rate_limited_then_ok", false),
        ("server_error_then_ok", false),
    ] {
        assert_eq!(of(name).0.limit.rate_limited, limited, "{name}");
    }
    for name in ["max_turns", "max_budget"] {
        let (record, _) = of(name);
        assert!(record.cost.usd.is_some() && record.progress.num_turns > 0, "{name}");
    }
    let (record, outcome) = of("permission_denied");
    assert_eq!(outcome.permission_denials.len(), 1);
    assert!(
        record.warnings[0].contains("denied: 1 tool call (Write /etc/nothing.txt)"),
        "{:?}",
        record.warnings
    );
    let error = |name: &str| of(name).1.error.unwrap();
    assert!(error("terminated_by_sigterm").contains("SIGTERM"));
    assert!(error("killed_by_sigkill").contains("SIGKILL"));
}

#[test]
fn shows_the_limit_while_it_lasts() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(LIMIT);
    assert!(rig.effects.contains(&Effect::Save), "at once");
    let record = rig.supervisor.record();
    assert!(record.limit.rate_limited);
    assert_eq!(record.limit.retry_at, Timestamp::from_epoch_ms(2_000));
    rig.hear(TEXT);
    assert!(rig.effects.contains(&Effect::Save), "at once");
    assert!(!rig.supervisor.record().limit.rate_limited);
    assert_eq!(rig.supervisor.record().limit.retry_at, None);
}

#[test]
fn denials_fail_a_job_with_fail_on_denial() {
    let spec = Spec { fail_on: FailOn { denial: true, ..FailOn::default() }, ..Spec::default() };
    let mut rig = Rig::launched(spec);
    for line in String::from_utf8(transcript("permission_denied")).unwrap().lines() {
        rig.hear(line);
    }
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, failed(Reason::PermissionDenied));
    assert!(outcome.error.unwrap().contains("Write"));
}

#[test]
fn a_blocked_job_is_blocked_until_the_answer() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(ASK);
    assert_eq!(rig.supervisor.record().status, Status::Blocked);
    assert_eq!(rig.supervisor.record().blocked.as_ref().unwrap().request_id, "r");
    rig.hear(ANSWERED);
    assert_eq!(rig.supervisor.record().status, Status::Running);
    assert_eq!(rig.supervisor.record().blocked, None);
}

#[test]
fn holds_stdin_open_for_background_work() {
    let mut rig = Rig::launched(spec_of(""));
    assert_eq!(rig.hear(INIT).hear(OK).wants(), ["close"]);

    let mut rig = Rig::launched(spec_of(""));
    assert_eq!(rig.hear(TASK).hear(OK).wants(), [""; 0], "held");
    assert_eq!(rig.hear(TASK_DONE).wants(), [""; 0], "the follow-up turn is to come");
    assert_eq!(rig.hear(TEXT).wants(), [""; 0]);
    assert_eq!(rig.hear(OK).wants(), ["close"]);

    let mut rig = Rig::launched(spec_of(""));
    rig.hear(TASK).hear(OK).hear(TASK_DONE);
    assert_eq!(wants(&rig.pass(11)), ["close"], "no follow-up turn came");
    assert_eq!(rig.ends(0).0, COMPLETED);

    let mut rig = Rig::launched(spec_of(""));
    rig.hear(TASK).hear(OK);
    assert_eq!(wants(&rig.pass(61)), ["close"], "--background-wait ran out");
    let (verdict, outcome) = rig.hear(TASK_STOPPED).ends(0);
    assert_eq!(verdict, COMPLETED);
    assert!(outcome.warnings.iter().any(|warning| warning.contains("--background-wait")));

    // Another turn follows: the wait begins anew after its result.
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(TASK).hear(OK).hear(INIT).hear(TEXT);
    assert_eq!(wants(&rig.pass(120)), [""; 0]);
    rig.hear(OK);
    assert_eq!(wants(&rig.pass(61)), ["close"]);
}

#[test]
fn three_refused_logins_in_a_row_end_the_job() {
    let mut rig = Rig::launched(Spec::default());
    assert_eq!(rig.hear(INIT).hear(AUTH).hear(AUTH).wants(), [""; 0]);
    assert_eq!(rig.hear(AUTH).wants(), ["request"]);
    assert_eq!(rig.ends(0).0, failed(Reason::Auth));
    let mut rig = Rig::launched(Spec::default());
    rig.hear(AUTH).hear(AUTH).hear(TEXT).hear(AUTH);
    assert_eq!(rig.wants(), [""; 0]);
}

#[test]
fn claude_without_output_has_no_result() {
    for (exit, stderr, reason, word) in [
        (0, "", Reason::NoResult, "exit code 0"),
        (0, "bye", Reason::NoResult, "bye"),
        (1, "", Reason::NoResult, "exit code 1"),
        (1, "\n  no such model\nmore", Reason::ClaudeRefused, "no such model"),
        (139, "", Reason::NoResult, "SIGSEGV"),
    ] {
        let exit = Exit { code: Some(exit), signal: None };
        let (verdict, _, outcome) = run("", b"", exit, stderr);
        assert_eq!(verdict, failed(reason), "{exit:?} {stderr}");
        assert!(outcome.error.as_ref().unwrap().contains(word), "{:?}", outcome.error);
    }
}

#[test]
fn garbage_is_counted_and_never_a_success() {
    let garbage: Vec<u8> =
        (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (verdict, rig, _) = run("", &garbage, Exit { code: Some(0), signal: None }, "");
    assert_eq!(verdict, failed(Reason::NoResult));
    assert!(rig.supervisor.record().warnings[0].contains("undecodable line"));
}

#[test]
fn damaged_assistant_event_after_result_opens_a_turn() {
    // Found by the fuzzer: with a duplicate key it is not an event.
    let twice =
        r#"{"type":"assistant","uuid":"a","message":{"content":[]},"message":{"content":[]}}"#;
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK).hear(twice);
    assert_eq!(rig.ends(0).0, failed(Reason::NoResult));
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK).hear("and a word of some wrapper");
    assert_eq!(rig.ends(0).0, COMPLETED);
}
