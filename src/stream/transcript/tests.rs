use super::*;

fn read(line: &str) -> Vec<(Speaker, String)> {
    transcript_lines(Line { bytes: line.as_bytes(), length: line.len() as u64 })
        .into_iter()
        .map(|line| (line.speaker, line.text))
        .collect()
}

#[test]
fn shows_a_tool_call_as_one_line() {
    for (input, shown) in [
        (r#"{"description":"run","command":"cargo test\n  --all"}"#, "Bash: cargo test --all"),
        (r#"{"content":"long","file_path":"/a/b"}"#, "Bash: /a/b"),
        (r#"{"content":"\ud83d","command":"echo \ud83d"}"#, "Bash: echo \u{fffd}"),
        (r#"{"x":{"y":1}}"#, r#"Bash: {"y":1}"#),
        ("{}", "Bash"),
    ] {
        let line = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"t","name":"Bash","input":{input}}}]}}}}"#
        );
        assert_eq!(read(&line), [(Speaker::Tool, shown.to_owned())]);
    }
}

#[test]
fn shows_the_error_of_a_tool_without_tags() {
    let line = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"tool_use_id":"t","content":"<tool_use_error>Blocked: sleep</tool_use_error>"}]}}"#;
    assert_eq!(read(line), [(Speaker::ToolError, "Blocked: sleep".to_owned())]);
}

#[test]
fn shows_the_end_of_background_work_alone() {
    let ended = |fields: &str| {
        read(&format!(
            r#"{{"type":"system","subtype":"task_notification","task_id":"b1",{fields}}}"#
        ))
    };
    let shown = [(Speaker::Note, "background task b1 completed".to_owned())];
    assert_eq!(ended(r#""status":"completed","output_file":"/x""#), shown);
    assert_eq!(ended(r#""status":"completed""#), shown);
    // A command that the turn waited for.
    assert_eq!(ended(r#""status":"completed","output_file":"""#), []);
    let stopped = [(Speaker::Note, "background task b1 stopped".to_owned())];
    assert_eq!(ended(r#""status":"stopped","output_file":"""#), stopped);
}

#[test]
fn shows_how_a_turn_ended() {
    let end = |fields: &str| {
        let line = format!(r#"{{"type":"result","num_turns":1,"duration_ms":90,{fields}}}"#);
        read(&line).remove(0).1
    };
    assert_eq!(end(r#""subtype":"success","is_error":false"#), "done · 1 turn · 0.1s");
    let aborted = r#""is_error":true,"terminal_reason":"aborted_tools","errors":["[ede]"]"#;
    assert_eq!(end(aborted), "interrupted · 1 turn · 0.1s");
    for (fields, why) in [
        (r#""is_error":true,"errors":["no more turns"]"#, "no more turns"),
        (r#""is_error":true,"errors":["one"," ","two\n"],"result":"x""#, "one; two"),
        (r#""subtype":"success","is_error":true,"result":"API Error: 401""#, "API Error: 401"),
        (r#""subtype":"success","is_error":true,"result":" ""#, NO_MESSAGE),
        (
            r#""subtype":"error_during_execution","is_error":false,"errors":[]"#,
            "claude ended its turn with an error and gave no message (error_during_execution)",
        ),
    ] {
        assert_eq!(end(fields), format!("failed: {why} · 1 turn · 0.1s"));
    }
}

#[test]
fn omits_uninteresting_events() {
    for line in [
        "",
        r#"{"type":"system","subtype":"init"}"#,
        r#"{"type":"stream_event","event":{}}"#,
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":" \n"}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"fine"}]}}"#,
    ] {
        assert_eq!(read(line), [], "{line}");
    }
}

#[test]
fn shows_stray_lines() {
    assert_eq!(read("npm  notice\tx"), [(Speaker::Note, "npm notice x".to_owned())]);
    let garbage = transcript_lines(Line { bytes: &[0xff; 10_000], length: 10_000 });
    assert_eq!(garbage[0].text.chars().count(), MAX_STRAY_CHARS);
}

#[test]
fn shortens_long_speech_visibly() {
    let line = format!(
        r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
        "ä".repeat(MAX_SPEECH_CHARS + 7)
    );
    let mut lines = transcript_lines(Line { bytes: line.as_bytes(), length: line.len() as u64 });
    assert_eq!(lines[0].text.chars().count(), MAX_SPEECH_CHARS + 7);
    lines[0].shorten();
    assert!(lines[0].text.ends_with("ä […7 more characters]"));
}
