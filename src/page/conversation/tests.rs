//! Tests of how the page shows a stream: complete, truncated, with edits and hostile text.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::*;

fn conversation(max_chars: usize, attempts: AttemptBoundaries, lines: &[String]) -> String {
    let mut conversation = Conversation::new(max_chars, "the prompt", attempts);
    let mut offset = 0;
    for line in lines {
        conversation.add_line(Line { bytes: line.as_bytes(), length: line.len() as u64 }, offset);
        offset += line.len() as u64 + 1;
    }
    conversation.markup().0
}

fn message(text: &str) -> String {
    serde_json::json!({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}})
        .to_string()
}

fn call(id: &str, name: &str, input: &Value) -> String {
    serde_json::json!({"type": "assistant", "message": {"content": [
        {"type": "tool_use", "id": id, "name": name, "input": input}]}})
    .to_string()
}

fn tool_result(id: &str, text: &str, is_error: bool) -> String {
    serde_json::json!({"type": "user", "message": {"content": [
        {"type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error}]}})
    .to_string()
}

fn init() -> String {
    r#"{"type":"system","subtype":"init"}"#.to_owned()
}

fn result() -> String {
    r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.5}"#
        .to_owned()
}

fn attempts_of(page: &str) -> Vec<&str> {
    page.split("Attempt ").skip(1).map(|rest| &rest[..1]).collect()
}

#[test]
fn matches_results_to_calls_in_any_order() {
    let one = serde_json::json!({"command": "one"});
    let lines = [
        call("a", "Bash", &one),
        call("b", "Bash", &serde_json::json!({"command": "two"})),
        tool_result("b", "of two", true),
        tool_result("a", "of one", false),
        tool_result("c", "of nobody", false),
    ];
    let page = conversation(100_000, AttemptBoundaries::default(), &lines);
    let (first, second) = page.split_once("call failed").unwrap();
    assert!(first.contains("of one") && second.contains("of two"), "{page}");
    assert!(!first.contains("✗") && second.contains("✗"), "{page}");
    assert!(!page.contains("of nobody"));
}

#[test]
fn shows_edits_as_diffs_and_invalid_ones_as_input() {
    let edit = serde_json::json!({"file_path": "/a", "old_string": "x\n", "new_string": "y\n"});
    let page = |name, input: &Value| {
        conversation(100_000, AttemptBoundaries::default(), &[call("a", name, input)])
    };
    for (name, input) in [
        ("Edit", edit.clone()),
        ("MultiEdit", serde_json::json!({"file_path": "/a", "edits": [edit.clone()]})),
    ] {
        let page = page(name, &input);
        assert!(page.contains("<del>- x\n</del><ins>+ y\n</ins>"), "{page}");
    }
    assert!(page("Write", &serde_json::json!({"content": "y\n"})).contains("<ins>+ y\n</ins>"));
    for (name, input) in [
        ("Edit", serde_json::json!({"old_string": 7, "new_string": "y"})),
        ("MultiEdit", serde_json::json!({"edits": [1]})),
        ("Write", serde_json::json!({"content": null})),
        ("Edit", serde_json::json!([])),
    ] {
        assert!(!page(name, &input).contains("<ins>"), "{input}");
    }
}

#[test]
fn shows_diff_of_edit_with_lone_surrogate() {
    let edit = serde_json::json!({"old_string": "before", "new_string": "after HALF"});
    let lines = [call("a", "Edit", &edit).replace("HALF", r"\ud83d")];
    let page = conversation(100_000, AttemptBoundaries::default(), &lines);
    assert!(page.contains("after \u{fffd}") && !page.contains("old_string"), "{page}");
}

#[test]
fn omits_middle_of_long_conversation_with_note() {
    let lines: Vec<String> =
        (0..2_000).map(|n| message(&format!("word {n} {}", "x".repeat(100)))).collect();
    let page = conversation(50_000, AttemptBoundaries::default(), &lines);
    assert!(page.contains("word 0 ") && page.contains("word 1999 "), "both ends");
    assert!(!page.contains("word 1000 "));
    assert!(page.contains("omitted here, with"), "{page}");
    assert!(page.len() < 100_000, "{}", page.len());
}

#[test]
fn counts_results_of_omitted_calls() {
    let empty = serde_json::json!({});
    let mut lines = vec![call("first", "Bash", &empty)];
    lines.extend((0..500).map(|n| call(&format!("t{n}"), "Bash", &empty)));
    lines.extend((0..500).map(|n| tool_result(&format!("t{n}"), &format!("gave {n};"), false)));
    lines.push(tool_result("first", "gave first", false));
    let page = conversation(20_000, AttemptBoundaries::default(), &lines);
    assert!(page.contains("gave first") && page.contains("gave 499;"), "{page}");
    assert!(!page.contains("gave 250;"));
}

#[test]
fn separates_attempts_as_far_as_recorded() {
    let length = |lines: &[String]| lines.iter().map(|line| line.len() as u64 + 1).sum();
    // Interrupted within a turn, twice.
    let lines = [init(), message("a"), init(), message("b"), init(), message("c"), result()];
    let attempts = |lines: &[String], turns: &[u32]| AttemptBoundaries {
        last: 3,
        log_start: length(lines),
        turns: turns.to_vec(),
    };
    assert_eq!(
        attempts_of(&conversation(9_999, attempts(&lines[..4], &[3]), &lines)),
        ["1", "2", "3"]
    );
    // Two turns in one attempt, then one in the next, then the last.
    let lines =
        [init(), result(), init(), result(), init(), result(), init(), message("c"), result()];
    let page = conversation(9_999, attempts(&lines[..6], &[1, 1, 2, 3]), &lines);
    assert_eq!(attempts_of(&page), ["1", "2", "3"]);
    let first = page.split("Attempt 2").next().unwrap();
    assert_eq!(first.matches("class=\"end\"").count(), 2, "{page}");
    // A single attempt has no heading.
    let one = AttemptBoundaries { last: 1, ..AttemptBoundaries::default() };
    assert_eq!(attempts_of(&conversation(9_999, one, &lines)), Vec::<&str>::new());
}

fn texts() -> impl Strategy<Value = String> {
    const ODD: [&str; 8] =
        ["</details>", "<script>", "</pre>", "\"", "'", "&lt;", "<!--", "\u{0}\u{1b}[2J\u{202e}"];
    vec(prop_oneof![select(&ODD[..]).prop_map(str::to_owned), "\\PC{0,40}"], 0..6)
        .prop_map(|parts| parts.concat())
}

fn streams() -> impl Strategy<Value = Vec<String>> {
    let line =
        (0..9usize, texts(), texts(), any::<bool>()).prop_map(|(kind, a, b, flag)| match kind {
            0 => message(&a),
            1 => call(&a, &b, &serde_json::json!({&a: &b, "edits": [{&b: &a}]})),
            2 => call(&a, "Edit", &serde_json::json!({"old_string": a, "new_string": b})),
            3 => call(&a, "Write", &serde_json::json!({"content": b})),
            4 | 5 => tool_result(&a, &b, flag),
            6 => init(),
            7 => result(),
            _ => a + &b,
        });
    vec(line, 0..60)
}

proptest! {
    #[test]
    fn fuzz_pages(lines in streams(), max_chars in 0..20_000usize, last in 0..5u32, start in 0..9_000u64) {
        let attempts = AttemptBoundaries { last, log_start: start, turns: vec![1, 2, 7] };
        let page = conversation(max_chars, attempts, &lines);
        let tags = |tag: &str| page.matches(tag).count();
        prop_assert!(tags("<script") + tags("<!--") + tags("\u{1b}") == 0, "{page}");
        for (begin, end) in [("<details", "</details>"), ("<pre", "</pre>"), ("<div", "</div>")] {
            prop_assert_eq!(tags(begin), tags(end), "{}", begin);
        }
        // Escaping makes at most six characters of one, and one step may exceed the limit.
        prop_assert!(page.len() < 6 * (max_chars + 20_000), "{}", page.len());
    }
}

#[test]
fn does_not_repeat_prompt() {
    let user = |text: &str| {
        serde_json::json!({"type": "user", "isReplay": true, "uuid": "u",
            "message": {"content": [{"type": "text", "text": text}]}})
        .to_string()
    };
    let page =
        conversation(9_999, AttemptBoundaries::default(), &[user("the prompt\n"), user("more")]);
    assert!(!page.contains("the prompt") && page.contains("more"), "{page}");
}

#[test]
fn shows_decision_in_waiting_call() {
    let asks = |tool: &str| {
        serde_json::json!({"type": "control_request", "request_id": "r", "request": {
            "subtype": "can_use_tool", "tool_name": tool, "input": {}, "tool_use_id": "a"}})
        .to_string()
    };
    for (tool, open, closed) in
        [("AskUserQuestion", "No answer.", "Answer"), ("Write", "No permission.", "Allowed.")]
    {
        let mut lines = vec![call("a", tool, &serde_json::json!({"x": 1})), asks(tool)];
        let page = |lines: &[String]| conversation(9_999, AttemptBoundaries::default(), lines);
        assert!(page(&lines).contains(open) && !page(&lines).contains(closed), "{}", page(&lines));
        lines.push(tool_result("a", "given", false));
        assert!(page(&lines).contains(closed) && !page(&lines).contains(open), "{}", page(&lines));
    }
}

#[test]
fn ends_failed_conversation_with_verdict() {
    use crate::job::{JobId, Reason, Record, Spec, Timestamp, Verdict};

    let at = Timestamp::from_epoch_ms(0).unwrap();
    let page = |lines: &[String], end: Option<Verdict>| {
        let id = JobId::parse("a").unwrap();
        let mut record = Record::new(id, Spec::default(), String::new(), at);
        end.iter().for_each(|verdict| record.end(verdict, at));
        let mut conversation = Conversation::new(9_999, "", AttemptBoundaries::default());
        for line in lines {
            conversation.add_line(Line { bytes: line.as_bytes(), length: line.len() as u64 }, 0);
        }
        conversation.conclude(&record);
        conversation.markup().0
    };
    let lines = [message("hi"), result()];
    let live = page(&lines, None);
    assert!(live.contains("done · 1 turn") && !live.contains("completed"), "{live}");
    let completed = page(&lines, Some(Verdict::Completed));
    assert_eq!(completed, live);
    let failed = page(&lines, Some(Verdict::failed(Reason::Auth, "the API said <no>")));
    assert!(failed.contains("failed (auth): the API said &lt;no&gt;"), "{failed}");
    assert!(failed.contains("the turn ended · 1 turn") && !failed.contains("done"), "{failed}");
    let mute = page(&[], Some(Verdict::Killed));
    assert!(mute.contains(r#"<p class="end bad">killed</p>"#), "{mute}");
}
