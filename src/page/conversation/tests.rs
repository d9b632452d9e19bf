//! What the page shows of a stream: whole, edited, cut short, and of hostile text.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn conversation(room: usize, attempts: Attempts, lines: &[String]) -> String {
    let mut conversation = Conversation::new(room, "the prompt", attempts);
    let mut offset = 0;
    for line in lines {
        conversation.line(Line { bytes: line.as_bytes(), length: line.len() as u64 }, offset);
        offset += line.len() as u64 + 1;
    }
    conversation.markup().0
}

fn said(text: &str) -> String {
    serde_json::json!({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}})
        .to_string()
}

fn call(id: &str, name: &str, input: &Value) -> String {
    serde_json::json!({"type": "assistant", "message": {"content": [
        {"type": "tool_use", "id": id, "name": name, "input": input}]}})
    .to_string()
}

fn gave(id: &str, text: &str, is_error: bool) -> String {
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
fn results_stand_in_their_calls_whatever_their_order() {
    let one = serde_json::json!({"command": "one"});
    let lines = [
        call("a", "Bash", &one),
        call("b", "Bash", &serde_json::json!({"command": "two"})),
        gave("b", "of two", true),
        gave("a", "of one", false),
        gave("c", "of nobody", false),
    ];
    let page = conversation(100_000, Attempts::default(), &lines);
    let (first, second) = page.split_once("call failed").unwrap();
    assert!(first.contains("of one") && second.contains("of two"), "{page}");
    assert!(!first.contains("✗") && second.contains("✗"), "{page}");
    assert!(!page.contains("of nobody"));
}

#[test]
fn edits_are_diffs_and_broken_ones_are_input() {
    let edit = serde_json::json!({"file_path": "/a", "old_string": "x\n", "new_string": "y\n"});
    let page =
        |name, input: &Value| conversation(100_000, Attempts::default(), &[call("a", name, input)]);
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
fn an_edit_that_holds_half_a_character_is_a_diff() {
    let edit = serde_json::json!({"old_string": "before", "new_string": "after HALF"});
    let lines = [call("a", "Edit", &edit).replace("HALF", r"\ud83d")];
    let page = conversation(100_000, Attempts::default(), &lines);
    assert!(page.contains("after \u{fffd}") && !page.contains("old_string"), "{page}");
}

#[test]
fn a_long_conversation_loses_its_middle_and_says_so() {
    let lines: Vec<String> =
        (0..2_000).map(|n| said(&format!("word {n} {}", "x".repeat(100)))).collect();
    let page = conversation(50_000, Attempts::default(), &lines);
    assert!(page.contains("word 0 ") && page.contains("word 1999 "), "both ends");
    assert!(!page.contains("word 1000 "));
    assert!(page.contains("left out here, with"), "{page}");
    assert!(page.len() < 100_000, "{}", page.len());
}

#[test]
fn a_result_of_a_call_that_was_left_out_is_counted() {
    let empty = serde_json::json!({});
    let mut lines = vec![call("first", "Bash", &empty)];
    lines.extend((0..500).map(|n| call(&format!("t{n}"), "Bash", &empty)));
    lines.extend((0..500).map(|n| gave(&format!("t{n}"), &format!("gave {n};"), false)));
    lines.push(gave("first", "gave first", false));
    let page = conversation(20_000, Attempts::default(), &lines);
    assert!(page.contains("gave first") && page.contains("gave 499;"), "{page}");
    assert!(!page.contains("gave 250;"));
}

#[test]
fn attempts_are_told_apart_as_far_as_it_can_be_known() {
    let length = |lines: &[String]| lines.iter().map(|line| line.len() as u64 + 1).sum();
    // Cut off in a turn, twice.
    let lines = [init(), said("a"), init(), said("b"), init(), said("c"), result()];
    let attempts = |lines: &[String], turns: &[u32]| Attempts {
        last: 3,
        log_start: length(lines),
        turns: turns.to_vec(),
    };
    assert_eq!(
        attempts_of(&conversation(9_999, attempts(&lines[..4], &[3]), &lines)),
        ["1", "2", "3"]
    );
    // Two turns in one attempt, then one in the next, then the last.
    let lines = [init(), result(), init(), result(), init(), result(), init(), said("c"), result()];
    let page = conversation(9_999, attempts(&lines[..6], &[1, 1, 2, 3]), &lines);
    assert_eq!(attempts_of(&page), ["1", "2", "3"]);
    let first = page.split("Attempt 2").next().unwrap();
    assert_eq!(first.matches("class=\"end\"").count(), 2, "{page}");
    // One attempt is not called one.
    let one = Attempts { last: 1, ..Attempts::default() };
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
            0 => said(&a),
            1 => call(&a, &b, &serde_json::json!({&a: &b, "edits": [{&b: &a}]})),
            2 => call(&a, "Edit", &serde_json::json!({"old_string": a, "new_string": b})),
            3 => call(&a, "Write", &serde_json::json!({"content": b})),
            4 | 5 => gave(&a, &b, flag),
            6 => init(),
            7 => result(),
            _ => a + &b,
        });
    vec(line, 0..60)
}

proptest! {
    #[test]
    fn fuzz_pages(lines in streams(), room in 0..20_000usize, last in 0..5u32, start in 0..9_000u64) {
        let attempts = Attempts { last, log_start: start, turns: vec![1, 2, 7] };
        let page = conversation(room, attempts, &lines);
        let tags = |tag: &str| page.matches(tag).count();
        prop_assert!(tags("<script") + tags("<!--") + tags("\u{1b}") == 0, "{page}");
        for (begin, end) in [("<details", "</details>"), ("<pre", "</pre>"), ("<div", "</div>")] {
            prop_assert_eq!(tags(begin), tags(end), "{}", begin);
        }
        // A character becomes six at most, and one step may be larger than the room.
        prop_assert!(page.len() < 6 * (room + 20_000), "{}", page.len());
    }
}

#[test]
fn the_prompt_is_not_said_again() {
    let user = |text: &str| {
        serde_json::json!({"type": "user", "isReplay": true, "uuid": "u",
            "message": {"content": [{"type": "text", "text": text}]}})
        .to_string()
    };
    let page = conversation(9_999, Attempts::default(), &[user("the prompt\n"), user("more")]);
    assert!(!page.contains("the prompt") && page.contains("more"), "{page}");
}

#[test]
fn a_decision_stands_in_the_call_that_waited_for_it() {
    let asks = |tool: &str| {
        serde_json::json!({"type": "control_request", "request_id": "r", "request": {
            "subtype": "can_use_tool", "tool_name": tool, "input": {}, "tool_use_id": "a"}})
        .to_string()
    };
    for (tool, open, closed) in [
        ("AskUserQuestion", "It has no answer.", "Answer"),
        ("Write", "It has no permission.", "Allowed."),
    ] {
        let mut lines = vec![call("a", tool, &serde_json::json!({"x": 1})), asks(tool)];
        let page = |lines: &[String]| conversation(9_999, Attempts::default(), lines);
        assert!(page(&lines).contains(open) && !page(&lines).contains(closed), "{}", page(&lines));
        lines.push(gave("a", "given", false));
        assert!(page(&lines).contains(closed) && !page(&lines).contains(open), "{}", page(&lines));
    }
}

#[test]
fn a_conversation_that_failed_ends_in_the_verdict() {
    use crate::job::{JobId, Reason, Record, Spec, Timestamp, Verdict};

    let at = Timestamp::from_epoch_ms(0).unwrap();
    let page = |lines: &[String], end: Option<Verdict>| {
        let id = JobId::parse("a").unwrap();
        let mut record = Record::new(id, Spec::default(), String::new(), at);
        end.iter().for_each(|verdict| record.end(verdict, at));
        let mut conversation = Conversation::new(9_999, "", Attempts::default());
        for line in lines {
            conversation.line(Line { bytes: line.as_bytes(), length: line.len() as u64 }, 0);
        }
        conversation.conclude(&record);
        conversation.markup().0
    };
    let lines = [said("hi"), result()];
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
