//! Frozen jobs, whose clock stands still.

use super::*;
use crate::job::{AskOptions, FreezeSkip, InboxMessage, KeepAliveOptions, Limits, WaitKind};

const DAY: u64 = 86_400;

impl Rig {
    fn freeze(&mut self, number: u64) -> &mut Self {
        self.take(Input::Message { number, message: Ok(InboxMessage::Freeze) });
        if self.wants() == ["freeze"] {
            self.take(Input::Frozen { number, stopped: 3, running: 0 });
        }
        self
    }

    fn thaw(&mut self) -> &mut Self {
        self.take(Input::Message { number: 99, message: Ok(InboxMessage::Thaw) })
    }

    fn logged(&self) -> Vec<&EventKind> {
        let entries = self.effects.iter().filter_map(|effect| match effect {
            Effect::Log(entry) => Some(&entry.kind),
            _ => None,
        });
        entries.collect()
    }
}

fn with_limits() -> Spec {
    let limits = Limits {
        timeout_ms: Some(100_000),
        stall_timeout_ms: Some(60_000),
        background_wait_ms: 50_000,
        ..Limits::default()
    };
    Spec { limits, ..Spec::default() }
}

#[test]
fn nothing_expires_while_frozen() {
    let idle = KeepAliveOptions { enabled: true, idle_timeout_ms: 30_000, ..Default::default() };
    let ask = AskOptions { enabled: true, block_timeout_ms: Some(40_000) };
    for (spec, lines, left, then) in [
        // 100 s for the job.
        (
            Spec {
                limits: Limits { stall_timeout_ms: None, ..with_limits().limits },
                ..with_limits()
            },
            vec![INIT, TEXT],
            90,
            "request",
        ),
        // 60 s of silence.
        (with_limits(), vec![INIT, TEXT], 50, "request"),
        (Spec { keep_alive: idle, ..Spec::default() }, vec![INIT, OK], 20, "close"),
        (Spec { ask, ..Spec::default() }, vec![INIT, ASK], 30, "respond"),
    ] {
        let mut rig = Rig::launched(spec);
        for line in lines {
            rig.hear(line);
        }
        rig.pass(10);
        rig.freeze(1);
        assert_eq!(rig.supervisor.deadline(), None, "{then}");
        assert_eq!(wants(&rig.pass(DAY)), [""; 0], "{then}");
        rig.take(Input::Tick);
        assert_eq!(rig.wants(), [""; 0], "{then}");
        assert_eq!(rig.thaw().wants(), ["take out", "thaw"], "{then}");
        assert_eq!(wants(&rig.pass(left - 1)), [""; 0], "{then}");
        assert!(wants(&rig.pass(1)).contains(&then), "{then}");
    }
}

#[test]
fn a_freeze_at_any_line_changes_no_verdict() {
    const LINES: [&str; 5] = [INIT, TEXT, ASK, ANSWERED, OK];
    for at in 0..=LINES.len() {
        let mut rig = Rig::launched(with_limits());
        for (index, line) in LINES.into_iter().enumerate() {
            if index == at {
                rig.freeze(1);
                rig.pass(DAY);
                rig.thaw();
            }
            rig.pass(1);
            rig.hear(line);
        }
        assert_eq!(rig.ends(0).0, COMPLETED, "{at}");
        assert_eq!(rig.supervisor.record().times.elapsed_ms, Some(10_000), "{at}");
    }
}

#[test]
fn records_since_when_it_is_frozen() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT);
    rig.pass(60);
    assert_eq!(rig.freeze(1).wants(), ["take out"]);
    assert!(matches!(rig.logged()[..], [EventKind::Frozen { number: 1, processes: 3 }]));
    let record = rig.supervisor.record();
    let at = Timestamp::from_epoch_ms(0).unwrap();
    assert_eq!((record.times.frozen_at, record.status), (Some(at), Status::Running));
    let wait = record.waiting_for().unwrap();
    assert_eq!(
        (wait.kind, wait.hint.as_deref()),
        (WaitKind::Paused, Some("claudejob unpause job"))
    );
    assert_eq!(record.hint().as_deref(), Some("claudejob unpause job"));
    assert_eq!(record.times.elapsed_ms, Some(60_000));
    // Again: only processes that have appeared.
    rig.pass(DAY);
    assert_eq!(rig.freeze(2).wants(), ["take out"]);
    rig.thaw();
    let expected = EventKind::Thawed { number: 99, frozen_ms: DAY * 1_000 };
    assert_eq!(rig.logged(), [&expected]);
    rig.pass(1);
    rig.hear(TEXT).freeze(3).thaw();
    let record = rig.supervisor.record();
    assert_eq!((record.times.frozen_at, record.waiting_for()), (None, None));
    assert_eq!(record.times.elapsed_ms, Some(61_000));
    // It was not frozen.
    assert_eq!(rig.thaw().wants(), ["take out"]);
    assert_eq!(rig.logged(), [&EventKind::Thawed { number: 99, frozen_ms: 0 }]);
}

#[test]
fn output_that_came_before_is_read_while_frozen() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).freeze(1);
    rig.hear(OK);
    assert_eq!(rig.wants(), ["close"]);
    assert_eq!(wants(&rig.pass(DAY)), [""; 0], "claude cannot end");
    rig.thaw();
    assert_eq!(wants(&rig.pass(9)), [""; 0]);
    assert_eq!(rig.ends(0).0, COMPLETED);
    assert_eq!(rig.supervisor.record().times.frozen_at, None);
}

#[test]
fn a_stop_thaws_first() {
    for (input, verdict) in
        [(Input::KillRequested, KILLED), (Input::TerminateRequested, failed(Reason::Terminated))]
    {
        let mut rig = Rig::launched(Spec::default());
        rig.hear(INIT).hear(TEXT).freeze(1);
        rig.pass(DAY);
        assert_eq!(rig.take(input).wants(), ["thaw", "request"]);
        assert_eq!(wants(&rig.pass(2)), ["INT"]);
        assert_eq!(wants(&rig.pass(2)), ["TERM"]);
        assert_eq!(wants(&rig.pass(1)), ["sweep"]);
        rig.take(exited(Exit { code: None, signal: Some(9) }));
        rig.take(Input::OutputClosed);
        assert_eq!(rig.concludes("").0, verdict);
    }
    // Another program has killed its claude.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).freeze(1);
    let killed = exited(Exit { code: None, signal: Some(9) });
    assert_eq!(rig.take(killed).wants(), ["thaw", "sweep"]);
}

#[test]
fn freezes_only_a_claude_that_works() {
    let skipped = |rig: &Rig, why| {
        assert_eq!(rig.wants(), ["take out"]);
        assert_eq!(rig.logged(), [&EventKind::FreezeSkipped { number: 5, why }]);
    };
    // It stays in the inbox until claude runs.
    let mut rig = Rig::new(Spec::default());
    assert_eq!(rig.freeze(5).wants(), [""; 0]);
    rig.take(Input::Queued(WaitReason::Slot));
    skipped(rig.freeze(5), FreezeSkip::NoClaude);
    rig.take(Input::Admitted).take(launched(78));
    rig.hear(INIT).hear(OK);
    skipped(rig.freeze(5), FreezeSkip::Ending);
    assert_eq!(rig.ends(0).0, COMPLETED);
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT).take(Input::KillRequested);
    skipped(rig.freeze(5), FreezeSkip::Ending);
    // Claude ends while its processes are being stopped.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::Message { number: 5, message: Ok(InboxMessage::Freeze) });
    rig.take(exited(Exit { code: Some(1), signal: None }));
    assert_eq!(
        rig.take(Input::Frozen { number: 5, stopped: 1, running: 0 }).wants(),
        ["thaw", "take out"]
    );
    assert_eq!(rig.supervisor.record().times.frozen_at, None);
    // It was unpaused before the record said that it is frozen.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).freeze(1);
    assert_eq!(rig.take(Input::NotPaused).wants(), ["thaw"]);
    assert_eq!(rig.take(Input::NotPaused).wants(), [""; 0]);
}
