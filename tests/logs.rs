//! What `logs` says of a job, with the fake claude: its conversation, what the agent asks, and how
//! the job ended.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::Sandbox;

const QUESTION: &str = r#"{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]}"#;
const WRITE: &str = r#"{"file_path":"/etc/x","content":"hello"}"#;

fn call(id: &str, tool: &str, input: &str) -> String {
    format!(
        r#"json {{"type":"assistant","message":{{"id":"m-{id}","content":[{{"type":"tool_use","id":"{id}","name":"{tool}","input":{input}}}]}},"parent_tool_use_id":null}}"#
    )
}

fn asks(id: &str, tool: &str, input: &str) -> String {
    format!(
        r#"json {{"type":"control_request","request_id":"r-{id}","request":{{"subtype":"can_use_tool","tool_name":"{tool}","input":{input},"tool_use_id":"{id}"}}}}"#
    )
}

fn gave(id: &str, text: &str, is_error: bool, more: &str) -> String {
    format!(
        r#"json {{"type":"user","message":{{"role":"user","content":[{{"type":"tool_result","content":"{text}","is_error":{is_error},"tool_use_id":"{id}"}}]}},"parent_tool_use_id":null{more}}}"#
    )
}

fn answered(id: &str, answer: &str) -> String {
    let more = format!(
        r#","tool_use_result":{{"questions":[{{"question":"Which database?","header":"DB"}}],"answers":{{"Which database?":"{answer}"}}}}"#
    );
    gave(id, "Your questions have been answered.", false, &more)
}

/// The readable log: from the end, from the beginning, and as a caller gets it who asks again and
/// again while it grows; the last of them a part for each line of claude's.
fn readings(sandbox: &Sandbox, id: &str) -> [Vec<String>; 3] {
    let lines = |tail: &str| -> Vec<String> { tail.lines().map(str::to_owned).collect() };
    let tail = lines(sandbox.run(["logs", id]).text("tail"));
    let whole = lines(sandbox.run(["logs", id, "--since-offset", "0"]).text("tail"));
    let (mut parts, mut at) = (Vec::new(), 0);
    loop {
        let offset = at.to_string();
        let part = sandbox.run(["logs", id, "--since-offset", &offset, "--max-bytes", "1"]);
        parts.extend(lines(part.text("tail")));
        at = part["nextOffset"].as_u64().unwrap();
        if part["truncated"].is_null() {
            return [tail, whole, parts];
        }
    }
}

#[test]
fn a_question_is_shown_once_with_its_answer() {
    let script = [
        "read\ninit".to_owned(),
        call("t1", "AskUserQuestion", QUESTION),
        asks("t1", "AskUserQuestion", QUESTION),
        "read $DIR/answer".to_owned(),
        answered("t1", "Postgres"),
        "say Using it.\nresult ok\neof".to_owned(),
    ];
    let sandbox = Sandbox::new(&script.join("\n"));
    sandbox.start("j", &["--ask"]);
    let blocked = sandbox.run(["wait", "j", "--timeout", "1m"]);
    assert_eq!(blocked.code, 5, "{blocked:?}");
    let open = "→ asks: Which database? (SQLite, Postgres)";
    for tail in ["1", "2", "50"] {
        let seen = sandbox.run(["logs", "j", "--tail", tail]);
        assert_eq!(seen.text("tail"), open, "--tail {tail}");
    }
    for reading in readings(&sandbox, "j") {
        assert_eq!(reading, [open]);
    }
    assert_eq!(sandbox.run(["answer", "j", "--choice", "Postgres"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    for reading in readings(&sandbox, "j") {
        assert_eq!(reading[..3], [open, "> answered: Postgres", "Using it."], "{reading:?}");
    }
}

#[test]
fn a_permission_request_is_shown_while_it_waits_and_then_what_was_decided() {
    let denied = r#","tool_use_result":"Error: not there""#;
    for (answer, outcome, decided) in [
        ("--allow", gave("t1", "File created", false, ""), "> allowed"),
        ("--deny", gave("t1", "not there", true, denied), "> denied: not there"),
    ] {
        let denials = match answer {
            "--deny" => r#"{"tool_name":"Write","tool_use_id":"t1"}"#,
            _ => "",
        };
        let result = format!(
            r#"json {{"type":"result","subtype":"success","is_error":false,"num_turns":2,"duration_ms":90,"result":"ok","permission_denials":[{denials}],"total_cost_usd":0.5,"usage":{{"input_tokens":5}}}}"#
        );
        let script = [
            "read\ninit".to_owned(),
            call("t1", "Write", WRITE),
            asks("t1", "Write", WRITE),
            "read $DIR/answer".to_owned(),
            outcome,
            "say Well.".to_owned(),
            result,
            "eof".to_owned(),
        ];
        let sandbox = Sandbox::new(&script.join("\n"));
        sandbox.start("j", &["--ask"]);
        assert_eq!(sandbox.run(["wait", "j", "--timeout", "1m"]).code, 5);
        let open = ["→ Write: /etc/x", "· waits for permission"];
        for reading in readings(&sandbox, "j") {
            assert_eq!(reading, open);
        }
        let last = sandbox.run(["logs", "j", "--tail", "1"]);
        assert_eq!(last.text("tail"), "· waits for permission: Write: /etc/x");
        let at = last["nextOffset"].to_string();
        assert_eq!(sandbox.run(["answer", "j", answer]).code, 0);
        sandbox.wait("j").expect_end(0, "completed", None);
        let [tail, whole, _] = readings(&sandbox, "j");
        for reading in [tail, whole] {
            assert_eq!(reading[..3], [open[0], decided, "Well."], "{reading:?}");
        }
        // A caller who had seen the request.
        let rest = sandbox.run(["logs", "j", "--since-offset", &at]);
        assert_eq!(rest.text("tail").lines().next().unwrap(), decided, "{rest:?}");
    }
}

#[test]
fn the_recorded_questions_of_both_versions_are_shown_once_with_their_answers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    for file in ["question.ndjson", "2.1.332/question.ndjson"] {
        let fixture = fixtures.join(file);
        if !fixture.exists() {
            continue;
        }
        let sandbox = Sandbox::new(&format!("read\nplay {}\neof", fixture.display()));
        sandbox.run_job("j", &[]);
        for reading in readings(&sandbox, "j") {
            let text = reading.join("\n");
            assert_eq!(text.matches("Which database?").count(), 1, "{text}");
            assert!(text.contains("\n> answered: "), "{text}");
            assert!(!text.contains("waits for"), "{text}");
        }
    }
}
