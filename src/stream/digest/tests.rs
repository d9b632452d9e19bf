use serde_json::json;

use super::*;
use crate::stream::decode;
use crate::text::one_line;

fn apply(lines: &[&str]) -> Digest {
    let mut digest = Digest::default();
    for line in lines {
        let now = Timestamp::from_epoch_ms(1_000_000).unwrap();
        let _ = digest.apply(&decode(line.as_bytes()).expect(line), now);
    }
    digest
}

const CALL: &str = r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"cargo  test","description":"x"}}]}}"#;
const SECOND_CALL: &str = r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/a/b.rs"}}]}}"#;
const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":3,"duration_ms":5,"total_cost_usd":0.5}"#;
const LIMIT: &str =
    r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":2000.5}"#;

#[test]
fn activity_is_a_running_tool() {
    let mut digest = apply(&[CALL, SECOND_CALL]);
    let activity = digest.activity().unwrap();
    assert_eq!((activity.tool.as_deref(), activity.text.as_str()), (Some("Read"), "/a/b.rs"));
    let done = br#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t2","content":""}]}}"#;
    let _ = digest.apply(&decode(done).unwrap(), Timestamp::from_epoch_ms(0).unwrap());
    assert_eq!(digest.activity().unwrap().text, "cargo test");
}

#[test]
fn activity_does_not_depend_on_its_length() {
    let activity = |block: Value| {
        let line = json!({"type": "assistant", "message": {"content": [block]}}).to_string();
        apply(&[&line]).activity().unwrap()
    };
    let long = "word \n\u{1f600} ".repeat(MAX_CALL_INPUT_BYTES);
    let shown = one_line(&long, MAX_ACTIVITY_CHARS);
    for more in ["a", &long] {
        let call = |input| json!({"type": "tool_use", "id": "t", "name": "T", "input": input});
        assert_eq!(activity(call(json!({"a": more, "file_path": "/a\n/b"}))).text, "/a /b");
    }
    let call = json!({"type": "tool_use", "id": "t", "name": "T", "input": {"x": long}});
    assert_eq!(activity(call), Activity { tool: Some("T".into()), text: shown.clone() });
    let text = json!({"type": "text", "text": long});
    assert_eq!(activity(text), Activity { tool: None, text: shown });
    assert_eq!(activity(json!({"type": "thinking"})).text, "thinking");
}

#[test]
fn turns_add_up_and_the_cost_is_the_last() {
    assert_eq!(apply(&[CALL, SECOND_CALL]).num_turns(), 1, "one message in two events");
    let digest = apply(&[CALL, RESULT, CALL, RESULT]);
    assert_eq!((digest.num_turns(), digest.spent_usd), (6, Some(0.5)));
    assert_eq!(digest.duration_ms, 10);
}

#[test]
fn a_limit_lasts_until_the_model_speaks() {
    let limited = apply(&[LIMIT]);
    assert!(limited.is_rate_limited());
    assert_eq!(limited.retry_at.unwrap().epoch_ms(), 1_002_000);
    let over = apply(&[LIMIT, CALL]);
    assert!(!over.is_rate_limited() && over.retry_at.is_none());
}

#[test]
fn reads_limit_end_in_seconds_or_milliseconds() {
    for (resets_at, expected) in [
        ("1795204010", Some(1_795_204_010_000)),
        ("1795204010.5", Some(1_795_204_010_500)),
        ("1795204010000", Some(1_795_204_010_000)),
        ("1795204010000000", None),
        ("1e300", None),
        ("-1795204010", None),
        ("\"1795204010\"", None),
    ] {
        let digest = apply(&[&format!(
            r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"rejected","resetsAt":{resets_at}}}}}"#
        )]);
        assert!(digest.is_rate_limited());
        assert_eq!(digest.resets_at().map(Timestamp::epoch_ms), expected, "{resets_at}");
        assert_eq!(digest.retry_at, digest.resets_at());
    }
}

#[test]
fn bounds_counts() {
    let wild = RESULT.replace(":3,", ":18446744073709551615,").replace(":5,", ":1e300,");
    for lines in [vec![&*wild], vec![&*wild, &*wild], vec![CALL, &*wild, RESULT, CALL]] {
        let digest = apply(&lines);
        assert_eq!((digest.num_turns(), digest.duration_ms), (MAX_COUNT, MAX_COUNT), "{lines:?}");
    }
}

#[test]
fn keeps_a_known_cost() {
    let silent = RESULT.replace(r#","total_cost_usd":0.5"#, "");
    for (lines, cost) in [
        (vec![RESULT, &*silent], Some(0.5)),
        (vec![RESULT, &*silent, &*silent], Some(0.5)),
        (vec![&*silent], None),
        (vec![&*silent, RESULT], Some(0.5)),
    ] {
        assert_eq!(apply(&lines).spent_usd, cost, "{lines:?}");
    }
}

#[test]
fn authentication_failures_count_in_a_row_only() {
    let auth = r#"{"type":"system","subtype":"api_retry","error":"authentication_failed"}"#;
    assert_eq!(apply(&[auth, auth, auth]).auth_failures, 3);
    assert_eq!(apply(&[auth, auth, LIMIT, auth]).auth_failures, 1);
    assert_eq!(apply(&[auth, auth, CALL]).auth_failures, 0);
}

#[test]
fn keeps_only_the_tool_of_huge_denials() {
    let call = |name: &str, size: usize| serde_json::json!({"tool_name": name, "tool_input": "x".repeat(size)});
    let result = |denials: &[Value]| {
        serde_json::json!({"type": "result", "permission_denials": denials}).to_string()
    };
    let digest = apply(&[
        &result(&[call("A", MAX_DENIALS_BYTES), call("B", MAX_DENIALS_BYTES / 2)]),
        &result(&[call("C", MAX_DENIALS_BYTES / 2), call("D", 5)]),
    ]);
    let kept: Vec<_> = digest
        .denials
        .iter()
        .map(|call| (call["tool_name"].as_str().unwrap(), call["tool_input"].is_string()))
        .collect();
    assert_eq!(kept, [("A", false), ("B", true), ("C", false), ("D", true)]);
}

#[test]
fn a_foreground_task_is_over_before_the_result() {
    let started = r#"{"type":"system","subtype":"task_started","task_id":"b1"}"#;
    let ended =
        r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"completed"}"#;
    let digest = apply(&[CALL, started, ended, RESULT]);
    assert_eq!((digest.outstanding(), digest.is_follow_up_due()), (0, false));
    let digest = apply(&[CALL, started, RESULT, ended]);
    assert_eq!((digest.outstanding(), digest.is_follow_up_due()), (0, true));
}

#[test]
fn reads_questions_with_half_a_character() {
    let digest = apply(&[
        r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"so \ud83d?","header":"h","options":[]}]}}}"#,
    ]);
    assert_eq!(digest.blocked().unwrap().questions[0].question, "so \u{fffd}?");
}

#[test]
fn rejects_invalid_session_ids() {
    let init = |id: &str| {
        serde_json::json!({"type": "system", "subtype": "init", "session_id": id}).to_string()
    };
    let fine = init("6f9fb695-65a0-40f6-bcf8-00af6730366b");
    for odd in ["--dangerously-skip-permissions", "../x", "a b", "", &"x".repeat(65)] {
        let digest = apply(&[&fine, &init(odd)]);
        let kept = digest.session_id.as_deref();
        assert_eq!(kept, Some("6f9fb695-65a0-40f6-bcf8-00af6730366b"), "{odd}");
        assert!(apply(&[&init(odd)]).session_id.is_none());
    }
}

#[test]
fn bounds_what_is_tracked() {
    let mut digest = Digest::default();
    for n in 0..3_000 {
        let line = format!(r#"{{"type":"system","subtype":"task_started","task_id":"{n}"}}"#);
        let _ =
            digest.apply(&decode(line.as_bytes()).unwrap(), Timestamp::from_epoch_ms(0).unwrap());
    }
    assert_eq!(digest.outstanding(), MAX_TRACKED);
}
