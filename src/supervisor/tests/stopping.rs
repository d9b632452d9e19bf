//! Stopping of claude.

use super::*;
use crate::job::Limits;

#[test]
fn ends_lingering_claude_and_keeps_the_verdict() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    assert_eq!(wants(&rig.pass(9)), [""; 0], "its grace");
    assert_eq!(wants(&rig.pass(1)), ["TERM"]);
    assert_eq!(wants(&rig.pass(2)), ["sweep"]);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: None, signal: Some(9) }));
    let (verdict, outcome) = rig.concludes("");
    assert_eq!(verdict, COMPLETED);
    assert!(outcome.warnings.iter().any(|warning| warning.contains("did not end by itself")));

    // Further events give it more time; garbage does not.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    rig.pass(8);
    rig.hear(TASK_DONE);
    assert_eq!(wants(&rig.pass(8)), [""; 0]);
    rig.hear("garbage");
    assert_eq!(wants(&rig.pass(2)), ["TERM"]);
}

#[test]
fn stops_by_request_int_term_and_sweep() {
    for (input, verdict) in
        [(Input::KillRequested, KILLED), (Input::TerminateRequested, failed(Reason::Terminated))]
    {
        let mut rig = Rig::launched(Spec::default());
        rig.hear(INIT).hear(TEXT);
        assert_eq!(rig.take(input).wants(), ["request"]);
        assert_eq!(wants(&rig.pass(2)), ["INT"]);
        assert_eq!(wants(&rig.pass(2)), ["TERM"]);
        assert_eq!(wants(&rig.pass(1)), ["sweep"]);
        rig.take(exited(Exit { code: None, signal: Some(9) }));
        rig.take(Input::OutputClosed);
        assert_eq!(rig.concludes("").0, verdict);
    }
}

#[test]
fn exit_of_claude_skips_further_signals() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    rig.take(Input::OutputClosed);
    assert_eq!(rig.take(exited(Exit { code: Some(0), signal: None })).wants(), ["sweep"]);
    assert_eq!(rig.take(Input::Swept { ended: 2, left: Default::default() }).wants(), ["conclude"]);
    assert_eq!(wants(&rig.pass(100)), [""; 0]);
}

#[test]
fn kill_overrides_shutdown_but_no_verdict() {
    // A kill after a shutdown was announced, and the other way round.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::TerminateRequested);
    assert_eq!(rig.take(Input::KillRequested).wants(), [""; 0], "one ladder at a time");
    assert_eq!(rig.ends(0).0, KILLED);
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    rig.take(Input::TerminateRequested);
    assert_eq!(rig.ends(0).0, KILLED);

    // A signal after the result does not change the verdict.
    for input in [Input::KillRequested, Input::TerminateRequested] {
        let mut rig = Rig::launched(Spec::default());
        rig.hear(INIT).hear(OK);
        assert_eq!(rig.take(input).wants(), ["INT"]);
        assert_eq!(rig.ends(0).0, COMPLETED);
    }

    // A result with open work is not final.
    let mut rig = Rig::launched(spec_of(""));
    rig.hear(TASK).hear(OK).take(Input::KillRequested);
    assert_eq!(rig.ends(0).0, KILLED);
}

#[test]
fn timeout_ends_unfinished_jobs() {
    let spec = || Spec {
        limits: Limits { timeout_ms: Some(5_000), ..Limits::default() },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec());
    rig.hear(INIT);
    assert_eq!(wants(&rig.pass(5)), ["request"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, failed(Reason::Timeout));
    assert!(outcome.error.unwrap().contains("5s"));
    // The timeout does not repeat while claude is stopped.
    let mut rig = Rig::launched(spec());
    assert_eq!(wants(&rig.pass(60)), ["INT", "TERM", "sweep"]);
    // The answer came in time; only the exit of claude takes longer.
    let mut rig = Rig::launched(spec());
    rig.hear(INIT).hear(OK);
    rig.pass(6);
    assert_eq!(rig.ends(0).0, COMPLETED);
}

#[test]
fn ends_claude_that_closed_its_output() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    assert_eq!(rig.take(Input::OutputClosed).wants(), ["close"]);
    assert_eq!(wants(&rig.pass(20)), ["TERM", "sweep"]);
    rig.take(exited(Exit { code: None, signal: Some(9) }));
    assert_eq!(rig.concludes("").0, failed(Reason::NoResult));
}

#[test]
fn unkillable_processes_do_not_delay_the_verdict() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    rig.pass(5);
    let name = "sleep".to_owned();
    let process = LeftProcess { pid: 123, start_time: 1, uid: 0, name, why: LeftReason::OtherUser };
    let left = Leftovers { processes: vec![process.clone()], unlisted: None };
    assert_eq!(rig.take(Input::Swept { ended: 1, left }).wants(), [""; 0]);
    assert_eq!(wants(&rig.pass(1)), ["conclude"]);
    let outcome = rig.concluded("");
    assert_eq!(outcome.status, Status::Killed);
    let warning = "1 process of another user (uid 0, pid 123, sleep) could not be ended";
    assert!(outcome.warnings.iter().any(|found| found == warning), "{:?}", outcome.warnings);
    assert_eq!(rig.supervisor.record().ending.left_processes, [process]);
}

#[test]
fn a_kill_bounds_the_sweep_and_the_wait_for_output() {
    let within = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Sweep(within) => Some(*within),
            _ => None,
        })
    };
    let mut rig = Rig::launched(Spec::default());
    rig.hear(OK).take(exited(Exit { code: Some(0), signal: None }));
    assert_eq!(within(&rig.effects), Some(Duration::from_secs(5)));
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).take(Input::KillRequested);
    let ladder = rig.pass(5);
    assert_eq!(within(&ladder), Some(Duration::from_secs(2)), "of 6.5 s after a ladder of 4.5 s");
    rig.pass(2);
    rig.take(Input::Swept { ended: 1, left: Default::default() });
    assert_eq!(wants(&rig.pass(1)), ["conclude"], "the output is not waited for");
}

#[test]
fn failed_launch_is_the_verdict() {
    let mut rig = Rig::new(Spec::default());
    rig.take(Input::LaunchFailed("x could not be started".to_owned()));
    assert_eq!(rig.wants(), ["conclude"]);
    let conclusion = rig.conclude(&Evidence::default());
    assert!(matches!(conclusion, Conclusion::Ended(_)));
    assert_eq!(rig.supervisor.record().reason, Some(Reason::LaunchFailed));
    assert!(rig.effects.contains(&Effect::Save));
}

#[test]
fn remembers_a_kill_before_launch() {
    let mut rig = Rig::new(Spec::default());
    assert_eq!(rig.take(Input::KillRequested).wants(), [""; 0]);
    assert_eq!(rig.take(launched(78)).wants(), ["INT"]);
}
