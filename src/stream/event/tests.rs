use serde_json::json;

use super::*;

#[test]
fn prefix_is_a_prefix_of_the_whole() {
    for piece in [
        "a",
        "ä",
        "€",
        "😀",
        "\\n",
        "\\u00e4",
        "\\ud83d\\ude00",
        "a\\\\\\\"",
        "\\ud83d",
        "\\ud83d\\u00e4",
        "\\ude00\\ud83dud",
    ] {
        let line = format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            piece.repeat(500)
        );
        let Some(Event::User(UserMessage { blocks, .. })) = decode(line.as_bytes()) else {
            panic!()
        };
        let [Block::Text(words)] = &blocks[..] else { panic!() };
        for most in 1..40 {
            let opening = words.prefix(most);
            assert!(words.whole().starts_with(opening.as_ref()), "{piece}");
            assert!(opening.chars().count() >= most, "{piece}");
        }
    }
}

#[test]
fn ignores_messages_of_another_shape() {
    for message in [
        "null",
        "7",
        "[1]",
        "\"x\"",
        "{\"content\":{\"a\":[1]}}",
        "{\"content\":[1,\"x\",[2],null]}",
    ] {
        let line = format!(r#"{{"type":"user","message":{message},"parent_tool_use_id":"p"}}"#);
        let Some(Event::User(UserMessage { blocks, nested: true, .. })) = decode(line.as_bytes())
        else {
            panic!("{message}")
        };
        assert!(blocks.is_empty(), "{message}");
    }
}

#[test]
fn rejects_lines_that_are_not_objects() {
    for line in
        ["", "x", "1", "\"a\"", "[", "{", "{\"type\":", "npm notice", "{\"type\":\"result\""]
    {
        assert!(decode(line.as_bytes()).is_none(), "{line}");
    }
}

#[test]
fn rejects_duplicate_fields() {
    for line in [
        r#"{"type":"result","is_error":true,"is_error":false}"#,
        r#"{"type":"result","is_error":null,"is_error":false}"#,
        r#"{"type":"result","is_error":false,"is_error":null}"#,
        r#"{"type":null,"ty\u0070e":"result"}"#,
        r#"{"type":"user","message":null,"message":{}}"#,
        r#"{"type":"user","message":{"id":null,"id":"m"}}"#,
        r#"{"type":"user","message":{"content":null,"content":[]}}"#,
        r#"{"type":"user","message":{"content":[{"type":null,"type":"text"}]}}"#,
    ] {
        assert!(decode(line.as_bytes()).is_none(), "{line}");
    }
}

#[test]
fn decodes_unknown_events_as_other() {
    for line in [
        "{}",
        "{\"type\":7}",
        "{\"type\":\"dream\",\"message\":[]}",
        "{\"type\":\"system\",\"subtype\":\"task_started\"}",
        "{\"type\":\"system\",\"subtype\":\"hook_response\"}",
        "{\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"new\"}}",
    ] {
        assert!(matches!(decode(line.as_bytes()), Some(Event::Other)), "{line}");
    }
}

#[test]
fn treats_fields_of_another_type_as_absent() {
    let line = br#"{"type":"result","subtype":"success","is_error":"no","result":{"a":1},"num_turns":"x","errors":7}"#;
    let Some(Event::Result(result)) = decode(line) else { panic!("no result") };
    assert!(result.is_error, "what is not clearly a success is none");
    assert_eq!((result.result, result.num_turns), (None, 0));
}

#[test]
fn recognizes_partial_messages_of_subagents() {
    let quoted = r#"{"delta":{"text":",\"parent_tool_use_id\":\"t\","}}"#;
    for (fields, expected) in [
        (r#""event":{}"#.to_owned(), false),
        (r#""event":{},"parent_tool_use_id":null,"uuid":"u""#.to_owned(), false),
        (r#""event":{},"parent_tool_use_id":"t","uuid":"u""#.to_owned(), true),
        (r#""parent_tool_use_id": "t" ,"event":{}"#.to_owned(), true),
        (r#""parent_tool_use_id" : "t""#.to_owned(), true),
        (format!(r#""event":{quoted},"parent_tool_use_id":null"#), false),
        (format!(r#""event":{quoted},"parent_tool_use_id":"t""#), true),
        (format!(r#""event":{quoted}"#), false),
    ] {
        for start in [r#"{"type":"stream_event","#, r#"{ "type":"stream_event","#] {
            let line = format!("{start}{fields}}}");
            let Some(Event::Partial { nested }) = decode(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(nested, expected, "{line}");
        }
    }
}

#[test]
fn half_a_surrogate_pair_loses_no_field() {
    let line = br#"{"type":"result","is_error":true,"result":"a\ud83d","subtype":"\ude00","errors":["e\ud83d","f"],"structured_output":{"k\ud83d":"v"},"usage":["\ud83d"],"permission_denials":[{"tool_name":"A","tool_input":"\ud83d"},{"tool_name":"B"}]}"#;
    let Some(Event::Result(result)) = decode(line) else { panic!("no result") };
    assert_eq!(result.result.as_deref(), Some("a\u{fffd}"));
    assert_eq!(result.subtype, "\u{fffd}");
    assert_eq!(result.errors, ["e\u{fffd}", "f"]);
    assert_eq!(result.structured_output, Some(json!({"k\u{fffd}": "v"})));
    assert_eq!(result.usage, Some(json!(["\u{fffd}"])));
    let denials = [json!({"tool_name": "A", "tool_input": "\u{fffd}"}), json!({"tool_name": "B"})];
    assert_eq!(result.permission_denials, denials);

    let line = br#"{"type":"assistant","message":{"content":[{"type":"text","text":"so \ud83d"},{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"\ud83d"}]}]}}"#;
    let Some(Event::Assistant(AssistantMessage { blocks, .. })) = decode(line) else {
        panic!("no words")
    };
    let [Block::Text(words), Block::ToolResult { text, .. }] = &blocks[..] else { panic!() };
    assert_eq!((&*words.whole(), &*words.prefix(1)), ("so \u{fffd}", "so \u{fffd}"));
    assert_eq!(text.whole(), "\u{fffd}");
}

#[test]
fn tool_results_are_strings_or_blocks() {
    let line = br#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"one"},{"type":"tool_result","tool_use_id":"b","is_error":true,"content":[7,{"type":"text","text":"two"},null,{"type":"image"}]}]}}"#;
    let Some(Event::User(UserMessage { blocks, nested: false, .. })) = decode(line) else {
        panic!()
    };
    let seen: Vec<_> = blocks
        .iter()
        .map(|block| match block {
            Block::ToolResult { id, is_error, text } => (id.as_ref(), *is_error, text.whole()),
            _ => panic!("{block:?}"),
        })
        .collect();
    assert_eq!(seen, [("a", false, "one".into()), ("b", true, "two".into())]);
}
