//! Attempts after the first, and the end of jobs that lost their worker.

use super::*;
use crate::job::{KeepAliveOptions, RetryOptions, Verdict};

const REFUSED: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":0,"errors":["No conversation found with session ID: s"]}"#;
const COST: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":2,"total_cost_usd":0.25,"duration_ms":5}"#;

/// Returns a recovered job that was cut off after claude had begun.
fn recovered() -> Rig {
    let mut record = cut_off().supervisor.record().clone();
    record.begin_attempt();
    record.attempt.recovered_from = Some(Reason::WorkerDied);
    let now = Now { mono: Duration::ZERO, wall: Timestamp::from_epoch_ms(0).unwrap() };
    Rig { supervisor: new_worker(record, 90, now), now, effects: Vec::new() }
}

fn cut_off() -> Rig {
    let mut rig = Rig::launched(Spec::default());
    rig.now.mono += Duration::from_secs(7);
    rig.hear(INIT).hear(TEXT).hear(COST).hear(TEXT);
    rig.take(Input::WriteFailed { file: "x", error: String::new() });
    rig
}

pub(super) fn examine(
    record: &Record,
    log: &str,
    asked: Option<Verdict>,
) -> (Record, Vec<EventLine>) {
    let at = Timestamp::from_epoch_ms(5_000).unwrap();
    let mut post_mortem = PostMortem::new(record.clone(), 40, at);
    let mut lines = LineSplitter::default();
    lines.push(log.as_bytes(), |line| post_mortem.line(line));
    lines.finish(|line| post_mortem.torn_line(line));
    let (record, _, entries) = post_mortem.conclude(None, asked, Some("boot"), Vec::new());
    (record, entries)
}

#[test]
fn resumes_begun_sessions_else_sends_the_prompt() {
    let rig = recovered();
    let opening = rig.supervisor.first_prompt();
    assert_eq!((opening.resume.as_deref(), opening.prompt), (Some("s"), false));
    assert!(opening.text.contains("interrupted"));
    let mut record = Rig::launched(Spec::default()).supervisor.record().clone();
    record.begin_attempt();
    let opening = FirstPrompt::for_record(&record);
    assert_eq!((opening.resume, opening.prompt, opening.text.as_str()), (None, true, ""));
    // The caller chose this session.
    record.spec.session.resume = Some("theirs".to_owned());
    assert_eq!(FirstPrompt::for_record(&record).resume.as_deref(), Some("theirs"));
}

#[test]
fn turns_cost_and_time_add_up_over_attempts() {
    let mut rig = recovered();
    let before = rig.supervisor.record().clone();
    assert_eq!(
        (before.progress.num_turns, before.cost.usd, before.times.elapsed_ms),
        (2, Some(0.25), Some(7_000))
    );
    rig.take(launched(91));
    rig.now.mono += Duration::from_secs(2);
    rig.hear(INIT).hear(COST);
    assert_eq!(rig.ends(0).0, COMPLETED);
    let record = rig.supervisor.record();
    assert_eq!(
        (record.attempt.number, record.progress.num_turns, record.cost.usd),
        (2, 4, Some(0.5))
    );
    assert!(record.times.elapsed_ms.unwrap() >= 9_000);
}

#[test]
fn the_timeout_is_over_all_attempts() {
    let mut rig = recovered();
    rig.supervisor.record.spec.limits.timeout_ms = Some(10_000);
    rig.take(launched(91));
    assert_eq!(rig.supervisor.deadline(), Some(Duration::from_secs(3)));
}

#[test]
fn sends_the_prompt_again_once_for_lost_sessions() {
    let mut rig = recovered();
    rig.take(launched(91)).hear(REFUSED);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(1), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let evidence =
        Evidence { stderr: "No conversation found with session ID: s", ..Evidence::default() };
    let conclusion = rig.conclude(&evidence);
    assert_eq!(conclusion, Conclusion::NextAttempt);
    assert!(rig.effects.contains(&Effect::Save));
    let opening = rig.supervisor.first_prompt().clone();
    assert!(opening.prompt && opening.resume.is_none() && opening.text.contains("interrupted"));
    assert_eq!(rig.supervisor.record().attempt.number, 3);
    rig.take(launched(92)).hear(REFUSED);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(1), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    assert!(matches!(rig.conclude(&evidence), Conclusion::Ended(_)));
    assert_eq!(rig.supervisor.record().reason, Some(Reason::ClaudeRefused));
}

#[test]
fn what_may_be_recovered() {
    let mut record = cut_off().supervisor.record().clone();
    let mut may = |verdict: Verdict, exit: Option<Exit>| {
        record.end(&verdict, Timestamp::from_epoch_ms(0).unwrap());
        record.ending.exit = exit;
        record.is_recoverable()
    };
    let failed = |reason| Verdict::failed(reason, "x");
    let signal = Some(Exit { code: None, signal: Some(9) });
    let code = |code| Some(Exit { code: Some(code), signal: None });
    assert!(may(failed(Reason::WorkerDied), None));
    assert!(may(failed(Reason::HostRestarted), None));
    assert!(may(failed(Reason::Terminated), code(0)));
    assert!(may(failed(Reason::NoResult), signal));
    assert!(may(failed(Reason::NoResult), code(143)));
    assert!(!may(failed(Reason::NoResult), code(0)));
    assert!(!may(failed(Reason::Timeout), signal));
    assert!(may(failed(Reason::Auth), None));
    assert!(may(failed(Reason::WakeupMissed), None));
    assert!(!may(failed(Reason::RateLimit), None));
    assert!(!may(failed(Reason::LaunchFailed), None), "in the first attempt");
    assert!(!may(Verdict::Killed, signal));
    assert!(!may(Verdict::Completed, None));
    assert!(!may(failed(Reason::DependencyFailed), None));
    record.ending.dependency_cut_off = true;
    record.end(&failed(Reason::DependencyFailed), Timestamp::from_epoch_ms(0).unwrap());
    assert!(record.is_recoverable());
    record.begin_attempt();
    record.end(&failed(Reason::DependencyFailed), Timestamp::from_epoch_ms(0).unwrap());
    assert!(!record.is_recoverable());
    record.end(&failed(Reason::LaunchFailed), Timestamp::from_epoch_ms(0).unwrap());
    assert!(record.is_recoverable());
    record.spec.retry.no_recover = true;
    record.end(&failed(Reason::WorkerDied), Timestamp::from_epoch_ms(0).unwrap());
    assert!(!record.is_recoverable());
}

#[test]
fn boot_id_tells_host_restart_from_worker_death() {
    let rig = Rig::launched(Spec::default());
    let record = rig.supervisor.record();
    assert_eq!(record.lost_verdict(Some("boot")).reason(), Some(Reason::WorkerDied));
    assert_eq!(record.lost_verdict(Some("other")).reason(), Some(Reason::HostRestarted));
    assert_eq!(record.lost_verdict(None).reason(), Some(Reason::WorkerDied));
}

#[test]
fn reads_the_verdict_of_a_lost_job_from_its_log() {
    let rig = Rig::launched(Spec::default());
    let record = rig.supervisor.record();
    let log = |lines: &[&str]| lines.join("\n") + "\n";
    // All was done; only the verdict was missing.
    let (ended, entries) = examine(record, &log(&[INIT, TEXT, COST]), None);
    assert_eq!(
        (ended.status, ended.progress.num_turns, ended.cost.usd),
        (Status::Completed, 2, Some(0.25))
    );
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [41, 42]);
    assert_eq!(ended.last_seq, 42);
    // Nothing else may pass for the end.
    for lines in [&[INIT, TEXT][..], &[INIT, TEXT, COST, INIT], &[INIT, TASK, COST], &[]] {
        let (ended, _) = examine(record, &log(lines), None);
        assert_eq!(ended.reason, Some(Reason::WorkerDied), "{lines:?}");
        assert_eq!(ended.session.began, lines.contains(&INIT), "{lines:?}");
    }
    let torn = log(&[INIT, TEXT, COST]) + r#"{"type":"assis"#;
    assert_eq!(examine(record, &torn, None).0.reason, Some(Reason::WorkerDied));
    // A kill that was under way counts, but does not undo a result.
    let kill = Some(Verdict::Killed);
    assert_eq!(examine(record, &log(&[INIT, TEXT]), kill.clone()).0.status, Status::Killed);
    assert_eq!(examine(record, &log(&[INIT, COST]), kill).0.status, Status::Completed);
}

#[test]
fn log_with_a_gap_gives_no_verdict() {
    let mut rig = Rig::launched(Spec::default());
    let log = [INIT, TEXT, COST].join("\n") + "\n";
    assert_eq!(examine(rig.supervisor.record(), &log, None).0.status, Status::Completed);
    rig.take(Input::LogIncomplete);
    let mut record = rig.supervisor.record().clone();
    assert_eq!(examine(&record, &log, None).0.reason, Some(Reason::WorkerDied));
    assert_eq!(examine(&record, &log, Some(Verdict::Killed)).0.status, Status::Killed);
    // The missing part may contain messages to a job that is kept alive.
    record.spec.keep_alive.enabled = true;
    assert!(!examine(&record, &log, None).0.progress.was_idle);
    record.status = Status::Idle;
    assert!(examine(&record, &log, None).0.progress.was_idle);
    // The next attempt has its own part of the log.
    record.spec.keep_alive.enabled = false;
    record.begin_attempt();
    assert_eq!(examine(&record, &log, None).0.status, Status::Completed);
}

#[test]
fn lost_job_is_not_ended_by_a_retryable_failure() {
    const RESET: &str =
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":3600}}"#;
    let spec = |retries: u32, max_wait_ms: u64| Spec {
        retry: RetryOptions { retries, max_wait_ms, ..RetryOptions::default() },
        ..Spec::default()
    };
    let kept_alive = || Spec {
        keep_alive: KeepAliveOptions { enabled: true, ..spec(3, 0).keep_alive },
        ..spec(3, 0)
    };
    let refused = |status: u32| {
        let told = format!(
            r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},"result":"no","num_turns":1}}"#
        );
        [INIT, TEXT, &told].join("\n") + "\n"
    };
    let limited = |status: u32| refused(status).replace(TEXT, &format!("{TEXT}\n{RESET}"));
    for (spec, log, expected) in [
        (spec(3, 0), refused(429), Reason::WorkerDied),
        (spec(3, 0), refused(529), Reason::WorkerDied),
        (spec(3, 0), refused(500), Reason::WorkerDied),
        (spec(3, 0), refused(400), Reason::ApiError),
        (spec(3, 0), refused(401), Reason::Auth),
        (spec(0, 0), refused(429), Reason::RateLimit),
        (spec(0, 0), refused(529), Reason::Overloaded),
        (spec(0, 0), refused(500), Reason::ApiError),
        (kept_alive(), refused(429), Reason::WorkerDied),
        // A limit is awaited as long as by a live job.
        (spec(3, 3_600_000), limited(429), Reason::WorkerDied),
        (spec(3, 3_000_000), limited(429), Reason::RateLimit),
    ] {
        let record = Rig::launched(spec).supervisor.record().clone();
        let (ended, _) = examine(&record, &log, None);
        assert_eq!(ended.reason, Some(expected), "{:?}: {log}", record.spec.retry.retries);
        let recoverable = matches!(expected, Reason::WorkerDied | Reason::Auth);
        assert_eq!(ended.is_recoverable(), recoverable);
    }
}

#[test]
fn lost_job_is_completed_only_like_a_live_one() {
    for (name, ..) in table() {
        let stream = transcript(name);
        let mut ends: Vec<usize> = memchr::memchr_iter(b'\n', &stream).map(|at| at + 1).collect();
        ends.extend(ends.clone().into_iter().map(|end| end.saturating_sub(30)));
        for end in ends {
            let text = String::from_utf8_lossy(&stream[..end]);
            let record = Rig::launched(spec_of(name)).supervisor.record().clone();
            let (lost, _) = examine(&record, &text, None);
            // The same stream with a live worker.
            let exit = Exit { code: None, signal: Some(9) };
            let (Verdict2(status, _), ..) = run(name, &stream[..end], exit, "");
            if lost.status == Status::Completed {
                assert_eq!(status, Status::Completed, "{name} cut at {end}");
            }
        }
    }
}
