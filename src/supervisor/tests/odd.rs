//! Odd lines that still have a meaning: half a character, too many elements, absurd numbers.

use super::*;
use crate::job::{FailOn, Limits};

/// Returns a result with these denials as JSON.
fn denying(denials: &str) -> String {
    format!(
        r#"{{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":1,"permission_denials":{denials}}}"#
    )
}

#[test]
fn an_answer_that_ends_in_half_a_character_is_one() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(&OK.replace(r#""ok""#, r#""cut \ud83d""#));
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, COMPLETED);
    assert_eq!(outcome.result.as_deref(), Some("cut \u{fffd}"));
}

#[test]
fn a_denial_counts_however_odd_it_is() {
    let deep =
        format!(r#"[{{"tool_name":"Deep","tool_input":{}1{}}}]"#, "[".repeat(300), "]".repeat(300));
    for (denials, denied) in [
        (r#"[{"tool_name":"Write","tool_input":{"content":"\ud83d"}}]"#, "Write"),
        (r#"[{"tool_name":"Bash"},{"tool_name":"Write","tool_input":["\ude00"]}]"#, "Bash, Write"),
        (r#"[{"tool_name":"Bash"},{"tool_name":"Edit","tool_input":1e999}]"#, "Bash, Edit"),
        (&deep, "Deep"),
        (r#"[null]"#, "(not kept)"),
        (r#"[{"tool_input":1e999}]"#, "(not kept)"),
    ] {
        let spec =
            Spec { fail_on: FailOn { denial: true, ..FailOn::default() }, ..Spec::default() };
        let mut rig = Rig::launched(spec);
        rig.hear(INIT).hear(&denying(denials));
        let (verdict, outcome) = rig.ends(0);
        assert_eq!(verdict, failed(Reason::PermissionDenied), "{denials}");
        assert_eq!(outcome.error.as_deref(), Some(&*format!("claude was denied: {denied}")));
    }
}

#[test]
fn counts_denials_that_are_not_kept() {
    let huge = format!(r#"{{"tool_name":"Huge","tool_input":["{}"]}}"#, "x\",\"".repeat(1 << 19));
    let many = [r#"{"tool_name":"Bash","tool_input":{"command":"ls"}}"#; 30_000].join(",");
    for denials in [format!("[{huge}]"), format!("[{many}]"), format!("[{many},{huge}]")] {
        let spec =
            Spec { fail_on: FailOn { denial: true, ..FailOn::default() }, ..Spec::default() };
        let mut rig = Rig::launched(spec);
        let mut splitter = LineSplitter::default();
        splitter.push(format!("{INIT}\n{}\n", denying(&denials)).as_bytes(), |line| {
            rig.take(Input::Line(line));
        });
        let (verdict, outcome) = rig.ends(0);
        assert_eq!(verdict, failed(Reason::PermissionDenied));
        assert!(!outcome.permission_denials.is_empty());
    }
}

#[test]
fn survives_absurd_numbers() {
    let limit = |at: &str| {
        format!(
            r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"rejected","resetsAt":{at}}}}}"#
        )
    };
    let retry = |delay: &str| {
        format!(
            r#"{{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":{delay}}}"#
        )
    };
    let counted = |n: &str| {
        format!(
            r#"{{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":{n},"duration_ms":{n},"total_cost_usd":{n}}}"#
        )
    };
    for number in
        ["1795204010000", "-1e18", "-1", "1e15", "1.2e22", "1e300", "18446744073709551615"]
    {
        let spec = Spec {
            limits: Limits { stall_timeout_ms: Some(60_000), ..Limits::default() },
            ..Spec::default()
        };
        let mut rig = Rig::launched(spec);
        for line in [limit(number), retry(number), counted(number), counted(number)] {
            rig.hear(INIT).hear(&line);
            let deadline = rig.supervisor.deadline().unwrap();
            assert!(std::time::Instant::now().checked_add(deadline).is_some(), "{line}");
            let record = serde_json::to_string(rig.supervisor.record()).unwrap();
            let again = Record::from_json(&record).map_err(|error| error.to_string());
            assert_eq!(
                again.map(|again| again.limit.retry_at),
                Ok(rig.supervisor.record().limit.retry_at)
            );
        }
        rig.hear(INIT).hear(OK);
        assert_eq!(rig.ends(0).0, COMPLETED, "{number}");
    }
}

#[test]
fn absurd_delay_does_not_excuse_silence() {
    let spec = Spec {
        limits: Limits { stall_timeout_ms: Some(60_000), ..Limits::default() },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(
        r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":1e15}"#,
    );
    assert_eq!(wants(&rig.pass(7 * 86_400)), [] as [&str; 0], "a limit can be a week's");
    assert!(wants(&rig.pass(2 * 86_400)).contains(&"INT"));
}

#[test]
fn events_after_a_turn_do_not_open_one() {
    const NESTED_PIECE: &str = r#"{"type":"stream_event","event":{"type":"content_block_delta"},"session_id":"s","parent_tool_use_id":"t","uuid":"u"}"#;
    const NESTED_RETRY: &str = r#"{"type":"system","subtype":"api_retry","error":"rate_limit","retry_delay_ms":2,"parent_tool_use_id":"t"}"#;
    for beside in [NESTED_PIECE, NESTED_RETRY, LIMIT] {
        let mut rig = Rig::launched(spec_of("background_task"));
        rig.hear(INIT).hear(TASK).hear(OK).hear(beside).hear(TASK_STOPPED);
        assert_eq!(rig.wants(), ["close"], "{beside}");
        assert_eq!(rig.ends(0).0, COMPLETED, "{beside}");

        let mut rig = Rig::launched(spec_of("background_task"));
        rig.hear(INIT).hear(TASK).hear(OK).hear(beside);
        assert_eq!(wants(&rig.pass(61)), ["close"], "{beside}: --background-wait ran out");
    }
    // Without background work it is claude itself.
    let mut rig = Rig::launched(spec_of("background_task"));
    rig.hear(INIT).hear(OK).hear(LIMIT);
    assert_eq!(rig.ends(0).0, failed(Reason::NoResult));
}

#[test]
fn earlier_error_does_not_affect_later_turns() {
    const SAYS_LIMIT: &str = r#"{"type":"assistant","error":"rate_limit","message":{"id":"e1","model":"<synthetic>","content":[{"type":"text","text":"limit"}]}}"#;
    const SAYS_NOTHING: &str = r#"{"type":"assistant","message":{"id":"e2","model":"<synthetic>","content":[{"type":"text","text":"hm"}]}}"#;
    const FAILED: &str =
        r#"{"type":"result","subtype":"success","is_error":true,"result":"broken","num_turns":1}"#;
    const MESSAGE: &str = r#"{"type":"user","message":{"content":[{"type":"text","text":"go"}]}}"#;
    let nested = |line: &str| line.replacen('{', r#"{"parent_tool_use_id":"t","#, 1);
    let (nested_limit, nested_text) = (nested(SAYS_LIMIT), nested(TEXT));
    for (lines, reason) in [
        (&[INIT, SAYS_LIMIT, FAILED][..], Reason::RateLimit),
        (&[INIT, TASK, SAYS_LIMIT, FAILED, &nested_text, TASK_STOPPED], Reason::RateLimit),
        (&[INIT, TASK, FAILED, &nested_limit, TASK_STOPPED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, SAYS_NOTHING, MESSAGE, FAILED], Reason::RateLimit),
        (&[INIT, SAYS_LIMIT, FAILED, INIT, FAILED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, FAILED, INIT, SAYS_NOTHING, FAILED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, FAILED, MESSAGE, FAILED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, FAILED, FAILED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, OK, INIT, FAILED], Reason::ApiError),
        (&[INIT, SAYS_LIMIT, FAILED, INIT, SAYS_LIMIT, FAILED], Reason::RateLimit),
        (&[INIT, SAYS_LIMIT, FAILED, SAYS_LIMIT, FAILED], Reason::RateLimit),
    ] {
        let mut rig = Rig::launched(Spec::default());
        for line in lines {
            rig.hear(line);
        }
        assert_eq!(rig.ends(1).0, failed(reason), "{lines:?}");
    }
}

#[test]
fn reads_prompts_that_end_in_half_a_character() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(r#"{"type":"user","message":{"role":"user","content":"cut \ud83d"}}"#);
    rig.hear(OK);
    assert_eq!(rig.ends(0).0, COMPLETED);
    assert!(rig.supervisor.record().warnings.is_empty(), "{:?}", rig.supervisor.record());
}

#[test]
fn warns_of_unusable_mcp_servers() {
    let init = |servers: &str| {
        format!(r#"{{"type":"system","subtype":"init","session_id":"s","mcp_servers":{servers}}}"#)
    };
    let all = |status: &str| {
        init(&format!(
            r#"[{{"name":"db","status":"{status}"}},{{"name":"ok","status":"connected"}},{{"name":7}}]"#
        ))
    };
    let (failed_db, pending) = (
        "MCP server db is not connected (failed)",
        "MCP server db was still connecting when claude listed it last",
    );
    for (inits, told) in [
        (vec![all("connected")], vec![]),
        (vec![init("null")], vec![]),
        (vec![all("failed")], vec![failed_db]),
        (vec![all("needs-auth")], vec!["MCP server db needs a login (needs-auth)"]),
        (vec![all("disabled")], vec!["MCP server db is not connected (disabled)"]),
        (vec![all("pending")], vec![pending]),
        (vec![all("pending"), all("connected")], vec![]),
        (vec![all("connected"), all("failed")], vec![failed_db]),
        (vec![all("failed"), init("null")], vec![failed_db]),
    ] {
        for fail_on_mcp in [false, true] {
            let mut rig = Rig::launched(Spec {
                fail_on: FailOn { mcp: fail_on_mcp, ..FailOn::default() },
                ..Spec::default()
            });
            for init in &inits {
                rig.hear(init).hear(OK);
            }
            let (verdict, outcome) = rig.ends(0);
            assert_eq!(outcome.warnings, told, "{inits:?}");
            let fails = fail_on_mcp && !told.is_empty();
            let expected = if fails { failed(Reason::McpFailed) } else { COMPLETED };
            assert_eq!(verdict, expected, "{inits:?}");
            if fails {
                assert_eq!(outcome.error.as_deref(), Some(told[0]));
            }
        }
    }
    // Reported at once and not withdrawn.
    let mut rig = Rig::launched(Spec::default());
    rig.hear(&all("pending"));
    assert!(rig.supervisor.record().warnings.is_empty());
    rig.hear(&all("failed"));
    assert_eq!(rig.supervisor.record().warnings, [failed_db]);
    rig.hear(&all("connected")).hear(OK);
    assert_eq!(rig.ends(0).1.warnings, [failed_db]);
}

#[test]
fn warns_of_ignored_permission_rules() {
    const IGNORING: &str = "Ignoring 2 permissions.allow entries from .claude/settings.json: this \
        workspace has not been trusted. Run Claude Code interactively here once.";
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(OK);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(0), signal: None }));
    let (verdict, outcome) = rig.concludes(&format!("Ignoring SIGPIPE\n{IGNORING}\n{IGNORING}\n"));
    assert_eq!((verdict, outcome.warnings), (COMPLETED, vec![format!("claude: {IGNORING}")]));
}
