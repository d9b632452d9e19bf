//! What counts as an answer, and the result of turns that asked no model or failed.

use super::*;
use crate::job::{ClaudeOptions, FailOn, InboxMessage, KeepAliveOptions};

const EMPTY: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"","num_turns":1,"total_cost_usd":0.01,"usage":{"input_tokens":5,"output_tokens":1}}"#;
const HELP: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"/help isn't available","num_turns":0,"total_cost_usd":0,"usage":{"input_tokens":0,"output_tokens":0},"model_usage_since_last_result":{}}"#;
const PROMPT_TAKEN: &str =
    r#"{"type":"user","isReplay":true,"uuid":"p","message":{"role":"user","content":"do it"}}"#;
const MESSAGE_TAKEN: &str =
    r#"{"type":"user","isReplay":true,"uuid":"u","message":{"role":"user","content":"more"}}"#;
const CALL: &str = r#"{"type":"assistant","message":{"id":"m2","content":[{"type":"tool_use","id":"t","name":"Read","input":{"file_path":"/etc/x"}}]}}"#;
const API_ERROR: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":400,"result":"no","num_turns":1}"#;

fn local(command: &str, text: &str) -> String {
    HELP.replace("\"num_turns\":0", &format!("\"num_turns\":0,\"local_command\":\"{command}\""))
        .replace("/help isn't available", text)
}

fn spoken_by_cli(outcome: &str, text: &str) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"model":"<synthetic>","content":[{{"type":"text","text":"{text}"}}]}},"local_command_outcome":{{"kind":"{outcome}"}}}}"#
    )
}

fn verdict_of(lines: &[&str]) -> (Verdict2, Outcome) {
    let mut rig = Rig::launched(spec_of(""));
    for line in lines {
        rig.hear(line);
    }
    rig.ends(0)
}

#[test]
fn empty_result_is_not_an_answer() {
    for lines in [
        vec![INIT, EMPTY],
        vec![INIT, PROMPT_TAKEN, EMPTY],
        vec![INIT, TEXT, CALL, ANSWERED, EMPTY],
        vec![INIT, &EMPTY.replace("\"\"", "\" \\n\"")],
    ] {
        let (verdict, outcome) = verdict_of(&lines);
        assert_eq!(verdict, failed(Reason::NoAnswer), "{lines:?}");
        assert_eq!(outcome.partial, outcome.result.is_some());
    }
    let (_, outcome) = verdict_of(&[INIT, TEXT, CALL, ANSWERED, EMPTY]);
    assert_eq!((outcome.result.as_deref(), outcome.partial), (Some("hm"), true));
}

#[test]
fn takes_last_text_as_answer_of_empty_result() {
    let (verdict, outcome) = verdict_of(&[INIT, CALL, ANSWERED, TEXT, EMPTY]);
    assert_eq!((verdict, outcome.result.as_deref()), (COMPLETED, Some("hm")));
    assert!(!outcome.partial);
}

#[test]
fn empty_follow_up_keeps_the_answer() {
    let (verdict, outcome) =
        verdict_of(&[INIT, PROMPT_TAKEN, TASK, TEXT, OK, TASK_DONE, INIT, EMPTY]);
    assert_eq!((verdict, outcome.result.as_deref()), (COMPLETED, Some("ok")));
    // A message is a new request.
    let (verdict, outcome) = verdict_of(&[INIT, PROMPT_TAKEN, OK, MESSAGE_TAKEN, EMPTY]);
    assert_eq!((verdict, outcome.result), (failed(Reason::NoAnswer), None));
    // So is a message that is accepted within a turn.
    let (verdict, _) = verdict_of(&[INIT, PROMPT_TAKEN, TEXT, MESSAGE_TAKEN, OK]);
    assert_eq!(verdict, COMPLETED);
}

#[test]
fn judges_each_turn_of_a_kept_alive_job_alone() {
    let spec = Spec {
        keep_alive: KeepAliveOptions {
            enabled: true,
            idle_timeout_ms: 3_600_000,
            ..KeepAliveOptions::default()
        },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(PROMPT_TAKEN).hear(OK);
    assert!(rig.supervisor.record().progress.last_failure.is_none());
    rig.hear(INIT).hear(MESSAGE_TAKEN).hear(EMPTY);
    let failure = rig.supervisor.record().progress.last_failure.clone().unwrap();
    assert_eq!(failure.reason, Reason::NoAnswer);
    assert_eq!(rig.supervisor.outcome().result, None, "not the answer to another message");
    // A message that never reached the model is not reported as accepted.
    let message = InboxMessage::Message { uuid: "u".to_owned(), text: "/help".to_owned() };
    rig.take(Input::Message { number: 7, message: Ok(message) });
    rig.hear(INIT).hear(HELP);
    assert!(
        rig.effects.contains(&Effect::SetAside(7))
            && rig.effects.contains(&Effect::RemoveMessage(7))
    );
    let failure = rig.supervisor.record().progress.last_failure.clone().unwrap();
    assert_eq!(failure.reason, Reason::PromptRejected);
    rig.take(Input::Message { number: 9, message: Ok(InboxMessage::Finish) });
    assert_eq!(rig.ends(0).0, failed(Reason::PromptRejected));
}

#[test]
fn rejects_turns_without_the_model_except_commands() {
    let compact = local("compact", "");
    let failed_compact = spoken_by_cli("failed", "Error: No messages to compact");
    let failed_skill = spoken_by_cli("failed", "Shell command failed");
    let skill = local("custom", "Shell command failed");
    let unavailable = spoken_by_cli("unavailable_headless", "/status isn't available");
    let spent = HELP.replace("\"total_cost_usd\":0", "\"total_cost_usd\":0.5").replace(
        "\"model_usage_since_last_result\":{}",
        "\"model_usage_since_last_result\":{\"m\":{\"costUSD\":0.5}}",
    );
    let context = local("context", "## Context");
    for (lines, expected, answer) in [
        (vec![INIT, HELP], failed(Reason::PromptRejected), None),
        (vec![INIT, &*unavailable, HELP], failed(Reason::PromptRejected), None),
        (vec![INIT, &*failed_skill, &*skill], failed(Reason::PromptRejected), None),
        (vec![INIT, &*skill], COMPLETED, Some("Shell command failed")),
        (vec![INIT, &*context], COMPLETED, Some("## Context")),
        (vec![INIT, &*failed_compact, &*compact], COMPLETED, Some("Error: No messages to compact")),
        // A gateway may not count tokens: the model has spoken.
        (vec![INIT, TEXT, HELP], COMPLETED, Some("/help isn't available")),
        // A skill with `context: fork`.
        (vec![INIT, &*spent], COMPLETED, Some("/help isn't available")),
    ] {
        let (verdict, outcome) = verdict_of(&lines);
        assert_eq!(verdict, expected, "{lines:?}: {:?}", outcome.error);
        assert_eq!(outcome.result.as_deref(), answer, "{lines:?}");
    }
    let (_, outcome) = verdict_of(&[INIT, &failed_compact, &compact]);
    assert!(outcome.warnings[0].contains("No messages to compact"), "{:?}", outcome.warnings);
}

#[test]
fn reports_why_a_prompt_was_rejected() {
    let prevented = r#"{"type":"system","subtype":"informational","content":"blocked by hook: NO-TICKET","prevent_continuation":true}"#;
    let preamble = r#"{"type":"user","isReplay":true,"uuid":"x","message":{"content":"<local-command-stderr>Error: no such file</local-command-stderr>"}}"#;
    let silent = HELP.replace("/help isn't available", "");
    for (lines, words) in [
        (vec![INIT, HELP], "/help isn't available"),
        (vec![INIT, prevented, &*silent], "NO-TICKET"),
        (vec![INIT, preamble, &*silent], "no such file"),
    ] {
        let (verdict, outcome) = verdict_of(&lines);
        assert_eq!(verdict, failed(Reason::PromptRejected), "{lines:?}");
        assert!(outcome.error.as_deref().unwrap().contains(words), "{:?}", outcome.error);
    }
}

#[test]
fn keeps_the_text_before_a_failure() {
    let (verdict, outcome) = verdict_of(&[INIT, TEXT, API_ERROR]);
    assert_eq!(verdict, failed(Reason::ApiError));
    assert_eq!((outcome.result.as_deref(), outcome.partial), (Some("hm"), true));
    // The text of the CLI on the failure is not from the agent.
    let said = r#"{"type":"assistant","error":"unknown","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error"}]}}"#;
    let (_, outcome) = verdict_of(&[INIT, said, API_ERROR]);
    assert_eq!((outcome.result, outcome.partial), (None, false));
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT).take(Input::KillRequested);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!((verdict, outcome.result.as_deref()), (KILLED, Some("hm")));
    assert!(outcome.partial);
}

#[test]
fn reports_all_errors_and_never_success() {
    let errors = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["one","two"]}"#;
    assert_eq!(verdict_of(&[INIT, errors]).1.error.as_deref(), Some("one; two"));
    let silent =
        r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"completed"}"#;
    let error = verdict_of(&[INIT, silent]).1.error.unwrap();
    assert!(!error.contains("success") && error.contains("no message"), "{error}");
    let status = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":418}"#;
    assert!(verdict_of(&[INIT, status]).1.error.unwrap().contains("418"));
}

#[test]
fn a_prompt_that_is_too_long_has_its_own_reason() {
    for fields in [
        r#""terminal_reason":"blocking_limit","result":"Prompt is too long""#,
        r#""terminal_reason":"prompt_too_long","api_error_status":400,"result":"x""#,
        r#""api_error_status":400,"result":"API Error: 400 prompt is too long: 25 tokens > 20 maximum""#,
    ] {
        let line = format!(r#"{{"type":"result","subtype":"success","is_error":true,{fields}}}"#);
        assert_eq!(verdict_of(&[INIT, &line]).0, failed(Reason::PromptTooLong), "{fields}");
    }
}

#[test]
fn counts_denials_that_only_a_tool_result_reports() {
    let by_text = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"tool_use_id":"t","content":"<tool_use_error>File is in a directory that is denied by your permission settings.</tool_use_error>"}]}}"#;
    let by_meta = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"tool_use_id":"t","content":"no"}]},"tool_result_meta":[{"id":"t","permission_decision":{"decision":"reject"}}]}"#;
    let by_event = r#"{"type":"system","subtype":"permission_denied","tool_name":"Read","tool_use_id":"t","message":"no"}"#;
    let ran = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"tool_use_id":"t","content":"Exit code 1\nPermission to use x has been denied"}]}}"#;
    let listed = OK.replace("}", r#","permission_denials":[{"tool_name":"Read","tool_use_id":"t","tool_input":{"file_path":"/etc/x"}}]}"#);
    for (line, result, denials) in [
        (by_text, OK, 1),
        (by_meta, OK, 1),
        (by_event, OK, 1),
        (by_text, &*listed, 1),
        (ran, OK, 0),
    ] {
        let spec =
            || Spec { fail_on: FailOn { denial: true, ..FailOn::default() }, ..Spec::default() };
        let mut rig = Rig::launched(spec());
        rig.hear(INIT).hear(CALL).hear(line).hear(result);
        let (verdict, outcome) = rig.ends(0);
        assert_eq!(outcome.permission_denials.len(), denials, "{line}");
        if denials > 0 {
            assert_eq!(verdict, failed(Reason::PermissionDenied));
            assert_eq!(outcome.error.as_deref(), Some("claude was denied: Read /etc/x"));
        } else {
            assert_eq!(verdict, COMPLETED);
        }
    }
}

#[test]
fn a_turn_that_claude_began_itself_rejects_no_message() {
    let empty = HELP
        .replace("/help isn't available", "")
        .replace("\"num_turns\":0", "\"num_turns\":0,\"origin\":{\"kind\":\"task-notification\"}");
    let message = InboxMessage::Message { uuid: "u".to_owned(), text: "more".to_owned() };
    let mut kept = Rig::launched(Spec {
        keep_alive: KeepAliveOptions {
            enabled: true,
            idle_timeout_ms: 9_000,
            ..KeepAliveOptions::default()
        },
        ..Spec::default()
    });
    kept.hear(INIT).hear(OK).take(Input::Message { number: 7, message: Ok(message) });
    kept.hear(&empty);
    assert!(!kept.effects.contains(&Effect::SetAside(7)), "not accepted yet");
    kept.hear(INIT).hear(MESSAGE_TAKEN);
    assert!(kept.effects.contains(&Effect::SetAside(7)));
    // It is neither an answer nor the lack of one.
    let (verdict, outcome) = verdict_of(&[INIT, PROMPT_TAKEN, OK, &empty]);
    assert_eq!((verdict, outcome.result.as_deref()), (COMPLETED, Some("ok")));
}

#[test]
fn removes_messages_refused_within_a_turn() {
    let done = r#"{"type":"command_lifecycle","command_uuid":"u","state":"completed"}"#;
    let prevented = r#"{"type":"system","subtype":"informational","content":"blocked by hook","prevent_continuation":true}"#;
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(PROMPT_TAKEN).hear(TEXT);
    let message = InboxMessage::Message { uuid: "u".to_owned(), text: "BAD".to_owned() };
    rig.take(Input::Message { number: 7, message: Ok(message) });
    rig.hear(done);
    assert!(rig.effects.contains(&Effect::SetAside(7)));
    rig.hear(prevented).hear(OK);
    assert!(rig.effects.contains(&Effect::RemoveMessage(7)));
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, COMPLETED);
    assert!(outcome.warnings[0].contains("blocked by hook"), "{:?}", outcome.warnings);
}

#[test]
fn keeps_structured_output_over_empty_follow_up() {
    let output = OK.replace("\"result\":\"ok\"", "\"structured_output\":{\"a\":1}");
    let spec = || Spec {
        options: ClaudeOptions { json_schema: Some("{}".to_owned()), ..spec_of("").options },
        ..spec_of("")
    };
    let mut rig = Rig::launched(spec());
    rig.hear(INIT).hear(PROMPT_TAKEN).hear(TASK).hear(&output).hear(TASK_DONE);
    let (verdict, outcome) = rig.hear(INIT).hear(EMPTY).ends(0);
    assert_eq!(verdict, COMPLETED);
    assert_eq!(outcome.structured_output, Some(serde_json::json!({"a": 1})));
    let mut rig = Rig::launched(spec());
    rig.hear(INIT).hear(PROMPT_TAKEN).hear(&output).hear(MESSAGE_TAKEN);
    let (verdict, outcome) = rig.hear(EMPTY).ends(0);
    assert_eq!((verdict, outcome.structured_output), (failed(Reason::InvalidOutput), None));
}

#[test]
fn invisible_text_is_not_an_answer() {
    let unseen = OK.replace("ok", "\u{200b}\u{feff} \u{2060}");
    assert_eq!(verdict_of(&[INIT, PROMPT_TAKEN, &unseen]).0, failed(Reason::NoAnswer));
}
