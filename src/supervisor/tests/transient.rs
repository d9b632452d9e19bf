//! Transient failures: lost connections, an unavailable API, a login that is renewed meanwhile.

use super::*;
use crate::job::RetryOptions;

const REFUSED: &str = r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","api_error_status":null,"result":"API Error: Connection refused","num_turns":1}"#;
const OLD_REFUSED: [&str; 2] = [
    r#"{"type":"assistant","error":"server_error","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error: Unable to connect"}]}}"#,
    r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"completed","result":"API Error: Unable to connect","num_turns":1}"#,
];
const MALFORMED: [&str; 2] = [
    r#"{"type":"assistant","error":"unknown","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error: malformed"}]}}"#,
    r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"completed","result":"API Error: malformed","num_turns":1}"#,
];
const UNAVAILABLE: &str = r#"{"type":"system","subtype":"api_retry","error":"server_error","error_status":503,"retry_delay_ms":2000}"#;
const BROKEN: &str = r#"{"type":"system","subtype":"api_retry","error":"server_error","error_status":500,"retry_delay_ms":2000}"#;

fn conclude(rig: &mut Rig, lines: &[&str], evidence: &Evidence<'_>) -> Conclusion {
    for line in lines {
        rig.hear(line);
    }
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(1), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    rig.conclude(evidence)
}

fn start_again(rig: &mut Rig) {
    rig.pass(30);
    rig.take(Input::Admitted);
    rig.take(launched(90));
}

#[test]
fn a_lost_connection_is_tried_again() {
    for (lines, again) in [
        (vec![INIT, REFUSED], true),
        (vec![INIT, OLD_REFUSED[0], OLD_REFUSED[1]], true),
        (vec![INIT, MALFORMED[0], MALFORMED[1]], false),
    ] {
        let mut rig = Rig::launched(Spec {
            retry: RetryOptions { retries: 1, max_backoff_ms: 1_000, ..RetryOptions::default() },
            ..Spec::default()
        });
        let conclusion = conclude(&mut rig, &lines, &Evidence::default());
        assert_eq!(conclusion == Conclusion::NextAttempt, again, "{lines:?}");
        let record = rig.supervisor.record();
        if again {
            let waiting = record.waiting_for.as_ref().unwrap();
            assert_eq!(waiting.kind, crate::job::WaitKind::Retry);
            assert!(record.limit.retry_at.is_some());
            start_again(&mut rig);
            let conclusion = conclude(&mut rig, &lines, &Evidence::default());
            assert!(matches!(conclusion, Conclusion::Ended(_)));
            assert!(rig.supervisor.record().ending.lost_connection);
        } else {
            assert!(!record.ending.lost_connection);
        }
    }
}

#[test]
fn an_unavailable_api_shows_like_an_overloaded_one() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(UNAVAILABLE);
    let record = rig.supervisor.record();
    assert!(record.limit.rate_limited && record.limit.retry_at.is_some());
    assert_eq!(record.waiting_for.as_ref().unwrap().kind, crate::job::WaitKind::Limit);
    let failed_so = REFUSED.replace("null", "503");
    let conclusion = conclude(&mut rig, &[&failed_so], &Evidence::default());
    assert!(matches!(conclusion, Conclusion::Ended(_)));
    let record = rig.supervisor.record();
    assert_eq!((record.reason, record.limit.rate_limited), (Some(Reason::Overloaded), true));
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(BROKEN);
    assert!(!rig.supervisor.record().limit.rate_limited);
}

#[test]
fn retries_once_accepted_logins() {
    let mut rig = Rig::launched(Spec {
        retry: RetryOptions { max_backoff_ms: 1_000, ..RetryOptions::default() },
        ..Spec::default()
    });
    rig.hear(INIT).hear(TEXT);
    let refused = [AUTH, AUTH, AUTH];
    assert_eq!(conclude(&mut rig, &refused, &Evidence::default()), Conclusion::NextAttempt);
    start_again(&mut rig);
    assert_eq!(rig.supervisor.record().attempt.number, 2);
    // The login works again and is refused later.
    rig.hear(INIT).hear(TEXT);
    assert_eq!(conclude(&mut rig, &refused, &Evidence::default()), Conclusion::NextAttempt);
    start_again(&mut rig);
    // This claude got no answer: the failure is final.
    rig.hear(INIT);
    assert!(matches!(conclude(&mut rig, &refused, &Evidence::default()), Conclusion::Ended(_)));
    assert_eq!(rig.supervisor.record().reason, Some(Reason::Auth));
}

#[test]
fn retries_replaced_logins() {
    for (login_changed, attempts) in [(false, 1), (true, 2)] {
        let mut rig = Rig::launched(Spec {
            retry: RetryOptions { max_backoff_ms: 1_000, ..RetryOptions::default() },
            ..Spec::default()
        });
        let evidence = Evidence { login_changed, ..Evidence::default() };
        while conclude(&mut rig, &[INIT, AUTH, AUTH, AUTH], &evidence) == Conclusion::NextAttempt {
            start_again(&mut rig);
        }
        assert_eq!(rig.supervisor.record().attempt.number, attempts);
    }
}

#[test]
fn a_kill_beats_a_fresh_login() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT).hear(AUTH).hear(AUTH).hear(AUTH);
    rig.take(Input::KillRequested);
    let conclusion = conclude(&mut rig, &[], &Evidence::default());
    assert!(matches!(conclusion, Conclusion::Ended(_)));
    assert_eq!(rig.supervisor.record().status, Status::Killed);
}
